// SPDX-License-Identifier: MPL-2.0

//! A lock, so that only one session at a time takes over an existing slot.
//!
//! A slot does not record its owner: the publisher sees its reader only once that has connected, and each subscriber
//! knows only its own subscriptions. So taking over a slot needs a lock on the publisher. All users of a slot connect
//! to its database, and advisory locks belong to a database.

use tokio_postgres::types::Type;

use super::standing::{STANDING, Standing, read};
use crate::postgres::advisory::{self, Kind};
use crate::postgres::database::{Database, HeldSession};
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::sql::{Ident, Statement};

/// The right to take over a slot. Dropping it gives it back.
pub struct Taking {
    session: HeldSession,
    slot: Ident,
}

impl Taking {
    /// Takes the right; `None` if another session has it.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn begin(db: &Database, slot: &Ident, limits: &Limits) -> Result<Option<Self>> {
        let doing = format!("taking replication slot {slot}");
        let session = advisory::take(db, &doing, (Kind::Slot, slot.as_str()), limits).await?;
        Ok(session.map(|session| Self { session, slot: slot.clone() }))
    }

    /// The current state of the slot.
    ///
    /// # Errors
    /// When a query fails. Then the right is lost.
    pub async fn standing(&mut self, limits: &Limits) -> Result<Option<Standing>> {
        let doing = format!("looking for replication slot {}", self.slot);
        let mut transaction = self.session.resume();
        let rows = transaction.query(&doing, STANDING, &[(&self.slot.as_str(), Type::NAME)], limits).await?;
        rows.first().map(read).transpose().map_err(|error| transaction.error(&doing, Cause::Statement(error)))
    }

    /// Runs a statement that creates or moves the slot, on the same connection: if the server allows only one
    /// connection, waiting for another would never end.
    ///
    /// # Errors
    /// When the server refuses it. Then the right is lost.
    pub async fn run(&mut self, doing: &str, statement: Statement, limits: &Limits) -> Result<()> {
        self.session.resume().run(doing, &[statement], limits).await.map(drop)
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// When the server does not answer. Then the session ends, which gives the right back too.
    pub async fn end(mut self, limits: &Limits) -> Result<()> {
        let doing = format!("letting go of replication slot {}", self.slot);
        self.session.resume().commit(&doing, limits).await
    }
}
