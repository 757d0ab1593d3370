// SPDX-License-Identifier: MPL-2.0

//! A switch: writes leave one side in one open transaction. If anything fails before its commit, writers stay where they were.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{try_join, try_join3};
use tokio::time::{Instant, sleep};

use super::locking::Locking;
use super::memory::{Left, Memory};
use super::run::Run;
use super::steps::Under;
use super::{Unpublished, Writes};
use crate::postgres::fence::{self, Alone, Around, Ending, Gate, Hold, Waiting};
use crate::postgres::slot::Forerunner;
use crate::postgres::subscription::{self, SyncState, turning};
use crate::postgres::{HeldSession, Ident, QualifiedName, Statement};
use crate::replication::comparison::{Closed, Compared, Question, Sessions};
use crate::replication::error::{Error, Result};
use crate::replication::sequences::{self, Prepared, Sides};
use crate::replication::{Look, Place, draining, names};

/// How often to tell the server that this client is still there.
const BEAT: Duration = Duration::from_secs(1);

/// How long the other side may take to catch up while writers wait.
const DRAIN: Duration = Duration::from_secs(10);

/// How many tries are made if the other side takes too long to catch up while writers wait.
const LATE_TRIES: usize = 4;

/// A switch to do.
pub(super) struct Switch<'r> {
    pub(super) run: &'r Run<'r>,
    pub(super) from: Place,
    pub(super) number: u64,
    pub(super) under: &'r [Under],
}

/// A committed switch.
pub(super) struct Done {
    /// The new memory of the old side's fence.
    pub(super) memory: Memory,
    /// Since when nobody can write.
    pub(super) since: Instant,
}

/// Why a switch was not committed.
pub(super) struct NotDone {
    pub(super) error: Error,
    /// Whether it may have been committed anyway.
    pub(super) is_open: bool,
}

impl From<Error> for NotDone {
    fn from(error: Error) -> Self {
        Self { error, is_open: false }
    }
}

impl From<crate::postgres::Error> for NotDone {
    fn from(error: crate::postgres::Error) -> Self {
        Error::from(error).into()
    }
}

/// Everything that is read and opened before writers wait.
struct Ahead {
    session: HeldSession,
    sequences: Prepared,
    comparison: Option<(Closed, Sessions)>,
    forerunner: Option<Forerunner>,
}

/// The results of the work while writers wait.
struct Arrived {
    position: String,
    sequences: usize,
    waiting: Waiting,
}

/// The result of a try.
enum Try {
    Done(Box<Done>),
    /// The other side took too long.
    Late(String),
}

