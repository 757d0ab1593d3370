// SPDX-License-Identifier: MPL-2.0

//! Lets `CREATE SUBSCRIPTION` create the slot too, if we cannot reach the publisher.
//!
//! The subscription is created disabled, under a unique name. Then one transaction gives it its final name and enables
//! it. So after any interruption, the name shows whose it is.

use std::time::Duration;

use super::remains::SlotLeft;
use super::{Creation, Made, NotMade, is_open, is_outage};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{self, Ident, Limits, Notice, SqlState, look_again};
use crate::replication::lost::{NOT_DONE, NOT_KNOWN};
use crate::replication::operation::Look;
use crate::replication::{Error, Result};

/// How long the cleanup after a failed attempt may take.
const TAKE_BACK: Duration = Duration::from_secs(30);

/// How long an attempt may take to give an existing subscription its final name.
const NAMING: Duration = Duration::from_secs(10);

/// One attempt.
struct Attempt<'a> {
    creation: Creation<'a>,
    /// The unique name.
    provisional: Ident,
}

impl Creation<'_> {
    /// Creates the subscription and lets the subscriber create the slot.
    pub(super) async fn make_by_subscriber(&self) -> Result<Made, NotMade> {
        let attempt = Attempt { creation: *self, provisional: subscription::provisional_name(self.name()) };
        let notices = attempt.begin().await?;
        Ok((notices, attempt.finish().await?))
    }

    /// Removes the remains of attempts that were interrupted before the subscription had its final name. An attempt in
    /// progress will set the name in a moment.
    pub(super) async fn clear_provisionals(&self) -> Result<()> {
        let operation = self.operation.within(NAMING);
        let mut waiting = operation.waiting();
        let left = loop {
            let found = subscription::provisionals(self.subscriber, self.name()).await?;
            let look = if found.is_empty() { Look::There(()) } else { Look::NotYet(self.operation.error("")) };
            match waiting.after(Ok(look)).await {
                Ok(Some(())) => return Ok(()),
                Ok(None) => {}
                Err(_) => break found,
            }
        };
        self.operation.go_on()?;
        for name in left {
            let drop = [subscription::drop_provisional(&name)];
            match self.subscriber.run_within(self.operation.doing(), &drop, self.limits()).await {
                Err(error) if !error.is(&SqlState::UNDEFINED_OBJECT) => {
                    return Err(Error::from(error).detail(by_hand(&name)));
                }
                _ => tracing::info!(subscription = name.as_str(), "what an earlier apply left behind was removed"),
            }
        }
        Ok(())
    }
}

/// How a person removes what is left.
fn by_hand(provisional: &Ident) -> String {
    format!(
        "The attempt left subscription {provisional} behind, which is disabled. The next apply removes it with its \
         slot. To remove it by hand, run on the subscriber: DROP SUBSCRIPTION {provisional};"
    )
}

