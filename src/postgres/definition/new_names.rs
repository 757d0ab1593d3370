// SPDX-License-Identifier: MPL-2.0

//! Tables that were renamed on the publisher.
//!
//! The worker of a subscription stops at the first row of such a table, because the subscriber has no table of that name. Once the old
//! table is renamed there, the worker resumes and nothing is lost; an empty table in its place would be copied from its first row.

use super::known::Known;
use super::model::{Definition, Table};
use super::object::Object;
use super::renaming::{printed, replace};
use crate::postgres::sql::{QualifiedName, Statement};

/// A table that was renamed on the publisher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewName {
    /// The name on the subscriber.
    pub from: QualifiedName,
    /// The name on the publisher.
    pub to: QualifiedName,
}

/// The renamed tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewNames {
    /// The tables to rename on the subscriber.
    pub due: Vec<NewName>,
    /// The tables whose old name now belongs to another table of the publisher that is not managed here.
    pub displaced: Vec<NewName>,
}

impl NewName {
    /// The table, by its name on the publisher.
    pub fn object(&self) -> Object {
        Object::Table(self.to.clone())
    }

    /// The statement that renames it.
    pub fn statement(&self) -> Statement {
        Statement::new(self.text())
    }

    pub(super) fn text(&self) -> String {
        format!("ALTER TABLE {} RENAME TO {}", self.from, self.to.name)
    }
}

/// The tables that are recorded under another name in the same schema, still have it on the subscriber, and whose new
/// name is free there.
pub fn new_names(
    publisher: &Definition,
    subscriber: &Definition,
    known: &Known,
    is_on_publisher: impl Fn(&QualifiedName) -> bool,
) -> NewNames {
    let found = publisher.tables.iter().filter_map(|(name, table)| {
        let pairs = known.get(&table.oid)?;
        let from = pairs.name.clone()?;
        let is_it = subscriber.tables.get(&from).is_some_and(|there| there.oid == pairs.there);
        let is_free = from.schema == name.schema && !subscriber.tables.contains_key(name);
        (is_it && is_free && !publisher.tables.contains_key(&from)).then(|| NewName { from, to: name.clone() })
    });
    let (displaced, due) = found.partition(|one: &NewName| is_on_publisher(&one.from));
    NewNames { due, displaced }
}

/// The subscriber's definition after the renaming.
pub fn with_new_names(mut subscriber: Definition, names: &[NewName]) -> Definition {
    for name in names {
        subscriber.rename_table(name);
    }
    subscriber
}

impl Definition {
    fn rename_table(&mut self, name: &NewName) {
        let NewName { from, to } = name;
        let Some(table) = self.tables.remove(from) else { return };
        self.tables.insert(to.clone(), table);
        let text = |name: &QualifiedName| format!("{}.{}", printed(&name.schema), printed(&name.name));
        let (old, new) = (text(from), text(to));
        let rename = |name: &mut QualifiedName| {
            if name == from {
                name.clone_from(to);
            }
        };
        for table in self.tables.values_mut() {
            table.parents.iter_mut().for_each(rename);
            table.rename_in_constraints(rename, (&old, &new));
        }
        for index in self.indexes.values_mut() {
            rename(&mut index.table);
            replace(&mut index.definition, &old, &new);
        }
        for statistics in self.statistics.values_mut() {
            rename(&mut statistics.table);
            replace(&mut statistics.definition, &old, &new);
        }
        self.sequences.values_mut().filter_map(|one| one.owner.as_mut()).for_each(|(table, _)| rename(table));
    }
}

impl Table {
    fn rename_in_constraints(&mut self, rename: impl Fn(&mut QualifiedName), (old, new): (&str, &str)) {
        for constraint in self.constraints.values_mut() {
            constraint.references.iter_mut().for_each(&rename);
            replace(&mut constraint.definition, old, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::known;
    use super::super::samples::{database, name};
    use super::*;

    #[test]
    fn a_table_gets_the_name_that_it_has_on_the_publisher() {
        let before = database(18)
            .table("t", "id")
            .index("t", "t_id", "USING btree (id)")
            .table("u", "t_id")
            .constraint("u", "u_t", "FOREIGN KEY (t_id) REFERENCES public.t(id)")
            .partitioned("p", "id")
            .partition("p1", "p", "id");
        let known = known(&before, &before, &Known::new(), &None);
        let publisher = with_new_names(
            before.clone(),
            &[("t", "t2"), ("p", "P")].map(|(from, to)| NewName { from: name(from), to: name(to) }),
        );
        let found = new_names(&publisher, &before, &known, |_| false);
        let texts: Vec<_> = found.due.iter().map(|one| one.statement().to_string()).collect();
        assert_eq!(texts, [r#"ALTER TABLE "public"."p" RENAME TO "P""#, r#"ALTER TABLE "public"."t" RENAME TO "t2""#]);
        let renamed = with_new_names(before.clone(), &found.due);
        assert_eq!(renamed, publisher);
        let t2 = name("t2");
        assert!(renamed.indexes[&name("t_id")].table == t2 && renamed.tables[&name("p1")].parents == [name("P")]);
        let key = renamed.tables[&name("u")].constraints.values().next().unwrap();
        assert_eq!(key.definition, "FOREIGN KEY (t_id) REFERENCES public.t2(id)");
        // An unpublished table has the old name.
        let found = new_names(&publisher, &before, &known, |table| *table == name("t"));
        assert_eq!((found.due.len(), found.displaced.len()), (1, 1));
        // If a published table has it, that one replaces the old table.
        let replaced = publisher.table("t", "id");
        assert_eq!(new_names(&replaced, &before, &known, |_| false).due.len(), 1);
    }
}
