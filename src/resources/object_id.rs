// SPDX-License-Identifier: MPL-2.0

//! Objects of a database, for resources that manage them: the name in an import, in `id` and in the identity, and the
//! database.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::config::{ConfiguredServer, Context};
use crate::postgres::{Database, Ident};
use crate::tf_provider::convert::{Attr, FromValue, Model, ToValue};
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange};
use crate::tf_provider::schema::{IdentityAttribute, IdentitySchema};
use crate::tf_provider::value::Value;

/// An object of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectId {
    pub(super) database: String,
    pub(super) name: String,
}

crate::model! {
    /// The identity of such an object.
    struct Identity {
        /// The server's host in the provider's configuration.
        host: Attr<String>,
        /// The server's port.
        port: Attr<String>,
        /// The database.
        database: Attr<String>,
        /// The name.
        name: Attr<String>,
    }
}

/// A model of such an object: it has `id`, `name` and `database`. Written by [`in_database!`].
pub(super) trait InDatabase: Model {
    /// The server that has the object.
    fn server(context: &Context) -> &ConfiguredServer;

    /// Its database; null or unknown means the configured one.
    fn database(&self) -> &Attr<String>;

    /// Its name.
    fn name(&self) -> &Attr<String>;

    /// A state that only identifies the object.
    fn called(id: &ObjectId) -> Self;
}

/// Implements [`InDatabase`] for a model with `id`, `name` and `database`, on that server.
macro_rules! in_database {
    ($model:ty, $server:path) => {
        impl $crate::resources::object_id::InDatabase for $model {
            fn server(context: &$crate::config::Context) -> &$crate::config::ConfiguredServer {
                $server(context)
            }

            fn database(&self) -> &$crate::tf_provider::convert::Attr<String> {
                &self.database
            }

            fn name(&self) -> &$crate::tf_provider::convert::Attr<String> {
                &self.name
            }

            fn called(id: &$crate::resources::object_id::ObjectId) -> Self {
                let (database, name) = (id.database.clone().into(), id.name.clone().into());
                Self { id: id.to_string().into(), database, name, ..Self::default() }
            }
        }
    };
}
pub(super) use in_database;

/// The initial state of an import; a bare name means the side's configured database.
///
/// # Errors
/// When the import id or identity is not valid, or names another server than the configured one.
pub(super) fn imported<M: InDatabase>(context: &Context, id: ImportId) -> Result<M> {
    let server = M::server(context);
    let (database, name) = match id {
        ImportId::Id(text) => parse(&text)?,
        ImportId::Identity(value) => {
            let identity = Identity::from_value(value)?;
            check_server(&identity, server.name(), address(server))?;
            (identity.database.into_known(), identity.name.required("name")?.clone())
        }
    };
    let configured = || {
        server.database_name().ok_or_else(|| {
            Error::new(format!("the database of {name:?} is not known"))
                .detail(format!("Write \"database/name\", or configure the provider's {} block.", server.name()))
        })
    };
    let database = database.map_or_else(configured, Ok)?;
    Ok(M::called(&ObjectId { database, name }))
}

/// Refuses an identity of another server than the configured one: an object of the same name there is a different
/// object.
fn check_server(identity: &Identity, side: &str, configured: Option<(String, u16)>) -> Result<()> {
    let Some((host, port)) = configured else { return Ok(()) };
    let other_host = identity.host.known().filter(|given| !given.eq_ignore_ascii_case(&host));
    let other_port = identity.port.known().filter(|given| given.parse() != Ok(port));
    let Some((attribute, given)) = other_host.map(|host| ("host", host)).or(other_port.map(|port| ("port", port)))
    else {
        return Ok(());
    };
    Err(Error::new(format!("the identity has {attribute} {given:?}, but the provider's {side} is {host}:{port}"))
        .detail(format!(
            "Import it with a provider configuration whose {side} is that server. If both are the same server, leave host \
             and port out of the identity."
        ))
        .attribute(attribute))
}

/// The provider's address of a server; `None` while that is not known.
fn address(server: &ConfiguredServer) -> Option<(String, u16)> {
    let config = server.server().ok()?.config();
    Some((config.host.clone(), config.port))
}

/// The schema of [`Identity`]; the text describes the name.
pub(super) fn identity_schema(name: &'static str) -> IdentitySchema {
    let attribute =
        |name, description, required_for_import| IdentityAttribute { name, description, required_for_import };
    IdentitySchema {
        version: 1,
        attributes: vec![
            attribute(
                "host",
                "The server's host. Default: the configured one; any other is refused. The stored value does not \
                 change if the provider later reaches the same server by another host.",
                false,
            ),
            attribute("port", "The server's port, with the same rules as `host`.", false),
            attribute("database", "The database. Default: the configured one.", false),
            attribute("name", name, true),
        ],
    }
}

