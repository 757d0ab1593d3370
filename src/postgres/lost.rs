// SPDX-License-Identifier: MPL-2.0

//! What happened to a change whose connection broke.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::error::Result;
use super::limits::Limits;
use super::wait::{Pauses, Waiter};

/// How long to wait for a server that may be restarting.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to ask it meanwhile.
const POLL: Pauses = Pauses::of(Duration::from_millis(250));

/// Reads the server's state as soon as it answers again; `None` if it did not in time, or refused.
///
/// The result cannot change later, because the pool ends what a broken connection left running before it reads. Asks
/// at least once, even if the caller wants to stop.
pub async fn look_again<T, F>(limits: &Limits, fetch: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T>>,
{
    let patience = Instant::now() + PATIENCE;
    let deadline = limits.deadline.map_or(patience, |deadline| deadline.min(patience));
    let limits = Limits { deadline: Some(deadline), ..limits.clone() };
    let mut waiter = Waiter::new(&limits, POLL);
    loop {
        match waiter.after(fetch().await.map(Some)).await {
            Ok(None) => {}
            Ok(found) => return found,
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::error::{Cause, Error, Place};
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio_util::sync::CancellationToken;

    async fn asked(limits: &Limits, answers: impl Fn(u32) -> std::result::Result<u32, Cause>) -> (Option<u32>, u32) {
        let asked = AtomicU32::new(0);
        let place = || Place {
            address: String::new(),
            database: String::new(),
            role: String::new(),
            given: std::sync::Arc::default(),
        };
        let fetch = || {
            let answer = answers(asked.fetch_add(1, Ordering::Relaxed));
            std::future::ready(answer.map_err(|cause| Error::new("reading", place(), cause)))
        };
        let found = look_again(limits, fetch).await;
        (found, asked.into_inner())
    }

    fn away() -> Cause {
        Cause::ConnectTimeout(Duration::from_secs(1))
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_comes_back_is_waited_for() {
        let back = |at| if at < 3 { Err(away()) } else { Ok(at) };
        assert_eq!(asked(&Limits::default(), back).await, (Some(3), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_away_is_given_up_and_so_is_one_that_refuses() {
        let began = Instant::now();
        assert_eq!(asked(&Limits::default(), |_| Err(away())).await.0, None);
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 2);
        assert_eq!(asked(&Limits::within(POLL.first), |_| Err(away())).await.0, None);
        assert_eq!(asked(&Limits::default(), |_| Err(Cause::Cancelled)).await, (None, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_must_stop_asks_once() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let limits = Limits::default().cancelled_by(cancel);
        assert_eq!(asked(&limits, |_| Err(away())).await, (None, 1));
        assert_eq!(asked(&limits, Ok).await, (Some(0), 1));
    }
}
