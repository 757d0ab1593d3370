// SPDX-License-Identifier: MPL-2.0

//! Decides the remaining steps from the state of both servers. Pure.

use super::current::{Active, Current, Flow};
use crate::postgres::fence::Gate;
use crate::replication::Place;

/// The desired state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired {
    /// The side that should take writes.
    pub active: Place,
    /// Whether changes should flow back after a switch.
    pub reverse: bool,
    /// Whether the side that is not active should refuse writes.
    pub guard: bool,
}

/// One step, in the order of execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create the missing parts of a side's fence. It stays open or shut.
    MakeFence(Place),
    /// Refuse writes on a side that is not active.
    Guard(Place),
    /// Drop the subscription that brings changes back, with its slot and its publication.
    RemoveStream(Place),
    /// Create the subscription that will bring changes to a side: disabled and without a slot, to prove that the
    /// connection works.
    MakeStream(Place),
    /// Set the connection of that subscription again.
    Reconnect(Place),
    /// Have the subscription to a side confirm each commit at once, and wait until it lags little.
    Hasten(Place),
    /// Move writes away from a side, in one open transaction there.
    Switch {
        /// The side that writes leave.
        from: Place,
        /// The number of the switch, which its fence records.
        number: u64,
        /// What is done while writers wait.
        under: Vec<Under>,
    },
    /// Stop the subscription to the side that takes writes next.
    Stop(Place),
    /// Start the subscription to a side again. It misses nothing, because neither side has taken a write meanwhile.
    Start(Place),
    /// Let everybody write to a side.
    Open(Place),
    /// Drop the slot of the stopped subscription to a side, so that nothing keeps WAL at its other end.
    DropSlot(Place),
    /// Let the subscription to a side confirm commits as before.
    Calm(Place),
}

/// A part of a switch's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Under {
    /// Keep writers waiting, and arm the fence.
    Hold,
    /// Wait until the other side has applied everything.
    Drain,
    /// Compare both sides.
    Compare,
    /// Raise the other side's sequences.
    Sequences,
    /// Create the slot of the way back.
    BeginSlot,
    /// Enable the subscription of the way back with the commit.
    Start,
    /// Commit: writes have left the side.
    Commit,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The subscriber has taken writes, and no stream brings them back.
    NoWayBack,
    /// No subscription brings the active side's writes to the other one.
    NoStream(Place),
    /// On a side, a function that the provider did not create has the name of the fence's.
    Foreign(Place),
}

/// The remaining steps; empty if all is as desired.
///
/// # Errors
/// With the reason why nothing can be done.
pub fn steps(current: &Current, desired: &Desired) -> Result<Vec<Step>, Refused> {
    let sides = [Place::Publisher, Place::Subscriber];
    if let Some(side) = sides.into_iter().find(|side| current.side(*side).gate == Gate::Foreign) {
        return Err(Refused::Foreign(side));
    }
    match current.active() {
        Active::Between(next) if next == desired.active => Ok(finishing(next)),
        Active::Between(next) => Ok(undoing(current, next)),
        Active::Side(active) if active == desired.active => Ok(preparing(current, desired, active)),
        Active::Side(active) => {
            let switch = switching(current, desired, active)?;
            Ok(preparing(current, desired, active).into_iter().chain(switch).collect())
        }
    }
}

/// Steps that make the switch short, and those left from an earlier one. The active side stays open.
fn preparing(current: &Current, desired: &Desired, active: Place) -> Vec<Step> {
    let (other, is_switching) = (active.other(), active != desired.active);
    let mut steps = Vec::new();
    // A stream to the side that takes writes should have been stopped by the last switch.
    if current.stream_to(active).runs() {
        steps.push(Step::Stop(active));
    }
    if current.stream_to(active).has_slot {
        steps.push(Step::DropSlot(active));
    }
    let makes = [active, other].into_iter().filter(|side| current.side(*side).is_lacking());
    steps.extend(makes.map(Step::MakeFence));
    steps.extend(guarding(current, desired, active));
    if active == Place::Publisher || !is_switching {
        steps.extend(way_back(current, desired, active));
    }
    if !is_switching && current.stream_to(other).is_hastened {
        steps.push(Step::Calm(other));
    }
    steps
}

