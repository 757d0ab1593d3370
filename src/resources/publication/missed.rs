//! Tables that come back to a subscription which has missed some of their changes.
//!
//! A subscription goes on with a table that was out of its publication for a while, and never gets what was written
//! meanwhile: only a table that it has forgotten (`REFRESH PUBLICATION`) is copied anew.

use super::in_use::users;
use super::model::{Model, desired};
use crate::postgres::publication::Target;
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Database, QualifiedName};
use crate::provider::Context;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// How many names one message shows.
const SHOWN: usize = 10;

/// Warns in the plan of tables that the change publishes again under subscriptions that never forgot them.
///
/// # Errors
/// When the publisher cannot be asked who reads from it.
pub(super) async fn announce(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    publisher: &Database,
) -> Result<()> {
    let (Some(prior), Some(planned)) = (change.prior(), change.planned()) else { return Ok(()) };
    let (Ok(old), Ok(new)) = (desired(prior), desired(planned)) else { return Ok(()) };
    if change.replaces() || old.target == new.target {
        return Ok(());
    }
    for user in users(call, publisher, &old.name).await? {
        let Some((subscriber, subscription)) = user.subscription() else { continue };
        let back = missed(publisher, subscriber, subscription, &new.target).await;
        if !back.is_empty() {
            change.warn(warning(subscription, &back));
        }
    }
    Ok(())
}

/// None where the servers do not say.
async fn missed(
    publisher: &Database,
    subscriber: &Database,
    subscription: &Subscription,
    target: &Target,
) -> Vec<QualifiedName> {
    match subscription::missed_tables(publisher, subscriber, subscription).await {
        Ok(missed) => missed.into_iter().filter(|table| publishes(target, table)).collect(),
        Err(cause) => {
            tracing::info!(%cause, "whether a subscription misses changes is not known");
            Vec::new()
        }
    }
}

fn publishes(target: &Target, table: &QualifiedName) -> bool {
    match target {
        Target::AllTables => true,
        Target::Lists { tables, schemas } => tables.contains_key(table) || schemas.contains(&table.schema),
    }
}

fn warning(subscription: &Subscription, tables: &[QualifiedName]) -> Error {
    let names = tables.iter().take(SHOWN).map(QualifiedName::to_text).collect::<Vec<_>>().join(", ");
    let more = if tables.len() > SHOWN { format!(" and {} more", tables.len() - SHOWN) } else { String::new() };
    Error::new(format!("subscription {} misses what was written to {names}{more} meanwhile", subscription.name))
        .detail(
            "It never forgot these tables while they were not published. Published again, they go on from now, and what was \
             written in between does not arrive.",
        )
        .detail(
            "To have all of it, take them out of the publication here, and apply with the subscription's refresh_triggers changed, \
             so that it forgets them; empty them on the subscriber; then put them back: their rows are copied anew.",
        )
        .attribute("tables")
}
