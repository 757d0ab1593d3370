// SPDX-License-Identifier: MPL-2.0

//! What differs between two definitions.

mod replacing;

use std::collections::BTreeSet;

use self::replacing::ROWS;
use super::facets::{self, CLUSTERED_BY, Facets, Part, SHORT};
use super::known::Replaced;
use super::likeness::is_alike;
use super::mending::{Remedy, remedy};
use super::model::{ConstraintKind, Definition};
use super::new_names::NewNames;
use super::object::Object;
use super::promoting::promoted;
use super::renaming::{Renaming, Renamings};
use crate::postgres::sql::{Ident, QualifiedName, Statement};

/// Something that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The object.
    pub object: Object,
    /// Its attribute, such as `type of column total`.
    pub attribute: String,
    /// The value on the publisher; may be empty.
    pub publisher: String,
    /// The value on the subscriber; may be empty.
    pub subscriber: String,
    /// How to make the subscriber like the publisher.
    pub(super) remedy: Remedy,
}

impl Difference {
    /// The statements that remove it without harm to rows or to running replication; none if a person must decide.
    pub fn mend(&self) -> Option<Vec<Statement>> {
        match &self.remedy {
            Remedy::Additive(statements) => Some(statements.iter().map(Statement::new).collect()),
            _ => None,
        }
    }

    /// Whether its statements must run after all others.
    pub fn is_mended_last(&self) -> bool {
        self.attribute == "replica identity" || self.attribute == "owner"
    }

    /// Whether its statements must be committed before anything uses the result: new labels of an enum.
    pub fn is_mended_first(&self) -> bool {
        self.attribute == "labels"
    }

    fn is_taken_along(&self) -> bool {
        matches!(&self.remedy, Remedy::Additive(statements) if statements.is_empty())
    }

    /// Whether it is only about rows: the definitions may be the same.
    pub fn is_of_rows(&self) -> bool {
        self.attribute == ROWS
    }

    /// What to do about it, for a person.
    pub fn remedy(&self) -> String {
        self.remedy.to_string()
    }
}

/// Facts about two sides that names do not show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BeyondNames {
    /// Renamed columns.
    pub columns: Renamings,
    /// Renamed tables.
    pub tables: NewNames,
    /// Replaced tables.
    pub replaced: Replaced,
}

/// The differences between objects that both sides have. An object that one side lacks is not a difference, except a
/// unique index that only the subscriber has: it could refuse rows that the publisher accepts. Each column with a
/// swapped name is a difference, and so is each column or table that the publisher has created again.
pub fn differences(publisher: &Definition, subscriber: &Definition, beyond: &BeyondNames) -> Vec<Difference> {
    let BeyondNames { columns: Renamings { mixed, made_again, .. }, tables, replaced } = beyond;
    let there = facets::all(subscriber);
    let mut found = Vec::new();
    for (object, wanted) in facets::all(publisher) {
        if let Some(has) = there.get(&object) {
            let between = Between { publisher, subscriber, object: &object };
            found.extend(between.compare(&wanted, has));
        }
    }
    // A difference that another one resolves is not reported, such as a column that comes with the parent's.
    found.retain(|difference| !difference.is_taken_along());
    found.extend(unique_indexes(publisher, subscriber));
    let is_of_mixed = |difference: &Difference| {
        mixed.iter().any(|one| difference.object == one.object() && one.is_of(&difference.attribute))
    };
    found.retain(|difference| !is_of_mixed(difference));
    found.extend(mixed.iter().map(mixed_up));
    found.extend(made_again.iter().map(|(table, column)| another(table, column)));
    // Other differences of a table that must be created again are resolved with it.
    let is_of_other =
        |one: &Difference| matches!(&one.object, Object::Table(name) if replaced.on_publisher.contains_key(name));
    found.retain(|one| one.mend().is_some() || !is_of_other(one));
    found.extend(replaced.differences(publisher));
    found.extend(tables.differences());
    // A parent is changed before its partitions, which change with it.
    found.sort_by_key(|difference| depth(publisher, &difference.object));
    found
}

fn depth(definition: &Definition, object: &Object) -> usize {
    if let Object::Table(name) = object { definition.depth(name) } else { 0 }
}

/// An object that both definitions have.
struct Between<'a> {
    publisher: &'a Definition,
    subscriber: &'a Definition,
    object: &'a Object,
}

