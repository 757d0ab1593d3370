// SPDX-License-Identifier: MPL-2.0

//! How one server connects to the other: a block of a resource, with the provider's configuration of that server as the
//! default.

mod block;
mod protection;
mod sent;

use std::collections::BTreeMap;

pub(super) use self::block::{Connection, of_block};
use self::protection::Leg;
pub(super) use self::protection::check_options;
pub(super) use self::sent::{Connected, is_kept, remember, sent, was_write_only};
use crate::config::{ConfiguredServer, Context};
use crate::postgres::{Conninfo, Database, ServerVersion};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::path::AttributePath;

/// A way from one server to the other, and the block that describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The kind of object that has the block.
    pub(super) object: &'static str,
    /// The block.
    pub(super) block: &'static str,
    /// The server that connects.
    pub(super) from: &'static str,
    /// The server that it connects to.
    pub(super) to: &'static str,
}

impl Way {
    /// The way of a subscription.
    pub(super) const FORWARD: Self =
        Self { object: "subscription", block: "publisher", from: "subscriber", to: "publisher" };

    /// The way of changes that flow back after a cutover.
    pub(super) const BACK: Self = Self { object: "cutover", block: "reverse", from: "publisher", to: "subscriber" };

    /// The target server in the provider's configuration.
    pub(super) fn target(self, context: &Context) -> &ConfiguredServer {
        if self.to == "publisher" { context.publisher() } else { context.subscriber() }
    }

    /// The connection string for a server of this version, or, without a version, in a form that all accept. `database`
    /// is the default if the block has none; without both, the provider's.
    ///
    /// # Errors
    /// When neither block has a host, or a value is not known.
    pub(super) fn conninfo(
        self,
        context: &Context,
        block: &Attr<Connection>,
        database: Option<&str>,
        version: Option<ServerVersion>,
    ) -> Result<Conninfo> {
        let target = self.target(context).database(database);
        let mut conninfo = target.as_ref().map_or_else(|_| Conninfo::new(), |target| target.config().conninfo());
        if let (Ok(_), Some(database)) = (&target, database) {
            conninfo.set("dbname", database);
        }
        let block = block.optional(self.block)?;
        Leg::of(target.as_ref().ok().map(Database::config), block, version).write(&mut conninfo);
        if let Some(block) = block {
            forget_password(&mut conninfo, block);
            overlay(&mut conninfo, block).map_err(|error| error.attribute(self.block))?;
        }
        match conninfo.get("host") {
            Some(_) => Ok(conninfo),
            None => Err(self.without_host(target.err())),
        }
    }

    fn without_host(self, cause: Option<Error>) -> Error {
        let Self { object, block, to, .. } = self;
        let error = Error::new(format!("the {object} has no address of its {to}"));
        let error = error.detail(cause.map(|cause| cause.to_string()).unwrap_or_default());
        error.detail(format!("Or give the host in the {object}'s own {block} block.")).attribute(block)
    }

    /// Whether the connection depends, or may depend, on the version of the server that connects.
    pub(super) fn needs_version(self, context: &Context, block: &Attr<Connection>) -> bool {
        let target = self.target(context).database(None).ok();
        protection::needs_version(target.as_ref().map(Database::config), block.known())
    }

    /// The plan's warning about a connection that protects less than the provider's own.
    pub(super) fn weaker_leg(
        self,
        context: &Context,
        block: &Attr<Connection>,
        version: Option<ServerVersion>,
    ) -> Option<Error> {
        let target = self.target(context).database(None).ok()?;
        let block = match block {
            Attr::Unknown => return None,
            Attr::Null => None,
            Attr::Known(block) => Some(block),
        };
        protection::weaker(self, target.config(), block, version)
    }

