// SPDX-License-Identifier: MPL-2.0

//! Derives the likely causes of an unhealthy subscription from the evidence, the most likely first. Pure.
//!
//! Only the log of the subscriber's server has the error, and it cannot be read from here. So all possible reasons
//! are compared with the observed state: a cause counts if it can stop the part that makes no progress.

mod server;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::server::{Names, Refusal, Shortage};
pub(super) use self::tables::{Flaw, Trying, Weight};
use super::Cause;
use super::watching::{Health, Worker};
use crate::postgres::settings::Login;
use crate::postgres::slot::{Pending, Position};
use crate::postgres::subscription::Blocked;
use crate::postgres::{Ident, QualifiedName};

/// How many causes are reported.
const TOLD: usize = 10;

/// The evidence about one subscription.
#[derive(Debug, Clone)]
pub(super) struct Evidence {
    /// The names of the two sides.
    pub(super) names: Names,
    /// Its observed health.
    pub(super) health: Health,
    /// The name of its slot, if it has one.
    pub(super) slot: Option<Ident>,
    /// Its slot's position on the publisher: none if unknown, `Some(None)` if there is no slot.
    pub(super) position: Option<Option<Position>>,
    /// Whether its worker has a connection at the moment.
    pub(super) is_connected: bool,
    /// Its publications that are missing on the publisher.
    pub(super) missing_publications: Vec<Ident>,
    /// Whether the publisher continues without them (Postgres 18).
    pub(super) skips_publications: bool,
    /// Why the publisher cannot be queried, or its answer to the subscription's connection.
    pub(super) refusal: Option<Refusal>,
    /// The role that the subscription logs in as, with its rights; none if unknown.
    pub(super) login: Option<(Ident, Option<Login>)>,
    /// The resources that the servers have run out of.
    pub(super) shortages: Vec<Shortage>,
    /// Whether the subscriber is a standby.
    pub(super) is_standby: bool,
    /// How many errors have disabled it; none if it is enabled, or was disabled in another way.
    pub(super) disabling_errors: Option<u64>,
    /// The flaws of its tables.
    pub(super) flaws: BTreeMap<QualifiedName, Vec<Flaw>>,
    /// The next changes of its slot; none if these could not be read.
    pub(super) pending: Option<Pending>,
    /// Its workers that have waited long for locks.
    pub(super) blocked: Vec<Blocked>,
}

/// The likely causes, the most likely first, and whether one of them is more than a guess. None if the subscription is
/// healthy, or was disabled on purpose.
pub(super) fn told(evidence: &Evidence) -> (Vec<Cause>, bool) {
    let found = weighed(evidence);
    let has_reason = found.iter().any(|(weight, _)| *weight < Weight::Possible);
    let mut told = BTreeSet::new();
    let causes = found.into_iter().map(|(_, cause)| cause);
    (causes.filter(|cause| told.insert(cause.message.clone())).take(TOLD).collect(), has_reason)
}

fn weighed(evidence: &Evidence) -> Vec<(Weight, Cause)> {
    let mut found: Vec<(Weight, Cause)> =
        evidence.lasting().into_iter().map(|cause| (Weight::Certain, cause)).collect();
    found.extend(evidence.blocked.iter().map(|blocked| (Weight::Certain, server::blocked(blocked))));
    if let Some(errors) = evidence.disabling_errors {
        found.extend(evidence.of_changes());
        found.extend(evidence.of_copies(None));
        found.sort_by_key(|(weight, _)| *weight);
        found.push((Weight::Possible, server::disabled_by_error(&evidence.names, errors)));
    } else if !evidence.health.is_well() {
        found.extend(evidence.of_worker());
        found.extend(evidence.of_copies(Some(&evidence.health.failing)));
        found.sort_by_key(|(weight, _)| *weight);
        found.extend(evidence.left_over(found.is_empty()).map(|cause| (Weight::Possible, cause)));
    } else if !evidence.health.conflicts.is_empty() {
        found.push((Weight::Possible, server::conflicts(&listed(&evidence.health.conflicts))));
    }
    found
}

