// SPDX-License-Identifier: MPL-2.0

//! Changes the slot of an existing subscription: changes that the old slot still has to send must not be lost, and the
//! old slot must not be forgotten.
//!
//! A slot at or before the old one's position sends everything that the old one would have sent, and the subscriber,
//! which records its own position, asks for no change twice. So the new slot is moved to the old one's position, and
//! then the subscription changes over, running or not. If the new slot is at a later position, this waits until the old
//! one has reached it.

use std::collections::BTreeSet;

use super::error::{Error, Result};
use super::operation::{Look, Operation};
use super::slot_taking::{self, SlotTaking};
use crate::postgres::slot::{self, Slot, Standing};
use crate::postgres::subscription::{self, SlotName, Subscription};
use crate::postgres::{Database, Ident};

/// A subscription that should read from another slot.
pub struct SlotChange<'a> {
    operation: &'a Operation<'a>,
    subscriber: &'a Database,
    /// The publisher, if it is known which server that is.
    publisher: Option<&'a Database>,
    current: &'a Subscription,
    /// The slot to read from.
    new: &'a Ident,
    /// Whether to create a missing slot.
    makes_slot: bool,
}

/// How the change is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Create the new slot as a copy of the old one, and drop the old one afterwards.
    Copy,
    /// Move the existing new slot to the old one's position. The old one stays.
    Meet,
    /// The old slot has nothing to send that the new one lacks.
    Over,
    /// There is no old slot, or it has lost its changes.
    Attach,
    /// The new slot does not exist, and something else must create it before.
    Awaited,
}

impl<'a> SlotChange<'a> {
    /// The change of slot between `current` and `desired`, if any. `makes_slot` says whether to create a missing slot.
    /// `publisher` is none if it is not known which server that is.
    pub fn of(
        operation: &'a Operation<'a>,
        (publisher, subscriber): (Option<&'a Database>, &'a Database),
        current: &'a Subscription,
        desired: &'a Subscription,
        makes_slot: bool,
    ) -> Option<Self> {
        let Some(SlotName::Named(new)) = desired.slot.as_ref().filter(|slot| current.slot.as_ref() != Some(*slot))
        else {
            return None;
        };
        Some(Self { operation, subscriber, publisher, current, new, makes_slot })
    }

    /// The slot that it reads from, if any.
    fn old(&self) -> Option<&Ident> {
        match &self.current.slot {
            Some(SlotName::Named(old)) => Some(old),
            _ => None,
        }
    }

    /// Reads both slots, and decides. Changes nothing.
    ///
    /// # Errors
    /// When changes would be lost, the new slot cannot be used, or a query fails.
    pub async fn decide(&self) -> Result<Way> {
        let Some(publisher) = self.publisher else {
            return Err(self.refused("its publisher cannot be asked from here"));
        };
        let asked =
            |cause: crate::postgres::Error| self.refused("its publisher could not be asked").detail(cause.to_string());
        let new = slot::fetch_now(publisher, self.new).await.map_err(asked)?;
        let old = match self.old() {
            Some(old) => slot::fetch_now(publisher, old).await.map_err(asked)?.filter(|old| !old.is_lost()),
            None => None,
        };
        if let Some(new) = &new {
            self.check_new(new).await?;
        }
        match (old, new) {
            (_, None) if !self.makes_slot => Ok(Way::Awaited),
            (None, None) => Err(self.missing()),
            (None, Some(_)) => Ok(Way::Attach),
            (Some(old), None) => self.check_copy(&old).map(|()| Way::Copy),
            (Some(old), Some(_)) => self.compare(publisher, &old).await,
        }
    }

    async fn check_new(&self, new: &Slot) -> Result<()> {
        let wrong = if new.active || self.is_named_by_another().await? {
            "is another subscription's"
        } else if new.plugin != "pgoutput" {
            "has a plugin other than pgoutput"
        } else if new.is_lost() || !new.ready {
            "cannot be read from"
        } else {
            return Ok(());
        };
        Err(self.refused(&format!("replication slot {} {wrong}", self.new)))
    }

    async fn is_named_by_another(&self) -> Result<bool> {
        let names = BTreeSet::from([self.new.clone()]);
        let others = subscription::reading_from(self.subscriber, &names).await?;
        let own = (self.subscriber.name().to_owned(), self.current.name.clone());
        Ok(others.get(self.new).is_some_and(|other| *other != own))
    }

