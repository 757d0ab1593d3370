// SPDX-License-Identifier: MPL-2.0

//! What looks at both servers have found, as text for a person: tables that fit a width, a line that sums them up, and
//! what several looks tell of how fast it is.
//!
//! Values in, text out. Whoever prints it says how wide and how colourful it may be.

mod comparison;
mod grid;
mod live;
mod pace;
mod preflight;
#[cfg(test)]
mod samples;
mod status;
mod style;

pub use crate::replication::units;
pub use comparison::{compared, comparing, comparison, comparison_verdict, difference, key};
pub use live::{Lines, frame, line};
pub use pace::{Pace, Speed};
pub use preflight::{preflight, preflight_verdict};
pub use status::{status_verdict, statuses};
pub use style::{Mood, Style};
