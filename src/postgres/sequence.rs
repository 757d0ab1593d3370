// SPDX-License-Identifier: MPL-2.0

//! Sequences by name: their bounds, their positions, and raising them.
//!
//! The position of a sequence is in its own relation. The view `pg_sequences` shows no number after `setval(…,
//! false)`, for a sequence that was never used, and for one that the role may not see.
//!
//! Source: "Sequence Manipulation Functions" and `pg_sequence` in the Postgres documentation.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::Database;
use super::error::{Cause, Result};
use super::limits::Limits;
use super::session::{Begin, Transaction};
use super::sql::{Ident, Literal, QualifiedName};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// How many sequences one query reads or raises.
const BATCH: usize = 1000;

/// The definition of a sequence, and the rights of the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The increment; never 0.
    pub increment: i64,
    /// The lowest number.
    pub min: i64,
    /// The highest number.
    pub max: i64,
    /// The role of the connection.
    pub role: Ident,
    /// Whether the role may use its schema.
    pub may_use_schema: bool,
    /// Whether the role may read its position (SELECT).
    pub may_read: bool,
    /// Whether the role may set it (UPDATE).
    pub may_set: bool,
}

impl Definition {
    /// Which of two positions is further in the direction of this sequence.
    pub fn compare(&self, one: Position, other: Position) -> Ordering {
        let numbers = one.last.cmp(&other.last);
        let numbers = if self.increment > 0 { numbers } else { numbers.reverse() };
        numbers.then(one.is_called.cmp(&other.is_called))
    }
}

/// The position of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The number that was taken last, or, if `is_called` is false, the next one.
    pub last: i64,
    /// Whether that number was taken.
    pub is_called: bool,
}

/// The result of raising a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The position before.
    pub before: Position,
    /// Whether it was raised: it had not reached the target yet.
    pub is_raised: bool,
}

/// The existing sequences among these.
///
/// # Errors
/// When a query fails.
pub async fn definitions(
    db: &Database,
    names: &BTreeSet<QualifiedName>,
) -> Result<BTreeMap<QualifiedName, Definition>> {
    let sql = "SELECT n.nspname::text, c.relname::text, q.seqincrement, q.seqmin, q.seqmax, \
         has_schema_privilege(n.oid, 'USAGE'), has_sequence_privilege(c.oid, 'SELECT'), has_sequence_privilege(c.oid, 'UPDATE'), \
         current_user::text \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t JOIN pg_sequence q ON q.seqrelid = c.oid";
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let sequences: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let params = [(&schemas as _, Type::TEXT_ARRAY), (&sequences as _, Type::TEXT_ARRAY)];
    let found = db.query_all("reading the bounds of sequences", sql, &params, read_definition).await?;
    Ok(found.into_iter().collect())
}

fn read_definition(row: &Row) -> RowResult<(QualifiedName, Definition)> {
    let definition = Definition {
        increment: row.try_get(2)?,
        min: row.try_get(3)?,
        max: row.try_get(4)?,
        may_use_schema: row.try_get(5)?,
        may_read: row.try_get(6)?,
        may_set: row.try_get(7)?,
        role: Ident::from_catalog(row.try_get(8)?),
    };
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), definition))
}

/// The positions of sequences, in order, a thousand in a query. Numbers that a session has taken ahead (`CACHE`) count
/// as taken.
///
/// # Errors
/// When one of them does not exist or may not be read, or a query fails.
pub async fn positions(db: &Database, names: &[&QualifiedName]) -> Result<Vec<Position>> {
    let mut found = Vec::with_capacity(names.len());
    for batch in names.chunks(BATCH) {
        let parts =
            batch.iter().enumerate().map(|(at, name)| format!("SELECT {at}, last_value, is_called FROM {name}"));
        let sql = format!("{} ORDER BY 1", parts.collect::<Vec<_>>().join(" UNION ALL "));
        found.extend(db.query_all("reading how far sequences are", &sql, &[], read_position).await?);
    }
    Ok(found)
}

