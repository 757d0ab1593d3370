//! The use of a connection: what is done on it within limits, and what happens when it breaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::{Line, Pool, expired};
use crate::postgres::connection::Limits;
use crate::postgres::error::{Cause, Result};
use crate::postgres::session::{Failure, Left, Notice, Query, Session, Work};
use crate::postgres::sql::Statement;

/// After this long without use a connection is asked whether it is still there before a change is sent on it.
const DOUBTFUL_AFTER: Duration = Duration::from_secs(15);

/// How long the server may take to end a session whose connection broke.
const END_GRACE: Duration = Duration::from_secs(5);

/// The first and the longest pause between two looks at what a statement waits for.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The use of a connection. What still runs when it is dropped is cancelled.
pub(in crate::postgres) struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) line: Option<Arc<Line>>,
    /// Where the connection may be shared.
    pub(super) place: Option<OwnedSemaphorePermit>,
    /// Opened for this lease, so that a failure on it is no sign of an old connection.
    pub(super) fresh: bool,
    pub(super) busy: bool,
}

impl Lease {
    fn session(&self) -> Option<&Session> {
        self.line.as_ref()?.session.as_ref()
    }

    /// Makes sure that a connection which has been out of use for long is still there.
    pub(in crate::postgres) async fn ensure_alive(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        let alive = match self.session() {
            Some(session) => session.idle_for() < DOUBTFUL_AFTER || session.is_alive().await,
            None => false,
        };
        if alive { Ok(()) } else { self.replace(doing, limits).await }
    }

    /// Ends what broken connections have left running, so that what is read from now on stays true.
    pub(super) async fn end_broken(&self, limits: &Limits) {
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
    pub(in crate::postgres) fn take_notices(&self) -> Vec<Notice> {
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
    pub(in crate::postgres) async fn run_group(
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
    pub(in crate::postgres) async fn query(
        &mut self,
        doing: &str,
        query: Query<'_>,
        limits: &Limits,
    ) -> Result<Vec<Row>> {
        self.read(doing, &Work::query(query), limits).await
    }

    /// Runs changes and reads, in a transaction that is undone, all in one round trip.
    pub(in crate::postgres) async fn query_undone(
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
