// SPDX-License-Identifier: MPL-2.0

//! Creates a subscription with its slot, so that nothing is left without an owner, and no other owner's objects are
//! used, recorded or removed.
//!
//! The subscription comes first: disabled, marked as being created, with its tables, and with the name of a slot that does not
//! exist yet. Then the slot is created on the publisher, with a note of what it was created for. Then one transaction enables the
//! subscription and removes the mark. After any interruption, the subscription shows which slot would be its own, and the
//! slot shows its subscription.
//!
//! `CREATE SUBSCRIPTION` would create the slot within its own transaction. That waits for itself forever if publisher and
//! subscriber are one cluster, and for another one that is created in the opposite direction. So this is left to the subscriber
//! only if we cannot reach the publisher, or may not create slots there.

mod attempt;
mod by_subscriber;
mod outlook;
mod remains;
mod room;

use self::attempt::Attempt;
use self::room::SlotSeen;
use super::Pair;
use super::error::{Error, Result};
use super::operation::Operation;
use crate::postgres::slot::Slot;
use crate::postgres::subscription::{self, Claim, How, Neighbour, Subscription};
use crate::postgres::{self, Database, Ident, Limits, Notice, SqlState};

pub use outlook::{Prospect, follow_outlook, outlook, owner_outlook};
pub use remains::{Remains, remove};

/// The subscription to create, and where.
#[derive(Clone, Copy)]
pub struct Creation<'a> {
    /// The database of the subscription.
    pub subscriber: &'a Database,
    /// The subscription's publisher, if it can be reached from here.
    pub publisher: Option<&'a Database>,
    /// The subscription.
    pub desired: &'a Subscription,
    /// Options that no catalog stores.
    pub how: &'a How,
    /// The operation.
    pub operation: &'a Operation<'a>,
}

/// Why a subscription was not created.
#[derive(Debug)]
pub enum NotMade {
    /// One of that name exists.
    Exists,
    /// It failed.
    Failed {
        /// Why.
        error: Box<Error>,
        /// The object that this attempt created and could not remove; never another owner's.
        left: Option<Box<Subscription>>,
    },
}

impl From<Error> for NotMade {
    fn from(error: Error) -> Self {
        Self::Failed { error: Box::new(error), left: None }
    }
}

impl From<postgres::Error> for NotMade {
    fn from(error: postgres::Error) -> Self {
        Error::from(error).into()
    }
}

/// A created subscription, and the server's notices.
pub type Made = (Vec<Notice>, Subscription);

/// A new slot for a subscription, and its database.
type NewSlot<'a> = (&'a Database, Slot);

/// Checks whether a subscription can be created, and removes the remains of abandoned attempts.
///
/// # Errors
/// When one of the name exists, or when the existing slot that it should use is missing, unsuitable or in use.
pub async fn prepare(creation: Creation<'_>) -> Result<(), NotMade> {
    creation.clear_the_way().await?;
    creation.clear_provisionals().await?;
    if creation.how.create_slot {
        return Ok(());
    }
    if let SlotSeen::Unchecked(slot, cause) = creation.check_existing_slot().await? {
        creation.unchecked(slot, &cause);
    }
    Ok(())
}

/// Creates a subscription.
///
/// # Errors
/// When one of the name exists, its slot belongs to something else, or a server refuses a step. Then created objects
/// are removed; if that fails too, the error says what is left.
pub async fn create(creation: Creation<'_>) -> Result<Made, NotMade> {
    let makes_slot = creation.how.connect && creation.how.create_slot;
    let Some(name) = creation.desired.slot_name().filter(|_| makes_slot) else { return creation.make(None).await };
    let Some(slot) = creation.find_room(name).await? else { return creation.make_by_subscriber().await };
    match creation.make(Some(slot)).await {
        Err(NotMade::Failed { error, left: None }) if creation.may_be_left_to_subscriber(&error).await? => {
            tracing::info!(cause = %error, "the subscriber's server creates the slot");
            creation.make_by_subscriber().await
        }
        made => made,
    }
}

impl<'a> Creation<'a> {
    fn name(&self) -> &'a Ident {
        &self.desired.name
    }

    fn limits(&self) -> &Limits {
        self.operation.limits()
    }

    /// Refuses if one of the name exists. Removes the remains of abandoned attempts.
    async fn clear_the_way(&self) -> Result<(), NotMade> {
        let found = self.operation.unless_stopped(subscription::fetch_now(self.subscriber, self.name())).await;
        let Some(found) = found.map_err(|error| error.during(self.operation.doing()))? else { return Ok(()) };
        let half_made = subscription::half_made(self.subscriber, self.name()).await?;
        let Some(half_made) = half_made.filter(|half_made| !half_made.enabled && !found.enabled) else {
            return Err(NotMade::Exists);
        };
        let remains =
            Remains { subscriber: self.subscriber, publisher: self.publisher, found: &found, half_made: &half_made };
        remove(remains, self.operation).await?;
        Ok(())
    }

    /// Whether the subscriber should create the slot, because its role may have a right that ours lacks.
    async fn may_be_left_to_subscriber(&self, error: &Error) -> Result<bool> {
        let Some(publisher) = self.publisher.filter(|publisher| is_refusal_of(error, publisher)) else {
            return Ok(false);
        };
        // It would wait for itself for ever.
        let pair = Pair { publisher: publisher.clone(), subscriber: self.subscriber.clone() };
        Ok(!pair.is_one_cluster().await?)
    }

    /// Creates the subscription and, between its beginning and its end, the slot, if there is one to create.
    async fn make(&self, slot: Option<NewSlot<'_>>) -> Result<Made, NotMade> {
        if self.how.create_slot {
            return self.attempt(slot, &[]).await;
        }
        let (readers, taking) = self.take_existing_slot().await?;
        let made = self.attempt(slot, &readers).await;
        if let Some(taking) = taking {
            let runs = made.as_ref().ok().filter(|(_, found)| found.enabled);
            taking.end(runs.map(|(_, found)| &found.name)).await;
        }
        made
    }

    async fn attempt(&self, slot: Option<NewSlot<'_>>, readers: &[Neighbour]) -> Result<Made, NotMade> {
        let attempt = Attempt { creation: *self, claim: Claim::begin(), slot };
        let notices = attempt.begin().await?;
        attempt.make_slot().await?;
        attempt.yield_slot(readers).await?;
        let found = attempt.finish().await?;
        Ok((notices, found))
    }
}

fn is_refusal_of(error: &Error, publisher: &Database) -> bool {
    error.is(&SqlState::INSUFFICIENT_PRIVILEGE)
        && error.cause().is_some_and(|cause| cause.place().address == publisher.config().address())
}

/// Whether the server became unavailable during the change.
fn is_outage(error: &postgres::Error) -> bool {
    error.is_lost() || error.is_transient()
}

/// Whether a statement may have been done although it ended with this error: the connection broke, or it was cancelled.
fn is_open(error: &postgres::Error) -> bool {
    let ended = [SqlState::QUERY_CANCELED, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
    !error.is_connect() && error.code().is_none_or(|code| ended.contains(code))
}
