// SPDX-License-Identifier: MPL-2.0

//! The answers as JSON, with the names that the data sources have. Names do not change between releases; new ones may be added.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::postgres::{Ident, QualifiedName};
use crate::replication::comparison;
use crate::replication::preflight::{self, SizedTable};
use crate::replication::status::{self, TableStatus};
use crate::replication::{self, Severity};
use crate::report;
use crate::tf_provider::rfc3339;

#[derive(Serialize)]
struct Preflight<'a> {
    ok: bool,
    findings: Vec<Finding<'a>>,
    size: Size,
}

#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    check: &'static str,
    side: &'static str,
    object: &'a str,
    message: &'a str,
    remedy: &'a str,
}

#[derive(Serialize)]
struct Size {
    tables: u64,
    rows: u64,
    bytes: u64,
    largest: Vec<Sized>,
}

#[derive(Serialize)]
struct Sized {
    name: String,
    rows: Option<u64>,
    bytes: u64,
}

#[derive(Serialize)]
struct Statuses<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    subscriptions: Vec<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    name: &'a str,
    enabled: bool,
    stopped_by_cutover: bool,
    reverse: bool,
    worker_running: bool,
    publisher: Option<&'a str>,
    ready: bool,
    tables: Vec<Table>,
    tables_ready: usize,
    tables_total: usize,
    unsubscribed_tables: Vec<String>,
    unpublished_tables: Vec<String>,
    lag_bytes: Option<u64>,
    lag_seconds: Option<f64>,
    received_lsn: Option<&'a str>,
    latest_end_lsn: Option<&'a str>,
    last_msg_receipt_time: Option<String>,
    apply_error_count: Option<u64>,
    sync_error_count: Option<u64>,
    conflicts: &'a BTreeMap<&'static str, u64>,
    slot: Option<Slot<'a>>,
    causes: Vec<Cause<'a>>,
    schema_drift: Vec<Drift<'a>>,
}

#[derive(Serialize)]
struct Comparison<'a> {
    equal: bool,
    exact: bool,
    position: Option<&'a str>,
    tables: Vec<Compared<'a>>,
}

#[derive(Serialize)]
struct Compared<'a> {
    name: String,
    publisher_rows: Option<u64>,
    subscriber_rows: Option<u64>,
    equal: bool,
    exact: bool,
    note: &'a str,
    differences: Vec<Difference<'a>>,
    further_differences: u64,
}

#[derive(Serialize)]
struct Difference<'a> {
    key: String,
    kind: &'static str,
    columns: Vec<&'a str>,
}

#[derive(Serialize)]
struct Table {
    name: String,
    state: &'static str,
    rows_copied: Option<u64>,
    rows_estimate: Option<u64>,
    bytes_copied: Option<u64>,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Slot<'a> {
    name: &'a str,
    active: bool,
    wal_status: Option<&'a str>,
    restart_lsn: Option<&'a str>,
    confirmed_flush_lsn: Option<&'a str>,
    safe_wal_size: Option<i64>,
}

#[derive(Serialize)]
struct Cause<'a> {
    kind: &'static str,
    message: &'a str,
    evidence: &'a str,
    remedy: &'a str,
}

#[derive(Serialize)]
struct Drift<'a> {
    table: String,
    message: &'a str,
    remedy: &'a str,
}

/// The report of a preflight.
pub(super) fn preflight(report: &preflight::Report) -> String {
    let findings = report.findings.iter().map(Finding::of).collect();
    let sizes = &report.size;
    let largest = sizes.largest.iter().map(Sized::of).collect();
    let size = Size { tables: sizes.tables, rows: sizes.rows, bytes: sizes.bytes, largest };
    pretty(&Preflight { ok: report.count(Severity::Error) == 0, findings, size })
}

/// The statuses of subscriptions.
pub(super) fn statuses(statuses: &[status::Status]) -> String {
    pretty(&Statuses { time: None, subscriptions: statuses.iter().map(Status::of).collect() })
}

/// The statuses on one line, with the time of the look.
pub(super) fn statuses_at(time: SystemTime, statuses: &[status::Status]) -> String {
    let found = Statuses { time: Some(rfc3339::utc(time)), subscriptions: statuses.iter().map(Status::of).collect() };
    serde_json::to_string(&found).unwrap_or_default() + "\n"
}

