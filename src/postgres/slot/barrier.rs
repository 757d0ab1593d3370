// SPDX-License-Identifier: MPL-2.0

//! A position in the WAL that a reader can reach and that is after everything written so far.
//!
//! Source: `pg_logical_emit_message` in the Postgres documentation.

use super::current_lsn;
use crate::postgres::database::Database;
use crate::postgres::error::{Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::sql::Statement;

/// How far a publisher has written.
#[derive(Debug, Clone)]
pub struct Barrier {
    /// The position, as the text of an LSN. All acknowledged commits are below it, including asynchronous ones.
    pub lsn: String,
    /// Why no marker could be written after it. Without one, an idle server may need a quarter of a minute to flush
    /// that far.
    pub unmarked: Option<Error>,
}

/// Reads the position, and writes a marker after it from a second session, which flushes everything before.
/// Subscriptions do not get such messages.
///
/// # Errors
/// When the position cannot be read.
pub async fn barrier(db: &Database, limits: &Limits) -> Result<Barrier> {
    let lsn = current_lsn(db).await?;
    let doing = "writing a marker into the WAL";
    // An asynchronous commit would flush nothing.
    let steps = [
        Statement::new("SET LOCAL synchronous_commit = on"),
        Statement::new("SELECT pg_logical_emit_message(true, 'neonrepl', 'caught up')"),
    ];
    match db.run_within(doing, &steps, limits).await {
        Ok(_) => Ok(Barrier { lsn, unmarked: None }),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(Barrier { lsn, unmarked: Some(error) }),
    }
}
