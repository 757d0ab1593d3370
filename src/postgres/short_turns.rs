// SPDX-License-Identifier: MPL-2.0

//! Short changes of tables that never wait long for locks, so that no session queues behind them for long.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::database::Database;
use super::error::{Cause, Error, Result};
use super::limits::Limits;
use super::sql::{QualifiedName, Statement};
use super::wait::{Ended, Pauses, Waiter};

/// The pauses between attempts. During an attempt, all other sessions that need one of the tables wait, so it is short,
/// and the others run in between.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(500), longest: Duration::from_secs(5) };

/// How long one attempt waits for all its locks.
const ATTEMPT: &str = "SET LOCAL lock_timeout = '1s'";

/// Runs statements that lock these tables, in one transaction. If another session holds a lock, this retries for a
/// second each time, until the limits are reached.
///
/// # Errors
/// When the server refuses it, or the locks are not granted in time: then with their holders.
pub async fn in_short_turns(
    db: &Database,
    doing: &str,
    statements: &[Statement],
    tables: &BTreeSet<QualifiedName>,
    limits: &Limits,
) -> Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    let statements: Vec<_> = std::iter::once(Statement::new(ATTEMPT)).chain(statements.iter().cloned()).collect();
    let limits = limits.or_within(db.config().statement_timeout);
    let mut waiter = Waiter::new(&limits, PAUSES);
    let mut last = None;
    loop {
        let locked = match db.run_within(doing, &statements, &limits).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_locked() => error,
            // The time was over in the middle of an attempt, or between two.
            Err(error) if matches!(error.cause(), Cause::Timeout(_)) => {
                return Err(named(db, last.unwrap_or(error), tables).await);
            }
            Err(error) => return Err(error),
        };
        match waiter.after(Ok::<Option<()>, Error>(None)).await {
            Ok(_) => tracing::info!(cause = %locked, "waiting for a lock, and letting other sessions go first"),
            Err(Ended::TimeOver(_) | Ended::Stopped) => return Err(named(db, locked, tables).await),
            Err(Ended::Failed(error)) => return Err(error),
        }
        last = Some(locked);
    }
}

/// Adds the holders of locks on the tables to the error, as far as the server shows them.
async fn named(db: &Database, locked: Error, tables: &BTreeSet<QualifiedName>) -> Error {
    let sql = "SELECT concat(n.nspname, '.', c.relname, ' by process ', l.pid, ' (' || nullif(concat_ws(', ', \
           nullif(a.application_name, ''), a.usename), '') || ')', ', for ' || extract(epoch FROM now() - a.xact_start)::bigint || ' s') \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         JOIN pg_locks l ON l.locktype = 'relation' AND l.relation = c.oid AND l.granted AND l.pid <> pg_backend_pid() \
         AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         LEFT JOIN pg_stat_activity a ON a.pid = l.pid ORDER BY a.xact_start, 1 LIMIT 5";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let params = [(&schemas as _, Type::TEXT_ARRAY), (&names as _, Type::TEXT_ARRAY)];
    let doing = "looking for the session that holds a lock";
    let holders = db.briefly().query_all(doing, sql, &params, |row| row.try_get::<_, String>(0)).await;
    let holders = holders.unwrap_or_default();
    if holders.is_empty() { locked } else { locked.noting(format!("Locked now: {}.", holders.join("; "))) }
}