    fn check_copy(&self, old: &Slot) -> Result<()> {
        if old.two_phase || old.failover {
            let what =
                format!("replication slot {} has two_phase or failover, which a copy of it would not have", old.name);
            return Err(self.refused(&what));
        }
        Ok(())
    }

    async fn compare(&self, publisher: &Database, old: &Slot) -> Result<Way> {
        let Some(position) = slot::confirmed(publisher, self.new).await? else { return Err(self.gone()) };
        if slot::has_confirmed(publisher, &old.name, &position).await? == Some(true) || self.current.enabled {
            return Ok(Way::Meet);
        }
        let pending = slot::has_pending(publisher, &old.name, &self.current.publications, &position).await;
        match pending {
            Ok(false) => Ok(Way::Over),
            Ok(true) => Err(self
                .refused(&format!(
                    "it is disabled, and replication slot {} still has changes to send that are older than replication \
                 slot {}: they would be lost",
                    old.name, self.new
                ))
                .detail("Enable it with its old slot first. Change the slot once it has caught up.")),
            Err(cause) => {
                Err(self.refused("it could not be checked whether changes would be lost").detail(cause.to_string()))
            }
        }
    }

    /// The plan's message about it.
    pub fn outlook(&self, way: &Way) -> Error {
        let (name, new) = (&self.current.name, self.new);
        let error = self.operation.error(format!("it changes over to replication slot {new}"));
        if *way == Way::Awaited {
            return error
                .detail(
                    "The slot does not exist yet, and create_slot is false: it must be created before, in this \
                     plan or by hand.",
                )
                .detail(self.by_hand());
        }
        let Some(old) = self.old().filter(|_| *way != Way::Attach) else {
            return error.detail(format!(
                "What was written before replication slot {new} was created is not sent to subscription {name}: \
                 compare the tables, or recreate the subscription with empty tables."
            ));
        };
        match way {
            Way::Copy => error
                .detail(format!("Slot {new} is created as a copy of {old}, so nothing is lost, and {old} is dropped.")),
            _ => error
                .detail(format!(
                    "It does so once it has applied everything that {old} has to send before the position of {new}."
                ))
                .detail(format!(
                    "Slot {old} stays on the publisher and keeps WAL there. Once nothing reads from it, run there: {}",
                    slot::drop_slot(old)
                )),
        }
    }

    /// Waits until the subscription can change over.
    ///
    /// # Errors
    /// As [`SlotChange::decide`], and when the subscription does not reach the new slot's position in time.
    pub async fn prepare(&self) -> Result<Way> {
        let way = self.decide().await?;
        if way == Way::Awaited {
            return Err(self.missing());
        }
        if let (Way::Meet, Some(publisher), Some(old)) = (&way, self.publisher, self.old()) {
            self.check_copied().await?;
            self.reach(publisher, old).await?;
        }
        Ok(way)
    }

    /// Changes over: moves the new slot to the old one's position, and runs the `change` that gives it to the
    /// subscription. Nobody else can take the slot until the subscription reads from it.
    ///
    /// # Errors
    /// The error of the change, or that somebody else has taken the slot; then nothing was changed.
    pub async fn change_over<E: From<Error>>(
        &self,
        way: &Way,
        change: impl Future<Output = Result<Subscription, E>>,
    ) -> Result<Subscription, E> {
        let taking = match self.publisher {
            Some(publisher) => Some(self.take(publisher, way).await?),
            None => None,
        };
        let changed = change.await;
        if let Some(taking) = taking {
            let runs = changed.as_ref().ok().filter(|found| found.enabled);
            taking.end(runs.map(|found| &found.name)).await;
        }
        changed
    }

