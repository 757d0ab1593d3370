//! The connections to one database: as many as are needed at a time and allowed, kept for whoever comes next.
//!
//! Work that ends quickly shares connections once all that are allowed are in use: at a distance, time goes by while
//! answers are on their way, not while the server works.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_postgres::Row;

use super::connection::{Limits, Link};
use super::error::{Cause, Error, Place, Result};
use super::session::{Backend, Failure, Left, Notice, Query, Session, Work};
use super::sql::Statement;
use super::version::ServerVersion;

/// After this long without use a connection is asked whether it is still there before a change is sent on it.
const DOUBTFUL_AFTER: Duration = Duration::from_secs(15);

/// How long the server may take to end a session whose connection broke.
const END_GRACE: Duration = Duration::from_secs(5);

/// The first and the longest pause between two looks at what a statement waits for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How many may have work on one connection at a time.
const MOST_ON_A_LINE: usize = 8;

/// The connections to one database.
pub(super) struct Pool {
    link: Arc<Link>,
    database: String,
    idle: Mutex<Vec<Session>>,
    /// One for each connection.
    permits: Arc<Semaphore>,
    /// Those in use that others may share.
    lines: Mutex<Vec<Weak<Line>>>,
    line_opened: Notify,
    /// One for each who shares.
    places: Arc<Semaphore>,
    /// How many wait for a connection of their own: they come before those who would share one.
    waiting: AtomicUsize,
    version: OnceLock<ServerVersion>,
    /// Processes of the server whose connection broke under a statement: they may still run it.
    broken: tokio::sync::Mutex<Vec<Backend>>,
}

/// A connection in use. Goes back to the pool with its last user, unless something still runs on it.
struct Line {
    pool: Arc<Pool>,
    session: Option<Session>,
    /// Nobody is to use it any more.
    retired: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// Whether a connection is for one piece of work alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody else may use it meanwhile.
    Alone,
    /// Others may.
    Shared,
}

impl Pool {
    pub(super) fn new(link: Arc<Link>, database: &str) -> Self {
        let most = link.config.max_connections.clamp(1, Semaphore::MAX_PERMITS / MOST_ON_A_LINE);
        Self {
            link,
            database: database.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(most)),
            lines: Mutex::default(),
            line_opened: Notify::new(),
            places: Arc::new(Semaphore::new(most * MOST_ON_A_LINE)),
            waiting: AtomicUsize::new(0),
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
        let config = &self.link.config;
        let (database, role) = (self.database.clone(), config.username.clone());
        let place = Place { address: config.address(), database, role };
        Error::new(doing, place, cause)
    }

    /// Takes a connection, waiting for one to be free and connecting when none is idle.
    pub(super) async fn lease(self: &Arc<Self>, doing: &str, sharing: Sharing, limits: &Limits) -> Result<Lease> {
        let lease = async {
            match sharing {
                Sharing::Alone => self.lease_alone().await,
                Sharing::Shared => self.lease_shared().await,
            }
        };
        let lease = tokio::select! {
            lease = lease => lease,
            cause = expired(limits, Instant::now()) => Err(cause),
        };
        let lease = lease.map_err(|cause| self.error(doing, cause))?;
        lease.end_broken(limits).await;
        Ok(lease)
    }

    async fn lease_alone(self: &Arc<Self>) -> std::result::Result<Lease, Cause> {
        let permit = self.permit().await?;
        let line = self.line(permit, self.take_idle()).await?;
        Ok(Lease {
            fresh: line.is_fresh,
            line: Some(Arc::new(line.line)),
            place: None,
            pool: self.clone(),
            busy: false,
        })
    }

    /// A connection that nobody uses, or else the one that the fewest use.
    async fn lease_shared(self: &Arc<Self>) -> std::result::Result<Lease, Cause> {
        let place = self.places.clone().acquire_owned().await.map_err(|error| Cause::Unexpected(error.to_string()))?;
        let lease =
            |line, fresh| Lease { line: Some(line), fresh, place: Some(place), pool: self.clone(), busy: false };
        let opened = loop {
            let mut opened = std::pin::pin!(self.line_opened.notified());
            opened.as_mut().enable();
            if let Ok(permit) = self.permits.clone().try_acquire_owned() {
                break self.line(permit, self.take_idle()).await?;
            }
            if let Some(line) = self.least_used() {
                return Ok(lease(line, false));
            }
            tokio::select! {
                () = opened => {}
                permit = self.acquire() => break self.line(permit?, self.take_idle()).await?,
            }
        };
        let line = Arc::new(opened.line);
        self.lock_lines().push(Arc::downgrade(&line));
        self.line_opened.notify_waiters();
        Ok(lease(line, opened.is_fresh))
    }

    /// Waits for its turn to have a connection of its own.
    async fn permit(&self) -> std::result::Result<OwnedSemaphorePermit, Cause> {
        let _waiting = Waiting::begin(&self.waiting);
        self.acquire().await
    }

    async fn acquire(&self) -> std::result::Result<OwnedSemaphorePermit, Cause> {
        self.permits.clone().acquire_owned().await.map_err(|error| Cause::Unexpected(error.to_string()))
    }

