// SPDX-License-Identifier: MPL-2.0

//! Drops a slot: never while a subscription uses it, and only once nothing reads from it.

use std::time::Duration;

use super::error::{Error, Result};
use super::lost;
use super::operation::{Look, Operation};
use super::slot_use::{self, Subscriber};
use crate::postgres::slot;
use crate::postgres::{self, Database, Ident, Limits, SqlState, look_again};

/// How long a subscription that is destroyed in the same apply may take to release it.
const LET_GO: Duration = Duration::from_secs(10);

/// Fails while a subscription uses the slot. Waits for one that is destroyed in the same apply.
///
/// # Errors
/// When one still does, when that cannot be checked, or when a person asks to stop.
pub async fn refuse_to_drop(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Subscriber<'_>,
    name: &Ident,
) -> Result<()> {
    let operation = operation.within(LET_GO);
    let mut waiting = operation.waiting();
    while waiting.after(has_let_go(&operation, publisher, subscriber, name).await).await?.is_none() {}
    Ok(())
}

async fn has_let_go(
    operation: &Operation<'_>,
    publisher: &Database,
    subscriber: Subscriber<'_>,
    name: &Ident,
) -> Result<Look<()>> {
    let users = operation.unless_stopped(slot_use::users(publisher, subscriber, name)).await?;
    let names = users.names();
    if !users.has_slot() || names.is_empty() {
        return Ok(Look::There(()));
    }
    Ok(Look::NotYet(
        operation
            .error(names.join(", and "))
            .detail("Nothing was changed. Without its slot a subscription stops, and its position is lost for good.")
            .detail(
                "Destroy the subscription first, or give it another slot. To drop the slot anyway, once nothing \
                 reads from it, apply force_destroy = true first.",
            ),
    ))
}

/// Drops the slot, as soon as nothing reads from it. It never ends the reader.
///
/// # Errors
/// When something still reads from it once the time is over, the server refuses, or a person asks to stop.
pub async fn drop_when_idle(operation: &Operation<'_>, publisher: &Database, name: &Ident) -> Result<()> {
    let mut waiting = operation.waiting();
    loop {
        match waiting.after(is_dropped(operation, publisher, name).await).await {
            Ok(Some(())) => return Ok(()),
            Ok(None) => {}
            Err(error) if error.is(&SqlState::OBJECT_IN_USE) => return Err(still_read(publisher, name, error).await),
            Err(error) => return Err(error),
        }
    }
}

/// Tries once.
async fn is_dropped(operation: &Operation<'_>, publisher: &Database, name: &Ident) -> Result<Look<()>> {
    let (doing, limits) = (operation.doing(), operation.limits());
    // A slot of that name in another database is not this one.
    let found = operation.unless_stopped(slot::fetch_now(publisher, name)).await;
    if found.map_err(|error| error.during(doing))?.is_none() {
        return Ok(Look::There(()));
    }
    match publisher.run_within(doing, &[slot::drop_slot(name)], limits).await {
        Ok(_) => Ok(Look::There(())),
        Err(error) if error.is(&SqlState::UNDEFINED_OBJECT) => Ok(Look::There(())),
        Err(error) if error.is(&SqlState::OBJECT_IN_USE) => Ok(Look::NotYet(error.into())),
        Err(error) if error.is_lost() => gone_after_loss(publisher, name, error, limits).await.map(Look::There),
        Err(error) => Err(error.into()),
    }
}

async fn gone_after_loss(publisher: &Database, name: &Ident, error: postgres::Error, limits: &Limits) -> Result<()> {
    let found = look_again(limits, || slot::fetch_now(publisher, name)).await;
    if matches!(found, Some(None)) { Ok(()) } else { Err(lost::explain(error, found.as_ref())) }
}

/// The server's error, with the reader and what to do.
async fn still_read(publisher: &Database, name: &Ident, error: Error) -> Error {
    let reader = slot::reader(publisher, name).await.ok().flatten();
    let reader = reader.map(|reader| format!("Its reader calls itself {reader:?}, like a subscription of that name."));
    error
        .detail("It was still being read at the end of timeouts.delete.")
        .detail(reader.unwrap_or_default())
        .detail("Disable or drop the subscription that reads from it, or stop its reader, and destroy it again.")
}
