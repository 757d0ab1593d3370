// SPDX-License-Identifier: MPL-2.0

//! The parts of a table that both sides have, and how they can be compared. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Published;
use crate::postgres::catalog::{Column, Equality, Index, Table};
use crate::postgres::sql::{Ident, QualifiedName};

/// A table that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparable {
    /// Its name on both sides.
    pub name: QualifiedName,
    /// What identifies its rows: the columns of its key, or all columns if it has none.
    pub key: Vec<Ident>,
    /// The columns by name, each with how it is compared.
    pub(super) columns: BTreeMap<Ident, Equality>,
    pub(super) filter: Option<String>,
    pub(super) publisher_is_partitioned: bool,
    pub(super) subscriber_is_partitioned: bool,
}

/// Why a table cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incomparable {
    /// It does not exist on the publisher, or is not a table.
    NotOnPublisher,
    /// The same on the subscriber.
    NotOnSubscriber,
    /// The subscriber lacks these columns.
    NoColumns(BTreeSet<Ident>),
}

impl Comparable {
    /// The columns that are compared, in the order of their names.
    pub fn columns(&self) -> impl Iterator<Item = &Ident> {
        self.columns.keys()
    }
}

/// The comparable part of a table that is published like this, or as a whole. `indexes` are the publisher's.
///
/// # Errors
/// When one side lacks it or a part of it.
pub fn comparable(
    name: &QualifiedName,
    published: Option<&Published>,
    (publisher, indexes): (Option<&Table>, &[Index]),
    subscriber: Option<&Table>,
) -> Result<Comparable, Incomparable> {
    let publisher = publisher.filter(|table| table.takes_rows).ok_or(Incomparable::NotOnPublisher)?;
    let subscriber = subscriber.filter(|table| table.takes_rows).ok_or(Incomparable::NotOnSubscriber)?;
    let listed = published.and_then(|published| published.columns.as_ref());
    let is_sent = |column: &&Column| listed.map_or(!column.is_generated, |listed| listed.contains(&column.name));
    let sent = || publisher.columns.iter().filter(is_sent);
    let is_missing = |column: &&Column| subscriber.column(&column.name).is_none();
    let missing: BTreeSet<_> = sent().filter(is_missing).map(|column| column.name.clone()).collect();
    if !missing.is_empty() {
        return Err(Incomparable::NoColumns(missing));
    }
    let both = sent().filter_map(|column| Some((column, subscriber.column(&column.name)?)));
    let columns: BTreeMap<_, _> = both.map(|(one, other)| (one.name.clone(), equality(one, other))).collect();
    let key = key(indexes).filter(|key| key.iter().all(|name| columns.contains_key(name)));
    Ok(Comparable {
        name: name.clone(),
        key: key.unwrap_or_else(|| columns.keys().cloned().collect()),
        columns,
        filter: published.and_then(|published| published.filter.clone()),
        publisher_is_partitioned: publisher.is_partitioned,
        subscriber_is_partitioned: subscriber.is_partitioned,
    })
}

/// The columns of the replica identity, otherwise of the primary key.
fn key(indexes: &[Index]) -> Option<Vec<Ident>> {
    let chosen = indexes.iter().find(|index| index.is_replica_identity);
    let chosen = chosen.or_else(|| indexes.iter().find(|index| index.is_primary))?;
    chosen.keys.iter().cloned().collect()
}

/// Values of different types are compared by their texts.
fn equality(one: &Column, other: &Column) -> Equality {
    match (one.equality, other.equality) {
        _ if without_modifier(&one.ty) != without_modifier(&other.ty) => Equality::Text,
        (Equality::Letters, _) | (_, Equality::Letters) => Equality::Letters,
        (Equality::Value, Equality::Value) => Equality::Value,
        _ => Equality::Text,
    }
}

