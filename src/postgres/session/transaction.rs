// SPDX-License-Identifier: MPL-2.0

//! Transactions, in one round trip or over several.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::{Rows, Session};
use crate::postgres::connection::Failure;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::notice::Notice;
use crate::postgres::sql::Statement;
use crate::postgres::work::{LockWait, Param, Query, Request, Work, read_back, script};

/// The isolation level of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Each statement sees what was committed before it.
    #[default]
    ReadCommitted,
    /// All statements see what was committed before the first.
    RepeatableRead,
    /// Like `RepeatableRead`, and as if no other transaction ran at the same time.
    Serializable,
}

/// How a transaction begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// Its isolation level.
    pub isolation: Isolation,
    /// Whether it may only read.
    pub read_only: bool,
    /// How long each statement waits for a lock; without it, as long as its limits allow.
    pub lock_timeout: Option<Duration>,
}

impl Begin {
    fn statements(&self) -> Vec<String> {
        let isolation = match self.isolation {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::RepeatableRead => "REPEATABLE READ",
            Isolation::Serializable => "SERIALIZABLE",
        };
        let access = if self.read_only { " READ ONLY" } else { "" };
        let begin = format!("BEGIN ISOLATION LEVEL {isolation}{access}");
        let wait = self.lock_timeout.map(|time| format!("SET LOCAL lock_timeout = {}", time.as_millis().max(1)));
        [begin].into_iter().chain(wait).collect()
    }
}

/// A transaction of a session. If it is dropped before its end, it is rolled back, and its connection is closed.
///
/// Statements that begin it or handle savepoints are sent together with the next real statement.
pub struct Transaction<'s> {
    session: &'s mut Session,
    unsent: Vec<String>,
    savepoints: usize,
}

/// A savepoint of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub struct Savepoint(usize);

impl<'s> Transaction<'s> {
    pub(super) fn new(session: &'s mut Session, how: &Begin) -> Self {
        Self { session, unsent: how.statements(), savepoints: 0 }
    }

    /// The open transaction of the session.
    pub(super) fn resumed(session: &'s mut Session) -> Self {
        Self { session, unsent: Vec::new(), savepoints: 0 }
    }

    /// Runs statements in order, all in one round trip. If one fails, the transaction cannot continue until it rolls
    /// back to a savepoint. Returns the server's notices.
    ///
    /// # Errors
    /// Also when a limit is reached: then the running statement is cancelled.
    pub async fn run(&mut self, doing: &str, statements: &[Statement], limits: &Limits) -> Result<Vec<Notice>> {
        let statements = statements.iter().map(|statement| Request::Run(statement.text()));
        self.send(doing, statements.collect(), limits).await?;
        Ok(self.session.take_notices())
    }

    /// Runs thousands of statements in order, in one message. The error does not say which one failed.
    ///
    /// # Errors
    /// As [`Transaction::run`].
    pub async fn run_script(&mut self, doing: &str, statements: &[Statement], limits: &Limits) -> Result<Vec<Notice>> {
        let text = script(statements);
        self.send(doing, vec![Request::Script(&text)], limits).await?;
        Ok(self.session.take_notices())
    }

