// SPDX-License-Identifier: MPL-2.0

//! Whether the slot of a subscription exists and is intact.

use super::error::Error;
use crate::postgres::subscription::Subscription;
use crate::postgres::{Database, slot};

/// The problem of an enabled subscription's slot, if the publisher can be queried: the subscriber's own catalog and
/// counters do not show it.
pub async fn wrong_slot(publisher: &Database, found: &Subscription) -> Option<Error> {
    let slot = found.slot_name().filter(|_| found.enabled)?;
    let there = match slot::fetch(publisher, slot).await.ok()? {
        // The subscriber may have created it since the snapshot.
        None => slot::fetch_now(publisher, slot).await.ok()?,
        there => there,
    };
    let wrong = match there {
        None => format!("replication slot {slot} is no longer in database {:?} of the publisher", publisher.name()),
        Some(there) if there.is_lost() => format!("replication slot {slot} has lost WAL that it needs"),
        Some(_) => return None,
    };
    Some(Error::new(format!("subscription {} replicates nothing: {wrong}", found.name)).detail(
        "It misses everything that was written since, so it must be recreated: empty its tables on the subscriber, \
         because every row is copied again, and apply with -replace and its address.",
    ))
}
