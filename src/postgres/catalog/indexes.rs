// SPDX-License-Identifier: MPL-2.0

//! Indexes of tables: read for the requested ones.
//!
//! Source: the catalogs `pg_index` and `pg_am` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

use super::wanted::{self, Wanted};
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Ident, QualifiedName};

/// An index of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Index {
    /// Its name, in the schema of the table.
    pub name: Ident,
    /// Its access method, such as `btree`.
    pub method: String,
    /// Its key columns in order, without included columns; none for an expression.
    pub keys: Vec<Option<Ident>>,
    /// Whether it is unique.
    pub is_unique: bool,
    /// Whether it is the primary key's.
    pub is_primary: bool,
    /// Whether it is the replica identity.
    pub is_replica_identity: bool,
    /// Whether queries may use it; false after a failed build.
    pub is_valid: bool,
    /// Whether it is checked at once, and not at the end of a transaction.
    pub is_immediate: bool,
    /// Whether it has only the rows for which a condition is true.
    pub is_partial: bool,
    /// Whether it enforces a primary key, unique or exclusion constraint.
    pub is_of_constraint: bool,
}

impl Index {
    /// The columns of its key; none if it has expressions.
    pub fn columns(&self) -> Option<BTreeSet<Ident>> {
        self.keys.iter().cloned().collect()
    }
}

/// The indexes of the existing tables among these, by name.
///
/// # Errors
/// When a query fails.
pub async fn indexes(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeMap<QualifiedName, Vec<Index>>> {
    let sql = "SELECT w.s, w.t, i.relname::text, m.amname::text, k.keys, x.indisunique, x.indisprimary, x.indisreplident, \
         x.indisvalid, x.indimmediate, x.indpred IS NOT NULL, \
         EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = i.oid AND o.conrelid = c.oid) \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t JOIN pg_index x ON x.indrelid = c.oid \
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam \
         CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY p.place) AS keys \
           FROM unnest((x.indkey::int2[])[0:x.indnkeyatts - 1]) WITH ORDINALITY AS p (attnum, place) \
           LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.attnum AND p.attnum <> 0) k ORDER BY 1, 2, 3";
    let rows = db.query_all("reading the indexes of tables", sql, &Wanted::of(tables).params(), read_index).await?;
    Ok(wanted::by_table(rows))
}

fn read_index(row: &Row) -> std::result::Result<(QualifiedName, Index), tokio_postgres::Error> {
    let keys: Vec<Option<&str>> = row.try_get(4)?;
    let index = Index {
        name: Ident::from_catalog(row.try_get(2)?),
        method: row.try_get(3)?,
        keys: keys.into_iter().map(|key| key.map(Ident::from_catalog)).collect(),
        is_unique: row.try_get(5)?,
        is_primary: row.try_get(6)?,
        is_replica_identity: row.try_get(7)?,
        is_valid: row.try_get(8)?,
        is_immediate: row.try_get(9)?,
        is_partial: row.try_get(10)?,
        is_of_constraint: row.try_get(11)?,
    };
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), index))
}