    /// Reads all rows of a query.
    ///
    /// # Errors
    /// Also when a limit is reached.
    pub async fn query(&mut self, doing: &str, sql: &str, params: &[Param<'_>], limits: &Limits) -> Result<Vec<Row>> {
        Ok(self.send(doing, vec![Request::Read((sql, params))], limits).await?.unwrap_or_default())
    }

    /// Reads rows one by one, so that only a few are in memory. The limits apply to the whole read.
    ///
    /// # Errors
    /// Also when a limit is reached.
    pub async fn rows(&mut self, doing: &str, sql: &str, params: &[Param<'_>], limits: &Limits) -> Result<Rows<'_>> {
        self.send(doing, Vec::new(), limits).await?;
        Rows::begin(self.session, doing, (sql, params), limits).await
    }

    /// Sets a savepoint.
    pub fn savepoint(&mut self) -> Savepoint {
        self.savepoints += 1;
        self.unsent.push(format!("SAVEPOINT s{}", self.savepoints));
        Savepoint(self.savepoints)
    }

    /// Rolls back to a savepoint, from which a failed transaction can continue.
    pub fn roll_back_to(&mut self, savepoint: &Savepoint) {
        self.unsent.push(format!("ROLLBACK TO SAVEPOINT s{}", savepoint.0));
    }

    /// Releases a savepoint, and keeps the later changes.
    pub fn release(&mut self, savepoint: &Savepoint) {
        self.unsent.push(format!("RELEASE SAVEPOINT s{}", savepoint.0));
    }

    /// Commits the transaction.
    ///
    /// In a failed transaction, Postgres turns `COMMIT` into `ROLLBACK` and reports no error: only the command tag
    /// shows it, which the driver hides. So a query is sent before it in the same round trip: it fails in such a
    /// transaction only.
    ///
    /// # Errors
    /// When nothing was committed. After an error that [`is_lost`](crate::postgres::Error::is_lost), that is unknown.
    pub async fn commit(mut self, doing: &str, limits: &Limits) -> Result<()> {
        if !self.session.in_transaction {
            return Ok(());
        }
        match self.finish(&["SELECT 1", "COMMIT"], limits).await {
            Ok(()) => Ok(()),
            Err(failure) if is_spoiled(&failure) => Err(self.session.error(doing, Cause::RolledBack)),
            Err(failure) => Err(self.session.failed(doing, failure)),
        }
    }

    /// Rolls the transaction back.
    ///
    /// # Errors
    /// When the connection breaks; then it is rolled back too.
    pub async fn roll_back(mut self, doing: &str, limits: &Limits) -> Result<()> {
        self.unsent.clear();
        if !self.session.in_transaction {
            return Ok(());
        }
        let ended = self.finish(&["ROLLBACK"], limits).await;
        ended.map_err(|failure| self.session.failed(doing, failure))
    }

    /// Runs everything in one round trip, and then a query for the result. `None` means that there was no query, or
    /// that only the query failed.
    pub(super) async fn commit_all(
        self,
        statements: &[Statement],
        query: Option<Query<'_>>,
        limits: &Limits,
    ) -> std::result::Result<Option<Vec<Row>>, Failure> {
        let begin = [Request::Wait(LockWait::Patient)].into_iter().chain(requests(&self.unsent));
        let statements = statements.iter().map(|statement| Request::Run(statement.text()));
        let requests = begin.chain(statements).chain([Request::Run("COMMIT")]).chain(read_back(query)).collect();
        let work = Work { requests, changes: true, all_or_nothing: true };
        self.session.attempt(&work, limits).await
    }

    /// Makes changes, runs a query and rolls back, all in one round trip.
    pub(super) async fn try_out(
        self,
        changes: &[String],
        query: Query<'_>,
        wait: LockWait,
        limits: &Limits,
    ) -> std::result::Result<Vec<Row>, Failure> {
        let begin = [Request::Wait(wait)].into_iter().chain(requests(&self.unsent));
        let end = [Request::Read(query), Request::Run("ROLLBACK")];
        let work = Work {
            requests: begin.chain(requests(changes)).chain(end).collect(),
            changes: false,
            all_or_nothing: true,
        };
        let rows = self.session.attempt(&work, limits).await;
        // Notices of a rolled back change do not matter.
        self.session.take_notices();
        Ok(rows?.unwrap_or_default())
    }

    /// An error of this transaction's server.
    pub(in crate::postgres) fn error(&self, doing: &str, cause: Cause) -> Error {
        self.session.error(doing, cause)
    }

    /// Sends pending requests, and more.
    async fn send(&mut self, doing: &str, more: Vec<Request<'_>>, limits: &Limits) -> Result<Option<Vec<Row>>> {
        let unsent = std::mem::take(&mut self.unsent);
        let patient = (!self.session.in_transaction).then_some(Request::Wait(LockWait::Patient));
        self.session.in_transaction = true;
        let requests = patient.into_iter().chain(requests(&unsent)).chain(more).collect();
        let work = Work { requests, changes: false, all_or_nothing: true };
        let answer = self.session.attempt(&work, limits).await;
        answer.map_err(|failure| self.session.failed(doing, failure))
    }

    /// Sends pending requests and the end of the transaction. Then it has ended, well or badly, unless the end still
    /// runs.
    async fn finish(&mut self, end: &[&str], limits: &Limits) -> std::result::Result<(), Failure> {
        let requests = requests(&self.unsent).chain(end.iter().map(|text| Request::Run(text))).collect();
        let work = Work { requests, changes: true, all_or_nothing: false };
        let answer = self.session.attempt(&work, limits).await;
        self.session.in_transaction = self.session.at_work;
        answer.map(drop)
    }
}

fn requests(texts: &[String]) -> impl Iterator<Item = Request<'_>> {
    texts.iter().map(|text| Request::Run(text))
}

fn is_spoiled(failure: &Failure) -> bool {
    matches!(&failure.cause, Cause::Statement(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_begins_as_it_was_asked_to() {
        let text = |begin: Begin| begin.statements().join("; ");
        assert_eq!(text(Begin::default()), "BEGIN ISOLATION LEVEL READ COMMITTED");
        let pinned = Begin { isolation: Isolation::RepeatableRead, read_only: true, lock_timeout: None };
        assert_eq!(text(pinned), "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let fence = Begin { lock_timeout: Some(Duration::from_millis(300)), ..Begin::default() };
        assert_eq!(text(fence), "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = 300");
    }
}
