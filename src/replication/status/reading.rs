// SPDX-License-Identifier: MPL-2.0

//! Reads the state of subscriptions: their activity on the subscriber, and the positions of their slots on the
//! publisher.

use std::collections::{BTreeMap, BTreeSet};

use super::{Question, SlotStatus, Status, TableStatus};
use crate::postgres::catalog::{self, TableSize};
use crate::postgres::slot::{self, Position};
use crate::postgres::subscription::{self, Activity, Subscription, TableActivity};
use crate::postgres::{self, Database, Ident, Outage as _, QualifiedName, publication};
use crate::replication::error::Result;
use crate::replication::operation::Operation;
use crate::replication::whereabouts;
use crate::replication::{absent, cutover, names};
use futures_util::future::join_all;

/// The observed subscriptions, each with its publisher.
pub(super) struct Reading<'a> {
    pub(super) operation: &'a Operation<'a>,
    pub(super) subscriber: &'a Database,
    pub(super) followed: Vec<Followed>,
    /// Whether to compare the tables of healthy subscriptions too: they may have differences that have not mattered
    /// yet.
    pub(super) compares_all: bool,
}

/// A subscription with its publisher, if it is known which server that is.
pub(super) struct Followed {
    pub(super) subscription: Subscription,
    pub(super) publisher: Option<Database>,
    /// Whether a cutover has stopped it.
    pub(super) is_stopped: bool,
    sizes: BTreeMap<QualifiedName, TableSize>,
}

/// The result of one look at a subscription.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The activity on the subscriber.
    pub(super) activity: Activity,
    /// The publisher's answer.
    pub(super) publisher: Heard,
}

/// The answer of a publisher.
#[derive(Debug, Clone, Default)]
pub(super) enum Heard {
    /// It is not known which server it is.
    #[default]
    Nothing,
    /// The query failed.
    Failed(postgres::Error),
    /// It has answered.
    Facts(Box<Facts>),
}

impl Heard {
    /// Whether the publisher is temporarily unavailable.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_outage())
    }
}

/// The facts from a publisher.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// The slot with the subscription's slot name; none if the cluster has none.
    pub(super) slot: Option<Position>,
    /// The published tables.
    pub(super) published: BTreeSet<QualifiedName>,
}

impl<'a> Reading<'a> {
    /// A reading of one subscription, whose publisher may be unknown.
    pub(super) fn of(operation: &'a Operation<'a>, subscriber: &'a Database, followed: Followed) -> Self {
        Self { operation, subscriber, followed: vec![followed], compares_all: false }
    }

    /// Finds the subscriptions and their publishers.
    ///
    /// # Errors
    /// When a query fails, or one of the names does not exist.
    pub(super) async fn begin(operation: &'a Operation<'a>, question: &Question<'a>) -> Result<Self> {
        let Question { subscriber, publisher, names } = *question;
        let all = operation.unless_stopped(subscription::fetch_all_now(subscriber)).await?;
        if let Some(missing) = names.and_then(|names| names.iter().find(|name| !all.contains_key(*name))) {
            return Err(no_such(operation, subscriber, missing, all.keys()));
        }
        let wanted = all.values().filter(|found| names.is_none_or(|names| names.contains(&found.name)));
        let follow = join_all(wanted.map(|found| Followed::find(subscriber, publisher, found.clone())));
        let followed = operation.unless_stopped(async { Ok::<_, postgres::Error>(follow.await) }).await?;
        Ok(Self { operation, subscriber, followed, compares_all: true })
    }

    /// The statuses from a look.
    pub(super) fn statuses(&self, seen: &BTreeMap<Ident, Seen>) -> Vec<Status> {
        self.followed.iter().filter_map(|one| Some(one.status(seen.get(&one.subscription.name)?))).collect()
    }

    /// Reads both sides. Omits a subscription that no longer exists.
    ///
    /// # Errors
    /// When a query fails.
    pub(super) async fn see(&mut self) -> Result<BTreeMap<Ident, Seen>> {
        let names = self.followed.iter().map(|one| one.subscription.name.clone()).collect();
        let activities = subscription::activity(self.subscriber, Some(&names));
        let mut activities = self.operation.unless_stopped(activities).await?;
        let subscriber = self.subscriber;
        let hear = join_all(self.followed.iter_mut().map(|one| {
            let activity = activities.remove(&one.subscription.name);
            async move {
                let activity = activity?;
                let publisher = one.hear(subscriber, &activity).await;
                Some((one.subscription.name.clone(), Seen { activity, publisher }))
            }
        }));
        let seen = self.operation.unless_stopped(async { Ok::<_, postgres::Error>(hear.await) }).await?;
        Ok(seen.into_iter().flatten().collect())
    }
}

fn no_such<'n>(
    operation: &Operation<'_>,
    subscriber: &Database,
    missing: &Ident,
    there: impl Iterator<Item = &'n Ident>,
) -> crate::replication::Error {
    let error = absent::subscription(operation, subscriber, missing);
    let there = names::list(there.map(ToString::to_string));
    error.detail(if there.is_empty() { "It has none.".to_owned() } else { format!("It has {there}.") })
}

impl Followed {
    async fn find(subscriber: &Database, publisher: Option<&Database>, subscription: Subscription) -> Self {
        let publisher = whereabouts::publisher_of(subscriber, publisher, &subscription).await;
        let is_stopped = !subscription.enabled && is_stopped(subscriber, &subscription.name).await;
        Self { is_stopped, ..Self::new(subscription, publisher) }
    }

