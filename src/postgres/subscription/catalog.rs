// SPDX-License-Identifier: MPL-2.0

//! Reads subscriptions, and runs changes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::changes::{disable, enable};
use super::progress::SyncState;
use super::{Options, Origin, SlotName, Streaming, Subscription, Subscriptions};
use crate::postgres::conninfo::Conninfo;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::lost::look_again;
use crate::postgres::notice::Notice;
use crate::postgres::sql::{Ident, QualifiedName, Statement};
use crate::postgres::version::{self, Feature, ServerVersion};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// All subscriptions of the database, from a snapshot that is at most two seconds old.
pub async fn fetch_all(db: &Database) -> Result<Arc<Subscriptions>> {
    db.snapshot::<Subscriptions>().get(|| db.changes(), load(db, "reading the subscriptions", None)).await
}

/// All subscriptions of the database now, by a query of its own.
pub async fn fetch_all_now(db: &Database) -> Result<Subscriptions> {
    load(db, "reading the subscriptions", None).await
}

/// One subscription, from the same snapshot.
pub async fn fetch(db: &Database, name: &Ident) -> Result<Option<Subscription>> {
    Ok(fetch_all(db).await?.get(name).cloned())
}

/// One subscription as it is now, by a query of its own: for the moments before and after a change.
pub async fn fetch_now(db: &Database, name: &Ident) -> Result<Option<Subscription>> {
    let doing = format!("reading subscription {name}");
    Ok(load(db, &doing, Some(name)).await?.remove(name))
}

async fn load(db: &Database, doing: &str, name: Option<&Ident>) -> Result<Subscriptions> {
    let failed = |error| db.error(doing, Cause::Statement(error));
    let bound = name.map(Ident::as_str);
    let sql = query(db.version().await?);
    let rows = db.query(doing, &sql, &[(&bound, Type::TEXT)]).await?;
    let mut subscriptions = read_rows(&rows).map_err(failed)?;
    let visible = rows.first().map(|row| row.try_get(CONNECTIONS_VISIBLE));
    if matches!(visible, Some(Ok(true))) {
        let rows = db.query(doing, CONNECTIONS, &[(&bound, Type::TEXT)]).await?;
        for row in &rows {
            let (name, connection) = read_connection(row).map_err(failed)?;
            if let Some(subscription) = subscriptions.get_mut(&name) {
                subscription.connection = connection;
            }
        }
    }
    Ok(subscriptions)
}

/// The only column of `pg_subscription` that not every role may read, so it needs a query of its own.
const CONNECTIONS: &str = "SELECT s.subname, s.subconninfo FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
    WHERE d.datname = current_database() AND ($1 IS NULL OR s.subname = $1)";

/// The column of [`query`] that says whether the role may read the connections.
const CONNECTIONS_VISIBLE: usize = 14;

fn read_connection(row: &Row) -> RowResult<(Ident, Option<Conninfo>)> {
    let text: Option<&str> = row.try_get(1)?;
    Ok((Ident::from_catalog(row.try_get(0)?), text.and_then(Conninfo::from_catalog)))
}

/// `pg_subscription` is shared by all databases of a cluster: only the rows of the connected one are ours.
fn query(version: ServerVersion) -> String {
    let since = |feature: Feature, column: &'static str, absent: &'static str| {
        if version.has(feature) { column } else { absent }
    };
    let streaming =
        since(version::PARALLEL_STREAMING, "s.substream::text", "CASE WHEN s.substream THEN 't' ELSE 'f' END");
    let columns = [
        "s.subname",
        "pg_get_userbyid(s.subowner)",
        "s.subenabled",
        "s.subpublications",
        "s.subslotname",
        "s.subbinary",
        streaming,
        "s.subsynccommit",
        since(version::TWO_PHASE, "s.subtwophasestate <> 'd'", "NULL::boolean"),
        since(version::DISABLE_ON_ERROR, "s.subdisableonerr", "NULL::boolean"),
        since(version::PASSWORD_REQUIRED, "s.subpasswordrequired", "NULL::boolean"),
        since(version::RUN_AS_OWNER, "s.subrunasowner", "NULL::boolean"),
        since(version::ORIGIN, "s.suborigin", "NULL::text"),
        since(version::FAILOVER, "s.subfailover", "NULL::boolean"),
        "has_column_privilege('pg_subscription', 'subconninfo', 'SELECT')",
    ];
    format!(
        "SELECT {} FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
         WHERE d.datname = current_database() AND ($1 IS NULL OR s.subname = $1)",
        columns.join(", ")
    )
}

fn read_rows(rows: &[Row]) -> RowResult<Subscriptions> {
    rows.iter().map(|row| read_row(row).map(|subscription| (subscription.name.clone(), subscription))).collect()
}

fn read_row(row: &Row) -> RowResult<Subscription> {
    let publications: Vec<&str> = row.try_get(3)?;
    let slot: Option<&str> = row.try_get(4)?;
    Ok(Subscription {
        name: Ident::from_catalog(row.try_get(0)?),
        owner: Some(Ident::from_catalog(row.try_get(1)?)),
        enabled: row.try_get(2)?,
        publications: publications.into_iter().map(Ident::from_catalog).collect(),
        connection: None,
        slot: Some(slot.map_or(SlotName::None, |slot| SlotName::Named(Ident::from_catalog(slot)))),
        options: read_options(row)?,
    })
}

