// SPDX-License-Identifier: MPL-2.0

//! What a cutover will ask of one side, beyond what replicating asks: rights to the fence, to sequences and to the database, and
//! statistics.

use std::collections::{BTreeMap, BTreeSet};

use crate::postgres::catalog::{self, Sequence, Unanalyzed};
use crate::postgres::fence::{self, Standing};
use crate::postgres::sequence::{self, Definition};
use crate::postgres::{Database, QualifiedName, Result, read_only};

/// What a server answered.
#[derive(Debug, Clone)]
pub(super) struct PlannedSwitch {
    /// Whether the role may make a fence, and around which relations.
    pub(super) standing: Standing,
    /// Whether it may make the database read-only by default.
    pub(super) may_default: bool,
    /// The sequences of the tables, with what the role may do with them.
    pub(super) sequences: BTreeMap<QualifiedName, Definition>,
    /// Tables whose rows the server does not know.
    pub(super) unanalyzed: BTreeMap<QualifiedName, Unanalyzed>,
}

/// Asks a server.
///
/// # Errors
/// When it cannot be asked.
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
