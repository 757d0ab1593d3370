//! Comparing tables of both sides in the same state, while applications go on writing.
//!
//! Nobody may write to a table for some milliseconds: until the subscriber has applied what was written before. In that
//! moment both sides begin to see what the table holds, and keep to it however long they count afterwards. So what
//! differs differs; nothing has to be looked at again. Where a role may not take such a lock, or nothing replicates the
//! table, the answer says that it is not exact.

mod feeding;
mod merging;
mod pinning;
mod running;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join;

use super::Pair;
use super::error::{Error, Result};
use super::operation::Operation;
use crate::postgres::comparison::{self, Comparable, Incomparable, Published, Shape};
use crate::postgres::{Ident, QualifiedName};

/// How closely tables are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// How many rows they have.
    #[default]
    Counts,
    /// A sum of the hashes of their rows, too.
    Checksums,
    /// Where the sums differ: which rows, by their keys, and in which columns.
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

/// What is to be compared.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// What these publications send: their columns, of the rows that meet their filters.
    pub publications: BTreeSet<Ident>,
    /// Only these tables of them; without publications, these tables as a whole.
    pub tables: BTreeSet<QualifiedName>,
    /// How closely.
    pub mode: Mode,
    /// How many differing rows of a table are named at most.
    pub max_differences: usize,
}

/// What a comparison has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The tables, in the order of their names.
    pub tables: Vec<Compared>,
    /// The position in the publisher's WAL up to which the last of them was compared, as an LSN's text; none where nothing
    /// could be compared exactly.
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
    /// How many of its rows the publisher sends; none where it could not be asked.
    pub publisher_rows: Option<u64>,
    /// How many the subscriber has; none where it could not be asked.
    pub subscriber_rows: Option<u64>,
    /// Whether both are the same, as closely as was asked for.
    pub equal: bool,
    /// Whether both sides were in the same state. Where not, what was written meanwhile may make them differ.
    pub exact: bool,
    /// Why it could not be compared, or not exactly. Empty otherwise.
    pub note: String,
    /// Rows that differ, as many as were asked for.
    pub differences: Vec<Difference>,
    /// How many further differing rows were seen. There may be more than these.
    pub further_differences: u64,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The columns of its key with their values as texts; all columns where the table has no key.
    pub key: Vec<(Ident, Option<String>)>,
    /// How it differs.
    pub kind: Kind,
    /// The columns that differ; none where one side lacks the row.
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

/// How far a comparison is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The table that was compared last.
    pub table: &'a Compared,
    /// How many are compared.
    pub done: usize,
    /// How many there are.
    pub all: usize,
}

/// Who hears how far a comparison is.
pub type OnProgress<'a> = &'a mut (dyn FnMut(Progress<'_>) + Send);

/// Compares tables. Changes nothing on either side.
///
/// # Errors
/// When a publication or table is missing on the publisher, a server cannot be asked, the time is over, or a person asks
/// to stop. A table that cannot be compared is none: the outcome says why.
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
    /// Those that cannot be compared, with the reason.
    others: Vec<Compared>,
}

impl Tables {
    async fn read(operation: &Operation<'_>, pair: &Pair, question: &Question) -> Result<Self> {
        let published = match question.publications.is_empty() {
            true => BTreeMap::new(),
            false => Self::published(operation, pair, question).await?,
        };
        let names = match (question.tables.is_empty(), published.is_empty()) {
            (false, _) => question.tables.clone(),
            (true, _) => published.keys().cloned().collect(),
        };
        let (publisher, subscriber) =
            (pair.publisher.within(operation.limits()), pair.subscriber.within(operation.limits()));
        let both = try_join(comparison::shapes(&publisher, &names), comparison::shapes(&subscriber, &names));
        let (publisher, subscriber) = operation.unless_stopped(both).await?;
        Ok(Self::sorted(&names, &published, &publisher, &subscriber))
    }

    /// What the publications send of the tables that are asked for.
    async fn published(
        operation: &Operation<'_>,
        pair: &Pair,
        question: &Question,
    ) -> Result<BTreeMap<QualifiedName, Published>> {
        let publisher = pair.publisher.within(operation.limits());
        let existing = operation.unless_stopped(crate::postgres::publication::fetch_all(&publisher)).await?;
        if let Some(missing) = question.publications.iter().find(|name| !existing.contains_key(*name)) {
            let (database, address) = (publisher.name(), publisher.config().address());
            let error = format!("there is no publication {missing} in database {database:?} on {address}");
            return Err(operation.error(error).about("publications"));
        }
        let published = comparison::published(&publisher, &question.publications);
        let published = operation.unless_stopped(published).await?;
        match question.tables.iter().find(|table| !published.contains_key(*table)) {
            Some(other) => Err(not_published(operation, other)),
            None => Ok(published),
        }
    }

    fn sorted(
        names: &BTreeSet<QualifiedName>,
        published: &BTreeMap<QualifiedName, Published>,
        publisher: &BTreeMap<QualifiedName, Shape>,
        subscriber: &BTreeMap<QualifiedName, Shape>,
    ) -> Self {
        let mut sorted = Self { comparable: Vec::new(), others: Vec::new() };
        for name in names {
            match comparison::comparable(name, published.get(name), publisher.get(name), subscriber.get(name)) {
                Ok(table) => sorted.comparable.push(table),
                Err(why) => sorted.others.push(Compared::of(name).noting(reason(&why))),
            }
        }
        sorted
    }
}

fn not_published(operation: &Operation<'_>, table: &QualifiedName) -> Error {
    operation
        .error(format!("{} is not published by these publications", table.to_text()))
        .detail("Name tables of the publications, or no publications to compare tables as a whole. Of a partitioned table that is \
             not published as such, its partitions are compared.")
        .about("tables")
}

fn reason(why: &Incomparable) -> String {
    match why {
        Incomparable::NotOnPublisher => "There is no such table on the publisher.".to_owned(),
        Incomparable::NotOnSubscriber => "There is no such table on the subscriber.".to_owned(),
        Incomparable::NoColumns(columns) => {
            let columns = super::names::list(columns.iter().map(|column| column.as_str().to_owned()));
            format!("The subscriber lacks published columns: {columns}.")
        }
    }
}
