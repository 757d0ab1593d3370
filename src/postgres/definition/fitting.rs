// SPDX-License-Identifier: MPL-2.0

//! Fits a definition to a server of another version.

use std::collections::BTreeMap;

use super::model::{Collation, Column, Constraint, ConstraintKind, Definition, Index, Table, TypeKind};
use super::object::Object;
use crate::postgres::version::ServerVersion;

/// The parts of a definition that a server of that version supports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fitted {
    /// The supported parts.
    pub definition: Definition,
    /// The omitted parts, with reasons.
    pub left: Vec<Left>,
    /// The unsupported parts that rows need.
    pub refused: Vec<Refusal>,
}

/// An object or part that is not copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// The object, or a part of one, in words.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// Something that cannot be copied, and without which rows could not arrive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The object, or a part of one, in words.
    pub object: String,
    /// Why.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// Fits a definition to a server of that version.
pub fn fit(definition: &Definition, version: ServerVersion) -> Fitted {
    let mut fitting = Fitting { version, left: Vec::new(), refused: Vec::new() };
    let mut fitted = definition.clone();
    for (name, table) in &mut fitted.tables {
        fitting.table(&Object::Table(name.clone()), table);
    }
    for (name, collation) in &fitted.collations {
        fitting.collation(&Object::Collation(name.clone()), collation);
    }
    for (name, index) in &fitted.indexes {
        fitting.index(&Object::Index(name.clone()), index);
    }
    for (name, ty) in &fitted.types {
        if let TypeKind::Range(range) = &ty.kind
            && range.canonical.is_some()
        {
            let reason = "its canonical function takes a shell type and is written in C".to_owned();
            fitting.refuse(
                Object::Type(name.clone()),
                reason,
                "Make the type on the subscriber by hand, as the publisher's was made.",
            );
        }
    }
    for sequence in fitted.sequences.values_mut().filter(|sequence| sequence.is_unlogged && version.major() < 15) {
        sequence.is_unlogged = false;
    }
    fitted.indexes.retain(|name, index| fitting.keeps_index(&Object::Index(name.clone()), index));
    Fitted { definition: fitted, left: fitting.left, refused: fitting.refused }
}

/// The storage parameters that are newer than version 14.
const NEWER_OPTIONS: [(&str, u32); 1] = [("vacuum_max_eager_freeze_failure_rate", 18)];

struct Fitting {
    version: ServerVersion,
    left: Vec<Left>,
    refused: Vec<Refusal>,
}

impl Fitting {
    fn lacks(&self, since: u32) -> bool {
        self.version.major() < since
    }

    fn needs(&self, what: &str, since: u32) -> String {
        format!("{what} needs Postgres {since}, and the subscriber runs {}", self.version)
    }

    fn leave(&mut self, object: impl ToString, reason: String) {
        self.left.push(Left { object: object.to_string(), reason });
    }

    fn refuse(&mut self, object: impl ToString, reason: String, remedy: &str) {
        self.refused.push(Refusal { object: object.to_string(), reason, remedy: remedy.to_owned() });
    }

    fn table(&mut self, object: &Object, table: &mut Table) {
        for attached in &table.attached {
            let reason = "only sessions that write need it, and replication does not: create it when the writers move"
                .to_owned();
            self.leave(format!("{attached} of {object}"), reason);
        }
        if let Some(method) = table.access_method.take() {
            self.leave(object, format!("its access method {method} is not copied: it is made with the default one"));
        }
        if table.is_unlogged && table.partition_key.is_some() && !self.lacks(18) {
            // It never had an effect on partitioned tables.
            table.is_unlogged = false;
        }
        let lacked = NEWER_OPTIONS.iter().filter(|(_, since)| self.lacks(*since));
        let lacked: BTreeMap<&str, u32> = lacked.copied().collect();
        table.options.retain(|option| {
            let name = option.trim_start_matches("toast.").split('=').next().unwrap_or_default();
            !lacked.contains_key(name)
        });
        let is_partition = table.is_partition();
        for column in &mut table.columns {
            self.column(object, column);
            if is_partition && !self.lacks(17) {
                self.partition_identity(object, column);
            }
        }
        let constraints = std::mem::take(&mut table.constraints);
        table.constraints =
            constraints.into_iter().filter(|(_, constraint)| self.keeps_constraint(object, constraint)).collect();
    }

    fn column(&mut self, table: &Object, column: &mut Column) {
        let name = format!("column {} of {table}", column.name.as_str());
        if column.generated.as_deref() == Some("v") && self.lacks(18) {
            let reason = self.needs("a generated column that is not stored", 18);
            self.refuse(&name, reason, "Make it STORED on the publisher, drop it there, or leave the table out.");
        }
        if self.lacks(18)
            && let Some(constraint) = column.not_null.take()
            && !constraint.is_valid
        {
            column.is_not_null = false;
            let reason = self.needs("NOT NULL that rows from before need not keep", 18);
            self.leave(format!("NOT NULL of {name}"), reason);
        }
    }

    /// Since Postgres 17 a partition inherits its identity columns, and a table with its own cannot become a partition.
    fn partition_identity(&mut self, table: &Object, column: &mut Column) {
        if column.sequence.take().is_some() {
            column.identity = None;
            let name = format!("identity of column {} of {table}", column.name.as_str());
            self.leave(name, "a partition has no identity of its own since Postgres 17".to_owned());
        }
    }

    fn keeps_constraint(&mut self, table: &Object, constraint: &Constraint) -> bool {
        let name = format!("constraint {} of {table}", constraint.name.as_str());
        let lacked = [
            (!constraint.is_enforced, "a constraint that is not enforced", 18),
            (constraint.is_temporal, "a key of periods", 18),
            (constraint.nulls_are_equal, "NULLS NOT DISTINCT", 15),
            (constraint.sets_some, "ON DELETE SET of some columns", 15),
        ];
        let Some((_, what, since)) = lacked.into_iter().find(|(has, _, since)| *has && self.lacks(*since)) else {
            return true;
        };
        let reason = self.needs(what, since);
        let is_key = matches!(constraint.kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique);
        if is_key && constraint.is_enforced {
            self.refuse(
                name,
                reason,
                "Change it on the publisher, or make the table on the subscriber by hand without it.",
            );
        } else {
            self.leave(name, reason);
        }
        false
    }

    fn collation(&mut self, object: &Object, collation: &Collation) {
        let remedy = "Make a collation of that name on the subscriber by hand that sorts alike.";
        if collation.provider == "b" && self.lacks(17) {
            self.refuse(object, self.needs("the provider builtin", 17), remedy);
        }
        if collation.rules.is_some() && self.lacks(16) {
            self.refuse(object, self.needs("a collation with rules", 16), remedy);
        }
    }

    fn index(&mut self, object: &Object, index: &Index) {
        if !index.is_valid {
            self.leave(object, "it is invalid on the publisher, where its build failed".to_owned());
        }
    }

    fn keeps_index(&mut self, object: &Object, index: &Index) -> bool {
        if index.nulls_are_equal && self.lacks(15) {
            let reason = self.needs("NULLS NOT DISTINCT", 15);
            self.leave(object, reason);
            return false;
        }
        index.is_valid
    }
}
