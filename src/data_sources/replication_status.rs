// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replication_status`: the progress of subscriptions, and why one is not healthy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{check_name, database};
use crate::config::Context;
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::Operation;
use crate::replication::status::{self, Cause, Drift, Question, SlotStatus, Status, TableStatus, Until};
use crate::report::{self, Style};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::number::Number;
use crate::tf_provider::rfc3339;
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{duration_attribute, parse_duration};

/// How long a wait may take by default.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How long a look without a wait may take.
const LOOK: Duration = Duration::from_secs(60);

/// The data source.
pub(super) struct ReplicationStatus;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The only subscription to check.
        subscription: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// The goal of the wait.
        wait_until: Attr<String>,
        /// How long the wait may take.
        timeout: Attr<String>,
        /// Whether all of them are ready.
        ready: Attr<bool>,
        /// Whether all of them are healthy.
        ok: Attr<bool>,
        /// Their statuses.
        subscriptions: Attr<Vec<Found>>,
        /// The same as text.
        report: Attr<String>,
    }
}

crate::model! {
    /// The status of one subscription.
    pub(super) struct Found {
        /// Its name.
        name: Attr<String>,
        /// Whether it is enabled.
        enabled: Attr<bool>,
        /// Whether a cutover has stopped it.
        stopped_by_cutover: Attr<bool>,
        /// Whether it brings changes back.
        reverse: Attr<bool>,
        /// Whether it is ready.
        ready: Attr<bool>,
        /// Whether its worker runs.
        worker_running: Attr<bool>,
        /// Its publisher.
        publisher: Attr<String>,
        /// Its tables.
        tables: Attr<Vec<Table>>,
        /// How many of them are ready.
        tables_ready: Attr<i64>,
        /// How many there are.
        tables_total: Attr<i64>,
        /// Published tables that it does not have.
        unsubscribed_tables: Attr<BTreeSet<String>>,
        /// Tables that it has and that are not published.
        unpublished_tables: Attr<BTreeSet<String>>,
        /// How far it is behind, in bytes of WAL.
        lag_bytes: Attr<i64>,
        /// How long it has been behind, in seconds.
        lag_seconds: Attr<Number>,
        /// The last position that its worker has received.
        received_lsn: Attr<String>,
        /// The last position that was reported back.
        latest_end_lsn: Attr<String>,
        /// When the worker last received a message from the publisher.
        last_msg_receipt_time: Attr<String>,
        /// Failures of applying.
        apply_error_count: Attr<i64>,
        /// Failures of copying.
        sync_error_count: Attr<i64>,
        /// Conflicts by kind.
        conflicts: Attr<BTreeMap<String, i64>>,
        /// Its slot.
        slot: Attr<Slot>,
        /// Why it is unhealthy.
        causes: Attr<Vec<Reason>>,
        /// The differences between its tables.
        schema_drift: Attr<Vec<Difference>>,
    }
}

crate::model! {
    /// A table.
    pub(super) struct Table {
        /// Its name.
        name: Attr<String>,
        /// The state of its copy.
        state: Attr<String>,
        /// Rows copied so far.
        rows_copied: Attr<i64>,
        /// Rows on the publisher.
        rows_estimate: Attr<i64>,
        /// Bytes copied so far.
        bytes_copied: Attr<i64>,
        /// Bytes on the publisher.
        bytes: Attr<i64>,
    }
}

crate::model! {
    /// The slot.
    pub(super) struct Slot {
        /// Its name.
        name: Attr<String>,
        /// Whether something reads from it.
        active: Attr<bool>,
        /// Whether its WAL is kept.
        wal_status: Attr<String>,
        /// The oldest position that it keeps.
        restart_lsn: Attr<String>,
        /// The confirmed position.
        confirmed_flush_lsn: Attr<String>,
        /// How much WAL can still be written before it may be lost.
        safe_wal_size: Attr<i64>,
    }
}

crate::model! {
    /// A cause.
    pub(super) struct Reason {
        /// Its name.
        kind: Attr<String>,
        /// The problem.
        message: Attr<String>,
        /// The evidence.
        evidence: Attr<String>,
        /// The remedy.
        remedy: Attr<String>,
    }
}

crate::model! {
    /// A difference.
    pub(super) struct Difference {
        /// The table.
        table: Attr<String>,
        /// The difference.
        message: Attr<String>,
        /// What to do.
        remedy: Attr<String>,
    }
}

