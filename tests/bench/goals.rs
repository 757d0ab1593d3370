//! What the provider promises of its speed, each beside what was measured.

use super::cycle::Cycle;

/// Promises, and how many of them were kept.
#[derive(Default)]
pub(super) struct Goals {
    lines: Vec<String>,
    missed: usize,
}

impl Goals {
    /// Adds a promise: at most so much.
    pub(super) fn at_most(&mut self, what: &str, measured: f64, limit: f64, unit: &str) {
        let is_kept = measured <= limit;
        self.missed += usize::from(!is_kept);
        let verdict = if is_kept { "kept" } else { "MISSED" };
        self.lines.push(format!("| {what} | {measured:.2} {unit} | {limit:.2} {unit} | {verdict} |"));
    }

    /// What a life of publications may take beside its floor, `terraform_data`, and the statements alone.
    pub(super) fn of_life(&mut self, title: &str, ours: &Cycle, floor: &Cycle, alone: &Cycle) {
        let [_, apply, again, destroy] = ours.steps.map(|step| step.seconds);
        let least = floor.steps.map(|step| step.seconds);
        let statements = alone.steps.map(|step| step.seconds);
        self.at_most(&format!("{title}: plan again, 3.5 floors"), again, 3.5 * least[2], "s");
        let limit = 3.5 * least[1] + 3.0 * statements[1];
        self.at_most(&format!("{title}: apply, 3.5 floors and 3 times the statements"), apply, limit, "s");
        let limit = 3.0 * least[3] + 3.0 * statements[3];
        self.at_most(&format!("{title}: destroy, 3 floors and 3 times the statements"), destroy, limit, "s");
        for (name, step) in Cycle::STEPS.into_iter().zip(&ours.steps) {
            let limit = step.usage.core / 5.0;
            let what = format!("{title}: {name}, a fifth of the core's processor time");
            self.at_most(&what, step.usage.provider, limit, "s");
        }
        self.at_most(&format!("{title}: memory"), ours.peak(), 20.0, "MiB");
    }

    /// What distance may add.
    pub(super) fn of_distance(&mut self, title: &str, near: &Cycle, far: &Cycle) {
        for (step, limit) in [(1, 3.5), (2, 1.0)] {
            let added = far.steps[step].seconds - near.steps[step].seconds;
            self.at_most(&format!("{title}: {}, added", Cycle::STEPS[step]), added, limit, "s");
        }
    }

    /// Prints all of them.
    pub(super) fn print(&self) {
        println!("\n| promise | measured | at most | |\n|---|---|---|---|");
        self.lines.iter().for_each(|line| println!("{line}"));
        println!("\n{} of {} promises kept", self.lines.len() - self.missed, self.lines.len());
    }
}
