// SPDX-License-Identifier: MPL-2.0

//! Whether the rows of each table arrive, and keep arriving.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, Side};
use crate::postgres::catalog::{self, CalledFunction, Constraint, Demand, Identity, Index, ReplicaIdentity, Table};
use crate::postgres::publication::{self, Operation};
use crate::postgres::version::RUN_AS_OWNER;
use crate::postgres::{Ident, QualifiedName};
use crate::replication::checks::{Obstacle, values};
use crate::replication::{Finding, Place, Severity, names};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found = obstacles(facts);
    found.extend(keys(facts));
    found.extend(rows(facts));
    found.extend(columns(facts));
    found.extend(labels(facts));
    found.extend(row_security(facts));
    found.extend(triggers(&facts.subscriber));
    found.extend(functions(facts));
    found.extend(constraints(facts));
    found.extend(unlogged(facts));
    if facts.question.reverse {
        found.extend(way_back(facts));
    }
    found
}

fn error(check: &'static str, place: Place, table: &QualifiedName) -> Finding {
    Finding::new(Severity::Error, check, place).about(table.to_text())
}

fn warning(check: &'static str, place: Place, table: &QualifiedName) -> Finding {
    Finding::new(Severity::Warning, check, place).about(table.to_text())
}

fn listed<'a>(columns: impl IntoIterator<Item = &'a Ident>) -> String {
    names::list(columns.into_iter().map(|column| column.as_str().to_owned()))
}

/// The obstacles that the plan of a subscription would report too.
fn obstacles(facts: &Facts) -> Vec<Finding> {
    let found = facts.tables.obstacles(&facts.sent);
    let each = found.iter().flat_map(|(table, obstacles)| obstacles.iter().map(move |obstacle| (table, obstacle)));
    let found = each.map(|(table, obstacle)| {
        let (check, place) = named(obstacle);
        error(check, place, table).says(capital(&obstacle.to_string())).mended_by(obstacle.remedy(table))
    });
    found.collect()
}

fn named(obstacle: &Obstacle) -> (&'static str, Place) {
    match obstacle {
        Obstacle::NoTable => ("table_on_subscriber", Place::Subscriber),
        Obstacle::Clash(_) => ("column_clash", Place::Publisher),
        Obstacle::NoColumns(_) => ("columns_missing", Place::Subscriber),
        Obstacle::Generated(_) => ("generated_columns", Place::Subscriber),
        Obstacle::Required(_) => ("required_columns", Place::Subscriber),
        Obstacle::BinaryTypes(_) => ("binary_types", Place::Subscriber),
        Obstacle::NoSelect { .. } => ("select_denied", Place::Publisher),
        Obstacle::NoSetRole { .. } => ("set_role_denied", Place::Subscriber),
    }
}

/// Words from the middle of a sentence, with a capital letter.
pub(super) fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

/// The statement that makes columns nullable.
fn without_not_null<'a>(table: &QualifiedName, columns: impl IntoIterator<Item = &'a Ident>) -> String {
    let columns: Vec<_> = columns.into_iter().map(ToString::to_string).collect();
    format!(" ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL;", columns.join(" DROP NOT NULL, ALTER COLUMN "))
}

/// The columns that identify rows.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Missing,
    Whole,
    Columns(BTreeSet<Ident>),
}

/// The columns by which the publisher identifies rows.
fn sent_key(side: &Side, table: &QualifiedName) -> Option<Key> {
    let relation = side.outline.relations.get(table)?;
    Some(match (&relation.identity, relation.replica_identity) {
        (Identity::Full, _) => Key::Whole,
        (_, ReplicaIdentity::Nothing) => Key::Missing,
        // The outline has no columns for a partitioned table.
        (_, choice) => index_key(side, table, choice == ReplicaIdentity::Index).map_or(Key::Missing, Key::Columns),
    })
}

