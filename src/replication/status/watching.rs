// SPDX-License-Identifier: MPL-2.0

//! Decides from several looks whether a subscription is healthy. Pure.
//!
//! One look is not enough: a failing worker is restarted every few seconds and exists for a moment, and a worker that
//! follows a change of its subscription, or a restart of a server, is missing for a moment. A healthy one is recognized
//! within two seconds, or at once if a worker has run for long. One that does not look healthy within some seconds is
//! suspected: if a reason is found then, there is no need to wait longer. Without a reason it only counts as unhealthy
//! after the longest time that a slow but healthy server may take. Servers restart failed workers after
//! `wal_retrieve_retry_interval`, so the times depend on it. A machine on which each look takes long also takes long to
//! start a worker, so the looks are counted as well as the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::QualifiedName;
use crate::postgres::subscription::{Activity, SyncState};

/// A worker that has been connected for this long is healthy, and so is a copy that has run for this long.
const STEADY: Duration = Duration::from_millis(1500);

/// But not before this many further looks: on a slow machine, a worker also takes longer to fail.
const STEADY_LOOKS: u32 = 2;

/// A worker that is older than this many seconds at the first look is healthy.
const GROWN_UP: f64 = 10.0;

/// How many errors, or how many workers in a row, make a subscription suspected; one more proves it.
const STRIKES: u64 = 2;

/// How long a worker or a copy may be missing.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// How often the server may have restarted it meanwhile.
    tries: u32,
    /// How long a start may take in addition.
    start: Duration,
    /// The minimum number of looks, however short their time.
    looks: u32,
}

/// How long until it is suspected.
const SUSPICION: Patience = Patience { tries: 1, start: Duration::from_secs(2), looks: 7 };

/// How long until it is certain.
const CERTAINTY: Patience = Patience { tries: 4, start: Duration::from_secs(10), looks: 60 };

/// The result of the looks at one subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opinion {
    pub(super) health: Health,
    /// Whether it needs no further proof. A healthy one never does; a suspected one is unhealthy if a reason is found.
    pub(super) is_sure: bool,
}

/// The observed health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) worker: Worker,
    /// Tables whose copy fails repeatedly.
    pub(super) failing: BTreeSet<QualifiedName>,
    /// Tables that remain to be copied while no copy begins.
    pub(super) stalled: BTreeSet<QualifiedName>,
    /// Whether applying failed meanwhile; none if that is not counted (before Postgres 15).
    pub(super) apply_failed: Option<bool>,
    /// Whether copying failed meanwhile; likewise.
    pub(super) copy_failed: Option<bool>,
    /// Conflicts that were counted meanwhile (Postgres 18).
    pub(super) conflicts: BTreeSet<&'static str>,
}

/// The state of the worker that applies changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Worker {
    /// The subscription is disabled.
    Disabled,
    /// It is connected and stays so.
    #[default]
    Steady,
    /// It ends repeatedly.
    Fails,
    /// It does not run, or does not get a connection.
    Away,
}

impl Health {
    /// Whether no problem is known. A disabled one may be disabled on purpose.
    pub(super) fn is_well(&self) -> bool {
        matches!(self.worker, Worker::Steady | Worker::Disabled) && self.failing.is_empty() && self.stalled.is_empty()
    }
}

/// The looks at one subscription so far.
#[derive(Debug)]
pub(super) struct Watching {
    began: Moment,
    /// The last look.
    now: Moment,
    /// How many subscriptions had no worker when it began.
    away: u32,
    /// Whether its publisher answered at the last look, or need not.
    is_heard: bool,
    first: Option<Activity>,
    pids: BTreeSet<i32>,
    connected: Option<(i32, Moment)>,
    copies: BTreeMap<QualifiedName, Copy>,
    /// When the last copy of a table ended.
    copied: Option<Moment>,
}

/// The time of a look.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    /// The number of the look.
    look: u32,
}

/// The looks at the copy of one table.
#[derive(Debug, Default)]
struct Copy {
    is_left: bool,
    pids: BTreeSet<i32>,
    current: Option<(i32, Moment)>,
}

