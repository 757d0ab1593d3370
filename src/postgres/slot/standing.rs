// SPDX-License-Identifier: MPL-2.0

//! The slot of a name, and whether a subscription can use it.
//!
//! Source: `pg_replication_slots` in the Postgres documentation.

use std::fmt;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Home;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::Ident;

/// A slot of any kind in the cluster, where its name is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its place.
    pub home: Home,
    /// Its output plugin; none if it is physical.
    pub plugin: Option<String>,
    /// Whether it is temporary: it ends with the session that created it.
    pub temporary: bool,
    /// Whether something reads from it, or is creating it.
    pub active: bool,
    /// Whether it can be read from; not while it is being created.
    pub ready: bool,
    /// Whether WAL that it needs was removed.
    pub lost: bool,
    /// The application name of its reader: a subscription's worker uses the name of its subscription.
    pub reader: Option<String>,
}

/// Why a subscription to a database cannot use a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// It is a physical one.
    Physical,
    /// It belongs to this other database.
    OtherDatabase(String),
    /// Its changes come from another output plugin, of this name.
    OtherPlugin(String),
    /// It ends with the session that created it.
    Temporary,
    /// WAL that it needs was removed.
    Lost,
    /// Something with this application name reads from it.
    InUse(Option<String>),
}

impl Standing {
    /// Why a subscription to that database cannot use it; `None` if it can.
    pub fn unusable(&self, database: &str) -> Option<Unusable> {
        let plugin = self.plugin.as_deref().unwrap_or_default();
        match &self.home {
            Home::Cluster => Some(Unusable::Physical),
            Home::Database(home) if home != database => Some(Unusable::OtherDatabase(home.clone())),
            _ if plugin != "pgoutput" => Some(Unusable::OtherPlugin(plugin.to_owned())),
            _ if self.temporary => Some(Unusable::Temporary),
            _ if self.lost => Some(Unusable::Lost),
            _ if self.active => Some(Unusable::InUse(self.reader.clone())),
            _ => None,
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Physical => f.write_str("it is a physical slot"),
            Self::OtherDatabase(name) => write!(f, "it is a slot of database {name:?}"),
            Self::OtherPlugin(name) => write!(f, "its plugin is {name:?}, and subscriptions need \"pgoutput\""),
            Self::Temporary => f.write_str("it is temporary, and is dropped with the session that created it"),
            Self::Lost => f.write_str("it has lost WAL that it needs, so nothing can be read from it any more"),
            Self::InUse(Some(reader)) => {
                write!(f, "a reader is connected that calls itself {reader:?}, as a subscription of that name does")
            }
            Self::InUse(None) => f.write_str("a reader is connected to it"),
        }
    }
}

/// The query for the slot of a name.
pub(super) const STANDING: &str = "SELECT s.database::text, s.plugin::text, s.temporary, s.active, s.slot_type = 'physical' \
    OR s.confirmed_flush_lsn IS NOT NULL OR s.wal_status = 'lost', coalesce(s.wal_status = 'lost', false), \
    nullif(a.application_name, '') \
    FROM pg_replication_slots s LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid WHERE s.slot_name = $1";

/// The slot of this name in the cluster, whatever its kind and database.
///
/// # Errors
/// When a query fails.
pub async fn standing(db: &Database, name: &Ident) -> Result<Option<Standing>> {
    let doing = format!("looking for replication slot {name}");
    let rows = db.query(&doing, STANDING, &[(&name.as_str(), Type::NAME)]).await?;
    rows.first().map(read).transpose().map_err(|error| db.error(&doing, Cause::Statement(error)))
}

pub(super) fn read(row: &Row) -> std::result::Result<Standing, tokio_postgres::Error> {
    Ok(Standing {
        home: row.try_get::<_, Option<String>>(0)?.map_or(Home::Cluster, Home::Database),
        plugin: row.try_get(1)?,
        temporary: row.try_get(2)?,
        active: row.try_get(3)?,
        ready: row.try_get(4)?,
        lost: row.try_get(5)?,
        reader: row.try_get(6)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Standing), expected: &str) {
        let mut standing = Standing {
            home: Home::Database("shop".to_owned()),
            plugin: Some("pgoutput".to_owned()),
            temporary: false,
            active: false,
            ready: true,
            lost: false,
            reader: None,
        };
        change(&mut standing);
        assert_eq!(standing.unusable("shop").map_or(String::new(), |why| why.to_string()), expected);
    }

    #[test]
    fn a_slot_that_a_subscription_cannot_use_says_why() {
        check(|_| (), "");
        check(|slot| slot.home = Home::Cluster, "it is a physical slot");
        check(|slot| slot.home = Home::Database("mall".to_owned()), "it is a slot of database \"mall\"");
        check(
            |slot| slot.plugin = Some("test_decoding".to_owned()),
            "its plugin is \"test_decoding\", and subscriptions need \"pgoutput\"",
        );
        check(|slot| slot.temporary = true, "it is temporary, and is dropped with the session that created it");
        check(|slot| slot.lost = true, "it has lost WAL that it needs, so nothing can be read from it any more");
        check(|slot| slot.active = true, "a reader is connected to it");
        check(
            |slot| (slot.active, slot.reader) = (true, Some("cart".to_owned())),
            "a reader is connected that calls itself \"cart\", as a subscription of that name does",
        );
    }
}
