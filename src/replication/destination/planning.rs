// SPDX-License-Identifier: MPL-2.0

//! What has to be created, changed and left, from both sides' definitions. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{When, Wish};
use crate::postgres::catalog::Outline;
use crate::postgres::definition::{
    self, BeyondNames, ConstraintKind, Definition, Difference, Fitted, Group, Left, NewName, Object, Other, Refusal,
    Renaming, Step, TakenUp,
};
use crate::postgres::{Ident, QualifiedName};

/// What the subscriber is to become, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is made, in order.
    pub made: Vec<Step>,
    /// What is left for later, in order.
    pub later: Vec<Step>,
    /// The tables that get the names which they have on the publisher.
    pub renamed_tables: Vec<NewName>,
    /// The columns that do.
    pub renamed: Vec<Renaming>,
    /// What is there and is changed, since that only adds.
    pub changed: Vec<Difference>,
    /// What is there otherwise and stays so.
    pub differences: Vec<Difference>,
    /// What is not copied.
    pub not_copied: Vec<Left>,
    /// What stands in the way.
    pub refused: Vec<Refusal>,
}

/// One difference between both sides, for whoever shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlike {
    /// The object.
    pub object: String,
    /// What of it.
    pub attribute: String,
    /// What the publisher has.
    pub publisher: String,
    /// What the subscriber has.
    pub subscriber: String,
    /// What to do.
    pub remedy: String,
}

/// Both sides as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sides {
    pub publisher: Definition,
    pub subscriber: Definition,
    /// What the publisher's tables need, the catalogs do not tell how to make, and the subscriber lacks.
    pub missing: Vec<Other>,
    /// Of tables with a column list, the columns that are sent.
    pub lists: BTreeMap<QualifiedName, BTreeSet<Ident>>,
    /// All that the publisher has.
    pub outline: Arc<Outline>,
    /// The subscriber's tables that a subscription has taken up; only where that makes a difference.
    pub taken_up: TakenUp,
}

impl Plan {
    /// What follows from both sides.
    pub(super) fn of(sides: &Sides, wish: &Wish) -> Self {
        let Fitted { definition, left, refused } = definition::fit(&sides.publisher, sides.subscriber.version);
        let mut plan = Self { not_copied: left, refused, ..Self::default() };
        let mut wanted = definition;
        plan.relax(&mut wanted, &sides.lists);
        plan.refuse_missing(&wanted, sides);
        plan.leave_keys(&mut wanted);
        let mut beyond = plan.beyond_names(&wanted, sides, wish);
        let subscriber = definition::with_new_names(sides.subscriber.clone(), &plan.renamed_tables);
        if !wish.makes_functions {
            plan.leave_functions(&mut wanted, &subscriber);
        }
        plan.take_steps(&wanted, &subscriber, wish);
        beyond.columns = definition::renamings(&wanted, &subscriber, &wish.known);
        if wish.follows {
            plan.renamed = std::mem::take(&mut beyond.columns.due);
        }
        let renamed = definition::renamed(subscriber, &plan.renamed);
        let found = definition::differences(&wanted, &renamed, &beyond);
        let (changed, differences) = found.into_iter().partition(|one| wish.follows && one.mend().is_some());
        plan.not_copied.sort();
        Self { changed, differences, ..plan }
    }

    /// What names do not tell of tables. Those that get other names are the plan's.
    fn beyond_names(&mut self, wanted: &Definition, sides: &Sides, wish: &Wish) -> BeyondNames {
        let Sides { subscriber, outline, taken_up, .. } = sides;
        let is_there = |name: &QualifiedName| outline.relations.contains_key(name);
        let mut tables = definition::new_names(wanted, subscriber, &wish.known, is_there);
        if wish.follows {
            self.renamed_tables = std::mem::take(&mut tables.due);
        }
        let replaced = definition::replaced(wanted, subscriber, &wish.known, taken_up);
        BeyondNames { tables, replaced, ..BeyondNames::default() }
    }

    /// What the subscriber should have that rows do without, and what of it is left out.
    pub(super) fn late(sides: &Sides) -> (Definition, Vec<Left>) {
        let Fitted { definition, left, .. } = definition::fit(&sides.publisher, sides.subscriber.version);
        let is_late = |left: &Left| left.object.starts_with("index ");
        let mut plan = Self { not_copied: left.into_iter().filter(is_late).collect(), ..Self::default() };
        let mut wanted = definition;
        plan.leave_keys(&mut wanted);
        plan.leave_functions(&mut wanted, &sides.subscriber);
        plan.not_copied.sort();
        (wanted, plan.not_copied)
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.made.is_empty() && self.changed.is_empty() && self.renamed.is_empty() && self.renamed_tables.is_empty()
    }

