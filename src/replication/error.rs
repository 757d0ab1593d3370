// SPDX-License-Identifier: MPL-2.0

//! Errors of work on two servers.

use std::fmt;

use crate::postgres::{self, Cause, SqlState};

/// The result of anything that works on two servers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why work on two servers failed, or, passed to [`Listener::warn`](super::Listener::warn), a warning about it: one
/// line, details, and the option that it is about.
#[derive(Clone, Debug)]
pub struct Error {
    summary: String,
    details: Vec<String>,
    option: Option<&'static str>,
    cause: Option<postgres::Error>,
    is_cancelled: bool,
}

impl Error {
    /// An error with this line.
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), details: Vec::new(), option: None, cause: None, is_cancelled: false }
    }

    pub(super) fn cancelled() -> Self {
        Self { is_cancelled: true, ..Self::new("the operation was cancelled") }
    }

    /// Whether a person has asked to stop.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled
    }

    /// Adds a detail: cause, remedy. An empty text adds nothing.
    #[must_use]
    pub fn detail(mut self, detail: impl AsRef<str>) -> Self {
        if !detail.as_ref().is_empty() {
            self.details.push(detail.as_ref().to_owned());
        }
        self
    }

    /// Adds what was being done in front of the line.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Self {
        self.summary = format!("{doing}: {}", self.summary);
        self
    }

    /// Sets the option of a publication or subscription that it is about, such as `slot_name`.
    #[must_use]
    pub fn about(mut self, option: &'static str) -> Self {
        self.option = Some(option);
        self
    }

    /// The one line.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The details, one paragraph each.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// The option that it is about.
    pub fn option(&self) -> Option<&'static str> {
        self.option
    }

    /// The server's error, if it comes from one.
    pub fn cause(&self) -> Option<&postgres::Error> {
        self.cause.as_ref()
    }

    /// Whether a server gave this SQLSTATE.
    pub fn is(&self, code: &SqlState) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.is(code))
    }
}

impl From<postgres::Error> for Error {
    fn from(error: postgres::Error) -> Self {
        // The server's own text may have several lines; a summary has one.
        let lines: Vec<_> = error.to_string().lines().map(str::trim).map(str::to_owned).collect();
        let option = match error.cause() {
            Cause::Unsupported(unsupported) => Some(unsupported.option),
            _ => None,
        };
        let said = Self { option, ..Self::new(lines.join(" ")) };
        let said = said.detail(error.detail().unwrap_or_default()).detail(error.hint().unwrap_or_default());
        let is_cancelled = matches!(error.cause(), Cause::Cancelled);
        Self { cause: Some(error), is_cancelled, ..said }
    }
}

impl postgres::Outage for Error {
    fn is_outage(&self) -> bool {
        self.cause.as_ref().is_some_and(postgres::Outage::is_outage)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        self.details.iter().try_for_each(|detail| write!(f, "\n\n{detail}"))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_being_done_and_what_to_do() {
        let error =
            Error::new("there is no table t").detail("").detail("Make it.").during("joining").about("publications");
        assert_eq!(error.to_string(), "joining: there is no table t\n\nMake it.");
        assert_eq!(error.option(), Some("publications"));
        assert!(error.cause().is_none());
    }

    #[test]
    fn a_person_who_asked_to_stop_is_known_whatever_is_said_around_it() {
        assert!(Error::cancelled().during("joining").detail("Go on.").is_cancelled());
        assert!(!Error::new("the operation was cancelled").is_cancelled());
    }
}
