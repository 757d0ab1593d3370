// SPDX-License-Identifier: MPL-2.0

//! One life of a configuration: plan, apply, plan again, destroy.

use std::time::{Duration, Instant};

use super::common::cli::Workspace;
use super::usage::{Usage, Watch};

const PLAN: [&str; 3] = ["plan", "-no-color", "-detailed-exitcode"];
const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];
const DESTROY: [&str; 3] = ["destroy", "-no-color", "-auto-approve"];

/// One command of a core.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    /// How long it took, in seconds.
    pub(super) seconds: f64,
    /// The usage of its processes.
    pub(super) usage: Usage,
}

/// Plan, apply, plan again, destroy; a step that was not measured is 0.
#[derive(Clone, Copy, Default)]
pub(super) struct Cycle {
    pub(super) steps: [Step; 4],
}

impl Cycle {
    /// The names of the steps.
    pub(super) const STEPS: [&str; 4] = ["plan", "apply", "plan again", "destroy"];

    /// Runs a whole life in an initialised workspace, and leaves nothing behind.
    pub(super) async fn run(workspace: &Workspace) -> Self {
        let mut steps = [Step::default(); 4];
        for (step, (arguments, code)) in [(PLAN, 2), (APPLY, 0), (PLAN, 0), (DESTROY, 0)].into_iter().enumerate() {
            steps[step] = Step::run(workspace, &arguments, code).await;
        }
        Self { steps }
    }

    /// Initialises a workspace and runs several lives in it. Returns their median.
    pub(super) async fn run_often(workspace: &Workspace, repeats: usize) -> Self {
        workspace.init().await;
        let mut cycles = Vec::new();
        for _ in 0..repeats {
            cycles.push(Self::run(workspace).await);
        }
        Self::median(&cycles)
    }

    /// The median of each number on its own.
    pub(super) fn median(cycles: &[Self]) -> Self {
        let step = |at: usize| Step::median(&cycles.iter().map(|cycle| cycle.steps[at]).collect::<Vec<_>>());
        Self { steps: [0, 1, 2, 3].map(step) }
    }

    /// The maximum memory of one process of the provider, in MiB.
    pub(super) fn peak(&self) -> f64 {
        self.steps.iter().map(|step| step.usage.peak).fold(0.0, f64::max)
    }

    /// The rest of a table row: seconds with ratios to a floor, and the provider's share of the core's processor time.
    pub(super) fn row(&self, floor: Option<&Self>) -> String {
        let cell = |at: usize| {
            let step = &self.steps[at];
            match floor {
                Some(floor) => format!("{:.2} ({:.2})", step.seconds, step.seconds / floor.steps[at].seconds),
                None => format!("{:.2}", step.seconds),
            }
        };
        let share = |at: usize| {
            let usage = &self.steps[at].usage;
            if usage.provider > 0.0 { format!("{:.0}", 100.0 * usage.provider / usage.core) } else { "-".to_owned() }
        };
        let peak = if self.peak() > 0.0 { format!("{:.1} MiB", self.peak()) } else { "-".to_owned() };
        let cells = [0, 1, 2, 3].map(cell).join(" | ");
        format!("| {cells} | {} | {peak} |", [0, 1, 2, 3].map(share).join(" / "))
    }
}

impl Step {
    /// Runs a command, which must end with this exit code.
    pub(super) async fn run(workspace: &Workspace, arguments: &[&str], code: i32) -> Self {
        let watch = Watch::begin(workspace.path().parent().expect("the workspace's root").to_owned());
        let started = Instant::now();
        workspace.expect(arguments, code).await;
        Self { seconds: started.elapsed().as_secs_f64(), usage: watch.end() }
    }

    /// The median of each number on its own.
    pub(super) fn median(steps: &[Self]) -> Self {
        let of = |number: &dyn Fn(&Self) -> f64| median(steps.iter().map(number).collect());
        Self {
            seconds: of(&|step| step.seconds),
            usage: Usage {
                peak: of(&|step| step.usage.peak),
                provider: of(&|step| step.usage.provider),
                core: of(&|step| step.usage.core),
            },
        }
    }
}

/// The median of some durations, in seconds.
pub(super) fn median_of(durations: &[Duration]) -> f64 {
    median(durations.iter().map(Duration::as_secs_f64).collect())
}

pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
