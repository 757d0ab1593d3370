// SPDX-License-Identifier: MPL-2.0

//! The subscriptions of the subscriber's cluster that use a slot of a name.
//!
//! If two read from one slot, each misses the changes that the other gets. The same name may also mean a slot on
//! another publisher, which only roles that may read all connections can see.

use std::fmt;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::Ident;

/// Another subscription that uses a slot of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: Ident,
    /// Its oid: a later subscription has a higher one.
    pub oid: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Whether its worker has received a message from its publisher, and therefore reads from its slot now.
    pub streams: bool,
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subscription {} of database {:?}", self.name, self.database)
    }
}

/// The subscriptions that use a slot of this name, in any database of the cluster.
///
/// # Errors
/// When a query fails.
async fn naming(subscriber: &Database, slot: &Ident) -> Result<Vec<Neighbour>> {
    let doing = format!("looking for the subscriptions that name replication slot {slot}");
    // A worker that is starting already has times (-infinity), but has a position only once its publisher has sent one.
    let sql = "SELECT d.datname::text, s.subname::text, s.oid, s.subenabled, EXISTS (SELECT 1 FROM pg_stat_subscription w WHERE w.subid = s.oid \
        AND w.relid IS NULL AND w.pid IS NOT NULL AND w.received_lsn IS NOT NULL) \
        FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE s.subslotname = $1 ORDER BY 1, 2";
    let rows = subscriber.query(&doing, sql, &[(&slot.as_str(), Type::NAME)]).await?;
    let read = |row: &Row| {
        let (database, name) = (row.try_get(0)?, Ident::from_catalog(row.try_get(1)?));
        Ok(Neighbour { database, name, oid: row.try_get(2)?, enabled: row.try_get(3)?, streams: row.try_get(4)? })
    };
    let found: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
    found.map_err(|error| subscriber.error(&doing, Cause::Statement(error)))
}

/// The subscriptions that use a slot of this name, except the given one in the connected database.
///
/// # Errors
/// When a query fails.
pub async fn neighbours(subscriber: &Database, slot: &Ident, but: &Ident) -> Result<Vec<Neighbour>> {
    Ok(apart(naming(subscriber, slot).await?, subscriber.name(), but).1)
}

/// The subscription of this name in the connected database, if it uses a slot of this name, and all others that do.
///
/// # Errors
/// When a query fails.
pub async fn rivals(subscriber: &Database, slot: &Ident, of: &Ident) -> Result<(Option<Neighbour>, Vec<Neighbour>)> {
    Ok(apart(naming(subscriber, slot).await?, subscriber.name(), of))
}

/// Another subscription that may read from the slot of this one, if there is any. If two read at the same time, they
/// read from two slots on two publishers.
///
/// # Errors
/// When a query fails.
pub async fn sharer(subscriber: &Database, slot: &Ident, of: &Ident) -> Result<Option<Neighbour>> {
    let (own, others) = apart(naming(subscriber, slot).await?, subscriber.name(), of);
    let streams = own.is_some_and(|own| own.streams);
    Ok(others.into_iter().find(|other| !(streams && other.streams)))
}

fn apart(all: Vec<Neighbour>, database: &str, name: &Ident) -> (Option<Neighbour>, Vec<Neighbour>) {
    let is_own = |one: &Neighbour| one.database == database && one.name == *name;
    let (mut own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_own);
    (own.pop(), others)
}
