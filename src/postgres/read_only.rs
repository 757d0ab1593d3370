// SPDX-License-Identifier: MPL-2.0

//! Whether new sessions of a database may only read, as its owner has set it. That is a default which every session can change:
//! a courtesy to those who do not.
//!
//! Source: `ALTER DATABASE` and the catalog `pg_db_role_setting` in the Postgres documentation.

use super::database::Database;
use super::error::Result;
use super::sql::{Ident, Literal, Statement};

/// What a database says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadOnly {
    /// The value that it is set to, such as `on`; none where the database leaves it to the server.
    pub value: Option<String>,
    /// Whether the role may set it: it has the rights of the database's owner.
    pub may_set: bool,
}

/// Asks a database.
///
/// # Errors
/// When the server cannot be asked.
pub async fn read_only(db: &Database) -> Result<ReadOnly> {
    let sql = "SELECT (SELECT substr(v, length('default_transaction_read_only=') + 1) FROM pg_db_role_setting s, unnest(s.setconfig) v \
           WHERE s.setdatabase = d.oid AND s.setrole = 0 AND starts_with(v, 'default_transaction_read_only=')), \
         pg_has_role(d.datdba, 'USAGE') FROM pg_database d WHERE d.datname = current_database()";
    let read = |row: &tokio_postgres::Row| Ok(ReadOnly { value: row.try_get(0)?, may_set: row.try_get(1)? });
    let found = db.query_all("reading whether a database is read-only by default", sql, &[], read).await?;
    Ok(found.into_iter().next().unwrap_or_default())
}

/// The statement that sets it for the sessions to come; to none, it is left to the server again.
pub fn set(database: &Ident, value: Option<&str>) -> Statement {
    Statement::new(match value {
        Some(value) => format!("ALTER DATABASE {database} SET default_transaction_read_only = {}", Literal(value)),
        None => format!("ALTER DATABASE {database} RESET default_transaction_read_only"),
    })
}

/// The statement that lets a session of such a database write, for people.
pub fn writing_here() -> Statement {
    Statement::new("SET default_transaction_read_only = off")
}
