// SPDX-License-Identifier: MPL-2.0

//! Counts objects that replication does not copy, so that they are no surprise later.

use super::facts::Facts;
use crate::postgres::catalog::{Kind, LeftBehind, LeftKind};
use crate::replication::{Finding, Place, Severity, names, units};

pub(super) fn find(facts: &Facts) -> Vec<Finding> {
    facts.left_behind.iter().map(left).chain(tables(facts)).collect()
}

fn left(left: &LeftBehind) -> Finding {
    let LeftBehind { kind, count, examples } = left;
    let more = if u64::try_from(examples.len()).unwrap_or(u64::MAX) < *count { " …" } else { "" };
    let is_one = *count == 1;
    let what = match kind {
        LeftKind::Sequences => "values of sequences are not replicated",
        LeftKind::LargeObjects => "large objects are not replicated",
        LeftKind::UnloggedTables => "rows of unlogged tables are not replicated",
        LeftKind::MaterializedViews => "materialized views are neither created nor refreshed",
        _ if is_one => "it is not created on the subscriber",
        _ => "they are not created on the subscriber",
    };
    let counted = if is_one { one(*kind) } else { kind.as_str() };
    Finding::new(Severity::Info, "not_replicated", Place::Publisher)
        .about(kind.as_str())
        .says(format!("{} {counted}: {what}. {}{more}", units::count(*count), examples.join(", ")))
        .mended_by(step(*kind))
}

/// The kind in the singular.
fn one(kind: LeftKind) -> &'static str {
    match kind {
        LeftKind::LargeObjects => "large object",
        LeftKind::UnloggedTables => "unlogged table",
        LeftKind::ForeignTables => "foreign table",
        LeftKind::Views => "view",
        LeftKind::MaterializedViews => "materialized view",
        LeftKind::Functions => "function or procedure",
        LeftKind::Types => "type or domain",
        LeftKind::Triggers => "trigger",
        LeftKind::EventTriggers => "event trigger",
        LeftKind::Policies => "row security policy",
        LeftKind::Rules => "rule",
        LeftKind::Sequences => "sequence",
        LeftKind::Roles => "role",
        LeftKind::Extensions => "extension",
        LeftKind::ForeignServers => "foreign server",
        LeftKind::DatabaseSettings => "setting of the database",
        LeftKind::DefaultPrivileges => "rule of default privileges",
        LeftKind::CronJobs => "job of pg_cron",
    }
}

/// What to do about it.
fn step(kind: LeftKind) -> &'static str {
    match kind {
        LeftKind::LargeObjects => {
            "Move them with pg_dump --large-objects while nothing writes, or into a bytea column first."
        }
        LeftKind::UnloggedTables => {
            "Copy them at the cutover, or on the publisher: ALTER TABLE … SET LOGGED; and publish them."
        }
        LeftKind::Sequences => "Copy their values at the cutover, once nothing writes.",
        LeftKind::Roles => "Create them on the subscriber, with their own passwords, and grant what they need.",
        LeftKind::Extensions => "Create them on the subscriber: CREATE EXTENSION …;",
        LeftKind::ForeignTables | LeftKind::ForeignServers => {
            "Create them on the subscriber, with their user mappings, if it can reach the other server."
        }
        LeftKind::DatabaseSettings => "Set on the subscriber what should apply there: ALTER DATABASE … SET …;",
        LeftKind::DefaultPrivileges => "Set on the subscriber what should apply there: ALTER DEFAULT PRIVILEGES …;",
        LeftKind::CronJobs => "Schedule them on the subscriber at the cutover, and unschedule them on the publisher.",
        LeftKind::EventTriggers => "Create them on the subscriber if they are still needed; that needs a superuser.",
        LeftKind::MaterializedViews => {
            "Create them on the subscriber (pg_dump --schema-only), and refresh them after the cutover."
        }
        LeftKind::Views
        | LeftKind::Functions
        | LeftKind::Types
        | LeftKind::Triggers
        | LeftKind::Policies
        | LeftKind::Rules => "Create them on the subscriber, for instance from pg_dump --schema-only.",
    }
}

/// The tables of the database that are not selected.
fn tables(facts: &Facts) -> Option<Finding> {
    let is_left = |(name, relation): &(&_, &crate::postgres::catalog::Relation)| {
        relation.kind == Kind::Table && !facts.sent.routes.contains_key(*name)
    };
    let relations = &facts.publisher.outline.relations;
    let left: Vec<_> = relations.iter().filter(is_left).map(|(name, _)| name.to_text()).collect();
    if left.is_empty() {
        return None;
    }
    let (are, mend) = match left.len() {
        1 => ("is", "To move it, publish it too."),
        _ => ("are", "To move them, publish them too."),
    };
    let found = Finding::new(Severity::Info, "not_published", Place::Publisher).about("tables").says(format!(
        "{} of the database {are} not replicated: {}.",
        units::counted(left.len(), "table"),
        names::list(left)
    ));
    Some(found.mended_by(mend))
}

#[cfg(test)]
mod tests {
    use super::super::example::{self, shown};
    use super::*;
    use expect_test::{Expect, expect};

    fn check(change: impl Fn(&mut Facts), expected: &Expect) {
        let mut facts = example::facts();
        change(&mut facts);
        expected.assert_eq(&shown(&find(&facts)));
    }

    #[test]
    fn what_stays_is_counted_by_kind() {
        let left = |facts: &mut Facts| {
            let views = vec!["public.a".to_owned(), "public.b".to_owned()];
            facts.left_behind.push(LeftBehind { kind: LeftKind::Views, count: 7, examples: views });
            let outline = std::sync::Arc::make_mut(&mut facts.publisher.outline);
            let relation = outline.relations.values().next().unwrap().clone();
            outline.relations.insert(example::table("invoices"), relation);
        };
        check(
            left,
            &expect![[r#"
                not_replicated: info on publisher, views: 7 views: they are not created on the subscriber. public.a, public.b … Create them on the subscriber, for instance from pg_dump --schema-only.
                not_published: info on publisher, tables: 1 table of the database is not replicated: public.invoices. To move it, publish it too.
            "#]],
        );
    }

    #[test]
    fn every_kind_has_a_step() {
        assert!(LeftKind::ALL.into_iter().all(|kind| step(kind).ends_with(['.', ';'])));
    }
}
