// SPDX-License-Identifier: MPL-2.0

//! Finds problems of publishing the tables: what Postgres refuses, and what it accepts although the application's
//! statements then fail.

use std::collections::BTreeSet;

use super::facts::{Facts, Side};
use crate::postgres::catalog::{Identity, Index, ReplicaIdentity};
use crate::postgres::publication::{
    self, FilterColumns, Flaw, Member, Operation, Problem, Publication, TableSpec, Target,
};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::{Finding, Place, Severity, names};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    let side = &facts.publisher;
    let none = FilterColumns::default();
    let flaws = facts.publications.iter().flat_map(|publication| {
        let filters = facts.filters.get(&publication.name).unwrap_or(&none);
        let flaws = publication::flaws(publication, &side.outline, filters, side.version);
        flaws.into_iter().flat_map(move |flaw| described(side, publication, &flaw))
    });
    let mut found: Vec<_> = flaws.collect();
    found.extend(facts.missing.iter().map(|name| missing(facts, name)));
    found.extend(backslashes(facts));
    found.extend(facts.publications.iter().filter_map(part_of_the_changes));
    found.extend(facts.publications.iter().filter_map(part_of_the_rows));
    if facts.question.reverse {
        found.extend(way_back(facts));
    }
    found
}

fn missing(facts: &Facts, name: &Ident) -> Finding {
    let planned = !facts.unpublished.is_empty();
    let severity = if planned { Severity::Warning } else { Severity::Error };
    let says = format!(
        "There is no publication {name} in database {:?}. A subscription that is created before its publication \
         stops at the first change that is older than the publication.",
        facts.publisher.database
    );
    let tables: Vec<_> = facts.unpublished.iter().take(20).map(ToString::to_string).collect();
    let tables = match facts.unpublished.len().saturating_sub(tables.len()) {
        _ if tables.is_empty() => "…".to_owned(),
        0 => tables.join(", "),
        _ => format!("{}, …", tables.join(", ")),
    };
    let mend = format!(
        "Create it before the subscription, with a neonrepl_publication or on the publisher: CREATE PUBLICATION \
         {name} FOR TABLE {tables};"
    );
    Finding::new(severity, "publication_missing", Place::Publisher).about(name.as_str()).says(says).mended_by(mend)
}

fn backslashes(facts: &Facts) -> Vec<Finding> {
    let unusable = facts.question.publications.iter().filter(|name| !publication::can_be_subscribed_to(name.as_str()));
    let found = unusable.map(|name| {
        Finding::new(Severity::Error, "publication_name", Place::Publisher)
            .about(name.as_str())
            .says("The name of the publication holds a backslash: a subscription to it never replicates anything.")
            .mended_by(format!("On the publisher: ALTER PUBLICATION {name} RENAME TO \"…\";"))
    });
    found.collect()
}

/// Both sides will differ if some kinds of changes are not sent.
fn part_of_the_changes(publication: &Publication) -> Option<Finding> {
    let left: Vec<_> =
        Operation::ALL.into_iter().filter(|one| !publication.publish.contains(one)).map(Operation::as_str).collect();
    let found = Finding::new(Severity::Warning, "publish", Place::Publisher)
        .about(publication.name.as_str())
        .says(format!("It does not publish {}: the subscriber keeps rows as they were before.", left.join(", ")))
        .mended_by(format!(
            "On the publisher: ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');",
            publication.name
        ));
    (!left.is_empty()).then_some(found)
}

fn part_of_the_rows(publication: &Publication) -> Option<Finding> {
    let Target::Lists { tables, .. } = &publication.target else { return None };
    let is_part = |spec: &TableSpec| spec.columns.is_some() || spec.filter.is_some();
    let parts: Vec<_> = tables.iter().filter(|(_, spec)| is_part(spec)).map(|(table, _)| table.to_text()).collect();
    let found = Finding::new(Severity::Info, "part_of_rows", Place::Publisher).about(publication.name.as_str()).says(
        format!("It publishes only some of the rows or columns of these tables: {}.", names::list(parts.clone())),
    );
    (!parts.is_empty()).then_some(found)
}

