// SPDX-License-Identifier: MPL-2.0

//! Whether a login can replicate: tries the connection that a subscription's worker opens.
//!
//! Source: "Streaming Replication Protocol" (IDENTIFY_SYSTEM) in the Postgres documentation.

use super::database::Database;
use super::error::Result;
use super::limits::Limits;
use super::walsender;

/// Connects to this database in replication mode, and disconnects.
///
/// # Errors
/// The errors of a subscription's worker: a wrong password, a missing database or right, no WAL sender left; or the
/// server cannot be reached from here.
pub async fn replicates(db: &Database, limits: &Limits) -> Result<()> {
    walsender::run(db, "connecting as the subscription does", "IDENTIFY_SYSTEM", limits).await
}
