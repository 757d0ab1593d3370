//! What broken connections have left running in the server.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::postgres::connection::{Backend, Connection};
use crate::postgres::limits::Limits;

/// How long the server may take to end sessions whose connection broke.
const END_GRACE: Duration = Duration::from_secs(5);

/// The first and the longest pause between two looks at whether one has ended.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Processes of the server that may go on though nobody waits for them any more.
#[derive(Default)]
pub(super) struct Broken {
    left: Mutex<Vec<Backend>>,
    /// Whoever comes while they are being ended waits for that.
    ending: tokio::sync::Mutex<()>,
}

impl Broken {
    pub(super) fn add(&self, backend: Backend) {
        self.lock().push(backend);
    }

    /// Ends all of them, so that what is read from now on stays true.
    pub(super) async fn end(&self, connection: &Connection, limits: &Limits) {
        let _one = self.ending.lock().await;
        let left = self.lock().clone();
        if left.is_empty() {
            return;
        }
        let ended = tokio::select! {
            ended = tokio::time::timeout(END_GRACE, end_all(connection, &left)) => ended,
            _ = limits.reached() => return,
        };
        match ended {
            Ok(Ok(())) => {}
            // Another connection is to do it.
            Ok(Err(error)) if error.as_db_error().is_none() => return,
            Ok(Err(error)) => tracing::debug!(%error, "a broken session could not be ended"),
            Err(_) => tracing::debug!("a broken session did not end in time"),
        }
        self.lock().retain(|backend| !left.contains(backend));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Backend>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn end_all(connection: &Connection, left: &[Backend]) -> Result<(), tokio_postgres::Error> {
    let mut pause = PAUSES.0;
    for backend in left {
        while connection.end_other(backend).await? {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
    Ok(())
}
