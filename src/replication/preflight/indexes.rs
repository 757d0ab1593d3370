// SPDX-License-Identifier: MPL-2.0

//! Indexes that a copy or the changes after it need, and those that would slow it down or stop it.

use super::facts::{Facts, Side};
use crate::postgres::QualifiedName;
use crate::postgres::catalog::{Identity, Index};
use crate::postgres::version::RUN_AS_OWNER;
use crate::replication::{Finding, Place, Severity, names, units};

/// A table with more rows than this should not be scanned for each changed row.
const MANY_ROWS: u64 = 1_000_000;

/// Copying more bytes than this into a table with secondary indexes takes several times as long.
const LARGE_COPY: u64 = 1 << 30;

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let mut found = whole_rows(facts);
    found.extend(secondary(facts));
    found.extend([&facts.publisher, &facts.subscriber].into_iter().flat_map(invalid));
    found
}

/// Tables whose replica identity is the whole row: each change finds its row by an index, or scans the table.
fn whole_rows(facts: &Facts) -> Vec<Finding> {
    let is_whole = |table: &&QualifiedName| {
        let relation = facts.publisher.outline.relations.get(*table);
        let rows = facts.totals.get(*table).and_then(|extent| extent.rows).unwrap_or_default();
        relation.is_some_and(|relation| relation.identity == Identity::Full) && rows > MANY_ROWS
    };
    // Postgres 16 and later also use other indexes than the primary key.
    let any_index = facts.subscriber.version.has(RUN_AS_OWNER);
    let helps = |index: &Index| {
        index.is_valid
            && (index.is_primary
                || index.is_replica_identity
                || any_index && index.method == "btree" && !index.is_partial)
            && index.keys.first().is_some_and(Option::is_some)
    };
    let lacks = |table: &&QualifiedName| !facts.subscriber.indexes.get(*table).is_some_and(|all| all.iter().any(helps));
    let tables = facts.sent.tables.keys().filter(is_whole).filter(lacks);
    let found = tables.filter(|table| facts.subscriber.outline.relations.contains_key(*table)).map(|table| {
        let mend = if any_index {
            format!("On the subscriber: CREATE INDEX ON {table} (…); on a column that tells most rows apart.")
        } else {
            format!("Give it a primary key on both sides, and on the publisher: ALTER TABLE {table} REPLICA IDENTITY DEFAULT;")
        };
        Finding::new(Severity::Warning, "replica_identity_full", Place::Subscriber)
            .about(table.to_text())
            .says(
                "Its replica identity is the whole row, it has more than a million rows, and no index there helps \
                 to find a row: every UPDATE and DELETE scans the table.",
            )
            .mended_by(mend)
    });
    found.collect()
}

fn secondary(facts: &Facts) -> Vec<Finding> {
    let tables = facts.new_tables().filter_map(|table| {
        let bytes = facts.totals.get(table)?.bytes;
        let is_secondary = |index: &&Index| !index.is_of_constraint && !index.is_replica_identity;
        let indexes: Vec<_> = facts.subscriber.indexes.get(table)?.iter().filter(is_secondary).collect();
        (bytes > LARGE_COPY && !indexes.is_empty()).then_some((table, bytes, indexes))
    });
    let found = tables.map(|(table, bytes, indexes)| {
        let listed = names::list(indexes.iter().map(|index| index.name.as_str().to_owned()));
        let drops: Vec<_> = indexes.iter().map(|index| format!("{}.{}", table.schema, index.name)).collect();
        Finding::new(Severity::Warning, "secondary_indexes", Place::Subscriber)
            .about(table.to_text())
            .says(format!(
                "{} are to be copied into it, and it already has further indexes: {listed}. With them the copy \
                 takes several times as long as without, even including building them afterwards.",
                units::bytes(bytes)
            ))
            .mended_by(format!(
                "Drop them, and create them again after the copy. On the subscriber: DROP INDEX {};",
                drops.join(", ")
            ))
    });
    found.collect()
}

