// SPDX-License-Identifier: MPL-2.0

//! Reads both sides, and plans from them.

use std::collections::BTreeSet;

use futures_util::future::try_join;

use super::planning::Sides;
use super::{Plan, Published, Wish};
use crate::postgres::definition::{self, Definition, Freshness, Known, Object, Wanted};
use crate::postgres::{self, Database, QualifiedName, subscription};
use crate::replication::Pair;
use crate::replication::error::Result;

/// The state of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The plan that follows from it.
    pub plan: Plan,
    /// A hash of the publisher's definitions of the selected objects.
    pub fingerprint: String,
    /// The selected tables, with partitions and other tables that they need.
    pub tables: BTreeSet<QualifiedName>,
    /// Those that the subscriber has.
    pub there: BTreeSet<QualifiedName>,
    /// The definitions of both sides.
    pub(super) sides: Sides,
}

impl Look {
    /// The new record of matching columns, with the previous one.
    pub fn known(&self, before: &Known) -> Known {
        definition::known(&self.sides.publisher, &self.sides.subscriber, before, &self.sides.taken_up)
    }

    /// The tables that are like the publisher's once the plan is done.
    pub fn settled(&self) -> BTreeSet<QualifiedName> {
        if !self.plan.refused.is_empty() {
            return BTreeSet::new();
        }
        let other = self.plan.differences.iter().filter(|one| !one.is_of_rows());
        let other: BTreeSet<_> = other.map(|one| one.object.whole()).collect();
        self.tables.iter().filter(|table| !other.contains(&Object::Table((*table).clone()))).cloned().collect()
    }

    pub(super) fn of(sides: Sides, wish: &Wish) -> Self {
        let tables: BTreeSet<_> = sides.publisher.tables.keys().cloned().collect();
        let there = there(&sides.subscriber, &tables);
        let (plan, fingerprint) = (Plan::of(&sides, wish), definition::fingerprint(&sides.publisher));
        Self { plan, fingerprint, tables, there, sides }
    }

    /// The record without tables that are created: they are not the earlier ones of these names.
    pub fn known_before(&self, known: Known) -> Known {
        let made = self.plan.made.iter();
        let made = made.filter_map(|step| if let Object::Table(name) = &step.object { Some(name) } else { None });
        definition::forgotten(known, made)
    }

    /// What to read from the subscriber.
    pub(super) fn wanted(&self, wish: &Wish) -> Wanted {
        wanted(&self.sides.publisher, &wish.known)
    }

    /// The same look after a change of the subscriber, with the publisher's part unchanged.
    pub(super) fn with_subscriber(&self, subscriber: Definition, wish: &Wish) -> Self {
        let there = there(&subscriber, &self.tables);
        let sides = Sides { subscriber, ..self.sides.clone() };
        let (fingerprint, tables) = (self.fingerprint.clone(), self.tables.clone());
        Self { plan: Plan::of(&sides, wish), fingerprint, tables, there, sides }
    }
}

/// The tables among these that the subscriber has.
fn there(subscriber: &Definition, tables: &BTreeSet<QualifiedName>) -> BTreeSet<QualifiedName> {
    subscriber.tables.keys().filter(|name| tables.contains(*name)).cloned().collect()
}

/// Reads both sides. It changes nothing.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn look(pair: &Pair, published: &Published, wish: &Wish, freshness: Freshness) -> Result<Look> {
    Ok(Look::of(sides(pair, published, (&wish.known, false), freshness).await?, wish))
}

/// What to read from a subscriber: all objects with the names of the publisher's, including former names.
fn wanted(publisher: &Definition, known: &Known) -> Wanted {
    let mut wanted = Wanted::like(publisher);
    wanted.relations.extend(definition::names_beyond(publisher, known));
    wanted
}

/// Reads both sides; on the subscriber also partitions that only it has, if they count.
pub(super) async fn sides(
    pair: &Pair,
    published: &Published,
    (known, with_partitions): (&Known, bool),
    freshness: Freshness,
) -> Result<Sides> {
    let asked = Wanted::tables(published.tables.iter().cloned());
    let publisher = Box::pin(definition::read_recent(&pair.publisher, &asked, freshness.age())).await?;
    let publisher = Definition::clone(&publisher);
    let like = Wanted { with_partitions, ..wanted(&publisher, known) };
    let read = Box::pin(read_subscriber(&pair.subscriber, &like, freshness));
    let missing = Box::pin(definition::missing_of(&pair.subscriber, &publisher.others));
    let (subscriber, missing) = try_join(read, missing).await?;
    let taken_up = match definition::has_others_there(&publisher, &subscriber, known) {
        true => Box::pin(subscription::taken_up(&pair.subscriber)).await?,
        false => None,
    };
    let (lists, outline) = (published.lists.clone(), published.outline.clone());
    Ok(Sides { publisher, subscriber, missing, lists, outline, taken_up })
}

/// Whoever changes the subscriber must see what others have changed a moment ago.
async fn read_subscriber(db: &Database, wanted: &Wanted, freshness: Freshness) -> postgres::Result<Definition> {
    match freshness {
        Freshness::Now => definition::read(db, wanted).await,
        Freshness::Plan => {
            let recent = definition::read_recent(db, wanted, freshness.age()).await?;
            Ok(Definition::clone(&recent))
        }
    }
}
