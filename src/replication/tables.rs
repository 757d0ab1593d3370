// SPDX-License-Identifier: MPL-2.0

//! The tables that are published, compared with those that a subscription has.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::error::Error;
use super::{Pair, names};
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{QualifiedName, Result, publication};

/// The tables that the publications publish and the subscription does not have yet: a refresh would add them.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn unsubscribed(pair: &Pair, subscription: &Subscription) -> Result<BTreeSet<QualifiedName>> {
    let (published, subscribed) = on_both_sides(pair, subscription).await?;
    Ok(published.difference(&subscribed).cloned().collect())
}

/// The tables that the subscription has and its publications do not publish: what is written to them now never arrives,
/// not even once they are published again.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn missed(pair: &Pair, subscription: &Subscription) -> Result<BTreeSet<QualifiedName>> {
    let (published, subscribed) = on_both_sides(pair, subscription).await?;
    Ok(subscribed.difference(&published).cloned().collect())
}

/// Both: what a refresh would add, and what is missed.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn compared(
    pair: &Pair,
    subscription: &Subscription,
) -> Result<(BTreeSet<QualifiedName>, BTreeSet<QualifiedName>)> {
    let (published, subscribed) = on_both_sides(pair, subscription).await?;
    let beyond = |one: &BTreeSet<_>, other: &BTreeSet<_>| one.difference(other).cloned().collect();
    Ok((beyond(&published, &subscribed), beyond(&subscribed, &published)))
}

/// What it means that a subscription has tables that are missed.
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

/// The tables that the publications publish, and those that the subscription has.
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
