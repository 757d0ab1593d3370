// SPDX-License-Identifier: MPL-2.0

//! Compares the published tables with the tables of a subscription.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::error::Error;
use super::{Pair, names};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{QualifiedName, Result, publication};

/// The published tables that the subscription does not have yet: a refresh would add them.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn unsubscribed(pair: &Pair, subscription: &Subscription) -> Result<BTreeSet<QualifiedName>> {
    let (published, subscribed) = on_both_sides(pair, subscription).await?;
    Ok(published.difference(&subscribed).cloned().collect())
}

/// The tables of the subscription that its publications do not publish: writes to them never arrive, even if they are
/// published again later.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn missed(pair: &Pair, subscription: &Subscription) -> Result<BTreeSet<QualifiedName>> {
    let (published, subscribed) = on_both_sides(pair, subscription).await?;
    Ok(subscribed.difference(&published).cloned().collect())
}

/// Both: the tables that a refresh would add, and the missed ones.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn compared(
    pair: &Pair,
    subscription: &Subscription,
) -> Result<(BTreeSet<QualifiedName>, BTreeSet<QualifiedName>)> {
    let (published, subscribed) = on_both_sides(pair, subscription).await?;
    let beyond = |one: &BTreeSet<_>, other: &BTreeSet<_>| one.difference(other).cloned().collect();
    Ok((beyond(&published, &subscribed), beyond(&subscribed, &published)))
}

/// The warning about a subscription with missed tables.
pub fn left_behind(subscription: &Subscription, missed: &BTreeSet<QualifiedName>) -> Error {
    let tables = names::tables(missed);
    Error::new(format!("subscription {} no longer receives anything under the name of {tables}", subscription.name))
        .detail(
            "None of its publications still publishes a table under this name. Either the table was removed from \
             them, or detached from a table whose partitions they publish: then what is written to it does not \
             arrive. Or it was attached to a table that they publish under that table's name: then its rows arrive \
             under that name, and the subscriber needs a partition for them.",
        )
        .detail(
            "If it is published again, it continues from then, without what was written in between. To have all its \
             rows copied instead, change refresh_triggers, so that the subscription drops it from its list, and \
             empty the table before you publish it again.",
        )
        .about("publications")
}

/// The published tables, and the tables of the subscription.
async fn on_both_sides(
    pair: &Pair,
    subscription: &Subscription,
) -> Result<(BTreeSet<QualifiedName>, BTreeSet<QualifiedName>)> {
    let version = pair.older_version().await?;
    let published = publication::published_tables(&pair.publisher, &subscription.publications, version);
    let (published, subscribed) =
        try_join(published, subscription::tables(&pair.subscriber, &subscription.name)).await?;
    Ok((published, subscribed.into_iter().map(|(table, _)| table).collect()))
}