impl Attempt<'_> {
    async fn begin(&self) -> Result<Vec<Notice>, NotMade> {
        let Creation { subscriber, desired, how, operation, .. } = self.creation;
        let version = subscriber.version().await?;
        let statements = subscription::begin_provisional(desired, how, &self.provisional, version)
            .map_err(|unsupported| subscriber.unsupported(operation.doing(), unsupported))?;
        let error = match subscriber.run_within(operation.doing(), &statements, operation.limits()).await {
            Ok(notices) => return Ok(notices),
            Err(error) => error,
        };
        if !is_open(&error) {
            return Err(self.refused(error).await);
        }
        match self.is_there(&self.provisional).await {
            Some(true) if is_outage(&error) && !operation.is_stopped() => Ok(Vec::new()),
            Some(true) => Err(self.take_back(Error::from(error).detail(NOT_DONE)).await.into()),
            Some(false) => Err(self.slot_may_be_left(Error::from(error).detail(NOT_DONE)).into()),
            None => Err(self.not_known(error).into()),
        }
    }

    /// A faster attempt may have the name by now, or only the slot.
    async fn refused(&self, error: postgres::Error) -> NotMade {
        let is_taken =
            error.is(&SqlState::PROTOCOL_VIOLATION) && self.is_there(self.creation.name()).await == Some(true);
        if is_taken { NotMade::Exists } else { error.into() }
    }

    /// Gives the subscription its final name, and enables it. Repeats this after an outage.
    async fn finish(&self) -> Result<Subscription, NotMade> {
        let Creation { operation, .. } = self.creation;
        let error = match self.finish_once().await {
            Err(error) if is_open(&error) => error,
            done => return self.finished(done).await,
        };
        match self.is_there(&self.provisional).await {
            Some(true) if is_outage(&error) && !operation.is_stopped() => {
                let again = self.finish_once().await;
                self.finished(again).await
            }
            Some(true) => Err(self.take_back(Error::from(error).detail(NOT_DONE)).await.into()),
            // Only this attempt removes that name.
            Some(false) if self.is_there(self.creation.name()).await == Some(true) => self.finished(Ok(())).await,
            Some(false) => Err(Error::from(error).detail(NOT_DONE).into()),
            None => Err(self.not_known(error).into()),
        }
    }

    async fn finish_once(&self) -> postgres::Result<()> {
        let Creation { subscriber, desired, operation, .. } = self.creation;
        let statements = subscription::finish_provisional(desired, &self.provisional);
        subscriber.run_within(operation.doing(), &statements, operation.limits()).await.map(drop)
    }

    async fn finished(&self, done: postgres::Result<()>) -> Result<Subscription, NotMade> {
        let Creation { subscriber, desired, operation, .. } = self.creation;
        match done {
            // It is created, even if it cannot be read now.
            Ok(()) => {
                let read = || subscription::fetch_now(subscriber, &desired.name);
                let found = look_again(operation.limits(), read).await.flatten();
                Ok(found.unwrap_or_else(|| desired.clone()))
            }
            Err(error) if error.is(&SqlState::DUPLICATE_OBJECT) || error.is(&SqlState::UNIQUE_VIOLATION) => {
                let error = self.take_back(operation.error("it already exists")).await;
                if error.details().is_empty() { Err(NotMade::Exists) } else { Err(error.into()) }
            }
            Err(error) => Err(self.take_back(error.into()).await.into()),
        }
    }

    /// Whether a subscription of the name exists; `None` if that cannot be read.
    async fn is_there(&self, name: &Ident) -> Option<bool> {
        let limits = Limits::within(TAKE_BACK);
        let found = look_again(&limits, || subscription::fetch_now(self.creation.subscriber, name)).await?;
        Some(found.is_some())
    }

    /// Drops the subscription and its slot. If that fails, the error says what is left.
    async fn take_back(&self, error: Error) -> Error {
        let Creation { subscriber, operation, .. } = self.creation;
        let drop = [subscription::drop_provisional(&self.provisional)];
        match subscriber.run_within(operation.doing(), &drop, &Limits::within(TAKE_BACK)).await {
            Err(cause) if !cause.is(&SqlState::UNDEFINED_OBJECT) => {
                tracing::warn!(%cause, "the unfinished subscription could not be removed");
                error.detail(by_hand(&self.provisional))
            }
            _ => error,
        }
    }

    /// Postgres removes a subscription that it has not completely created, but the slot only if it still can.
    fn slot_may_be_left(&self, error: Error) -> Error {
        match self.creation.desired.slot_name() {
            Some(slot) => SlotLeft::Maybe(slot.clone()).noted_in(error),
            None => error,
        }
    }

    fn not_known(&self, error: postgres::Error) -> Error {
        let name = self.creation.name();
        Error::from(error).detail(NOT_KNOWN).detail(by_hand(&self.provisional)).detail(format!(
            "If there is no subscription {}, but {name} exists, then {name} is complete and can be imported.",
            self.provisional
        ))
    }
}