/// The columns by which a subscriber finds rows: those of its replica identity's index, otherwise of its primary key.
fn applied_key(side: &Side, table: &QualifiedName) -> Option<Key> {
    let relation = side.outline.relations.get(table)?;
    let chosen = (relation.replica_identity == ReplicaIdentity::Index).then(|| index_key(side, table, true)).flatten();
    Some(chosen.or_else(|| index_key(side, table, false)).map_or(Key::Missing, Key::Columns))
}

fn index_key(side: &Side, table: &QualifiedName, is_chosen: bool) -> Option<BTreeSet<Ident>> {
    let is_it = |index: &&Index| {
        let is_it = if is_chosen { index.is_replica_identity } else { index.is_primary };
        is_it && index.is_valid && index.is_immediate
    };
    side.indexes.get(table)?.iter().find(is_it)?.columns()
}

/// The first update or delete of a table that cannot find rows stops replication.
fn keys(facts: &Facts) -> Vec<Finding> {
    let version = facts.publisher.version.min(facts.subscriber.version);
    let changing = facts.publications.iter().filter(|publication| {
        publication.publish.contains(&Operation::Update) || publication.publish.contains(&Operation::Delete)
    });
    let changed = publication::sent(changing, &facts.publisher.outline, version);
    let lacking = changed.tables.keys().filter(|table| facts.sent.tables.contains_key(*table));
    lacking.filter_map(|table| key(facts, table)).collect()
}

fn key(facts: &Facts, table: &QualifiedName) -> Option<Finding> {
    let (sent, applied) = (sent_key(&facts.publisher, table)?, applied_key(&facts.subscriber, table)?);
    let found = error("destination_key", Place::Subscriber, table);
    match (sent, applied) {
        (Key::Columns(sent), Key::Missing) => {
            let columns = sent.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let says = "It has neither a primary key nor a replica identity there: the first UPDATE or DELETE stops replication.";
            Some(
                found
                    .says(says)
                    .mended_by(format!("On the subscriber: ALTER TABLE {table} ADD PRIMARY KEY ({columns});")),
            )
        }
        (Key::Columns(sent), Key::Columns(applied)) if !applied.is_subset(&sent) => {
            let outside = listed(applied.difference(&sent));
            let says = format!(
                "The subscriber looks for rows by columns that the publisher does not send as their identity: \
                 {outside}. The first UPDATE or DELETE stops replication."
            );
            let mend = format!(
                "Give it the publisher's primary key there, or on the publisher: ALTER TABLE {table} REPLICA IDENTITY FULL;"
            );
            Some(found.says(says).mended_by(mend))
        }
        _ => None,
    }
}

/// Existing rows are there twice after the copy, or stop it.
fn rows(facts: &Facts) -> Vec<Finding> {
    let held = facts.with_rows.iter().map(|table| {
        let says = "It holds rows before the copy. If the publisher has one of these rows too, copying it violates \
                    a primary key or another unique index, and the table is not replicated; without such an index \
                    the row exists twice.";
        let mend = format!(
            "On the subscriber: TRUNCATE {table}; or set copy_data = false if the rows are the \
             publisher's."
        );
        error("rows_on_subscriber", Place::Subscriber, table).says(says).mended_by(mend)
    });
    let shared =
        facts.others.iter().filter(|(table, _)| facts.sent.tables.contains_key(*table)).map(|(table, other)| {
            let says = format!("Subscription {other} already replicates into it, and both would write the same rows.");
            warning("subscribed_twice", Place::Subscriber, table)
                .says(says)
                .mended_by("Remove the table from one of the two.")
        });
    held.chain(shared).collect()
}

/// Columns whose type does not accept every value there.
fn columns(facts: &Facts) -> Vec<Finding> {
    let pairs = facts.sent.tables.iter().filter_map(|(name, sent)| {
        let (source, target) = (facts.tables.sources().get(name)?, facts.tables.targets().get(name)?);
        Some((name, sent.columns(source), source, target))
    });
    pairs.flat_map(|(name, sent, source, target)| compared(name, &sent, source, target)).collect()
}

