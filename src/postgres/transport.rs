// SPDX-License-Identifier: MPL-2.0

//! The options of a connection string beyond address and login: the socket, the versions of TLS, and the kind of
//! server.

use std::fmt::Display;
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, Config, LoadBalanceHosts, SslNegotiation, TargetSessionAttrs};

use super::conninfo::{Conninfo, InvalidConninfo};
use super::keywords;
use super::tls::{self, SslMode, TlsOptions, TlsVersion};

/// How connections are made and kept, by default as in libpq.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    template: Box<Config>,
    tls: TlsOptions,
}

/// The settings that each of our sessions sets itself, so that `options` could not change them.
const OWN_SETTINGS: &[&str] = &[
    "client_connection_check_interval",
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
    "transaction_timeout",
];

type Result<T> = std::result::Result<T, InvalidConninfo>;

fn wrong<T>(keyword: &'static str, reason: impl Display) -> Result<T> {
    Err(InvalidConninfo::of(keyword, format!("{keyword} {reason}")))
}

impl Transport {
    /// Reads these options from a connection string.
    ///
    /// # Errors
    /// When it has a keyword or a value that would be ignored. The message names the keyword, but never its value.
    pub fn read(conninfo: &Conninfo) -> Result<Self> {
        for (keyword, value) in conninfo.iter() {
            keywords::check_ours(keyword, value).map_err(|reason| InvalidConninfo::of("url", reason))?;
        }
        let transport = Self { template: Box::new(template(conninfo)?), tls: tls_options(conninfo)? };
        transport.tls.check()?;
        Ok(transport)
    }

    /// Refuses options that need another `sslmode`.
    ///
    /// # Errors
    /// When channel binding is required but TLS is optional, when direct TLS is requested but TLS is optional, or when
    /// there are revocation lists but nothing is verified.
    pub fn check(&self, mode: SslMode, root: Option<&str>) -> Result<()> {
        if self.template.get_channel_binding() == ChannelBinding::Require && mode == SslMode::Disable {
            return wrong("channel_binding", "= require needs TLS, and sslmode is disable");
        }
        if self.tls.direct && mode < SslMode::Require {
            return wrong("sslnegotiation", format!("= direct needs sslmode = require or more, and it is {mode}"));
        }
        let verifies = mode >= SslMode::VerifyCa || mode == SslMode::Require && root.is_some();
        if self.tls.crl.is_some() && !verifies {
            return wrong("sslcrl", format!("needs sslmode = verify-full or verify-ca, and it is {mode}"));
        }
        Ok(())
    }

    /// The requested channel binding, if it is not libpq's default.
    pub fn channel_binding(&self) -> Option<&'static str> {
        match self.template.get_channel_binding() {
            ChannelBinding::Disable => Some("disable"),
            ChannelBinding::Require => Some("require"),
            _ => None,
        }
    }

    /// The client configuration that a connection starts from.
    pub(super) fn template(&self) -> Config {
        Config::clone(&self.template)
    }

    pub(super) fn tls(&self) -> &TlsOptions {
        &self.tls
    }
}

impl TlsOptions {
    fn check(&self) -> Result<()> {
        if self.oldest > self.newest {
            return wrong("ssl_min_protocol_version", "is above ssl_max_protocol_version");
        }
        Ok(())
    }
}

/// The `connect_timeout` of a connection string; [`Duration::MAX`] means no limit.
///
/// # Errors
/// When it is not a whole number.
pub fn connect_timeout(conninfo: &Conninfo) -> Result<Option<Duration>> {
    let seconds = number(conninfo, "connect_timeout", "seconds")?;
    // As in libpq, zero and less mean no limit.
    Ok(seconds.map(|seconds| positive(seconds).map_or(Duration::MAX, Duration::from_secs)))
}

fn template(conninfo: &Conninfo) -> Result<Config> {
    let mut template = Config::new();
    if let Some(binding) = one_of(conninfo, "channel_binding", CHANNEL_BINDINGS)? {
        template.channel_binding(binding);
    }
    if let Some(order) = one_of(conninfo, "load_balance_hosts", LOAD_BALANCING)? {
        template.load_balance_hosts(order);
    }
    if let Some(negotiation) = one_of(conninfo, "sslnegotiation", NEGOTIATIONS)? {
        template.ssl_negotiation(negotiation);
    }
    if let Some(kind) = target(conninfo)? {
        template.target_session_attrs(kind);
    }
    if let Some(options) = conninfo.get("options") {
        check_options(options)?;
        template.options(options);
    }
    address(conninfo, &mut template)?;
    keepalives(conninfo, &mut template)?;
    Ok(template)
}

const CHANNEL_BINDINGS: &[(&str, ChannelBinding)] =
    &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];

