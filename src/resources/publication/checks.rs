// SPDX-License-Identifier: MPL-2.0

//! The plan's findings about the published tables: warnings, and errors if Postgres would refuse them or
//! `strict` is set.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::model::{Model, block_path};
use super::rights::{self, Said};
use crate::postgres::catalog::{self, Kind, Outline};
use crate::postgres::publication::{
    self, FilterColumns, Flaw, Gravity, Member, Operation, Part, Problem, Publication as Desired, Refused,
};
use crate::postgres::{Database, Ident, QualifiedName, ServerVersion};
use crate::replication::{Intended, names};
use crate::resources::server_check::go_on_without;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::resource::PlannedChange;

/// Checks a plan against the version and the tables of its server. A server that cannot be reached yet is not an error
/// for a new object: a warning says what was not checked.
pub(super) async fn check(
    change: &mut PlannedChange<Model>,
    database: &Database,
    doing: &str,
    desired: &Desired,
    intended: &Intended,
) -> Result<()> {
    let is_new = change.prior().is_none() || change.replaces();
    let (version, outline) = match ask(database).await {
        Ok(answer) => answer,
        Err(error) => {
            let unchecked = "It was not checked whether everything that is listed exists, and whether each table \
                             has the replica identity that updates and deletes need.";
            return go_on_without(change, error, doing, unchecked);
        }
    };
    let outline = intended.over_tables(database, outline);
    desired.check_supported(version).map_err(|unsupported| database.unsupported(doing, unsupported))?;
    let filters = match ask_of_members(change, database, doing, desired, &outline).await {
        Err(error) if error.is_locked() => {
            let what = "It was not checked whether Postgres accepts the column lists and row filters, and whether \
                        the filters use only columns of the replica identity.";
            change.warn(super::unchecked(doing, what, &error));
            FilterColumns::default()
        }
        filters => filters?,
    };
    check_rights(change, database, doing, desired).await?;
    let mut found = publication::flaws(desired, &outline, &filters, version);
    found.retain(|flaw| is_new || flaw.problem != Problem::WalLevel);
    report(change, doing, desired, &found);
    Ok(())
}

/// Reports missing rights.
async fn check_rights(
    change: &mut PlannedChange<Model>,
    database: &Database,
    doing: &str,
    desired: &Desired,
) -> Result<()> {
    let old = change.prior().filter(|_| !change.replaces()).and_then(|prior| super::desired(prior).ok());
    for said in rights::missing(database, doing, old.as_ref(), desired).await? {
        match said {
            Said::Refused(error) => change.error(error),
            Said::Warned(warning) => change.warn(warning),
        }
    }
    Ok(())
}

/// Tries the column lists and row filters on the server, and reports what it refuses. Returns the columns of the
/// filters.
async fn ask_of_members(
    change: &mut PlannedChange<Model>,
    database: &Database,
    doing: &str,
    desired: &Desired,
    outline: &Outline,
) -> crate::postgres::Result<FilterColumns> {
    report_refused(change, database, doing, desired, outline).await?;
    filter_columns(database, desired, outline).await
}

/// Reports refused column lists and row filters, each at its attribute.
async fn report_refused(
    change: &mut PlannedChange<Model>,
    database: &Database,
    doing: &str,
    desired: &Desired,
    outline: &Outline,
) -> crate::postgres::Result<()> {
    let is_table = |table: &QualifiedName| {
        outline.relations.get(table).is_some_and(|relation| !matches!(relation.kind, Kind::Other(_)))
    };
    let Some(planned) = change.planned().cloned() else { return Ok(()) };
    for Refused { table, part, error } in publication::refused(database, desired, is_table).await? {
        let (attribute, what) = match part {
            Part::Columns => ("columns", "the column list"),
            Part::Filter => ("where", "the row filter"),
        };
        let at =
            block_of(&planned, &table).map_or_else(AttributePath::default, |at| block_path(at).attribute(attribute));
        let message = Error::new(format!("{doing}: Postgres refuses {what} of {}: {}", table.to_text(), error.cause()));
        let message = message.detail(error.detail().unwrap_or_default()).detail(error.hint().unwrap_or_default());
        change.error(message.at(&at));
    }
    Ok(())
}

async fn ask(database: &Database) -> crate::postgres::Result<(ServerVersion, std::sync::Arc<Outline>)> {
    let outline = catalog::outline(database).await?;
    Ok((database.version().await?, outline))
}

