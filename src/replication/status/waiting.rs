//! Waiting until subscriptions are ready, or have caught up with what was written before.

use std::collections::{BTreeMap, BTreeSet};

use super::Status;
use super::reading::{Heard, Reading};
use crate::postgres::{Database, Ident, slot};
use crate::replication::error::{Error, Result};
use crate::replication::operation::{Look, Operation};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Every published table is replicated, and a worker runs.
    Ready,
    /// That, and all that was written on the publisher before the wait began is applied and flushed.
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

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// Waits for subscriptions of a database, which are found as by [`statuses`](super::statuses), and tells of each look. Servers
/// that are away are waited for.
///
/// What has caught up is known by a position: the one that the publisher has written to when the wait begins, once each
/// slot has confirmed that it was flushed. A lag of nothing would say less: it knows only of what was sent.
///
/// # Errors
/// When the subscriber refuses to be asked, one of the names is not there, the time is over, or a person asks to stop.
pub async fn wait_until(
    operation: &Operation<'_>,
    subscriber: &Database,
    publisher: Option<&Database>,
    names: Option<&BTreeSet<Ident>>,
    until: Until,
    on_progress: &mut (dyn FnMut(&[Status]) + Send),
) -> Result<Vec<Status>> {
    let mut waiting = operation.waiting();
    let mut reading = loop {
        let begun = Reading::begin(operation, subscriber, publisher, names).await;
        if let Some(reading) = waiting.after(begun.map(Look::There)).await? {
            break reading;
        }
    };
    let mut wait = Wait { operation, until, barriers: BTreeMap::new() };
    let mut waiting = operation.waiting();
    loop {
        let look = wait.look(&mut reading, on_progress).await;
        if let Some(there) = waiting.after(look).await? {
            return Ok(there);
        }
    }
}

/// What a wait has found out so far.
struct Wait<'a> {
    operation: &'a Operation<'a>,
    until: Until,
    /// Where each publisher had written to when the wait began.
    barriers: BTreeMap<String, String>,
}

impl Wait<'_> {
    async fn look(
        &mut self,
        reading: &mut Reading<'_>,
        on_progress: &mut (dyn FnMut(&[Status]) + Send),
    ) -> Result<Look<Vec<Status>>> {
        let seen = reading.see().await?;
        let statuses = reading.statuses(&seen);
        on_progress(&statuses);
        if let Some(Heard::Failed(outage)) = seen.values().map(|seen| &seen.publisher).find(|heard| heard.is_outage()) {
            return Err(outage.clone().into());
        }
        let behind = match self.until {
            Until::Ready => BTreeSet::new(),
            Until::CaughtUp => self.behind(reading).await?,
        };
        let late = statuses.iter().filter(|status| !status.is_ready() || behind.contains(&status.name));
        let late: Vec<_> = late.map(|status| missing(status, behind.contains(&status.name))).collect();
        if late.is_empty() {
            return Ok(Look::There(statuses));
        }
        Ok(Look::NotYet(late.into_iter().fold(self.operation.error(self.out_of_time()), Error::detail)))
    }

    fn out_of_time(&self) -> &'static str {
        match self.until {
            Until::Ready => "not everything is ready in time",
            Until::CaughtUp => "not everything has caught up in time",
        }
    }

    /// The subscriptions that have not confirmed what was written before.
    async fn behind(&mut self, reading: &Reading<'_>) -> Result<BTreeSet<Ident>> {
        let mut behind = BTreeSet::new();
        for followed in &reading.followed {
            let name = &followed.subscription.name;
            let Some(publisher) = &followed.publisher else {
                let error = self
                    .operation
                    .error(format!("which server the publisher of subscription {name} is cannot be told"));
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

const UNKNOWN_PUBLISHER: &str = "Whether it has caught up is asked of its slot there. Run it with the publisher that it reads \
    from, as a role that can read the connection of the subscription, or while its worker runs.";

const UNMARKED: &str =
    "The wait goes on without one. On a server where nobody writes it may take a quarter of a minute longer.";

/// What a subscription is still waited for.
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
        parts.push(format!("{ready} of {all} tables are ready"));
    }
    if !status.unsubscribed_tables.is_empty() {
        let tables = status.unsubscribed_tables.iter().map(crate::postgres::QualifiedName::to_text);
        parts.push(format!("it does not have published tables: {}", crate::replication::names::list(tables)));
    }
    if is_behind {
        let lag = status.lag_bytes.map(|bytes| format!(" ({bytes} bytes)")).unwrap_or_default();
        parts.push(format!("it has not confirmed what was written before{lag}"));
    }
    format!("Subscription {}: {}.", status.name, parts.join(", "))
}
