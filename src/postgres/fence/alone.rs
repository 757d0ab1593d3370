// SPDX-License-Identifier: MPL-2.0

//! A lock, so that only one session at a time moves writers from one side to the other.

use super::Fence;
use crate::postgres::advisory::{self, Kind};
use crate::postgres::database::{Database, HeldSession, Several};
use crate::postgres::error::Result;
use crate::postgres::limits::Limits;

/// The right to use a fence. Dropped, it is given back.
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
        let session = advisory::take(db, doing, (Kind::Fence, &fence.function.to_text()), limits).await?;
        Ok(session.map(|session| Self { session, _several: several }))
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// When the server does not answer. Then its session ends, and the right with it.
    pub async fn end(mut self, limits: &Limits) -> Result<()> {
        self.session.resume().commit("letting go of the fence", limits).await
    }
}
