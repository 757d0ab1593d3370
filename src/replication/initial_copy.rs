// SPDX-License-Identifier: MPL-2.0

//! The initial copy: its obstacles, and waiting for its end.

mod progress_log;

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use self::progress_log::ProgressLog;
use super::absent;
use super::checks::{self, Objection, Obstacle, Obstacles};
use super::error::{Error, Result};
use super::names;
use super::operation::{Look, Operation};
use super::status::{self, Known, Trouble};
use super::{Pair, tables, units};
use crate::postgres::subscription::{self, How, Progress, Subscription, Verdict, Watch};
use crate::postgres::{Database, Ident, Outage as _, QualifiedName, catalog, publication, settings};

/// After this many reads without a worker, a table has failed for good, even if no query shows why: ten seconds, in
/// which the server tries twice by default.
const UNEXPLAINED: u32 = 40;

/// After this many reads without the subscription's own worker, the wait fails: twenty seconds.
const NO_WORKER: u32 = 80;

/// The obstacles for a subscription's tables. Empty if the publisher cannot be queried from here: the subscriber may
/// still reach it.
async fn obstacles(pair: &Pair, subscription: &Subscription) -> BTreeMap<QualifiedName, Vec<Obstacle>> {
    match checks::obstacles(pair, subscription, checks::login(subscription).as_ref()).await {
        Ok(found) => found,
        Err(cause) => {
            tracing::info!(%cause, "it could not be checked whether the tables can be copied");
            BTreeMap::new()
        }
    }
}

/// Checks both sides before a subscription is created. Refuses what Postgres would refuse, with all affected tables. An
/// obstacle to copying rows is refused if the apply waits for the copy, and otherwise a warning.
///
/// # Errors
/// When a publication or a table is missing, or the apply waits for the copy and that cannot finish.
pub async fn check(
    operation: &Operation<'_>,
    pair: &Pair,
    desired: &Subscription,
    how: &How,
    waits: bool,
) -> Result<()> {
    if !how.connect {
        return Ok(());
    }
    refuse_missing(operation, &pair.publisher, &desired.publications).await?;
    let found = operation.unless_stopped(async { Ok::<_, Error>(obstacles(pair, desired).await) }).await?;
    match objection(operation, found, desired, how, waits) {
        Some(Objection::Refusal(error)) => return Err(error.detail("Nothing was changed.")),
        Some(Objection::Warning(warning)) => operation.warn(warning),
        None => {}
    }
    warn_of_rows(operation, pair, desired, how).await
}

/// The objection that follows from these obstacles for such a subscription.
pub(super) fn objection(
    operation: &Operation<'_>,
    mut found: Obstacles,
    desired: &Subscription,
    how: &How,
    waits: bool,
) -> Option<Objection> {
    let is_refused = |obstacle: &Obstacle| matches!(obstacle, Obstacle::NoTable | Obstacle::Clash(_));
    let refused = |obstacles: &Vec<Obstacle>| obstacles.iter().any(is_refused);
    let matters = |obstacle: &Obstacle| match obstacle {
        Obstacle::NoTable | Obstacle::Clash(_) => true,
        Obstacle::NoSelect { .. } | Obstacle::BinaryTypes(_) => desired.enabled && how.copy_data,
        _ => desired.enabled,
    };
    found.values_mut().for_each(|obstacles| obstacles.retain(matters));
    found.retain(|_, obstacles| !obstacles.is_empty());
    if found.is_empty() {
        return None;
    }
    let message = checks::described(operation.error(in_the_way(found.len())), &found);
    Some(match waits || found.values().any(refused) {
        true => Objection::Refusal(message),
        false => Objection::Warning(message.detail("The subscription is created anyway and keeps retrying.")),
    })
}

/// Warns of tables that already have rows before the copy. If these do not conflict with the publisher's, all is well.
///
/// # Errors
/// When a person asks to stop. Failed queries are not an error.
pub async fn warn_of_rows(
    operation: &Operation<'_>,
    pair: &Pair,
    subscription: &Subscription,
    how: &How,
) -> Result<()> {
    if !(subscription.enabled && how.copy_data) {
        return Ok(());
    }
    let look = async {
        let new = tables::unsubscribed(pair, subscription).await?;
        catalog::with_rows(&pair.subscriber, &new).await
    };
    let Ok(held) = operation.unless_stopped(look).await else { return operation.go_on() };
    if let Some(warning) = of_rows(operation, &held) {
        operation.warn(warning);
    }
    Ok(())
}

