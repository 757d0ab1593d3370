// SPDX-License-Identifier: MPL-2.0

//! The connections to one server: as many as needed and allowed, over all its databases.
//!
//! Each piece of work has a connection of its own, first come, first served. An idle connection is kept for its
//! database, and closed as soon as another database needs its place. Before that happens for a second connection to one
//! database, the first one is waited for as long as opening another would take. Work that may take long (a
//! subscription, a slot, a transaction that is held) gets at most half of the connections, and all changes together
//! leave one free, so that work that waits in the server never prevents a plan from reading.
//!
//! The pools of libraries such as deadpool or bb8 hold connections of one kind: they have no keys and no common
//! limit, and do not close a connection that another pool needs. This pool does both.

mod broken;
mod lease;
mod shelf;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;

use self::broken::Broken;
use self::shelf::Shelf;
use self::turns::Turns;
use super::connection::{Connection, Seat};
use super::error::{Cause, Place};
use super::given::Given;
use super::limits::Limits;
use super::link::{Link, ServerConfig};
use super::session::Session;
use super::wait::{Ended, Outage, Pauses, Waiter};

pub(super) use lease::Lease;
pub(super) use turns::Purpose;

/// How long to retry if the server has no connection left: one that we have just closed still counts for a moment.
const FULL: Duration = Duration::from_secs(2);

/// How often to retry meanwhile.
const FULL_POLL: Pauses = Pauses::of(Duration::from_millis(50));

/// The longest wait for a connection that is about to come back, however long opening one takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connections to one server.
pub(super) struct Pool {
    link: Link,
    /// Who may use a connection now.
    turns: Turns,
    /// One for each open connection, in use or not.
    seats: Arc<Semaphore>,
    shelf: Shelf<Arc<Connection>>,
    /// How long it took to open the last one, in microseconds.
    opening: AtomicU64,
    /// Held by a task that holds several connections: two tasks that each wait for the other's connection would wait
    /// for ever.
    several: Arc<AsyncMutex<()>>,
    broken: Broken,
    /// The names of the values for other databases than the configured one.
    elsewhere: Arc<Given>,
}

impl Pool {
    /// How to reach its server.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn new(link: Link) -> Self {
        let most = link.config.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let database = "the name of the database (attribute database)".to_owned();
        let elsewhere = Arc::new(Given { database, ..Given::clone(&link.config.given) });
        Self {
            elsewhere,
            link,
            turns: Turns::new(most),
            seats: Arc::new(Semaphore::new(most)),
            shelf: Shelf::default(),
            opening: AtomicU64::default(),
            several: Arc::default(),
            broken: Broken::default(),
        }
    }

    pub(super) fn config(&self) -> &ServerConfig {
        &self.link.config
    }

    /// A database and our role, for messages.
    pub(super) fn place(&self, database: &str) -> Place {
        let (config, database) = (self.config(), database.to_owned());
        let given = if config.database == database { Arc::clone(&config.given) } else { Arc::clone(&self.elsewhere) };
        Place { address: config.address(), database, role: config.username.clone(), given }
    }

    /// Takes a connection to a database: waits for a turn, and connects if none is idle.
    pub(super) async fn lease(
        self: &Arc<Self>,
        database: &Arc<str>,
        purpose: Purpose,
        limits: &Limits,
    ) -> Result<Lease, Cause> {
        let turn = match limits.keep(self.turns.take(purpose)).await {
            Err(Cause::Timeout(after)) => return Err(Cause::Busy { most: self.config().max_connections, after }),
            turn => turn?,
        };
        let (connection, fresh) = match self.take_open(database).await {
            Some(connection) => (connection, false),
            // Rare, and large: on the heap it does not make every future around it large.
            None => (Box::pin(limits.keep(self.open(database))).await?, true),
        };
        let session = Session::new(connection, self.place(database));
        let lease = Lease::new(session, (Arc::clone(self), Arc::clone(database)), fresh, (purpose, turn));
        self.broken.end(lease.connection(), limits).await;
        Ok(lease)
    }

    /// Waits for the right to hold several connections at once.
    pub(super) async fn several(&self, limits: &Limits) -> Result<OwnedMutexGuard<()>, Cause> {
        limits.keep(async { Ok(Arc::clone(&self.several).lock_owned().await) }).await
    }

    /// Opens a connection for a task with a turn. So no more than allowed are in use, and an idle one can give up its
    /// seat.
    async fn open(&self, database: &str) -> Result<Arc<Connection>, Cause> {
        let limits = Limits::within(FULL);
        let mut waiter = Waiter::new(&limits, FULL_POLL);
        loop {
            let opened = self.try_open(database).await.map(Some).map_err(Unopened);
            match waiter.after(opened).await {
                Ok(Some(connection)) => return Ok(connection),
                Ok(None) => {}
                Err(Ended::Failed(Unopened(cause)) | Ended::TimeOver(Some(Unopened(cause)))) => return Err(cause),
                Err(Ended::TimeOver(None) | Ended::Stopped) => return Err(Cause::Cancelled),
            }
        }
    }

    /// Opens a connection. If the server has none left, closes an idle one.
    async fn try_open(&self, database: &str) -> Result<Arc<Connection>, Cause> {
        let seat = self.seat().await?;
        let began = Instant::now();
        let opened = Box::pin(Connection::open(&self.link, database, &seat)).await;
        match &opened {
            Ok(_) => {
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.opening.store(took, Ordering::Relaxed);
            }
            Err(cause) if is_full(cause) => drop(self.shelf.take_least()),
            Err(_) => {}
        }
        opened.map(Arc::new)
    }

    /// A free seat, otherwise that of an idle connection.
    async fn seat(&self) -> Result<Seat, Cause> {
        if let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() {
            return Ok(Arc::new(seat));
        }
        drop(self.shelf.take_least());
        let seat = Arc::clone(&self.seats).acquire_owned().await;
        seat.map(Arc::new).map_err(|error| Cause::Unexpected(error.to_string()))
    }

    /// An idle connection to this database. If a new one would take the place of another database's, waits for one as
    /// long as opening took the last time.
    async fn take_open(&self, database: &Arc<str>) -> Option<Arc<Connection>> {
        let is_open = |connection: &Arc<Connection>| !connection.is_closed();
        match self.shelf.take(database, is_open) {
            None if self.seats.available_permits() == 0 => {
                let opening = Duration::from_micros(self.opening.load(Ordering::Relaxed)).min(PATIENCE);
                self.shelf.take_soon(database, opening, is_open).await
            }
            taken => taken,
        }
    }

    fn put_back(&self, database: &Arc<str>, connection: &Arc<Connection>) {
        connection.take_notices();
        self.shelf.put(database, Arc::clone(connection));
    }
}

/// Why a connection could not be opened.
struct Unopened(Cause);

/// A full server usually has room again in a moment; other errors stay.
impl Outage for Unopened {
    fn is_outage(&self) -> bool {
        is_full(&self.0)
    }
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether the server, our role or the database has reached its limit of connections.
fn is_full(cause: &Cause) -> bool {
    matches!(cause, Cause::Connect(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS))
}
