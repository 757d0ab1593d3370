// SPDX-License-Identifier: MPL-2.0

//! A slot that lives with a session, and is copied to where slots are to begin.
//!
//! A server makes a slot only once every transaction that writes in any of its databases has ended. One that is there already can be
//! copied at once. And a copy is on disk where it begins, while one that was advanced falls back after a crash.
//!
//! Source: "Replication Management Functions" in the Postgres documentation.

use crate::postgres::database::{Database, HeldSession};
use crate::postgres::error::Result;
use crate::postgres::limits::Limits;
use crate::postgres::session::Task;
use crate::postgres::sql::{Ident, Literal, Statement};

/// The slot. It goes with its session, so that nothing of it is left, whatever happens; and with whatever fails in that session.
pub struct Forerunner {
    db: Database,
    session: HeldSession,
}

/// Its name: a process has one of them at most.
const NAME: &str = "'neonrepl_forerunner_' || pg_backend_pid()";

impl Forerunner {
    /// Makes it. That waits for every transaction that writes on the server.
    ///
    /// # Errors
    /// When these go on for longer than the limits allow, the role may not, or the server cannot be asked.
    pub async fn make(db: &Database, doing: &str, limits: &Limits) -> Result<Self> {
        let mut session = db.session(doing, limits).await?;
        // It would keep the slot, and with it the server's WAL, for whoever comes next.
        session.retire();
        let mut made = Self { db: db.clone(), session };
        let make = format!("SELECT pg_create_logical_replication_slot({NAME}, 'pgoutput', true)");
        made.run(doing, make, limits).await?;
        Ok(made)
    }

    /// Moves it up to the present, for which the server reads all that it has written since it was last moved.
    ///
    /// # Errors
    /// When a limit is reached, or the server cannot be asked.
    pub async fn advance(&mut self, doing: &str, limits: &Limits) -> Result<()> {
        self.run(doing, format!("SELECT pg_replication_slot_advance({NAME}, pg_current_wal_flush_lsn())"), limits).await
    }

    /// Makes a slot that begins where this one stands. It takes no changes of two phases, and is not copied to standbys.
    ///
    /// # Errors
    /// When there is one of that name, a limit is reached, or the server cannot be asked.
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
