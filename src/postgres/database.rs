// SPDX-License-Identifier: MPL-2.0

//! One database of a server: statements, reads and sessions, all with limits.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::error::{Cause, Error, Result};
use super::limits::Limits;
use super::link::{Link, ServerConfig};
use super::notice::Notice;
use super::pool::{Lease, Pool, Purpose};
use super::session::{Session, Task};
use super::snapshot::{Change, Changes, Snapshot, Snapshots};
use super::sql::Statement;
use super::version::{ServerVersion, Unsupported};
use super::wait::{Ended, Pauses, Waiter};
use super::work::{LockWait, Param, Query, split_last};

/// How long a read may take if its caller sets no deadline. It waits only seconds for locks of others.
const READ_TIME: Duration = Duration::from_secs(60);

/// The pauses between checks of a wait.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(5), longest: Duration::from_millis(200) };

/// One database of a server. Clones share its snapshots, and the connections of the server.
///
/// Everything has a limit: the caller's, otherwise the server's `statement_timeout` for changes and a minute for reads.
/// A read without a caller's limits gives up after seconds at another session's lock, and its error says who holds it.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
    /// The caller's limits for reads.
    limits: Option<Limits>,
}

struct Inner {
    pool: Arc<Pool>,
    name: Arc<str>,
    version: OnceLock<ServerVersion>,
    changes: Changes,
    snapshots: Snapshots,
}

/// A session that is held for as long as it is needed, for example for a transaction. Giving it back invalidates
/// earlier snapshots.
pub struct HeldSession {
    lease: Lease,
    _change: Change,
}

/// The right to hold several sessions at once. Dropping it passes it on.
pub struct Several {
    _turn: OwnedMutexGuard<()>,
}

impl Deref for HeldSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.lease
    }
}

impl DerefMut for HeldSession {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.lease
    }
}

impl Database {
    pub(super) fn new(pool: Arc<Pool>, name: &str) -> Self {
        let (version, changes, snapshots) = (OnceLock::new(), Changes::default(), Snapshots::default());
        let inner = Inner { pool, name: name.into(), version, changes, snapshots };
        Self { inner: Arc::new(inner), limits: None }
    }

    /// The same database, with reads that keep these limits and wait for locks as long as those allow: for reads that
    /// belong to a change, not for plans. Once the limits have passed, reads have the default ones.
    #[must_use]
    pub fn within(&self, limits: &Limits) -> Self {
        Self { inner: Arc::clone(&self.inner), limits: Some(limits.clone()) }
    }

    /// The same database, with the read limits of another one: both belong to one change, or to a plan.
    #[must_use]
    pub fn like(&self, other: &Self) -> Self {
        Self { inner: Arc::clone(&self.inner), limits: other.limits.clone() }
    }

