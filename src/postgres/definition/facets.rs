// SPDX-License-Identifier: MPL-2.0

//! The facets of each object, as names and values. Comparisons and hashes use these.

use std::collections::BTreeMap;

use super::making::collate;
use super::model::{
    Collation, Column, Constraint, ConstraintKind, Definition, DomainConstraint, Field, Function, Index, Sequence,
    Statistics, Table, Type, TypeKind,
};
use super::object::Object;
use super::table::{compression_name, storage_name};
use crate::postgres::sql::{Ident, list};

/// A part of an object that may or may not exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The object itself.
    Whole,
    /// A column of a table.
    Column(Ident),
    /// A constraint of a table or a domain.
    Constraint(Ident),
}

/// The facets by part. A missing facet has its default.
pub(super) type Facets = BTreeMap<(Part, &'static str), String>;

/// The name of the facet that a part exists, with its short form as the value.
pub(super) const SHORT: &str = "";

/// The index by which a table is clustered. It is compared once the subscriber has that index.
pub(super) const CLUSTERED_BY: &str = "clustered by";

/// The facets of each object.
pub(super) fn all(definition: &Definition) -> BTreeMap<Object, Facets> {
    let collations = definition.collations.iter().map(|(name, one)| (Object::Collation(name.clone()), one.facets()));
    let types = definition.types.iter().map(|(name, ty)| (Object::Type(name.clone()), ty.facets()));
    let functions = definition.functions.iter().map(|(name, one)| (Object::Function(name.clone()), one.facets()));
    let sequences =
        definition.sequences.iter().map(|(name, one)| (Object::Sequence(name.clone()), one.facets(definition)));
    let tables = definition.tables.iter().map(|(name, one)| (Object::Table(name.clone()), one.facets()));
    let indexes = definition.indexes.iter().filter(|(_, one)| !one.is_clone);
    let indexes = indexes.map(|(name, one)| (Object::Index(name.clone()), one.facets()));
    let statistics = definition.statistics.iter().map(|(name, one)| (Object::Statistics(name.clone()), one.facets()));
    let objects = collations.chain(types).chain(functions).chain(sequences).chain(tables).chain(indexes);
    objects.chain(statistics).collect()
}

/// Collects facets.
#[derive(Default)]
struct Said(Facets);

impl Said {
    fn say(mut self, part: &Part, attribute: &'static str, value: impl ToString) -> Self {
        self.0.insert((part.clone(), attribute), value.to_string());
        self
    }

    fn maybe(self, part: &Part, attribute: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.say(part, attribute, value),
            None => self,
        }
    }

    fn when(self, condition: bool, part: &Part, attribute: &'static str) -> Self {
        if condition { self.say(part, attribute, "yes") } else { self }
    }
}

impl Collation {
    fn facets(&self) -> Facets {
        let whole = &Part::Whole;
        let said = Said::default().say(whole, "provider", &self.provider).maybe(whole, "locale", self.locale.as_ref());
        let said = said.maybe(whole, "lc_collate", self.collate.as_ref()).maybe(whole, "lc_ctype", self.ctype.as_ref());
        let said = said.maybe(whole, "rules", self.rules.as_ref()).maybe(whole, "comment", self.comment.as_ref());
        said.when(!self.is_deterministic, whole, "nondeterministic").0
    }
}

impl Type {
    fn facets(&self) -> Facets {
        let whole = &Part::Whole;
        let said = Said::default().maybe(whole, "comment", self.comment.as_ref());
        match &self.kind {
            TypeKind::Enum(labels) => said.say(whole, "labels", list(labels)).0,
            TypeKind::Composite(fields) => {
                let said = said.say(whole, "fields", list(fields.iter().map(Field::declaration)));
                let comment = |said: Said, field: &Field| {
                    said.maybe(&Part::Column(field.name.clone()), "comment", field.comment.as_ref())
                };
                fields.iter().fold(said, comment).0
            }
            TypeKind::Range(range) => {
                let said = said.say(whole, "subtype", &range.subtype).say(whole, "multirange", &range.multirange);
                let said = said.maybe(whole, "subtype_opclass", range.opclass.as_ref());
                let said = said.maybe(whole, "canonical", range.canonical.as_ref());
                let said = said.maybe(whole, "subtype_diff", range.difference.as_ref());
                said.maybe(whole, "collation", range.collation.as_ref()).0
            }
            TypeKind::Domain(domain) => {
                let base = format!("{}{}", domain.base, collate(domain.collation.as_ref()));
                let said = said.say(whole, "type", base).when(domain.is_not_null, whole, "not null");
                let said = said.maybe(whole, "default", domain.default.as_ref());
                let name = domain.name_of_not_null.as_ref().filter(|_| domain.is_not_null);
                let said = said.maybe(whole, "name of not null", name.map(Ident::as_str));
                let constraint = |said: Said, one: &DomainConstraint| {
                    let part = &Part::Constraint(one.name.clone());
                    said.say(part, SHORT, &one.definition).maybe(part, "comment", one.comment.as_ref())
                };
                domain.constraints.values().fold(said, constraint).0
            }
        }
    }
}

impl Function {
    fn facets(&self) -> Facets {
        let said = Said::default().say(&Part::Whole, "definition", &self.definition);
        said.maybe(&Part::Whole, "comment", self.comment.as_ref()).0
    }
}

