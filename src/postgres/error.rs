//! What failed: what was being done, where, and why.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::sql::{Ident, InvalidName};
use super::version::{ServerVersion, Unsupported};

/// The result of anything that talks to a server.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure at a server. Cheap to clone, because several readers may wait for one query.
///
/// `Display` is one sentence: what was being done, where, and the cause with its SQLSTATE. What the server says beyond
/// that is in [`Error::detail`] and [`Error::hint`]. No part of it ever holds a password or a statement's text.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    doing: String,
    place: Place,
    cause: Cause,
    /// What a person must know beside the cause.
    note: Option<String>,
}

/// A database on a server as a role sees it, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `host:port`.
    pub address: String,
    /// The database's name.
    pub database: String,
    /// The role that connects.
    pub role: String,
}

/// Why it failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The server cannot be reached, or does not let us in.
    Connect(tokio_postgres::Error),
    /// No connection within this time.
    ConnectTimeout(Duration),
    /// The TLS settings are unusable.
    Tls(String),
    /// There is no password to connect with.
    Password(String),
    /// The server refused a statement, or the connection broke under it.
    Statement(tokio_postgres::Error),
    /// The time for it was over; it was cancelled on the server.
    Timeout(Duration),
    /// The caller asked to stop; it was cancelled on the server.
    Cancelled,
    /// All connections that are allowed were in use for this long.
    Busy {
        /// How many are allowed.
        most: usize,
        /// How long one was waited for.
        after: Duration,
    },
    /// A transaction was to be committed in which a statement had failed, so that Postgres undid all of it.
    RolledBack,
    /// The server's version lacks an attribute.
    Unsupported(Unsupported),
    /// The server is older than anything known here.
    TooOld(ServerVersion),
    /// A name cannot be one.
    Name(InvalidName),
    /// The server answered something unforeseen.
    Unexpected(String),
}

impl Error {
    pub(super) fn new(doing: impl Into<String>, place: Place, cause: Cause) -> Self {
        Self(Arc::new(Inner { doing: doing.into(), place, cause, note: None }))
    }

    /// Adds to the hint what a person must know about the state that is left.
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

    /// The SQLSTATE, where the server gave one.
    pub fn code(&self) -> Option<&SqlState> {
        self.db_error().map(DbError::code)
    }

    /// Whether the server gave this SQLSTATE.
    pub fn is(&self, code: &SqlState) -> bool {
        self.code() == Some(code)
    }

    /// Whether another session held a lock for longer than was waited for it.
    pub fn is_locked(&self) -> bool {
        self.is(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the server could not be reached at all: nothing was run.
    pub fn is_connect(&self) -> bool {
        matches!(self.0.cause, Cause::Connect(_) | Cause::ConnectTimeout(_) | Cause::Tls(_) | Cause::Password(_))
    }

    /// Whether the connection broke while a statement ran, so that its outcome is not known.
    pub fn is_lost(&self) -> bool {
        let crashed = |error: &DbError| *error.code() == SqlState::CRASH_SHUTDOWN;
        matches!(&self.0.cause, Cause::Statement(error) if error.as_db_error().is_none_or(crashed))
    }

    /// Whether it may go away by itself, as while a server restarts: refused, broken or timed-out connections, and a server
    /// that is starting up or shutting down.
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
            Cause::Connect(error) => connect_remedy(error),
            Cause::ConnectTimeout(_) => Some(
                "Nothing answered. Check the host and port, and whether a firewall or security group lets this machine in.".to_owned(),
            ),
            Cause::Statement(error) => match error.as_db_error() {
                Some(error) => statement_remedy(error, &self.0.place),
                None => Some("The connection broke while the server was at it.".to_owned()),
            },
            Cause::Busy { .. } => Some(
                "Other work of this run holds them. max_connections of the provider block allows more.".to_owned(),
            ),
            Cause::Timeout(_) => Some(
                "The server was told to stop it. A transaction that has been open for long, or a lock on the table, makes it wait.".to_owned(),
            ),
            _ => None,
        }
    }
}

fn connect_remedy(error: &tokio_postgres::Error) -> Option<String> {
    let text = match error.code() {
        Some(code) if *code == SqlState::INVALID_PASSWORD => "Check username and password.",
        Some(_) if is_refused_token(error) => {
            "RDS did not take the IAM token. The role needs rds_iam (GRANT rds_iam TO the role), the AWS identity rds-db:connect on it, \
             and host, port and region must be those of the instance or the cluster itself."
        }
        Some(code) if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "The server's pg_hba.conf has no entry that lets this user in from this machine this way; check sslmode, too."
        }
        Some(code) if *code == SqlState::INVALID_CATALOG_NAME => "Check the database's name.",
        Some(code) if *code == SqlState::TOO_MANY_CONNECTIONS => {
            "Lower max_connections of the provider block, or raise the server's."
        }
        Some(_) => return None,
        None if sources(error).contains("UnknownIssuer") => {
            "The server's certificate is signed by an authority that is not known here: give its certificate as sslrootcert."
        }
        None if sources(error).contains("did not use channel binding") => {
            "channel_binding = require needs TLS, a server that checks passwords with scram-sha-256, and a role whose password is \
             stored so."
        }
        None if sources(error).contains("does not support TLS") => {
            "Set sslmode to \"disable\" if the connection may go unencrypted."
        }
        None => return None,
    };
    Some(text.to_owned())
}

/// RDS checks tokens with PAM.
fn is_refused_token(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.message().starts_with("PAM authentication failed"))
}

