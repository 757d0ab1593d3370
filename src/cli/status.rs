// SPDX-License-Identifier: MPL-2.0

//! `status`: the progress and health of replication.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::arguments::Status as Asked;
use super::screen::Screen;
use super::servers::Environment;
use super::{Failure, Heard, Outcome, json};
use crate::postgres::{Ident, Limits};
use crate::replication::Operation;
use crate::replication::status::{self, Question, Status};
use crate::report;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks once.
pub(super) async fn run(
    asked: &Asked,
    environment: &Environment<'_>,
    screen: &mut Screen<'_>,
    stop: &CancellationToken,
) -> Result<Outcome, Failure> {
    let publisher = asked.servers.known_publisher(environment)?;
    let subscriber = asked.servers.subscriber(environment)?;
    let heard = Heard::default();
    let limits = Limits::within(PATIENCE).cancelled_by(stop.clone());
    let operation = Operation::new("reading the status", limits, &heard);
    let names = names(&asked.subscriptions);
    let (publisher, names) = (publisher.as_ref(), names.as_ref());
    let question = Question { subscriber: &subscriber, publisher, names };
    let found = Box::pin(status::statuses(&operation, &question)).await;
    let found = match found {
        Ok(found) => Box::pin(status::with_ways_back(&operation, &question, found)).await,
        Err(error) => Err(error),
    };
    heard.tell(screen);
    let found = found?;
    if asked.json {
        screen.print(&json::statuses(&found));
    } else {
        screen.print(&report::statuses(&found, &screen.style));
    }
    Ok(outcome(&found))
}

/// The given subscriptions; none means all.
pub(super) fn names(named: &[Ident]) -> Option<BTreeSet<Ident>> {
    (!named.is_empty()).then(|| named.iter().cloned().collect())
}

/// All is well if there is a subscription and all are healthy.
pub(super) fn outcome(statuses: &[Status]) -> Outcome {
    Outcome::of(!statuses.is_empty() && statuses.iter().all(Status::is_well))
}