/// One finding for each table of a flaw, or one if it has no tables.
fn described(side: &Side, publication: &Publication, flaw: &Flaw) -> Vec<Finding> {
    if flaw.problem == Problem::WalLevel {
        // Another check reports it for every server.
        return Vec::new();
    }
    if let (Member::Schema(schema), true) = (&flaw.member, flaw.tables.is_empty()) {
        let says = format!("Schema {schema} cannot be published: {}.", words(flaw.problem, &BTreeSet::new()));
        return vec![of(side, flaw.problem).about(schema.as_str()).says(says)];
    }
    let found = flaw.tables.iter().map(|(table, columns)| {
        of(side, flaw.problem).about(table.to_text()).says(sentence(flaw.problem, columns)).mended_by(remedy(
            side,
            publication,
            flaw.problem,
            table,
        ))
    });
    found.collect()
}

fn of(side: &Side, problem: Problem) -> Finding {
    let check = match problem {
        Problem::NoTable => "table_missing",
        Problem::NoSchema => "schema_missing",
        Problem::WrongKind(_) | Problem::SystemSchema => "not_publishable",
        Problem::NoIdentity
        | Problem::RootWithoutIdentity
        | Problem::LessThanRoot
        | Problem::GeneratedIdentity
        | Problem::WalLevel => "replica_identity",
        Problem::FilterOutsideIdentity | Problem::PartitionedFilter => "row_filter",
        Problem::ColumnsWithoutIdentity | Problem::ColumnsOfFullIdentity | Problem::PartitionedColumns => "column_list",
    };
    Finding::new(Severity::Error, check, side.place)
}

fn sentence(problem: Problem, columns: &BTreeSet<Ident>) -> String {
    let words = words(problem, columns);
    match problem {
        Problem::NoTable
        | Problem::NoSchema
        | Problem::WrongKind(_)
        | Problem::SystemSchema
        | Problem::PartitionedFilter
        | Problem::PartitionedColumns
        | Problem::WalLevel => format!("It cannot be published: {words}."),
        Problem::RootWithoutIdentity => format!("UPDATE and DELETE of its partitions stop the replication: {words}."),
        Problem::LessThanRoot => {
            format!("UPDATE and DELETE of it get lost on the subscriber, without an error: {words}.")
        }
        _ => format!("UPDATE and DELETE fail on it once it is published: {words}."),
    }
}

fn words(problem: Problem, columns: &BTreeSet<Ident>) -> String {
    let columns = columns.iter().map(Ident::as_str).collect::<Vec<_>>().join(", ");
    match problem {
        Problem::NoTable => "there is no such table".to_owned(),
        Problem::NoSchema => "there is no such schema".to_owned(),
        Problem::WalLevel => "wal_level is not logical".to_owned(),
        Problem::NoIdentity => "it has no replica identity, so the row cannot be found".to_owned(),
        Problem::RootWithoutIdentity => {
            "their rows are sent under its name, and it has no replica identity, so the row cannot be found".to_owned()
        }
        Problem::LessThanRoot if columns.is_empty() => {
            "it is sent under the name of a partitioned table whose replica identity is the whole row, and its own \
             is not"
                .to_owned()
        }
        Problem::LessThanRoot => format!(
            "it is sent under the name of a partitioned table whose replica identity has columns that its own lacks ({columns})"
        ),
        Problem::FilterOutsideIdentity => {
            format!("the row filter uses columns outside the replica identity ({columns})")
        }
        Problem::ColumnsWithoutIdentity => format!("the column list lacks columns of the replica identity ({columns})"),
        Problem::ColumnsOfFullIdentity => "no column list covers REPLICA IDENTITY FULL".to_owned(),
        Problem::GeneratedIdentity => {
            format!("generated columns of the replica identity are not published ({columns})")
        }
        Problem::WrongKind(kind) => format!("it is {kind}"),
        Problem::SystemSchema => "it belongs to the system".to_owned(),
        Problem::PartitionedFilter => "a row filter on a partitioned table needs publish_via_partition_root".to_owned(),
        Problem::PartitionedColumns => {
            "a column list on a partitioned table needs publish_via_partition_root".to_owned()
        }
    }
}

