// SPDX-License-Identifier: MPL-2.0

//! What can be known beforehand, each check once: plans, and errors that explain what went wrong, ask here.

mod logging_in;
mod obstacles;
pub(super) mod statistics;
pub(super) mod values;

pub(super) use logging_in::Right;
pub(super) use obstacles::BothSides;
pub use obstacles::{Obstacle, Obstacles, described, login, obstacles, obstacles_of, sent};

use super::error::Error;

/// What a check has to say against a change.
#[derive(Clone, Debug)]
pub enum Objection {
    /// It would fail, or lose something: it is not to be done.
    Refusal(Error),
    /// It goes on; a person should know.
    Warning(Error),
}

impl Objection {
    /// Says what was being done: put in front of the line.
    #[must_use]
    pub fn during(self, doing: &str) -> Self {
        match self {
            Self::Refusal(error) => Self::Refusal(error.during(doing)),
            Self::Warning(warning) => Self::Warning(warning.during(doing)),
        }
    }

    /// The first refusal, as an error of what was being done; none where nothing is refused.
    ///
    /// # Errors
    /// That one.
    pub fn refuse(found: Vec<Self>, doing: &str) -> super::error::Result<()> {
        let refusal = found.into_iter().find_map(|objection| match objection {
            Self::Refusal(error) => Some(error),
            Self::Warning(_) => None,
        });
        refusal.map_or(Ok(()), |error| Err(error.during(doing)))
    }
}
