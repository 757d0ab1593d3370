// SPDX-License-Identifier: MPL-2.0

//! When to give up.

use std::future::{Future, pending};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::Cause;

/// When to give up. The default has no deadline of its own and cannot be cancelled.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// When to give up. Without one, there is a default that depends on the work: see
    /// [`Database`](super::Database).
    pub deadline: Option<Instant>,
    /// Give up as soon as this is cancelled.
    pub cancel: CancellationToken,
}

impl Limits {
    /// A deadline this far from now.
    pub fn within(time: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(time), cancel: CancellationToken::new() }
    }

    /// The same, cancelled with `cancel`.
    pub fn cancelled_by(self, cancel: CancellationToken) -> Self {
        Self { cancel, ..self }
    }

    /// The same, with a deadline this far from now if it has none.
    pub(super) fn or_within(&self, time: Duration) -> Self {
        let deadline = self.deadline.or_else(|| Instant::now().checked_add(time));
        Self { deadline, cancel: self.cancel.clone() }
    }

    /// Resolves when a limit is reached, with the cause.
    pub(super) async fn reached(&self) -> Cause {
        let began = Instant::now();
        let deadline = async {
            match self.deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => Cause::Cancelled,
            () = deadline => Cause::Timeout(began.elapsed()),
        }
    }

    /// The limit that has already been reached, if any.
    pub(super) fn passed(&self) -> Option<Cause> {
        let late = self.deadline.filter(|deadline| *deadline <= Instant::now());
        match late {
            _ if self.cancel.is_cancelled() => Some(Cause::Cancelled),
            Some(deadline) => Some(Cause::Timeout(deadline.elapsed())),
            None => None,
        }
    }

    /// Waits for work that may be given up at any moment, until a limit is reached.
    pub(super) async fn keep<T>(&self, work: impl Future<Output = Result<T, Cause>>) -> Result<T, Cause> {
        tokio::select! {
            biased;
            done = work => done,
            cause = self.reached() => Err(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_given_up_at_the_first_limit() {
        let never = pending::<Result<(), Cause>>;
        let late = Limits::within(Duration::from_secs(3)).keep(never()).await;
        assert!(matches!(late, Err(Cause::Timeout(after)) if after >= Duration::from_secs(3)));
        let limits = Limits::within(Duration::from_secs(3));
        limits.cancel.cancel();
        assert!(matches!(limits.keep(never()).await, Err(Cause::Cancelled)));
        // A result that is already there is not thrown away.
        assert!(matches!(limits.keep(std::future::ready(Ok(7))).await, Ok(7)));
    }

    #[test]
    fn a_default_does_not_move_a_deadline() {
        let asked = Limits::within(Duration::from_secs(600));
        assert_eq!(asked.or_within(Duration::from_secs(1)).deadline, asked.deadline);
        assert!(Limits::default().or_within(Duration::from_secs(1)).deadline.is_some());
    }
}
