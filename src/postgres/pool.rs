//! The connections to one database: as many as are needed at a time and allowed, kept for whoever comes next.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_postgres::Row;

use super::connection::{Limits, Link};
use super::error::{Cause, Error, Place, Result};
use super::session::{Backend, Failure, Notice, Query, Session, Work};
use super::sql::Statement;
use super::version::ServerVersion;

/// After this long without use a connection is asked whether it is still there before a change is sent on it.
const DOUBTFUL_AFTER: Duration = Duration::from_secs(15);

/// How long the server may take to end a session whose connection broke.
const END_GRACE: Duration = Duration::from_secs(5);

/// The first and the longest pause between two looks at what a statement waits for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The connections to one database.
pub(super) struct Pool {
    link: Arc<Link>,
    database: String,
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
    version: OnceLock<ServerVersion>,
    /// Processes of the server whose connection broke under a statement: they may still run it.
    broken: tokio::sync::Mutex<Vec<Backend>>,
}

impl Pool {
    pub(super) fn new(link: Arc<Link>, database: &str) -> Self {
        let most = link.config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            link,
            database: database.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(most)),
            version: OnceLock::new(),
            broken: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// The server's version, once a connection has been made.
    pub(super) fn version(&self) -> Option<ServerVersion> {
        self.version.get().copied()
    }

    pub(super) fn error(&self, doing: &str, cause: Cause) -> Error {
        let place = Place { address: self.link.config.address(), database: self.database.clone() };
        Error::new(doing, place, cause)
    }

    /// Takes a connection, waiting for one to be free and connecting when none is idle.
    pub(super) async fn lease(self: &Arc<Self>, doing: &str, limits: &Limits) -> Result<Lease> {
        let permit = tokio::select! {
            permit = self.permits.clone().acquire_owned() => permit,
            cause = expired(limits, Instant::now()) => return Err(self.error(doing, cause)),
        };
        let permit = permit.map_err(|error| self.error(doing, Cause::Unexpected(error.to_string())))?;
        let mut lease =
            Lease { session: self.take_idle(), pool: self.clone(), fresh: false, busy: false, _permit: permit };
        if lease.session.is_none() {
            lease.replace(doing, limits).await?;
        }
        lease.end_broken(limits).await;
        Ok(lease)
    }

    /// The connection used last, of those that are still open.
    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.lock_idle();
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves when a limit is reached.
async fn expired(limits: &Limits, began: Instant) -> Cause {
    let deadline = async {
        match limits.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = deadline => Cause::Timeout(began.elapsed()),
        () = limits.cancel.cancelled() => Cause::Cancelled,
    }
}

/// A connection in use. Goes back to the pool when dropped, unless something still runs on it: that is cancelled.
pub(super) struct Lease {
    pool: Arc<Pool>,
    session: Option<Session>,
    /// Opened for this lease, so that a failure on it is no sign of an old connection.
    fresh: bool,
    busy: bool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Makes sure that a connection which has been out of use for long is still there.
    pub(super) async fn ensure_alive(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        let alive = match &self.session {
            Some(session) => session.idle_for() < DOUBTFUL_AFTER || session.is_alive().await,
            None => false,
        };
        if alive { Ok(()) } else { self.replace(doing, limits).await }
    }

