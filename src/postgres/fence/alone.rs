//! Whoever moves writers from one side to the other does it alone.
//!
//! Source: "Advisory Locks" in the Postgres documentation.

use tokio_postgres::types::Type;

use super::Fence;
use crate::postgres::database::{Database, HeldSession, Several};
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::session::Begin;

/// The first half of the lock's number, which tells our locks from those of others.
const SPACE: i32 = 0x6e72_6663;

const LOCK: &str = "SELECT pg_try_advisory_xact_lock($1, hashtext($2::text))";

/// The right to use a fence. Dropped, it is given back. Its transaction writes nothing and keeps no snapshot, so that nobody
/// waits for it, and ends with its session, however that ends.
pub struct Alone {
    session: HeldSession,
    /// A switch holds several sessions: those of one process come one after the other.
    _several: Several,
}

impl Alone {
    /// Takes the right; `None` where somebody else has it.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn begin(db: &Database, fence: &Fence, limits: &Limits) -> Result<Option<Self>> {
        let doing = "taking the fence for this run alone";
        let several = db.several(doing, limits).await?;
        let mut session = db.session(doing, limits).await?;
        let mut transaction = session.transaction(&Begin::default());
        let name = fence.function.to_text();
        let rows = transaction.query(doing, LOCK, &[(&SPACE, Type::INT4), (&name, Type::TEXT)], limits).await?;
        let is_ours = rows.first().map(|row| row.try_get(0)).transpose();
        if is_ours.map_err(|error| transaction.error(doing, Cause::Statement(error)))? == Some(true) {
            return Ok(Some(Self { session, _several: several }));
        }
        transaction.roll_back(doing, limits).await?;
        Ok(None)
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// When the server does not answer. Then its session ends, and the right with it.
    pub async fn end(mut self, limits: &Limits) -> Result<()> {
        self.session.resume().commit("letting go of the fence", limits).await
    }
}