impl Watching {
    /// No looks yet. Servers before Postgres 16 start workers one after the other, so many missing workers may take
    /// longer to start.
    pub(super) fn new(now: Instant, away: usize) -> Self {
        let began = Moment { at: now, look: 0 };
        Self {
            began,
            now: began,
            away: u32::try_from(away.clamp(1, 4)).unwrap_or(1),
            is_heard: true,
            first: None,
            pids: BTreeSet::new(),
            connected: None,
            copies: BTreeMap::new(),
            copied: None,
        }
    }

    /// Adds a look, and whether the publisher answered. None while it is too early to decide.
    ///
    /// Looks while the publisher was unavailable mean nothing once it is back.
    pub(super) fn look(&mut self, activity: &Activity, is_heard: bool, now: Instant) -> Option<Opinion> {
        if is_heard && !self.is_heard {
            *self = Self { away: self.away, ..Self::new(now, 1) };
        }
        self.is_heard = is_heard;
        let look = if self.first.is_some() { self.now.look + 1 } else { 0 };
        self.now = Moment { at: now, look };
        self.first.get_or_insert_with(|| activity.clone());
        if !activity.enabled {
            return Some(Opinion { health: Health { worker: Worker::Disabled, ..Health::default() }, is_sure: true });
        }
        self.follow_worker(activity);
        self.follow_copies(activity);
        let worker = self.worker(activity)?;
        let (failing, stalled) = match worker {
            Worker::Steady => self.copies(activity)?,
            _ => (self.failed_copies(activity), BTreeSet::new()),
        };
        let health = Health {
            worker,
            failing,
            stalled,
            apply_failed: self.apply_errors(activity).map(|errors| errors > 0),
            copy_failed: self.copy_errors(activity).map(|errors| errors > 0),
            conflicts: self.conflicts(activity),
        };
        let is_sure = health.is_well() || self.is_proven(activity, &health);
        Some(Opinion { health, is_sure })
    }

    fn follow_worker(&mut self, activity: &Activity) {
        let worker = activity.worker.as_ref();
        self.pids.extend(worker.map(|worker| worker.pid));
        let connected = worker.filter(|_| activity.is_connected());
        self.connected = connected.map(|worker| match self.connected {
            Some((pid, since)) if pid == worker.pid => (pid, since),
            _ => (worker.pid, self.now),
        });
    }

    fn follow_copies(&mut self, activity: &Activity) {
        for (name, table) in &activity.tables {
            let copy = self.copies.entry(name.clone()).or_default();
            if copy.is_left && !is_left(table.state) {
                self.copied = Some(self.now);
            }
            copy.is_left = is_left(table.state);
            copy.pids.extend(table.copier);
            copy.current = table.copier.map(|pid| match copy.current {
                Some((current, since)) if current == pid => (pid, since),
                _ => (pid, self.now),
            });
        }
    }

    /// Whether something has been missing for too long since then.
    fn is_over(&self, since: Moment, patience: Patience) -> bool {
        let retries = self.first.as_ref().map(|first| first.retries_after).unwrap_or_default();
        let time = (retries * patience.tries + patience.start) * self.away;
        self.since(since) >= time && self.now.look - since.look >= patience.looks
    }

    fn since(&self, then: Moment) -> Duration {
        self.now.at.duration_since(then.at)
    }

    /// How much a counter has grown since the first look.
    fn grown(&self, now: Option<u64>, then: impl Fn(&Activity) -> Option<u64>) -> Option<u64> {
        Some(now?.saturating_sub(then(self.first.as_ref()?)?))
    }

    /// How often applying has failed meanwhile, if that is counted.
    fn apply_errors(&self, activity: &Activity) -> Option<u64> {
        self.grown(activity.apply_errors, |first| first.apply_errors)
    }

    /// How often copying has failed meanwhile, if that is counted.
    fn copy_errors(&self, activity: &Activity) -> Option<u64> {
        self.grown(activity.sync_errors, |first| first.sync_errors)
    }

