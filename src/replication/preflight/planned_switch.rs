// SPDX-License-Identifier: MPL-2.0

//! What a cutover requires of one side, in addition to replication: rights to the fence, to sequences and to the
//! database, and statistics.

use std::collections::{BTreeMap, BTreeSet};

use crate::postgres::catalog::{self, Sequence, Unanalyzed};
use crate::postgres::fence::{self, Standing};
use crate::postgres::sequence::{self, Definition};
use crate::postgres::{Database, QualifiedName, Result, read_only};

/// The answers of a server.
#[derive(Debug, Clone)]
pub(super) struct PlannedSwitch {
    /// Whether the role may create a fence, and on which relations.
    pub(super) standing: Standing,
    /// Whether it may make the database read-only by default.
    pub(super) may_default: bool,
    /// The sequences of the tables, with the rights of the role.
    pub(super) sequences: BTreeMap<QualifiedName, Definition>,
    /// Tables without good statistics.
    pub(super) unanalyzed: BTreeMap<QualifiedName, Unanalyzed>,
}

/// Reads the answers of a server.
///
/// # Errors
/// When a query fails.
pub(super) async fn read(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
    sequences: &BTreeMap<QualifiedName, Vec<Sequence>>,
) -> Result<PlannedSwitch> {
    let sequences = sequences.values().flatten().map(|sequence| sequence.name.clone()).collect();
    Ok(PlannedSwitch {
        standing: fence::prospect(db, tables).await?,
        may_default: read_only::read_only(db).await?.may_set,
        sequences: sequence::definitions(db, &sequences).await?,
        unanalyzed: catalog::unanalyzed(db, tables).await?,
    })
}
