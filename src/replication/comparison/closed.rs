// SPDX-License-Identifier: MPL-2.0

//! Compares tables that a fence keeps closed on both sides: in as few round trips as possible, because writers wait.

use futures_util::future::{try_join, try_join_all};

use super::{Compared, Mode, Question, Tables};
use crate::postgres::QualifiedName;
use crate::postgres::comparison::{Comparable, Side};
use crate::postgres::{Database, HeldSession};
use crate::replication::Pair;
use crate::replication::error::Result;
use crate::replication::operation::Operation;

/// The smallest size of a row, for tables that were never analyzed.
const SMALLEST_ROW: u64 = 32;

/// The tables of a comparison, read in advance.
pub struct Closed {
    comparable: Vec<Comparable>,
    others: Vec<Compared>,
    too_large: Vec<QualifiedName>,
    rows: u64,
    mode: Mode,
}

/// The open sessions for it.
pub struct Sessions {
    publisher: HeldSession,
    subscriber: HeldSession,
}

impl Closed {
    /// Finds the tables to compare: those of up to `most` rows, by the planner's estimate.
    ///
    /// # Errors
    /// As [`compare`](super::compare).
    pub async fn prepare(operation: &Operation<'_>, pair: &Pair, question: &Question, most: u64) -> Result<Self> {
        let tables = Tables::read(operation, pair, question).await?;
        let rows = |table: &Comparable| {
            let size = tables.sizes.get(&table.name);
            size.map(|size| size.rows.unwrap_or(size.bytes / SMALLEST_ROW)).unwrap_or_default()
        };
        let (small, large): (Vec<_>, Vec<_>) = tables.comparable.iter().partition(|table| rows(table) <= most);
        Ok(Self {
            rows: small.iter().map(|table| rows(table)).sum(),
            comparable: small.into_iter().cloned().collect(),
            too_large: large.into_iter().map(|table| table.name.clone()).collect(),
            others: tables.others,
            mode: question.mode,
        })
    }

    /// The tables that are too large.
    pub fn too_large(&self) -> &[QualifiedName] {
        &self.too_large
    }

    /// The tables that cannot be compared, each with the reason.
    pub fn others(&self) -> &[Compared] {
        &self.others
    }

    /// About how many rows are compared.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Opens the sessions for it.
    ///
    /// # Errors
    /// When a server cannot be reached.
    pub async fn open(&self, operation: &Operation<'_>, pair: &Pair) -> Result<Sessions> {
        let open = |db: &Database| {
            let db = db.clone();
            async move { db.session(operation.doing(), operation.limits()).await }
        };
        let (publisher, subscriber) = Box::pin(try_join(open(&pair.publisher), open(&pair.subscriber))).await?;
        Ok(Sessions { publisher, subscriber })
    }

    /// Compares them, while the caller keeps writers away. Returns the tables that differ.
    ///
    /// # Errors
    /// When a role may not read one of them, a query fails, or a limit is reached.
    pub async fn compare(&self, operation: &Operation<'_>, sessions: &mut Sessions) -> Result<Vec<Compared>> {
        let limits = operation.limits();
        let sides =
            [Side::publisher(&mut sessions.publisher, limits), Side::subscriber(&mut sessions.subscriber, limits)];
        let tables: Vec<&Comparable> = self.comparable.iter().collect();
        let with_sums = self.mode != Mode::Counts;
        let totals = try_join_all(sides.into_iter().map(|side| totals(side, &tables, with_sums)));
        let totals = operation.unless_stopped(Box::pin(totals)).await?;
        let [publisher, subscriber] = totals.as_slice() else { return Ok(Vec::new()) };
        let all = tables.iter().zip(publisher).zip(subscriber);
        Ok(all
            .filter(|((_, one), other)| one != other)
            .map(|((table, one), other)| differing(table, one.0, other.0))
            .collect())
    }
}

async fn totals(
    mut side: Side<'_>,
    tables: &[&Comparable],
    with_sums: bool,
) -> crate::postgres::Result<Vec<(i64, String)>> {
    side.begin().await?;
    let totals = side.totals(tables, with_sums).await?;
    side.end().await?;
    Ok(totals)
}

fn differing(table: &Comparable, publisher: i64, subscriber: i64) -> Compared {
    Compared {
        publisher_rows: u64::try_from(publisher).ok(),
        subscriber_rows: u64::try_from(subscriber).ok(),
        exact: true,
        ..Compared::of(&table.name)
    }
}
