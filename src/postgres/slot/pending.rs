// SPDX-License-Identifier: MPL-2.0

//! The changes that a slot has to send next: their tables and operations. Reading them does not change the slot.
//!
//! Source: `pg_logical_slot_peek_binary_changes` and "Logical Replication Message Formats" in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::publication::Operation;
use crate::postgres::sql::{Ident, QualifiedName};

/// After this many changes, no further transaction is read.
const CHANGES: i32 = 2000;

/// The tables of the transactions that a slot has to send next, with the operations on each.
pub type Pending = BTreeMap<QualifiedName, BTreeSet<Operation>>;

/// The columns of tables, as they were when the changes were written.
pub type Columns = BTreeMap<QualifiedName, Vec<Ident>>;

/// The next changes that the slot has to send to a subscription to these publications. Rows do not leave the server:
/// only names of tables come back.
///
/// # Errors
/// When something reads from the slot (55006), the publications or the WAL are gone, or the role may not read from
/// slots. A subscription would get the same error.
pub async fn pending(db: &Database, slot: &Ident, publications: &BTreeSet<Ident>) -> Result<(Pending, Columns)> {
    let doing = format!("looking at what replication slot {slot} has to send");
    let names = publications.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let rows = db
        .query(&doing, PEEK, &[(&slot.as_str(), Type::NAME), (&CHANGES, Type::INT4), (&names.as_str(), Type::TEXT)])
        .await?;
    let read = rows.iter().map(|row| row.try_get(0));
    let messages: std::result::Result<Vec<Vec<u8>>, _> = read.collect();
    let messages = messages.map_err(|error| db.error(&doing, Cause::Statement(error)))?;
    let columns = messages.iter().filter_map(|message| columns(message)).collect();
    Ok((tables(&messages), columns))
}

/// Only the kind and the table's number of each change, all numbers of a truncation, and whole messages about tables.
const PEEK: &str = "SELECT DISTINCT CASE WHEN get_byte(data, 0) IN (73, 85, 68) THEN substring(data FROM 1 FOR 5) ELSE data END \
    FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1', 'publication_names', $3) \
    WHERE get_byte(data, 0) IN (73, 85, 68, 84, 82)";

/// Joins changes with the names of their tables. A table that was renamed in between counts under each name, because
/// the messages are in no order. Unreadable messages are skipped.
fn tables(messages: &[Vec<u8>]) -> Pending {
    let mut names: BTreeMap<u32, Vec<QualifiedName>> = BTreeMap::new();
    for (number, name) in messages.iter().filter_map(|message| relation(message)) {
        names.entry(number).or_default().push(name);
    }
    let mut found = Pending::new();
    for (number, operation) in messages.iter().flat_map(|message| changes(message)) {
        for name in names.get(&number).into_iter().flatten() {
            found.entry(name.clone()).or_default().insert(operation);
        }
    }
    found
}

/// The number and the name of a table, from the message that introduces it. The schema `pg_catalog` is sent as an empty
/// name.
fn relation(message: &[u8]) -> Option<(u32, QualifiedName)> {
    let (b'R', rest) = message.split_first()? else { return None };
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let mut texts = rest.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text));
    let (schema, name) = (texts.next()?, texts.next()?);
    let schema = if schema.is_empty() { "pg_catalog" } else { &schema };
    Some((u32::from_be_bytes(*number), QualifiedName::from_catalog(schema, &name)))
}

/// The columns of a table, from the same message: they follow the replica identity and their number, each with flags
/// and a type.
fn columns(message: &[u8]) -> Option<(QualifiedName, Vec<Ident>)> {
    let (_, name) = relation(message)?;
    let names = message.get(5..)?;
    let ends: Vec<usize> = names.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at).take(2).collect();
    let mut rest = names.get(ends.get(1)? + 4..)?;
    let mut columns = Vec::new();
    while let Some(column) = rest.get(1..) {
        let end = column.iter().position(|byte| *byte == 0)?;
        columns.push(Ident::from_catalog(String::from_utf8_lossy(&column[..end]).as_ref()));
        rest = column.get(end + 9..).unwrap_or_default();
    }
    Some((name, columns))
}

/// The numbers of the tables that a message changes.
fn changes(message: &[u8]) -> Vec<(u32, Operation)> {
    let Some((kind, rest)) = message.split_first() else { return Vec::new() };
    let (operation, numbers) = match kind {
        b'I' => (Operation::Insert, rest.get(..4)),
        b'U' => (Operation::Update, rest.get(..4)),
        b'D' => (Operation::Delete, rest.get(..4)),
        b'T' => (Operation::Truncate, rest.get(5..)),
        _ => return Vec::new(),
    };
    let numbers = numbers.unwrap_or_default().chunks_exact(4);
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
    numbers.map(|bytes| (number(bytes), operation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_joined_with_their_tables() {
        let messages = [
            b"R\0\0\0\x07public\0orders\0d\0\0".to_vec(),
            b"R\0\0\0\x08\0odd\0d\0\0".to_vec(),
            b"I\0\0\0\x07".to_vec(),
            b"U\0\0\0\x07".to_vec(),
            b"T\0\0\0\x02\0\0\0\0\x07\0\0\0\x08".to_vec(),
            b"D\0\0\0\x09".to_vec(),
            b"I\0".to_vec(),
            Vec::new(),
        ];
        let shown: Vec<_> = tables(&messages)
            .into_iter()
            .map(|(table, operations)| {
                let operations: Vec<_> = operations.into_iter().map(Operation::as_str).collect();
                format!("{}: {}", table.to_text(), operations.join(" "))
            })
            .collect();
        assert_eq!(shown, ["pg_catalog.odd: truncate", "public.orders: insert update truncate"]);
    }

    #[test]
    fn a_table_that_was_renamed_counts_under_each_of_its_names() {
        let mut messages = [
            b"R\0\0\0\x07public\0new\0d\0\0".to_vec(),
            b"R\0\0\0\x07public\0orders\0d\0\0".to_vec(),
            b"I\0\0\0\x07".to_vec(),
        ];
        for _ in 0..2 {
            let names: Vec<_> = tables(&messages).into_keys().map(|table| table.to_text()).collect();
            assert_eq!(names, ["public.new", "public.orders"]);
            messages.reverse();
        }
    }

    #[test]
    fn a_table_is_introduced_with_its_columns() {
        let message =
            b"R\0\0\0\x07public\0orders\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0total\0\0\0\0\x17\xff\xff\xff\xff";
        let (name, found) = columns(message).unwrap();
        let found: Vec<_> = found.iter().map(|column| column.as_str().to_owned()).collect();
        assert_eq!((name.to_text(), found), ("public.orders".to_owned(), vec!["id".to_owned(), "total".to_owned()]));
        assert!(columns(b"R\0\0\0\x07public\0orders\0d\0\0").unwrap().1.is_empty());
        assert_eq!(columns(b"R\0\0\0\x07public\0orders\0d\0\x01\x01id"), None);
        assert_eq!(columns(b"I\0\0\0\x07"), None);
    }
}