/// A type without its modifier: `numeric(10,2)` becomes `numeric`.
fn without_modifier(ty: &str) -> String {
    let parts = ty.split_once('(').and_then(|(name, rest)| Some((name, rest.split_once(')')?.1)));
    parts.map_or_else(|| ty.to_owned(), |(name, tail)| format!("{name}{tail}"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::postgres::catalog::Rights;

    pub(in crate::postgres::comparison) fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    /// A table from `name:type` with `#` for one that is compared by value, `~` by letters and `=` for a generated one.
    pub(in crate::postgres::comparison) fn table(columns: &str) -> Table {
        let column = |text: &str| {
            let (name, ty) = text.split_once(':').unwrap();
            Column {
                name: ident(name),
                ty: ty.trim_end_matches(['#', '~', '=']).to_owned(),
                is_not_null: false,
                has_default: false,
                is_generated: ty.contains('='),
                is_stored: ty.contains('='),
                equality: match (ty.contains('~'), ty.contains('#')) {
                    (true, _) => Equality::Letters,
                    (false, true) => Equality::Value,
                    (false, false) => Equality::Text,
                },
            }
        };
        let rights = Rights { role: ident("me"), reads: BTreeSet::new(), becomes_owner: true };
        let columns = columns.split_whitespace().map(column).collect();
        Table { takes_rows: true, is_partitioned: false, owner: ident("me"), columns, rights }
    }

    /// A primary key of these columns, or of none.
    pub(in crate::postgres::comparison) fn primary(columns: &str) -> Vec<Index> {
        let keys: Vec<_> = columns.split_whitespace().map(|name| Some(ident(name))).collect();
        let index = Index {
            name: ident("key"),
            method: "btree".to_owned(),
            keys,
            is_unique: true,
            is_primary: true,
            is_replica_identity: false,
            is_valid: true,
            is_immediate: true,
            is_partial: false,
            is_of_constraint: true,
        };
        if index.keys.is_empty() { Vec::new() } else { vec![index] }
    }

    fn compared(
        publisher: &str,
        key: &str,
        subscriber: &str,
        listed: Option<&str>,
    ) -> std::result::Result<String, Incomparable> {
        let columns = listed.map(|listed| listed.split_whitespace().map(ident).collect());
        let published = Published { columns, filter: None };
        let (name, one, other) = (QualifiedName::parse("t").unwrap(), table(publisher), table(subscriber));
        let table = comparable(&name, Some(&published), (Some(&one), &primary(key)), Some(&other))?;
        let columns: Vec<_> = table.columns.iter().map(|(name, by)| format!("{} {by:?}", name.as_str())).collect();
        let key: Vec<_> = table.key.iter().map(Ident::as_str).collect();
        Ok(format!("{} by {}", columns.join(", "), key.join(" ")))
    }

    #[test]
    fn columns_are_compared_by_value_where_both_servers_hash_them_alike() {
        let publisher = "a:integer# b:mood c:text#~ d:integer# e:numeric(10,2)#";
        let subscriber = "a:integer# b:mood c:text# d:bigint# e:numeric# f:text#";
        let expected = "a Value, b Text, c Letters, d Text, e Value by a";
        assert_eq!(compared(publisher, "a", subscriber, None).unwrap(), expected);
    }

    #[test]
    fn what_is_not_sent_is_not_compared() {
        let publisher = "a:integer# b:integer#= c:integer#";
        let whole = compared(publisher, "a", "a:integer# c:integer#", None);
        assert_eq!(whole.unwrap(), "a Value, c Value by a");
        let listed = compared(publisher, "a", "a:integer# b:integer#", Some("a b"));
        assert_eq!(listed.unwrap(), "a Value, b Value by a");
        let lacking = compared("a:integer# c:integer#", "", "a:integer#", None);
        assert_eq!(lacking, Err(Incomparable::NoColumns([ident("c")].into())));
    }

    #[test]
    fn rows_without_a_key_that_is_sent_are_told_apart_by_all_of_them() {
        let both = "a:integer# b:integer#";
        assert_eq!(compared(both, "", both, None).unwrap(), "a Value, b Value by a b");
        assert_eq!(compared(both, "a", "b:integer#", Some("b")).unwrap(), "b Value by b");
        let two = compared("c:text# b:text# a:text#", "c b", "a:text# b:text# c:text#", None);
        assert_eq!(two.unwrap(), "a Value, b Value, c Value by c b");
    }

    #[test]
    fn the_replica_identity_wins_over_the_primary_key() {
        let mut indexes = primary("a");
        indexes.push(Index { is_primary: false, is_replica_identity: true, ..primary("b").remove(0) });
        assert_eq!(key(&indexes), Some(vec![ident("b")]));
    }

    #[test]
    fn a_table_that_one_side_lacks_cannot_be_compared() {
        let (name, there) = (QualifiedName::parse("t").unwrap(), table("a:integer#"));
        let view = Table { takes_rows: false, ..there.clone() };
        let compared = |one: Option<&Table>, other: Option<&Table>| comparable(&name, None, (one, &[]), other);
        assert_eq!(compared(None, Some(&there)), Err(Incomparable::NotOnPublisher));
        assert_eq!(compared(Some(&there), Some(&view)), Err(Incomparable::NotOnSubscriber));
    }

    #[test]
    fn what_limits_a_type_does_not_make_it_another() {
        let texts = ["numeric(10,2)", "timestamp(3) with time zone", "text"].map(without_modifier);
        assert_eq!(texts, ["numeric", "timestamp with time zone", "text"]);
    }
}
