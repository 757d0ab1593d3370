// SPDX-License-Identifier: MPL-2.0

//! The users of a publication. The publication does not know them: the slots of its server only know their database,
//! and the names of publications are in the commands of their readers, or in the subscriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use super::checks;
use super::error::Result;
use crate::postgres::publication::{self, Reader};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{self, Database, Ident, Limits, Pauses, Server, Waiter};

/// A reader on a publication's server that asks for that publication.
pub struct User {
    /// The slot that it reads from.
    pub(super) slot: Ident,
    reader: Reader,
    /// The subscription with its database, if it is on the provider's subscriber.
    subscription: Option<(Database, Subscription)>,
}

impl User {
    /// The subscription with its database, if it is on the provider's subscriber.
    pub fn subscription(&self) -> Option<&(Database, Subscription)> {
        self.subscription.as_ref()
    }

    /// The publications that it reads.
    pub(super) fn publications(&self) -> BTreeSet<Ident> {
        match &self.subscription {
            Some((_, subscription)) => subscription.publications.clone(),
            None => self.reader.asked_for.clone().unwrap_or_default(),
        }
    }

    /// The role that it logs in as, if known.
    pub(super) fn role(&self) -> Option<Ident> {
        let (_, subscription) = self.subscription.as_ref()?;
        checks::login(subscription).or_else(|| self.reader.role.clone())
    }

    /// Its description for messages.
    pub(super) fn describe(&self) -> String {
        match &self.subscription {
            Some((_, subscription)) => format!("subscription {}", subscription.name),
            None => format!("the reader of replication slot {}", self.slot),
        }
    }
}

/// All users in one line.
pub(super) fn describe(users: &[User]) -> String {
    users.iter().map(User::describe).collect::<Vec<_>>().join(", ")
}

/// How long to wait for a reader that asks for other publications than its subscription has: a worker restarts a moment
/// after each change of its subscription.
const FOLLOWS: Duration = Duration::from_secs(3);

/// How often to check meanwhile.
const POLL: Pauses = Pauses::of(Duration::from_millis(250));

/// The users of a publication, as far as its server and the subscriber show them.
///
/// # Errors
/// When a query fails.
pub async fn users(publisher: &Database, subscriber: Option<&Server>, name: &Ident) -> Result<Vec<User>> {
    let limits = Limits::within(FOLLOWS);
    let mut waiter = Waiter::new(&limits, POLL);
    loop {
        let (users, is_behind) = look(publisher, subscriber, name).await?;
        // A reader that does not follow belongs to another subscription with a slot of the same name.
        if !is_behind || waiter.after(Ok::<Option<()>, postgres::Error>(None)).await.is_err() {
            return Ok(users);
        }
    }
}

/// The current users of a publication, and whether a possible one asks for other publications than its
/// subscription has.
async fn look(publisher: &Database, subscriber: Option<&Server>, name: &Ident) -> Result<(Vec<User>, bool)> {
    let mut is_behind = false;
    let readers = publication::readers_now(publisher).await?;
    let mut subscriptions = subscriptions(publisher, subscriber, readers.keys().cloned().collect()).await;
    let user = |(slot, reader): (Ident, Reader)| {
        let asked_for = reader.asked_for.as_ref();
        let asks = asked_for.is_some_and(|names| names.contains(name));
        let named = subscriptions.remove(&slot);
        let is_its = |found: &(Database, Subscription)| asked_for.is_none_or(|names| *names == found.1.publications);
        is_behind |=
            named.as_ref().is_some_and(|found| !is_its(found) && (asks || found.1.publications.contains(name)));
        let subscription = named.filter(is_its);
        let names = subscription.as_ref().is_some_and(|(_, subscription)| subscription.publications.contains(name));
        (asks || names).then_some(User { slot, reader, subscription })
    };
    let users = readers.into_iter().filter_map(user).collect();
    Ok((users, is_behind))
}

/// The subscriptions in any database of the subscriber that read from these slots. Empty if it is unknown or cannot be
/// queried: then their readers are unknown too.
async fn subscriptions(
    publisher: &Database,
    subscriber: Option<&Server>,
    slots: BTreeSet<Ident>,
) -> BTreeMap<Ident, (Database, Subscription)> {
    let Some(subscriber) = subscriber.filter(|_| !slots.is_empty()) else { return BTreeMap::new() };
    let found =
        subscription::reading_from(&subscriber.database(None).like(publisher), &slots).await.unwrap_or_default();
    let reads = found.into_iter().map(async |(slot, (database, name))| {
        let database = subscriber.database(Some(&database)).like(publisher);
        let found = subscription::fetch_now(&database, &name).await.ok()??;
        Some((slot, (database, found)))
    });
    join_all(reads).await.into_iter().flatten().collect()
}
