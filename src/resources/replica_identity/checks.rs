// SPDX-License-Identifier: MPL-2.0

//! The plan's checks of a choice: whether the server would refuse it, or it would break the application.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{self, Model};
use crate::config::Context;
use crate::postgres::catalog::{self, Identity, Kind, Outline, Relation};
use crate::postgres::publication::{self, FilterColumns, Problem, Publications, owned_by};
use crate::postgres::replica_identity::{self, Breaking, Choice, Tree};
use crate::postgres::{Database, Ident, QualifiedName};
use crate::replication::names;
use crate::resources::server_check::go_on_without;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// Checks a plan against the tables of its server, and records the planned tables for other resources of this run.
pub(super) async fn check(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let planned = change.planned().cloned().unwrap_or_default();
    let database = super::database(call, &planned)?;
    let Ok(table) = model::table(&planned) else { return Ok(()) };
    let doing = format!("planning the replica identity of table {}", table.to_text());
    let tree = match replica_identity::fetch(&database, &table).await {
        Ok(tree) => tree,
        Err(error) => {
            let unchecked = "Whether the table and its index are there, and whether a publication needs another identity, was not checked.";
            return go_on_without(change, error, &doing, unchecked);
        }
    };
    let Some(tree) = tree else { return say_missing(change, &database, &doing, &table).await };
    if let Some(error) = not_owned(&database, &doing, &tree) {
        change.error(error);
    }
    let Ok(choice) = model::choice(&planned) else { return Ok(()) };
    let parts = match parts(&database, &doing, &tree, &choice).await {
        Ok(parts) => parts,
        Err(error) => {
            change.error(error);
            return Ok(());
        }
    };
    let wanted = replica_identity::wanted(&tree, &choice, &parts);
    let (_, after) = foresee(&database, &tree, &wanted).await?;
    if choice == Choice::Default && after.values().any(|relation| relation.identity == Identity::Missing) {
        change.warn(keyless(&doing));
    }
    let found = broken(call, &database, &tree, &wanted).await?;
    if !found.is_empty() {
        change.error(refusal(&doing, &found, Some("identity")));
    }
    for (name, relation) in after {
        call.context().intended().relation(&database, &name, relation);
    }
    Ok(())
}

fn keyless(doing: &str) -> Error {
    Error::new(format!("{doing}: \"default\" does not identify its rows, because it has no primary key"))
        .detail("Give it a primary key, or choose \"full\", or \"index\" with a unique index.")
        .attribute("identity")
}

/// The message if there is no table of that name.
async fn say_missing(
    change: &mut PlannedChange<Model>,
    database: &Database,
    doing: &str,
    table: &QualifiedName,
) -> Result<()> {
    let outline = catalog::outline(database).await?;
    let other = match outline.relations.get(table).map(|relation| relation.kind) {
        Some(Kind::Other(kind)) => Some(kind),
        _ => None,
    };
    match other {
        Some(kind) => change.error(
            Error::new(format!("{doing}: it is {kind}, which has no replica identity"))
                .detail("Name an ordinary or a partitioned table.")
                .attribute("table"),
        ),
        None => change.warn(
            Error::new(format!("{doing}: there is no such table in database {:?} yet", database.name()))
                .detail(
                    "It must exist when this is applied. If something else in this configuration creates it, let \
                     this resource depend on that. Names are taken literally: upper case is not folded.",
                )
                .attribute("table"),
        ),
    }
    Ok(())
}

/// Only owners may change a table.
fn not_owned(database: &Database, doing: &str, tree: &Tree) -> Option<Error> {
    let foreign: Vec<_> = tree.members.iter().filter(|(_, member)| !member.is_owned).collect();
    let names = foreign.iter().map(|(name, member)| format!("{} of {}", name.to_text(), member.owner));
    let address = database.config().address();
    let role = Ident::new(database.config().username.as_str()).map_or_else(|_| String::new(), |role| role.to_string());
    let statements =
        foreign.iter().take(names::SHOWN).map(|(name, _)| owned_by(name, &role)).collect::<Vec<_>>().join(" ");
    (!foreign.is_empty()).then(|| {
        Error::new(format!("{doing}: role {role} must own it, and does not own: {}", names::list(names)))
            .detail(format!(
                "On {address}, in database {:?}, as their owner or a superuser: {statements} Or connect as their owner.",
                database.name()
            ))
            .attribute("table")
    })
}

