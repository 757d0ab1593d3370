// SPDX-License-Identifier: MPL-2.0

//! The causes for one subscription whose publisher the caller knows: for its plan, and for errors of waits for it.

use std::collections::BTreeSet;

use super::Cause;
use super::evidence::LOCKED;
use super::judging::{Judgement, Judging};
use super::reading::{Followed, Heard, Reading, Seen};
use super::watching::{Health, Opinion, Worker};
use crate::postgres::slot::Position;
use crate::postgres::subscription::{self, Activity, Subscription, SyncState};
use crate::postgres::{Database, Ident, QualifiedName, publication};
use crate::replication::error::{Error, Result};
use crate::replication::operation::Operation;

/// A subscription, as the caller knows it.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The database of the subscription.
    pub subscriber: &'a Database,
    /// Its publisher, if it is known which server that is.
    pub publisher: Option<&'a Database>,
    /// The subscription, with its connection and password as far as known.
    pub subscription: &'a Subscription,
}

/// A problem that the caller has found.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Copying these tables fails.
    Copies(BTreeSet<QualifiedName>),
    /// Its worker does not run, or gets no connection.
    Worker,
    /// It is disabled.
    Disabled,
}

/// The causes of a problem that the caller has found; empty if none is known. Without guesses.
///
/// # Errors
/// When a query fails, or the operation is over.
pub async fn reasons(operation: &Operation<'_>, known: Known<'_>, trouble: &Trouble) -> Result<Vec<Cause>> {
    let health = match trouble {
        Trouble::Copies(tables) => Health { failing: tables.clone(), copy_failed: Some(true), ..Health::default() },
        Trouble::Worker => Health { worker: Worker::Away, ..Health::default() },
        Trouble::Disabled => Health { worker: Worker::Disabled, ..Health::default() },
    };
    let mut reading = Reading::of(operation, known.subscriber, followed(known));
    let seen = Box::pin(reading.see()).await?;
    let opinion = Opinion { health, is_sure: true };
    let name = &known.subscription.name;
    let Some(seen) = seen.get(name) else { return Ok(Vec::new()) };
    let judgement = Box::pin(explained(&reading, name, seen, opinion)).await?;
    let causes = judgement.map(|judgement| judgement.causes).unwrap_or_default();
    Ok(causes.into_iter().filter(|cause| !GUESSES.contains(&cause.kind)).collect())
}

/// Causes that are only reported if no other is found.
const GUESSES: [&str; 4] = ["worker_away", "worker_fails", "copy_fails", "duplicate_key"];

fn followed(known: Known<'_>) -> Followed {
    Followed::new(known.subscription.clone(), known.publisher.cloned())
}

/// A warning about a subscription that is unhealthy, or was disabled by an error; none if it is healthy. If the first
/// look shows no problem, there is no second one, unless it was `changed`: then its worker has just restarted.
///
/// # Errors
/// When a query fails, or the operation is over.
pub async fn warning(operation: &Operation<'_>, known: Known<'_>, changed: bool) -> Result<Option<Error>> {
    let Known { subscriber, subscription, .. } = known;
    let names = BTreeSet::from([subscription.name.clone()]);
    let mut found = operation.unless_stopped(subscription::activity(subscriber, Some(&names))).await?;
    let Some(activity) = found.remove(&subscription.name) else { return Ok(None) };
    if !activity.enabled && subscription.options.disable_on_error != Some(true) {
        return Ok(None);
    }
    if !changed
        && looks_well(&activity)
        && !lacks_publications(operation, known).await
        && !is_blocked(operation, known).await
    {
        return Ok(None);
    }
    let mut reading = Reading::of(operation, subscriber, followed(known));
    let Some(judgement) = Box::pin(judgement(&mut reading, &subscription.name)).await? else { return Ok(None) };
    let stops_all = !matches!(judgement.health().worker, Worker::Steady);
    let causes = judgement.causes;
    Ok(causes.first().map(|first| {
        let name = &subscription.name;
        let what = first.message.trim_end_matches('.');
        let summary = match stops_all {
            true => format!("subscription {name} replicates nothing: {what}"),
            false => format!("subscription {name} does not replicate everything: {what}"),
        };
        causes.iter().fold(Error::new(summary), |error, cause| error.detail(cause.to_string()))
    }))
}

/// Whether nothing suggests a closer look: earlier counted errors may be over.
fn looks_well(activity: &Activity) -> bool {
    let counted = |errors: Option<u64>| errors.unwrap_or_default() > 0;
    let is_idle = activity.tables.values().any(|table| table.state == SyncState::Copying && table.copier.is_none());
    activity.is_connected() && !counted(activity.apply_errors) && !counted(activity.sync_errors) && !is_idle
}

/// Whether a publication is missing: Postgres 18 continues without it, and loses rows.
async fn lacks_publications(operation: &Operation<'_>, known: Known<'_>) -> bool {
    let Some(publisher) = known.publisher else { return false };
    let existing = operation.unless_stopped(publication::fetch_all(publisher)).await;
    existing.is_ok_and(|existing| known.subscription.publications.iter().any(|name| !existing.contains_key(name)))
}

/// Whether it waits for a lock, although its worker runs.
async fn is_blocked(operation: &Operation<'_>, known: Known<'_>) -> bool {
    let blocked = subscription::blocked(known.subscriber, &known.subscription.name, LOCKED);
    operation.unless_stopped(blocked).await.is_ok_and(|blocked| !blocked.is_empty())
}

/// Looks until its health is known; a single look is enough if its slot is gone.
async fn judgement(reading: &mut Reading<'_>, name: &Ident) -> Result<Option<Judgement>> {
    let seen = reading.see().await?;
    let is_gone = |seen: &Seen| match &seen.publisher {
        Heard::Facts(facts) => !seen.activity.is_connected() && facts.slot.as_ref().is_none_or(Position::is_lost),
        Heard::Nothing | Heard::Failed(_) => false,
    };
    if let Some(seen) = seen.get(name).filter(|seen| is_gone(seen)) {
        let health = Health { worker: Worker::Away, ..Health::default() };
        return explained(reading, name, seen, Opinion { health, is_sure: true }).await;
    }
    let mut judged = Judging::default().until_told(reading).await?;
    Ok(judged.judgements.remove(name))
}

async fn explained(reading: &Reading<'_>, name: &Ident, seen: &Seen, opinion: Opinion) -> Result<Option<Judgement>> {
    let Some(explained) = reading.explain(name, seen, opinion) else { return Ok(None) };
    reading.operation.unless_stopped(async { Ok::<_, Error>(Some(explained.await)) }).await
}
