//! Servers, databases and their pools of connections; nothing connects before the first statement.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::conninfo::{Conninfo, Secret};
use super::error::{Cause, Error, Result};
use super::password::Passwords;
use super::pool::{Pool, Sharing};
use super::publication::{Publications, Readers};
use super::relation::Relations;
use super::session::{Notice, Param, Query, Work, groups};
use super::slot::Slots;
use super::snapshot::Snapshot;
use super::sql::Statement;
use super::subscription::Subscriptions;
use super::tls::{self, Certificates, SslMode};
use super::version::{ServerVersion, Unsupported};

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
    pub fn new(host: impl Into<String>, database: impl Into<String>, username: impl Into<String>) -> Self {
        let host = host.into();
        let sslmode = if is_loopback(&host) { SslMode::Prefer } else { SslMode::Require };
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
            application_name: concat!("terraform-provider-neonrepl ", env!("CARGO_PKG_VERSION")).to_owned(),
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

    /// The same as another server needs it to connect there: host, port, database, user, password and `sslmode`.
    ///
    /// Paths of certificates are left out, as they mean files of this machine.
    pub fn conninfo(&self) -> Conninfo {
        let mut conninfo = Conninfo::new();
        conninfo.set("host", &self.host);
        conninfo.set("port", self.port.to_string());
        conninfo.set("dbname", &self.database);
        conninfo.set("user", &self.username);
        conninfo.set("password", self.password.as_ref().map_or("", Secret::expose));
        conninfo.set("sslmode", self.sslmode.as_str());
        conninfo
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
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
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
        Self { deadline: Instant::now().checked_add(time), cancel: CancellationToken::new() }
    }

    /// The same, cancelled with `cancel`.
    pub fn cancelled_by(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }
}

/// How a server is reached, with what is made of that once.
pub(super) struct Link {
    pub(super) config: ServerConfig,
    passwords: Option<Arc<dyn Passwords>>,
    tls: OnceLock<std::result::Result<MakeRustlsConnect, String>>,
}

impl Link {
    /// The TLS connector; certificates are read when it is first asked for.
    pub(super) fn tls(&self) -> std::result::Result<MakeRustlsConnect, Cause> {
        let made = self.tls.get_or_init(|| tls::connector(self.config.sslmode, &self.config.certificates()));
        made.clone().map_err(Cause::Tls)
    }

    /// The password of a connection that begins now.
    pub(super) async fn password(&self) -> std::result::Result<Option<Secret>, Cause> {
        match &self.passwords {
            Some(passwords) => passwords.current().await.map(Some).map_err(Cause::Password),
            None => Ok(self.config.password.clone()),
        }
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
        Self::reached(config, None)
    }

    /// The same with a password of its own for each connection, instead of the configuration's.
    pub fn with_passwords(config: ServerConfig, passwords: Arc<dyn Passwords>) -> Self {
        Self::reached(config, Some(passwords))
    }

    fn reached(config: ServerConfig, passwords: Option<Arc<dyn Passwords>>) -> Self {
        Self { link: Arc::new(Link { config, passwords, tls: OnceLock::new() }), databases: Arc::default() }
    }

    /// How it is reached.
    pub fn config(&self) -> &ServerConfig {
        &self.link.config
    }

    /// One of its databases, by default the configured one; does not connect.
    pub fn database(&self, name: Option<&str>) -> Database {
        let name = name.unwrap_or(&self.link.config.database);
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.entry(name.to_owned()).or_insert_with(|| Database::new(self.link.clone(), name)).clone()
    }
}

