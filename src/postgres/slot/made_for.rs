// SPDX-License-Identifier: MPL-2.0

//! Slots that record the subscription that they were created for.
//!
//! A slot cannot store a note. So the statement that creates it also writes one into the WAL right after it: a role
//! that may read the slot finds the note among the first messages. If the slot is not created, because another one has
//! the name, the statement fails before it writes. Subscriptions never ask for such messages.
//!
//! Source: `pg_logical_emit_message` and `pg_logical_slot_peek_binary_changes` in the Postgres documentation.

use tokio_postgres::types::Type;

use super::{Slot, arguments};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, Literal, Statement};
use crate::postgres::subscription::Token;
use crate::postgres::version::{ServerVersion, Unsupported};

/// The prefix of the messages.
const PREFIX: &str = "neonrepl";

/// How many changes the slot may have before the note: those that others commit in the same moment.
const FIRST: i32 = 1000;

/// The statement that creates a slot in the connected database, for the subscription of this attempt.
///
/// # Errors
/// When the server's version lacks a feature of the slot.
pub fn create_for(slot: &Slot, token: &Token, version: ServerVersion) -> std::result::Result<Statement, Unsupported> {
    slot.check_supported(version)?;
    let (make, note) = (arguments(slot), token.to_string());
    // A select list is evaluated from left to right.
    Ok(Statement::alone(format!(
        "SELECT pg_create_logical_replication_slot({make}), pg_logical_emit_message(true, {}, {})",
        Literal(PREFIX),
        Literal(&note)
    )))
}

/// Whether this attempt created the slot of this name. Does not change it.
///
/// # Errors
/// When a query fails, or something reads from the slot.
pub async fn is_made_for(db: &Database, name: &Ident, token: &Token) -> Result<bool> {
    let doing = format!("reading what replication slot {name} was made for");
    // The publications matter only for rows.
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_logical_slot_peek_binary_changes($1, NULL, $2, 'proto_version', '1', \
        'publication_names', '\"neonrepl\"', 'messages', 'true') WHERE position(convert_to($3, 'UTF8') IN data) > 0)";
    let note = token.to_string();
    let rows = db
        .query(&doing, sql, &[(&name.as_str(), Type::NAME), (&FIRST, Type::INT4), (&note.as_str(), Type::TEXT)])
        .await?;
    let found = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.map_err(|error| db.error(&doing, Cause::Statement(error)))?.unwrap_or(false))
}
