// SPDX-License-Identifier: MPL-2.0

//! Indexes that are created after the copy, with those of partitions.

use std::collections::BTreeMap;

use super::super::fingerprint::digest;
use super::super::likeness::is_alike;
use super::super::model::{Definition, Index};
use super::super::object::Object;
use super::{IndexBuild, LateIndex, Plan, Turn, turn};
use crate::postgres::sql::{Ident, LONGEST_NAME, QualifiedName, Statement};

impl Plan<'_> {
    /// Whether it comes with the index of a partitioned table that is requested too.
    pub(super) fn is_part(&self, index: &Index) -> bool {
        let parent = index.parent.as_ref().and_then(|parent| self.wanted.indexes.get(parent));
        parent.is_some_and(|parent| self.there.tables.contains_key(&parent.table))
    }

    pub(super) fn index(&mut self, name: &QualifiedName, index: &Index) {
        let mut family = Family::of(self, name, index);
        let conflict = family.node(name, &index.table, None).err();
        let Family { names, builds, mut turns, .. } = family;
        if let Some(conflict) = conflict {
            self.late.otherwise.push(conflict);
            return;
        }
        let finishing = self.finishing(name, index, !(builds.is_empty() && turns.is_empty()));
        if !finishing.is_empty() {
            turns.push(turn(Object::Index(name.clone()), [&index.table], finishing));
        }
        if builds.is_empty() && turns.is_empty() {
            self.late.there.insert(Object::Index(name.clone()));
        } else {
            self.late.indexes.push(LateIndex { name: name.clone(), table: index.table.clone(), names, builds, turns });
        }
    }

    /// The properties of an index that its statement does not set: all for a new index, otherwise the missing ones.
    fn finishing(&self, name: &QualifiedName, index: &Index, is_new: bool) -> Vec<String> {
        let has = self.there.indexes.get(name).filter(|_| !is_new);
        let lacks = has.is_none_or(|has| index.statistics.is_some() && has.statistics.is_none());
        let finishing = if lacks { index.finishing(name) } else { Vec::new() };
        let clusters = |definition: &Definition| {
            definition.tables.get(&index.table).and_then(|table| table.clustered_by.as_ref()) == Some(&name.name)
        };
        let cluster = (clusters(self.wanted) && !clusters(self.there))
            .then(|| format!("ALTER TABLE {} CLUSTER ON {}", index.table, name.name));
        finishing.into_iter().chain(cluster).collect()
    }
}

/// An index with those of the partitions below its table.
struct Family<'p, 'a> {
    plan: &'p Plan<'a>,
    root: &'p QualifiedName,
    index: &'p Index,
    names: BTreeMap<QualifiedName, QualifiedName>,
    builds: Vec<IndexBuild>,
    turns: Vec<Turn>,
}

impl<'p, 'a> Family<'p, 'a> {
    fn of(plan: &'p Plan<'a>, root: &'p QualifiedName, index: &'p Index) -> Self {
        Self { plan, root, index, names: BTreeMap::new(), builds: Vec::new(), turns: Vec::new() }
    }

    /// The statements that make the index of that name on that table a part of the other one, if there is one.
    fn node(
        &mut self,
        name: &QualifiedName,
        table: &QualifiedName,
        parent: Option<&QualifiedName>,
    ) -> Result<(), String> {
        let there = self.plan.there;
        let has = there.indexes.get(name);
        self.check(name, table, has)?;
        if has.is_none() {
            self.names.insert(name.clone(), table.clone());
        }
        let is_partitioned = there.tables.get(table).is_some_and(|table| table.partition_key.is_some());
        let is_attached = has.is_some_and(|has| has.parent.is_some());
        if is_partitioned {
            if has.is_none_or(|has| !has.is_valid) {
                self.partitioned(name, table, has.is_some())?;
            }
        } else if has.is_none_or(|has| !has.is_valid) {
            self.builds.push(IndexBuild {
                name: name.clone(),
                table: table.clone(),
                is_unique: self.index.is_unique,
                is_left_over: has.is_some(),
                is_attached,
                create: Statement::alone(self.create("CONCURRENTLY ", name, "", table)),
            });
        }
        if let Some(parent) = parent.filter(|_| !is_attached) {
            let attach = format!("ALTER INDEX {parent} ATTACH PARTITION {name}");
            self.turns.push(turn(Object::Index(name.clone()), [table], vec![attach]));
        }
        Ok(())
    }