/// One of each cause, for the guide.
pub(super) fn examples() -> Vec<Cause> {
    let Ok(orders) = QualifiedName::parse("orders") else { return Vec::new() };
    server::examples().into_iter().chain(Flaw::examples().iter().map(|flaw| flaw.cause(&orders))).collect()
}

fn listed(kinds: &BTreeSet<&'static str>) -> String {
    kinds.iter().copied().collect::<Vec<_>>().join(", ")
}

impl Evidence {
    /// Causes that do not go away, even if they have no effect at the moment.
    fn lasting(&self) -> Vec<Cause> {
        let (names, is_enabled) = (&self.names, self.health.worker != Worker::Disabled);
        let mut found = Vec::new();
        match (&self.slot, &self.position) {
            (Some(slot), Some(None)) if !self.is_connected => found.push(server::slot_missing(names, slot)),
            (Some(slot), Some(Some(position))) if position.is_lost() => {
                found.push(server::slot_lost(names, slot, position));
            }
            (Some(slot), Some(Some(position))) if is_enabled && !self.is_connected => {
                found.extend(server::slot_elsewhere(names, slot, position));
            }
            (None, _) if is_enabled => found.push(server::no_slot_name(names)),
            _ => {}
        }
        if is_enabled && !self.missing_publications.is_empty() {
            found.push(server::publication_missing(
                names,
                self.slot.as_ref(),
                &self.missing_publications,
                self.skips_publications,
            ));
        }
        found
    }

    /// Why the worker does not keep running.
    fn of_worker(&self) -> Vec<(Weight, Cause)> {
        if self.health.worker == Worker::Steady {
            return Vec::new();
        }
        let mut found: Vec<_> = self.of_start().into_iter().map(|cause| (Weight::Certain, cause)).collect();
        // If errors are counted, a worker that fails at its start has none.
        let applies = match self.health.apply_failed {
            Some(failed) => failed,
            None => !self.pending.as_ref().is_some_and(Pending::is_empty),
        };
        if applies && self.lasting().is_empty() && found.is_empty() {
            found.extend(self.of_changes());
        }
        found
    }

    /// Why the worker cannot start its work.
    fn of_start(&self) -> Vec<Cause> {
        if self.health.apply_failed == Some(true) {
            return Vec::new();
        }
        let names = &self.names;
        let mut found = Vec::new();
        found.extend(self.is_standby.then(server::standby));
        found.extend(self.refusal.as_ref().map(|refusal| server::refused(names, refusal)));
        if self.refusal.is_none() {
            found
                .extend(self.login.as_ref().and_then(|(role, login)| server::login_lacks(names, role, login.as_ref())));
        }
        if let (Some(slot), Some(Some(position))) = (&self.slot, &self.position)
            && position.active
            && !self.is_connected
            && position.reader.as_deref().is_some_and(|reader| reader != names.subscription.as_str())
        {
            found.push(server::slot_in_use(names, slot, position.reader.as_deref()));
        }
        let worker_needs = |shortage: &&Shortage| !matches!(shortage, Shortage::Slots);
        if found.is_empty() && self.health.worker == Worker::Away {
            found.extend(self.shortages.iter().filter(worker_needs).map(|shortage| server::shortage(names, *shortage)));
        }
        found
    }