    /// The same database, with reads that give up after seconds at a lock: for reads that are repeated.
    #[must_use]
    pub fn briefly(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), limits: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Another database of its server, over the same connections. Does not connect.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        if name == self.name() { self.clone() } else { Self::new(Arc::clone(&self.inner.pool), name) }
    }

    /// The configuration of its server.
    pub fn config(&self) -> &ServerConfig {
        self.inner.pool.config()
    }

    /// An error of this database.
    pub fn error(&self, doing: &str, cause: Cause) -> Error {
        Error::new(doing, self.inner.pool.place(self.name()), cause)
    }

    /// The error for an attribute that needs a newer server.
    pub fn unsupported(&self, doing: &str, unsupported: Unsupported) -> Error {
        self.error(doing, Cause::Unsupported(unsupported))
    }

    /// The server's version. Connects when no connection has been made yet.
    pub async fn version(&self) -> Result<ServerVersion> {
        if let Some(version) = self.inner.version.get() {
            return Ok(*version);
        }
        let limits = self.read_limits();
        let lease = self.lease("reading the server's version", Purpose::Read, &limits).await?;
        Ok(lease.version())
    }

    /// Takes a session out of the pool. Dropping it gives it back.
    ///
    /// # Errors
    /// When connecting fails, or no connection is free in time.
    pub async fn session(&self, doing: &str, limits: &Limits) -> Result<HeldSession> {
        let limits = limits.or_within(self.config().statement_timeout);
        let _change = self.inner.changes.begin();
        let mut lease = self.lease(doing, Purpose::Long, &limits).await?;
        lease.ensure_alive(&limits).await.map_err(|cause| self.error(doing, cause))?;
        Ok(HeldSession { lease, _change })
    }

    /// The right to hold several sessions of this server at once. Only one task of this process has it at a time,
    /// because two tasks that each wait for the other's session would wait for ever. A task that holds a single session
    /// does not need it.
    ///
    /// # Errors
    /// When another task has it for longer than the limits allow.
    pub async fn several(&self, doing: &str, limits: &Limits) -> Result<Several> {
        let turn = self.inner.pool.several(limits).await;
        turn.map(|turn| Several { _turn: turn }).map_err(|cause| self.error(doing, cause))
    }

    /// Runs statements, within the server's `statement_timeout`. See [`Database::run_within`].
    pub async fn run(&self, doing: &str, statements: &[Statement]) -> Result<Vec<Notice>> {
        self.run_within(doing, statements, &Limits::default()).await
    }

    /// Runs statements in order. Neighbours that may share a transaction run in one, in one round trip.
    ///
    /// Stops at the first that fails: its transaction is rolled back, earlier ones stay. When a limit is reached, or
    /// the future is dropped, the server is told to cancel the statement. A wait holds no connection while it
    /// sleeps. Returns the server's notices.
    pub async fn run_within(&self, doing: &str, statements: &[Statement], limits: &Limits) -> Result<Vec<Notice>> {
        self.run_and_read(doing, statements, None, limits).await.map(|(notices, _)| notices)
    }

    /// Runs statements as [`Database::run_within`] does, and a query in the round trip of the last of them. `None`
    /// means that only the query failed.
    pub(super) async fn run_and_read(
        &self,
        doing: &str,
        statements: &[Statement],
        query: Option<Query<'_>>,
        limits: &Limits,
    ) -> Result<(Vec<Notice>, Option<Vec<Row>>)> {
        let _change = self.inner.changes.begin();
        let limits = &limits.or_within(self.config().statement_timeout);
        let purpose = Purpose::of(statements);
        let (last, first) = split_last(statements);
        let (mut lease, mut notices, mut rows) = (None, Vec::new(), None);
        for (group, query) in first.map(|group| (group, None)).chain([(last, query)]) {
            match group {
                [] if query.is_none() => {}
                [wait] if wait.is_wait() => {
                    lease = None;
                    self.wait(doing, wait, limits).await?;
                }
                _ => {
                    let lease = self.leased(&mut lease, doing, purpose, limits).await?;
                    rows = self.run_group(lease, doing, group, query, limits).await?;
                    notices.extend(lease.take_notices());
                }
            }
        }
        Ok((notices, rows))
    }

    /// The connection in use, otherwise a new one that is alive.
    async fn leased<'l>(
        &self,
        lease: &'l mut Option<Lease>,
        doing: &str,
        purpose: Purpose,
        limits: &Limits,
    ) -> Result<&'l mut Lease> {
        let one = match lease.take() {
            Some(one) => one,
            None => {
                let mut one = self.lease(doing, purpose, limits).await?;
                one.ensure_alive(limits).await.map_err(|cause| self.error(doing, cause))?;
                one
            }
        };
        Ok(lease.insert(one))
    }

    async fn run_group(
        &self,
        lease: &mut Lease,
        doing: &str,
        group: &[Statement],
        query: Option<Query<'_>>,
        limits: &Limits,
    ) -> Result<Option<Vec<Row>>> {
        for statement in group {
            let (server, database) = (self.config().address(), self.name());
            tracing::debug!(server, database, %statement, "running");
        }
        lease.perform(Task::Change(group, query), limits).await.map_err(|cause| self.error(doing, cause))
    }

    /// Asks until the answer is true. Other reads can run in between.
    async fn wait(&self, doing: &str, wait: &Statement, limits: &Limits) -> Result<()> {
        let began = Instant::now();
        let mut waiter = Waiter::new(limits, PAUSES);
        loop {
            let rows = self.perform(doing, Task::Read(&[(wait.text(), &[])], LockWait::Brief), limits).await?;
            let answer = rows.first().map(|row| row.try_get(0));
            let is_true = matches!(answer, Some(Ok(true)));
            match waiter.after(Ok::<_, Error>(is_true.then_some(()))).await {
                Ok(Some(())) => return Ok(()),
                Ok(None) => {}
                Err(Ended::TimeOver(_)) => return Err(self.error(doing, Cause::Timeout(began.elapsed()))),
                Err(Ended::Stopped) => return Err(self.error(doing, Cause::Cancelled)),
                Err(Ended::Failed(error)) => return Err(error),
            }
        }
    }

    /// Reads rows.
    pub(super) async fn query(&self, doing: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        self.query_in_turn(doing, &[(sql, params)]).await
    }

    /// Reads the rows of several queries, in order, all in one round trip. Each sees the state at its turn.
    pub(super) async fn query_in_turn(&self, doing: &str, queries: &[Query<'_>]) -> Result<Vec<Row>> {
        self.read(doing, Task::Read(queries, self.lock_wait())).await
    }

    /// Reads rows, and converts each to a value.
    pub(super) async fn query_all<T>(
        &self,
        doing: &str,
        sql: &str,
        params: &[Param<'_>],
        read: impl Fn(&Row) -> std::result::Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>> {
        let rows = self.query(doing, sql, params).await?;
        let values: std::result::Result<Vec<T>, _> = rows.iter().map(read).collect();
        values.map_err(|error| self.error(doing, Cause::Statement(error)))
    }

    /// Runs changes and reads in a transaction that is rolled back, all in one round trip.
    pub(super) async fn query_undone(&self, doing: &str, changes: &[String], sql: &str) -> Result<Vec<Row>> {
        self.read(doing, Task::TryOut(changes, (sql, &[]), self.lock_wait())).await
    }

    async fn read(&self, doing: &str, task: Task<'_>) -> Result<Vec<Row>> {
        match self.perform(doing, task, &self.read_limits()).await {
            Err(error) if error.is_locked() => Err(self.naming_holders(error).await),
            result => result,
        }
    }

    async fn perform(&self, doing: &str, task: Task<'_>, limits: &Limits) -> Result<Vec<Row>> {
        let mut lease = self.lease(doing, Purpose::Read, limits).await?;
        let rows = lease.perform(task, limits).await;
        Ok(rows.map_err(|cause| self.error(doing, cause))?.unwrap_or_default())
    }

    async fn lease(&self, doing: &str, purpose: Purpose, limits: &Limits) -> Result<Lease> {
        let lease = self.inner.pool.lease(&self.inner.name, purpose, limits).await;
        let lease = lease.map_err(|cause| self.error(doing, cause))?;
        let _ = self.inner.version.set(lease.version());
        Ok(lease)
    }

    /// Adds the holders of locks on tables to the error of a lock timeout, as far as the server shows them.
    async fn naming_holders(&self, error: Error) -> Error {
        let task = Task::Read(&[(HOLDERS, &[])], LockWait::Brief);
        let held = self.perform("looking for the session that holds a lock", task, &self.read_limits()).await;
        let held = held.unwrap_or_default();
        let holders: Vec<String> = held.iter().filter_map(|row| row.try_get(0).ok()).collect();
        if holders.is_empty() { error } else { error.noting(format!("Locked now: {}.", holders.join("; "))) }
    }

    fn read_limits(&self) -> Limits {
        self.open_limits().map_or_else(|| Limits::within(READ_TIME), |limits| limits.or_within(READ_TIME))
    }

    fn lock_wait(&self) -> LockWait {
        if self.is_patient() { LockWait::Patient } else { LockWait::Brief }
    }

    /// Whether its reads wait for locks as long as their limits allow.
    pub(super) fn is_patient(&self) -> bool {
        self.open_limits().is_some()
    }

    /// The caller's limits for reads until they have passed: cleaning up after an interrupted change still has to read.
    fn open_limits(&self) -> Option<&Limits> {
        self.limits.as_ref().filter(|limits| limits.passed().is_none())
    }

    /// The server's address, for connections outside the pool.
    pub(super) fn link(&self) -> &Link {
        self.inner.pool.link()
    }

    /// Does work that changes something outside the pool, and invalidates earlier snapshots.
    pub(super) async fn changing<T>(&self, work: impl Future<Output = T>) -> T {
        let _change = self.inner.changes.begin();
        work.await
    }

    /// The number of changes by this process.
    pub(super) fn changes(&self) -> u64 {
        self.inner.changes.count()
    }

    /// The objects of one kind that were read together. `T` is the kind.
    pub(super) fn snapshot<T: Send + Sync + 'static>(&self) -> Arc<Snapshot<T>> {
        self.inner.snapshots.of()
    }

    /// The same of what answers a question, of answers that are served for so long at most.
    pub(super) fn snapshot_of<Q, T>(&self, question: &Q, longest: Duration) -> Arc<Snapshot<T>>
    where
        Q: Clone + PartialEq + Send + 'static,
        T: Send + Sync + 'static,
    {
        self.inner.snapshots.answering(question, longest)
    }
}

/// The sessions that prevent reading a table, or have requested a lock that does: everybody else waits behind that too.
///
/// Source: the views `pg_locks` and `pg_stat_activity` in the Postgres documentation. A prepared transaction has no process.
const HOLDERS: &str = "SELECT concat(n.nspname, '.', c.relname, ' by ', \
       CASE WHEN l.pid IS NULL THEN 'a prepared transaction' ELSE concat('process ', l.pid) END, \
       ' (' || nullif(concat_ws(', ', nullif(a.application_name, ''), a.usename), '') || ')', \
       ', for ' || extract(epoch FROM now() - a.xact_start)::bigint || ' s') \
     FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
     WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p') \
     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     ORDER BY NOT l.granted, a.xact_start, 1 LIMIT 5";

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.config().address(), self.name())
    }
}
