// SPDX-License-Identifier: MPL-2.0

//! What to say of a change whose connection broke.

use super::error::Error;
use crate::postgres;

/// The server was asked again, and has nothing of the change.
pub(super) const NOT_DONE: &str = "The change was not made. Apply again.";

/// The server could not be asked again.
pub(super) const NOT_KNOWN: &str = "It is not known whether the change was made, because the server could not be \
     asked afterwards. The next plan shows it.";

/// The error of a change that is not done, as far as the server said afterwards what it has: `None` where it did not.
pub fn explain<T>(error: postgres::Error, found: Option<&T>) -> Error {
    with_outcome(error, if found.is_some() { NOT_DONE } else { NOT_KNOWN })
}

/// The error, with what became of the change where the connection broke under it.
pub(super) fn with_outcome(error: postgres::Error, outcome: &str) -> Error {
    let is_lost = error.is_lost();
    let shown = Error::from(error);
    if is_lost { shown.detail(outcome) } else { shown }
}
