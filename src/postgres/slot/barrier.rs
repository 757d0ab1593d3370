// SPDX-License-Identifier: MPL-2.0

//! A position in the WAL after everything that was written before, and that a reader can reach.
//!
//! Source: `pg_logical_emit_message` in the Postgres documentation.

use super::current_lsn;
use crate::postgres::database::Database;
use crate::postgres::error::{Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::sql::Statement;

/// Where a publisher has written to.
#[derive(Debug, Clone)]
pub struct Barrier {
    /// The position, as an LSN's text. Commits that were acknowledged by now are below it, asynchronous ones too.
    pub lsn: String,
    /// Why no marker could be written behind it. Without one, an idle server may take a quarter of a minute until it has
    /// flushed so far.
    pub unmarked: Option<Error>,
}

/// Takes the position, and writes a marker behind it from a second session, which flushes what is before. Subscriptions are
/// not sent such messages.
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