    /// Makes a line of a session, opening one where there is none.
    async fn line(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        session: Option<Session>,
    ) -> std::result::Result<Opened, Cause> {
        let is_fresh = session.is_none();
        let session = match session {
            Some(session) => session,
            // Connecting is large and rare: on the heap it does not make every future around it large.
            None => Box::pin(Session::open(&self.link, &self.database)).await?,
        };
        let _ = self.version.set(session.version());
        let line =
            Line { pool: self.clone(), session: Some(session), retired: AtomicBool::new(false), _permit: permit };
        Ok(Opened { line, is_fresh })
    }

    /// The line that the fewest use; none while somebody waits for a connection of their own.
    fn least_used(&self) -> Option<Arc<Line>> {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        let mut lines = self.lock_lines();
        lines.retain(|line| line.strong_count() > 0);
        let usable = lines.iter().filter_map(Weak::upgrade).filter(|line| line.is_usable());
        usable.min_by_key(Arc::strong_count)
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

    fn lock_lines(&self) -> MutexGuard<'_, Vec<Weak<Line>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line, and whether its connection has only just been made.
struct Opened {
    line: Line,
    is_fresh: bool,
}

/// Counts who waits, for as long as they do.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Line {
    fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::SeqCst) && self.session.as_ref().is_some_and(|session| !session.is_closed())
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let is_usable = self.is_usable();
        if let Some(session) = self.session.take().filter(|_| is_usable) {
            session.take_notices();
            self.pool.lock_idle().push(session);
        }
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

/// The use of a connection. What still runs when it is dropped is cancelled.
pub(super) struct Lease {
    pool: Arc<Pool>,
    line: Option<Arc<Line>>,
    /// Where the connection may be shared.
    place: Option<OwnedSemaphorePermit>,
    /// Opened for this lease, so that a failure on it is no sign of an old connection.
    fresh: bool,
    busy: bool,
}

impl Lease {
    fn session(&self) -> Option<&Session> {
        self.line.as_ref()?.session.as_ref()
    }

    /// Makes sure that a connection which has been out of use for long is still there.
    pub(super) async fn ensure_alive(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        let alive = match self.session() {
            Some(session) => session.idle_for() < DOUBTFUL_AFTER || session.is_alive().await,
            None => false,
        };
        if alive { Ok(()) } else { self.replace(doing, limits).await }
    }

    /// Ends what broken connections have left running, so that what is read from now on stays true.
    async fn end_broken(&self, limits: &Limits) {
        let mut broken = self.pool.broken.lock().await;
        let Some(session) = self.session().filter(|_| !broken.is_empty()) else { return };
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

    /// Takes the notices that have come since the lease began. On a shared connection they may be of others' work too.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        self.session().map(Session::take_notices).unwrap_or_default()
    }

    /// Opens a new connection in place of the old one.
    async fn replace(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        if let Some(line) = self.line.take() {
            line.retire();
        }
        let opened = async { self.pool.line(self.pool.permit().await?, None).await };
        let opened = tokio::select! {
            opened = opened => opened,
            cause = expired(limits, Instant::now()) => Err(cause),
        };
        let line = Arc::new(opened.map_err(|cause| self.pool.error(doing, cause))?.line);
        if self.place.is_some() {
            self.pool.lock_lines().push(Arc::downgrade(&line));
            self.pool.line_opened.notify_waiters();
        }
        self.line = Some(line);
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
        loop {
            match self.attempt_once(limits, work).await {
                Err(failure) if failure.left == Left::Interrupted => {}
                Err(failure) if !self.fresh && safe(&failure) => {
                    tracing::debug!(doing, "the connection had died; connecting again");
                    self.replace(doing, limits).await?;
                }
                result => return result.map_err(|failure| self.pool.error(doing, failure.cause)),
            }
        }
    }

    async fn attempt_once(
        &mut self,
        limits: &Limits,
        work: &Work<'_>,
    ) -> std::result::Result<Option<Vec<Row>>, Failure> {
        let Some(line) = self.line.clone() else {
            return Err(Failure::of(Cause::Unexpected("there is no connection".to_owned())));
        };
        let Some(session) = &line.session else {
            return Err(Failure::of(Cause::Unexpected("the connection is in use elsewhere".to_owned())));
        };
        let began = Instant::now();
        self.busy = true;
        let result = Box::pin(session.run_unless(work, expired(limits, began))).await;
        self.busy = result.is_none();
        let outlives = match &result {
            Some(Err(failure)) => broken(failure) && failure.left == Left::Unknown,
            Some(Ok(_)) => false,
            None => true,
        };
        if outlives {
            self.pool.broken.lock().await.push(session.backend().clone());
        }
        result.unwrap_or_else(|| Err(Failure::of(Cause::Timeout(began.elapsed()))))
    }
}

fn not_executed(failure: &Failure) -> bool {
    failure.left == Left::Nothing
}

fn broken(failure: &Failure) -> bool {
    let lost = matches!(&failure.cause, Cause::Statement(error) if error.as_db_error().is_none());
    lost || not_executed(failure)
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(line) = self.line.take().filter(|_| self.busy) else { return };
        // Who shares it is done with it after a repetition; nobody else is to begin on it.
        line.retire();
        let Some(canceller) = line.session.as_ref().map(Session::canceller) else { return };
        // Outside of a runtime the process ends, and the server notices that by itself.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { canceller.cancel().await });
        }
    }
}
