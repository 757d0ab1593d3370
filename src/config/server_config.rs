// SPDX-License-Identifier: MPL-2.0

//! Turns a server's block and connection string into the configuration of its connections, or refuses them.

use std::fmt::Display;
use std::sync::Arc;

use super::given;
use super::server_block::{self, ServerBlock};
use super::side::Side;
use crate::neon::endpoint;
use crate::postgres::conninfo::{Conninfo, InvalidConninfo, Secret};
use crate::postgres::{ServerConfig, SslMode, Transport, check_roots, connect_timeout, is_loopback};
use crate::tf_provider::diagnostics::{Error, Result};

/// The given values for one server.
pub(super) struct Given<'a> {
    pub(super) side: Side,
    pub(super) block: &'a ServerBlock,
    /// The URL with the attributes that override it.
    pub(super) conninfo: &'a Conninfo,
    /// Whether an RDS IAM token is the password.
    pub(super) uses_iam: bool,
}

/// Whether the given values are enough to connect.
pub(super) enum Reach {
    /// The attribute of this name is missing.
    Missing(&'static str),
    /// Everything is given.
    Complete(Box<ServerConfig>),
}

/// The security that follows from the keywords, for any host.
struct Security {
    transport: Transport,
    mode: SslMode,
    root: Option<String>,
}

impl Given<'_> {
    /// Checks the values that are already known. An unknown value may still resolve a problem.
    ///
    /// # Errors
    /// When a keyword, its value, or a combination would be ignored, or would protect less than it says.
    pub(super) fn check(&self) -> Result<()> {
        match server_block::unknown(self.block) {
            Some(_) => self.keywords().map(drop),
            None => self.security().map(drop),
        }
    }

    /// The configuration of the server's connections.
    ///
    /// # Errors
    /// As [`Given::check`], and when the host or port cannot be used.
    pub(super) fn reach(&self) -> Result<Reach> {
        let get = |keyword| self.conninfo.get(keyword);
        if get("host").is_none() && get("hostaddr").is_none() {
            return Ok(Reach::Missing("host"));
        }
        let Some(username) = get("user") else { return Ok(Reach::Missing("username")) };
        let Some(database) = get("dbname") else { return Ok(Reach::Missing("database")) };
        let (host, port) = self.conninfo.tcp_address().map_err(|error| self.wrong(&error))?;
        let mut config = ServerConfig::new(host, database, username);
        config.port = port;
        config.password = self.conninfo.password();
        let security = self.security()?;
        (config.transport, config.sslmode, config.sslrootcert) = (security.transport, security.mode, security.root);
        config.sslcert = get("sslcert").map(str::to_owned);
        config.sslkey = get("sslkey").map(Secret::new);
        if let Some(timeout) = connect_timeout(self.conninfo).map_err(|error| self.wrong(&error))? {
            config.connect_timeout = timeout;
        }
        if let Some(name) = get("application_name").or(get("fallback_application_name")) {
            config.application_name = name.to_owned();
        }
        config.given = Arc::new(given::names(self.side, self.block, self.conninfo));
        if let Some(most) = self.block.max_connections.known() {
            config.max_connections = usize::try_from(*most).unwrap_or(1);
        }
        Ok(Reach::Complete(Box::new(config)))
    }

    fn keywords(&self) -> Result<Transport> {
        connect_timeout(self.conninfo).map_err(|error| self.wrong(&error))?;
        Transport::read(self.conninfo).map_err(|error| self.wrong(&error))
    }

    fn security(&self) -> Result<Security> {
        let transport = self.keywords()?;
        let mode = self.mode()?;
        let root = self.conninfo.get("sslrootcert");
        transport.check(mode, root).map_err(|error| self.wrong(&error))?;
        check_roots(mode, root).map_err(|reason| self.error(self.giver(&["sslrootcert", "sslmode"]), reason))?;
        self.check_client_certificate()?;
        // Set explicitly, so that the connection string for a subscriber can contain it.
        let root = root.or((mode == SslMode::VerifyFull).then_some("system")).map(str::to_owned);
        Ok(Security { transport, mode, root })
    }

    fn check_client_certificate(&self) -> Result<()> {
        match (self.conninfo.get("sslcert"), self.conninfo.get("sslkey")) {
            (Some(_), None) => Err(self.error("sslcert", "sslcert and sslkey must be set together")),
            (None, Some(_)) => Err(self.error("sslkey", "sslkey and sslcert must be set together")),
            _ => Ok(()),
        }
    }

    /// The given mode, or the default for the host.
    fn mode(&self) -> Result<SslMode> {
        match self.conninfo.get("sslmode") {
            Some(mode) => mode.parse().map_err(|reason: String| self.error("sslmode", reason)),
            None => Ok(self.default_mode()),
        }
    }

    fn default_mode(&self) -> SslMode {
        let (host, root) = (self.conninfo.get("host"), self.conninfo.get("sslrootcert"));
        // Public authorities vouch for Neon's names.
        if root == Some("system") || host.is_some_and(endpoint::is_neon) {
            return SslMode::VerifyFull;
        }
        // `prefer` would ignore the given authority.
        let is_plain = root.is_none() && !self.uses_iam;
        let host = host.or(self.conninfo.get("hostaddr"));
        if is_plain && host.is_some_and(is_loopback) { SslMode::Prefer } else { SslMode::Require }
    }

    fn wrong(&self, error: &InvalidConninfo) -> Error {
        self.error(error.keyword().unwrap_or("url"), error)
    }

    /// The first given one of these keywords.
    fn giver<'k>(&self, keywords: &[&'k str]) -> &'k str {
        let given = keywords.iter().find(|keyword| self.conninfo.get(keyword).is_some());
        given.or(keywords.first()).copied().unwrap_or("url")
    }

    /// An error at the source of a keyword: its attribute, otherwise the URL.
    fn error(&self, keyword: &str, cause: impl Display) -> Error {
        let error = Error::new(format!("{}: {cause}", self.side.name()));
        match attribute_of(self.block, keyword) {
            Some(attribute) => error.at(&server_block::path(self.side, attribute)),
            None => server_block::at_url(self.side, self.block, error),
        }
    }
}

/// The attribute that a keyword's value comes from, if any.
fn attribute_of(block: &ServerBlock, keyword: &str) -> Option<&'static str> {
    let attributes = [
        ("host", "host", block.host.known().is_some()),
        ("port", "port", block.port.known().is_some()),
        ("sslmode", "sslmode", block.sslmode.known().is_some()),
        ("sslrootcert", "sslrootcert", block.sslrootcert.known().is_some()),
        ("sslcert", "sslcert", block.sslcert.known().is_some()),
        ("sslkey", "sslkey", block.sslkey.known().is_some()),
        ("connect_timeout", "connect_timeout", block.connect_timeout.known().is_some()),
    ];
    attributes
        .into_iter()
        .find(|(known, _, is_given)| *known == keyword && *is_given)
        .map(|(_, attribute, _)| attribute)
}