fn compared(name: &QualifiedName, sent: &BTreeSet<Ident>, source: &Table, target: &Table) -> Vec<Finding> {
    let pairs = || sent.iter().filter_map(|column| Some((source.column(column)?, target.column(column)?)));
    let retyped: Vec<_> = pairs().filter(|(from, to)| !values::takes_all(&from.ty, &to.ty)).collect();
    let required: Vec<_> =
        pairs().filter(|(from, to)| !from.is_not_null && to.is_not_null).map(|(from, _)| &from.name).collect();
    let mut found = Vec::new();
    if !retyped.is_empty() {
        let says = format!(
            "Columns have other types on the subscriber: {}. Values travel as text, and one that does not fit stops replication.",
            names::list(retyped.iter().map(|(from, to)| format!(
                "{} is {} on the publisher and {} there",
                from.name.as_str(),
                from.ty,
                to.ty
            )))
        );
        let types: Vec<_> = retyped.iter().map(|(from, _)| format!("{} TYPE {}", from.name, from.ty)).collect();
        let mend = format!("On the subscriber: ALTER TABLE {name} ALTER COLUMN {};", types.join(", ALTER COLUMN "));
        found.push(warning("column_types", Place::Subscriber, name).says(says).mended_by(mend));
    }
    if !required.is_empty() {
        let drops = without_not_null(name, required.iter().copied());
        let says = format!(
            "Columns may be null on the publisher, but not on the subscriber: {}. The first null stops replication.",
            listed(required.iter().copied())
        );
        found.push(
            warning("not_null", Place::Subscriber, name).says(says).mended_by(format!("On the subscriber:{drops}")),
        );
    }
    found
}

/// Enums that lack labels there. A type without the same name there is reported as another type.
fn labels(facts: &Facts) -> Vec<Finding> {
    let (here, there) = (&facts.publisher.labels, &facts.subscriber.labels);
    let lacking = here.keys().map(|ty| (ty, values::missing_labels(ty, ty, here, there)));
    let found = lacking.filter(|(_, missing)| !missing.is_empty()).map(|(ty, missing)| {
        let says = format!(
            "This enum lacks labels on the subscriber: {}. The first row that has one of them stops replication.",
            names::list(missing.iter().cloned())
        );
        let adds: String = missing.iter().map(|label| format!(" {}", catalog::add_label(ty, label))).collect();
        Finding::new(Severity::Error, "enum_labels", Place::Subscriber)
            .about(ty)
            .says(says)
            .mended_by(format!("On the subscriber:{adds}"))
    });
    found.collect()
}

/// Row security on the publisher silently hides rows from the copy; on the subscriber it refuses them.
fn row_security(facts: &Facts) -> Vec<Finding> {
    let login = facts.login();
    let hidden = facts.publisher.guards.iter().filter(|(_, guards)| guards.hides_rows).map(|(table, _)| {
        let says = format!(
            "Row security hides rows from role {login}: they are missing from the copy, without an error."
        );
        error("row_security", Place::Publisher, table).says(says).mended_by(format!(
            "On the publisher, as a superuser: ALTER ROLE {login} BYPASSRLS; or let the subscription log in as the table's owner."
        ))
    });
    let becomes_owner = facts.subscriber.version.has(RUN_AS_OWNER);
    let forced =
        facts.subscriber.guards.iter().filter(move |(_, guards)| becomes_owner && guards.hides_rows_from_owner);
    let refused = forced.map(|(table, _)| {
        error("row_security", Place::Subscriber, table)
            .says(
                "Row security is forced on its owner, and rows are written as the owner: no row is replicated \
                 into it.",
            )
            .mended_by(format!("On the subscriber: ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY;"))
    });
    hidden.chain(refused).collect()
}

