// SPDX-License-Identifier: MPL-2.0

//! Row filters of publications: their text, and the server's printed form of it.

use std::fmt;

/// The expression of `WHERE (…)`. Two are equal if the server prints them alike, if that is known.
#[derive(Clone)]
pub struct RowFilter {
    text: String,
    canonical: Option<String>,
}

/// A text that cannot stand between parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidFilter(&'static str);

impl fmt::Display for InvalidFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a row filter: {}", self.0)
    }
}

impl std::error::Error for InvalidFilter {}

impl RowFilter {
    /// Takes an expression as a person wrote it. Fails if it would close the parentheses around it.
    ///
    /// Only the server checks whether it is a valid expression.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidFilter> {
        let text = text.into();
        check_enclosed(&text)?;
        Ok(Self { text, canonical: None })
    }

    /// A filter from the catalog, which is already canonical.
    pub(super) fn from_catalog(text: String) -> Self {
        Self { canonical: Some(text.clone()), text }
    }

    /// Adds the server's printed form of it, from [`canonical_filter`](super::publication::canonical_filter).
    pub fn with_canonical(self, canonical: impl Into<String>) -> Self {
        Self { canonical: Some(canonical.into()), ..self }
    }

    /// The text, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The server's printed form if it is known, otherwise the text.
    pub fn meaning(&self) -> &str {
        self.canonical.as_deref().unwrap_or(&self.text)
    }

    /// `(…)` for a statement. The line break ends a comment that the text may end with.
    pub(super) fn enclosed(&self) -> String {
        format!("({}\n)", self.text)
    }
}

impl PartialEq for RowFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text || self.meaning() == other.meaning()
    }
}

impl Eq for RowFilter {}

impl fmt::Debug for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

/// Checks that parentheses close what they open and nothing more, and that no quote or comment is left open.
///
/// Reads the same tokens as the scanner of Postgres with `standard_conforming_strings` on, which all of our sessions
/// have. With any difference, a text could close its parentheses unseen.
fn check_enclosed(text: &str) -> Result<(), InvalidFilter> {
    if text.contains('\0') {
        return Err(InvalidFilter("it holds a NUL character"));
    }
    if text.trim().is_empty() {
        return Err(InvalidFilter("it is empty"));
    }
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or(InvalidFilter("a \")\" closes nothing"))?,
            ';' => return Err(InvalidFilter("it holds a \";\", which no expression does outside of quotes")),
            _ => {}
        }
        rest = after_token(rest)?;
    }
    if depth == 0 { Ok(()) } else { Err(InvalidFilter("a \"(\" is not closed")) }
}

/// The text after the token that begins here. An operator is read character by character, because a comment inside
/// of it ends it.
///
/// `B'…'`, `X'…'`, `N'…'`, `U&'…'` and `U&"…"` need no case of their own: they end where plain ones end.
fn after_token(text: &str) -> Result<&str, InvalidFilter> {
    match text.as_bytes() {
        [b'e' | b'E', b'\'', ..] => after_escape_string(&text[2..]),
        // A doubled quote needs no care here: it reads as the end of one string and the beginning of the next.
        [b'\'', ..] => after(&text[1..], "'").ok_or(InvalidFilter("a single quote is not closed")),
        [b'"', ..] => after(&text[1..], "\"").ok_or(InvalidFilter("a double quote is not closed")),
        [b'-', b'-', ..] => Ok(after_line_comment(text)),
        [b'/', b'*', ..] => after_block_comment(&text[2..]),
        [b'$', ..] => after_dollar(text),
        // A "$" can be a part of names, but not of numbers.
        [b'0'..=b'9', ..] => Ok(text.trim_start_matches(is_tag_part)),
        _ if text.starts_with(is_name_start) => Ok(text.trim_start_matches(|c| is_tag_part(c) || c == '$')),
        // Only ASCII is left: all other characters are parts of names.
        _ => Ok(&text[1..]),
    }
}

fn after<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    text.split_once(end).map(|(_, rest)| rest)
}

fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_tag_part(c: char) -> bool {
    is_name_start(c) || c.is_ascii_digit()
}

/// A string with escapes, after its first quote. The next string continues it if only space with a line break, or line
/// comments, are between them.
fn after_escape_string(text: &str) -> Result<&str, InvalidFilter> {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            '\'' if chars.as_str().starts_with('\'') => drop(chars.next()),
            '\'' => match continued(chars.as_str()) {
                Some(rest) => chars = rest.chars(),
                None => return Ok(chars.as_str()),
            },
            _ => {}
        }
    }
    Err(InvalidFilter("a single quote is not closed"))
}

/// The text after the quote with which a string continues, if it does.
fn continued(text: &str) -> Option<&str> {
    let mut rest = text;
    let mut has_line_break = false;
    loop {
        let after_space = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
        has_line_break |= rest[..rest.len() - after_space.len()].contains(['\n', '\r']);
        if !after_space.starts_with("--") {
            return after_space.strip_prefix('\'').filter(|_| has_line_break);
        }
        rest = after_line_comment(after_space);
    }
}

