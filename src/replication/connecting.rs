// SPDX-License-Identifier: MPL-2.0

//! Checks that a subscription's worker connects: Postgres accepts any connection string, and only tries it in the
//! background.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Result;
use super::operation::{Look, Operation};
use super::status::{self, Known, Trouble};
use super::whereabouts;
use crate::postgres::subscription::{SlotName, Subscription, Worker, worker};
use crate::postgres::{Conninfo, Database, Ident};

/// How long a new connection may take: the time of several tries.
const TRIES: Duration = Duration::from_secs(15);

/// A worker that still runs after this time has read its new connection, and found no difference: it checks about
/// every second.
const NOTICES: Duration = Duration::from_secs(3);

/// The process of the worker, before its connection changes.
pub async fn process(database: &Database, name: &Ident) -> Option<i32> {
    worker(database, name).await.ok().flatten().map(|worker| worker.pid)
}

/// Waits until the worker has connected with a new connection; `old` is its process from before.
///
/// # Errors
/// When it does not, with the publisher's answer to such a connection from here.
pub async fn check(
    operation: &Operation<'_>,
    database: &Database,
    found: &Subscription,
    (old, sent): (Option<i32>, &Conninfo),
) -> Result<()> {
    if !found.enabled
        || found.slot == Some(SlotName::None)
        || connects(operation, database, &found.name, old, TRIES).await
    {
        return Ok(());
    }
    let error = operation.error(format!("its new connection was sent, but its worker does not connect: {sent}"));
    // The worker uses the new connection, whichever server it read from before.
    let publisher = whereabouts::named(sent, database);
    let subscription = Subscription { connection: Some(sent.clone()), ..found.clone() };
    let known = Known { subscriber: database, publisher: publisher.as_ref(), subscription: &subscription };
    let reasons = status::reasons(operation, known, &Trouble::Worker).await.unwrap_or_default();
    let error = reasons.iter().fold(error, |error, reason| error.detail(reason.to_string()));
    Err(error.detail(
        "The subscription is kept and keeps retrying; nothing is replicated until it connects. Correct the \
         publisher block or the password and apply: the connection is then sent again.",
    ))
}

/// Waits until a worker is connected. If a query fails, or a person asks to stop, this reports no problem.
async fn connects(
    operation: &Operation<'_>,
    database: &Database,
    name: &Ident,
    old: Option<i32>,
    patience: Duration,
) -> bool {
    let begun = Instant::now();
    let operation = operation.within(patience);
    let mut waiting = operation.waiting();
    let mut is_missing = false;
    loop {
        let look = operation.unless_stopped(worker(database, name)).await;
        let is_there =
            |worker: &Worker| worker.is_connected() && (old != Some(worker.pid) || begun.elapsed() >= NOTICES);
        let look = look.map(|worker| match worker.filter(is_there) {
            Some(_) => Look::There(()),
            None => Look::NotYet(operation.error("its worker is not connected")),
        });
        is_missing = look.as_ref().map_or(is_missing, |look| matches!(look, Look::NotYet(_)));
        match waiting.after(look).await {
            Ok(Some(())) => return true,
            Ok(None) => {}
            Err(_) => return !is_missing || operation.is_stopped(),
        }
    }
}
