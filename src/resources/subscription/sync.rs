//! The initial copy: what is in its way before it begins, and waiting for its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::progress_log::ProgressLog;
use crate::config::Context;
use crate::postgres::subscription::{self, How, Obstacle, Progress, Subscription, Verdict, Watch};
use crate::postgres::{Database, Ident, Limits, QualifiedName, publication, settings, table};
use crate::resources::names::{self, SHOWN};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};

/// How often the tables are looked at while they are copied.
const POLL: Duration = Duration::from_millis(250);

/// After so many looks without a worker a table has failed for good, even if no query tells why: ten seconds, in which
/// the server tries twice by default.
const UNEXPLAINED: u32 = 40;

/// After so many looks without the subscription's own worker it is given up: twenty seconds.
const NO_WORKER: u32 = 80;

/// A subscription between its two servers.
pub(super) struct Sync<'a> {
    pub(super) subscriber: &'a Database,
    /// Where it can be reached from here.
    pub(super) publisher: Option<&'a Database>,
    /// With the connection that it has, or will have.
    pub(super) subscription: &'a Subscription,
}

impl Sync<'_> {
    /// What is in the way of the tables. Nothing where the publisher cannot be asked: the subscriber may reach it.
    async fn obstacles(&self) -> BTreeMap<QualifiedName, Vec<Obstacle>> {
        let role = self.subscription.connection.as_ref().and_then(|connection| connection.get("user"));
        let (Some(publisher), Some(Ok(role))) = (self.publisher, role.map(Ident::new)) else { return BTreeMap::new() };
        match subscription::obstacles(publisher, self.subscriber, self.subscription, &role).await {
            Ok(found) => found,
            Err(cause) => {
                tracing::info!(%cause, "whether the tables can be copied could not be asked");
                BTreeMap::new()
            }
        }
    }
}

/// Looks at both sides before a subscription is made. What Postgres would refuse is refused with all of its tables; what
/// would keep rows from being copied is refused where the copy is waited for, and warned of elsewhere.
///
/// # Errors
/// When a publication or a table is missing, or the copy is waited for and cannot come to its end.
pub(super) async fn check(
    call: &Call<Context>,
    subscriber: &Database,
    publisher: Option<&Database>,
    doing: &str,
    desired: &Subscription,
    how: &How,
    waits: bool,
) -> Result<()> {
    if !how.connect {
        return Ok(());
    }
    if let Some(publisher) = publisher {
        check_publications(call, publisher, doing, desired).await?;
    }
    let sync = Sync { subscriber, publisher, subscription: desired };
    let mut found = call.unless_stopped(async { Ok::<_, Error>(sync.obstacles().await) }).await?;
    let refused = |obstacles: &Vec<Obstacle>| obstacles.contains(&Obstacle::NoTable);
    let matters = |obstacle: &Obstacle| match obstacle {
        Obstacle::NoTable => true,
        Obstacle::NoSelect { .. } | Obstacle::BinaryTypes(_) => desired.enabled && how.copy_data,
        _ => desired.enabled,
    };
    found.values_mut().for_each(|obstacles| obstacles.retain(matters));
    found.retain(|_, obstacles| !obstacles.is_empty());
    if !found.is_empty() {
        let message = described(Error::new(format!("{doing}: {}", in_the_way(found.len()))), &found);
        if waits || found.values().any(refused) {
            return Err(message.detail("Nothing was changed."));
        }
        call.warn(message.detail("The subscription is made all the same, and tries again and again."));
    }
    warn_of_rows(call, &sync, doing, how).await
}

fn list<'a>(tables: impl IntoIterator<Item = &'a QualifiedName>) -> String {
    names::list(tables.into_iter().map(QualifiedName::to_text))
}

