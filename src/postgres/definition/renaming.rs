//! Columns that have another name on the publisher by now.
//!
//! A new name looks like a column that is gone and another one that is new, and rows that are there would lose what they
//! hold. What tells it is the number that the catalog keeps for a column: it stays.

use std::collections::BTreeMap;

use super::model::{Definition, Table};
use super::object::Object;
use crate::postgres::sql::{Ident, QualifiedName, Statement};

/// The names of columns by their numbers, by the number of their table, as a publisher had them.
pub type Known = BTreeMap<i64, BTreeMap<i16, Ident>>;

/// A column that gets another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renaming {
    /// Its table.
    pub table: QualifiedName,
    /// Its name on the subscriber.
    pub from: Ident,
    /// Its name on the publisher.
    pub to: Ident,
    /// Whether it gets the name together with that of a parent.
    is_inherited: bool,
}

impl Renaming {
    /// The table.
    pub fn object(&self) -> Object {
        Object::Table(self.table.clone())
    }

    /// The statement, unless that of a parent does it.
    pub fn statement(&self) -> Option<Statement> {
        let Self { table, from, to, .. } = self;
        (!self.is_inherited).then(|| Statement::new(format!("ALTER TABLE {table} RENAME COLUMN {from} TO {to}")))
    }
}

/// What is to be kept to know a column again.
pub fn known(publisher: &Definition) -> Known {
    let columns = |table: &Table| table.columns.iter().map(|column| (column.number, column.name.clone())).collect();
    publisher.tables.values().map(|table| (table.oid, columns(table))).collect()
}

/// The columns that were known by another name, which the subscriber still has.
pub fn renamings(publisher: &Definition, subscriber: &Definition, known: &Known) -> Vec<Renaming> {
    let both = publisher.tables.iter().filter_map(|(name, table)| Some((name, table, subscriber.tables.get(name)?)));
    both.flat_map(|(name, table, there)| {
        let before = known.get(&table.oid);
        table.columns.iter().filter_map(move |column| {
            let from = before?.get(&column.number)?;
            let is_gone = table.column(from).is_none() && there.column(&column.name).is_none();
            (is_gone && there.column(from).is_some()).then(|| Renaming {
                table: name.clone(),
                from: from.clone(),
                to: column.name.clone(),
                is_inherited: column.is_inherited,
            })
        })
    })
    .collect()
}

/// What the subscriber has once they are renamed.
pub fn renamed(mut subscriber: Definition, renamings: &[Renaming]) -> Definition {
    for renaming in renamings {
        let Some(table) = subscriber.tables.get_mut(&renaming.table) else { continue };
        table.rename(&renaming.from, &renaming.to);
        let indexes = subscriber.indexes.values_mut().filter(|index| index.table == renaming.table);
        indexes.for_each(|index| replace(&mut index.definition, &renaming.from, &renaming.to));
    }
    subscriber
}

impl Table {
    fn rename(&mut self, from: &Ident, to: &Ident) {
        for column in &mut self.columns {
            if column.name == *from {
                column.name = to.clone();
            }
            if let Some(expression) = &mut column.expression {
                replace(expression, from, to);
            }
        }
        self.constraints.values_mut().for_each(|constraint| replace(&mut constraint.definition, from, to));
        self.partition_key.iter_mut().for_each(|key| replace(key, from, to));
    }
}

/// Puts one name in the place of another in what a server has printed, but not within quotes.
fn replace(text: &mut String, from: &Ident, to: &Ident) {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$' || c == '"' || c == '\'';
    let (old, new) = (printed(from), printed(to));
    let mut found = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(&old) {
        let (before, after) = (&rest[..at], &rest[at + old.len()..]);
        found.push_str(before);
        let is_whole = !found.ends_with(is_word) && !after.starts_with(is_word);
        found.push_str(if is_whole { &new } else { &old });
        rest = after;
    }
    found.push_str(rest);
    *text = found;
}

/// A name as a server prints it.
fn printed(name: &Ident) -> String {
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
    use super::*;

    #[test]
    fn a_name_is_replaced_where_it_stands_alone() {
        let replaced = |text: &str, from: &str, to: &str| {
            let mut text = text.to_owned();
            replace(&mut text, &Ident::new(from).unwrap(), &Ident::new(to).unwrap());
            text
        };
        assert_eq!(replaced("CHECK ((a > 0) AND (aa > a))", "a", "b"), "CHECK ((b > 0) AND (aa > b))");
        assert_eq!(replaced("CHECK (a <> 'a'::text)", "a", "B c"), "CHECK (\"B c\" <> 'a'::text)");
        assert_eq!(replaced("(\"A\")", "A", "a"), "(a)");
    }
}
