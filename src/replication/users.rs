// SPDX-License-Identifier: MPL-2.0

//! Who uses a publication. The publication does not know: the slots of its server only know their database, and the names of
//! publications are in the commands of their readers, or in the subscriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use super::checks;
use super::error::Result;
use crate::postgres::publication::{self, Reader};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{self, Database, Ident, Limits, Pauses, Server, Waiter};

/// Somebody who reads from a publication's server and asks for that publication.
pub struct User {
    /// The slot that it reads from.
    pub(super) slot: Ident,
    reader: Reader,
    /// The subscription with its database, where it is one of the provider's subscriber.
    subscription: Option<(Database, Subscription)>,
}

impl User {
    /// The subscription with its database, where it is one of the provider's subscriber.
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

    /// The role that it logs in as, where that is known.
    pub(super) fn role(&self) -> Option<Ident> {
        let (_, subscription) = self.subscription.as_ref()?;
        checks::login(subscription).or_else(|| self.reader.role.clone())
    }

    /// What it is called in messages.
    pub(super) fn describe(&self) -> String {
        match &self.subscription {
            Some((_, subscription)) => format!("subscription {}", subscription.name),
            None => format!("the reader of replication slot {}", self.slot),
        }
    }
}

/// All of them in one line.
pub(super) fn describe(users: &[User]) -> String {
    users.iter().map(User::describe).collect::<Vec<_>>().join(", ")
}

/// How long a reader is waited for that asks for others than its subscription names: a worker ends, and starts again, a
/// moment after each change of its subscription.
const FOLLOWS: Duration = Duration::from_secs(3);

/// How often it is looked at meanwhile.
const POLL: Pauses = Pauses::of(Duration::from_millis(250));

/// Who uses a publication, as far as its server and the subscriber show it.
///
/// # Errors
/// When the publisher cannot be asked.
pub async fn users(publisher: &Database, subscriber: Option<&Server>, name: &Ident) -> Result<Vec<User>> {
    let limits = Limits::within(FOLLOWS);
    let mut waiter = Waiter::new(&limits, POLL);
    loop {
        let (users, is_behind) = look(publisher, subscriber, name).await?;
        // One that does not follow is another one's reader, of a slot of the same name.
        if !is_behind || waiter.after(Ok::<Option<()>, postgres::Error>(None)).await.is_err() {
            return Ok(users);
        }
    }
}

/// Who uses a publication now, and whether one of those who may asks for others than its subscription names.
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

/// The subscriptions of the subscriber that read from these slots, in whichever of its databases. None where it is not
/// known or cannot be asked: their readers are strangers then.
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
