// SPDX-License-Identifier: MPL-2.0

//! The exclusive use of one connection: work with limits, held transactions, and streams of rows.
//!
//! All work has limits. Work that exceeds them is cancelled on the server. A session knows what it may have left
//! running there, so that the pool can decide whether to use it again.

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
    /// Work was sent whose end has not been seen.
    at_work: bool,
    /// This work changes something.
    changes: bool,
    /// A transaction is open.
    in_transaction: bool,
    /// Nobody else may use the connection: a cancel request may still arrive, and hit the next statement.
    is_retired: bool,
    /// Something may still run on the server although nobody waits for it any more.
    has_lost: bool,
}

/// Work that may be repeated on another connection if it has not begun on this one.
#[derive(Clone, Copy)]
pub(super) enum Task<'a> {
    /// Statements of one scope, several in a transaction, and then a query for the result.
    Change(&'a [Statement], Option<Query<'a>>),
    /// Queries that each see the state at their turn. The answer has the rows of all of them, in order.
    Read(&'a [Query<'a>], LockWait),
    /// Changes, a query for their result, and a rollback.
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

    /// Reads all rows of a query. It waits at most a few seconds for another session's lock.
    ///
    /// # Errors
    /// Also when a limit is reached.
    pub async fn query(&mut self, doing: &str, sql: &str, params: &[Param<'_>], limits: &Limits) -> Result<Vec<Row>> {
        let rows = self.attempt(&Work::query(Some((sql, params)), LockWait::Brief), limits).await;
        Ok(rows.map_err(|failure| self.failed(doing, failure))?.unwrap_or_default())
    }

    /// Reads rows one by one, so that only a few are in memory. The limits apply to the whole read.
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

    /// A transaction, which begins with its first statement. If it is dropped before its end, it is rolled back,
    /// and its connection is closed.
    pub fn transaction(&mut self, how: &Begin) -> Transaction<'_> {
        Transaction::new(self, how)
    }

    /// Continues the open transaction.
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

    /// Takes the notices that arrived since the last call.
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

    /// Marks the connection so that nobody else uses it.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
    }

    /// Has the server cancel work that still runs there. Returns its process if that may still change something
    /// although nobody waits for it.
    pub(super) fn take_leftover(&mut self) -> Option<Backend> {
        let may_go_on = self.has_lost || self.in_transaction || (self.at_work && self.changes);
        if self.at_work {
            self.connection.cancel_later();
        }
        self.is_retired |= self.at_work || self.in_transaction;
        (self.at_work, self.in_transaction, self.has_lost) = (false, false, false);
        may_go_on.then(|| self.connection.backend().clone())
    }

    /// Whether the server answers; not checked if it has just done so.
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
