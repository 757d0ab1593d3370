// SPDX-License-Identifier: MPL-2.0

//! Which sessions prevent tables from being closed, and which wait because they are closed.
//!
//! Source: `pg_blocking_pids`, `pg_stat_activity` and `pg_terminate_backend` in the Postgres documentation.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::session::Session;
use crate::postgres::sql::{Ident, QualifiedName};

/// A session that makes another one wait for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its process; 0 for a prepared transaction, which has none.
    pub process: i32,
    /// Its role and application name; empty if the role of the connection may not see them.
    pub whose: String,
    /// Its kind, such as `client backend` or `autovacuum worker`; none if the role may not see it.
    pub kind: Option<String>,
    /// How long its transaction has been open, in seconds.
    pub seconds: Option<i64>,
    /// When it began its last query: a time in UTC, as the server prints it.
    pub query_start: Option<String>,
}

impl Blocker {
    /// Whether it is a session of an application, as far as the role may see.
    pub fn is_client(&self) -> bool {
        self.kind.as_deref() == Some("client backend")
    }

    /// Whether it is, or may be, an autovacuum: that gives way only to a session that waits longer than
    /// `deadlock_timeout`.
    pub fn may_be_autovacuum(&self) -> bool {
        self.process != 0
            && self.kind.as_deref().is_none_or(|kind| kind == "autovacuum worker")
            && self.whose.is_empty()
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.process == 0 {
            return f.write_str("a prepared transaction");
        }
        match self.kind.as_deref() {
            None | Some("client backend") => write!(f, "process {}", self.process)?,
            Some(kind) => write!(f, "process {} ({kind})", self.process)?,
        }
        if !self.whose.is_empty() {
            write!(f, " of {}", self.whose)?;
        }
        if let Some(seconds) = self.seconds {
            write!(f, ", in a transaction for {seconds} s")?;
        }
        self.query_start.as_ref().map_or(Ok(()), |start| write!(f, ", its last query began at {start}"))
    }
}

/// The process of a session.
///
/// # Errors
/// When a query fails.
pub async fn process(session: &mut Session, limits: &Limits) -> Result<i32> {
    let doing = "looking for our own process";
    let rows = session.query(doing, "SELECT pg_backend_pid()", &[], limits).await?;
    let found = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.ok().flatten().unwrap_or_default())
}

/// The kind of a session. A role that may not see it still sees the session's user, which an autovacuum does not have,
/// and which processes replicate.
const KIND: &str = "CASE WHEN a.backend_type IS NOT NULL OR a.usesysid IS NULL THEN a.backend_type \
     WHEN EXISTS (SELECT 1 FROM pg_stat_replication r WHERE r.pid = a.pid) THEN 'walsender' \
     WHEN EXISTS (SELECT 1 FROM pg_stat_subscription r WHERE r.pid = a.pid) THEN 'logical replication worker' \
     ELSE 'client backend' END";

/// The sessions that make a process wait.
///
/// # Errors
/// When a query fails.
pub async fn blockers(db: &Database, process: i32) -> Result<Vec<Blocker>> {
    let sql = format!(
        "SELECT b.pid, concat_ws(', ', a.usename, nullif(a.application_name, '')), {KIND}, \
           extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, \
           to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') \
         FROM (SELECT DISTINCT unnest(pg_blocking_pids($1))) b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY 1"
    );
    let read = |row: &Row| {
        Ok(Blocker {
            process: row.try_get(0)?,
            whose: row.try_get(1)?,
            kind: row.try_get(2)?,
            seconds: row.try_get(3)?,
            query_start: row.try_get(4)?,
        })
    };
    db.query_all("looking for sessions that hold the tables", &sql, &[(&process, Type::INT4)], read).await
}

/// Ends the sessions of applications that make a process wait at this moment. Returns how many. Their transactions are
/// rolled back, so nothing that was acknowledged is lost.
///
/// # Errors
/// When the role may not end sessions, or a query fails.
pub async fn end_blockers(db: &Database, process: i32) -> Result<u64> {
    let doing = "ending sessions that hold the tables";
    let sql = format!(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid)) FROM pg_stat_activity a \
         WHERE {KIND} = 'client backend' AND a.pid = ANY (pg_blocking_pids($1)) AND a.pid <> pg_backend_pid()"
    );
    let ended = db.query_all(doing, &sql, &[(&process, Type::INT4)], |row| row.try_get::<_, i64>(0)).await?;
    Ok(ended.first().and_then(|count| u64::try_from(*count).ok()).unwrap_or_default())
}

/// The sessions that wait at the end of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// How many sessions wait for it.
    pub sessions: u64,
    /// The server's time, in UTC, in the format of RFC 3339.
    pub at: String,
    /// The role of the connection.
    pub role: Ident,
}

