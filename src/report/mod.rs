//! What a look at both servers has found, as text for a person: tables that fit a width, and a line that sums them up.
//!
//! Values in, text out. Whoever prints it says how wide and how colourful it may be.

mod comparison;
mod grid;
mod preflight;
mod status;
mod style;
pub mod units;

pub use comparison::{compared, comparison, comparison_verdict, difference, key};
pub use preflight::{preflight, preflight_verdict};
pub use status::{status_verdict, statuses};
pub use style::{Mood, Style};
