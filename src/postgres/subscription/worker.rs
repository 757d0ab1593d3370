// SPDX-License-Identifier: MPL-2.0

//! The worker of a subscription, and its traces on the server that it reads from.
//!
//! Source: the views `pg_stat_subscription`, `pg_replication_slots` and `pg_stat_activity` in the Postgres documentation.

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::Ident;
use crate::postgres::version;

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// The worker that applies a subscription's changes, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its process on the subscriber. After a failure it ends, and another one is started later.
    pub pid: i32,
    /// The last position that its publisher has sent, as the text of an LSN; absent until it has connected.
    pub received: Option<String>,
}

impl Worker {
    /// Whether it has connected to its publisher, which sends its position at once.
    pub fn is_connected(&self) -> bool {
        self.received.is_some()
    }
}

/// The worker of a subscription; `None` if none runs at the moment.
///
/// # Errors
/// When a query fails.
pub async fn worker(subscriber: &Database, name: &Ident) -> Result<Option<Worker>> {
    let doing = format!("looking for the worker of subscription {name}");
    // Parallel apply workers have no position of their own.
    let leads =
        if subscriber.version().await?.has(version::PARALLEL_STREAMING) { "AND w.leader_pid IS NULL" } else { "" };
    let sql = format!(
        "SELECT w.pid, w.received_lsn::text FROM pg_stat_subscription w JOIN pg_subscription s ON s.oid = w.subid \
         JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = $1 \
         AND w.relid IS NULL AND w.pid IS NOT NULL {leads}"
    );
    let rows = subscriber.query(&doing, &sql, &[(&name.as_str(), Type::TEXT)]).await?;
    let read = |row: &Row| Ok(Worker { pid: row.try_get(0)?, received: row.try_get(1)? });
    let found: RowResult<_> = rows.first().map(read).transpose();
    found.map_err(|error| subscriber.error(&doing, Cause::Statement(error)))
}

/// Whether the worker of this subscription reads from this slot of this database. `false` only means that this cannot
/// be seen now.
///
/// A slot's reader has the name of its subscription, but a reader from another server may have the same name. The
/// positions that a subscription has confirmed, has received, and that its server has written are in this order only on
/// the right server: positions of other clusters do not fit in between. `reader` is the worker's application name.
///
/// # Errors
/// When one of the two servers cannot be queried.
pub async fn reads_from(
    publisher: &Database,
    slot: &Ident,
    subscriber: &Database,
    name: &Ident,
    reader: &str,
) -> Result<bool> {
    let Some(confirmed) = confirmed_by(publisher, slot, reader).await? else { return Ok(false) };
    let Some(received) = worker(subscriber, name).await?.and_then(|worker| worker.received) else { return Ok(false) };
    is_between(publisher, &confirmed, &received).await
}

/// The position of a slot of this database that the reader of that name has confirmed.
async fn confirmed_by(publisher: &Database, slot: &Ident, reader: &str) -> Result<Option<String>> {
    let doing = format!("looking for the reader of replication slot {slot}");
    let sql = "SELECT s.confirmed_flush_lsn::text, a.application_name FROM pg_replication_slots s \
        JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1 AND s.database = current_database()";
    let rows = publisher.query(&doing, sql, &[(&slot.as_str(), Type::NAME)]).await?;
    let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let found: RowResult<Option<(Option<String>, Option<String>)>> = rows.first().map(read).transpose();
    let found = found.map_err(|error| publisher.error(&doing, Cause::Statement(error)))?;
    Ok(found.filter(|(_, name)| is_named(name.as_deref(), reader)).and_then(|(confirmed, _)| confirmed))
}

/// Whether a session has this name. Postgres replaces characters outside ASCII, depending on its version.
fn is_named(found: Option<&str>, name: &str) -> bool {
    !name.is_ascii() || found == Some(name)
}

async fn is_between(publisher: &Database, confirmed: &str, received: &str) -> Result<bool> {
    let doing = "comparing WAL positions";
    let sql = "SELECT $2::text::pg_lsn BETWEEN $1::text::pg_lsn AND \
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END";
    let rows = publisher.query(doing, sql, &[(&confirmed, Type::TEXT), (&received, Type::TEXT)]).await?;
    let found: RowResult<Option<Option<bool>>> = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.map_err(|error| publisher.error(doing, Cause::Statement(error)))?.flatten().unwrap_or(false))
}

/// The system identifier of a cluster. Copies of a cluster have the same one, so equal identifiers prove nothing,
/// but different ones mean different servers.
///
/// # Errors
/// When a query fails.
pub async fn system_identifier(db: &Database) -> Result<String> {
    let doing = "reading the identifier of the cluster";
    let rows = db.query(doing, "SELECT system_identifier::text FROM pg_control_system()", &[]).await?;
    let found: RowResult<Option<String>> = rows.first().map(|row| row.try_get(0)).transpose();
    let found = found.map_err(|error| db.error(doing, Cause::Statement(error)))?;
    found.ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_told_by_a_name_that_travels() {
        assert!(is_named(Some("shop"), "shop"));
        assert!(!is_named(Some("other"), "shop") && !is_named(None, "shop"));
        assert!(is_named(Some("caf\\xc3\\xa9"), "café"));
    }
}
