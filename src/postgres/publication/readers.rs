// SPDX-License-Identifier: MPL-2.0

//! The readers of publications, as far as the publisher shows them.
//!
//! A publication does not know its users. The slot of a subscription only knows its database, and the names of the
//! publications are only in the command that started the reader.
//!
//! Source: "START_REPLICATION" in the streaming replication protocol, `pg_replication_slots` and `pg_stat_activity` in
//! the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, Literal, Statement};

/// The logical slots of a database, each with the known facts about its reader.
pub type Readers = BTreeMap<Ident, Reader>;

/// The reader of a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reader {
    /// The publications that it asked for: unknown while nobody reads, or if our role may not see other roles' queries
    /// (`pg_read_all_stats`).
    pub asked_for: Option<BTreeSet<Ident>>,
    /// The role that it logged in as, while it reads.
    pub role: Option<Ident>,
}

/// All readers, from a snapshot that is at most two seconds old. Changes of this process do not invalidate it, because
/// publications do not change who reads.
///
/// # Errors
/// When a query fails.
pub async fn readers(db: &Database) -> Result<Arc<Readers>> {
    db.snapshot::<Readers>().get(|| 0, readers_now(db)).await
}

/// All readers now.
///
/// # Errors
/// When a query fails.
pub async fn readers_now(db: &Database) -> Result<Readers> {
    let doing = "looking for readers of the publisher";
    let sql = format!(
        "SELECT s.slot_name, a.query, a.usename FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
         WHERE {READ_FROM}"
    );
    let rows = db.query(doing, &sql, &[]).await?;
    let readers: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(read_row).collect();
    readers.map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// The slots of a database, without temporary slots for copies of tables.
const READ_FROM: &str =
    "s.slot_type = 'logical' AND s.database = current_database() AND s.slot_name !~ '^pg_[0-9]+_sync_'";

/// A statement that fails ([`SqlState::DIVISION_BY_ZERO`](crate::postgres::SqlState::DIVISION_BY_ZERO)) if there is
/// such a slot. As the first statement of a transaction, it lets the rest run only if nobody reads, without another
/// round trip.
pub fn unless_read() -> Statement {
    Statement::new(format!("SELECT 1 / (count(*) = 0)::int FROM pg_replication_slots s WHERE {READ_FROM}"))
}

/// The publications that may be younger than changes that the slot still has to send: their catalog row was written at
/// or after the oldest transaction whose catalog the slot keeps. One whose options or name changed since then also
/// counts. None if there is no such slot.
///
/// Source: `catalog_xmin` of the view `pg_replication_slots`, and the system column `xmin`.
///
/// # Errors
/// When a query fails.
pub async fn younger_than_slot(db: &Database, slot: &Ident, names: &BTreeSet<Ident>) -> Result<Vec<Ident>> {
    let doing = format!("comparing publications with replication slot {slot}");
    let sql = "SELECT p.pubname FROM pg_publication p, pg_replication_slots s \
        WHERE s.slot_name = $1 AND p.pubname = ANY ($2) AND age(p.xmin) <= age(s.catalog_xmin) ORDER BY p.pubname";
    let names: Vec<_> = names.iter().map(Ident::as_str).collect();
    let rows = db.query(&doing, sql, &[(&slot.as_str(), Type::NAME), (&names, Type::NAME_ARRAY)]).await?;
    let younger: std::result::Result<_, tokio_postgres::Error> =
        rows.iter().map(|row| Ok(Ident::from_catalog(row.try_get(0)?))).collect();
    younger.map_err(|error| db.error(&doing, Cause::Statement(error)))
}

/// The statements with which a person makes a subscription skip everything that its slot still has to send, each with
/// its server. Omits the steps for a subscription whose name is unknown.
pub fn skip_missed(subscription: Option<&Ident>, slot: &Ident) -> Vec<(&'static str, String)> {
    let alter = |verb: &str| subscription.map(|name| ("subscriber", format!("ALTER SUBSCRIPTION {name} {verb};")));
    let advance = format!("SELECT pg_replication_slot_advance({}, pg_current_wal_lsn());", Literal(slot.as_str()));
    let steps = [alter("DISABLE"), Some(("publisher", advance)), alter("ENABLE")];
    steps.into_iter().flatten().collect()
}

fn read_row(row: &Row) -> std::result::Result<(Ident, Reader), tokio_postgres::Error> {
    let command: Option<&str> = row.try_get(1)?;
    let role: Option<&str> = row.try_get(2)?;
    let reader = Reader { asked_for: command.and_then(asked_for), role: role.map(Ident::from_catalog) };
    Ok((Ident::from_catalog(row.try_get(0)?), reader))
}

/// The publications in a START_REPLICATION command, such as `(proto_version '4', publication_names '"a","b"')`. `None`
/// if it is another command, or was truncated (`track_activity_query_size`).
fn asked_for(command: &str) -> Option<BTreeSet<Ident>> {
    let (_, list) = command.split_once("publication_names ")?;
    let list = literal(list.trim_start())?;
    let mut names = BTreeSet::new();
    let mut rest = list.as_str();
    loop {
        let (name, after) = identifier(rest)?;
        names.insert(Ident::from_catalog(&name));
        match after.trim_start().strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return Some(names),
        }
    }
}

/// A string constant, `'…'` or `E'…'`, as libpq writes it.
fn literal(text: &str) -> Option<String> {
    let (escapes, body) = match text.strip_prefix('E') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut chars = body.strip_prefix('\'')?.chars().peekable();
    let mut value = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_some() => value.push('\''),
            '\'' => return Some(value),
            '\\' if escapes => value.push(chars.next()?),
            c => value.push(c),
        }
    }
    None
}

/// An identifier, with or without double quotes, and the text after it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"')?;
        name.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: &str, expected: Option<&[&str]>) {
        let names = asked_for(command);
        let names = names.as_ref().map(|names| names.iter().map(Ident::as_str).collect::<Vec<_>>());
        assert_eq!(names.as_deref(), expected, "{command}");
    }

    #[test]
    fn the_publications_of_a_reader_stand_in_its_command() {
        let command = |names: &str| {
            format!(
                "START_REPLICATION SLOT \"s\" LOGICAL 0/0 (proto_version '4', origin 'any', publication_names {names})"
            )
        };
        check(&command(r#"'"shop"'"#), Some(&["shop"]));
        check(&command(r#"'"b","a, ""x"" (y)"'"#), Some(&[r#"a, "x" (y)"#, "b"]));
        check(&command(r#"'"it''s"'"#), Some(&["it's"]));
        check(&command(r#"E'"back\\slash","o''k"'"#), Some(&["back\\slash", "o'k"]));
        check(&command("'plain,\"two\"'"), Some(&["plain", "two"]));
    }

    #[test]
    fn what_is_not_one_or_not_whole_says_nothing() {
        for command in
            ["", "<insufficient privilege>", "SELECT 1", "publication_names '\"shop", "publication_names '\"a\",'"]
        {
            check(command, None);
        }
    }
}