impl Sequence {
    fn facets(&self, definition: &Definition) -> Facets {
        let whole = &Part::Whole;
        let owner = self.owner.as_ref().filter(|(table, _)| definition.tables.contains_key(table));
        let owner = owner.map(|(table, column)| format!("{table}.{column}"));
        let said = Said::default().say(whole, "type", &self.ty).say(whole, "options", self.options());
        let said = said.maybe(whole, "owner", owner).maybe(whole, "comment", self.comment.as_ref());
        said.when(self.is_unlogged, whole, "unlogged").0
    }
}

impl Table {
    fn facets(&self) -> Facets {
        let whole = &Part::Whole;
        let identity = match (self.replica_identity.as_str(), &self.identity_index) {
            ("f", _) => Some("full".to_owned()),
            ("n", _) => Some("nothing".to_owned()),
            ("i", Some(index)) => Some(format!("index {}", index.as_str())),
            _ => None,
        };
        let parents = (!self.parents.is_empty()).then(|| list(&self.parents));
        let options = (!self.options.is_empty()).then(|| list(&self.options));
        let said = Said::default().maybe(whole, "partitioned by", self.partition_key.as_ref());
        let said = said.maybe(whole, "parents", parents).maybe(whole, "partition", self.bound.as_ref());
        let said = said.maybe(whole, "of type", self.of_type.as_ref()).maybe(whole, "storage parameters", options);
        let said = said.when(self.is_unlogged, whole, "unlogged").maybe(whole, "replica identity", identity);
        let said = said.maybe(whole, "comment", self.comment.as_ref());
        let said = said.maybe(whole, CLUSTERED_BY, self.clustered_by.as_ref().map(Ident::as_str));
        let said = self.columns.iter().fold(said, |said, column| column.say(said, self.is_partition()));
        let constraints = self.constraints.values().filter(|one| one.is_compared());
        constraints.fold(said, |said, one| one.say(said)).0
    }
}

impl Column {
    /// Whether a partition inherits its identity columns depends on the version, so partitions do not compare them.
    fn say(&self, said: Said, is_of_partition: bool) -> Said {
        let part = &Part::Column(self.name.clone());
        let identity = self.identity.as_ref().filter(|_| !is_of_partition).and_then(|_| self.generation());
        let generated = self.generated.as_ref().and_then(|_| self.generation());
        let options = self.options.as_ref().filter(|options| !options.is_empty()).map(list);
        let said = said.say(part, SHORT, format!("{}{}", self.ty, collate(self.collation.as_ref())));
        let said = said.when(self.is_not_null, part, "not null").maybe(part, "default", self.default());
        let said = said.maybe(part, "generated", generated).maybe(part, "identity", identity);
        let said = said.maybe(part, "storage", self.storage.as_deref().map(storage_name));
        let said = said.maybe(part, "compression", self.compression.as_deref().map(compression_name));
        let said = said.maybe(part, "statistics target", self.statistics).maybe(part, "options", options);
        let said = said.maybe(part, "comment", self.comment.as_ref());
        let counted = self.sequence.as_ref().filter(|_| !is_of_partition);
        let said = said.maybe(part, "comment of identity", counted.and_then(|sequence| sequence.comment.as_ref()));
        match &self.not_null {
            Some(constraint) if constraint.is_local => {
                let said = said.say(part, "name of not null", constraint.name.as_str());
                let said = said.maybe(part, "comment of not null", constraint.comment.as_ref());
                let said = said.when(constraint.is_not_inherited, part, "not null is not inherited");
                said.when(!constraint.is_valid, part, "not null is not valid")
            }
            _ => said,
        }
    }
}

/// A foreign key without `NOT VALID`.
pub(super) fn unvalidated(definition: &str) -> &str {
    definition.strip_suffix(" NOT VALID").unwrap_or(definition)
}

impl Constraint {
    /// Whether it is compared with the other side's: not if it comes from a parent.
    fn is_compared(&self) -> bool {
        self.is_declared() && !self.is_clone
    }

    fn say(&self, said: Said) -> Said {
        let part = &Part::Constraint(self.name.clone());
        let options = self.index_options.as_ref().filter(|options| !options.is_empty()).map(list);
        // Whether a foreign key is validated matters only when it is created after the copy.
        let is_key = self.kind == ConstraintKind::ForeignKey;
        let definition = if is_key { unvalidated(&self.definition) } else { &self.definition };
        let said = said.say(part, SHORT, definition).maybe(part, "comment", self.comment.as_ref());
        said.maybe(part, "storage parameters", options.filter(|_| !is_key))
    }
}

impl Index {
    fn facets(&self) -> Facets {
        let whole = &Part::Whole;
        let targets = self.statistics.as_ref().filter(|targets| !targets.is_empty());
        let targets = targets.map(|targets| list(targets.iter().map(|(number, target)| format!("{number}: {target}"))));
        let said = Said::default().say(whole, "definition", &self.definition);
        let said = said.maybe(whole, "statistics targets", targets);
        said.when(!self.is_valid, whole, "invalid").maybe(whole, "comment", self.comment.as_ref()).0
    }
}

impl Statistics {
    fn facets(&self) -> Facets {
        let said = Said::default().say(&Part::Whole, "definition", &self.definition);
        said.maybe(&Part::Whole, "target", self.target).maybe(&Part::Whole, "comment", self.comment.as_ref()).0
    }
}
