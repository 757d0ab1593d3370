// SPDX-License-Identifier: MPL-2.0

//! Notices: messages of a server in addition to its answers.

use tokio_postgres::error::DbError;

/// A message of the server that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// `WARNING`, `NOTICE` …, not translated.
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

impl Notice {
    /// Whether a person should read it.
    pub fn is_warning(&self) -> bool {
        self.severity == "WARNING"
    }
}

impl From<&DbError> for Notice {
    fn from(error: &DbError) -> Self {
        Self {
            severity: error
                .parsed_severity()
                .map_or_else(|| error.severity().to_owned(), |severity| severity.to_string()),
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
        }
    }
}
