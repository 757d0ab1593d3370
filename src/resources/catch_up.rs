//! Waiting until a subscription has applied all that was written before.
//!
//! The publisher decodes each change with the catalog of its time. One that is older than a publication stops a
//! subscription to it for good (Postgres 14 to 17), or is lost (18).

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Context;
use crate::postgres::{Database, Ident, Limits, slot};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(250);

/// How long a subscription is waited for that may be unable to get further.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Waits until what has written by now has ended, and until the slot's subscription has confirmed all of it. One that is
/// not `whole`, as after a publication of it went, gets no further: then it is not waited for long.
///
/// # Errors
/// When the time is over, a person asks to stop, or the publisher cannot be asked.
pub(super) async fn catch_up(
    call: &Call<Context>,
    publisher: &Database,
    slot: &Ident,
    doing: &str,
    whole: bool,
    limits: &Limits,
) -> Result<()> {
    let next = call.unless_stopped(slot::next_transaction(publisher)).await?;
    while !call.unless_stopped(slot::have_ended(publisher, &next)).await? {
        let late = "a transaction on its publisher has been open since before, so nothing was changed yet";
        pause(call, limits, || too_early(doing, late)).await?;
    }
    let given_up = Instant::now() + GIVE_UP;
    let lsn = call.unless_stopped(slot::current_lsn(publisher)).await?;
    while call.unless_stopped(slot::has_confirmed(publisher, slot, &lsn)).await? == Some(false) {
        if !whole && Instant::now() >= given_up {
            return Ok(());
        }
        let late = "the subscription lags behind its publisher, so nothing was changed yet";
        pause(call, limits, || too_early(doing, late)).await?;
    }
    Ok(())
}

fn too_early(doing: &str, late: &str) -> Error {
    Error::new(format!("{doing}: {late}")).detail(
        "A publication that joins now would stop it at the first change from before. Apply again once that has ended.",
    )
}

/// Waits for the next look at a condition.
///
/// # Errors
/// The one of `late` when the time is over, or that the operation was cancelled.
pub(super) async fn pause(call: &Call<Context>, limits: &Limits, late: impl FnOnce() -> Error) -> Result<()> {
    if limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
        return Err(late());
    }
    tokio::select! {
        () = tokio::time::sleep(POLL) => Ok(()),
        () = call.stop().cancelled() => call.go_on(),
    }
}
