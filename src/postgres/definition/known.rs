// SPDX-License-Identifier: MPL-2.0

//! Which tables and columns of the subscriber belong to which of the publisher: names alone do not show it.
//!
//! A table that was dropped and created again has the old table's name, and so does a table that replaces it in a
//! migration. Replication finds tables by name: rows of the old one stay on the subscriber, and rows that the new one
//! got before it was published never arrive. The table's oid shows the difference: it stays the same when a table is
//! rewritten or renamed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model::{Definition, Table};
use crate::postgres::sql::QualifiedName;

/// The matching tables and columns of both sides, by the oid of the publisher's table.
pub type Known = BTreeMap<i64, Pairs>;

/// The numbers of the subscriber's tables that a subscription has taken up; `None` without a subscription, as then nothing is
/// replicated yet.
pub type TakenUp = Option<BTreeSet<i64>>;

/// A table on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairs {
    /// The name that both had when they were last read. States of older versions do not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<QualifiedName>,
    /// The oid of the subscriber's table.
    pub(super) there: i64,
    /// The numbers of the subscriber's columns, by those of the publisher's.
    pub(super) columns: BTreeMap<i16, i16>,
}

/// Tables that have replaced the recorded ones of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Those of the publisher, each with the subscriber's name for it if that differs.
    pub on_publisher: BTreeMap<QualifiedName, Option<QualifiedName>>,
    /// Those of the subscriber that are not in a subscription.
    pub on_subscriber: BTreeSet<QualifiedName>,
    /// Whether the publisher has several tables and all were replaced.
    pub is_all_of_publisher: bool,
    /// Whether all of the subscriber's were replaced.
    pub is_all_of_subscriber: bool,
}

/// How two tables of one name relate to the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// They belong together, or neither is recorded.
    Together,
    /// The subscriber's table is recorded for another table of the publisher.
    PublishersIsOther {
        /// The oid of that table.
        old: i64,
    },
    /// The publisher's table is recorded for another table of the subscriber.
    SubscribersIsOther,
}

/// The record, prepared for lookups by tables of both sides.
struct Asked<'a> {
    known: &'a Known,
    /// The oids of the publisher's tables by those of the subscriber's.
    by_there: BTreeMap<i64, i64>,
}

impl<'a> Asked<'a> {
    fn of(known: &'a Known) -> Self {
        Self { known, by_there: known.iter().map(|(number, pairs)| (pairs.there, *number)).collect() }
    }

    fn standing(&self, table: &Table, there: &Table) -> Standing {
        let is_known_there = self.known.get(&table.oid).map(|pairs| pairs.there == there.oid);
        match (is_known_there, self.by_there.get(&there.oid)) {
            (Some(true), _) | (None, None) => Standing::Together,
            (_, Some(old)) => Standing::PublishersIsOther { old: *old },
            (Some(false), None) => Standing::SubscribersIsOther,
        }
    }
}

/// The tables of a name that both sides have.
fn both<'a>(
    publisher: &'a Definition,
    subscriber: &'a Definition,
) -> impl Iterator<Item = (&'a QualifiedName, &'a Table, &'a Table)> {
    publisher.tables.iter().filter_map(|(name, table)| Some((name, table, subscriber.tables.get(name)?)))
}

/// The record that identifies tables and columns later: the previous record, as far as the subscriber still has the
/// objects, and all objects with the same name. Objects that the publisher has dropped are kept, because another table
/// or column that gets the name is not the same. So are replaced ones, until a person has resolved it.
pub fn known(publisher: &Definition, subscriber: &Definition, before: &Known, taken_up: &TakenUp) -> Known {
    let replaced = replaced(publisher, subscriber, before, taken_up);
    if replaced.is_all_of_publisher || replaced.is_all_of_subscriber {
        // Otherwise a new table would look like one that was kept.
        return before.clone();
    }
    let asked = Asked::of(before);
    let kept = both(publisher, subscriber).filter_map(|(name, table, there)| match asked.standing(table, there) {
        Standing::PublishersIsOther { old } => before.get(&old).map(|pairs| (old, pairs.clone())),
        Standing::SubscribersIsOther if is_open(there, taken_up) => {
            before.get(&table.oid).map(|pairs| (table.oid, pairs.clone()))
        }
        _ => Some((table.oid, pairs(name, table, there, before.get(&table.oid)))),
    });
    let mut kept: Known = kept.collect();
    let is_there = |pairs: &Pairs| {
        let there = pairs.name.as_ref().and_then(|name| subscriber.tables.get(name));
        there.is_some_and(|there| there.oid == pairs.there)
    };
    let taken: BTreeSet<i64> = kept.values().map(|pairs| pairs.there).collect();
    for (number, pairs) in before.iter().filter(|(_, pairs)| is_there(pairs) && !taken.contains(&pairs.there)) {
        kept.entry(*number).or_insert_with(|| pairs.clone());
    }
    kept
}