    /// Refuses a connection that would log in with the provider's IAM token: the token expires within minutes, but the
    /// server reconnects later. `configured` has the write-only password, as in the configuration and in an apply.
    ///
    /// # Errors
    /// When the provider uses tokens for that server and the block has no login of its own.
    pub(super) fn check_login(self, context: &Context, configured: &Attr<Connection>) -> Result<()> {
        let has_login = match configured {
            Attr::Null => false,
            Attr::Unknown => true,
            Attr::Known(block) => block.has_login(),
        };
        if has_login || !self.target(context).uses_iam() {
            return Ok(());
        }
        let Self { object, block, from, to } = self;
        let what = format!("the {object} would have no password: the provider's {to} block uses aws_iam_auth");
        Err(Error::new(what)
            .detail(format!(
                "A token is valid for 15 minutes, but the {from} must be able to connect at any time. In the \
                 {object}'s own {block} block, give username and password (or password_wo) of a role with the \
                 REPLICATION privilege, which is rds_replication on RDS."
            ))
            .attribute(block))
    }

    /// Refuses a plan without a host for the server. Skips values that are not known yet.
    ///
    /// # Errors
    /// As [`Way::conninfo`].
    pub(super) fn check_known(self, context: &Context, planned: &Attr<Connection>) -> Result<()> {
        let is_open = match planned {
            Attr::Null => false,
            Attr::Unknown => true,
            Attr::Known(block) => block.has_unknown(),
        };
        if is_open || self.target(context).is_waiting() {
            return Ok(());
        }
        self.conninfo(context, planned, None, None).map(drop)
    }
}

/// Checks the block alone. Skips unknown values.
pub(super) fn validate(way: Way, block: &Attr<Connection>, diagnostics: &mut Diagnostics) {
    let Some(block) = block.known() else { return };
    if !block.password.is_null() && !block.password_wo.is_null() {
        let error = Error::new("password and password_wo exclude each other").detail("Leave one of the two out.");
        diagnostics.error(error.at(&AttributePath::of(way.block).attribute("password")));
    }
    diagnostics.take(protection::validate(way, block));
}

/// Removes the provider's password if the block has another role.
fn forget_password(conninfo: &mut Conninfo, block: &Connection) {
    if block.username.known().is_some_and(|user| conninfo.get("user") != Some(user)) {
        conninfo.set("password", "");
    }
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

/// Whether the block changes, without write-only values.
pub(super) fn block_changes(prior: &Attr<Connection>, planned: &Attr<Connection>) -> bool {
    *prior != without_write_only(planned)
}

/// The block in the form of a state.
pub(super) fn without_write_only(block: &Attr<Connection>) -> Attr<Connection> {
    match block {
        Attr::Known(block) => Attr::Known(Connection { password_wo: Attr::Null, ..block.clone() }),
        other => other.clone(),
    }
}

/// The planned block with the values that only the configuration has.
pub(super) fn with_write_only(planned: Attr<Connection>, configured: &Attr<Connection>) -> Attr<Connection> {
    let password_wo = configured.known().map(|block| block.password_wo.clone()).unwrap_or_default();
    match planned {
        Attr::Known(block) => Attr::Known(Connection { password_wo, ..block }),
        other => other,
    }
}

/// The options, in addition to the password, that authenticate a role.
const PROOFS: &[&str] = &["sslcert"];

impl Connection {
    /// Whether it has a role of its own and something that authenticates it. Unknown values count as set.
    fn has_login(&self) -> bool {
        let proves = |options: &BTreeMap<String, String>| PROOFS.iter().any(|proof| options.contains_key(*proof));
        let in_options = self.options.is_unknown() || self.options.known().is_some_and(proves);
        let in_attributes = !self.password.is_null() || !self.password_wo.is_null();
        !self.username.is_null() && (in_attributes || in_options)
    }

    /// Whether a value of it is not known yet.
    pub(super) fn has_unknown(&self) -> bool {
        let texts = [&self.host, &self.database, &self.username, &self.password, &self.sslmode];
        texts.into_iter().any(Attr::is_unknown) || self.port.is_unknown() || self.options.is_unknown()
    }
}
