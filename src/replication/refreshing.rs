// SPDX-License-Identifier: MPL-2.0

//! Adds new tables of publications to a subscription, on request: `ALTER SUBSCRIPTION … REFRESH
//! PUBLICATION`.

use std::collections::BTreeSet;

use super::checks::{self, Objection};
use super::error::Result;
use super::operation::Operation;
use super::routes::TakingUp;
use super::{Pair, absent, initial_copy, tables, whereabouts};
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{Database, Ident, QualifiedName};

/// The result of a refresh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// New tables of the subscription.
    pub added: BTreeSet<QualifiedName>,
    /// Tables that it has dropped, because they are no longer published.
    pub forgotten: BTreeSet<QualifiedName>,
}

/// Refreshes a subscription. Checks new tables as an apply does, if its publisher is known and can be reached.
///
/// # Errors
/// When there is no such subscription, it is disabled, a table cannot be replicated, or the server refuses. Then
/// nothing was changed.
pub async fn refresh(
    operation: &Operation<'_>,
    subscriber: &Database,
    configured: Option<&Database>,
    name: &Ident,
    copy_data: bool,
) -> Result<Refreshed> {
    let subscriber = subscriber.within(operation.limits());
    let found = operation.unless_stopped(subscription::fetch_now(&subscriber, name)).await?;
    let found = found.ok_or_else(|| absent::subscription(operation, &subscriber, name))?;
    if !found.enabled {
        return Err(operation.error("it is disabled").detail(DISABLED));
    }
    let how = How { copy_data, refresh: true, ..How::default() };
    if let Some(publisher) = whereabouts::publisher_of(&subscriber, configured, &found).await {
        let pair = Pair { publisher: publisher.within(operation.limits()), subscriber: subscriber.clone() };
        let taking_up = TakingUp { pair: &pair, current: Some(&found), desired: &found, copies: copy_data };
        Box::pin(taking_up.refuse(operation)).await?;
        check_new(operation, &pair, &found, &how).await?;
    }
    let before = subscribed(operation, &subscriber, name).await?;
    run(operation, &subscriber, &found, &how).await?;
    let after = subscribed(operation, &subscriber, name).await?;
    let (added, forgotten) = (after.difference(&before), before.difference(&after));
    Ok(Refreshed { added: added.cloned().collect(), forgotten: forgotten.cloned().collect() })
}

/// Refuses if a new table could not be replicated. Problems of other tables do not matter for a refresh.
async fn check_new(operation: &Operation<'_>, pair: &Pair, found: &Subscription, how: &How) -> Result<()> {
    let new = operation.unless_stopped(tables::unsubscribed(pair, found)).await?;
    let mut obstacles = operation.unless_stopped(checks::obstacles(pair, found, checks::login(found).as_ref())).await?;
    obstacles.retain(|table, _| new.contains(table));
    if let Some(Objection::Refusal(error)) = initial_copy::objection(operation, obstacles, found, how, true) {
        return Err(error.detail("Nothing was changed."));
    }
    initial_copy::warn_of_rows(operation, pair, found, how).await
}

const DISABLED: &str = "Postgres only refreshes enabled subscriptions. On the subscriber, as its owner: ALTER \
    SUBSCRIPTION … ENABLE; or set enabled = true in its configuration.";

async fn run(operation: &Operation<'_>, subscriber: &Database, found: &Subscription, how: &How) -> Result<()> {
    let version = operation.unless_stopped(subscriber.version()).await?;
    let statements = subscription::diff(Some(found), Some(found), how, version)
        .map_err(|unsupported| subscriber.unsupported(operation.doing(), unsupported))?;
    subscriber.run_within(operation.doing(), &statements, operation.limits()).await?;
    Ok(())
}

async fn subscribed(operation: &Operation<'_>, subscriber: &Database, name: &Ident) -> Result<BTreeSet<QualifiedName>> {
    let tables = operation.unless_stopped(subscription::tables(subscriber, name)).await?;
    Ok(tables.into_iter().map(|(table, _)| table).collect())
}
