// SPDX-License-Identifier: MPL-2.0

//! Indexes, foreign keys and extended statistics, created once the rows are copied and while changes keep arriving.
//!
//! [`look`] says what is missing; deciding that is pure, in [`definition::late`]. [`build`] creates it, several indexes at a
//! time, and continues with the others if one cannot be created. Whatever ends it, the next look finds what is left.

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
use crate::postgres::definition::{self, Known, Late, Left, Object};
use crate::postgres::indexing::{self, Rights};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::Pair;
use crate::replication::error::Result;

pub use doing::{Built, build, wait_for_copies};
pub use telling::{Event, Tell};

/// How it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct How {
    /// How many indexes are built at a time.
    pub parallel: usize,
    /// How much memory a session may use for it, such as `1GB`; the server's own where there is none.
    pub memory: Option<String>,
    /// Whether the tables are analyzed afterwards.
    pub analyzes: Analyze,
}

/// Which tables are analyzed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Analyze {
    /// All of them.
    All,
    /// Those for which something was made.
    Changed,
    /// None.
    None,
}

/// What a look is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// What there is.
    Now,
    /// What there is going to be, once the tables are made.
    Planned,
}

/// What both sides show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// What is missing, and what is there.
    pub late: Late,
    /// The tables that are meant and that the subscriber has, but for partitions.
    pub tables: BTreeSet<QualifiedName>,
    /// The tables that are meant and that it lacks, but for partitions, whose rows may go elsewhere.
    pub absent: BTreeSet<QualifiedName>,
    /// What is not made, with the reason.
    pub left: Vec<Left>,
    /// How big the tables are.
    sizes: BTreeMap<QualifiedName, TableSize>,
    /// What the role may do with the tables.
    rights: BTreeMap<QualifiedName, Rights>,
}

/// The names of what is there and complete.
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
    /// Whether nothing is left to make.
    pub fn is_done(&self) -> bool {
        self.late.indexes.is_empty() && self.late.keys.is_empty() && self.late.statistics.is_empty()
    }

    /// What is there and complete.
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

    /// The tables to which something is added, and those that foreign keys refer to.
    fn touched(&self) -> (BTreeSet<&QualifiedName>, BTreeSet<&QualifiedName>) {
        let Late { indexes, keys, statistics, .. } = &self.late;
        let built = indexes.iter().flat_map(|index| index.builds.iter().map(|build| &build.table));
        let turns = indexes.iter().flat_map(|index| &index.turns).chain(statistics);
        let keyed = keys.iter().map(|key| &key.table);
        let tables = built.chain(turns.flat_map(|turn| &turn.tables)).chain(keyed);
        (tables.collect(), keys.iter().map(|key| &key.references).collect())
    }
}

/// The name of a foreign key, which is one only within its table.
fn key_name(table: &QualifiedName, key: &Ident) -> String {
    format!("{}.{}", table.to_text(), key.as_str())
}

/// Looks at both sides, as they are or, for a plan, as they are going to be: tables that the subscriber lacks are made first then.
/// It changes nothing.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn look(pair: &Pair, published: &Published, when: Seen) -> Result<Look> {
    let sides = Box::pin(looking::sides(pair, published, (&Known::new(), true))).await?;
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
