// SPDX-License-Identifier: MPL-2.0

//! Makes sure that only one subscription at a time takes over an existing slot.
//!
//! Two subscriptions on one slot each miss the changes that the other one gets. Subscriptions of one subscriber see
//! each other in its catalog. For two subscribers, only the publisher can show it, but it shows the reader of a slot
//! only once that has connected. So the slot is locked from the check until the new subscription reads from it; the
//! next one then sees the reader. A subscription that stays disabled does not read, so another subscriber cannot see
//! it.

use std::time::Duration;

use super::error::{Error, Result};
use super::operation::{Look, Operation};
use crate::postgres::slot::{Standing, Taking};
use crate::postgres::{Database, Ident, Limits, Statement};

/// How long to wait for another one's turn.
const TURN: Duration = Duration::from_secs(60);

/// How long a subscription may take to read from its slot.
const CONNECTS: Duration = Duration::from_secs(15);

/// How long giving it back may take.
const END: Duration = Duration::from_secs(5);

/// The right to take over one slot.
pub(super) struct SlotTaking<'a> {
    operation: &'a Operation<'a>,
    taking: Taking,
    slot: Ident,
}

/// Waits for the right to take over a slot.
///
/// # Errors
/// When another one keeps it for too long, a query fails, or a person asks to stop.
pub(super) async fn take<'a>(
    operation: &'a Operation<'a>,
    publisher: &Database,
    slot: &Ident,
) -> Result<SlotTaking<'a>> {
    let patient = operation.within(TURN);
    let mut waiting = patient.waiting();
    loop {
        let begun = patient.unless_stopped(Taking::begin(publisher, slot, patient.limits())).await;
        let look = begun.map(|begun| begun.map_or_else(|| Look::NotYet(others_turn(operation, slot)), Look::There));
        if let Some(taking) = waiting.after(look).await? {
            return Ok(SlotTaking { operation, taking, slot: slot.clone() });
        }
    }
}

fn others_turn(operation: &Operation<'_>, slot: &Ident) -> Error {
    operation
        .error(format!("another apply is taking replication slot {slot}"))
        .detail(
            "Nothing was changed. If two subscriptions share a slot, each misses the changes that the other \
             receives.",
        )
        .detail("Give this one its own slot_name, or apply again once the other apply has ended.")
        .about("slot_name")
}

impl SlotTaking<'_> {
    /// The current state of the slot.
    ///
    /// # Errors
    /// When a query fails.
    pub(super) async fn standing(&mut self) -> Result<Option<Standing>> {
        self.operation.unless_stopped(self.taking.standing(self.operation.limits())).await
    }

    /// Runs a statement that creates or moves the slot.
    ///
    /// # Errors
    /// When the publisher refuses it.
    pub(super) async fn run(&mut self, statement: Statement) -> Result<()> {
        Ok(self.taking.run(self.operation.doing(), statement, self.operation.limits()).await?)
    }

    /// Gives the right back. If a running subscription has taken the slot, waits until it reads from it.
    ///
    /// If it does not read in time, that is only a warning: it exists, and keeps retrying.
    pub(super) async fn end(mut self, runs: Option<&Ident>) {
        if let Some(subscription) = runs {
            self.wait_until_read(subscription).await;
        }
        if let Err(cause) = self.taking.end(&Limits::within(END)).await {
            tracing::debug!(%cause, "the right to take a slot went with its session");
        }
    }

    async fn wait_until_read(&mut self, subscription: &Ident) {
        let patient = self.operation.within(CONNECTS);
        let mut waiting = patient.waiting();
        // Once a query fails, the right is lost.
        while let Ok(look) = self.is_read(subscription).await {
            match waiting.after(Ok(look)).await {
                Ok(Some(())) => break,
                Ok(None) => {}
                Err(_) if self.operation.is_stopped() => break,
                Err(error) => {
                    self.operation.warn(error);
                    break;
                }
            }
        }
    }

    async fn is_read(&mut self, subscription: &Ident) -> Result<Look<()>> {
        if self.standing().await?.is_some_and(|standing| standing.active) {
            return Ok(Look::There(()));
        }
        let slot = &self.slot;
        let what = format!("subscription {subscription} does not read from replication slot {slot} yet");
        Ok(Look::NotYet(self.operation.error(what).detail(
            "Until it does, the publisher does not show that the slot is taken: a subscription on another server \
             could get the same slot_name, and each would miss the changes that the other receives.",
        )))
    }
}