fn remedy(side: &Side, publication: &Publication, problem: Problem, table: &QualifiedName) -> String {
    let (server, name) = (side.place.as_str(), &publication.name);
    match problem {
        Problem::NoTable | Problem::NoSchema => {
            "Create it first, or leave it out. Names are taken literally: upper case is not folded.".to_owned()
        }
        Problem::NoIdentity => identity_remedy(side, table),
        Problem::RootWithoutIdentity => root_remedy(side, publication, table),
        Problem::LessThanRoot => format!("On the {server}: ALTER TABLE {table} REPLICA IDENTITY FULL;"),
        Problem::WrongKind(_) | Problem::SystemSchema => {
            "Leave it out: Postgres publishes ordinary and partitioned tables only.".to_owned()
        }
        Problem::FilterOutsideIdentity | Problem::GeneratedIdentity => {
            format!("On the {server}: ALTER TABLE {table} REPLICA IDENTITY FULL;")
        }
        Problem::ColumnsWithoutIdentity | Problem::ColumnsOfFullIdentity => format!(
            "Publish the columns of its primary key too, and on the {server}: ALTER TABLE {table} REPLICA IDENTITY DEFAULT;"
        ),
        Problem::PartitionedFilter | Problem::PartitionedColumns => {
            format!("On the {server}: ALTER PUBLICATION {name} SET (publish_via_partition_root = true);")
        }
        Problem::WalLevel => String::new(),
    }
}

/// The resource that makes the same choice.
const MANAGED: &str = " A neonrepl_replica_identity does the same.";

/// The remedy that gives a partitioned table a replica identity that its partitions have too.
fn root_remedy(side: &Side, publication: &Publication, table: &QualifiedName) -> String {
    let (server, name) = (side.place.as_str(), &publication.name);
    let has_primary_key = side.outline.relations.get(table).is_some_and(|relation| relation.has_primary_key);
    let first = if has_primary_key {
        format!("On the {server}: ALTER TABLE {table} REPLICA IDENTITY DEFAULT;")
    } else {
        "Give it a primary key".to_owned()
    };
    format!(
        "{first} or, on the {server}: ALTER PUBLICATION {name} SET (publish_via_partition_root = false); A neonrepl_replica_identity \
         of it sets the same for all its partitions."
    )
}

/// The remedy that gives a table a replica identity: its primary key if it has one, otherwise a suitable index,
/// otherwise the whole row.
fn identity_remedy(side: &Side, table: &QualifiedName) -> String {
    let has_key = side.outline.relations.get(table).is_some_and(|relation| relation.has_primary_key);
    let indexes = side.indexes.get(table).map(Vec::as_slice).unwrap_or_default();
    let may_identify = |index: &&Index| {
        index.is_unique && index.is_valid && index.is_immediate && !index.is_partial && index.columns().is_some()
    };
    let alter = format!("On the {}: ALTER TABLE {table}", side.place.as_str());
    match indexes.iter().filter(|index| !index.is_primary).find(may_identify) {
        _ if has_key => format!("{alter} REPLICA IDENTITY DEFAULT;{MANAGED}"),
        Some(index) => format!(
            "{alter} REPLICA IDENTITY USING INDEX {}; if its columns are NOT NULL, else ALTER TABLE {table} REPLICA IDENTITY FULL;{MANAGED}",
            index.name
        ),
        None => format!("{alter} REPLICA IDENTITY FULL;{MANAGED} Or, better, give it a primary key."),
    }
}

