// SPDX-License-Identifier: MPL-2.0

//! Publications that subscriptions use: they are not dropped, and renaming them needs several steps.
//!
//! Both would stop its subscriptions at the next change: for good before Postgres 18, and with lost changes since.
//! Terraform and OpenTofu drop a publication before they change a subscription that used it, so the provider must
//! check.

use std::time::Duration;

use super::catch_up::catch_up;
use super::checks::Objection;
use super::error::{Error, Result};
use super::operation::{Look, Operation};
use super::users::{User, describe, users};
use super::{Intended, missed, republishing};
use crate::postgres::publication::{self, Publication, Reader, Readers, Target};
use crate::postgres::subscription;
use crate::postgres::{Database, Ident, Server, SqlState, version};

/// How long a subscription may take to release a publication: its worker restarts a moment after each change of it.
const LET_GO: Duration = Duration::from_secs(10);

/// Fails while the publication is in use. Waits for users that are about to release it.
///
/// # Errors
/// When it is in use, a person asks to stop, or a query fails.
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
            "Remove it from the subscription's publications, or destroy the subscription, and apply that first. To \
             do both in one apply, set lifecycle { create_before_destroy = true } on this publication: then the \
             subscription is changed before the publication is dropped. To drop it anyway, apply force_destroy = \
             true first.",
        )
}

/// The effect of a change on readers that use the publication, or that ask for it before it exists, with all other
/// planned changes applied. Readers come from a short-lived snapshot, so that a plan of many publications reads them
/// once.
///
/// # Errors
/// When a query fails.
pub async fn outlook(
    publisher: &Database,
    subscriber: Option<&Server>,
    old: Option<&Publication>,
    new: &Publication,
    intended: &Intended,
) -> Result<Vec<Objection>> {
    let readers = publication::readers(publisher).await?;
    objections(&readers, (publisher, subscriber), old, new, Some(intended)).await
}

/// Repeats the plan's checks right before a change is done, because tables or subscriptions may have changed
/// since then.
///
/// # Errors
/// When the change would stop a reader or lose rows, a person asks to stop, or a query fails.
pub async fn refuse(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Option<&Server>,
    old: Option<&Publication>,
    new: &Publication,
) -> Result<()> {
    let look = async {
        let readers = publication::readers_now(publisher).await?;
        objections(&readers, (publisher, subscriber), old, new, None).await
    };
    let found = operation.unless_stopped(Box::pin(look)).await?;
    Objection::refuse(found, operation.doing())
}

async fn objections(
    readers: &Readers,
    (publisher, subscriber): (&Database, Option<&Server>),
    old: Option<&Publication>,
    new: &Publication,
    intended: Option<&Intended>,
) -> Result<Vec<Objection>> {
    let Some(old) = old else { return awaited(readers, (publisher, subscriber), new, intended).await };
    let (renames, republishes) = (old.name != new.name, old.fingerprint() != new.fingerprint());
    if !(renames || republishes) {
        return Ok(Vec::new());
    }
    let users = if readers.is_empty() { Vec::new() } else { users(publisher, subscriber, &old.name).await? };
    let mut objections = Vec::new();
    if renames {
        objections.extend(rename_outlook(publisher, &old.name, &new.name, &users).await?);
    }
    if republishes {
        objections.extend(republishing::outlook(publisher, &users, old, new, intended).await?);
        objections.extend(
            missed::warnings(publisher, users.iter().filter_map(User::subscription), &new.target)
                .await
                .into_iter()
                .map(Objection::Warning),
        );
    }
    Ok(objections)
}

/// The effect on readers that ask for a publication that does not exist yet: changes from before are decoded with the
/// catalog of their time, and a table that the subscriber lacks stops the reader.
async fn awaited(
    readers: &Readers,
    (publisher, subscriber): (&Database, Option<&Server>),
    new: &Publication,
    intended: Option<&Intended>,
) -> Result<Vec<Objection>> {
    let name = &new.name;
    // If all readers are known and none asks for it, there is no effect.
    let may_ask = |reader: &Reader| reader.asked_for.as_ref().is_none_or(|names| names.contains(name));
    if !readers.values().any(may_ask) {
        return Ok(Vec::new());
    }
    let survives = publisher.version().await?.has(version::MISSING_PUBLICATIONS);
    let users = users(publisher, subscriber, name).await?;
    let nothing = Publication { target: Target::none(), ..new.clone() };
    let mut objections = republishing::outlook(publisher, &users, &nothing, new, intended).await?;
    objections.extend(users.iter().map(|user| Objection::Warning(asks_already(user, name, survives))));
    Ok(objections)
}

fn asks_already(user: &User, name: &Ident, survives: bool) -> Error {
    let comes = if survives { "is lost to it" } else { "stops it for good" };
    let subscription = user.subscription().map(|(_, subscription)| &subscription.name);
    let steps = publication::skip_missed(subscription, &user.slot);
    let steps = steps.into_iter().map(|(server, statement)| format!("on the {server}: {statement}"));
    let what = format!(
        "{} already reads from publication {name}: what was written while it was missing {comes}",
        user.describe()
    );
    Error::new(what)
        .detail(
            "The publisher decodes each change with the catalog as it was at that time. If nothing was written to \
             its database since the publication was dropped, nothing is lost.",
        )
        .detail(format!(
            "Otherwise make the subscription again once this is applied: empty its tables, and apply with -replace \
             and its address, so that all rows are copied. Or let it skip what it has missed, and copy those rows \
             by hand: {} (The second step needs a slot that nobody reads from.)",
            steps.collect::<Vec<_>>().join(" ")
        ))
        .about("name")
}

