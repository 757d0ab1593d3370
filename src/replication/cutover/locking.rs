// SPDX-License-Identifier: MPL-2.0

//! Closes tables to writers. Each try is short, so that no application waits long behind a lock request that cannot
//! succeed.

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

/// How long a try waits for the lock. It is shorter than `deadlock_timeout`, so that the try gives way and never the
/// application.
const PATIENCE: Duration = Duration::from_millis(300);

/// How much longer than `deadlock_timeout` a try waits so that an autovacuum gives way.
const BEYOND: Duration = Duration::from_millis(500);

/// After this time without a message, the server lets writers go on.
const SILENCE: Duration = Duration::from_secs(10);

/// How often to look for blocking sessions.
const LOOKS: Duration = Duration::from_millis(100);

/// The pauses between tries.
const PAUSES: Pauses = Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// When blocking sessions are first reported: sessions that write in short transactions often block the start of a try.
const NAMED_AFTER: Duration = Duration::from_secs(2);

/// How often the same sessions are reported again.
const NAMED_AGAIN: Duration = Duration::from_secs(30);

/// The tries to close the tables of one side.
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
    /// When a query fails.
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
    /// When the time is over, with the blocking sessions; when the role lacks rights, or a query fails.
    pub(super) async fn close(&mut self, session: &mut Session, around: Around<'_>) -> Result<(Closed, Instant)> {
        let mut order = around.relations.to_vec();
        let mut is_new = true;
        loop {
            self.run.operation().go_on()?;
            // An order that conflicts with the application's own never succeeds; with two tables, the reversed
            // one does.
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

    /// One try. Meanwhile another session looks for blocking sessions.
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
        // The last try may be too short to see any of them.
        if !(seen.is_empty() && self.is_over()) {
            self.blockers = seen;
        }
        result
    }

    fn is_over(&self) -> bool {
        !self.run.operation().is_stopped()
            && self.run.limits().deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Looks for blocking sessions, and ends those that have blocked for too long, if configured.
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

    /// Lets writers go on for a while, and reports the blocking sessions.
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

    /// Reports the blocking sessions, each once.
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

/// Whether others had the lock, or waited for locks of this try.
fn is_beaten(error: &postgres::Error) -> bool {
    error.is_locked() || error.is(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// Changes the order of the relations.
fn shuffle(relations: &mut [&QualifiedName]) {
    let random = RandomState::new();
    relations.sort_by_cached_key(|name| random.hash_one(name));
}