/// The identity of an object. The server's address stays as it was first stored: Terraform 1.12 accepts no other
/// identity for an existing object, but the user may configure another address of the same server at any time.
pub(super) fn identify<M: InDatabase>(context: Option<&Context>, state: &M, stored: &Value) -> Value {
    let (Attr::Known(_), Attr::Known(_)) = (state.database(), state.name()) else { return Value::UNKNOWN };
    let stored = Identity::from_value(stored.clone()).unwrap_or_default();
    let place = Identity { host: stored.host, port: stored.port, ..Identity::default() };
    Identity { database: state.database().clone(), name: state.name().clone(), ..located::<M>(context, place) }
        .to_value()
}

/// The identity of this version from one of version 0, which did not name the server.
///
/// # Errors
/// When it is of another version, or not an identity.
pub(super) fn upgrade_identity<M: InDatabase>(
    context: Option<&Context>,
    version: u64,
    identity: Value,
) -> Result<Value> {
    let part = |name: &str| Attr::from(identity.get(name).and_then(Value::as_str).map(str::to_owned));
    let old = Identity { database: part("database"), name: part("name"), ..Identity::default() };
    if version != 0 || old.name.is_null() {
        return Err(Error::new(format!("the stored identity of version {version} has no name"))
            .detail("Import the object again."));
    }
    Ok(located::<M>(context, old).to_value())
}

/// The same identity, with the configured server for missing parts.
fn located<M: InDatabase>(context: Option<&Context>, identity: Identity) -> Identity {
    let (host, port) = context.and_then(|context| address(M::server(context))).unzip();
    let or = |part: Attr<String>, configured: Option<String>| part.into_known().or(configured).into();
    Identity { host: or(identity.host, host), port: or(identity.port, port.map(|port| port.to_string())), ..identity }
}

/// The object's database: the state's or plan's own, or the configured one. Does not connect.
///
/// # Errors
/// When the server is not configured, or a value of its configuration is not known yet.
pub(super) fn database<M: InDatabase>(context: &Context, model: &M) -> Result<Database> {
    M::server(context).database(model.database().known().map(String::as_str))
}

/// Plans the configured database as the default, and the `id`.
///
/// # Errors
/// As [`plan_id`].
pub(super) fn plan_database<M: InDatabase>(context: &Context, change: &mut PlannedChange<M>) -> Result<()> {
    let is_open = change.planned().is_some_and(|planned| planned.database().is_unknown());
    if let Some(database) = M::server(context).database_name().filter(|_| is_open) {
        change.set("database", database)?;
        plan_id(change)?;
    }
    Ok(())
}

/// Plans the `id`, which follows from database and name once they are known.
///
/// # Errors
/// When the model has no attribute `id`.
pub(super) fn plan_id<M: InDatabase>(change: &mut PlannedChange<M>) -> Result<()> {
    let Some(planned) = change.planned() else { return Ok(()) };
    let id = match (planned.database().known(), planned.name().known()) {
        (Some(database), Some(name)) => Attr::Known(ObjectId::new(database, name).to_string()),
        _ => Attr::Unknown,
    };
    change.set("id", id)
}

impl ObjectId {
    pub(super) fn new(database: &str, name: &str) -> Self {
        Self { database: database.to_owned(), name: name.to_owned() }
    }

    /// What to do about an object that exists already.
    pub(super) fn import_hint(id: &Attr<String>) -> String {
        let id = id.known().map_or("database/name", String::as_str);
        format!("To manage the one that exists, import it by the id {id:?}.")
    }
}

/// Checks that a text is a valid name in Postgres; the message says what is wrong.
pub(super) fn check_name(text: &str) -> std::result::Result<(), String> {
    Ident::new(text).map(|_| ()).map_err(|error| format!("{error}."))
}

/// `database/name` or a bare name; "/" and "%" in a part are percent-encoded.
fn parse(text: &str) -> Result<(Option<String>, String)> {
    let invalid = |why: &str| {
        Error::new(format!("{text:?} is not a valid id: {why}"))
            .detail("Write \"database/name\", with %2F for a \"/\" within a part, and %25 for a \"%\".")
    };
    let parts: Option<Vec<String>> = text.split('/').map(decode).collect();
    let parts = parts.ok_or_else(|| invalid("a \"%\" is not followed by two hexadecimal digits of UTF-8 text"))?;
    match <[String; 2]>::try_from(parts) {
        Ok([database, name]) if !database.is_empty() && !name.is_empty() => Ok((Some(database), name)),
        Ok(_) => Err(invalid("a part is empty")),
        Err(parts) if parts.len() == 1 && !text.is_empty() => Ok((None, parts.concat())),
        Err(parts) if parts.len() > 2 => Err(invalid("it has more than two parts")),
        Err(_) => Err(invalid("it is empty")),
    }
}

