// SPDX-License-Identifier: MPL-2.0

//! Errors and warnings, with the attribute they are about.

use std::fmt;

use super::path::AttributePath;

/// The result of a resource's verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The operation fails.
    Error,
    /// The operation continues; the person should know.
    Warning,
}

/// One message to the person who runs Terraform (`Diagnostic` of the protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its severity.
    pub severity: Severity,
    /// One line.
    pub summary: String,
    /// Details, and what to do; may be empty.
    pub detail: String,
    /// The attribute that it is about; the root for the whole block.
    pub path: AttributePath,
}

/// Why an operation failed: one error diagnostic, created by [`Error::new`] and extended by its
/// callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    summary: String,
    detail: String,
    path: AttributePath,
}

impl Error {
    /// An error with its one-line summary.
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), detail: String::new(), path: AttributePath::default() }
    }

    /// Adds details: cause, remedy. Earlier text stays in front.
    #[must_use]
    pub fn detail(mut self, detail: impl AsRef<str>) -> Self {
        if !self.detail.is_empty() && !detail.as_ref().is_empty() {
            self.detail.push_str("\n\n");
        }
        self.detail.push_str(detail.as_ref());
        self
    }

    /// Sets the attribute that it is about, as seen from the caller: added in front of the known path.
    #[must_use]
    pub fn at(mut self, path: &AttributePath) -> Self {
        self.path = self.path.below(path);
        self
    }

    /// The same for an attribute of the current block.
    #[must_use]
    pub fn attribute(self, name: &str) -> Self {
        self.at(&AttributePath::of(name))
    }

    /// Adds what was being done in front of the summary.
    #[must_use]
    pub fn during(mut self, doing: &str) -> Self {
        self.summary = format!("{doing}: {}", self.summary);
        self
    }

    /// The one-line summary.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// The details; may be empty.
    pub fn details(&self) -> &str {
        &self.detail
    }

    fn into_diagnostic(self, severity: Severity) -> Diagnostic {
        Diagnostic { severity, summary: self.summary, detail: self.detail, path: self.path }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.path, &self.summary, &self.detail)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, &self.path, &self.summary, &self.detail)
    }
}

fn write(f: &mut fmt::Formatter<'_>, path: &AttributePath, summary: &str, detail: &str) -> fmt::Result {
    if !path.is_root() {
        write!(f, "{path}: ")?;
    }
    f.write_str(summary)?;
    if !detail.is_empty() {
        write!(f, "\n{detail}")?;
    }
    Ok(())
}

/// All messages of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Adds an error; the operation fails, but may report more before.
    pub fn error(&mut self, error: Error) {
        self.0.push(error.into_diagnostic(Severity::Error));
    }

    /// Adds a warning: something that the person can act on.
    pub fn warning(&mut self, warning: Error) {
        self.0.push(warning.into_diagnostic(Severity::Warning));
    }

    /// Keeps the value, or records the error.
    pub fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.error(error)).ok()
    }

    /// Adds all of another's, with a path in front of each.
    pub fn extend_at(&mut self, path: &AttributePath, other: Self) {
        self.0.extend(other.0.into_iter().map(|mut diagnostic| {
            diagnostic.path = diagnostic.path.below(path);
            diagnostic
        }));
    }

    /// Adds all of another's.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether there is an error.
    pub fn has_error(&self) -> bool {
        self.0.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Whether there are no messages.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl From<Error> for Diagnostics {
    fn from(error: Error) -> Self {
        Self(vec![error.into_diagnostic(Severity::Error)])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_adds_where_it_was() {
        let error = Error::new("not a number").attribute("port").at(&AttributePath::of("publisher").index(0));
        assert_eq!(error.to_string(), "publisher[0].port: not a number");
    }

    #[test]
    fn details_add_up() {
        let error = Error::new("it failed").detail("The cause.").detail("").detail("The remedy.");
        assert_eq!(error.clone().during("making it").summary(), "making it: it failed");
        assert_eq!(error.to_string(), "it failed\nThe cause.\n\nThe remedy.");
    }

    #[test]
    fn a_warning_is_no_error() {
        let mut diagnostics = Diagnostics::default();
        diagnostics.warning(Error::new("mind this"));
        assert!(!diagnostics.has_error());
        assert_eq!(diagnostics.take::<()>(Err(Error::new("no"))), None);
        assert!(diagnostics.has_error());
    }
}
