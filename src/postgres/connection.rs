// SPDX-License-Identifier: MPL-2.0

//! One open connection: sending work on it, cancelling what it runs, closing it.

mod open;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::{MaybeDone, maybe_done};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{CancelToken, Client, NoTls, Row, RowStream};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use super::error::Cause;
use super::notice::Notice;
use super::version::ServerVersion;
use super::work::{LockWait, Param, Query, Request, Work};
pub(super) use open::{attempts, may_try_otherwise};

/// How long the server may take to end a statement after a cancel request.
pub(super) const CANCEL_GRACE: Duration = Duration::from_secs(5);
const CANCEL_TRIES: u32 = 5;

/// What the connection shares with the task that drives it.
struct Shared {
    notices: Vec<Notice>,
    /// The server ended the connection while no statement was running.
    ended_idle: bool,
    last_used: Instant,
    lock_wait: LockWait,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open connection. Dropping it closes it, by force if necessary.
pub(super) struct Connection {
    client: Client,
    shared: Arc<Mutex<Shared>>,
    canceller: Canceller,
    closing: Closing,
    version: ServerVersion,
    backend: Backend,
}

/// What ends the task that drives a connection.
#[derive(Clone, Default)]
struct Closing {
    /// Nobody uses the connection any more: it has a moment to close in an orderly way.
    unused: CancellationToken,
    /// It is broken: do not wait for it.
    cut: CancellationToken,
}

impl Closing {
    async fn due(&self) {
        let overdue = async {
            self.unused.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        tokio::select! {
            () = self.cut.cancelled() => {}
            () = overdue => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.closing.unused.cancel();
    }
}

/// The right to have a connection open. It is released once every connection that was opened with it is closed.
pub(super) type Seat = Arc<OwnedSemaphorePermit>;

/// A process of the server. Its start time distinguishes it from a later one with the same number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backend {
    pid: i32,
    /// When it started, in seconds since 1970 with all their digits.
    started: String,
}

/// Everything that is needed to cancel a connection's statement.
#[derive(Clone)]
struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    /// Asks the server to cancel. Nobody can know whether it arrived in time.
    async fn cancel(&self) {
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

/// Why work failed, and what it left on the server.
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) left: Left,
}

/// What failed work has left on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Unknown, or nothing, for a reason that a retry would meet again.
    Unknown,
    /// Nothing, because the connection was dead: the work can be sent again on another connection.
    Nothing,
}

impl Failure {
    pub(super) fn of(cause: Cause) -> Self {
        Self { cause, left: Left::Unknown }
    }

    /// Whether the connection broke. Otherwise the server refused something.
    pub(super) fn is_broken(&self) -> bool {
        let lost = matches!(&self.cause, Cause::Statement(error) if error.as_db_error().is_none());
        lost || self.left == Left::Nothing
    }

    fn was_cancelled(&self) -> bool {
        matches!(&self.cause, Cause::Statement(error) if error.code() == Some(&SqlState::QUERY_CANCELED))
    }
}

/// How work ended.
pub(super) enum End<T> {
    /// By itself.
    Done(T),
    /// After the server was told to cancel it. A request to cancel may still be on its way.
    Cancelled(T),
    /// It still runs, even after the request.
    StillRuns(Cause),
}

