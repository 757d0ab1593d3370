// SPDX-License-Identifier: MPL-2.0

//! The resources that `terraform query` can list, one file each.

mod publication;
mod replica_identity;
mod replication_slot;
mod subscription;

use crate::config::{ConfiguredServer, Context};
use crate::postgres::{Database, Ident};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::list_resource::{AnyListResource, Listed};
use crate::tf_provider::resource::ImportId;
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::value::Value;

/// All list resources, in the order of the docs.
pub const ALL: &[&dyn AnyListResource<Context>] = &[
    &publication::Publications,
    &replica_identity::ReplicaIdentities,
    &replication_slot::ReplicationSlots,
    &subscription::Subscriptions,
];

crate::model! {
    /// The `config` block of a list for a database.
    pub struct Model {
        /// The database.
        database: Attr<String>,
    }
}

/// The schema of that block.
fn schema(description: &str, side: &str) -> Schema {
    let database = format!("The database to read. Default: the provider's {side} database.");
    let is_name = |text: &str| Ident::new(text).map(|_| ()).map_err(|error| format!("{error}."));
    Schema::new(description).attribute(Attribute::optional("database", Type::String, &database).text(is_name))
}

/// That database. Does not connect.
fn database(server: &ConfiguredServer, config: &Model) -> Result<Database> {
    server.database(config.database.known().map(String::as_str))
}

/// An object that is imported as `database/name`.
fn listed(database: &Database, name: &Ident) -> Listed {
    named(database, name.as_str())
}

/// The same for objects whose name is not a single identifier.
fn named(database: &Database, name: &str) -> Listed {
    let identity = [("database", database.name()), ("name", name)];
    let identity = identity.map(|(part, text)| (part.to_owned(), Value::from(text)));
    Listed { display_name: name.to_owned(), id: ImportId::Identity(Value::Map(identity.into())) }
}
