// SPDX-License-Identifier: MPL-2.0

//! Compares tables of both sides in the same state, while applications keep writing.
//!
//! For some milliseconds nobody may write to a table, until the subscriber has applied all earlier writes. In that
//! moment both sides take a snapshot of the table, and use it for as long as they count. So every difference is real,
//! and nothing must be compared again. If a role may not take such a lock, or nothing replicates the table, the result
//! is marked as not exact.

mod closed;
mod feeding;
mod merging;
mod narrowing;
mod pinning;
mod running;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{try_join, try_join3};

pub use closed::{Closed, Sessions};

use super::error::{Error, Result};
use super::operation::Operation;
use super::{Pair, absent};
use crate::postgres::catalog::{self, Index, Table, TableSize};
use crate::postgres::comparison::{self, Comparable, Incomparable, Published};
use crate::postgres::{Ident, QualifiedName, publication};

/// How closely tables are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// By the number of rows.
    #[default]
    Counts,
    /// Also by a sum of the hashes of their rows.
    Checksums,
    /// If the sums differ, also finds the rows, by their keys, and the columns.
    Rows,
}

impl Mode {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Counts, Self::Checksums, Self::Rows];

    /// Its name in configurations: `counts`, `checksums` or `rows`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counts => "counts",
            Self::Checksums => "checksums",
            Self::Rows => "rows",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// How many differing rows of a table are reported by default.
pub const DIFFERENCES: usize = 100;

/// What to compare.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The publications: their columns, for rows that match their filters.
    pub publications: BTreeSet<Ident>,
    /// Only these of their tables; without publications, these tables as a whole.
    pub tables: BTreeSet<QualifiedName>,
    /// How closely to compare.
    pub mode: Mode,
    /// How many differing rows of a table are reported at most.
    pub max_differences: usize,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The tables, in the order of their names.
    pub tables: Vec<Compared>,
    /// The position in the publisher's WAL at which the last of them was compared, as the text of an LSN; none if
    /// nothing could be compared exactly.
    pub position: Option<String>,
}

impl Outcome {
    /// Whether nothing differs. Tables that could not be compared are not equal.
    pub fn is_equal(&self) -> bool {
        self.tables.iter().all(|table| table.equal)
    }

    /// Whether each table was compared in the same state of both sides.
    pub fn is_exact(&self) -> bool {
        self.tables.iter().all(|table| table.exact)
    }
}

/// A table that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub name: QualifiedName,
    /// How many of its rows the publisher sends; none if that could not be read.
    pub publisher_rows: Option<u64>,
    /// How many rows the subscriber has; none if that could not be read.
    pub subscriber_rows: Option<u64>,
    /// Whether both are the same in this mode.
    pub equal: bool,
    /// Whether both sides were in the same state. If not, writes in the meantime may make them differ.
    pub exact: bool,
    /// Why it could not be compared, or not exactly. Empty otherwise.
    pub note: String,
    /// Rows that differ, up to the requested number.
    pub differences: Vec<Difference>,
    /// How many more differing rows were seen. There may be even more.
    pub further_differences: u64,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The columns of its key with their values as texts; all columns if the table has no key.
    pub key: Vec<(Ident, Option<String>)>,
    /// How it differs.
    pub kind: Kind,
    /// The columns that differ; empty if one side lacks the row.
    pub columns: Vec<Ident>,
}

/// How a row differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The subscriber lacks it.
    Missing,
    /// Only the subscriber has it.
    Extra,
    /// Both have it, with other values.
    Changed,
}

impl Kind {
    /// Its name in states, reports and JSON: `missing`, `extra` or `changed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Changed => "changed",
        }
    }
}

impl Compared {
    fn of(name: &QualifiedName) -> Self {
        Self {
            name: name.clone(),
            publisher_rows: None,
            subscriber_rows: None,
            equal: false,
            exact: false,
            note: String::new(),
            differences: Vec::new(),
            further_differences: 0,
        }
    }

    fn noting(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }
}

/// The progress of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The current step.
    pub step: Step<'a>,
    /// How many tables have been compared.
    pub done: usize,
    /// How many tables there are.
    pub all: usize,
}