/// One database of a server, with its pool of connections. Clones share both.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    pool: Arc<Pool>,
    /// Counts the beginnings and ends of this process's own changes; snapshots of before are stale.
    changes: AtomicU64,
    publications: Snapshot<Publications>,
    subscriptions: Snapshot<Subscriptions>,
    slots: Snapshot<Slots>,
    relations: Snapshot<Relations>,
    readers: Snapshot<Readers>,
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
        Self(Arc::new(Inner {
            pool: Arc::new(Pool::new(link, name)),
            changes: AtomicU64::new(0),
            publications: Snapshot::default(),
            subscriptions: Snapshot::default(),
            slots: Snapshot::default(),
            relations: Snapshot::default(),
            readers: Snapshot::default(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.pool.database()
    }

    /// How its server is reached.
    pub fn config(&self) -> &ServerConfig {
        &self.0.pool.link().config
    }

    /// Makes an error of what went wrong here.
    pub fn error(&self, doing: &str, cause: Cause) -> Error {
        self.0.pool.error(doing, cause)
    }

    /// Makes an error of an attribute that this server is too old for.
    pub fn unsupported(&self, doing: &str, unsupported: Unsupported) -> Error {
        self.error(doing, Cause::Unsupported(unsupported))
    }

    /// The server's version. Connects when no connection has been made yet.
    pub async fn version(&self) -> Result<ServerVersion> {
        let doing = "reading the server's version";
        if let Some(version) = self.0.pool.version() {
            return Ok(version);
        }
        let _lease = self.0.pool.lease(doing, Sharing::Shared, &Limits::default()).await?;
        let version = self.0.pool.version();
        version.ok_or_else(|| self.error(doing, Cause::Unexpected("no connection".to_owned())))
    }

    /// Runs statements, within the server's `statement_timeout`. See [`Database::run_within`].
    pub async fn run(&self, doing: &str, statements: &[Statement]) -> Result<Vec<Notice>> {
        self.run_within(doing, statements, &Limits::default()).await
    }

    /// Runs statements in order, neighbours that may share a transaction in one, each such group in one round trip.
    ///
    /// Stops at the first that fails; what its transaction did is undone, what ran before stays. When a limit is
    /// reached, or the future is dropped, the server is told to cancel what it runs. Returns the server's notices.
    pub async fn run_within(&self, doing: &str, statements: &[Statement], limits: &Limits) -> Result<Vec<Notice>> {
        self.run_on(Sharing::Alone, doing, statements, None, limits).await.map(|(notices, _)| notices)
    }

    /// Runs statements as [`Database::run_within`] does, and a query in the round trip of the last of them. No rows at
    /// all says that only the query failed.
    ///
    /// For what ends quickly: others may do work on the same connection meanwhile, and the notices may be theirs.
    pub(super) async fn run_shared(
        &self,
        doing: &str,
        statements: &[Statement],
        query: Option<Query<'_>>,
        limits: &Limits,
    ) -> Result<(Vec<Notice>, Option<Vec<Row>>)> {
        let sharing = if Work::can_share(statements) { Sharing::Shared } else { Sharing::Alone };
        self.run_on(sharing, doing, statements, query, limits).await
    }

    async fn run_on(
        &self,
        sharing: Sharing,
        doing: &str,
        statements: &[Statement],
        query: Option<Query<'_>>,
        limits: &Limits,
    ) -> Result<(Vec<Notice>, Option<Vec<Row>>)> {
        let _change = Change::begin(&self.0.changes);
        let limits = &self.with_deadline(limits);
        let mut lease = self.0.pool.lease(doing, sharing, limits).await?;
        lease.ensure_alive(doing, limits).await?;
        let (last, first) = split_last(statements);
        for group in first {
            lease.run_group(doing, group, None, limits).await?;
        }
        let rows = lease.run_group(doing, last, query, limits).await?;
        Ok((lease.take_notices(), rows))
    }

    /// Reads rows.
    pub(super) async fn query(&self, doing: &str, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        let limits = &self.with_deadline(&Limits::default());
        let mut lease = self.0.pool.lease(doing, Sharing::Shared, limits).await?;
        lease.query(doing, (sql, params), limits).await
    }

    /// Runs changes and reads, in a transaction that is undone, all in one round trip.
    pub(super) async fn query_undone(&self, doing: &str, changes: &[String], sql: &str) -> Result<Vec<Row>> {
        let limits = &self.with_deadline(&Limits::default());
        let mut lease = self.0.pool.lease(doing, Sharing::Shared, limits).await?;
        lease.query_undone(doing, changes, (sql, &[]), limits).await
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

    pub(super) fn relations(&self) -> &Snapshot<Relations> {
        &self.0.relations
    }

    pub(super) fn readers(&self) -> &Snapshot<Readers> {
        &self.0.readers
    }

    fn with_deadline(&self, limits: &Limits) -> Limits {
        let deadline = limits.deadline.or_else(|| Instant::now().checked_add(self.config().statement_timeout));
        Limits { deadline, cancel: limits.cancel.clone() }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.config().address(), self.name())
    }
}

/// The last group, empty where there is none, and those before it.
fn split_last(statements: &[Statement]) -> (&[Statement], impl Iterator<Item = &[Statement]>) {
    let last = groups(statements).last().unwrap_or_default();
    (last, groups(&statements[..statements.len() - last.len()]))
}
