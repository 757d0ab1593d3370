// SPDX-License-Identifier: MPL-2.0

//! A few real cluster parameters of Aurora PostgreSQL with their metadata.

use std::collections::BTreeMap;

use crate::common::postgres::{Settings, settings};

/// RDS's metadata of one parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) value: Option<&'static str>,
    pub(super) source: &'static str,
    pub(super) apply_type: &'static str,
    pub(super) data_type: &'static str,
    pub(super) allowed: Option<&'static str>,
    pub(super) is_modifiable: bool,
    pub(super) description: &'static str,
}

type Row = (
    &'static str,
    Option<&'static str>,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    bool,
    &'static str,
);

const ROWS: [Row; 15] = [
    (
        "autovacuum_naptime",
        Some("5"),
        "system",
        "dynamic",
        "integer",
        Some("1-2147483"),
        true,
        "(s) Time to sleep between autovacuum runs.",
    ),
    (
        "log_min_duration_statement",
        None,
        "engine-default",
        "dynamic",
        "integer",
        Some("-1-2147483647"),
        true,
        "(ms) Sets the minimum execution time above which statements will be logged.",
    ),
    (
        "logical_decoding_work_mem",
        None,
        "engine-default",
        "dynamic",
        "integer",
        Some("64-2147483647"),
        true,
        "(kB) Sets the maximum memory to be used for logical decoding.",
    ),
    (
        "max_connections",
        Some("LEAST({DBInstanceClassMemory/9531392},5000)"),
        "system",
        "static",
        "integer",
        Some("6-262143"),
        true,
        "Concurrent connections.",
    ),
    (
        "max_logical_replication_workers",
        None,
        "engine-default",
        "static",
        "integer",
        Some("0-262143"),
        true,
        "Logical replication workers.",
    ),
    ("max_replication_slots", Some("20"), "system", "static", "integer", Some("5-262143"), true, "Replication slots."),
    (
        "max_slot_wal_keep_size",
        None,
        "engine-default",
        "dynamic",
        "integer",
        Some("-1-2147483647"),
        true,
        "(MB) Sets the maximum WAL size that can be reserved by replication slots.",
    ),
    (
        "max_sync_workers_per_subscription",
        Some("2"),
        "engine-default",
        "dynamic",
        "integer",
        Some("0-262143"),
        true,
        "Table synchronization workers.",
    ),
    ("max_wal_senders", Some("10"), "system", "static", "integer", Some("5-262143"), true, "WAL sender processes."),
    (
        "max_worker_processes",
        Some("GREATEST(${DBInstanceVCPU*2},8)"),
        "system",
        "static",
        "integer",
        Some("0-262143"),
        true,
        "Worker processes.",
    ),
    (
        "rds.extensions",
        Some("address_standardizer,amcheck"),
        "system",
        "static",
        "list",
        None,
        false,
        "Extensions that may be created.",
    ),
    ("rds.force_ssl", Some("0"), "system", "dynamic", "boolean", Some("0,1"), true, "Forces SSL connections."),
    (
        "rds.logical_replication",
        Some("0"),
        "system",
        "static",
        "boolean",
        Some("0,1"),
        true,
        "Enables logical decoding.",
    ),
    (
        "session_replication_role",
        None,
        "engine-default",
        "dynamic",
        "string",
        Some("origin,replica,local"),
        true,
        "Behaviour of triggers.",
    ),
    (
        "wal_sender_timeout",
        Some("30000"),
        "system",
        "dynamic",
        "integer",
        Some("0-3600000"),
        true,
        "(ms) Sets the maximum time to wait for WAL replication.",
    ),
];

/// The parameters of every family, by name.
pub(super) fn all() -> impl Iterator<Item = Parameter> {
    ROWS.into_iter().map(|(name, value, source, apply_type, data_type, allowed, is_modifiable, description)| {
        Parameter { name, value, source, apply_type, data_type, allowed, is_modifiable, description }
    })
}

/// The parameter of that name.
pub(super) fn named(name: &str) -> Option<Parameter> {
    all().find(|parameter| parameter.name == name)
}

impl Parameter {
    pub(super) fn is_static(&self) -> bool {
        self.apply_type == "static"
    }

    /// Whether RDS accepts the value. Ranges are numbers, everything else is a list of words.
    pub(super) fn takes(&self, value: &str) -> bool {
        let Some(allowed) = self.allowed else {
            return true;
        };
        let words = |one: &str| one == value;
        match (self.data_type, value.parse::<i64>()) {
            ("integer", Ok(number)) => {
                let split = allowed.rfind('-').expect("a range");
                let bound = |text: &str| text.parse::<i64>().expect("a number");
                (bound(&allowed[..split])..=bound(&allowed[split + 1..])).contains(&number)
            }
            ("integer", Err(_)) => value.contains('{'),
            _ => allowed.split(',').any(words),
        }
    }
}

/// The family of an engine version, as in `aurora-postgresql16`.
pub(super) fn family(engine: &str, version: &str) -> String {
    format!("{engine}{}", version.split('.').next().unwrap_or(version))
}

/// The settings of a Postgres server, from the values that users have set in the group.
pub(super) fn server_settings(values: &BTreeMap<String, String>) -> Settings {
    let is_logical = values.get("rds.logical_replication").is_some_and(|value| value == "1");
    let mut server = match is_logical {
        true => settings([("wal_level", "logical"), ("rds.logical_replication", "on")]),
        false => settings([("wal_level", "replica"), ("rds.logical_replication", "off")]),
    };
    // The engine's own values for a reset: otherwise a server would keep a value that was set once.
    server.extend(settings([
        ("log_min_duration_statement", "-1"),
        ("logical_decoding_work_mem", "65536"),
        ("max_logical_replication_workers", "4"),
        ("max_slot_wal_keep_size", "-1"),
    ]));
    server.extend(all().filter_map(|parameter| {
        let known = !parameter.name.starts_with("rds.") && parameter.name != "session_replication_role";
        let default = || parameter.value.map(str::to_owned);
        let value = values.get(parameter.name).cloned().or_else(default).filter(|value| !value.contains('{'))?;
        known.then(|| (parameter.name.to_owned(), value))
    }));
    server
}
