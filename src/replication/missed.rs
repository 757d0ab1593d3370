// SPDX-License-Identifier: MPL-2.0

//! Tables that come back to a subscription which has missed some of their changes.
//!
//! A subscription continues with a table that was not in its publication for a while, and never gets the writes from
//! that time. Only a table that it has forgotten (`REFRESH PUBLICATION`) is copied again.

use std::collections::BTreeSet;

use super::error::Error;
use super::{Pair, names, tables};
use crate::postgres::publication::Target;
use crate::postgres::subscription::Subscription;
use crate::postgres::{self, Database, QualifiedName};

/// Warnings about tables that a change publishes again for subscriptions that never forgot them.
pub(super) async fn warnings(
    publisher: &Database,
    subscriptions: impl Iterator<Item = &(Database, Subscription)>,
    target: &Target,
) -> Vec<Error> {
    let mut warnings = Vec::new();
    for (subscriber, subscription) in subscriptions {
        let pair = Pair { publisher: publisher.clone(), subscriber: subscriber.clone() };
        match tables::missed(&pair, subscription).await {
            Ok(mut back) => {
                back.retain(|table| publishes(target, table));
                warnings.extend((!back.is_empty()).then(|| warning(subscription, &back)));
            }
            Err(error) if error.is_locked() => warnings.push(unchecked(subscription, &error)),
            Err(cause) => tracing::info!(%cause, "it is not known whether a subscription misses changes"),
        }
    }
    warnings
}

fn unchecked(subscription: &Subscription, error: &postgres::Error) -> Error {
    let what = format!("it is not known whether subscription {} misses changes: a table is locked", subscription.name);
    Error::new(what).detail(error.hint().unwrap_or_default())
}

fn publishes(target: &Target, table: &QualifiedName) -> bool {
    match target {
        Target::AllTables => true,
        Target::Lists { tables, schemas } => tables.contains_key(table) || schemas.contains(&table.schema),
    }
}

fn warning(subscription: &Subscription, tables: &BTreeSet<QualifiedName>) -> Error {
    let names = names::tables(tables);
    Error::new(format!("subscription {} misses what was written to {names} in the meantime", subscription.name))
        .detail(
            "It kept these tables while they were not published. Once they are published again, they continue from \
             that moment, and what was written in between does not arrive.",
        )
        .detail(
            "To get everything, remove the tables from the publication here, and apply with the subscription's \
             refresh_triggers changed, so that it removes them too. Empty them on the subscriber. Then add them \
             again: their rows are copied again.",
        )
        .about("tables")
}