    /// Causes that can stop sent changes.
    fn of_changes(&self) -> Vec<(Weight, Cause)> {
        let waiting = |table: &QualifiedName| match self.pending.as_ref().filter(|pending| !pending.is_empty()) {
            Some(pending) => pending.get(table).map(Some),
            None => Some(None),
        };
        let tables = self.flaws.iter().filter_map(|(table, flaws)| Some((table, flaws, waiting(table)?)));
        let mut found: Vec<_> = tables
            .flat_map(|(table, flaws, operations)| {
                let shown = operations.is_some();
                flaws.iter().filter_map(move |flaw| {
                    let weight = flaw.weight(Trying::Changes(operations))?;
                    let mut cause = flaw.cause(table);
                    if shown {
                        cause.evidence.push_str(" The changes that the slot has to send next are of this table.");
                    }
                    Some((weight, flaw, cause))
                })
            })
            .collect();
        found.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
        let mut found: Vec<_> = found.into_iter().map(|(weight, _, cause)| (weight, cause)).collect();
        let is_counted = self.health.conflicts.iter().any(|kind| kind.ends_with("_exists") || kind.contains("unique"));
        let weight = if is_counted { Weight::Likely } else { Weight::Possible };
        if self.position.is_none() && !is_counted {
            return found;
        }
        let collision = (weight, self.collision(is_counted));
        let is_unique = |cause: &Cause| cause.kind == "extra_unique";
        if found.first().is_some_and(|(weight, _)| *weight == Weight::Certain) && !is_counted {
            return found;
        }
        match found.iter().position(|(other, cause)| *other >= weight && !(is_counted && is_unique(cause))) {
            Some(at) if is_counted => found.insert(at, collision),
            _ => found.push(collision),
        }
        found
    }

    fn collision(&self, is_counted: bool) -> Cause {
        let mut evidence = match is_counted {
            true => format!("Conflicts were counted in the meantime: {}.", listed(&self.health.conflicts)),
            false => "Applying changes fails repeatedly, and no other reason was found.".to_owned(),
        };
        if let Some(pending) = self.pending.as_ref().filter(|pending| !pending.is_empty()) {
            let tables = crate::replication::names::tables(pending.keys());
            evidence.push_str(&format!(" The changes that the slot has to send next are of {tables}."));
        }
        server::duplicate_key(&self.names, evidence)
    }

    /// Causes that can stop the copies of these tables, or of any.
    fn of_copies(&self, failing: Option<&BTreeSet<QualifiedName>>) -> Vec<(Weight, Cause)> {
        let is_asked = |table: &QualifiedName| failing.is_none_or(|failing| failing.contains(table));
        let mut found: Vec<_> = Vec::new();
        for (table, flaws) in self.flaws.iter().filter(|(table, _)| is_asked(table)) {
            let weighed = flaws.iter().filter_map(|flaw| Some((flaw.weight(Trying::Copy)?, flaw)));
            found.extend(weighed.map(|(weight, flaw)| (weight, flaw, flaw.cause(table))));
        }
        found.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
        let mut found: Vec<_> = found.into_iter().map(|(weight, _, cause)| (weight, cause)).collect();
        let waits = failing.is_some() && !(self.health.failing.is_empty() && self.health.stalled.is_empty());
        let has_certain = found.iter().any(|(weight, _)| *weight == Weight::Certain);
        if waits && !has_certain {
            // Without room no copy begins, so nothing else can be the cause yet.
            let short =
                self.shortages.iter().map(|shortage| (Weight::Certain, server::shortage(&self.names, *shortage)));
            found.splice(0..0, short);
        }
        found
    }

