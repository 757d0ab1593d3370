// SPDX-License-Identifier: MPL-2.0

//! Adding the tables that publications have published since the last look of a subscription, on request:
//! `ALTER SUBSCRIPTION … REFRESH PUBLICATION`.

use std::collections::BTreeSet;

use super::checks::{self, Objection};
use super::error::Result;
use super::operation::Operation;
use super::routes::TakingUp;
use super::{Pair, absent, initial_copy, tables, whereabouts};
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{Database, Ident, QualifiedName};

/// What a refresh has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Tables that it has now, and had not before.
    pub added: BTreeSet<QualifiedName>,
    /// Tables that it has forgotten: they are not published any more.
    pub forgotten: BTreeSet<QualifiedName>,
}

/// Has a subscription look for tables. What is new is checked as in an apply, where its publisher can be told and reached.
///
/// # Errors
/// When there is no such subscription, or it is disabled, a table cannot be taken up, or the server refuses. Nothing was
/// changed then.
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

/// Refuses where a new table could not be replicated. What is wrong with others is not the refresh's business.
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
