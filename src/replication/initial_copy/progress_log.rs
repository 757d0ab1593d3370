// SPDX-License-Identifier: MPL-2.0

//! The progress of the initial copy, table by table, in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::postgres::subscription::{Progress, SyncState};
use crate::postgres::{Ident, QualifiedName};

/// How often to show the copied rows of tables.
const PAUSE: Duration = Duration::from_secs(10);

/// What has been shown so far.
#[derive(Debug, Default)]
pub(super) struct ProgressLog {
    states: BTreeMap<QualifiedName, SyncState>,
    rows_at: Option<Instant>,
}

impl ProgressLog {
    /// Shows each table whose state has changed, and every ten seconds the number of copied rows.
    pub(super) fn show(&mut self, subscription: &Ident, progress: &Progress, now: Instant) {
        let subscription = subscription.as_str();
        let ready = progress.tables.len() - progress.left().count();
        for (table, state) in self.changed(progress) {
            let (table, state) = (table.to_text(), state.to_string());
            tracing::info!(subscription, table, state, ready, tables = progress.tables.len(), "initial copy");
        }
        if !progress.rows.is_empty() && self.is_time(now) {
            for (table, rows) in &progress.rows {
                tracing::info!(subscription, table = table.to_text(), rows, "initial copy");
            }
        }
    }

    fn changed<'a>(&mut self, progress: &'a Progress) -> Vec<(&'a QualifiedName, SyncState)> {
        let tables = progress.tables.iter().map(|(table, state)| (table, *state));
        let changed: Vec<_> = tables.filter(|(table, state)| self.states.get(*table) != Some(state)).collect();
        self.states.extend(changed.iter().map(|(table, state)| ((*table).clone(), *state)));
        changed
    }

    fn is_time(&mut self, now: Instant) -> bool {
        let is_time = self.rows_at.is_none_or(|shown| now.duration_since(shown) >= PAUSE);
        if is_time {
            self.rows_at = Some(now);
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(tables: &[(&str, SyncState)]) -> Progress {
        let tables = tables.iter().map(|(name, state)| (QualifiedName::parse(name).unwrap(), *state));
        Progress { tables: tables.collect(), ..Progress::default() }
    }

    #[test]
    fn a_table_is_shown_when_it_gets_further() {
        let mut log = ProgressLog::default();
        let mut shown = |tables: &[(&str, SyncState)]| {
            let progress = progress(tables);
            log.changed(&progress)
                .into_iter()
                .map(|(table, state)| format!("{}: {state}", table.to_text()))
                .collect::<Vec<_>>()
        };
        let begun = [("a", SyncState::Copying), ("b", SyncState::Initializing)];
        assert_eq!(shown(&begun), ["public.a: copying", "public.b: not begun"]);
        assert_eq!(shown(&begun), [""; 0]);
        assert_eq!(shown(&[("a", SyncState::Ready), ("b", SyncState::Initializing)]), ["public.a: ready"]);
    }

    #[test]
    fn rows_are_shown_now_and_then() {
        let mut log = ProgressLog::default();
        let start = Instant::now();
        assert!(log.is_time(start) && !log.is_time(start + PAUSE / 2) && log.is_time(start + PAUSE));
    }
}
