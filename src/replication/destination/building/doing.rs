// SPDX-License-Identifier: MPL-2.0

//! Creates what is missing: several indexes at a time, then everything that depends on them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};

use super::findings::{self, Failure};
use super::scheduling::Queue;
use super::telling::{Event, Pace, Tell};
use super::{Analyze, How, Look, key_name, words};
use crate::postgres::definition::{self, IndexBuild, KeyStep, LateIndex, LateKey, Object, Turn};
use crate::postgres::{Database, Ident, QualifiedName, SqlState, in_short_turns, indexing, subscription};
use crate::replication::error::{Error, Result};
use crate::replication::operation::Look as Waited;
use crate::replication::status::{self, Question, Until};
use crate::replication::{Operation, Pair};

/// How often to ask the server for its progress.
const LOOKS: Duration = Duration::from_secs(2);

/// How long such a question may take: it must not delay the work.
const LOOK_TIME: Duration = Duration::from_secs(1);

/// How often one index is started again, after a deadlock or if another session has started it at the same moment.
const TRIES: usize = 5;

/// Something that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// How long it took.
    pub took: Duration,
}

/// Waits until all tables of these subscriptions are copied. A subscription whose tables are all copied need not run
/// any more: after a cutover it may be stopped.
///
/// # Errors
/// When one of them does not exist, its copy cannot finish, the time is over or a person asks to stop.
pub async fn wait_for_copies(
    operation: &Operation<'_>,
    pair: &Pair,
    subscriptions: &BTreeSet<Ident>,
    tell: &Tell<'_>,
) -> Result<()> {
    let mut open = BTreeSet::new();
    for name in subscriptions {
        let progress = operation.unless_stopped(subscription::progress(&pair.subscriber, name)).await?;
        if progress.tables.is_empty() || progress.left().next().is_some() {
            open.insert(name.clone());
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let mut on_progress = |statuses: &[status::Status]| tell(&Event::Copying(statuses));
    let question = Question { subscriber: &pair.subscriber, publisher: Some(&pair.publisher), names: Some(&open) };
    let waited = status::wait_until(operation, &question, Until::Ready, &mut on_progress);
    Box::pin(waited).await.map(drop)
}

/// Creates what a look has found missing. If one object cannot be created, the others are still created.
///
/// # Errors
/// When the role lacks a right, before anything is created. When objects could not be created, with all of them and the
/// reasons. When a person asks to stop, with what is unfinished.
pub async fn build(operation: &Operation<'_>, pair: &Pair, look: &Look, how: &How, tell: &Tell<'_>) -> Result<Built> {
    if let Some(error) = words::absent(operation.doing(), look).or_else(|| words::forbidden(operation.doing(), look)) {
        return Err(error);
    }
    let work = Work::of(operation, &pair.subscriber, look, how, tell);
    let began = Instant::now();
    let failures = tokio::select! {
        failures = Box::pin(work.all()) => failures,
        never = work.watch() => match never {},
    };
    if failures.is_empty() {
        return Ok(Built { took: began.elapsed() });
    }
    Err(findings::error(operation, &pair.subscriber, failures).await)
}

/// One object to create.
#[derive(Clone, Copy)]
enum Job<'a> {
    Index(&'a IndexBuild),
    Key(&'a LateKey),
    Analysis(&'a QualifiedName),
}

impl Job<'_> {
    fn what(&self) -> String {
        match self {
            Self::Index(build) => {
                format!("building {} of {}", Object::Index(build.name.clone()), build.table.to_text())
            }
            Self::Key(key) => format!("making foreign key {}", key_name(&key.table, &key.name)),
            Self::Analysis(table) => format!("analyzing {}", table.to_text()),
        }
    }

    fn table(&self) -> &QualifiedName {
        match self {
            Self::Index(build) => &build.table,
            Self::Key(key) => &key.table,
            Self::Analysis(table) => table,
        }
    }

    /// The tables on which nothing else is created meanwhile.
    fn tables(&self) -> BTreeSet<QualifiedName> {
        match self {
            Self::Key(key) => [&key.table, &key.references].into_iter().cloned().collect(),
            _ => [self.table().clone()].into(),
        }
    }
}

/// The work in progress.
struct Work<'a> {
    operation: &'a Operation<'a>,
    db: &'a Database,
    look: &'a Look,
    how: &'a How,
    tell: &'a Tell<'a>,
    analyzed: Vec<&'a QualifiedName>,
    done: AtomicUsize,
    all: usize,
}

impl<'a> Work<'a> {
    fn of(operation: &'a Operation<'a>, db: &'a Database, look: &'a Look, how: &'a How, tell: &'a Tell<'a>) -> Self {
        let changed = || {
            let late = &look.late;
            let indexed = late.indexes.iter().map(|index| &index.table);
            let keyed = late.keys.iter().map(|key| &key.table);
            indexed.chain(keyed).chain(late.statistics.iter().flat_map(|turn| &turn.tables)).collect::<BTreeSet<_>>()
        };
        let analyzed = match how.analyzes {
            Analyze::All => look.tables.iter().collect(),
            Analyze::Changed => changed(),
            Analyze::None => BTreeSet::new(),
        };
        let builds: usize = look.late.indexes.iter().map(|index| index.builds.len()).sum();
        let all = builds + look.late.keys.len() + analyzed.len();
        Self {
            operation,
            db,
            look,
            how,
            tell,
            analyzed: analyzed.into_iter().collect(),
            done: AtomicUsize::new(0),
            all,
        }
    }

    /// Creates everything, and returns what could not be created.
    async fn all(&self) -> Vec<Failure> {
        let late = &self.look.late;
        let builds = late.indexes.iter().flat_map(|index| &index.builds).map(Job::Index);
        let mut failures = self.several(self.largest_first(builds)).await;
        for index in &late.indexes {
            self.finish(index, &mut failures).await;
        }
        let keys = late.keys.iter().filter(|key| !lacks_index(key, &mut failures)).map(Job::Key).collect::<Vec<_>>();
        failures.extend(self.several(self.largest_first(keys)).await);
        for turn in &late.statistics {
            let what = format!("making {}", turn.object);
            failures
                .extend(self.turn(&what, turn).await.err().map(|error| Failure::of(turn.object.clone(), what, error)));
        }
        let analyzed = self.analyzed.iter().copied().map(Job::Analysis);
        failures.extend(self.several(self.largest_first(analyzed)).await);
        failures
    }

    fn largest_first<'j>(&self, jobs: impl IntoIterator<Item = Job<'j>>) -> Vec<Job<'j>> {
        let mut jobs: Vec<_> = jobs.into_iter().collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(self.bytes(job.table())));
        jobs
    }

    fn bytes(&self, table: &QualifiedName) -> u64 {
        self.look.sizes.get(table).map(|size| size.bytes).unwrap_or_default()
    }

    /// Does several jobs at a time. If one fails with an error that the others would meet too, no more jobs begin.
    async fn several(&self, jobs: Vec<Job<'_>>) -> Vec<Failure> {
        let mut queue = Queue::new(jobs.into_iter().map(|job| (job, job.tables())), self.how.parallel);
        let (mut running, mut failures) = (FuturesUnordered::new(), Vec::new());
        loop {
            if self.operation.is_stopped() {
                queue.give_up();
            }
            while let Some((job, tables)) = queue.next() {
                running.push(async move { (Box::pin(self.run(job)).await, tables) });
            }
            let Some((ended, tables)) = running.next().await else { return failures };
            queue.ended(&tables);
            if let Err(failure) = ended {
                if failure.ends_all() {
                    queue.give_up();
                }
                failures.push(failure);
            }
        }
    }

    async fn run(&self, job: Job<'_>) -> Result<(), Failure> {
        let (what, began) = (job.what(), Instant::now());
        (self.tell)(&Event::Began { what: &what, bytes: self.bytes(job.table()) });
        let ran = match job {
            Job::Index(build) => self.index(&what, build).await,
            Job::Key(key) => self.key(&what, key).await,
            Job::Analysis(table) => self.alone(&what, &[indexing::analyze(table)]).await,
        };
        match ran {
            Ok(()) => {
                let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
                (self.tell)(&Event::Ended { what: &what, took: began.elapsed(), done, all: self.all });
                Ok(())
            }
            Err(error) => {
                (self.tell)(&Event::Failed { what: &what, why: error.summary() });
                Err(Failure::of(job.object(), what, error))
            }
        }
    }

    /// Runs statements that do not block others, however long they take.
    async fn alone(&self, what: &str, statements: &[crate::postgres::Statement]) -> Result<()> {
        let limits = self.operation.limits();
        Ok(indexing::run(self.db, what, statements, self.how.memory.as_deref(), limits).await?)
    }

    async fn turn(&self, what: &str, turn: &Turn) -> Result<()> {
        self.operation.go_on()?;
        let tables = turn.tables.iter().cloned().collect();
        Ok(in_short_turns(self.db, what, &turn.statements, &tables, self.operation.limits()).await?)
    }

    async fn key(&self, what: &str, key: &LateKey) -> Result<()> {
        for step in &key.steps {
            match step {
                KeyStep::Add(turn) => self.turn(what, turn).await?,
                KeyStep::Validate(table, statement) => {
                    let validated = self.alone(what, std::slice::from_ref(statement)).await;
                    if let Err(error) = validated {
                        return Err(findings::of_key(self.db, table, &key.name, error).await);
                    }
                }
            }
        }
        Ok(())
    }

    async fn index(&self, what: &str, build: &IndexBuild) -> Result<()> {
        for _ in 1..TRIES {
            match self.index_once(what, build).await {
                Err(error) if error.is(&SqlState::T_R_DEADLOCK_DETECTED) || error.is(&SqlState::DUPLICATE_TABLE) => {
                    tracing::info!(cause = %error, "{what}: once more");
                }
                ended => return ended,
            }
        }
        self.index_once(what, build).await
    }

    /// Builds an index in its current state. An index whose build failed is dropped again: it would slow down writes,
    /// and a unique one would refuse rows.
    async fn index_once(&self, what: &str, build: &IndexBuild) -> Result<()> {
        let standing = self.settled(build).await?;
        if standing == Some(true) {
            return Ok(());
        }
        let build = IndexBuild { is_left_over: standing.is_some(), ..build.clone() };
        let built = match self.alone(what, &build.statements()).await {
            Err(error) => Err(findings::of_index(self.db, &build, error).await),
            built => built,
        };
        if built.as_ref().is_err_and(|error| error.cause().is_some_and(|cause| cause.code().is_some()))
            && !build.is_attached
            && !self.operation.is_stopped()
            && let Some(standing) = indexing::standing(self.db, Some(&build.table), &build.name).await?
            && !standing.is_valid
            && standing.builder.is_none()
        {
            self.alone(&format!("dropping {}", build.name.to_text()), &[definition::drop_left_over(&build.name)])
                .await?;
        }
        built
    }

    /// Whether an index exists and is valid, once nobody else is building it any more.
    async fn settled(&self, build: &IndexBuild) -> Result<Option<bool>> {
        let (mut waiting, mut told) = (self.operation.waiting(), false);
        loop {
            let standing =
                self.operation.unless_stopped(indexing::standing(self.db, Some(&build.table), &build.name)).await;
            let look = standing.map(|standing| match standing.as_ref().map(|one| (one.is_valid, one.builder)) {
                Some((false, Some(process))) => {
                    let object = Object::Index(build.name.clone());
                    if !told {
                        (self.tell)(&Event::Waits { object: &object, process });
                        told = true;
                    }
                    let what = format!("{object} is being built by process {process} of the server");
                    Waited::NotYet(self.operation.error(what))
                }
                standing => Waited::There(standing.map(|(is_valid, _)| is_valid)),
            });
            if let Some(standing) = waiting.after(look).await? {
                return Ok(standing);
            }
        }
    }

    /// Runs the steps after all parts of an index are built.
    async fn finish(&self, index: &LateIndex, failures: &mut Vec<Failure>) {
        let has_failed = |build: &IndexBuild| failures.iter().any(|failure| failure.is_of_index(&build.name));
        if failures.iter().any(Failure::ends_all) || index.builds.iter().any(has_failed) {
            return;
        }
        for turn in &index.turns {
            let what = format!("making {}", turn.object);
            if let Err(error) = self.turn(&what, turn).await {
                failures.push(Failure::of(Object::Index(index.name.clone()), what, error));
                return;
            }
        }
    }

    /// Reports the progress of the builds until it is dropped.
    async fn watch(&self) -> Infallible {
        let ours: BTreeSet<_> =
            self.look.late.indexes.iter().flat_map(|index| &index.builds).map(|build| &build.name).collect();
        let (db, mut pace) = (self.db.briefly(), Pace::default());
        loop {
            sleep(LOOKS).await;
            // If the query fails now, the next one may succeed.
            let Ok(Ok(building)) = timeout(LOOK_TIME, indexing::building(&db)).await else { continue };
            let ours = |one: &indexing::Building| one.index.as_ref().is_some_and(|name| ours.contains(name));
            for one in building.iter().filter(|one| ours(one)) {
                if pace.is_due(one, Instant::now()) {
                    (self.tell)(&Event::Builds(one));
                }
            }
        }
    }
}

impl Job<'_> {
    fn object(&self) -> Object {
        match self {
            Self::Index(build) => Object::Index(build.name.clone()),
            Self::Key(key) => Object::Constraint(key.table.clone(), key.name.clone()),
            Self::Analysis(table) => Object::Table((*table).clone()),
        }
    }
}

/// Whether a foreign key cannot be created because the index that it depends on could not be. Then it is a failure.
fn lacks_index(key: &LateKey, failures: &mut Vec<Failure>) -> bool {
    let ends_all = failures.iter().any(Failure::ends_all);
    let lacked = key.counts_on.as_ref().filter(|index| failures.iter().any(|failure| failure.is_of_index(index)));
    if let Some(index) = lacked {
        let what = format!("making foreign key {}", key_name(&key.table, &key.name));
        let error = Error::new(format!("it counts on {}, which could not be built", Object::Index(index.clone())));
        failures.push(Failure::of(Object::Constraint(key.table.clone(), key.name.clone()), what, error));
    }
    ends_all || lacked.is_some()
}
