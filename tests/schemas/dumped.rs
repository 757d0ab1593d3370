// SPDX-License-Identifier: MPL-2.0

//! Compares two databases by `pg_dump`, if the machine has one for their version: independent of the provider and of
//! the other queries here.

use std::collections::BTreeSet;
use std::sync::Once;

use crate::common::pg_dump;
use crate::common::postgres::{Database, Major};
use crate::printed::Later;

/// The differences between the dumps of two databases of one version. None if the machine has no `pg_dump` for it,
/// which is printed once for each test binary.
pub(crate) fn differences(
    publisher: &Database,
    subscriber: &Database,
    major: Major,
    later: Later,
) -> Option<Vec<String>> {
    static SAID: Once = Once::new();
    let program = pg_dump::major();
    if program.is_none_or(|program| program < major.number()) {
        let has = program.map_or_else(|| "no pg_dump".to_owned(), |program| format!("pg_dump {program}"));
        SAID.call_once(|| {
            eprintln!("schemas: this machine has {has}, so that Postgres {} is compared without", major.number());
        });
        return None;
    }
    Some(between(&pg_dump::schema_of(publisher), &pg_dump::schema_of(subscriber), later))
}

/// The differences between two dumps: the entries that only one of them has.
fn between(publisher: &str, subscriber: &str, later: Later) -> Vec<String> {
    let (first, second) = (entries(publisher), entries(subscriber));
    let missing = first.difference(&second).filter(|entry| entry.is_needed(later)).map(|entry| format!("- {entry}"));
    missing.chain(second.difference(&first).map(|entry| format!("+ {entry}"))).collect()
}

/// One entry of a dump.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Its kind, such as `FK CONSTRAINT`.
    kind: String,
    /// Its name, with its schema.
    name: String,
    /// The statements that create it.
    text: String,
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.name, self.text)
    }
}

impl Entry {
    /// Whether the subscriber must have it. Objects that come later may already exist because something else needs
    /// them, and must be the same then. The other comparison covers schemas without further objects.
    fn is_needed(&self, later: Later) -> bool {
        let is_late = match self.kind.as_str() {
            "INDEX" | "INDEX ATTACH" | "STATISTICS" => later.indexes,
            "FK CONSTRAINT" => later.foreign_keys,
            "SCHEMA" => true,
            "COMMENT" => {
                let name = self.name.split_once(": ").map_or("", |(_, name)| name);
                let is_of = |what: &str| name.starts_with(what);
                later.indexes && (is_of("INDEX ") || is_of("STATISTICS "))
                    || later.foreign_keys && is_of("CONSTRAINT ")
                    || is_of("SCHEMA ")
            }
            _ => false,
        };
        !is_late && !self.name.contains("unneeded") && !self.text.contains("unneeded")
    }
}

/// The entries of a dump, without order. Each begins with a comment that names it; between entries there may be changed
/// settings.
fn entries(dump: &str) -> BTreeSet<Entry> {
    let body = dump.split("\n--\n-- PostgreSQL database dump complete").next().unwrap_or_default();
    body.split("\n--\n-- Name: ").skip(1).filter_map(entry).collect()
}

fn entry(text: &str) -> Option<Entry> {
    let (title, text) = text.split_once("\n--\n")?;
    let (name, rest) = title.rsplit_once("; Type: ")?;
    let (kind, schema) = rest.split_once("; Schema: ")?;
    let schema = schema.rsplit_once("; Owner: ")?.0;
    let is_setting = |line: &&str| line.starts_with("SET default_") || line.starts_with("\\restrict");
    let text: Vec<String> = text.lines().filter(|line| !is_setting(line)).map(without_no_default).collect();
    Some(Entry {
        kind: kind.to_owned(),
        name: format!("{schema}: {name}"),
        text: with_sorted_options(text.join("\n").trim()),
    })
}

/// The same line, without the default that a column does not have. `pg_dump` says so of a column whose parent's has one; whether
/// it says so of a partition further down as well depends on the order in which the tables were made.
fn without_no_default(line: &str) -> String {
    let Some((column, rest)) = line.split_once(" DEFAULT NULL") else { return line.to_owned() };
    let is_whole = rest.is_empty() || [",", " COLLATE ", " NOT NULL"].iter().any(|next| rest.starts_with(next));
    if is_whole { format!("{column}{rest}") } else { line.to_owned() }
}

