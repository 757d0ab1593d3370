// SPDX-License-Identifier: MPL-2.0

//! Tries column lists and row filters in a transaction that is rolled back, so that a plan knows what Postgres refuses.
//!
//! Source: "Row Filters" and "Column Lists" in the Postgres documentation; the server itself decides.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::error::SqlState;

use super::changes::member;
use super::{Publication, TableSpec};
use crate::postgres::database::Database;
use crate::postgres::error::{Error, Result};
use crate::postgres::sql::{QualifiedName, list};

/// The refused part of a published table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The column list.
    Columns,
    /// The row filter.
    Filter,
}

/// A table whose column list or row filter the server refuses.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The table.
    pub table: QualifiedName,
    /// The refused part.
    pub part: Part,
    /// The server's error.
    pub error: Error,
}

/// Tries the column lists and row filters of these tables of a publication, and rolls back. Returns those that the
/// server refuses; none if the role may not publish the tables, because then only the real change shows it.
///
/// # Errors
/// When a query fails, or a table is locked.
pub async fn refused(
    db: &Database,
    publication: &Publication,
    is_publishable: impl Fn(&QualifiedName) -> bool,
) -> Result<Vec<Refused>> {
    let special =
        |(table, spec): &(&QualifiedName, &TableSpec)| **spec != TableSpec::default() && is_publishable(table);
    let tables: Vec<_> = publication.listed().filter(special).collect();
    if tables.is_empty() || attempt(db, &tables).await?.is_none() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (table, spec) in tables {
        found.extend(refused_part(db, table, spec).await?);
    }
    Ok(found)
}

async fn refused_part(db: &Database, table: &QualifiedName, spec: &TableSpec) -> Result<Option<Refused>> {
    let refused = |part, error| Some(Refused { table: table.clone(), part, error });
    let columns_only = TableSpec { filter: None, ..spec.clone() };
    if let (Some(_), Some(error)) = (&spec.columns, attempt(db, &[(table, &columns_only)]).await?) {
        return Ok(refused(Part::Columns, error));
    }
    let filter_only = TableSpec { columns: None, ..spec.clone() };
    match (&spec.filter, attempt(db, &[(table, &filter_only)]).await?) {
        (Some(_), Some(error)) => Ok(refused(Part::Filter, error)),
        _ => Ok(None),
    }
}

/// The server's refusal, if it refuses.
async fn attempt(db: &Database, tables: &[(&QualifiedName, &TableSpec)]) -> Result<Option<Error>> {
    // Two trials with the same name would wait for each other.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("neonrepl_trial_{}_{number}", std::process::id());
    let members = list(tables.iter().map(|(table, spec)| member(table, spec)));
    let changes = [
        "SET LOCAL lock_timeout = '1s'".to_owned(),
        format!("CREATE PUBLICATION {name} FOR TABLE {members} WITH (publish_via_partition_root = true)"),
    ];
    match db.query_undone("trying column lists and row filters", &changes, "SELECT 1").await {
        Ok(_) => Ok(None),
        Err(error) if is_refusal(&error) => Ok(Some(error)),
        Err(error) if error.is_locked() => Err(error),
        // Missing rights or a read-only server: the real change will show it.
        Err(error) if error.code().is_some() && !error.is_connect() && !error.is_lost() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it is about the statement itself: a feature that is not supported, a wrong value, a wrong name or type.
fn is_refusal(error: &Error) -> bool {
    let class = |code: &SqlState| matches!(&code.code()[..2], "0A" | "22" | "42");
    !error.is(&SqlState::INSUFFICIENT_PRIVILEGE) && error.code().is_some_and(class)
}
