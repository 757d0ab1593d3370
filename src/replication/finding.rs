// SPDX-License-Identifier: MPL-2.0

//! Findings: facts about two servers that a person should know, and what to do about them.

use std::fmt;

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It would fail, or lose something.
    Error,
    /// It works, but a person should think about it first.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// Its name in configurations, reports and JSON: `error`, `warning` or `info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// The side where something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the server that is replicated from.
    Publisher,
    /// On the server that is replicated to.
    Subscriber,
    /// Between the two: neither is wrong by itself.
    Both,
}

impl Place {
    /// The server at the other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Publisher => Self::Subscriber,
            Self::Subscriber => Self::Publisher,
            Self::Both => Self::Both,
        }
    }

    /// Its name in configurations, reports and JSON: `publisher`, `subscriber` or `both`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
            Self::Both => "both",
        }
    }
}

/// One thing that was found. Findings sort by severity first, then by check, place and object, so that a report has the
/// same order every time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Its severity.
    pub severity: Severity,
    /// The check that found it: a name in snake case that is the same in all releases, such as `wal_level`.
    pub check: &'static str,
    /// The side.
    pub place: Place,
    /// Its object: a table, a role, a setting. Empty for the server or the pair as a whole.
    pub object: String,
    /// The fact, in one or two sentences.
    pub message: String,
    /// What to do: the exact statement, with the server to run it on, or the step. Empty if there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// A finding about a server or the pair as a whole, without texts yet.
    pub fn new(severity: Severity, check: &'static str, place: Place) -> Self {
        Self { severity, check, place, object: String::new(), message: String::new(), remedy: String::new() }
    }

    /// Sets the object.
    #[must_use]
    pub fn about(self, object: impl Into<String>) -> Self {
        Self { object: object.into(), ..self }
    }

    /// Sets the message.
    #[must_use]
    pub fn says(self, message: impl Into<String>) -> Self {
        Self { message: message.into(), ..self }
    }

    /// Sets the remedy.
    #[must_use]
    pub fn mended_by(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.severity.as_str(), self.place.as_str())?;
        if !self.object.is_empty() {
            write!(f, ", {}", self.object)?;
        }
        write!(f, ": {}", self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " {}", self.remedy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, check: &'static str, object: &str) -> Finding {
        let (message, remedy) = ("It is so.".to_owned(), String::new());
        Finding { severity, check, place: Place::Publisher, object: object.to_owned(), message, remedy }
    }

    #[test]
    fn what_fails_comes_first() {
        let mut found = [
            finding(Severity::Info, "a", ""),
            finding(Severity::Error, "b", "t"),
            finding(Severity::Error, "a", "t"),
            finding(Severity::Warning, "a", ""),
        ];
        found.sort();
        let shown: Vec<_> = found.iter().map(|finding| (finding.severity.as_str(), finding.check)).collect();
        assert_eq!(shown, [("error", "a"), ("error", "b"), ("warning", "a"), ("info", "a")]);
        assert_eq!(found[0].to_string(), "error on publisher, t: It is so.");
    }
}
