//! How the subscriber reaches the publisher: the resource's `publisher` block over the provider's.

use std::collections::{BTreeMap, BTreeSet};

use super::Model;
use crate::config::Context;
use crate::postgres::{Conninfo, Database, Ident, Server, ServerConfig, SslMode};
use crate::tf_provider::call::Private;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};

crate::model! {
    /// The `publisher` block.
    pub(in crate::resources) struct Connection {
        /// The host.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The database.
        database: Attr<String>,
        /// The role.
        username: Attr<String>,
        /// Its password, in the state.
        password: Attr<String>,
        /// Its password, write-only.
        password_wo: Attr<String>,
        /// Encryption.
        sslmode: Attr<String>,
        /// Further keywords.
        options: Attr<BTreeMap<String, String>>,
    }
}

/// The keywords whose difference is drift. Others may have been added for good reasons.
const COMPARED: &[&str] = &["host", "port", "dbname", "user", "password"];

/// The key in the private state that says: the password was write-only.
const WRITE_ONLY: &str = "write_only_password";

/// The connection string for the subscriber.
///
/// # Errors
/// When neither block names the host, or a value is not known.
pub(super) fn conninfo(context: &Context, model: &Model) -> Result<Conninfo> {
    let publisher = context.publisher().database(None);
    let mut conninfo = match &publisher {
        Ok(publisher) => {
            let mut conninfo = publisher.config().conninfo();
            conninfo.set("sslmode", travelling_mode(publisher.config().sslmode).as_str());
            conninfo
        }
        Err(_) => Conninfo::new(),
    };
    if let Some(block) = model.publisher.optional("publisher")? {
        overlay(&mut conninfo, block).map_err(|error| error.attribute("publisher"))?;
    }
    if conninfo.get("host").is_none() {
        let error = Error::new("the subscription does not know where its publisher is");
        let error = match publisher {
            Err(cause) => error.detail(cause.to_string()),
            Ok(_) => error,
        };
        return Err(error.detail("Or give the host in the subscription's own publisher block.").attribute("publisher"));
    }
    if conninfo.get("sslmode").is_none() {
        conninfo.set("sslmode", SslMode::Require.as_str());
    }
    Ok(conninfo)
}

/// The connection string for the subscriber, to be given to it.
///
/// # Errors
/// As [`conninfo`], and as [`check_login`].
pub(super) fn conninfo_to_send(context: &Context, plan: &Model) -> Result<Conninfo> {
    check_login(context, plan)?;
    conninfo(context, plan)
}

/// Refuses a subscription that would log in with the provider's IAM token: it ends within minutes, and the subscriber
/// connects again and again. `configured` has the write-only password, as the configuration and an apply have it.
///
/// # Errors
/// When the provider reaches its publisher with tokens and the resource gives no login of its own.
pub(super) fn check_login(context: &Context, configured: &Model) -> Result<()> {
    let has_login = match &configured.publisher {
        Attr::Null => false,
        Attr::Unknown => true,
        Attr::Known(block) => block.has_login(),
    };
    if has_login || !context.publisher().uses_iam() {
        return Ok(());
    }
    Err(Error::new("the subscription would have no password: the provider's publisher block uses aws_iam_auth")
        .detail(
            "A token lives for 15 minutes, and the subscriber has to connect at any time. Give username and password (or \
             password_wo) of a role with the REPLICATION privilege, rds_replication on RDS, in the subscription's own \
             publisher block.",
        )
        .attribute("publisher"))
}

/// Refuses a plan that would not know where the publisher is. What a later value may still say is passed over.
///
/// # Errors
/// As [`conninfo`].
pub(super) fn check_known(context: &Context, planned: &Model) -> Result<()> {
    let is_open = match &planned.publisher {
        Attr::Null => false,
        Attr::Unknown => true,
        Attr::Known(block) => block.has_unknown(),
    };
    if is_open || context.publisher().is_waiting() {
        return Ok(());
    }
    conninfo(context, planned).map(drop)
}

/// The options, beside the password, with which a role proves who it is.
const PROOFS: &[&str] = &["passfile", "service", "sslcert"];

