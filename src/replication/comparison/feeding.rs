// SPDX-License-Identifier: MPL-2.0

//! The subscriptions that bring the rows of tables, and whether they have applied everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::postgres::subscription::{self, Subscription, SyncState};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::error::{Error, Result};
use crate::replication::operation::Operation;
use crate::replication::whereabouts;
use crate::replication::{Pair, draining};

/// The subscriptions to the publisher, and the tables that they bring.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    /// The slots that they read from, each with the subscription's name.
    slots: BTreeMap<Ident, Ident>,
    /// The tables, each with the reason against an exact comparison, if any.
    tables: BTreeMap<QualifiedName, Option<String>>,
}

/// Finds the subscriptions that bring these tables from the publisher.
///
/// # Errors
/// When a query fails.
pub(super) async fn feeds<'a>(
    operation: &Operation<'_>,
    pair: &Pair,
    tables: impl Iterator<Item = &'a QualifiedName>,
) -> Result<Feeds> {
    let wanted: BTreeSet<_> = tables.collect();
    let subscriber = pair.subscriber.within(operation.limits());
    let mut feeds = Feeds::default();
    let all = operation.unless_stopped(subscription::fetch_all(&subscriber)).await?;
    for found in all.values() {
        let tables = operation.unless_stopped(subscription::tables(&subscriber, &found.name)).await?;
        let brought: Vec<_> = tables.into_iter().filter(|(table, _)| wanted.contains(table)).collect();
        if brought.is_empty() {
            continue;
        }
        let doubt = operation.unless_stopped(async { Ok::<_, Error>(doubt(pair, found).await) }).await?;
        if let (None, Some(slot)) = (&doubt, found.slot_name()) {
            feeds.slots.insert(slot.clone(), found.name.clone());
        }
        for (table, state) in brought {
            let doubt = doubt.clone().or_else(|| not_ready(&found.name, state));
            feeds.add(table, doubt);
        }
    }
    Ok(feeds)
}

/// Why a subscription does not bring the publisher's writes.
async fn doubt(pair: &Pair, found: &Subscription) -> Option<String> {
    let name = &found.name;
    if !found.enabled || found.slot_name().is_none() {
        return Some(format!("Subscription {name} is disabled."));
    }
    let publisher = whereabouts::publisher_of(&pair.subscriber, Some(&pair.publisher), found).await;
    let is_ours = publisher.is_some_and(|found| {
        found.config().address() == pair.publisher.config().address() && found.name() == pair.publisher.name()
    });
    (!is_ours).then(|| format!("It is not known whether subscription {name} reads from this publisher."))
}

fn not_ready(name: &Ident, state: SyncState) -> Option<String> {
    (state != SyncState::Ready).then(|| format!("Subscription {name} has not copied the table yet."))
}

impl Feeds {
    /// One working subscription is enough.
    fn add(&mut self, table: QualifiedName, doubt: Option<String>) {
        let known = self.tables.entry(table).or_insert_with(|| doubt.clone());
        *known = known.take().and(doubt);
    }

    /// Why a table cannot be compared in the same state of both sides.
    pub(super) fn doubt(&self, table: &QualifiedName) -> Option<&str> {
        match self.tables.get(table) {
            Some(doubt) => doubt.as_deref(),
            None => Some("No subscription replicates the table."),
        }
    }

    /// Waits until everything written so far is applied and flushed, and returns the position, or what is late after
    /// this time. It never takes longer, because writers may be waiting.
    ///
    /// # Errors
    /// When a query fails, or a person asks to stop.
    pub(super) async fn drained(
        &self,
        operation: &Operation<'_>,
        pair: &Pair,
        time: Duration,
    ) -> Result<std::result::Result<String, String>> {
        draining::drained(operation, &pair.publisher, &self.slots, time).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_needs_one_subscription_that_is_well() {
        let table = |name: &str| QualifiedName::parse(name).unwrap();
        let mut feeds = Feeds::default();
        feeds.add(table("a"), Some("It is disabled.".to_owned()));
        feeds.add(table("a"), None);
        feeds.add(table("b"), None);
        feeds.add(table("b"), Some("It is disabled.".to_owned()));
        feeds.add(table("c"), Some("It is disabled.".to_owned()));
        let doubts = ["a", "b", "c", "d"].map(|name| feeds.doubt(&table(name)));
        assert_eq!(doubts, [None, None, Some("It is disabled."), Some("No subscription replicates the table.")]);
    }
}
