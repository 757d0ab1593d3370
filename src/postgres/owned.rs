// SPDX-License-Identifier: MPL-2.0

//! Comments that identify objects which this provider created. Nobody else's object is changed because of its name.
//!
//! Source: `COMMENT` and `obj_description` in the Postgres documentation.

use std::collections::BTreeMap;

use tokio_postgres::types::Type;

use super::database::Database;
use super::error::Result;
use super::sql::{Ident, Literal, Statement};

/// An object whose comment can show that it is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owned<'a> {
    /// A publication.
    Publication(&'a Ident),
    /// A subscription.
    Subscription(&'a Ident),
}

impl Owned<'_> {
    /// The statement that sets its comment.
    pub fn marking(self, comment: &str) -> Statement {
        let (kind, name) = match self {
            Self::Publication(name) => ("PUBLICATION", name),
            Self::Subscription(name) => ("SUBSCRIPTION", name),
        };
        Statement::new(format!("COMMENT ON {kind} {name} IS {}", Literal(comment)))
    }

    /// Its comment; none if it has none or does not exist.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn comment(self, db: &Database) -> Result<Option<String>> {
        let (sql, name) = match self {
            Self::Publication(name) => {
                ("SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1", name)
            }
            Self::Subscription(name) => (
                "SELECT obj_description(s.oid, 'pg_subscription') FROM pg_subscription s \
                 JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND s.subname = $1",
                name,
            ),
        };
        let doing = format!("reading the comment of {name}");
        let found: Vec<Option<String>> =
            db.query_all(&doing, sql, &[(&name.as_str(), Type::TEXT)], |row| row.try_get(0)).await?;
        Ok(found.into_iter().next().flatten())
    }
}

/// The subscriptions of this database whose comment begins with a text, each with its comment.
///
/// # Errors
/// When a query fails.
pub async fn marked_subscriptions(db: &Database, beginning: &str) -> Result<BTreeMap<Ident, String>> {
    let sql = "SELECT s.subname::text, d.description FROM pg_subscription s JOIN pg_description d ON d.objoid = s.oid \
        AND d.classoid = 'pg_subscription'::regclass JOIN pg_database b ON b.oid = s.subdbid \
        WHERE b.datname = current_database() AND starts_with(d.description, $1)";
    let read = |row: &tokio_postgres::Row| Ok((Ident::from_catalog(row.try_get(0)?), row.try_get(1)?));
    let found = db.query_all("reading comments of subscriptions", sql, &[(&beginning, Type::TEXT)], read).await?;
    Ok(found.into_iter().collect())
}
