// SPDX-License-Identifier: MPL-2.0

//! Objects of one kind in one database, read together and shared by all readers within moments.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Result;

/// How long a snapshot is valid after its load. Terraform reads all resources of a plan at almost the same time.
const LIFETIME: Duration = Duration::from_secs(2);

/// The last load of one kind, if any. Callers that come during a load wait for its result, even a failure.
pub(super) struct Snapshot<T> {
    last: Mutex<Option<Load<T>>>,
}

struct Load<T> {
    /// How many changes this process had begun or ended when the load began.
    changes: u64,
    ended: Instant,
    result: Result<Arc<T>>,
}

/// The snapshots of one database, one for each kind of object, by the type of the loaded value.
#[derive(Default)]
pub(super) struct Snapshots(StdMutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Snapshots {
    /// The snapshot of a kind.
    pub(super) fn of<T: Send + Sync + 'static>(&self) -> Arc<Snapshot<T>> {
        self.one()
    }

    /// The snapshot of a kind that answers this question. Answers to other questions that are older than the longest age go.
    pub(super) fn answering<Q, T>(&self, question: &Q, longest: Duration) -> Arc<Snapshot<T>>
    where
        Q: Clone + PartialEq + Send + 'static,
        T: Send + Sync + 'static,
    {
        self.one::<Answers<Q, T>>().to(question, longest)
    }

    fn one<S: Default + Send + Sync + 'static>(&self) -> Arc<S> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = all.entry(TypeId::of::<S>()).or_insert_with(|| Arc::new(S::default()));
        // The value under a type's id always has that type.
        Arc::clone(one).downcast().unwrap_or_default()
    }
}

/// Snapshots of one kind, each with what it answers.
struct Answers<Q, T>(StdMutex<Vec<(Q, Arc<Snapshot<T>>)>>);

impl<Q, T> Default for Answers<Q, T> {
    fn default() -> Self {
        Self(StdMutex::default())
    }
}

impl<Q: Clone + PartialEq, T> Answers<Q, T> {
    fn to(&self, question: &Q, longest: Duration) -> Arc<Snapshot<T>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(asked, one)| asked == question || one.is_in_use(longest));
        if let Some((_, one)) = all.iter().find(|(asked, _)| asked == question) {
            return Arc::clone(one);
        }
        let one = Arc::<Snapshot<T>>::default();
        all.push((question.clone(), Arc::clone(&one)));
        one
    }
}

/// Counts the beginnings and ends of this process's own changes, which invalidate earlier snapshots.
#[derive(Clone, Default)]
pub(super) struct Changes(Arc<AtomicU64>);

/// A change in progress.
pub(super) struct Change(Changes);

