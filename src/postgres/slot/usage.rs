// SPDX-License-Identifier: MPL-2.0

//! The use of a slot: how far it was read, by whom, and which subscriptions name it.
//!
//! A slot does not know its owner. The publisher shows its current reader, and each subscriber shows which
//! subscriptions use a slot of this name. Only the connection of a subscription shows whether it means this slot.
//!
//! Source: `pg_replication_slots`, `pg_stat_replication_slots`, `pg_subscription` and `pg_stat_subscription` in the
//! Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::conninfo::Conninfo;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::link::ServerConfig;
use crate::postgres::sql::Ident;

/// The use of a slot, and what is lost with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Whether something reads from it now.
    pub active: bool,
    /// The application name of its reader: a subscription's worker uses the name of its subscription.
    pub reader: Option<String>,
    /// The position that its reader has confirmed, as the text of an LSN.
    pub confirmed: Option<String>,
    /// Whether something has read from it since the server's statistics began.
    pub was_read: bool,
    /// How many bytes of WAL it keeps; none if it is lost.
    pub held_back: Option<u64>,
}

/// The use of a slot of the database; `None` if there is no such slot, or if it is still being created.
///
/// # Errors
/// When a query fails.
pub async fn usage(db: &Database, name: &Ident) -> Result<Option<Usage>> {
    let doing = format!("looking at the use of replication slot {name}");
    let sql = "SELECT s.active, nullif(a.application_name, ''), s.confirmed_flush_lsn::text, coalesce(t.total_txns > 0, false), \
        (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END - s.restart_lsn)::bigint \
        FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid \
        LEFT JOIN pg_stat_replication_slots t ON t.slot_name = s.slot_name \
        WHERE s.slot_name = $1 AND s.slot_type = 'logical' AND s.database = current_database() \
        AND s.confirmed_flush_lsn IS NOT NULL";
    let rows = db.query(&doing, sql, &[(&name.as_str(), Type::NAME)]).await?;
    let usage = rows.first().map(read_usage).transpose();
    usage.map_err(|error| db.error(&doing, Cause::Statement(error)))
}

fn read_usage(row: &Row) -> std::result::Result<Usage, tokio_postgres::Error> {
    Ok(Usage {
        active: row.try_get(0)?,
        reader: row.try_get(1)?,
        confirmed: row.try_get(2)?,
        was_read: row.try_get(3)?,
        held_back: row.try_get::<_, Option<i64>>(4)?.map(|bytes| u64::try_from(bytes).unwrap_or_default()),
    })
}

/// A subscription that names a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namer {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: Ident,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Its connection, if the role may see it.
    pub connection: Option<Conninfo>,
    /// Whether its worker receives changes now, from any server.
    pub receives: bool,
}

/// Whether a subscription that names a slot means the one on a certain server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// It reads from there.
    Surely,
    /// Unknown.
    Perhaps,
    /// It reads from elsewhere.
    Not,
}

impl Namer {
    /// Whether it means the slot of this database with this use.
    pub fn reads_from(&self, publisher: &Database, usage: &Usage) -> Reads {
        self.reads(publisher.config(), publisher.name(), usage)
    }

    fn reads(&self, server: &ServerConfig, database: &str, usage: &Usage) -> Reads {
        let part = |keyword: &str| self.connection.as_ref().and_then(|connection| connection.get(keyword));
        if part("dbname").is_some_and(|named| named != database) {
            return Reads::Not;
        }
        let address = self.address();
        if usage.reader.as_deref() == Some(self.name.as_str()) || address == Some((&server.host, server.port)) {
            return Reads::Surely;
        }
        // Each of these alone may have another reason: another name of the same server, or a moment without the worker.
        if address.is_some() && self.receives && !usage.active { Reads::Not } else { Reads::Perhaps }
    }

    /// The address of its connection, if the role may see it.
    pub fn address(&self) -> Option<(&str, u16)> {
        self.connection.as_ref().and_then(|connection| connection.tcp_address().ok())
    }
}

