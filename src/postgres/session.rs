//! One connection: opening it as `sslmode` says, its pinned settings, and statements on it.

use std::future::{Future, poll_fn};
use std::iter::once;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join_all, join3};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::Link;
use super::conninfo::Secret;
use super::error::Cause;
use super::sql::{Scope, Statement};
use super::tls::SslMode;
use super::version::ServerVersion;

/// A value bound to a parameter, with the type it is sent as.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A query, and what is bound to its parameters.
pub(super) type Query<'a> = (&'a str, &'a [Param<'a>]);

/// What is sent in one round trip.
pub(super) struct Work<'a> {
    before: Vec<&'a str>,
    query: Option<Query<'a>>,
    after: Vec<&'a str>,
    /// Something stays changed, whatever becomes of the query.
    changes: bool,
    /// When the server ends the session under it, nothing of it stays.
    all_or_nothing: bool,
}

/// How long the server may take to end a statement that it was told to cancel.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// A message of the server that is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `WARNING`, `NOTICE` …, not translated.
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Notice {
    /// Whether a person should read it.
    pub fn is_warning(&self) -> bool {
        self.severity == "WARNING"
    }
}

impl From<&DbError> for Notice {
    fn from(error: &DbError) -> Self {
        Self {
            severity: error
                .parsed_severity()
                .map_or_else(|| error.severity().to_owned(), |severity| severity.to_string()),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// What the task that drives the connection tells the session.
#[derive(Default)]
struct Shared {
    notices: Vec<Notice>,
    /// The server ended the connection while no statement was in its hands.
    ended_idle: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection.
pub(super) struct Session {
    client: Client,
    shared: Arc<Mutex<Shared>>,
    canceller: Canceller,
    version: ServerVersion,
    last_used: Instant,
}

/// What it takes to cancel what a session runs, after the session itself is gone.
#[derive(Clone)]
pub(super) struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    /// Asks the server to cancel. Nobody can know whether it arrived in time.
    pub(super) async fn cancel(&self) {
        let request = async {
            match &self.tls {
                Some(tls) => self.token.cancel_query(tls.clone()).await,
                None => self.token.cancel_query(NoTls).await,
            }
        };
        match tokio::time::timeout(CANCEL_GRACE, request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a cancel request failed"),
            Err(_) => tracing::debug!("a cancel request was not taken in time"),
        }
    }
}

/// Why a group of statements failed, and whether any of it can have run.
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// Nothing of the group reached the server, so that it can safely be sent again.
    pub(super) not_executed: bool,
}

impl Failure {
    pub(super) fn not_executed(why: &str) -> Self {
        Self { cause: Cause::Unexpected(why.to_owned()), not_executed: true }
    }

    pub(super) fn executed(cause: Cause) -> Self {
        Self { cause, not_executed: false }
    }
}

impl Session {
    /// Connects, trying plain and encrypted connections in the order that `sslmode` asks for.
    pub(super) async fn open(link: &Link, database: &str) -> Result<Self, Cause> {
        let password = link.password().await?;
        let password = password.as_ref();
        let work = async {
            let attempts = attempts(link.config.sslmode);
            let mut first_error = None;
            for &encrypted in attempts {
                match Self::attempt(link, database, password, encrypted).await {
                    Ok(session) => return Ok(session),
                    Err(Cause::Connect(error)) if attempts.len() > 1 && may_try_otherwise(&error) => {
                        first_error.get_or_insert(Cause::Connect(error));
                    }
                    Err(cause) => return Err(first_error.unwrap_or(cause)),
                }
            }
            Err(first_error.unwrap_or_else(|| Cause::Unexpected("no way to connect was tried".to_owned())))
        };
        match tokio::time::timeout(link.config.connect_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Cause::ConnectTimeout(link.config.connect_timeout)),
        }
    }

    async fn attempt(link: &Link, database: &str, password: Option<&Secret>, encrypted: bool) -> Result<Self, Cause> {
        let config = &link.config;
        let mut pg = tokio_postgres::Config::new();
        pg.host(&config.host)
            .port(config.port)
            .user(&config.username)
            .dbname(database)
            .application_name(&config.application_name);
        if let Some(password) = password {
            pg.password(password.expose());
        }
        if encrypted {
            let tls = link.tls()?;
            // With `prefer`, a server that declines TLS goes on with the same connection.
            pg.ssl_mode(match config.sslmode {
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                _ => tokio_postgres::config::SslMode::Require,
            });
            let (client, connection) = pg.connect(tls.clone()).await.map_err(Cause::Connect)?;
            Self::start(client, connection, Some(tls)).await
        } else {
            pg.ssl_mode(tokio_postgres::config::SslMode::Disable);
            let (client, connection) = pg.connect(NoTls).await.map_err(Cause::Connect)?;
            Self::start(client, connection, None).await
        }
    }

    async fn start<S, T>(
        client: Client,
        connection: Connection<S, T>,
        tls: Option<MakeRustlsConnect>,
    ) -> Result<Self, Cause>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Arc::new(Mutex::new(Shared::default()));
        tokio::spawn(drive(connection, shared.clone()));
        let canceller = Canceller { token: client.cancel_token(), tls };
        let version = pin_settings(&client).await?;
        lock(&shared).notices.clear();
        Ok(Self { client, shared, canceller, version, last_used: Instant::now() })
    }

