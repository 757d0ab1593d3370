//! What can be known beforehand, each check once: plans, and errors that explain what went wrong, ask here.

mod obstacles;

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
