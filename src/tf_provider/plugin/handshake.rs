// SPDX-License-Identifier: MPL-2.0

//! The handshake of a go-plugin child process: the parent's variables in the environment, and the line that it reads on
//! stdout.
//!
//! Pure: nothing here reads the environment, listens or prints.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The provider protocol served: `tfplugin5`.
pub(super) const PROTOCOL: u32 = 5;
/// The version of go-plugin's own handshake.
const CORE_PROTOCOL: u32 = 1;
/// The variable by which a plugin recognizes Terraform and OpenTofu, and its value.
const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");

/// The parent process's requirements.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where to listen.
    pub(super) transport: Transport,
    /// The certificate that every client must present; without one, connections are not encrypted.
    pub(super) client_certificate: Option<CertificateDer<'static>>,
    /// Whether the line must say that connections cannot be multiplexed.
    pub(super) asks_multiplex: bool,
    /// The provider protocols that the parent offers, when [`PROTOCOL`] is not among them.
    pub(super) incompatible: Option<BTreeSet<u32>>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transport {
    /// On a unix socket.
    Unix {
        /// The folder for the socket; the system's temporary one when absent.
        dir: Option<PathBuf>,
        /// The group (name or number) that may connect besides the user.
        group: Option<String>,
    },
    /// On 127.0.0.1, at the first free port of these. Port 0 leaves the choice to the system.
    Tcp(RangeInclusive<u16>),
}

/// Why there can be no handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// Not started by Terraform or OpenTofu.
    NoCookie,
    /// A variable has an invalid value.
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCookie => f.write_str(
                "This binary is a plugin.\n\
                 Terraform and OpenTofu start it when a configuration uses the provider.",
            ),
            Self::Variable { name, cause } => {
                write!(f, "reading environment variable {name}: {cause}")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Settings {
    /// Reads the parent's requirements with `env`. `tcp` prefers TCP to a unix socket.
    pub(super) fn negotiate(env: impl Fn(&str) -> Option<String>, tcp: bool) -> Result<Self, Error> {
        if env(COOKIE.0).as_deref() != Some(COOKIE.1) {
            return Err(Error::NoCookie);
        }
        Ok(Self {
            transport: transport(&env, tcp)?,
            client_certificate: client_certificate(&env)?,
            asks_multiplex: set(&env, "PLUGIN_MULTIPLEX_GRPC").is_some(),
            incompatible: incompatible(&env)?,
        })
    }
}

/// A variable's value; an empty one counts as absent.
fn set(env: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

fn transport(env: &impl Fn(&str) -> Option<String>, tcp: bool) -> Result<Transport, Error> {
    if tcp {
        let (min, max) = ("PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT");
        let ports = port(env, min)?..=port(env, max)?;
        if ports.is_empty() {
            let cause = format!("{} is above {max}, {}", ports.start(), ports.end());
            return Err(Error::Variable { name: min, cause });
        }
        return Ok(Transport::Tcp(ports));
    }
    Ok(Transport::Unix {
        dir: set(env, "PLUGIN_UNIX_SOCKET_DIR").map(PathBuf::from),
        group: set(env, "PLUGIN_UNIX_SOCKET_GROUP"),
    })
}

fn port(env: &impl Fn(&str) -> Option<String>, name: &'static str) -> Result<u16, Error> {
    let Some(text) = set(env, name) else {
        return Ok(0);
    };
    text.parse().map_err(|_| Error::Variable { name, cause: format!("{text:?} is not a port number") })
}

fn client_certificate(env: &impl Fn(&str) -> Option<String>) -> Result<Option<CertificateDer<'static>>, Error> {
    let name = "PLUGIN_CLIENT_CERT";
    let Some(pem) = set(env, name) else {
        return Ok(None);
    };
    match CertificateDer::from_pem_slice(pem.as_bytes()) {
        Ok(certificate) => Ok(Some(certificate)),
        Err(cause) => Err(Error::Variable { name, cause: cause.to_string() }),
    }
}

/// The offered protocols, if ours is not one of them. The order does not matter; an old parent sends no list.
fn incompatible(env: &impl Fn(&str) -> Option<String>) -> Result<Option<BTreeSet<u32>>, Error> {
    let name = "PLUGIN_PROTOCOL_VERSIONS";
    let Some(list) = set(env, name) else {
        return Ok(None);
    };
    let versions = list.split(',').map(|version| {
        version
            .trim()
            .parse()
            .map_err(|_| Error::Variable { name, cause: format!("{version:?} is not a protocol version") })
    });
    let offered: BTreeSet<u32> = versions.collect::<Result<_, _>>()?;
    Ok((!offered.contains(&PROTOCOL)).then_some(offered))
}

/// The plugin's address for the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `unix` or `tcp`.
    pub(super) network: &'static str,
    /// The socket's path, or host and port.
    pub(super) address: String,
}

