// SPDX-License-Identifier: MPL-2.0

//! Server processes that broken connections have left running.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::postgres::connection::{Backend, Connection};
use crate::postgres::limits::Limits;
use crate::postgres::wait::{Ended, Outage, Pauses, Waiter};

/// How long the server may take to end sessions whose connection broke.
const END_GRACE: Duration = Duration::from_secs(5);

/// The pauses between checks whether one has ended.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(5), longest: Duration::from_millis(200) };

/// Server processes that may still run although nobody waits for them any more.
#[derive(Default)]
pub(super) struct Broken {
    left: Mutex<Vec<Backend>>,
    /// Held while they are being ended: others wait for that.
    ending: tokio::sync::Mutex<()>,
}

impl Broken {
    pub(super) fn add(&self, backend: Backend) {
        self.lock().push(backend);
    }

    /// Ends all of them, so that later reads stay true.
    pub(super) async fn end(&self, connection: &Connection, limits: &Limits) {
        let _one = self.ending.lock().await;
        let left = self.lock().clone();
        if !left.is_empty() {
            Box::pin(self.end_left(left, connection, limits)).await;
        }
    }

    async fn end_left(&self, left: Vec<Backend>, connection: &Connection, limits: &Limits) {
        let grace = Limits::within(END_GRACE);
        let ended = tokio::select! {
            ended = end_all(connection, &left, &grace) => ended,
            // The connection does not answer at all.
            _ = grace.reached() => Err(Ended::TimeOver(None)),
            _ = limits.reached() => return,
        };
        match ended {
            Ok(()) => {}
            // Another connection must do it.
            Err(Ended::Failed(Unended(error))) if error.as_db_error().is_none() => return,
            Err(ended) => tracing::debug!(?ended, "broken sessions could not be ended"),
        }
        self.lock().retain(|backend| !left.contains(backend));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the server could not be told to end a session.
#[derive(Debug)]
struct Unended(tokio_postgres::Error);

/// A broken connection does not come back.
impl Outage for Unended {
    fn is_outage(&self) -> bool {
        false
    }
}

impl fmt::Display for Unended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

async fn end_all(connection: &Connection, left: &[Backend], limits: &Limits) -> Result<(), Ended<Unended>> {
    let mut waiter = Waiter::new(limits, PAUSES);
    for backend in left {
        while waiter.after(end_one(connection, backend).await).await?.is_none() {}
    }
    Ok(())
}

async fn end_one(connection: &Connection, backend: &Backend) -> Result<Option<()>, Unended> {
    let is_there = connection.end_other(backend).await.map_err(Unended)?;
    Ok((!is_there).then_some(()))
}