    /// Takes the new slot, and moves it to the old one's position.
    async fn take(&self, publisher: &Database, way: &Way) -> Result<SlotTaking<'a>> {
        let place = match (way, self.old()) {
            (Way::Meet, Some(old)) => Some(slot::confirmed(publisher, old).await?.ok_or_else(|| self.gone())?),
            _ => None,
        };
        let mut taking = slot_taking::take(self.operation, publisher, self.new).await?;
        self.check_still_free(publisher, way, taking.standing().await?).await?;
        match (way, self.old(), place) {
            (Way::Copy, Some(old), _) => taking.run(slot::copy(old, self.new)).await?,
            (Way::Meet, _, Some(place)) => taking.run(slot::advance(self.new, &place)).await?,
            _ => {}
        }
        Ok(taking)
    }

    async fn check_still_free(&self, publisher: &Database, way: &Way, found: Option<Standing>) -> Result<()> {
        let wrong = match (way, found) {
            (Way::Copy, None) => return Ok(()),
            (Way::Copy, Some(_)) => "has just been created by something else".to_owned(),
            (_, None) => return Err(self.gone()),
            (_, Some(found)) => match found.unusable(publisher.name()) {
                Some(why) => format!("cannot be used: {why}"),
                None if self.is_named_by_another().await? => "is another subscription's".to_owned(),
                None => return Ok(()),
            },
        };
        Err(self.refused(&format!("replication slot {} {wrong}", self.new)))
    }

    /// Checks the copies: an older slot would apply changes again that are older than the copy of their table.
    async fn check_copied(&self) -> Result<()> {
        let progress = subscription::progress(self.subscriber, &self.current.name).await?;
        match progress.left().next() {
            None => Ok(()),
            Some(table) => Err(self
                .refused(&format!("table {table} is not copied yet"))
                .detail("Apply again once every table is.")),
        }
    }

    async fn reach(&self, publisher: &Database, old: &Ident) -> Result<()> {
        let place = slot::confirmed(publisher, self.new).await?.ok_or_else(|| self.gone())?;
        let mut waiting = self.operation.waiting();
        while waiting.after(self.has_reached(publisher, old, &place).await).await?.is_none() {}
        Ok(())
    }

    async fn has_reached(&self, publisher: &Database, old: &Ident, place: &str) -> Result<Look<()>> {
        if self.operation.unless_stopped(slot::has_confirmed(publisher, old, place)).await? != Some(false) {
            return Ok(Look::There(()));
        }
        let late = format!(
            "it lags behind the position of replication slot {}, and the changes in between would be lost",
            self.new
        );
        Ok(Look::NotYet(self.refused(&late).detail("Apply again once it has caught up.")))
    }

    /// Finishes once the subscription reads from its new slot: drops a slot that was copied, and reports any other old
    /// one.
    pub async fn finish(&self, way: &Way) {
        let (Some(publisher), Some(old)) = (self.publisher, self.old().filter(|_| *way != Way::Attach)) else { return };
        let is_dropped = *way == Way::Copy && self.drop(publisher, old).await.is_ok();
        if !is_dropped {
            let left =
                self.operation.error(format!("replication slot {old} stays on the publisher and keeps WAL there"));
            let by_hand = format!("Once nothing needs it, run on the publisher: {}", slot::drop_slot(old));
            self.operation.warn(left.detail(by_hand));
        }
    }

    /// Drops the old slot, from which the subscription's worker may still read.
    async fn drop(&self, publisher: &Database, old: &Ident) -> Result<()> {
        let mut waiting = self.operation.waiting();
        while waiting.after(self.is_free(publisher, old).await).await?.is_none() {}
        publisher.run_within(self.operation.doing(), &[slot::drop_slot(old)], self.operation.limits()).await?;
        Ok(())
    }

    async fn is_free(&self, publisher: &Database, old: &Ident) -> Result<Look<()>> {
        let found = self.operation.unless_stopped(slot::fetch_now(publisher, old)).await?;
        let is_active = found.is_some_and(|found| found.active);
        Ok(if is_active {
            Look::NotYet(self.operation.error("a reader is connected to the old slot"))
        } else {
            Look::There(())
        })
    }

    fn missing(&self) -> Error {
        self.refused(&format!("there is no replication slot {} on its publisher", self.new)).detail(self.by_hand())
    }

    /// The statement with which a person creates the slot.
    fn by_hand(&self) -> String {
        let copy = self.old().map(|old| {
            format!("To create it at the position of the old one, run on the publisher: {}", slot::copy(old, self.new))
        });
        copy.unwrap_or_default()
    }

    fn gone(&self) -> Error {
        self.refused(&format!("replication slot {} no longer exists", self.new))
    }

    fn refused(&self, why: &str) -> Error {
        self.operation
            .error(format!("it cannot change over to replication slot {}: {why}", self.new))
            .detail("Nothing was changed. Another slot does not have the changes that the old one still has to send.")
            .about("slot_name")
    }
}
