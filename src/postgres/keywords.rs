// SPDX-License-Identifier: MPL-2.0

//! The keywords of libpq's connection strings, majors 14 to 18: which exist, what this provider's own connections do
//! with each, and which a subscription may have.
//!
//! Source: "Parameter Key Words" in the documentation of libpq.

use super::version::ServerVersion;

/// What this provider's own connections, which do not use libpq, do with a keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ours {
    /// It works as documented.
    Works,
    /// These values are accepted, because they ask for what is done anyway; all others are refused, for this reason.
    Only(&'static [&'static str], &'static str),
    /// Refused, with what to use instead.
    Refused(&'static str),
}

/// Whether a subscription's connection may have a keyword in addition to its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Theirs {
    /// libpq on the subscriber accepts it.
    Allowed,
    /// It has this attribute in the block.
    Attribute(&'static str),
    /// Refused, with what to use instead.
    Refused(&'static str),
}

/// One keyword.
#[derive(Debug, PartialEq, Eq)]
struct Keyword {
    name: &'static str,
    /// The first major version whose libpq has it; 14 for older ones.
    since: u32,
    /// Whether its value is never shown.
    is_secret: bool,
    ours: Ours,
    theirs: Theirs,
}

const fn keyword(name: &'static str, ours: Ours, theirs: Theirs) -> Keyword {
    Keyword { name, since: 14, is_secret: false, ours, theirs }
}

impl Keyword {
    const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }
}

const NO_GSS: &str = "The provider has no GSSAPI; it encrypts with TLS (sslmode) and logs in with a password, a client certificate or \
     an IAM token.";
const NO_OAUTH: &str = "The provider has no OAuth; it logs in with a password, a client certificate or an IAM token.";
const NO_FILES: &str = "The provider reads no files of libpq. Give host, port, database, username and password in the block or in the \
     URL; a sensitive variable or an ephemeral value keeps the password out of the configuration.";
const PASSWORD: &str = "It holds a secret, or leads to one. Give the password in password_wo, or in password.";
const NO_LOGIN: &str =
    "A subscription's worker cannot log in that way. Give the password in password_wo, or in password.";
const BY_ITSELF: &str = "A subscription sets it by itself. Leave it out.";
const UNENCRYPTED_KEY: &str = "Give sslkey a key that is not encrypted.";
const OFF: &[&str] = &["0"];

use Ours::{Only, Works};
use Theirs::{Allowed, Attribute};

/// All of them, in alphabetical order.
const KEYWORDS: &[Keyword] = &[
    keyword("application_name", Works, Allowed),
    keyword("channel_binding", Works, Allowed),
    keyword(
        "client_encoding",
        Only(&["auto", "utf8", "utf-8", "unicode"], "The provider speaks UTF-8, into which the server translates."),
        Theirs::Refused(BY_ITSELF),
    ),
    keyword("connect_timeout", Works, Allowed),
    keyword("dbname", Works, Attribute("database")),
    keyword(
        "fallback_application_name",
        Works,
        Theirs::Refused("A subscription sets it by itself. Use application_name."),
    ),
    keyword("gssdelegation", Only(OFF, NO_GSS), Allowed).since(16),
    keyword("gssencmode", Only(&["disable", "prefer"], NO_GSS), Allowed),
    keyword("gsslib", Ours::Refused(NO_GSS), Allowed),
    keyword("host", Works, Attribute("host")),
    keyword("hostaddr", Works, Allowed),
    keyword("keepalives", Works, Allowed),
    keyword("keepalives_count", Works, Allowed),
    keyword("keepalives_idle", Works, Allowed),
    keyword("keepalives_interval", Works, Allowed),
    keyword("krbsrvname", Ours::Refused(NO_GSS), Allowed),
    keyword("load_balance_hosts", Works, Allowed).since(16),
    keyword("max_protocol_version", Only(&["3.0", "3.2", "latest"], "The provider speaks version 3.0."), Allowed)
        .since(18),
    keyword("min_protocol_version", Only(&["3.0"], "The provider speaks version 3.0."), Allowed).since(18),
    keyword("oauth_client_id", Ours::Refused(NO_OAUTH), Theirs::Refused(NO_LOGIN)).since(18),
    keyword("oauth_client_secret", Ours::Refused(NO_OAUTH), Theirs::Refused(NO_LOGIN)).since(18).secret(),
    keyword("oauth_issuer", Ours::Refused(NO_OAUTH), Theirs::Refused(NO_LOGIN)).since(18),
    keyword("oauth_scope", Ours::Refused(NO_OAUTH), Theirs::Refused(NO_LOGIN)).since(18),
    keyword("options", Works, Allowed),
    keyword("passfile", Ours::Refused(NO_FILES), Theirs::Refused(PASSWORD)),
    keyword("password", Works, Attribute("password_wo, or password")).secret(),
    keyword("port", Works, Attribute("port")),
    keyword(
        "replication",
        Only(
            &["false", "off", "no", "0"],
            "The provider runs statements, which a replication connection does not \
             allow.",
        ),
        Theirs::Refused(BY_ITSELF),
    ),
    keyword(
        "require_auth",
        Ours::Refused("The provider cannot choose the method. channel_binding=require allows only SCRAM over TLS."),
        Allowed,
    )
    .since(16),
    keyword("requirepeer", Ours::Refused("It is for Unix sockets, and the provider connects over TCP."), Allowed),
    keyword("scram_client_key", Ours::Refused("Give the password instead."), Theirs::Refused(PASSWORD))
        .since(18)
        .secret(),
    keyword("scram_server_key", Ours::Refused("Give the password instead."), Theirs::Refused(PASSWORD))
        .since(18)
        .secret(),
    keyword("service", Ours::Refused(NO_FILES), Theirs::Refused(PASSWORD)),
    keyword("sslcert", Works, Allowed),
    keyword(
        "sslcertmode",
        Only(&["allow"], "The provider presents sslcert when the server asks for one. Leave sslcert out, or give it."),
        Allowed,
    )
    .since(16),
    keyword("sslcompression", Only(OFF, "The provider's TLS does not compress."), Allowed),
    keyword("sslcrl", Works, Allowed),
    keyword("sslcrldir", Ours::Refused("Give the revocation lists in one file, as sslcrl."), Allowed),
    keyword("sslkey", Works, Allowed),
    keyword(
        "sslkeylogfile",
        Ours::Refused("It writes the keys of the connection into a file."),
        Theirs::Refused("It writes the keys of the connection into a file."),
    )
    .since(18),
    keyword("sslmode", Works, Attribute("sslmode")),
    keyword("sslnegotiation", Works, Allowed).since(17),
    keyword("sslpassword", Ours::Refused(UNENCRYPTED_KEY), Theirs::Refused(UNENCRYPTED_KEY)).secret(),
    keyword("sslrootcert", Works, Allowed),
    keyword("sslsni", Works, Allowed),
    keyword("ssl_max_protocol_version", Works, Allowed),
    keyword("ssl_min_protocol_version", Works, Allowed),
    keyword("target_session_attrs", Works, Allowed),
    keyword("tcp_user_timeout", Works, Allowed),
    keyword("user", Works, Attribute("username")),
];

