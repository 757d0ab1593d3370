// SPDX-License-Identifier: MPL-2.0

//! The protection of a server's connection to the other one: what it must verify, and what is allowed in
//! `options`.

use std::collections::BTreeMap;

use super::{Connection, Way};
use crate::postgres::keywords;
use crate::postgres::{Conninfo, ServerConfig, ServerVersion, SslMode, check_roots};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::value::Value;

/// The first major version whose libpq can trust the system's certificate authorities.
const SYSTEM_ROOTS: u32 = 16;

/// The TLS settings of a server's connection to the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leg {
    mode: SslMode,
    /// Whether to pass on the system's authorities.
    with_system_roots: bool,
}

impl Leg {
    /// The settings that follow from the provider's connection and the resource's own block.
    pub(super) fn of(
        provider: Option<&ServerConfig>,
        block: Option<&Connection>,
        version: Option<ServerVersion>,
    ) -> Self {
        let given = block.and_then(|block| block.sslmode.known()).and_then(|mode| mode.parse().ok());
        let own_root = option(block, "sslrootcert");
        let knows_system = version.is_some_and(|version| version.major() >= SYSTEM_ROOTS);
        let system = provider.is_some_and(trusts_system) && own_root.is_none() && knows_system;
        let inherited = provider.map_or(SslMode::Require, |config| config.sslmode);
        let mode = given.unwrap_or(match own_root {
            Some("system") => SslMode::VerifyFull,
            Some(_) => inherited,
            None if system => inherited,
            // The certificates for verification are files on the provider's machine, not on the server.
            None => inherited.min(SslMode::Require),
        });
        Self { mode, with_system_roots: system && mode == SslMode::VerifyFull }
    }

    pub(super) fn write(self, conninfo: &mut Conninfo) {
        conninfo.set("sslmode", self.mode.as_str());
        conninfo.set("sslrootcert", if self.with_system_roots { "system" } else { "" });
    }
}

/// Whether the connection depends, or may depend, on the version of the server that connects.
pub(super) fn needs_version(provider: Option<&ServerConfig>, block: Option<&Connection>) -> bool {
    let options = block.and_then(|block| block.options.known()).into_iter().flatten();
    let is_newer = |keyword: &str| keywords::newer_than(keyword, ServerVersion::OLDEST).is_some();
    provider.is_some_and(trusts_system)
        || options.into_iter().any(|(keyword, value)| is_newer(keyword) || value == "system")
}

fn option<'a>(block: Option<&'a Connection>, keyword: &str) -> Option<&'a str> {
    let options = block.and_then(|block| block.options.known());
    options.and_then(|options| options.get(keyword)).map(String::as_str)
}

fn trusts_system(config: &ServerConfig) -> bool {
    config.sslmode == SslMode::VerifyFull && config.sslrootcert.as_deref() == Some("system")
}

/// How much a connection verifies: nothing, the certificate's authority, or also its name.
fn verified(mode: SslMode, has_root: bool) -> u8 {
    match mode {
        SslMode::VerifyFull => 2,
        SslMode::VerifyCa => 1,
        SslMode::Require if has_root => 1,
        _ => 0,
    }
}

/// The warning if the server verifies less than the provider does, and the block has no `sslmode` of its own.
pub(super) fn weaker(
    way: Way,
    provider: &ServerConfig,
    block: Option<&Connection>,
    version: Option<ServerVersion>,
) -> Option<Error> {
    if block.is_some_and(|block| !block.sslmode.is_null() || block.options.is_unknown()) {
        return None;
    }
    let leg = Leg::of(Some(provider), block, version);
    let has_root = leg.with_system_roots || option(block, "sslrootcert").is_some();
    if verified(leg.mode, has_root) >= verified(provider.sslmode, provider.sslrootcert.is_some()) {
        return None;
    }
    let is_open = trusts_system(provider) && version.is_none();
    let may = if is_open { "may verify" } else { "verifies" };
    let error = Error::new(format!("the {} {may} less of the {} than the provider does", way.from, way.to))
        .detail(why(way, provider, &leg, version))
        .detail(remedy(way));
    Some(error.attribute(way.block))
}

