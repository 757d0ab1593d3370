// SPDX-License-Identifier: MPL-2.0

//! One operation on two servers: its name, when it must end, and who receives its messages.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Error, Result};
use crate::postgres::{Ended, Limits, Pauses, Waiter};

/// How often to ask a server during a wait.
const POLL: Pauses = Pauses::of(Duration::from_millis(250));

/// The receiver of an operation's messages before its end.
pub trait Listener: Sync {
    /// Receives a warning that a person can act on; the operation continues.
    fn warn(&self, warning: Error);
}

/// An operation in progress.
#[derive(Clone)]
pub struct Operation<'a> {
    doing: String,
    limits: Limits,
    listener: &'a dyn Listener,
}

impl<'a> Operation<'a> {
    /// An operation such as `creating subscription "shop"`.
    pub fn new(doing: impl Into<String>, limits: Limits, listener: &'a dyn Listener) -> Self {
        Self { doing: doing.into(), limits, listener }
    }

    /// The same operation, with this time as its limit.
    #[must_use]
    pub fn within(&self, time: Duration) -> Self {
        let deadline = Instant::now() + time;
        let deadline = self.limits.deadline.map_or(deadline, |earlier| earlier.min(deadline));
        Self { limits: Limits { deadline: Some(deadline), ..self.limits.clone() }, ..self.clone() }
    }

    /// What is being done, in front of every error.
    pub fn doing(&self) -> &str {
        &self.doing
    }

    /// When it must end.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a person has asked to stop.
    pub fn is_stopped(&self) -> bool {
        self.limits.cancel.is_cancelled()
    }

    /// An error of this operation.
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::new(format!("{}: {what}", self.doing))
    }

    /// Sends a warning that a person can act on.
    pub fn warn(&self, warning: Error) {
        self.listener.warn(warning);
    }

    /// Fails once a person has asked to stop.
    ///
    /// # Errors
    /// When the operation was cancelled.
    pub fn go_on(&self) -> Result<()> {
        if self.is_stopped() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Does work that may be abandoned at any moment, such as reading, and abandons it once a person has asked to stop.
    ///
    /// # Errors
    /// The error of the work, or that the operation was cancelled.
    pub async fn unless_stopped<T, E: Into<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T> {
        tokio::select! {
            biased;
            result = work => result.map_err(Into::into),
            () = self.limits.cancel.cancelled() => Err(Error::cancelled()),
        }
    }

    /// A wait that reads every quarter of a second, and also waits for unavailable servers.
    pub fn waiting(&self) -> Waiting<'_> {
        Waiting(Waiter::new(&self.limits, POLL))
    }
}

/// A wait of an operation: `loop { if let Some(answer) = waiting.after(look().await).await? { return Ok(answer) } }`.
pub struct Waiting<'a>(Waiter<'a>);

impl Waiting<'_> {
    /// Returns what a look has found, or waits until the next look is due and returns none.
    ///
    /// # Errors
    /// Once the time is over: the missing state, or the outage. Otherwise that the operation was cancelled, or
    /// the error of the look.
    pub async fn after<T>(&mut self, look: Result<Look<T>>) -> Result<Option<T>> {
        let (look, missing) = match look {
            Ok(Look::There(answer)) => (Ok(Some(answer)), None),
            Ok(Look::NotYet(missing)) => (Ok(None), Some(missing)),
            Err(error) => (Err(error), None),
        };
        self.0.after(look).await.map_err(|ended| match ended {
            Ended::TimeOver(outage) => outage.or(missing).unwrap_or_else(|| Error::new("the time is over")),
            Ended::Stopped => Error::cancelled(),
            Ended::Failed(error) => error,
        })
    }
}

/// The result of a look.
#[derive(Debug)]
pub enum Look<T> {
    /// The awaited value.
    There(T),
    /// It is still missing; this is the error if the time is over.
    NotYet(Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio_util::sync::CancellationToken;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Listener for Heard {
        fn warn(&self, warning: Error) {
            self.0.lock().unwrap().push(warning.to_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_what_is_missing_once_the_time_is_over() {
        let heard = Heard::default();
        let operation = Operation::new("joining", Limits::within(Duration::from_secs(1)), &heard);
        let mut waiting = operation.waiting();
        let ended = loop {
            match waiting.after(Ok::<_, Error>(Look::<()>::NotYet(operation.error("it lags")))).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(ended.to_string(), "joining: it lags");
        assert_eq!(operation.waiting().after(Ok(Look::There(7))).await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn a_person_who_stops_is_heard() {
        let stop = CancellationToken::new();
        stop.cancel();
        let heard = Heard::default();
        let operation = Operation::new("joining", Limits::default().cancelled_by(stop), &heard);
        let waits = operation.unless_stopped(std::future::pending::<Result<()>>());
        assert_eq!(waits.await.unwrap_err().to_string(), "the operation was cancelled");
        assert!(operation.go_on().is_err());
        operation.warn(operation.error("it is late"));
        assert_eq!(*heard.0.lock().unwrap(), ["joining: it is late"]);
    }
}
