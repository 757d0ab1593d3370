// SPDX-License-Identifier: MPL-2.0

//! Checks that can be made in advance, each only once. Plans use them, and errors that explain what went wrong.

mod logging_in;
mod obstacles;
pub(super) mod statistics;
pub(super) mod values;

pub(super) use logging_in::Right;
pub(super) use obstacles::BothSides;
pub use obstacles::{Obstacle, Obstacles, described, login, obstacles, obstacles_of, sent};

use super::error::Error;

/// The objection of a check to a change.
#[derive(Clone, Debug)]
pub enum Objection {
    /// It would fail or lose something, so it must not be done.
    Refusal(Error),
    /// It can be done, but a person should know this.
    Warning(Error),
}

impl Objection {
    /// Adds what was being done in front of the line.
    #[must_use]
    pub fn during(self, doing: &str) -> Self {
        match self {
            Self::Refusal(error) => Self::Refusal(error.during(doing)),
            Self::Warning(warning) => Self::Warning(warning.during(doing)),
        }
    }

    /// Returns the first refusal as an error of what was being done.
    ///
    /// # Errors
    /// The first refusal, if there is one.
    pub fn refuse(found: Vec<Self>, doing: &str) -> super::error::Result<()> {
        let refusal = found.into_iter().find_map(|objection| match objection {
            Self::Refusal(error) => Some(error),
            Self::Warning(_) => None,
        });
        refusal.map_or(Ok(()), |error| Err(error.during(doing)))
    }
}
