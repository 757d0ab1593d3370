// SPDX-License-Identifier: MPL-2.0

//! The preflight: whether replicating a publisher's tables to a subscriber will work, what it will not copy, and how
//! large it is.

//!
//! Reading is separate from deciding: `facts` has the answers of both servers, and each of the other modules below
//! derives findings from them. These are pure.

mod activity;
mod cutover;
#[cfg(test)]
mod example;
mod facts;
mod indexes;
mod left;
mod meant;
mod planned_switch;
mod publications;
mod roles;
mod sequences;
mod servers;
mod size;
mod tables;
mod text;

use std::collections::BTreeSet;

use self::facts::Facts;
use super::error::Result;
use super::finding::{Finding, Severity};
use super::{Operation, Pair};
use crate::postgres::{Ident, QualifiedName};

/// What will be replicated, and how.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The publications to subscribe to; missing ones are findings.
    pub publications: BTreeSet<Ident>,
    /// Tables that will be published, in addition to those of the publications. Without both, all tables of the
    /// database.
    pub tables: BTreeSet<QualifiedName>,
    /// The role on the publisher that the subscription logs in as; by default the connection's.
    pub subscription_role: Option<Ident>,
    /// Whether a cutover is planned, so that the roles of both servers must be able to switch.
    pub cutover: bool,
    /// Whether changes will flow back after the cutover, so that the subscriber must be able to publish. Needs
    /// `cutover`.
    pub reverse: bool,
    /// The role on the subscriber that the way back logs in as; by default the connection's.
    pub reverse_role: Option<Ident>,
}

impl Question {
    /// Whether writes will move to the subscriber.
    pub(super) fn plans_cutover(&self) -> bool {
        self.cutover || self.reverse
    }
}

/// The result of a preflight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// All findings, in order.
    pub findings: Vec<Finding>,
    /// The amount of data.
    pub size: Size,
}

/// The amount of data to copy, by the estimates in the publisher's catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Size {
    /// How many tables there are, without partitioned ones.
    pub tables: u64,
    /// About how many rows they have.
    pub rows: u64,
    /// Their size on disk without indexes, in bytes.
    pub bytes: u64,
    /// The largest of them, largest first.
    pub largest: Vec<SizedTable>,
}

/// One of the largest tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizedTable {
    /// Its name.
    pub name: QualifiedName,
    /// About how many rows it has; none before the first ANALYZE.
    pub rows: Option<u64>,
    /// Its size on disk without indexes, in bytes.
    pub bytes: u64,
}

/// Checks both servers, and reports everything before anything is changed. It changes nothing itself, and uses one
/// connection to each server.
///
/// Facts that a role may not read become a finding.
///
/// # Errors
/// When one of the servers cannot be queried at all, or the operation is cancelled.
pub async fn preflight(operation: &Operation<'_>, pair: &Pair, question: &Question) -> Result<Report> {
    let facts = Box::pin(facts::read(operation, pair, question)).await?;
    Ok(decide(&facts))
}

/// All findings, in order, and the size.
fn decide(facts: &Facts) -> Report {
    let checks = [
        servers::find,
        roles::find,
        cutover::find,
        activity::find,
        publications::find,
        tables::find,
        indexes::find,
        sequences::find,
        text::find,
        left::find,
    ];
    let mut findings: Vec<_> = checks.into_iter().flat_map(|find| find(facts)).collect();
    findings.sort();
    findings.dedup();
    Report { findings, size: size::size(facts) }
}

impl Report {
    /// Whether no finding is an error.
    pub fn is_ok(&self) -> bool {
        self.count(Severity::Error) == 0
    }

    /// How many findings have that severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

#[cfg(test)]
mod tests {
    use super::example::{self, shown};
    use expect_test::expect;

    #[test]
    fn a_sound_pair_has_only_its_size_to_tell() {
        let report = super::decide(&example::facts());
        expect![""].assert_eq(&shown(&report.findings));
        assert!(report.is_ok());
        assert_eq!((report.size.tables, report.size.rows, report.size.bytes), (1, 1000, 8192));
    }

    #[test]
    fn what_was_not_looked_at_is_said() {
        let mut facts = example::facts();
        let (what, why) = ("the replication slots".to_owned(), "permission denied (42501)".to_owned());
        facts.unchecked.push(super::facts::Unchecked { place: super::super::Place::Subscriber, what, why });
        let report = super::decide(&facts);
        expect![[r#"
            unchecked: warning on subscriber, the replication slots: This could not be checked: the replication slots. permission denied (42501).
        "#]]
        .assert_eq(&shown(&report.findings));
        assert!(report.is_ok());
    }
}
