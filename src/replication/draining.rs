// SPDX-License-Identifier: MPL-2.0

//! Waits until subscriptions have applied everything written so far.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, Result};
use super::operation::Operation;
use crate::postgres::{Database, Ended, Ident, Limits, Pauses, Waiter, slot};

/// How often to read a slot while writers wait.
const POLL: Pauses = Pauses { first: Duration::from_millis(2), longest: Duration::from_millis(20) };

/// Waits until everything written so far is applied and flushed, and returns the position, or what is late after this
/// time. It never takes longer, because writers may be waiting. Each slot comes with its subscription.
///
/// # Errors
/// When a query fails, or a person asks to stop.
pub(super) async fn drained(
    operation: &Operation<'_>,
    publisher: &Database,
    slots: &BTreeMap<Ident, Ident>,
    time: Duration,
) -> Result<std::result::Result<String, String>> {
    let limits = Limits { deadline: operation.within(time).limits().deadline, ..operation.limits().clone() };
    let publisher = publisher.within(&limits);
    let barrier = match operation.unless_stopped(slot::barrier(&publisher, &limits)).await {
        Ok(barrier) => barrier,
        Err(_) if limits.deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
            return Ok(Err("The server took too long to say how far it has written.".to_owned()));
        }
        Err(error) => return Err(error),
    };
    for (slot, subscription) in slots {
        let mut waiter = Waiter::new(&limits, POLL);
        loop {
            let look = slot::has_confirmed(&publisher, slot, &barrier.lsn).await.map_err(Error::from);
            match waiter.after(look.map(|confirmed| (confirmed == Some(true)).then_some(()))).await {
                Ok(Some(())) => break,
                Ok(None) => {}
                Err(Ended::TimeOver(_)) => {
                    return Ok(Err(format!("Subscription {subscription} took too long to catch up.")));
                }
                Err(Ended::Failed(error)) => return Err(error),
                Err(Ended::Stopped) => return Err(Error::cancelled()),
            }
        }
    }
    Ok(Ok(barrier.lsn))
}
