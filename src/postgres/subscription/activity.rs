// SPDX-License-Identifier: MPL-2.0

//! The current activity of subscriptions: their workers, the copies of their tables, and failures so far.
//!
//! Source: `pg_subscription_rel`, `pg_stat_subscription`, `pg_stat_subscription_stats`, `pg_stat_progress_copy` and
//! `pg_stat_activity` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::progress::{Progress, SyncState};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::{self, ServerVersion};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// The activity of one subscription.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Activity {
    /// Whether it is enabled.
    pub enabled: bool,
    /// The worker that applies its changes; none if none runs at the moment.
    pub worker: Option<ApplyWorker>,
    /// How often applying a change has failed; none before Postgres 15.
    pub apply_errors: Option<u64>,
    /// How often copying a table has failed; none before Postgres 15.
    pub sync_errors: Option<u64>,
    /// How often rows conflicted with the subscriber's, by the kind of conflict, such as `insert_exists`; empty before
    /// Postgres 18.
    pub conflicts: BTreeMap<&'static str, u64>,
    /// After how long the server restarts a failed worker (`wal_retrieve_retry_interval`).
    pub retries_after: Duration,
    /// Its tables.
    pub tables: BTreeMap<QualifiedName, TableActivity>,
}

/// The worker that applies changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApplyWorker {
    /// Its process. After a failure it ends, and another one is started later.
    pub pid: i32,
    /// The last position that its publisher has sent, as the text of an LSN; absent until it has connected.
    pub received: Option<String>,
    /// The last position that was reported back.
    pub latest_end: Option<String>,
    /// How long it has reported nothing newer, in seconds.
    pub latest_end_age: Option<f64>,
    /// When it last received a message from its publisher.
    pub last_message: Option<SystemTime>,
    /// How long it has run, in seconds; none if the role may not see it.
    pub age: Option<f64>,
}

/// One table of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableActivity {
    /// The state of its copy.
    pub state: SyncState,
    /// The process of the worker that copies it, if one runs. After a failure it ends, and another one is started.
    pub copier: Option<i32>,
    /// How many rows this copy has copied, if one runs and the role may see it.
    pub rows: Option<u64>,
    /// How many bytes this copy has copied; like `rows`.
    pub bytes: Option<u64>,
}

impl Activity {
    /// Whether its worker has a connection to its publisher.
    pub fn is_connected(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.received.is_some())
    }

    /// The progress of its initial copy.
    pub fn progress(&self) -> Progress {
        let rows = |(name, table): (&QualifiedName, &TableActivity)| {
            Some((name.clone(), i64::try_from(table.rows?).unwrap_or(i64::MAX)))
        };
        Progress {
            tables: self.tables.iter().map(|(name, table)| (name.clone(), table.state)).collect(),
            copying: self
                .tables
                .iter()
                .filter(|(_, table)| table.copier.is_some())
                .map(|(name, _)| name.clone())
                .collect(),
            rows: self.tables.iter().filter_map(rows).collect(),
            enabled: self.enabled,
            worker_runs: self.worker.is_some(),
            sync_errors: self.sync_errors.map(|errors| i64::try_from(errors).unwrap_or(i64::MAX)),
        }
    }
}

/// The activity of these subscriptions of the database, or of all. Omits missing ones.
///
/// # Errors
/// When a query fails.
pub async fn activity(db: &Database, names: Option<&BTreeSet<Ident>>) -> Result<BTreeMap<Ident, Activity>> {
    let doing = "reading what the subscriptions are doing";
    let names: Option<Vec<&str>> = names.map(|names| names.iter().map(Ident::as_str).collect());
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(&names, Type::TEXT_ARRAY)];
    let sql = workers(db.version().await?);
    let (workers, tables) =
        Box::pin(try_join(db.query(doing, &sql, &params), db.query(doing, TABLES, &params))).await?;
    read(&workers, &tables).map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// The kinds of conflict that Postgres 18 counts: the names of the columns after `confl_`.
const CONFLICTS: [&str; 7] = [
    "insert_exists",
    "update_origin_differs",
    "update_exists",
    "update_missing",
    "delete_origin_differs",
    "delete_missing",
    "multiple_unique_conflicts",
];

