// SPDX-License-Identifier: MPL-2.0

//! Cutover: which of two sides takes writes, and how writes move to the other.
//!
//! All objects have names that follow from the names of the subscriptions, and the comments of the fences record what
//! was done, so the caller need not remember anything. If a call is interrupted at any point, the next one finishes it,
//! or undoes it if nothing was committed.

mod current;
mod describing;
mod leaving;
mod left_behind;
mod locking;
mod memory;
mod names;
mod objecting;
mod reading;
mod run;
mod running;
mod slots;
mod steps;
mod streams;
mod switching;
mod turning;

use std::collections::BTreeSet;
use std::time::Duration;

use super::checks::Objection;
use super::error::Result;
use super::{Operation, Pair, Place, comparison};
use crate::postgres::fence::{self, Gate};
use crate::postgres::{Conninfo, Database, Ident, QualifiedName};
use memory::Memory;
use run::Run;

pub use current::{Active, Current, Flow, SideNow, StreamNow};
pub use names::is_way_back;
pub use steps::{Desired, Refused, Step, Under, steps};

/// A cutover: what replicates between the two sides, which of them should take writes, and how a switch is done.
#[derive(Debug, Clone)]
pub struct Cutover {
    /// The subscriptions on the subscriber that bring the publisher's writes to it. Others create them. A cutover stops
    /// and starts them, but never drops them.
    pub subscriptions: BTreeSet<Ident>,
    /// The desired state.
    pub desired: Desired,
    /// How the publisher's server reaches the subscriber, if changes flow back.
    pub way_back: Option<WayBack>,
    /// How a switch is done.
    pub terms: Terms,
}

/// How the publisher's server reaches the subscriber.
#[derive(Debug, Clone)]
pub struct WayBack {
    /// The connection, with its password.
    pub connection: Conninfo,
    /// Whether to set the connection of an existing subscription again, for example after a change of the password.
    pub resend: bool,
}

/// How a switch is done.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who keeps writers away from the old side.
    pub writes: Writes,
    /// What happens to the slot of the stream to the side that now takes writes.
    pub forward: Forward,
    /// What happens to writes on the old side to tables that are not replicated.
    pub unpublished_writes: Unpublished,
    /// A switch does not begin while more than this is still to be applied, in bytes of WAL.
    pub max_lag_bytes: u64,
    /// Sessions that prevent closing the tables for longer than this are ended; `None`: never.
    pub end_blockers_after: Option<Duration>,
    /// How the tables are compared before the commit; `None`: not at all.
    pub compare: Option<comparison::Mode>,
    /// Tables with more rows than this, by the planner's estimate, are not compared while writers wait.
    pub compare_max_rows: u64,
    /// How many numbers each sequence skips.
    pub sequence_margin: u32,
    /// Sequences that are copied in addition to those of the tables.
    pub sequences: BTreeSet<QualifiedName>,
    /// The message for an application that still writes to the old side.
    pub message: String,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            writes: Writes::Fence,
            forward: Forward::Drop,
            unpublished_writes: Unpublished::Block,
            max_lag_bytes: 16 << 20,
            end_blockers_after: None,
            compare: Some(comparison::Mode::Counts),
            compare_max_rows: 1_000_000,
            sequence_margin: 0,
            sequences: BTreeSet::new(),
            message: "writes have moved to another server".to_owned(),
        }
    }
}

/// Who keeps writers away from the old side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writes {
    /// The fence: triggers on the tables. Creating them needs the rights of the tables' owner.
    #[default]
    Fence,
    /// The user, who has stopped them. The switch waits for open transactions and locks the tables until everything has
    /// arrived. Afterwards nothing refuses writes to the old side, and no trigger is created there.
    External,
}

/// What happens to the slot of the stream to the side that now takes writes. The subscription stays, disabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Forward {
    /// It is dropped, so that nothing keeps WAL on the old side.
    #[default]
    Drop,
    /// It stays and keeps WAL.
    Disable,
}

/// What happens to writes on the old side to tables that are not replicated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unpublished {
    /// New sessions are read-only by the database's default, until the side takes writes again.
    #[default]
    Block,
    /// They are allowed.
    Allow,
}

/// The state of both servers, the remaining steps, and what prevents them.
#[derive(Debug, Clone)]
pub struct Found {
    /// The state of both servers.
    pub current: Current,
    /// The side that takes writes now.
    pub active: Active,
    /// The remaining steps; empty if all is as desired, or if a refusal says why nothing can be done.
    pub steps: Vec<Step>,
    /// Everything that prevents the steps, and warnings about them.
    pub objections: Vec<Objection>,
    /// The replicated tables, by their names on the subscriber.
    pub tables: BTreeSet<QualifiedName>,
    /// The subscription that brings changes back, if there is or will be one.
    pub reverse_subscription: Option<Ident>,
    /// About how long writers will wait in a switch, if no session locks the tables.
    pub expected_wait: Duration,
    /// Whether a switch compares the tables.
    pub is_compared: bool,
    /// The last switch, if there was any.
    pub last: Option<Switched>,
}

/// A completed switch. It is recorded in the comment of the old side's fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// Its number: the first is 1.
    pub number: u64,
    /// The side that has taken writes since then.
    pub to: Place,
    /// The position in the old side's WAL: everything before it has arrived on the other side.
    pub position: String,
    /// When it was committed, in UTC, in the format of RFC 3339, by the old server's clock.
    pub at: String,
    /// How long nobody could write to either side.
    pub pause: Duration,
    /// How many sessions waited when it was committed.
    pub writers_waited: u64,
    /// How many sequences were copied.
    pub sequences_copied: u64,
}