impl Changes {
    /// Counts a change at its beginning and, however it ends, at its end.
    pub(super) fn begin(&self) -> Change {
        self.0.fetch_add(1, Ordering::SeqCst);
        Change(self.clone())
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl<T> Default for Snapshot<T> {
    fn default() -> Self {
        Self { last: Mutex::new(None) }
    }
}

impl<T> Snapshot<T> {
    /// The objects, loaded now unless a valid load exists. `changes` counts this process's own changes.
    pub(super) async fn get(&self, changes: impl Fn() -> u64, load: impl Future<Output = Result<T>>) -> Result<Arc<T>> {
        self.get_of(LIFETIME, changes, load).await
    }

    /// The same, of a load that is not older than this.
    pub(super) async fn get_of(
        &self,
        age: Duration,
        changes: impl Fn() -> u64,
        load: impl Future<Output = Result<T>>,
    ) -> Result<Arc<T>> {
        let asked = Instant::now();
        let mut last = self.last.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.serves(changes(), asked, age)) {
            return last.result.clone();
        }
        // The old one is dropped before the new one is loaded: two would take twice the memory.
        *last = None;
        let changes = changes();
        let result = load.await.map(Arc::new);
        *last = Some(Load { changes, ended: Instant::now(), result: result.clone() });
        result
    }

    /// Whether somebody loads it, or may still be served a load of at most this age.
    fn is_in_use(&self, longest: Duration) -> bool {
        // Who cannot look at the last load meets somebody who is loading.
        self.last.try_lock().map_or(true, |last| last.as_ref().is_some_and(|last| last.ended.elapsed() < longest))
    }
}

impl<T> Load<T> {
    fn serves(&self, changes: u64, asked: Instant, age: Duration) -> bool {
        match self.result {
            // Counted from its end: callers that waited for a slow load must not load it again.
            Ok(_) => self.changes == changes && self.ended.elapsed() < age,
            // A failure is returned only to callers that have been waiting for it.
            Err(_) => asked <= self.ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::error::{Cause, Error, Place};
    use futures_util::future::join_all;

    #[derive(Default)]
    struct Counter {
        snapshot: Snapshot<u64>,
        loads: AtomicU64,
        changes: AtomicU64,
    }

    impl Counter {
        async fn get(&self) -> u64 {
            let load = async {
                tokio::task::yield_now().await;
                Ok(self.loads.fetch_add(1, Ordering::Relaxed) + 1)
            };
            *self.snapshot.get(|| self.changes.load(Ordering::Relaxed), load).await.unwrap()
        }

        async fn fail(&self) -> Error {
            let load = async {
                tokio::task::yield_now().await;
                self.loads.fetch_add(1, Ordering::Relaxed);
                let place = Place {
                    address: String::new(),
                    database: String::new(),
                    role: String::new(),
                    given: Arc::default(),
                };
                Err(Error::new("reading", place, Cause::Cancelled))
            };
            self.snapshot.get(|| 0, load).await.unwrap_err()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_share_one_load() {
        let counter = Counter::default();
        assert_eq!(join_all((0..10).map(|_| counter.get())).await, [1; 10]);
        tokio::time::advance(Duration::from_millis(1900)).await;
        assert_eq!(counter.get().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn two_seconds_later_it_is_loaded_anew() {
        let counter = Counter::default();
        counter.get().await;
        tokio::time::advance(Duration::from_millis(2100)).await;
        assert_eq!(counter.get().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_to_load_serves_all_who_waited() {
        let counter = Counter::default();
        let slow = || async {
            let load = async {
                tokio::time::sleep(LIFETIME * 2).await;
                Ok(counter.loads.fetch_add(1, Ordering::Relaxed) + 1)
            };
            *counter.snapshot.get(|| 0, load).await.unwrap()
        };
        assert_eq!(join_all((0..10).map(|_| slow())).await, [1; 10]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_says_how_old_a_load_may_be() {
        let counter = Counter::default();
        counter.get().await;
        tokio::time::advance(Duration::from_secs(5)).await;
        let load = async { Ok(7) };
        assert_eq!(*counter.snapshot.get_of(Duration::from_secs(6), || 0, load).await.unwrap(), 1);
        assert_eq!(counter.get().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn each_question_has_its_own_until_it_is_too_old() {
        let (snapshots, longest) = (Snapshots::default(), Duration::from_secs(10));
        let ask = |question: &'static str| {
            let snapshot = snapshots.answering::<_, String>(&question, longest);
            async move { snapshot.get_of(longest, || 0, async { Ok(format!("to {question}")) }).await.unwrap() }
        };
        let (first, second) = (ask("a").await, ask("b").await);
        assert_eq!((first.as_str(), second.as_str()), ("to a", "to b"));
        assert!(Arc::ptr_eq(&first, &ask("a").await));
        let kept = Arc::downgrade(&first);
        drop(first);
        ask("b").await;
        assert!(kept.upgrade().is_some(), "it is gone though somebody may still be served it");
        tokio::time::advance(longest * 2).await;
        ask("b").await;
        assert!(kept.upgrade().is_none(), "it is kept though nobody is served it any more");
    }

    #[test]
    fn each_kind_has_its_own() {
        let snapshots = Snapshots::default();
        assert!(Arc::ptr_eq(&snapshots.of::<u64>(), &snapshots.of::<u64>()));
        let _other: Arc<Snapshot<String>> = snapshots.of();
    }

    #[test]
    fn a_change_counts_when_it_begins_and_when_it_ends() {
        let changes = Changes::default();
        let change = changes.begin();
        assert_eq!(changes.count(), 1);
        drop(change);
        assert_eq!(changes.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_drops_it() {
        let counter = Counter::default();
        counter.get().await;
        counter.changes.fetch_add(1, Ordering::Relaxed);
        assert_eq!(counter.get().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_share_a_failure_and_those_who_come_later_do_not() {
        let counter = Counter::default();
        join_all((0..10).map(|_| counter.fail())).await;
        assert_eq!(counter.loads.load(Ordering::Relaxed), 1);
        tokio::time::advance(Duration::from_millis(1)).await;
        counter.fail().await;
        assert_eq!(counter.loads.load(Ordering::Relaxed), 2);
    }
}
