// SPDX-License-Identifier: MPL-2.0

//! Columns that were renamed on the publisher.
//!
//! A renamed column looks like a dropped one and a new one, and existing rows would lose its values. The column numbers
//! in both catalogs show the difference, because they do not change: the numbers of columns that once had the same name
//! are recorded as pairs.

use super::known::{Known, Pairs};
use super::model::{Definition, Table};
use super::object::Object;
use crate::postgres::sql::{Ident, QualifiedName, Statement};

/// A column that was renamed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// Its table.
    pub table: QualifiedName,
    /// Its name on the subscriber.
    pub from: Ident,
    /// Its name on the publisher.
    pub to: Ident,
    /// Whether it is renamed together with its parent's column.
    is_inherited: bool,
}

/// The renamed columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renamings {
    /// The columns to rename, in an order in which each name is free.
    pub due: Vec<Renaming>,
    /// The columns that a person must resolve: the subscriber has other columns of these names, so that rows kept
    /// arriving, with values in the wrong columns.
    pub mixed: Vec<Renaming>,
    /// The columns that the publisher has replaced by others of the same name.
    pub made_again: Vec<(QualifiedName, Ident)>,
}

impl Renaming {
    /// The table.
    pub fn object(&self) -> Object {
        Object::Table(self.table.clone())
    }

    /// Whether a difference is about the column under its old name.
    pub(super) fn is_of(&self, attribute: &str) -> bool {
        attribute == format!("column {}", self.from.as_str())
    }

    /// The statement that renames it, unless a parent's statement does.
    pub fn statement(&self) -> Option<Statement> {
        let Self { table, from, to, .. } = self;
        (!self.is_inherited).then(|| Statement::new(format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}")))
    }
}

/// The columns that are recorded under another name.
pub fn renamings(publisher: &Definition, subscriber: &Definition, known: &Known) -> Renamings {
    let both = publisher.tables.iter().filter_map(|(name, table)| Some((name, table, subscriber.tables.get(name)?)));
    let mut all = Renamings::default();
    for (name, table, there) in both {
        let Some(pairs) = known.get(&table.oid).filter(|pairs| pairs.there == there.oid) else { continue };
        let found = table.columns.iter().filter_map(|column| {
            let number = pairs.columns.get(&column.number)?;
            let old = there.columns.iter().find(|old| old.number == *number)?;
            let (table, from, to) = (name.clone(), old.name.clone(), column.name.clone());
            (from != to).then_some(Renaming { table, from, to, is_inherited: column.is_inherited })
        });
        all.made_again.extend(pairs.made_again(table, there).map(|column| (name.clone(), column.clone())));
        let (due, mixed) = shared(there, found.collect());
        all.due.extend(due);
        all.mixed.extend(mixed);
    }
    all
}

impl Pairs {
    /// The columns with the name of one that the publisher has dropped and the subscriber still has. Inherited columns
    /// are reported for the parent.
    fn made_again<'a>(&'a self, table: &'a Table, there: &'a Table) -> impl Iterator<Item = &'a Ident> {
        let was_other =
            |number: i16| self.columns.iter().any(|(one, other)| *other == number && !table.has_number(*one));
        let new =
            table.columns.iter().filter(|column| !self.columns.contains_key(&column.number) && !column.is_inherited);
        let names = new.map(|column| &column.name);
        names.filter(move |name| there.column(name).is_some_and(|old| was_other(old.number)))
    }
}

/// Splits the columns of a table into those that can be renamed and the rest: a name is available if it is free, or if
/// its column can itself be renamed.
fn shared(there: &Table, mut open: Vec<Renaming>) -> (Vec<Renaming>, Vec<Renaming>) {
    let mut due: Vec<Renaming> = Vec::new();
    loop {
        let is_free = |one: &Renaming| there.column(&one.to).is_none() || due.iter().any(|other| other.from == one.to);
        let Some(at) = open.iter().position(is_free) else { return (due, open) };
        due.push(open.remove(at));
    }
}

/// The subscriber's definition after the renaming.
pub fn renamed(mut subscriber: Definition, renamings: &[Renaming]) -> Definition {
    for renaming in renamings {
        let Some(table) = subscriber.tables.get_mut(&renaming.table) else { continue };
        table.rename(&renaming.from, &renaming.to);
        let (old, new) = (printed(&renaming.from), printed(&renaming.to));
        let indexes = subscriber.indexes.values_mut().filter(|index| index.table == renaming.table);
        indexes.for_each(|index| replace(&mut index.definition, &old, &new));
    }
    subscriber
}

impl Table {
    fn rename(&mut self, from: &Ident, to: &Ident) {
        let (old, new) = (&printed(from), &printed(to));
        for column in &mut self.columns {
            if column.name == *from {
                column.name = to.clone();
            }
            if let Some(expression) = &mut column.expression {
                replace(expression, old, new);
            }
        }
        self.constraints.values_mut().for_each(|constraint| replace(&mut constraint.definition, old, new));
        self.partition_key.iter_mut().for_each(|key| replace(key, old, new));
    }
}

/// Replaces a name in a printed text, but not within quotes.
pub(super) fn replace(text: &mut String, old: &str, new: &str) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == '"' || c == '\'';
    let mut found = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(old) {
        let (before, after) = (&rest[..at], &rest[at + old.len()..]);
        found.push_str(before);
        let is_whole = !found.ends_with(is_word) && !after.starts_with(is_word);
        found.push_str(if is_whole { new } else { old });
        rest = after;
    }
    found.push_str(rest);
    *text = found;
}

