// SPDX-License-Identifier: MPL-2.0

//! A pair of servers without problems, for tests: each test changes only the fact that it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::facts::{Facts, Side};
use super::{Finding, Question};
use crate::postgres::catalog::{
    Column, Equality, Guards, Identity, Index, Kind, Outline, Relation, ReplicaIdentity, Rights, Table, TableSize,
};
use crate::postgres::publication::{self, Publication, Target};
use crate::postgres::server_facts::{Role, Roles, ServerFacts, Transactions};
use crate::postgres::settings::Room;
use crate::postgres::{Ident, QualifiedName, ServerVersion};
use crate::replication::Place;
use crate::replication::checks::BothSides;

pub(super) fn ident(text: &str) -> Ident {
    Ident::new(text).unwrap()
}

pub(super) fn table(text: &str) -> QualifiedName {
    QualifiedName::parse(text).unwrap()
}

/// The findings, one line each.
pub(super) fn shown(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{}: {finding}\n", finding.check)).collect()
}

/// Table `orders` with `id` as its key, published by `shop`, and the same on Postgres 18 at the other end.
pub(super) fn facts() -> Facts {
    let (orders, publisher) = (table("orders"), side(Place::Publisher));
    let publications = vec![Publication::new(ident("shop"), Target::tables([orders.clone()]))];
    let sent = publication::sent(&publications, &publisher.outline, publisher.version);
    let size = BTreeMap::from([(orders.clone(), TableSize { rows: Some(1000), bytes: 8192 })]);
    let tables = BTreeMap::from([(orders, columns())]);
    Facts {
        question: Question { publications: BTreeSet::from([ident("shop")]), ..Question::default() },
        publisher,
        subscriber: side(Place::Subscriber),
        is_one_cluster: false,
        publications,
        missing: Vec::new(),
        unpublished: BTreeSet::new(),
        lacks: Vec::new(),
        filters: BTreeMap::new(),
        sent,
        tables: BothSides::of(tables.clone(), tables),
        tables_back: None,
        own: BTreeMap::new(),
        others: BTreeMap::new(),
        with_rows: BTreeSet::new(),
        extents: size.clone(),
        totals: size,
        highest: BTreeMap::new(),
        left_behind: Vec::new(),
        available: BTreeMap::new(),
        unchecked: Vec::new(),
    }
}

fn side(place: Place) -> Side {
    let own = ident("me");
    let role = Role {
        can_log_in: true,
        has_replication: true,
        creates_subscriptions: true,
        reads_all_stats: true,
        creates: true,
        connects: true,
        ..Role::default()
    };
    let guards =
        Guards { is_owned: true, hides_rows: false, hides_rows_from_owner: false, replica_triggers: Vec::new() };
    Side {
        place,
        database: "shop".to_owned(),
        version: ServerVersion::major_only(18),
        server: server(),
        roles: Roles { own: own.clone(), known: BTreeMap::from([(own, role)]) },
        room: Some(Room { slots: 10, senders: 10, is_standby: false }),
        outline: Arc::new(outline()),
        transactions: Transactions::default(),
        role_settings: Vec::new(),
        slots: Vec::new(),
        subscriptions: Arc::default(),
        extensions: BTreeMap::new(),
        indexes: BTreeMap::from([(table("orders"), vec![key("orders_pkey")])]),
        constraints: BTreeMap::new(),
        sequences: BTreeMap::new(),
        guards: BTreeMap::from([(table("orders"), guards)]),
        functions: BTreeMap::new(),
        labels: BTreeMap::new(),
        switch: None,
    }
}

fn server() -> ServerFacts {
    let settings = [
        ("max_replication_slots", "10"),
        ("max_active_replication_origins", "10"),
        ("max_wal_senders", "10"),
        ("max_worker_processes", "16"),
        ("max_logical_replication_workers", "4"),
        ("max_sync_workers_per_subscription", "2"),
        ("max_slot_wal_keep_size", "-1"),
        ("wal_sender_timeout", "60000"),
        ("wal_receiver_timeout", "60000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let (encoding, collation, ctype) = ("UTF8".to_owned(), "libc C.UTF-8".to_owned(), "C.UTF-8".to_owned());
    ServerFacts { encoding, collation, ctype, settings, ..ServerFacts::default() }
}

fn outline() -> Outline {
    let mut outline = Outline { wal_level: "logical".to_owned(), ..Outline::default() };
    let orders = Relation {
        kind: Kind::Table,
        is_unlogged: false,
        replica_identity: ReplicaIdentity::Default,
        has_primary_key: true,
        identity: Identity::Columns(BTreeSet::from([ident("id")])),
        stored_generated: BTreeSet::new(),
        virtual_generated: BTreeSet::new(),
        ancestors: Vec::new(),
    };
    outline.relations.insert(table("orders"), orders);
    outline
}

pub(super) fn key(name: &str) -> Index {
    Index {
        name: ident(name),
        method: "btree".to_owned(),
        keys: vec![Some(ident("id"))],
        is_unique: true,
        is_primary: true,
        is_replica_identity: false,
        is_valid: true,
        is_immediate: true,
        is_partial: false,
        is_of_constraint: true,
    }
}

/// An index on `note` that only helps queries.
pub(super) fn further(name: &str) -> Index {
    let keys = vec![Some(ident("note"))];
    Index { keys, is_unique: false, is_primary: false, is_of_constraint: false, ..key(name) }
}

pub(super) fn columns() -> Table {
    let column = |name: &str, ty: &str, is_not_null| Column {
        name: ident(name),
        ty: ty.to_owned(),
        is_not_null,
        has_default: false,
        is_generated: false,
        is_stored: false,
        equality: Equality::Value,
    };
    let columns = vec![column("id", "integer", true), column("note", "text", false)];
    let reads = columns.iter().map(|column| column.name.clone()).collect();
    Table {
        takes_rows: true,
        is_partitioned: false,
        owner: ident("me"),
        columns,
        rights: Rights { role: ident("me"), reads, becomes_owner: true },
    }
}