/// One row for each subscription. `pg_stat_subscription` covers the whole cluster, but the id of a subscription
/// belongs to one database.
fn workers(version: ServerVersion) -> String {
    let leads = if version.has(version::PARALLEL_STREAMING) { "AND w.leader_pid IS NULL" } else { "" };
    let (errors, stats) = match version.has(version::SUBSCRIPTION_STATS) {
        true => {
            ("st.apply_error_count, st.sync_error_count", "LEFT JOIN pg_stat_subscription_stats st ON st.subid = s.oid")
        }
        false => ("NULL::bigint, NULL::bigint", ""),
    };
    let conflicts = match version.has(version::CONFLICTS) {
        true => format!("ARRAY[{}]", CONFLICTS.map(|kind| format!("st.confl_{kind}")).join(", ")),
        false => "'{}'::bigint[]".to_owned(),
    };
    format!(
        "SELECT s.subname::text, s.subenabled, w.pid, w.received_lsn::text, w.latest_end_lsn::text, \
         extract(epoch FROM clock_timestamp() - w.latest_end_time)::float8, w.last_msg_receipt_time, \
         extract(epoch FROM clock_timestamp() - w.backend_start)::float8, {errors}, {conflicts}, \
         (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_retrieve_retry_interval') \
         FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid {stats} \
         LEFT JOIN LATERAL (SELECT w.*, a.backend_start FROM pg_stat_subscription w \
           LEFT JOIN pg_stat_activity a ON a.pid = w.pid \
           WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL {leads} LIMIT 1) w ON true \
         WHERE d.datname = current_database() AND ($1 IS NULL OR s.subname = ANY ($1))"
    )
}

/// One row for each table.
const TABLES: &str = "SELECT s.subname::text, n.nspname::text, c.relname::text, r.srsubstate, w.pid, w.rows, w.bytes \
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid JOIN pg_subscription_rel r ON r.srsubid = s.oid \
    JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN (SELECT w.subid, w.relid, max(w.pid) AS pid, max(p.tuples_processed) AS rows, max(p.bytes_processed) AS bytes \
      FROM pg_stat_subscription w LEFT JOIN pg_stat_progress_copy p ON p.pid = w.pid \
      WHERE w.relid IS NOT NULL AND w.pid IS NOT NULL GROUP BY w.subid, w.relid) w ON w.subid = s.oid AND w.relid = r.srrelid \
    WHERE d.datname = current_database() AND ($1 IS NULL OR s.subname = ANY ($1))";

fn read(workers: &[Row], tables: &[Row]) -> RowResult<BTreeMap<Ident, Activity>> {
    let mut found: BTreeMap<Ident, Activity> = workers.iter().map(read_worker).collect::<RowResult<_>>()?;
    for row in tables {
        let (name, table) = read_table(row)?;
        if let Some(activity) = found.get_mut(&Ident::from_catalog(row.try_get(0)?)) {
            activity.tables.insert(name, table);
        }
    }
    Ok(found)
}

fn read_worker(row: &Row) -> RowResult<(Ident, Activity)> {
    let pid: Option<i32> = row.try_get(2)?;
    let worker = |pid| -> RowResult<ApplyWorker> {
        Ok(ApplyWorker {
            pid,
            received: row.try_get(3)?,
            latest_end: row.try_get(4)?,
            latest_end_age: row.try_get(5)?,
            last_message: row.try_get(6)?,
            age: row.try_get(7)?,
        })
    };
    let conflicts: Vec<Option<i64>> = row.try_get(10)?;
    let conflicts = CONFLICTS.iter().zip(conflicts).filter_map(|(kind, count)| Some((*kind, to_count(count)?)));
    let activity = Activity {
        enabled: row.try_get(1)?,
        worker: pid.map(worker).transpose()?,
        apply_errors: to_count(row.try_get(8)?),
        sync_errors: to_count(row.try_get(9)?),
        conflicts: conflicts.collect(),
        retries_after: Duration::from_millis(to_count(row.try_get(11)?).unwrap_or_default()),
        tables: BTreeMap::new(),
    };
    Ok((Ident::from_catalog(row.try_get(0)?), activity))
}

fn read_table(row: &Row) -> RowResult<(QualifiedName, TableActivity)> {
    let table = TableActivity {
        state: SyncState::from_catalog(row.try_get(3)?),
        copier: row.try_get(4)?,
        rows: to_count(row.try_get(5)?),
        bytes: to_count(row.try_get(6)?),
    };
    Ok((QualifiedName::from_catalog(row.try_get(1)?, row.try_get(2)?), table))
}

fn to_count(count: Option<i64>) -> Option<u64> {
    count.and_then(|count| u64::try_from(count).ok())
}
