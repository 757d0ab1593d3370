// SPDX-License-Identifier: MPL-2.0

//! The progress and health of replication, from the views of both servers.

mod causes;
mod comparing;
mod evidence;
mod explaining;
mod judging;
mod reading;
mod trouble;
mod waiting;
mod watching;
mod way_back;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use self::judging::{Judged, Judgement, Judging};
use self::reading::Reading;
pub use self::trouble::{Known, Trouble, reasons, warning};
pub use self::waiting::{Until, wait_until};
pub use self::way_back::with_ways_back;
use super::error::Result;
use super::operation::Operation;
use crate::postgres::subscription::SyncState;
use crate::postgres::{Database, Ident, QualifiedName};

/// The status of one subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The subscription.
    pub name: Ident,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether a cutover has stopped it: everything was applied, and writes have moved to its subscriber.
    pub is_stopped_by_cutover: bool,
    /// Whether it is the way back of a cutover: it brings changes back to the old publisher.
    pub is_way_back: bool,
    /// Whether the worker that applies changes runs.
    pub worker_running: bool,
    /// Its publisher, as `host:port/database`; none if it is not known which server that is. Then no value here comes
    /// from a publisher.
    pub publisher: Option<String>,
    /// Its tables, in the order of their names.
    pub tables: Vec<TableStatus>,
    /// Published tables that it does not have: they are not replicated.
    pub unsubscribed_tables: Vec<QualifiedName>,
    /// Its tables that are not published any more: writes to them do not arrive.
    pub unpublished_tables: Vec<QualifiedName>,
    /// How much the publisher has written that the subscriber has not confirmed as flushed, in bytes of WAL; none if
    /// the publisher cannot be queried, or there is no slot.
    pub lag_bytes: Option<u64>,
    /// How long the subscriber has been behind, in seconds; 0 if it is not, none if unknown.
    pub lag_seconds: Option<f64>,
    /// The last WAL position that the worker has received, as Postgres prints it: `0/1A2B3C`.
    pub received_lsn: Option<String>,
    /// The last WAL position that was reported back to the publisher.
    pub latest_end_lsn: Option<String>,
    /// When the worker last received a message from the publisher.
    pub last_msg_receipt_time: Option<SystemTime>,
    /// How often applying a change has failed; none before Postgres 15.
    pub apply_error_count: Option<u64>,
    /// How often copying a table has failed; none before Postgres 15.
    pub sync_error_count: Option<u64>,
    /// How often rows conflicted with the subscriber's, by the kind of conflict, such as `insert_exists`; empty before
    /// Postgres 18.
    pub conflicts: BTreeMap<&'static str, u64>,
    /// Its slot on the publisher; none if there is none, or if it cannot be read.
    pub slot: Option<SlotStatus>,
    /// Why it is unhealthy, the most likely cause first. Empty if it is healthy.
    pub causes: Vec<Cause>,
    /// Differences between the tables of both sides that stop replication or will, one sentence each.
    pub schema_drift: Vec<Drift>,
}

/// The status of one table of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStatus {
    /// The table.
    pub name: QualifiedName,
    /// The state of its copy.
    pub state: SyncState,
    /// Whether a worker is copying it at the moment.
    pub is_copying: bool,
    /// How many rows this copy has copied so far; none if it does not run or the role may not see it.
    pub rows_copied: Option<u64>,
    /// About how many rows it has on the publisher; none if unknown.
    pub rows_estimate: Option<u64>,
    /// How many bytes this copy has copied so far; like `rows_copied`.
    pub bytes_copied: Option<u64>,
    /// Its size on the publisher's disk without indexes, in bytes; none if unknown.
    pub bytes: Option<u64>,
}

/// The slot of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStatus {
    /// Its name.
    pub name: Ident,
    /// Whether something reads from it.
    pub active: bool,
    /// `wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// The oldest WAL position that it keeps.
    pub restart_lsn: Option<String>,
    /// The position that the subscriber has confirmed as flushed.
    pub confirmed_flush_lsn: Option<String>,
    /// How much WAL can still be written before it may be lost, in bytes; none without a limit.
    pub safe_wal_size: Option<i64>,
}

/// A likely reason why a subscription is unhealthy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Its name in snake case, which is the same in all releases, such as `slot_lost`.
    pub kind: &'static str,
    /// The problem, in one sentence.
    pub message: String,
    /// The evidence: the values that were read, and where.
    pub evidence: String,
    /// The remedy: the exact statement with the server to run it on, or the step.
    pub remedy: String,
}

