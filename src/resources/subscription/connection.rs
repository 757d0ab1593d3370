//! How the subscriber reaches the publisher: the resource's `publisher` block over the provider's.

use std::collections::{BTreeMap, BTreeSet};

use super::Model;
use super::protection::{self, Leg};
use super::publisher_block::Connection;
use super::sent::{self, Connected};
use crate::config::Context;
use crate::postgres::conninfo_parts::{Parts, meant};
use crate::postgres::subscription::Subscription;
use crate::postgres::{Conninfo, Database, Given, Ident, ServerVersion};
use crate::replication::whereabouts::{self, Clues};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};

/// The connection string for a subscriber of this version, or as any could take it where that is not known.
///
/// # Errors
/// When neither block names the host, or a value is not known.
pub(super) fn conninfo(context: &Context, model: &Model, version: Option<ServerVersion>) -> Result<Conninfo> {
    let publisher = context.publisher().database(None);
    let mut conninfo = publisher.as_ref().map_or_else(|_| Conninfo::new(), |publisher| publisher.config().conninfo());
    let block = model.publisher.optional("publisher")?;
    Leg::of(publisher.as_ref().ok().map(Database::config), block, version).write(&mut conninfo);
    if let Some(block) = block {
        forget_password(&mut conninfo, block);
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
    Ok(conninfo)
}

/// Whether what is sent, or may be sent, depends on the subscriber's version.
pub(super) fn needs_version(context: &Context, planned: &Model) -> bool {
    let publisher = context.publisher().database(None).ok();
    protection::needs_version(publisher.as_ref().map(Database::config), planned.publisher.known())
}

/// What the plan says of a connection that protects less than the provider's own does.
pub(super) fn weaker_leg(context: &Context, planned: &Model, version: Option<ServerVersion>) -> Option<Error> {
    let publisher = context.publisher().database(None).ok()?;
    let block = match &planned.publisher {
        Attr::Unknown => return None,
        Attr::Null => None,
        Attr::Known(block) => Some(block),
    };
    protection::weaker(publisher.config(), block, version)
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
    conninfo(context, planned, None).map(drop)
}

/// The options, beside the password, with which a role proves who it is.
const PROOFS: &[&str] = &["sslcert"];

impl Connection {
    /// Whether it names a role of its own and how that proves who it is. What is unknown may yet do so.
    fn has_login(&self) -> bool {
        let proves = |options: &BTreeMap<String, String>| PROOFS.iter().any(|proof| options.contains_key(*proof));
        let in_options = self.options.is_unknown() || self.options.known().is_some_and(proves);
        let in_attributes = !self.password.is_null() || !self.password_wo.is_null();
        !self.username.is_null() && (in_attributes || in_options)
    }

    pub(super) fn has_unknown(&self) -> bool {
        let texts = [&self.host, &self.database, &self.username, &self.password, &self.sslmode];
        texts.into_iter().any(Attr::is_unknown) || self.port.is_unknown() || self.options.is_unknown()
    }
}

/// The provider's password is no other role's.
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

impl Connection {
    /// The block that says what a connection string says, but for the password and what must not be shown. What it
    /// leaves out is as libpq has it by default.
    pub(super) fn of(conninfo: &Conninfo) -> Self {
        let Parts { host, port, database, username, sslmode, options } = Parts::of(conninfo);
        Self {
            host: host.into(),
            port: port.map(i64::from).into(),
            database: database.into(),
            username: username.into(),
            sslmode: sslmode.into(),
            options: Some(options).filter(|options| !options.is_empty()).into(),
            ..Self::default()
        }
    }

    /// The keywords that the block gives by itself.
    pub(super) fn given(&self) -> BTreeSet<&str> {
        let attributes = [
            ("host", self.host.known().is_some()),
            ("port", self.port.known().is_some()),
            ("dbname", self.database.known().is_some()),
            ("user", self.username.known().is_some()),
            ("password", self.password.known().is_some() || self.password_wo.known().is_some()),
            ("sslmode", self.sslmode.known().is_some()),
        ];
        let attributes = attributes.into_iter().filter(|(_, is_given)| *is_given).map(|(keyword, _)| keyword);
        attributes.chain(self.options.known().into_iter().flat_map(BTreeMap::keys).map(String::as_str)).collect()
    }
}

/// The publisher of a subscription that exists, where it is known which server that is.
pub(super) async fn publisher_of(
    call: &Call<Context>,
    subscriber: &Database,
    found: &Subscription,
    model: &Model,
) -> Option<Database> {
    let connection = known(call, found, model);
    let database = connection.as_ref().and_then(|connection| meant(connection, "dbname"));
    let configured = call.context().publisher().database(database).ok();
    let proof = sent::proof(call.private());
    let clues = Clues { subscriber, subscription: found, connection: connection.as_ref(), configured, proof };
    let publisher = clues.find().await?;
    if let Some(proof) = &publisher.proof {
        sent::remember_proof(call.private(), proof);
    }
    Some(publisher.database.like(subscriber))
}

/// The connection of a subscription that exists, as far as it is known; with a password where there is one.
pub(super) fn known(call: &Call<Context>, found: &Subscription, model: &Model) -> Option<Conninfo> {
    let connected = Connected::of(found.connection.as_ref(), call.private());
    connected.conninfo().map(|connection| with_password(call.context(), connection, model))
}

/// A connection whose password only the configuration has.
fn with_password(context: &Context, connection: &Conninfo, model: &Model) -> Conninfo {
    let mut connection = connection.clone();
    if connection.get("password").is_none()
        && let Ok(wanted) = conninfo(context, model, None)
        && wanted.get("user") == connection.get("user")
    {
        connection.set("password", wanted.get("password").unwrap_or_default());
    }
    connection
}

/// The publisher of a subscription that is not there yet: the provider's where the connection leads to it, and else the
/// server that the connection names, as it is reached from here.
pub(super) fn publisher(context: &Context, conninfo: &Conninfo, subscriber: &Database) -> Option<Database> {
    let configured = context.publisher().database(conninfo.get("dbname")).ok();
    let configured = configured.filter(|configured| whereabouts::leads_to(conninfo, configured, subscriber));
    configured.or_else(|| whereabouts::named(conninfo, subscriber)).map(|publisher| publisher.like(subscriber))
}

/// The publisher as the subscription logs in there, where that can be tried from here.
pub(super) fn login(context: &Context, model: &Model, conninfo: &Conninfo, subscriber: &Database) -> Option<Database> {
    let provider = context.publisher().database(None).ok();
    let ours = model.publisher.known().map(Connection::given).unwrap_or_default();
    let given = Given::named(|keyword| match (ours.contains(keyword), &provider) {
        (false, Some(provider)) => provider.config().given.of(keyword).to_owned(),
        _ => format!("{} of the resource's publisher block", attribute_of(keyword)),
    });
    whereabouts::named_as(conninfo, subscriber, given)
}

fn attribute_of(keyword: &str) -> &str {
    match keyword {
        "dbname" => "database",
        "user" => "username",
        keyword => keyword,
    }
}

/// The statement that removes a slot by hand.
pub(super) fn drop_slot_by_hand(slot: &Ident) -> String {
    crate::postgres::slot::drop_slot(slot).to_string()
}