impl DataSource for ReplicationStatus {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_replication_status";

    fn schema() -> Schema {
        Schema::new(
            "The progress and the health of subscriptions, from the views of both servers: tables, lag, slot, the \
             differences between the tables of both sides, and, if something is stuck, the likely cause with the \
             statement that fixes it. It can wait until everything is ready or has caught up. It only reads; \
             waiting for `caught_up` writes one small message into the publisher's WAL, which is not sent to any \
             subscriber.",
        )
        .attribute(
            Attribute::optional("subscription", Type::String, "The subscription. Default: all of the database.")
                .text(check_name),
        )
        .attribute(
            Attribute::optional_computed(
                "database",
                Type::String,
                "The database of the subscriber. Default: the provider's.",
            )
            .text(check_name),
        )
        .attribute(
            Attribute::optional(
                "wait_until",
                Type::String,
                "What to wait for while the data source is read. `ready`: every published table is copied and \
                 replicated, and a worker runs. `caught_up`: in addition, everything that was written on the \
                 publisher before is applied and flushed on the subscriber. The wait survives a restart of a \
                 server. If it cannot succeed, it fails at once and names the causes. Default: no wait.",
            )
            .one_of(&["ready", "caught_up"]),
        )
        .attribute(duration_attribute(
            "timeout",
            "How long the wait may take, such as `10m` or `2h`. Only together with `wait_until`. Default: `30m`.",
        ))
        .attribute(Attribute::computed(
            "ready",
            Type::Bool,
            "Whether there are subscriptions, and all of them are `ready` as `wait_until` defines it.",
        ))
        .attribute(Attribute::computed(
            "ok",
            Type::Bool,
            "Whether no subscription has `causes`. A subscription that is still copying, is behind, or was disabled \
             on purpose is healthy.",
        ))
        .attribute(Attribute::computed("subscriptions", Type::list(subscription_type()), SUBSCRIPTIONS).parts(PARTS))
        .attribute(Attribute::computed(
            "report",
            Type::String,
            "All of this as a table to read, for an output or an `error_message`.",
        ))
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let subscriber = database(call.context().subscriber(), &config.database)?;
        // Without a publisher, only the views of the subscriber remain, and servers from the subscriptions' own
        // connections.
        let publisher = call.context().publisher().database(None).ok();
        let name = config.subscription.known().map(|name| Ident::new(name.as_str())).transpose();
        let name = name.map_err(|error| Error::new(error.to_string()).attribute("subscription"))?;
        let names = name.map(|name| BTreeSet::from([name]));
        let until = config.wait_until.known().and_then(|until| Until::from_name(until));
        let timeout = config.timeout.known().and_then(|text| parse_duration(text)).unwrap_or(TIMEOUT);
        let limits = |time| Limits::within(time).cancelled_by(call.stop().clone());
        let question = Question { subscriber: &subscriber, publisher: publisher.as_ref(), names: names.as_ref() };
        if let Some(until) = until {
            let waiting = Operation::new(waiting_for(until), limits(timeout), call);
            let mut heard = status::log;
            let waited = Box::pin(status::wait_until(&waiting, &question, until, &mut heard)).await;
            waited.map_err(|error| Error::from(error).attribute("wait_until"))?;
        }
        // A wait only reads the state of copies; now everything is compared.
        let looking = Operation::new("reading how far replication is", limits(LOOK), call);
        let found = Box::pin(status::statuses(&looking, &question)).await?;
        let found = Box::pin(status::with_ways_back(&looking, &question, found)).await?;
        Ok(Model {
            database: subscriber.name().into(),
            ready: (!found.is_empty() && found.iter().all(Status::is_ready)).into(),
            ok: found.iter().all(Status::is_well).into(),
            subscriptions: found.iter().map(to_found).collect::<Vec<_>>().into(),
            report: report::statuses(&found, &Style::plain()).into(),
            ..config
        })
    }
}

fn waiting_for(until: Until) -> &'static str {
    match until {
        Until::Ready => "waiting until the subscriptions are ready",
        Until::CaughtUp => "waiting until the subscriptions have caught up",
    }
}

const SUBSCRIPTIONS: &str =
    "The subscriptions in the order of their names, followed by those that bring changes back since a cutover.";