/// The effect of a renaming, or the refusal if it would stop a reader.
async fn rename_outlook(publisher: &Database, old: &Ident, new: &Ident, users: &[User]) -> Result<Vec<Objection>> {
    let successors = publication::successors(publisher, old).await?;
    if let Some(other) = successors.iter().find(|name| *name != new) {
        return Ok(vec![Objection::Refusal(half_done(old, new, other))]);
    }
    let is_begun = successors.contains(new);
    let mut objections = Vec::new();
    if !is_begun && publication::fetch(publisher, new).await?.is_some() {
        let taken = Error::new(format!("publication {new} already exists, so {old} cannot be renamed to it"));
        let taken =
            taken.detail("The apply fails unless something else in this configuration renames or drops it first.");
        objections.push(Objection::Warning(taken.about("name")));
    }
    if is_begun || !users.is_empty() {
        objections.push(leads_over(old, new, users, is_begun));
    }
    Ok(objections)
}

fn leads_over(old: &Ident, new: &Ident, users: &[User], is_begun: bool) -> Objection {
    if let Err(error) = check_users(&format!("renaming publication {old} to {new}"), users) {
        return Objection::Refusal(error.about("name"));
    }
    let under = if users.is_empty() { String::new() } else { format!(" under {}", describe(users)) };
    let begun = if is_begun { "An interrupted apply began this, and this one goes on with it." } else { "" };
    Objection::Warning(
        Error::new(format!("publication {old} becomes {new}{under}"))
            .detail(
                "A second publication with the new name is created first, the subscription changes to it once it \
                 has applied everything older, and then the old one is dropped: nothing is lost.",
            )
            .detail(begun)
            .about("name"),
    )
}

/// An interrupted renaming must not end with a third name, because subscriptions may already read under the second.
fn half_done(old: &Ident, new: &Ident, other: &Ident) -> Error {
    Error::new(format!("renaming publication {old} to {new}: renaming it to {other} was interrupted"))
        .detail(format!(
            "Nothing was changed. Publication {other} is its replacement, and subscriptions may read \
             from that."
        ))
        .detail(format!(
            "Apply with name = {other} first, to finish that. Or, once no subscription names it, run on the \
             publisher: {};",
            publication::drop_publication(other)
        ))
        .about("name")
}

/// Only running subscriptions of the configured subscriber can be moved from one name to the other.
fn check_users(doing: &str, users: &[User]) -> Result<()> {
    let runs = |user: &&User| user.subscription().is_some_and(|(_, subscription)| subscription.enabled);
    let stays = users.iter().find(|user| !runs(user));
    let Some(user) = stays else { return Ok(()) };
    let why = match user.subscription() {
        Some(_) => "It is disabled, and cannot apply what is older. Enable it first.",
        None => "It is not a subscription of the provider's subscriber, so it cannot be changed to the new name.",
    };
    Err(Error::new(format!("{doing}: {} would stop at the next change", user.describe())).detail(why).detail(
        "Or create a second publication with the new name, subscribe to both, then to the new one alone, and drop \
         the old one.",
    ))
}

/// Whether a renaming must move subscriptions from one name to the other, or was interrupted while it did.
///
/// # Errors
/// When a query fails.
pub async fn is_led_over(publisher: &Database, old: &Ident, new: &Ident, users: &[User]) -> Result<bool> {
    Ok(!users.is_empty() || publication::successors(publisher, old).await?.contains(new))
}

/// Renames a publication that is in use: creates the new one beside it, moves each subscription once it has applied all
/// older changes, and drops the old one. The next apply continues after an interruption. Returns the new one.
///
/// # Errors
/// When a reader cannot be moved, the time is over, or a server refuses a step.
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
    make_beside(operation, publisher, &copy, &old.name).await?;
    for user in users {
        catch_up(operation, publisher, &user.slot, true).await?;
        let Some((subscriber, subscription)) = user.subscription() else { continue };
        let mut publications = subscription.publications.clone();
        publications.remove(&old.name);
        publications.insert(new.clone());
        let statement = subscription::rename_publications(&subscription.name, &publications);
        subscriber.run_within(operation.doing(), &[statement], operation.limits()).await?;
    }
    let mut waiting = operation.waiting();
    while waiting.after(have_let_go(operation, publisher, subscriber, old).await).await?.is_none() {}
    publication::succeed(publisher, operation.doing(), &old.name, new, operation.limits()).await?;
    Ok(copy)
}

/// Creates the publication of the new name, unless an interrupted renaming has already created it. Does not use one
/// that somebody else has created.
async fn make_beside(operation: &Operation<'_>, publisher: &Database, copy: &Publication, old: &Ident) -> Result<()> {
    let (doing, limits) = (operation.doing(), operation.limits());
    match publication::make_successor(publisher, doing, copy, old, limits).await {
        Err(error) if error.is(&SqlState::DUPLICATE_OBJECT) => {
            let taken = operation.error("another publication has that name").about("name");
            Err(taken.detail("Nothing was changed. Drop or rename that one first, or choose another name."))
        }
        made => Ok(made?),
    }
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
    let late = operation.error("its subscriptions still use the old name");
    Ok(Look::NotYet(late.detail("Both publications exist, and nothing is lost. Apply again to go on.")))
}