/// The index of each member for this choice; none if it is not an index.
///
/// # Errors
/// When the index does not exist, or cannot be a replica identity, at the attribute.
pub(super) async fn parts(
    database: &Database,
    doing: &str,
    tree: &Tree,
    choice: &Choice,
) -> Result<BTreeMap<QualifiedName, Ident>> {
    let Choice::Index(index) = choice else { return Ok(BTreeMap::new()) };
    let only = BTreeSet::from([tree.table.clone()]);
    let indexes = catalog::indexes(database, &only).await?;
    let tables = catalog::tables(database, &only, None).await?;
    let indexes = indexes.get(&tree.table).map(Vec::as_slice).unwrap_or_default();
    let columns = tables.get(&tree.table).map(|table| table.columns.as_slice()).unwrap_or_default();
    let error = |what: String| {
        Error::new(format!("{doing}: index {index} cannot identify its rows: {what}")).attribute("index")
    };
    if let Some(why) = replica_identity::unsuitable(index, indexes, columns) {
        let others = indexes.iter().map(|index| &index.name);
        let usable = others.filter(|name| replica_identity::unsuitable(name, indexes, columns).is_none());
        let usable: Vec<_> = usable.map(|name| name.as_str().to_owned()).collect();
        let remedy = match usable.is_empty() {
            true => "It has no index that can. Create a unique one on columns that are NOT NULL, or set identity = \
                 \"full\"."
                .to_owned(),
            false => format!("Those that can: {}.", names::list(usable)),
        };
        return Err(error(why.describe()).detail(remedy));
    }
    let parts = replica_identity::parts(database, &tree.table, index).await?;
    match replica_identity::without_part(tree, &parts).as_slice() {
        [] => Ok(parts),
        lacking => {
            Err(error(format!("partitions have no index attached to it: {}", names::tables(lacking.iter().copied())))
                .detail(
                    "Create the index on the partitioned table without ONLY, or attach each partition's own index \
                 to it.",
                ))
        }
    }
}

/// Relations by their names.
type Relations = BTreeMap<QualifiedName, Relation>;

/// The relations before and after these choices.
async fn foresee(
    database: &Database,
    tree: &Tree,
    wanted: &BTreeMap<QualifiedName, Choice>,
) -> Result<(Relations, Relations)> {
    let (mut before, mut after) = (Relations::new(), Relations::new());
    if wanted.is_empty() {
        return Ok((before, after));
    }
    let names: BTreeSet<_> = wanted.keys().cloned().collect();
    let outline = catalog::outline(database).await?;
    let tables = catalog::tables(database, &names, None).await?;
    let indexes = catalog::indexes(database, &names).await?;
    for (name, choice) in wanted {
        let (relation, table, member) = (outline.relations.get(name), tables.get(name), tree.members.get(name));
        let (Some(relation), Some(table), Some(member)) = (relation, table, member) else { continue };
        // Nothing depends on a partitioned table's own choice.
        if relation.kind == Kind::Table {
            let indexes = indexes.get(name).map(Vec::as_slice).unwrap_or_default();
            // The outline may be from before a change of ours.
            let chosen = |choice| (name.clone(), replica_identity::chosen(relation, choice, table, indexes));
            before.extend([chosen(&member.choice)]);
            after.extend([chosen(choice)]);
        }
    }
    Ok((before, after))
}

/// What these choices would break, in existing and planned publications.
pub(super) async fn broken(
    call: &Call<Context>,
    database: &Database,
    tree: &Tree,
    wanted: &BTreeMap<QualifiedName, Choice>,
) -> Result<Vec<Breaking>> {
    let (before, after) = foresee(database, tree, wanted).await?;
    let existing = publication::fetch_all(database).await?;
    if after.is_empty() || existing.is_empty() {
        return Ok(Vec::new());
    }
    let (publications, _) = call.context().intended().over(database, &existing);
    let outline = catalog::outline(database).await?;
    let (before, changed) = (around(&outline, &before), around(&outline, &after));
    let filters = filters(database, &publications, &changed).await?;
    let version = database.version().await?;
    Ok(replica_identity::breaking(&publications, &before, &changed, &filters, version))
}

