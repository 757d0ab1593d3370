// SPDX-License-Identifier: MPL-2.0

//! Idle connections, each kept for its database, and those that are about to come back.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// Connections by their databases.
pub(super) struct Shelf<C> {
    /// The one that was used last comes last.
    idle: Mutex<Vec<(Arc<str>, C)>>,
    /// How many connections to each database are in use for something that ends soon.
    busy: Mutex<HashMap<Arc<str>, usize>>,
    ended: Notify,
}

impl<C> Default for Shelf<C> {
    fn default() -> Self {
        Self { idle: Mutex::default(), busy: Mutex::default(), ended: Notify::new() }
    }
}

impl<C> Shelf<C> {
    /// Takes the most recently used open connection to this database.
    pub(super) fn take(&self, database: &Arc<str>, is_open: impl Fn(&C) -> bool) -> Option<C> {
        let mut idle = lock(&self.idle);
        idle.retain(|(_, connection)| is_open(connection));
        let at = idle.iter().rposition(|(of, _)| of == database)?;
        Some(idle.remove(at).1)
    }

    /// Takes the connection that is missed least.
    pub(super) fn take_least(&self) -> Option<C> {
        let mut idle = lock(&self.idle);
        let databases: Vec<&str> = idle.iter().map(|(of, _)| &**of).collect();
        let at = least(&databases)?;
        Some(idle.remove(at).1)
    }

    /// Keeps a connection.
    pub(super) fn put(&self, database: &Arc<str>, connection: C) {
        lock(&self.idle).push((Arc::clone(database), connection));
    }

    /// Counts a use that ends soon.
    pub(super) fn begin(&self, database: &Arc<str>) {
        *lock(&self.busy).entry(Arc::clone(database)).or_default() += 1;
    }

    /// That use has ended, and its connection is back unless it broke.
    pub(super) fn end(&self, database: &Arc<str>) {
        let mut busy = lock(&self.busy);
        if let Some(uses) = busy.get_mut(database) {
            *uses -= 1;
            if *uses == 0 {
                busy.remove(database);
            }
        }
        drop(busy);
        self.ended.notify_waiters();
    }

    /// Takes a connection to this database that comes back within so long. None at once where none is about to.
    pub(super) async fn take_soon(
        &self,
        database: &Arc<str>,
        within: Duration,
        is_open: impl Fn(&C) -> bool,
    ) -> Option<C> {
        let coming = async {
            loop {
                let mut ended = pin!(self.ended.notified());
                // What ends from now on is heard.
                ended.as_mut().enable();
                if let Some(connection) = self.take(database, &is_open) {
                    return Some(connection);
                }
                if !lock(&self.busy).contains_key(database) {
                    return None;
                }
                ended.await;
            }
        };
        timeout(within, coming).await.ok().flatten()
    }
}

/// Which of these goes first: the oldest whose database has a newer one, or else the oldest.
fn least(databases: &[&str]) -> Option<usize> {
    let has_newer = |at: usize| databases[at + 1..].contains(&databases[at]);
    (0..databases.len()).find(|at| has_newer(*at)).or(if databases.is_empty() { None } else { Some(0) })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const SOON: Duration = Duration::from_secs(1);

    fn name(text: &str) -> Arc<str> {
        text.into()
    }

    #[test]
    fn a_database_keeps_one_as_long_as_another_has_two() {
        for (idle, expected) in [
            (&[][..], None),
            (&["a", "b"], Some(0)),
            (&["a", "b", "b"], Some(1)),
            (&["a", "b", "c", "b", "a"], Some(0)),
        ] {
            assert_eq!(least(idle), expected, "{idle:?}");
        }
    }

    #[test]
    fn the_one_that_was_used_last_is_taken_of_those_that_are_open() {
        let (shelf, database) = (Shelf::default(), name("a"));
        [1, 2, 3].iter().for_each(|connection| shelf.put(&database, *connection));
        shelf.put(&name("b"), 4);
        assert_eq!(shelf.take(&database, |connection| *connection != 3), Some(2));
        assert_eq!(shelf.take_least(), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_one_that_comes_back() {
        let (shelf, database) = (Shelf::default(), name("a"));
        shelf.begin(&database);
        let mut waiting = Box::pin(shelf.take_soon(&database, SOON, |_| true));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        shelf.put(&database, 1);
        shelf.end(&database);
        assert_eq!(waiting.await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_does_not_come() {
        let (shelf, database) = (Shelf::<u8>::default(), name("a"));
        assert_eq!(shelf.take_soon(&database, SOON, |_| true).now_or_never(), Some(None), "none is in use");
        shelf.begin(&database);
        assert_eq!(shelf.take_soon(&name("b"), SOON, |_| true).now_or_never(), Some(None), "another database's is");
        assert_eq!(shelf.take_soon(&database, SOON, |_| true).await, None, "it stays in use");
        let mut waiting = Box::pin(shelf.take_soon(&database, SOON, |_| true));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        shelf.end(&database);
        assert_eq!(waiting.as_mut().now_or_never(), Some(None), "it broke");
    }
}
