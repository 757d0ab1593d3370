// SPDX-License-Identifier: MPL-2.0

//! A lock that lets only one session at a time move writers from one side to the other.

use super::Fence;
use crate::postgres::advisory::{self, Kind};
use crate::postgres::database::{Database, HeldSession, Several};
use crate::postgres::error::Result;
use crate::postgres::limits::Limits;

/// The right to use a fence. Dropping it gives it back.
pub struct Alone {
    session: HeldSession,
    /// A switch holds several sessions, so the switches of one process run one after the other.
    _several: Several,
}

impl Alone {
    /// Takes the right; `None` if another session has it.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn begin(db: &Database, fence: &Fence, limits: &Limits) -> Result<Option<Self>> {
        let doing = "taking the fence for this run alone";
        let several = db.several(doing, limits).await?;
        let session = advisory::take(db, doing, (Kind::Fence, &fence.function.to_text()), limits).await?;
        Ok(session.map(|session| Self { session, _several: several }))
    }

    /// Gives the right back.
    ///
    /// # Errors
    /// When the server does not answer. Then the session ends, which gives the right back too.
    pub async fn end(mut self, limits: &Limits) -> Result<()> {
        self.session.resume().commit("letting go of the fence", limits).await
    }
}