/// Only these relations and their ancestors, because a database may have very many.
fn around(all: &Outline, those: &Relations) -> Outline {
    let mut outline = Outline { schemas: all.schemas.clone(), wal_level: all.wal_level.clone(), ..Outline::default() };
    let ancestors: BTreeSet<_> = those.values().flat_map(|relation| &relation.ancestors).collect();
    let ancestors = ancestors.into_iter().filter_map(|name| Some((name, all.relations.get(name)?)));
    for (name, relation) in ancestors.chain(those) {
        outline.insert(name.clone(), relation.clone());
    }
    outline
}

/// The columns that the row filters on these relations use. Skips a filter that cannot be read.
async fn filters(
    database: &Database,
    publications: &Publications,
    changed: &Outline,
) -> Result<BTreeMap<Ident, FilterColumns>> {
    let mut found: BTreeMap<Ident, FilterColumns> = BTreeMap::new();
    for publication in publications.values() {
        for (table, filter) in publication::filters_to_read(publication, changed) {
            match publication::read_filter(database, table, filter).await {
                Ok(read) => {
                    found.entry(publication.name.clone()).or_default().insert(table.clone(), read.columns);
                }
                Err(error) if error.code().is_some() && !error.is_connect() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(found)
}

/// The refusal of choices that would break something.
pub(super) fn refusal(doing: &str, found: &[Breaking], attribute: Option<&str>) -> Error {
    let cases: BTreeSet<_> = found.iter().map(|one| (one.table.to_text(), &one.publication, one.problem)).collect();
    let cases = cases
        .iter()
        .map(|(table, publication, problem)| format!("{table} in publication {publication} ({})", why(*problem)));
    let is_of_root = |one: &Breaking| matches!(one.problem, Problem::RootWithoutIdentity | Problem::LessThanRoot);
    let fail = if found.iter().all(is_of_root) { "not reach subscribers" } else { "fail on the publisher" };
    let error = Error::new(format!("{doing}: UPDATE and DELETE would {fail}: {}", names::list(cases))).detail(
        "Nothing was changed. Take the table out of the publication, publish only inserts and truncates, or let it publish \
         what the identity needs, and apply that first.",
    );
    match attribute {
        Some(attribute) => error.attribute(attribute),
        None => error.detail("With skip_destroy = true, applied first, the table stays as it is."),
    }
}

fn why(problem: Problem) -> &'static str {
    match problem {
        Problem::FilterOutsideIdentity => "its row filter uses columns outside the identity",
        Problem::ColumnsWithoutIdentity => "its column list lacks columns of the identity",
        Problem::ColumnsOfFullIdentity => "no column list covers \"full\"",
        Problem::RootWithoutIdentity => "its partitions are sent under its name, and would have no replica identity",
        Problem::LessThanRoot => "it is sent under the name of a partitioned table that has another identity",
        Problem::GeneratedIdentity => "generated columns of the identity are not published",
        _ => "it would have no replica identity",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_each_table_once_with_its_publication() {
        let one = |table: &str, problem| Breaking {
            publication: Ident::new("shop").unwrap(),
            table: QualifiedName::parse(table).unwrap(),
            problem,
        };
        let found =
            [one("a", Problem::NoIdentity), one("a", Problem::NoIdentity), one("b", Problem::ColumnsOfFullIdentity)];
        let text = refusal("planning", &found, Some("identity")).to_string();
        let says = "planning: UPDATE and DELETE would fail on the publisher: public.a in publication \"shop\" (it \
                    would have no replica identity), public.b in publication \"shop\" (no column list covers \
                    \"full\")";
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("skip_destroy"));
        assert!(refusal("destroying", &found, None).to_string().contains("skip_destroy = true"));
    }
}
