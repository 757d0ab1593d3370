// SPDX-License-Identifier: MPL-2.0

//! Constraints of tables: read for the requested ones.
//!
//! Source: the catalog `pg_constraint` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;

use super::wanted::{self, Wanted};
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Ident, QualifiedName};

/// A constraint of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constraint {
    /// Its name.
    pub name: Ident,
    /// What it demands.
    pub demand: Demand,
    /// Whether all rows that are there are known to keep it.
    pub is_validated: bool,
}

/// What a constraint demands of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// That a condition is not false.
    Check,
    /// That its columns identify a row: `PRIMARY KEY`.
    PrimaryKey,
    /// That no two rows are the same in its columns.
    Unique,
    /// That no two rows meet its operators.
    Exclusion,
    /// That the row of another table is there.
    ForeignKey {
        /// That table.
        references: QualifiedName,
    },
}

/// The constraints of those of the tables that exist, in the order of their names. Those that a partition has from its parent,
/// and NOT NULL, which is a property of the column, are left out.
///
/// # Errors
/// When the server cannot be asked.
pub async fn constraints(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
) -> Result<BTreeMap<QualifiedName, Vec<Constraint>>> {
    let sql = "SELECT w.s, w.t, o.conname::text, o.contype::text, o.convalidated, fn.nspname::text, f.relname::text \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t JOIN pg_constraint o ON o.conrelid = c.oid \
         LEFT JOIN pg_class f ON f.oid = o.confrelid LEFT JOIN pg_namespace fn ON fn.oid = f.relnamespace \
         WHERE o.contype IN ('c', 'p', 'u', 'x', 'f') AND o.conparentid = 0 ORDER BY 1, 2, 3";
    let rows =
        db.query_all("reading the constraints of tables", sql, &Wanted::of(tables).params(), read_constraint).await?;
    Ok(wanted::by_table(rows))
}

/// A foreign key, as the table sees it that it leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The table that has it.
    pub by: QualifiedName,
    /// Its name.
    pub name: Ident,
}

/// The foreign keys of other tables that lead to those of the tables that exist, whichever tables have them: as long as there
/// are some, TRUNCATE of the table alone is refused. Those that a partition has from its parent are left out.
///
/// # Errors
/// When the server cannot be asked.
pub async fn references(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
) -> Result<BTreeMap<QualifiedName, Vec<Reference>>> {
    let sql = "SELECT w.s, w.t, o.conname::text, fn.nspname::text, f.relname::text \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t JOIN pg_constraint o ON o.confrelid = c.oid \
         JOIN pg_class f ON f.oid = o.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace \
         WHERE o.contype = 'f' AND o.conparentid = 0 AND o.conrelid <> c.oid ORDER BY 1, 2, 4, 5, 3";
    let doing = "reading the foreign keys that lead to tables";
    let rows = db.query_all(doing, sql, &Wanted::of(tables).params(), read_reference).await?;
    Ok(wanted::by_table(rows))
}

fn read_reference(row: &Row) -> std::result::Result<(QualifiedName, Reference), tokio_postgres::Error> {
    let table = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
    let by = QualifiedName::from_catalog(row.try_get(3)?, row.try_get(4)?);
    Ok((table, Reference { by, name: Ident::from_catalog(row.try_get(2)?) }))
}

fn read_constraint(row: &Row) -> std::result::Result<(QualifiedName, Constraint), tokio_postgres::Error> {
    let demand = match row.try_get(3)? {
        "p" => Demand::PrimaryKey,
        "u" => Demand::Unique,
        "x" => Demand::Exclusion,
        "f" => Demand::ForeignKey { references: QualifiedName::from_catalog(row.try_get(5)?, row.try_get(6)?) },
        _ => Demand::Check,
    };
    let (name, is_validated) = (Ident::from_catalog(row.try_get(2)?), row.try_get(4)?);
    let table = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
    Ok((table, Constraint { name, demand, is_validated }))
}
