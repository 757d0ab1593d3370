// SPDX-License-Identifier: MPL-2.0

//! The scope of a question: its publications, its tables, and the subscriptions that already have them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Question;
use crate::postgres::catalog::{self, Kind, Outline, TableSize};
use crate::postgres::publication::{self, Publication, Sent, Target};
use crate::postgres::subscription::{Subscription, Subscriptions};
use crate::postgres::{Conninfo, Ident, QualifiedName, ServerVersion};

/// The planned subscription, as far as the checks of tables need it.
pub(super) fn planned(publications: &[Publication], name: &Ident) -> Subscription {
    // Checks ignore its name, and no text shows it.
    let names = publications.iter().map(|publication| publication.name.clone());
    Subscription::new(name.clone(), Conninfo::new(), names)
}

/// The selected tables that none of the publications publishes.
pub(super) fn unpublished(
    question: &Question,
    publications: &[Publication],
    outline: &Outline,
    version: ServerVersion,
) -> BTreeSet<QualifiedName> {
    if question.publications.is_empty() && question.tables.is_empty() {
        let is_table = |(name, relation): (&QualifiedName, &catalog::Relation)| {
            (relation.kind == Kind::Table).then(|| name.clone())
        };
        return outline.relations.iter().filter_map(is_table).collect();
    }
    let sent = publication::sent(publications, outline, version);
    let partitions = |table: &QualifiedName| outline.partitions.get(table).into_iter().flatten();
    let is_sent = |table: &QualifiedName| {
        sent.tables.contains_key(table)
            || sent.routes.contains_key(table)
            || partitions(table).next().is_some() && partitions(table).all(|part| sent.routes.contains_key(part))
    };
    question.tables.iter().filter(|table| !is_sent(table)).cloned().collect()
}

/// The publication that such tables need.
pub(super) fn to_be_made(question: &Question, unpublished: &BTreeSet<QualifiedName>) -> Option<Publication> {
    if unpublished.is_empty() {
        return None;
    }
    // A requested publication that is missing will most likely publish them.
    let name = question.publications.iter().next().cloned().or_else(|| Ident::new("neonrepl").ok())?;
    Some(Publication::new(name, Target::tables(unpublished.iter().cloned())))
}

/// The tables of subscriptions to the requested publications, and of all others.
pub(super) fn owned(
    subscriptions: &Subscriptions,
    tables: &BTreeMap<Ident, BTreeSet<QualifiedName>>,
    question: &Question,
) -> (BTreeMap<Ident, BTreeSet<QualifiedName>>, BTreeMap<QualifiedName, Ident>) {
    // Without requested publications, every subscription counts.
    let is_own = |name: &Ident| {
        let publications = subscriptions.get(name).map(|subscription| &subscription.publications);
        question.publications.is_empty() || publications.is_some_and(|named| !named.is_disjoint(&question.publications))
    };
    let (own, others): (Vec<_>, Vec<_>) = tables.iter().partition(|(name, _)| is_own(name));
    let others = others.into_iter().flat_map(|(name, tables)| tables.iter().map(|table| (table.clone(), name.clone())));
    (own.into_iter().map(|(name, tables)| (name.clone(), tables.clone())).collect(), others.collect())
}

/// The size of the data that is sent under each name.
pub(super) fn totals(extents: &BTreeMap<QualifiedName, TableSize>, sent: &Sent) -> BTreeMap<QualifiedName, TableSize> {
    let mut totals: BTreeMap<QualifiedName, TableSize> = BTreeMap::new();
    for (table, extent) in extents {
        let total = totals.entry(sent.routes.get(table).unwrap_or(table).clone()).or_default();
        total.bytes += extent.bytes;
        total.rows = match (total.rows, extent.rows) {
            (Some(rows), Some(more)) => Some(rows + more),
            (rows, more) => rows.or(more),
        };
    }
    totals
}
