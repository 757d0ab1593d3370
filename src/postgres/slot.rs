// SPDX-License-Identifier: MPL-2.0

//! Logical replication slots.
//!
//! Source: "Replication Management Functions" and `pg_replication_slots` in the Postgres documentation.

mod barrier;
mod forerunner;
mod handover;
mod made_for;
mod pending;
mod permission;
mod position;
mod standing;
mod taking;
mod usage;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use usage::{Namer, Reads, Usage, named_by, usage};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::Database;
use super::error::{Cause, Result};
use super::limits::Limits;
use super::lost::look_again;
use super::sql::{Ident, Literal, Statement};
use super::version::{self, ServerVersion, Unsupported};
use super::walsender;

pub use barrier::{Barrier, barrier};
pub use forerunner::Forerunner;
pub use handover::{advance, confirmed, copy, has_pending};
pub use made_for::{create_for, is_made_for};
pub use pending::{Columns, Pending, pending};
pub use permission::forbidden;
pub use position::{Position, positions};
pub use standing::{Standing, Unusable, standing};
pub use taking::Taking;

/// All logical slots of one database, by name.
pub type Slots = BTreeMap<Ident, Slot>;

/// A logical replication slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name: lower-case letters, digits and underscores.
    pub name: Ident,
    /// Its output plugin; `pgoutput` for subscriptions.
    pub plugin: String,
    /// Whether it decodes prepared transactions.
    pub two_phase: bool,
    /// Whether it is copied to standbys (Postgres 17; before, never).
    pub failover: bool,
    /// Whether something reads from it now.
    pub active: bool,
    /// Whether it can be read from; not while it is being created, which waits for older transactions.
    pub ready: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// The oldest WAL position that it keeps; absent when it is lost.
    pub restart_lsn: Option<String>,
    /// The position that its reader has confirmed, as the text of an LSN; its start before the first read.
    pub confirmed: Option<String>,
    /// Why it was invalidated, such as `wal_removed` or `idle_timeout` (Postgres 17; before, never).
    pub invalidation: Option<String>,
}

impl Slot {
    /// A slot for a subscription, as `CREATE SUBSCRIPTION` creates it.
    pub fn new(name: Ident) -> Self {
        Self {
            name,
            plugin: "pgoutput".to_owned(),
            two_phase: false,
            failover: false,
            active: false,
            ready: true,
            wal_status: None,
            restart_lsn: None,
            confirmed: None,
            invalidation: None,
        }
    }

    /// Whether WAL that it needs was removed, so that it cannot be read any more.
    pub fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost")
    }

    /// Fails if the server's version lacks a feature of it, and names the attribute.
    pub fn check_supported(&self, version: ServerVersion) -> std::result::Result<(), Unsupported> {
        if self.failover { version.require(version::FAILOVER) } else { Ok(()) }
    }

    /// Whether it is the temporary slot of a worker that copies one table:
    /// `pg_<subscription>_sync_<table>_<system>`, from Postgres's `ReplicationSlotNameForTablesync`.
    pub fn is_of_table_sync(&self) -> bool {
        let parts: Vec<_> = self.name.as_str().split('_').collect();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match parts.as_slice() {
            ["pg", subscription, "sync", table, system] => {
                [subscription, table, system].into_iter().all(|n| is_number(n))
            }
            _ => false,
        }
    }
}

/// Checks that a text is valid as a slot's name; the message says what is wrong.
pub fn check_name(text: &str) -> std::result::Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(fits) {
        return Err(format!(
            "{text:?} is not a valid slot name: it must be 1 to 63 lower-case letters, digits and underscores."
        ));
    }
    Ok(())
}

/// The statement that creates a slot in the connected database.
pub fn create(slot: &Slot, version: ServerVersion) -> std::result::Result<Statement, Unsupported> {
    slot.check_supported(version)?;
    // Postgres refuses it in a transaction that has written, so it stands alone.
    Ok(Statement::alone(format!("SELECT pg_create_logical_replication_slot({})", arguments(slot))))
}

/// The same for people, for a server with all features of the slot.
pub fn by_hand(slot: &Slot) -> String {
    format!("SELECT pg_create_logical_replication_slot({});", arguments(slot))
}

fn arguments(slot: &Slot) -> String {
    let mut arguments = format!("{}, {}, false", Literal(slot.name.as_str()), Literal(&slot.plugin));
    if slot.two_phase || slot.failover {
        arguments.push_str(if slot.two_phase { ", true" } else { ", false" });
    }
    if slot.failover {
        arguments.push_str(", true");
    }
    arguments
}

/// The statement that drops a slot. Fails while the slot is active (55006), and if it does not exist (42704).
pub fn drop_slot(name: &Ident) -> Statement {
    Statement::alone(format!("SELECT pg_drop_replication_slot({})", Literal(name.as_str())))
}