/// The descriptions of the nested attributes.
const PARTS: &[(&str, &str)] = &[
    ("name", "The subscription."),
    ("enabled", "Whether it is enabled."),
    (
        "stopped_by_cutover",
        "Whether a cutover has stopped it, after everything was applied. The subscriber takes writes in that case, \
         and the subscription counts as ready.",
    ),
    (
        "reverse",
        "Whether it brings changes back from the subscriber to the publisher after a cutover. For such a \
         subscription the two servers have changed roles.",
    ),
    ("ready", "Whether every published table is copied and replicated, and a worker runs."),
    ("worker_running", "Whether the worker that applies changes runs."),
    (
        "publisher",
        "The server that it is known to read from, as `host:port/database`. Null if that cannot be determined; then \
         everything that only a publisher knows is null too.",
    ),
    ("tables", "Its tables."),
    ("tables.name", "The table, as `schema.table`."),
    ("tables.state", "`initializing`, `copying`, `copied`, `synchronized` or `ready`."),
    ("tables.rows_copied", "How many rows the running copy has copied."),
    ("tables.rows_estimate", "The publisher's estimate of the number of rows."),
    ("tables.bytes_copied", "How many bytes the running copy has copied."),
    ("tables.bytes", "The size of the table on the publisher, from its catalog."),
    ("tables_ready", "How many tables are ready."),
    ("tables_total", "How many tables there are."),
    (
        "unsubscribed_tables",
        "Tables that are published but not subscribed to yet. A refresh adds them. This includes tables that were dropped and created again on the subscriber: rows that are written to them before the refresh are skipped.",
    ),
    (
        "unpublished_tables",
        "Tables that it has and that its publications no longer publish under these names, for instance because a table was dropped and created again on the publisher, renamed, or removed from the publication. Rows that are written to them there do not arrive.",
    ),
    ("lag_bytes", "How many bytes of the publisher's WAL the subscriber has not confirmed as flushed yet."),
    ("lag_seconds", "How long the subscriber has been behind. 0 if it is not."),
    ("received_lsn", "The last WAL position that the worker has received."),
    ("latest_end_lsn", "The last WAL position that the worker has reported to the publisher."),
    ("last_msg_receipt_time", "When the worker received the last message."),
    ("apply_error_count", "How many errors there were while changes were applied (Postgres 15)."),
    ("sync_error_count", "How many errors there were while tables were copied (Postgres 15)."),
    ("conflicts", "How many conflicts there were, by kind (Postgres 18)."),
    ("slot", "Its replication slot on the publisher. Null if the publisher could not be queried."),
    ("slot.name", "The slot."),
    ("slot.active", "Whether a reader is connected to it."),
    ("slot.wal_status", "Whether the WAL that it needs is available: `reserved`, `extended`, `unreserved` or `lost`."),
    ("slot.restart_lsn", "The oldest WAL position that it keeps."),
    ("slot.confirmed_flush_lsn", "The WAL position up to which the subscriber has confirmed everything."),
    (
        "slot.safe_wal_size",
        "How many bytes of WAL can still be written before the slot may be lost. Null if there is no limit.",
    ),
    ("causes", "Why it is not healthy, the likeliest cause first. Empty if it is healthy."),
    ("causes.kind", "The name of the cause. It does not change between releases."),
    ("causes.message", "What is wrong."),
    ("causes.evidence", "What shows it."),
    ("causes.remedy", "The statement that fixes it, with the server and the role to run it as."),
    ("schema_drift", "Differences between the tables of both sides that stop replication, or will stop it."),
    ("schema_drift.table", "The table, as `schema.table`."),
    ("schema_drift.message", "What differs."),
    ("schema_drift.remedy", "What to do about it."),
];

