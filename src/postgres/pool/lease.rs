// SPDX-License-Identifier: MPL-2.0

//! The use of a session of the pool, and how a dead connection is replaced.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Row;

use super::Pool;
use super::turns::{Purpose, Turn};
use crate::postgres::connection::{Connection, Failure, Left};
use crate::postgres::error::Cause;
use crate::postgres::limits::Limits;
use crate::postgres::session::{Session, Task};

/// After this long without use, a connection is checked before a change is sent on it.
const DOUBTFUL_AFTER: Duration = Duration::from_secs(15);

/// A session of the pool, in use. Dropping it gives the connection back to the pool, unless something may still run on
/// it.
pub(in crate::postgres) struct Lease {
    session: Session,
    pool: Arc<Pool>,
    database: Arc<str>,
    /// Whether it was opened for this lease, so that a failure does not mean that it is old.
    fresh: bool,
    purpose: Purpose,
    _turn: Turn,
}

impl Deref for Lease {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Lease {
    pub(super) fn new(
        session: Session,
        (pool, database): (Arc<Pool>, Arc<str>),
        fresh: bool,
        (purpose, turn): (Purpose, Turn),
    ) -> Self {
        if purpose == Purpose::Read {
            pool.shelf.begin(&database);
        }
        Self { session, pool, database, fresh, purpose, _turn: turn }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        self.session.connection()
    }

    /// Makes sure that a connection that was idle for long still works.
    pub(in crate::postgres) async fn ensure_alive(&mut self, limits: &Limits) -> Result<(), Cause> {
        if self.session.is_alive(DOUBTFUL_AFTER).await { Ok(()) } else { self.replace(limits).await }
    }

    /// Does work within the limits. If a connection of the pool turns out to be dead, the work is repeated on a new
    /// one: reads always, a change only if no part of it was done.
    pub(in crate::postgres) async fn perform(
        &mut self,
        task: Task<'_>,
        limits: &Limits,
    ) -> Result<Option<Vec<Row>>, Cause> {
        let is_safe = |failure: &Failure| match task {
            Task::Change(..) => failure.left == Left::Nothing,
            Task::Read(..) | Task::TryOut(..) => failure.is_broken(),
        };
        loop {
            match self.session.perform(task, limits).await {
                Err(failure) if !self.fresh && is_safe(&failure) => {
                    tracing::debug!("the connection was broken; connecting again");
                    self.replace(limits).await?;
                }
                result => return result.map_err(|failure| failure.cause),
            }
        }
    }

    /// Opens a new connection in place of one that is broken.
    async fn replace(&mut self, limits: &Limits) -> Result<(), Cause> {
        self.session.retire();
        self.give_back();
        self.session.connection().cut();
        let connection = Box::pin(limits.keep(self.pool.open(&self.database))).await?;
        self.session = Session::new(connection, self.pool.place(&self.database));
        self.fresh = true;
        self.pool.broken.end(self.session.connection(), limits).await;
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(backend) = self.session.take_leftover() {
            self.pool.broken.add(backend);
        }
        if self.session.is_reusable() {
            self.pool.put_back(&self.database, self.session.connection());
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
        if self.purpose == Purpose::Read {
            self.pool.shelf.end(&self.database);
        }
    }
}