fn remedy(Way { object, block, from, .. }: Way) -> String {
    format!(
        "In the {object}'s {block} block, set sslmode = \"verify-full\" with options = {{ sslrootcert = \"…\" }}, a \
         file on the {from}'s server or, from Postgres 16 on, \"system\"; or set sslmode = \"require\" to confirm \
         it."
    )
}

fn why(way: Way, provider: &ServerConfig, leg: &Leg, version: Option<ServerVersion>) -> String {
    let from = way.from;
    let (theirs, ours) = (leg.mode, provider.sslmode);
    let weak = format!("sslmode = \"{theirs}\", which encrypts and does not verify whom it talks to");
    match version {
        None if trusts_system(provider) => format!(
            "The provider verifies it with sslmode = \"{ours}\" and the system's certificate authorities. Where the {from} \
             runs a Postgres older than {SYSTEM_ROOTS}, which cannot use them, it connects with {weak}."
        ),
        Some(version) if trusts_system(provider) => format!(
            "The provider verifies it with sslmode = \"{ours}\" and the system's certificate authorities, which Postgres \
             {version} on the {from} cannot use: it connects with {weak}."
        ),
        _ => format!(
            "The provider verifies it with sslmode = \"{ours}\" and its sslrootcert, which is not on the {from}'s server: \
             that connects with {weak}."
        ),
    }
}

/// Accepts keywords for libpq on a server, except secret ones.
pub(in crate::resources) fn validate_options(options: &Value) -> std::result::Result<(), String> {
    let Value::Map(options) = options else { return Ok(()) };
    let mut known = options.iter().filter_map(|(keyword, value)| Some((keyword, value.as_str().or(unknown(value))?)));
    known.try_for_each(|(keyword, value)| keywords::check_option(keyword, value))
}

/// The name of an option is known, and its value may not be yet.
fn unknown(value: &Value) -> Option<&'static str> {
    (!value.is_null()).then_some("")
}

/// Refuses a block that libpq would refuse as a whole.
pub(super) fn validate(way: Way, block: &Connection) -> Result<()> {
    let Some(mode) = block.sslmode.known().and_then(|mode| mode.parse().ok()) else { return Ok(()) };
    let is_system = option(Some(block), "sslrootcert") == Some("system");
    let checked = if is_system { check_roots(mode, Some("system")) } else { Ok(()) };
    checked.map_err(|reason| Error::new(reason).at(&AttributePath::of(way.block).attribute("sslmode")))
}

