// SPDX-License-Identifier: MPL-2.0

//! One apply that prepares a Postgres for replication and replicates its rows to another one, and then moves an
//! application that never stops writing there and back. `make demo` runs it.
//!
//! The Aurora cluster is the tests' stand-in with real Postgres servers, Neon is a Postgres of another major, and
//! `examples/aurora-to-neon` is applied by a real core. Everything is on loopback, and everything is removed at the
//! end.
//!
//! - `CORE=tofu` applies with OpenTofu; the default is `terraform`.
//! - `KEEP=1` keeps everything running in between, and shows how to connect, until Enter or Ctrl-C.

#![allow(clippy::print_stdout)] // printing is what it is for

mod application;
#[path = "../common/mod.rs"]
mod common;
mod cutover;
mod screen;
mod stage;
mod story;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use futures_util::FutureExt;

use common::cli::Core;
use common::tools;
use screen::{say, step};
use stage::Stage;

/// Why the demonstration stops.
type Failure = String;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match core() {
        Ok(core) => guarded(Stage::set(core)).await,
        Err(failure) => Err(failure),
    };
    let outcome = match outcome {
        Ok(stage) => show(&stage).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(()) => {
            step("Done. The servers and their data are gone.");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("\nThe demonstration failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The core that `CORE` names.
fn core() -> Result<Core, Failure> {
    let name = std::env::var("CORE").unwrap_or_default();
    let core = match name.as_str() {
        "" | "terraform" => Core::Terraform,
        "tofu" | "opentofu" => Core::OpenTofu,
        other => return Err(format!("CORE={other} is no core: terraform and tofu are")),
    };
    let installed = tools::core(core.name()).map(|_| core);
    installed.ok_or_else(|| format!("{} is not installed: run `make tools`", core.name()))
}

/// The whole story. A failure includes the servers' logs.
async fn show(stage: &Stage) -> Result<(), Failure> {
    let told = tell(stage).await;
    if told.is_err() {
        stage.logs().into_iter().for_each(|(server, log)| {
            step(&format!("What {server} has logged"));
            log.lines().for_each(say);
        });
    }
    told
}

async fn tell(stage: &Stage) -> Result<(), Failure> {
    interruptible(story::replicate(stage)).await?;
    interruptible(cutover::there_and_back(stage)).await?;
    if std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0")) {
        story::keep(stage).await;
    }
    interruptible(story::give_back(stage)).await
}

async fn interruptible(chapter: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::select! {
        told = guarded(chapter) => told,
        _ = tokio::signal::ctrl_c() => Err("it was interrupted".to_owned()),
    }
}

/// A panic is a failure too: the harness panics to end a test, and has printed the reason by then.
async fn guarded<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let caught = AssertUnwindSafe(future).catch_unwind().await;
    caught.unwrap_or_else(|_| Err("see above".to_owned()))
}
