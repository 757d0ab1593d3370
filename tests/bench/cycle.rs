//! One life of a configuration: plan, apply, plan again, destroy.

use std::time::{Duration, Instant};

use super::common::cli::Workspace;
use super::memory::Peak;

const PLAN: [&str; 3] = ["plan", "-no-color", "-detailed-exitcode"];
const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];
const DESTROY: [&str; 3] = ["destroy", "-no-color", "-auto-approve"];

/// How long each step took, in seconds; a step that was not measured took none.
#[derive(Clone, Copy, Default)]
pub(super) struct Cycle {
    /// Plan, apply, plan again, destroy.
    pub(super) steps: [f64; 4],
    /// The most memory that one process of the provider held, in MiB.
    pub(super) peak: f64,
}

impl Cycle {
    /// Runs a whole life in an initialised workspace, and leaves nothing behind.
    pub(super) async fn run(workspace: &Workspace) -> Self {
        let root = workspace.path().parent().expect("the workspace's root").to_owned();
        let peak = Peak::watch(root);
        let mut steps = [0.0; 4];
        for (step, (arguments, code)) in [(PLAN, 2), (APPLY, 0), (PLAN, 0), (DESTROY, 0)].into_iter().enumerate() {
            let started = Instant::now();
            workspace.expect(&arguments, code).await;
            steps[step] = started.elapsed().as_secs_f64();
        }
        Self { steps, peak: peak.end() }
    }

    /// The median of each number on its own.
    pub(super) fn median(cycles: &[Self]) -> Self {
        let of = |number: &dyn Fn(&Self) -> f64| median(cycles.iter().map(number).collect());
        Self { steps: [0, 1, 2, 3].map(|step| of(&|cycle| cycle.steps[step])), peak: of(&|cycle| cycle.peak) }
    }

    /// The rest of a table row, with ratios to a floor.
    pub(super) fn row(&self, floor: Option<&Self>) -> String {
        let cell = |step: usize| match floor {
            Some(floor) => format!("{:.2} ({:.2})", self.steps[step], self.steps[step] / floor.steps[step]),
            None => format!("{:.2}", self.steps[step]),
        };
        let peak = if self.peak > 0.0 { format!("{:.1} MiB", self.peak) } else { "-".to_owned() };
        format!("| {} | {} | {} | {} | {peak} |", cell(0), cell(1), cell(2), cell(3))
    }
}

/// The middle one of some durations, in seconds.
pub(super) fn median_of(durations: &[Duration]) -> f64 {
    median(durations.iter().map(Duration::as_secs_f64).collect())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
