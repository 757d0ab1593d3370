// SPDX-License-Identifier: MPL-2.0

//! The positions of slots, compared with their server's current position.
//!
//! Source: `pg_replication_slots` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Home;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::Ident;
use crate::postgres::version;

/// A slot of any kind and database of the cluster, with the lag of its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Its place.
    pub home: Home,
    /// Its output plugin; none if it is physical.
    pub plugin: Option<String>,
    /// Whether something reads from it.
    pub active: bool,
    /// The application name of its reader: a subscription's worker uses the name of its subscription.
    pub reader: Option<String>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// The oldest WAL position that it keeps, as the text of an LSN; absent if it is lost.
    pub restart_lsn: Option<String>,
    /// The position that its reader has confirmed.
    pub confirmed: Option<String>,
    /// How much WAL can still be written before it may be lost, in bytes; absent without a limit.
    pub safe_wal_size: Option<i64>,
    /// How much was written but is not confirmed, in bytes of WAL; absent if it is physical or is being created.
    pub lag: Option<u64>,
    /// Why it was invalidated, such as `wal_removed` (Postgres 17; before, never).
    pub invalidation: Option<String>,
}

impl Position {
    /// Whether WAL that it needs was removed, so that it cannot be read any more.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation.is_some()
    }
}

/// The slots of these names, in any database: names are unique in the cluster.
///
/// # Errors
/// When a query fails.
pub async fn positions(db: &Database, names: &BTreeSet<Ident>) -> Result<BTreeMap<Ident, Position>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let doing = "reading how far replication slots are";
    let invalidation = if db.version().await?.has(version::FAILOVER) { "s.invalidation_reason" } else { "NULL::text" };
    let sql = format!(
        "SELECT s.slot_name::text, s.database::text, s.plugin::text, s.active, nullif(a.application_name, ''), s.wal_status, \
         s.restart_lsn::text, s.confirmed_flush_lsn::text, s.safe_wal_size, \
         greatest(w.lsn - s.confirmed_flush_lsn, 0)::bigint, {invalidation} \
         FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
         CROSS JOIN ({}) w WHERE s.slot_name = ANY ($1)",
        super::WRITTEN
    );
    let names: Vec<&str> = names.iter().map(Ident::as_str).collect();
    let rows = db.query(doing, &sql, &[(&names, Type::NAME_ARRAY)]).await?;
    let read: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
    read.map_err(|error| db.error(doing, Cause::Statement(error)))
}

fn read(row: &Row) -> std::result::Result<(Ident, Position), tokio_postgres::Error> {
    let position = Position {
        home: row.try_get::<_, Option<String>>(1)?.map_or(Home::Cluster, Home::Database),
        plugin: row.try_get(2)?,
        active: row.try_get(3)?,
        reader: row.try_get(4)?,
        wal_status: row.try_get(5)?,
        restart_lsn: row.try_get(6)?,
        confirmed: row.try_get(7)?,
        safe_wal_size: row.try_get(8)?,
        lag: row.try_get::<_, Option<i64>>(9)?.and_then(|lag| u64::try_from(lag).ok()),
        invalidation: row.try_get(10)?,
    };
    Ok((Ident::from_catalog(row.try_get(0)?), position))
}
