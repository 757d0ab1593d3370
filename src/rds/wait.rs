// SPDX-License-Identifier: MPL-2.0

//! Waiting for AWS: polls until a state or a deadline, and retries calls that are refused only temporarily.
//!
//! The clock is tokio's, so that unit tests run on paused time.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, Kind, Result};

/// How often to poll. The pause grows by half each time, from `first` to `longest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Polling {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(10) }
    }
}

/// The result of one poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// The wait is over.
    Done(T),
    /// Not yet; the text is the current state, as in `the cluster is modifying`.
    NotYet(String),
}

/// How long a wait continues although AWS cannot be reached any more.
const OUTAGE: Duration = Duration::from_secs(120);

/// The receiver of the goal of a wait and the current state.
#[derive(Clone)]
struct Report(Arc<dyn Fn(&str) + Send + Sync>);

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Report")
    }
}

/// Polls until a deadline, and stops at once when it is cancelled.
#[derive(Debug, Clone)]
pub struct Waiter {
    polling: Polling,
    deadline: Instant,
    cancelled: CancellationToken,
    report: Option<Report>,
}

impl Waiter {
    /// Waits at most `timeout` from now, over all waits together.
    #[must_use]
    pub fn new(polling: Polling, timeout: Duration, cancelled: CancellationToken) -> Self {
        let far = Duration::from_secs(30 * 24 * 3600);
        Self { polling, deadline: Instant::now() + timeout.min(far), cancelled, report: None }
    }

    /// The same, and reports each poll except the last, as in `waiting for DB cluster "shop": it is modifying`.
    #[must_use]
    pub fn reporting(self, report: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { report: Some(Report(Arc::new(report))), ..self }
    }

    /// The same for at most `grace`, and never past its own deadline.
    #[must_use]
    pub fn at_most(&self, grace: Duration) -> Self {
        Self { deadline: self.deadline.min(Instant::now() + grace), ..self.clone() }
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Fails if the operation was cancelled. Used between two calls.
    pub fn check_cancelled(&self, doing: &str) -> Result<()> {
        match self.cancelled.is_cancelled() {
            true => Err(Error::new(Kind::Cancelled, doing, "cancelled")),
            false => Ok(()),
        }
    }

    /// Polls until `judge` returns done. An error of either ends the wait, except throttling, which counts as "not
    /// yet", and a temporary failure of the network during the wait.
    pub async fn until<S, T, F, L, J>(&self, doing: &str, mut look: L, mut judge: J) -> Result<T>
    where
        L: FnMut() -> F,
        F: Future<Output = Result<S>>,
        J: FnMut(S) -> Result<Seen<T>>,
    {
        let mut pause = self.polling.first;
        let mut last_seen = None;
        loop {
            self.check_cancelled(doing)?;
            let answer = look().await;
            if answer.is_ok() {
                last_seen = Some(Instant::now());
            }
            let is_passing = |error: &Error| match error.kind {
                Kind::Throttled => true,
                Kind::Network => last_seen.is_some_and(|seen: Instant| seen.elapsed() < OUTAGE),
                _ => false,
            };
            let state = match answer.and_then(&mut judge) {
                Ok(Seen::Done(value)) => return Ok(value),
                Ok(Seen::NotYet(state)) => state,
                Err(error) if is_passing(&error) => {
                    tell_of_throttling(&error);
                    error.to_string()
                }
                Err(error) => return Err(error),
            };
            tracing::debug!(doing, state, "waiting");
            if let Some(Report(report)) = &self.report {
                report(&format!("{doing}: {state}"));
            }
            self.pause(doing, &state, pause).await?;
            pause = (pause + pause / 2).min(self.polling.longest);
        }
    }

    /// Makes `call` until it succeeds or fails permanently: retries after a busy object or throttling until the
    /// deadline.
    pub async fn retry<T, F, C>(&self, doing: &str, mut call: C) -> Result<T>
    where
        C: FnMut() -> F,
        F: Future<Output = Result<T>>,
    {
        let mut pause = self.polling.first;
        loop {
            self.check_cancelled(doing)?;
            match call().await {
                Err(error) if error.is_retryable() => {
                    tell_of_throttling(&error);
                    if let Some(Report(report)) = &self.report {
                        report(&error.to_string());
                    }
                    if self.pause(doing, "", pause).await.is_err_and(|stop| stop.kind == Kind::Timeout) {
                        return Err(error.hint("It did not change until the timeout"));
                    }
                    self.check_cancelled(doing)?;
                }
                done => return done,
            }
            pause = (pause + pause / 2).min(self.polling.longest);
        }
    }

    async fn pause(&self, doing: &str, state: &str, pause: Duration) -> Result<()> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(Error::new(Kind::Timeout, doing, format!("timed out: {state}")));
        }
        let until = (now + pause).min(self.deadline);
        tokio::select! {
            () = self.cancelled.cancelled() => Err(Error::new(Kind::Cancelled, doing, format!("cancelled: {state}"))),
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }
}

