// SPDX-License-Identifier: MPL-2.0

//! The life of a plugin process: when work must stop, and when the process must end.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the service and the process share.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    stop: Arc<Mutex<Stop>>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// The tokens that stop work.
#[derive(Debug)]
struct Stop {
    all: CancellationToken,
    /// For work that only reads: cancelled with everything else, or before it.
    readers: CancellationToken,
}

impl Default for Stop {
    fn default() -> Self {
        let all = CancellationToken::new();
        Self { readers: all.child_token(), all }
    }
}

impl Lifecycle {
    /// The token that is cancelled once the user interrupted the run, and before the process ends. It stays cancelled.
    ///
    /// Work in flight then ends at its next safe point. Take it when the work starts and keep it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The same for work that changes nothing. Ctrl-C in Terraform's terminal ends it too: while an apply still plans,
    /// Terraform and OpenTofu tell no provider to stop, and wait for data sources to end.
    pub fn reading_stop_token(&self) -> CancellationToken {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).readers.clone()
    }

    /// Spawns work that outlives its caller: a dropped connection does not end it, and the process waits for it for a
    /// while.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(work)
    }

    /// Makes the process end, after work in flight had time to finish.
    pub(super) fn shut_down(&self) {
        self.stop_token().cancel();
        self.shutdown.cancel();
    }

    /// The token that is cancelled when the process is about to end.
    pub(super) fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Resets the interruption of a run, because one process may serve several runs.
    pub(super) fn renew(&self) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Stop::default();
    }

    /// Waits until all spawned work has ended.
    pub(super) async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_reaches_those_who_ask_later() {
        let lifecycle = Lifecycle::default();
        lifecycle.stop_token().cancel();
        assert!(lifecycle.clone().stop_token().is_cancelled());
    }

    #[test]
    fn who_only_reads_stops_earlier_or_with_the_others() {
        let lifecycle = Lifecycle::default();
        lifecycle.reading_stop_token().cancel();
        assert!(!lifecycle.stop_token().is_cancelled() && lifecycle.reading_stop_token().is_cancelled());
        lifecycle.renew();
        assert!(!lifecycle.reading_stop_token().is_cancelled());
        lifecycle.stop_token().cancel();
        assert!(lifecycle.reading_stop_token().is_cancelled());
    }

    #[test]
    fn shutting_down_stops_work() {
        let lifecycle = Lifecycle::default();
        lifecycle.shut_down();
        assert!(lifecycle.stop_token().is_cancelled());
        assert!(lifecycle.shutdown_token().is_cancelled());
    }

    #[test]
    fn the_next_run_is_not_stopped_by_the_last() {
        let lifecycle = Lifecycle::default();
        let last = lifecycle.stop_token();
        last.cancel();
        lifecycle.renew();
        assert!(last.is_cancelled());
        assert!(!lifecycle.stop_token().is_cancelled());
    }

    #[tokio::test]
    async fn spawned_work_is_waited_for() {
        let lifecycle = Lifecycle::default();
        let stop = lifecycle.stop_token();
        let work = lifecycle.spawn(async move {
            stop.cancelled().await;
            "rolled back"
        });
        lifecycle.shut_down();
        lifecycle.finished().await;
        assert!(work.is_finished());
        assert_eq!(work.await.unwrap(), "rolled back");
    }
}
