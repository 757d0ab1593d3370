// SPDX-License-Identifier: MPL-2.0

//! The speed of a replication, from several looks at it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::postgres::{Ident, QualifiedName};
use crate::replication::status::{Status, TableStatus};

/// A rate covers the looks within this time: long enough not to jump, short enough to follow changes.
const WINDOW: Duration = Duration::from_secs(10);
/// How many values of the lag are kept.
const LAGS: usize = 30;

/// The results of earlier looks.
#[derive(Debug, Default)]
pub struct Pace {
    copies: BTreeMap<(Ident, QualifiedName), VecDeque<Sample>>,
    lags: BTreeMap<Ident, VecDeque<u64>>,
}

/// The progress of a copy at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    at: Duration,
    rows: u64,
    bytes: u64,
}

/// The speed of a copy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Speed {
    /// Rows a second; none before the second look.
    pub rows: Option<f64>,
    /// Bytes a second; none before the second look.
    pub bytes: Option<f64>,
    /// The remaining time at that rate; none if the number of rows is unknown or was exceeded, or if the copy makes
    /// no progress.
    pub left: Option<Duration>,
}

impl Pace {
    /// Adds a look, at this time after the first one.
    pub fn note(&mut self, at: Duration, statuses: &[Status]) {
        let mut copies = BTreeMap::new();
        for status in statuses {
            for table in status.tables.iter().filter(|table| table.is_copying) {
                let key = (status.name.clone(), table.name.clone());
                let mut samples = self.copies.remove(&key).unwrap_or_default();
                add(&mut samples, at, table);
                copies.insert(key, samples);
            }
            if let Some(lag) = status.lag_bytes {
                let lags = self.lags.entry(status.name.clone()).or_default();
                lags.push_back(lag);
                lags.drain(..lags.len().saturating_sub(LAGS));
            }
        }
        // Tables that are no longer being copied have no rate.
        self.copies = copies;
    }

    /// The speed of a table's copy.
    pub fn speed(&self, subscription: &Ident, table: &TableStatus) -> Speed {
        let samples = self.copies.get(&(subscription.clone(), table.name.clone()));
        let Some((first, last)) = samples.and_then(|samples| Some((samples.front()?, samples.back()?))) else {
            return Speed::default();
        };
        let seconds = last.at.saturating_sub(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return Speed::default();
        }
        let rows = (last.rows - first.rows) as f64 / seconds;
        let bytes = (last.bytes - first.bytes) as f64 / seconds;
        let missing = table.rows_estimate.and_then(|all| all.checked_sub(last.rows)).filter(|missing| *missing > 0);
        let left = missing.and_then(|missing| Duration::try_from_secs_f64(missing as f64 / rows).ok());
        Speed { rows: Some(rows), bytes: Some(bytes), left }
    }

    /// The lag of a subscription at the last looks, oldest first, in bytes.
    pub fn lags(&self, subscription: &Ident) -> Vec<u64> {
        self.lags.get(subscription).into_iter().flatten().copied().collect()
    }
}

fn add(samples: &mut VecDeque<Sample>, at: Duration, table: &TableStatus) {
    let Some(rows) = table.rows_copied else { return samples.clear() };
    let sample = Sample { at, rows, bytes: table.bytes_copied.unwrap_or_default() };
    // A copy that has started again has no relation to the one before.
    if samples.back().is_some_and(|last| last.rows > sample.rows || last.bytes > sample.bytes) {
        samples.clear();
    }
    samples.push_back(sample);
    while samples.len() > 2 && samples.get(1).is_some_and(|second| at.saturating_sub(second.at) >= WINDOW) {
        samples.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{copying, named, well};

    fn look(rows: u64, bytes: u64) -> Status {
        Status { tables: vec![copying("events", rows, 1_000, bytes, 8_192)], lag_bytes: Some(rows), ..well("shop") }
    }

    fn speed(pace: &Pace, status: &Status) -> Speed {
        pace.speed(&named("shop"), &status.tables[0])
    }

    #[test]
    fn two_looks_make_a_rate() {
        let mut pace = Pace::default();
        pace.note(Duration::ZERO, &[look(100, 1_000)]);
        assert_eq!(speed(&pace, &look(100, 1_000)), Speed::default());
        pace.note(Duration::from_secs(2), &[look(300, 5_000)]);
        let expected = Speed { rows: Some(100.0), bytes: Some(2_000.0), left: Some(Duration::from_secs(7)) };
        assert_eq!(speed(&pace, &look(300, 5_000)), expected);
        assert_eq!(pace.lags(&named("shop")), [100, 300]);
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut pace = Pace::default();
        for second in 0..60 {
            let rows = if second < 30 { 0 } else { (second - 29) * 10 };
            pace.note(Duration::from_secs(second), &[look(rows, 0)]);
        }
        assert_eq!(speed(&pace, &look(300, 0)).rows, Some(10.0));
        assert_eq!(pace.lags(&named("shop")).len(), LAGS);
    }

    #[test]
    fn a_copy_that_begins_again_or_stands_still_has_no_end_in_sight() {
        let mut pace = Pace::default();
        pace.note(Duration::ZERO, &[look(500, 9)]);
        pace.note(Duration::from_secs(1), &[look(10, 1)]);
        assert_eq!(speed(&pace, &look(10, 1)), Speed::default());
        pace.note(Duration::from_secs(2), &[look(10, 1)]);
        assert_eq!(speed(&pace, &look(10, 1)), Speed { rows: Some(0.0), bytes: Some(0.0), left: None });
        pace.note(Duration::from_secs(3), &[look(2_000, 1)]);
        assert_eq!(speed(&pace, &look(2_000, 1)).left, None, "there are more rows than were estimated");
        pace.note(Duration::from_secs(4), &[well("shop")]);
        assert_eq!(speed(&pace, &look(2_000, 1)), Speed::default());
    }
}
