// SPDX-License-Identifier: MPL-2.0

//! Reading both sides, and what follows from it.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::planning::Sides;
use super::{Plan, Published, Wish};
use crate::postgres::QualifiedName;
use crate::postgres::definition::{self, Definition, Known, Object, Wanted};
use crate::replication::Pair;
use crate::replication::error::Result;

/// What both sides show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What follows from it.
    pub plan: Plan,
    /// A hash of how the publisher defines what is meant.
    pub fingerprint: String,
    /// The tables that are meant, with partitions and what else they need.
    pub tables: BTreeSet<QualifiedName>,
    /// Those of them that the subscriber has.
    pub there: BTreeSet<QualifiedName>,
    /// What is meant, as the publisher defines it.
    pub(super) sides: Sides,
}

impl Look {
    /// What is to be kept to know the columns again, with what was known before.
    pub fn known(&self, before: &Known) -> Known {
        definition::known(&self.sides.publisher, &self.sides.subscriber, before)
    }

    /// The tables that are as the publisher's once the plan is done.
    pub fn settled(&self) -> BTreeSet<QualifiedName> {
        if !self.plan.refused.is_empty() {
            return BTreeSet::new();
        }
        let other: BTreeSet<_> = self.plan.differences.iter().map(|one| one.object.whole()).collect();
        self.tables.iter().filter(|table| !other.contains(&Object::Table((*table).clone()))).cloned().collect()
    }

    pub(super) fn of(sides: Sides, wish: &Wish) -> Self {
        let names = |definition: &Definition| definition.tables.keys().cloned().collect();
        Self {
            plan: Plan::of(&sides, wish),
            fingerprint: definition::fingerprint(&sides.publisher),
            tables: names(&sides.publisher),
            there: names(&sides.subscriber),
            sides,
        }
    }

    /// The same after the subscriber was changed.
    pub(super) fn with_subscriber(&self, subscriber: Definition, wish: &Wish) -> Self {
        Self::of(Sides { subscriber, ..self.sides.clone() }, wish)
    }
}

/// Looks at both sides. It changes nothing.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn look(pair: &Pair, published: &Published, wish: &Wish) -> Result<Look> {
    Ok(Look::of(sides(pair, published, false).await?, wish))
}

/// Reads both sides; the subscriber's with the partitions that only it has, where they count.
pub(super) async fn sides(pair: &Pair, published: &Published, with_partitions: bool) -> Result<Sides> {
    let wanted = Wanted::tables(published.tables.iter().cloned());
    let publisher = Box::pin(definition::read_shared(&pair.publisher, &wanted)).await?;
    let like = Wanted { with_partitions, ..Wanted::like(&publisher) };
    let read = Box::pin(definition::read(&pair.subscriber, &like));
    let missing = Box::pin(definition::missing_of(&pair.subscriber, &publisher.others));
    let (subscriber, missing) = try_join(read, missing).await?;
    Ok(Sides { publisher, subscriber, missing, lists: published.lists.clone() })
}