/// The guard of the side that is not active. With a way back, a switch always needs one: otherwise a write to the new
/// side before the stream to it has stopped would come back.
fn guarding(current: &Current, desired: &Desired, active: Place) -> Option<Step> {
    let other = active.other();
    let side = current.side(other);
    let is_switching = active != desired.active;
    let is_wanted = desired.guard || (desired.reverse && is_switching) || current.is_left_last(other);
    match (is_wanted, side.is_shut()) {
        (true, false) => Some(Step::Guard(other)),
        (true, true) if side.says_other && !is_switching => Some(Step::Guard(other)),
        // A side that writes have left stays shut: this shows which side takes writes.
        (false, true) if side.left_by == 0 => Some(Step::Open(other)),
        _ => None,
    }
}

/// The subscription that brings changes back. It can be made only before the first write to the subscriber.
fn way_back(current: &Current, desired: &Desired, active: Place) -> Vec<Step> {
    let (to, back) = (Place::Publisher, current.backward);
    let remove = (back.flow != Flow::Missing).then_some(Step::RemoveStream(to));
    match (desired.reverse, active == to) {
        (false, _) => remove.into_iter().collect(),
        (true, true) if !back.fits => remove.into_iter().chain([Step::MakeStream(to)]).collect(),
        (true, _) if back.flow != Flow::Missing => {
            let reconnect = back.reconnects.then_some(Step::Reconnect(to));
            // Somebody has disabled it. Its slot still has every change that it misses.
            let is_stopped = active != to && back.flow == Flow::Disabled && back.has_slot;
            reconnect.into_iter().chain(is_stopped.then_some(Step::Start(to))).collect()
        }
        (true, _) => Vec::new(),
    }
}

/// From the active side to the other one.
fn switching(current: &Current, desired: &Desired, from: Place) -> Result<Vec<Step>, Refused> {
    let to = from.other();
    match current.stream_to(to).flow {
        Flow::Enabled => {}
        Flow::Missing if from == Place::Subscriber => return Err(Refused::NoWayBack),
        _ => return Err(Refused::NoStream(to)),
    }
    // After the switch back, the user's own subscription continues as before.
    let goes_back = match from {
        Place::Subscriber => current.forward.flow != Flow::Missing,
        _ => desired.reverse,
    };
    let mut under = vec![Under::Hold, Under::Drain, Under::Compare, Under::Sequences];
    if goes_back {
        under.extend([Under::BeginSlot, Under::Start]);
    }
    under.push(Under::Commit);
    // If the stream were stopped before the commit, it would stay stopped after an interrupted switch while writes go
    // on. If it were stopped after the other side is open, changes could come back.
    let switch = Step::Switch { from, number: current.next_switch(), under };
    Ok(vec![Step::Hasten(to), switch, Step::Stop(to), Step::Open(to), Step::DropSlot(to)])
}

/// The rest of a switch that was interrupted after its commit. Even if the stream is disabled already, its worker may
/// still run.
fn finishing(next: Place) -> Vec<Step> {
    vec![Step::Stop(next), Step::Open(next), Step::DropSlot(next)]
}

/// Moves writes back to the old side. Neither side has taken a write since, so no change is in transit.
fn undoing(current: &Current, next: Place) -> Vec<Step> {
    let left = next.other();
    let stop = (current.stream_to(left).flow != Flow::Missing).then_some(Step::Stop(left));
    let is_stopped = matches!(current.stream_to(next).flow, Flow::Disabled | Flow::Partly);
    let start = is_stopped.then_some(Step::Start(next));
    stop.into_iter().chain(start).chain([Step::Open(left), Step::DropSlot(left)]).collect()
}

#[cfg(test)]
mod tests {
    use super::super::current::{SideNow, StreamNow};
    use super::*;
    use Flow::{Disabled, Enabled, Missing};
    use Place::{Publisher, Subscriber};

    fn side(gate: Gate, left_by: u64) -> SideNow {
        SideNow { gate, uncovered: 0, left_by, says_other: false }
    }

    fn stream(flow: Flow) -> StreamNow {
        StreamNow { flow, has_slot: false, is_hastened: false, fits: flow != Missing, reconnects: false }
    }

    fn now(publisher: SideNow, subscriber: SideNow, forward: Flow, backward: Flow) -> Current {
        Current { publisher, subscriber, forward: stream(forward), backward: stream(backward) }
    }

    fn desired(active: Place, reverse: bool) -> Desired {
        Desired { active, reverse, guard: true }
    }

