// SPDX-License-Identifier: MPL-2.0

//! Rows one by one.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio_postgres::{Row, RowStream};

use super::Session;
use crate::postgres::connection::End;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::work::Query;

/// The rows of a query as they arrive. The server sends them as fast as they are taken.
///
/// If it is dropped before the last row, the query still runs, so the connection is closed.
pub struct Rows<'s> {
    session: &'s mut Session,
    stream: Pin<Box<RowStream>>,
    doing: String,
    limits: Limits,
    ended: bool,
}

impl<'s> Rows<'s> {
    pub(super) async fn begin(
        session: &'s mut Session,
        doing: &str,
        query: Query<'_>,
        limits: &Limits,
    ) -> Result<Self> {
        let connection = Arc::clone(&session.connection);
        session.begin(false);
        let end = Box::pin(connection.unless(connection.stream(query), limits.reached())).await;
        let stream = session.end(end).map_err(|failure| session.failed(doing, failure))?;
        session.begin(false);
        let (stream, doing, limits) = (Box::pin(stream), doing.to_owned(), limits.clone());
        Ok(Self { session, stream, doing, limits, ended: false })
    }

    /// The next row; none after the last.
    ///
    /// # Errors
    /// Also when a limit is reached: then the query is cancelled.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        if self.ended {
            return Ok(None);
        }
        if let Some(cause) = self.limits.passed() {
            return Err(self.give_up(cause).await);
        }
        let next = tokio::select! {
            biased;
            next = self.stream.next() => next,
            cause = self.limits.reached() => return Err(self.give_up(cause).await),
        };
        match next {
            Some(Ok(row)) => Ok(Some(row)),
            Some(Err(error)) => Err(self.fail(error)),
            None => {
                (self.ended, self.session.at_work) = (true, false);
                Ok(None)
            }
        }
    }

    fn fail(&mut self, error: tokio_postgres::Error) -> Error {
        self.ended = true;
        let failure = self.session.connection.failure(error, true);
        match self.session.end::<()>(End::Done(Err(failure))) {
            Err(failure) => self.session.failed(&self.doing, failure),
            Ok(()) => self.session.error(&self.doing, Cause::Cancelled),
        }
    }

    /// Has the server cancel the query, and waits a moment for its end.
    async fn give_up(&mut self, cause: Cause) -> Error {
        self.ended = true;
        let error = self.session.error(&self.doing, cause);
        let connection = Arc::clone(&self.session.connection);
        let drained = async {
            while let Some(row) = self.stream.next().await {
                row.map_err(|error| connection.failure(error, true))?;
            }
            Ok(())
        };
        let end = connection.unless(drained, std::future::ready(Cause::Cancelled)).await;
        drop(self.session.end(end));
        error
    }
}
