// SPDX-License-Identifier: MPL-2.0

//! Workers of subscriptions that wait for locks of other sessions on the subscriber.
//!
//! Source: the views `pg_locks`, `pg_stat_activity` and `pg_stat_subscription`, and `pg_blocking_pids`, in the Postgres
//! documentation.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Ident, QualifiedName};

/// A worker of a subscription that waits for a lock, with a session that holds the lock or is before it in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The locked table or index, if it is one.
    pub relation: Option<QualifiedName>,
    /// How long it has waited.
    pub waits: Duration,
    /// The process that blocks it; none if that is a prepared transaction.
    pub blocker: Option<i32>,
    /// The role and application name of the blocking session. Empty if our role may not see them.
    pub whose: String,
    /// Its state, such as `active` or `idle in transaction`; none if our role may not see it.
    pub state: Option<String>,
    /// How long its transaction has been open; likewise.
    pub transaction: Option<Duration>,
    /// How long ago its current or last statement began; likewise.
    pub query: Option<Duration>,
}

/// The workers of a subscription that have waited for a lock for longer than `patience`, the longest wait first.
///
/// # Errors
/// When a query fails.
pub async fn blocked(db: &Database, name: &Ident, patience: Duration) -> Result<Vec<Blocked>> {
    let doing = format!("looking for what subscription {name} waits for");
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&name.as_str(), Type::TEXT), (&patience.as_secs_f64(), Type::FLOAT8)];
    db.query_all(&doing, BLOCKED, &params, read).await
}

/// `waitstart` is the beginning of a wait. Blockers are only read for the few workers that wait for long.
const BLOCKED: &str = "SELECT n.nspname::text, c.relname::text, l.waits, nullif(b.pid, 0), \
    concat_ws(', ', a.usename, nullif(a.application_name, '')), a.state, \
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8, extract(epoch FROM clock_timestamp() - a.query_start)::float8 \
    FROM (SELECT DISTINCT ON (w.pid) w.pid, l.relation, extract(epoch FROM clock_timestamp() - l.waitstart)::float8 AS waits \
        FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid JOIN pg_stat_subscription w ON w.subid = s.oid \
        JOIN pg_locks l ON l.pid = w.pid AND NOT l.granted \
        WHERE d.datname = current_database() AND s.subname = $1 AND clock_timestamp() - l.waitstart >= make_interval(secs => $2) \
        ORDER BY w.pid) l \
    CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid \
    LEFT JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY l.waits DESC, b.pid";

fn read(row: &Row) -> std::result::Result<Blocked, tokio_postgres::Error> {
    let (schema, relation): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let seconds = |seconds: Option<f64>| seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(Blocked {
        relation: schema.zip(relation).map(|(schema, name)| QualifiedName::from_catalog(&schema, &name)),
        waits: seconds(row.try_get(2)?).unwrap_or_default(),
        blocker: row.try_get(3)?,
        whose: row.try_get(4)?,
        state: row.try_get(5)?,
        transaction: seconds(row.try_get(6)?),
        query: seconds(row.try_get(7)?),
    })
}
