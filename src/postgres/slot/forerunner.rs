// SPDX-License-Identifier: MPL-2.0

//! A temporary slot that other slots are copied from.
//!
//! Creating a slot waits for every transaction that writes in any database of the server, but an existing slot can be
//! copied at once. And a copy's start is on disk, while an advanced slot can fall back after a crash.
//!
//! Source: "Replication Management Functions" in the Postgres documentation.

use crate::postgres::database::{Database, HeldSession};
use crate::postgres::error::Result;
use crate::postgres::limits::Limits;
use crate::postgres::session::Task;
use crate::postgres::sql::{Ident, Literal, Statement};

/// The slot. It ends with its session, or with an error in that session, so nothing of it stays behind.
pub struct Forerunner {
    db: Database,
    session: HeldSession,
}

/// Its name: a server process has at most one of them.
const NAME: &str = "'neonrepl_forerunner_' || pg_backend_pid()";

impl Forerunner {
    /// Creates it. This waits for every transaction that writes on the server.
    ///
    /// # Errors
    /// When these take longer than the limits allow, the role lacks the right, or a query fails.
    pub async fn make(db: &Database, doing: &str, limits: &Limits) -> Result<Self> {
        let mut session = db.session(doing, limits).await?;
        // A session that is used again would keep the slot, and with it the server's WAL.
        session.retire();
        let mut made = Self { db: db.clone(), session };
        let make = format!("SELECT pg_create_logical_replication_slot({NAME}, 'pgoutput', true)");
        made.run(doing, make, limits).await?;
        Ok(made)
    }

    /// Advances it to the current position. For this, the server reads all WAL since the last advance.
    ///
    /// # Errors
    /// When a limit is reached, or a query fails.
    pub async fn advance(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        self.run(doing, format!("SELECT pg_replication_slot_advance({NAME}, pg_current_wal_flush_lsn())"), limits).await
    }

    /// Creates a slot that begins at this one's position, without two-phase and without failover.
    ///
    /// # Errors
    /// When there is one of that name, a limit is reached, or a query fails.
    pub async fn copy_to(&mut self, doing: &str, slot: &Ident, limits: &Limits) -> Result<()> {
        let copy = format!("SELECT pg_copy_logical_replication_slot({NAME}, {}, false)", Literal(slot.as_str()));
        self.run(doing, copy, limits).await
    }

    async fn run(&mut self, doing: &str, statement: String, limits: &Limits) -> Result<()> {
        let statement = [Statement::alone(statement)];
        let done = self.session.perform(Task::Change(&statement, None), limits).await;
        done.map(drop).map_err(|failure| self.db.error(doing, failure.cause))
    }
}
