// SPDX-License-Identifier: MPL-2.0

//! One slot takes over from another: their positions, and the changes that a reader would miss.
//!
//! A reader asks its new slot for the changes after the last one that it has applied. Older changes are not sent again,
//! so a new slot at or before the old one's position loses nothing. A slot at a later position never sends the changes
//! in between.
//!
//! Source: "Replication Management Functions" and "Logical Replication Message Formats" in the Postgres documentation.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, Literal, Statement, list};
use crate::postgres::work::Param;

/// How many messages to look at: more than a transaction without changes has.
const LOOKED_AT: i64 = 100;

/// The position that a slot's reader has confirmed, as the text of an LSN: a new slot is read from there. `None` if
/// there is no such slot, or if it is still being created.
///
/// # Errors
/// When a query fails.
pub async fn confirmed(db: &Database, name: &Ident) -> Result<Option<String>> {
    let doing = format!("reading where replication slot {name} stands");
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1";
    let rows = db.query(&doing, sql, &[(&name.as_str(), Type::NAME)]).await?;
    let found: std::result::Result<Option<Option<String>>, _> = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.map_err(|error| db.error(&doing, Cause::Statement(error)))?.flatten())
}

/// Whether a slot without a reader still has to send changes of these publications from before an LSN. Also true if a
/// short look cannot decide it.
///
/// # Errors
/// When something reads from the slot, the role lacks the right, or a query fails.
pub async fn has_pending(db: &Database, name: &Ident, publications: &BTreeSet<Ident>, lsn: &str) -> Result<bool> {
    let doing = format!("looking for changes that replication slot {name} has still to send");
    let names = list(publications);
    let sql = "SELECT count(*), coalesce(bool_or(chr(get_byte(m.data, 0)) IN ('I', 'U', 'D', 'T')), false) \
        FROM pg_logical_slot_peek_binary_changes($1, $2::text::pg_lsn, $3::bigint::int, \
        VARIADIC ARRAY['proto_version', '1', 'publication_names', $4]) m";
    let params: [Param<'_>; 4] =
        [(&name.as_str(), Type::NAME), (&lsn, Type::TEXT), (&LOOKED_AT, Type::INT8), (&names, Type::TEXT)];
    let rows = db.query(&doing, sql, &params).await?;
    let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let found: std::result::Result<Option<(i64, bool)>, tokio_postgres::Error> = rows.first().map(read).transpose();
    let found = found.map_err(|error| db.error(&doing, Cause::Statement(error)))?;
    Ok(found.is_none_or(|(messages, has_changes)| has_changes || messages >= LOOKED_AT))
}

/// The statement that creates a slot at another slot's current position. The other slot's reader can continue.
pub fn copy(from: &Ident, to: &Ident) -> Statement {
    Statement::alone(format!(
        "SELECT pg_copy_logical_replication_slot({}, {})",
        Literal(from.as_str()),
        Literal(to.as_str())
    ))
}

/// The statement that advances a slot without a reader to an LSN.
pub fn advance(name: &Ident, lsn: &str) -> Statement {
    Statement::alone(format!("SELECT pg_replication_slot_advance({}, {})", Literal(name.as_str()), Literal(lsn)))
}
