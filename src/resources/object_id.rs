//! `database/name`: what names an object of a database in an import, and in `id`.

use crate::config::ConfiguredServer;
use crate::postgres::Ident;
use crate::tf_provider::convert::{Attr, FromValue};
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::ImportId;
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
        /// The database.
        database: Attr<String>,
        /// The name.
        name: Attr<String>,
    }
}

impl ObjectId {
    pub(super) fn new(database: &str, name: &str) -> Self {
        Self { database: database.to_owned(), name: name.to_owned() }
    }

    /// What an import was asked with; a bare name is of the server's configured database.
    pub(super) fn of_import(id: ImportId, server: &ConfiguredServer) -> Result<Self> {
        let (database, name) = match id {
            ImportId::Id(text) => parse(&text)?,
            ImportId::Identity(value) => {
                let identity = Identity::from_value(value)?;
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
        Ok(Self { database, name })
    }

    /// What to do about an object that exists already.
    pub(super) fn import_hint(id: &Attr<String>) -> String {
        let id = id.known().map_or("database/name", String::as_str);
        format!("To manage the one that exists, import it by the id {id:?}.")
    }

    /// The identity's value.
    pub(super) fn identity(&self) -> Value {
        let parts = [("database", &self.database), ("name", &self.name)];
        Value::Map(parts.map(|(name, part)| (name.to_owned(), Value::from(part.as_str()))).into())
    }
}

/// The schema of [`Identity`]; the text describes the name.
pub(super) fn identity_schema(name: &'static str) -> IdentitySchema {
    let attribute =
        |name, description, required_for_import| IdentityAttribute { name, description, required_for_import };
    IdentitySchema {
        version: 0,
        attributes: vec![
            attribute("database", "The database; the configured one by default.", false),
            attribute("name", name, true),
        ],
    }
}

/// A name that Postgres can take; the message says what is wrong with another.
pub(super) fn check_name(text: &str) -> std::result::Result<(), String> {
    Ident::new(text).map(|_| ()).map_err(|error| format!("{error}."))
}

/// `database/name` or a bare name; a part that holds "/" or "%" is percent-encoded.
fn parse(text: &str) -> Result<(Option<String>, String)> {
    let invalid = |why: &str| {
        Error::new(format!("{text:?} is no id: {why}"))
            .detail("Write \"database/name\"; a \"/\" within a part is written %2F, and a \"%\" is written %25.")
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

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('%') {
        bytes.extend(before.bytes());
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).ok()
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
}
