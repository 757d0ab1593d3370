// SPDX-License-Identifier: MPL-2.0

//! How far replication is, and whether it is healthy, from the views of both servers.

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

/// How one subscription is.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The subscription.
    pub name: Ident,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether a cutover has stopped it: its publisher was left, with everything applied, and the writes go to its subscriber.
    pub is_stopped_by_cutover: bool,
    /// Whether it brings changes back to the publisher that a cutover has left.
    pub is_way_back: bool,
    /// Whether the worker that applies changes runs.
    pub worker_running: bool,
    /// Its publisher, as `host:port/database`; none where it is not known which server that is. Without it, nothing of
    /// this comes from a publisher.
    pub publisher: Option<String>,
    /// Its tables, in the order of their names.
    pub tables: Vec<TableStatus>,
    /// Tables that its publications publish and that it does not have: they are not replicated.
    pub unsubscribed_tables: Vec<QualifiedName>,
    /// Tables that it has and that its publications do not publish: what is written to them does not arrive.
    pub unpublished_tables: Vec<QualifiedName>,
    /// What the publisher has written and the subscriber has not confirmed as flushed, in bytes of WAL; none where the
    /// publisher cannot be asked, or there is no slot.
    pub lag_bytes: Option<u64>,
    /// For how long the subscriber has been behind, in seconds; 0 where it is not, and none where that is not known.
    pub lag_seconds: Option<f64>,
    /// The last WAL position that the worker has received, as Postgres prints it: `0/1A2B3C`.
    pub received_lsn: Option<String>,
    /// The last WAL position that was reported back to the publisher.
    pub latest_end_lsn: Option<String>,
    /// When the worker heard from the publisher last.
    pub last_msg_receipt_time: Option<SystemTime>,
    /// How often applying a change has failed; none before Postgres 15.
    pub apply_error_count: Option<u64>,
    /// How often copying a table has failed; none before Postgres 15.
    pub sync_error_count: Option<u64>,
    /// How often rows did not fit those of the subscriber, by the kind of conflict, such as `insert_exists`; empty before
    /// Postgres 18.
    pub conflicts: BTreeMap<&'static str, u64>,
    /// Its slot on the publisher; none where there is none, or it cannot be asked for.
    pub slot: Option<SlotStatus>,
    /// Why it is not well, the likeliest first. Empty where it is.
    pub causes: Vec<Cause>,
    /// Differences between the tables of both sides that stop replication or will, one sentence each.
    pub schema_drift: Vec<Drift>,
}

/// How one table of a subscription is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableStatus {
    /// The table.
    pub name: QualifiedName,
    /// How far its copy is.
    pub state: SyncState,
    /// Whether a worker is copying it at the moment.
    pub is_copying: bool,
    /// How many rows this copy has brought so far; none where it does not run or the role may not see it.
    pub rows_copied: Option<u64>,
    /// About how many rows it has on the publisher; none where that is not known.
    pub rows_estimate: Option<u64>,
    /// How many bytes this copy has brought so far; like `rows_copied`.
    pub bytes_copied: Option<u64>,
    /// What it takes on the publisher's disk without indexes, in bytes; none where that is not known.
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
    /// What the subscriber has confirmed as flushed.
    pub confirmed_flush_lsn: Option<String>,
    /// How much WAL can still be written before it may be lost, in bytes; none where there is no limit.
    pub safe_wal_size: Option<i64>,
}

/// A likely reason why a subscription is not well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// Which one it is: a name in snake case that stays the same from release to release, such as `slot_lost`.
    pub kind: &'static str,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What shows it: the values that were read, and where.
    pub evidence: String,
    /// What mends it: the exact statement with the server to run it on, or the step.
    pub remedy: String,
}

/// A difference between a table of the publisher and the subscriber's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drift {
    /// The table.
    pub table: QualifiedName,
    /// What differs, in a sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Whose subscriptions are asked about.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The database of the subscriptions.
    pub subscriber: &'a Database,
    /// The server that the caller is configured for. What it says counts for the subscriptions that are proven to read from
    /// it (see [`whereabouts`](super::whereabouts)); of the others their own connection is followed, where it may be read.
    pub publisher: Option<&'a Database>,
    /// Their names; none means all.
    pub names: Option<&'a BTreeSet<Ident>>,
}

/// How the subscriptions of a database are, in the order of their names.
///
/// This takes some seconds where a worker does not run, because one that has just been started is not ill, and up to
/// half a minute where no reason is found why it does not.
///
/// # Errors
/// When the subscriber cannot be asked, one of the names is not there, or the operation is over. A publisher that cannot
/// be asked is none.
pub async fn statuses(operation: &Operation<'_>, question: &Question<'_>) -> Result<Vec<Status>> {
    Watcher::default().judge(operation, question).await
}

/// Statuses with what is known of why they are not well.
fn judged(mut statuses: Vec<Status>, judgements: &BTreeMap<Ident, Judgement>) -> Vec<Status> {
    for status in &mut statuses {
        if let Some(judgement) = judgements.get(&status.name) {
            (status.causes, status.schema_drift) = (judgement.causes.clone(), judgement.drift.clone());
        }
    }
    statuses
}

/// Subscriptions that are looked at again and again, for whoever watches them. Each look is quick; whether they are well
/// follows from several.
#[derive(Default)]
pub struct Watcher {
    judging: Judging,
    told: BTreeMap<Ident, Judgement>,
}

impl Watcher {
    /// Looks once. Why a subscription is not well is what was found out last; nothing before it is known.
    ///
    /// # Errors
    /// As [`statuses`].
    pub async fn look(&mut self, operation: &Operation<'_>, question: &Question<'_>) -> Result<Vec<Status>> {
        let looked = Box::pin(self.look_again(operation, question)).await;
        if looked.is_err() {
            // What was seen before an outage tells nothing.
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

    /// Looks until it is known whether each is well, as [`statuses`] does.
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

/// Shows in the log how far they are.
pub fn log(statuses: &[Status]) {
    for status in statuses {
        let (subscription, ready, tables) = (status.name.as_str(), status.tables_ready(), status.tables.len());
        tracing::debug!(subscription, ready, tables, lag_bytes = status.lag_bytes, "waiting for replication");
    }
}

/// One of each cause, as they read for a subscription `shop` with a table `orders`: what the guide is made of.
pub fn examples() -> Vec<Cause> {
    causes::examples()
}

impl Status {
    /// Whether every published table is replicated and its worker runs; or there is nothing any more that it could bring.
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

    /// Whether nothing is wrong with it, as far as that can be told.
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