/// The result of [`run()`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The side that takes writes, or will take them next.
    pub active: Place,
    /// Whether a switch to it was interrupted after its commit, so that nobody can write until the next [`run()`].
    pub is_unfinished: bool,
    /// The tables that a fence protects.
    pub fenced_tables: BTreeSet<QualifiedName>,
    /// The last switch, by this call or an earlier one; none before the first.
    pub last: Option<Switched>,
    /// Whether it was done by this call.
    pub has_switched: bool,
    /// The subscription that brings changes back, if there is one.
    pub reverse_subscription: Option<Ident>,
}

/// What [`take_away`] has left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// A side that stays closed to writers, with the statements that open it, in order.
    pub closed: Option<(Place, Vec<String>)>,
}

/// How a cutover has changed a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The slot that it had, and will have again after the switch back.
    pub slot: Option<Ident>,
    /// The `synchronous_commit` to restore, if a switch has set another for now.
    pub synchronous_commit: Option<String>,
    /// Whether it was disabled because writes have left its publisher.
    pub is_disabled: bool,
    /// Whether the cutover has been removed since, so that nothing starts it again.
    pub is_left_behind: bool,
}

/// Reads both servers and changes nothing. Finds everything that stands in the way at once.
///
/// # Errors
/// When a query fails. A reason against a switch is not an error but an [`Objection`].
pub async fn look(pair: &Pair, cutover: &Cutover, operation: &Operation<'_>) -> Result<Found> {
    let run = Run::begin(operation, pair, cutover).await?;
    let (steps, objections) = Box::pin(objecting::judge(&run)).await?;
    let current = run.facts.current(cutover);
    let is_switching = steps.iter().any(|step| matches!(step, Step::Switch { .. }));
    let expected_wait = if is_switching { Box::pin(run.expected_wait()).await? } else { Duration::ZERO };
    Ok(Found {
        active: current.active(),
        current,
        steps,
        objections,
        tables: run.facts.tables.clone(),
        reverse_subscription: run.way_back_name(),
        expected_wait,
        is_compared: cutover.terms.compare.is_some(),
        last: run.facts.last(),
    })
}

/// The steps in words, one line each, in their order. Pure.
pub fn describe(steps: &[Step], found: &Found) -> Vec<String> {
    describing::describe(steps, found)
}

/// Does the remaining steps: reads, decides, acts, and reads again until none is left. Warnings go to the operation's
/// listener. If it fails, one side still takes writes, unless the switch stopped between its commit and the opening of
/// the other side. Then the next call finishes it.
///
/// # Errors
/// With everything that stands in the way, before anything is changed; or when a step or a query fails.
pub async fn run(pair: &Pair, cutover: &Cutover, operation: &Operation<'_>) -> Result<Outcome> {
    Box::pin(running::run(pair, cutover, operation)).await
}

/// The current state, in the form of [`run()`]'s result. None if no part of the cutover exists.
///
/// # Errors
/// When a query fails.
pub async fn read(pair: &Pair, cutover: &Cutover, operation: &Operation<'_>) -> Result<Option<Outcome>> {
    let run = Run::begin(operation, pair, cutover).await?;
    let gates = [run.facts.publisher.standing.gate, run.facts.subscriber.standing.gate];
    Ok(gates.iter().any(|gate| matches!(gate, Gate::Open | Gate::Armed)).then(|| run.outcome(false)))
}

/// Removes the fences and the way back. A side that writes have left stays closed, unless `open_on_destroy`; the guard
/// of one that never took writes is removed. The subscriptions stay as they are.
///
/// # Errors
/// When a server refuses it or a query fails. The next call continues.
pub async fn take_away(
    pair: &Pair,
    cutover: &Cutover,
    open_on_destroy: bool,
    operation: &Operation<'_>,
) -> Result<Left> {
    Box::pin(leaving::take_away(pair, cutover, open_on_destroy, operation)).await
}

/// Whether a cutover has stopped a subscription of this database that reads from this slot. Unless configured
/// otherwise, it has dropped the slot then, and creates it again when the publisher takes over.
///
/// # Errors
/// When a query fails.
pub async fn has_stopped_reader(subscriber: &Database, slot: &Ident) -> Result<bool> {
    let fences = fence::described(subscriber).await?;
    let has = |comment: &str| Memory::read(Some(comment)).stopped.values().any(|stopped| stopped == slot);
    if fences.iter().any(|fence| has(&fence.comment)) {
        return Ok(true);
    }
    Ok(left_behind::found(subscriber).await?.values().any(|stopped| stopped == slot))
}

/// How a cutover has changed a subscription. The fences of its database say it, or its own comment once they are gone.
/// None if no cutover has changed it, or if the change was undone.
///
/// # Errors
/// When a query fails.
pub async fn stopped(subscriber: &Database, subscription: &Ident) -> Result<Option<Stopped>> {
    let fences = fence::described(subscriber).await?;
    let found = fences.iter().find_map(|fence| {
        let memory = Memory::read(Some(&fence.comment));
        let (slot, before) = (memory.stopped.get(subscription), memory.hastened.get(subscription));
        (slot.is_some() || before.is_some()).then(|| Stopped {
            slot: slot.cloned(),
            synchronous_commit: before.cloned(),
            is_disabled: slot.is_some(),
            is_left_behind: false,
        })
    });
    if found.is_some() {
        return Ok(found);
    }
    let slot = left_behind::found(subscriber).await?.remove(subscription);
    Ok(slot.map(|slot| Stopped { slot: Some(slot), synchronous_commit: None, is_disabled: true, is_left_behind: true }))
}
