// SPDX-License-Identifier: MPL-2.0

//! Reads evidence about unhealthy subscriptions: a few queries, only for those that need it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::OptionFuture;

use super::causes::{Evidence, Flaw, Names, Refusal, Shortage};
use super::comparing::{self, Flaws};
use super::reading::{Followed, Heard, Seen};
use super::watching::{Health, Worker};
use crate::postgres::subscription::{self, Activity, Blocked, SyncState};
use crate::postgres::{
    self, Database, Ident, Limits, Pauses, QualifiedName, SqlState, Waiter, catalog, publication, settings, slot,
    version,
};
use crate::replication::whereabouts;
use crate::replication::{Pair, checks};

/// How long reading a slot's next changes may take: a transaction may be large.
const PEEK: Duration = Duration::from_secs(5);

/// How long to try to read a slot while its worker reads from it.
const BUSY: Duration = Duration::from_millis(1500);

/// How often to try meanwhile.
const POLL: Pauses = Pauses::of(Duration::from_millis(150));

/// A worker that has waited this long for a lock counts as blocked.
pub(super) const LOCKED: Duration = Duration::from_secs(5);

/// The differences between the tables of both sides; none if the publisher is not known, or a query fails.
pub(super) async fn flaws(followed: &Followed, subscriber: &Database) -> Flaws {
    let Some(publisher) = followed.publisher.clone() else { return Flaws::new() };
    let pair = Pair { publisher, subscriber: subscriber.clone() };
    comparing::compare(&pair, &followed.subscription).await.unwrap_or_else(|cause| {
        tracing::info!(%cause, "the tables of both sides could not be compared");
        Flaws::new()
    })
}

/// All available evidence about a subscription of this health.
pub(super) async fn gather(
    followed: &Followed,
    subscriber: &Database,
    seen: &Seen,
    health: Health,
    flaws: Flaws,
) -> Evidence {
    let Followed { subscription, publisher, .. } = followed;
    let publisher = publisher.as_ref().filter(|_| matches!(seen.publisher, Heard::Facts(_)));
    let mut evidence = Evidence {
        names: names(followed),
        slot: subscription.slot_name().cloned(),
        position: match &seen.publisher {
            Heard::Facts(facts) => Some(facts.slot.clone()),
            Heard::Nothing | Heard::Failed(_) => None,
        },
        is_connected: seen.activity.is_connected(),
        missing_publications: Vec::new(),
        skips_publications: false,
        refusal: None,
        login: None,
        shortages: Vec::new(),
        is_standby: false,
        disabling_errors: disabling_errors(followed, &seen.activity),
        flaws,
        pending: None,
        blocked: blocked(followed, subscriber, &seen.activity).await,
        health,
    };
    if let Some(publisher) = publisher {
        Box::pin(ask_publisher(&mut evidence, followed, publisher)).await;
    }
    if !evidence.health.is_well() || evidence.disabling_errors.is_some() {
        Box::pin(look_closer(&mut evidence, followed, (publisher, subscriber), seen)).await;
    }
    evidence
}

/// The locks that its workers wait for on the subscriber. A disabled subscription has no workers.
async fn blocked(followed: &Followed, subscriber: &Database, activity: &Activity) -> Vec<Blocked> {
    if !activity.enabled {
        return Vec::new();
    }
    let name = &followed.subscription.name;
    subscription::blocked(subscriber, name, LOCKED).await.unwrap_or_else(|cause| {
        tracing::info!(%cause, "it could not be checked whether its workers wait for locks");
        Vec::new()
    })
}

fn names(followed: &Followed) -> Names {
    let subscription = followed.subscription.name.clone();
    let connection = followed.subscription.connection.as_ref();
    let named = connection.and_then(|connection| connection.get("dbname").or_else(|| connection.get("user")));
    let database = followed.publisher.as_ref().map(Database::name).or(named);
    let database = database.and_then(|name| Ident::new(name).ok()).unwrap_or_else(|| subscription.clone());
    Names { subscription, publisher: followed.publisher.as_ref().map(|publisher| format!("{publisher:?}")), database }
}

/// The number of errors if an error has disabled it; none if nothing shows that.
fn disabling_errors(followed: &Followed, activity: &Activity) -> Option<u64> {
    let errors = activity.apply_errors.unwrap_or_default() + activity.sync_errors.unwrap_or_default();
    let disables = followed.subscription.options.disable_on_error == Some(true);
    (!activity.enabled && disables && errors > 0).then_some(errors)
}

/// Reads evidence about every subscription, healthy or not.
async fn ask_publisher(evidence: &mut Evidence, followed: &Followed, publisher: &Database) {
    if let (Ok(existing), Ok(version)) = (publication::fetch_all(publisher).await, publisher.version().await) {
        let publications = followed.subscription.publications.iter();
        evidence.missing_publications = publications.filter(|name| !existing.contains_key(*name)).cloned().collect();
        evidence.skips_publications = version.has(version::MISSING_PUBLICATIONS);
    }
}