/// Whether changes of a table that was made again do not arrive.
fn is_open(there: &Table, taken_up: &TakenUp) -> bool {
    taken_up.as_ref().is_some_and(|taken_up| !taken_up.contains(&there.oid))
}

fn pairs(name: &QualifiedName, table: &Table, there: &Table, before: Option<&Pairs>) -> Pairs {
    let before = before.filter(|pairs| pairs.there == there.oid);
    let kept = before.into_iter().flat_map(|pairs| pairs.columns.iter().map(|(one, other)| (*one, *other)));
    let mut columns: BTreeMap<i16, i16> = kept.filter(|(_, other)| there.has_number(*other)).collect();
    let taken: BTreeSet<i16> = columns.values().copied().collect();
    for column in &table.columns {
        if let Some(other) = there.column(&column.name).filter(|other| !taken.contains(&other.number)) {
            columns.entry(column.number).or_insert(other.number);
        }
    }
    Pairs { name: Some(name.clone()), there: there.oid, columns }
}

/// The names under which the subscriber had tables and that the publisher's tables do not have.
pub fn names_beyond(publisher: &Definition, known: &Known) -> BTreeSet<QualifiedName> {
    let names = known.values().filter_map(|pairs| pairs.name.clone());
    names.filter(|name| !publisher.tables.contains_key(name)).collect()
}

/// The record without tables that are created under these names: they are not the dropped ones.
pub fn forgotten<'a>(mut known: Known, made: impl Iterator<Item = &'a QualifiedName>) -> Known {
    let made: BTreeSet<_> = made.collect();
    known.retain(|_, pairs| pairs.name.as_ref().is_none_or(|name| !made.contains(name)));
    known
}

/// Whether the subscriber has tables that replace recorded ones. Then it matters whether they are in a subscription.
pub fn has_others_there(publisher: &Definition, subscriber: &Definition, known: &Known) -> bool {
    let asked = Asked::of(known);
    both(publisher, subscriber).any(|(_, table, there)| asked.standing(table, there) == Standing::SubscribersIsOther)
}

/// The tables that have replaced the recorded ones of the same name.
pub fn replaced(publisher: &Definition, subscriber: &Definition, known: &Known, taken_up: &TakenUp) -> Replaced {
    let asked = Asked::of(known);
    let (mut found, mut same) = (Replaced::default(), 0);
    let renamed: BTreeMap<i64, &QualifiedName> = known
        .iter()
        .filter_map(|(number, pairs)| Some((*number, pairs.name.as_ref()?)))
        .filter(|(_, name)| subscriber.tables.contains_key(*name))
        .collect();
    for (name, table, there) in both(publisher, subscriber) {
        match asked.standing(table, there) {
            Standing::PublishersIsOther { .. } => {
                let had = renamed.get(&table.oid).map(|name| (*name).clone());
                found.on_publisher.insert(name.clone(), had);
            }
            Standing::SubscribersIsOther if is_open(there, taken_up) => {
                found.on_subscriber.insert(name.clone());
            }
            _ => same += usize::from(known.contains_key(&table.oid)),
        }
    }
    let is_all = |count: usize, others: usize| count > 1 && same + others == 0;
    found.is_all_of_publisher = is_all(found.on_publisher.len(), found.on_subscriber.len());
    found.is_all_of_subscriber = is_all(found.on_subscriber.len(), found.on_publisher.len());
    found
}

