// SPDX-License-Identifier: MPL-2.0

//! Why a connection failed, in words, and what to check.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::SqlState;

use super::Place;
use crate::postgres::given::Given;
use crate::postgres::sql::Ident;

/// The messages of an error and its sources, joined by colons, without the operating system's error numbers.
pub(super) fn sources(error: &dyn StdError) -> String {
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
    without_number(&text)
}

/// A message of the operating system without its number: `Connection refused (os error 111)` loses the last part.
fn without_number(text: &str) -> String {
    match text.rfind(" (os error ") {
        Some(at) if text.ends_with(')') => text[..at].to_owned(),
        _ => text.to_owned(),
    }
}

/// The error of the operating system or of the name service below an error.
fn io_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Why there is no connection, for people.
pub(super) fn described(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    match Why::of(error) {
        Some(Why::Refused) => "the connection was refused".to_owned(),
        Some(Why::UnknownHost) => "this host name has no address".to_owned(),
        Some(Why::NoRoute) => "there is no route to it".to_owned(),
        Some(Why::Closed) => "the connection was closed before Postgres answered".to_owned(),
        Some(Why::NoPassword) => "the server asks for a password, and none is given".to_owned(),
        // The source says more than the error's own "error connecting to server".
        _ => error.source().map_or_else(|| sources(error), sources),
    }
}

/// Why a connection failed, if the server gave no SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Refused,
    UnknownHost,
    NoRoute,
    Silent,
    Closed,
    NoPassword,
    NoTls,
    UnknownIssuer,
    OtherName,
    BadCertificate,
    NoChannelBinding,
}

impl Why {
    fn of(error: &tokio_postgres::Error) -> Option<Self> {
        let text = sources(error);
        let says = |part: &str| text.contains(part);
        match () {
            // If two authorities have the same name, only the signature is wrong.
            () if says("UnknownIssuer") || says("BadSignature") => Some(Self::UnknownIssuer),
            () if says("NotValidForName") || says("not valid for name") => Some(Self::OtherName),
            () if says("invalid peer certificate") => Some(Self::BadCertificate),
            () if says("did not use channel binding") => Some(Self::NoChannelBinding),
            () if says("does not support TLS") => Some(Self::NoTls),
            () if says("password missing") => Some(Self::NoPassword),
            () if says("failed to lookup address information") => Some(Self::UnknownHost),
            () => io_error(error).and_then(Self::of_io).or(error.is_closed().then_some(Self::Closed)),
        }
    }

    fn of_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Some(Self::NoRoute),
            io::ErrorKind::TimedOut => Some(Self::Silent),
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                Some(Self::Closed)
            }
            _ => None,
        }
    }
}

/// Whether one of our settings does not match the server or its certificate.
pub(super) fn is_refused_by_settings(error: &tokio_postgres::Error) -> bool {
    use Why::{BadCertificate, NoChannelBinding, NoPassword, NoTls, OtherName, UnknownIssuer};
    let of_settings = [NoPassword, NoTls, UnknownIssuer, OtherName, BadCertificate, NoChannelBinding];
    Why::of(error).is_some_and(|why| of_settings.contains(&why))
}

/// What to check if nothing answered in time.
pub(super) fn silence(place: &Place) -> String {
    let given = &place.given;
    format!(
        "Nothing answered at {}. Check {}, that the server runs, and that a firewall or security group lets this \
         machine in. To allow more time, set {}.",
        place.address,
        Given::both(&given.host, &given.port),
        given.connect_timeout
    )
}

/// What to do about it.
pub(super) fn remedy(error: &tokio_postgres::Error, place: &Place) -> Option<String> {
    match error.as_db_error() {
        Some(db) => of_answer(db.code(), db.message(), db.detail().unwrap_or_default(), place),
        None => Why::of(error).map(|why| of_missing_answer(why, place)),
    }
}

fn of_missing_answer(why: Why, place: &Place) -> String {
    let (given, address) = (&place.given, &place.address);
    let (host, sslmode) = (&given.host, &given.sslmode);
    let host_and_port = Given::both(host, &given.port);
    match why {
        Why::Refused => format!(
            "Nothing listens at {address}. Check {host_and_port}, that the server runs, and that it listens on that address \
             (listen_addresses)."
        ),
        Why::UnknownHost => format!(
            "Check {host}: it must be a host name or an address and nothing else. A name in a private network is \
             known only there."
        ),
        Why::NoRoute => format!(
            "This machine has no route to {address}. Check {host}, the network (VPN, peering), and whether the host \
             has an IPv6 address only."
        ),
        Why::Silent => silence(place),
        Why::Closed => format!(
            "The server at {address} answered and closed the connection. Check that {host_and_port} are those of a \
             Postgres server, not of a proxy or another service, and check {sslmode}."
        ),
        Why::NoPassword => format!("Set {}.", given.password),
        Why::NoTls => format!("Set {sslmode} to \"disable\" if the connection may go unencrypted."),
        Why::UnknownIssuer => format!(
            "The server's certificate is signed by an authority that is not known here: give its certificate as {}.",
            given.sslrootcert
        ),
        Why::OtherName => format!(
            "The server's certificate is for another name. Check {host}. If it is right, {sslmode} = \"verify-ca\" \
             does not check the name."
        ),
        Why::BadCertificate => format!(
            "The server's certificate is not valid, or has expired. Renew it there. With {sslmode} = \"require\" \
             and without {}, it is not verified.",
            given.sslrootcert
        ),
        Why::NoChannelBinding => {
            "channel_binding = require needs TLS, a server that checks passwords with scram-sha-256, and a role whose password \
             is stored so."
                .to_owned()
        }
    }
}

