// SPDX-License-Identifier: MPL-2.0

//! The data sources, one file each.

mod neon_nat_addresses;
mod preflight;
mod publications;
mod replication_status;
mod subscriptions;
mod table_comparison;
mod tables;

use std::collections::BTreeSet;

use crate::config::{ConfiguredServer, Context, check_name};
use crate::postgres::{Database, Ident};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::AnyDataSource;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// All data sources, in the order of the docs.
pub const ALL: &[&dyn AnyDataSource<Context>] = &[
    &neon_nat_addresses::NeonNatAddresses,
    &preflight::Preflight,
    &publications::Publications,
    &replication_status::ReplicationStatus,
    &subscriptions::Subscriptions,
    &table_comparison::TableComparison,
    &tables::Tables,
];

/// The attribute for the database, which data sources about databases have.
fn database_attribute(side: &str) -> Attribute {
    let description = format!("The database to read. Default: the provider's {side} database.");
    Attribute::optional_computed("database", Type::String, &description).text(check_name)
}

/// Adds the attributes for the database of each side, which data sources about both sides have.
fn with_databases(schema: Schema) -> Schema {
    let database = |name: &str, side: &str| {
        let description = format!("The database of the {side}. Default: the provider's.");
        Attribute::optional_computed(name, Type::String, &description).text(check_name)
    };
    schema.attribute(database("publisher_database", "publisher")).attribute(database("database", "subscriber"))
}

/// That database. Does not connect.
fn database(server: &ConfiguredServer, name: &Attr<String>) -> Result<Database> {
    server.database(name.known().map(String::as_str))
}

/// Names as texts.
fn texts<'a>(names: impl IntoIterator<Item = &'a Ident>) -> BTreeSet<String> {
    names.into_iter().map(|name| name.as_str().to_owned()).collect()
}
