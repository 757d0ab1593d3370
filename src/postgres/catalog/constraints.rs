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
    /// What it requires.
    pub demand: Demand,
    /// Whether all existing rows are known to satisfy it.
    pub is_validated: bool,
}

/// What a constraint requires of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// A condition is not false.
    Check,
    /// Its columns identify a row: `PRIMARY KEY`.
    PrimaryKey,
    /// No two rows have the same values in its columns.
    Unique,
    /// No two rows satisfy all of its operators.
    Exclusion,
    /// The referenced row exists in another table.
    ForeignKey {
        /// That table.
        references: QualifiedName,
    },
}

/// The constraints of the existing tables among these, by name. Omits those that a partition inherits from its parent,
/// and NOT NULL, which is a property of the column.
///
/// # Errors
/// When a query fails.
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

/// A foreign key, as seen from the referenced table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The table that has it.
    pub by: QualifiedName,
    /// Its name.
    pub name: Ident,
}

/// The foreign keys of any other tables that reference these. While a table has some, TRUNCATE of that table alone is
/// refused. Omits those that a partition inherits from its parent.
///
/// # Errors
/// When a query fails.
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