fn triggers(subscriber: &Side) -> Vec<Finding> {
    let firing = subscriber.guards.iter().filter(|(_, guards)| !guards.replica_triggers.is_empty());
    let found = firing.map(|(table, guards)| {
        let alter =
            guards.replica_triggers.iter().map(|trigger| format!(" ALTER TABLE {table} ENABLE TRIGGER {trigger};"));
        warning("replica_triggers", Place::Subscriber, table)
            .says(format!(
                "Triggers fire for every row that is replicated, the copy included: {}.",
                listed(&guards.replica_triggers)
            ))
            .mended_by(format!("If they should not, on the subscriber:{}", alter.collect::<String>()))
    });
    found.collect()
}

/// Functions that depend on the search path, which is empty during replication. For tables that do not exist on the
/// subscriber yet, the publisher's functions count.
fn functions(facts: &Facts) -> Vec<Finding> {
    let is_there = |table: &QualifiedName| facts.subscriber.outline.relations.contains_key(table);
    let there = facts.subscriber.functions.iter().map(|one| (Place::Subscriber, one));
    let yet_to_come = facts.publisher.functions.iter().filter(|(table, _)| !is_there(table));
    let mut uses: BTreeMap<(Place, &QualifiedName, &str), BTreeSet<String>> = BTreeMap::new();
    for (place, (table, functions)) in there.chain(yet_to_come.map(|one| (Place::Publisher, one))) {
        for CalledFunction { name, arguments, by } in functions {
            uses.entry((place, name, arguments)).or_default().insert(format!("{by} of {}", table.to_text()));
        }
    }
    let found = uses.into_iter().map(|((place, name, arguments), by)| {
        let says = format!(
            "It is called by {}, and sets no search_path. Rows are replicated with an empty search_path: if it \
             names a table, a type or another function without its schema, no row of the table arrives.",
            names::list(by)
        );
        let mend = format!(
            "On the {}: ALTER FUNCTION {name}({arguments}) SET search_path = {}, pg_temp;",
            place.as_str(),
            name.schema
        );
        Finding::new(Severity::Warning, "search_path", place)
            .about(format!("{}({arguments})", name.to_text()))
            .says(says)
            .mended_by(mend)
    });
    found.collect()
}

/// Constraints that only the subscriber has.
fn constraints(facts: &Facts) -> Vec<Finding> {
    let none = Vec::new();
    let tables = facts.sent.tables.keys().filter_map(|table| Some((table, facts.subscriber.constraints.get(table)?)));
    let found = tables.flat_map(|(table, there)| {
        let here = facts.publisher.constraints.get(table).unwrap_or(&none);
        let more: Vec<_> = there.iter().filter(|one| !here.iter().any(|other| is_alike(one, other))).collect();
        demanded(table, &more)
    });
    found.collect()
}

/// Whether two constraints require the same, as far as names show.
fn is_alike(one: &Constraint, other: &Constraint) -> bool {
    one.demand == other.demand
        && (one.name == other.name || matches!(one.demand, Demand::PrimaryKey | Demand::ForeignKey { .. }))
}

fn demanded(table: &QualifiedName, more: &[&Constraint]) -> Vec<Finding> {
    let which =
        |is_it: fn(&Demand) -> bool| more.iter().filter(|one| is_it(&one.demand)).map(|one| &one.name).collect();
    let keys: Vec<&Ident> = which(|demand| matches!(demand, Demand::ForeignKey { .. }));
    let rest: Vec<&Ident> = which(|demand| !matches!(demand, Demand::ForeignKey { .. } | Demand::PrimaryKey));
    let drops = |names: &[&Ident]| {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let drops = names.join(", DROP CONSTRAINT ");
        format!("On the subscriber, until the cutover: ALTER TABLE {table} DROP CONSTRAINT {drops};")
    };
    let mut found = Vec::new();
    if !rest.is_empty() {
        let says = format!(
            "It has constraints on the subscriber that do not exist on the publisher, at least not under these \
             names: {}. The first row that violates one stops replication.",
            listed(rest.iter().copied())
        );
        found.push(warning("more_constraints", Place::Subscriber, table).says(says).mended_by(drops(&rest)));
    }
    if !keys.is_empty() {
        let says = format!(
            "It has foreign keys on the subscriber that do not exist on the publisher: {}. They are not checked for \
             replicated rows, and a TRUNCATE of what they refer to stops replication.",
            listed(keys.iter().copied())
        );
        found.push(warning("foreign_keys", Place::Subscriber, table).says(says).mended_by(drops(&keys)));
    }
    found
}