    fn worker(&self, activity: &Activity) -> Option<Worker> {
        let age = activity.worker.as_ref().and_then(|worker| worker.age);
        let is_old = activity.is_connected() && age.is_some_and(|age| age >= GROWN_UP);
        if is_old || self.connected.is_some_and(|(_, since)| self.is_steady(since)) {
            return Some(Worker::Steady);
        }
        let errors = self.apply_errors(activity).unwrap_or_default();
        if errors >= STRIKES || count(&self.pids) > STRIKES {
            return Some(Worker::Fails);
        }
        let comes_and_goes = errors > 0 || self.pids.len() >= 2;
        // A worker that has finally started may stay: that is known in a moment.
        let is_told = self.is_over(self.began, SUSPICION) && self.connected.is_none();
        is_told.then_some(if comes_and_goes { Worker::Fails } else { Worker::Away })
    }

    /// The tables whose copies fail, and those that wait for one to begin.
    fn copies(&self, activity: &Activity) -> Option<(BTreeSet<QualifiedName>, BTreeSet<QualifiedName>)> {
        let left = || activity.tables.iter().filter(|(_, table)| is_left(table.state));
        let failing: BTreeSet<_> = self.failed_copies(activity);
        if left().next().is_none() || !failing.is_empty() {
            return Some((failing, BTreeSet::new()));
        }
        let is_over = self.is_over(self.copies_begin(), SUSPICION);
        let is_idle = |name: &QualifiedName| self.copies.get(name).is_none_or(|copy| copy.current.is_none());
        if left().any(|(name, _)| self.goes_on(name)) || self.ends_tables() {
            // A table whose copy has not begun has not failed.
            let begun_and_idle = left().any(|(name, table)| table.state == SyncState::Copying && is_idle(name));
            return (!begun_and_idle || is_over).then(Default::default);
        }
        if !is_over || left().any(|(name, _)| !is_idle(name)) {
            return None;
        }
        let was_touched = |name: &QualifiedName| self.copies.get(name).is_some_and(|copy| !copy.pids.is_empty());
        let has_begun = |name: &QualifiedName, state| state == SyncState::Copying || was_touched(name);
        let (begun, waiting): (Vec<_>, Vec<_>) = left().partition(|(name, table)| has_begun(name, table.state));
        let names = |tables: Vec<(&QualifiedName, _)>| tables.into_iter().map(|(name, _)| name.clone()).collect();
        Some(if begun.is_empty() { (BTreeSet::new(), names(waiting)) } else { (names(begun), BTreeSet::new()) })
    }

    /// Since when a copy is due: the worker starts them, each after another has ended.
    fn copies_begin(&self) -> Moment {
        let due = [self.connected.map(|(_, since)| since), self.copied];
        due.into_iter().flatten().chain([self.began]).max_by_key(|moment| moment.look).unwrap_or(self.began)
    }

    /// Whether the copy of a table has run for a while.
    fn goes_on(&self, name: &QualifiedName) -> bool {
        let current = self.copies.get(name).and_then(|copy| copy.current);
        current.is_some_and(|(_, since)| self.is_steady(since))
    }

    fn is_steady(&self, since: Moment) -> bool {
        self.since(since) >= STEADY && self.now.look - since.look >= STEADY_LOOKS
    }

    /// Whether copies keep ending: small tables are done before the next look.
    fn ends_tables(&self) -> bool {
        self.since(self.began) >= STEADY && self.copied.is_some_and(|copied| !self.is_over(copied, SUSPICION))
    }