/// A carriage return ends it too.
fn after_line_comment(text: &str) -> &str {
    text.find(['\n', '\r']).map_or("", |end| &text[end..])
}

/// A comment after its `/*`; comments nest.
fn after_block_comment(text: &str) -> Result<&str, InvalidFilter> {
    let mut rest = text;
    let mut depth = 1;
    while depth > 0 {
        let at = rest.find(['*', '/']).ok_or(InvalidFilter("a comment is not closed"))?;
        rest = &rest[at..];
        let step = match rest.as_bytes() {
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            _ => 1,
        };
        rest = &rest[step..];
    }
    Ok(rest)
}

/// A dollar-quoted text, or only the dollar if it does not begin a tag.
fn after_dollar(text: &str) -> Result<&str, InvalidFilter> {
    let after_tag = text[1..].trim_start_matches(is_tag_part);
    let is_tag = !text[1..].starts_with(|c: char| c.is_ascii_digit()) && after_tag.starts_with('$');
    if !is_tag {
        return Ok(&text[1..]);
    }
    let (tag, rest) = text.split_at(text.len() - after_tag.len() + 1);
    after(rest, tag).ok_or(InvalidFilter("a dollar quote is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let result = RowFilter::new(text).map_or_else(|error| error.to_string(), |_| "ok".to_owned());
        assert_eq!(result, expected, "{text}");
    }

    #[test]
    fn expressions_that_stay_inside_are_taken() {
        let fine = [
            "a > 1",
            "((a > 1))",
            "a in (1, 2)",
            "b = ')'",
            "b = ''')'",
            "\")\" = 1",
            "\"a\"\")\" = 1",
            "b = E'\\')'",
            "b = E'\\''''",
            "a > 1 -- (",
            "a > 1 /* ) /* ( */ ) */",
            "b = $$)$$",
            "b = $x$)$$)$x$",
            "b = '\\'",
            "a$1 = 1",
            "é = 'ü)'",
            "b = e'' || ')'",
            "b = case when a > 1 then 'x' else'\\' end",
            "b = E'it''s' -- more\n -- of it\n '\\')' or a > 1",
            "b = E'x' '\\'",
            "a > 1 -- (\r",
            "b = U&'\\0061' or \"b\" = U&'!0061' uescape '!'",
            "b = N'x' or b'1' = x'1'",
            "a <--1) (\n 2",
            "a > 1$$)$$",
            "a$$ > 1 and $é$)$é$ = b",
        ];
        fine.iter().for_each(|text| check(text, "ok"));
    }

    #[test]
    fn expressions_that_break_out_are_refused() {
        check("a > 1), TABLE secret WHERE (true", "not a row filter: a \")\" closes nothing");
        check("a > 1) --", "not a row filter: a \")\" closes nothing");
        check("(a > 1", "not a row filter: a \"(\" is not closed");
        check("b = '", "not a row filter: a single quote is not closed");
        check("b = '\\'), TABLE x WHERE (b = ''", "not a row filter: a \")\" closes nothing");
        check("b = E'\\'", "not a row filter: a single quote is not closed");
        check("\"b", "not a row filter: a double quote is not closed");
        check("a > 1 /* /* */", "not a row filter: a comment is not closed");
        check("b = $x$ $$", "not a row filter: a dollar quote is not closed");
        check(" ", "not a row filter: it is empty");
        check("a\0", "not a row filter: it holds a NUL character");
        check("a > 1; drop table t", "not a row filter: it holds a \";\", which no expression does outside of quotes");
    }

    #[test]
    fn what_ends_where_postgres_sees_it_end_is_refused() {
        let closes_nothing = "not a row filter: a \")\" closes nothing";
        let out = "), TABLE secret WHERE (b = '' -- '";
        for word in ["else", "ése", "_e", "a$e", "\u{a0}e"] {
            check(&format!("b = case when a > 1 then b {word}'\\' end{out}"), closes_nothing);
        }
        check("a > 1 -- \r), TABLE secret WHERE (a > 1", closes_nothing);
        check("b = E'x'\n'\\'' or b = ' '), TABLE secret WHERE (a > 1", closes_nothing);
        check("a$$ > 1), TABLE secret WHERE (a$$ > 1", closes_nothing);
        check("a > $1$$ ( $$), TABLE secret WHERE (true", closes_nothing);
    }

    #[test]
    fn filters_are_equal_when_the_server_prints_them_alike() {
        let filter = |text| RowFilter::new(text).unwrap();
        let stored = RowFilter::from_catalog("(a > 1)".to_owned());
        assert_ne!(filter("a>1"), stored);
        assert_eq!(filter("a>1").with_canonical("(a > 1)"), stored);
        assert_eq!(filter("(a > 1)"), stored);
    }
}
