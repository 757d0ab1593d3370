//! What is left to do, decided from what both servers show. Pure.

use super::current::{Active, Current, SideNow, StreamNow};
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
    /// Make the subscription that will bring changes to a side: disabled, without its slot, so that it proves the way.
    MakeStream(Place),
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
        Active::Between(next) if next == desired.active => Ok(finishing(current, next)),
        Active::Between(next) => Ok(undoing(current, next)),
        Active::Side(active) => {
            let prepared = preparing(current, desired, active);
            let switch = if active == desired.active { Vec::new() } else { switching(current, desired, active)? };
            Ok(prepared.into_iter().chain(switch).collect())
        }
    }
}

/// What makes the switch short. All of it leaves the active side open.
fn preparing(current: &Current, desired: &Desired, active: Place) -> Vec<Step> {
    let other = active.other();
    let is_lacking = |side: SideNow| side.gate == Gate::Missing || side.uncovered > 0;
    let mut steps = Vec::new();
    if is_lacking(current.side(active)) {
        steps.push(Step::MakeFence(active));
    }
    if desired.guard && is_lacking(current.side(other)) {
        steps.push(Step::MakeFence(other));
    }
    if desired.guard && !current.side(other).is_shut() {
        steps.push(Step::Guard(other));
    }
    if desired.reverse && current.stream_to(active) == StreamNow::Missing {
        steps.push(Step::MakeStream(active));
    }
    steps
}

/// From the active side to the other one.
fn switching(current: &Current, desired: &Desired, from: Place) -> Result<Vec<Step>, Refused> {
    let to = from.other();
    if current.stream_to(to) != StreamNow::Enabled {
        return Err(if from == Place::Subscriber { Refused::NoWayBack } else { Refused::NoStream(to) });
    }
    let mut under = vec![Under::Hold, Under::Drain, Under::Compare, Under::Sequences];
    if desired.reverse {
        under.extend([Under::BeginSlot, Under::Start]);
    }
    under.push(Under::Commit);
    // Stopped before the commit, it would stay stopped where the switch is cut off and writes go on; stopped after the other
    // side is open, its changes could come back to it.
    let switch = Step::Switch { from, number: current.next_switch(), under };
    Ok(vec![Step::Hasten(to), switch, Step::Stop(to), Step::Open(to)])
}

/// What is left of a switch that was cut off after its commit.
fn finishing(current: &Current, next: Place) -> Vec<Step> {
    let stop = (current.stream_to(next) == StreamNow::Enabled).then_some(Step::Stop(next));
    stop.into_iter().chain([Step::Open(next)]).collect()
}

/// Back to the side that was left: neither has taken a write since, so that no change is on its way.
fn undoing(current: &Current, next: Place) -> Vec<Step> {
    let left = next.other();
    let stop = (current.stream_to(left) == StreamNow::Enabled).then_some(Step::Stop(left));
    let start = (current.stream_to(next) == StreamNow::Disabled).then_some(Step::Start(next));
    stop.into_iter().chain(start).chain([Step::Open(left)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Place::{Publisher, Subscriber};
    use StreamNow::{Disabled, Enabled, Missing};

    fn side(gate: Gate, left_by: u64) -> SideNow {
        SideNow { gate, uncovered: 0, left_by }
    }

    fn now(publisher: SideNow, subscriber: SideNow, forward: StreamNow, backward: StreamNow) -> Current {
        Current { publisher, subscriber, forward, backward }
    }

    fn desired(active: Place, reverse: bool) -> Desired {
        Desired { active, reverse, guard: true }
    }

    fn prepared() -> Current {
        now(side(Gate::Open, 0), side(Gate::Armed, 0), Enabled, Disabled)
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
        assert_eq!(steps(&fresh, &Desired { guard: false, ..desired(Publisher, false) }), Ok(made[..1].to_vec()));
        assert_eq!(steps(&prepared(), &desired(Publisher, true)), Ok(Vec::new()));
        let grown = Current { publisher: SideNow { uncovered: 1, ..side(Gate::Open, 0) }, ..prepared() };
        assert_eq!(steps(&grown, &desired(Publisher, true)), Ok(vec![Step::MakeFence(Publisher)]));
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
        let there =
            vec![Step::Hasten(Subscriber), switch(Publisher, 1), Step::Stop(Subscriber), Step::Open(Subscriber)];
        assert_eq!(steps(&prepared(), &desired(Subscriber, true)), Ok(there));
        let moved = now(side(Gate::Armed, 1), side(Gate::Open, 0), Disabled, Enabled);
        assert_eq!(steps(&moved, &desired(Subscriber, true)), Ok(Vec::new()));
        let back = vec![Step::Hasten(Publisher), switch(Subscriber, 2), Step::Stop(Publisher), Step::Open(Publisher)];
        assert_eq!(steps(&moved, &desired(Publisher, true)), Ok(back));
    }

    #[test]
    fn what_was_cut_off_between_two_shut_sides_is_finished_or_undone() {
        let between = |publisher, subscriber, forward, backward| {
            now(side(Gate::Armed, publisher), side(Gate::Armed, subscriber), forward, backward)
        };
        let cases = [
            (between(1, 0, Enabled, Enabled), Subscriber, vec![Step::Stop(Subscriber), Step::Open(Subscriber)]),
            (between(1, 0, Disabled, Enabled), Subscriber, vec![Step::Open(Subscriber)]),
            (between(1, 0, Enabled, Enabled), Publisher, vec![Step::Stop(Publisher), Step::Open(Publisher)]),
            (
                between(1, 0, Disabled, Enabled),
                Publisher,
                vec![Step::Stop(Publisher), Step::Start(Subscriber), Step::Open(Publisher)],
            ),
            (between(1, 2, Enabled, Enabled), Publisher, vec![Step::Stop(Publisher), Step::Open(Publisher)]),
            (between(3, 2, Enabled, Disabled), Subscriber, vec![Step::Stop(Subscriber), Step::Open(Subscriber)]),
        ];
        for (current, active, expected) in cases {
            assert_eq!(steps(&current, &desired(active, true)), Ok(expected), "{current:?} to {active:?}");
        }
    }

    #[test]
    fn nothing_is_begun_that_would_lose_writes() {
        let moved = now(side(Gate::Armed, 1), side(Gate::Open, 0), Disabled, Missing);
        assert_eq!(steps(&moved, &desired(Publisher, false)), Err(Refused::NoWayBack));
        let stopped = Current { forward: Disabled, ..prepared() };
        assert_eq!(steps(&stopped, &desired(Subscriber, true)), Err(Refused::NoStream(Subscriber)));
        let foreign = Current { subscriber: side(Gate::Foreign, 0), ..prepared() };
        assert_eq!(steps(&foreign, &desired(Publisher, true)), Err(Refused::Foreign(Subscriber)));
    }
}
