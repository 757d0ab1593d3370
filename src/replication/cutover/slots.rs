// SPDX-License-Identifier: MPL-2.0

//! Creates the slots from which changes flow back. They begin while nobody writes, so all slow work is done before.

use std::time::Duration;

use tokio::time::Instant;

use super::reading::Stream;
use super::run::Run;
use super::steps::Under;
use super::switching::Switch;
use crate::postgres::slot::{self, Forerunner, Slot};
use crate::postgres::{Database, Ident, Limits};
use crate::replication::error::{Error, Result};

/// How long creating a slot may take while writers wait.
const SLOT: Duration = Duration::from_secs(10);

/// What is being done, for messages.
const MAKING: &str = "creating the slot of the way back";

/// Added to the error if a slot could not be created.
const WAITED_FOR: &str = "Nothing has changed: writers go on. Postgres creates a slot only once all transactions \
     that write to any database of that server have ended.";

impl Switch<'_> {
    /// The slot that the slots of the way back are copied from. It is created before writers wait, because creating it
    /// waits for every transaction that writes in any database of the server, which may be another switch.
    ///
    /// # Errors
    /// When these transactions do not end in time, or a query fails.
    pub(super) async fn forerunner(&self) -> Result<Option<Forerunner>> {
        let is_wanted = self.does(Under::BeginSlot) && self.run.facts.streams_to(self.from).into_iter().any(is_plain);
        if !is_wanted {
            return Ok(None);
        }
        let limits = self.run.limits();
        match Forerunner::make(self.run.db(self.to()), MAKING, limits).await {
            Ok(made) => Ok(Some(made)),
            // For example, there is room for only one slot: then that one is created directly.
            Err(cause) if cause.code().is_some() && !is_over(limits) => {
                tracing::info!(%cause, "the slot of the way back is created while writers wait");
                Ok(None)
            }
            Err(error) => Err(Error::from(error).detail(WAITED_FOR)),
        }
    }

    /// Starts the slots of the way back. Nobody writes to either side, so each change is in them exactly once. Returns
    /// what took too long, if anything did.
    ///
    /// # Errors
    /// When the server refuses it, or a query fails.
    pub(super) async fn begin_slots(
        &self,
        forerunner: &mut Option<Forerunner>,
    ) -> Result<std::result::Result<(), String>> {
        if !self.does(Under::BeginSlot) {
            return Ok(Ok(()));
        }
        let limits = self.run.at_most(SLOT);
        match self.begin_within(&mut *forerunner, &limits).await {
            Err(_) if is_over(&limits) => Ok(Err("Creating the slot of the way back took too long.".to_owned())),
            result => result.map(Ok),
        }
    }

    async fn begin_within(&self, forerunner: &mut Option<Forerunner>, limits: &Limits) -> Result<()> {
        let (run, db) = (self.run, self.run.db(self.to()));
        if let Some(forerunner) = forerunner {
            forerunner.advance(MAKING, limits).await?;
        }
        for stream in run.facts.streams_to(self.from) {
            // An old slot holds only changes that came from here. It is created again, because an advanced slot can
            // fall back after a crash.
            if slot::fetch_now(&db.within(limits), &stream.slot).await?.is_some() {
                db.run_within(MAKING, &[slot::drop_slot(&stream.slot)], limits).await?;
            }
            if !(is_plain(stream) && is_copied(forerunner, &stream.slot, limits).await?) {
                make(run, db, stream, limits).await?;
            }
        }
        Ok(())
    }
}

/// Whether a slot could be copied. If not, for example because there is room for only one slot, the forerunner is
/// dropped to make room.
async fn is_copied(forerunner: &mut Option<Forerunner>, slot: &Ident, limits: &Limits) -> Result<bool> {
    let Some(there) = forerunner else { return Ok(false) };
    match there.copy_to(MAKING, slot, limits).await {
        Ok(()) => return Ok(true),
        Err(cause) if cause.code().is_some() && !is_over(limits) => tracing::info!(%cause, "the slot is not copied"),
        Err(error) => return Err(error.into()),
    }
    // The failure has ended it.
    *forerunner = None;
    Ok(false)
}

fn is_over(limits: &Limits) -> bool {
    limits.deadline.is_some_and(|deadline| deadline <= Instant::now())
}

/// Creates a slot with options that a copy would lack.
async fn make(run: &Run<'_>, db: &Database, stream: &Stream, limits: &Limits) -> Result<()> {
    let made = slot::create(&slot_of(stream), db.version().await?)
        .map_err(|error| db.unsupported(run.operation().doing(), error))?;
    db.run_within(MAKING, &[made], limits).await?;
    Ok(())
}

/// Whether a copied slot is enough for a stream.
fn is_plain(stream: &Stream) -> bool {
    let slot = slot_of(stream);
    !slot.two_phase && !slot.failover
}

/// The slot that a stream reads from.
fn slot_of(stream: &Stream) -> Slot {
    let options = &stream.subscription.options;
    Slot {
        two_phase: options.two_phase == Some(true),
        failover: options.failover == Some(true),
        ..Slot::new(stream.slot.clone())
    }
}
