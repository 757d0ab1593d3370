//! What the other modules say went wrong, as a diagnostic with its attribute.

use crate::postgres;
use crate::postgres::Cause;
use crate::rds;
use crate::tf_provider::diagnostics::Error;
use crate::tf_provider::path::AttributePath;

/// At the element of the attribute `parameters` that the error is about, where it is about one.
impl From<rds::Error> for Error {
    fn from(error: rds::Error) -> Self {
        let summary = rds::Error { hint: None, ..error.clone() }.to_string();
        let shown = Self::new(summary).detail(error.hint.unwrap_or_default());
        match error.parameter {
            Some(name) => shown.at(&AttributePath::of("parameters").key(&name)),
            None => shown,
        }
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        // The server's own text may have several lines; a summary has one.
        let summary: Vec<_> = error.to_string().lines().map(str::trim).map(str::to_owned).collect();
        let mut shown = Self::new(summary.join(" "));
        if let Some(detail) = error.detail() {
            shown = shown.detail(detail);
        }
        if let Some(hint) = error.hint() {
            shown = shown.detail(hint);
        }
        match error.cause() {
            Cause::Unsupported(unsupported) => shown.attribute(block_of(unsupported.attribute)),
            _ => shown,
        }
    }
}

/// The attribute of the root block that an unsupported feature is asked for with.
fn block_of(feature: &'static str) -> &'static str {
    match feature {
        "columns" | "where" => "table",
        "a change of two_phase" => "two_phase",
        feature => feature.split(' ').next().unwrap_or(feature),
    }
}