fn unlogged(facts: &Facts) -> Vec<Finding> {
    let relations = &facts.subscriber.outline.relations;
    let is_unlogged = |table: &&QualifiedName| relations.get(*table).is_some_and(|relation| relation.is_unlogged);
    let found = facts.sent.tables.keys().filter(is_unlogged).map(|table| {
        warning("unlogged_on_subscriber", Place::Subscriber, table)
            .says(
                "It is unlogged there: a crash of the subscriber empties it, and replication goes on without \
                 these rows.",
            )
            .mended_by(format!("On the subscriber: ALTER TABLE {table} SET LOGGED;"))
    });
    found.collect()
}

/// The obstacles for changes that flow back from the subscriber.
fn way_back(facts: &Facts) -> Vec<Finding> {
    let Some(back) = &facts.tables_back else { return Vec::new() };
    let there: Vec<_> = facts.publications.iter().map(|publication| publication.name.clone()).collect();
    let target = publication::Target::tables(facts.sent.tables.keys().cloned());
    let planned = there.first().map(|name| publication::Publication::new(name.clone(), target));
    let version = facts.publisher.version.min(facts.subscriber.version);
    let sent = publication::sent(planned.as_ref(), &facts.subscriber.outline, version);
    let obstacles = back.obstacles(&sent);
    let each = obstacles.iter().flat_map(|(table, found)| found.iter().map(move |one| (table, one)));
    each.filter_map(|(table, obstacle)| backwards(table, obstacle)).collect()
}

