//! A publication that subscriptions use: dropping it is refused, and renaming it takes a way around.
//!
//! Both would stop its subscriptions at the next change: for good before Postgres 18, and with lost changes since. A core
//! drops a publication before it changes a subscription that used it, so that it is for us to see.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use super::catch_up::catch_up;
use super::checks::Finding;
use super::error::{Error, Result};
use super::missed;
use super::operation::{Look, Operation};
use crate::postgres::publication::{self, Publication};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Database, Ident, Server};

/// How long a subscription may take to let go: its worker ends, and starts again, a moment after each change of it.
const LET_GO: Duration = Duration::from_secs(10);

/// Somebody who reads from a publication's server and asks for that publication.
pub struct User {
    slot: Ident,
    /// The subscription with its database, where it is one of the provider's subscriber.
    subscription: Option<(Database, Subscription)>,
}

impl User {
    /// The subscription with its database, where it is one of the provider's subscriber.
    pub fn subscription(&self) -> Option<&(Database, Subscription)> {
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

/// Who uses a publication, as far as its server and the subscriber show it.
///
/// # Errors
/// When the publisher cannot be asked.
pub async fn users(publisher: &Database, subscriber: Option<&Server>, name: &Ident) -> Result<Vec<User>> {
    if publication::readers(publisher).await?.is_empty() {
        return Ok(Vec::new());
    }
    let readers = publication::readers_now(publisher).await?;
    let mut subscriptions = subscriptions(subscriber, readers.keys().cloned().collect()).await;
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

/// The subscriptions of the subscriber that read from these slots, in whichever of its databases. None where it is not
/// known or cannot be asked: their readers are strangers then.
async fn subscriptions(
    subscriber: Option<&Server>,
    slots: BTreeSet<Ident>,
) -> BTreeMap<Ident, (Database, Subscription)> {
    let Some(subscriber) = subscriber else { return BTreeMap::new() };
    let found = subscription::reading_from(&subscriber.database(None), &slots).await.unwrap_or_default();
    let reads = found.into_iter().map(async |(slot, (database, name))| {
        let database = subscriber.database(Some(&database));
        let found = subscription::fetch_now(&database, &name).await.ok()??;
        Some((slot, (database, found)))
    });
    join_all(reads).await.into_iter().flatten().collect()
}

/// Fails while somebody uses the publication. Those who are about to let go are waited for.
///
/// # Errors
/// When it is in use, a person asks to stop, or the publisher cannot be asked.
pub async fn refuse_to_drop(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Option<&Server>,
    name: &Ident,
) -> Result<()> {
    let operation = &operation.within(LET_GO);
    let mut waiting = operation.waiting();
    while waiting.after(is_free(operation, publisher, subscriber, name).await).await?.is_none() {}
    Ok(())
}

async fn is_free(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Option<&Server>,
    name: &Ident,
) -> Result<Look<()>> {
    let users = operation.unless_stopped(users(publisher, subscriber, name)).await?;
    Ok(if users.is_empty() { Look::There(()) } else { Look::NotYet(used(operation, &users)) })
}

fn used(operation: &Operation<'_>, users: &[User]) -> Error {
    operation
        .error(format!("it is in use by {}", describe(users)))
        .detail(
            "Nothing was changed. Without its publication a subscription stops at the next change: for good before \
             Postgres 18, and with lost changes since.",
        )
        .detail(
            "Take it out of the subscription's publications, or destroy the subscription, and apply that first. To do both in \
             one apply, set lifecycle { create_before_destroy = true } on this publication: then a core changes the \
             subscription before it drops this. With force_destroy = true, applied first, it is dropped all the same.",
        )
}

/// What a change means to those who use the publication.
///
/// # Errors
/// When the publisher cannot be asked who does.
pub async fn outlook(
    publisher: &Database,
    subscriber: Option<&Server>,
    old: &Publication,
    new: &Publication,
) -> Result<Vec<Finding>> {
    let (renames, republishes) = (old.name != new.name, old.target != new.target);
    if !(renames || republishes) {
        return Ok(Vec::new());
    }
    let users = users(publisher, subscriber, &old.name).await?;
    let mut findings = Vec::new();
    if renames && !users.is_empty() {
        findings.push(rename_outlook(&old.name, &new.name, &users));
    }
    if republishes {
        findings.extend(
            missed::warnings(publisher, users.iter().filter_map(User::subscription), &new.target)
                .await
                .into_iter()
                .map(Finding::Warning),
        );
    }
    Ok(findings)
}

/// What a renaming takes, or that it would stop somebody.
fn rename_outlook(old: &Ident, new: &Ident, users: &[User]) -> Finding {
    match check_users(&format!("renaming publication {old} to {new}"), users) {
        Ok(()) => Finding::Warning(
            Error::new(format!("publication {old} becomes {new} under {}", describe(users)))
                .detail(
                    "It is made under its new name beside the old one, the subscription is given the new name once it has applied all \
                     that is older, and then the old one is dropped: nothing is lost.",
                )
                .about("name"),
        ),
        Err(error) => Finding::Error(error.about("name")),
    }
}

/// Only subscriptions that run, and that are the subscriber's own, can be led from one name to the other.
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
///
/// # Errors
/// When somebody who uses it cannot be led over, the time is over, or a server refuses a step.
pub async fn rename(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Option<&Server>,
    old: &Publication,
    new: &Ident,
    users: &[User],
) -> Result<Publication> {
    check_users(operation.doing(), users)?;
    let copy = Publication { name: new.clone(), ..old.clone() };
    make_beside(operation, publisher, &copy).await?;
    for user in users {
        catch_up(operation, publisher, &user.slot, true).await?;
        let Some((subscriber, subscription)) = &user.subscription else { continue };
        let mut publications = subscription.publications.clone();
        publications.remove(&old.name);
        publications.insert(new.clone());
        let statement = subscription::rename_publications(&subscription.name, &publications);
        subscriber.run_within(operation.doing(), &[statement], operation.limits()).await?;
    }
    let mut waiting = operation.waiting();
    while waiting.after(have_let_go(operation, publisher, subscriber, old).await).await?.is_none() {}
    publication::drop(publisher, operation.doing(), &old.name, operation.limits()).await?;
    Ok(copy)
}

async fn have_let_go(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Option<&Server>,
    old: &Publication,
) -> Result<Look<()>> {
    if operation.unless_stopped(users(publisher, subscriber, &old.name)).await?.is_empty() {
        return Ok(Look::There(()));
    }
    let late = operation.error("its subscriptions still read under the old name");
    Ok(Look::NotYet(late.detail("Both publications are there, and nothing is lost. Apply again to go on.")))
}

/// Makes the publication of the new name, unless a renaming that was cut off has made it already.
async fn make_beside(operation: &Operation<'_>, publisher: &Database, copy: &Publication) -> Result<()> {
    let doing = operation.doing();
    match publication::fetch_now(publisher, &copy.name).await? {
        Some(found) if found == *copy => Ok(()),
        Some(_) => Err(operation.error("there is another publication of that name").about("name")),
        None => {
            let version = publisher.version().await?;
            let statements =
                publication::diff(None, Some(copy), version).map_err(|error| publisher.unsupported(doing, error))?;
            publication::apply(publisher, doing, &statements, &copy.name, operation.limits()).await?;
            Ok(())
        }
    }
}
