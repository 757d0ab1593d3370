// SPDX-License-Identifier: MPL-2.0

//! Waits until subscriptions are ready, or have caught up with earlier writes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::judging::Judging;
use super::reading::{Heard, Reading, Seen};
use super::watching::Worker;
use super::{Cause, Question, Status};
use crate::postgres::{Database, Ident, slot};
use crate::replication::error::{Error, Result};
use crate::replication::operation::{Look, Operation};

/// The goal of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Every published table is replicated, and a worker runs.
    Ready,
    /// `Ready`, and everything written on the publisher before the wait began is applied and flushed.
    CaughtUp,
}

impl Until {
    /// Every choice.
    pub const ALL: [Self; 2] = [Self::Ready, Self::CaughtUp];

    /// Its name in configurations: `ready` or `caught_up`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::CaughtUp => "caught_up",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Ready => "become ready",
            Self::CaughtUp => "catch up",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// Waits for subscriptions of a database, which are found as by [`statuses`](super::statuses), and reports each look.
/// Also waits for unavailable servers.
///
/// A subscription has caught up once its slot has confirmed the position to which the publisher had written when the
/// wait began. A lag of 0 would mean less, because it only covers sent changes.
///
/// # Errors
/// When a subscription cannot reach the goal, for example after a lost slot or because of an error that stops it
/// repeatedly, with the causes; when the subscriber refuses a query, one of the names does not exist, the time is over,
/// or a person asks to stop.
pub async fn wait_until(
    operation: &Operation<'_>,
    question: &Question<'_>,
    until: Until,
    on_progress: &mut (dyn FnMut(&[Status]) + Send),
) -> Result<Vec<Status>> {
    let mut waiting = operation.waiting();
    let mut reading = loop {
        let begun = Reading::begin(operation, question).await;
        if let Some(reading) = waiting.after(begun.map(Look::There)).await? {
            break Reading { compares_all: false, ..reading };
        }
    };
    let mut wait = Wait::new(operation, until);
    let mut waiting = operation.waiting();
    loop {
        let look = wait.look(&mut reading, on_progress).await;
        if let Some(there) = waiting.after(look).await? {
            return Ok(there);
        }
    }
}

/// How many times in a row one must be found unhealthy: a new problem may be resolved by then.
const STRIKES: u32 = 2;

/// How long published tables may be missing from an otherwise ready subscription: a refresh may be about to follow.
const REFRESHES: Duration = Duration::from_secs(10);

/// The state of a wait.
struct Wait<'a> {
    operation: &'a Operation<'a>,
    until: Until,
    /// How far each publisher had written when the wait began.
    barriers: BTreeMap<String, String>,
    judging: Judging,
    strikes: BTreeMap<Ident, u32>,
    /// Since when a subscription only lacks published tables.
    lacking: BTreeMap<Ident, Instant>,
    /// The causes from the last look that found any.
    wrong: BTreeMap<Ident, Vec<Cause>>,
}

impl<'a> Wait<'a> {
    fn new(operation: &'a Operation<'a>, until: Until) -> Self {
        Self {
            operation,
            until,
            barriers: BTreeMap::new(),
            judging: Judging::default(),
            strikes: BTreeMap::new(),
            lacking: BTreeMap::new(),
            wrong: BTreeMap::new(),
        }
    }

    async fn look(
        &mut self,
        reading: &mut Reading<'_>,
        on_progress: &mut (dyn FnMut(&[Status]) + Send),
    ) -> Result<Look<Vec<Status>>> {
        let seen = match reading.see().await {
            Err(error) => {
                // Looks from before an outage, and while the workers restart, mean nothing.
                self.begin_again();
                return Err(error);
            }
            seen => seen?,
        };
        let mut statuses = reading.statuses(&seen);
        for status in &mut statuses {
            status.causes = self.wrong.get(&status.name).cloned().unwrap_or_default();
        }
        on_progress(&statuses);
        if let Some(Heard::Failed(outage)) = seen.values().map(|seen| &seen.publisher).find(|heard| heard.is_outage()) {
            self.begin_again();
            return Err(outage.clone().into());
        }
        let behind = match self.until {
            Until::Ready => BTreeSet::new(),
            Until::CaughtUp => self.behind(reading).await?,
        };
        let is_late = |status: &&Status| !status.is_ready() || behind.contains(&status.name);
        if !statuses.iter().any(|status| is_late(&status)) {
            return Ok(Look::There(statuses));
        }
        self.judge(reading, &seen, &statuses).await?;
        let mut late = self.operation.error(self.out_of_time());
        for status in statuses.iter().filter(is_late) {
            late = late.detail(missing(status, behind.contains(&status.name)));
            late = self.wrong.get(&status.name).into_iter().flatten().fold(late, told);
        }
        Ok(Look::NotYet(late))
    }

    fn begin_again(&mut self) {
        self.judging = Judging::default();
        self.strikes.clear();
    }

    /// Fails if a subscription cannot reach the goal.
    async fn judge(&mut self, reading: &Reading<'_>, seen: &BTreeMap<Ident, Seen>, statuses: &[Status]) -> Result<()> {
        for name in Box::pin(self.judging.look(reading, seen)).await? {
            let Some(judgement) = self.judging.judgement(&name).cloned() else { continue };
            self.judging.forget(&name);
            if statuses.iter().any(|status| status.name == name && status.is_ready()) {
                continue;
            }
            let (is_well, is_disabled) = (judgement.health().is_well(), judgement.health().worker == Worker::Disabled);
            let causes = judgement.causes;
            let is_lasting = causes.iter().any(|cause| LASTING.contains(&cause.kind));
            let heals = causes.iter().all(|cause| HEALING.contains(&cause.kind));
            let strikes = self.strikes.entry(name.clone()).or_default();
            *strikes = if is_well || heals { 0 } else { *strikes + 1 };
            if is_disabled || is_lasting || *strikes >= STRIKES {
                return Err(self.in_vain(&name, is_disabled, &causes));
            }
            self.wrong.insert(name, causes);
        }
        self.refuse_lacking(statuses)
    }