/// The same text, with options in a fixed order: a server stores them in the given order.
fn with_sorted_options(text: &str) -> String {
    let (mut found, mut rest) = (String::new(), text);
    while let Some(at) = ["WITH (", "SET ("].iter().filter_map(|word| Some(rest.find(word)? + word.len())).min() {
        let (before, after) = rest.split_at(at);
        let options = after.split(')').next().unwrap_or_default();
        let mut sorted: Vec<&str> = options.split(", ").collect();
        if sorted.iter().all(|option| option.contains('=')) {
            sorted.sort_unstable();
        }
        found.push_str(before);
        found.push_str(&sorted.join(", "));
        rest = &after[options.len()..];
    }
    found + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dump of these entries.
    fn dump(things: &[(&str, &str, &str)]) -> String {
        let thing = |(kind, name, text): &(&str, &str, &str)| {
            format!("\n--\n-- Name: {name}; Type: {kind}; Schema: app; Owner: -\n--\n\n{text}\n\n")
        };
        let things: String = things.iter().map(thing).collect();
        format!(
            "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET xmloption = content;\n{things}\n\
             --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n"
        )
    }

    const TABLE: (&str, &str, &str) =
        ("TABLE", "t", "SET default_tablespace = '';\n\nCREATE TABLE app.t (\n    id integer\n);");
    const PLAIN: (&str, &str, &str) = ("TABLE", "t", "CREATE TABLE app.t (\n    id integer\n);");
    const OTHER: (&str, &str, &str) = ("TABLE", "t", "CREATE TABLE app.t (\n    id bigint\n);");
    const INDEX: (&str, &str, &str) = ("INDEX", "t_id", "CREATE INDEX t_id ON app.t USING btree (id);");
    const REMARK: (&str, &str, &str) = ("COMMENT", "INDEX t_id", "COMMENT ON INDEX app.t_id IS 'x';");
    const KEY: (&str, &str, &str) = ("FK CONSTRAINT", "t k", "ALTER TABLE ONLY app.t ADD CONSTRAINT k FOREIGN KEY …;");
    const UNNEEDED: (&str, &str, &str) = ("VIEW", "unneeded", "CREATE VIEW app.unneeded AS SELECT 1;");

    #[test]
    fn dumps_are_the_same_whatever_the_order_and_the_settings() {
        let now = Later::default();
        let later = Later { indexes: true, foreign_keys: true };
        for (publisher, subscriber, later, found) in [
            (&[TABLE, INDEX][..], &[INDEX, PLAIN][..], now, 0),
            (&[TABLE, UNNEEDED], &[TABLE], now, 0),
            (&[TABLE], &[TABLE, UNNEEDED], now, 1),
            (&[TABLE], &[OTHER], now, 2),
            (&[TABLE, INDEX, REMARK, KEY], &[TABLE], now, 3),
            (&[TABLE, INDEX, REMARK, KEY], &[TABLE], later, 0),
            (&[TABLE], &[TABLE, INDEX], later, 1),
            (&[TABLE], &[], later, 1),
        ] {
            let differences = between(&dump(publisher), &dump(subscriber), later);
            assert_eq!(differences.len(), found, "{differences:#?}");
        }
    }

    #[test]
    fn a_column_without_a_default_is_told_from_one_with_a_null() {
        for (line, found) in [
            ("    a text DEFAULT NULL,", "    a text,"),
            ("    a text DEFAULT NULL COLLATE s.c", "    a text COLLATE s.c"),
            ("    a text DEFAULT NULL NOT NULL", "    a text NOT NULL"),
            ("    a text DEFAULT NULL", "    a text"),
            ("    a s.d DEFAULT NULL::s.d,", "    a s.d DEFAULT NULL::s.d,"),
            ("    a text DEFAULT 'x'::text,", "    a text DEFAULT 'x'::text,"),
        ] {
            assert_eq!(without_no_default(line), found);
        }
    }

    #[test]
    fn options_have_one_order() {
        for (one, other) in [
            ("t (\n)\nWITH (b='2', toast.c='x', a='1');", "t (\n)\nWITH (a='1', b='2', toast.c='x');"),
            (
                "ALTER COLUMN a SET (y=1, x=2); ON t (a) WITH (q='1', p='2') WHERE (b, a)",
                "ALTER COLUMN a SET (x=2, y=1); ON t (a) WITH (p='2', q='1') WHERE (b, a)",
            ),
            ("WITH (no end", "WITH (no end"),
        ] {
            assert_eq!(with_sorted_options(one), other);
        }
    }

    #[test]
    fn the_comment_of_an_entry_names_it() {
        let found = entries(&dump(&[REMARK]));
        let expected = Entry {
            kind: "COMMENT".to_owned(),
            name: "app: INDEX t_id".to_owned(),
            text: "COMMENT ON INDEX app.t_id IS 'x';".to_owned(),
        };
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [expected]);
    }
}
