// SPDX-License-Identifier: MPL-2.0

//! Whether a login can replicate: tries the connection that a subscription's worker opens.
//!
//! Source: "Streaming Replication Protocol" (IDENTIFY_SYSTEM) in the Postgres documentation.

use super::database::Database;
use super::error::Result;
use super::limits::Limits;
use super::walsender;

/// Connects in replication mode as this database is reached, and leaves again.
///
/// # Errors
/// What a subscription's worker would meet: a wrong password, a database or a right that is missing, no WAL sender left; and
/// that the server cannot be reached from here.
pub async fn replicates(db: &Database, limits: &Limits) -> Result<()> {
    walsender::run(db, "connecting as the subscription does", "IDENTIFY_SYSTEM", limits).await
}