    fn prepared() -> Current {
        now(side(Gate::Open, 0), side(Gate::Armed, 0), Enabled, Disabled)
    }

    fn moved() -> Current {
        now(side(Gate::Armed, 1), side(Gate::Open, 0), Disabled, Enabled)
    }

    #[test]
    fn what_is_missing_is_made_and_then_nothing_is_left() {
        let fresh = now(side(Gate::Missing, 0), side(Gate::Missing, 0), Enabled, Missing);
        let made = [
            Step::MakeFence(Publisher),
            Step::MakeFence(Subscriber),
            Step::Guard(Subscriber),
            Step::MakeStream(Publisher),
        ];
        assert_eq!(steps(&fresh, &desired(Publisher, true)), Ok(made.to_vec()));
        assert_eq!(steps(&fresh, &Desired { guard: false, ..desired(Publisher, false) }), Ok(made[..2].to_vec()));
        assert_eq!(steps(&prepared(), &desired(Publisher, true)), Ok(Vec::new()));
        let grown = Current { publisher: SideNow { uncovered: 1, ..side(Gate::Open, 0) }, ..prepared() };
        assert_eq!(steps(&grown, &desired(Publisher, true)), Ok(vec![Step::MakeFence(Publisher)]));
        let unfit = Current { backward: StreamNow { fits: false, ..stream(Disabled) }, ..prepared() };
        let again = vec![Step::RemoveStream(Publisher), Step::MakeStream(Publisher)];
        assert_eq!(steps(&unfit, &desired(Publisher, true)), Ok(again));
    }

    #[test]
    fn what_is_wanted_no_more_goes() {
        let no_guard = Desired { guard: false, ..desired(Publisher, false) };
        let gone = vec![Step::Open(Subscriber), Step::RemoveStream(Publisher)];
        assert_eq!(steps(&prepared(), &no_guard), Ok(gone));
        // A side that writes have left stays shut.
        let left = Current { subscriber: side(Gate::Armed, 2), ..prepared() };
        assert_eq!(steps(&left, &no_guard), Ok(vec![Step::RemoveStream(Publisher)]));
        // It is removed only while it does not carry changes.
        assert_eq!(steps(&moved(), &desired(Subscriber, false)), Ok(vec![Step::RemoveStream(Publisher)]));
        let back = steps(&moved(), &desired(Publisher, false)).unwrap();
        assert!(matches!(back.get(1), Some(Step::Switch { from: Subscriber, .. })), "{back:?}");
    }

    #[test]
    fn a_side_that_somebody_has_opened_is_shut_again_and_so_is_one_that_says_something_else() {
        let moved = now(side(Gate::Armed, 1), side(Gate::Open, 0), Disabled, Enabled);
        let opened = Current { publisher: side(Gate::Open, 1), ..moved };
        assert_eq!(opened.active(), Active::Side(Subscriber));
        for guard in [true, false] {
            let wanted = Desired { guard, ..desired(Subscriber, true) };
            assert_eq!(steps(&opened, &wanted), Ok(vec![Step::Guard(Publisher)]));
        }
        let other = Current { publisher: SideNow { says_other: true, ..moved.publisher }, ..moved };
        assert_eq!(steps(&other, &desired(Subscriber, true)), Ok(vec![Step::Guard(Publisher)]));
        let back = steps(&other, &desired(Publisher, true)).unwrap();
        assert!(!back.contains(&Step::Guard(Publisher)), "{back:?}");
    }

    #[test]
    fn a_switch_stops_the_forward_stream_after_the_commit_and_before_the_other_side_opens() {
        let under = vec![
            Under::Hold,
            Under::Drain,
            Under::Compare,
            Under::Sequences,
            Under::BeginSlot,
            Under::Start,
            Under::Commit,
        ];
        let switch = |from, number| Step::Switch { from, number, under: under.clone() };
        let all = |from: Place, number| {
            let to = from.other();
            vec![Step::Hasten(to), switch(from, number), Step::Stop(to), Step::Open(to), Step::DropSlot(to)]
        };
        assert_eq!(steps(&prepared(), &desired(Subscriber, true)), Ok(all(Publisher, 1)));
        assert_eq!(steps(&moved(), &desired(Subscriber, true)), Ok(Vec::new()));
        assert_eq!(steps(&moved(), &desired(Publisher, true)), Ok(all(Subscriber, 2)));
        // Even without `guard`, there is a guard while both streams could run.
        let open = Current { subscriber: side(Gate::Open, 0), ..prepared() };
        let guarded = steps(&open, &Desired { guard: false, ..desired(Subscriber, true) }).unwrap();
        assert_eq!(guarded[0], Step::Guard(Subscriber));
    }