/// The warning about tables that have rows before the copy.
pub(super) fn of_rows(operation: &Operation<'_>, held: &BTreeSet<QualifiedName>) -> Option<Error> {
    let names = names::tables(held);
    let warning = operation.error(format!("on the subscriber, tables hold rows before they are copied: {names}"));
    (!held.is_empty()).then(|| {
        warning.detail(
            "If the publisher has one of these rows too, copying it violates a primary key or another unique index, \
             and the table is not replicated; without such an index, the row exists twice. Empty such tables first, or \
             set copy_data = false if the rows are the publisher's.",
        )
    })
}

/// A subscription to a publication that is made later is stuck at the first change from before (Postgres 14 to 17).
///
/// # Errors
/// When one of them does not exist, or a person asks to stop. A publisher that cannot be queried from here is not an
/// error: only the subscriber must reach it.
pub async fn refuse_missing(operation: &Operation<'_>, publisher: &Database, names: &BTreeSet<Ident>) -> Result<()> {
    let Ok(existing) = operation.unless_stopped(publication::fetch_all(publisher)).await else {
        return operation.go_on();
    };
    let missing: Vec<_> = names.iter().filter(|name| !existing.contains_key(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(self::missing(operation, publisher, &missing).detail("Nothing was changed."))
}

/// The error about missing publications.
pub(super) fn missing(operation: &Operation<'_>, publisher: &Database, missing: &[&Ident]) -> Error {
    absent::publications(operation, publisher, missing)
        .detail(
            "If a publication is created after the subscription, the subscription stops at the first change \
             that is older than the publication.",
        )
        .detail(
            "Create the publication first. If this configuration creates it, refer to its name, so that it comes \
             first.",
        )
}

fn in_the_way(tables: usize) -> String {
    let what = if tables == 1 { "a table".to_owned() } else { format!("{tables} tables") };
    format!("{what} cannot be copied")
}

/// A copy to wait for.
pub struct InitialCopy<'a> {
    /// The database of the subscription.
    pub subscriber: &'a Database,
    /// Its publisher, if it can be reached from here.
    pub publisher: Option<&'a Database>,
    /// The subscription, with its connection.
    pub subscription: &'a Subscription,
}

/// Waits until every table is replicated, and logs the progress. Fails as soon as a table cannot be copied.
///
/// A request to stop is not an error: the subscription exists and continues to copy.
///
/// # Errors
/// When copying a table fails repeatedly, the subscription's worker does not run, or the time is over.
pub async fn wait(operation: &Operation<'_>, copy: &InitialCopy<'_>) -> Result<()> {
    let name = &copy.subscription.name;
    let mut looks = Looks::default();
    let mut waiting = operation.waiting();
    let waited = loop {
        match waiting.after(looks.look(operation, copy).await).await {
            Ok(None) => {}
            Ok(Some(())) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let progress = &looks.progress;
    if waited.is_err() && operation.is_stopped() {
        // An error would taint the resource: the next apply would drop it, and copy existing rows again.
        let (left, all) = (progress.left().count(), progress.tables.len());
        let all = units::counted(all, "table");
        let made = Error::new(format!("subscription {name} is created, and goes on copying {left} of {all}"));
        operation.warn(made.detail("The wait for them was interrupted."));
        return Ok(());
    }
    waited.map_err(|error| error.detail(KEPT_BY_UNTAINT))
}

/// The reads of a copy so far.
#[derive(Default)]
struct Looks {
    progress: Progress,
    watch: Watch,
    log: ProgressLog,
}

impl Looks {
    /// Checks whether all tables are replicated.
    ///
    /// # Errors
    /// When it cannot finish.
    async fn look(&mut self, operation: &Operation<'_>, copy: &InitialCopy<'_>) -> Result<Look<()>> {
        let name = &copy.subscription.name;
        self.progress = match operation.unless_stopped(subscription::progress(copy.subscriber, name)).await {
            Err(error) if error.is_outage() => return Err(self.begin_again("the subscriber is away", error)),
            progress => progress?,
        };
        self.log.show(name, &self.progress, Instant::now());
        if self.progress.left().next().is_none() {
            return Ok(Look::There(()));
        }
        let verdict = self.watch.look(&self.progress, NO_WORKER);
        if let (Verdict::NoWorker | Verdict::Fails(_), Some(publisher)) = (&verdict, copy.publisher)
            && let Err(outage) = settings::room(publisher).await
            && outage.is_outage()
        {
            return Err(self.begin_again("the publisher is away", outage.into()));
        }
        match judge(operation, copy, (&self.watch, &self.progress), verdict).await {
            Some(failure) => Err(failure),
            None => Ok(Look::NotYet(out_of_time(name, &self.progress))),
        }
    }
}

impl Looks {
    /// Starts again after an outage: earlier reads, and those while the workers restart, mean nothing.
    fn begin_again(&mut self, what: &'static str, outage: Error) -> Error {
        tracing::info!(cause = %outage, "{what}; the wait goes on");
        self.watch = Watch::default();
        outage
    }
}

/// Turns the result of the reads into an error, with the reason as far as known.
async fn judge(
    operation: &Operation<'_>,
    copy: &InitialCopy<'_>,
    (watch, progress): (&Watch, &Progress),
    verdict: Verdict,
) -> Option<Error> {
    let name = &copy.subscription.name;
    match verdict {
        Verdict::GoesOn => None,
        Verdict::Disabled => {
            let error = Error::new(format!("subscription {name}: it was disabled while its tables were copied"));
            let reasons = reasons(operation, copy, &Trouble::Disabled).await;
            let unexplained = reasons.is_empty().then_some(
                "Either an error did that, because disable_on_error = true, or somebody disabled it. The server's \
                 log has the error.",
            );
            let error = error.detail(still_waiting(progress)).detail(unexplained.unwrap_or_default());
            Some(reasons.iter().fold(error, Error::detail))
        }
        // A worker that cannot reach its publisher at the moment does not run either.
        Verdict::NoWorker => {
            let reasons = reasons(operation, copy, &Trouble::Worker).await;
            let error = Error::new(format!("subscription {name}: its worker does not run, so no table is copied"));
            let error = error.detail(still_waiting(progress));
            (!reasons.is_empty()).then(|| reasons.iter().fold(error, Error::detail))
        }
        Verdict::Fails(tables) => {
            let reasons = reasons(operation, copy, &Trouble::Copies(tables.clone())).await;
            let waited = tables.iter().map(|table| watch.idle_looks(table)).max().unwrap_or_default();
            if reasons.is_empty() && waited < UNEXPLAINED {
                return None;
            }
            Some(fails(name, progress, &tables, reasons))
        }
    }
}

fn fails(name: &Ident, progress: &Progress, tables: &BTreeSet<QualifiedName>, reasons: Vec<String>) -> Error {
    let names = names::tables(tables);
    let errors = progress.sync_errors.filter(|errors| *errors > 0);
    let errors = errors.map(|errors| format!(" ({errors} so far)")).unwrap_or_default();
    let error = Error::new(format!("subscription {name}: copying fails repeatedly{errors}: {names}"));
    let unexplained =
        reasons.is_empty().then(|| "No query shows why; the log of the subscriber's server does.".to_owned());
    reasons.into_iter().chain(unexplained).fold(error, Error::detail)
}

/// The reasons, as far as the servers can be queried. An unreachable publisher may come back.
async fn reasons(operation: &Operation<'_>, copy: &InitialCopy<'_>, trouble: &Trouble) -> Vec<String> {
    let InitialCopy { subscriber, publisher, subscription } = *copy;
    let found = status::reasons(operation, Known { subscriber, publisher, subscription }, trouble).await;
    let found = found.unwrap_or_else(|cause| {
        tracing::info!(%cause, "the reason why the copy does not progress could not be read");
        Vec::new()
    });
    let lasts = |cause: &&status::Cause| cause.kind != "publisher_unreachable";
    found.iter().filter(lasts).map(ToString::to_string).collect()
}

fn out_of_time(name: &Ident, progress: &Progress) -> Error {
    let (left, all) = (progress.left().count(), progress.tables.len());
    let are = if all == 1 { "is" } else { "are" };
    let all = units::counted(all, "table");
    let error = Error::new(format!("subscription {name}: {left} of {all} {are} not replicated in time"));
    let worker = if progress.worker_runs { "" } else { WITHOUT_WORKER };
    error
        .detail(still_waiting(progress))
        .detail(worker)
        .detail("The subscription goes on copying. The server's log says what delays it.")
}

const WITHOUT_WORKER: &str = "Its worker does not run. Either it does not reach the publisher, or it fails at its \
    start (because another reader uses the slot, for instance), or the subscriber has no free worker \
    (max_logical_replication_workers, max_worker_processes). The logs of both servers say which.";

fn still_waiting(progress: &Progress) -> String {
    format!("Still waiting for: {}", names::tables(progress.left()))
}

/// Added to an error after the subscription was created.
pub const KEPT_BY_UNTAINT: &str = "A new subscription is tainted now, so the next apply would recreate it and copy \
    every row again. To keep it, run `terraform untaint` or `tofu untaint` with its address first.";
