// SPDX-License-Identifier: MPL-2.0

//! Definitions that several callers share: a plan asks for the same tables once for each resource and each of its steps, and
//! reading them is the dearest thing that a plan asks of a server.

use std::sync::Arc;
use std::time::Duration;

use super::model::Definition;
use super::reading::{Wanted, read};
use crate::postgres::database::Database;
use crate::postgres::error::Result;

/// How old what is shown may be. What this process has changed in a database is always seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// For a change: what is changed is read now, and what it is compared with a moment ago.
    Now,
    /// For a refresh or a plan: it may be what another resource of the same plan has read.
    Plan,
}

impl Freshness {
    /// How old a definition may be of a server that is only read.
    pub fn age(self) -> Duration {
        match self {
            Self::Now => MOMENT,
            Self::Plan => PLAN,
        }
    }
}

/// The plan of an apply has just read it.
const MOMENT: Duration = Duration::from_secs(2);

/// The plan of many databases takes longer than moments, and each of its answers is as old as the plan in any case.
const PLAN: Duration = Duration::from_secs(20);

/// Reads a definition as [`read`] does, or returns one that was read at most so long ago and that this process has not changed
/// since.
///
/// # Errors
/// As [`read`].
pub async fn read_recent(db: &Database, wanted: &Wanted, age: Duration) -> Result<Arc<Definition>> {
    // Those who ask for partitions and those who do not share one, as long as that makes no difference.
    let wide = Wanted { with_partitions: true, ..wanted.clone() };
    let found = shared(db, &wide, age).await?;
    if wanted.with_partitions || are_all_named(&found, wanted) { Ok(found) } else { shared(db, wanted, age).await }
}

async fn shared(db: &Database, wanted: &Wanted, age: Duration) -> Result<Arc<Definition>> {
    db.snapshot_of(wanted, PLAN).get_of(age, || db.changes(), read(db, wanted)).await
}

/// Whether each table of a definition was asked for by name, so that none came as a partition.
fn are_all_named(definition: &Definition, wanted: &Wanted) -> bool {
    definition.tables.keys().all(|table| wanted.relations.contains(table))
        // A partition may be one, which is no table of a definition.
        && definition.others.iter().all(|other| other.kind != "foreign table")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::definition::Other;
    use crate::postgres::definition::samples::{database, name};

    #[test]
    fn a_plan_may_see_what_is_older_than_a_change_may() {
        assert!(Freshness::Now.age() < Freshness::Plan.age());
    }

    #[test]
    fn what_came_as_a_partition_makes_a_difference() {
        let wanted = Wanted::tables([name("app.all"), name("app.one")]);
        let found = database(17).table("app.one", "id");
        assert!(are_all_named(&database(17), &wanted) && are_all_named(&found, &wanted));
        let table = "foreign table".to_owned();
        let foreign = Other { kind: table.clone(), description: table.clone(), identity: table };
        assert!(!are_all_named(&Definition { others: vec![foreign], ..found.clone() }, &wanted));
        assert!(!are_all_named(&found.table("app.two", "id"), &wanted));
    }
}
