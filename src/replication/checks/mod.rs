//! What can be known beforehand, each check once: plans, and errors that explain what went wrong, ask here.

mod obstacles;

pub(super) use obstacles::BothSides;
pub use obstacles::{Obstacle, Obstacles, described, login, obstacles};

use super::error::Error;

/// What a check has found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// It would fail, or lose something: it is not to be done.
    Error(Error),
    /// It goes on; a person should know.
    Warning(Error),
}