/// The crate keeps invalid escapes as they are; here they are an error.
fn decode(part: &str) -> Option<String> {
    let is_escape = |after: &str| after.get(..2).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_well_formed = part.split('%').skip(1).all(is_escape);
    is_well_formed.then(|| percent_decode_str(part).decode_utf8().ok()).flatten().map(Cow::into_owned)
}

/// Prints what [`parse`] reads.
impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encode = |part: &str| part.replace('%', "%25").replace('/', "%2F");
        write!(f, "{}/{}", encode(&self.database), encode(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_round_whatever_the_names_hold() {
        for (database, name) in
            [("shop", "orders"), ("a/b", "c%2Fd"), ("Ünï", "with \"quotes\" and. dots"), ("d", "a\nb")]
        {
            let id = ObjectId::new(database, name);
            assert_eq!(parse(&id.to_string()).unwrap(), (Some(database.to_owned()), name.to_owned()));
        }
        assert_eq!(ObjectId::new("a/b", "c").to_string(), "a%2Fb/c");
        assert_eq!(parse("orders").unwrap(), (None, "orders".to_owned()));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "/", "a/", "/b", "a/b/c", "a%zz", "a%2", "%ff/b", "a%é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_ids_that_the_docs_show_are_valid() {
        for (kind, text) in [
            ("cutover", include_str!("../../examples/resources/neonrepl_cutover/import.sh")),
            ("publication", include_str!("../../examples/resources/neonrepl_publication/import.sh")),
            ("subscription", include_str!("../../examples/resources/neonrepl_subscription/import.sh")),
            ("replica_identity", include_str!("../../examples/resources/neonrepl_replica_identity/import.sh")),
            ("replication_slot", include_str!("../../examples/resources/neonrepl_replication_slot/import.sh")),
        ] {
            let commands = text.lines().filter(|line| line.starts_with("terraform import"));
            let ids: Vec<_> = commands.map(|line| line.rsplit(' ').next().unwrap().trim_matches('\'')).collect();
            assert!(
                ids.iter().any(|id| id.contains("%2F")) && ids.iter().any(|id| id.contains("%25")),
                "{kind}: {ids:?}"
            );
            assert!(ids.iter().all(|id| parse(id).is_ok()), "{kind}: {ids:?}");
        }
    }

    crate::model! {
        struct Thing {
            id: Attr<String>,
            name: Attr<String>,
            database: Attr<String>,
            color: Attr<String>,
        }
    }
    in_database!(Thing, Context::publisher);

    fn identity(parts: [Option<&str>; 4]) -> Value {
        let parts = ["host", "port", "database", "name"].into_iter().zip(parts);
        Value::Map(parts.map(|(name, part)| (name.to_owned(), part.map_or(Value::Null, Value::from))).collect())
    }

    #[test]
    fn an_identity_keeps_the_server_that_it_was_stored_with() {
        let thing = Thing::called(&ObjectId::new("shop", "new"));
        let stored = identity([Some("h"), Some("5433"), Some("shop"), Some("old")]);
        let renamed = identity([Some("h"), Some("5433"), Some("shop"), Some("new")]);
        assert_eq!(identify(None, &thing, &stored), renamed);
        assert_eq!(identify(None, &thing, &Value::Null), identity([None, None, Some("shop"), Some("new")]));
        assert!(identify(None, &Thing::default(), &stored).is_unknown());
    }

    #[test]
    fn an_older_identity_named_no_server() {
        let old = Value::Map([("database".to_owned(), "shop".into()), ("name".to_owned(), "orders".into())].into());
        let new = identity([None, None, Some("shop"), Some("orders")]);
        assert_eq!(upgrade_identity::<Thing>(None, 0, old).unwrap(), new);
        assert!(upgrade_identity::<Thing>(None, 0, Value::Map([].into())).is_err());
    }

    #[test]
    fn an_identity_of_another_server_is_refused_by_its_part() {
        let check = |host: Option<&str>, port: Option<&str>| {
            let identity = Identity::from_value(identity([host, port, None, Some("n")])).unwrap();
            check_server(&identity, "publisher", Some(("db.example".to_owned(), 5432)))
        };
        for (host, port) in [(None, None), (Some("DB.example"), None), (Some("db.example"), Some("5432"))] {
            assert_eq!(check(host, port), Ok(()), "{host:?} {port:?}");
        }
        let host = check(Some("other"), None).unwrap_err();
        assert_eq!(host.summary(), "the identity has host \"other\", but the provider's publisher is db.example:5432");
        assert!(check(None, Some("5433")).unwrap_err().summary().contains("port \"5433\""));
        assert!(check(None, Some("x")).is_err());
    }
}