/// Logs throttling at the level that is shown by default, so that people can see why nothing happens.
fn tell_of_throttling(error: &Error) {
    match error.kind {
        Kind::Throttled => tracing::warn!(%error, "AWS throttles this call: it is tried again"),
        _ => tracing::debug!(%error, "refused for now"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn waiter(seconds: u64) -> Waiter {
        Waiter::new(Polling::default(), Duration::from_secs(seconds), CancellationToken::new())
    }

    fn never(state: String) -> Result<Seen<()>> {
        Ok(Seen::NotYet(state))
    }

    fn busy() -> Error {
        Error::new(Kind::InvalidState, "a", "busy")
    }

    #[tokio::test(start_paused = true)]
    async fn looks_until_done() {
        let looks = Cell::new(0);
        let (reports, seen) = std::sync::mpsc::channel();
        let done = waiter(60)
            .reporting(move |text| reports.send(text.to_owned()).unwrap_or_default())
            .until(
                "waiting",
                || async { Ok(looks.replace(looks.get() + 1)) },
                |look| Ok(if look == 3 { Seen::Done("there") } else { Seen::NotYet("modifying".to_owned()) }),
            )
            .await;
        assert_eq!(done.unwrap(), "there");
        assert_eq!(looks.get(), 4);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["waiting: modifying"; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_to_its_limit() {
        let start = Instant::now();
        let mut at = Vec::new();
        let _ = waiter(60)
            .until(
                "waiting",
                || async { Ok(start.elapsed().as_secs()) },
                |seconds| {
                    at.push(seconds);
                    never(String::new())
                },
            )
            .await;
        assert_eq!(at, [0, 1, 2, 4, 8, 13, 20, 30, 40, 50, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_says_what_it_saw_last() {
        let error = waiter(5)
            .until("waiting for DB cluster \"shop\"", || async { Ok("it is modifying".to_owned()) }, never)
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::Timeout);
        assert_eq!(error.to_string(), "waiting for DB cluster \"shop\": timed out: it is modifying");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_a_pause() {
        let token = CancellationToken::new();
        let waiter = Waiter::new(Polling::default(), Duration::from_secs(3600), token.clone());
        let waiting = waiter.until("waiting", || async { Ok(String::new()) }, never);
        let (ended, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            token.cancel();
        });
        assert_eq!(ended.unwrap_err().kind, Kind::Cancelled);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_ends_the_wait() {
        let ended = waiter(60).until("waiting", || async { Err(Error::new(Kind::NotFound, "a", "b")) }, never).await;
        assert_eq!(ended.unwrap_err().kind, Kind::NotFound);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_is_gone_for_a_while_is_waited_for() {
        let start = Instant::now();
        let look = |back: u64| {
            move || async move {
                match start.elapsed().as_secs() {
                    seconds if (10..back).contains(&seconds) => Err(Error::new(Kind::Network, "a", "no route")),
                    seconds => Ok(seconds),
                }
            }
        };
        let judge = |seconds| Ok(if seconds > 400 { Seen::Done(()) } else { Seen::NotYet(String::new()) });
        assert!(waiter(3600).until("waiting", look(60), judge).await.is_ok());
        let start = Instant::now();
        let look = || async move {
            match start.elapsed().as_secs() {
                0..10 => Ok(0),
                _ => Err(Error::new(Kind::Network, "a", "no route")),
            }
        };
        let gone = waiter(3600).until("waiting", look, judge).await.unwrap_err();
        assert_eq!(gone.kind, Kind::Network);
        assert!((110..200).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        let never = || async { Err::<u64, _>(Error::new(Kind::Network, "a", "no route")) };
        assert_eq!(waiter(60).until("waiting", never, judge).await.unwrap_err().kind, Kind::Network);
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_object_is_tried_again() {
        let calls = Cell::new(0);
        let (reports, seen) = std::sync::mpsc::channel();
        let done = waiter(60)
            .reporting(move |text| reports.send(text.to_owned()).unwrap_or_default())
            .retry("rebooting", || async {
                calls.set(calls.get() + 1);
                if calls.get() < 3 { Err(busy()) } else { Ok(()) }
            })
            .await;
        assert!(done.is_ok());
        assert_eq!(calls.get(), 3);
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["a: busy"; 2], "whoever waits is told why");
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_object_is_reported_at_the_deadline() {
        let error = waiter(7).retry("rebooting", || async { Err::<(), _>(busy()) }).await.unwrap_err();
        assert_eq!(error.kind, Kind::InvalidState);
        assert_eq!(error.hint.as_deref(), Some("It did not change until the timeout"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_never_passes_the_deadline() {
        let start = Instant::now();
        let _ =
            waiter(5).at_most(Duration::from_secs(60)).until("waiting", || async { Ok(String::new()) }, never).await;
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}