impl Table {
    pub(super) fn has_number(&self, number: i16) -> bool {
        self.columns.iter().any(|column| column.number == number)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{database, name};
    use super::*;

    /// A database of tables with these names and oids.
    fn side(tables: &[(&str, i64)]) -> Definition {
        tables.iter().fold(database(18), |side, (called, oid)| {
            let mut side = side.table(called, "id");
            side.tables.get_mut(&name(called)).unwrap().oid = *oid;
            side
        })
    }

    /// Two tables of each side that belong together, as `t` and `u`.
    fn of_two() -> (Definition, Definition, Known) {
        let (publisher, subscriber) = (side(&[("t", 10), ("u", 11)]), side(&[("t", 20), ("u", 21)]));
        let known = known(&publisher, &subscriber, &Known::new(), &None);
        (publisher, subscriber, known)
    }

    fn names(names: &[&str]) -> BTreeSet<QualifiedName> {
        names.iter().map(|one| name(one)).collect()
    }

    fn found(publisher: &Definition, subscriber: &Definition, before: &Known, taken_up: &[i64]) -> Replaced {
        found_of(publisher, subscriber, before, &Some(taken_up.iter().copied().collect()))
    }

    fn found_of(publisher: &Definition, subscriber: &Definition, before: &Known, taken_up: &TakenUp) -> Replaced {
        let found = replaced(publisher, subscriber, before, taken_up);
        // It stays so until a person has resolved it.
        let after = known(publisher, subscriber, before, taken_up);
        assert_eq!(replaced(publisher, subscriber, &after, taken_up), found);
        found
    }

    #[test]
    fn a_table_that_keeps_its_number_is_the_same_whatever_else_changes() {
        let (publisher, subscriber, known) = of_two();
        assert_eq!(found(&publisher, &subscriber, &known, &[20, 21]), Replaced::default());
        let more = side(&[("t", 10), ("u", 11), ("v", 12)]);
        assert_eq!(found(&more, &side(&[("t", 20), ("u", 21), ("v", 22)]), &known, &[20, 21]), Replaced::default());
        assert_eq!(found(&side(&[("t", 10)]), &subscriber, &known, &[20, 21]), Replaced::default());
    }

    #[test]
    fn another_table_of_the_publishers_is_told_until_the_subscriber_has_another_one_too() {
        let (_, subscriber, before) = of_two();
        let publisher = side(&[("t", 30), ("u", 11)]);
        let told = found(&publisher, &subscriber, &before, &[20, 21]);
        assert_eq!(told.on_publisher, [(name("t"), None)].into());
        assert!(told.on_subscriber.is_empty() && !told.is_all_of_publisher);
        // If an older version's state has no name, the subscriber's oid identifies the table.
        let mut nameless = before.clone();
        nameless.values_mut().for_each(|pairs| pairs.name = None);
        assert_eq!(found(&publisher, &subscriber, &nameless, &[20, 21]), told);
        // The table was missing at one read.
        let away = known(&side(&[("u", 11)]), &subscriber, &before, &None);
        assert_eq!(found(&publisher, &subscriber, &away, &[20, 21]), told);
        // Dropped on the subscriber and created again by an apply, or by hand.
        let mended = side(&[("t", 40), ("u", 21)]);
        assert_eq!(found(&publisher, &mended, &before, &[21]), Replaced::default());
        let after = known(&publisher, &mended, &before, &None);
        assert_eq!(after.keys().copied().collect::<Vec<_>>(), [11, 30]);
    }

    #[test]
    fn names_that_two_tables_have_exchanged_are_told_of_both() {
        let (_, subscriber, known) = of_two();
        let told = found(&side(&[("t", 11), ("u", 10)]), &subscriber, &known, &[20, 21]);
        assert_eq!(told.on_publisher, [(name("t"), Some(name("u"))), (name("u"), Some(name("t")))].into());
    }

    #[test]
    fn another_table_of_the_subscribers_is_told_until_a_subscription_has_it() {
        let (publisher, _, before) = of_two();
        let subscriber = side(&[("t", 40), ("u", 21)]);
        let told = found(&publisher, &subscriber, &before, &[21]);
        assert_eq!((&told.on_subscriber, told.on_publisher.is_empty()), (&names(&["t"]), true));
        assert!(has_others_there(&publisher, &subscriber, &before));
        assert_eq!(found(&publisher, &subscriber, &before, &[21, 40]), Replaced::default());
        assert_eq!(found_of(&publisher, &subscriber, &before, &None), Replaced::default(), "nothing is replicated");
        // A table that this apply has created belongs to no other.
        let made = names(&["t"]);
        let known = forgotten(before, made.iter());
        assert_eq!(found(&publisher, &subscriber, &known, &[21]), Replaced::default());
    }

    #[test]
    fn a_side_of_which_no_table_is_the_same_is_told_as_a_whole() {
        let (publisher, subscriber, known) = of_two();
        let told = found(&side(&[("t", 30), ("u", 31)]), &subscriber, &known, &[20, 21]);
        assert!(told.is_all_of_publisher && !told.is_all_of_subscriber && told.on_publisher.len() == 2);
        // A subscription forgets the tables that are dropped.
        for taken_up in [&[7][..], &[]] {
            let told = found(&publisher, &side(&[("t", 30), ("u", 31)]), &known, taken_up);
            assert!(told.is_all_of_subscriber && !told.is_all_of_publisher && told.on_subscriber.len() == 2);
        }
        let new = side(&[("t", 30), ("u", 31), ("v", 32)]);
        let there = side(&[("t", 20), ("u", 21), ("v", 42)]);
        assert!(found(&new, &there, &known, &[20, 21]).is_all_of_publisher, "one that is new says nothing");
    }

    #[test]
    fn what_is_known_goes_through_the_state() {
        let (_, _, known) = of_two();
        let json = serde_json::to_value(&known).unwrap();
        assert_eq!(json["10"], serde_json::json!({"name": ["public", "t"], "there": 20, "columns": {"1": 1}}));
        assert_eq!(serde_json::from_value::<Known>(json).unwrap(), known);
        // The form in states of older versions.
        let old = serde_json::json!({"10": {"there": 20, "columns": {"1": 1}}});
        assert!(serde_json::from_value::<Known>(old).unwrap()[&10].name.is_none());
    }
}
