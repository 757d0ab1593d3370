// SPDX-License-Identifier: MPL-2.0

//! Values for the tests here.

use std::collections::BTreeMap;

use crate::postgres::subscription::SyncState;
use crate::postgres::{Ident, QualifiedName};
use crate::replication::status::{Cause, Drift, SlotStatus, Status, TableStatus};

pub(super) fn named(text: &str) -> Ident {
    Ident::new(text).unwrap()
}

pub(super) fn name(text: &str) -> QualifiedName {
    QualifiedName::parse(text).unwrap()
}

pub(super) fn table(text: &str, state: SyncState) -> TableStatus {
    TableStatus {
        name: name(text),
        state,
        is_copying: false,
        rows_copied: None,
        rows_estimate: None,
        bytes_copied: None,
        bytes: None,
    }
}

/// A table that is being copied.
pub(super) fn copying(text: &str, rows: u64, of: u64, bytes: u64, size: u64) -> TableStatus {
    TableStatus {
        is_copying: true,
        rows_copied: Some(rows),
        rows_estimate: Some(of),
        bytes_copied: Some(bytes),
        bytes: Some(size),
        ..table(text, SyncState::Copying)
    }
}

/// A subscription that has caught up, with two tables.
pub(super) fn well(name: &str) -> Status {
    Status {
        name: named(name),
        enabled: true,
        is_stopped_by_cutover: false,
        is_way_back: false,
        worker_running: true,
        publisher: Some("aurora:5432/shop".to_owned()),
        tables: vec![table("orders", SyncState::Ready), table("lines", SyncState::Ready)],
        unsubscribed_tables: Vec::new(),
        unpublished_tables: Vec::new(),
        lag_bytes: Some(0),
        lag_seconds: Some(0.0),
        received_lsn: None,
        latest_end_lsn: None,
        last_msg_receipt_time: None,
        apply_error_count: Some(0),
        sync_error_count: Some(0),
        conflicts: BTreeMap::new(),
        slot: Some(SlotStatus {
            name: named(name),
            active: true,
            wal_status: Some("reserved".to_owned()),
            restart_lsn: None,
            confirmed_flush_lsn: None,
            safe_wal_size: None,
        }),
        causes: Vec::new(),
        schema_drift: Vec::new(),
    }
}

/// A subscription that copies a table, with another one waiting.
pub(super) fn busy(subscription: &str) -> Status {
    let mut status = well(subscription);
    status.tables.push(copying("events", 1_200_000, 2_000_000, 325_058_560, 536_870_912));
    let waits = TableStatus { rows_estimate: Some(12), bytes: Some(8_192), ..table("notes", SyncState::Initializing) };
    status.tables.push(waits);
    (status.lag_bytes, status.lag_seconds) = (Some(1_258_291), Some(3.2));
    status
}

/// A subscription that is stuck.
pub(super) fn ill(subscription: &str) -> Status {
    let mut status = busy(subscription);
    (status.worker_running, status.sync_error_count) = (false, Some(7));
    if let Some(slot) = &mut status.slot {
        (slot.active, slot.wal_status, slot.safe_wal_size) = (false, Some("unreserved".to_owned()), Some(-5));
    }
    status.causes.push(Cause {
        kind: "cause",
        message: "The worker cannot insert into public.events: column note is missing on the subscriber.".to_owned(),
        evidence: "the publisher's public.events has note text; apply_error_count grew from 3 to 7".to_owned(),
        remedy: "On the subscriber: ALTER TABLE public.events ADD COLUMN note text;".to_owned(),
    });
    status.schema_drift.push(Drift {
        table: name("events"),
        message: "column note is missing on the subscriber".to_owned(),
        remedy: String::new(),
    });
    status.unsubscribed_tables.push(name("new_one"));
    status.unpublished_tables.push(name("old_one"));
    status
}
