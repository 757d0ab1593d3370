// SPDX-License-Identifier: MPL-2.0

//! Chooses the next job: several at a time, but never two for the same table, because these would wait for each other
//! and hold connections meanwhile.

use std::collections::{BTreeSet, VecDeque};

use crate::postgres::QualifiedName;

/// The waiting jobs, and the tables in use.
#[derive(Debug)]
pub(super) struct Queue<J> {
    waiting: VecDeque<(J, BTreeSet<QualifiedName>)>,
    busy: BTreeSet<QualifiedName>,
    running: usize,
    most: usize,
}

impl<J> Queue<J> {
    /// A schedule of these jobs, each with its tables, in the preferred order.
    pub(super) fn new(jobs: impl IntoIterator<Item = (J, BTreeSet<QualifiedName>)>, most: usize) -> Self {
        Self { waiting: jobs.into_iter().collect(), busy: BTreeSet::new(), running: 0, most: most.max(1) }
    }

    /// The first job whose tables are free, unless too many run.
    pub(super) fn next(&mut self) -> Option<(J, BTreeSet<QualifiedName>)> {
        if self.running >= self.most {
            return None;
        }
        let at = self.waiting.iter().position(|(_, tables)| tables.is_disjoint(&self.busy))?;
        let (job, tables) = self.waiting.remove(at)?;
        self.busy.extend(tables.iter().cloned());
        self.running += 1;
        Some((job, tables))
    }

    /// Records that a job has ended, so that its tables are free.
    pub(super) fn ended(&mut self, tables: &BTreeSet<QualifiedName>) {
        self.running -= 1;
        self.busy.retain(|table| !tables.contains(table));
    }

    /// Drops all waiting jobs.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(names: &str) -> BTreeSet<QualifiedName> {
        names.split('+').map(|name| QualifiedName::parse(name).unwrap()).collect()
    }

    #[test]
    fn no_two_want_the_same_table_at_a_time() {
        let jobs = ["a", "a", "b", "a+c", "c", "d"].into_iter().enumerate();
        let mut queue = Queue::new(jobs.map(|(at, names)| (at, tables(names))), 3);
        let next = |queue: &mut Queue<usize>| queue.next().map(|(job, _)| job);
        assert_eq!([next(&mut queue), next(&mut queue), next(&mut queue)], [Some(0), Some(2), Some(4)]);
        assert_eq!(next(&mut queue), None, "three run");
        queue.ended(&tables("b"));
        assert_eq!(next(&mut queue), Some(5), "the others want tables that are in use");
        queue.ended(&tables("a"));
        assert_eq!(next(&mut queue), Some(1));
        queue.ended(&tables("c"));
        assert_eq!(next(&mut queue), None);
        queue.ended(&tables("a"));
        assert_eq!(next(&mut queue), Some(3));
        queue.give_up();
        queue.ended(&tables("d"));
        assert_eq!(next(&mut queue), None);
    }
}
