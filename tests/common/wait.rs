// SPDX-License-Identifier: MPL-2.0

//! Waiting for a condition with a deadline: the only way in which tests wait.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(20);

/// Asks until the answer is yes.
///
/// # Panics
/// When the deadline passes; the message says what the test waited for.
pub async fn wait_until(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) {
    wait_for(what, deadline, async || condition().await.then_some(())).await;
}

/// Asks until there is an answer, and returns it.
///
/// # Panics
/// When the deadline passes; the message says what the test waited for.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// The same for code outside a runtime.
///
/// # Panics
/// When the deadline passes; the message says what the test waited for.
pub fn block_until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} for {what}");
        std::thread::sleep(POLL);
    }
}