/// What usually mends an error that comes without a hint of the server's own: the SQLSTATE, a part of the message that
/// is the same in every version, and the remedy, in which `{role}` is the role that connects and `{database}` the
/// database. Servers with translated messages get no remedy.
const REMEDIES: &[(SqlState, &str, &str)] = &[
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied for database",
        "GRANT CREATE ON DATABASE {database} TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "permission denied to create subscription",
        "GRANT pg_create_subscription TO {role};",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be superuser to create subscriptions",
        "Before Postgres 16 only a superuser may create subscriptions.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "password_required=false is superuser-only",
        "Leave password_required out, or connect as a superuser.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be owner of table",
        "A publication's tables must be owned by the role that makes it: ALTER TABLE … OWNER TO {role}; or connect as their owner.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be owner of publication",
        "ALTER PUBLICATION … OWNER TO {role}; or connect as its owner.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be owner of subscription",
        "ALTER SUBSCRIPTION … OWNER TO {role}; or connect as its owner.",
    ),
    (SqlState::INSUFFICIENT_PRIVILEGE, "must be able to SET ROLE", "GRANT that role TO {role};"),
    (SqlState::INSUFFICIENT_PRIVILEGE, "must be member of role", "GRANT that role TO {role};"),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "FOR ALL TABLES publication",
        "List the tables, which needs their ownership only, or connect as a superuser.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "must be superuser to add or set schemas",
        "List the tables, which needs their ownership only, or connect as a superuser.",
    ),
    (
        SqlState::INSUFFICIENT_PRIVILEGE,
        "FOR TABLES IN SCHEMA publication",
        "List the tables, which needs their ownership only, or connect as a superuser.",
    ),
    (SqlState::INSUFFICIENT_PRIVILEGE, "replication slots", REPLICATION),
    (SqlState::CONNECTION_FAILURE, "start WAL sender", REPLICATION_OF_CONNECTION),
    (SqlState::CONNECTION_FAILURE, "replication role to start walsender", REPLICATION_OF_CONNECTION),
    (
        SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
        "password is required",
        "The owner is no superuser, so the connection needs a password: give one in the subscription's publisher block.",
    ),
    (
        SqlState::S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED,
        "does not request a password",
        "Let the publisher ask for it (scram-sha-256 in its pg_hba.conf), or let a superuser own the subscription with \
         password_required = false.",
    ),
    (
        SqlState::PROTOCOL_VIOLATION,
        "wal_level",
        "The publisher must run with wal_level = logical; on Aurora that is rds.logical_replication = 1 and a reboot of the writer.",
    ),
    (
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
        "wal_level",
        "The publisher must run with wal_level = logical; on Aurora that is rds.logical_replication = 1 and a reboot of the writer.",
    ),
    (
        SqlState::PROTOCOL_VIOLATION,
        "all replication slots are in use",
        "Raise max_replication_slots on the publisher, or drop slots that nothing reads from.",
    ),
    (
        SqlState::PROTOCOL_VIOLATION,
        "already exists",
        "Drop the slot on the publisher if nothing reads from it, or subscribe with create_slot = false to go on from it.",
    ),
    (
        SqlState::CONNECTION_FAILURE,
        "could not drop replication slot",
        "DISABLE the subscription, SET (slot_name = NONE), and drop it then: that leaves the publisher alone.",
    ),
    (SqlState::LOCK_NOT_AVAILABLE, "", "Another session held a lock for too long; see pg_locks and pg_stat_activity."),
    (
        SqlState::READ_ONLY_SQL_TRANSACTION,
        "",
        "The server only reads, as a standby or a reader does: connect to the primary, which is the writer endpoint of an Aurora cluster.",
    ),
    (SqlState::QUERY_CANCELED, "", "It was cancelled on the server, by a time limit there or by somebody else."),
];

const REPLICATION: &str = "ALTER ROLE {role} REPLICATION; or, on Aurora and RDS: GRANT rds_replication TO {role};";

const REPLICATION_OF_CONNECTION: &str = "On the publisher, for the role of the subscription's connection: ALTER ROLE … \
     REPLICATION; or, on Aurora and RDS: GRANT rds_replication TO …;";

fn statement_remedy(error: &DbError, place: &Place) -> Option<String> {
    let fits = |(code, part, _): &&(SqlState, &str, &str)| error.code() == code && error.message().contains(part);
    let (.., remedy) = REMEDIES.iter().find(fits)?;
    let quoted = |name: &str| Ident::from_catalog(name).to_string();
    Some(remedy.replace("{role}", &quoted(&place.role)).replace("{database}", &quoted(&place.database)))
}

/// The messages of an error and of everything below it, joined by colons.
fn sources(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let message = source.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = source.source();
    }
    text
}

fn write_error(f: &mut fmt::Formatter<'_>, error: &tokio_postgres::Error) -> fmt::Result {
    match error.as_db_error() {
        Some(db) => write!(f, "{} ({})", db.message(), db.code().code()),
        None => f.write_str(&sources(error)),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What is below the error says more than its own "error connecting to server".
            Self::Connect(error) => match (error.as_db_error(), error.source()) {
                (None, Some(source)) => write!(f, "cannot connect: {}", sources(source)),
                _ => {
                    f.write_str("cannot connect: ")?;
                    write_error(f, error)
                }
            },
            Self::ConnectTimeout(after) => write!(f, "cannot connect: no answer within {} s", after.as_secs_f32()),
            Self::Tls(text) | Self::Password(text) => write!(f, "cannot connect: {text}"),
            Self::Statement(error) => write_error(f, error),
            Self::Timeout(after) => write!(f, "not finished within {:.1} s", after.as_secs_f32()),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Busy { most, after } => {
                write!(f, "no connection was free within {:.1} s: all {most} are in use", after.as_secs_f32())
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
        let place = Place { address, database, role };
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