/// The subscriber's tables whose changes will flow back.
fn way_back(facts: &Facts) -> Vec<Finding> {
    let side = &facts.subscriber;
    let lacks = facts.sent.tables.keys().filter(|table| {
        let relation = side.outline.relations.get(*table);
        relation.is_some_and(|relation| {
            relation.identity == Identity::Missing && relation.replica_identity != ReplicaIdentity::Full
        }) && !side.outline.partitions.contains_key(*table)
    });
    let found = lacks.map(|table| {
        Finding::new(Severity::Error, "replica_identity", Place::Subscriber)
            .about(table.to_text())
            .says("When changes flow back, UPDATE and DELETE fail on it: it has no replica identity there.")
            .mended_by(identity_remedy(side, table))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, ident, shown, table};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    #[test]
    fn publications_that_are_missing_or_send_less_are_named() {
        let missing = |facts: &mut Facts| facts.missing.push(ident("other"));
        check(
            missing,
            &expect![[r#"
            publication_missing: error on publisher, other: There is no publication "other" in database "shop". A subscription that is created before its publication stops at the first change that is older than the publication. Create it before the subscription, with a neonrepl_publication or on the publisher: CREATE PUBLICATION "other" FOR TABLE …;
        "#]],
        );
        let planned = |facts: &mut Facts| {
            missing(facts);
            facts.unpublished.insert(table("orders"));
        };
        check(
            planned,
            &expect![[r#"
            publication_missing: warning on publisher, other: There is no publication "other" in database "shop". A subscription that is created before its publication stops at the first change that is older than the publication. Create it before the subscription, with a neonrepl_publication or on the publisher: CREATE PUBLICATION "other" FOR TABLE "public"."orders";
        "#]],
        );
        let less = |facts: &mut Facts| {
            let spec = TableSpec { columns: Some(BTreeSet::from([ident("id")])), filter: None };
            let tables = std::collections::BTreeMap::from([(table("orders"), spec)]);
            facts.publications[0].target = Target::Lists { tables, schemas: BTreeSet::new() };
            facts.publications[0].publish = BTreeSet::from([Operation::Insert]);
        };
        check(
            less,
            &expect![[r#"
                publish: warning on publisher, shop: It does not publish update, delete, truncate: the subscriber keeps rows as they were before. On the publisher: ALTER PUBLICATION "shop" SET (publish = 'insert, update, delete, truncate');
                part_of_rows: info on publisher, shop: It publishes only some of the rows or columns of these tables: public.orders.
            "#]],
        );
    }

    #[test]
    fn a_table_without_identity_gets_the_statement_that_suits_it() {
        let bare = |facts: &mut Facts, has_key: bool, index: &[Index]| {
            let outline = std::sync::Arc::make_mut(&mut facts.publisher.outline);
            let relation = outline.relations.get_mut(&table("orders")).unwrap();
            (relation.identity, relation.has_primary_key) = (Identity::Missing, has_key);
            facts.publisher.indexes.insert(table("orders"), index.to_vec());
        };
        check(
            |facts| bare(facts, false, &[]),
            &expect![[r#"
                replica_identity: error on publisher, public.orders: UPDATE and DELETE fail on it once it is published: it has no replica identity, so the row cannot be found. On the publisher: ALTER TABLE "public"."orders" REPLICA IDENTITY FULL; A neonrepl_replica_identity does the same. Or, better, give it a primary key.
            "#]],
        );
        check(
            |facts| bare(facts, true, &[]),
            &expect![[r#"
                replica_identity: error on publisher, public.orders: UPDATE and DELETE fail on it once it is published: it has no replica identity, so the row cannot be found. On the publisher: ALTER TABLE "public"."orders" REPLICA IDENTITY DEFAULT; A neonrepl_replica_identity does the same.
            "#]],
        );
        let unique = Index { is_primary: false, ..example::key("orders_id") };
        check(
            |facts| bare(facts, false, std::slice::from_ref(&unique)),
            &expect![[r#"
                replica_identity: error on publisher, public.orders: UPDATE and DELETE fail on it once it is published: it has no replica identity, so the row cannot be found. On the publisher: ALTER TABLE "public"."orders" REPLICA IDENTITY USING INDEX "orders_id"; if its columns are NOT NULL, else ALTER TABLE "public"."orders" REPLICA IDENTITY FULL; A neonrepl_replica_identity does the same.
            "#]],
        );
    }
}
