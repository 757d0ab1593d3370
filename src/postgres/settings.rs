// SPDX-License-Identifier: MPL-2.0

//! The settings and limits of a server that matter for logical replication.
//!
//! Source: `SHOW`, `current_setting`, `pg_postmaster_start_time` and the view `pg_replication_slots` in the Postgres documentation;
//! `aurora_db_instance_identifier` in the Aurora user guide.

use std::net::{IpAddr, SocketAddr};

use super::database::Database;
use super::error::{Cause, Result};
use super::sql::Ident;

/// The settings of a publisher that decide whether it can replicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `wal_level`: `minimal`, `replica` or `logical`.
    pub wal_level: String,
    /// `rds.logical_replication`; absent outside RDS.
    pub rds_logical_replication: Option<String>,
    /// The names of all logical slots of the cluster, in any database.
    pub logical_slots: Vec<String>,
    /// `pg_postmaster_start_time()`, in microseconds since 1970; changes with a restart.
    pub started_at: i64,
    /// `aurora_db_instance_identifier()`; absent outside Aurora.
    pub aurora_instance: Option<String>,
    /// `inet_server_addr()` and `inet_server_port()`: the server's own view of its address.
    pub own_address: Option<SocketAddr>,
}

/// The expression for the start time of the postmaster.
const STARTED_AT: &str = "(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint";

/// Reads the settings.
pub async fn fetch(db: &Database) -> Result<Settings> {
    let settings = fetch_common(db).await?;
    if settings.aurora_instance.is_none() {
        return Ok(settings);
    }
    // A statement cannot name a function that does not exist, so this is a second statement. Did it reach the
    // same server?
    let doing = "asking the server which instance of Aurora it is";
    let sql = format!("SELECT pg_catalog.aurora_db_instance_identifier()::text, {STARTED_AT}");
    let rows = db.query(doing, &sql, &[]).await?;
    let row = rows.first().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))?;
    let read = || Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?));
    let (aurora_instance, started_at) = read().map_err(|error| db.error(doing, Cause::Statement(error)))?;
    if started_at != settings.started_at {
        return Err(db.error(doing, Cause::Unexpected("a different server answered than before".to_owned())));
    }
    Ok(Settings { aurora_instance, ..settings })
}

/// Everything except the name of the instance, which is empty if the server can tell it.
async fn fetch_common(db: &Database) -> Result<Settings> {
    let doing = "reading the server's settings";
    let sql = format!(
        "SELECT current_setting('wal_level'), current_setting('rds.logical_replication', true), \
         ARRAY(SELECT slot_name::text FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1), {STARTED_AT}, \
         CASE WHEN to_regprocedure('pg_catalog.aurora_db_instance_identifier()') IS NOT NULL THEN '' END, \
         host(inet_server_addr()), inet_server_port()"
    );
    let rows = db.query(doing, &sql, &[]).await?;
    let row = rows.first().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))?;
    let read = || {
        let (host, port): (Option<String>, Option<i32>) = (row.try_get(5)?, row.try_get(6)?);
        let address =
            host.and_then(|host| host.parse::<IpAddr>().ok()).zip(port.and_then(|port| u16::try_from(port).ok()));
        Ok(Settings {
            wal_level: row.try_get(0)?,
            rds_logical_replication: row.try_get(1)?,
            logical_slots: row.try_get(2)?,
            started_at: row.try_get(3)?,
            aurora_instance: row.try_get(4)?,
            own_address: address.map(SocketAddr::from),
        })
    };
    read().map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// How many replication slots and WAL senders a publisher has left: the copy of each table temporarily needs one of
/// each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Of `max_replication_slots`.
    pub slots: i64,
    /// Of `max_wal_senders`.
    pub senders: i64,
    /// Whether it is a standby.
    pub is_standby: bool,
}

