//! Whether a subscription is well, from several looks at it. Pure.
//!
//! One look cannot tell: a worker that fails is started again every few seconds and is there for a moment, and one that
//! follows a change of its subscription, or comes back after a restart, is away for a moment. What is well is seen within two
//! seconds, or at once where a worker has run for long; what is ill within seven, or earlier where errors are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::QualifiedName;
use crate::postgres::subscription::{Activity, SyncState};

/// A worker that has been connected for so long is well, and so is a copy that goes on for so long.
const STEADY: Duration = Duration::from_millis(1500);

/// A worker that is older when it is first seen is well.
const GROWN_UP: f64 = 10.0;

/// How long a worker, or a copy, may be away: one that has failed is started again after five seconds by default
/// (`wal_retrieve_retry_interval`).
const PATIENCE: Duration = Duration::from_secs(7);

/// What the looks tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) worker: Worker,
    /// Tables whose copy fails again and again.
    pub(super) failing: BTreeSet<QualifiedName>,
    /// Tables that are left to copy, while no copy begins.
    pub(super) stalled: BTreeSet<QualifiedName>,
    /// Whether applying failed meanwhile; none where that is not counted (before Postgres 15).
    pub(super) apply_failed: Option<bool>,
    /// Whether copying failed meanwhile; likewise.
    pub(super) copy_failed: Option<bool>,
    /// Conflicts that were counted meanwhile (Postgres 18).
    pub(super) conflicts: BTreeSet<&'static str>,
}

/// How the worker that applies changes is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Worker {
    /// The subscription is disabled.
    Disabled,
    /// It is connected and stays so.
    #[default]
    Steady,
    /// It ends again and again.
    Fails,
    /// It does not run, or does not get a connection.
    Away,
}

impl Health {
    /// Whether nothing is wrong with it. One that is disabled may be so on purpose.
    pub(super) fn is_well(&self) -> bool {
        matches!(self.worker, Worker::Steady | Worker::Disabled) && self.failing.is_empty() && self.stalled.is_empty()
    }
}

/// The looks at one subscription so far.
#[derive(Debug)]
pub(super) struct Watching {
    began: Instant,
    patience: Duration,
    first: Option<Activity>,
    pids: BTreeSet<i32>,
    connected: Option<(i32, Instant)>,
    copies: BTreeMap<QualifiedName, Copy>,
}

/// The looks at the copy of one table.
#[derive(Debug, Default)]
struct Copy {
    pids: BTreeSet<i32>,
    current: Option<(i32, Instant)>,
}

impl Watching {
    /// None yet. Servers before Postgres 16 start one worker after the other, so that those of many subscriptions that are
    /// away may take longer to come.
    pub(super) fn new(now: Instant, away: usize) -> Self {
        let patience = PATIENCE * u32::try_from(away.clamp(1, 4)).unwrap_or(1);
        Self { began: now, patience, first: None, pids: BTreeSet::new(), connected: None, copies: BTreeMap::new() }
    }

    /// Adds a look. None while it is too early to tell.
    pub(super) fn look(&mut self, activity: &Activity, now: Instant) -> Option<Health> {
        self.first.get_or_insert_with(|| activity.clone());
        if !activity.enabled {
            return Some(Health { worker: Worker::Disabled, ..Health::default() });
        }
        self.follow_worker(activity, now);
        self.follow_copies(activity, now);
        let worker = self.worker(activity, now)?;
        let (failing, stalled) = match worker {
            Worker::Steady => self.copies(activity, now)?,
            _ => (self.failed_copies(activity), BTreeSet::new()),
        };
        Some(Health {
            worker,
            failing,
            stalled,
            apply_failed: self.grown(activity.apply_errors, |first| first.apply_errors).map(|errors| errors > 0),
            copy_failed: self.grown(activity.sync_errors, |first| first.sync_errors).map(|errors| errors > 0),
            conflicts: self.conflicts(activity),
        })
    }

