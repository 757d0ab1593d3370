// SPDX-License-Identifier: MPL-2.0

//! The state of the initial copy, and whether it makes progress.
//!
//! Source: `pg_subscription_rel`, `pg_stat_subscription`, `pg_stat_subscription_stats` and `pg_stat_progress_copy` in the
//! Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version;

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// The state of a table's initial copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncState {
    /// Not begun.
    Initializing,
    /// Rows are being copied, or copying fails repeatedly.
    Copying,
    /// Copied.
    Copied,
    /// Caught up with the worker.
    Synchronized,
    /// Replicated by the worker.
    Ready,
}

impl SyncState {
    /// Its name in configurations and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initializing => "initializing",
            Self::Copying => "copying",
            Self::Copied => "copied",
            Self::Synchronized => "synchronized",
            Self::Ready => "ready",
        }
    }

    pub(super) fn from_catalog(state: i8) -> Self {
        match u8::try_from(state).unwrap_or_default() {
            b'i' => Self::Initializing,
            b'f' => Self::Copied,
            b's' => Self::Synchronized,
            b'r' => Self::Ready,
            _ => Self::Copying,
        }
    }
}

/// The state of the initial copy at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The tables, each with its state.
    pub tables: BTreeMap<QualifiedName, SyncState>,
    /// Those that a worker is copying at the moment.
    pub copying: BTreeSet<QualifiedName>,
    /// How many of their rows have been copied so far, if the role may see it.
    pub rows: BTreeMap<QualifiedName, i64>,
    /// Whether the subscription is enabled: an error may have disabled it.
    pub enabled: bool,
    /// Whether the worker that applies changes, and starts those that copy, runs at the moment.
    pub worker_runs: bool,
    /// How often copying has failed; absent before Postgres 15.
    pub sync_errors: Option<i64>,
}

impl fmt::Display for SyncState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Initializing => "not begun",
            Self::Copying => "copying",
            Self::Copied => "copied",
            Self::Synchronized => "synchronized",
            Self::Ready => "ready",
        })
    }
}

impl Progress {
    /// The tables that are not ready yet.
    pub fn left(&self) -> impl Iterator<Item = &QualifiedName> {
        self.tables.iter().filter(|(_, state)| **state != SyncState::Ready).map(|(table, _)| table)
    }
}

/// Reads the state of a subscription's initial copy.
///
/// # Errors
/// When a query fails.
pub async fn progress(subscriber: &Database, name: &Ident) -> Result<Progress> {
    let doing = format!("reading how far subscription {name} is");
    let (errors, stats) = if subscriber.version().await?.has(version::SUBSCRIPTION_STATS) {
        ("st.sync_error_count", "LEFT JOIN pg_stat_subscription_stats st ON st.subid = s.oid")
    } else {
        ("NULL::bigint", "")
    };
    // `pg_stat_subscription` covers the whole cluster, but the id of a subscription belongs to one database.
    let sql = format!(
        "SELECT s.subenabled, EXISTS (SELECT 1 FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL \
         AND w.pid IS NOT NULL), {errors}, n.nspname::text, c.relname::text, r.srsubstate, \
         w.relid IS NOT NULL, w.rows \
         FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid {stats} \
         LEFT JOIN (pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace) \
         ON r.srsubid = s.oid LEFT JOIN (SELECT w.subid, w.relid, max(p.tuples_processed) AS rows FROM pg_stat_subscription w \
         LEFT JOIN pg_stat_progress_copy p ON p.pid = w.pid WHERE w.relid IS NOT NULL AND w.pid IS NOT NULL \
         GROUP BY w.subid, w.relid) w ON w.subid = s.oid AND w.relid = r.srrelid WHERE d.datname = current_database() AND s.subname = $1"
    );
    let rows = subscriber.query(&doing, &sql, &[(&name.as_str(), Type::TEXT)]).await?;
    read_rows(&rows).map_err(|error| subscriber.error(&doing, Cause::Statement(error)))
}

fn read_rows(rows: &[Row]) -> RowResult<Progress> {
    let mut progress = Progress::default();
    for row in rows {
        progress.enabled = row.try_get(0)?;
        progress.worker_runs = row.try_get(1)?;
        progress.sync_errors = row.try_get(2)?;
        if let (Some(schema), Some(name)) = (row.try_get(3)?, row.try_get(4)?) {
            let table = QualifiedName::from_catalog(schema, name);
            if row.try_get(6)? {
                progress.copying.insert(table.clone());
            }
            if let Some(rows) = row.try_get(7)? {
                progress.rows.insert(table.clone(), rows);
            }
            progress.tables.insert(table, SyncState::from_catalog(row.try_get(5)?));
        }
    }
    Ok(progress)
}

