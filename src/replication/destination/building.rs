// SPDX-License-Identifier: MPL-2.0

//! Indexes, foreign keys and extended statistics, created once the rows are copied and while changes keep arriving.
//!
//! [`look`] finds what is missing; the decision is pure, in [`definition::late`]. [`build`] creates it, several indexes
//! at a time, and continues with the others if one fails. After any interruption, the next look finds what is left.

mod doing;
mod findings;
mod scheduling;
mod telling;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;

use super::Published;
use super::looking;
use super::planning::Plan;
use crate::postgres::catalog::{self, TableSize};
use crate::postgres::definition::{self, Freshness, Known, Late, Left, Object};
use crate::postgres::indexing::{self, Rights};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::Pair;
use crate::replication::error::Result;

pub use doing::{Built, build, wait_for_copies};
pub use telling::{Event, Tell};

/// How to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct How {
    /// How many indexes are built at a time.
    pub parallel: usize,
    /// How much memory a session may use for it, such as `1GB`; by default the server's setting.
    pub memory: Option<String>,
    /// Whether the tables are analyzed afterwards.
    pub analyzes: Analyze,
}

/// Which tables are analyzed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Analyze {
    /// All of them.
    All,
    /// Those that got something new.
    Changed,
    /// None.
    None,
}

/// Which state a look is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The current state.
    Now,
    /// The state once the tables are created.
    Planned,
}

/// The state of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The missing and the existing objects.
    pub late: Late,
    /// The selected tables that the subscriber has, without partitions.
    pub tables: BTreeSet<QualifiedName>,
    /// The selected tables that it lacks, without partitions, whose rows may go elsewhere.
    pub absent: BTreeSet<QualifiedName>,
    /// The objects that are not created, with reasons.
    pub left: Vec<Left>,
    /// The sizes of the tables.
    sizes: BTreeMap<QualifiedName, TableSize>,
    /// The rights of the role on the tables.
    rights: BTreeMap<QualifiedName, Rights>,
}

/// The names of the existing, complete objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct There {
    /// Indexes, as `schema.index`.
    pub indexes: Vec<String>,
    /// Foreign keys, as `schema.table.key`.
    pub foreign_keys: Vec<String>,
    /// Extended statistics, as `schema.statistics`.
    pub statistics: Vec<String>,
}

impl Look {
    /// Whether nothing is left to create.
    pub fn is_done(&self) -> bool {
        self.late.indexes.is_empty() && self.late.keys.is_empty() && self.late.statistics.is_empty()
    }

    /// The existing, complete objects.
    pub fn there(&self) -> There {
        let mut there = There::default();
        for object in &self.late.there {
            match object {
                Object::Index(name) => there.indexes.push(name.to_text()),
                Object::Statistics(name) => there.statistics.push(name.to_text()),
                Object::Constraint(table, key) => there.foreign_keys.push(key_name(table, key)),
                _ => {}
            }
        }
        there
    }

    /// The tables that get something, and those that foreign keys reference.
    fn touched(&self) -> (BTreeSet<&QualifiedName>, BTreeSet<&QualifiedName>) {
        let Late { indexes, keys, statistics, .. } = &self.late;
        let built = indexes.iter().flat_map(|index| index.builds.iter().map(|build| &build.table));
        let turns = indexes.iter().flat_map(|index| &index.turns).chain(statistics);
        let keyed = keys.iter().map(|key| &key.table);
        let tables = built.chain(turns.flat_map(|turn| &turn.tables)).chain(keyed);
        (tables.collect(), keys.iter().map(|key| &key.references).collect())
    }
}

/// The name of a foreign key, with its table, within which it is unique.
fn key_name(table: &QualifiedName, key: &Ident) -> String {
    format!("{}.{}", table.to_text(), key.as_str())
}

/// Reads both sides, in the current or, for a plan, the future state, in which missing tables of the subscriber are
/// created. It changes nothing.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn look(pair: &Pair, published: &Published, when: Seen, freshness: Freshness) -> Result<Look> {
    let sides = Box::pin(looking::sides(pair, published, (&Known::new(), true), freshness)).await?;
    let (wanted, left) = Plan::late(&sides);
    let late = match when {
        Seen::Now => definition::late(&wanted, &sides.subscriber),
        Seen::Planned => definition::late(&wanted, &definition::with_tables_of(&sides.subscriber, &wanted)),
    };
    let taken = Box::pin(indexing::taken(&pair.subscriber, &late.new_names())).await?;
    let late = late.without(&taken);
    let names: BTreeSet<_> = sides.subscriber.tables.keys().cloned().collect();
    let sizes = async { catalog::sizes(&pair.subscriber, &names).await };
    let rights = async { indexing::rights(&pair.subscriber, &names).await };
    let (sizes, rights) = Box::pin(try_join(sizes, rights)).await?;
    let whole = wanted.tables.iter().filter(|(_, table)| !table.is_partition()).map(|(name, _)| name.clone());
    let (tables, absent) = whole.partition(|table| names.contains(table));
    Ok(Look { late, tables, absent, left, sizes, rights })
}
