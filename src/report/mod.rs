// SPDX-License-Identifier: MPL-2.0

//! The results of looks at both servers as text for people: tables that fit a width, a summary line, and the speed
//! from several looks.
//!
//! Values in, text out. The caller sets the width and the colours.

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