/// The columns that the filters use. If the server cannot parse a filter, it will refuse it in the apply.
async fn filter_columns(
    database: &Database,
    desired: &Desired,
    outline: &Outline,
) -> crate::postgres::Result<FilterColumns> {
    let reads = publication::filters_to_read(desired, outline).map(async |(table, filter)| {
        match publication::read_filter(database, table, filter).await {
            Ok(read) => Ok(Some((table.clone(), read.columns))),
            Err(error) if error.code().is_some() && !error.is_connect() && !error.is_locked() => Ok(None),
            Err(error) => Err(error),
        }
    });
    let read: crate::postgres::Result<Vec<_>> = join_all(reads).await.into_iter().collect();
    Ok(read?.into_iter().flatten().collect())
}

/// One message for each problem of each attribute.
fn report(change: &mut PlannedChange<Model>, doing: &str, desired: &Desired, found: &[Flaw]) {
    let Some(planned) = change.planned().cloned() else { return };
    let strict = planned.strict.known() == Some(&true);
    let mut messages: BTreeMap<(AttributePath, Problem), BTreeSet<String>> = BTreeMap::new();
    for flaw in found {
        let names = messages.entry((path(&planned, flaw), flaw.problem)).or_default();
        match &flaw.member {
            Member::Schema(schema) if flaw.tables.is_empty() => drop(names.insert(schema.as_str().to_owned())),
            _ => names.extend(flaw.tables.iter().map(|(table, columns)| shown(table, columns))),
        }
    }
    for ((path, problem), names) in messages {
        let message = Error::new(format!("{doing}: {}", summary(problem, &names, desired)));
        let message = message.detail(remedy(problem)).at(&path);
        match problem.gravity() {
            Gravity::Refused => change.error(message),
            Gravity::Breaking if strict => change.error(message),
            Gravity::Breaking | Gravity::Passing => change.warn(message),
        }
    }
}

/// The attribute that causes the flaw.
fn path(planned: &Model, flaw: &Flaw) -> AttributePath {
    let table = match &flaw.member {
        Member::Table(table) => table,
        Member::Schema(_) => return AttributePath::of("schemas"),
        Member::AllTables => return AttributePath::of("all_tables"),
        Member::Whole => return AttributePath::default(),
    };
    match block_of(planned, table) {
        Some(at) => block_path(at).attribute(attribute(flaw.problem)),
        None => AttributePath::of("tables"),
    }
}

/// The index of the `table` block for this table.
fn block_of(planned: &Model, table: &QualifiedName) -> Option<usize> {
    let is_it = |text: Option<&String>| text.and_then(|text| QualifiedName::parse(text).ok()).as_ref() == Some(table);
    let blocks = planned.table.known().map(Vec::as_slice).unwrap_or_default();
    blocks.iter().position(|block| is_it(block.name.known()))
}

/// The attribute of a `table` block that a problem is about.
fn attribute(problem: Problem) -> &'static str {
    match problem {
        Problem::FilterOutsideIdentity | Problem::PartitionedFilter => "where",
        Problem::ColumnsWithoutIdentity | Problem::ColumnsOfFullIdentity | Problem::PartitionedColumns => "columns",
        _ => "name",
    }
}

fn shown(table: &QualifiedName, columns: &BTreeSet<Ident>) -> String {
    let names: Vec<_> = columns.iter().map(Ident::as_str).collect();
    if names.is_empty() { table.to_text() } else { format!("{} ({})", table.to_text(), names.join(", ")) }
}

