// SPDX-License-Identifier: MPL-2.0

//! A constraint that the subscriber lacks, if it has an equivalent unique index: the index becomes the constraint.

use super::likeness::is_alike;
use super::model::{Constraint, ConstraintKind, Definition, Index, Table};
use crate::postgres::sql::{Ident, QualifiedName};

/// The subscriber's index that can become this constraint of the publisher without a rebuild.
pub(super) fn index_for<'a>(
    publisher: &Definition,
    subscriber: &'a Definition,
    table: &QualifiedName,
    constraint: &Constraint,
) -> Option<&'a Ident> {
    let there = subscriber.tables.get(table).filter(|table| table.partition_key.is_none())?;
    let tail = tail_of(constraint)?;
    if constraint.kind == ConstraintKind::PrimaryKey && !are_not_null(there, &constraint.columns) {
        return None;
    }
    let fits = |(name, index): &(&QualifiedName, &Index)| {
        let is_whole = index.is_unique && index.is_valid && !index.is_clone && index.parent.is_none();
        let is_free = index.table == *table && !publisher.indexes.contains_key(*name);
        is_whole && is_free && is_alike(without_parameters(&index.tail), &tail)
    };
    let mut fitting: Vec<&Ident> = subscriber.indexes.iter().filter(fits).map(|(name, _)| &name.name).collect();
    match holder(subscriber, table, &constraint.name) {
        Some(_) => fitting.into_iter().find(|name| **name == constraint.name),
        None => fitting.drain(..).next(),
    }
}

/// The index with the name of a constraint that the table lacks, so that the constraint cannot be created.
pub(super) fn holder<'a>(
    subscriber: &'a Definition,
    table: &QualifiedName,
    constraint: &Ident,
) -> Option<(&'a QualifiedName, &'a Index)> {
    let name = QualifiedName { schema: table.schema.clone(), name: constraint.clone() };
    subscriber.indexes.get_key_value(&name)
}

/// The indexes that become constraints.
pub(super) fn promoted(publisher: &Definition, subscriber: &Definition) -> Vec<QualifiedName> {
    let both = publisher.tables.iter().filter_map(|(name, table)| Some((name, table, subscriber.tables.get(name)?)));
    let missing = both.flat_map(|(name, table, there)| {
        let constraints = table.constraints.values().filter(|one| !there.constraints.contains_key(&one.name));
        constraints.filter_map(move |one| Some((name, index_for(publisher, subscriber, name, one)?)))
    });
    missing.map(|(table, index)| QualifiedName { schema: table.schema.clone(), name: index.clone() }).collect()
}

/// The part after the table in the statement of a constraint's index, as a server prints it.
fn tail_of(constraint: &Constraint) -> Option<String> {
    let definition = constraint.definition.as_str();
    let keys = match constraint.kind {
        ConstraintKind::PrimaryKey => definition.strip_prefix("PRIMARY KEY ")?,
        ConstraintKind::Unique => definition.strip_prefix("UNIQUE ")?,
        _ => return None,
    };
    let keys = keys.split(" DEFERRABLE").next().unwrap_or(keys);
    if constraint.is_temporal {
        return None;
    }
    Some(match keys.strip_prefix("NULLS NOT DISTINCT ") {
        Some(keys) => format!("USING btree {keys} NULLS NOT DISTINCT"),
        None => format!("USING btree {keys}"),
    })
}

/// The same without storage parameters, which can be changed later. A condition, which follows them, stays.
fn without_parameters(tail: &str) -> &str {
    match tail.split_once(" WITH (") {
        Some((before, after)) if after.ends_with(')') && !after.contains(" WHERE ") => before,
        _ => tail,
    }
}

fn are_not_null(table: &Table, columns: &[Ident]) -> bool {
    columns.iter().all(|name| table.column(name).is_some_and(|column| column.is_not_null))
}

#[cfg(test)]
mod tests {
    use super::super::difference::BeyondNames;
    use super::super::difference::differences;
    use super::super::samples::database;
    use super::*;

    fn users() -> Definition {
        database(18).table("users", "id email")
    }

    /// The test's text for the remedy of a constraint if the subscriber has that index.
    fn remedy(constraint: &str, index: &str, tail: &str) -> String {
        let publisher = users().constraint("users", "users_key", constraint);
        let found = differences(&publisher, &users().index("users", index, tail), &BeyondNames::default());
        let lines = found.iter().map(|one| {
            let who = if one.mend().is_some() { "apply" } else { "person" };
            format!("{who}: {}", one.remedy())
        });
        lines.collect::<Vec<_>>().join(" | ").replace("\"public\".", "").replace('"', "")
    }

    #[test]
    fn a_unique_index_becomes_the_constraint() {
        let add = "apply: on the subscriber: ALTER TABLE users ADD CONSTRAINT users_key";
        for (constraint, index, tail, expected) in [
            ("UNIQUE (email)", "users_key", "UNIQUE USING btree (email)", "UNIQUE USING INDEX users_key"),
            ("UNIQUE (email)", "other", "UNIQUE USING btree (email)", "UNIQUE USING INDEX other"),
            ("PRIMARY KEY (id)", "users_key", "UNIQUE USING btree (id)", "PRIMARY KEY USING INDEX users_key"),
            (
                "UNIQUE (email) INCLUDE (id) DEFERRABLE INITIALLY DEFERRED",
                "users_key",
                "UNIQUE USING btree (email) INCLUDE (id) WITH (fillfactor='50')",
                "UNIQUE USING INDEX users_key DEFERRABLE INITIALLY DEFERRED",
            ),
            (
                "UNIQUE NULLS NOT DISTINCT (email)",
                "users_key",
                "UNIQUE USING btree (email) NULLS NOT DISTINCT",
                "UNIQUE USING INDEX users_key",
            ),
        ] {
            assert_eq!(remedy(constraint, index, tail), format!("{add} {expected};"));
        }
    }

    #[test]
    fn an_index_that_does_something_else_is_in_the_way_of_the_name_alone() {
        let add = "ADD CONSTRAINT users_key UNIQUE (email);";
        let dropped = format!("person: on the subscriber: DROP INDEX users_key; ALTER TABLE users {add}");
        for tail in
            ["UNIQUE USING btree (email) WHERE (id > 0)", "UNIQUE USING btree (email DESC)", "USING btree (email)"]
        {
            let remedy = remedy("UNIQUE (email)", "users_key", tail);
            assert!(remedy.starts_with(&dropped), "{remedy}");
        }
        let remedy = remedy("UNIQUE (email)", "other", "USING btree (email)");
        assert!(remedy.starts_with(&format!("person: on the subscriber: ALTER TABLE users {add}")), "{remedy}");
    }
}
