// SPDX-License-Identifier: MPL-2.0

//! Facts about a server, its roles and its sessions: replication depends on them, although they are not part of its
//! objects.
//!
//! Each of them is one query, whatever the number of objects.
//!
//! Source: the views `pg_settings`, `pg_stat_activity`, `pg_prepared_xacts` and `pg_replication_slots` and the catalogs
//! `pg_database`, `pg_roles`, `pg_db_role_setting` and `pg_extension` in the Postgres documentation; `aurora_version` in the
//! Aurora user guide.

mod activity;
mod roles;

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

pub use activity::{OldTransaction, PreparedTransaction, SlotInUse, Transactions, logical_slots, transactions};
pub use roles::{Role, RoleSetting, Roles, role_settings, roles};

use super::database::Database;
use super::error::{Cause, Result};
use super::version::ServerVersion;

/// Facts about a server, and how its database stores text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// Whether it replays the WAL of another server: a standby, or a reader of Aurora.
    pub in_recovery: bool,
    /// Whether it is Aurora.
    pub is_aurora: bool,
    /// The encoding of the database, such as `UTF8`.
    pub encoding: String,
    /// The collation: its provider and locale, such as `libc en_US.UTF-8`.
    pub collation: String,
    /// `LC_CTYPE` of the database.
    pub ctype: String,
    /// How many subscription workers run on the cluster, including those that copy tables.
    pub workers: u64,
    /// How many replication origins the cluster has: one for each subscription, and one for each table that is copied.
    pub origins: u64,
    /// The settings of `SETTINGS` that the server has, in the unit in which it keeps them, such as milliseconds or
    /// megabytes.
    pub settings: BTreeMap<String, String>,
}

/// The settings that are read.
const SETTINGS: [&str; 12] = [
    "wal_level",
    "rds.logical_replication",
    "max_replication_slots",
    "max_wal_senders",
    "max_worker_processes",
    "max_logical_replication_workers",
    "max_sync_workers_per_subscription",
    "max_active_replication_origins",
    "max_slot_wal_keep_size",
    "wal_sender_timeout",
    "wal_receiver_timeout",
    "idle_replication_slot_timeout",
];

impl ServerFacts {
    /// A setting as text; none if the server does not have it.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Whether the server is RDS or Aurora, where rights come from AWS's own roles.
    pub fn is_rds(&self) -> bool {
        self.setting("rds.logical_replication").is_some()
    }

    /// A setting that is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.setting(name)?.parse().ok()
    }
}

/// Reads the facts about the server.
///
/// # Errors
/// When a query fails.
pub async fn server_facts(db: &Database) -> Result<ServerFacts> {
    let doing = "asking the server what it is";
    let sql = query(db.version().await?);
    let facts = db
        .query_all(doing, &sql, &[], |row| {
            Ok(ServerFacts {
                in_recovery: row.try_get(0)?,
                is_aurora: row.try_get(1)?,
                encoding: row.try_get(2)?,
                collation: row.try_get(3)?,
                ctype: row.try_get(4)?,
                workers: count(row.try_get(5)?),
                origins: count(row.try_get(6)?),
                settings: BTreeMap::new(),
            })
        })
        .await?;
    let facts =
        facts.into_iter().next().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))?;
    let names = SETTINGS.to_vec();
    // The view omits settings that no loaded library defines.
    let sql = "SELECT name, setting FROM pg_settings WHERE name = ANY ($1) AND setting IS NOT NULL \
        UNION SELECT 'rds.logical_replication', s FROM current_setting('rds.logical_replication', true) s WHERE s IS NOT NULL";
    let settings =
        db.query_all(doing, sql, &[(&names, Type::TEXT_ARRAY)], |row| Ok((row.try_get(0)?, row.try_get(1)?))).await?;
    Ok(ServerFacts { settings: settings.into_iter().collect(), ..facts })
}

/// `pg_database` has the provider of the collation since Postgres 15, and other names for its locale since 17.
fn query(version: ServerVersion) -> String {
    let collation = match version.major() {
        ..=14 => "concat('libc ', d.datcollate)".to_owned(),
        major => {
            let locale = if major >= 17 { "d.datlocale" } else { "d.daticulocale" };
            format!(
                "concat(CASE d.datlocprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END, ' ', \
                 coalesce({locale}, d.datcollate))"
            )
        }
    };
    format!(
        "SELECT pg_is_in_recovery(), to_regprocedure('pg_catalog.aurora_version()') IS NOT NULL, \
         pg_encoding_to_char(d.encoding)::text, {collation}, d.datctype::text, \
         (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL), (SELECT count(*) FROM pg_replication_origin) \
         FROM pg_database d WHERE d.datname = current_database()"
    )
}

/// A count that the server gives, which is never negative.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