/// A comparison of tables.
pub(super) fn comparison(outcome: &comparison::Outcome) -> String {
    let tables = outcome.tables.iter().map(Compared::of).collect();
    let (equal, exact, position) = (outcome.is_equal(), outcome.is_exact(), outcome.position.as_deref());
    pretty(&Comparison { equal, exact, position, tables })
}

fn pretty(answer: &impl Serialize) -> String {
    // Texts, numbers and lists always have a JSON form.
    serde_json::to_string_pretty(answer).unwrap_or_default() + "\n"
}

impl<'a> Finding<'a> {
    fn of(finding: &'a replication::Finding) -> Self {
        Self {
            severity: finding.severity.as_str(),
            check: finding.check,
            side: finding.place.as_str(),
            object: &finding.object,
            message: &finding.message,
            remedy: &finding.remedy,
        }
    }
}

impl<'a> Compared<'a> {
    fn of(table: &'a comparison::Compared) -> Self {
        Self {
            name: table.name.to_text(),
            publisher_rows: table.publisher_rows,
            subscriber_rows: table.subscriber_rows,
            equal: table.equal,
            exact: table.exact,
            note: &table.note,
            differences: table.differences.iter().map(Difference::of).collect(),
            further_differences: table.further_differences,
        }
    }
}

impl<'a> Difference<'a> {
    fn of(row: &'a comparison::Difference) -> Self {
        let columns = row.columns.iter().map(Ident::as_str).collect();
        Self { key: report::key(row), kind: row.kind.as_str(), columns }
    }
}

impl Sized {
    fn of(table: &SizedTable) -> Self {
        Self { name: table.name.to_text(), rows: table.rows, bytes: table.bytes }
    }
}

impl<'a> Status<'a> {
    fn of(status: &'a status::Status) -> Self {
        Self {
            name: status.name.as_str(),
            enabled: status.enabled,
            stopped_by_cutover: status.is_stopped_by_cutover,
            reverse: status.is_way_back,
            worker_running: status.worker_running,
            publisher: status.publisher.as_deref(),
            ready: status.is_ready(),
            tables: status.tables.iter().map(Table::of).collect(),
            tables_ready: status.tables_ready(),
            tables_total: status.tables.len(),
            unsubscribed_tables: status.unsubscribed_tables.iter().map(QualifiedName::to_text).collect(),
            unpublished_tables: status.unpublished_tables.iter().map(QualifiedName::to_text).collect(),
            lag_bytes: status.lag_bytes,
            lag_seconds: status.lag_seconds,
            received_lsn: status.received_lsn.as_deref(),
            latest_end_lsn: status.latest_end_lsn.as_deref(),
            last_msg_receipt_time: status.last_msg_receipt_time.map(rfc3339::utc),
            apply_error_count: status.apply_error_count,
            sync_error_count: status.sync_error_count,
            conflicts: &status.conflicts,
            slot: status.slot.as_ref().map(Slot::of),
            causes: status.causes.iter().map(Cause::of).collect(),
            schema_drift: status.schema_drift.iter().map(Drift::of).collect(),
        }
    }
}

impl Table {
    fn of(table: &TableStatus) -> Self {
        Self {
            name: table.name.to_text(),
            state: table.state.as_str(),
            rows_copied: table.rows_copied,
            rows_estimate: table.rows_estimate,
            bytes_copied: table.bytes_copied,
            bytes: table.bytes,
        }
    }
}

impl<'a> Slot<'a> {
    fn of(slot: &'a status::SlotStatus) -> Self {
        Self {
            name: slot.name.as_str(),
            active: slot.active,
            wal_status: slot.wal_status.as_deref(),
            restart_lsn: slot.restart_lsn.as_deref(),
            confirmed_flush_lsn: slot.confirmed_flush_lsn.as_deref(),
            safe_wal_size: slot.safe_wal_size,
        }
    }
}

impl<'a> Cause<'a> {
    fn of(cause: &'a status::Cause) -> Self {
        Self { kind: cause.kind, message: &cause.message, evidence: &cause.evidence, remedy: &cause.remedy }
    }
}

impl<'a> Drift<'a> {
    fn of(drift: &'a status::Drift) -> Self {
        Self { table: drift.table.to_text(), message: &drift.message, remedy: &drift.remedy }
    }
}