/// Reads how much room the publisher has.
///
/// # Errors
/// When a query fails.
pub async fn room(db: &Database) -> Result<Room> {
    let doing = "reading how many replication slots are left";
    let sql = "SELECT current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots), \
               current_setting('max_wal_senders')::bigint - (SELECT count(*) FROM pg_stat_replication), pg_is_in_recovery()";
    let rows = db.query(doing, sql, &[]).await?;
    let row = rows.first().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))?;
    let read = || Ok(Room { slots: row.try_get(0)?, senders: row.try_get(1)?, is_standby: row.try_get(2)? });
    read().map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// How many processes for replication a subscriber has left, and whether it starts any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerRoom {
    /// Of `max_logical_replication_workers`.
    pub workers: i64,
    /// Of `max_worker_processes`, which all background workers share.
    pub processes: i64,
    /// Whether it is a standby, where no subscription runs.
    pub is_standby: bool,
}

/// Reads how much room the subscriber has.
///
/// # Errors
/// When a query fails.
pub async fn worker_room(db: &Database) -> Result<WorkerRoom> {
    let sql = "SELECT current_setting('max_logical_replication_workers')::bigint \
        - (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL), \
        current_setting('max_worker_processes')::bigint - (SELECT count(*) FROM pg_stat_activity WHERE backend_type NOT IN \
          ('client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer', 'checkpointer', 'walwriter', \
           'walsender', 'walreceiver', 'archiver', 'startup', 'logger', 'slotsync worker', 'walsummarizer', 'io worker', \
           'standalone backend')), pg_is_in_recovery()";
    let read = |row: &tokio_postgres::Row| {
        Ok(WorkerRoom { workers: row.try_get(0)?, processes: row.try_get(1)?, is_standby: row.try_get(2)? })
    };
    let doing = "reading how many workers are left";
    let room = db.query_all(doing, sql, &[], read).await?;
    room.into_iter().next().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))
}

/// The rights of a role that a subscription logs in as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a right of its own")]
pub struct Login {
    /// Whether it may log in.
    pub can_login: bool,
    /// Whether it may start a WAL sender: `REPLICATION`, or `rds_replication` on RDS.
    pub replicates: bool,
    /// Whether it may connect to the database.
    pub connects: bool,
    /// Whether the server is RDS, where `rds_replication` is granted instead of an attribute.
    pub is_rds: bool,
}

/// Reads the rights of a role on the publisher; none if it does not exist.
///
/// # Errors
/// When a query fails.
pub async fn login(db: &Database, role: &Ident) -> Result<Option<Login>> {
    let sql = "SELECT r.rolcanlogin, r.rolsuper OR r.rolreplication OR coalesce(pg_has_role(r.oid, (SELECT g.oid FROM pg_roles g \
        WHERE g.rolname = 'rds_replication'), 'USAGE'), false), has_database_privilege(r.oid, current_database(), 'CONNECT'), \
        EXISTS (SELECT 1 FROM pg_roles g WHERE g.rolname = 'rds_replication') FROM pg_roles r WHERE r.rolname = $1";
    let read = |row: &tokio_postgres::Row| {
        Ok(Login {
            can_login: row.try_get(0)?,
            replicates: row.try_get(1)?,
            connects: row.try_get(2)?,
            is_rds: row.try_get(3)?,
        })
    };
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), tokio_postgres::types::Type); 1] =
        [(&role.as_str(), tokio_postgres::types::Type::NAME)];
    let found = db.query_all("reading what a role may do", sql, &params, read).await?;
    Ok(found.into_iter().next())
}

/// The start time of the postmaster, in microseconds since 1970. Every role may read it, and clones and standbys have
/// other ones.
///
/// # Errors
/// When a query fails.
pub async fn started_at(db: &Database) -> Result<i64> {
    let doing = "telling one cluster from another";
    let rows = db.query(doing, &format!("SELECT {STARTED_AT}"), &[]).await?;
    let row = rows.first().ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))?;
    row.try_get(0).map_err(|error| db.error(doing, Cause::Statement(error)))
}
