//! Row filters of publications: their text, and the server's own printing of it.

use std::fmt;

/// The expression of `WHERE (…)`. Two are equal when the server prints them alike, as far as that is known.
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
    /// Takes an expression as a person wrote it. Fails when it would end the parentheses around it.
    ///
    /// Whether it is a valid expression is for the server to say.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidFilter> {
        let text = text.into();
        check_enclosed(&text)?;
        Ok(Self { text, canonical: None })
    }

    /// What the catalog holds, which is canonical by itself.
    pub(super) fn from_catalog(text: String) -> Self {
        Self { canonical: Some(text.clone()), text }
    }

    /// Adds the server's printing of it, from [`canonical_filter`](super::publication::canonical_filter).
    pub fn with_canonical(self, canonical: impl Into<String>) -> Self {
        Self { canonical: Some(canonical.into()), ..self }
    }

    /// The text, as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The server's printing where it is known, else the text.
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
fn check_enclosed(text: &str) -> Result<(), InvalidFilter> {
    if text.contains('\0') {
        return Err(InvalidFilter("it holds a NUL character"));
    }
    if text.trim().is_empty() {
        return Err(InvalidFilter("it is empty"));
    }
    let mut depth = 0_usize;
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        match c {
            '(' => depth += 1,
            ')' => {
                depth = depth.checked_sub(1).ok_or(InvalidFilter("a \")\" closes nothing"))?;
            }
            _ => {}
        }
        rest = skip_token(rest, before)?;
        before = c;
    }
    if depth == 0 { Ok(()) } else { Err(InvalidFilter("a \"(\" is not closed")) }
}

/// Skips one character, or the whole quoted text or comment that begins here. `before` is the character before.
fn skip_token(text: &str, before: char) -> Result<&str, InvalidFilter> {
    let in_word = before.is_alphanumeric() || before == '_' || before == '$' || !before.is_ascii();
    match text.as_bytes() {
        [b'\'', ..] => skip_string(text, matches!(before, 'e' | 'E')),
        [b'"', ..] => after(&text[1..], "\"").ok_or(InvalidFilter("a double quote is not closed")),
        [b'-', b'-', ..] => Ok(after(text, "\n").unwrap_or("")),
        [b'/', b'*', ..] => skip_comment(text),
        [b'$', ..] if !in_word => skip_dollar_quoted(text),
        _ => Ok(text.get(text.chars().next().map_or(0, char::len_utf8)..).unwrap_or("")),
    }
}

fn after<'a>(text: &'a str, end: &str) -> Option<&'a str> {
    text.split_once(end).map(|(_, rest)| rest)
}

/// A doubled quote needs no care: it reads as the end of one string and the beginning of the next.
fn skip_string(text: &str, escapes: bool) -> Result<&str, InvalidFilter> {
    let mut chars = text[1..].chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if escapes => drop(chars.next()),
            // Right after an escape string, a doubled quote goes on with escapes.
            '\'' if escapes && chars.as_str().starts_with('\'') => drop(chars.next()),
            '\'' => return Ok(chars.as_str()),
            _ => {}
        }
    }
    Err(InvalidFilter("a single quote is not closed"))
}

fn skip_comment(text: &str) -> Result<&str, InvalidFilter> {
    let mut rest = &text[2..];
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

fn skip_dollar_quoted(text: &str) -> Result<&str, InvalidFilter> {
    let tag_end = text[1..].find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_');
    match tag_end {
        Some(end) if text[1 + end..].starts_with('$') && !text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (tag, rest) = text.split_at(end + 2);
            after(rest, tag).ok_or(InvalidFilter("a dollar quote is not closed"))
        }
        _ => Ok(&text[1..]),
    }
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