/// Refuses options that are too new for libpq on the connecting server.
///
/// # Errors
/// When there is one, with its name and both versions.
pub(in crate::resources) fn check_options(
    way: Way,
    planned: &Attr<Connection>,
    version: Option<ServerVersion>,
) -> Result<()> {
    let (Some(version), Some(block)) = (version, planned.known()) else { return Ok(()) };
    let newer = |keyword: &String| Some((keyword.clone(), keywords::newer_than(keyword, version)?));
    let options: Option<&BTreeMap<String, String>> = block.options.known();
    let path = AttributePath::of(way.block).attribute("options");
    if let Some((keyword, since)) = options.and_then(|options| options.keys().find_map(newer)) {
        let text = format!("{keyword} needs Postgres {since} or newer on the {}, which runs {version}", way.from);
        return Err(Error::new(text).at(&path));
    }
    match option(Some(block), "sslrootcert") {
        Some("system") if version.major() < SYSTEM_ROOTS => {
            let text = format!(
                "sslrootcert = \"system\" needs Postgres {SYSTEM_ROOTS} or newer on the {}, which runs {version}",
                way.from
            );
            Err(Error::new(text).at(&path))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(mode: SslMode, root: Option<&str>) -> ServerConfig {
        let mut config = ServerConfig::new("db.example", "d", "u");
        (config.sslmode, config.sslrootcert) = (mode, root.map(str::to_owned));
        config
    }

    fn block(sslmode: Option<&str>, root: Option<&str>) -> Connection {
        let options = root.map(|root| BTreeMap::from([("sslrootcert".to_owned(), root.to_owned())]));
        Connection { sslmode: sslmode.map(str::to_owned).into(), options: options.into(), ..Connection::default() }
    }

    const OLD: Option<ServerVersion> = Some(ServerVersion::OLDEST);

    fn new() -> Option<ServerVersion> {
        Some(ServerVersion::major_only(SYSTEM_ROOTS))
    }

    fn check(provider: &ServerConfig, block: &Connection, version: Option<ServerVersion>, sent: &str, warns: &str) {
        let mut conninfo = Conninfo::new();
        Leg::of(Some(provider), Some(block), version).write(&mut conninfo);
        assert_eq!(conninfo.to_string(), sent);
        let warning =
            weaker(Way::FORWARD, provider, Some(block), version).map(|warning| warning.to_string()).unwrap_or_default();
        let (is_said, is_meant) = (!warning.is_empty(), !warns.is_empty());
        assert!(is_said == is_meant && warning.contains(warns), "{warning}");
    }

    #[test]
    fn the_systems_authorities_are_passed_on_to_those_that_know_them() {
        let (system, none) = (provider(SslMode::VerifyFull, Some("system")), block(None, None));
        check(&system, &none, new(), "sslmode=verify-full sslrootcert=system", "");
        check(&system, &none, OLD, "sslmode=require", "which Postgres 14.0 on the subscriber cannot use");
        check(&system, &none, None, "sslmode=require", "may verify less");
        check(&system, &block(Some("verify-full"), None), new(), "sslmode=verify-full sslrootcert=system", "");
        check(&system, &block(Some("require"), None), new(), "sslmode=require", "");
    }

    #[test]
    fn files_of_the_provider_stay_at_home() {
        let none = block(None, None);
        check(&provider(SslMode::VerifyFull, Some("/ca")), &none, new(), "sslmode=require", "its sslrootcert");
        check(&provider(SslMode::VerifyCa, Some("/ca")), &none, OLD, "sslmode=require", "verifies less");
        check(&provider(SslMode::Require, Some("/ca")), &none, None, "sslmode=require", "verifies less");
        check(&provider(SslMode::Require, None), &none, None, "sslmode=require", "");
        check(&provider(SslMode::Prefer, None), &none, new(), "sslmode=prefer", "");
    }

    #[test]
    fn files_of_the_subscriber_let_it_verify() {
        let own = block(None, Some("/on/subscriber"));
        check(&provider(SslMode::VerifyFull, Some("/ca")), &own, OLD, "sslmode=verify-full", "");
        check(&provider(SslMode::VerifyFull, Some("system")), &own, new(), "sslmode=verify-full", "");
        check(&provider(SslMode::Require, None), &block(None, Some("system")), new(), "sslmode=verify-full", "");
    }

    #[test]
    fn what_the_subscriber_is_too_old_for_is_refused() {
        let refused = |block: Connection, version| {
            check_options(Way::FORWARD, &block.into(), version).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(refused(block(None, Some("system")), OLD).contains("needs Postgres 16 or newer on the subscriber"));
        assert_eq!(refused(block(None, Some("system")), new()), "");
        assert!(validate(Way::FORWARD, &block(Some("require"), Some("system"))).is_err());
        assert!(validate(Way::FORWARD, &block(Some("verify-full"), Some("system"))).is_ok());
    }

    #[test]
    fn a_secret_is_refused_before_its_value_is_known() {
        for value in [Value::UNKNOWN, "x".into()] {
            let options = Value::Map([("sslpassword".to_owned(), value)].into());
            assert!(validate_options(&options).unwrap_err().starts_with("sslpassword cannot be given here."));
        }
    }
}
