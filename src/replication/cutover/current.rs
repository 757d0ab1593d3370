// SPDX-License-Identifier: MPL-2.0

//! The state of a cutover on both servers. Every decision follows from it, so that the next call can finish an
//! interrupted one. Pure.

use crate::postgres::fence::Gate;
use crate::replication::Place;

/// The state of both servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// The side that was the source at first.
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
    /// The number of the last switch away from this side, as recorded in its fence; 0 if there was none.
    pub left_by: u64,
    /// Whether its message for writers is outdated.
    pub says_other: bool,
}

/// The stream of changes to a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamNow {
    /// Whether it runs.
    pub flow: Flow,
    /// Whether its slot still exists at the other end although the stream was stopped.
    pub has_slot: bool,
    /// Whether it confirms each commit at once, which it does only for a switch.
    pub is_hastened: bool,
    /// Whether it brings the right tables.
    pub fits: bool,
    /// Whether its connection must be set again.
    pub reconnects: bool,
}

/// Whether a stream runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It does not exist.
    Missing,
    /// It exists, and receives nothing.
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
    /// Neither: a switch to this side was interrupted after its commit. This side was not opened, so it has taken no
    /// writes.
    Between(Place),
}

impl Current {
    /// One side.
    pub fn side(&self, place: Place) -> SideNow {
        if place == Place::Subscriber { self.subscriber } else { self.publisher }
    }

    /// The stream of changes to a side.
    pub fn stream_to(&self, place: Place) -> StreamNow {
        if place == Place::Subscriber { self.forward } else { self.backward }
    }

    /// Which side takes writes. If both fences are alike, the side that was left last decides: switches are numbered,
    /// and the commit that shuts a fence writes the number into it. If that fence is open, somebody else has opened it.
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

    /// Whether the last switch moved writes away from this side.
    pub fn is_left_last(&self, place: Place) -> bool {
        self.side(place).left_by > self.side(place.other()).left_by
    }

    /// The number of the next switch.
    pub fn next_switch(&self) -> u64 {
        self.publisher.left_by.max(self.subscriber.left_by) + 1
    }
}

impl SideNow {
    /// Whether it refuses writes.
    pub fn is_shut(self) -> bool {
        self.gate == Gate::Armed
    }

    /// Whether a part of it is missing.
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
