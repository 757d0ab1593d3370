// SPDX-License-Identifier: MPL-2.0

//! Errors of changes whose connection broke.

use super::error::Error;
use crate::postgres;

/// The server was asked again, and the change was not made.
pub(super) const NOT_DONE: &str = "The change was not made. Apply again.";

/// The server could not be asked again.
pub(super) const NOT_KNOWN: &str = "It is not known whether the change was made, because the server could not be \
     asked afterwards. The next plan shows it.";

/// The error of a change, with its outcome if the server's state could be read afterwards: `None` if not.
pub fn explain<T>(error: postgres::Error, found: Option<&T>) -> Error {
    with_outcome(error, if found.is_some() { NOT_DONE } else { NOT_KNOWN })
}

/// The error, with the outcome of the change if its connection broke.
pub(super) fn with_outcome(error: postgres::Error, outcome: &str) -> Error {
    let is_lost = error.is_lost();
    let shown = Error::from(error);
    if is_lost { shown.detail(outcome) } else { shown }
}
