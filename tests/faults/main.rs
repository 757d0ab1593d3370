// SPDX-License-Identifier: MPL-2.0

//! Tries faults: servers and cores killed and connections cut at each statement, and everything else that a publisher,
//! a subscriber or a person can do to an apply. Counts its cases.
//!
//! A test binary of its own without the usual harness: each lane has servers that it may kill, takes one case after the
//! other, and prints a line for each. Arguments are parts of the lines to run; `--list` only prints them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on fails; its output is a table")]

#[path = "../common/mod.rs"]
mod common;

mod lane;
mod matrix;
mod names;
mod rows;
mod servers;
mod singles;
mod slots;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;

use common::postgres::Major;
use lane::Lane;

/// The majors of each lane's publisher and subscriber. Two features need the newest on the subscriber's side.
const LANES: [(Major, Major); 5] = [
    (Major::V15, Major::V18),
    (Major::V18, Major::V17),
    (Major::V17, Major::V14),
    (Major::V17, Major::V18),
    (Major::V14, Major::V16),
];

/// One fault.
pub(crate) struct Case {
    /// The columns of its line: what it is tried on, and how.
    pub(crate) columns: [String; 4],
    /// Its kind for the counts.
    pub(crate) counts: Counts,
    /// Which lanes can run it, by the majors of publisher and subscriber.
    pub(crate) fits: fn(Major, Major) -> bool,
    /// Tries it, and returns the result.
    pub(crate) run: Attempt,
}

/// The kind of a case for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Fault,
    /// This many names, each in its own position.
    Names(usize),
}

/// Makes a case of its columns and an asynchronous function of a lane.
macro_rules! case {
    ($kind:expr, $what:expr, $when:expr, $fault:expr, $run:path $(, $argument:expr)*) => {
        $crate::Case::new(
            [$kind, $what, $when, $fault],
            Box::new(move |lane| futures_util::FutureExt::boxed_local($run(lane $(, $argument)*))),
        )
    };
}
pub(crate) use case;

/// Runs a case in a lane.
pub(crate) type Attempt = Box<dyn Fn(&mut Lane) -> LocalBoxFuture<'_, String> + Send + Sync>;

impl Case {
    /// A case that any lane can run.
    pub(crate) fn new(columns: [&str; 4], run: Attempt) -> Self {
        Self { columns: columns.map(str::to_owned), counts: Counts::Fault, fits: |_, _| true, run }
    }

    /// The same, only for lanes with fitting majors of publisher and subscriber.
    pub(crate) fn on(self, fits: fn(Major, Major) -> bool) -> Self {
        Self { fits, ..self }
    }

    fn title(&self) -> String {
        self.columns.join(" | ")
    }
}

/// The end of a case: its result, or that it failed.
struct Outcome {
    passed: bool,
    counts: Counts,
    line: String,
}

fn cases() -> Vec<Case> {
    let all = [singles::cases(), servers::cases(), slots::cases(), rows::cases(), names::cases(), matrix::cases()];
    all.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    let (flags, filters): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let chosen = |case: &Case| filters.is_empty() || filters.iter().any(|part| case.title().contains(part.as_str()));
    let cases: Vec<_> = cases().into_iter().filter(chosen).collect();
    if flags.iter().any(|flag| flag == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.title()));
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let outcomes = run(cases);
    report(&outcomes, started.elapsed())
}

/// Runs all cases in the lanes, each in the first that is free and fits.
fn run(cases: Vec<Case>) -> Vec<Outcome> {
    let queue = Mutex::new(VecDeque::from(cases));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (publisher, subscriber) in LANES {
            let (queue, outcomes) = (&queue, &outcomes);
            scope.spawn(move || {
                let mut lane = None;
                while let Some(case) = next(queue, publisher, subscriber) {
                    let outcome = run_one(&case, &mut lane, publisher, subscriber);
                    println!("{}", outcome.line);
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn next(queue: &Mutex<VecDeque<Case>>, publisher: Major, subscriber: Major) -> Option<Case> {
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let at = queue.iter().position(|case| (case.fits)(publisher, subscriber))?;
    queue.remove(at)
}

/// Runs one case. A lane with a failed case is thrown away, because its state is unknown.
fn run_one(case: &Case, lane: &mut Option<(tokio::runtime::Runtime, Lane)>, from: Major, to: Major) -> Outcome {
    let started = Instant::now();
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let (runtime, lane) = lane.get_or_insert_with(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let lane = runtime.block_on(Lane::new(from, to));
            (runtime, lane)
        });
        runtime.block_on((case.run)(lane))
    }));
    let seconds = started.elapsed().as_secs_f32();
    let lane_name = format!("{} to {}", from.number(), to.number());
    match tried {
        Ok(came) => {
            if let Some((_, lane)) = lane {
                lane.workspace.take_transcript();
            }
            Outcome {
                passed: true,
                counts: case.counts,
                line: format!("ok     | {} | {came} | {lane_name}, {seconds:.1} s", case.title()),
            }
        }
        Err(_) => {
            let said = lane.take().map(|(_, lane)| lane.evidence()).unwrap_or_default();
            let line = format!("{said}\nFAILED | {} | {lane_name}, {seconds:.1} s", case.title());
            Outcome { passed: false, counts: case.counts, line }
        }
    }
}

fn report(outcomes: &[Outcome], time: Duration) -> ExitCode {
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.passed).collect();
    for outcome in &failed {
        println!("{}", outcome.line.lines().last().unwrap_or_default());
    }
    let faults = outcomes.iter().filter(|outcome| outcome.counts == Counts::Fault).count();
    let names = outcomes.iter().map(|outcome| if let Counts::Names(names) = outcome.counts { names } else { 0 });
    println!("faults tried: {faults}, names tried: {}", names.sum::<usize>());
    println!("{} passed, {} failed in {:.0} s", outcomes.len() - failed.len(), failed.len(), time.as_secs_f32());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