    #[test]
    fn what_was_cut_off_between_two_shut_sides_is_finished_or_undone() {
        let between = |publisher, subscriber, forward, backward| {
            now(side(Gate::Armed, publisher), side(Gate::Armed, subscriber), forward, backward)
        };
        let finish = |side| vec![Step::Stop(side), Step::Open(side), Step::DropSlot(side)];
        let start =
            vec![Step::Stop(Publisher), Step::Start(Subscriber), Step::Open(Publisher), Step::DropSlot(Publisher)];
        let cases = [
            (between(1, 0, Enabled, Enabled), Subscriber, finish(Subscriber)),
            (between(1, 0, Disabled, Enabled), Subscriber, finish(Subscriber)),
            (between(1, 0, Enabled, Enabled), Publisher, finish(Publisher)),
            (between(1, 0, Disabled, Enabled), Publisher, start),
            (between(1, 0, Enabled, Missing), Publisher, vec![Step::Open(Publisher), Step::DropSlot(Publisher)]),
            (between(1, 2, Enabled, Enabled), Publisher, finish(Publisher)),
            (between(3, 2, Enabled, Disabled), Subscriber, finish(Subscriber)),
        ];
        for (current, active, expected) in cases {
            assert_eq!(steps(&current, &desired(active, true)), Ok(expected), "{current:?} to {active:?}");
        }
    }

    #[test]
    fn a_way_back_that_somebody_has_disabled_goes_on_where_it_stood() {
        let stopped = |has_slot| Current { backward: StreamNow { has_slot, ..stream(Disabled) }, ..moved() };
        assert_eq!(steps(&stopped(true), &desired(Subscriber, true)), Ok(vec![Step::Start(Publisher)]));
        // Changes that it misses may be lost.
        assert_eq!(steps(&stopped(false), &desired(Subscriber, true)), Ok(Vec::new()));
        assert_eq!(steps(&stopped(true), &desired(Publisher, true)), Err(Refused::NoStream(Publisher)));
        assert_eq!(steps(&stopped(true), &desired(Subscriber, false)), Ok(vec![Step::RemoveStream(Publisher)]));
    }

    #[test]
    fn what_was_left_of_a_switch_is_taken_away() {
        let late = Current { forward: StreamNow { has_slot: true, ..stream(Disabled) }, ..moved() };
        assert_eq!(steps(&late, &desired(Subscriber, true)), Ok(vec![Step::DropSlot(Subscriber)]));
        let hastened = Current { forward: StreamNow { is_hastened: true, ..stream(Enabled) }, ..prepared() };
        assert_eq!(steps(&hastened, &desired(Publisher, true)), Ok(vec![Step::Calm(Subscriber)]));
        let begun = Current { backward: StreamNow { has_slot: true, ..stream(Disabled) }, ..prepared() };
        assert_eq!(steps(&begun, &desired(Publisher, true)), Ok(vec![Step::DropSlot(Publisher)]));
        // Without a guard, only the fact that the side takes writes shows that the stream must be stopped.
        let running = Current { forward: stream(Enabled), ..moved() };
        assert_eq!(steps(&running, &desired(Subscriber, true)), Ok(vec![Step::Stop(Subscriber)]));
    }

    #[test]
    fn nothing_is_begun_that_would_lose_writes() {
        let moved = now(side(Gate::Armed, 1), side(Gate::Open, 0), Disabled, Missing);
        assert_eq!(steps(&moved, &desired(Publisher, false)), Err(Refused::NoWayBack));
        for flow in [Missing, Disabled, Flow::Partly] {
            let stopped = Current { forward: stream(flow), ..prepared() };
            assert_eq!(steps(&stopped, &desired(Subscriber, true)), Err(Refused::NoStream(Subscriber)));
        }
        let foreign = Current { subscriber: side(Gate::Foreign, 0), ..prepared() };
        assert_eq!(steps(&foreign, &desired(Publisher, true)), Err(Refused::Foreign(Subscriber)));
    }
}
