//! A publication that subscriptions use: dropping it is refused, and renaming it takes a way around.
//!
//! Both would stop its subscriptions at the next change: for good before Postgres 18, and with lost changes since. A core
//! drops a publication before it changes a subscription that used it, so that it is for us to see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::missed;
use super::model::{Model, desired};
use crate::config::Context;
use crate::postgres::publication::{self, Publication as Desired};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Database, Ident, Limits};
use crate::resources::catch_up::{catch_up, pause};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// How long a subscription may take to let go: its worker ends, and starts again, a moment after each change of it.
const LET_GO: Duration = Duration::from_secs(10);

/// Somebody who reads from a publication's server and asks for that publication.
pub(super) struct User {
    slot: Ident,
    /// The subscription with its database, where it is one of the provider's subscriber.
    subscription: Option<(Database, Subscription)>,
}

impl User {
    /// The subscription with its database, where it is one of the provider's subscriber.
    pub(super) fn subscription(&self) -> Option<&(Database, Subscription)> {
        self.subscription.as_ref()
    }

    fn describe(&self) -> String {
        match &self.subscription {
            Some((_, subscription)) => format!("subscription {}", subscription.name),
            None => format!("the reader of replication slot {}", self.slot),
        }
    }
}

fn describe(users: &[User]) -> String {
    users.iter().map(User::describe).collect::<Vec<_>>().join(", ")
}

/// Who uses a publication, as far as its server and the provider's subscriber show it.
pub(super) async fn users(call: &Call<Context>, publisher: &Database, name: &Ident) -> Result<Vec<User>> {
    if publication::readers(publisher).await?.is_empty() {
        return Ok(Vec::new());
    }
    let readers = publication::readers_now(publisher).await?;
    let mut subscriptions = subscriptions(call, readers.keys().cloned().collect()).await;
    let user = |(slot, asked_for): (Ident, Option<BTreeSet<Ident>>)| {
        // One that asks for others than it names is another one's reader, of a slot of the same name.
        let is_its =
            |found: &(Database, Subscription)| asked_for.as_ref().is_none_or(|names| *names == found.1.publications);
        let subscription = subscriptions.remove(&slot).filter(is_its);
        let asks = asked_for.is_some_and(|names| names.contains(name));
        let names = subscription.as_ref().is_some_and(|(_, subscription)| subscription.publications.contains(name));
        (asks || names).then_some(User { slot, subscription })
    };
    Ok(readers.into_iter().filter_map(user).collect())
}

/// The subscriptions of the provider's subscriber that read from these slots, in whichever of its databases. None where
/// it is not configured or cannot be asked: their readers are strangers then.
async fn subscriptions(call: &Call<Context>, slots: BTreeSet<Ident>) -> BTreeMap<Ident, (Database, Subscription)> {
    let Ok(subscriber) = call.context().subscriber().database(None) else { return BTreeMap::new() };
    let found = subscription::reading_from(&subscriber, &slots).await.unwrap_or_default();
    let reads = found.into_iter().map(async |(slot, (database, name))| {
        let database = call.context().subscriber().database(Some(&database)).ok()?;
        let found = subscription::fetch_now(&database, &name).await.ok()??;
        Some((slot, (database, found)))
    });
    join_all(reads).await.into_iter().flatten().collect()
}

/// Fails while somebody uses the publication. Those who are about to let go are waited for.
pub(super) async fn refuse_to_drop(
    call: &Call<Context>,
    publisher: &Database,
    name: &Ident,
    doing: &str,
) -> Result<()> {
    let limits = Limits { deadline: Some(Instant::now() + LET_GO), ..Limits::default() };
    loop {
        let users = call.unless_stopped(users(call, publisher, name)).await?;
        if users.is_empty() {
            return Ok(());
        }
        let used = || {
            Error::new(format!("{doing}: it is in use by {}", describe(&users)))
                .detail(
                    "Nothing was changed. Without its publication a subscription stops at the next change: for good before \
                     Postgres 18, and with lost changes since.",
                )
                .detail(
                    "Take it out of the subscription's publications, or destroy the subscription, and apply that first. To do both in \
                     one apply, set lifecycle { create_before_destroy = true } on this publication: then a core changes the \
                     subscription before it drops this. With force_destroy = true, applied first, it is dropped all the same.",
                )
        };
        pause(call, &limits, used).await?;
    }
}