/// Reads evidence about an unhealthy one.
async fn look_closer(
    evidence: &mut Evidence,
    followed: &Followed,
    (publisher, subscriber): (Option<&Database>, &Database),
    seen: &Seen,
) {
    if let Ok(room) = settings::worker_room(subscriber).await {
        evidence.is_standby = room.is_standby;
        evidence.shortages.extend((room.workers <= 0).then_some(Shortage::Workers));
        evidence.shortages.extend((room.processes <= 0).then_some(Shortage::Processes));
    }
    if let Some(Ok(room)) = OptionFuture::from(publisher.map(settings::room)).await {
        evidence.shortages.extend((room.slots <= 0).then_some(Shortage::Slots));
        evidence.shortages.extend((room.senders <= 0).then_some(Shortage::Senders));
    }
    if !matches!(evidence.health.worker, Worker::Steady | Worker::Disabled) {
        evidence.refusal = refusal(followed, subscriber, seen).await;
        evidence.login = login(followed, publisher).await;
    }
    if evidence.health.worker != Worker::Steady
        && let (Some(publisher), Some(slot)) = (publisher, &evidence.slot)
    {
        let found = pending(publisher, slot, &followed.subscription.publications).await;
        let (pending, columns) = found.unzip();
        former_names(evidence, subscriber, &columns.unwrap_or_default()).await;
        evidence.pending = pending;
    }
    hold_rows(evidence, subscriber, &seen.activity).await;
}

/// The publisher's answer to the subscription's own connection. A failure to reach it from here counts only if the
/// worker cannot reach it either.
async fn refusal(followed: &Followed, subscriber: &Database, seen: &Seen) -> Option<Refusal> {
    if let Heard::Failed(error) = &seen.publisher {
        return Refusal::of(error);
    }
    let publisher = whereabouts::named(followed.subscription.connection.as_ref()?, subscriber)?;
    let error = publisher.version().await.err().filter(postgres::Error::is_connect)?;
    Refusal::of(&error)
}

async fn login(followed: &Followed, publisher: Option<&Database>) -> Option<(Ident, Option<settings::Login>)> {
    let role = checks::login(&followed.subscription)?;
    let login = settings::login(publisher?, &role).await.ok()?;
    Some((role, login))
}

/// The slot's next changes. A failing worker reads from it now and then.
async fn pending(
    publisher: &Database,
    slot: &Ident,
    publications: &BTreeSet<Ident>,
) -> Option<(slot::Pending, slot::Columns)> {
    let publisher = publisher.within(&Limits::within(PEEK));
    let limits = Limits::within(BUSY);
    let mut waiter = Waiter::new(&limits, POLL);
    loop {
        let look = match slot::pending(&publisher, slot, publications).await {
            Err(error) if error.is(&SqlState::OBJECT_IN_USE) => Ok(None),
            pending => pending.map(Some),
        };
        match waiter.after(look).await {
            Ok(None) => {}
            Ok(pending) => return pending,
            Err(ended) => {
                tracing::info!(?ended, "the changes that the slot has to send could not be read");
                return None;
            }
        }
    }
}

/// Adds tables with pending changes that the subscriber lacks and that the publisher no longer has under these names.
async fn former_names(evidence: &mut Evidence, subscriber: &Database, columns: &slot::Columns) {
    let Ok(outline) = catalog::outline(subscriber).await else { return };
    let is_lacking = |table: &QualifiedName| {
        !outline.relations.contains_key(table) && evidence.flaws.get(table).is_none_or(Vec::is_empty)
    };
    let lacking: Vec<_> = columns.iter().filter(|(table, _)| is_lacking(table)).collect();
    for (table, columns) in lacking {
        evidence.flaws.entry(table.clone()).or_default().push(Flaw::FormerName { columns: columns.clone() });
    }
}

/// Adds tables that had rows before their copy.
async fn hold_rows(evidence: &mut Evidence, subscriber: &Database, activity: &Activity) {
    let is_left = |state| matches!(state, SyncState::Initializing | SyncState::Copying);
    let begun: BTreeSet<QualifiedName> = match evidence.disabling_errors {
        Some(_) => {
            activity.tables.iter().filter(|(_, table)| is_left(table.state)).map(|(name, _)| name.clone()).collect()
        }
        None => evidence.health.failing.clone(),
    };
    if begun.is_empty() {
        return;
    }
    let held = catalog::with_rows(subscriber, &begun).await.unwrap_or_default();
    if held.is_empty() {
        return;
    }
    // The rows may come from a copy that has ended since then.
    let name = &evidence.names.subscription;
    let found = subscription::activity(subscriber, Some(&BTreeSet::from([name.clone()]))).await.unwrap_or_default();
    let is_left_now = |table: &QualifiedName| {
        found.get(name).and_then(|activity| activity.tables.get(table)).is_some_and(|table| is_left(table.state))
    };
    let flaws: &mut BTreeMap<_, Vec<Flaw>> = &mut evidence.flaws;
    for table in held.into_iter().filter(is_left_now) {
        flaws.entry(table).or_default().push(Flaw::HeldRows);
    }
}
