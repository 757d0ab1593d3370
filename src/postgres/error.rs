// SPDX-License-Identifier: MPL-2.0

//! Errors: what was being done, where, and why it failed.

mod connecting;
mod remedies;

pub use remedies::grant_of_replication;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::given::Given;
use super::sql::InvalidName;
use super::version::{ServerVersion, Unsupported};

/// The result of anything that talks to a server.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure at a server. Cheap to clone, because several readers may wait for one query.
///
/// `Display` is one sentence: what was being done, where, and the cause with its SQLSTATE. The rest of the server's
/// message is in [`Error::detail`] and [`Error::hint`]. No part ever contains a password or a statement's text.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    doing: String,
    place: Place,
    cause: Cause,
    /// What a person must know in addition to the cause.
    note: Option<String>,
}

/// A database on a server, and the role that connects to it, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `host:port`.
    pub address: String,
    /// The database's name.
    pub database: String,
    /// The role that connects.
    pub role: String,
    /// The names of the values that it is reached with, as the user gave them.
    pub given: Arc<Given>,
}

/// Why it failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The server cannot be reached, or refuses the login.
    Connect(tokio_postgres::Error),
    /// No connection within this time.
    ConnectTimeout(Duration),
    /// The TLS settings are unusable.
    Tls(String),
    /// There is no password to connect with.
    Password(String),
    /// The server refused a statement, or the connection broke under it.
    Statement(tokio_postgres::Error),
    /// The statement took too long, and was cancelled on the server.
    Timeout(Duration),
    /// The caller asked to stop, and the statement was cancelled on the server.
    Cancelled,
    /// All allowed connections were in use for this long.
    Busy {
        /// How many are allowed.
        most: usize,
        /// How long the work waited for one.
        after: Duration,
    },
    /// A statement of the transaction had failed, so that Postgres rolled it back at the commit.
    RolledBack,
    /// The server's version lacks an attribute.
    Unsupported(Unsupported),
    /// The server is older than every supported version.
    TooOld(ServerVersion),
    /// A name is not valid.
    Name(InvalidName),
    /// The server's answer was unexpected.
    Unexpected(String),
}

impl Error {
    pub(super) fn new(doing: impl Into<String>, place: Place, cause: Cause) -> Self {
        Self(Arc::new(Inner { doing: doing.into(), place, cause, note: None }))
    }

    /// Adds to the hint what a person must know about the remaining state.
    pub fn noting(self, note: String) -> Self {
        match Arc::try_unwrap(self.0) {
            Ok(inner) => Self(Arc::new(Inner { note: Some(note), ..inner })),
            Err(shared) => Self(shared),
        }
    }

    /// What was being done, such as `creating publication "orders"`.
    pub fn doing(&self) -> &str {
        &self.0.doing
    }

    /// Where it failed.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The SQLSTATE, if the server gave one.
    pub fn code(&self) -> Option<&SqlState> {
        self.db_error().map(DbError::code)
    }

    /// Whether the server gave this SQLSTATE.
    pub fn is(&self, code: &SqlState) -> bool {
        self.code() == Some(code)
    }

