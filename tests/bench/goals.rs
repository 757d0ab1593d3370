// SPDX-License-Identifier: MPL-2.0

//! The provider's promises about its speed, each with the measured value.

use serde_json::json;

use super::common::cli::Core;
use super::common::postgres::Major;
use super::common::{seen, tools};
use super::cycle::Cycle;

/// The file that `make figures` reads.
const FIGURES: &str = "bench.jsonl";

/// Records the measured programs, and the number of processors.
pub(super) fn note_programs() {
    let of_core = |core: Core| {
        let version = |command| {
            let mut command = std::process::Command::new(command);
            seen::said(command.args(["version", "-json"]).env("TF_CLI_CONFIG_FILE", "/dev/null"))
        };
        let version = tools::core(core.name()).map(version).unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&version).map(|said| said["terraform_version"].clone()).ok()
    };
    let programs = json!({
        "neonrepl": env!("CARGO_PKG_VERSION"),
        "terraform": of_core(Core::Terraform),
        "tofu": of_core(Core::OpenTofu),
        "postgres": Major::ALL.map(seen::version),
        "processors": std::thread::available_parallelism().map(usize::from).unwrap_or_default(),
    });
    seen::note(FIGURES, &json!({ "date": seen::today(), "programs": programs }));
}

/// Records the time of a life of publications with OpenTofu, `round_trip` milliseconds from the server.
pub(super) fn note_life(what: &str, count: usize, round_trip: u128, cycle: &Cycle) {
    let seconds = cycle.steps.map(|step| step.seconds);
    let life = json!({
        "what": what, "count": count, "round_trip": round_trip, "seconds": seconds, "memory": cycle.peak(),
    });
    seen::note(FIGURES, &json!({ "date": seen::today(), "life": life }));
}

/// The promises, and how many of them were kept.
#[derive(Default)]
pub(super) struct Goals {
    lines: Vec<String>,
    missed: usize,
}

impl Goals {
    /// Adds a promise: at most this limit.
    pub(super) fn at_most(&mut self, what: &str, measured: f64, limit: f64, unit: &str) {
        let is_kept = measured <= limit;
        self.missed += usize::from(!is_kept);
        let verdict = if is_kept { "kept" } else { "MISSED" };
        self.lines.push(format!("| {what} | {measured:.2} {unit} | {limit:.2} {unit} | {verdict} |"));
        let promise = json!({ "what": what, "measured": measured, "at_most": limit, "unit": unit });
        seen::note(FIGURES, &json!({ "date": seen::today(), "promise": promise }));
    }

    /// The promises of a life of publications, relative to its floor, `terraform_data`, and the statements alone.
    pub(super) fn of_life(&mut self, title: &str, ours: &Cycle, floor: &Cycle, alone: &Cycle) {
        let [_, apply, again, destroy] = ours.steps.map(|step| step.seconds);
        let least = floor.steps.map(|step| step.seconds);
        let statements = alone.steps.map(|step| step.seconds);
        self.at_most(&format!("{title}: plan again, twice the floor"), again, 2.0 * least[2], "s");
        let limit = 3.5 * least[1] + 3.0 * statements[1];
        self.at_most(&format!("{title}: apply, 3.5 floors and 3 times the statements"), apply, limit, "s");
        self.at_most(&format!("{title}: destroy, twice the floor"), destroy, 2.0 * least[3], "s");
        for (name, step) in Cycle::STEPS.into_iter().zip(&ours.steps) {
            let limit = step.usage.core / 5.0;
            let what = format!("{title}: {name}, a fifth of the core's processor time");
            self.at_most(&what, step.usage.provider, limit, "s");
        }
        self.at_most(&format!("{title}: memory"), ours.peak(), 20.0, "MiB");
    }

    /// The promises of the time that distance adds.
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
