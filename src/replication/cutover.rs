//! Which of two sides takes writes, and moving that from one to the other.

mod current;
mod steps;

pub use current::{Active, Current, SideNow, StreamNow};
pub use steps::{Desired, Refused, Step, Under, steps};