/// Sets whether a slot is copied to standbys, in place and without losing its position (Postgres 17).
///
/// No SQL function does this, so it needs a connection in replication mode. It waits while something reads from the
/// slot.
///
/// # Errors
/// When the role may not connect in this mode, the server refuses it, or a limit is reached.
pub async fn set_failover(db: &Database, doing: &str, name: &Ident, failover: bool, limits: &Limits) -> Result<()> {
    let command = format!("ALTER_REPLICATION_SLOT {name} (FAILOVER {failover})");
    match walsender::run(db, doing, &command, limits).await {
        Err(error) if error.is_lost() => match look_again(limits, || fetch_now(db, name)).await {
            Some(Some(found)) if found.failover == failover => Ok(()),
            _ => Err(error),
        },
        result => result,
    }
}

/// All permanent logical slots of the database, from a snapshot that is at most two seconds old.
pub async fn fetch_all(db: &Database) -> Result<Arc<Slots>> {
    db.snapshot::<Slots>().get(|| db.changes(), load(db, "reading the replication slots", None)).await
}

/// One slot, from the same snapshot.
pub async fn fetch(db: &Database, name: &Ident) -> Result<Option<Slot>> {
    Ok(fetch_all(db).await?.get(name).cloned())
}

/// One slot as it is now.
pub async fn fetch_now(db: &Database, name: &Ident) -> Result<Option<Slot>> {
    let doing = format!("reading replication slot {name}");
    Ok(load(db, &doing, Some(name)).await?.remove(name))
}

/// One slot, once it is no longer being created: an unfinished slot disappears with the session that creates it.
///
/// # Errors
/// Also when a limit is reached before that.
pub async fn fetch_settled(db: &Database, doing: &str, name: &Ident, limits: &Limits) -> Result<Option<Slot>> {
    let settled = format!(
        "SELECT NOT EXISTS (SELECT 1 FROM pg_replication_slots WHERE slot_name = {} AND slot_type = 'logical' \
         AND active AND confirmed_flush_lsn IS NULL)",
        Literal(name.as_str())
    );
    db.run_within(doing, &[Statement::wait_until(settled)], limits).await?;
    fetch_now(db, name).await
}

/// The current end of the server's WAL, as the text of an LSN: everything written so far is before it.
///
/// At the beginning of a page, the server reports the position after the page's header, but writes that header only
/// with the next record: on an idle server, a slot would not get there for minutes. So the header is subtracted.
///
/// Source: `pg_current_wal_insert_lsn` in the Postgres documentation; the headers are 24 bytes of a page, and 40 of a
/// segment.
pub async fn current_lsn(db: &Database) -> Result<String> {
    one_fact(db, "reading the WAL position", &format!("SELECT w.lsn::text FROM ({WRITTEN}) w")).await
}

/// The current end of the server's WAL, or, on a standby, the end of the replayed WAL.
const WRITTEN: &str = "SELECT lsn - CASE WHEN mod(lsn - '0/0', segment) = 40 THEN 40 WHEN mod(lsn - '0/0', page) = 24 THEN 24 ELSE 0 END AS lsn \
    FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END AS lsn, \
    current_setting('wal_block_size')::numeric AS page, \
    (SELECT setting::numeric FROM pg_settings WHERE name = 'wal_segment_size') AS segment) p";

/// The number of the next transaction that writes, as text: transactions that have already written have lower ones.
///
/// Source: `pg_current_snapshot` and `pg_snapshot_xmax` in the Postgres documentation.
pub async fn next_transaction(db: &Database) -> Result<String> {
    one_fact(db, "reading the transactions", "SELECT pg_snapshot_xmax(pg_current_snapshot())::text").await
}

/// Whether all earlier transactions that have written, in any database of the cluster, have ended.
///
/// Source: `pg_snapshot_xmin` in the Postgres documentation.
pub async fn have_ended(db: &Database, transaction: &str) -> Result<bool> {
    let doing = "looking for older transactions";
    let sql = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8";
    let rows = db.query(doing, sql, &[(&transaction, Type::TEXT)]).await?;
    let ended = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(ended.map_err(|error| db.error(doing, Cause::Statement(error)))?.unwrap_or(false))
}

async fn one_fact(db: &Database, doing: &str, sql: &str) -> Result<String> {
    let rows = db.query(doing, sql, &[]).await?;
    let fact = rows.first().map(|row| row.try_get(0)).transpose();
    let fact = fact.map_err(|error| db.error(doing, Cause::Statement(error)))?;
    fact.ok_or_else(|| db.error(doing, Cause::Unexpected("it answered nothing".to_owned())))
}

/// Whether the slot's subscription has confirmed everything before this LSN; `None` if there is no such slot.
///
/// Source: `confirmed_flush_lsn` of the view `pg_replication_slots`.
pub async fn has_confirmed(db: &Database, name: &Ident, lsn: &str) -> Result<Option<bool>> {
    let doing = format!("reading how far replication slot {name} is");
    let sql = "SELECT coalesce(confirmed_flush_lsn >= $2::text::pg_lsn, false) FROM pg_replication_slots WHERE slot_name = $1";
    let rows = db.query(&doing, sql, &[(&name.as_str(), Type::NAME), (&lsn, Type::TEXT)]).await?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| db.error(&doing, Cause::Statement(error)))
}

