// SPDX-License-Identifier: MPL-2.0

//! The selected tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join3;

use crate::postgres::catalog::{Outline, outline};
use crate::postgres::publication::{self, Publication, Publications, Target};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::error::{Error, Result};
use crate::replication::{Intended, Pair, names};

/// The selected tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// By name.
    pub tables: BTreeSet<QualifiedName>,
    /// The sent columns of tables that have a column list in every publication.
    pub lists: BTreeMap<QualifiedName, BTreeSet<Ident>>,
    /// All relations of the publisher.
    pub outline: Arc<Outline>,
}

/// The tables of the publications in their planned state, and the tables given by name. None while the planned state of
/// a publication is unknown.
///
/// # Errors
/// When a publication or a table does not exist, or a query fails.
pub async fn published(
    pair: &Pair,
    (publications, tables): (&BTreeSet<Ident>, &BTreeSet<QualifiedName>),
    intended: Option<&Intended>,
) -> Result<Option<Published>> {
    let db = &pair.publisher;
    // The subscriber's connection is opened meanwhile.
    let asked = try_join3(publication::fetch_all(db), outline(db), pair.subscriber.version());
    let (existing, outline, _) = Box::pin(asked).await?;
    let (all, open) = match intended {
        Some(intended) => intended.over(db, &existing),
        None => ((*existing).clone(), BTreeSet::new()),
    };
    if !publications.is_disjoint(&open) {
        return Ok(None);
    }
    let publications = of(publications, &all)?;
    let sent = publication::sent(publications.iter().copied(), &outline, pair.older_version().await?);
    let absent: BTreeSet<_> = tables.iter().filter(|table| !outline.relations.contains_key(*table)).cloned().collect();
    if !absent.is_empty() {
        let what = format!("the publisher's database {:?} has no {}", db.name(), names::tables(&absent));
        return Err(Error::new(what).about("tables"));
    }
    let lists = lists(&publications, sent.tables.keys());
    Ok(Some(Published { tables: sent.tables.into_keys().chain(tables.iter().cloned()).collect(), lists, outline }))
}

/// The wanted publications.
fn of<'a>(wished: &BTreeSet<Ident>, all: &'a Publications) -> Result<Vec<&'a Publication>> {
    let missing: Vec<_> = wished.iter().filter(|name| !all.contains_key(*name)).collect();
    if let Some(name) = missing.first() {
        let what = format!("publication {name} does not exist");
        return Err(Error::new(what).detail("Create it first, or leave it out.").about("publications"));
    }
    Ok(wished.iter().filter_map(|name| all.get(name)).collect())
}

/// The sent columns of tables that no publication sends completely.
fn lists<'a>(
    publications: &[&Publication],
    tables: impl Iterator<Item = &'a QualifiedName>,
) -> BTreeMap<QualifiedName, BTreeSet<Ident>> {
    let list = |publication: &&Publication, table: &QualifiedName| match &publication.target {
        Target::AllTables => Some(None),
        Target::Lists { tables, schemas } => match tables.get(table) {
            Some(spec) => Some(spec.columns.clone()),
            None => schemas.contains(&table.schema).then_some(None),
        },
    };
    let sent = tables.filter_map(|table| {
        let lists: Vec<_> = publications.iter().filter_map(|publication| list(publication, table)).collect();
        let lists: Option<Vec<BTreeSet<Ident>>> = lists.into_iter().collect();
        let columns: BTreeSet<_> = lists?.into_iter().flatten().collect();
        (!columns.is_empty()).then(|| (table.clone(), columns))
    });
    sent.collect()
}
