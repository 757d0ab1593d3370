// SPDX-License-Identifier: MPL-2.0

//! Copies sequences from one side to the other, because subscriptions do not replicate their values.
//!
//! There are two steps, so that the second is short while writers wait: [`prepare`] matches the sequences of both sides
//! and does all checks, and [`copy`] reads positions and raises the other side's sequences. Either side may be the
//! source.

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
    /// Sequences that tables of these publications take numbers from.
    pub publications: BTreeSet<Ident>,
    /// Sequences that these tables take numbers from.
    pub tables: BTreeSet<QualifiedName>,
    /// These sequences, which have the same name on both sides.
    pub sequences: BTreeSet<QualifiedName>,
    /// How many numbers to skip, so that numbers still taken on one side are not used on the other.
    pub margin: u32,
}

/// The two sides of a copy.
#[derive(Debug, Clone)]
pub struct Sides {
    /// Where the sequences are read.
    pub from: Database,
    /// Where they are raised.
    pub to: Database,
    /// Which side `from` is.
    pub place: Place,
}

/// The result of [`prepare`]: the sequences to copy, whose definitions match.
#[derive(Debug, Clone)]
pub struct Prepared {
    pairs: Vec<Pair>,
    margin: u32,
    left_out: Vec<QualifiedName>,
}

/// A sequence, and the one that continues it.
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

    /// The sequences that are not used on the other side: their columns have another default there.
    pub fn left_out(&self) -> &[QualifiedName] {
        &self.left_out
    }
}

/// Finds the sequences, and reports everything that prevents copying them. Changes nothing.
///
/// # Errors
/// When a publication, a table or a sequence is missing, a sequence counts in the other direction there, the roles lack
/// rights, or a query fails.
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

/// Copies the prepared sequences: one query reads their positions, one transaction raises the others. None is lowered.
///
/// # Errors
/// When a number does not fit on the other side, which is checked before anything is raised; when a query fails, or the
/// time is over.
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

/// The scope of a copy on both servers.
struct Meant<'a> {
    from: &'a BTreeMap<QualifiedName, Vec<Sequence>>,
    to: &'a BTreeMap<QualifiedName, Vec<Sequence>>,
    targets: &'a BTreeMap<QualifiedName, Table>,
    named: &'a BTreeSet<QualifiedName>,
}

/// The definitions of the existing sequences of both sides.
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

/// The tables whose sequences are copied, with their whole partition trees: a partition may use its root's sequence,
/// and inserts may name any of them.
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