impl Switch<'_> {
    /// Does the switch.
    ///
    /// # Errors
    /// When anything stands in the way. Unless [`NotDone::is_open`], nothing has changed.
    pub(super) async fn perform(&self) -> Result<Done, NotDone> {
        let mut ahead = Box::pin(self.ahead()).await?;
        let mut last = String::new();
        for _ in 0..LATE_TRIES {
            self.run.catch_up(self.to()).await?;
            if let Some(forerunner) = &mut ahead.forerunner {
                forerunner.advance("following what is written", self.run.limits()).await?;
            }
            match Box::pin(self.try_once(&mut ahead)).await? {
                Try::Done(done) => return Ok(*done),
                Try::Late(why) => last = why,
            }
        }
        Err(self.run.operation().error(last).detail("Nothing has changed: writers go on.").into())
    }

    pub(super) fn to(&self) -> Place {
        self.from.other()
    }

    pub(super) fn does(&self, what: Under) -> bool {
        self.under.contains(&what)
    }

    async fn ahead(&self) -> Result<Ahead> {
        let run = self.run;
        let session = run.db(self.from).session("closing tables to writers", run.limits()).await?;
        let sequences = sequences::prepare(run.operation(), &self.sides(), &run.sequence_question()).await?;
        let comparison = match run.comparison_question() {
            Some(question) => {
                let closed =
                    Closed::prepare(run.operation(), run.pair(), &question, run.terms().compare_max_rows).await?;
                let sessions = closed.open(run.operation(), run.pair()).await?;
                Some((closed, sessions))
            }
            None => None,
        };
        let forerunner = self.forerunner().await?;
        Ok(Ahead { session, sequences, comparison, forerunner })
    }

    fn sides(&self) -> Sides {
        let run = self.run;
        Sides { from: run.db(self.from).clone(), to: run.db(self.to()).clone(), place: self.from }
    }

    async fn try_once(&self, ahead: &mut Ahead) -> Result<Try, NotDone> {
        let run = self.run;
        let side = run.facts.side(self.from);
        let relations: Vec<&QualifiedName> = side.standing.relations.iter().map(|one| &one.name).collect();
        let refusal = run.refusal(self.from, true);
        let around = Around {
            fence: &run.facts.names.fence,
            tables: &run.facts.tables,
            relations: &relations,
            covers: run.terms().writes == Writes::Fence,
            refusal: &refusal,
        };
        let mut locking = Locking::begin(run, self.from, &mut ahead.session).await?;
        let (closed, since) = Box::pin(locking.close(&mut ahead.session, around)).await?;
        let mut hold = Hold::of(&mut ahead.session, closed, run.limits());
        // Another switch may have left this side while this one waited for the lock.
        if hold.before().0 != Gate::Open {
            let _ = hold.let_go().await;
            return Err(run.operation().error("another run has switched in the meantime; apply again").into());
        }
        let (comparison, forerunner) = (ahead.comparison.as_mut(), &mut ahead.forerunner);
        let work = self.arrive(locking.process(), &ahead.sequences, comparison, forerunner);
        match Box::pin(beating(&mut hold, work)).await {
            Ok(Ok(arrived)) => self.leave(hold, arrived, since).await.map(Box::new).map(Try::Done),
            Ok(Err(late)) => {
                let _ = hold.let_go().await;
                Ok(Try::Late(late))
            }
            Err(error) => {
                // Writers go on as soon as the server gets this; a broken connection has the same effect.
                let _ = hold.let_go().await;
                Err(error.into())
            }
        }
    }

    /// Does everything that must be done while writers wait, up to the commit.
    async fn arrive(
        &self,
        process: i32,
        prepared: &Prepared,
        comparison: Option<&mut (Closed, Sessions)>,
        forerunner: &mut Option<Forerunner>,
    ) -> Result<std::result::Result<Arrived, String>> {
        let run = self.run;
        let slots: BTreeMap<_, _> = run.slots_to(self.to()).into_iter().map(|(name, slot)| (slot, name)).collect();
        let drained = draining::drained(run.operation(), run.db(self.from), &slots, DRAIN);
        let (drained, ()) = try_join(drained, self.still_ready()).await?;
        let position = match drained {
            Ok(position) => position,
            Err(late) => return Ok(Err(late)),
        };
        let copied = async {
            self.compare(comparison).await?;
            sequences::copy(run.operation(), &self.sides(), prepared).await
        };
        let waiting = async { fence::waiting(run.db(self.from), process).await.map_err(Error::from) };
        let (copied, begun, waiting) = Box::pin(try_join3(copied, self.begin_slots(forerunner), waiting)).await?;
        Ok(begun.map(|()| Arrived { position, sequences: copied.len(), waiting }))
    }

    /// Somebody may have added a table to a subscription.
    async fn still_ready(&self) -> Result<()> {
        let db = self.run.db(self.to()).within(self.run.limits());
        for (name, _) in self.run.slots_to(self.to()) {
            let tables = subscription::tables(&db, &name).await?;
            let meant = &self.run.facts.tables;
            let late = tables.into_iter().filter(|(table, state)| *state != SyncState::Ready || !meant.contains(table));
            let late: BTreeSet<_> = late.map(|(table, _)| table).collect();
            if !late.is_empty() {
                let tables = names::tables(&late);
                return Err(self.run.operation().error(format!("subscription {name} has not copied {tables} yet")));
            }
        }
        Ok(())
    }

    async fn compare(&self, comparison: Option<&mut (Closed, Sessions)>) -> Result<()> {
        let Some((closed, sessions)) = comparison else { return Ok(()) };
        let differing = closed.compare(self.run.operation(), sessions).await?;
        if differing.is_empty() { Ok(()) } else { Err(self.differs(&differing)) }
    }

    fn differs(&self, tables: &[Compared]) -> Error {
        let rows = |rows: Option<u64>| rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
        let line = |table: &Compared| {
            let (name, here, there) = (table.name.to_text(), rows(table.publisher_rows), rows(table.subscriber_rows));
            format!("{name}: {here} rows on the publisher, {there} on the subscriber")
        };
        self.run
            .operation()
            .error("tables differ between the two sides, so nothing was switched")
            .detail(names::list(tables.iter().map(line)))
            .detail("The action neonrepl_compare_tables with mode = \"rows\" names the rows that differ.")
            .about("compare")
    }

    /// Commits.
    async fn leave(&self, mut hold: Hold<'_>, arrived: Arrived, since: Instant) -> Result<Done, NotDone> {
        let run = self.run;
        let (statements, memory) = self.last_statements(&hold, &arrived, since);
        if let Err(error) = hold.run("leaving a side", &statements).await {
            let _ = hold.let_go().await;
            return Err(error.into());
        }
        match hold.commit(run.db(self.from)).await {
            Ok(()) => Ok(Done { memory, since }),
            Err((ending, error)) => Err(NotDone { error: error.into(), is_open: ending == Ending::Unknown }),
        }
    }

    /// The statements that take effect with the commit.
    fn last_statements(&self, hold: &Hold<'_>, arrived: &Arrived, since: Instant) -> (Vec<Statement>, Memory) {
        let run = self.run;
        let mut memory = Memory::read(hold.before().1);
        if memory.subscriptions.is_empty() {
            memory = run.remembered(self.from);
        }
        let mut statements = Vec::new();
        if self.does(Under::Start) {
            for (name, slot) in run.slots_to(self.from) {
                statements.extend(turning::start(&name, &slot));
                memory.stopped.remove(&name);
            }
        }
        if run.terms().unpublished_writes == Unpublished::Block && run.terms().writes == Writes::Fence {
            memory.read_only = memory.read_only.take().or_else(|| Some(run.default_now(self.from)));
            statements.extend(run.default_of(self.from, Some("on")));
        }
        memory.left = Some(Left {
            switch: self.number,
            by: arrived.waiting.role.clone(),
            at: arrived.waiting.at.clone(),
            message: run.terms().message.clone(),
            position: arrived.position.clone(),
            pause_ms: milliseconds(since.elapsed()),
            writers_waited: arrived.waiting.sessions,
            sequences_copied: u64::try_from(arrived.sequences).unwrap_or_default(),
        });
        statements.push(run.facts.names.fence.describing(&memory.text()));
        (statements, memory)
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Does work, and keeps telling the server that this client is still there.
async fn beating<T>(hold: &mut Hold<'_>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            () = sleep(BEAT) => hold.beat().await?,
        }
    }
}