fn read_options(row: &Row) -> RowResult<Options> {
    let streaming = match row.try_get(6)? {
        "f" => Streaming::Off,
        "p" => Streaming::Parallel,
        _ => Streaming::On,
    };
    Ok(Options {
        binary: row.try_get(5)?,
        streaming: Some(streaming),
        synchronous_commit: row.try_get(7)?,
        two_phase: row.try_get(8)?,
        disable_on_error: row.try_get(9)?,
        password_required: row.try_get(10)?,
        run_as_owner: row.try_get(11)?,
        origin: row.try_get::<_, Option<&str>>(12)?.and_then(Origin::from_name),
        failover: row.try_get(13)?,
    })
}

/// The subscriptions that read from slots of these names, in any database of the cluster: database and name of each,
/// by slot. Omits slot names that two subscriptions use: their slots are on different publishers.
///
/// # Errors
/// When a query fails.
pub async fn reading_from(subscriber: &Database, slots: &BTreeSet<Ident>) -> Result<BTreeMap<Ident, (String, Ident)>> {
    let doing = "looking for the subscriptions that read from replication slots";
    let names: Vec<&str> = slots.iter().map(Ident::as_str).collect();
    let sql = "SELECT s.subslotname::text, min(d.datname::text), min(s.subname::text) FROM pg_subscription s \
        JOIN pg_database d ON d.oid = s.subdbid WHERE s.subslotname = ANY ($1) GROUP BY 1 HAVING count(*) = 1";
    let rows = subscriber.query(doing, sql, &[(&names, Type::TEXT_ARRAY)]).await?;
    let read = |row: &Row| {
        let found = (row.try_get::<_, &str>(1)?.to_owned(), Ident::from_catalog(row.try_get(2)?));
        Ok((Ident::from_catalog(row.try_get(0)?), found))
    };
    let found: RowResult<_> = rows.iter().map(read).collect();
    found.map_err(|error| subscriber.error(doing, Cause::Statement(error)))
}

/// Runs statements of [`diff`](super::diff), and reads the subscription back.
///
/// `name` is its name afterwards. If a step fails while the subscription is disabled only for it, it is enabled
/// again; if that fails too, the error says so.
pub async fn apply(
    db: &Database,
    doing: &str,
    statements: &[Statement],
    name: &Ident,
    limits: &Limits,
) -> Result<(Vec<Notice>, Option<Subscription>)> {
    let paused = statements.contains(&disable(name)) && statements.contains(&enable(name));
    match db.run_within(doing, statements, limits).await {
        Ok(notices) => Ok((notices, fetch_now(db, name).await?)),
        Err(error) if paused && !error.is_connect() => Err(enable_again(db, doing, name, limits, error).await),
        Err(error) => Err(error),
    }
}

/// Enables the subscription again after a failure. Waits for a server that is restarting.
async fn enable_again(db: &Database, doing: &str, name: &Ident, limits: &Limits, error: Error) -> Error {
    let there = match error.is_lost() {
        true => look_again(limits, || fetch_now(db, name)).await.is_some(),
        false => true,
    };
    if there && db.run(doing, &[enable(name)]).await.is_ok() {
        return error;
    }
    error.noting(format!("Subscription {name} may be left disabled; ALTER SUBSCRIPTION {name} ENABLE starts it again."))
}

/// The numbers of the tables that subscriptions of the database have taken up; `None` where it has no subscription.
///
/// # Errors
/// When a query fails.
pub async fn taken_up(subscriber: &Database) -> Result<Option<BTreeSet<i64>>> {
    let sql = "SELECT r.srrelid::int8 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
        LEFT JOIN pg_subscription_rel r ON r.srsubid = s.oid WHERE d.datname = current_database()";
    let read = |row: &Row| row.try_get::<_, Option<i64>>(0);
    let found = subscriber.query_all("reading which tables are subscribed to", sql, &[], read).await?;
    Ok((!found.is_empty()).then(|| found.into_iter().flatten().collect()))
}

/// The tables of a subscription with the state of each, by name.
pub async fn tables(subscriber: &Database, name: &Ident) -> Result<Vec<(QualifiedName, SyncState)>> {
    let doing = format!("reading the tables of subscription {name}");
    let sql = "SELECT n.nspname::text, c.relname::text, r.srsubstate FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
        JOIN pg_subscription_rel r ON r.srsubid = s.oid JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE d.datname = current_database() AND s.subname = $1 ORDER BY 1, 2";
    let rows = subscriber.query(&doing, sql, &[(&name.as_str(), Type::TEXT)]).await?;
    let read = |row: &Row| {
        Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), SyncState::from_catalog(row.try_get(2)?)))
    };
    rows.iter().map(read).collect::<RowResult<_>>().map_err(|error| subscriber.error(&doing, Cause::Statement(error)))
}

/// The slots on the publisher that copy tables now, by the subscriber's names for them. They are dropped with the copy,
/// or with the subscription if the publisher can be reached.
///
/// Source: `ReplicationSlotNameForTablesync` in Postgres' `tablesync.c`.
pub async fn sync_slots(subscriber: &Database, name: &Ident) -> Result<Vec<Ident>> {
    let doing = format!("reading the tables of subscription {name}");
    let sql = "SELECT format('pg_%s_sync_%s_%s', s.oid, r.srrelid, (SELECT system_identifier FROM pg_control_system())) \
        FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid JOIN pg_subscription_rel r ON r.srsubid = s.oid \
        WHERE d.datname = current_database() AND s.subname = $1 AND r.srsubstate NOT IN ('i', 's', 'r') ORDER BY 1";
    let rows = subscriber.query(&doing, sql, &[(&name.as_str(), Type::TEXT)]).await?;
    let read = |row: &Row| row.try_get(0).map(Ident::from_catalog);
    rows.iter().map(read).collect::<RowResult<_>>().map_err(|error| subscriber.error(&doing, Cause::Statement(error)))
}