fn invalid(side: &Side) -> Vec<Finding> {
    let all = side.indexes.iter().flat_map(|(table, indexes)| indexes.iter().map(move |index| (table, index)));
    let found = all.filter(|(_, index)| !index.is_valid).map(|(table, index)| {
        let name = format!("{}.{}", table.schema, index.name);
        Finding::new(Severity::Warning, "invalid_index", side.place)
            .about(index.name.as_str())
            .says(format!(
                "This index of {} is not valid: its build did not finish. It slows down every write, and helps no \
                 query.",
                table.to_text()
            ))
            .mended_by(format!(
                "On the {}: REINDEX INDEX CONCURRENTLY {name}; or DROP INDEX {name};",
                side.place.as_str()
            ))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, shown, table};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    #[test]
    fn indexes_in_the_way_of_a_large_copy_are_named() {
        let further = |facts: &mut Facts| {
            let broken = Index { is_valid: false, ..example::further("by_note_2") };
            let indexes = vec![example::key("orders_pkey"), example::further("by_note"), broken];
            facts.subscriber.indexes.insert(table("orders"), indexes);
        };
        check(
            further,
            &expect![[r#"
                invalid_index: warning on subscriber, by_note_2: This index of public.orders is not valid: its build did not finish. It slows down every write, and helps no query. On the subscriber: REINDEX INDEX CONCURRENTLY "public"."by_note_2"; or DROP INDEX "public"."by_note_2";
            "#]],
        );
        let large = |facts: &mut Facts| {
            further(facts);
            facts.totals.get_mut(&table("orders")).unwrap().bytes = 5 << 30;
        };
        check(
            large,
            &expect![[r#"
                secondary_indexes: warning on subscriber, public.orders: 5.0 GiB are to be copied into it, and it already has further indexes: by_note, by_note_2. With them the copy takes several times as long as without, even including building them afterwards. Drop them, and create them again after the copy. On the subscriber: DROP INDEX "public"."by_note", "public"."by_note_2";
                invalid_index: warning on subscriber, by_note_2: This index of public.orders is not valid: its build did not finish. It slows down every write, and helps no query. On the subscriber: REINDEX INDEX CONCURRENTLY "public"."by_note_2"; or DROP INDEX "public"."by_note_2";
            "#]],
        );
    }

    #[test]
    fn whole_rows_need_an_index_that_the_version_uses() {
        let whole = |facts: &mut Facts, major: u32, index: Index| {
            let outline = std::sync::Arc::make_mut(&mut facts.publisher.outline);
            outline.relations.get_mut(&table("orders")).unwrap().identity = Identity::Full;
            facts.totals.get_mut(&table("orders")).unwrap().rows = Some(2_000_000);
            facts.subscriber.version = crate::postgres::ServerVersion::major_only(major);
            facts.subscriber.indexes.insert(table("orders"), vec![index]);
        };
        check(|facts| whole(facts, 15, example::key("orders_pkey")), &expect![[r#""#]]);
        check(|facts| whole(facts, 16, example::further("by_note")), &expect![[r#""#]]);
        check(
            |facts| whole(facts, 15, example::further("by_note")),
            &expect![[r#"
            replica_identity_full: warning on subscriber, public.orders: Its replica identity is the whole row, it has more than a million rows, and no index there helps to find a row: every UPDATE and DELETE scans the table. Give it a primary key on both sides, and on the publisher: ALTER TABLE "public"."orders" REPLICA IDENTITY DEFAULT;
        "#]],
        );
        let expression = Index { keys: vec![None], ..example::further("by_lower_note") };
        check(
            |facts| whole(facts, 16, expression.clone()),
            &expect![[r#"
            replica_identity_full: warning on subscriber, public.orders: Its replica identity is the whole row, it has more than a million rows, and no index there helps to find a row: every UPDATE and DELETE scans the table. On the subscriber: CREATE INDEX ON "public"."orders" (…); on a column that tells most rows apart.
        "#]],
        );
    }
}
