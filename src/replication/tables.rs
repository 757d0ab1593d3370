//! The tables that are published, beside those that a subscription has.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::Pair;
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

/// The tables that the publications publish, and those that the subscription has.
async fn on_both_sides(
    pair: &Pair,
    subscription: &Subscription,
) -> Result<(BTreeSet<QualifiedName>, BTreeSet<QualifiedName>)> {
    let published = publication::published_tables(&pair.publisher, &subscription.publications);
    let (published, subscribed) =
        try_join(published, subscription::tables(&pair.subscriber, &subscription.name)).await?;
    Ok((published, subscribed.into_iter().map(|(table, _)| table).collect()))
}
