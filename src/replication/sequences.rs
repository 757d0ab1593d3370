// SPDX-License-Identifier: MPL-2.0

//! Sequences copied from one side to the other, whose values no subscription carries.
//!
//! Two steps, so that the second is short while writers wait: [`prepare`] finds out which sequence goes on where which other
//! one is, with all that can be refused by then, and [`copy`] reads how far they are and raises the others. Either side may be
//! the one that is copied from.

mod deciding;
mod matching;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{try_join, try_join3};

use super::error::Result;
use super::operation::Operation;
use super::{Place, absent};
use crate::postgres::catalog::{self, Sequence, Table};
use crate::postgres::sequence::{self, Definition, Position};
use crate::postgres::{Database, Ident, QualifiedName, publication};

pub use deciding::Copied;
use matching::Matched;

/// Which sequences are copied.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Those that tables of these publications take numbers from.
    pub publications: BTreeSet<Ident>,
    /// Those that these tables take numbers from.
    pub tables: BTreeSet<QualifiedName>,
    /// These, which go by the same name on both sides.
    pub sequences: BTreeSet<QualifiedName>,
    /// How many numbers are left out, so that what is still taken on the one side is not taken on the other.
    pub margin: u32,
}

/// The two sides of a copy.
#[derive(Debug, Clone)]
pub struct Sides {
    /// Where the sequences are read.
    pub from: Database,
    /// Where they are raised.
    pub to: Database,
    /// Which of the two `from` is.
    pub place: Place,
}

/// What [`prepare`] has found: the sequences that are copied, which fit each other by their definitions.
#[derive(Debug, Clone)]
pub struct Prepared {
    pairs: Vec<Pair>,
    margin: u32,
    left_out: Vec<QualifiedName>,
}

/// A sequence, and the one that goes on where it is.
#[derive(Debug, Clone)]
struct Pair {
    from: (QualifiedName, Definition),
    to: (QualifiedName, Definition),
}

impl Prepared {
    /// How many sequences are raised at most.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is nothing to copy.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The sequences that nothing takes numbers from on the other side: their columns have another default there.
    pub fn left_out(&self) -> &[QualifiedName] {
        &self.left_out
    }
}

/// Finds the sequences, and says everything that stands in the way of copying them. Changes nothing.
///
/// # Errors
/// When a publication, a table or a sequence is missing, one counts the other way there, the roles lack rights, or a server
/// cannot be asked.
pub async fn prepare(operation: &Operation<'_>, sides: &Sides, question: &Question) -> Result<Prepared> {
    let tables = tables(operation, sides, question).await?;
    let both = try_join3(
        catalog::sequences(&sides.from, &tables),
        catalog::sequences(&sides.to, &tables),
        catalog::tables(&sides.to, &tables, None),
    );
    let (from, to, targets) = operation.unless_stopped(Box::pin(both)).await?;
    let meant = Meant { from: &from, to: &to, targets: &targets, named: &question.sequences };
    let matched = matching::matched(&meant);
    let defined = definitions(operation, sides, &matched).await?;
    deciding::prepared(operation, sides, (matched, question.margin), &defined)
}

/// Copies what was prepared: one query reads how far the sequences are, one transaction raises the others. None of them is
/// lowered.
///
/// # Errors
/// When a number does not fit on the other side, which is known before anything is raised; when a server cannot be asked, or
/// the time is over.
pub async fn copy(operation: &Operation<'_>, sides: &Sides, prepared: &Prepared) -> Result<Vec<Copied>> {
    let limits = operation.limits();
    let names: Vec<&QualifiedName> = prepared.pairs.iter().map(|pair| &pair.from.0).collect();
    let from = sides.from.within(limits);
    let positions = operation.unless_stopped(sequence::positions(&from, &names)).await?;
    let targets = deciding::targets(operation, sides, prepared, &positions)?;
    let wanted: Vec<(&QualifiedName, &Definition, Position)> =
        targets.iter().map(|target| (&target.pair.to.0, &target.pair.to.1, target.position)).collect();
    let raised = sequence::raise(&sides.to, &wanted, limits).await?;
    Ok(targets.iter().zip(raised).map(|(target, raised)| target.copied(raised)).collect())
}

/// What a copy is about, as both servers have it.
struct Meant<'a> {
    from: &'a BTreeMap<QualifiedName, Vec<Sequence>>,
    to: &'a BTreeMap<QualifiedName, Vec<Sequence>>,
    targets: &'a BTreeMap<QualifiedName, Table>,
    named: &'a BTreeSet<QualifiedName>,
}

/// How the sequences of both sides are defined, those that exist.
struct Defined {
    from: BTreeMap<QualifiedName, Definition>,
    to: BTreeMap<QualifiedName, Definition>,
}

async fn definitions(operation: &Operation<'_>, sides: &Sides, matched: &Matched) -> Result<Defined> {
    let (from, to) = matched.names();
    let both = try_join(sequence::definitions(&sides.from, &from), sequence::definitions(&sides.to, &to));
    let (from, to) = operation.unless_stopped(both).await?;
    Ok(Defined { from, to })
}

/// The tables whose sequences are meant, with their whole partition trees: a partition may take numbers from a sequence of its
/// root, and inserts may name any of them.
async fn tables(operation: &Operation<'_>, sides: &Sides, question: &Question) -> Result<BTreeSet<QualifiedName>> {
    let mut tables = published(operation, &sides.from, question).await?;
    if tables.is_empty() && question.tables.is_empty() {
        return Ok(tables);
    }
    let outline = operation.unless_stopped(catalog::outline(&sides.from)).await?;
    if let Some(missing) = question.tables.iter().find(|table| !outline.relations.contains_key(*table)) {
        let missing = missing.to_text();
        return Err(operation
            .error(format!("there is no table {missing} on the {}", sides.place.as_str()))
            .about("tables"));
    }
    tables.extend(question.tables.iter().cloned());
    Ok(matching::trees(&outline, &tables))
}

async fn published(operation: &Operation<'_>, db: &Database, question: &Question) -> Result<BTreeSet<QualifiedName>> {
    let names = &question.publications;
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let existing = operation.unless_stopped(publication::fetch_all(db)).await?;
    let missing: Vec<_> = names.iter().filter(|name| !existing.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(absent::publications(operation, db, &missing));
    }
    let version = operation.unless_stopped(db.version()).await?;
    operation.unless_stopped(publication::published_tables(db, names, version)).await
}