/// A name as a server prints it.
pub(super) fn printed(name: &Ident) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let text = name.as_str();
    if text.chars().all(is_plain) && !text.starts_with(|c: char| c.is_ascii_digit()) {
        text.to_owned()
    } else {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::known;
    use super::super::samples::database;
    use super::*;

    #[test]
    fn a_name_is_replaced_where_it_stands_alone() {
        let replaced = |text: &str, from: &str, to: &str| {
            let mut text = text.to_owned();
            let printed = |name| printed(&Ident::new(name).unwrap());
            replace(&mut text, &printed(from), &printed(to));
            text
        };
        assert_eq!(replaced("CHECK ((a > 0) AND (aa > a))", "a", "b"), "CHECK ((b > 0) AND (aa > b))");
        assert_eq!(replaced("CHECK (a <> 'a'::text)", "a", "B c"), "CHECK (\"B c\" <> 'a'::text)");
        assert_eq!(replaced("(\"A\")", "A", "a"), "(a)");
    }

    fn remember(publisher: &Definition, subscriber: &Definition, before: &Known) -> Known {
        known(publisher, subscriber, before, &None)
    }

    fn of_names(columns: &str) -> Definition {
        database(18).table("t", columns)
    }

    /// The columns that are due and mixed up, if columns with the names `before` now have the other names on the
    /// publisher and on the subscriber.
    fn found(before: &str, publisher: &str, subscriber: &str) -> (String, String) {
        let known = remember(&of_names(before), &of_names(before), &Known::new());
        let Renamings { due, mixed, .. } = renamings(&of_names(publisher), &of_names(subscriber), &known);
        let text = |all: &[Renaming]| {
            let lines = all.iter().map(|one| format!("{}>{}", one.from.as_str(), one.to.as_str()));
            lines.collect::<Vec<_>>().join(" ")
        };
        (text(&due), text(&mixed))
    }

    #[test]
    fn a_column_is_known_by_its_number_whatever_names_others_get() {
        for (before, publisher, subscriber, due, mixed) in [
            ("a b", "a b", "a b", "", ""),
            ("a b", "c b", "a b", "a>c", ""),
            // By hand, on both sides.
            ("a b", "c b", "c b", "", ""),
            // One column takes the name that another gives up.
            ("a b", "b c", "a b", "b>c a>b", ""),
            ("a b c", "b c d", "a b c", "c>d b>c a>b", ""),
            // Two columns swap their names: rows kept arriving in the wrong ones.
            ("a b", "b a", "a b", "", "a>b b>a"),
            ("a b", "b a", "b a", "", ""),
            ("a b c", "b a d", "a b c", "c>d", "a>b b>a"),
        ] {
            assert_eq!(
                found(before, publisher, subscriber),
                (due.to_owned(), mixed.to_owned()),
                "{before} {publisher}"
            );
        }
    }

    #[test]
    fn the_name_of_a_column_that_is_gone_is_not_free_while_the_subscriber_has_it() {
        let mut publisher = of_names("a b");
        let known = remember(&publisher, &publisher, &Known::new());
        let subscriber = publisher.clone();
        let table = publisher.tables.values_mut().next().unwrap();
        table.columns.remove(0);
        table.columns[0].name = Ident::new("a").unwrap();
        let Renamings { due, mixed, .. } = renamings(&publisher, &subscriber, &known);
        assert_eq!((due.len(), mixed.len()), (0, 1));
        // It stays recorded until a person has dropped the old one.
        let known = remember(&publisher, &subscriber, &known);
        let mut mended = subscriber.clone();
        mended.tables.values_mut().next().unwrap().columns.remove(0);
        let Renamings { due, mixed, .. } = renamings(&publisher, &mended, &known);
        assert_eq!((due.len(), mixed.len()), (1, 0));
        // A table that was created again has other columns.
        mended.tables.values_mut().next().unwrap().oid = 7;
        assert_eq!(renamings(&publisher, &mended, &known), Renamings::default());
    }

    #[test]
    fn a_column_that_was_made_again_is_another_one_until_the_subscriber_has_a_new_one_too() {
        let subscriber = of_names("a b");
        let known = remember(&subscriber, &subscriber, &Known::new());
        let mut publisher = of_names("b b2 a");
        let columns = &mut publisher.tables.values_mut().next().unwrap().columns;
        columns.remove(1);
        columns[0].number = 2;
        let again = |subscriber: &Definition, known: &Known| {
            let found = renamings(&publisher, subscriber, known).made_again;
            found.iter().map(|(_, column)| column.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(again(&subscriber, &known), ["a"]);
        // An apply of something else does not forget it.
        let later = remember(&publisher, &subscriber, &known);
        assert_eq!(again(&subscriber, &later), ["a"]);
        // Without the record it is unknown.
        assert!(again(&subscriber, &remember(&publisher, &subscriber, &Known::new())).is_empty());
        let mut mended = of_names("a b a2");
        let columns = &mut mended.tables.values_mut().next().unwrap().columns;
        columns.remove(0);
        columns[1].name = Ident::new("a").unwrap();
        assert!(again(&mended, &later).is_empty());
        let settled = remember(&publisher, &mended, &later);
        assert!(again(&mended, &settled).is_empty());
        assert_eq!(serde_json::to_value(settled).unwrap()["100"]["columns"], serde_json::json!({"2": 2, "3": 3}));
    }
}