impl Connection {
    /// Whether it names a role of its own and how that proves who it is. What is unknown may yet do so.
    fn has_login(&self) -> bool {
        let proves = |options: &BTreeMap<String, String>| PROOFS.iter().any(|proof| options.contains_key(*proof));
        let in_options = self.options.is_unknown() || self.options.known().is_some_and(proves);
        let in_attributes = !self.password.is_null() || !self.password_wo.is_null();
        !self.username.is_null() && (in_attributes || in_options)
    }

    fn has_unknown(&self) -> bool {
        let texts = [&self.host, &self.database, &self.username, &self.password, &self.sslmode];
        texts.into_iter().any(Attr::is_unknown) || self.port.is_unknown() || self.options.is_unknown()
    }
}

/// The certificates that verifying needs are files of the provider's machine, not of the subscriber.
fn travelling_mode(mode: SslMode) -> SslMode {
    mode.min(SslMode::Require)
}

fn overlay(conninfo: &mut Conninfo, block: &Connection) -> Result<()> {
    let port = block.port.optional("port")?.map(ToString::to_string);
    let parts = [
        ("host", block.host.optional("host")?),
        ("port", port.as_ref()),
        ("dbname", block.database.optional("database")?),
        ("user", block.username.optional("username")?),
        ("password", block.password.optional("password")?),
        ("password", block.password_wo.optional("password_wo")?),
        ("sslmode", block.sslmode.optional("sslmode")?),
    ];
    for (keyword, value) in parts.into_iter().filter_map(|(keyword, value)| Some((keyword, value?))) {
        conninfo.set(keyword, value.clone());
    }
    for (keyword, value) in block.options.optional("options")?.into_iter().flatten() {
        conninfo.set(keyword.clone(), value.clone());
    }
    Ok(())
}

/// Keeps in the private state whether the password that the server has was write-only, so that no refresh takes the
/// provider's for it.
pub(super) fn remember_password(private: &Private, plan: &Model) {
    if plan.publisher.known().is_some_and(|block| !block.password_wo.is_null()) {
        private.set(WRITE_ONLY, true.into());
    } else {
        private.remove(WRITE_ONLY);
    }
}

/// The parts in which what the server has differs from the configuration, by name; `None` where the role may not read it.
pub(super) fn differing(
    context: &Context,
    private: &Private,
    model: &Model,
    found: Option<&Conninfo>,
) -> Option<BTreeSet<String>> {
    let (found, wanted) = (found?, conninfo(context, model).ok()?);
    let differing = wanted.differing(found).into_iter();
    let mut differing: BTreeSet<_> = differing.filter(|keyword| COMPARED.contains(&keyword.as_str())).collect();
    if wanted.get("password").is_none() || !sees_password(private, model) {
        differing.remove("password");
    }
    Some(differing)
}

/// Whether the password that is wanted is in the provider's configuration or in the state. A write-only one is in
/// neither, and the provider's is no other role's.
fn sees_password(private: &Private, model: &Model) -> bool {
    let Some(block) = model.publisher.known() else { return true };
    let another_role = block.username.known().is_some();
    block.password_wo.known().is_some()
        || block.password.known().is_some()
        || !another_role && private.get(WRITE_ONLY).is_none()
}

/// The publisher as the provider reaches it; as the subscriber does where the provider has none configured.
pub(super) fn publisher(context: &Context, conninfo: &Conninfo) -> Option<Database> {
    let database = conninfo.get("dbname");
    if let Ok(configured) = context.publisher().database(database) {
        return Some(configured);
    }
    let (host, port) = conninfo.tcp_address().ok()?;
    let mut config = ServerConfig::new(host, database?, conninfo.get("user")?);
    config.port = port;
    config.password = conninfo.password();
    config.sslmode = conninfo.get("sslmode").and_then(|mode| mode.parse().ok()).unwrap_or(config.sslmode);
    Some(Server::new(config).database(None))
}

/// The statement that removes a slot by hand.
pub(super) fn drop_slot_by_hand(slot: &Ident) -> String {
    crate::postgres::slot::drop_slot(slot).to_string()
}
