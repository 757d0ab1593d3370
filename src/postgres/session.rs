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

/// Of how many statements `join_all` polls every one at once; BEGIN and COMMIT among them.
const SENT_IN_ONE_GO: usize = 28;

/// How long the server may take to end a statement that it was told to cancel, and how often it is told meanwhile.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
const CANCEL_TRIES: u32 = 5;

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

/// What the session shares with the task that drives its connection.
struct Shared {
    notices: Vec<Notice>,
    /// The server ended the connection while no statement was in its hands.
    ended_idle: bool,
    last_used: Instant,
    /// How often the server was asked to cancel what it runs.
    cancels: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection. Several may do work on it at a time: each sends all of its own in one go, and the server takes
/// one after the other, without a pause for the way of the answers.
pub(super) struct Session {
    client: Client,
    shared: Arc<Mutex<Shared>>,
    canceller: Canceller,
    version: ServerVersion,
    backend: Backend,
    /// Held while work is sent, so that none comes into the middle of another's transaction.
    sending: Mutex<()>,
}

/// A process of the server, which no later one of the same number is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pid: i32,
    /// When it started, in seconds since 1970 with all their digits.
    started: String,
}

/// What it takes to cancel what a session runs, after the session itself is gone.
#[derive(Clone)]
pub(super) struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
    shared: Arc<Mutex<Shared>>,
}

impl Canceller {
    /// Asks the server to cancel. Nobody can know whether it arrived in time, nor whose work it hits.
    pub(super) async fn cancel(&self) {
        lock(&self.shared).cancels += 1;
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

/// Why work failed, and what is left of it.
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) left: Left,
}

/// What failed work has left on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nobody knows, or nothing for a reason that would be the same again.
    Unknown,
    /// Nothing, because the connection was dead: it can be sent again on another.
    Nothing,
    /// Nothing, because it was cancelled in the place of other work: it can be sent again.
    Interrupted,
}

impl Failure {
    fn dead(why: &str) -> Self {
        Self { cause: Cause::Unexpected(why.to_owned()), left: Left::Nothing }
    }

    pub(super) fn of(cause: Cause) -> Self {
        Self { cause, left: Left::Unknown }
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
        let shared = Shared { notices: Vec::new(), ended_idle: false, last_used: Instant::now(), cancels: 0 };
        let shared = Arc::new(Mutex::new(shared));
        tokio::spawn(drive(connection, shared.clone()));
        let canceller = Canceller { token: client.cancel_token(), tls, shared: shared.clone() };
        let (version, backend) = pin_settings(&client).await?;
        lock(&shared).notices.clear();
        Ok(Self { client, shared, canceller, version, backend, sending: Mutex::default() })
    }