    fn in_vain(&self, name: &Ident, is_disabled: bool, causes: &[Cause]) -> Error {
        let what = match (is_disabled, causes.first()) {
            (true, _) => "it is disabled".to_owned(),
            (false, Some(cause)) => cause.message.trim_end_matches('.').to_owned(),
            (false, None) => "it is not well".to_owned(),
        };
        let error = self.operation.error(format!("subscription {name} cannot {}: {what}", self.until.in_words()));
        let error = causes.iter().fold(error, told);
        if !is_disabled {
            return error;
        }
        error.detail(format!("On the subscriber, as the owner of the subscription: ALTER SUBSCRIPTION {name} ENABLE;"))
    }

    /// Tables that were published later only join with a refresh.
    fn refuse_lacking(&mut self, statuses: &[Status]) -> Result<()> {
        for status in statuses {
            let lacks = status.worker_running && status.tables_ready() == status.tables.len() && !status.is_ready();
            if !lacks {
                self.lacking.remove(&status.name);
                continue;
            }
            let since = *self.lacking.entry(status.name.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= REFRESHES {
                let name = &status.name;
                let error =
                    self.operation.error(format!("subscription {name} does not have every table that is published"));
                return Err(error.detail(missing(status, false)).detail(format!(
                    "On the subscriber, as the owner of the subscription: ALTER SUBSCRIPTION {name} REFRESH PUBLICATION;"
                )));
            }
        }
        Ok(())
    }

    fn out_of_time(&self) -> &'static str {
        match self.until {
            Until::Ready => "not everything was ready in time",
            Until::CaughtUp => "not everything caught up in time",
        }
    }

    /// The subscriptions that have not confirmed the earlier writes.
    async fn behind(&mut self, reading: &Reading<'_>) -> Result<BTreeSet<Ident>> {
        let mut behind = BTreeSet::new();
        for followed in reading.followed.iter().filter(|followed| !followed.is_stopped) {
            let name = &followed.subscription.name;
            let Some(publisher) = &followed.publisher else {
                let error = self
                    .operation
                    .error(format!("it is not known which server the publisher of subscription {name} is"));
                return Err(error.detail(UNKNOWN_PUBLISHER));
            };
            let lsn = self.barrier(publisher).await?;
            let Some(slot) = followed.subscription.slot_name() else {
                behind.insert(name.clone());
                continue;
            };
            if self.operation.unless_stopped(slot::has_confirmed(publisher, slot, &lsn)).await? != Some(true) {
                behind.insert(name.clone());
            }
        }
        Ok(behind)
    }

    async fn barrier(&mut self, publisher: &Database) -> Result<String> {
        let key = format!("{publisher:?}");
        if let Some(lsn) = self.barriers.get(&key) {
            return Ok(lsn.clone());
        }
        let barrier = self.operation.unless_stopped(slot::barrier(publisher, self.operation.limits())).await?;
        if let Some(cause) = barrier.unmarked {
            let warning = self.operation.error("no marker could be written into the publisher's WAL");
            self.operation.warn(warning.detail(cause.to_string()).detail(UNMARKED));
        }
        self.barriers.insert(key, barrier.lsn.clone());
        Ok(barrier.lsn)
    }
}

const UNKNOWN_PUBLISHER: &str = "Whether the subscription has caught up can only be read from its slot there. Use a \
    provider whose publisher is the one it reads from, and a role that can read the connection of the subscription, \
    or wait until its worker runs.";

const UNMARKED: &str = "The wait goes on without one. On an idle server it may take 15 seconds longer.";

/// Causes that only a person can resolve, however long the wait.
const LASTING: [&str; 3] = ["slot_lost", "slot_missing", "disabled_by_error"];

/// Causes that may go away by themselves.
const HEALING: [&str; 7] = [
    "blocked",
    "publisher_unreachable",
    "worker_away",
    "worker_fails",
    "conflicts",
    "no_free_worker",
    "no_free_process",
];

/// Adds a cause to an error.
fn told(error: Error, cause: &Cause) -> Error {
    error.detail(cause.to_string())
}

/// The text about what a subscription still lacks.
fn missing(status: &Status, is_behind: bool) -> String {
    let mut parts = Vec::new();
    let (ready, all) = (status.tables_ready(), status.tables.len());
    if !status.enabled {
        parts.push("it is disabled".to_owned());
    } else if !status.worker_running {
        parts.push("its worker does not run".to_owned());
    }
    if all == 0 {
        parts.push("it has no tables".to_owned());
    } else if ready < all {
        let are = if all == 1 { "is" } else { "are" };
        parts.push(format!("{ready} of {} {are} ready", crate::replication::units::counted(all, "table")));
    }
    if !status.unsubscribed_tables.is_empty() {
        let tables = status.unsubscribed_tables.iter().map(crate::postgres::QualifiedName::to_text);
        parts.push(format!("it lacks published tables: {}", crate::replication::names::list(tables)));
    }
    if is_behind {
        let lag =
            status.lag_bytes.map(|bytes| format!(" ({})", crate::replication::units::bytes(bytes))).unwrap_or_default();
        parts.push(format!("it has not confirmed what was written before{lag}"));
    }
    format!("Subscription {}: {}.", status.name, parts.join(", "))
}