/// An obstacle of the way back, for which the subscriber publishes.
fn backwards(table: &QualifiedName, obstacle: &Obstacle) -> Option<Finding> {
    let (place, says, mend) = match obstacle {
        Obstacle::NoColumns(columns) => (
            Place::Publisher,
            format!("the publisher lacks columns of the subscriber: {}", listed(columns)),
            "Add them on the publisher too, or do not add them on the subscriber as long as you want to go back."
                .to_owned(),
        ),
        Obstacle::Generated(columns) => (
            Place::Publisher,
            format!("columns of the subscriber are generated on the publisher: {}", listed(columns)),
            "Make them generated on the subscriber too.".to_owned(),
        ),
        Obstacle::Required(columns) => (
            Place::Publisher,
            format!(
                "columns that the subscriber does not send are NOT NULL on the publisher, and have no default: {}",
                listed(columns)
            ),
            format!("On the publisher:{}", without_not_null(table, columns)),
        ),
        Obstacle::NoSetRole { subscription, table: owner } => (
            Place::Publisher,
            format!("role {subscription} may not SET ROLE to its owner {owner}"),
            format!(
                "On the publisher: GRANT {owner} TO {subscription}; or ALTER TABLE {table} OWNER TO {subscription};"
            ),
        ),
        // A table that does not exist on the publisher is not published at all, and has a finding of its own. The way
        // back copies no rows, and sends changes even of tables that the role may not read.
        Obstacle::NoTable | Obstacle::Clash(_) | Obstacle::BinaryTypes(_) | Obstacle::NoSelect { .. } => return None,
    };
    let says = format!("When changes flow back, no row of it arrives: {says}.");
    Some(error("way_back", place, table).says(says).mended_by(mend))
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, columns, ident, shown, table};
    use super::*;
    use crate::postgres::catalog::Column;
    use crate::replication::checks::BothSides;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    fn target(change: impl Fn(&mut Vec<Column>)) -> BothSides {
        let mut target = columns();
        change(&mut target.columns);
        BothSides::of(BTreeMap::from([(table("orders"), columns())]), BTreeMap::from([(table("orders"), target)]))
    }

    #[test]
    fn columns_that_take_other_values_are_named() {
        let other = |facts: &mut Facts| {
            facts.tables = target(|columns| {
                for column in columns {
                    (column.ty, column.is_not_null) = ("smallint".to_owned(), true);
                }
            });
        };
        check(
            other,
            &expect![[r#"
                column_types: warning on subscriber, public.orders: Columns have other types on the subscriber: id is integer on the publisher and smallint there, note is text on the publisher and smallint there. Values travel as text, and one that does not fit stops replication. On the subscriber: ALTER TABLE "public"."orders" ALTER COLUMN "id" TYPE integer, ALTER COLUMN "note" TYPE text;
                not_null: warning on subscriber, public.orders: Columns may be null on the publisher, but not on the subscriber: note. The first null stops replication. On the subscriber: ALTER TABLE "public"."orders" ALTER COLUMN "note" DROP NOT NULL;
            "#]],
        );
        // A type that accepts every value does not count as another one.
        let wider = |facts: &mut Facts| {
            facts.tables = target(|columns| columns.iter_mut().for_each(|column| column.ty = "text".to_owned()));
        };
        check(wider, &expect![""]);
        check(
            |facts| facts.tables = target(|columns| drop(columns.pop())),
            &expect![[r#"
            columns_missing: error on subscriber, public.orders: It lacks published columns on the subscriber: note. Add the columns on the subscriber, or publish a column list without them.
        "#]],
        );
    }

    #[test]
    fn labels_that_are_missing_are_added() {
        let labels = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            BTreeMap::from([("public.mood".to_owned(), names)])
        };
        let lacks = |facts: &mut Facts| {
            facts.publisher.labels = labels(&["sad", "it's", "glad"]);
            facts.subscriber.labels = labels(&["sad", "other"]);
        };
        check(
            lacks,
            &expect![[r#"
                enum_labels: error on subscriber, public.mood: This enum lacks labels on the subscriber: it's, glad. The first row that has one of them stops replication. On the subscriber: ALTER TYPE public.mood ADD VALUE 'it''s'; ALTER TYPE public.mood ADD VALUE 'glad';
            "#]],
        );
    }

    #[test]
    fn rows_are_looked_for_by_what_the_publisher_sends() {
        let keys = |facts: &mut Facts, index: Vec<Index>| drop(facts.subscriber.indexes.insert(table("orders"), index));
        check(
            |facts| keys(facts, vec![]),
            &expect![[r#"
            destination_key: error on subscriber, public.orders: It has neither a primary key nor a replica identity there: the first UPDATE or DELETE stops replication. On the subscriber: ALTER TABLE "public"."orders" ADD PRIMARY KEY ("id");
        "#]],
        );
        let other = || Index { keys: vec![Some(ident("note"))], ..example::key("orders_pkey") };
        check(
            |facts| keys(facts, vec![other()]),
            &expect![[r#"
                destination_key: error on subscriber, public.orders: The subscriber looks for rows by columns that the publisher does not send as their identity: note. The first UPDATE or DELETE stops replication. Give it the publisher's primary key there, or on the publisher: ALTER TABLE "public"."orders" REPLICA IDENTITY FULL;
            "#]],
        );
        let inserts = |facts: &mut Facts| {
            keys(facts, vec![]);
            facts.publications[0].publish = BTreeSet::from([Operation::Insert, Operation::Truncate]);
        };
        check(inserts, &expect![[""]]);
    }

    #[test]
    fn guards_of_a_table_are_told_apart_by_side() {
        let guarded = |facts: &mut Facts| {
            for side in [&mut facts.publisher, &mut facts.subscriber] {
                let guards = side.guards.get_mut(&table("orders")).unwrap();
                (guards.hides_rows, guards.hides_rows_from_owner) = (true, true);
                guards.replica_triggers = vec![ident("log")];
            }
        };
        check(
            guarded,
            &expect![[r#"
                row_security: error on publisher, public.orders: Row security hides rows from role "me": they are missing from the copy, without an error. On the publisher, as a superuser: ALTER ROLE "me" BYPASSRLS; or let the subscription log in as the table's owner.
                row_security: error on subscriber, public.orders: Row security is forced on its owner, and rows are written as the owner: no row is replicated into it. On the subscriber: ALTER TABLE "public"."orders" NO FORCE ROW LEVEL SECURITY;
                replica_triggers: warning on subscriber, public.orders: Triggers fire for every row that is replicated, the copy included: log. If they should not, on the subscriber: ALTER TABLE "public"."orders" ENABLE TRIGGER "log";
            "#]],
        );
    }

    #[test]
    fn functions_without_a_path_are_named_with_who_calls_them() {
        let calls = |facts: &mut Facts| {
            let called = |by: &str| CalledFunction {
                name: table("app.check_it"),
                arguments: "text".to_owned(),
                by: by.to_owned(),
            };
            facts.subscriber.functions.insert(table("orders"), vec![called("a check"), called("an index")]);
            facts.publisher.functions.insert(table("orders"), vec![called("a check")]);
        };
        check(
            calls,
            &expect![[r#"
                search_path: warning on subscriber, app.check_it(text): It is called by a check of public.orders, an index of public.orders, and sets no search_path. Rows are replicated with an empty search_path: if it names a table, a type or another function without its schema, no row of the table arrives. On the subscriber: ALTER FUNCTION "app"."check_it"(text) SET search_path = "app", pg_temp;
            "#]],
        );
    }

    #[test]
    fn what_only_the_subscriber_demands_is_named() {
        let demands = |facts: &mut Facts| {
            let one = |name: &str, demand| Constraint { name: ident(name), demand, is_validated: true };
            let key = Demand::ForeignKey { references: table("customers") };
            let there = vec![one("positive", Demand::Check), one("once", Demand::Unique), one("whose", key)];
            facts.subscriber.constraints.insert(table("orders"), there);
            facts.publisher.constraints.insert(table("orders"), vec![one("positive", Demand::Check)]);
        };
        check(
            demands,
            &expect![[r#"
                more_constraints: warning on subscriber, public.orders: It has constraints on the subscriber that do not exist on the publisher, at least not under these names: once. The first row that violates one stops replication. On the subscriber, until the cutover: ALTER TABLE "public"."orders" DROP CONSTRAINT "once";
                foreign_keys: warning on subscriber, public.orders: It has foreign keys on the subscriber that do not exist on the publisher: whose. They are not checked for replicated rows, and a TRUNCATE of what they refer to stops replication. On the subscriber, until the cutover: ALTER TABLE "public"."orders" DROP CONSTRAINT "whose";
            "#]],
        );
    }

    #[test]
    fn rows_that_are_there_count_for_new_tables_alone() {
        let held = |facts: &mut Facts| {
            facts.with_rows.insert(table("orders"));
            facts.others.insert(table("orders"), ident("older"));
        };
        check(
            held,
            &expect![[r#"
                rows_on_subscriber: error on subscriber, public.orders: It holds rows before the copy. If the publisher has one of these rows too, copying it violates a primary key or another unique index, and the table is not replicated; without such an index the row exists twice. On the subscriber: TRUNCATE "public"."orders"; or set copy_data = false if the rows are the publisher's.
                subscribed_twice: warning on subscriber, public.orders: Subscription "older" already replicates into it, and both would write the same rows. Remove the table from one of the two.
            "#]],
        );
    }
}
