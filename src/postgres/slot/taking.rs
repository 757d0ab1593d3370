// SPDX-License-Identifier: MPL-2.0

//! Who takes a slot that exists takes it alone.
//!
//! A slot does not say whose it is: the publisher sees its reader once that has connected, and each subscriber knows only
//! its own subscriptions. So whoever takes a slot holds a lock on the publisher meanwhile. All who use a slot are
//! connected to its database, and advisory locks belong to one.

use tokio_postgres::types::Type;

use super::standing::{STANDING, Standing, read};
use crate::postgres::advisory::{self, Kind};
use crate::postgres::database::{Database, HeldSession};
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::sql::{Ident, Statement};

/// The right to take a slot. Dropped, it is given back.
pub struct Taking {
    session: HeldSession,
    slot: Ident,
}

impl Taking {
    /// Takes the right; `None` where somebody else has it.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn begin(db: &Database, slot: &Ident, limits: &Limits) -> Result<Option<Self>> {
        let doing = format!("taking replication slot {slot}");
        let session = advisory::take(db, &doing, (Kind::Slot, slot.as_str()), limits).await?;
        Ok(session.map(|session| Self { session, slot: slot.clone() }))
    }

    /// The slot as it stands now.
    ///
    /// # Errors
    /// When the server cannot be asked. The right is lost then.
    pub async fn standing(&mut self, limits: &Limits) -> Result<Option<Standing>> {
        let doing = format!("looking for replication slot {}", self.slot);
        let mut transaction = self.session.resume();
        let rows = transaction.query(&doing, STANDING, &[(&self.slot.as_str(), Type::NAME)], limits).await?;
        rows.first().map(read).transpose().map_err(|error| transaction.error(&doing, Cause::Statement(error)))
    }

    /// Runs a statement that makes or moves the slot, on the same connection: one that waits for another would wait for
    /// this one where a server has but one.
    ///
    /// # Errors
    /// When the server refuses it. The right is lost then.
    pub async fn run(&mut self, doing: &str, statement: Statement, limits: &Limits) -> Result<()> {
        self.session.resume().run(doing, &[statement], limits).await.map(drop)
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// When the server does not answer. Then its session ends, and the right with it.
    pub async fn end(mut self, limits: &Limits) -> Result<()> {
        let doing = format!("letting go of replication slot {}", self.slot);
        self.session.resume().commit(&doing, limits).await
    }
}