/// A step of a comparison.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// The comparison of this many tables begins; this is the first one.
    Begins(&'a QualifiedName, usize),
    /// This table was compared.
    Ended(&'a Compared),
}

/// The receiver of a comparison's progress.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

/// Compares tables. Changes nothing on either side.
///
/// # Errors
/// When a publication or table is missing on the publisher, a query fails, the time is over, or a person asks to stop.
/// A table that cannot be compared is not an error: the result says why.
pub async fn compare(
    operation: &Operation<'_>,
    pair: &Pair,
    question: &Question,
    on_progress: OnProgress<'_>,
) -> Result<Outcome> {
    let tables = Tables::read(operation, pair, question).await?;
    let feeds = feeding::feeds(operation, pair, tables.comparable.iter().map(|table| &table.name)).await?;
    let run = running::Run { operation, pair, question, feeds };
    Box::pin(run.compare(tables, on_progress)).await
}

/// The tables of a comparison.
struct Tables {
    comparable: Vec<Comparable>,
    /// Their sizes on the publisher's disk.
    sizes: BTreeMap<QualifiedName, TableSize>,
    /// Those that cannot be compared, with the reason.
    others: Vec<Compared>,
}

/// The tables on both servers.
struct Sources {
    published: BTreeMap<QualifiedName, Published>,
    publisher: BTreeMap<QualifiedName, Table>,
    indexes: BTreeMap<QualifiedName, Vec<Index>>,
    subscriber: BTreeMap<QualifiedName, Table>,
}

impl Tables {
    async fn read(operation: &Operation<'_>, pair: &Pair, question: &Question) -> Result<Self> {
        let limits = operation.limits();
        let pair = Pair { publisher: pair.publisher.within(limits), subscriber: pair.subscriber.within(limits) };
        let published = match question.publications.is_empty() {
            true => BTreeMap::new(),
            false => published(operation, &pair, question).await?,
        };
        let names = match (question.tables.is_empty(), published.is_empty()) {
            (false, _) => question.tables.clone(),
            (true, _) => published.keys().cloned().collect(),
        };
        let there = try_join3(
            catalog::tables(&pair.publisher, &names, None),
            catalog::indexes(&pair.publisher, &names),
            catalog::sizes(&pair.publisher, &names),
        );
        let both = Box::pin(try_join(there, catalog::tables(&pair.subscriber, &names, None)));
        let ((publisher, indexes, sizes), subscriber) = operation.unless_stopped(both).await?;
        Ok(Self::sorted(&names, &Sources { published, publisher, indexes, subscriber }, sizes))
    }

    fn sorted(names: &BTreeSet<QualifiedName>, sources: &Sources, sizes: BTreeMap<QualifiedName, TableSize>) -> Self {
        let mut sorted = Self { comparable: Vec::new(), sizes, others: Vec::new() };
        for name in names {
            let indexes = sources.indexes.get(name).map(Vec::as_slice).unwrap_or_default();
            let (publisher, subscriber) = (sources.publisher.get(name), sources.subscriber.get(name));
            match comparison::comparable(name, sources.published.get(name), (publisher, indexes), subscriber) {
                Ok(table) => sorted.comparable.push(table),
                Err(why) => sorted.others.push(Compared::of(name).noting(reason(&why))),
            }
        }
        sorted
    }
}

/// The data of the requested tables that a subscription to the publications is sent.
async fn published(
    operation: &Operation<'_>,
    pair: &Pair,
    question: &Question,
) -> Result<BTreeMap<QualifiedName, Published>> {
    let (publisher, names) = (&pair.publisher, &question.publications);
    let existing = operation.unless_stopped(publication::fetch_all(publisher)).await?;
    let missing: Vec<_> = names.iter().filter(|name| !existing.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(absent::publications(operation, publisher, &missing));
    }
    // A partition tree that is sent in both ways arrives in only one.
    let version = operation.unless_stopped(pair.older_version()).await?;
    let arriving = publication::published_tables(publisher, names, version);
    let both = Box::pin(try_join(comparison::published(publisher, names), arriving));
    let (mut published, arriving) = operation.unless_stopped(both).await?;
    published.retain(|table, _| arriving.contains(table));
    match question.tables.iter().find(|table| !published.contains_key(*table)) {
        Some(other) => Err(not_published(operation, other)),
        None => Ok(published),
    }
}

fn not_published(operation: &Operation<'_>, table: &QualifiedName) -> Error {
    operation
        .error(format!("{} is not published by these publications", table.to_text()))
        .detail(
            "List tables of the publications, or leave publications out to compare the tables as a whole. If a \
             partitioned table is published by its partitions, list the partitions.",
        )
        .about("tables")
}

fn reason(why: &Incomparable) -> String {
    match why {
        Incomparable::NotOnPublisher => "The table does not exist on the publisher.".to_owned(),
        Incomparable::NotOnSubscriber => "The table does not exist on the subscriber.".to_owned(),
        Incomparable::NoColumns(columns) => {
            let columns = super::names::list(columns.iter().map(|column| column.as_str().to_owned()));
            format!("The subscriber lacks published columns: {columns}.")
        }
    }
}
