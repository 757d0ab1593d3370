// SPDX-License-Identifier: MPL-2.0

//! The extensions of a database.
//!
//! Source: the catalog `pg_extension` and the view `pg_available_extensions` in the Postgres documentation.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::Result;

/// The extensions that the database has, with their versions.
///
/// # Errors
/// When a query fails.
pub async fn extensions(db: &Database) -> Result<BTreeMap<String, String>> {
    let sql = "SELECT extname::text, extversion FROM pg_extension";
    let rows = db.query_all("reading the extensions", sql, &[], |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?;
    Ok(rows.into_iter().collect())
}

/// Which of these extensions the server could install, each with its default version.
///
/// # Errors
/// When a query fails.
pub async fn available_extensions(db: &Database, names: &[&str]) -> Result<BTreeMap<String, String>> {
    let names = names.to_vec();
    let sql = "SELECT name::text, coalesce(default_version, '') FROM pg_available_extensions WHERE name = ANY ($1)";
    let doing = "reading which extensions there are to install";
    let rows =
        db.query_all(doing, sql, &[(&names, Type::TEXT_ARRAY)], |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?;
    Ok(rows.into_iter().collect())
}
