// SPDX-License-Identifier: MPL-2.0

//! Names, literals and statements: all quoting happens here.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name that Postgres stores whole, in bytes (`NAMEDATALEN - 1`).
pub(super) const LONGEST_NAME: usize = 63;

/// A name of one database object, exactly as the catalog holds it.
///
/// `Display` always writes it in double quotes, so that any text stays one name in a statement. The bare text is
/// [`Ident::as_str`], which belongs in messages and in bound parameters only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(String);

/// Why a text is not a name, or not a table's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidName {
    text: String,
    reason: &'static str,
}

impl Ident {
    /// Takes a name literally: no case folding, no unquoting. Fails if Postgres could not store it whole.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.len() > LONGEST_NAME {
            "it is longer than 63 bytes, which Postgres would cut off"
        } else if text.contains('\0') {
            "it holds a NUL character"
        } else {
            return Ok(Self(text));
        };
        Err(InvalidName { text, reason })
    }

    /// A name that a catalog returned, which is therefore valid.
    pub(super) fn from_catalog(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name without quotes, for messages and bound parameters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(&self.0))
    }
}

/// A name in a statement for people: of a database or a role, from a connection.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Debug for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a valid name: {}", self.text, self.reason)
    }
}

impl std::error::Error for InvalidName {}

/// A table's name in two fields, which are never joined and split again on a dot.
///
/// `Display` writes SQL (`"public"."users"`); [`QualifiedName::to_text`] writes what people write (`public.users`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// The schema.
    pub schema: Ident,
    /// The name inside the schema.
    pub name: Ident,
}

impl QualifiedName {
    /// Reads `schema.name`, or a lone `name`, which means schema `public`.
    ///
    /// A part with a dot or a double quote must be in double quotes, with each double quote inside doubled, as in SQL.
    /// Unlike in SQL, nothing is folded to lower case: `Users` is the table `"Users"`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let invalid = |reason| InvalidName { text: text.to_owned(), reason };
        let (first, rest) = parse_part(text).map_err(invalid)?;
        let Some(rest) = rest else {
            return Ok(Self { schema: Ident("public".to_owned()), name: Ident::new(first)? });
        };
        let (second, rest) = parse_part(rest).map_err(invalid)?;
        if rest.is_some() {
            return Err(invalid("it has more than two parts; a part that holds a dot is written in double quotes"));
        }
        Ok(Self { schema: Ident::new(first)?, name: Ident::new(second)? })
    }

    /// A name that a catalog returned.
    pub(super) fn from_catalog(schema: &str, name: &str) -> Self {
        Self { schema: Ident::from_catalog(schema), name: Ident::from_catalog(name) }
    }

    /// Writes `schema.name` such that [`QualifiedName::parse`] reads the same name back.
    pub fn to_text(&self) -> String {
        format!("{}.{}", part_text(&self.schema), part_text(&self.name))
    }
}

/// Reads one part from the front: the part, and the text after its dot if there is one.
fn parse_part(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (part, rest) = match text.split_once('.') {
            Some((part, rest)) => (part, Some(rest)),
            None => (text, None),
        };
        if part.contains('"') {
            return Err("a part that holds a double quote is written in double quotes");
        }
        return Ok((part.to_owned(), rest));
    };
    let (part, rest) = parse_quoted(quoted)?;
    match rest.strip_prefix('.') {
        Some(rest) => Ok((part, Some(rest))),
        None if rest.is_empty() => Ok((part, None)),
        None => Err("a closing double quote is followed by neither a dot nor the end"),
    }
}

/// Reads up to the closing double quote; a doubled one stands for itself.
fn parse_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"').ok_or("a double quote is not closed")?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Ok((part, after)),
        }
    }
}

fn part_text(part: &Ident) -> String {
    if part.as_str().contains(['.', '"']) { part.to_string() } else { part.as_str().to_owned() }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl fmt::Debug for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A name as a catalog prints it: only such names are read.
impl<'de> Deserialize<'de> for Ident {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl Serialize for Ident {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// A list of the schema and the name.
impl Serialize for QualifiedName {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (&self.schema, &self.name).serialize(to)
    }
}

/// The same list.
impl<'de> Deserialize<'de> for QualifiedName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <(Ident, Ident)>::deserialize(from).map(|(schema, name)| Self { schema, name })
    }
}

/// A string constant. `Display` quotes it so that `standard_conforming_strings` does not matter.
#[derive(Clone, Copy)]
pub(super) struct Literal<'a>(pub(super) &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.replace('\'', "''");
        if text.contains('\\') { write!(f, "E'{}'", text.replace('\\', "\\\\")) } else { write!(f, "'{text}'") }
    }
}

/// Joins the printed items with `", "`.
pub(super) fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// Whether a statement may share a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Runs in one transaction with its neighbours of the same scope.
    Transaction,
    /// Postgres refuses it in a transaction block (CREATE SUBSCRIPTION with a slot, REFRESH, DROP with a slot …).
    Alone,
}

