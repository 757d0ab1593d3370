// SPDX-License-Identifier: MPL-2.0

//! The status of ways back: the subscriptions that bring changes back to the old publisher of a cutover.

use std::collections::BTreeSet;

use super::{Question, Status, statuses};
use crate::postgres::{Ident, subscription};
use crate::replication::cutover;
use crate::replication::error::Result;
use crate::replication::operation::Operation;

/// The statuses, with those of the ways back if a cutover has stopped one of them. Without a publisher that can be
/// queried, there are none.
///
/// # Errors
/// When a person asks to stop.
pub async fn with_ways_back(
    operation: &Operation<'_>,
    question: &Question<'_>,
    found: Vec<Status>,
) -> Result<Vec<Status>> {
    let is_left = found.iter().any(|status| status.is_stopped_by_cutover);
    let Some(publisher) = question.publisher.filter(|_| is_left) else { return Ok(found) };
    let there = operation.unless_stopped(subscription::fetch_all_now(publisher)).await;
    let names: BTreeSet<Ident> = match there {
        Ok(there) => there.into_keys().filter(cutover::is_way_back).collect(),
        Err(cause) => {
            operation.go_on()?;
            tracing::info!(%cause, "it is not known whether changes flow back");
            return Ok(found);
        }
    };
    if names.is_empty() {
        return Ok(found);
    }
    let back = Question { subscriber: publisher, publisher: Some(question.subscriber), names: Some(&names) };
    let back = Box::pin(statuses(operation, &back)).await?;
    Ok(found.into_iter().chain(back).collect())
}
