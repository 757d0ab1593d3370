// SPDX-License-Identifier: MPL-2.0

//! Finds the rows that differ in two streams with the same order. Pure.

use std::cmp::Ordering;

use super::{Difference, Kind};
use crate::postgres::Ident;
use crate::postgres::comparison::{Comparable, Entry};

/// The stream that the next row is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The publisher's: the subscriber lacks this row.
    Publisher,
    /// The subscriber's: only it has this row.
    Subscriber,
    /// Both: it is the same row.
    Both,
}

/// Which of two rows comes first.
pub(super) fn next(publisher: Option<&Entry>, subscriber: Option<&Entry>) -> Option<Next> {
    let order = match (publisher, subscriber) {
        (None, None) => return None,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(one), Some(other)) => one.hash.cmp(&other.hash).then_with(|| by_key(&one.key, &other.key)),
    };
    Some(match order {
        Ordering::Less => Next::Publisher,
        Ordering::Greater => Next::Subscriber,
        Ordering::Equal => Next::Both,
    })
}

/// The order of an array of texts under the collation C: byte by byte, nulls last.
fn by_key(one: &[Option<String>], other: &[Option<String>]) -> Ordering {
    let by_value = |(one, other): (&Option<String>, &Option<String>)| match (one, other) {
        (Some(one), Some(other)) => one.as_bytes().cmp(other.as_bytes()),
        (one, other) => one.is_none().cmp(&other.is_none()),
    };
    one.iter().zip(other).map(by_value).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// The differences of a table: the first ones are kept, the others counted.
#[derive(Debug)]
pub(super) struct Differences<'a> {
    table: &'a Comparable,
    most: usize,
    pub(super) kept: Vec<Difference>,
    pub(super) further: u64,
}

impl<'a> Differences<'a> {
    pub(super) fn of(table: &'a Comparable, most: usize) -> Self {
        Self { table, most, kept: Vec::new(), further: 0 }
    }

    /// Adds a row that one side lacks.
    pub(super) fn lacking(&mut self, kind: Kind, row: &Entry) {
        self.add(kind, row, Vec::new());
    }

    /// Adds a row that both have, if they differ.
    pub(super) fn compare(&mut self, publisher: &Entry, subscriber: &Entry) {
        let columns = self.table.columns().zip(publisher.columns.iter().zip(&subscriber.columns));
        let differing: Vec<_> =
            columns.filter(|(_, (one, other))| one != other).map(|(name, _)| name.clone()).collect();
        if !differing.is_empty() {
            self.add(Kind::Changed, publisher, differing);
        }
    }

    fn add(&mut self, kind: Kind, row: &Entry, columns: Vec<Ident>) {
        if self.kept.len() >= self.most {
            self.further += 1;
            return;
        }
        let key = self.table.key.iter().cloned().zip(row.key.iter().cloned()).collect();
        self.kept.push(Difference { key, kind, columns });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: i64, key: &[Option<&str>]) -> Entry {
        Entry { hash, key: key.iter().map(|value| value.map(str::to_owned)).collect(), columns: Vec::new() }
    }

    fn check(one: &Entry, other: &Entry, expected: Next) {
        assert_eq!(next(Some(one), Some(other)), Some(expected));
    }

    #[test]
    fn rows_are_merged_by_hash_and_then_by_key() {
        check(&entry(1, &[Some("b")]), &entry(2, &[Some("a")]), Next::Publisher);
        check(&entry(1, &[Some("b")]), &entry(1, &[Some("a")]), Next::Subscriber);
        check(&entry(1, &[Some("a"), None]), &entry(1, &[Some("a"), None]), Next::Both);
    }

    #[test]
    fn texts_are_ordered_as_postgres_orders_arrays_under_c() {
        check(&entry(1, &[Some("Z")]), &entry(1, &[Some("a")]), Next::Publisher);
        check(&entry(1, &[Some("a")]), &entry(1, &[Some("ab")]), Next::Publisher);
        check(&entry(1, &[Some("é")]), &entry(1, &[None]), Next::Publisher);
        check(&entry(1, &[None, Some("a")]), &entry(1, &[Some("a"), Some("b")]), Next::Subscriber);
    }

    #[test]
    fn what_only_one_side_has_is_taken_from_it() {
        let row = entry(1, &[]);
        assert_eq!(next(Some(&row), None), Some(Next::Publisher));
        assert_eq!(next(None, Some(&row)), Some(Next::Subscriber));
        assert_eq!(next(None, None), None);
    }
}