/// Raises sequences to positions, all in one transaction, a thousand in a statement. A sequence that has already
/// reached its target stays as it is: the server compares in the statement that sets it. Answers in order.
///
/// `setval` is not undone by a rollback, so the caller must check bounds and rights before.
///
/// # Errors
/// When one of them does not exist, may not be read or set or cannot hold its number, or a query fails.
pub async fn raise(
    db: &Database,
    targets: &[(&QualifiedName, &Definition, Position)],
    limits: &Limits,
) -> Result<Vec<Raised>> {
    let doing = "raising sequences";
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let mut session = db.session(doing, limits).await?;
    let mut transaction = session.transaction(&Begin::default());
    let mut raised = Vec::with_capacity(targets.len());
    for batch in targets.chunks(BATCH) {
        raised.extend(raise_batch(&mut transaction, batch, limits).await?);
    }
    transaction.commit(doing, limits).await?;
    Ok(raised)
}

async fn raise_batch(
    transaction: &mut Transaction<'_>,
    batch: &[(&QualifiedName, &Definition, Position)],
    limits: &Limits,
) -> Result<Vec<Raised>> {
    let doing = "raising sequences";
    let rows = transaction.query(doing, &raising(batch), &[], limits).await?;
    let raised: RowResult<Vec<Raised>> = rows.iter().map(read_raised).collect();
    raised.map_err(|error| transaction.error(doing, Cause::Statement(error)))
}

fn raising(batch: &[(&QualifiedName, &Definition, Position)]) -> String {
    let parts = batch.iter().enumerate().map(|(at, (name, definition, to))| {
        let behind = if definition.increment > 0 { "<" } else { ">" };
        let text = name.to_string();
        format!(
            "SELECT {at}, last_value, is_called, CASE WHEN last_value {behind} {last}::bigint \
             OR last_value = {last}::bigint AND NOT is_called AND {called} \
             THEN setval({literal}::regclass, {last}::bigint, {called}) END IS NOT NULL FROM {name}",
            last = Number(to.last),
            called = to.is_called,
            literal = Literal(&text),
        )
    });
    format!("{} ORDER BY 1", parts.collect::<Vec<_>>().join(" UNION ALL "))
}

/// A number, in parentheses so that a cast applies to its sign too.
struct Number(i64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}'", self.0)
    }
}

fn read_position(row: &Row) -> RowResult<Position> {
    Ok(Position { last: row.try_get(1)?, is_called: row.try_get(2)? })
}

fn read_raised(row: &Row) -> RowResult<Raised> {
    Ok(Raised { before: read_position(row)?, is_raised: row.try_get(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn definition(increment: i64) -> Definition {
        let role = Ident::new("me").unwrap();
        Definition { increment, min: -100, max: 100, role, may_use_schema: true, may_read: true, may_set: true }
    }

    #[test]
    fn a_position_is_further_in_the_direction_of_its_sequence() {
        let at = |last, is_called| Position { last, is_called };
        assert_eq!(definition(2).compare(at(1, true), at(2, false)), Ordering::Less);
        assert_eq!(definition(-2).compare(at(1, true), at(2, false)), Ordering::Greater);
        assert_eq!(definition(1).compare(at(1, false), at(1, true)), Ordering::Less);
        assert_eq!(definition(-1).compare(at(1, true), at(1, false)), Ordering::Greater);
    }

    #[test]
    fn a_sequence_is_set_only_where_it_is_behind() {
        let (up, down) = (QualifiedName::parse("up").unwrap(), QualifiedName::parse("it's.down").unwrap());
        let at = |last, is_called| Position { last, is_called };
        let sql = raising(&[(&up, &definition(1), at(7, true)), (&down, &definition(-1), at(-7, false))]);
        expect![[r#"
            SELECT 0, last_value, is_called, CASE WHEN last_value < '7'::bigint OR last_value = '7'::bigint AND NOT is_called AND true THEN setval('"public"."up"'::regclass, '7'::bigint, true) END IS NOT NULL FROM "public"."up"
            SELECT 1, last_value, is_called, CASE WHEN last_value > '-7'::bigint OR last_value = '-7'::bigint AND NOT is_called AND false THEN setval('"it''s"."down"'::regclass, '-7'::bigint, false) END IS NOT NULL FROM "it's"."down" ORDER BY 1
        "#]]
        .assert_eq(&format!("{}\n", sql.replace(" UNION ALL ", "\n")));
    }
}