/// One SQL statement. Only this module's parents create one, and only the statement runner reads its text.
///
/// `Debug` and `Display` show the text with every secret replaced by `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    text: String,
    /// The text without its secret; absent if there is none.
    redacted: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Change(Scope),
    /// A query of one boolean, repeated until it is true.
    Await,
}

impl Statement {
    /// A statement that shares a transaction with its neighbours.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), redacted: None, kind: Kind::Change(Scope::Transaction) }
    }

    /// The same statement, outside of any transaction.
    pub(super) fn alone(text: impl Into<String>) -> Self {
        Self { kind: Kind::Change(Scope::Alone), ..Self::new(text) }
    }

    /// A query of one boolean that is repeated until it is true.
    pub(super) fn wait_until(text: impl Into<String>) -> Self {
        Self { kind: Kind::Await, ..Self::new(text) }
    }

    /// Marks the text as secret; `redacted` is shown in its place.
    pub(super) fn showing(self, redacted: impl Into<String>) -> Self {
        Self { redacted: Some(redacted.into()), ..self }
    }

    /// The text for the server, secrets included.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it may share a transaction. A wait may not: it waits for other sessions.
    pub fn scope(&self) -> Scope {
        match self.kind {
            Kind::Change(scope) => scope,
            Kind::Await => Scope::Alone,
        }
    }

    /// Whether it is a query to be repeated until it is true.
    pub(super) fn is_wait(&self) -> bool {
        self.kind == Kind::Await
    }

    /// Whether the text holds a secret, such as the password of a connection string.
    pub fn holds_secret(&self) -> bool {
        self.redacted.is_some()
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.redacted.as_deref().unwrap_or(&self.text))
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const HOSTILE: &[&str] = &[
        "plain",
        "Upper",
        "with space",
        "dot.in",
        "quo\"te",
        "\"\"",
        ".",
        "..",
        "\"",
        "back\\slash",
        "new\nline",
        "naïve-日本",
        "select",
        "o'neil",
        "a\".\"b",
        " lead",
        "trail ",
        "$$",
        "--",
        "/*",
        ";",
    ];

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn check_error(text: &str, expected: Expect) {
        expected.assert_eq(&QualifiedName::parse(text).unwrap_err().to_string());
    }

    fn check_name(text: &str, schema: &str, name: &str) {
        assert_eq!(QualifiedName::parse(text), Ok(QualifiedName { schema: ident(schema), name: ident(name) }));
    }

    #[test]
    fn an_ident_is_always_quoted() {
        assert_eq!(ident("users").to_string(), r#""users""#);
        assert_eq!(ident("a\"; DROP TABLE t; --").to_string(), r#""a""; DROP TABLE t; --""#);
    }

    #[test]
    fn names_that_postgres_would_cut_or_refuse_are_refused() {
        assert!(Ident::new("").is_err());
        assert!(Ident::new("a\0b").is_err());
        assert!(Ident::new("x".repeat(63)).is_ok());
        assert!(Ident::new("x".repeat(64)).is_err());
        assert!(Ident::new("é".repeat(32)).is_err());
    }

    #[test]
    fn a_lone_name_is_in_public() {
        check_name("users", "public", "users");
        check_name("Users", "public", "Users");
        check_name("\"a.b\"", "public", "a.b");
    }

    #[test]
    fn parts_with_dots_and_quotes_are_quoted() {
        check_name("shop.users", "shop", "users");
        check_name("\"a.b\".t", "a.b", "t");
        check_name("s.\"say \"\"hi\"\"\"", "s", "say \"hi\"");
        check_name("\"s\".\"t\"", "s", "t");
    }

    #[test]
    fn every_pair_of_hostile_names_is_read_back() {
        for schema in HOSTILE {
            for name in HOSTILE {
                let qualified = QualifiedName { schema: ident(schema), name: ident(name) };
                assert_eq!(QualifiedName::parse(&qualified.to_text()), Ok(qualified));
            }
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        check_error("", expect![[r#""" is not a valid name: it is empty"#]]);
        check_error("a.", expect![[r#""" is not a valid name: it is empty"#]]);
        check_error(".a", expect![[r#""" is not a valid name: it is empty"#]]);
        check_error(
            "a.b.c",
            expect![[
                r#""a.b.c" is not a valid name: it has more than two parts; a part that holds a dot is written in double quotes"#
            ]],
        );
        check_error(
            "a\"b",
            expect![[r#""a\"b" is not a valid name: a part that holds a double quote is written in double quotes"#]],
        );
        check_error("\"a", expect![[r#""\"a" is not a valid name: a double quote is not closed"#]]);
        check_error(
            "\"a\"b",
            expect![[
                r#""\"a\"b" is not a valid name: a closing double quote is followed by neither a dot nor the end"#
            ]],
        );
    }

    #[test]
    fn a_literal_quotes_quotes_and_backslashes() {
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Literal(r"a\'b").to_string(), r"E'a\\''b'");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let statement = Statement::alone("CONNECT 'pw'").showing("CONNECT '***'");
        assert_eq!(format!("{statement} {statement:?}"), "CONNECT '***' CONNECT '***'");
        assert!(statement.holds_secret());
    }
}
