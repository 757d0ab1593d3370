// SPDX-License-Identifier: MPL-2.0

//! Locks that only the provider uses, each held by a session for as long as it is needed.
//!
//! A lock ends with its transaction, and therefore with its session, however that ends. The transaction writes nothing
//! and keeps no snapshot, so nobody waits for it.
//!
//! Source: "Advisory Locks" in the Postgres documentation.

use tokio_postgres::types::Type;

use super::database::{Database, HeldSession};
use super::error::{Cause, Result};
use super::limits::Limits;
use super::session::Begin;
use super::sql::Literal;

/// What is locked. It is the first half of the lock's number, and distinguishes our locks from others'.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A replication slot, while a session creates or takes over it.
    Slot = 0x6e72_7073,
    /// A fence, while a session moves writers.
    Fence = 0x6e72_6663,
    /// The schema of the fences, while one is made in it or it is dropped.
    Schema = 0x6e72_7363,
}

const LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, hashtext($2::text))";

/// The call that waits for the lock of that name, for a statement that needs it until its transaction ends.
pub(super) fn waiting(kind: Kind, name: &str) -> String {
    format!("pg_advisory_xact_lock({}, hashtext({}))", kind as i32, Literal(name))
}

/// The session that holds the lock of that name, in its open transaction; `None` if another session has it.
///
/// # Errors
/// When a query fails.
pub(super) async fn take(
    db: &Database,
    doing: &str,
    (kind, name): (Kind, &str),
    limits: &Limits,
) -> Result<Option<HeldSession>> {
    let mut session = db.session(doing, limits).await?;
    let mut transaction = session.transaction(&Begin::default());
    let lock = [(&(kind as i32) as _, Type::INT4), (&name as _, Type::TEXT)];
    let rows = transaction.query(doing, LOCK, &lock, limits).await?;
    let is_ours = rows.first().map(|row| row.try_get(0)).transpose();
    if is_ours.map_err(|error| transaction.error(doing, Cause::Statement(error)))? == Some(true) {
        return Ok(Some(session));
    }
    transaction.roll_back(doing, limits).await?;
    Ok(None)
}
