// SPDX-License-Identifier: MPL-2.0

//! How to reach a server, and everything that is prepared once for it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{Conninfo, Secret};
use super::error::Cause;
use super::given::Given;
use super::password::Passwords;
use super::tls::{self, Certificates, SslMode};
use super::transport::Transport;

/// How to reach one server. `Debug` does not show the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The default database.
    pub database: String,
    /// The role to connect as.
    pub username: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Whether to encrypt, and what to verify.
    pub sslmode: SslMode,
    /// The authorities to trust: a path, PEM text, or `system`, the default for `verify-full`.
    pub sslrootcert: Option<String>,
    /// The client's certificate, a path or PEM text; together with `sslkey`.
    pub sslcert: Option<String>,
    /// The key of the client's certificate, a path or PEM text.
    pub sslkey: Option<Secret>,
    /// How connections are made and kept.
    pub transport: Transport,
    /// How long connecting may take, including TLS and authentication; [`Duration::MAX`] means no limit.
    pub connect_timeout: Duration,
    /// The most connections to this server at a time, over all its databases; at least one is made.
    pub max_connections: usize,
    /// How long a change may take if its caller sets no deadline. Reads have a shorter limit of their own.
    pub statement_timeout: Duration,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// The names of these values for errors, as the user gave them.
    pub given: Arc<Given>,
}

impl ServerConfig {
    /// A configuration with the defaults of the provider: port 5432, TLS required (preferred on a loopback address).
    pub fn new(host: impl Into<String>, database: impl Into<String>, username: impl Into<String>) -> Self {
        let host = host.into();
        let sslmode = if is_loopback(&host) { SslMode::Prefer } else { SslMode::Require };
        Self {
            host,
            port: 5432,
            database: database.into(),
            username: username.into(),
            password: None,
            sslmode,
            sslrootcert: None,
            sslcert: None,
            sslkey: None,
            transport: Transport::default(),
            connect_timeout: Duration::from_secs(10),
            max_connections: 10,
            statement_timeout: Duration::from_secs(300),
            application_name: concat!("terraform-provider-neonrepl ", env!("CARGO_PKG_VERSION")).to_owned(),
            given: Arc::default(),
        }
    }

    /// `host:port`, for messages.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The connection string for another server that connects there: host, port, database, user, password,
    /// `sslmode` and `channel_binding`.
    ///
    /// Omits paths of certificates and the like, because they mean files, sockets and addresses of this machine.
    pub fn conninfo(&self) -> Conninfo {
        let mut conninfo = Conninfo::new();
        conninfo.set("host", &self.host);
        conninfo.set("port", self.port.to_string());
        conninfo.set("dbname", &self.database);
        conninfo.set("user", &self.username);
        conninfo.set("password", self.password.as_ref().map_or("", Secret::expose));
        conninfo.set("sslmode", self.sslmode.as_str());
        conninfo.set("channel_binding", self.transport.channel_binding().unwrap_or_default());
        conninfo
    }

    /// The default connection string for a subscriber. It does not verify certificates, because the files for that are
    /// on this machine.
    pub fn conninfo_without_files(&self) -> Conninfo {
        let mut conninfo = self.conninfo();
        conninfo.set("sslmode", self.sslmode.min(SslMode::Require).as_str());
        conninfo
    }

    pub(super) fn certificates(&self) -> Certificates<'_> {
        Certificates {
            root: self.sslrootcert.as_deref(),
            cert: self.sslcert.as_deref(),
            key: self.sslkey.as_ref().map(Secret::expose),
        }
    }
}

/// Whether a host name or address is this machine's own.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// How to reach a server, with everything that is prepared once.
pub(super) struct Link {
    pub(super) config: ServerConfig,
    passwords: Option<Arc<dyn Passwords>>,
    tls: OnceLock<Result<MakeRustlsConnect, String>>,
}

impl Link {
    /// A server, and where the password of each of its connections comes from if it is not the configuration's.
    pub(super) fn new(config: ServerConfig, passwords: Option<Arc<dyn Passwords>>) -> Self {
        Self { config, passwords, tls: OnceLock::new() }
    }

    /// The TLS connector; certificates are read at its first use.
    pub(super) fn tls(&self) -> Result<MakeRustlsConnect, Cause> {
        let made = self.tls.get_or_init(|| {
            tls::connector(self.config.sslmode, &self.config.certificates(), self.config.transport.tls())
        });
        made.clone().map_err(Cause::Tls)
    }

    /// The client library's configuration for a new connection, except encryption.
    pub(super) async fn client_config(&self, database: &str) -> Result<tokio_postgres::Config, Cause> {
        let config = &self.config;
        let mut client = config.transport.template();
        client.host(&config.host).port(config.port).user(&config.username).dbname(database);
        client.application_name(&config.application_name);
        if let Some(password) = self.password().await? {
            client.password(password.expose());
        }
        Ok(client)
    }

    /// The password for a new connection.
    async fn password(&self) -> Result<Option<Secret>, Cause> {
        match &self.passwords {
            Some(passwords) => passwords.current().await.map(Some).map_err(Cause::Password),
            None => Ok(self.config.password.clone()),
        }
    }
}
