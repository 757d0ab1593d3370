// SPDX-License-Identifier: MPL-2.0

//! Foreign keys that are created after the copy, with those of partitions.

use std::collections::BTreeSet;

use super::super::facets::unvalidated;
use super::super::likeness::is_alike;
use super::super::model::{Constraint, ConstraintKind, Definition};
use super::super::object::Object;
use super::{KeyStep, LateKey, Plan, Turn, turn};
use crate::postgres::sql::{Ident, QualifiedName, Statement};

impl<'a> Plan<'a> {
    pub(super) fn key(&mut self, table: &QualifiedName, key: &Constraint) {
        let Some(references) = &key.references else { return };
        let object = Object::Constraint(table.clone(), key.name.clone());
        let mut steps = Vec::new();
        match self.key_there(table, &key.name) {
            Some(other) if other.kind != ConstraintKind::ForeignKey => {
                let what = format!("{object} is not a foreign key on the subscriber: rename it there");
                self.late.otherwise.push(what);
                return;
            }
            Some(has) if !is_alike(unvalidated(&key.definition), unvalidated(&has.definition)) => {
                let what = format!(
                    "{object} is defined differently on the subscriber. Run there: ALTER TABLE {table} DROP \
                     CONSTRAINT {}; and apply again",
                    key.name
                );
                self.late.otherwise.push(what);
                return;
            }
            Some(has) if has.is_valid || !is_checked(key) => {}
            Some(_) => steps.push(validate(table, &key.name)),
            None => self.add(table, key, references, &mut steps),
        }
        if steps.is_empty() {
            self.late.there.insert(object);
            return;
        }
        let (name, counts_on) = (key.name.clone(), key.counts_on.clone());
        self.late.keys.push(LateKey { table: table.clone(), name, references: references.clone(), counts_on, steps });
    }

    fn key_there(&self, table: &QualifiedName, name: &Ident) -> Option<&'a Constraint> {
        self.there.tables.get(table).and_then(|table| table.constraints.get(name))
    }

    /// Adds a missing key: to the partitions first, if there are any. The partitioned table then adopts their keys
    /// without reading rows. Before Postgres 18 this is the only way.
    fn add(&self, table: &QualifiedName, key: &Constraint, references: &QualifiedName, steps: &mut Vec<KeyStep>) {
        let is_partitioned = self.there.tables.get(table).is_some_and(|table| table.partition_key.is_some());
        for leaf in if is_partitioned { self.leaves(table) } else { vec![table] } {
            match self.key_there(leaf, &key.name) {
                Some(has) if has.is_valid || !is_checked(key) => {}
                Some(_) => steps.push(validate(leaf, &key.name)),
                None => {
                    steps.push(KeyStep::Add(self.added(leaf, key, references, !is_partitioned)));
                    steps.extend(is_checked(key).then(|| validate(leaf, &key.name)));
                }
            }
        }
        if is_partitioned {
            let Turn { object, tables, .. } = self.added(table, key, references, true);
            let statements = key.statements(table).into_iter().map(Statement::new).collect();
            steps.push(KeyStep::Add(Turn { object, tables, statements }));
        }
    }

    fn added(&self, table: &QualifiedName, key: &Constraint, references: &QualifiedName, is_whole: bool) -> Turn {
        let late = if is_checked(key) { " NOT VALID" } else { "" };
        let comment = key.comment.clone().filter(|_| is_whole);
        let key = Constraint { definition: format!("{}{late}", key.definition), comment, ..key.clone() };
        turn(Object::Constraint(table.clone(), key.name.clone()), [table, references], key.statements(table))
    }

    /// The leaf partitions.
    fn leaves(&self, table: &QualifiedName) -> Vec<&'a QualifiedName> {
        let parts = self.parts(table);
        let below = |part: &'a QualifiedName| {
            let is_leaf = self.there.tables.get(part).is_some_and(|table| table.partition_key.is_none());
            if is_leaf { vec![part] } else { self.leaves(part) }
        };
        parts.into_iter().flat_map(below).collect()
    }
}

fn validate(table: &QualifiedName, name: &Ident) -> KeyStep {
    let validate = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}");
    KeyStep::Validate(table.clone(), Statement::new(validate))
}

/// Whether a foreign key must be validated. One that the publisher has not validated, or does not enforce, stays so.
fn is_checked(key: &Constraint) -> bool {
    key.is_valid && key.is_enforced
}

/// The statements that drop foreign keys between these tables, including later ones: a table that is still referenced
/// cannot be dropped.
pub fn drops_of_keys(there: &Definition, tables: &BTreeSet<QualifiedName>) -> Vec<Statement> {
    let ours = there.tables.iter().filter(|(name, _)| tables.contains(name));
    let keys = ours.flat_map(|(name, table)| table.constraints.values().map(move |constraint| (name, constraint)));
    let within = keys.filter(|(_, constraint)| {
        constraint.kind == ConstraintKind::ForeignKey
            && !constraint.is_clone
            && constraint.references.as_ref().is_some_and(|references| tables.contains(references))
    });
    let drop = |(table, constraint): (&QualifiedName, &Constraint)| {
        Statement::new(format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {}", constraint.name))
    };
    within.map(drop).collect()
}