    /// Tables whose copy ended and was started again, or that have no copy while failures are counted.
    fn failed_copies(&self, activity: &Activity) -> BTreeSet<QualifiedName> {
        let errors = self.copy_errors(activity);
        let has_failed = |name: &QualifiedName| {
            let Some(copy) = self.copies.get(name) else { return false };
            match errors {
                Some(errors) => errors >= STRIKES && (copy.current.is_none() || copy.pids.len() >= 2),
                None => count(&copy.pids) > STRIKES,
            }
        };
        let left = activity.tables.iter().filter(|(_, table)| is_left(table.state));
        let copying = |table: SyncState| table == SyncState::Copying;
        let failed: Vec<_> = left.filter(|(name, _)| has_failed(name) && !self.goes_on(name)).collect();
        // More likely, a copy that has begun has failed than one that waits for its turn.
        let any_begun = failed.iter().any(|(_, table)| copying(table.state));
        failed
            .into_iter()
            .filter(|(_, table)| !any_begun || copying(table.state))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether a worker or copy has failed so often, or has been missing for so long, that a slow machine cannot
    /// explain it.
    fn is_proven(&self, activity: &Activity, health: &Health) -> bool {
        match health.worker {
            Worker::Steady => self.copies_fail_for_sure(activity, health),
            _ => {
                let errors = self.apply_errors(activity).unwrap_or_default();
                errors > STRIKES || count(&self.pids) > STRIKES + 1 || self.is_over(self.began, CERTAINTY)
            }
        }
    }

    /// A restart of the publisher makes each running copy fail once, so errors are counted for each.
    fn copies_fail_for_sure(&self, activity: &Activity, health: &Health) -> bool {
        let begun = activity.tables.values().filter(|table| table.state == SyncState::Copying).count();
        let errors = self.copy_errors(activity).unwrap_or_default();
        let tries = |name: &QualifiedName| self.copies.get(name).map_or(0, |copy| count(&copy.pids));
        errors > STRIKES * u64::try_from(begun.max(1)).unwrap_or(u64::MAX)
            || health.failing.iter().any(|name| tries(name) > STRIKES + 1)
            || self.is_over(self.copies_begin(), CERTAINTY)
    }

    fn conflicts(&self, activity: &Activity) -> BTreeSet<&'static str> {
        let before =
            |kind| self.first.as_ref().and_then(|first| first.conflicts.get(kind)).copied().unwrap_or_default();
        let grown = activity.conflicts.iter().filter(|(kind, count)| **count > before(*kind));
        grown.map(|(kind, _)| *kind).collect()
    }
}

fn count(pids: &BTreeSet<i32>) -> u64 {
    u64::try_from(pids.len()).unwrap_or(u64::MAX)
}

