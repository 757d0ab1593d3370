// SPDX-License-Identifier: MPL-2.0

//! Runs a comparison: tables in groups, each in one state of both sides.

use std::collections::BTreeMap;

use futures_util::future::{join, try_join};

use super::feeding::Feeds;
use super::merging::{Differences, Next, next};
use super::narrowing::Narrowing;
use super::pinning::{Pin, Pinning};
use super::{Compared, Kind, Mode, OnProgress, Outcome, Progress, Question, Step, Tables};
use crate::postgres::catalog::TableSize;
use crate::postgres::comparison::{Comparable, Entry, Side, entry};
use crate::postgres::{self, Outage as _, QualifiedName, Rows};
use crate::replication::Pair;
use crate::replication::error::{Error, Result};
use crate::replication::operation::Operation;

/// How many small tables are locked together, so that a thousand of them do not take a thousand locks one by one.
const TOGETHER: usize = 50;

/// The maximum size of a group's tables on disk.
const TOGETHER_BYTES: u64 = 64 << 20;

/// How often a table is compared if its sides could not be brought to the same state.
const LOOSE_LOOKS: usize = 3;

/// A comparison in progress.
pub(super) struct Run<'a> {
    pub(super) operation: &'a Operation<'a>,
    pub(super) pair: &'a Pair,
    pub(super) question: &'a Question,
    pub(super) feeds: Feeds,
}

impl Run<'_> {
    pub(super) async fn compare(&self, tables: Tables, on_progress: OnProgress<'_>) -> Result<Outcome> {
        let all = tables.comparable.len() + tables.others.len();
        let mut outcome = Outcome { tables: tables.others, position: None };
        for (at, table) in outcome.tables.iter().enumerate() {
            on_progress(Progress { step: Step::Ended(table), done: at + 1, all });
        }
        for group in self.groups(&tables.comparable, &tables.sizes) {
            if let Some(first) = group.first() {
                on_progress(Progress { step: Step::Begins(&first.name, group.len()), done: outcome.tables.len(), all });
            }
            for (compared, position) in self.group(&group).await? {
                outcome.position = position.or(outcome.position);
                on_progress(Progress { step: Step::Ended(&compared), done: outcome.tables.len() + 1, all });
                outcome.tables.push(compared);
            }
        }
        outcome.tables.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(outcome)
    }

    /// Groups small neighbouring tables that can be compared exactly.
    fn groups<'t>(
        &self,
        tables: &'t [Comparable],
        sizes: &BTreeMap<QualifiedName, TableSize>,
    ) -> Vec<Vec<&'t Comparable>> {
        let mut groups: Vec<Vec<&Comparable>> = Vec::new();
        let mut bytes = 0;
        for table in tables {
            let is_alone = |table: &Comparable| self.feeds.doubt(&table.name).is_some();
            let size = sizes.get(&table.name).map(|size| size.bytes).unwrap_or_default();
            bytes += size;
            let fits = |group: &Vec<&Comparable>| {
                group.len() < TOGETHER
                    && bytes <= TOGETHER_BYTES
                    && !is_alone(table)
                    && !group.iter().any(|one| is_alone(one))
            };
            match groups.last_mut().filter(|group| fits(group)) {
                Some(group) => group.push(table),
                None => {
                    bytes = size;
                    groups.push(vec![table]);
                }
            }
        }
        groups
    }

    /// Compares a group; if one of its tables fails, each alone.
    async fn group(&self, tables: &[&Comparable]) -> Result<Vec<(Compared, Option<String>)>> {
        if let [table] = tables {
            return Ok(vec![self.alone(table).await?]);
        }
        match self.together(tables).await {
            Ok(compared) if compared.iter().all(|(table, _)| table.exact) => return Ok(compared),
            Err(error) if self.is_final(&error) => return Err(error),
            _ => {}
        }
        let mut compared = Vec::new();
        for table in tables {
            compared.push(self.alone(table).await?);
        }
        Ok(compared)
    }

    /// Compares one table. If the sides could not be brought to the same state and differ, compares again, because
    /// writes in the meantime may be the reason.
    async fn alone(&self, table: &Comparable) -> Result<(Compared, Option<String>)> {
        let mut last = (Compared::of(&table.name), None);
        for _ in 0..LOOSE_LOOKS {
            match self.together(&[table]).await {
                Ok(compared) => last = compared.into_iter().next().unwrap_or(last),
                Err(error) if self.is_final(&error) => return Err(error),
                Err(error) => return Ok((Compared::of(&table.name).noting(error.to_string()), None)),
            }
            if last.0.exact || last.0.equal {
                break;
            }
        }
        Ok(last)
    }

    /// Whether an error ends the whole comparison, not only that of a table.
    fn is_final(&self, error: &Error) -> bool {
        let over = self.operation.limits().deadline.is_some_and(|deadline| deadline <= tokio::time::Instant::now());
        self.operation.is_stopped() || over || error.is_outage() || error.cause().is_none()
    }

    /// Compares tables in one state of both sides.
    async fn together(&self, tables: &[&Comparable]) -> Result<Vec<(Compared, Option<String>)>> {
        let limits = self.operation.limits();
        let doing = self.operation.doing();
        let sessions =
            try_join(self.pair.publisher.session(doing, limits), self.pair.subscriber.session(doing, limits));
        let (mut publisher, mut subscriber) = Box::pin(sessions).await?;
        let mut sides = Sides {
            publisher: Side::publisher(&mut publisher, limits),
            subscriber: Side::subscriber(&mut subscriber, limits),
        };
        let pin = sides.pinning(self).pin(tables).await?;
        let mut compared = Vec::new();
        for found in Box::pin(sides.compare_all(tables, self.question)).await? {
            compared.push(match &pin {
                Pin::Exact(lsn) => (Compared { exact: true, ..found }, Some(lsn.clone())),
                Pin::Loose(why) if found.note.is_empty() => (found.noting(why), None),
                Pin::Loose(_) => (found, None),
            });
        }
        try_join(sides.publisher.end(), sides.subscriber.end()).await?;
        Ok(compared)
    }
}

