// SPDX-License-Identifier: MPL-2.0

//! Sequences that tables take numbers from: read for the requested tables.
//!
//! Source: the catalogs `pg_sequence`, `pg_depend` and `pg_attrdef` and the view `pg_sequences` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

use super::wanted::{self, Wanted};
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Ident, QualifiedName};

/// A sequence, and the column that takes numbers from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// Its name.
    pub name: QualifiedName,
    /// The column.
    pub column: Ident,
    /// The relation of the column to it.
    pub tie: Tie,
    /// Its type, such as `bigint`.
    pub ty: String,
    /// Where it starts.
    pub start: i64,
    /// The increment; never 0.
    pub increment: i64,
    /// The lowest number.
    pub min: i64,
    /// The highest number.
    pub max: i64,
    /// How many numbers a session takes at a time.
    pub cache: i64,
    /// Whether it starts again after its end.
    pub cycles: bool,
    /// The last number that was taken; none if none was, or if the role may not see it.
    pub last: Option<i64>,
    /// Whether the role may see the last number.
    pub is_visible: bool,
}

/// The relation of a column to the sequence that it takes numbers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// It is the column's identity.
    Identity,
    /// The column owns it, like a `serial` column.
    Owned,
    /// The column's default uses it.
    Used,
}

impl Sequence {
    /// The next number; none if the role may not see it, or if the sequence has reached its end.
    pub fn next(&self) -> Option<i64> {
        match self.last {
            Some(last) => last.checked_add(self.increment),
            None => self.is_visible.then_some(self.start),
        }
    }

    /// The percentage of numbers that have been taken; 0 if unknown.
    pub fn used_percent(&self) -> u64 {
        let Some(last) = self.last else { return 0 };
        let (from, to) = if self.increment > 0 { (self.min, self.max) } else { (self.max, self.min) };
        let (taken, all) = (i128::from(last).abs_diff(i128::from(from)), i128::from(to).abs_diff(i128::from(from)));
        u64::try_from((taken * 100).checked_div(all).unwrap_or(100)).unwrap_or(100)
    }
}

/// The sequences that columns of these tables take numbers from. A sequence that several columns use is listed for each
/// of them.
///
/// # Errors
/// When a query fails.
pub async fn sequences(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
) -> Result<BTreeMap<QualifiedName, Vec<Sequence>>> {
    let sql = "SELECT w.s, w.t, sn.nspname::text, s.relname::text, a.attname::text, min(u.tie), \
         format_type(q.seqtypid, NULL), q.seqstart, q.seqincrement, q.seqmin, q.seqmax, q.seqcache, q.seqcycle, \
         CASE WHEN has_schema_privilege(sn.oid, 'USAGE') AND has_sequence_privilege(s.oid, 'USAGE, SELECT') \
           THEN pg_sequence_last_value(s.oid) END, \
         has_schema_privilege(sn.oid, 'USAGE') AND has_sequence_privilege(s.oid, 'USAGE, SELECT') \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         CROSS JOIN LATERAL (SELECT d.objid AS seq, d.refobjsubid::int AS att, CASE d.deptype WHEN 'i' THEN 0 ELSE 1 END AS tie \
             FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
             AND d.refobjid = c.oid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') \
           UNION SELECT d.refobjid, f.adnum::int, 2 FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass \
             AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'n' WHERE f.adrelid = c.oid) u \
         JOIN pg_class s ON s.oid = u.seq AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace \
         JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.att \
         GROUP BY 1, 2, 3, 4, 5, sn.oid, s.oid, q.seqrelid ORDER BY 1, 2, 5, 3, 4";
    let rows =
        db.query_all("reading the sequences of tables", sql, &Wanted::of(tables).params(), read_sequence).await?;
    Ok(wanted::by_table(rows))
}

/// How many columns one query asks for their highest number.
const BATCH: usize = 200;

/// The highest number in each of these columns; none if the table has no rows. Each column must have an integer type
/// and be the first of an index, so that the server need not read the table.
///
/// # Errors
/// When a query fails, or the role may not read one of the columns.
pub async fn highest(db: &Database, columns: &[(QualifiedName, Ident)]) -> Result<Vec<Option<i64>>> {
    let mut found = Vec::with_capacity(columns.len());
    for batch in columns.chunks(BATCH) {
        let parts = batch
            .iter()
            .enumerate()
            .map(|(at, (table, column))| format!("SELECT {at}, max({column})::bigint FROM {table}"));
        let sql = format!("{} ORDER BY 1", parts.collect::<Vec<_>>().join(" UNION ALL "));
        found.extend(
            db.query_all("reading how far sequences are", &sql, &[], |row| row.try_get::<_, Option<i64>>(1)).await?,
        );
    }
    Ok(found)
}

fn read_sequence(row: &Row) -> std::result::Result<(QualifiedName, Sequence), tokio_postgres::Error> {
    let sequence = Sequence {
        name: QualifiedName::from_catalog(row.try_get(2)?, row.try_get(3)?),
        column: Ident::from_catalog(row.try_get(4)?),
        tie: match row.try_get::<_, i32>(5)? {
            0 => Tie::Identity,
            1 => Tie::Owned,
            _ => Tie::Used,
        },
        ty: row.try_get(6)?,
        start: row.try_get(7)?,
        increment: row.try_get(8)?,
        min: row.try_get(9)?,
        max: row.try_get(10)?,
        cache: row.try_get(11)?,
        cycles: row.try_get(12)?,
        last: row.try_get(13)?,
        is_visible: row.try_get(14)?,
    };
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(increment: i64, min: i64, max: i64, last: Option<i64>) -> Sequence {
        let name = QualifiedName::parse("s").unwrap();
        let (column, ty) = (Ident::new("id").unwrap(), "bigint".to_owned());
        let (tie, start, cache, cycles, is_visible) = (Tie::Owned, min, 1, false, true);
        Sequence { name, column, tie, ty, start, increment, min, max, cache, cycles, last, is_visible }
    }

    fn used(increment: i64, min: i64, max: i64, last: Option<i64>) -> u64 {
        sequence(increment, min, max, last).used_percent()
    }

    #[test]
    fn the_next_number_is_the_first_where_none_was_taken() {
        assert_eq!(sequence(10, 1, 100, Some(11)).next(), Some(21));
        assert_eq!(sequence(1, 5, 100, None).next(), Some(5));
        assert_eq!(sequence(1, 1, i64::MAX, Some(i64::MAX)).next(), None);
        assert_eq!(Sequence { is_visible: false, ..sequence(1, 5, 100, None) }.next(), None);
    }

    #[test]
    fn the_use_of_a_sequence_is_told_in_its_own_direction() {
        assert_eq!(used(1, 1, 101, Some(81)), 80);
        assert_eq!(used(-1, -101, -1, Some(-81)), 80);
        assert_eq!(used(1, i64::MIN, i64::MAX, Some(i64::MAX)), 100);
        assert_eq!(used(1, 5, 5, Some(5)), 100);
        assert_eq!(used(1, 1, 100, None), 0);
    }
}
