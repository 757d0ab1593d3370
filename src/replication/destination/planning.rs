// SPDX-License-Identifier: MPL-2.0

//! Plans what must be created, changed and left, from both sides' definitions. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{When, Wish};
use crate::postgres::catalog::Outline;
use crate::postgres::definition::{
    self, BeyondNames, ConstraintKind, Definition, Difference, Fitted, Group, Left, NewName, Object, Other, Refusal,
    Renaming, Step, TakenUp,
};
use crate::postgres::{Ident, QualifiedName};

/// The steps that make the subscriber like the publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps that create objects, in order.
    pub made: Vec<Step>,
    /// The steps that are left for later, in order.
    pub later: Vec<Step>,
    /// The tables to rename to their names on the publisher.
    pub renamed_tables: Vec<NewName>,
    /// The columns to rename.
    pub renamed: Vec<Renaming>,
    /// Differences that are resolved, because the change only adds something.
    pub changed: Vec<Difference>,
    /// Differences that stay.
    pub differences: Vec<Difference>,
    /// The objects that are not copied.
    pub not_copied: Vec<Left>,
    /// The obstacles.
    pub refused: Vec<Refusal>,
}

/// One difference between both sides, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlike {
    /// The object.
    pub object: String,
    /// Its attribute that differs.
    pub attribute: String,
    /// The value on the publisher.
    pub publisher: String,
    /// The value on the subscriber.
    pub subscriber: String,
    /// What to do.
    pub remedy: String,
}

/// Both sides as they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sides {
    pub publisher: Definition,
    pub subscriber: Definition,
    /// Objects that the publisher's tables need, that the subscriber lacks, and that cannot be created
    /// from the catalogs.
    pub missing: Vec<Other>,
    /// The sent columns of tables with a column list.
    pub lists: BTreeMap<QualifiedName, BTreeSet<Ident>>,
    /// All relations of the publisher.
    pub outline: Arc<Outline>,
    /// The subscriber's tables that are in a subscription; only read if that makes a difference.
    pub taken_up: TakenUp,
}

impl Plan {
    /// The plan for both sides.
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

    /// Facts about tables that names do not show. The plan takes over the tables to rename.
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

    /// The objects that the subscriber should have but rows do not need, and the omitted ones.
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

    /// Whether nothing remains to be done.
    pub fn is_done(&self) -> bool {
        self.made.is_empty() && self.changed.is_empty() && self.renamed.is_empty() && self.renamed_tables.is_empty()
    }

    /// All differences to the publisher, including missing objects.
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

    /// Makes columns nullable that no publication sends: otherwise rows would be refused.
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

    /// Refuses objects that cannot be created from the catalogs. The server of a foreign table is
    /// not reported separately.
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

    /// Omits foreign keys to tables that are not selected.
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

    /// Omits objects that call functions that the subscriber does not have.
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

    /// Divides the steps into now, later and never.
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

/// The sent columns of a table, or of its partitioned table.
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

/// Whether the subscriber lacks the object of a step. Parts of existing objects are compared instead, except foreign
/// keys, which come later and can be missing one by one.
fn is_missing(subscriber: &Definition, step: &Step) -> bool {
    match &step.object {
        Object::Constraint(table, name) if step.group == Group::ForeignKey => {
            let there = subscriber.tables.get(table).and_then(|table| table.constraints.get(name));
            there.is_none_or(|there| there.kind != ConstraintKind::ForeignKey)
        }
        object => !subscriber.has(object),
    }
}

/// Removes an object that rows do not need.
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
