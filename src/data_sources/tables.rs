// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_tables`: the tables of a database of the publisher, with facts for replication.

use std::collections::BTreeSet;

use super::{database, database_attribute, texts};
use crate::config::{Context, check_name};
use crate::postgres::catalog::{self, Listed};
use crate::postgres::{Ident, QualifiedName};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The data source.
pub(super) struct Tables;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The database.
        database: Attr<String>,
        /// Only the tables of these schemas.
        schemas: Attr<BTreeSet<String>>,
        /// The tables.
        tables: Attr<Vec<Found>>,
    }
}

crate::model! {
    /// A table.
    pub(super) struct Found {
        /// Its schema.
        schema: Attr<String>,
        /// Its name.
        name: Attr<String>,
        /// Both, in the form of a publication's `tables`.
        qualified_name: Attr<String>,
        /// The table that it is a partition of.
        partition_of: Attr<String>,
        /// About how many rows it has.
        rows_estimate: Attr<i64>,
        /// Its size.
        bytes: Attr<i64>,
        /// What identifies an old row.
        replica_identity: Attr<String>,
        /// Whether it has a primary key.
        has_primary_key: Attr<bool>,
        /// Whether it is unlogged.
        unlogged: Attr<bool>,
        /// The publications that publish it.
        published_by: Attr<BTreeSet<String>>,
    }
}

/// The descriptions of the nested attributes.
const PARTS: &[(&str, &str)] = &[
    ("schema", "Its schema."),
    ("name", "Its name."),
    ("qualified_name", "Schema and name together, as the `tables` of a publication take them."),
    ("partition_of", "The table that it is a partition of, as `schema.table`. Null if it is not a partition."),
    (
        "rows_estimate",
        "How many rows the server estimates. Null before the first `ANALYZE`. For a partitioned table, its \
         partitions are included.",
    ),
    ("bytes", "The size on disk with indexes. For a partitioned table, its partitions are included."),
    ("replica_identity", "`default` (the primary key), `index`, `full` or `nothing`."),
    ("has_primary_key", "Whether it has a primary key."),
    ("unlogged", "Whether it is unlogged. Such a table cannot be published."),
    (
        "published_by",
        "The publications that publish its changes under its name, whether they list the table, its schema, its \
         root or all tables.",
    ),
];

impl DataSource for Tables {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_tables";

    fn schema() -> Schema {
        let table = Type::object([
            ("schema", Type::String),
            ("name", Type::String),
            ("qualified_name", Type::String),
            ("partition_of", Type::String),
            ("rows_estimate", Type::Number),
            ("bytes", Type::Number),
            ("replica_identity", Type::String),
            ("has_primary_key", Type::Bool),
            ("unlogged", Type::Bool),
            ("published_by", Type::set(Type::String)),
        ]);
        Schema::new(
            "The tables of a database of the publisher: what could be published, how large it is, and whether \
             updates and deletes could be published. System schemas and temporary tables are left out.",
        )
        .attribute(database_attribute("publisher"))
        .attribute(
            Attribute::optional(
                "schemas",
                Type::set(Type::String),
                "Only the tables of these schemas. A schema that does not exist is not an error. Default: every \
                 schema.",
            )
            .text(check_name),
        )
        .attribute(
            Attribute::computed("tables", Type::list(table), "The tables in the order of `schema` and `name`.")
                .parts(PARTS),
        )
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let database = database(call.context().publisher(), &config.database)?;
        let schemas = config.schemas.known().map(|schemas| schemas.iter().map(|name| to_ident(name)).collect());
        let schemas: Option<BTreeSet<_>> = schemas.transpose()?;
        let found = call.unless_stopped(catalog::list(&database, schemas.as_ref())).await?;
        let tables: Vec<_> = found.iter().map(to_found).collect();
        Ok(Model { database: database.name().into(), schemas: config.schemas, tables: tables.into() })
    }
}

fn to_ident(name: &str) -> Result<Ident> {
    Ident::new(name).map_err(|error| Error::new(error.to_string()).attribute("schemas"))
}

fn to_found(table: &Listed) -> Found {
    Found {
        schema: table.name.schema.as_str().into(),
        name: table.name.name.as_str().into(),
        qualified_name: table.name.to_text().into(),
        partition_of: table.partition_of.as_ref().map(QualifiedName::to_text).into(),
        rows_estimate: table.rows_estimate.into(),
        bytes: table.bytes.into(),
        replica_identity: table.replica_identity.as_str().into(),
        has_primary_key: table.has_primary_key.into(),
        unlogged: table.unlogged.into(),
        published_by: texts(&table.published_by).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::ReplicaIdentity;

    #[test]
    fn names_are_plain_apart_and_quoted_together() {
        let table = Listed {
            name: QualifiedName::parse("sales.\"a.b\"").unwrap(),
            partition_of: Some(QualifiedName::parse("all_sales").unwrap()),
            rows_estimate: None,
            bytes: 8192,
            replica_identity: ReplicaIdentity::Full,
            has_primary_key: false,
            unlogged: false,
            published_by: BTreeSet::from([Ident::new("p").unwrap()]),
        };
        let found = to_found(&table);
        let texts = [found.schema, found.name, found.qualified_name, found.partition_of, found.replica_identity];
        assert_eq!(texts, ["sales", "a.b", "sales.\"a.b\"", "public.all_sales", "full"].map(Attr::from));
        assert!(found.rows_estimate.is_null());
        assert_eq!(found.published_by, BTreeSet::from(["p".to_owned()]).into());
    }
}