    /// All that is not as on the publisher, what is missing included.
    pub fn unlike(&self) -> Vec<Unlike> {
        let missing = self.made.iter().filter(|step| step.object.whole() == step.object).map(|step| Unlike {
            object: step.object.to_string(),
            attribute: String::new(),
            publisher: "is there".to_owned(),
            subscriber: "is missing".to_owned(),
            remedy: "apply, which makes it".to_owned(),
        });
        let other = self.changed.iter().chain(&self.differences).map(|one| Unlike {
            object: one.object.to_string(),
            attribute: one.attribute.clone(),
            publisher: one.publisher.clone(),
            subscriber: one.subscriber.clone(),
            remedy: one.remedy(),
        });
        let renamed = self.renamed.iter().map(|renaming| Unlike {
            object: renaming.object().to_string(),
            attribute: "name of a column".to_owned(),
            publisher: renaming.to.as_str().to_owned(),
            subscriber: renaming.from.as_str().to_owned(),
            remedy: "apply, which renames it".to_owned(),
        });
        let tables = self.renamed_tables.iter().map(|name| Unlike {
            object: name.object().to_string(),
            attribute: "name".to_owned(),
            publisher: name.to.to_text(),
            subscriber: name.from.to_text(),
            remedy: "apply, which renames it".to_owned(),
        });
        missing.chain(tables).chain(renamed).chain(other).collect()
    }

    fn leave(&mut self, object: impl ToString, reason: impl Into<String>) {
        self.not_copied.push(Left { object: object.to_string(), reason: reason.into() });
    }

    fn refuse(&mut self, object: impl ToString, reason: impl Into<String>, remedy: impl Into<String>) {
        self.refused.push(Refusal { object: object.to_string(), reason: reason.into(), remedy: remedy.into() });
    }

    /// Lets columns take nulls that no publication sends: rows would stop there.
    fn relax(&mut self, wanted: &mut Definition, lists: &BTreeMap<QualifiedName, BTreeSet<Ident>>) {
        let governed: Vec<_> =
            wanted.tables.keys().filter_map(|table| Some((table.clone(), list_of(wanted, table, lists)?))).collect();
        for (name, sent) in governed {
            let Some(table) = wanted.tables.get_mut(&name) else { continue };
            for column in table.columns.iter_mut().filter(|column| !sent.contains(&column.name)) {
                let fills = column.expression.is_some() || column.identity.is_some();
                if column.is_not_null && !fills {
                    (column.is_not_null, column.not_null) = (false, None);
                    let object = format!("NOT NULL of column {} of table {}", column.name.as_str(), name.to_text());
                    self.leave(object, "no publication sends the column, so rows would be refused");
                }
            }
        }
    }

    fn refuse_missing(&mut self, wanted: &Definition, sides: &Sides) {
        for (name, extension) in wanted.extensions.iter().filter(|(_, extension)| extension.is_needed) {
            let create = format!(
                "On the subscriber: CREATE EXTENSION {name} WITH SCHEMA {}; (the publisher has version {}).",
                extension.schema, extension.version
            );
            match sides.subscriber.extensions.get(name) {
                None => self.refuse(
                    format!("extension {}", name.as_str()),
                    "the tables need it, and the subscriber's database does not have it",
                    create,
                ),
                Some(there) if there.schema != extension.schema => {
                    let reason = format!(
                        "it is in schema {} on the publisher and in {} on the subscriber, so its objects have \
                         different names",
                        extension.schema.as_str(),
                        there.schema.as_str()
                    );
                    self.refuse(
                        format!("extension {}", name.as_str()),
                        reason,
                        format!("On the subscriber: ALTER EXTENSION {name} SET SCHEMA {};", extension.schema),
                    );
                }
                Some(_) => {}
            }
        }
        self.refuse_others(&sides.missing);
        let named: Vec<_> = wanted
            .named_collations()
            .into_iter()
            .filter(|name| !wanted.collations.contains_key(*name) && !sides.subscriber.collations.contains_key(*name))
            .collect();
        for name in named {
            self.refuse(
                format!("collation {}", name.to_text()),
                "the subscriber does not have it",
                "Change the \
                 collation of the columns on the publisher, or create the tables on the subscriber by hand with \
                 another one.",
            );
        }
    }

    /// What the catalogs do not tell how to make. Who makes a foreign table makes its server too.
    fn refuse_others(&mut self, missing: &[Other]) {
        let is_foreign = |other: &Other| other.kind == "foreign table";
        let has_foreign = missing.iter().any(is_foreign);
        let goes_with =
            |other: &&Other| has_foreign && matches!(other.kind.as_str(), "server" | "foreign-data wrapper");
        for other in missing.iter().filter(|other| !goes_with(other)) {
            let (reason, remedy) = if is_foreign(other) {
                (
                    "its rows are on another server, and no publication sends their changes",
                    "Create a foreign table of that name on the subscriber by hand, detach it on the publisher, or \
                     leave the table out.",
                )
            } else {
                (
                    "the tables need it, and it cannot be created from the catalogs",
                    "Create it on the subscriber by hand, under the same name, or leave the table out.",
                )
            };
            self.refuse(&other.description, reason, remedy);
        }
    }