/// Decides from several reads whether the initial copy fails repeatedly. Pure.
///
/// A table whose rows are being copied has a worker of its own, from the first row to the last. A table without a
/// worker has failed, and waits for the next try (`wal_retrieve_retry_interval`).
#[derive(Debug, Default)]
pub struct Watch {
    idle: BTreeMap<QualifiedName, u32>,
    without_worker: u32,
}

/// The result of these reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It makes progress, or it is too early to decide.
    GoesOn,
    /// Copying these tables fails.
    Fails(BTreeSet<QualifiedName>),
    /// The worker of the subscription does not run.
    NoWorker,
    /// Something has disabled the subscription.
    Disabled,
}

/// How many reads without a worker mean that a table has failed: fewer might fall between the end of a copy and its
/// record.
const IDLE_LOOKS: u32 = 3;

impl Watch {
    /// Adds a read. `patience` is the number of reads during which the subscription's own worker may be missing: it
    /// restarts after each change of the subscription, and after a failure with a delay.
    pub fn look(&mut self, progress: &Progress, patience: u32) -> Verdict {
        if !progress.enabled {
            return Verdict::Disabled;
        }
        let is_idle = |table: &&QualifiedName| {
            progress.tables.get(*table) == Some(&SyncState::Copying) && !progress.copying.contains(*table)
        };
        // It starts the workers that copy: without it, none can run.
        for table in progress.left().filter(|_| progress.worker_runs).filter(is_idle) {
            *self.idle.entry(table.clone()).or_default() += 1;
        }
        self.idle.retain(|table, _| progress.tables.get(table) == Some(&SyncState::Copying));
        self.without_worker = if progress.worker_runs { 0 } else { self.without_worker + 1 };
        let failing: BTreeSet<_> =
            self.idle.iter().filter(|(_, looks)| **looks >= IDLE_LOOKS).map(|(table, _)| table.clone()).collect();
        // If errors are counted and there are none, the workers were ended from outside.
        if !failing.is_empty() && progress.sync_errors != Some(0) {
            return Verdict::Fails(failing);
        }
        if self.without_worker >= patience { Verdict::NoWorker } else { Verdict::GoesOn }
    }

    /// How many reads have found this table without a worker.
    pub fn idle_looks(&self, table: &QualifiedName) -> u32 {
        self.idle.get(table).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(tables: &str, sync_errors: Option<i64>) -> Progress {
        let mut progress = Progress { enabled: true, worker_runs: true, sync_errors, ..Progress::default() };
        for text in tables.split_whitespace() {
            let (name, state) = text.split_once(':').unwrap();
            let table = QualifiedName::parse(name).unwrap();
            if state.ends_with('*') {
                progress.copying.insert(table.clone());
            }
            let state = SyncState::from_catalog(i8::try_from(state.as_bytes()[0]).unwrap());
            progress.tables.insert(table, state);
        }
        progress
    }

    fn last(looks: &[Progress]) -> Verdict {
        let mut watch = Watch::default();
        looks.iter().map(|progress| watch.look(progress, 5)).last().unwrap()
    }

    fn fails(table: &str) -> Verdict {
        Verdict::Fails(BTreeSet::from([QualifiedName::parse(table).unwrap()]))
    }

    #[test]
    fn a_table_that_a_worker_copies_gets_on_however_long_it_takes() {
        let looks: Vec<_> = (0..100).map(|_| progress("a:d* b:i c:r", Some(0))).collect();
        assert_eq!(last(&looks), Verdict::GoesOn);
    }

    #[test]
    fn a_table_without_its_worker_fails() {
        let looks = [progress("a:d", None), progress("a:d*", None), progress("a:d", None), progress("a:d b:i", None)];
        assert_eq!(last(&looks[..3]), Verdict::GoesOn);
        assert_eq!(last(&looks), fails("a"));
        let mended = [looks[0].clone(), looks[2].clone(), progress("a:f", None), progress("a:d", None)];
        assert_eq!(last(&mended), Verdict::GoesOn);
    }

    #[test]
    fn a_table_is_not_to_blame_while_the_worker_that_starts_its_copy_is_away() {
        let away = Progress { worker_runs: false, ..progress("a:d", Some(7)) };
        assert_eq!(last(&vec![away; 4]), Verdict::GoesOn);
    }

    #[test]
    fn errors_are_asked_for_where_they_are_counted() {
        let looks = |errors| [progress("a:d", errors), progress("a:d", errors), progress("a:d", errors)];
        assert_eq!(last(&looks(Some(0))), Verdict::GoesOn);
        assert_eq!(last(&looks(Some(1))), fails("a"));
    }

    #[test]
    fn a_worker_that_stays_away_and_a_disabled_subscription_are_told() {
        let away = Progress { worker_runs: false, ..progress("a:i", Some(0)) };
        assert_eq!(last(&vec![away.clone(); 4]), Verdict::GoesOn);
        assert_eq!(last(&vec![away.clone(); 5]), Verdict::NoWorker);
        assert_eq!(last(&[Progress { enabled: false, ..away }]), Verdict::Disabled);
    }
}
