// SPDX-License-Identifier: MPL-2.0

//! What a new partition must have before it is attached to an existing partitioned table.
//!
//! If both are new, the partition is attached first, and adopts the keys of its table one by one. An existing table has keys
//! and checks already. A server refuses a partition that lacks a check. It creates a missing key under another name, so that
//! the partition's own could no longer be added. Keys that the partition has are adopted when it is attached.

use std::collections::{BTreeMap, BTreeSet};

use super::super::model::{ConstraintKind, Definition, Table};
use super::super::object::Object;
use super::{Group, Step};
use crate::postgres::sql::{QualifiedName, Statement};

/// Moves keys and checks of new partitions before their attachment, and omits indexes that come with it.
pub(super) fn arranged(definition: &Definition, steps: &mut BTreeMap<Object, Step>) {
    let joining: Vec<_> =
        definition.tables.iter().filter(|(name, table)| joins_what_is_there(definition, steps, name, table)).collect();
    for (name, table) in joining {
        leave_indexes(definition, steps, name);
        add_checks(definition, steps, name, table);
        let first = first(definition, name, table);
        for object in &first {
            if let Some(step) = steps.get_mut(object) {
                step.needs.retain(|need| !matches!(need, Object::Attachment(_)));
            }
        }
        if let Some(step) = steps.get_mut(&Object::Attachment(name.clone())) {
            step.needs.extend(first);
        }
    }
}

/// Whether it is a new partition, at any depth, of an existing table.
fn joins_what_is_there(
    definition: &Definition,
    steps: &BTreeMap<Object, Step>,
    name: &QualifiedName,
    table: &Table,
) -> bool {
    let is_new = |name: &QualifiedName| steps.contains_key(&Object::Table(name.clone()));
    let Some(parent) = table.parents.first().filter(|_| table.is_partition() && is_new(name)) else { return false };
    let above = definition.tables.get(parent);
    !is_new(parent) || above.is_some_and(|above| joins_what_is_there(definition, steps, parent, above))
}

/// Its keys and checks, and the index of its replica identity.
fn first(definition: &Definition, name: &QualifiedName, table: &Table) -> BTreeSet<Object> {
    let constraints = table.constraints.values();
    let constraints = constraints.filter(|one| one.kind.has_index() || one.kind == ConstraintKind::Check);
    let constraints = constraints.map(|one| Object::Constraint(name.clone(), one.name.clone()));
    let indexes = definition.indexes.iter().filter(|(_, index)| index.table == *name && index.is_replica_identity);
    constraints.chain(indexes.map(|(index, _)| Object::Index(index.clone()))).collect()
}

/// Adds the checks that it inherits: for other partitions they come with the attachment.
fn add_checks(definition: &Definition, steps: &mut BTreeMap<Object, Step>, name: &QualifiedName, table: &Table) {
    let checks = table.constraints.values().filter(|one| one.kind == ConstraintKind::Check && !one.is_declared());
    for check in checks {
        let object = Object::Constraint(name.clone(), check.name.clone());
        let known = definition.needs.get(&object).into_iter().flatten().cloned();
        let step = Step {
            object: object.clone(),
            group: Group::Tables,
            statements: check.statements(name).into_iter().map(Statement::new).collect(),
            needs: known.chain([Object::Table(name.clone())]).collect(),
            // It is dropped with its table.
            is_dropped: false,
        };
        steps.insert(object, step);
    }
}

/// Omits the indexes that a server creates when it attaches a partition, because the partitioned table has them.
fn leave_indexes(definition: &Definition, steps: &mut BTreeMap<Object, Step>, name: &QualifiedName) {
    for (index, of) in definition.indexes.iter().filter(|(_, of)| of.table == *name && !of.is_replica_identity) {
        let comes_along = of.parent.as_ref().is_some_and(|parent| !steps.contains_key(&Object::Index(parent.clone())));
        if comes_along {
            steps.remove(&Object::Index(index.clone()));
        }
    }
}