    /// The indexes of the partitions. The index itself is created before them, and becomes valid with the last of them.
    fn partitioned(&mut self, name: &QualifiedName, table: &QualifiedName, is_there: bool) -> Result<(), String> {
        if !is_there {
            let create = self.create("", name, "ONLY ", table);
            self.turns.push(turn(Object::Index(name.clone()), [table], vec![create]));
        }
        for part in self.plan.parts(table) {
            let attached = self
                .plan
                .there
                .indexes
                .iter()
                .find(|(_, index)| index.table == *part && index.parent.as_ref() == Some(name));
            let of_part = attached.map_or_else(|| self.name_on(part), |(name, _)| name.clone());
            self.node(&of_part, part, Some(name))?;
        }
        Ok(())
    }

    fn create(&self, how: &str, name: &QualifiedName, only: &str, table: &QualifiedName) -> String {
        let unique = if self.index.is_unique { "UNIQUE " } else { "" };
        format!("CREATE {unique}INDEX {how}{} ON {only}{table} {}", name.name, self.index.tail)
    }

    /// The publisher's name for the index of a partition, or one that follows from both names.
    fn name_on(&self, part: &QualifiedName) -> QualifiedName {
        let same = self
            .plan
            .wanted
            .indexes
            .iter()
            .find(|(name, index)| index.table == *part && index.is_clone && self.plan.root_of(name) == self.root);
        same.map_or_else(|| derived(part, self.root), |(name, _)| name.clone())
    }

    /// Checks that no other object has the index's name.
    fn check(&self, name: &QualifiedName, table: &QualifiedName, has: Option<&Index>) -> Result<(), String> {
        let Some(has) = has else { return self.check_constraint(name, table) };
        let is_same =
            has.table == *table && has.is_unique == self.index.is_unique && is_alike(&self.index.tail, &has.tail);
        if is_same || has.is_clone {
            return Ok(());
        }
        let (index, there) = (Object::Index(name.clone()), &has.definition);
        Err(format!(
            "{index} is defined differently on the subscriber: {there}. If it is not needed, run there: DROP INDEX \
             CONCURRENTLY {name}; and apply again"
        ))
    }
}

impl Family<'_, '_> {
    /// Checks the name of a constraint, which is also the name of its index.
    fn check_constraint(&self, name: &QualifiedName, table: &QualifiedName) -> Result<(), String> {
        let there = self.plan.there.tables.get(table).and_then(|table| table.constraints.get(&name.name));
        let Some(constraint) = there.filter(|one| one.kind.has_index() && table.schema == name.schema) else {
            return Ok(());
        };
        Err(format!(
            "{} belongs to a constraint on the subscriber, {}, but not on the publisher. If that constraint is not \
             needed, run there: ALTER TABLE {table} DROP CONSTRAINT {}; and apply again",
            Object::Index(name.clone()),
            constraint.definition,
            name.name
        ))
    }
}

impl Plan<'_> {
    /// The topmost index of which this one is a part.
    fn root_of<'n>(&'n self, name: &'n QualifiedName) -> &'n QualifiedName {
        let mut root = name;
        while let Some(parent) = self.wanted.indexes.get(root).and_then(|index| index.parent.as_ref()) {
            root = parent;
        }
        root
    }
}

/// A name for a partition's index that follows from the names of the partition and of the parent index.
fn derived(part: &QualifiedName, index: &QualifiedName) -> QualifiedName {
    let text = format!("{}_{}", part.name.as_str(), index.name.as_str());
    let name = if text.len() > LONGEST_NAME {
        // Both names usually have a common beginning.
        let tail = format!("_{}", &digest(&text)[..8]);
        let mut end = LONGEST_NAME - tail.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}{tail}", &text[..end])
    } else {
        text
    };
    QualifiedName { schema: part.schema.clone(), name: Ident::from_catalog(&name) }
}