fn subscription_type() -> Type {
    let table = Type::object([
        ("name", Type::String),
        ("state", Type::String),
        ("rows_copied", Type::Number),
        ("rows_estimate", Type::Number),
        ("bytes_copied", Type::Number),
        ("bytes", Type::Number),
    ]);
    let slot = Type::object([
        ("name", Type::String),
        ("active", Type::Bool),
        ("wal_status", Type::String),
        ("restart_lsn", Type::String),
        ("confirmed_flush_lsn", Type::String),
        ("safe_wal_size", Type::Number),
    ]);
    let cause = Type::object([
        ("kind", Type::String),
        ("message", Type::String),
        ("evidence", Type::String),
        ("remedy", Type::String),
    ]);
    let drift = Type::object([("table", Type::String), ("message", Type::String), ("remedy", Type::String)]);
    Type::object([
        ("name", Type::String),
        ("enabled", Type::Bool),
        ("stopped_by_cutover", Type::Bool),
        ("reverse", Type::Bool),
        ("ready", Type::Bool),
        ("worker_running", Type::Bool),
        ("publisher", Type::String),
        ("tables", Type::list(table)),
        ("tables_ready", Type::Number),
        ("tables_total", Type::Number),
        ("unsubscribed_tables", Type::set(Type::String)),
        ("unpublished_tables", Type::set(Type::String)),
        ("lag_bytes", Type::Number),
        ("lag_seconds", Type::Number),
        ("received_lsn", Type::String),
        ("latest_end_lsn", Type::String),
        ("last_msg_receipt_time", Type::String),
        ("apply_error_count", Type::Number),
        ("sync_error_count", Type::Number),
        ("conflicts", Type::map(Type::Number)),
        ("slot", slot),
        ("causes", Type::list(cause)),
        ("schema_drift", Type::list(drift)),
    ])
}

fn to_found(status: &Status) -> Found {
    let conflicts: BTreeMap<_, _> =
        status.conflicts.iter().map(|(kind, count)| ((*kind).to_owned(), number(*count))).collect();
    let unpublished: BTreeSet<_> = status.unpublished_tables.iter().map(QualifiedName::to_text).collect();
    let unsubscribed: BTreeSet<_> = status.unsubscribed_tables.iter().map(QualifiedName::to_text).collect();
    Found {
        name: status.name.as_str().into(),
        enabled: status.enabled.into(),
        stopped_by_cutover: status.is_stopped_by_cutover.into(),
        reverse: status.is_way_back.into(),
        ready: status.is_ready().into(),
        worker_running: status.worker_running.into(),
        publisher: status.publisher.clone().into(),
        tables: status.tables.iter().map(to_table).collect::<Vec<_>>().into(),
        tables_ready: number(status.tables_ready() as u64).into(),
        tables_total: number(status.tables.len() as u64).into(),
        unsubscribed_tables: unsubscribed.into(),
        unpublished_tables: unpublished.into(),
        lag_bytes: status.lag_bytes.map(number).into(),
        lag_seconds: status
            .lag_seconds
            .and_then(|seconds| Number::from_f64((seconds * 1000.0).round() / 1000.0))
            .into(),
        received_lsn: status.received_lsn.clone().into(),
        latest_end_lsn: status.latest_end_lsn.clone().into(),
        last_msg_receipt_time: status.last_msg_receipt_time.map(rfc3339::utc).into(),
        apply_error_count: status.apply_error_count.map(number).into(),
        sync_error_count: status.sync_error_count.map(number).into(),
        conflicts: conflicts.into(),
        slot: status.slot.as_ref().map(to_slot).into(),
        causes: status.causes.iter().map(to_reason).collect::<Vec<_>>().into(),
        schema_drift: status.schema_drift.iter().map(to_difference).collect::<Vec<_>>().into(),
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_table(table: &TableStatus) -> Table {
    Table {
        name: table.name.to_text().into(),
        state: table.state.as_str().into(),
        rows_copied: table.rows_copied.map(number).into(),
        rows_estimate: table.rows_estimate.map(number).into(),
        bytes_copied: table.bytes_copied.map(number).into(),
        bytes: table.bytes.map(number).into(),
    }
}

fn to_slot(slot: &SlotStatus) -> Slot {
    Slot {
        name: slot.name.as_str().into(),
        active: slot.active.into(),
        wal_status: slot.wal_status.clone().into(),
        restart_lsn: slot.restart_lsn.clone().into(),
        confirmed_flush_lsn: slot.confirmed_flush_lsn.clone().into(),
        safe_wal_size: slot.safe_wal_size.into(),
    }
}

fn to_reason(cause: &Cause) -> Reason {
    Reason {
        kind: cause.kind.into(),
        message: cause.message.as_str().into(),
        evidence: cause.evidence.as_str().into(),
        remedy: cause.remedy.as_str().into(),
    }
}

fn to_difference(drift: &Drift) -> Difference {
    Difference {
        table: drift.table.to_text().into(),
        message: drift.message.as_str().into(),
        remedy: drift.remedy.as_str().into(),
    }
}
