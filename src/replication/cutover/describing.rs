// SPDX-License-Identifier: MPL-2.0

//! The steps in words, for a plan. Pure.

use super::Found;
use super::steps::{Step, Under};
use crate::replication::{Place, units};

pub(super) fn describe(steps: &[Step], found: &Found) -> Vec<String> {
    steps.iter().map(|step| line(step, found)).collect()
}

fn line(step: &Step, found: &Found) -> String {
    let (tables, side) = (tables(found), |place: &Place| place.as_str());
    match step {
        Step::MakeFence(place) => format!("{}: put a fence on {tables}, open for now", side(place)),
        Step::Guard(place) => format!("{}: refuse writes to {tables} from everybody but the replication", side(place)),
        Step::RemoveStream(place) => format!("{}: drop the subscription that brings changes back", side(place)),
        Step::MakeStream(place) => {
            format!("{}: make the subscription that will bring changes back, disabled until the switch", side(place))
        }
        Step::Reconnect(place) => {
            format!("{}: give the subscription that brings changes back its connection", side(place))
        }
        Step::Hasten(place) => {
            format!(
                "{}: have the subscription confirm each commit for the switch, and wait until it has caught up",
                side(place)
            )
        }
        Step::Switch { from, under, .. } => switch(*from, under, found),
        Step::Stop(place) => format!("{}: disable the subscription that led here", side(place)),
        Step::Start(place) => format!("{}: enable the subscription again", side(place)),
        Step::Open(place) => format!("{}: let everybody write", side(place)),
        Step::DropSlot(place) => {
            format!("{}: drop the slot of the disabled subscription, which would keep WAL", side(&place.other()))
        }
        Step::Calm(place) => format!("{}: put synchronous_commit of the subscription back", side(place)),
    }
}

fn switch(from: Place, under: &[Under], found: &Found) -> String {
    let to = from.other().as_str();
    let done = under.iter().filter_map(|what| match what {
        Under::Hold => Some(format!("close {} to writers, who wait", tables(found))),
        Under::Drain => Some(format!("wait until the {to} has everything")),
        Under::Compare => found.is_compared.then(|| "compare both sides".to_owned()),
        Under::Sequences => Some("copy sequences".to_owned()),
        Under::BeginSlot => Some("begin the way back".to_owned()),
        Under::Start => None,
        Under::Commit => Some("commit".to_owned()),
    });
    let done = done.collect::<Vec<_>>().join(", ");
    format!("{}: {done}. Writers wait about {}", from.as_str(), units::duration(found.expected_wait))
}

fn tables(found: &Found) -> String {
    match found.tables.len() {
        1 => "1 table".to_owned(),
        count => format!("{count} tables"),
    }
}