/// Both sides, each in its transaction.
struct Sides<'s> {
    publisher: Side<'s>,
    subscriber: Side<'s>,
}

impl<'s> Sides<'s> {
    fn pinning<'a>(&'a mut self, run: &'a Run<'a>) -> Pinning<'a, 's> {
        Pinning {
            operation: run.operation,
            pair: run.pair,
            feeds: &run.feeds,
            publisher: &mut self.publisher,
            subscriber: &mut self.subscriber,
        }
    }

    async fn compare_all(&mut self, tables: &[&Comparable], question: &Question) -> Result<Vec<Compared>> {
        let all = match tables {
            [table] => vec![self.total(table, question.mode).await],
            tables => self.totals(tables, question.mode).await?,
        };
        let mut found = Vec::with_capacity(all.len());
        for (table, compared) in tables.iter().zip(all) {
            found.push(self.look_closer(table, question, compared).await?);
        }
        Ok(found)
    }

    /// Counts or hashes tables, many in a round trip: for a thousand small tables, round trips take most of the time.
    async fn totals(&mut self, tables: &[&Comparable], mode: Mode) -> Result<Vec<Compared>> {
        let with_sums = mode != Mode::Counts;
        let both = try_join(self.publisher.totals(tables, with_sums), self.subscriber.totals(tables, with_sums));
        let (publisher, subscriber) = both.await?;
        let both = tables.iter().zip(publisher.into_iter().zip(subscriber));
        Ok(both.map(|(table, (one, other))| from_sums(table, (Ok(one), Ok(other)))).collect())
    }

    /// Counts or hashes one table. Notes a side's error.
    async fn total(&mut self, table: &Comparable, mode: Mode) -> Compared {
        match mode {
            Mode::Counts => {
                let counts = join(self.publisher.count(table), self.subscriber.count(table)).await;
                from_sums(table, (counts.0.map(|count| (count, ())), counts.1.map(|count| (count, ()))))
            }
            Mode::Checksums | Mode::Rows => {
                from_sums(table, join(self.publisher.checksum(table), self.subscriber.checksum(table)).await)
            }
        }
    }

    /// Finds the rows that differ, if requested.
    async fn look_closer(&mut self, table: &Comparable, question: &Question, compared: Compared) -> Result<Compared> {
        let is_known = compared.note.is_empty() && !compared.equal;
        if question.mode != Mode::Rows || !is_known || question.max_differences == 0 {
            return Ok(compared);
        }
        self.find(table, question.max_differences, compared).await
    }

    /// Finds the rows that differ: first the buckets of keys with differences, then the parts of some of those with differences,
    /// and then the rows in some parts.
    async fn find(&mut self, table: &Comparable, most: usize, compared: Compared) -> Result<Compared> {
        let (publisher, subscriber) = try_join(self.publisher.buckets(table), self.subscriber.buckets(table)).await?;
        let mut narrowing = Narrowing::of(&publisher, &subscriber, most);
        while let Some(finer) = narrowing.finer() {
            let buckets = (narrowing.buckets.as_slice(), narrowing.fineness);
            let parts =
                try_join(self.publisher.parts(table, buckets, finer), self.subscriber.parts(table, buckets, finer));
            let (publisher, subscriber) = parts.await?;
            narrowing = narrowing.split(finer, &publisher, &subscriber, most);
        }
        let buckets = (narrowing.buckets.as_slice(), narrowing.fineness);
        let streams = try_join(self.publisher.rows(table, buckets), self.subscriber.rows(table, buckets)).await?;
        let found = Merge { publisher: streams.0, subscriber: streams.1 }.differences(table, most).await?;
        let further_differences = found.further + narrowing.further;
        Ok(Compared { differences: found.kept, further_differences, ..compared })
    }
}

