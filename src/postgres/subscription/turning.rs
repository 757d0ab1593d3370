// SPDX-License-Identifier: MPL-2.0

//! Statements that stop and start subscriptions, with or without their slots, when writes move to the other side. Each
//! may share a transaction with others.
//!
//! Source: `ALTER SUBSCRIPTION` in the Postgres documentation.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::changes::{disable, enable, set};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::sql::{Ident, Literal, Statement};
use crate::postgres::wait::{Ended, Pauses, Waiter};

/// How often to look for a worker while writers wait.
const POLL: Pauses = Pauses { first: Duration::from_millis(2), longest: Duration::from_millis(50) };

/// Stops it. Its worker ends soon after the commit, see [`end_worker`].
pub fn stop(name: &Ident) -> Statement {
    disable(name)
}

/// Starts it from this slot. Its worker begins with the commit.
pub fn start(name: &Ident, slot: &Ident) -> [Statement; 2] {
    [set(name, [format!("slot_name = {}", Literal(slot.as_str()))]), enable(name)]
}

/// Detaches a stopped subscription from its slot, which stays where it is.
pub fn detach(name: &Ident) -> Statement {
    set(name, ["slot_name = NONE".to_owned()])
}

/// Drops a detached subscription, and nothing on its publisher.
pub fn drop_detached(name: &Ident) -> Statement {
    Statement::new(format!("DROP SUBSCRIPTION {name}"))
}

/// Sets how durable a change must be before the worker confirms it. The worker continues.
pub fn confirm(name: &Ident, synchronous_commit: &str) -> Statement {
    set(name, [format!("synchronous_commit = {}", Literal(synchronous_commit))])
}

/// The subscriptions among these that the role may not change, with their owners.
///
/// # Errors
/// When a query fails.
pub async fn of_others(db: &Database, names: &[&Ident]) -> Result<Vec<(Ident, Ident)>> {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    let sql = "SELECT s.subname::text, pg_get_userbyid(s.subowner)::text FROM pg_subscription s \
        JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = ANY ($1::text[]) \
        AND NOT pg_has_role(s.subowner, 'USAGE') ORDER BY 1";
    let read =
        |row: &tokio_postgres::Row| Ok((Ident::from_catalog(row.try_get(0)?), Ident::from_catalog(row.try_get(1)?)));
    db.query_all("looking for who owns subscriptions", sql, &[(&names, Type::TEXT_ARRAY)], read).await
}

/// Ends the workers of a stopped subscription, which would otherwise notice it up to a second later, and waits until
/// they are gone. If the role may not end them, they end by themselves.
///
/// # Errors
/// When a query fails, or the time is over.
pub async fn end_worker(db: &Database, name: &Ident, limits: &Limits) -> Result<()> {
    let doing = format!("waiting for the worker of subscription {name} to end");
    let mut waiter = Waiter::new(limits, POLL);
    let mut may_end = true;
    loop {
        let sql = if may_end { ENDED } else { LEFT };
        let looked = db.query_all(&doing, sql, &[(&name.as_str(), Type::TEXT)], |row| row.try_get::<_, i64>(0)).await;
        let left = match looked {
            Err(error) if error.code().is_some() && may_end && !error.is_transient() => {
                may_end = false;
                Ok(None)
            }
            Ok(counts) => Ok((counts.first().copied().unwrap_or_default() == 0).then_some(())),
            Err(error) => Err(error),
        };
        match waiter.after(left).await {
            Ok(Some(())) => return Ok(()),
            Ok(None) => {}
            Err(Ended::Failed(error) | Ended::TimeOver(Some(error))) => return Err(error),
            Err(Ended::TimeOver(None)) => return Err(db.error(&doing, Cause::Timeout(Duration::ZERO))),
            Err(Ended::Stopped) => return Err(db.error(&doing, Cause::Cancelled)),
        }
    }
}

const ENDED: &str = "SELECT count(pg_terminate_backend(w.pid)) FROM pg_stat_subscription w \
    JOIN pg_subscription s ON s.oid = w.subid JOIN pg_database d ON d.oid = s.subdbid \
    WHERE d.datname = current_database() AND s.subname = $1 AND w.pid IS NOT NULL AND NOT s.subenabled";

const LEFT: &str = "SELECT count(*) FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid \
    JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = $1 AND w.pid IS NOT NULL";
