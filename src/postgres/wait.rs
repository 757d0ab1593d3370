// SPDX-License-Identifier: MPL-2.0

//! Waiting: the one loop that repeats a question until there is an answer.

use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::limits::Limits;

/// An error that may mean a temporary outage, such as a server that is restarting.
pub trait Outage {
    /// Whether it does mean one.
    fn is_outage(&self) -> bool;
}

impl Outage for Error {
    fn is_outage(&self) -> bool {
        self.is_transient()
    }
}

/// The pauses between questions: the first one, doubled each time up to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// Before the second question.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Pauses {
    /// A constant pause.
    pub const fn of(pause: Duration) -> Self {
        Self { first: pause, longest: pause }
    }

    fn after(self, pause: Duration) -> Duration {
        (pause * 2).min(self.longest)
    }
}

/// Why a wait ended without an answer.
#[derive(Debug)]
pub enum Ended<E> {
    /// The deadline has passed. If the last question met an outage, this is its error.
    TimeOver(Option<E>),
    /// A person asked to stop.
    Stopped,
    /// The question failed for good.
    Failed(E),
}

/// Waits between reads: `loop { if let Some(answer) = waiter.after(look().await).await? { … } }`.
///
/// An outage counts as no answer yet, until the deadline. The first read happens before limits are checked, so that an
/// answer that is already there is found. No read begins at the deadline: it would have no time to finish, and its
/// error would hide what is missing.
#[derive(Debug)]
pub struct Waiter<'a> {
    limits: &'a Limits,
    pauses: Pauses,
    pause: Duration,
}

impl<'a> Waiter<'a> {
    /// A waiter that has not waited yet.
    pub fn new(limits: &'a Limits, pauses: Pauses) -> Self {
        Self { limits, pauses, pause: pauses.first }
    }

    /// Returns the answer of a read, or waits until the next read is due and returns none.
    ///
    /// # Errors
    /// When the limits are reached, or the read failed for another reason than an outage.
    pub async fn after<T, E: Outage + std::fmt::Display>(
        &mut self,
        look: Result<Option<T>, E>,
    ) -> Result<Option<T>, Ended<E>> {
        let outage = match look {
            Ok(None) => None,
            Err(error) if error.is_outage() => {
                tracing::info!(cause = %error, "waiting for a server that may come back");
                Some(error)
            }
            Ok(answer) => return Ok(answer),
            Err(error) => return Err(Ended::Failed(error)),
        };
        let next = Instant::now() + self.pause;
        self.pause = self.pauses.after(self.pause);
        let last = self.limits.deadline.filter(|deadline| *deadline <= next);
        tokio::select! {
            biased;
            () = self.limits.cancel.cancelled() => Err(Ended::Stopped),
            () = tokio::time::sleep_until(last.unwrap_or(next)) => match last {
                Some(_) => Err(Ended::TimeOver(outage)),
                None => Ok(None),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[derive(Debug, PartialEq, Eq)]
    enum Trouble {
        Away,
        Refused,
    }

    impl Outage for Trouble {
        fn is_outage(&self) -> bool {
            *self == Self::Away
        }
    }

    impl std::fmt::Display for Trouble {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }

    async fn ask(
        limits: &Limits,
        answers: impl Fn(u32) -> Result<Option<u32>, Trouble>,
    ) -> (Result<u32, Ended<Trouble>>, u32) {
        let mut asked = 0;
        let mut waiter = Waiter::new(limits, Pauses::of(SECOND));
        loop {
            asked += 1;
            match waiter.after(answers(asked)).await {
                Ok(None) => {}
                Ok(Some(answer)) => return (Ok(answer), asked),
                Err(ended) => return (Err(ended), asked),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_lived_through_until_the_deadline() {
        let back = |at| if at < 4 { Err(Trouble::Away) } else { Ok(Some(at)) };
        assert!(matches!(ask(&Limits::default(), back).await, (Ok(4), 4)));
        let (ended, asked) = ask(&Limits::within(SECOND * 10), |_| Err(Trouble::Away)).await;
        assert!(matches!(ended, Err(Ended::TimeOver(Some(Trouble::Away)))) && asked >= 10, "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_ends_it_and_so_does_a_person() {
        assert!(matches!(
            ask(&Limits::default(), |_| Err(Trouble::Refused)).await,
            (Err(Ended::Failed(Trouble::Refused)), 1)
        ));
        let limits = Limits::default();
        limits.cancel.cancel();
        assert!(matches!(ask(&limits, |_| Ok(None)).await, (Err(Ended::Stopped), 1)));
        assert!(matches!(ask(&limits, |at| Ok(Some(at))).await, (Ok(1), 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_being_over_tells_of_no_outage_that_is_over() {
        let (ended, _) = ask(&Limits::within(SECOND), |_| Ok(None)).await;
        assert!(matches!(ended, Err(Ended::TimeOver(None))));
    }

    #[tokio::test(start_paused = true)]
    async fn no_look_begins_when_there_is_no_time_for_its_answer() {
        let limits = Limits::within(SECOND * 3);
        let (ended, asked) =
            ask(&limits, |_| if limits.passed().is_some() { Err(Trouble::Refused) } else { Ok(None) }).await;
        assert!(matches!(ended, Err(Ended::TimeOver(None))) && asked == 3, "{ended:?} {asked}");
    }
}
