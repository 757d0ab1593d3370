//! The connections to one database: as many as are needed at a time and allowed, kept for whoever comes next.
//!
//! Work that ends quickly shares connections once all that are allowed are in use: at a distance, time goes by while
//! answers are on their way, not while the server works.

mod lease;

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connection::{Limits, Link};
use super::error::{Cause, Error, Place, Result};
use super::session::{Backend, Session};
use super::version::ServerVersion;

pub(super) use lease::Lease;

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