    /// Whether another session held a lock for too long.
    pub fn is_locked(&self) -> bool {
        self.is(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the server could not be reached at all: nothing was run.
    pub fn is_connect(&self) -> bool {
        matches!(self.0.cause, Cause::Connect(_) | Cause::ConnectTimeout(_) | Cause::Tls(_) | Cause::Password(_))
    }

    /// Whether the server has answered, and would give the same answer again: a wrong password, a missing database or
    /// right. Not if it cannot be reached, is restarting, has no connection left, or waits for another session.
    pub fn is_answer(&self) -> bool {
        match &self.0.cause {
            Cause::Connect(error) => error.code().map_or_else(|| connecting::is_refused_by_settings(error), is_final),
            Cause::Statement(error) => error.code().is_some_and(is_final),
            Cause::Tls(_) | Cause::Unsupported(_) | Cause::TooOld(_) | Cause::Name(_) => true,
            _ => false,
        }
    }

    /// Whether the connection broke while a statement ran, so that its outcome is not known.
    pub fn is_lost(&self) -> bool {
        let crashed = |error: &DbError| *error.code() == SqlState::CRASH_SHUTDOWN;
        matches!(&self.0.cause, Cause::Statement(error) if error.as_db_error().is_none_or(crashed))
    }

    /// Whether it may go away by itself, for example while a server restarts: refused, broken or timed-out connections,
    /// and a server that is starting up or shutting down.
    pub fn is_transient(&self) -> bool {
        let restarting = [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
        match &self.0.cause {
            Cause::ConnectTimeout(_) => true,
            Cause::Connect(_) | Cause::Statement(_) => self.code().is_none_or(|code| restarting.contains(code)),
            _ => false,
        }
    }

    /// The server's own detail.
    pub fn detail(&self) -> Option<&str> {
        self.db_error().and_then(DbError::detail)
    }

    /// What to do: the server's own hint, or a remedy that follows from the code.
    pub fn hint(&self) -> Option<String> {
        let own = self.db_error().and_then(DbError::hint).map(str::to_owned);
        let hint = own.or_else(|| self.remedy());
        match (hint, &self.0.note) {
            (Some(hint), Some(note)) => Some(format!("{hint} {note}")),
            (hint, note) => hint.or_else(|| note.clone()),
        }
    }

    fn db_error(&self) -> Option<&DbError> {
        match &self.0.cause {
            Cause::Connect(error) | Cause::Statement(error) => error.as_db_error(),
            _ => None,
        }
    }

    fn remedy(&self) -> Option<String> {
        match &self.0.cause {
            Cause::Connect(error) => connecting::remedy(error, &self.0.place),
            Cause::ConnectTimeout(_) => Some(connecting::silence(&self.0.place)),
            Cause::Statement(error) => match error.as_db_error() {
                Some(error) => remedies::remedy(error.code(), error.message(), &self.0.place),
                None => Some("The connection broke while the server was executing it.".to_owned()),
            },
            Cause::Busy { .. } => Some(
                "Other work of this run uses them. To allow more, raise max_connections in the provider block."
                    .to_owned(),
            ),
            Cause::Timeout(_) => Some(
                "The server was told to stop it. It was probably waiting for a long open transaction, or for a lock \
                 on the table."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Whether a server would give this error again. Others pass: missing resources, another session's lock, an operator's
/// stop.
fn is_final(code: &SqlState) -> bool {
    !matches!(&code.code()[..2], "08" | "40" | "53" | "57" | "58" | "XX") && *code != SqlState::LOCK_NOT_AVAILABLE
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {}", connecting::described(error)),
            Self::ConnectTimeout(after) => write!(f, "cannot connect: no answer within {} s", after.as_secs_f32()),
            Self::Tls(text) | Self::Password(text) => write!(f, "cannot connect: {text}"),
            Self::Statement(error) => match error.as_db_error() {
                Some(db) => write!(f, "{} ({})", db.message(), db.code().code()),
                None => f.write_str(&connecting::sources(error)),
            },
            Self::Timeout(after) => write!(f, "not finished within {:.1} s", after.as_secs_f32()),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Busy { most, after } => {
                write!(f, "no connection became free within {:.1} s: all {most} are in use", after.as_secs_f32())
            }
            Self::RolledBack => f.write_str("a statement had failed, so the transaction was rolled back"),
            Self::Unsupported(error) => fmt::Display::fmt(error, f),
            Self::TooOld(version) => {
                write!(f, "the server runs Postgres {version}; {} or newer is needed", ServerVersion::OLDEST.major())
            }
            Self::Name(error) => fmt::Display::fmt(error, f),
            Self::Unexpected(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in database \"{}\" on {}", self.database, self.address)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.doing, self.0.place, self.0.cause)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.cause {
            Cause::Connect(error) | Cause::Statement(error) => Some(error),
            Cause::Unsupported(error) => Some(error),
            Cause::Name(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::version::PUBLISH_GENERATED_COLUMNS;

    fn error(cause: Cause) -> Error {
        let [address, database, role] = ["db.example:5432", "shop", "me"].map(str::to_owned);
        let place = Place { address, database, role, given: Arc::default() };
        Error::new("creating publication \"orders\"", place, cause)
    }

    #[test]
    fn an_error_says_what_where_and_why() {
        let unsupported = ServerVersion::from_num(150_018).require(PUBLISH_GENERATED_COLUMNS).unwrap_err();
        assert_eq!(
            error(Cause::Unsupported(unsupported)).to_string(),
            "creating publication \"orders\" in database \"shop\" on db.example:5432: \
             publish_generated_columns needs Postgres 18 or newer; the server runs 15.18"
        );
        assert_eq!(
            error(Cause::Timeout(Duration::from_secs(90))).to_string(),
            "creating publication \"orders\" in database \"shop\" on db.example:5432: not finished within 90.0 s"
        );
    }

    #[test]
    fn only_failures_before_the_first_statement_count_as_connecting() {
        assert!(error(Cause::ConnectTimeout(Duration::from_secs(1))).is_connect());
        assert!(!error(Cause::Cancelled).is_connect());
    }
}
