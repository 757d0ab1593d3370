// SPDX-License-Identifier: MPL-2.0

//! Changes replica identities, with short waits for locks, so that no session queues behind us for long.

use std::collections::BTreeMap;

use super::{Choice, statement};
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::limits::Limits;
use crate::postgres::short_turns::in_short_turns;
use crate::postgres::sql::QualifiedName;

/// Makes these choices, all or none.
///
/// Each table is locked against reads and writes for the moment that it takes. If another session holds a lock, this
/// retries for a second each time, until the limits are reached.
///
/// # Errors
/// When the server refuses it, or the locks are not granted in time: then with their holders.
pub async fn change(
    db: &Database,
    doing: &str,
    choices: &BTreeMap<QualifiedName, Choice>,
    limits: &Limits,
) -> Result<()> {
    let changes: Vec<_> = choices.iter().filter_map(|(table, choice)| statement(table, choice)).collect();
    in_short_turns(db, doing, &changes, &choices.keys().cloned().collect(), limits).await
}