/// A difference between a table of the publisher and the subscriber's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// The table.
    pub table: QualifiedName,
    /// The difference, in one sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Which subscriptions to check.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The database of the subscriptions.
    pub subscriber: &'a Database,
    /// The configured server. It counts for subscriptions that are proven to read from it (see
    /// [`whereabouts`](super::whereabouts)); for others, their own connection is used if it may be read.
    pub publisher: Option<&'a Database>,
    /// Their names; none means all.
    pub names: Option<&'a BTreeSet<Ident>>,
}

/// The statuses of a database's subscriptions, by name.
///
/// This takes some seconds if a worker does not run, because a subscription that has just been started is not
/// unhealthy, and up to half a minute if no reason is found.
///
/// # Errors
/// When a query of the subscriber fails, one of the names does not exist, or the operation is over. An unreachable
/// publisher is not an error.
pub async fn statuses(operation: &Operation<'_>, question: &Question<'_>) -> Result<Vec<Status>> {
    Watcher::default().judge(operation, question).await
}

/// Statuses with the known causes.
fn judged(mut statuses: Vec<Status>, judgements: &BTreeMap<Ident, Judgement>) -> Vec<Status> {
    for status in &mut statuses {
        if let Some(judgement) = judgements.get(&status.name) {
            (status.causes, status.schema_drift) = (judgement.causes.clone(), judgement.drift.clone());
        }
    }
    statuses
}

/// Watches subscriptions by repeated looks. Each look is quick; their health follows from several looks.
#[derive(Default)]
pub struct Watcher {
    judging: Judging,
    told: BTreeMap<Ident, Judgement>,
}

impl Watcher {
    /// Looks once. The causes are those that were found last; empty before any are known.
    ///
    /// # Errors
    /// As [`statuses`].
    pub async fn look(&mut self, operation: &Operation<'_>, question: &Question<'_>) -> Result<Vec<Status>> {
        let looked = Box::pin(self.look_again(operation, question)).await;
        if looked.is_err() {
            // Looks from before an outage mean nothing.
            self.judging = Judging::default();
        }
        looked
    }

    async fn look_again(&mut self, operation: &Operation<'_>, question: &Question<'_>) -> Result<Vec<Status>> {
        let mut reading = Reading::begin(operation, question).await?;
        let seen = reading.see().await?;
        for name in self.judging.look(&reading, &seen).await? {
            let judgement = self.judging.judgement(&name).cloned();
            self.judging.forget(&name);
            self.told.extend(judgement.map(|judgement| (name, judgement)));
        }
        self.told.retain(|name, _| seen.contains_key(name));
        Ok(judged(reading.statuses(&seen), &self.told))
    }

    /// Looks until the health of each is known, as [`statuses`] does.
    ///
    /// # Errors
    /// As [`statuses`].
    pub async fn judge(&mut self, operation: &Operation<'_>, question: &Question<'_>) -> Result<Vec<Status>> {
        let mut reading = Reading::begin(operation, question).await?;
        let Judged { seen, judgements } = Judging::default().until_told(&mut reading).await?;
        self.told = judgements;
        Ok(judged(reading.statuses(&seen), &self.told))
    }
}

/// Logs their progress.
pub fn log(statuses: &[Status]) {
    for status in statuses {
        let (subscription, ready, tables) = (status.name.as_str(), status.tables_ready(), status.tables.len());
        tracing::debug!(subscription, ready, tables, lag_bytes = status.lag_bytes, "waiting for replication");
    }
}

/// One example of each cause, for a subscription `shop` with a table `orders`. The guide is generated from these.
pub fn examples() -> Vec<Cause> {
    causes::examples()
}

impl Status {
    /// Whether every published table is replicated and its worker runs, or a cutover has stopped it with everything
    /// applied.
    pub fn is_ready(&self) -> bool {
        self.is_stopped_by_cutover || self.runs_with_all()
    }

    fn runs_with_all(&self) -> bool {
        self.enabled
            && self.worker_running
            && self.unsubscribed_tables.is_empty()
            && !self.tables.is_empty()
            && self.tables_ready() == self.tables.len()
    }

    /// How many tables are ready.
    pub fn tables_ready(&self) -> usize {
        self.tables.iter().filter(|table| table.state == SyncState::Ready).count()
    }

    /// Whether no problem is known.
    pub fn is_well(&self) -> bool {
        self.causes.is_empty()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.message, &self.evidence, &self.remedy].map(String::as_str);
        f.write_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
    }
}
