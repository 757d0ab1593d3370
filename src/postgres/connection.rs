//! Servers, databases and their pools of connections; nothing connects before the first statement.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::conninfo::Secret;
use super::error::{Cause, Error, Place, Result};
use super::publication::Publications;
use super::session::{Failure, Notice, Param, Session, groups};
use super::slot::Slots;
use super::snapshot::Snapshot;
use super::sql::Statement;
use super::subscription::Subscriptions;
use super::tls::{self, Certificates, SslMode};
use super::version::{ServerVersion, Unsupported};

/// After this long without use a connection is asked whether it is still there before a change is sent on it.
const DOUBTFUL_AFTER: Duration = Duration::from_secs(15);

/// How to reach one server. `Debug` does not show the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The database that is meant where none is named.
    pub database: String,
    /// The role to connect as.
    pub username: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether to encrypt, and what to verify.
    pub sslmode: SslMode,
    /// The authorities to trust: a path, PEM text, or `system`, which is also the default.
    pub sslrootcert: Option<String>,
    /// The client's certificate, a path or PEM text; together with `sslkey`.
    pub sslcert: Option<String>,
    /// The key of the client's certificate, a path or PEM text.
    pub sslkey: Option<Secret>,
    /// The longest time to connect, TLS and authentication included.
    pub connect_timeout: Duration,
    /// The most connections to one database at a time; at least one is made.
    pub max_connections: usize,
    /// The longest time for work whose caller sets no deadline.
    pub statement_timeout: Duration,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
}

impl ServerConfig {
    /// A configuration with the defaults of the provider: port 5432, TLS required (preferred on a loopback address).
    pub fn new(
        host: impl Into<String>,
        database: impl Into<String>,
        username: impl Into<String>,
    ) -> Self {
        let host = host.into();
        let sslmode = if is_loopback(&host) {
            SslMode::Prefer
        } else {
            SslMode::Require
        };
        Self {
            host,
            port: 5432,
            database: database.into(),
            username: username.into(),
            password: None,
            sslmode,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            connect_timeout: Duration::from_secs(10),
            max_connections: 4,
            statement_timeout: Duration::from_secs(300),
            application_name: concat!("terraform-provider-neonrepl ", env!("CARGO_PKG_VERSION"))
                .to_owned(),
        }
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub(super) fn certificates(&self) -> Certificates<'_> {
        Certificates {
            root: self.sslrootcert.as_deref(),
            cert: self.sslcert.as_deref(),
            key: self.sslkey.as_ref().map(Secret::expose),
        }
    }
}

/// Whether a host name or address is this machine's own.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// When to give up. The default has no deadline of its own and cannot be cancelled.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Give up then; without one, after the server's `statement_timeout`.
    pub deadline: Option<Instant>,
    /// Give up as soon as this is cancelled.
    pub cancel: CancellationToken,
}

impl Limits {
    /// A deadline this far from now.
    pub fn within(time: Duration) -> Self {
        Self {
            deadline: Instant::now().checked_add(time),
            cancel: CancellationToken::new(),
        }
    }

    /// The same, cancelled with `cancel`.
    pub fn cancelled_by(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }
}

/// How a server is reached, with what is made of that once.
pub(super) struct Link {
    pub(super) config: ServerConfig,
    tls: OnceLock<std::result::Result<MakeRustlsConnect, String>>,
}

impl Link {
    /// The TLS connector; certificates are read when it is first asked for.
    pub(super) fn tls(&self) -> std::result::Result<MakeRustlsConnect, Cause> {
        let made = self
            .tls
            .get_or_init(|| tls::connector(self.config.sslmode, &self.config.certificates()));
        made.clone().map_err(Cause::Tls)
    }
}

/// One server. Clones share its connections.
#[derive(Clone)]
pub struct Server {
    link: Arc<Link>,
    databases: Arc<Mutex<HashMap<String, Database>>>,
}

impl Server {
    /// Describes a server; does not connect.
    pub fn new(config: ServerConfig) -> Self {
        Self {
            link: Arc::new(Link {
                config,
                tls: OnceLock::new(),
            }),
            databases: Arc::default(),
        }
    }

    /// How it is reached.
    pub fn config(&self) -> &ServerConfig {
        &self.link.config
    }

    /// One of its databases, by default the configured one; does not connect.
    pub fn database(&self, name: Option<&str>) -> Database {
        let name = name.unwrap_or(&self.link.config.database);
        let mut databases = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        databases
            .entry(name.to_owned())
            .or_insert_with(|| Database::new(self.link.clone(), name))
            .clone()
    }
}

/// One database of a server, with its pool of connections. Clones share both.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    name: String,
    version: OnceLock<ServerVersion>,
    idle: Mutex<Vec<Session>>,
    permits: Arc<Semaphore>,
    /// Counts the beginnings and ends of this process's own changes; snapshots of before are stale.
    changes: AtomicU64,
    publications: Snapshot<Publications>,
    subscriptions: Snapshot<Subscriptions>,
    slots: Snapshot<Slots>,
}

/// Counts a change at its beginning and at its end, however it ends.
struct Change<'a>(&'a AtomicU64);

