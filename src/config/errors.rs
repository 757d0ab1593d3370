// SPDX-License-Identifier: MPL-2.0

//! Turns errors and warnings of lower modules into diagnostics with their attribute.

use super::Context;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Error;
use crate::tf_provider::path::AttributePath;
use crate::{postgres, rds, replication};

/// At the element of the attribute `parameters` that the error is about, if any.
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
        replication::Error::from(error).into()
    }
}

impl From<replication::Error> for Error {
    fn from(error: replication::Error) -> Self {
        let shown = error.details().iter().fold(Self::new(error.summary()), Self::detail);
        match error.option() {
            Some(option) => shown.attribute(attribute(option)),
            None => shown,
        }
    }
}

/// The attribute or block that sets an option.
fn attribute(option: &'static str) -> &'static str {
    match option {
        "columns" | "where" => "table",
        option => option,
    }
}

impl replication::Listener for Call<Context> {
    fn warn(&self, warning: replication::Error) {
        Self::warn(self, warning.into());
    }
}