/// Warns of tables that are to be subscribed and hold rows before the copy. Those may be others than the publisher's, and
/// then all is well.
///
/// # Errors
/// When a person asks to stop. Servers that cannot be asked are none.
pub(super) async fn warn_of_rows(call: &Call<Context>, sync: &Sync<'_>, doing: &str, how: &How) -> Result<()> {
    let Some(publisher) = sync.publisher.filter(|_| sync.subscription.enabled && how.copy_data) else { return Ok(()) };
    let look = async {
        let new = subscription::unsubscribed_tables(publisher, sync.subscriber, sync.subscription).await?;
        table::with_rows(sync.subscriber, &new).await
    };
    let Ok(held) = call.unless_stopped(look).await else { return call.go_on() };
    if !held.is_empty() {
        let names = list(&held);
        let warning =
            Error::new(format!("{doing}: on the subscriber, tables hold rows before they are copied: {names}"));
        call.warn(warning.detail(
            "If one of the publisher's rows is among them, copying it again violates a primary key or another unique index, and \
             the table is not replicated. Empty such tables first, or set copy_data = false where the rows are the publisher's.",
        ));
    }
    Ok(())
}

/// A subscription to a publication that is made later is stuck at the first change from before (Postgres 14 to 17).
async fn check_publications(
    call: &Call<Context>,
    publisher: &Database,
    doing: &str,
    desired: &Subscription,
) -> Result<()> {
    let Ok(existing) = call.unless_stopped(publication::fetch_all(publisher)).await else {
        // It is the subscriber that has to reach it.
        return call.go_on();
    };
    let missing: Vec<_> = desired.publications.iter().filter(|name| !existing.contains_key(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(Error::new(format!("{doing}: there is no publication {names} in database {:?} on {}", publisher.name(), publisher.config().address()))
        .detail("Nothing was changed. A subscription that is made before its publication stops at the first change that is older than that.")
        .detail("Create the publication first; where this configuration does, refer to its name, so that it comes first.")
        .attribute("publications"))
}

fn in_the_way(tables: usize) -> String {
    let what = if tables == 1 { "a table".to_owned() } else { format!("{tables} tables") };
    format!("{what} cannot be copied")
}

/// Adds a line for each table, and what to do.
fn described(error: Error, found: &BTreeMap<QualifiedName, Vec<Obstacle>>) -> Error {
    let lines = found.iter().flat_map(|(table, obstacles)| {
        obstacles.iter().map(move |obstacle| format!("{}: {obstacle}. {}", table.to_text(), obstacle.remedy(table)))
    });
    let error = lines.take(SHOWN).fold(error, Error::detail);
    if found.len() > SHOWN { error.detail(format!("And {} tables more.", found.len() - SHOWN)) } else { error }
}

/// Waits until every table is replicated, and shows the progress in the log. Fails as soon as a table cannot be.
///
/// # Errors
/// When copying a table fails again and again, the subscription's worker does not run, or the time is over.
pub(super) async fn wait(call: &Call<Context>, sync: &Sync<'_>, limits: &Limits) -> Result<()> {
    let name = &sync.subscription.name;
    let mut watch = Watch::default();
    let mut log = ProgressLog::default();
    loop {
        let progress = subscription::progress(sync.subscriber, name).await?;
        log.show(name, &progress, Instant::now());
        let left: Vec<_> = progress.left().collect();
        if left.is_empty() {
            return Ok(());
        }
        if call.stop().is_cancelled() {
            // An error would taint it: the next apply would drop it, and copy rows again that are there already.
            let summary = format!(
                "subscription {name} is made, and goes on copying {} of {} tables",
                left.len(),
                progress.tables.len()
            );
            call.warn(Error::new(summary).detail("The wait for them was cut short."));
            return Ok(());
        }
        if limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(out_of_time(name, &progress));
        }
        let verdict = watch.look(&progress, NO_WORKER);
        if let Some(failure) = judge(sync, &watch, &progress, verdict).await {
            return Err(failure);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = call.stop().cancelled() => {}
        }
    }
}

/// Makes an error of what the looks tell, with the reason as far as it can be told.
async fn judge(sync: &Sync<'_>, watch: &Watch, progress: &Progress, verdict: Verdict) -> Option<Error> {
    let name = &sync.subscription.name;
    match verdict {
        Verdict::GoesOn => None,
        Verdict::Disabled => Some(
            tainted(Error::new(format!("subscription {name}: it was disabled while its tables were copied")))
                .detail(still_waiting(progress))
                .detail("An error does that where disable_on_error = true. Its server's log says which."),
        ),
        Verdict::NoWorker => Some(
            tainted(Error::new(format!("subscription {name}: its worker does not run, so no table is copied")))
                .detail(still_waiting(progress))
                .detail(
                    "Either it fails at its start, as for want of a WAL sender or with a slot that something else reads from, or \
                     the subscriber has no worker left (max_logical_replication_workers, max_worker_processes). The logs of \
                     both servers say which.",
                ),
        ),
        Verdict::Fails(tables) => {
            let reasons = reasons(sync, &tables).await;
            let waited = tables.iter().map(|table| watch.idle_looks(table)).max().unwrap_or_default();
            if reasons.is_empty() && waited < UNEXPLAINED {
                return None;
            }
            Some(fails(name, progress, &tables, reasons))
        }
    }
}

fn fails(name: &Ident, progress: &Progress, tables: &BTreeSet<QualifiedName>, reasons: Vec<String>) -> Error {
    let names = list(tables);
    let errors = progress.sync_errors.filter(|errors| *errors > 0);
    let errors = errors.map(|errors| format!(" ({errors} so far)")).unwrap_or_default();
    let error = Error::new(format!("subscription {name}: copying fails again and again{errors}: {names}"));
    let unexplained =
        reasons.is_empty().then(|| "No query tells why; the log of the subscriber's server does.".to_owned());
    tainted(reasons.into_iter().chain(unexplained).fold(error, Error::detail))
}

/// Why copying these tables fails, as far as the servers can be asked.
async fn reasons(sync: &Sync<'_>, tables: &BTreeSet<QualifiedName>) -> Vec<String> {
    let mut reasons = Vec::new();
    for (table, obstacles) in sync.obstacles().await.iter().filter(|(table, _)| tables.contains(*table)) {
        let name = table.to_text();
        reasons.extend(obstacles.iter().map(|obstacle| format!("{name}: {obstacle}. {}", obstacle.remedy(table))));
    }
    for table in table::with_rows(sync.subscriber, tables).await.unwrap_or_default().iter().take(SHOWN) {
        reasons.push(format!(
            "{}: it held rows before on the subscriber, and one that is copied again violates its primary key or another unique \
             index. Empty it (TRUNCATE {table}), or subscribe with copy_data = false if they are the publisher's rows.",
            table.to_text()
        ));
    }
    reasons.extend(no_room(sync).await);
    reasons
}

async fn no_room(sync: &Sync<'_>) -> Option<String> {
    let room = settings::room(sync.publisher?).await.ok()?;
    let (setting, what) = match (room.slots <= 0, room.senders <= 0) {
        (true, _) => ("max_replication_slots", "replication slot"),
        (_, true) => ("max_wal_senders", "WAL sender"),
        _ => return None,
    };
    Some(format!(
        "The publisher has no {what} left, and the copy of each table needs one: raise {setting} there, or drop slots that \
         nothing reads from."
    ))
}

fn out_of_time(name: &Ident, progress: &Progress) -> Error {
    let summary = format!(
        "subscription {name}: {} of {} tables are not replicated in time",
        progress.left().count(),
        progress.tables.len()
    );
    tainted(Error::new(summary).detail(still_waiting(progress)))
        .detail("The subscription goes on copying. Its server's log says what hinders it.")
}

fn still_waiting(progress: &Progress) -> String {
    format!("Still waiting for: {}", list(progress.left()))
}

/// What an error after creating means to a core.
fn tainted(error: Error) -> Error {
    error.detail(
        "A new subscription is marked as tainted now, and the next apply makes it anew and copies every row again; \
         `terraform untaint` or `tofu untaint` keeps it.",
    )
}
