//! Tables that come back to a subscription which has missed some of their changes.
//!
//! A subscription goes on with a table that was out of its publication for a while, and never gets what was written
//! meanwhile: only a table that it has forgotten (`REFRESH PUBLICATION`) is copied anew.

use super::in_use::User;
use super::model::Model;
use crate::postgres::publication::Target;
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Database, QualifiedName};
use crate::resources::names;
use crate::tf_provider::diagnostics::Error;
use crate::tf_provider::resource::PlannedChange;

/// Warns in the plan of tables that the change publishes again under subscriptions that never forgot them.
pub(super) async fn announce(change: &mut PlannedChange<Model>, publisher: &Database, users: &[User], target: &Target) {
    for (subscriber, subscription) in users.iter().filter_map(User::subscription) {
        let back = missed(publisher, subscriber, subscription, target).await;
        if !back.is_empty() {
            change.warn(warning(subscription, &back));
        }
    }
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
    let names = names::list(tables.iter().map(QualifiedName::to_text));
    Error::new(format!("subscription {} misses what was written to {names} meanwhile", subscription.name))
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