    /// Ends what broken connections have left running, so that what is read from now on stays true.
    async fn end_broken(&self, limits: &Limits) {
        let mut broken = self.pool.broken.lock().await;
        let Some(session) = self.session.as_ref().filter(|_| !broken.is_empty()) else { return };
        let end = async {
            let mut pause = PAUSES.0;
            for backend in broken.iter() {
                while session.end_other(backend).await? {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(END_GRACE, end) => ended,
            _ = expired(limits, Instant::now()) => return,
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a broken session could not be ended"),
            Err(_) => tracing::debug!("a broken session did not end in time"),
        }
        broken.clear();
    }

    /// Takes the notices that have come since the lease began.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        self.session.as_ref().map(Session::take_notices).unwrap_or_default()
    }

    /// Opens a new connection in place of the old one.
    async fn replace(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        self.session = None;
        // Connecting is large and rare: on the heap it does not make every future around it large.
        let session = tokio::select! {
            session = Box::pin(Session::open(&self.pool.link, &self.pool.database)) => session,
            cause = expired(limits, Instant::now()) => Err(cause),
        };
        let session = session.map_err(|cause| self.pool.error(doing, cause))?;
        let _ = self.pool.version.set(session.version());
        self.session = Some(session);
        (self.fresh, self.busy) = (true, false);
        Ok(())
    }

    /// Runs one group, then a query in the same round trip; a wait is asked again until it is true.
    ///
    /// `None` says that there was no query, or that the changes were made and the query failed.
    pub(super) async fn run_group(
        &mut self,
        doing: &str,
        group: &[Statement],
        query: Option<Query<'_>>,
        limits: &Limits,
    ) -> Result<Option<Vec<Row>>> {
        for statement in group {
            let (server, database) = (self.pool.link.config.address(), &self.pool.database);
            tracing::debug!(server, database, %statement, "running");
        }
        match group {
            [] if query.is_none() => Ok(None),
            [wait] if wait.is_wait() => self.wait(doing, wait, limits).await.map(|()| None),
            _ => {
                let work = Work::statements(group, query);
                self.attempt(doing, limits, not_executed, &work).await
            }
        }
    }

    /// Reads rows. Sent again once where the connection broke, as reading twice does no harm.
    pub(super) async fn query(&mut self, doing: &str, query: Query<'_>, limits: &Limits) -> Result<Vec<Row>> {
        self.read(doing, &Work::query(query), limits).await
    }

    /// Runs changes and reads, in a transaction that is undone, all in one round trip.
    pub(super) async fn query_undone(
        &mut self,
        doing: &str,
        changes: &[String],
        query: Query<'_>,
        limits: &Limits,
    ) -> Result<Vec<Row>> {
        let rows = self.read(doing, &Work::undone(changes, query), limits).await;
        self.take_notices();
        rows
    }

    async fn read(&mut self, doing: &str, work: &Work<'_>, limits: &Limits) -> Result<Vec<Row>> {
        let rows = self.attempt(doing, limits, broken, work).await?;
        Ok(rows.unwrap_or_default())
    }

    async fn wait(&mut self, doing: &str, wait: &Statement, limits: &Limits) -> Result<()> {
        let began = Instant::now();
        let (mut pause, longest) = PAUSES;
        loop {
            let rows = self.query(doing, (wait.text(), &[]), limits).await?;
            let answer = rows.first().map(|row| row.try_get(0));
            if matches!(answer, Some(Ok(true))) {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                cause = expired(limits, began) => return Err(self.pool.error(doing, cause)),
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// Does work within the limits. On a connection from the pool that turns out to be dead it is done once more, on a
    /// new one, if `safe` says so of the failure.
    async fn attempt(
        &mut self,
        doing: &str,
        limits: &Limits,
        safe: fn(&Failure) -> bool,
        work: &Work<'_>,
    ) -> Result<Option<Vec<Row>>> {
        let mut result = self.attempt_once(limits, work).await;
        if !self.fresh && result.as_ref().is_err_and(safe) {
            tracing::debug!(doing, "the connection had died; connecting again");
            self.replace(doing, limits).await?;
            result = self.attempt_once(limits, work).await;
        }
        result.map_err(|failure| self.pool.error(doing, failure.cause))
    }

    async fn attempt_once(
        &mut self,
        limits: &Limits,
        work: &Work<'_>,
    ) -> std::result::Result<Option<Vec<Row>>, Failure> {
        let Some(session) = self.session.as_mut() else {
            return Err(Failure::not_executed("there is no connection"));
        };
        let began = Instant::now();
        self.busy = true;
        let result = Box::pin(session.run_unless(work, expired(limits, began))).await;
        self.busy = result.is_none();
        let outlives = match &result {
            Some(Err(failure)) => broken(failure) && !failure.not_executed,
            Some(Ok(_)) => false,
            None => true,
        };
        if outlives {
            self.pool.broken.lock().await.push(session.backend().clone());
        }
        result.unwrap_or_else(|| Err(Failure::executed(Cause::Timeout(began.elapsed()))))
    }
}

fn not_executed(failure: &Failure) -> bool {
    failure.not_executed
}

fn broken(failure: &Failure) -> bool {
    let lost = matches!(&failure.cause, Cause::Statement(error) if error.as_db_error().is_none());
    lost || failure.not_executed
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        if self.busy {
            let canceller = session.canceller();
            // Outside of a runtime the process ends, and the server notices that by itself.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { canceller.cancel().await });
            }
        } else if !session.is_closed() {
            session.take_notices();
            self.pool.lock_idle().push(session);
        }
    }
}
