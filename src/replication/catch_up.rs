// SPDX-License-Identifier: MPL-2.0

//! Waits until a subscription has applied everything written before.
//!
//! The publisher decodes each change with the catalog of its time. A change that is older than a publication stops a
//! subscription to it for good (Postgres 14 to 17), or is lost (18).

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, Result};
use super::operation::{Look, Operation};
use crate::postgres::{Database, Ident, slot};

/// How long to wait for a subscription that may be stuck.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Waits until all transactions that have written so far have ended, and until the slot's subscription has confirmed
/// all of them. A subscription that is not `whole`, for example because a publication of it was dropped, is stuck: then
/// the wait is short.
///
/// # Errors
/// When the time is over, a person asks to stop, or a query fails.
pub(super) async fn catch_up(operation: &Operation<'_>, publisher: &Database, slot: &Ident, whole: bool) -> Result<()> {
    let next = operation.unless_stopped(slot::next_transaction(publisher)).await?;
    let mut waiting = operation.waiting();
    while waiting.after(have_ended(operation, publisher, &next).await).await?.is_none() {}
    let given_up = Instant::now() + GIVE_UP;
    let lsn = operation.unless_stopped(slot::current_lsn(publisher)).await?;
    let mut waiting = operation.waiting();
    loop {
        let look = has_confirmed(operation, publisher, slot, &lsn).await;
        let is_stuck = !whole && Instant::now() >= given_up;
        if is_stuck && look.is_ok() || waiting.after(look).await?.is_some() {
            return Ok(());
        }
    }
}

async fn have_ended(operation: &Operation<'_>, publisher: &Database, transaction: &str) -> Result<Look<()>> {
    let late = "a transaction on its publisher has been open since before, so nothing was changed yet";
    let have_ended = operation.unless_stopped(slot::have_ended(publisher, transaction)).await?;
    Ok(if have_ended { Look::There(()) } else { Look::NotYet(too_early(operation, late)) })
}

async fn has_confirmed(operation: &Operation<'_>, publisher: &Database, slot: &Ident, lsn: &str) -> Result<Look<()>> {
    let late = "the subscription lags behind its publisher, so nothing was changed yet";
    let lags = operation.unless_stopped(slot::has_confirmed(publisher, slot, lsn)).await? == Some(false);
    Ok(if lags { Look::NotYet(too_early(operation, late)) } else { Look::There(()) })
}

fn too_early(operation: &Operation<'_>, late: &str) -> Error {
    operation.error(late).detail(
        "A publication that is added now would stop the subscription at the first older change. Apply again once \
         that has ended.",
    )
}