impl Run<'_> {
    /// Undoes what a switch from this side has begun. The next call finds what cannot be undone now.
    pub(super) async fn undo_switch(&mut self, from: Place) {
        self.finish_in_any_case();
        for stream in self.facts.streams_to(from) {
            if stream.position.is_none()
                && let Err(cause) = self.drop_slot(from.other(), &stream.slot).await
            {
                tracing::info!(%cause, "a slot is left for the next call to take away");
            }
        }
        if !self.facts.side(from.other()).memory.hastened.is_empty()
            && let Err(cause) = self.calm(from.other()).await
        {
            tracing::info!(%cause, "synchronous_commit is put back by the next call");
        }
    }

    /// The sequences to copy.
    pub(super) fn sequence_question(&self) -> sequences::Question {
        sequences::Question {
            publications: BTreeSet::new(),
            tables: self.facts.tables.clone(),
            sequences: self.terms().sequences.clone(),
            margin: self.terms().sequence_margin,
        }
    }

    /// The tables to compare, if any.
    pub(super) fn comparison_question(&self) -> Option<Question> {
        let mode = self.terms().compare?;
        let publications: BTreeSet<Ident> =
            self.facts.forward.values().flat_map(|stream| stream.subscription.publications.iter().cloned()).collect();
        Some(Question { publications, tables: BTreeSet::new(), mode, max_differences: 0 })
    }
}

/// Waits for the lock: two calls for the same cutover run one after the other.
pub(super) async fn alone(run: &Run<'_>) -> Result<Alone> {
    let mut waiting = run.operation().waiting();
    loop {
        let look = Alone::begin(&run.pair().publisher, &run.facts.names.fence, run.limits()).await;
        let look = look.map_err(Error::from).map(|alone| match alone {
            Some(alone) => Look::There(alone),
            None => Look::NotYet(run.operation().error("another run of the same cutover has not ended")),
        });
        if let Some(alone) = waiting.after(look).await? {
            return Ok(alone);
        }
    }
}
