//! Whether a subscription's worker connects: Postgres takes any connection string, and tries it in the background only.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, Result};
use super::operation::Operation;
use super::whereabouts;
use crate::postgres::subscription::{SlotName, Subscription, worker};
use crate::postgres::{Conninfo, Database, Ident, SqlState};

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(250);

/// How long a worker may be away before a plan says so: one that has failed is started again after five seconds
/// (`wal_retrieve_retry_interval`).
const AWAY: Duration = Duration::from_secs(6);

/// How long a new connection may take until it is given up: the time of some tries.
const TRIES: Duration = Duration::from_secs(15);

/// A worker that is still the same after this time has taken notice of its new connection, and found that it does not
/// differ: it looks about every second.
const NOTICES: Duration = Duration::from_secs(3);

/// What to say of an enabled subscription whose worker is not connected.
pub async fn is_away(operation: &Operation<'_>, database: &Database, found: &Subscription) -> Option<Error> {
    if !found.enabled || found.slot_name().is_none() || connects(operation, database, &found.name, None, AWAY).await {
        return None;
    }
    let error = Error::new(format!(
        "subscription {}: its worker is not connected to its publisher, so nothing is replicated",
        found.name
    ));
    let error = match &found.connection {
        Some(connection) => explain(error, database, connection).await,
        None => error,
    };
    Some(error.detail(
        "A password or an address that has changed does that, a slot that something else reads from, and an error while a change \
         is applied; the log of the subscriber's server says which. A change of connection_version sends the configured \
         connection again, password included.",
    ))
}

/// The process of the worker, before it is given another connection.
pub async fn process(database: &Database, name: &Ident) -> Option<i32> {
    worker(database, name).await.ok().flatten().map(|worker| worker.pid)
}

/// Waits until the worker has connected with a connection that was just sent; `old` is its process from before.
///
/// # Errors
/// When it does not, with what the publisher says to such a connection from here.
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
    let error = operation.error(format!("its connection was sent, but its worker does not connect with it: {sent}"));
    let error = explain(error, database, sent).await;
    Err(error.detail(
        "The subscription is kept, and tries again and again; nothing is replicated until it connects. The log of the \
         subscriber's server says what is wrong. Correct the publisher block or the password, and apply again: the connection \
         is sent again.",
    ))
}

/// Looks until a worker is connected. Where that cannot be asked, or a person asks to stop, nothing is claimed.
async fn connects(
    operation: &Operation<'_>,
    database: &Database,
    name: &Ident,
    old: Option<i32>,
    patience: Duration,
) -> bool {
    let begun = Instant::now();
    loop {
        match operation.unless_stopped(worker(database, name)).await {
            Ok(Some(worker)) if worker.is_connected() && (old != Some(worker.pid) || begun.elapsed() >= NOTICES) => {
                return true;
            }
            Ok(_) if begun.elapsed() < patience => tokio::time::sleep(POLL).await,
            looked => return looked.is_err(),
        }
    }
}

/// Adds what the publisher says to the connection, where it can be tried from here.
async fn explain(error: Error, database: &Database, connection: &Conninfo) -> Error {
    let Some(publisher) = whereabouts::named(connection, database) else { return error };
    match publisher.version().await {
        Err(cause) if is_refused(&cause) => error.detail(format!("Tried from here: {cause}")),
        _ => error,
    }
}

/// Whether the server has answered that this login is not right. That it cannot be reached from here says nothing.
fn is_refused(cause: &crate::postgres::Error) -> bool {
    [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION, SqlState::INVALID_CATALOG_NAME]
        .iter()
        .any(|code| cause.is(code))
}