/// Says in the plan what the change means to those who use the publication.
///
/// # Errors
/// When the publisher cannot be asked who does.
pub(super) async fn announce(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    publisher: &Database,
    new: &Desired,
) -> Result<()> {
    let Some(Ok(old)) = change.prior().map(desired) else { return Ok(()) };
    let (renames, republishes) = (old.name != new.name, old.target != new.target);
    if change.replaces() || !(renames || republishes) {
        return Ok(());
    }
    let users = users(call, publisher, &old.name).await?;
    if renames && !users.is_empty() {
        announce_rename(change, &old.name, &new.name, &users);
    }
    if republishes {
        missed::announce(change, publisher, &users, &new.target).await;
    }
    Ok(())
}

/// Says what a renaming takes, and refuses it where it would stop somebody.
fn announce_rename(change: &mut PlannedChange<Model>, old: &Ident, new: &Ident, users: &[User]) {
    match check_users(&format!("renaming publication {old} to {new}"), users) {
        Ok(()) => change.warn(
            Error::new(format!("publication {old} becomes {new} under {}", describe(users)))
                .detail(
                    "It is made under its new name beside the old one, the subscription is given the new name once it has applied all \
                     that is older, and then the old one is dropped: nothing is lost.",
                )
                .attribute("name"),
        ),
        Err(error) => change.error(error.attribute("name")),
    }
}

/// Only subscriptions that run, and that are the provider's own, can be led from one name to the other.
fn check_users(doing: &str, users: &[User]) -> Result<()> {
    let runs = |user: &&User| user.subscription.as_ref().is_some_and(|(_, subscription)| subscription.enabled);
    let stays = users.iter().find(|user| !runs(user));
    let Some(user) = stays else { return Ok(()) };
    let why = match &user.subscription {
        Some(_) => "It is disabled, and cannot apply what is older. Enable it first.",
        None => "It is no subscription of the provider's subscriber, so that it cannot be given the new name.",
    };
    Err(Error::new(format!("{doing}: {} would stop at the next change", user.describe())).detail(why).detail(
        "Or make a second publication of the new name, subscribe to both, then to the new one alone, and drop the old one.",
    ))
}

/// Renames a publication that is in use: the new one is made beside it, each subscription changes over once it has applied
/// all that is older, and the old one is dropped. Cut off, it is gone on with by the next apply. Returns the new one.
pub(super) async fn rename(
    call: &Call<Context>,
    publisher: &Database,
    old: &Desired,
    new: &Ident,
    users: &[User],
    limits: &Limits,
) -> Result<Desired> {
    let doing = format!("renaming publication {} to {new}", old.name);
    check_users(&doing, users)?;
    let copy = Desired { name: new.clone(), ..old.clone() };
    make_beside(publisher, &copy, &doing, limits).await?;
    for user in users {
        catch_up(call, publisher, &user.slot, &doing, true, limits).await?;
        let Some((subscriber, subscription)) = &user.subscription else { continue };
        let mut publications = subscription.publications.clone();
        publications.remove(&old.name);
        publications.insert(new.clone());
        let statement = subscription::rename_publications(&subscription.name, &publications);
        subscriber.run_within(&doing, &[statement], limits).await?;
    }
    let late = || {
        Error::new(format!("{doing}: its subscriptions still read under the old name"))
            .detail("Both publications are there, and nothing is lost. Apply again to go on.")
    };
    while !call.unless_stopped(self::users(call, publisher, &old.name)).await?.is_empty() {
        pause(call, limits, late).await?;
    }
    publication::drop(publisher, &doing, &old.name, limits).await?;
    Ok(copy)
}

/// Makes the publication of the new name, unless a renaming that was cut off has made it already.
async fn make_beside(publisher: &Database, copy: &Desired, doing: &str, limits: &Limits) -> Result<()> {
    match publication::fetch_now(publisher, &copy.name).await? {
        Some(found) if found == *copy => Ok(()),
        Some(_) => Err(Error::new(format!("{doing}: there is another publication of that name")).attribute("name")),
        None => {
            let version = publisher.version().await?;
            let statements =
                publication::diff(None, Some(copy), version).map_err(|error| publisher.unsupported(doing, error))?;
            publication::apply(publisher, doing, &statements, &copy.name, limits).await?;
            Ok(())
        }
    }
}
