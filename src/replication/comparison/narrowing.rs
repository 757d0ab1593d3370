// SPDX-License-Identifier: MPL-2.0

//! From the sums of many rows to the few rows that are fetched: those of buckets that differ, which are split as long as that is
//! cheaper than fetching their rows. Pure.

use std::collections::BTreeMap;

use crate::postgres::comparison::{Fineness, Sum};

/// What one side says of each bucket.
pub(super) type Sums = BTreeMap<i64, Sum>;

/// Fetching a row takes about as long as hashing so many: it is sorted, sent and compared.
const DEARER: u64 = 100;

/// How many parts are looked at together: few enough to hold the sums of all in memory.
const PARTS: u64 = 16_384;

/// Splitting once more is not worth reading a table for less.
const FEWEST_PARTS: u64 = 4;

/// Keys that are still together after so many times stay so: as a rule they are the same.
const TIMES: usize = 2;

/// Buckets of which each has a row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Narrowing {
    /// How many rows both sides have at most.
    table: u64,
    /// How often buckets were split.
    times: usize,
    /// How fine the buckets are.
    pub(super) fineness: Fineness,
    /// The buckets.
    pub(super) buckets: Vec<i64>,
    /// How many rows they have at most.
    rows: u64,
    /// How many others differ too, and are not looked into.
    pub(super) further: u64,
}

impl Narrowing {
    /// What differs of all buckets. Not more than one beyond `most`: it shows that there are more.
    pub(super) fn of(publisher: &Sums, subscriber: &Sums, most: usize) -> Self {
        let table = [publisher, subscriber].map(|sums| sums.values().map(|(count, _)| unsigned(*count)).sum());
        let [one, other]: [u64; 2] = table;
        let nothing = Self {
            table: one.max(other),
            times: 0,
            fineness: Fineness::FIRST,
            buckets: Vec::new(),
            rows: 0,
            further: 0,
        };
        nothing.with(publisher, subscriber, most)
    }

    /// How fine the buckets are to be split. None where their rows are fetched instead.
    pub(super) fn finer(&self) -> Option<Fineness> {
        let buckets = u64::try_from(self.buckets.len()).unwrap_or(u64::MAX).max(1);
        let parts = (PARTS / buckets).min(self.rows / buckets);
        let pays = self.rows.saturating_mul(DEARER) > self.table && parts >= FEWEST_PARTS && self.times < TIMES;
        // The power of two that is not larger: more parts would be more than are looked at together.
        pays.then(|| self.fineness.finer(1 << parts.ilog2())).flatten()
    }

    /// What differs of the parts of these buckets.
    pub(super) fn split(self, finer: Fineness, publisher: &Sums, subscriber: &Sums, most: usize) -> Self {
        Self { times: self.times + 1, fineness: finer, ..self }.with(publisher, subscriber, most)
    }

    fn with(self, publisher: &Sums, subscriber: &Sums, most: usize) -> Self {
        let all: BTreeMap<i64, (Option<&Sum>, Option<&Sum>)> = publisher
            .keys()
            .chain(subscriber.keys())
            .map(|bucket| (*bucket, (publisher.get(bucket), subscriber.get(bucket))))
            .collect();
        let differing: Vec<_> = all.into_iter().filter(|(_, (one, other))| one != other).collect();
        let (taken, left) = differing.split_at(differing.len().min(most.saturating_add(1)));
        let rows = |sum: &Option<&Sum>| sum.map_or(0, |(count, _)| unsigned(*count));
        Self {
            buckets: taken.iter().map(|(bucket, _)| *bucket).collect(),
            rows: taken.iter().map(|(_, (one, other))| rows(one).max(rows(other))).sum(),
            further: self.further + u64::try_from(left.len()).unwrap_or(u64::MAX),
            ..self
        }
    }
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buckets of so many rows each, whose sums are the same unless they are among the given ones.
    fn sums(buckets: i64, rows: i64, damaged: impl Fn(i64) -> bool) -> Sums {
        (0..buckets).map(|at| (at, (rows, if damaged(at) { "2" } else { "1" }.to_owned()))).collect()
    }

    fn narrowed(rows: i64, damaged: i64, most: usize) -> Narrowing {
        Narrowing::of(&sums(4096, rows, |_| false), &sums(4096, rows, |at| at < damaged), most)
    }

    #[test]
    fn what_differs_is_what_one_side_lacks_or_has_otherwise() {
        let publisher = Sums::from([(1, (2, "7".to_owned())), (2, (1, "5".to_owned())), (4, (3, "9".to_owned()))]);
        let subscriber = Sums::from([(1, (2, "7".to_owned())), (3, (1, "5".to_owned())), (4, (2, "9".to_owned()))]);
        let found = Narrowing::of(&publisher, &subscriber, 10);
        assert_eq!((found.buckets, found.rows, found.further), (vec![2, 3, 4], 5, 0));
    }

    #[test]
    fn one_more_than_is_named_is_looked_into_and_the_others_are_counted() {
        let found = narrowed(1, 10, 3);
        assert_eq!((found.buckets.len(), found.further), (4, 6));
    }

    #[test]
    fn large_buckets_are_split_until_their_rows_are_few_beside_the_table() {
        // 10 million rows: 300 buckets have 730,000 of them.
        let coarse = narrowed(2440, 300, 1000);
        let finer = coarse.finer().unwrap();
        assert_eq!(Some(finer), Fineness::FIRST.finer(32));
        let parts = 300 * 32;
        let fine = coarse.split(finer, &sums(parts, 76, |_| false), &sums(parts, 76, |at| at % 32 == 5), 1000);
        assert_eq!((fine.buckets.len(), fine.rows, fine.finer()), (300, 22_800, None));
    }

    #[test]
    fn rows_of_small_buckets_are_fetched() {
        assert_eq!(narrowed(3, 300, 1000).finer(), None, "a small table");
        assert_eq!(narrowed(2440, 4096, 5000).finer(), Fineness::FIRST.finer(4), "all of a large one");
        assert_eq!(narrowed(30, 1, 100).finer(), None, "few beside the table");
        assert_eq!(narrowed(2440, 0, 100).finer(), None, "nothing differs");
    }

    #[test]
    fn keys_that_stay_together_are_fetched_at_last() {
        let same = |sum: &str| Sums::from([(7, (1_000_000, sum.to_owned()))]);
        let mut found = Narrowing::of(&same("1"), &same("2"), 100);
        let mut times = 0;
        while let Some(finer) = found.finer() {
            found = found.split(finer, &same("1"), &same("2"), 100);
            times += 1;
        }
        assert_eq!(times, TIMES);
    }

    #[test]
    fn nobody_looks_at_more_parts_than_fit_in_memory() {
        for damaged in 100..=4096 {
            let finer = narrowed(1_000_000, damaged, 4096).finer().unwrap();
            let bits = (1..40).find(|bits| Fineness::FIRST.finer(1 << bits) == Some(finer)).unwrap();
            assert!(u64::try_from(damaged).unwrap() << bits <= PARTS, "{damaged}: {bits}");
        }
    }
}
