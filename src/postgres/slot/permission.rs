// SPDX-License-Identifier: MPL-2.0

//! Whether a role may create replication slots.
//!
//! Source: `CREATE ROLE … REPLICATION` and `pg_drop_replication_slot` in the Postgres documentation; `rds_replication` in the
//! user guides of RDS and Aurora.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Error, Result};
use tokio_postgres::error::SqlState;

/// The roles that are known to have the right.
const KNOWN: &str = "SELECT rolsuper OR rolreplication OR EXISTS (SELECT 1 FROM pg_roles g WHERE g.rolname = 'rds_replication' \
     AND pg_has_role(current_user, g.oid, 'MEMBER')) FROM pg_roles WHERE rolname = current_user";

/// The server's error about creating a slot, if the role may not.
///
/// # Errors
/// When a query fails.
pub async fn forbidden(db: &Database, doing: &str) -> Result<Option<Error>> {
    let rows = db.query(doing, KNOWN, &[]).await?;
    let known = rows.first().map(|row| row.try_get(0)).transpose();
    if known.map_err(|error| db.error(doing, Cause::Statement(error)))? == Some(true) {
        return Ok(None);
    }
    // A service may have another way to grant it. The server checks the right before it looks for the slot, which does
    // not exist.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let sql = format!("SELECT pg_drop_replication_slot('neonrepl_no_such_slot_{}_{number}')", std::process::id());
    match db.query(doing, &sql, &[]).await {
        Err(error) if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(Some(error)),
        Err(error) if error.code().is_none() => Err(error),
        _ => Ok(None),
    }
}