impl Between<'_> {
    fn compare(&self, wanted: &Facets, has: &Facets) -> Vec<Difference> {
        let parts: BTreeSet<&Part> = wanted.keys().chain(has.keys()).map(|(part, _)| part).collect();
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.retain(|part| !self.comes_later(part));
        parts.sort_by_key(|part| self.place(part));
        parts.into_iter().flat_map(|part| self.compare_part(part, wanted, has)).collect()
    }

    /// Whether it is a foreign key that only one side has: those are compared when they are created after the copy.
    fn comes_later(&self, part: &Part) -> bool {
        let (Object::Table(table), Part::Constraint(name)) = (self.object, part) else { return false };
        let of = |side: &Definition| {
            side.tables.get(table).and_then(|table| table.constraints.get(name)).map(|one| one.kind)
        };
        let kinds = [of(self.publisher), of(self.subscriber)];
        kinds.contains(&Some(ConstraintKind::ForeignKey)) && kinds.contains(&None)
    }

    /// Whether the subscriber lacks the index by which the publisher's table is clustered.
    fn waits_for_index(&self) -> bool {
        let Object::Table(name) = self.object else { return false };
        let index = self.publisher.tables.get(name).and_then(|table| table.clustered_by.as_ref());
        index.is_some_and(|index| !self.subscriber.has_index(name, index))
    }

    /// The position of a column on the publisher: new columns are added in that order.
    fn place(&self, part: &Part) -> Option<usize> {
        match (self.object, part) {
            (Object::Table(table), Part::Column(name)) => {
                self.publisher.tables.get(table)?.columns.iter().position(|column| column.name == *name)
            }
            _ => None,
        }
    }

    fn compare_part(&self, part: &Part, wanted: &Facets, has: &Facets) -> Vec<Difference> {
        let short = |facets: &Facets| facets.get(&(part.clone(), SHORT)).cloned();
        if *part != Part::Whole && short(wanted).is_some() != short(has).is_some() {
            let (publisher, subscriber) = (short(wanted).unwrap_or_default(), short(has).unwrap_or_default());
            return vec![self.difference(part, SHORT, publisher, subscriber)];
        }
        let of_part = |facets: &Facets| -> Vec<&'static str> {
            facets.keys().filter(|(of, _)| of == part).map(|(_, attribute)| *attribute).collect()
        };
        let attributes: BTreeSet<_> = of_part(wanted).into_iter().chain(of_part(has)).collect();
        let value = |facets: &Facets, attribute| facets.get(&(part.clone(), attribute)).cloned().unwrap_or_default();
        let values =
            attributes.into_iter().map(|attribute| (attribute, value(wanted, attribute), value(has, attribute)));
        let differing = values.filter(|(attribute, one, other)| !self.is_same(attribute, one, other));
        differing.map(|(attribute, one, other)| self.difference(part, attribute, one, other)).collect()
    }

    fn is_same(&self, attribute: &str, one: &str, other: &str) -> bool {
        let older = self.publisher.version.major().min(self.subscriber.version.major());
        match attribute {
            _ if one == other => true,
            CLUSTERED_BY if self.waits_for_index() => true,
            // Before Postgres 18 NOT NULL has no name, and is all or nothing.
            "name of not null" | "comment of not null" | "not null is not inherited" | "not null is not valid" => {
                older < 18
            }
            "name" | "type" | "comment" | "comment of identity" | "labels" | "not null" => false,
            _ => is_alike(one, other),
        }
    }

    fn difference(&self, part: &Part, attribute: &'static str, publisher: String, subscriber: String) -> Difference {
        let remedy = remedy(self.publisher, self.subscriber, self.object, part, attribute);
        Difference { object: self.object.clone(), attribute: title(part, attribute), publisher, subscriber, remedy }
    }
}

/// The attribute with its part, in words.
fn title(part: &Part, attribute: &str) -> String {
    match (part, attribute) {
        (Part::Whole, attribute) => attribute.to_owned(),
        (Part::Column(name), SHORT) => format!("column {}", name.as_str()),
        (Part::Column(name), attribute) => format!("{attribute} of column {}", name.as_str()),
        (Part::Constraint(name), SHORT) => format!("constraint {}", name.as_str()),
        (Part::Constraint(name), attribute) => format!("{attribute} of constraint {}", name.as_str()),
    }
}

/// A column that cannot get its name, because another column of the subscriber has it.
fn mixed_up(renaming: &Renaming) -> Difference {
    let Renaming { from, to, .. } = renaming;
    Difference {
        object: renaming.object(),
        attribute: format!("name of column {}", from.as_str()),
        publisher: to.as_str().to_owned(),
        subscriber: from.as_str().to_owned(),
        remedy: Remedy::person(
            Vec::new(),
            "the publisher has given this name to another column, and the subscriber has a column of that name already, in which \
             values arrive since then that belong here: rename both on the subscriber, or drop the one that is gone, and mend the \
             rows from since then by the publisher's, which a comparison names",
        ),
    }
}

/// A column with the name of one that the publisher has dropped.
fn another(table: &QualifiedName, column: &Ident) -> Difference {
    Difference {
        object: Object::Table(table.clone()),
        attribute: format!("values of column {}", column.as_str()),
        publisher: "another column of this name".to_owned(),
        subscriber: "values of the one that was dropped".to_owned(),
        remedy: Remedy::person(
            Vec::new(),
            "the publisher has dropped this column and made another one of its name: rows that were not written since then still \
             hold values of the old one. Compare the tables, and give these rows the publisher's values on the subscriber, by hand \
             or by copying the table once more; then apply with -replace of this resource, which leaves the tables as they are",
        ),
    }
}

/// The unique indexes that only the subscriber has.
fn unique_indexes(publisher: &Definition, subscriber: &Definition) -> Vec<Difference> {
    let promoted = promoted(publisher, subscriber);
    let stray = subscriber.indexes.iter().filter(|(name, index)| {
        index.is_unique
            && !promoted.contains(name)
            && !index.is_clone
            && publisher.tables.contains_key(&index.table)
            && !publisher.indexes.contains_key(*name)
    });
    stray
        .map(|(name, index)| Difference {
            object: Object::Index(name.clone()),
            attribute: "definition".to_owned(),
            publisher: String::new(),
            subscriber: index.definition.clone(),
            remedy: Remedy::person(vec![format!("DROP INDEX {name}")], "rows that the publisher takes may stop at it"),
        })
        .collect()
}
