//! How to say that a connection broke under a change.

use crate::postgres;
use crate::tf_provider::diagnostics::Error;

/// The error of a change that is not done, as far as the server said afterwards what it has: `None` where it did not.
pub(super) fn explain<T>(error: postgres::Error, found: Option<&T>) -> Error {
    let known = match found {
        Some(_) => "What the server has was read again: it was not done. Apply again.",
        None => "The server did not say afterwards whether it was done. The next plan shows it.",
    };
    let is_lost = error.is_lost();
    let shown = Error::from(error);
    if is_lost { shown.detail(known) } else { shown }
}
