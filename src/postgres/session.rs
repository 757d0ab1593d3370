//! One connection: opening it as `sslmode` says, its pinned settings, and statements on it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::Link;
use super::error::Cause;
use super::sql::{Scope, Statement};
use super::tls::SslMode;
use super::version::ServerVersion;

/// A value bound to a parameter, with the type it is sent as.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

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
            severity: error.parsed_severity().map_or_else(
                || error.severity().to_owned(),
                |severity| severity.to_string(),
            ),
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
    fn executed(cause: Cause) -> Self {
        Self {
            cause,
            not_executed: false,
        }
    }
}

impl Session {
    /// Connects, trying plain and encrypted connections in the order that `sslmode` asks for.
    pub(super) async fn open(link: &Link, database: &str) -> Result<Self, Cause> {
        let work = async {
            let attempts = attempts(link.config.sslmode);
            let mut first_error = None;
            for &encrypted in attempts {
                match Self::attempt(link, database, encrypted).await {
                    Ok(session) => return Ok(session),
                    Err(Cause::Connect(error))
                        if attempts.len() > 1 && may_try_otherwise(&error) =>
                    {
                        first_error.get_or_insert(Cause::Connect(error));
                    }
                    Err(cause) => return Err(first_error.unwrap_or(cause)),
                }
            }
            Err(first_error
                .unwrap_or_else(|| Cause::Unexpected("no way to connect was tried".to_owned())))
        };
        match tokio::time::timeout(link.config.connect_timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Cause::ConnectTimeout(link.config.connect_timeout)),
        }
    }

    async fn attempt(link: &Link, database: &str, encrypted: bool) -> Result<Self, Cause> {
        let config = &link.config;
        let mut pg = tokio_postgres::Config::new();
        pg.host(&config.host)
            .port(config.port)
            .user(&config.username)
            .dbname(database)
            .application_name(&config.application_name);
        if let Some(password) = &config.password {
            pg.password(password.expose());
        }
        if encrypted {
            let tls = link.tls()?;
            pg.ssl_mode(tokio_postgres::config::SslMode::Require);
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
        let canceller = Canceller {
            token: client.cancel_token(),
            tls,
        };
        let version = pin_settings(&client).await?;
        lock(&shared).notices.clear();
        Ok(Self {
            client,
            shared,
            canceller,
            version,
            last_used: Instant::now(),
        })
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

    /// Runs statements of one scope, several in a transaction, and then a query, all in one round trip.
    pub(super) async fn run_reading(
        &mut self,
        group: &[Statement],
        query: Option<(&str, &[Param<'_>])>,
    ) -> Result<Vec<Row>, Failure> {
        if self.client.is_closed() {
            return Err(Failure {
                cause: Cause::Unexpected("the connection was closed".to_owned()),
                not_executed: true,
            });
        }
        self.last_used = Instant::now();
        let texts = in_transaction(group);
        // All are queued before the first answer is awaited; join_all polls them in this order.
        let changes = join_all(
            texts
                .iter()
                .map(|text| self.client.execute_typed(text, &[])),
        );
        let read = async {
            match query {
                Some((sql, params)) => self.client.query_typed(sql, params).await,
                None => Ok(Vec::new()),
            }
        };
        let (changes, rows) = join(changes, read).await;
        let first_error = changes.into_iter().find_map(Result::err);
        let undone = group
            .iter()
            .all(|statement| statement.scope() == Scope::Transaction);
        match first_error {
            Some(error) => Err(self.failure(error, undone)),
            None => rows.map_err(|error| self.failure(error, group.is_empty())),
        }
    }

    /// `undone` says that the server leaves nothing of the work behind when it ends the session under it.
    fn failure(&self, error: tokio_postgres::Error, undone: bool) -> Failure {
        let not_executed = match error.code() {
            Some(code) => undone && *code == SqlState::ADMIN_SHUTDOWN,
            None => error.is_closed() && lock(&self.shared).ended_idle,
        };
        Failure {
            cause: Cause::Statement(error),
            not_executed,
        }
    }

    /// Reads rows, with bound parameters.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        self.run_reading(&[], Some((sql, params))).await
    }

    /// Runs changes and reads, then undoes it all: what is read is what the server would have made of them.
    pub(super) async fn run_undone(
        &mut self,
        changes: &[String],
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Failure> {
        let client = &self.client;
        let texts: Vec<&str> = std::iter::once("BEGIN")
            .chain(changes.iter().map(String::as_str))
            .collect();
        let changes = join_all(
            texts
                .into_iter()
                .map(|text| client.execute_typed(text, &[])),
        );
        let read = client.query_typed(sql, params);
        let undo = client.execute_typed("ROLLBACK", &[]);
        let (changes, (rows, undone)) = join(changes, join(read, undo)).await;
        let first_error = changes.into_iter().find_map(Result::err);
        self.take_notices();
        match (first_error, rows, undone) {
            (Some(error), _, _) | (None, Err(error), _) | (None, Ok(_), Err(error)) => {
                Err(self.failure(error, true))
            }
            (None, Ok(rows), Ok(_)) => Ok(rows),
        }
    }

    /// Waits for `work`, or cancels it on the server once `stop` resolves and gives it a moment to end.
    ///
    /// `None` says that it had not even ended then: the session is not usable any more.
    pub(super) async fn unless<T>(
        canceller: &Canceller,
        work: impl Future<Output = Result<T, Failure>>,
        stop: impl Future<Output = Cause>,
    ) -> Option<Result<T, Failure>> {
        let mut work = pin!(work);
        let reason = tokio::select! {
            biased;
            result = &mut work => return Some(result),
            reason = stop => reason,
        };
        canceller.cancel().await;
        match tokio::time::timeout(CANCEL_GRACE, work).await {
            Ok(Err(failure)) if was_cancelled(&failure.cause) => {
                Some(Err(Failure::executed(reason)))
            }
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

fn in_transaction(group: &[Statement]) -> Vec<&str> {
    let texts = group.iter().map(Statement::text);
    match group {
        [] | [_] => texts.collect(),
        _ => std::iter::once("BEGIN")
            .chain(texts)
            .chain(["COMMIT"])
            .collect(),
    }
}

/// Splits statements into the runs that share a transaction. A wait, like a statement that must be alone, is one of its own.
pub(super) fn groups(statements: &[Statement]) -> impl Iterator<Item = &[Statement]> {
    statements.chunk_by(|one, next| {
        one.scope() == Scope::Transaction && next.scope() == Scope::Transaction
    })
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
                lock(&shared).notices.push(Notice::from(&notice))
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
    let row = client
        .query_typed_one(sql, &[])
        .await
        .map_err(Cause::Connect)?;
    let num: i32 = row.try_get(7).map_err(Cause::Connect)?;
    let version = ServerVersion::from_num(u32::try_from(num).unwrap_or(0));
    if version < ServerVersion::OLDEST {
        Err(Cause::TooOld(version))
    } else {
        Ok(version)
    }
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
        let text: Vec<String> = groups(&statements)
            .map(|group| group.iter().map(Statement::text).collect())
            .collect();
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
        assert_eq!(in_transaction(&statements("t")), ["t"]);
        assert_eq!(
            in_transaction(&statements("tt")),
            ["BEGIN", "t", "t", "COMMIT"]
        );
        assert_eq!(in_transaction(&[]), [""; 0]);
    }
}
