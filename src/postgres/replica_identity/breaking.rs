// SPDX-License-Identifier: MPL-2.0

//! Finds what a change of replica identities breaks: updates and deletes of published tables. Pure.

use std::collections::BTreeMap;

use super::Choice;
use crate::postgres::catalog::{Identity, Index, Outline, Relation, Table};
use crate::postgres::publication::{self, FilterColumns, Gravity, Problem, Publication, Publications};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::ServerVersion;

/// A published table whose updates and deletes would fail from then on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Breaking {
    /// The publication.
    pub publication: Ident,
    /// The table.
    pub table: QualifiedName,
    /// Why they fail.
    pub problem: Problem,
}

/// A relation with this choice.
pub fn chosen(relation: &Relation, choice: &Choice, table: &Table, indexes: &[Index]) -> Relation {
    let identity = match choice {
        Choice::Full => Identity::Full,
        Choice::Default => of_index(indexes.iter().find(|index| index.is_primary)),
        Choice::Index(name) => of_index(indexes.iter().find(|index| index.name == *name)),
        Choice::Nothing | Choice::DroppedIndex => Identity::Missing,
    };
    let within = |column: &Ident| match &identity {
        Identity::Full => true,
        Identity::Columns(columns) => columns.contains(column),
        Identity::Missing => false,
    };
    let generated = |is_stored: bool| {
        let those = table.columns.iter().filter(|column| column.is_generated && column.is_stored == is_stored);
        those.map(|column| column.name.clone()).filter(within).collect()
    };
    let (stored_generated, virtual_generated) = (generated(true), generated(false));
    Relation { replica_identity: choice.kind(), identity, stored_generated, virtual_generated, ..relation.clone() }
}

fn of_index(index: Option<&Index>) -> Identity {
    let usable = index.filter(|index| index.is_valid && index.is_immediate);
    usable.and_then(Index::columns).map_or(Identity::Missing, Identity::Columns)
}

/// What breaks when these relations become as in `after`. Tables that are already broken do not count.
///
/// Both outlines only need the changed relations and their ancestors. `filters` is that of
/// [`flaws`](publication::flaws), by publication.
pub fn breaking(
    publications: &Publications,
    before: &Outline,
    after: &Outline,
    filters: &BTreeMap<Ident, FilterColumns>,
    version: ServerVersion,
) -> Vec<Breaking> {
    let none = FilterColumns::default();
    let found = publications.values().flat_map(|publication| {
        let filters = filters.get(&publication.name).unwrap_or(&none);
        let of = |outline: &Outline| broken(publication, outline, filters, version);
        let (before, after) = (of(before), of(after));
        after.into_iter().filter(move |one| !before.contains(one))
    });
    found.collect()
}

fn broken(
    publication: &Publication,
    outline: &Outline,
    filters: &FilterColumns,
    version: ServerVersion,
) -> Vec<Breaking> {
    let flaws = publication::flaws(publication, outline, filters, version);
    let grave = flaws.into_iter().filter(|flaw| flaw.problem.gravity() == Gravity::Breaking);
    let tables = grave.flat_map(|flaw| flaw.tables.into_keys().map(move |table| (table, flaw.problem)));
    tables.map(|(table, problem)| Breaking { publication: publication.name.clone(), table, problem }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::example::{ident, table};
    use super::*;
    use crate::postgres::catalog::{Column, Equality, Kind, ReplicaIdentity, Rights};
    use crate::postgres::publication::{Operation, TableSpec, Target};

    fn keyed() -> Relation {
        Relation {
            kind: Kind::Table,
            is_unlogged: false,
            replica_identity: ReplicaIdentity::Default,
            has_primary_key: true,
            identity: Identity::Columns([ident("id")].into()),
            stored_generated: BTreeSet::new(),
            virtual_generated: BTreeSet::new(),
            ancestors: Vec::new(),
        }
    }

    fn columns() -> Table {
        let column = |name: &str, generated: &str| Column {
            name: ident(name),
            ty: "integer".to_owned(),
            is_not_null: true,
            has_default: false,
            is_generated: !generated.is_empty(),
            is_stored: generated == "s",
            equality: Equality::Value,
        };
        let rights = Rights { role: ident("r"), reads: BTreeSet::new(), becomes_owner: true };
        let columns = vec![column("id", ""), column("sum", "s"), column("late", "v")];
        Table { takes_rows: true, is_partitioned: false, owner: ident("o"), columns, rights }
    }

    fn index(name: &str, is_primary: bool) -> Index {
        Index {
            name: ident(name),
            method: "btree".to_owned(),
            keys: vec![Some(ident(if is_primary { "id" } else { "sum" }))],
            is_unique: true,
            is_primary,
            is_replica_identity: false,
            is_valid: true,
            is_immediate: true,
            is_partial: false,
            is_of_constraint: is_primary,
        }
    }

    fn become_(choice: &Choice) -> Relation {
        chosen(&keyed(), choice, &columns(), &[index("pk", true), index("other", false)])
    }

    #[test]
    fn a_choice_says_which_columns_identify() {
        assert_eq!(become_(&Choice::Default), keyed());
        assert_eq!(become_(&Choice::Nothing).identity, Identity::Missing);
        assert_eq!(become_(&Choice::DroppedIndex).identity, Identity::Missing);
        let full = become_(&Choice::Full);
        assert_eq!((full.stored_generated, full.virtual_generated), ([ident("sum")].into(), [ident("late")].into()));
        let other = become_(&Choice::Index(ident("other")));
        assert_eq!(other.identity, Identity::Columns([ident("sum")].into()));
        assert_eq!(other.replica_identity, ReplicaIdentity::Index);
        assert_eq!(become_(&Choice::Index(ident("gone"))).identity, Identity::Missing);
    }

    fn outline(relation: Relation) -> Outline {
        let mut outline = Outline { wal_level: "logical".to_owned(), ..Outline::default() };
        outline.insert(table("t"), relation);
        outline
    }

    /// What breaks if the table changes so while it is published with these columns.
    fn breaks(before: &Choice, after: &Choice, listed: Option<&str>, publish: &[Operation]) -> Vec<Problem> {
        let spec = TableSpec { columns: listed.map(|name| [ident(name)].into()), filter: None };
        let target = Target::Lists { tables: [(table("t"), spec)].into(), schemas: BTreeSet::new() };
        let mut publication = Publication::new(ident("p"), target);
        publication.publish = publish.iter().copied().collect();
        let publications = [(ident("p"), publication)].into();
        let (before, after) = (outline(become_(before)), outline(become_(after)));
        let found = breaking(&publications, &before, &after, &BTreeMap::new(), ServerVersion::major_only(16));
        found.into_iter().map(|one| one.problem).collect()
    }

    #[test]
    fn what_breaks_is_found_and_what_was_broken_already_is_not() {
        let all = [Operation::Update, Operation::Delete];
        assert_eq!(breaks(&Choice::Full, &Choice::Nothing, None, &all), [Problem::NoIdentity]);
        assert_eq!(breaks(&Choice::Full, &Choice::Nothing, None, &[Operation::Insert]), []);
        assert_eq!(breaks(&Choice::Nothing, &Choice::DroppedIndex, None, &all), []);
        assert_eq!(breaks(&Choice::Nothing, &Choice::Full, None, &all), []);
        assert_eq!(breaks(&Choice::Default, &Choice::Full, Some("id"), &all), [Problem::ColumnsOfFullIdentity]);
        let other = Choice::Index(ident("other"));
        assert_eq!(breaks(&Choice::Default, &other, Some("id"), &all), [Problem::ColumnsWithoutIdentity]);
    }
}
