// SPDX-License-Identifier: MPL-2.0

//! Progress reports while indexes are built.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::QualifiedName;
use crate::postgres::definition::Object;
use crate::postgres::indexing::Building;
use crate::replication::status::Status;
use crate::replication::units;

/// The receiver of progress reports.
pub type Tell<'a> = dyn Fn(&Event<'_>) + Send + Sync + 'a;

/// An event to report.
#[derive(Debug)]
pub enum Event<'a> {
    /// The build waits for the initial copy.
    Copying(&'a [Status]),
    /// A job has begun.
    Began {
        /// The job, such as `building index app.users_name on table app.users`.
        what: &'a str,
        /// The size of its table in bytes.
        bytes: u64,
    },
    /// The progress of one build.
    Builds(&'a Building),
    /// Another session is already building it, for example that of a killed apply.
    Waits {
        /// The index.
        object: &'a Object,
        /// The process on the server.
        process: i32,
    },
    /// A job has ended.
    Ended {
        /// The job.
        what: &'a str,
        /// How long it took.
        took: Duration,
        /// How many jobs have ended so far.
        done: usize,
        /// How many jobs there are.
        all: usize,
    },
    /// A job has failed.
    Failed {
        /// The job.
        what: &'a str,
        /// The reason, in one line.
        why: &'a str,
    },
}

impl Event<'_> {
    /// The event in one line; none for the progress of the copy, which is reported elsewhere.
    pub fn line(&self) -> Option<String> {
        Some(match self {
            Self::Copying(_) => return None,
            Self::Began { what, bytes } => format!("{what} ({})", units::bytes(*bytes)),
            Self::Builds(building) => building_line(building),
            Self::Waits { object, process } => {
                format!("{object} is already being built by process {process} of the server: waiting for it")
            }
            Self::Ended { what, took, done, all } => {
                format!("{done} of {all}: {what} took {}", units::duration(*took))
            }
            Self::Failed { what, why } => format!("{what} failed: {why}"),
        })
    }
}

fn building_line(building: &Building) -> String {
    let name = building.index.as_ref().map_or_else(
        || format!("an index of {}", building.table.to_text()),
        |index| format!("index {} of {}", index.to_text(), building.table.to_text()),
    );
    let share = if building.all > 0 {
        format!(", {} % of it", units::percent(building.done.min(building.all), building.all))
    } else {
        String::new()
    };
    format!("{name}: {}{share}", building.phase)
}

/// How often to report a build within the same phase.
const PAUSE: Duration = Duration::from_secs(10);

/// The last report of each index.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<QualifiedName, (String, Instant)>);

impl Pace {
    /// Whether a report is due: at each change of the phase, and otherwise after a pause.
    pub(super) fn is_due(&mut self, building: &Building, now: Instant) -> bool {
        let name = building.index.as_ref().unwrap_or(&building.table);
        let told = self.0.get(name);
        let is_due = told.is_none_or(|(phase, at)| *phase != building.phase || now.duration_since(*at) >= PAUSE);
        if is_due {
            self.0.insert(name.clone(), (building.phase.clone(), now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_gets_on_is_told_of_now_and_then() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let table = QualifiedName::parse("app.users").unwrap();
        let building =
            |phase: &str| Building { index: None, table: table.clone(), phase: phase.to_owned(), done: 0, all: 0 };
        let due = [("a", 0), ("a", 5), ("b", 5), ("b", 14), ("b", 15)];
        let due = due.map(|(phase, after)| pace.is_due(&building(phase), start + Duration::from_secs(after)));
        assert_eq!(due, [true, false, true, false, true]);
    }

    #[test]
    fn each_event_is_one_line() {
        let index = QualifiedName::parse("app.users_name").unwrap();
        let table = QualifiedName::parse("app.users").unwrap();
        let phase = "building index: scanning table".to_owned();
        let building = Building { index: Some(index.clone()), table, phase, done: 1, all: 4 };
        let lines = [
            Event::Copying(&[]).line(),
            Event::Began { what: "analyzing", bytes: 1_572_864 }.line(),
            Event::Builds(&building).line(),
            Event::Builds(&Building { index: None, all: 0, ..building.clone() }).line(),
            Event::Waits { object: &Object::Index(index), process: 7 }.line(),
            Event::Ended { what: "building", took: Duration::from_secs(65), done: 2, all: 3 }.line(),
            Event::Failed { what: "building", why: "no" }.line(),
        ];
        let expected = [
            None,
            Some("analyzing (1.5 MiB)"),
            Some("index app.users_name of app.users: building index: scanning table, 25 % of it"),
            Some("an index of app.users: building index: scanning table"),
            Some("index app.users_name is already being built by process 7 of the server: waiting for it"),
            Some("2 of 3: building took 1 min 05 s"),
            Some("building failed: no"),
        ];
        assert_eq!(lines, expected.map(|line| line.map(str::to_owned)));
    }
}