/// The names of other drivers, with the keywords that they mean.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("database", "dbname"),
    ("db", "dbname"),
    ("hostname", "host"),
    ("pass", "password"),
    ("passwd", "password"),
    ("pwd", "password"),
    ("search_path", "options"),
    ("server", "host"),
    ("ssl", "sslmode"),
    ("ssl_mode", "sslmode"),
    ("statement_timeout", "options"),
    ("timeout", "connect_timeout"),
    ("uid", "user"),
    ("username", "user"),
];

fn find(name: &str) -> Option<&'static Keyword> {
    KEYWORDS.iter().find(|keyword| keyword.name == name)
}

/// Whether libpq has this keyword, in any of its versions from 14 to 18.
pub(super) fn exists(name: &str) -> bool {
    find(name).is_some()
}

/// Refuses a keyword that libpq has in none of its versions from 14 to 18.
///
/// # Errors
/// A phrase for people, without a final dot.
pub fn check_known(name: &str) -> Result<(), String> {
    if exists(name) { Ok(()) } else { Err(unknown(name)) }
}

/// Whether its value is never shown. An unknown keyword may be secret too.
pub(super) fn is_secret(name: &str) -> bool {
    find(name).is_none_or(|keyword| keyword.is_secret)
}

/// The error for a keyword that does not exist: its name, if that can be shown, and the nearest keyword.
pub(super) fn unknown(name: &str) -> String {
    // If quotes or percent-encoding are missing, a piece of a password may look like a keyword.
    let looks_like_one = (2..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if !looks_like_one {
        return "it holds a keyword that libpq does not know; a value that holds a space needs single quotes, and one in a URL \
                percent-encoding"
            .to_owned();
    }
    match meant(name) {
        Some(meant) => format!("{name} is not a keyword of libpq (did you mean {meant}?)"),
        None => format!("{name} is not a keyword of libpq"),
    }
}

/// The nearest keyword, if one is near.
fn meant(name: &str) -> Option<&'static str> {
    let other_name = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, meant)| *meant);
    other_name.or_else(|| {
        let near = KEYWORDS.iter().map(|keyword| (distance(name, keyword.name), keyword.name));
        near.filter(|(distance, keyword)| *distance <= keyword.len().min(9) / 3).min().map(|(_, keyword)| keyword)
    })
}

