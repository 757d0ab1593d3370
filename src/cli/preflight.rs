// SPDX-License-Identifier: MPL-2.0

//! `preflight`: whether replicating will work.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::arguments::Preflight as Asked;
use super::screen::Screen;
use super::servers::Environment;
use super::{Failure, Heard, Outcome, json};
use crate::postgres::Limits;
use crate::replication::Operation;
use crate::replication::preflight::{self, Question};
use crate::report;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Asks once.
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
        subscription_role: asked.subscription_role.clone(),
        cutover: asked.cutover,
        reverse: asked.reverse,
        reverse_role: asked.reverse_role.clone(),
    };
    let heard = Heard::default();
    let limits = Limits::within(PATIENCE).cancelled_by(stop.clone());
    let operation = Operation::new("looking before anything moves", limits, &heard);
    let found = Box::pin(preflight::preflight(&operation, &pair, &question)).await;
    heard.tell(screen);
    let found = found?;
    if asked.json {
        screen.print(&json::preflight(&found));
    } else {
        screen.print(&report::preflight(&found, &screen.style));
    }
    Ok(Outcome::of(found.is_ok()))
}