impl Connection {
    pub(super) fn version(&self) -> ServerVersion {
        self.version
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Ends another session of the same role. Returns whether it still existed.
    pub(super) async fn end_other(&self, backend: &Backend) -> Result<bool, tokio_postgres::Error> {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_get_activity($1) \
            WHERE extract(epoch FROM backend_start)::text = $2";
        let params: [Param<'_>; 2] = [(&backend.pid, Type::INT4), (&backend.started, Type::TEXT)];
        self.client.query_typed(sql, &params).await.map(|rows| !rows.is_empty())
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

    /// Takes the notices that arrived since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut lock(&self.shared).notices)
    }

    /// Has the server cancel the running statement, without waiting for it. The connection cannot be used afterwards,
    /// because the request can arrive at any time.
    pub(super) fn cancel_later(&self) {
        let canceller = self.canceller.clone();
        // Outside of a runtime the process ends, and the server notices that by itself.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { canceller.cancel().await });
        }
    }

    /// Closes a broken connection by force.
    pub(super) fn cut(&self) {
        self.closing.cut.cancel();
    }

    /// Does work in one round trip: all of it is sent before the first answer is awaited.
    ///
    /// The rows are those of all queries, in order. `None` means that there was no query, or that the changes were made
    /// and the query failed.
    async fn send(&self, work: &Work<'_>) -> Result<Option<Vec<Row>>, Failure> {
        if self.client.is_closed() {
            let cause = Cause::Unexpected("the connection was closed".to_owned());
            return Err(Failure { cause, left: Left::Nothing });
        }
        lock(&self.shared).last_used = Instant::now();
        let mut rows: Option<Vec<Row>> = None;
        let mut unread = None;
        for answer in self.in_order(&self.to_send(work)).await {
            match answer {
                Ok(Answer::Done) => {}
                Ok(Answer::Rows(found)) => rows.get_or_insert_default().extend(found),
                Err((Asked::Run, error)) => return Err(self.failure(error, work.all_or_nothing)),
                Err((Asked::Read, error)) => {
                    unread.get_or_insert(error);
                }
            }
        }
        match unread {
            Some(error) if !work.changes => Err(self.failure(error, true)),
            _ => Ok(rows),
        }
    }

    /// The requests to send, in order. The session keeps the requested lock wait from then on.
    fn to_send<'a>(&self, work: &Work<'a>) -> Vec<Request<'a>> {
        let mut shared = lock(&self.shared);
        let is_news = |request: &&Request<'a>| match request {
            Request::Wait(wait) => std::mem::replace(&mut shared.lock_wait, *wait) != *wait,
            _ => true,
        };
        work.requests.iter().filter(is_news).copied().collect()
    }

    /// Sends all requests before the first answer is awaited. Answers come in the order of the requests.
    async fn in_order(&self, requests: &[Request<'_>]) -> Vec<Result<Answer, (Asked, tokio_postgres::Error)>> {
        let mut asked: Vec<Pin<Box<MaybeDone<_>>>> =
            requests.iter().map(|request| Box::pin(maybe_done(self.ask(*request)))).collect();
        // The first poll sends the request.
        poll_fn(|cx| {
            for one in &mut asked {
                let _ = one.as_mut().poll(cx);
            }
            Poll::Ready(())
        })
        .await;
        let mut answers = Vec::with_capacity(asked.len());
        for mut one in asked {
            one.as_mut().await;
            answers.extend(one.as_mut().take_output());
        }
        answers
    }

    async fn ask(&self, request: Request<'_>) -> Result<Answer, (Asked, tokio_postgres::Error)> {
        let text = match request {
            Request::Read((sql, params)) => {
                let rows = self.client.query_typed(sql, params).await;
                return rows.map(Answer::Rows).map_err(|error| (Asked::Read, error));
            }
            Request::Script(text) => {
                let done = self.client.batch_execute(text).await;
                return done.map(|()| Answer::Done).map_err(|error| (Asked::Run, error));
            }
            Request::Run(text) => text,
            Request::Wait(wait) => wait.statement(),
        };
        let done = self.client.execute_typed(text, &[]).await;
        done.map(|_| Answer::Done).map_err(|error| (Asked::Run, error))
    }

    /// Starts a query whose rows are read one by one. The server sends only as much as is read.
    pub(super) async fn stream(&self, (sql, params): Query<'_>) -> Result<RowStream, Failure> {
        lock(&self.shared).last_used = Instant::now();
        let params = params.iter().map(|(value, ty)| (*value, ty.clone()));
        self.client.query_typed_raw(sql, params).await.map_err(|error| self.failure(error, true))
    }

    pub(super) fn failure(&self, error: tokio_postgres::Error, all_or_nothing: bool) -> Failure {
        let left = match error.code() {
            Some(code) if all_or_nothing && *code == SqlState::ADMIN_SHUTDOWN => Left::Nothing,
            None if error.is_closed() && lock(&self.shared).ended_idle => Left::Nothing,
            _ => Left::Unknown,
        };
        Failure { cause: Cause::Statement(error), left }
    }

    /// Does work, unless a limit is reached before: see [`Connection::unless`].
    pub(super) async fn send_unless(
        &self,
        work: &Work<'_>,
        stop: impl Future<Output = Cause>,
    ) -> End<Result<Option<Vec<Row>>, Failure>> {
        self.unless(self.send(work), stop).await
    }

    /// Waits for work to end. Once `stop` resolves, has the server cancel it, and gives it a moment to end.
    pub(super) async fn unless<T>(
        &self,
        running: impl Future<Output = Result<T, Failure>>,
        stop: impl Future<Output = Cause>,
    ) -> End<Result<T, Failure>> {
        let mut running = pin!(running);
        let reason = tokio::select! {
            biased;
            result = &mut running => return End::Done(result),
            reason = stop => reason,
        };
        for _ in 0..CANCEL_TRIES {
            self.canceller.cancel().await;
            match tokio::time::timeout(CANCEL_GRACE / CANCEL_TRIES, &mut running).await {
                Ok(Err(failure)) if failure.was_cancelled() => return End::Cancelled(Err(Failure::of(reason))),
                // It ended by itself, well or badly, before the request arrived.
                Ok(result) => return End::Cancelled(result),
                // The request may have hit the previous statement.
                Err(_) => {}
            }
        }
        End::StillRuns(reason)
    }
}

/// The purpose of a request.
enum Asked {
    Run,
    Read,
}

enum Answer {
    Done,
    Rows(Vec<Row>),
}