impl<'a> Change<'a> {
    fn begin(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Database {
    fn new(link: Arc<Link>, name: &str) -> Self {
        let permits = Arc::new(Semaphore::new(
            link.config.max_connections.clamp(1, Semaphore::MAX_PERMITS),
        ));
        Self(Arc::new(Inner {
            link,
            name: name.to_owned(),
            version: OnceLock::new(),
            idle: Mutex::default(),
            permits,
            changes: AtomicU64::new(0),
            publications: Snapshot::default(),
            subscriptions: Snapshot::default(),
            slots: Snapshot::default(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How its server is reached.
    pub fn config(&self) -> &ServerConfig {
        &self.0.link.config
    }

    /// Where it is, for messages.
    pub fn place(&self) -> Place {
        Place {
            address: self.0.link.config.address(),
            database: self.0.name.clone(),
        }
    }

    /// Makes an error of what went wrong here.
    pub fn error(&self, doing: &str, cause: Cause) -> Error {
        Error::new(doing, self.place(), cause)
    }

    /// Makes an error of an attribute that this server is too old for.
    pub fn unsupported(&self, doing: &str, unsupported: Unsupported) -> Error {
        self.error(doing, Cause::Unsupported(unsupported))
    }

    /// The server's version. Connects when no connection has been made yet.
    pub async fn version(&self) -> Result<ServerVersion> {
        let doing = "reading the server's version";
        if let Some(version) = self.0.version.get() {
            return Ok(*version);
        }
        let _lease = self.lease(doing, &Limits::default()).await?;
        self.0
            .version
            .get()
            .copied()
            .ok_or_else(|| self.error(doing, Cause::Unexpected("no connection".to_owned())))
    }

    /// Runs statements, within the server's `statement_timeout`. See [`Database::run_within`].
    pub async fn run(&self, doing: &str, statements: &[Statement]) -> Result<Vec<Notice>> {
        self.run_within(doing, statements, &Limits::default()).await
    }

    /// Runs statements in order, neighbours that may share a transaction in one, each such group in one round trip.
    ///
    /// Stops at the first that fails; what its transaction did is undone, what ran before stays. When a limit is
    /// reached, or the future is dropped, the server is told to cancel what it runs. Returns the server's notices.
    pub async fn run_within(
        &self,
        doing: &str,
        statements: &[Statement],
        limits: &Limits,
    ) -> Result<Vec<Notice>> {
        self.run_reading(doing, statements, None, limits)
            .await
            .map(|(notices, _)| notices)
    }

    /// Runs statements as [`Database::run_within`] does, and a query in the round trip of the last of them.
    pub(super) async fn run_reading(
        &self,
        doing: &str,
        statements: &[Statement],
        query: Option<(&str, &[Param<'_>])>,
        limits: &Limits,
    ) -> Result<(Vec<Notice>, Vec<Row>)> {
        let _change = Change::begin(&self.0.changes);
        let limits = &self.with_deadline(limits);
        let mut lease = self.lease(doing, limits).await?;
        if !lease.fresh && lease.is_dead().await {
            lease.replace(doing, limits).await?;
        }
        let (last, first) = split_last(statements);
        for group in first {
            lease.run_group(doing, group, None, limits).await?;
        }
        let rows = lease.run_group(doing, last, query, limits).await?;
        Ok((lease.take_notices(), rows))
    }

    /// Reads rows. Sent again once where the connection broke.
    pub(super) async fn query(
        &self,
        doing: &str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let limits = &self.with_deadline(&Limits::default());
        let mut lease = self.lease(doing, limits).await?;
        match lease
            .attempt(limits, async |session| session.query(sql, params).await)
            .await
        {
            Err(Failure {
                cause: Cause::Statement(error),
                ..
            }) if !lease.fresh && lost(&error) => {}
            Err(failure) if !lease.fresh && failure.not_executed => {}
            result => return result.map_err(|failure| self.error(doing, failure.cause)),
        }
        lease.replace(doing, limits).await?;
        let result = lease
            .attempt(limits, async |session| session.query(sql, params).await)
            .await;
        result.map_err(|failure| self.error(doing, failure.cause))
    }

    /// Runs changes and reads, in a transaction that is undone, all in one round trip.
    pub(super) async fn query_undone(
        &self,
        doing: &str,
        changes: &[String],
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>> {
        let limits = &self.with_deadline(&Limits::default());
        let mut lease = self.lease(doing, limits).await?;
        let mut result = lease
            .attempt(limits, async |session| {
                session.run_undone(changes, sql, params).await
            })
            .await;
        if !lease.fresh && result.as_ref().is_err_and(|failure| failure.not_executed) {
            lease.replace(doing, limits).await?;
            result = lease
                .attempt(limits, async |session| {
                    session.run_undone(changes, sql, params).await
                })
                .await;
        }
        result.map_err(|failure| self.error(doing, failure.cause))
    }

    pub(super) fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::SeqCst)
    }

    pub(super) fn publications(&self) -> &Snapshot<Publications> {
        &self.0.publications
    }

    pub(super) fn subscriptions(&self) -> &Snapshot<Subscriptions> {
        &self.0.subscriptions
    }

    pub(super) fn slots(&self) -> &Snapshot<Slots> {
        &self.0.slots
    }

    fn with_deadline(&self, limits: &Limits) -> Limits {
        let deadline = limits
            .deadline
            .or_else(|| Instant::now().checked_add(self.0.link.config.statement_timeout));
        Limits {
            deadline,
            cancel: limits.cancel.clone(),
        }
    }

    /// Takes a connection, waiting for one to be free and connecting when none is idle.
    async fn lease(&self, doing: &str, limits: &Limits) -> Result<Lease> {
        let permit = tokio::select! {
            permit = self.0.permits.clone().acquire_owned() => permit,
            cause = expired(limits, Instant::now()) => return Err(self.error(doing, cause)),
        };
        let permit =
            permit.map_err(|error| self.error(doing, Cause::Unexpected(error.to_string())))?;
        let mut lease = Lease {
            database: self.clone(),
            session: None,
            fresh: false,
            busy: false,
            _permit: permit,
        };
        lease.session = self.idle();
        if lease.session.is_none() {
            lease.replace(doing, limits).await?;
        }
        Ok(lease)
    }

    /// The connection used last, of those that are still open.
    fn idle(&self) -> Option<Session> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.link.config.address(), self.0.name)
    }
}

/// The last group, empty where there is none, and those before it.
fn split_last(statements: &[Statement]) -> (&[Statement], impl Iterator<Item = &[Statement]>) {
    let last = groups(statements).last().unwrap_or_default();
    (last, groups(&statements[..statements.len() - last.len()]))
}

fn lost(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none()
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
struct Lease {
    database: Database,
    session: Option<Session>,
    /// Opened for this lease, so that a failure on it is no sign of an old connection.
    fresh: bool,
    busy: bool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Whether the connection has been out of use for long, and has died meanwhile.
    async fn is_dead(&self) -> bool {
        match &self.session {
            Some(session) => session.idle_for() > DOUBTFUL_AFTER && !session.is_alive().await,
            None => true,
        }
    }

    fn take_notices(&self) -> Vec<Notice> {
        self.session
            .as_ref()
            .map(Session::take_notices)
            .unwrap_or_default()
    }

    /// Opens a new connection in place of the old one.
    async fn replace(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        let database = self.database.clone();
        self.session = None;
        let session = tokio::select! {
            session = Session::open(&database.0.link, &database.0.name) => session,
            cause = expired(limits, Instant::now()) => Err(cause),
        };
        let session = session.map_err(|cause| database.error(doing, cause))?;
        let _ = database.0.version.set(session.version());
        self.session = Some(session);
        (self.fresh, self.busy) = (true, false);
        Ok(())
    }

    /// Runs one group; a wait is asked again until it is true.
    async fn run_group(
        &mut self,
        doing: &str,
        group: &[Statement],
        query: Option<(&str, &[Param<'_>])>,
        limits: &Limits,
    ) -> Result<Vec<Row>> {
        for statement in group {
            tracing::debug!(server = %self.database.0.link.config.address(), database = self.database.0.name, %statement, "running");
        }
        if group.is_empty() && query.is_none() {
            return Ok(Vec::new());
        }
        if let [wait] = group
            && wait.is_wait()
        {
            return self.wait(doing, wait, limits).await;
        }
        let mut result = self
            .attempt(limits, async |session| {
                session.run_reading(group, query).await
            })
            .await;
        if !self.fresh && result.as_ref().is_err_and(|failure| failure.not_executed) {
            self.replace(doing, limits).await?;
            result = self
                .attempt(limits, async |session| {
                    session.run_reading(group, query).await
                })
                .await;
        }
        result.map_err(|failure| self.database.error(doing, failure.cause))
    }

    async fn wait(&mut self, doing: &str, wait: &Statement, limits: &Limits) -> Result<Vec<Row>> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let rows = self
                .attempt(limits, async |session| {
                    session.query(wait.text(), &[]).await
                })
                .await;
            let rows = rows.map_err(|failure| self.database.error(doing, failure.cause))?;
            if rows
                .first()
                .is_some_and(|row| matches!(row.try_get(0), Ok(true)))
            {
                return Ok(Vec::new());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                cause = expired(limits, began) => return Err(self.database.error(doing, cause)),
            }
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Does work on the session, within the limits.
    async fn attempt<T>(
        &mut self,
        limits: &Limits,
        work: impl AsyncFnOnce(&mut Session) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let Some(session) = self.session.as_mut() else {
            return Err(Failure {
                cause: Cause::Unexpected("no connection".to_owned()),
                not_executed: true,
            });
        };
        let (canceller, began) = (session.canceller(), Instant::now());
        self.busy = true;
        let result = Session::unless(&canceller, work(session), expired(limits, began)).await;
        self.busy = result.is_none();
        result.unwrap_or_else(|| {
            Err(Failure {
                cause: Cause::Timeout(began.elapsed()),
                not_executed: false,
            })
        })
    }
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
            self.database
                .0
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(session);
        }
    }
}