/// What to do about a server's answer to a connection.
fn of_answer(code: &SqlState, message: &str, detail: &str, place: &Place) -> Option<String> {
    let given = &place.given;
    let (role, address) = (Ident::from_catalog(&place.role), &place.address);
    let database = Ident::from_catalog(&place.database);
    let of_authorization = *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
    let text = match () {
        // RDS checks tokens with PAM.
        () if message.starts_with("PAM authentication failed") => format!(
            "RDS rejected the IAM token. The role needs rds_iam (on {address}: GRANT rds_iam TO {role};), the AWS \
             identity rds-db:connect on it, and host, port and region must be those of the instance or the cluster \
             itself."
        ),
        () if *code == SqlState::INVALID_PASSWORD => format!(
            "The server rejected this password for role {role}. Check {}.",
            Given::both(&given.password, &given.username)
        ),
        () if of_authorization && message.contains("is not permitted to log in") => {
            format!("On {address}, as a superuser or a role that may: ALTER ROLE {role} LOGIN;")
        }
        () if of_authorization && message.contains("does not exist") => {
            format!("There is no role {role} on {address}. Check {}.", given.username)
        }
        () if of_authorization => format!(
            "The server's pg_hba.conf has no entry that allows role {role} to connect in this way from this \
             machine. Check {}.",
            Given::both(&given.username, &given.sslmode)
        ),
        () if *code == SqlState::INVALID_CATALOG_NAME => format!(
            "Check {}. If this configuration creates the database, apply that first, for instance with -target.",
            given.database
        ),
        () if *code == SqlState::INSUFFICIENT_PRIVILEGE && detail.contains("CONNECT") => format!(
            "On {address}, as the owner of the database or a superuser: GRANT CONNECT ON DATABASE {database} TO {role};"
        ),
        () if *code == SqlState::INSUFFICIENT_PRIVILEGE => super::remedies::remedy(code, message, place)?,
        () if *code == SqlState::TOO_MANY_CONNECTIONS => {
            format!("Lower {}, or raise the server's max_connections.", given.max_connections)
        }
        () if *code == SqlState::CANNOT_CONNECT_NOW => {
            "The server is starting up, shutting down or recovering. Try again in a moment.".to_owned()
        }
        () => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn place() -> Place {
        let given = Arc::new(Given::named(|keyword| format!("publisher.{keyword}")));
        let [address, database, role] = ["db.example:5432", "shop", "me"].map(str::to_owned);
        Place { address, database, role, given }
    }

    fn check(code: &SqlState, message: &str, detail: &str, expected: &[&str]) {
        let remedy = of_answer(code, message, detail, &place()).unwrap();
        for part in expected {
            assert!(remedy.contains(part), "{part} is not in {remedy}");
        }
    }

    #[test]
    fn an_answer_leads_to_what_is_wrong() {
        check(&SqlState::INVALID_PASSWORD, "", "", &["Check publisher.password and publisher.user.", "role \"me\""]);
        check(&SqlState::INVALID_CATALOG_NAME, "", "", &["Check publisher.dbname.", "-target"]);
        let authorization = &SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
        check(authorization, "role \"me\" is not permitted to log in", "", &["ALTER ROLE \"me\" LOGIN;"]);
        check(authorization, "role \"me\" does not exist", "", &["There is no role \"me\" on db.example:5432"]);
        check(authorization, "no pg_hba.conf entry for host", "", &["pg_hba.conf", "publisher.sslmode"]);
        check(
            &SqlState::INSUFFICIENT_PRIVILEGE,
            "permission denied for database \"shop\"",
            "User does not have CONNECT privilege.",
            &[
                "On db.example:5432, as the owner of the database or a superuser: GRANT CONNECT ON DATABASE \"shop\" TO \"me\";",
            ],
        );
        check(&SqlState::TOO_MANY_CONNECTIONS, "", "", &["Lower publisher.max_connections"]);
        assert_eq!(of_answer(&SqlState::SYNTAX_ERROR, "", "", &place()), None);
    }

    #[test]
    fn a_missing_answer_leads_to_host_and_port() {
        assert!(silence(&place()).contains("Check publisher.host and publisher.port"));
        for why in [Why::Refused, Why::UnknownHost, Why::NoRoute, Why::Silent, Why::Closed] {
            let remedy = of_missing_answer(why, &place());
            assert!(remedy.contains("publisher.host"), "{why:?}: {remedy}");
        }
        assert_eq!(of_missing_answer(Why::NoPassword, &place()), "Set publisher.password.");
        for why in [Why::UnknownIssuer, Why::BadCertificate] {
            assert!(of_missing_answer(why, &place()).contains("publisher.sslrootcert"), "{why:?}");
        }
    }

    #[test]
    fn numbers_of_the_operating_system_are_left_out() {
        assert_eq!(without_number("Connection refused (os error 111)"), "Connection refused");
        assert_eq!(without_number("nothing (at all)"), "nothing (at all)");
    }
}