/// The edit distance between two words.
fn distance(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// Refuses a keyword, or a value of it, that this provider's own connections would ignore.
///
/// # Errors
/// A sentence for people, which names the keyword and never the value.
pub(super) fn check_ours(name: &str, value: &str) -> Result<(), String> {
    let Some(keyword) = find(name) else { return Err(unknown(name)) };
    match keyword.ours {
        Works => Ok(()),
        Only(values, _) if values.contains(&value.to_ascii_lowercase().as_str()) => Ok(()),
        Only(values, why) => Err(format!("{name} can only be {}. {why}", values.join(", "))),
        Ours::Refused(instead) => Err(format!("{name} cannot be used here. {instead}")),
    }
}

/// Refuses a keyword that `publisher.options` of a subscription may not have: one that has an attribute, that is secret
/// or leads to a secret, that Postgres sets by itself, or that does not exist.
///
/// # Errors
/// A sentence for people, which names the keyword and never the value.
pub fn check_option(name: &str, value: &str) -> Result<(), String> {
    match find(name).map(|keyword| keyword.theirs) {
        Some(Allowed) if value.contains("-----BEGIN") => {
            Err(format!("{name} is the path of a file on the subscriber's server, and not the PEM text itself."))
        }
        Some(Allowed) => Ok(()),
        Some(Attribute(attribute)) => Err(format!("{name} has its own attribute in this block. Use {attribute}.")),
        Some(Theirs::Refused(instead)) => Err(format!("{name} cannot be given here. {instead}")),
        None => Err(format!("{}. A subscription takes keywords of libpq only.", unknown(name))),
    }
}

/// Whether `publisher.options` of a subscription may hold a keyword.
pub fn may_be_option(name: &str) -> bool {
    find(name).is_some_and(|keyword| keyword.theirs == Allowed)
}

/// The first major version whose libpq has a keyword, if the server's is older.
pub fn newer_than(name: &str, server: ServerVersion) -> Option<u32> {
    find(name).map(|keyword| keyword.since).filter(|since| *since > server.major())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyword_stands_once() {
        let mut names: Vec<_> = KEYWORDS.iter().map(|keyword| keyword.name).collect();
        names.dedup();
        assert_eq!(names.len(), KEYWORDS.len());
        // As many as PQconndefaults of libpq 18 returns.
        assert_eq!(KEYWORDS.len(), 50);
    }

    #[test]
    fn what_may_be_meant_is_said() {
        for (name, meant) in [
            ("sslmod", Some("sslmode")),
            ("sslrootcerts", Some("sslrootcert")),
            ("sslroot", None),
            ("ssl_mode", Some("sslmode")),
            ("pasword", Some("password")),
            ("username", Some("user")),
            ("channelbinding", Some("channel_binding")),
            ("conect_timeout", Some("connect_timeout")),
            ("pgbouncer", None),
            ("schema", None),
        ] {
            assert_eq!(super::meant(name), meant, "{name}");
        }
    }

    #[test]
    fn what_may_be_a_piece_of_a_password_is_not_repeated() {
        for name in ["Hunter", "hunter2", "h", "jdbc:postgresql://u:hunter@h/d?sslmode", ""] {
            let text = unknown(name);
            assert!(name.is_empty() || !text.contains(&format!(" {name} ")) && !text.starts_with(name), "{text}");
        }
    }

    #[test]
    fn no_secret_is_an_option() {
        for keyword in KEYWORDS.iter().filter(|keyword| keyword.is_secret) {
            assert!(!may_be_option(keyword.name), "{}", keyword.name);
        }
        for name in ["passfile", "service", "servicefile", "sslkeylogfile", "replication", "nonsense"] {
            assert!(!may_be_option(name), "{name}");
            assert!(check_option(name, "x").is_err(), "{name}");
        }
        assert_eq!(check_option("keepalives_idle", "60"), Ok(()));
        assert_eq!(
            check_option("sslpassword", "hunter2"),
            Err("sslpassword cannot be given here. Give sslkey a key that is not encrypted.".to_owned())
        );
        assert!(check_option("sslkey", "-----BEGIN PRIVATE KEY-----").unwrap_err().contains("the path of a file"));
    }

    #[test]
    fn what_is_not_heeded_is_refused() {
        assert_eq!(check_ours("gssencmode", "prefer"), Ok(()));
        assert!(
            check_ours("gssencmode", "require").unwrap_err().starts_with("gssencmode can only be disable, prefer. ")
        );
        assert!(check_ours("require_auth", "hunter2").unwrap_err().contains("channel_binding=require"));
        assert_eq!(
            check_ours("sslmod", "verify-full"),
            Err("sslmod is not a keyword of libpq (did you mean sslmode?)".to_owned())
        );
    }

    #[test]
    fn newer_keywords_have_their_version() {
        assert_eq!(newer_than("require_auth", ServerVersion::from_num(150_018)), Some(16));
        assert_eq!(newer_than("require_auth", ServerVersion::from_num(160_000)), None);
        assert_eq!(newer_than("keepalives", ServerVersion::from_num(140_000)), None);
    }
}