/// The problem, with its tables.
fn summary(problem: Problem, names: &BTreeSet<String>, desired: &Desired) -> String {
    let names = names::list(names.iter().cloned());
    let published = |operation| desired.publish.contains(&operation);
    let fail = match (published(Operation::Update), published(Operation::Delete)) {
        (true, true) => "UPDATE and DELETE would fail on the publisher",
        (true, false) => "UPDATE would fail on the publisher",
        _ => "DELETE would fail on the publisher",
    };
    match problem {
        Problem::NoTable => format!("there is no table {names} yet"),
        Problem::NoSchema => format!("there is no schema {names} yet"),
        Problem::WalLevel => "wal_level of the server is not logical yet".to_owned(),
        Problem::NoIdentity => format!("{fail}, because these tables have no replica identity: {names}"),
        Problem::RootWithoutIdentity => format!(
            "UPDATE and DELETE of partitions would stop the replication, because the partitioned tables under whose name they are \
             sent have no replica identity: {names}"
        ),
        Problem::LessThanRoot => format!(
            "UPDATE and DELETE of partitions would get lost on the subscriber, without an error, because their \
             replica identity lacks columns that the one of the partitioned table has, under whose name they are \
             sent: {names}"
        ),
        Problem::FilterOutsideIdentity => {
            format!("{fail}, because the row filter uses columns outside the replica identity: {names}")
        }
        Problem::ColumnsWithoutIdentity => {
            format!("{fail}, because the column list lacks columns of the replica identity: {names}")
        }
        Problem::ColumnsOfFullIdentity => {
            format!("{fail}, because no column list covers REPLICA IDENTITY FULL: {names}")
        }
        Problem::GeneratedIdentity => {
            format!("{fail}, because generated columns of the replica identity are not published: {names}")
        }
        Problem::WrongKind(kind) => format!("{kind} cannot be published: {names}"),
        Problem::SystemSchema => format!("a schema of the system cannot be published: {names}"),
        Problem::PartitionedFilter => {
            format!("a row filter on a partitioned table needs publish_via_partition_root: {names}")
        }
        Problem::PartitionedColumns => {
            format!("a column list on a partitioned table needs publish_via_partition_root: {names}")
        }
    }
}

/// What to do about it.
fn remedy(problem: Problem) -> &'static str {
    match problem {
        Problem::NoTable | Problem::NoSchema => {
            "It must exist when this is applied. If something else in this configuration creates it, let this \
             resource depend on that. Names are taken literally: upper case is not folded."
        }
        Problem::WalLevel => {
            "Postgres creates the publication, but nobody can subscribe to it before wal_level is logical and the \
             server has been restarted."
        }
        Problem::NoIdentity => {
            "Postgres creates the publication, and refuses these statements from then on. Give each table a primary \
             key, or a neonrepl_replica_identity whose table this resource refers to (by hand: ALTER TABLE … \
             REPLICA IDENTITY FULL; or USING INDEX), or publish = [\"insert\", \"truncate\"] only."
        }
        Problem::RootWithoutIdentity => {
            "Postgres creates the publication and accepts these statements, because the partitions have an \
             identity; but subscribers cannot find the rows. Give the partitioned table a primary key, or a \
             neonrepl_replica_identity, which is one for all its partitions too; or set publish_via_partition_root \
             = false."
        }
        Problem::LessThanRoot => {
            "Postgres creates the publication and accepts these statements; but subscribers look for the rows by \
             columns that they do not get. Give the partitioned table a neonrepl_replica_identity, which is one for \
             all its partitions too (by hand: ALTER TABLE … REPLICA IDENTITY FULL; on each of these), or set \
             publish_via_partition_root = false."
        }
        Problem::FilterOutsideIdentity => {
            "Postgres creates the publication, and refuses these statements from then on. Use columns of the \
             replica identity alone, set REPLICA IDENTITY FULL as a neonrepl_replica_identity does, or publish = \
             [\"insert\", \"truncate\"] only."
        }
        Problem::ColumnsWithoutIdentity => {
            "Postgres creates the publication, and refuses these statements from then on. Add the missing columns, \
             or publish = [\"insert\", \"truncate\"] only."
        }
        Problem::ColumnsOfFullIdentity => {
            "Postgres creates the publication, and refuses these statements from then on. Leave columns out, give \
             the table a primary key and REPLICA IDENTITY DEFAULT, as a neonrepl_replica_identity does, or publish \
             = [\"insert\", \"truncate\"] only."
        }
        Problem::GeneratedIdentity => {
            "Since Postgres 18 the server creates the publication, and refuses these statements from then on. Set \
             publish_generated_columns = \"stored\" (virtual columns can never be published), give the table a \
             primary key and REPLICA IDENTITY DEFAULT, or publish = [\"insert\", \"truncate\"] only."
        }
        Problem::WrongKind(_) | Problem::SystemSchema => {
            "Postgres publishes ordinary and partitioned tables only. Leave it out."
        }
        Problem::PartitionedFilter | Problem::PartitionedColumns => {
            "Set publish_via_partition_root = true, or list the partitions instead."
        }
    }
}
