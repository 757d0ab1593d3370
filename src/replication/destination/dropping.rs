// SPDX-License-Identifier: MPL-2.0

//! Drops the created objects, if they have no rows.

use std::collections::BTreeSet;

use crate::postgres::catalog;
use crate::postgres::definition::{self, Object, Wanted};
use crate::postgres::{Database, QualifiedName, SqlState, look_again};
use crate::replication::error::Error;
use crate::replication::error::Result;
use crate::replication::{Operation, names};

/// The result of dropping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drop {
    /// Everything is dropped.
    Done,
    /// Everything stays, because these tables have rows.
    Kept(BTreeSet<QualifiedName>),
}

/// Drops the created objects, unless one of the tables has rows, even uncommitted ones. If other objects depend on one
/// of them, everything stays.
///
/// # Errors
/// When the server refuses it, for example because something else depends on it.
pub async fn drop_made(operation: &Operation<'_>, db: &Database, made: &[Object]) -> Result<Drop> {
    let tables: BTreeSet<_> = made
        .iter()
        .filter_map(|object| if let Object::Table(name) = object { Some(name.clone()) } else { None })
        .collect();
    let held = catalog::with_rows(&db.within(operation.limits()), &tables).await?;
    if !held.is_empty() {
        return Ok(Drop::Kept(held));
    }
    let wanted = Wanted::tables(tables.iter().cloned());
    let there = definition::read(&db.within(operation.limits()), &wanted).await?;
    let keys = definition::drops_of_keys(&there, &tables);
    let left: Vec<_> = tables.iter().filter(|table| there.tables.contains_key(*table)).collect();
    let drops = keys.into_iter().chain(definition::drops(made));
    let statements: Vec<_> = definition::only_if_empty(&left).into_iter().chain(drops).collect();
    let Err(error) = db.run_within(operation.doing(), &statements, operation.limits()).await else {
        return Ok(Drop::Done);
    };
    if error.is(&SqlState::RAISE_EXCEPTION) {
        let held = catalog::with_rows(&db.within(operation.limits()), &tables).await?;
        if !held.is_empty() {
            return Ok(Drop::Kept(held));
        }
    }
    let is_lost = error.is_lost();
    let error = Error::from(error);
    let still = format!("Nothing was dropped: {} and what was created for them still exist.", names::tables(&tables));
    if !is_lost {
        return Err(error.detail(still));
    }
    // The connection broke, maybe during the COMMIT, so either everything was done or nothing.
    match look_again(operation.limits(), || definition::read(db, &wanted)).await {
        Some(found) if found.tables.is_empty() => Ok(Drop::Done),
        Some(_) => Err(error.detail(still)),
        None => Err(error.detail(
            "It is not known whether the change was made, because the server could not be \
             asked afterwards. The next plan shows it.",
        )),
    }
}
