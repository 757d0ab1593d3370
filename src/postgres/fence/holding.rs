// SPDX-License-Identifier: MPL-2.0

//! The one open transaction in which a fence is armed.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::Row;

use super::{Asked, Fence, Fenced, Gate, Refusal, read_relation, text};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::lost::look_again;
use crate::postgres::session::{Begin, Session, Transaction};
use crate::postgres::sql::{QualifiedName, Statement};
use crate::postgres::wait::{Pauses, Waiter};

const DOING: &str = "closing tables to writers";

/// How long to wait for a transaction that is about to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to ask for it meanwhile.
const POLL: Pauses = Pauses::of(Duration::from_millis(100));

/// The tables that a hold closes, and how.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The fence that is armed.
    pub fence: &'a Fence,
    /// The tables that the fence protects.
    pub tables: &'a BTreeSet<QualifiedName>,
    /// The relations through which they can be written to, in the order of locking. Each new try uses another order,
    /// because one that conflicts with the application's own order never succeeds.
    pub relations: &'a [&'a QualifiedName],
    /// Whether to put the fence on relations that it does not cover yet.
    pub covers: bool,
    /// The message for writers.
    pub refusal: &'a Refusal,
}

/// Tables that nobody can write to: writers wait for the end of this transaction. When it is dropped or its connection
/// breaks, the server rolls it back and writers go on.
pub struct Hold<'s> {
    transaction: Transaction<'s>,
    closed: Closed,
    limits: Limits,
}

/// Proof that a session holds tables closed, until a [`Hold::of`] it ends or the session is dropped.
#[derive(Debug, Clone)]
pub struct Closed {
    /// The transaction's number, to ask what became of it when the answer to its commit is lost.
    number: String,
    before: (Gate, Option<String>),
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was committed.
    Committed,
    /// It was rolled back.
    Undone,
    /// Unknown: the server does not answer, or has forgotten it.
    Unknown,
}

impl<'s> Hold<'s> {
    /// Closes tables and keeps them closed. See [`Hold::close`].
    ///
    /// # Errors
    /// As [`Hold::close`].
    pub async fn take(
        session: &'s mut Session,
        around: &Around<'_>,
        times: (Duration, Duration),
        limits: &Limits,
    ) -> Result<Self> {
        let closed = Hold::close(session, around, times, limits).await?;
        Ok(Self::of(session, closed, limits))
    }

    /// Waits up to `patience` until nobody writes to the relations any more, and arms the fence around the tables. A
    /// server that hears nothing for the time `silence` rolls all of it back.
    ///
    /// # Errors
    /// When others write for longer (see [`Error::is_locked`]), the role lacks rights, or a query fails. Then nothing
    /// has changed.
    pub async fn close(
        session: &mut Session,
        around: &Around<'_>,
        (patience, silence): (Duration, Duration),
        limits: &Limits,
    ) -> Result<Closed> {
        let begin = Begin { lock_timeout: Some(patience), ..Begin::default() };
        let mut transaction = session.transaction(&begin);
        let silence = format!("SET LOCAL idle_in_transaction_session_timeout = {}", silence.as_millis().max(1));
        let lock = [Statement::new(silence), text::lock(around.relations.iter().copied())];
        match armed(&mut transaction, around, &lock, limits).await {
            Ok((number, before)) => Ok(Closed { number, before }),
            Err(error) => {
                // The first error says more than a connection that breaks now.
                let _ = transaction.roll_back(DOING, limits).await;
                Err(error)
            }
        }
    }

    /// Continues with the tables that a session holds closed.
    pub fn of(session: &'s mut Session, closed: Closed, limits: &Limits) -> Self {
        Self { transaction: session.resume(), closed, limits: limits.clone() }
    }

    /// What the function did before, and its comment. Nobody else can have changed it since the lock was taken.
    pub fn before(&self) -> (Gate, Option<&str>) {
        (self.closed.before.0, self.closed.before.1.as_deref())
    }

    /// The transaction's number.
    pub fn number(&self) -> &str {
        &self.closed.number
    }

    /// Tells the server that this client is still there.
    ///
    /// # Errors
    /// When the transaction has ended, so that writers go on.
    pub async fn beat(&mut self) -> Result<()> {
        self.transaction.query(DOING, "SELECT 1", &[], &self.limits).await.map(drop)
    }

    /// Runs statements that take effect with the commit.
    ///
    /// # Errors
    /// When one fails. Then the whole transaction is lost.
    pub async fn run(&mut self, doing: &str, statements: &[Statement]) -> Result<()> {
        self.transaction.run(doing, statements, &self.limits).await.map(drop)
    }

