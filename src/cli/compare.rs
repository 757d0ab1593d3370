// SPDX-License-Identifier: MPL-2.0

//! `compare`: whether tables hold the same rows on both sides.

mod showing;

use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use self::showing::Showing;
use super::arguments::Compare as Asked;
use super::screen::Screen;
use super::servers::Environment;
use super::{Failure, Heard, Outcome, json};
use crate::postgres::Limits;
use crate::replication::Operation;
use crate::replication::comparison::{Progress, Question, compare};
use crate::report;

/// Compares once, and shows the progress on the standard error.
pub(super) async fn run(
    asked: &Asked,
    environment: &Environment<'_>,
    screen: &mut Screen<'_>,
    stop: &CancellationToken,
) -> Result<Outcome, Failure> {
    let pair = asked.servers.pair(environment)?;
    let question = Question {
        publications: asked.publications.iter().cloned().collect(),
        tables: asked.tables.iter().cloned().collect(),
        mode: asked.mode.into(),
        max_differences: asked.max_differences,
    };
    let heard = Heard::default();
    let limits = Limits::within(asked.timeout).cancelled_by(stop.clone());
    let operation = Operation::new("comparing tables", limits, &heard);
    let showing = Mutex::new(Showing::new(asked.json));
    let mut on_progress = |progress: Progress<'_>| showing::lock(&showing).note(progress);
    let compared = tokio::select! {
        compared = Box::pin(compare(&operation, &pair, &question, &mut on_progress)) => compared,
        never = showing::show(&showing, screen) => match never {},
    };
    showing::lock(&showing).erase(screen);
    heard.tell(screen);
    let compared = compared?;
    if asked.json {
        screen.print(&json::comparison(&compared));
    } else {
        screen.print(&report::comparison(&compared, &screen.style));
    }
    Ok(Outcome::of(compared.is_equal()))
}
