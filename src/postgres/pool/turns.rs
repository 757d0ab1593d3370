// SPDX-License-Identifier: MPL-2.0

//! Whose turn it is to use a connection.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::postgres::error::Cause;
use crate::postgres::sql::{Scope, Statement};

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::postgres) enum Purpose {
    /// Reads, which end soon: they do not wait long for others' locks.
    Read,
    /// Changes that usually end soon, and wait only for a lock.
    Change,
    /// Work that may take minutes or hours: it waits for other transactions or servers, or is held.
    Long,
}

impl Purpose {
    /// The purpose of running these statements.
    pub(in crate::postgres) fn of(statements: &[Statement]) -> Self {
        let changes = || statements.iter().filter(|statement| !statement.is_wait());
        if changes().any(|statement| statement.scope() == Scope::Alone) {
            Self::Long
        } else if changes().next().is_some() {
            Self::Change
        } else {
            Self::Read
        }
    }
}

/// Permits by purpose. Each purpose takes its own permit and those of all shorter purposes, so that shorter ones always
/// have some left.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The right to use one connection.
pub(super) struct Turn {
    _permits: Vec<OwnedSemaphorePermit>,
}

impl Turns {
    /// For so many connections: half of them for long work, all but one for changes. A single connection is for all.
    pub(super) fn new(most: usize) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Self { all: permits(most), changes: permits(most.saturating_sub(1)), long: permits(most / 2) }
    }

    /// Waits for a turn: first come, first served, within a purpose.
    pub(super) async fn take(&self, purpose: Purpose) -> Result<Turn, Cause> {
        let stages = [&self.long, &self.changes, &self.all];
        let from = match purpose {
            Purpose::Long => 0,
            Purpose::Change => 1,
            Purpose::Read => 2,
        };
        let mut permits = Vec::with_capacity(stages.len());
        for stage in &stages[from..] {
            let permit = Arc::clone(stage).acquire_owned().await;
            permits.push(permit.map_err(|error| Cause::Unexpected(error.to_string()))?);
        }
        Ok(Turn { _permits: permits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// How many more can be taken at once.
    fn free(turns: &Turns, purpose: Purpose, held: &mut Vec<Turn>) -> usize {
        let before = held.len();
        held.extend(std::iter::from_fn(|| turns.take(purpose).now_or_never().map(Result::unwrap)));
        held.len() - before
    }

    #[test]
    fn what_takes_long_leaves_some_for_what_does_not() {
        for (most, long, changes, reads) in [(10, 5, 4, 1), (4, 2, 1, 1), (3, 1, 1, 1), (2, 1, 0, 1), (1, 1, 0, 0)] {
            let (turns, held) = (Turns::new(most), &mut Vec::new());
            let found = [Purpose::Long, Purpose::Change, Purpose::Read].map(|purpose| free(&turns, purpose, held));
            assert_eq!(found, [long, changes, reads], "of {most}");
            held.clear();
            assert_eq!(free(&turns, Purpose::Read, held), most);
        }
    }

    #[test]
    fn who_comes_first_is_served_first() {
        let turns = Turns::new(1);
        let held = turns.take(Purpose::Long).now_or_never();
        let (mut first, mut second) = (Box::pin(turns.take(Purpose::Read)), Box::pin(turns.take(Purpose::Read)));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(held);
        assert!(second.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_some());
    }

    #[test]
    fn statements_tell_what_they_take() {
        let (change, alone, wait) = (Statement::new("t"), Statement::alone("a"), Statement::wait_until("w"));
        assert_eq!(Purpose::of(&[]), Purpose::Read);
        assert_eq!(Purpose::of(std::slice::from_ref(&wait)), Purpose::Read);
        assert_eq!(Purpose::of(&[wait.clone(), change.clone()]), Purpose::Change);
        assert_eq!(Purpose::of(&[change, alone, wait]), Purpose::Long);
    }
}
