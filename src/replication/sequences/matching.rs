// SPDX-License-Identifier: MPL-2.0

//! Matches the sequences of one side with those that continue them on the other. Pure.

use std::collections::BTreeSet;

use super::Meant;
use crate::postgres::QualifiedName;
use crate::postgres::catalog::{Outline, Sequence};

/// The matched sequences of both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Matched {
    /// Pairs of a sequence and the one that continues it.
    pub(super) pairs: BTreeSet<(QualifiedName, QualifiedName)>,
    /// Those that are not used on the other side, because their columns have another default there.
    pub(super) left_out: BTreeSet<QualifiedName>,
}

impl Matched {
    /// The names on both sides.
    pub(super) fn names(&self) -> (BTreeSet<QualifiedName>, BTreeSet<QualifiedName>) {
        self.pairs.iter().cloned().unzip()
    }
}

/// These tables, and all others of their partition trees.
pub(super) fn trees(outline: &Outline, tables: &BTreeSet<QualifiedName>) -> BTreeSet<QualifiedName> {
    let root = |name: &QualifiedName| {
        let ancestors = outline.relations.get(name).map(|relation| relation.ancestors.as_slice());
        ancestors.and_then(<[QualifiedName]>::last).unwrap_or(name).clone()
    };
    let roots: BTreeSet<_> = tables.iter().map(root).collect();
    let members = outline.relations.keys().filter(|name| roots.contains(&root(name)));
    members.chain(tables).cloned().collect()
}

/// A column's sequence is continued by that of the same column on the other side, whatever its name. If none of its
/// columns has one there, the sequence of the same name continues it.
pub(super) fn matched(meant: &Meant<'_>) -> Matched {
    let mut matched = Matched::default();
    matched.pairs.extend(meant.named.iter().map(|name| (name.clone(), name.clone())));
    let all: BTreeSet<_> = meant.from.values().flatten().map(|sequence| &sequence.name).collect();
    for name in all {
        let followers = followers(meant, name);
        if followers.is_empty() && !meant.named.contains(name) && is_replaced(meant, name) {
            matched.left_out.insert(name.clone());
        } else if followers.is_empty() {
            matched.pairs.insert((name.clone(), name.clone()));
        }
        matched.pairs.extend(followers.into_iter().map(|follower| (name.clone(), follower)));
    }
    matched
}

/// The sequences that this one's columns take numbers from on the other side.
fn followers(meant: &Meant<'_>, name: &QualifiedName) -> BTreeSet<QualifiedName> {
    let of = |(table, sequence): (&QualifiedName, &Sequence)| {
        let beside =
            |all: &[Sequence]| all.iter().filter(|one| one.column == sequence.column).cloned().collect::<Vec<_>>();
        let there = beside(meant.to.get(table).map(Vec::as_slice).unwrap_or_default());
        let here = beside(meant.from.get(table).map(Vec::as_slice).unwrap_or_default());
        follower(sequence, here.len(), &there).map(|follower| follower.name.clone())
    };
    columns(meant, name).filter_map(of).collect()
}

/// The sequence of the same name, or the column's only one, or the one with the same relation to the column.
fn follower<'s>(sequence: &Sequence, beside: usize, there: &'s [Sequence]) -> Option<&'s Sequence> {
    let same_name = there.iter().find(|one| one.name == sequence.name);
    let only = || there.first().filter(|_| there.len() == 1 && beside == 1);
    same_name.or_else(only).or_else(|| there.iter().find(|one| one.tie == sequence.tie))
}

/// Whether all columns that take numbers from it get their values in another way on the other side, or do not
/// exist there.
fn is_replaced(meant: &Meant<'_>, name: &QualifiedName) -> bool {
    let is_replaced = |(table, sequence): (&QualifiedName, &Sequence)| {
        let Some(target) = meant.targets.get(table) else { return false };
        target.column(&sequence.column).is_none_or(|column| column.has_default)
    };
    // A partition tree may have other tables there; only common tables count.
    let mut columns = columns(meant, name).filter(|(table, _)| meant.targets.contains_key(*table)).peekable();
    columns.peek().is_some() && columns.all(is_replaced)
}

