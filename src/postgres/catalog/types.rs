// SPDX-License-Identifier: MPL-2.0

//! The types of columns, as far as they decide which values a column accepts: the labels of enums.
//!
//! Source: the catalogs `pg_type` and `pg_enum` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::wanted::Wanted;
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Literal, QualifiedName};

/// The labels of each enum, in its order, by the type's name as `format_type` prints it.
pub type Labels = BTreeMap<String, Vec<String>>;

/// The labels of the enums that columns of these tables use, directly, in arrays, or through a domain.
///
/// # Errors
/// When a query fails.
pub async fn labels(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<Labels> {
    let sql = "SELECT DISTINCT format_type(t.oid, NULL), \
         ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder) \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         JOIN pg_type ct ON ct.oid = a.atttypid JOIN pg_type t ON t.oid IN (ct.oid, ct.typelem, ct.typbasetype) WHERE t.typtype = 'e'";
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let rows = db.query_all("reading the labels of enums", sql, &Wanted::of(tables).params(), read).await?;
    Ok(rows.into_iter().collect())
}

/// The statement that adds a label to an enum.
pub fn add_label(ty: &str, label: &str) -> String {
    format!("ALTER TYPE {ty} ADD VALUE {};", Literal(label))
}