/// How many sessions wait for a process at the server's current time.
///
/// # Errors
/// When a query fails.
pub async fn waiting(db: &Database, process: i32) -> Result<Waiting> {
    let doing = "counting the writers that wait";
    let sql = "SELECT (SELECT count(*) FROM (SELECT DISTINCT pid FROM pg_locks WHERE NOT granted) l \
           WHERE $1 = ANY (pg_blocking_pids(l.pid))), \
         to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), current_user::text";
    let read = |row: &Row| {
        let sessions = u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default();
        Ok(Waiting { sessions, at: row.try_get(1)?, role: Ident::from_catalog(row.try_get(2)?) })
    };
    let found = db.query_all(doing, sql, &[(&process, Type::INT4)], read).await?;
    found.into_iter().next().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))
}

/// After how long a session that waits for a lock looks for a deadlock, and asks an autovacuum to give way.
///
/// # Errors
/// When a query fails.
pub async fn deadlock_timeout(db: &Database) -> Result<Duration> {
    let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'deadlock_timeout'";
    let found = db.query_all("reading deadlock_timeout", sql, &[], |row| row.try_get::<_, i64>(0)).await?;
    Ok(Duration::from_millis(found.first().and_then(|ms| u64::try_from(*ms).ok()).unwrap_or(1000)))
}

/// A lock on a relation that prevents closing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The relation.
    pub table: QualifiedName,
    /// The session or prepared transaction.
    pub blocker: Blocker,
    /// The name of a prepared transaction.
    pub prepared: Option<String>,
}

/// Transactions that wrote to relations or locked them and have not ended: prepared ones, and those open for longer
/// than `old`.
///
/// # Errors
/// When a query fails.
pub async fn holders(db: &Database, relations: &BTreeSet<QualifiedName>, old: Duration) -> Result<Vec<Holder>> {
    let schemas: Vec<&str> = relations.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = relations.iter().map(|table| table.name.as_str()).collect();
    let old = i64::try_from(old.as_secs()).unwrap_or(i64::MAX);
    let params = [(&schemas as _, Type::TEXT_ARRAY), (&names as _, Type::TEXT_ARRAY), (&old as _, Type::INT8)];
    let read = |row: &Row| {
        let blocker = Blocker {
            process: row.try_get(2)?,
            whose: row.try_get(3)?,
            kind: row.try_get(4)?,
            seconds: row.try_get(5)?,
            query_start: row.try_get(6)?,
        };
        let table = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
        Ok(Holder { table, blocker, prepared: row.try_get(7)? })
    };
    db.query_all("looking for sessions that have written to the tables", &holders_query(), &params, read).await
}

/// A prepared transaction has no process. Its locks are found by its virtual transaction, which they share with the
/// lock on its own number. A role that may not see how long a session's transaction has been open does not report it,
/// and only waits for it.
fn holders_query() -> String {
    format!(
        "SELECT DISTINCT ON (coalesce(l.pid, 0), x.gid) n.nspname::text, c.relname::text, coalesce(l.pid, 0), \
           concat_ws(', ', a.usename, nullif(a.application_name, '')), {KIND}, \
           extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared))::bigint, \
           to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), x.gid \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         JOIN pg_locks l ON l.locktype = 'relation' AND l.relation = c.oid AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() \
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
           AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') \
         LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN pg_prepared_xacts x ON l.pid IS NULL AND x.transaction IN (SELECT t.transactionid FROM pg_locks t \
           WHERE t.locktype = 'transactionid' AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction) \
         WHERE l.pid IS NULL OR a.xact_start < clock_timestamp() - make_interval(secs => $3::float8) \
         ORDER BY coalesce(l.pid, 0), x.gid, 1, 2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocker_is_named_by_what_can_be_seen_of_it() {
        let blocker = |process, kind: Option<&str>, whose: &str| Blocker {
            process,
            whose: whose.to_owned(),
            kind: kind.map(str::to_owned),
            seconds: Some(7),
            query_start: None,
        };
        let cases = [
            (blocker(0, None, ""), "a prepared transaction", false),
            (blocker(4, None, ""), "process 4, in a transaction for 7 s", true),
            (
                blocker(4, Some("client backend"), "app, worker"),
                "process 4 of app, worker, in a transaction for 7 s",
                false,
            ),
            (blocker(4, None, "app"), "process 4 of app, in a transaction for 7 s", false),
            (
                blocker(4, Some("autovacuum worker"), ""),
                "process 4 (autovacuum worker), in a transaction for 7 s",
                true,
            ),
        ];
        for (blocker, text, is_vacuum) in cases {
            assert_eq!((blocker.to_string().as_str(), blocker.may_be_autovacuum()), (text, is_vacuum));
        }
    }
}