    pub(super) fn version(&self) -> ServerVersion {
        self.version
    }

    pub(super) fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn idle_for(&self) -> Duration {
        self.last_used.elapsed()
    }

    /// Whether the server still answers. Costs a round trip.
    pub(super) async fn is_alive(&self) -> bool {
        let probe = self.client.check_connection();
        matches!(tokio::time::timeout(CANCEL_GRACE, probe).await, Ok(Ok(())))
    }

    /// Takes the notices that have come since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut lock(&self.shared).notices)
    }

    /// Does work in one round trip: all of it is queued before the first answer is awaited.
    ///
    /// `None` says that the changes were made, and reading afterwards failed.
    pub(super) async fn run(&mut self, work: &Work<'_>) -> Result<Option<Vec<Row>>, Failure> {
        let client = &self.client;
        if client.is_closed() {
            return Err(Failure::not_executed("the connection was closed"));
        }
        self.last_used = Instant::now();
        let read = async {
            match work.query {
                Some((sql, params)) => client.query_typed(sql, params).await,
                None => Ok(Vec::new()),
            }
        };
        // These poll, and so send, in order.
        let first = join_all(work.before.iter().map(|text| client.execute_typed(text, &[])));
        let last = join_all(work.after.iter().map(|text| client.execute_typed(text, &[])));
        let (first, rows, last) = join3(first, read, last).await;
        match first.into_iter().chain(last).find_map(Result::err) {
            Some(error) => Err(self.failure(error, work.all_or_nothing)),
            None => match rows {
                Ok(rows) => Ok(Some(rows)),
                Err(_) if work.changes => Ok(None),
                Err(error) => Err(self.failure(error, true)),
            },
        }
    }

    fn failure(&self, error: tokio_postgres::Error, all_or_nothing: bool) -> Failure {
        let not_executed = match error.code() {
            Some(code) => all_or_nothing && *code == SqlState::ADMIN_SHUTDOWN,
            None => error.is_closed() && lock(&self.shared).ended_idle,
        };
        Failure { cause: Cause::Statement(error), not_executed }
    }

    /// Does work, or cancels it on the server once `stop` resolves and gives it a moment to end.
    ///
    /// `None` says that it had not even ended then: the session is not usable any more.
    pub(super) async fn run_unless(
        &mut self,
        work: &Work<'_>,
        stop: impl Future<Output = Cause>,
    ) -> Option<Result<Option<Vec<Row>>, Failure>> {
        let canceller = self.canceller();
        let mut work = pin!(self.run(work));
        let reason = tokio::select! {
            biased;
            result = &mut work => return Some(result),
            reason = stop => reason,
        };
        canceller.cancel().await;
        match tokio::time::timeout(CANCEL_GRACE, work).await {
            Ok(Err(failure)) if was_cancelled(&failure.cause) => Some(Err(Failure::executed(reason))),
            // It ended by itself, well or badly, before the request arrived.
            Ok(result) => Some(result),
            Err(_) => None,
        }
    }
}

fn was_cancelled(cause: &Cause) -> bool {
    matches!(cause, Cause::Statement(error) if error.code() == Some(&SqlState::QUERY_CANCELED))
}

/// Whether each attempt to connect is encrypted.
fn attempts(mode: SslMode) -> &'static [bool] {
    match mode {
        SslMode::Disable => &[false],
        SslMode::Allow => &[false, true],
        SslMode::Prefer => &[true, false],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[true],
    }
}