    fn follow_worker(&mut self, activity: &Activity, now: Instant) {
        let worker = activity.worker.as_ref();
        self.pids.extend(worker.map(|worker| worker.pid));
        let connected = worker.filter(|_| activity.is_connected());
        self.connected = connected.map(|worker| match self.connected {
            Some((pid, since)) if pid == worker.pid => (pid, since),
            _ => (worker.pid, now),
        });
    }

    fn follow_copies(&mut self, activity: &Activity, now: Instant) {
        for (name, table) in &activity.tables {
            let copy = self.copies.entry(name.clone()).or_default();
            copy.pids.extend(table.copier);
            copy.current = table.copier.map(|pid| match copy.current {
                Some((current, since)) if current == pid => (pid, since),
                _ => (pid, now),
            });
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= self.patience
    }

    /// How much a counter has grown since the first look.
    fn grown(&self, now: Option<u64>, then: impl Fn(&Activity) -> Option<u64>) -> Option<u64> {
        Some(now?.saturating_sub(then(self.first.as_ref()?)?))
    }

    fn worker(&self, activity: &Activity, now: Instant) -> Option<Worker> {
        let age = activity.worker.as_ref().and_then(|worker| worker.age);
        let is_old = activity.is_connected() && age.is_some_and(|age| age >= GROWN_UP);
        if is_old || self.connected.is_some_and(|(_, since)| now.duration_since(since) >= STEADY) {
            return Some(Worker::Steady);
        }
        let errors = self.grown(activity.apply_errors, |first| first.apply_errors).unwrap_or_default();
        if errors >= 2 || self.pids.len() >= 3 {
            return Some(Worker::Fails);
        }
        let comes_and_goes = errors > 0 || self.pids.len() >= 2;
        // One that is there at last may yet stay: that is known in a moment.
        let is_told = self.is_over(now) && self.connected.is_none();
        is_told.then_some(if comes_and_goes { Worker::Fails } else { Worker::Away })
    }

    /// The tables whose copies fail, and those that wait for one to begin.
    fn copies(&self, activity: &Activity, now: Instant) -> Option<(BTreeSet<QualifiedName>, BTreeSet<QualifiedName>)> {
        let left = || activity.tables.iter().filter(|(_, table)| is_left(table.state));
        let failing: BTreeSet<_> = self.failed_copies(activity);
        if left().next().is_none() || !failing.is_empty() {
            return Some((failing, BTreeSet::new()));
        }
        let goes_on = |name: &QualifiedName| {
            let current = self.copies.get(name).and_then(|copy| copy.current);
            current.is_some_and(|(_, since)| now.duration_since(since) >= STEADY)
        };
        let is_idle = |name: &QualifiedName| self.copies.get(name).is_none_or(|copy| copy.current.is_none());
        if left().any(|(name, _)| goes_on(name)) {
            // A table whose turn has not come has not failed.
            let begun_and_idle = left().any(|(name, table)| table.state == SyncState::Copying && is_idle(name));
            return (!begun_and_idle || self.is_over(now)).then(Default::default);
        }
        let was_touched = |name: &QualifiedName| self.copies.get(name).is_some_and(|copy| !copy.pids.is_empty());
        if !self.is_over(now) || left().any(|(name, _)| !is_idle(name)) {
            return None;
        }
        let (begun, waiting): (BTreeSet<_>, BTreeSet<_>) = left()
            .map(|(name, table)| (name.clone(), table.state == SyncState::Copying || was_touched(name)))
            .fold((BTreeSet::new(), BTreeSet::new()), |(mut begun, mut waiting), (name, is_begun)| {
                if is_begun {
                    begun.insert(name)
                } else {
                    waiting.insert(name)
                };
                (begun, waiting)
            });
        Some(if begun.is_empty() { (begun, waiting) } else { (begun, BTreeSet::new()) })
    }

    /// Tables whose copy ended and was begun again, or that have none while failures are counted.
    fn failed_copies(&self, activity: &Activity) -> BTreeSet<QualifiedName> {
        let errors = self.grown(activity.sync_errors, |first| first.sync_errors);
        let has_failed = |name: &QualifiedName| {
            let Some(copy) = self.copies.get(name) else { return false };
            match errors {
                Some(errors) => errors >= 2 && (copy.current.is_none() || copy.pids.len() >= 2),
                None => copy.pids.len() >= 3,
            }
        };
        let left = activity.tables.iter().filter(|(_, table)| is_left(table.state));
        let copying = |table: SyncState| table == SyncState::Copying;
        let failed: Vec<_> = left.filter(|(name, _)| has_failed(name)).collect();
        // One that has begun has failed rather than one that waits for its turn.
        let any_begun = failed.iter().any(|(_, table)| copying(table.state));
        failed
            .into_iter()
            .filter(|(_, table)| !any_begun || copying(table.state))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn conflicts(&self, activity: &Activity) -> BTreeSet<&'static str> {
        let before =
            |kind| self.first.as_ref().and_then(|first| first.conflicts.get(kind)).copied().unwrap_or_default();
        let grown = activity.conflicts.iter().filter(|(kind, count)| **count > before(*kind));
        grown.map(|(kind, _)| *kind).collect()
    }
}

/// Whether a table has rows yet to be copied.
fn is_left(state: SyncState) -> bool {
    matches!(state, SyncState::Initializing | SyncState::Copying)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::subscription::{ApplyWorker, TableActivity};

    /// A look: the worker as `pid`, with `+` where it is connected; its errors; and tables as `name:state:pid`.
    fn activity(worker: &str, errors: Option<u64>, tables: &str) -> Activity {
        let (pid, connected) = (worker.trim_end_matches('+'), worker.ends_with('+'));
        let worker = pid.parse().ok().map(|pid| ApplyWorker {
            pid,
            received: connected.then(|| "0/1".to_owned()),
            ..ApplyWorker::default()
        });
        let table = |text: &str| {
            let mut parts = text.split(':');
            let (name, state) = (parts.next().unwrap(), parts.next().unwrap());
            let state = if state == "d" { SyncState::Copying } else { SyncState::Initializing };
            let copier = parts.next().map(|pid| pid.parse().unwrap());
            (QualifiedName::parse(name).unwrap(), TableActivity { state, copier, rows: None, bytes: None })
        };
        Activity {
            enabled: true,
            worker,
            apply_errors: errors,
            sync_errors: errors,
            tables: tables.split_whitespace().map(table).collect(),
            ..Activity::default()
        }
    }

    /// What looks a second apart tell, and after how many of them.
    fn told(looks: impl IntoIterator<Item = Activity>) -> (usize, Option<Health>) {
        let began = Instant::now();
        let mut watching = Watching::new(began, 1);
        for (at, look) in looks.into_iter().enumerate() {
            let now = began + Duration::from_secs(u64::try_from(at).unwrap());
            if let Some(health) = watching.look(&look, now) {
                return (at, Some(health));
            }
        }
        (usize::MAX, None)
    }

    fn worker(looks: impl IntoIterator<Item = Activity>) -> Option<(usize, Worker)> {
        let (at, health) = told(looks);
        health.map(|health| (at, health.worker))
    }

    #[test]
    fn a_worker_that_stays_is_well_and_one_that_was_there_for_long_is_so_at_once() {
        let look = || activity("7+", Some(3), "");
        assert_eq!(worker([look(), look(), look()]), Some((2, Worker::Steady)));
        let mut old = look();
        old.worker.as_mut().unwrap().age = Some(60.0);
        assert_eq!(worker([old]), Some((0, Worker::Steady)));
    }

    #[test]
    fn a_worker_that_comes_back_was_never_ill() {
        let away = || activity("", Some(0), "");
        let back = || activity("8+", Some(1), "");
        let looks = [activity("7+", Some(0), ""), away(), away(), away(), away(), back(), back(), back()];
        assert_eq!(worker(looks), Some((7, Worker::Steady)));
    }

    #[test]
    fn a_worker_that_has_just_come_is_given_a_moment() {
        let first = [activity("6", None, "")].into_iter().chain((0..5).map(|_| activity("", None, "")));
        let then = |stays: bool| (0..4).map(move |at| activity(if stays || at < 2 { "7+" } else { "" }, None, ""));
        assert_eq!(worker(first.clone().chain(then(true))), Some((8, Worker::Steady)));
        assert_eq!(worker(first.chain(then(false))), Some((8, Worker::Fails)));
    }

    #[test]
    fn a_worker_that_comes_and_goes_fails() {
        let by_errors = [activity("", Some(1), ""), activity("7+", Some(2), ""), activity("", Some(3), "")];
        assert_eq!(worker(by_errors), Some((2, Worker::Fails)));
        let by_pids = [activity("7", None, ""), activity("8+", None, ""), activity("9+", None, "")];
        assert_eq!(worker(by_pids), Some((2, Worker::Fails)));
        let slowly = (0..8).map(|at| {
            activity(
                if at == 5 {
                    "7+"
                } else if at == 0 {
                    "6+"
                } else {
                    ""
                },
                None,
                "",
            )
        });
        assert_eq!(worker(slowly), Some((7, Worker::Fails)));
    }

    #[test]
    fn a_worker_that_is_not_there_is_away_and_so_is_one_that_gets_no_connection() {
        assert_eq!(worker((0..9).map(|_| activity("", Some(0), ""))), Some((7, Worker::Away)));
        assert_eq!(worker((0..9).map(|_| activity("7", Some(0), ""))), Some((7, Worker::Away)));
    }

    fn failing(looks: impl IntoIterator<Item = Activity>) -> Vec<String> {
        let health = told(looks).1.unwrap();
        assert_eq!(health.worker, Worker::Steady);
        health.failing.iter().chain(&health.stalled).map(QualifiedName::to_text).collect()
    }

    #[test]
    fn a_copy_that_goes_on_is_well_however_many_wait() {
        assert_eq!(failing((0..3).map(|_| activity("7+", Some(0), "a:d:8 b:i c:i"))), [""; 0]);
        // After a restart two of three copies go on, and the third has its turn later.
        assert_eq!(failing((0..9).map(|_| activity("7+", Some(4), "a:d:8 b:d:9 c:d"))), [""; 0]);
        assert_eq!(failing((0..9).map(|_| activity("7+", None, "a:d:8 b:d"))), [""; 0]);
    }

    #[test]
    fn a_copy_that_is_begun_again_and_again_fails() {
        let counted = (0..4).map(|at| activity("7+", Some(at), "a:d b:i"));
        assert_eq!(failing(counted), ["public.a"]);
        let seen = (0..9).map(|at| activity("7+", None, &format!("a:d:{at} b:d:20 c:i")));
        assert_eq!(failing(seen), ["public.a"]);
        assert_eq!(failing((0..9).map(|_| activity("7+", None, "a:d b:i"))), ["public.a"]);
    }

    #[test]
    fn copies_that_do_not_begin_are_told() {
        let (at, health) = told((0..9).map(|_| activity("7+", Some(0), "a:i b:i")));
        let health = health.unwrap();
        assert_eq!((at, health.stalled.len(), health.failing.len()), (7, 2, 0));
        assert!(!health.is_well());
    }

    #[test]
    fn one_that_is_disabled_is_told_at_once() {
        let look = Activity { enabled: false, ..activity("", None, "a:d") };
        let (at, health) = told([look]);
        assert_eq!((at, health.as_ref().map(|health| health.worker)), (0, Some(Worker::Disabled)));
        assert!(health.unwrap().is_well());
    }
}
