// SPDX-License-Identifier: MPL-2.0

//! One attempt to create a subscription: its beginning, its slot, its end, and its cleanup.

use std::time::Duration;

use super::{Creation, NewSlot, NotMade, is_open, is_outage, remains};
use crate::postgres::slot::{self, Slot};
use crate::postgres::subscription::{self, Claim, Neighbour, Subscription};
use crate::postgres::{self, Database, Ident, Limits, Notice, SqlState, look_again};
use crate::replication::Error;
use crate::replication::lost::{NOT_DONE, NOT_KNOWN, with_outcome};
use crate::replication::operation::Look;

/// How long the cleanup after a failed attempt may take.
const TAKE_BACK: Duration = Duration::from_secs(30);

/// How long a later attempt on the same slot may take to withdraw.
const STEP_BACK: Duration = Duration::from_secs(20);

/// One attempt to create a subscription.
pub(super) struct Attempt<'a> {
    /// The subscription to create.
    pub(super) creation: Creation<'a>,
    /// The claim that only this attempt has.
    pub(super) claim: Claim,
    /// The slot, if there is one to create.
    pub(super) slot: Option<NewSlot<'a>>,
}

impl Attempt<'_> {
    /// Creates the disabled, marked subscription.
    pub(super) async fn begin(&self) -> Result<Vec<Notice>, NotMade> {
        let Creation { subscriber, desired, how, operation, .. } = self.creation;
        let version = subscriber.version().await?;
        let statements = subscription::begin(desired, how, &self.claim, version)
            .map_err(|unsupported| subscriber.unsupported(operation.doing(), unsupported))?;
        let error = match subscriber.run_within(operation.doing(), &statements, operation.limits()).await {
            Ok(notices) => return Ok(notices),
            Err(error) if error.is(&SqlState::DUPLICATE_OBJECT) || error.is(&SqlState::UNIQUE_VIOLATION) => {
                return Err(NotMade::Exists);
            }
            Err(error) => error,
        };
        if !is_open(&error) {
            return Err(error.into());
        }
        match self.look_at_subscription().await {
            Some(Some(())) if is_outage(&error) && !operation.is_stopped() => Ok(Vec::new()),
            Some(Some(_)) => Err(self.take_back(with_outcome(error, NOT_DONE), Slots::Untouched).await),
            Some(None) => Err(with_outcome(error, NOT_DONE).into()),
            None => Err(self.left(with_outcome(error, NOT_KNOWN))),
        }
    }

    /// Creates the slot on the publisher. An existing one belongs to somebody else, who was faster.
    pub(super) async fn make_slot(&self) -> Result<(), NotMade> {
        let Some((publisher, slot)) = &self.slot else { return Ok(()) };
        let operation = self.creation.operation;
        let version = publisher.version().await?;
        let statement = slot::create_for(slot, &self.claim.token, version)
            .map_err(|unsupported| publisher.unsupported(operation.doing(), unsupported))?;
        let made = publisher.run_within(operation.doing(), &[statement], operation.limits()).await;
        let Err(error) = made else { return Ok(()) };
        if error.is(&SqlState::DUPLICATE_OBJECT) {
            let taken = self.creation.taken(publisher, &slot.name).await;
            return Err(self.take_back(taken, Slots::Untouched).await);
        }
        if !is_open(&error) {
            return Err(self.take_back(error.into(), Slots::Untouched).await);
        }
        if is_outage(&error) && !operation.is_stopped() && self.has_own_slot(publisher, slot).await {
            return Ok(());
        }
        Err(self.take_back(with_outcome(error, NOT_DONE), Slots::MayBeOurs).await)
    }

    /// Makes sure that only this subscription uses an existing slot, now that its claim is visible: another attempt may
    /// have begun since the slot was checked. If two see each other, the later one withdraws, and the earlier one waits
    /// for that. `readers` read from slots of that name on other publishers.
    pub(super) async fn yield_slot(&self, readers: &[Neighbour]) -> Result<(), NotMade> {
        let Creation { desired, how, operation, .. } = self.creation;
        let Some(slot) = desired.slot_name().filter(|_| how.connect && !how.create_slot) else { return Ok(()) };
        let operation = operation.within(STEP_BACK);
        let mut waiting = operation.waiting();
        loop {
            match waiting.after(self.is_alone(slot, readers).await).await {
                Ok(None) => {}
                Ok(Some(())) => return Ok(()),
                Err(error) => return Err(self.take_back(error, Slots::Untouched).await),
            }
        }
    }

    async fn is_alone(&self, slot: &Ident, readers: &[Neighbour]) -> Result<Look<()>, Error> {
        let Creation { subscriber, desired, .. } = self.creation;
        let (own, others) = subscription::rivals(subscriber, slot, &desired.name).await?;
        let is_known = |other: &Neighbour| readers.iter().any(|reader| reader.oid == other.oid);
        let mut others = others.iter().filter(|other| !is_known(other));
        let is_later = |other: &Neighbour| !other.enabled && own.as_ref().is_some_and(|own| own.oid < other.oid);
        Ok(match (others.clone().find(|other| !is_later(other)), others.next()) {
            (Some(other), _) => return Err(self.creation.shared(slot, other)),
            (None, Some(other)) => Look::NotYet(self.creation.shared(slot, other)),
            (None, None) => Look::There(()),
        })
    }

    /// Enables the subscription, and removes the mark. Repeats this after an outage.
    pub(super) async fn finish(&self) -> Result<Subscription, NotMade> {
        match self.finish_once().await {
            Err(Unfinished::NotDone(error)) if is_outage(&error) && !self.creation.operation.is_stopped() => {
                // This waits until the server is back.
                self.look_at_subscription().await;
                match self.finish_once().await {
                    Err(unfinished) => Err(self.give_up(unfinished).await),
                    Ok(found) => Ok(found),
                }
            }
            Err(unfinished) => Err(self.give_up(unfinished).await),
            Ok(found) => Ok(found),
        }
    }

    async fn finish_once(&self) -> Result<Subscription, Unfinished> {
        let Creation { subscriber, desired, operation, .. } = self.creation;
        let statements = subscription::finish(desired, &self.claim);
        let done = subscriber.run_within(operation.doing(), &statements, operation.limits()).await;
        let read = || subscription::fetch_now(subscriber, &desired.name);
        let Err(error) = done else {
            // It is created, even if it cannot be read now.
            let found = look_again(operation.limits(), read).await.flatten();
            return Ok(found.unwrap_or_else(|| desired.clone()));
        };
        if !is_open(&error) {
            return Err(Unfinished::NotDone(error));
        }
        match self.look_at_subscription().await {
            Some(Some(_)) => Err(Unfinished::NotDone(error)),
            // Only its holder removes the mark.
            Some(None) => look_again(operation.limits(), read).await.flatten().ok_or(Unfinished::NotDone(error)),
            None => Err(Unfinished::NotKnown(error)),
        }
    }

    async fn give_up(&self, unfinished: Unfinished) -> NotMade {
        match unfinished {
            Unfinished::NotDone(error) => self.take_back(with_outcome(error, NOT_DONE), Slots::MayBeOurs).await,
            Unfinished::NotKnown(error) => self.left(with_outcome(error, NOT_KNOWN)),
        }
    }

    /// Whether the subscription exists with this attempt's mark; `None` if that cannot be read.
    async fn look_at_subscription(&self) -> Option<Option<()>> {
        let Creation { subscriber, desired, .. } = self.creation;
        let limits = Limits::within(TAKE_BACK);
        let found = look_again(&limits, || subscription::half_made(subscriber, &desired.name)).await?;
        Some(found.filter(|found| found.claim == self.claim).map(drop))
    }

    /// Whether the slot exists and provably belongs to this attempt.
    async fn has_own_slot(&self, publisher: &Database, slot: &Slot) -> bool {
        let limits = self.creation.limits();
        remains::whose(publisher, &slot.name, &self.claim.token, limits).await == Some(remains::Whose::Own)
    }

    /// Removes what this attempt has created: the slot, if that is its own, and then the subscription, which shows
    /// until the end whose the slot is.
    async fn take_back(&self, error: Error, slots: Slots) -> NotMade {
        let Creation { subscriber, desired, operation, .. } = self.creation;
        let limits = Limits::within(TAKE_BACK);
        let error = match &self.slot {
            Some((publisher, slot)) if slots == Slots::MayBeOurs => {
                remains::drop_own_slot(publisher, operation.doing(), &slot.name, &self.claim.token, &limits)
                    .await
                    .noted_in(error)
            }
            _ => error,
        };
        // This waits for a server that is restarting.
        match self.look_at_subscription().await {
            Some(Some(())) => {}
            Some(None) => return error.into(),
            None => return self.left(error),
        }
        let taken = subscriber
            .run_within(operation.doing(), &subscription::take_away(&desired.name, &self.claim), &limits)
            .await;
        match taken {
            Ok(_) => error.into(),
            // It is gone, or has another holder.
            Err(cause) if cause.is(&SqlState::UNDEFINED_OBJECT) => error.into(),
            Err(cause) => {
                tracing::warn!(%cause, "the unfinished subscription could not be removed");
                self.left(error)
            }
        }
    }

    /// The object to record because it may exist.
    fn left(&self, error: Error) -> NotMade {
        let Creation { desired, .. } = self.creation;
        let name = &desired.name;
        let error = error.detail(format!(
            "Subscription {name} may be left unfinished: it is then disabled, and has a comment that says so. The \
             next apply removes it. To remove it by hand, run on the subscriber: ALTER SUBSCRIPTION {name} SET \
             (slot_name = NONE); DROP SUBSCRIPTION {name};"
        ));
        let left = Subscription { enabled: false, ..desired.clone() };
        NotMade::Failed { error: Box::new(error), left: Some(Box::new(left)) }
    }
}

/// Whether a slot of the name may belong to this attempt. Otherwise it is not even read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slots {
    Untouched,
    MayBeOurs,
}

/// Why the last step was not done.
enum Unfinished {
    NotDone(postgres::Error),
    NotKnown(postgres::Error),
}
