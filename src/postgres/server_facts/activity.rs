// SPDX-License-Identifier: MPL-2.0

//! The current activity on a server: transactions that the creation of a slot waits for, and others' slots.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::count;
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::Ident;

/// The transactions of a cluster that have written and have not ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transactions {
    /// The long ones.
    pub old: Vec<OldTransaction>,
    /// How many have written but do not show for how long, because the role may not see it.
    pub hidden: u64,
    /// The prepared ones (two-phase commit).
    pub prepared: Vec<PreparedTransaction>,
}

/// A transaction that has been open for long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldTransaction {
    /// The server's process.
    pub process: i32,
    /// The role and application name of the session.
    pub whose: String,
    /// The database that it is in.
    pub database: String,
    /// How long it has been open, in seconds.
    pub seconds: u64,
}

/// A prepared transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedTransaction {
    /// The name that it was given.
    pub name: String,
    /// The database that it is in.
    pub database: String,
    /// How long it has been open, in seconds.
    pub seconds: u64,
}

/// The transactions of the cluster that have written and have been open for longer than `old`, and all prepared ones.
///
/// # Errors
/// When a query fails.
pub async fn transactions(db: &Database, old: Duration) -> Result<Transactions> {
    let doing = "looking for old transactions";
    let sql = "SELECT a.pid, concat_ws(', ', a.usename, nullif(a.application_name, '')), coalesce(a.datname::text, ''), \
         extract(epoch FROM now() - a.xact_start)::bigint FROM pg_stat_activity a \
         WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid() ORDER BY a.xact_start, a.pid";
    let open = db
        .query_all(doing, sql, &[], |row| {
            let seconds: Option<i64> = row.try_get(3)?;
            let (process, whose, database) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(seconds.map(|seconds| OldTransaction { process, whose, database, seconds: count(seconds) }))
        })
        .await?;
    let sql = "SELECT gid, database::text, extract(epoch FROM now() - prepared)::bigint FROM pg_prepared_xacts ORDER BY prepared, gid";
    let prepared = db
        .query_all(doing, sql, &[], |row| {
            Ok(PreparedTransaction {
                name: row.try_get(0)?,
                database: row.try_get(1)?,
                seconds: count(row.try_get(2)?),
            })
        })
        .await?;
    let hidden = open.iter().filter(|transaction| transaction.is_none()).count();
    let is_old = |transaction: &OldTransaction| transaction.seconds >= old.as_secs();
    Ok(Transactions {
        old: open.into_iter().flatten().filter(is_old).collect(),
        hidden: u64::try_from(hidden).unwrap_or_default(),
        prepared,
    })
}

/// A logical slot of the cluster, in any database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotInUse {
    /// Its name.
    pub name: Ident,
    /// Its database.
    pub database: String,
    /// Whether something reads from it.
    pub active: bool,
    /// `wal_status`.
    pub wal_status: String,
    /// How much WAL the server keeps for it, in bytes.
    pub held_back: u64,
}

/// The logical slots of the cluster by name, without temporary ones for copies of tables.
///
/// # Errors
/// When a query fails.
pub async fn logical_slots(db: &Database) -> Result<Vec<SlotInUse>> {
    let doing = "reading the replication slots of the server";
    let sql = "SELECT s.slot_name::text, s.database::text, s.active, coalesce(s.wal_status, 'reserved'), \
         greatest(0, (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END \
           - s.restart_lsn)::bigint) FROM pg_replication_slots s WHERE s.slot_type = 'logical' AND NOT s.temporary \
         AND s.slot_name !~ $1 ORDER BY 1";
    let sync = "^pg_[0-9]+_sync_[0-9]+_[0-9]+$";
    db.query_all(doing, sql, &[(&sync, Type::TEXT)], |row| {
        Ok(SlotInUse {
            name: Ident::from_catalog(row.try_get(0)?),
            database: row.try_get(1)?,
            active: row.try_get(2)?,
            wal_status: row.try_get(3)?,
            held_back: count(row.try_get::<_, Option<i64>>(4)?.unwrap_or_default()),
        })
    })
    .await
}