    /// Commits, so that the tables stay closed and waiting writers are refused. If the commit does not succeed, the
    /// server is asked what became of it, because it may have committed anyway.
    ///
    /// # Errors
    /// When it was rolled back, so that writers go on, or when its result is unknown. The error says which.
    pub async fn commit(self, db: &Database) -> std::result::Result<(), (Ending, Error)> {
        let (number, limits) = (self.closed.number, self.limits);
        let Err(error) = self.transaction.commit(DOING, &limits).await else { return Ok(()) };
        match ending(db, &number, &limits).await {
            Ending::Committed => Ok(()),
            Ending::Undone => {
                Err((Ending::Undone, error.noting("The transaction was rolled back: writers go on.".to_owned())))
            }
            Ending::Unknown => Err((Ending::Unknown, error.noting(UNKNOWN.to_owned()))),
        }
    }

    /// Lets writers go on.
    ///
    /// # Errors
    /// When the connection breaks. Writers go on then too.
    pub async fn let_go(self) -> Result<()> {
        self.transaction.roll_back(DOING, &self.limits).await
    }
}

const UNKNOWN: &str =
    "It is not known whether the tables are closed to writers. The next plan checks that, and says what is left to do.";

/// A transaction's number, and the function with its comment as it was before.
type Locked = (String, (Gate, Option<String>));

/// Takes the lock, covers what the fence does not cover yet, and arms it.
async fn armed(
    transaction: &mut Transaction<'_>,
    around: &Around<'_>,
    lock: &[Statement],
    limits: &Limits,
) -> Result<Locked> {
    transaction.run(DOING, lock, limits).await?;
    let locked = before(transaction, around.fence, limits).await?;
    let late = if around.covers { uncovered(transaction, around, limits).await? } else { Vec::new() };
    let arm = late.iter().map(|one| text::make_trigger(around.fence, &one.name));
    let arm = arm.chain([text::armed(around.fence, around.refusal)]);
    transaction.run(DOING, &arm.collect::<Vec<_>>(), limits).await?;
    Ok(locked)
}

/// The relations without the trigger, which were created after the fence. The lock prevents new ones.
async fn uncovered(transaction: &mut Transaction<'_>, around: &Around<'_>, limits: &Limits) -> Result<Vec<Fenced>> {
    let asked = Asked::of(around.fence, around.tables);
    let rows = transaction.query(DOING, text::RELATIONS, &asked.params(), limits).await?;
    let found: std::result::Result<Vec<Fenced>, tokio_postgres::Error> = rows.iter().map(read_relation).collect();
    let found = found.map_err(|error| transaction.error(DOING, Cause::Statement(error)))?;
    Ok(found.into_iter().filter(|one| !one.is_covered).collect())
}

async fn before(transaction: &mut Transaction<'_>, fence: &Fence, limits: &Limits) -> Result<Locked> {
    let none = BTreeSet::new();
    let asked = Asked::of(fence, &none);
    let rows = transaction.query(DOING, text::LOCKED, &asked.function_params(), limits).await?;
    let found = rows.first().map(read_locked).transpose();
    let found = found.map_err(|error| transaction.error(DOING, Cause::Statement(error)))?;
    found.ok_or_else(|| transaction.error(DOING, Cause::Unexpected("it answered nothing".to_owned())))
}

fn read_locked(row: &Row) -> std::result::Result<Locked, tokio_postgres::Error> {
    let gate = row.try_get::<_, Option<&str>>(1)?.map_or(Gate::Missing, text::gate);
    Ok((row.try_get(0)?, (gate, row.try_get(2)?)))
}

/// What became of a transaction, by its number. Waits for a server that restarts, and up to half a minute for a
/// transaction that has not ended yet.
///
/// Source: `pg_xact_status` in the Postgres documentation.
pub async fn ending(db: &Database, number: &str, limits: &Limits) -> Ending {
    let status = || async {
        let read = |row: &tokio_postgres::Row| row.try_get::<_, Option<String>>(0);
        let sql = "SELECT pg_xact_status($1::text::xid8)";
        let number = (&number as _, tokio_postgres::types::Type::TEXT);
        let found = db.query_all("asking for the outcome of a transaction", sql, &[number], read).await?;
        Ok::<_, Error>(found.into_iter().flatten().next())
    };
    let patience = Limits::within(PATIENCE);
    let mut waiter = Waiter::new(&patience, POLL);
    loop {
        match look_again(limits, status).await.flatten().as_deref() {
            Some("committed") => return Ending::Committed,
            Some("aborted") => return Ending::Undone,
            Some("in progress") if waiter.after(Ok::<Option<()>, Error>(None)).await.is_ok() => {}
            _ => return Ending::Unknown,
        }
    }
}