/// Whether encryption, or none, could be the reason: not when the host does not answer or the password is wrong.
fn may_try_otherwise(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => !error.to_string().starts_with("error connecting to server"),
    }
}

impl<'a> Work<'a> {
    /// Statements of one scope, several in a transaction, and then a query.
    pub(super) fn statements(group: &'a [Statement], query: Option<Query<'a>>) -> Self {
        let texts = group.iter().map(Statement::text);
        let before = match group {
            [] | [_] => texts.collect(),
            _ => once("BEGIN").chain(texts).chain(["COMMIT"]).collect(),
        };
        let in_transaction = |statement: &Statement| statement.scope() == Scope::Transaction;
        Self {
            before,
            query,
            after: Vec::new(),
            changes: !group.is_empty(),
            all_or_nothing: group.iter().all(in_transaction),
        }
    }

    /// A query with its parameters.
    pub(super) fn query(query: Query<'a>) -> Self {
        Self::statements(&[], Some(query))
    }

    /// Changes, a query of what the server made of them, and their undoing.
    pub(super) fn undone(changes: &'a [String], query: Query<'a>) -> Self {
        let changes = changes.iter().map(String::as_str);
        Self {
            before: once("BEGIN").chain(changes).collect(),
            query: Some(query),
            after: vec!["ROLLBACK"],
            changes: false,
            all_or_nothing: true,
        }
    }
}

/// Splits statements into the runs that share a transaction. A wait, like a statement that must be alone, is one of its own.
pub(super) fn groups(statements: &[Statement]) -> impl Iterator<Item = &[Statement]> {
    statements.chunk_by(|one, next| one.scope() == Scope::Transaction && next.scope() == Scope::Transaction)
}

/// Drives a connection until it ends, and keeps its notices.
async fn drive<S, T>(mut connection: Connection<S, T>, shared: Arc<Mutex<Shared>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            Some(Ok(AsyncMessage::Notice(notice))) => {
                lock(&shared).notices.push(Notice::from(&notice));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                // An error of the server's that answers no statement comes to an idle connection only.
                lock(&shared).ended_idle = error.code().is_some();
                return;
            }
            None => return,
        }
    }
}

/// Sets what the catalog's texts depend on, and asks for the version. One round trip; as statements, not as start-up
/// options, because poolers and proxies refuse those.
///
/// `client_connection_check_interval` ends a statement whose client was killed; servers elsewhere than on Linux may
/// refuse it. Time limits are kept by the client, which cancels: a limit of the role's would hit a long initial wait.
async fn pin_settings(client: &Client) -> Result<ServerVersion, Cause> {
    let sql = "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false), \
        set_config('search_path', 'pg_catalog', false), set_config('standard_conforming_strings', 'on', false), \
        set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false), \
        CASE WHEN current_setting('server_version_num')::int >= 140000 AND version() LIKE '%linux%' \
             THEN set_config('client_connection_check_interval', '2s', false) END, \
        current_setting('server_version_num')::int";
    let row = client.query_typed_one(sql, &[]).await.map_err(Cause::Connect)?;
    let num: i32 = row.try_get(7).map_err(Cause::Connect)?;
    let version = ServerVersion::from_num(u32::try_from(num).unwrap_or(0));
    if version < ServerVersion::OLDEST { Err(Cause::TooOld(version)) } else { Ok(version) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(scopes: &str) -> Vec<Statement> {
        let statement = |scope| match scope {
            't' => Statement::new("t"),
            'a' => Statement::alone("a"),
            _ => Statement::wait_until("w"),
        };
        scopes.chars().map(statement).collect()
    }

    fn check_groups(scopes: &str, expected: &str) {
        let statements = statements(scopes);
        let text: Vec<String> = groups(&statements).map(|group| group.iter().map(Statement::text).collect()).collect();
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn neighbours_share_a_transaction_and_loners_do_not() {
        check_groups("", "");
        check_groups("t", "t");
        check_groups("ttt", "ttt");
        check_groups("ttatt", "tt a tt");
        check_groups("aa", "a a");
        check_groups("twwat", "t w w a t");
    }

    #[test]
    fn only_several_statements_need_a_transaction() {
        let in_transaction = |scopes: &str| {
            let statements = statements(scopes);
            Work::statements(&statements, None).before.join(" ")
        };
        assert_eq!(in_transaction(""), "");
        assert_eq!(in_transaction("t"), "t");
        assert_eq!(in_transaction("tt"), "BEGIN t t COMMIT");
    }
}
