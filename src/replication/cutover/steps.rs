// SPDX-License-Identifier: MPL-2.0

//! What is left to do, decided from what both servers show. Pure.

use super::current::{Active, Current, Flow};
use crate::postgres::fence::Gate;
use crate::replication::Place;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Desired {
    /// The side that takes writes.
    pub active: Place,
    /// Whether changes flow back after a switch.
    pub reverse: bool,
    /// Whether the side that is not active turns writers away.
    pub guard: bool,
}

/// One step, in the order of doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make what is missing of a side's fence. It stays as open or shut as it is.
    MakeFence(Place),
    /// Turn writers away from a side that is not active.
    Guard(Place),
    /// Take away the subscription that brings changes back, with its slot and its publication.
    RemoveStream(Place),
    /// Make the subscription that will bring changes to a side: disabled, without its slot, so that it proves the way.
    MakeStream(Place),
    /// Send the connection of that subscription once more.
    Reconnect(Place),
    /// Have the subscription to a side confirm each commit at once, and wait until it lags little.
    Hasten(Place),
    /// Leave a side, in one open transaction there.
    Switch {
        /// The side that is left.
        from: Place,
        /// The number that its fence bears afterwards.
        number: u64,
        /// What is done while writers wait.
        under: Vec<Under>,
    },
    /// Stop the subscription to a side, which takes writes next.
    Stop(Place),
    /// Start the subscription to a side again, from which nothing is missing: neither side has taken a write meanwhile.
    Start(Place),
    /// Let everybody write to a side.
    Open(Place),
    /// Drop the slot of the stopped subscription to a side, so that nothing keeps WAL at its other end.
    DropSlot(Place),
    /// Let the subscription to a side confirm commits as before.
    Calm(Place),
}

/// What is done in the transaction that leaves a side, before its commit.
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
    /// Let the slot of the way back begin here.
    BeginSlot,
    /// Start the subscription of the way back with the commit.
    Start,
    /// Commit: from here on the side is left.
    Commit,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The subscriber has taken writes, and nothing brings them back.
    NoWayBack,
    /// No subscription brings the active side's writes to the other one.
    NoStream(Place),
    /// On a side there is a function in the place of the fence's that was not made here.
    Foreign(Place),
}

/// What has to be done. Nothing, if all is as desired.
///
/// # Errors
/// With what stands against it.
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

/// What makes the switch short, and what was left of one. All of it leaves the active side open.
fn preparing(current: &Current, desired: &Desired, active: Place) -> Vec<Step> {
    let (other, is_switching) = (active.other(), active != desired.active);
    let mut steps = Vec::new();
    // What still brings changes to the side that takes writes was to be stopped before that.
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

/// The guard of the side that is not active. With a way back there is one during a switch in any case: whoever writes to the
/// new side before the stream to it has stopped would get his writes back.
fn guarding(current: &Current, desired: &Desired, active: Place) -> Option<Step> {
    let other = active.other();
    let side = current.side(other);
    let is_switching = active != desired.active;
    let is_wanted = desired.guard || (desired.reverse && is_switching) || current.is_left_last(other);
    match (is_wanted, side.is_shut()) {
        (true, false) => Some(Step::Guard(other)),
        (true, true) if side.says_other && !is_switching => Some(Step::Guard(other)),
        // One that was left stays shut: that tells who takes writes.
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
            // Somebody has disabled it. All that it lacks is in its slot.
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
    // After the way back, the subscription that somebody else has made goes on as before.
    let goes_back = match from {
        Place::Subscriber => current.forward.flow != Flow::Missing,
        _ => desired.reverse,
    };
    let mut under = vec![Under::Hold, Under::Drain, Under::Compare, Under::Sequences];
    if goes_back {
        under.extend([Under::BeginSlot, Under::Start]);
    }
    under.push(Under::Commit);
    // Stopped before the commit, it would stay stopped where the switch is cut off and writes go on; stopped after the other
    // side is open, its changes could come back to it.
    let switch = Step::Switch { from, number: current.next_switch(), under };
    Ok(vec![Step::Hasten(to), switch, Step::Stop(to), Step::Open(to), Step::DropSlot(to)])
}

/// What is left of a switch that was cut off after its commit. Where the stream is stopped already, its worker may still run.
fn finishing(next: Place) -> Vec<Step> {
    vec![Step::Stop(next), Step::Open(next), Step::DropSlot(next)]
}

/// Back to the side that was left: neither has taken a write since, so that no change is on its way.
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
        // A side that was left stays shut.
        let left = Current { subscriber: side(Gate::Armed, 2), ..prepared() };
        assert_eq!(steps(&left, &no_guard), Ok(vec![Step::RemoveStream(Publisher)]));
        // It goes only where it is not what leads back right now.
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
        // Without a guard there is one as long as both streams could run.
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
        // What it lacks may be gone.
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
        // Without a guard nothing tells that the stream was to be stopped but that the side takes writes.
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