const LOAD_BALANCING: &[(&str, LoadBalanceHosts)] =
    &[("disable", LoadBalanceHosts::Disable), ("random", LoadBalanceHosts::Random)];

const NEGOTIATIONS: &[(&str, SslNegotiation)] =
    &[("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)];

/// With a single host, `prefer-standby` means any server.
const TARGETS: &[(&str, TargetSessionAttrs)] = &[
    ("any", TargetSessionAttrs::Any),
    ("prefer-standby", TargetSessionAttrs::Any),
    ("read-write", TargetSessionAttrs::ReadWrite),
    ("read-only", TargetSessionAttrs::ReadOnly),
];

fn target(conninfo: &Conninfo) -> Result<Option<TargetSessionAttrs>> {
    match conninfo.get("target_session_attrs") {
        Some("primary") => wrong("target_session_attrs", "= primary is not known here; use read-write"),
        Some("standby") => wrong("target_session_attrs", "= standby is not known here; use read-only"),
        _ => one_of(conninfo, "target_session_attrs", TARGETS),
    }
}

/// Connects to `hostaddr`, if given, and uses `host` as the server's name.
fn address(conninfo: &Conninfo, template: &mut Config) -> Result<()> {
    let Some(address) = conninfo.get("hostaddr") else { return Ok(()) };
    match address.parse() {
        Ok(address) => {
            template.hostaddr(address);
            Ok(())
        }
        Err(_) => wrong("hostaddr", "is not one IP address"),
    }
}

fn keepalives(conninfo: &Conninfo, template: &mut Config) -> Result<()> {
    if let Some(keepalives) = number(conninfo, "keepalives", "0 or 1")? {
        template.keepalives(keepalives != 0);
    }
    let time = |keyword| Ok(number(conninfo, keyword, "seconds")?.and_then(positive).map(Duration::from_secs));
    if let Some(idle) = time("keepalives_idle")? {
        template.keepalives_idle(idle);
    }
    if let Some(interval) = time("keepalives_interval")? {
        template.keepalives_interval(interval);
    }
    let count = number(conninfo, "keepalives_count", "keepalives")?.and_then(positive);
    if let Some(count) = count.and_then(|count| u32::try_from(count).ok()) {
        template.keepalives_retries(count);
    }
    if let Some(timeout) = number(conninfo, "tcp_user_timeout", "milliseconds")?.and_then(positive) {
        template.tcp_user_timeout(Duration::from_millis(timeout));
    }
    Ok(())
}

fn tls_options(conninfo: &Conninfo) -> Result<TlsOptions> {
    let default = TlsOptions::default();
    let version = |keyword| match conninfo.get(keyword) {
        None => Ok(None),
        Some(name) => tls::version(name).map(Some).or_else(|reason| wrong(keyword, reason)),
    };
    let newest = match version("ssl_max_protocol_version")? {
        Some(version) if version < TlsVersion::V12 => {
            return wrong("ssl_max_protocol_version", "is too low: the provider speaks TLSv1.2 and TLSv1.3");
        }
        newest => newest.unwrap_or(default.newest),
    };
    Ok(TlsOptions {
        crl: conninfo.get("sslcrl").map(str::to_owned),
        oldest: version("ssl_min_protocol_version")?.unwrap_or(default.oldest),
        newest,
        sni: number(conninfo, "sslsni", "0 or 1")? != Some(0),
        direct: conninfo.get("sslnegotiation") == Some("direct"),
    })
}

fn one_of<T: Copy>(conninfo: &Conninfo, keyword: &'static str, values: &[(&str, T)]) -> Result<Option<T>> {
    let Some(given) = conninfo.get(keyword) else { return Ok(None) };
    match values.iter().find(|(name, _)| *name == given) {
        Some((_, value)) => Ok(Some(*value)),
        None => {
            let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
            wrong(keyword, format!("is not one of {}", names.join(", ")))
        }
    }
}

fn number(conninfo: &Conninfo, keyword: &'static str, what: &str) -> Result<Option<i64>> {
    let Some(text) = conninfo.get(keyword) else { return Ok(None) };
    match text.trim().parse::<i32>() {
        Ok(number) => Ok(Some(i64::from(number))),
        Err(_) => wrong(keyword, format!("is not a whole number ({what})")),
    }
}

/// A positive number. In libpq, zero and less mean the system's default.
fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// Refuses settings that our sessions set themselves.
fn check_options(options: &str) -> Result<()> {
    match settings(options).find(|name| OWN_SETTINGS.contains(&name.as_str())) {
        Some(name) => wrong("options", format!("sets {name}, which the provider sets for itself. Leave it out")),
        None => Ok(()),
    }
}

/// The names of the settings in `-c name=value`, `-cname=value` and `--name=value`.
fn settings(options: &str) -> impl Iterator<Item = String> {
    let mut is_next = false;
    options.split_ascii_whitespace().filter_map(move |word| {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => {
                is_next = true;
                return None;
            }
            Some(setting) => setting,
            None if is_next => word,
            None => return None,
        };
        is_next = false;
        let name = setting.split('=').next().unwrap_or_default();
        Some(name.replace('-', "_").to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Transport> {
        Transport::read(&Conninfo::parse(text).unwrap())
    }

    fn error(text: &str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn every_keyword_that_works_has_its_effect() {
        let text = "host=h hostaddr=127.0.0.1 channel_binding=require load_balance_hosts=random sslnegotiation=direct \
                    target_session_attrs=read-write options='-c geqo=off' keepalives=1 keepalives_idle=60 keepalives_interval=5 \
                    keepalives_count=3 tcp_user_timeout=1500 ssl_min_protocol_version=TLSv1.3 sslsni=0 sslcrl=/crl.pem";
        let transport = read(text).unwrap();
        let template = transport.template();
        assert_eq!(template.get_hostaddrs(), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(template.get_channel_binding(), ChannelBinding::Require);
        assert_eq!(template.get_load_balance_hosts(), LoadBalanceHosts::Random);
        assert_eq!(template.get_ssl_negotiation(), SslNegotiation::Direct);
        assert_eq!(template.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(template.get_options(), Some("-c geqo=off"));
        assert_eq!(template.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(template.get_keepalives_interval(), Some(Duration::from_secs(5)));
        assert_eq!(template.get_keepalives_retries(), Some(3));
        assert_eq!(template.get_tcp_user_timeout(), Some(&Duration::from_millis(1500)));
        let tls = TlsOptions {
            crl: Some("/crl.pem".to_owned()),
            oldest: TlsVersion::V13,
            newest: TlsVersion::V13,
            sni: false,
            direct: true,
        };
        assert_eq!(transport.tls(), &tls);
    }

    #[test]
    fn zero_means_none() {
        let timeout = |text: &str| connect_timeout(&Conninfo::parse(text).unwrap());
        assert_eq!(timeout("connect_timeout=0"), Ok(Some(Duration::MAX)));
        assert_eq!(timeout("connect_timeout=-1"), Ok(Some(Duration::MAX)));
        assert_eq!(timeout("connect_timeout=7"), Ok(Some(Duration::from_secs(7))));
        assert_eq!(timeout("host=h"), Ok(None));
        assert_eq!(
            timeout("connect_timeout=soon").unwrap_err().to_string(),
            "connect_timeout is not a whole number (seconds)"
        );
        let transport = read("keepalives=0 keepalives_idle=0 tcp_user_timeout=0").unwrap();
        assert_eq!(transport.template().get_tcp_user_timeout(), None);
        assert!(!transport.template().get_keepalives());
    }

    #[test]
    fn what_would_not_be_heeded_is_refused_by_its_name() {
        for (text, says) in [
            (
                "require_auth=hunter2",
                "require_auth cannot be used here. The provider cannot choose the method. channel_binding=require",
            ),
            ("service=shop", "service cannot be used here. The provider reads no files of libpq."),
            ("gssencmode=require", "gssencmode can only be disable, prefer."),
            ("target_session_attrs=primary", "target_session_attrs = primary is not known here; use read-write"),
            ("channel_binding=yes", "channel_binding is not one of disable, prefer, require"),
            ("ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version is too low"),
            ("ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", "ssl_min_protocol_version is above"),
            ("ssl_min_protocol_version=1.3", "ssl_min_protocol_version is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"),
            ("hostaddr=db.example", "hostaddr is not one IP address"),
            ("options='-c search_path=a'", "options sets search_path, which the provider sets for itself"),
            ("options='--statement-timeout=5'", "options sets statement_timeout"),
            ("options='-cTimeZone=UTC'", "options sets timezone"),
            ("keepalives_idle=long", "keepalives_idle is not a whole number (seconds)"),
        ] {
            let error = error(text);
            assert!(error.starts_with(says), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_needs_tls_is_refused_without() {
        let check = |text: &str, mode, root| read(text).unwrap().check(mode, root).map_err(|error| error.to_string());
        assert!(check("channel_binding=require", SslMode::Disable, None).unwrap_err().contains("needs TLS"));
        assert_eq!(check("channel_binding=require", SslMode::Prefer, None), Ok(()));
        assert!(check("sslnegotiation=direct", SslMode::Prefer, None).unwrap_err().contains("= require or more"));
        assert!(check("sslcrl=/crl", SslMode::Require, None).unwrap_err().contains("verify-full"));
        assert_eq!(check("sslcrl=/crl", SslMode::Require, Some("/ca")), Ok(()));
    }
}