fn columns<'a>(
    meant: &'a Meant<'_>,
    name: &'a QualifiedName,
) -> impl Iterator<Item = (&'a QualifiedName, &'a Sequence)> {
    let each =
        |(table, sequences): (&'a QualifiedName, &'a Vec<Sequence>)| sequences.iter().map(move |one| (table, one));
    meant.from.iter().flat_map(each).filter(move |(_, sequence)| sequence.name == *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::postgres::Ident;
    use crate::postgres::catalog::{Column, Equality, Rights, Table, Tie};

    fn name(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    /// Sequences of columns of table t, as `column sequence`: owned by the column, or only used if the line ends in an
    /// exclamation mark.
    fn sequences(lines: &[&str]) -> BTreeMap<QualifiedName, Vec<Sequence>> {
        let read = |line: &&str| {
            let (column, rest) = line.split_once(' ').unwrap();
            let tie = if rest.ends_with('!') { Tie::Used } else { Tie::Owned };
            Sequence {
                name: name(rest.trim_end_matches('!')),
                column: ident(column),
                tie,
                ty: "bigint".to_owned(),
                start: 1,
                increment: 1,
                min: 1,
                max: 100,
                cache: 1,
                cycles: false,
                last: None,
                is_visible: true,
            }
        };
        BTreeMap::from([(name("t"), lines.iter().map(read).collect())])
    }

    fn table(columns: &[(&str, bool)]) -> BTreeMap<QualifiedName, Table> {
        let column = |&(column, has_default): &(&str, bool)| Column {
            name: ident(column),
            ty: "bigint".to_owned(),
            is_not_null: true,
            has_default,
            is_generated: false,
            is_stored: false,
            equality: Equality::Value,
        };
        let columns = columns.iter().map(column).collect();
        let rights = Rights { role: ident("me"), reads: BTreeSet::new(), becomes_owner: true };
        BTreeMap::from([(
            name("t"),
            Table { takes_rows: true, is_partitioned: false, owner: ident("me"), columns, rights },
        )])
    }

    fn check(from: &[&str], to: &[&str], columns: &[(&str, bool)], named: &[&str], expected: &[&str]) {
        let (from, to, targets) = (sequences(from), sequences(to), table(columns));
        let named = named.iter().map(|text| name(text)).collect();
        let matched = matched(&Meant { from: &from, to: &to, targets: &targets, named: &named });
        let pairs = matched.pairs.iter().map(|(from, to)| format!("{} -> {}", from.to_text(), to.to_text()));
        let left = matched.left_out.iter().map(|name| format!("{} left out", name.to_text()));
        assert_eq!(pairs.chain(left).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_sequence_is_followed_by_that_of_its_column() {
        check(&["id a"], &["id b"], &[("id", true)], &[], &["public.a -> public.b"]);
        check(&["id a"], &["id b", "id a!"], &[("id", true)], &[], &["public.a -> public.a"]);
        let both = ["public.a -> public.c", "public.b -> public.d"];
        check(&["id a", "id b!"], &["id d!", "id c"], &[("id", true)], &[], &both);
        check(&["id a", "other a!"], &["id b", "other c"], &[], &[], &["public.a -> public.b", "public.a -> public.c"]);
    }

    #[test]
    fn a_sequence_that_no_column_uses_there_goes_by_its_name_or_is_left_out() {
        check(&["id a"], &[], &[("id", false)], &[], &["public.a -> public.a"]);
        check(&["id a"], &[], &[("id", true)], &[], &["public.a left out"]);
        check(&["id a"], &[], &[("id", true)], &["a", "x"], &["public.a -> public.a", "public.x -> public.x"]);
        check(&["id a"], &[], &[("other", false)], &[], &["public.a left out"]);
    }
}
