// SPDX-License-Identifier: MPL-2.0

//! Brings both sides to the same state of some tables.

use std::time::Duration;

use super::feeding::Feeds;
use crate::postgres::comparison::{Comparable, Side};
use crate::postgres::{self, Pauses, SqlState, Waiter};
use crate::replication::Pair;
use crate::replication::error::{Error, Result};
use crate::replication::operation::Operation;

/// How long each try waits for the lock, because writers wait behind it. An autovacuum only gives way to a session that
/// waits longer than `deadlock_timeout`, a second by default.
const PATIENCE: [Duration; 3] = [Duration::from_millis(500), Duration::from_millis(500), Duration::from_millis(1500)];

/// How many times to try for the lock.
const TRIES: usize = 20;

/// How many tries are made if the subscriber takes too long while writers wait.
const LATE_TRIES: usize = 4;

/// How many connections it needs: the session that holds the lock, one for reads, and one for the marker.
const CONNECTIONS: usize = 3;

/// The pauses between tries.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// How long the subscriber may take to catch up while writers go on.
const CATCHES_UP: Duration = Duration::from_secs(60);

/// How long it may take while they wait.
const WRITERS_WAIT: Duration = Duration::from_secs(2);

/// Whether both sides are in the same state.
pub(super) enum Pin {
    /// They are, at this position of the publisher's WAL.
    Exact(String),
    /// They are not, for this reason.
    Loose(String),
}

/// Both sides of a comparison, and the subscriptions between them.
pub(super) struct Pinning<'a, 's> {
    pub(super) operation: &'a Operation<'a>,
    pub(super) pair: &'a Pair,
    pub(super) feeds: &'a Feeds,
    pub(super) publisher: &'a mut Side<'s>,
    pub(super) subscriber: &'a mut Side<'s>,
}

impl Pinning<'_, '_> {
    /// Fixes both sides to the same state of the tables.
    ///
    /// # Errors
    /// When a query fails, the time is over, or a person asks to stop.
    pub(super) async fn pin(&mut self, tables: &[&Comparable]) -> Result<Pin> {
        self.publisher.begin().await?;
        self.subscriber.begin().await?;
        let pin = match self.doubt(tables) {
            Some(doubt) => Pin::Loose(doubt),
            None => self.held(tables).await?,
        };
        if matches!(pin, Pin::Loose(_)) {
            self.publisher.pin().await?;
            self.subscriber.pin().await?;
        }
        Ok(pin)
    }

    /// Why it is not possible, if that is known from the start.
    fn doubt(&self, tables: &[&Comparable]) -> Option<String> {
        let most = self.pair.publisher.config().max_connections;
        if most < CONNECTIONS {
            // No connection would be left to ask for the subscriber's position while writers wait.
            return Some(format!("max_connections of the publisher is {most}, and it takes {CONNECTIONS}."));
        }
        tables.iter().find_map(|table| self.feeds.doubt(&table.name)).map(str::to_owned)
    }

    async fn held(&mut self, tables: &[&Comparable]) -> Result<Pin> {
        let mut waiter = Waiter::new(self.operation.limits(), PAUSES);
        let (mut last, mut late) = (String::new(), 0);
        for patience in PATIENCE.into_iter().cycle().take(TRIES) {
            self.operation.go_on()?;
            if let Err(why) = self.feeds.drained(self.operation, self.pair, CATCHES_UP).await? {
                return Ok(Pin::Loose(why));
            }
            match self.try_once(tables, patience).await? {
                Try::Pinned(lsn) => return Ok(Pin::Exact(lsn)),
                Try::Never(why) => return Ok(Pin::Loose(why)),
                Try::Locked(why) => last = why,
                Try::Late(why) if late + 1 >= LATE_TRIES => return Ok(Pin::Loose(why)),
                Try::Late(why) => (last, late) = (why, late + 1),
            }
            let waited = waiter.after(Ok::<Option<()>, Error>(None)).await;
            waited.map_err(|_| self.operation.error("the time is over").detail(&last))?;
        }
        Ok(Pin::Loose(last))
    }

    async fn try_once(&mut self, tables: &[&Comparable], patience: Duration) -> Result<Try> {
        let held = match self.publisher.hold(tables, patience).await {
            Ok(held) => held,
            Err(error) => return refused(error),
        };
        let drained = self.feeds.drained(self.operation, self.pair, WRITERS_WAIT).await;
        let outcome = match drained {
            Ok(Ok(lsn)) => {
                self.publisher.pin().await?;
                self.subscriber.pin().await?;
                Ok(Try::Pinned(lsn))
            }
            Ok(Err(why)) => Ok(Try::Late(why)),
            Err(error) => Err(error),
        };
        self.publisher.release(&held).await?;
        outcome
    }
}

/// The result of a try.
enum Try {
    /// Both sides see the state at this position.
    Pinned(String),
    /// The lock was not granted, because others write.
    Locked(String),
    /// It was granted, but the subscriber took too long.
    Late(String),
    /// It is not allowed.
    Never(String),
}

fn refused(error: postgres::Error) -> Result<Try> {
    if error.is_locked() {
        return Ok(Try::Locked(
            "Other sessions write to the table all the time, so it could not be locked.".to_owned(),
        ));
    }
    if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) {
        return Ok(Try::Never(format!(
            "The role on the publisher may not lock the table against writers: it needs UPDATE, DELETE or TRUNCATE \
             on the table, or MAINTAIN since Postgres 17 ({error})."
        )));
    }
    Err(error.into())
}
