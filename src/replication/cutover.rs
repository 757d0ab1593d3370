// SPDX-License-Identifier: MPL-2.0

//! Which of two sides takes writes, and moving the writes from one to the other.
//!
//! Everything is found by names that follow from those of the subscriptions, and the comments of the fences say what was done:
//! nothing depends on what a caller remembers. If a call is interrupted at any point, the next one finishes it, or undoes it if
//! nothing was committed.

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

/// A cutover: what replicates between the two sides, which of them is to take writes, and on which terms that changes.
#[derive(Debug, Clone)]
pub struct Cutover {
    /// The subscriptions on the subscriber that bring the publisher's writes to it. They are made by somebody else, and are
    /// stopped and started here, and never dropped.
    pub subscriptions: BTreeSet<Ident>,
    /// What is wanted.
    pub desired: Desired,
    /// How the publisher's server reaches the subscriber, where changes are to flow back.
    pub way_back: Option<WayBack>,
    /// How a switch is done.
    pub terms: Terms,
}

/// How the publisher's server reaches the subscriber.
#[derive(Debug, Clone)]
pub struct WayBack {
    /// The connection, with its password.
    pub connection: Conninfo,
    /// Send the connection once more to a subscription that is there, such as after another password was given.
    pub resend: bool,
}

/// How a switch is done.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Who keeps writers from the side that is left.
    pub writes: Writes,
    /// What becomes of the slot of the stream that led to the side which takes writes now.
    pub forward: Forward,
    /// What becomes of writes to tables that are not replicated, on the side that is left.
    pub unpublished_writes: Unpublished,
    /// A switch does not begin where more is still to be applied, in bytes of WAL.
    pub max_lag_bytes: u64,
    /// Sessions that keep the tables from being closed for longer than this are ended; none never are.
    pub end_blockers_after: Option<Duration>,
    /// How closely the tables are compared before the commit; none are not.
    pub compare: Option<comparison::Mode>,
    /// Larger tables, by the planner's estimate, are not compared while writers wait.
    pub compare_max_rows: u64,
    /// How many numbers of each sequence are left out.
    pub sequence_margin: u32,
    /// Sequences that are copied beside those of the tables.
    pub sequences: BTreeSet<QualifiedName>,
    /// What an application is told that still writes to the side that was left.
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

/// Who keeps writers from the side that is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Writes {
    /// The fence: triggers on the tables, which take their owner's rights.
    #[default]
    Fence,
    /// The user, who has stopped them. Whoever still writes is waited for, and the tables are locked until all of it has
    /// arrived; afterwards nothing turns away who writes there. No trigger is made on a side that is left.
    External,
}

/// What becomes of the slot of the stream that led to the side which takes writes now. The subscription stays, disabled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Forward {
    /// It is dropped, so that nothing keeps WAL on the side that was left.
    #[default]
    Drop,
    /// It stays, and keeps WAL.
    Disable,
}

/// What becomes of writes to tables that are not replicated, on the side that is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unpublished {
    /// The database's default makes new sessions read-only, until the side takes writes again.
    #[default]
    Block,
    /// They go on.
    Allow,
}

/// What both servers show, what is left to do, and what stands against it.
#[derive(Debug, Clone)]
pub struct Found {
    /// What both servers show.
    pub current: Current,
    /// The side that takes writes now.
    pub active: Active,
    /// What is left to do; nothing where all is as desired, or a refusal says why nothing can be done.
    pub steps: Vec<Step>,
    /// Everything that stands against the steps, and what should be known about them.
    pub objections: Vec<Objection>,
    /// The tables that the subscriptions bring, by the names under which their rows arrive.
    pub tables: BTreeSet<QualifiedName>,
    /// The subscription that brings changes back, where there is or will be one.
    pub reverse_subscription: Option<Ident>,
    /// About how long writers are going to wait in a switch, should nobody hold the tables.
    pub expected_wait: Duration,
    /// Whether a switch compares the tables.
    pub is_compared: bool,
    /// The last switch, if there was any.
    pub last: Option<Switched>,
}

/// A switch that was done. It is kept in the comment of the fence of the side that was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switched {
    /// Its number: the first is 1.
    pub number: u64,
    /// The side that takes writes since.
    pub to: Place,
    /// The position in the WAL of the side that was left: all before it has arrived on the other one.
    pub position: String,
    /// When it was committed, as RFC 3339 has it, in UTC by the clock of the server that was left.
    pub at: String,
    /// How long nobody could write to either side.
    pub pause: Duration,
    /// How many sessions waited for its end.
    pub writers_waited: u64,
    /// How many sequences were copied.
    pub sequences_copied: u64,
}