    /// Leaves out foreign keys to tables that are not meant.
    fn leave_keys(&mut self, wanted: &mut Definition) {
        let tables: BTreeSet<_> = wanted.tables.keys().cloned().collect();
        for (name, table) in &mut wanted.tables {
            table.constraints.retain(|constraint, of| {
                let Some(references) = of.references.as_ref().filter(|table| !tables.contains(*table)) else {
                    return true;
                };
                let reason = format!("it refers to {}, which is not among the tables", references.to_text());
                self.leave(Object::Constraint(name.clone(), constraint.clone()), reason);
                false
            });
        }
    }

    /// Leaves out what calls functions that the subscriber does not have.
    fn leave_functions(&mut self, wanted: &mut Definition, subscriber: &Definition) {
        let missing: Vec<_> = wanted
            .functions
            .keys()
            .filter(|signature| !subscriber.functions.contains_key(*signature))
            .cloned()
            .collect();
        for signature in missing {
            wanted.functions.remove(&signature);
            let function = Object::Function(signature);
            let users: Vec<_> = wanted
                .needs
                .iter()
                .filter(|(_, needs)| needs.contains(&function))
                .map(|(user, _)| user.clone())
                .collect();
            let reason = format!("it calls {function}, which the subscriber does not have, and functions = \"never\"");
            for user in users {
                if remove(wanted, &user) {
                    self.leave(user, reason.as_str());
                } else if wanted.has(&user) && !matches!(user, Object::Function(_)) {
                    self.refuse(
                        user,
                        reason.as_str(),
                        "Set functions to \"needed\", or create the function on the subscriber by hand.",
                    );
                }
            }
        }
    }

    /// Shares out the steps among now, later and never.
    fn take_steps(&mut self, wanted: &Definition, subscriber: &Definition, wish: &Wish) {
        let steps = match definition::steps(wanted, |step| is_missing(subscriber, step)) {
            Ok(steps) => steps,
            Err(circle) => {
                self.refuse(
                    circle.to_string(),
                    "each needs another one first",
                    "Create one of them on the subscriber by hand.",
                );
                return;
            }
        };
        let mut late = BTreeSet::new();
        for step in steps {
            let waits = step.needs.iter().any(|need| late.contains(need));
            match when(step.group, wish) {
                When::Never => {}
                When::WithTables if !waits => self.made.push(step),
                _ => {
                    late.insert(step.object.clone());
                    self.later.push(step);
                }
            }
        }
    }
}

fn when(group: Group, wish: &Wish) -> When {
    match group {
        Group::Tables => When::WithTables,
        Group::Index | Group::Statistics => wish.indexes,
        Group::ForeignKey => wish.foreign_keys,
    }
}

/// The columns that are sent of a table, or of the partitioned table that it is a partition of.
fn list_of(
    definition: &Definition,
    table: &QualifiedName,
    lists: &BTreeMap<QualifiedName, BTreeSet<Ident>>,
) -> Option<BTreeSet<Ident>> {
    if let Some(list) = lists.get(table) {
        return Some(list.clone());
    }
    let found = definition.tables.get(table).filter(|table| table.is_partition())?;
    list_of(definition, found.parents.first()?, lists)
}

/// Whether the subscriber lacks what a step makes. What is part of something that is there is compared instead; foreign keys
/// come later, though, and are missing one by one.
fn is_missing(subscriber: &Definition, step: &Step) -> bool {
    match &step.object {
        Object::Constraint(table, name) if step.group == Group::ForeignKey => {
            let there = subscriber.tables.get(table).and_then(|table| table.constraints.get(name));
            there.is_none_or(|there| there.kind != ConstraintKind::ForeignKey)
        }
        object => !subscriber.has(object),
    }
}

/// Takes an object out that rows do without.
fn remove(wanted: &mut Definition, object: &Object) -> bool {
    match object {
        Object::Default(table, name) => {
            let table = wanted.tables.get_mut(table);
            let column = table.and_then(|table| table.columns.iter_mut().find(|column| column.name == *name));
            column.is_some_and(|column| column.expression.take().is_some())
        }
        Object::Constraint(table, name) => {
            wanted.tables.get_mut(table).is_some_and(|table| table.constraints.remove(name).is_some())
        }
        Object::Index(name) => wanted.indexes.remove(name).is_some(),
        Object::Statistics(name) => wanted.statistics.remove(name).is_some(),
        _ => false,
    }
}