/// One side's result for all rows: their number, and perhaps more.
type Sum<T> = postgres::Result<(i64, T)>;

/// The result of both sides for all rows.
fn from_sums<T: PartialEq>(table: &Comparable, (publisher, subscriber): (Sum<T>, Sum<T>)) -> Compared {
    let count = |side: &Sum<T>| side.as_ref().ok().and_then(|(count, _)| u64::try_from(*count).ok());
    let compared = Compared {
        publisher_rows: count(&publisher),
        subscriber_rows: count(&subscriber),
        ..Compared::of(&table.name)
    };
    match (publisher, subscriber) {
        (Ok(one), Ok(other)) => Compared { equal: one == other, ..compared },
        (Err(error), _) | (_, Err(error)) => compared.noting(error.to_string()),
    }
}

/// The rows of some buckets from both sides, in the same order.
struct Merge<'r> {
    publisher: Rows<'r>,
    subscriber: Rows<'r>,
}

impl Merge<'_> {
    async fn differences<'t>(mut self, table: &'t Comparable, most: usize) -> Result<Differences<'t>> {
        let mut differences = Differences::of(table, most);
        let mut heads = (pull(&mut self.publisher).await?, pull(&mut self.subscriber).await?);
        while let Some(which) = next(heads.0.as_ref(), heads.1.as_ref()) {
            match (which, &heads) {
                (Next::Publisher, (Some(row), _)) => differences.lacking(Kind::Missing, row),
                (Next::Subscriber, (_, Some(row))) => differences.lacking(Kind::Extra, row),
                (Next::Both, (Some(one), Some(other))) => differences.compare(one, other),
                _ => break,
            }
            if which != Next::Subscriber {
                heads.0 = pull(&mut self.publisher).await?;
            }
            if which != Next::Publisher {
                heads.1 = pull(&mut self.subscriber).await?;
            }
        }
        Ok(differences)
    }
}

async fn pull(rows: &mut Rows<'_>) -> Result<Option<Entry>> {
    let Some(row) = rows.next().await? else { return Ok(None) };
    entry(&row).map(Some).map_err(|error| Error::new(format!("comparing rows: {error}")))
}