    /// A subscription with its publisher, as the caller knows them.
    pub(super) fn new(subscription: Subscription, publisher: Option<Database>) -> Self {
        Self { subscription, publisher, is_stopped: false, sizes: BTreeMap::new() }
    }

    async fn hear(&mut self, subscriber: &Database, activity: &Activity) -> Heard {
        let Some(publisher) = &self.publisher else { return Heard::Nothing };
        let slot: BTreeSet<_> = self.subscription.slot_name().cloned().into_iter().collect();
        let heard = async {
            let slot = slot::positions(publisher, &slot).await?.into_values().next();
            let version = publisher.version().await?.min(subscriber.version().await?);
            let published = publication::published_tables(publisher, &self.subscription.publications, version).await?;
            Ok(Facts { slot, published })
        };
        let heard = heard.await;
        if heard.is_ok() {
            self.measure(activity).await;
        }
        heard.map_or_else(Heard::Failed, |facts| Heard::Facts(Box::new(facts)))
    }

    /// Reads the sizes of new tables. These are estimates, so known ones are not read again.
    async fn measure(&mut self, activity: &Activity) {
        let new = activity.tables.keys().filter(|table| !self.sizes.contains_key(*table)).cloned().collect();
        let Some(publisher) = self.publisher.as_ref().filter(|_| !BTreeSet::is_empty(&new)) else { return };
        match catalog::sizes(publisher, &new).await {
            Ok(sizes) => self.sizes.extend(sizes),
            Err(cause) => tracing::info!(%cause, "the size of the tables is not known"),
        }
    }

    fn status(&self, seen: &Seen) -> Status {
        let Seen { activity, publisher } = seen;
        let facts = match publisher {
            Heard::Facts(facts) => Some(facts.as_ref()),
            Heard::Nothing | Heard::Failed(_) => None,
        };
        let slot = facts.and_then(|facts| facts.slot.as_ref());
        let lag_bytes = slot.and_then(|slot| slot.lag);
        let worker = activity.worker.as_ref();
        let is_unsubscribed = |table: &&QualifiedName| !activity.tables.contains_key(*table);
        Status {
            name: self.subscription.name.clone(),
            enabled: activity.enabled,
            is_stopped_by_cutover: self.is_stopped && !activity.enabled,
            is_way_back: cutover::is_way_back(&self.subscription.name),
            worker_running: worker.is_some(),
            publisher: self.publisher.as_ref().map(|publisher| format!("{publisher:?}")),
            tables: activity.tables.iter().map(|(name, table)| self.table(name, table)).collect(),
            unsubscribed_tables: facts
                .map(|facts| facts.published.iter().filter(is_unsubscribed).cloned().collect())
                .unwrap_or_default(),
            unpublished_tables: facts
                .map(|facts| {
                    activity.tables.keys().filter(|table| !facts.published.contains(*table)).cloned().collect()
                })
                .unwrap_or_default(),
            lag_bytes,
            lag_seconds: lag_seconds(lag_bytes, worker.and_then(|worker| worker.latest_end_age)),
            received_lsn: worker.and_then(|worker| worker.received.clone()),
            latest_end_lsn: worker.and_then(|worker| worker.latest_end.clone()),
            last_msg_receipt_time: worker.and_then(|worker| worker.last_message),
            apply_error_count: activity.apply_errors,
            sync_error_count: activity.sync_errors,
            conflicts: activity.conflicts.clone(),
            slot: slot.zip(self.subscription.slot_name()).map(|(slot, name)| slot_status(name, slot)),
            causes: Vec::new(),
            schema_drift: Vec::new(),
        }
    }

    fn table(&self, name: &QualifiedName, table: &TableActivity) -> TableStatus {
        let size = self.sizes.get(name);
        TableStatus {
            name: name.clone(),
            state: table.state,
            is_copying: table.copier.is_some(),
            rows_copied: table.rows,
            rows_estimate: size.and_then(|size| size.rows),
            bytes_copied: table.bytes,
            bytes: size.map(|size| size.bytes),
        }
    }
}

/// Whether a cutover has stopped it, as far as known.
async fn is_stopped(subscriber: &Database, name: &Ident) -> bool {
    let stopped = Box::pin(cutover::stopped(subscriber, name)).await;
    stopped.is_ok_and(|stopped| stopped.is_some_and(|stopped| stopped.is_disabled))
}

/// An idle pair reports nothing newer for any time, so the age alone means nothing.
fn lag_seconds(lag_bytes: Option<u64>, age: Option<f64>) -> Option<f64> {
    match lag_bytes? {
        0 => Some(0.0),
        _ => age.map(|age| age.max(0.0)),
    }
}

fn slot_status(name: &Ident, slot: &Position) -> SlotStatus {
    SlotStatus {
        name: name.clone(),
        active: slot.active,
        wal_status: slot.wal_status.clone(),
        restart_lsn: slot.restart_lsn.clone(),
        confirmed_flush_lsn: slot.confirmed.clone(),
        safe_wal_size: slot.safe_wal_size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_behind_is_not_late() {
        assert_eq!(lag_seconds(Some(0), Some(3600.0)), Some(0.0));
        assert_eq!(lag_seconds(Some(8), Some(2.5)), Some(2.5));
        assert_eq!(lag_seconds(Some(8), None), None);
        assert_eq!(lag_seconds(None, Some(2.5)), None);
    }
}