    /// The message if nothing was found.
    fn left_over(&self, is_unexplained: bool) -> Option<Cause> {
        // A worker without counted errors fails at its start.
        let is_away = self.health.worker == Worker::Away || self.health.apply_failed != Some(true);
        let is_copy = self.health.worker == Worker::Steady;
        match (is_unexplained, is_copy) {
            (false, _) => None,
            (true, true) => Some(server::unexplained_copy(&self.names, &self.health)),
            (true, false) => Some(server::unexplained(&self.names, is_away)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::publication::Operation;
    use crate::postgres::slot::Home;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn table(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn position() -> Position {
        Position {
            home: Home::Database("shop".to_owned()),
            plugin: Some("pgoutput".to_owned()),
            active: true,
            reader: Some("shop".to_owned()),
            wal_status: Some("reserved".to_owned()),
            restart_lsn: None,
            confirmed: None,
            safe_wal_size: None,
            lag: Some(0),
            invalidation: None,
        }
    }

    fn well() -> Evidence {
        let names = Names {
            subscription: ident("shop"),
            publisher: Some("db.example:5432/shop".to_owned()),
            database: ident("shop"),
        };
        Evidence {
            names,
            health: Health::default(),
            slot: Some(ident("shop")),
            position: Some(Some(position())),
            is_connected: true,
            missing_publications: Vec::new(),
            skips_publications: false,
            refusal: None,
            login: None,
            shortages: Vec::new(),
            is_standby: false,
            disabling_errors: None,
            flaws: BTreeMap::new(),
            pending: None,
            blocked: Vec::new(),
        }
    }

    fn failing() -> Evidence {
        let health = Health { worker: Worker::Fails, apply_failed: Some(true), ..Health::default() };
        Evidence { health, is_connected: false, ..well() }
    }

    fn flaws(list: &[(&str, Flaw)]) -> BTreeMap<QualifiedName, Vec<Flaw>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, flaw) in list {
            found.entry(table(name)).or_default().push(flaw.clone());
        }
        found
    }

    fn check(evidence: &Evidence, expected: &[&str]) {
        let kinds: Vec<_> = told(evidence).0.into_iter().map(|cause| cause.kind).collect();
        assert_eq!(kinds, expected);
    }

    #[test]
    fn what_is_well_has_no_cause_whatever_differs() {
        check(&well(), &[]);
        let narrower = Flaw::NoIdentity;
        check(&Evidence { flaws: flaws(&[("orders", narrower)]), shortages: vec![Shortage::Slots], ..well() }, &[]);
        let disabled = Health { worker: Worker::Disabled, ..Health::default() };
        check(&Evidence { health: disabled, is_connected: false, ..well() }, &[]);
    }

    #[test]
    fn a_lock_that_is_waited_for_is_told_of_a_worker_that_runs() {
        let blocked = Blocked {
            relation: Some(table("orders")),
            waits: std::time::Duration::from_secs(12),
            blocker: Some(4711),
            whose: "app, psql".to_owned(),
            state: Some("idle in transaction".to_owned()),
            transaction: Some(std::time::Duration::from_secs(300)),
            query: Some(std::time::Duration::from_secs(65)),
        };
        let (causes, has_reason) = told(&Evidence { blocked: vec![blocked.clone()], ..well() });
        assert!(has_reason);
        let expected = "Another session on the subscriber blocks the subscription: its worker waits for a lock on \
            public.orders. It has waited for 12 s. Process 4711 (app, psql) holds it: it is idle in transaction, its transaction \
            has been open for 5 min 00 s, and its last statement began 1 min 05 s ago. Let that session end its transaction. Or on the subscriber, as \
            its role or a member of pg_signal_backend: SELECT pg_terminate_backend(4711);";
        assert_eq!(causes.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        let prepared = Blocked {
            relation: None,
            blocker: None,
            whose: String::new(),
            state: None,
            transaction: None,
            query: None,
            ..blocked
        };
        let (causes, _) = told(&Evidence { blocked: vec![prepared], ..well() });
        assert!(causes[0].remedy.contains("ROLLBACK PREPARED"), "{causes:?}");
    }

    #[test]
    fn what_is_gone_is_told_first_and_alone() {
        let flaws = flaws(&[("orders", Flaw::MissingColumn { column: ident("note"), ty: "text".to_owned() })]);
        let gone = Evidence { position: Some(None), flaws: flaws.clone(), ..failing() };
        check(&gone, &["slot_missing"]);
        let lost = Position { wal_status: Some("lost".to_owned()), ..position() };
        check(&Evidence { position: Some(Some(lost)), flaws: flaws.clone(), ..failing() }, &["slot_lost"]);
        let missing = vec![ident("shop")];
        check(&Evidence { missing_publications: missing.clone(), flaws, ..failing() }, &["publication_missing"]);
        check(
            &Evidence { missing_publications: missing, skips_publications: true, ..well() },
            &["publication_missing"],
        );
    }

    #[test]
    fn a_worker_that_never_starts_to_apply_is_not_blamed_on_tables() {
        let health = Health { worker: Worker::Fails, apply_failed: Some(false), ..Health::default() };
        let flaws = flaws(&[("orders", Flaw::NoIdentity)]);
        let refusal = Some(Refusal { why: server::Why::Login, error: "no".to_owned() });
        let starting = Evidence { health, flaws, is_connected: false, ..well() };
        check(&Evidence { refusal, ..starting.clone() }, &["login_refused"]);
        let used = Position { reader: Some("other".to_owned()), ..position() };
        check(&Evidence { position: Some(Some(used)), ..starting.clone() }, &["slot_in_use"]);
        check(&starting, &["worker_away"]);
        // If errors are not counted, a slot without pending changes shows the same.
        let health = Health { worker: Worker::Fails, ..Health::default() };
        let idle = Evidence { health, pending: Some(Pending::new()), ..starting };
        check(&idle, &["worker_away"]);
        check(&Evidence { pending: None, ..idle }, &["no_identity", "duplicate_key"]);
    }

    #[test]
    fn what_waits_in_the_slot_tells_which_table_is_to_blame() {
        let narrower =
            || Flaw::Narrower { column: ident("id"), publisher: "bigint".to_owned(), subscriber: "integer".to_owned() };
        let flaws = flaws(&[("lines", narrower()), ("orders", Flaw::NoIdentity)]);
        let evidence = Evidence { flaws, ..failing() };
        check(&evidence, &["no_identity", "narrower_type", "duplicate_key"]);
        let pending = |name: &str, operation| Some(Pending::from([(table(name), BTreeSet::from([operation]))]));
        let of = |pending| Evidence { pending, ..evidence.clone() };
        check(&of(pending("lines", Operation::Insert)), &["narrower_type", "duplicate_key"]);
        check(&of(pending("orders", Operation::Update)), &["no_identity"]);
        check(&of(pending("orders", Operation::Insert)), &["duplicate_key"]);
    }

    #[test]
    fn counted_conflicts_come_before_what_is_only_possible() {
        let mut evidence = failing();
        evidence.health.conflicts = BTreeSet::from(["insert_exists"]);
        let by = table("lines");
        let constraint = ident("lines_fkey");
        evidence.flaws = flaws(&[("orders", Flaw::Referenced { by, constraint, is_extra: true })]);
        check(&evidence, &["duplicate_key", "referenced_table"]);
        evidence.flaws = flaws(&[("orders", Flaw::ExtraUnique { index: ident("once"), columns: "a".to_owned() })]);
        check(&evidence, &["extra_unique", "duplicate_key"]);
    }

    #[test]
    fn copies_are_judged_by_their_own_tables() {
        let health = |name: &str| Health { failing: BTreeSet::from([table(name)]), ..Health::default() };
        let flaws = flaws(&[("orders", Flaw::HeldRows), ("lines", Flaw::NoSelect(ident("reader")))]);
        let evidence = |name: &str| Evidence { flaws: flaws.clone(), health: health(name), ..well() };
        check(&evidence("orders"), &["rows_before"]);
        check(&evidence("lines"), &["no_select"]);
        check(&evidence("other"), &["copy_fails"]);
        check(&Evidence { shortages: vec![Shortage::Slots], ..evidence("other") }, &["no_free_slot"]);
    }

    #[test]
    fn an_error_that_has_disabled_it_is_told_behind_its_reason() {
        let health = Health { worker: Worker::Disabled, ..Health::default() };
        let disabled = Evidence { health, disabling_errors: Some(1), is_connected: false, ..well() };
        let flaws = flaws(&[("orders", Flaw::Required(ident("checked")))]);
        check(&Evidence { flaws, ..disabled }, &["required_column", "disabled_by_error"]);
    }

    #[test]
    fn every_text_is_whole_and_names_a_server_for_its_statement() {
        for Cause { kind, message, evidence, remedy } in examples() {
            for text in [&message, &evidence, &remedy] {
                assert!(text.ends_with(['.', ';']) && !text.contains("  "), "{kind}: {text}");
            }
            let statements = ["ALTER ", "GRANT ", "CREATE ", "TRUNCATE ", "SELECT pg_"];
            if statements.iter().any(|statement| remedy.contains(statement)) {
                assert!(
                    remedy.contains("On the publisher")
                        || remedy.contains("on the subscriber")
                        || remedy.contains("On the subscriber"),
                    "{kind}: {remedy}"
                );
            }
        }
    }
}
