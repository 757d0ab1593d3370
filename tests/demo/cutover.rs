// SPDX-License-Identifier: MPL-2.0

//! The cutover under load, and the way back.

use std::time::Duration;

use serde_json::json;

use super::Failure;
use super::application::Application;
use super::common::cli::Run;
use super::common::postgres::Role;
use super::common::wait::wait_until;
use super::screen::{say, step};
use super::stage::Stage;
use super::story::{expect, run_showing, show_counts};

const CUTOVER: &str = "neonrepl_cutover.playing_with_neon";
/// How many rows the application has, and how many different ones.
const WRITTEN: &str = "SELECT count(*), count(DISTINCT name) FROM playing_with_neon WHERE name ~ '^w[0-9]+-'";
/// How long short operations may take.
const SOON: Duration = Duration::from_secs(60);

/// To Neon and back, while an application writes all the time.
pub(super) async fn there_and_back(stage: &Stage) -> Result<(), Failure> {
    step("Let an application with four connections insert rows all the time");
    let servers = [stage.source.config(&Role::superuser()), stage.destination.config(&stage.owner)];
    let application = Application::start(servers);
    writes_on(&application).await;
    switch(stage, &application, "subscriber", "one word of the configuration is changed, and writes move to Neon")
        .await?;
    switch(stage, &application, "publisher", "the word is changed back, and so are the writes").await?;
    step("Stop the application, and count on both sides");
    let acknowledged = application.stop().await;
    let expected = [format!("{acknowledged}|{acknowledged}")];
    wait_until("everything to arrive", SOON, async || stage.destination.rows(WRITTEN).await == expected).await;
    say(&format!("The application was told of {acknowledged} rows. Each is there once, on both sides."));
    expect(stage.source.rows(WRITTEN).await == expected, "a row is missing, or is there twice")?;
    let counts = show_counts(stage).await;
    expect(counts.0 == counts.1, "the counts differ")
}

async fn switch(stage: &Stage, application: &Application, active: &str, why: &str) -> Result<(), Failure> {
    stage.workspace.write("active.auto.tfvars.json", &json!({ "active": active }).to_string());
    application.seen();
    let applied = run_showing(stage, &["apply", "-auto-approve"], why, |_| false).await?;
    steps(&applied).iter().for_each(|line| say(line));
    writes_on(application).await;
    let state = stage.workspace.attributes(CUTOVER).await;
    let (refused, longest) = application.seen();
    say(&format!(
        "Nobody could write for {} ms. The longest write took {longest} ms; {refused} were turned away, and went to the other side.",
        state["write_pause_ms"]
    ));
    say(&format!(
        "The application connects to {}:{} now, and goes on.",
        state["host"].as_str().unwrap_or_default(),
        state["port"]
    ));
    expect(state["active"] == active, "the other side is not active")
}

/// Waits until more rows are acknowledged.
async fn writes_on(application: &Application) {
    let before = application.acknowledged();
    wait_until("the application to write", SOON, async || application.acknowledged() > before + 20).await;
}

/// The steps of the plan, one line each; a core breaks long lines.
fn steps(applied: &Run) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for line in applied.stdout.lines().skip_while(|line| !line.starts_with("1. ")) {
        match (
            line.is_empty(),
            line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok()),
            steps.last_mut(),
        ) {
            (true, ..) => break,
            (false, false, Some(step)) => *step = format!("{step} {line}"),
            (false, ..) => steps.push(line.to_owned()),
        }
    }
    steps
}