/// The place of a slot in the cluster, where its name is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// A logical slot, of this database.
    Database(String),
    /// A physical slot, of no database.
    Cluster,
}

/// The place of the slot with this name, if it exists.
pub async fn home(db: &Database, name: &Ident) -> Result<Option<Home>> {
    let doing = format!("looking for replication slot {name}");
    let sql = "SELECT database::text FROM pg_replication_slots WHERE slot_name = $1";
    let database = one_text(db, &doing, sql, name).await?;
    Ok(database.map(|database| database.map_or(Home::Cluster, Home::Database)))
}

/// The application name of a slot's reader: a subscription's worker uses the name of its subscription.
pub async fn reader(db: &Database, name: &Ident) -> Result<Option<String>> {
    let doing = format!("looking for the reader of replication slot {name}");
    let sql = "SELECT a.application_name FROM pg_replication_slots s JOIN pg_stat_activity a ON a.pid = s.active_pid \
        WHERE s.slot_name = $1";
    let found = one_text(db, &doing, sql, name).await?.flatten();
    Ok(found.filter(|name| !name.is_empty()))
}

/// The text in the first row, if there is one, of a query about a slot.
async fn one_text(db: &Database, doing: &str, sql: &str, name: &Ident) -> Result<Option<Option<String>>> {
    let rows = db.query(doing, sql, &[(&name.as_str(), Type::TEXT)]).await?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| db.error(doing, Cause::Statement(error)))
}

async fn load(db: &Database, doing: &str, name: Option<&Ident>) -> Result<Slots> {
    let (failover, invalidation) = match db.version().await?.has(version::FAILOVER) {
        true => ("failover", "invalidation_reason"),
        false => ("false", "NULL::text"),
    };
    let sql = format!(
        "SELECT slot_name, plugin, two_phase, {failover}, active, wal_status, restart_lsn::text, \
         confirmed_flush_lsn::text, {invalidation} FROM pg_replication_slots \
         WHERE slot_type = 'logical' AND NOT temporary AND database = current_database() \
         AND ($1 IS NULL OR slot_name = $1)"
    );
    let name = name.map(Ident::as_str);
    let rows = db.query(doing, &sql, &[(&name, Type::TEXT)]).await?;
    let slots: std::result::Result<Vec<_>, _> = rows.iter().map(read_row).collect();
    let slots = slots.map_err(|error| db.error(doing, Cause::Statement(error)))?;
    Ok(slots.into_iter().map(|slot| (slot.name.clone(), slot)).collect())
}

fn read_row(row: &Row) -> std::result::Result<Slot, tokio_postgres::Error> {
    let confirmed: Option<String> = row.try_get(7)?;
    Ok(Slot {
        name: Ident::from_catalog(row.try_get(0)?),
        plugin: row.try_get::<_, &str>(1)?.to_owned(),
        two_phase: row.try_get(2)?,
        failover: row.try_get(3)?,
        active: row.try_get(4)?,
        wal_status: row.try_get(5)?,
        restart_lsn: row.try_get(6)?,
        ready: confirmed.is_some(),
        confirmed,
        invalidation: row.try_get(8)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_create(change: impl FnOnce(&mut Slot), expected: &str) {
        let mut slot = Slot::new(Ident::new("s").unwrap());
        change(&mut slot);
        let text = match create(&slot, ServerVersion::major_only(16)) {
            Ok(statement) => statement.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn a_slot_is_made_with_what_its_version_has() {
        check_create(|_| (), "SELECT pg_create_logical_replication_slot('s', 'pgoutput', false)");
        check_create(
            |slot| slot.two_phase = true,
            "SELECT pg_create_logical_replication_slot('s', 'pgoutput', false, true)",
        );
        check_create(|slot| slot.failover = true, "failover needs Postgres 17 or newer; the server runs 16.0");
        check_create(
            |slot| slot.plugin = "it's".to_owned(),
            "SELECT pg_create_logical_replication_slot('s', 'it''s', false)",
        );
    }

    #[test]
    fn a_slot_of_a_table_is_known_by_its_name() {
        let is_of_table = |name: &str| Slot::new(Ident::new(name).unwrap()).is_of_table_sync();
        assert!(is_of_table("pg_16394_sync_16385_7490111111111111111"));
        for name in ["shop", "pg_16394", "pg_shop_sync_1_2", "pg_1_sync_2", "pg_1_sync_2_3_4"] {
            assert!(!is_of_table(name), "{name}");
        }
    }

    #[test]
    fn a_name_is_what_the_server_takes() {
        for name in ["s", "shop_2", &"n".repeat(63)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "Shop", "a-b", "a b", "é", &"n".repeat(64)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
