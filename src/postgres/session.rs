// SPDX-License-Identifier: MPL-2.0

//! The use of one connection, alone: work within limits, transactions that are held, rows as a stream.
//!
//! Whatever is sent has limits, and what they end is cancelled on the server. A session knows what it may have left
//! behind there, so that whoever keeps sessions can tell which is fit for another use.

mod rows;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use super::connection::{Backend, Connection, End, Failure, Left};
use super::error::{Cause, Error, Place, Result};
use super::limits::Limits;
use super::notice::Notice;
use super::sql::Statement;
use super::version::ServerVersion;
use super::work::{LockWait, Param, Query, Work};

pub use rows::Rows;
pub use transaction::{Begin, Isolation, Savepoint, Transaction};

/// One connection with its server, for one piece of work at a time.
pub struct Session {
    connection: Arc<Connection>,
    place: Place,
    /// Something is in the server's hands whose end has not been seen.
    at_work: bool,
    /// What is at work changes something.
    changes: bool,
    /// A transaction is open.
    in_transaction: bool,
    /// Nobody else is to use the connection: a request to cancel may be on its way, and hit whatever comes next.
    is_retired: bool,
    /// Something may go on in the server though nobody waits for it any more.
    has_lost: bool,
}

/// Work that may be repeated on another connection, where it has not begun on this one.
#[derive(Clone, Copy)]
pub(super) enum Task<'a> {
    /// Statements of one scope, several in a transaction, and then a query of what there is.
    Change(&'a [Statement], Option<Query<'a>>),
    /// Queries, each of which sees what is there when its turn comes. The answer has the rows of all of them, in order.
    Read(&'a [Query<'a>], LockWait),
    /// Changes, a query of what the server made of them, and their undoing.
    TryOut(&'a [String], Query<'a>, LockWait),
}

impl Session {
    /// Begins to use a connection; the place is for messages.
    pub(super) fn new(connection: Arc<Connection>, place: Place) -> Self {
        Self {
            connection,
            place,
            at_work: false,
            changes: false,
            in_transaction: false,
            is_retired: false,
            has_lost: false,
        }
    }

    /// The server's version.
    pub fn version(&self) -> ServerVersion {
        self.connection.version()
    }

    /// Reads rows, all of them. What it reads is waited for a few seconds at most where another session has locked it.
    ///
    /// # Errors
    /// Also when a limit is reached.
    pub async fn query(&mut self, doing: &str, sql: &str, params: &[Param<'_>], limits: &Limits) -> Result<Vec<Row>> {
        let rows = self.attempt(&Work::query(Some((sql, params)), LockWait::Brief), limits).await;
        Ok(rows.map_err(|failure| self.failed(doing, failure))?.unwrap_or_default())
    }

    /// Reads rows one by one: no more of them are in memory than are on their way. Limits hold for all of the reading.
    ///
    /// # Errors
    /// Also when a limit is reached.
    pub async fn rows<'s>(
        &'s mut self,
        doing: &str,
        sql: &str,
        params: &[Param<'_>],
        limits: &Limits,
    ) -> Result<Rows<'s>> {
        let ready = self.attempt(&Work::query(None, LockWait::Brief), limits).await;
        ready.map_err(|failure| self.failed(doing, failure))?;
        Rows::begin(self, doing, (sql, params), limits).await
    }

    /// A transaction, which begins with the first statement in it. Dropped before its end, it is undone, and its
    /// connection closed.
    pub fn transaction(&mut self, how: &Begin) -> Transaction<'_> {
        Transaction::new(self, how)
    }

    /// Goes on with the transaction that is open.
    pub(super) fn resume(&mut self) -> Transaction<'_> {
        Transaction::resumed(self)
    }

    /// Does work that is sent in one round trip.
    pub(super) async fn perform(
        &mut self,
        task: Task<'_>,
        limits: &Limits,
    ) -> std::result::Result<Option<Vec<Row>>, Failure> {
        match task {
            Task::Read(queries, wait) => self.attempt(&Work::queries(queries, wait), limits).await,
            Task::Change([], query) => self.attempt(&Work::query(query, LockWait::Brief), limits).await,
            Task::Change([one], query) => self.attempt(&Work::statement(one, query), limits).await,
            Task::Change(statements, query) => {
                self.transaction(&Begin::default()).commit_all(statements, query, limits).await
            }
            Task::TryOut(changes, query, wait) => {
                self.transaction(&Begin::default()).try_out(changes, query, wait, limits).await.map(Some)
            }
        }
    }

    /// Takes the notices that have come since they were last taken.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        self.connection.take_notices()
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether somebody else may use the connection now.
    pub(super) fn is_reusable(&self) -> bool {
        !(self.at_work || self.in_transaction || self.is_retired || self.connection.is_closed())
    }

    /// Says that nobody else is to use the connection.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    /// Has the server cancel what is still at work there. Returns its process where that may still change something
    /// though nobody waits for it.
    pub(super) fn take_leftover(&mut self) -> Option<Backend> {
        let may_go_on = self.has_lost || self.in_transaction || (self.at_work && self.changes);
        if self.at_work {
            self.connection.cancel_later();
        }
        self.is_retired |= self.at_work || self.in_transaction;
        (self.at_work, self.in_transaction, self.has_lost) = (false, false, false);
        may_go_on.then(|| self.connection.backend().clone())
    }

    /// Whether the server answers: not asked where it has only just done so.
    pub(super) async fn is_alive(&self, doubtful_after: Duration) -> bool {
        self.connection.idle_for() < doubtful_after || self.connection.is_alive().await
    }

    async fn attempt(&mut self, work: &Work<'_>, limits: &Limits) -> std::result::Result<Option<Vec<Row>>, Failure> {
        self.begin(work.changes);
        let end = Box::pin(self.connection.send_unless(work, limits.reached())).await;
        self.end(end)
    }

    fn begin(&mut self, changes: bool) {
        (self.at_work, self.changes) = (true, changes);
    }

    fn end<T>(&mut self, end: End<std::result::Result<T, Failure>>) -> std::result::Result<T, Failure> {
        self.is_retired |= !matches!(end, End::Done(_));
        let result = match end {
            End::Done(result) | End::Cancelled(result) => result,
            End::StillRuns(cause) => {
                self.has_lost = true;
                return Err(Failure::of(cause));
            }
        };
        self.at_work = false;
        let is_lost = |failure: &Failure| failure.is_broken() && failure.left == Left::Unknown;
        self.has_lost |= result.as_ref().is_err_and(is_lost);
        result
    }

    fn failed(&self, doing: &str, failure: Failure) -> Error {
        self.error(doing, failure.cause)
    }

    fn error(&self, doing: &str, cause: Cause) -> Error {
        Error::new(doing, self.place.clone(), cause)
    }
}