/// The line that tells the parent where and how to connect, with its line feed.
pub(super) fn line(endpoint: &Endpoint, certificate: Option<&CertificateDer<'_>>, asks_multiplex: bool) -> String {
    let Endpoint { network, address } = endpoint;
    // Go decodes without padding, and refuses it.
    let certificate = certificate.map_or_else(String::new, |der| STANDARD_NO_PAD.encode(der));
    // A parent that expects six parts must not see a seventh, so it is only there on request. A yes would
    // require yamux below every connection, for brokers that providers do not use.
    let multiplex = if asks_multiplex { "|false" } else { "" };
    format!("{CORE_PROTOCOL}|{PROTOCOL}|{network}|{address}|grpc|{certificate}{multiplex}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    fn negotiate(variables: &[(&str, &str)], tcp: bool) -> Result<Settings, Error> {
        let all = [&[COOKIE], variables].concat();
        let find = |name: &str| all.iter().rfind(|(key, _)| *key == name);
        Settings::negotiate(|name| find(name).map(|(_, value)| (*value).to_owned()), tcp)
    }

    fn check_error(variables: &[(&str, &str)], tcp: bool, message: &str) {
        assert_eq!(negotiate(variables, tcp).unwrap_err().to_string(), message);
    }

    #[test]
    fn the_cookie_alone_is_enough() {
        let expected = Settings {
            transport: Transport::Unix { dir: None, group: None },
            client_certificate: None,
            asks_multiplex: false,
            incompatible: None,
        };
        assert_eq!(negotiate(&[], false), Ok(expected));
    }

    #[test]
    fn without_the_cookie_there_is_no_handshake() {
        assert_eq!(Settings::negotiate(|_| None, false), Err(Error::NoCookie));
        assert_eq!(negotiate(&[(COOKIE.0, "else")], false), Err(Error::NoCookie));
    }

    #[test]
    fn versions_are_a_set() {
        for list in ["5", "5,6", "6,5", " 4, 5"] {
            let settings = negotiate(&[("PLUGIN_PROTOCOL_VERSIONS", list)], false).unwrap();
            assert_eq!(settings.incompatible, None, "{list}");
        }
    }

    #[test]
    fn a_parent_without_our_protocol_is_recognised() {
        let settings = negotiate(&[("PLUGIN_PROTOCOL_VERSIONS", "7,6")], false).unwrap();
        assert_eq!(settings.incompatible, Some(BTreeSet::from([6, 7])));
    }

    #[test]
    fn versions_must_be_numbers() {
        check_error(
            &[("PLUGIN_PROTOCOL_VERSIONS", "5,six")],
            false,
            "reading environment variable PLUGIN_PROTOCOL_VERSIONS: \"six\" is not a protocol version",
        );
    }

    #[test]
    fn the_certificate_is_decoded() {
        let settings = negotiate(&[("PLUGIN_CLIENT_CERT", PEM)], false).unwrap();
        let expected = CertificateDer::from(vec![1, 2, 3]);
        assert_eq!(settings.client_certificate, Some(expected));
    }

    #[test]
    fn an_empty_certificate_is_none() {
        let settings = negotiate(&[("PLUGIN_CLIENT_CERT", "")], false).unwrap();
        assert_eq!(settings.client_certificate, None);
    }

    #[test]
    fn a_broken_certificate_is_an_error() {
        let error = negotiate(&[("PLUGIN_CLIENT_CERT", "hello")], false).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("reading environment variable PLUGIN_CLIENT_CERT: "), "{text}");
    }

    #[test]
    fn the_socket_goes_where_the_parent_says() {
        let variables = [("PLUGIN_UNIX_SOCKET_DIR", "/run/plugins"), ("PLUGIN_UNIX_SOCKET_GROUP", "staff")];
        let expected = Transport::Unix { dir: Some(PathBuf::from("/run/plugins")), group: Some("staff".to_owned()) };
        assert_eq!(negotiate(&variables, false).unwrap().transport, expected);
    }

    #[test]
    fn tcp_uses_the_parents_ports() {
        let variables = [("PLUGIN_MIN_PORT", "10000"), ("PLUGIN_MAX_PORT", "25000")];
        let settings = negotiate(&variables, true).unwrap();
        assert_eq!(settings.transport, Transport::Tcp(10000..=25000));
    }

    #[test]
    fn tcp_without_ports_leaves_the_choice_to_the_system() {
        assert_eq!(negotiate(&[], true).unwrap().transport, Transport::Tcp(0..=0));
    }

    #[test]
    fn ports_must_be_ports() {
        check_error(
            &[("PLUGIN_MIN_PORT", "70000")],
            true,
            "reading environment variable PLUGIN_MIN_PORT: \"70000\" is not a port number",
        );
        check_error(
            &[("PLUGIN_MIN_PORT", "9"), ("PLUGIN_MAX_PORT", "8")],
            true,
            "reading environment variable PLUGIN_MIN_PORT: 9 is above PLUGIN_MAX_PORT, 8",
        );
    }

    #[test]
    fn ports_do_not_matter_to_unix_sockets() {
        assert!(negotiate(&[("PLUGIN_MIN_PORT", "x")], false).is_ok());
    }

    fn endpoint() -> Endpoint {
        Endpoint { network: "unix", address: "/tmp/p".to_owned() }
    }

    #[test]
    fn the_line_has_six_parts_and_no_padding() {
        let certificate = CertificateDer::from(vec![1, 2, 3, 4]);
        let line = line(&endpoint(), Some(&certificate), false);
        assert_eq!(line, "1|5|unix|/tmp/p|grpc|AQIDBA\n");
    }

    #[test]
    fn without_a_certificate_the_last_part_is_empty() {
        assert_eq!(line(&endpoint(), None, false), "1|5|unix|/tmp/p|grpc|\n");
    }

    #[test]
    fn multiplexing_is_declined_when_asked_for() {
        let settings = negotiate(&[("PLUGIN_MULTIPLEX_GRPC", "true")], false).unwrap();
        assert!(settings.asks_multiplex);
        assert_eq!(line(&endpoint(), None, true), "1|5|unix|/tmp/p|grpc||false\n");
    }
}