    pub(super) fn version(&self) -> ServerVersion {
        self.version
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Tells the server to end another session of this role's. Returns whether it was still there.
    pub(super) async fn end_other(&self, backend: &Backend) -> Result<bool, tokio_postgres::Error> {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity($1) \
            WHERE extract(epoch FROM backend_start)::text = $2";
        let params: [Param<'_>; 2] = [(&backend.pid, Type::INT4), (&backend.started, Type::TEXT)];
        self.client.query_typed(sql, &params).await.map(|rows| !rows.is_empty())
    }

    pub(super) fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub(super) fn idle_for(&self) -> Duration {
        lock(&self.shared).last_used.elapsed()
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

    /// Does work in one round trip: all of it is sent before the first answer is awaited.
    ///
    /// `None` says that the changes were made, and reading afterwards failed.
    async fn run(&self, work: &Work<'_>) -> Result<Option<Vec<Row>>, Failure> {
        let client = &self.client;
        if client.is_closed() {
            return Err(Failure::dead("the connection was closed"));
        }
        let cancels = {
            let mut shared = lock(&self.shared);
            shared.last_used = Instant::now();
            shared.cancels
        };
        let read = async {
            match work.query {
                Some((sql, params)) => client.query_typed(sql, params).await,
                None => Ok(Vec::new()),
            }
        };
        // These poll, and so send, in order.
        let first = join_all(work.before.iter().map(|text| client.execute_typed(text, &[])));
        let last = join_all(work.after.iter().map(|text| client.execute_typed(text, &[])));
        let (first, rows, last) = self.sent_together(join3(first, read, last)).await;
        match first.into_iter().chain(last).find_map(Result::err) {
            Some(error) => Err(self.failure(error, work.all_or_nothing, cancels)),
            None => match rows {
                Ok(rows) => Ok(Some(rows)),
                Err(_) if work.changes => Ok(None),
                Err(error) => Err(self.failure(error, true, cancels)),
            },
        }
    }

    /// Polls for the first time, which sends, while nobody else does.
    async fn sent_together<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut is_sent = false;
        poll_fn(|cx| {
            let _sending = (!is_sent).then(|| lock(&self.sending));
            is_sent = true;
            work.as_mut().poll(cx)
        })
        .await
    }

    fn failure(&self, error: tokio_postgres::Error, all_or_nothing: bool, cancels: u32) -> Failure {
        let shared = lock(&self.shared);
        let left = match error.code() {
            Some(code) if all_or_nothing && *code == SqlState::ADMIN_SHUTDOWN => Left::Nothing,
            Some(code) if all_or_nothing && *code == SqlState::QUERY_CANCELED && shared.cancels != cancels => {
                Left::Interrupted
            }
            None if error.is_closed() && shared.ended_idle => Left::Nothing,
            _ => Left::Unknown,
        };
        Failure { cause: Cause::Statement(error), left }
    }

    /// Does work, or cancels it on the server once `stop` resolves and gives it a moment to end.
    ///
    /// `None` says that it had not even ended then: the session is not usable any more.
    pub(super) async fn run_unless(
        &self,
        work: &Work<'_>,
        stop: impl Future<Output = Cause>,
    ) -> Option<Result<Option<Vec<Row>>, Failure>> {
        let mut work = pin!(self.run(work));
        let reason = tokio::select! {
            biased;
            result = &mut work => return Some(result),
            reason = stop => reason,
        };
        for _ in 0..CANCEL_TRIES {
            self.canceller.cancel().await;
            match tokio::time::timeout(CANCEL_GRACE / CANCEL_TRIES, &mut work).await {
                Ok(Err(failure)) if was_cancelled(&failure.cause) => return Some(Err(Failure::of(reason))),
                // It ended by itself, well or badly, before the request arrived.
                Ok(result) => return Some(result),
                // The request may have hit what the server had before it.
                Err(_) => {}
            }
        }
        None
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
    /// Whether others may have work on the same connection meanwhile: what ends quickly, leaves nothing where it is
    /// cancelled, and is sent in one go.
    pub(super) fn can_share(group: &[Statement]) -> bool {
        let fits = |statement: &Statement| statement.scope() == Scope::Transaction && !statement.is_wait();
        group.len() < SENT_IN_ONE_GO && group.iter().all(fits)
    }

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
async fn pin_settings(client: &Client) -> Result<(ServerVersion, Backend), Cause> {
    let sql = "SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false), \
        set_config('search_path', 'pg_catalog', false), set_config('standard_conforming_strings', 'on', false), \
        set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false), \
        CASE WHEN current_setting('server_version_num')::int >= 140000 AND version() LIKE '%linux%' \
             THEN set_config('client_connection_check_interval', '2s', false) END, \
        current_setting('server_version_num')::int, pg_backend_pid(), \
        (SELECT extract(epoch FROM backend_start)::text FROM pg_stat_get_activity(pg_backend_pid()))";
    let row = client.query_typed_one(sql, &[]).await.map_err(Cause::Connect)?;
    let num: i32 = row.try_get(7).map_err(Cause::Connect)?;
    let version = ServerVersion::from_num(u32::try_from(num).unwrap_or(0));
    if version < ServerVersion::OLDEST {
        return Err(Cause::TooOld(version));
    }
    let started: Option<String> = row.try_get(9).map_err(Cause::Connect)?;
    let backend = Backend { pid: row.try_get(8).map_err(Cause::Connect)?, started: started.unwrap_or_default() };
    Ok((version, backend))
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
