// SPDX-License-Identifier: MPL-2.0

//! The steps that change one side, and those right after a switch while nobody can write.

use std::time::Duration;

use super::memory::Before;
use super::run::Run;
use super::{Forward, Writes};
use crate::postgres::fence::Gate;
use crate::postgres::subscription::turning;
use crate::postgres::{
    Ended, Ident, Limits, Pauses, QualifiedName, SqlState, Statement, Waiter, in_short_turns, read_only, slot,
};
use crate::replication::error::{Error, Result};
use crate::replication::{Place, draining};

/// How many relations are covered in one transaction, while nobody writes to them.
const TOGETHER: usize = 50;

/// How long a subscription may take to catch up before writers must wait.
const CATCHES_UP: Duration = Duration::from_secs(60);

/// How often to try to drop a slot that still has a reader.
const POLL: Pauses = Pauses { first: Duration::from_millis(20), longest: Duration::from_millis(500) };

/// How long that may take: the walsender of an ended worker soon notices the end.
const READER_ENDS: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Creates the missing parts of a side's fence.
    pub(super) async fn make_fence(&mut self, place: Place, is_active: bool) -> Result<()> {
        let fence = self.facts.names.fence.clone();
        let memory = self.remembered(place);
        let making = self.facts.side(place).standing.making(&fence, &memory.text());
        if !making.is_empty() {
            self.db(place).run_within("making the fence", &making, self.limits()).await?;
            *self.memory(place) = memory;
            self.facts.side_mut(place).standing.gate = Gate::Open;
        }
        let covers = if is_active { self.terms().writes == Writes::Fence } else { self.cutover.desired.guard };
        if !covers {
            return Ok(());
        }
        let uncovered: Vec<_> = self.facts.side(place).standing.uncovered().map(|one| one.name.clone()).collect();
        for some in uncovered.chunks(TOGETHER) {
            self.cover(place, some).await?;
        }
        Ok(())
    }

    /// Puts the fence on relations: on all at once if nobody writes to them, otherwise one by one, so that no writer
    /// waits long.
    async fn cover(&self, place: Place, relations: &[QualifiedName]) -> Result<()> {
        let fence = &self.facts.names.fence;
        let (db, doing) = (self.db(place), "putting the fence on tables");
        let at_once: Vec<_> = relations.iter().map(|relation| fence.covering(relation)).collect();
        let mut briefly = vec![crate::postgres::fence::trying_briefly()];
        briefly.extend(at_once.iter().cloned());
        match db.run_within(doing, &briefly, self.limits()).await {
            Err(error) if error.is_locked() => {}
            result => return result.map(drop).map_err(Error::from),
        }
        for (relation, statement) in relations.iter().zip(at_once) {
            in_short_turns(db, doing, &[statement], &[relation.clone()].into(), self.limits()).await?;
        }
        Ok(())
    }

    /// Refuses writes on a side that is not active.
    pub(super) async fn guard(&mut self, place: Place) -> Result<()> {
        let mut memory = self.remembered(place);
        let was_left = memory.left.is_some() || place == Place::Publisher;
        if let Some(left) = memory.left.as_mut() {
            left.message.clone_from(&self.terms().message);
        }
        let arm = self.facts.names.fence.arming(&self.refusal(place, was_left));
        self.change(place, "turning writers away", [arm], memory).await?;
        self.facts.side_mut(place).standing.gate = Gate::Armed;
        Ok(())
    }

    /// Lets everybody write to a side. If a switch away from it is undone, its record is removed too.
    pub(super) async fn open(&mut self, place: Place, is_undone: bool) -> Result<()> {
        let mut memory = self.remembered(place);
        let read_only = memory.read_only.take().map(|before| self.default_of(place, before.value.as_deref()));
        if is_undone {
            memory.left = None;
        }
        let open = self.facts.names.fence.opening();
        let statements = read_only.into_iter().flatten().chain([open]);
        self.change(place, "letting everybody write", statements, memory).await?;
        self.facts.side_mut(place).standing.gate = Gate::Open;
        Ok(())
    }

    /// The statement that sets the database's own default.
    pub(super) fn default_of(&self, place: Place, value: Option<&str>) -> Option<Statement> {
        let database = Ident::new(self.db(place).name()).ok()?;
        Some(read_only::set(&database, value))
    }

    /// The database's default before it is made read-only, for the fence's memory.
    pub(super) fn default_now(&self, place: Place) -> Before {
        Before { value: self.facts.side(place).read_only.value.clone() }
    }

    /// Stops the subscriptions to a side, and waits until their workers have ended, because a worker could still
    /// receive a change that comes back.
    pub(super) async fn stop(&mut self, place: Place) -> Result<()> {
        let mut memory = self.remembered(place);
        let mut statements = Vec::new();
        let streams = self.facts.streams_to(place);
        for stream in streams.iter().filter(|stream| stream.subscription.enabled) {
            let name = &stream.subscription.name;
            statements.push(turning::stop(name));
            statements.extend(memory.hastened.remove(name).map(|before| turning::confirm(name, &before)));
            memory.stopped.insert(name.clone(), stream.slot.clone());
        }
        let names: Vec<Ident> = streams.iter().map(|stream| stream.subscription.name.clone()).collect();
        if !statements.is_empty() {
            let doing = "stopping the subscription to the side that takes writes";
            self.change(place, doing, statements, memory).await?;
        }
        for name in &names {
            turning::end_worker(self.db(place), name, self.limits()).await?;
        }
        for stream in self.facts.streams_to_mut(place) {
            stream.subscription.enabled = false;
        }
        Ok(())
    }

    /// Starts the subscriptions to a side again. They have missed nothing.
    pub(super) async fn start(&mut self, place: Place) -> Result<()> {
        let mut memory = self.remembered(place);
        let slots = self.slots_to(place);
        let statements: Vec<_> = slots.iter().flat_map(|(name, slot)| turning::start(name, slot)).collect();
        memory.stopped.clear();
        self.change(place, "starting the subscription again", statements, memory).await
    }

    /// Lets the subscriptions to a side confirm each commit once it is on disk, and waits until they have caught up.
    pub(super) async fn hasten(&mut self, place: Place) -> Result<()> {
        let mut memory = self.remembered(place);
        let mut statements = Vec::new();
        for stream in self.facts.streams_to(place) {
            let (name, now) = (&stream.subscription.name, stream.subscription.options.synchronous_commit.as_deref());
            if now == Some("off") {
                statements.push(turning::confirm(name, "on"));
                memory.hastened.insert(name.clone(), "off".to_owned());
            }
        }
        if !statements.is_empty() {
            self.change(place, "having the subscription confirm each commit", statements, memory).await?;
        }
        self.catch_up(place).await
    }

    /// Waits until the subscriptions to a side have caught up, while writers go on.
    pub(super) async fn catch_up(&self, place: Place) -> Result<()> {
        let slots = self.slots_to(place).into_iter().map(|(name, slot)| (slot, name)).collect();
        let late = draining::drained(self.operation(), self.db(place.other()), &slots, CATCHES_UP).await?;
        late.map(drop).map_err(|late| {
            self.operation()
                .error(late)
                .detail("Nothing has changed: writers go on. `neonrepl_replication_status` says what delays it.")
        })
    }

    /// Lets the subscriptions to a side confirm commits as before.
    pub(super) async fn calm(&mut self, place: Place) -> Result<()> {
        let mut memory = self.remembered(place);
        let there = self.slots_to(place);
        let hastened = std::mem::take(&mut memory.hastened);
        let still = hastened.iter().filter(|(name, _)| there.iter().any(|(there, _)| there == *name));
        let statements: Vec<_> = still.map(|(name, before)| turning::confirm(name, before)).collect();
        self.change(place, "letting the subscription confirm commits as before", statements, memory).await
    }

    /// Drops the slots of the stopped subscriptions to a side.
    pub(super) async fn drop_slots(&mut self, place: Place) -> Result<()> {
        if place == Place::Subscriber && self.terms().forward == Forward::Disable {
            return Ok(());
        }
        let doing = "dropping the slot of a stopped subscription";
        let stopped: Vec<_> =
            self.facts.streams_to(place).into_iter().filter(|stream| !stream.subscription.enabled).collect();
        for stream in stopped {
            let name = &stream.subscription.name;
            if stream.subscription.slot_name().is_some() {
                self.db(place).run_within(doing, &[turning::detach(name)], self.limits()).await?;
            }
            self.drop_slot(place.other(), &stream.slot).await?;
        }
        for stream in self.facts.streams_to_mut(place).into_iter().filter(|stream| !stream.subscription.enabled) {
            stream.position = None;
        }
        Ok(())
    }

    /// Drops a slot of this database, once nothing reads from it any more.
    pub(super) async fn drop_slot(&self, place: Place, name: &Ident) -> Result<()> {
        let db = self.db(place).within(self.limits());
        let operation = self.operation().within(READER_ENDS);
        let mut waiter = Waiter::new(operation.limits(), POLL);
        loop {
            if slot::fetch_now(&db, name).await?.is_none() {
                return Ok(());
            }
            let dropped = db.run_within("dropping a slot", &[slot::drop_slot(name)], operation.limits()).await;
            let look = match dropped {
                Ok(_) => return Ok(()),
                Err(error) if error.is(&SqlState::UNDEFINED_OBJECT) => return Ok(()),
                Err(error) if error.is(&SqlState::OBJECT_IN_USE) => Ok(None::<()>),
                Err(error) => Err(error),
            };
            match waiter.after(look).await {
                Ok(_) => {}
                Err(Ended::Failed(error) | Ended::TimeOver(Some(error))) => return Err(error.into()),
                Err(Ended::TimeOver(None)) => {
                    return Err(self.operation().error(format!("something still reads from replication slot {name}")));
                }
                Err(Ended::Stopped) => return Err(self.operation().error("it was asked to stop")),
            }
        }
    }

    /// Limits of a step that writers wait for.
    pub(super) fn at_most(&self, time: Duration) -> Limits {
        self.operation().within(time).limits().clone()
    }
}