/// What [`run`] has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The side that takes writes, or is the next to.
    pub active: Place,
    /// Whether a switch to it was cut off after its commit, so that nobody can write until the next [`run`].
    pub is_unfinished: bool,
    /// The tables that a fence is around.
    pub fenced_tables: BTreeSet<QualifiedName>,
    /// The last switch, of this call or of one before; none before the first.
    pub last: Option<Switched>,
    /// Whether it was done by this call.
    pub has_switched: bool,
    /// The subscription that brings changes back, where there is one.
    pub reverse_subscription: Option<Ident>,
}

/// What [`take_away`] has left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// A side that stays closed to writers, with the statements that open it, in order.
    pub closed: Option<(Place, Vec<String>)>,
}

/// What a cutover has made of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The slot that it had, and gets back with the switch back.
    pub slot: Option<Ident>,
    /// The `synchronous_commit` that it had, and gets back, while a switch has set another.
    pub synchronous_commit: Option<String>,
    /// Whether it was disabled because its publisher was left.
    pub is_disabled: bool,
    /// Whether the cutover was taken away since, so that nothing starts it again.
    pub is_left_behind: bool,
}

/// Looks at both servers. Changes nothing, and finds everything that stands in the way at once.
///
/// # Errors
/// When a server cannot be asked. What stands against a switch is no error but an [`Objection`].
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

/// The steps in words, a line each, in the order of doing. Pure.
pub fn describe(steps: &[Step], found: &Found) -> Vec<String> {
    describing::describe(steps, found)
}

/// Does what is left to do: looks, decides, does, and looks again until nothing is left. Warnings go to the operation's
/// listener. Whatever it fails with, writers go on on one side, but for a switch that was cut off between its commit and the
/// opening of the other side: that one is finished by the next call.
///
/// # Errors
/// With all that stands in the way, before anything is changed; or when a step fails, or a server cannot be asked.
pub async fn run(pair: &Pair, cutover: &Cutover, operation: &Operation<'_>) -> Result<Outcome> {
    Box::pin(running::run(pair, cutover, operation)).await
}

/// What there is, as [`run`] would tell it, where nothing is left to do: for reading a state. None where nothing of the
/// cutover is there.
///
/// # Errors
/// When a server cannot be asked.
pub async fn read(pair: &Pair, cutover: &Cutover, operation: &Operation<'_>) -> Result<Option<Outcome>> {
    let run = Run::begin(operation, pair, cutover).await?;
    let gates = [run.facts.publisher.standing.gate, run.facts.subscriber.standing.gate];
    Ok(gates.iter().any(|gate| matches!(gate, Gate::Open | Gate::Armed)).then(|| run.outcome(false)))
}

/// Takes the fences and the way back away. A side that was left stays closed to writers, unless `open_on_destroy`; the guard of
/// one that never took writes goes. The subscriptions stay as they are.
///
/// # Errors
/// When a server cannot be asked or refuses it. The next call goes on.
pub async fn take_away(
    pair: &Pair,
    cutover: &Cutover,
    open_on_destroy: bool,
    operation: &Operation<'_>,
) -> Result<Left> {
    Box::pin(leaving::take_away(pair, cutover, open_on_destroy, operation)).await
}

/// Whether a cutover has stopped a subscription of this database that reads from this slot. It has dropped the slot then, where
/// nothing was said against that, and makes it again when the publisher takes over.
///
/// # Errors
/// When the subscriber cannot be asked.
pub async fn has_stopped_reader(subscriber: &Database, slot: &Ident) -> Result<bool> {
    let fences = fence::described(subscriber).await?;
    let has = |comment: &str| Memory::read(Some(comment)).stopped.values().any(|stopped| stopped == slot);
    if fences.iter().any(|fence| has(&fence.comment)) {
        return Ok(true);
    }
    Ok(left_behind::found(subscriber).await?.values().any(|stopped| stopped == slot))
}

/// What a cutover has made of a subscription, by what the fences of its database say, or its own comment once they are gone: none
/// where no cutover has changed it, or it has been given back.
///
/// # Errors
/// When the subscriber cannot be asked.
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
