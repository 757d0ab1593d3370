// SPDX-License-Identifier: MPL-2.0

//! The remains of an attempt to create a subscription, and their removal without touching other owners' objects.

use crate::postgres::slot;
use crate::postgres::subscription::{self, HalfMade, Subscription, Token};
use crate::postgres::{Database, Ident, Limits, look_again};
use crate::replication::{Error, Operation, Result};

/// A subscription that is not completely created.
#[derive(Clone, Copy)]
pub struct Remains<'a> {
    /// The database of the subscription.
    pub subscriber: &'a Database,
    /// Its publisher, if it can be reached from here.
    pub publisher: Option<&'a Database>,
    /// The subscription.
    pub found: &'a Subscription,
    /// Its mark.
    pub half_made: &'a HalfMade,
}

/// The result for a slot that may be an attempt's own.
pub(super) enum SlotLeft {
    /// It does not exist.
    Gone,
    /// A slot of the name exists that the attempt did not create.
    Foreign,
    /// It may exist.
    Maybe(Ident),
}

impl SlotLeft {
    /// Adds to an error what a person must know about the slot.
    pub(super) fn noted_in(self, error: Error) -> Error {
        match self {
            Self::Gone | Self::Foreign => error,
            Self::Maybe(slot) => error.detail(format!(
                "Replication slot {slot} may be left on the publisher and keeps its WAL there. If nothing else uses it, run \
                 there: {}",
                slot::drop_slot(&slot)
            )),
        }
    }
}

/// Removes a subscription that is not completely created, and the slot that was created for it. It has never copied
/// or applied anything, so nothing is lost. A slot that is not proven to be its own stays.
///
/// # Errors
/// When its creator is still at work, or a server refuses.
pub async fn remove(remains: Remains<'_>, operation: &Operation<'_>) -> Result<()> {
    let Remains { subscriber, found, half_made, .. } = remains;
    let name = &found.name;
    if half_made.is_attended {
        return Err(attended(operation, name));
    }
    // The creator of a slot may be alive, even if its session on the subscriber is not.
    if let (Some(publisher), Some(slot)) = (remains.publisher, found.slot_name()) {
        slot::fetch_settled(publisher, operation.doing(), slot, operation.limits()).await.ok();
    }
    let ours = half_made.claim.taken_over();
    let take_over = subscription::take_over(name, &half_made.claim, &ours);
    subscriber.run_within(operation.doing(), &take_over, operation.limits()).await?;
    if let (Some(publisher), Some(slot)) = (remains.publisher, found.slot_name()) {
        let left = drop_own_slot(publisher, operation.doing(), slot, &ours.token, operation.limits()).await;
        if let SlotLeft::Maybe(_) = left {
            let what = operation.error(format!("subscription {name} was left unfinished, and is removed"));
            operation.warn(left.noted_in(what));
        }
    }
    subscriber.run_within(operation.doing(), &subscription::take_away(name, &ours), operation.limits()).await?;
    tracing::info!(subscription = name.as_str(), "what an earlier apply had left unfinished was removed");
    Ok(())
}

fn attended(operation: &Operation<'_>, name: &Ident) -> Error {
    operation
        .error("another apply is creating it right now")
        .detail("Nothing was changed. Apply again once that has ended.")
        .detail(format!(
            "If no apply is running, its session is still open, for instance behind a pooler. Then run on the \
             subscriber: ALTER SUBSCRIPTION {name} SET (slot_name = NONE); DROP SUBSCRIPTION {name};"
        ))
}

/// Drops a slot that was created for the subscription of this attempt, and no other slot.
pub(super) async fn drop_own_slot(
    publisher: &Database,
    doing: &str,
    name: &Ident,
    token: &Token,
    limits: &Limits,
) -> SlotLeft {
    match whose(publisher, name, token, limits).await {
        Some(Whose::Nobodys) => SlotLeft::Gone,
        Some(Whose::Foreign) => SlotLeft::Foreign,
        Some(Whose::Own) if publisher.run_within(doing, &[slot::drop_slot(name)], limits).await.is_ok() => {
            SlotLeft::Gone
        }
        Some(Whose::Own) | None => SlotLeft::Maybe(name.clone()),
    }
}

/// The owner of a slot of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// There is no such slot.
    Nobodys,
    /// The attempt created it.
    Own,
    /// Something else created it.
    Foreign,
}

/// The owner of the slot of this name; `None` if unknown. A slot with a reader does not belong to an incomplete
/// subscription.
pub(super) async fn whose(publisher: &Database, name: &Ident, token: &Token, limits: &Limits) -> Option<Whose> {
    let Some(standing) = look_again(limits, || slot::standing(publisher, name)).await? else {
        return Some(Whose::Nobodys);
    };
    if standing.unusable(publisher.name()).is_some() {
        return Some(Whose::Foreign);
    }
    let is_own = look_again(limits, || slot::is_made_for(publisher, name, token)).await?;
    Some(if is_own { Whose::Own } else { Whose::Foreign })
}
