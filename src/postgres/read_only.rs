// SPDX-License-Identifier: MPL-2.0

//! The read-only default for new sessions of a database, as its owner has set it. Every session can override it, so it
//! only stops sessions that do not.
//!
//! Source: `ALTER DATABASE` and the catalog `pg_db_role_setting` in the Postgres documentation.

use super::database::Database;
use super::error::Result;
use super::sql::{Ident, Literal, Statement};

/// The setting of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOnly {
    /// The value, such as `on`; none if the database leaves it to the server.
    pub value: Option<String>,
    /// Whether the role may set it: it has the rights of the database's owner.
    pub may_set: bool,
}

/// Reads the setting of a database.
///
/// # Errors
/// When a query fails.
pub async fn read_only(db: &Database) -> Result<ReadOnly> {
    let sql = "SELECT (SELECT substr(v, length('default_transaction_read_only=') + 1) FROM pg_db_role_setting s, unnest(s.setconfig) v \
           WHERE s.setdatabase = d.oid AND s.setrole = 0 AND starts_with(v, 'default_transaction_read_only=')), \
         pg_has_role(d.datdba, 'USAGE') FROM pg_database d WHERE d.datname = current_database()";
    let read = |row: &tokio_postgres::Row| Ok(ReadOnly { value: row.try_get(0)?, may_set: row.try_get(1)? });
    let found = db.query_all("reading whether a database is read-only by default", sql, &[], read).await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// The statement that sets it for new sessions; with none, it is left to the server again.
pub fn set(database: &Ident, value: Option<&str>) -> Statement {
    Statement::new(match value {
        Some(value) => format!("ALTER DATABASE {database} SET default_transaction_read_only = {}", Literal(value)),
        None => format!("ALTER DATABASE {database} RESET default_transaction_read_only"),
    })
}

/// The statement, for people, that lets a session of such a database write.
pub fn writing_here() -> Statement {
    Statement::new("SET default_transaction_read_only = off")
}
