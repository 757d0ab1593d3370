// SPDX-License-Identifier: MPL-2.0

//! Closing tables to writers: each attempt is short, so that no application waits long for locks that cannot be had.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::run::Run;
use crate::postgres::fence::{self, Around, Blocker, Closed, Hold};
use crate::postgres::{self, Database, Ended, Pauses, QualifiedName, Session, SqlState, Waiter};
use crate::replication::error::{Error, Result};
use crate::replication::{Place, names};

/// How long a try waits for the lock: below the time after which a server looks for deadlocks, so that it is always this try that
/// gives way, and never the application.
const PATIENCE: Duration = Duration::from_millis(300);

/// How much longer than that time a try waits that an autovacuum is to give way to.
const BEYOND: Duration = Duration::from_millis(500);

/// A server that has heard nothing for so long lets writers go on.
const SILENCE: Duration = Duration::from_secs(10);

/// How often who is in the way is looked for.
const LOOKS: Duration = Duration::from_millis(100);

/// Between the tries.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// After how long those in the way are named: who writes in several transactions is often there when a try begins.
const NAMED_AFTER: Duration = Duration::from_secs(2);

/// How often the same are named again.
const NAMED_AGAIN: Duration = Duration::from_secs(30);

/// Trying to close the tables of one side.
pub(super) struct Locking<'r> {
    run: &'r Run<'r>,
    db: &'r Database,
    process: i32,
    began: Instant,
    waiter: Waiter<'r>,
    deadlock: Duration,
    patience: Duration,
    blockers: Vec<Blocker>,
    named: Option<(BTreeSet<i32>, Instant)>,
    has_failed_to_end: bool,
}

impl<'r> Locking<'r> {
    /// Begins.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn begin(run: &'r Run<'r>, from: Place, session: &mut Session) -> Result<Self> {
        let db = run.db(from);
        let process = fence::process(session, run.limits()).await?;
        let deadlock = fence::deadlock_timeout(db).await?;
        Ok(Self {
            run,
            db,
            process,
            began: Instant::now(),
            waiter: Waiter::new(run.limits(), PAUSES),
            deadlock,
            patience: PATIENCE.min(deadlock / 2),
            blockers: Vec::new(),
            named: None,
            has_failed_to_end: false,
        })
    }

    /// The process that holds the tables closed, or waits to.
    pub(super) fn process(&self) -> i32 {
        self.process
    }

    /// Tries until the tables are closed. Returns when the successful try began, too: writers wait since then.
    ///
    /// # Errors
    /// When the time is over, with who is in the way; when the role lacks rights, or the server cannot be asked.
    pub(super) async fn close(&mut self, session: &mut Session, around: Around<'_>) -> Result<(Closed, Instant)> {
        let mut order = around.relations.to_vec();
        let mut is_new = true;
        loop {
            self.run.operation().go_on()?;
            // One that crosses the application's own never succeeds; of two tables, the opposite one then does.
            match is_new {
                true => shuffle(&mut order),
                false => order.reverse(),
            }
            is_new = !is_new;
            let since = Instant::now();
            match self.once(session, &Around { relations: &order, ..around }).await {
                Ok(closed) => return Ok((closed, since)),
                Err(error) if is_beaten(&error) => self.pause(error).await?,
                // The time may be over in the middle of a try.
                Err(error) if self.is_over() => return Err(self.starved(error)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One try, in which somebody else looks for who is in the way.
    async fn once(&mut self, session: &mut Session, around: &Around<'_>) -> postgres::Result<Closed> {
        let limits = self.run.limits();
        let mut trying = pin!(Hold::close(session, around, (self.patience, SILENCE), limits));
        let mut seen = Vec::new();
        let result = loop {
            tokio::select! {
                biased;
                result = &mut trying => break result,
                () = sleep(LOOKS) => {
                    if let Some(found) = self.look().await {
                        seen = found;
                    }
                }
            }
        };
        // The last try may be too short to see anybody.
        if !(seen.is_empty() && self.is_over()) {
            self.blockers = seen;
        }
        result
    }

    fn is_over(&self) -> bool {
        !self.run.operation().is_stopped()
            && self.run.limits().deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Looks for who is in the way, and ends those that were for too long, where that is wanted.
    async fn look(&mut self) -> Option<Vec<Blocker>> {
        let db = self.db.briefly();
        let found = fence::blockers(&db, self.process).await.ok().filter(|found| !found.is_empty())?;
        let is_time = self.run.terms().end_blockers_after.is_some_and(|after| self.began.elapsed() >= after);
        if is_time && found.iter().any(Blocker::is_client) {
            match fence::end_blockers(&db, self.process).await {
                Ok(ended) => tracing::info!(ended, "sessions that kept tables from being closed"),
                Err(error) if !self.has_failed_to_end => {
                    self.has_failed_to_end = true;
                    self.run.operation().warn(Error::from(error).about("end_blockers_after"));
                }
                Err(_) => {}
            }
        }
        Some(found)
    }

    /// Lets writers go on for a while, and says who was in the way.
    async fn pause(&mut self, locked: postgres::Error) -> Result<()> {
        let may_be_autovacuum = self.blockers.iter().any(Blocker::may_be_autovacuum);
        self.patience = if may_be_autovacuum { self.deadlock + BEYOND } else { PATIENCE.min(self.deadlock / 2) };
        self.name();
        match self.waiter.after(Ok::<Option<()>, postgres::Error>(None)).await {
            Ok(_) => Ok(()),
            Err(Ended::Stopped) => Err(Error::cancelled()),
            Err(_) => Err(self.starved(locked)),
        }
    }

    /// Names those that are in the way, once.
    fn name(&mut self) {
        let who: BTreeSet<i32> = self.blockers.iter().map(|blocker| blocker.process).collect();
        let is_known = |(named, when): &(BTreeSet<i32>, Instant)| *named == who && when.elapsed() < NAMED_AGAIN;
        let is_early = self.began.elapsed() < NAMED_AFTER;
        if is_early || who.is_empty() || self.named.as_ref().is_some_and(is_known) {
            return;
        }
        self.run.operation().warn(
            self.run.operation().error("waiting for sessions that have written to the tables").detail(self.listed()),
        );
        self.named = Some((who, Instant::now()));
    }

    fn listed(&self) -> String {
        format!("In the way: {}.", names::list(self.blockers.iter().map(ToString::to_string)))
    }

    fn starved(&self, locked: postgres::Error) -> Error {
        let error =
            self.run.operation().error("other sessions kept writing to the tables, so they could not be closed");
        let error =
            if self.blockers.is_empty() { error.detail(locked.to_string()) } else { error.detail(self.listed()) };
        error.detail(
            "Nothing has changed: writers go on. End the sessions or set end_blockers_after, and end a prepared \
             transaction with COMMIT PREPARED or ROLLBACK PREPARED.",
        )
    }
}

/// Whether others had the lock, or waited for what this try had already.
fn is_beaten(error: &postgres::Error) -> bool {
    error.is_locked() || error.is(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// Another order than before.
fn shuffle(relations: &mut [&QualifiedName]) {
    let random = RandomState::new();
    relations.sort_by_cached_key(|name| random.hash_one(name));
}