/// Whether a table still has rows to copy.
fn is_left(state: SyncState) -> bool {
    matches!(state, SyncState::Initializing | SyncState::Copying)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::subscription::{ApplyWorker, TableActivity};

    /// A look: the worker as `pid`, with `+` if it is connected; its errors; and tables as `name:state:pid`.
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
            retries_after: Duration::from_secs(5),
            tables: tables.split_whitespace().map(table).collect(),
            ..Activity::default()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// The results of looks at this interval, each with its number.
    fn opinions(apart: Duration, looks: impl IntoIterator<Item = Activity>) -> Vec<(usize, Opinion)> {
        let began = Instant::now();
        let mut watching = Watching::new(began, 1);
        let looks = looks.into_iter().enumerate();
        let told = looks.filter_map(|(at, look)| {
            let now = began + apart * u32::try_from(at).unwrap();
            Some((at, watching.look(&look, true, now)?))
        });
        told.collect()
    }

    /// The first result of looks a second apart, and after how many of them.
    fn told(looks: impl IntoIterator<Item = Activity>) -> (usize, Option<Health>) {
        match opinions(SECOND, looks).into_iter().next() {
            Some((at, opinion)) => (at, Some(opinion.health)),
            None => (usize::MAX, None),
        }
    }

    fn worker(looks: impl IntoIterator<Item = Activity>) -> Option<(usize, Worker)> {
        let (at, health) = told(looks);
        health.map(|health| (at, health.worker))
    }

    /// After how many looks at this interval it is certain whether all is well.
    fn sure(apart: Duration, looks: impl IntoIterator<Item = Activity>) -> Option<(usize, bool)> {
        let sure = opinions(apart, looks).into_iter().find(|(_, opinion)| opinion.is_sure);
        sure.map(|(at, opinion)| (at, opinion.health.is_well()))
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
        // After a restart two of three copies continue, and the third one starts later.
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
    fn a_slow_machine_is_not_taken_for_a_fault() {
        // Each question takes three seconds, and a worker is there for long before it is connected.
        let away = |count| (0..count).map(|_| activity("", Some(1), ""));
        let stays = || (0..3).map(|_| activity("9+", Some(1), ""));
        let unconnected = (0..8).map(|_| activity("9", Some(1), ""));
        assert_eq!(sure(3 * SECOND, away(10).chain(stays())), Some((12, true)));
        assert_eq!(sure(SECOND, away(6).chain(unconnected.clone()).chain(stays())), Some((16, true)));
        // An attempt fails because the slot is still held, and the next one comes five seconds later.
        let fails_once = away(2).chain([activity("8+", Some(1), "")]).chain(away(5)).chain(unconnected).chain(stays());
        assert_eq!(sure(SECOND, fails_once), Some((18, true)));
        // The worker comes late, so its first copy does too.
        let copies = |tables: &'static str| (0..6).map(move |_| activity("9+", None, tables));
        let late = (0..6).map(|_| activity("", None, "a:d b:i")).chain(copies("a:d b:i")).chain(copies("a:d:4 b:i"));
        assert!(opinions(SECOND, late).iter().all(|(_, opinion)| opinion.health.is_well()));
    }

    #[test]
    fn what_does_not_come_for_long_is_ill_without_a_reason() {
        let away = || (0..400).map(|_| activity("", Some(0), ""));
        assert_eq!(sure(SECOND / 4, away()), Some((120, false)));
        assert_eq!(sure(3 * SECOND, away()), Some((60, false)));
        let patient = away().map(|look| Activity { retries_after: 60 * SECOND, ..look });
        assert_eq!(sure(SECOND, patient), Some((250, false)));
        let stalled = (0..400).map(|_| activity("7+", Some(0), "a:i b:i"));
        assert_eq!(sure(SECOND / 4, stalled), Some((120, false)));
        let failing = (0..40).map(|at| activity("", Some(at / 5), ""));
        assert_eq!(sure(SECOND, failing), Some((15, false)));
        let copies = (0..40).map(|at| activity("7+", Some(at / 5), "a:d b:i"));
        assert_eq!(sure(SECOND, copies), Some((15, false)));
    }

    #[test]
    fn a_publisher_that_starts_again_fails_each_copy_once() {
        let copying = |errors, pids: &str| activity("7+", Some(errors), pids);
        let looks = (0..3).map(|_| copying(0, "a:d:1 b:d:2")).chain((0..5).map(|_| copying(2, "a:d b:d")));
        let looks = looks.chain((0..3).map(|_| copying(2, "a:d:3 b:d:4")));
        let young = looks.skip(2);
        assert_eq!(sure(SECOND, young), Some((8, true)));
    }

    #[test]
    fn small_tables_that_are_copied_one_after_the_other_are_well() {
        let left = |at: usize| (at..40).map(|name| format!("t{name}:i ")).collect::<String>();
        let looks = (0..30).map(|at| {
            let mut look = activity("7+", Some(0), &left(at));
            for name in 0..at {
                let table = TableActivity { state: SyncState::Ready, copier: None, rows: None, bytes: None };
                look.tables.insert(QualifiedName::parse(&format!("t{name}")).unwrap(), table);
            }
            look
        });
        let told = opinions(SECOND, looks);
        assert!(told[0].0 <= 3 && told.iter().all(|(_, opinion)| opinion.health.is_well()), "{told:?}");
    }

    #[test]
    fn what_was_seen_while_the_publisher_was_away_does_not_count() {
        let began = Instant::now();
        let mut watching = Watching::new(began, 1);
        let mut look = |at: u32, is_heard| watching.look(&activity("", Some(0), ""), is_heard, began + SECOND * at);
        assert!((0..30).filter_map(|at| look(at, false)).all(|opinion| opinion.health.worker == Worker::Away));
        assert!((30..37).all(|at| look(at, true).is_none()));
        assert!(look(37, true).is_some_and(|opinion| !opinion.is_sure));
    }

    #[test]
    fn one_that_is_disabled_is_told_at_once() {
        let look = Activity { enabled: false, ..activity("", None, "a:d") };
        let (at, health) = told([look]);
        assert_eq!((at, health.as_ref().map(|health| health.worker)), (0, Some(Worker::Disabled)));
        assert!(health.unwrap().is_well());
    }
}