/// The subscriptions of the cluster, in any database, that use slots of these names, by slot.
///
/// # Errors
/// When a query fails.
pub async fn named_by(subscriber: &Database, slots: &BTreeSet<Ident>) -> Result<BTreeMap<Ident, Vec<Namer>>> {
    let doing = "looking for the subscriptions that name replication slots";
    let failed = |error| subscriber.error(doing, Cause::Statement(error));
    let names: Vec<&str> = slots.iter().map(Ident::as_str).collect();
    let rows = subscriber.query(doing, NAMERS, &[(&names, Type::TEXT_ARRAY)]).await?;
    let mut connections = BTreeMap::new();
    if matches!(rows.first().map(|row| row.try_get(6)), Some(Ok(true))) {
        let sql = "SELECT oid, subconninfo FROM pg_subscription WHERE subslotname = ANY ($1)";
        for row in &subscriber.query(doing, sql, &[(&names, Type::TEXT_ARRAY)]).await? {
            let text: Option<&str> = row.try_get(1).map_err(failed)?;
            connections.insert(row.try_get(0).map_err(failed)?, text.and_then(|text| Conninfo::parse(text).ok()));
        }
    }
    let mut found: BTreeMap<Ident, Vec<Namer>> = BTreeMap::new();
    for row in &rows {
        let (slot, namer) = read_namer(row, &mut connections).map_err(failed)?;
        found.entry(slot).or_default().push(namer);
    }
    Ok(found)
}

const NAMERS: &str = "SELECT s.subslotname::text, d.datname::text, s.subname::text, s.subenabled, s.oid, \
    EXISTS (SELECT 1 FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL AND w.received_lsn IS NOT NULL), \
    has_column_privilege('pg_subscription', 'subconninfo', 'SELECT') \
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE s.subslotname = ANY ($1) ORDER BY 1, 2, 3";

fn read_namer(
    row: &Row,
    connections: &mut BTreeMap<u32, Option<Conninfo>>,
) -> std::result::Result<(Ident, Namer), tokio_postgres::Error> {
    let namer = Namer {
        database: row.try_get(1)?,
        name: Ident::from_catalog(row.try_get(2)?),
        enabled: row.try_get(3)?,
        connection: connections.remove(&row.try_get(4)?).flatten(),
        receives: row.try_get(5)?,
    };
    Ok((Ident::from_catalog(row.try_get(0)?), namer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namer(connection: Option<&str>) -> Namer {
        let connection = connection.map(|text| Conninfo::parse(text).unwrap());
        let (database, name) = ("there".to_owned(), Ident::new("reader").unwrap());
        Namer { database, name, enabled: true, connection, receives: false }
    }

    fn check(namer: &Namer, usage: &Usage, expected: Reads) {
        let server = ServerConfig::new("db.example", "shop", "u");
        assert_eq!(namer.reads(&server, "shop", usage), expected, "{namer:?} {usage:?}");
    }

    #[test]
    fn a_subscription_means_the_slot_where_its_connection_leads() {
        let idle = Usage::default();
        check(&namer(Some("host=db.example dbname=shop")), &idle, Reads::Surely);
        check(&namer(Some("host=db.example dbname=other")), &idle, Reads::Not);
        check(&namer(Some("host=10.0.0.1 dbname=shop")), &idle, Reads::Perhaps);
        check(&namer(None), &idle, Reads::Perhaps);
    }

    #[test]
    fn its_worker_tells_too() {
        let read_by = |name: &str| Usage { active: true, reader: Some(name.to_owned()), ..Usage::default() };
        check(&namer(None), &read_by("reader"), Reads::Surely);
        check(&namer(None), &read_by("another"), Reads::Perhaps);
        let elsewhere = Namer { receives: true, ..namer(Some("host=10.0.0.1 dbname=shop")) };
        check(&elsewhere, &Usage::default(), Reads::Not);
        check(&elsewhere, &read_by("another"), Reads::Perhaps);
        check(&Namer { receives: true, ..namer(None) }, &Usage::default(), Reads::Perhaps);
    }
}
