// SPDX-License-Identifier: MPL-2.0

//! What both servers show of a cutover: every decision follows from it, so that an interrupted call is finished. Pure.

use crate::postgres::fence::Gate;
use crate::replication::Place;

/// What both servers show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The side that was replicated from at first.
    pub publisher: SideNow,
    /// The other one.
    pub subscriber: SideNow,
    /// The subscriptions on the subscriber.
    pub forward: StreamNow,
    /// The subscription on the publisher, which brings changes back.
    pub backward: StreamNow,
}

/// The fence of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SideNow {
    /// What it does.
    pub gate: Gate,
    /// How many relations it does not cover.
    pub uncovered: usize,
    /// The number of the switch by which this side was left the last time, which its fence bears; 0 where it never was.
    pub left_by: u64,
    /// Whether it tells writers something else than it should.
    pub says_other: bool,
}

/// What brings changes to a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamNow {
    /// Whether it runs.
    pub flow: Flow,
    /// Whether a slot is there for it at the other end although it was stopped.
    pub has_slot: bool,
    /// Whether it confirms each commit at once for a switch, which it does not do otherwise.
    pub is_hastened: bool,
    /// Whether it brings the tables that it should.
    pub fits: bool,
    /// Whether its connection is to be sent once more.
    pub reconnects: bool,
}

/// Whether a stream runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It is not there.
    Missing,
    /// It is there, and receives nothing.
    Disabled,
    /// Some of its subscriptions run.
    Partly,
    /// It runs.
    Enabled,
}

/// Who takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// This side. Its own fence is open.
    Side(Place),
    /// Nobody: a switch to this side was cut off after its commit. This side was not opened, so that it has taken no writes.
    Between(Place),
}

impl Current {
    /// One side.
    pub fn side(&self, place: Place) -> SideNow {
        if place == Place::Subscriber { self.subscriber } else { self.publisher }
    }

    /// What brings changes to a side.
    pub fn stream_to(&self, place: Place) -> StreamNow {
        if place == Place::Subscriber { self.forward } else { self.backward }
    }

    /// Who takes writes. Where both fences are alike, the side that was left last tells: switches are numbered, and the fence
    /// bears the number from the commit that shut it. One that is open all the same was opened by somebody else.
    pub fn active(&self) -> Active {
        match (self.publisher.is_shut(), self.subscriber.is_shut()) {
            (true, false) => Active::Side(Place::Subscriber),
            (false, true) => Active::Side(Place::Publisher),
            (false, false) if self.is_left_last(Place::Publisher) => Active::Side(Place::Subscriber),
            (false, false) => Active::Side(Place::Publisher),
            (true, true) if self.is_left_last(Place::Subscriber) => Active::Between(Place::Publisher),
            (true, true) => Active::Between(Place::Subscriber),
        }
    }

    /// Whether the last switch has left this side.
    pub fn is_left_last(&self, place: Place) -> bool {
        self.side(place).left_by > self.side(place.other()).left_by
    }

    /// The number of the next switch.
    pub fn next_switch(&self) -> u64 {
        self.publisher.left_by.max(self.subscriber.left_by) + 1
    }
}

impl SideNow {
    /// Whether it turns writers away.
    pub fn is_shut(self) -> bool {
        self.gate == Gate::Armed
    }

    /// Whether something of it is missing.
    pub fn is_lacking(self) -> bool {
        self.gate == Gate::Missing || self.uncovered > 0
    }
}

impl StreamNow {
    /// Whether any of it runs.
    pub fn runs(self) -> bool {
        matches!(self.flow, Flow::Enabled | Flow::Partly)
    }
}
