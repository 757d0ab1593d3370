// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_publications`: the publications of a database of the publisher.

use std::collections::{BTreeMap, BTreeSet};

use super::{database, database_attribute, texts};
use crate::config::Context;
use crate::postgres::publication::{self, Operation, Publication, RowFilter, TableSpec, Target};
use crate::postgres::{Ident, QualifiedName};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::DataSource;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The data source.
pub(super) struct Publications;

crate::model! {
    /// Question and answer.
    pub(super) struct Model {
        /// The database.
        database: Attr<String>,
        /// Its publications.
        publications: Attr<Vec<Found>>,
    }
}

crate::model! {
    /// A publication.
    pub(super) struct Found {
        /// Its name.
        name: Attr<String>,
        /// Its owner.
        owner: Attr<String>,
        /// Whether it publishes every table.
        all_tables: Attr<bool>,
        /// The tables that it publishes whole.
        tables: Attr<BTreeSet<String>>,
        /// The tables of which it publishes only some columns or rows.
        table: Attr<Vec<Table>>,
        /// The schemas that it publishes.
        schemas: Attr<BTreeSet<String>>,
        /// Which operations it publishes.
        publish: Attr<BTreeSet<String>>,
        /// Whether partitions are published as their root.
        publish_via_partition_root: Attr<bool>,
        /// Whether generated columns are published.
        publish_generated_columns: Attr<String>,
        /// A hash of what is published.
        fingerprint: Attr<String>,
    }
}

crate::model! {
    /// A table of which only some columns or rows are published.
    pub(super) struct Table {
        /// Its name.
        name: Attr<String>,
        /// Only these columns.
        columns: Attr<BTreeSet<String>>,
        /// Only these rows.
        r#where: Attr<String>,
    }
}

/// The descriptions of the nested attributes.
const PARTS: &[(&str, &str)] = &[
    ("name", "The name."),
    ("owner", "The role that owns it."),
    ("all_tables", "Whether every table of the database is published, future ones included."),
    ("tables", "The tables that are published as a whole, as `schema.table`. Null if there are none."),
    ("table", "The tables of which only some columns or rows are published, as the blocks of that name."),
    ("table.name", "The table, as `schema.table`."),
    ("table.columns", "The columns that are published. Null if all are."),
    ("table.where", "The row filter, as the server prints it. Null if every row is published."),
    ("schemas", "The schemas whose tables are published, future ones included. Null if there are none."),
    ("publish", "The operations that are published: `insert`, `update`, `delete`, `truncate`."),
    ("publish_via_partition_root", "Whether changes of partitions are published as changes of the partitioned table."),
    ("publish_generated_columns", "Whether stored generated columns are published: `none` or `stored`."),
    ("fingerprint", "A hash of what is published. It changes when that does."),
];

impl DataSource for Publications {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_publications";

    fn schema() -> Schema {
        let strings = || Type::set(Type::String);
        let table = Type::object([("name", Type::String), ("columns", strings()), ("where", Type::String)]);
        let publication = Type::object([
            ("name", Type::String),
            ("owner", Type::String),
            ("all_tables", Type::Bool),
            ("tables", strings()),
            ("table", Type::list(table)),
            ("schemas", strings()),
            ("publish", strings()),
            ("publish_via_partition_root", Type::Bool),
            ("publish_generated_columns", Type::String),
            ("fingerprint", Type::String),
        ]);
        Schema::new(
            "The publications of a database of the publisher: what could be imported as `neonrepl_publication`, and what a \
             subscription could subscribe to.",
        )
        .attribute(database_attribute("publisher"))
        .attribute(Attribute::computed(
            "publications",
            Type::list(publication),
            "The publications in the order of their names, with the attributes of `neonrepl_publication`, so that they can be its \
             arguments.",
        ).parts(PARTS))
    }

    async fn read(call: &Call<Context>, config: Model) -> Result<Model> {
        let database = database(call.context().publisher(), &config.database)?;
        let found = call.unless_stopped(Box::pin(publication::fetch_all(&database))).await?;
        let publications: Vec<_> = found.values().map(to_found).collect();
        Ok(Model { database: database.name().into(), publications: publications.into() })
    }
}

fn to_found(publication: &Publication) -> Found {
    let none = (BTreeMap::new(), BTreeSet::new());
    let (tables, schemas) = match &publication.target {
        Target::AllTables => (&none.0, &none.1),
        Target::Lists { tables, schemas } => (tables, schemas),
    };
    let (whole, limited): (Vec<_>, Vec<_>) = tables.iter().partition(|(_, spec)| **spec == TableSpec::default());
    let publish = publication.publish.iter().copied().map(Operation::as_str).map(str::to_owned);
    Found {
        name: publication.name.as_str().into(),
        owner: publication.owner.as_ref().map(Ident::as_str).map(str::to_owned).into(),
        all_tables: (publication.target == Target::AllTables).into(),
        tables: unless_empty(whole.into_iter().map(|(name, _)| name.to_text()).collect()),
        table: limited.into_iter().map(|(name, spec)| to_table(name, spec)).collect::<Vec<_>>().into(),
        schemas: unless_empty(texts(schemas)),
        publish: publish.collect::<BTreeSet<_>>().into(),
        publish_via_partition_root: publication.via_partition_root.into(),
        publish_generated_columns: publication.generated_columns.as_str().into(),
        fingerprint: publication.fingerprint().into(),
    }
}

/// The form of the resource's state: null if a configuration would omit it.
fn unless_empty(names: BTreeSet<String>) -> Attr<BTreeSet<String>> {
    if names.is_empty() { Attr::Null } else { names.into() }
}

fn to_table(name: &QualifiedName, spec: &TableSpec) -> Table {
    Table {
        name: name.to_text().into(),
        columns: spec.columns.as_ref().map(texts).into(),
        r#where: spec.filter.as_ref().map(RowFilter::text).map(str::to_owned).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(target: Target) -> Found {
        to_found(&Publication::new(Ident::new("p").unwrap(), target))
    }

    fn name(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    #[test]
    fn what_is_absent_is_null() {
        for (target, is_all) in [(Target::AllTables, true), (Target::none(), false)] {
            let found = found(target);
            assert_eq!((found.all_tables, found.tables, found.schemas), (is_all.into(), Attr::Null, Attr::Null));
            assert!(found.owner.is_null());
            assert_eq!(found.table, Vec::new().into());
        }
    }

    #[test]
    fn tables_are_named_in_full() {
        let tables = found(Target::tables(["orders", "s.\"a.b\""].map(name)));
        let names = ["public.orders", "s.\"a.b\""].map(str::to_owned);
        assert_eq!((tables.all_tables, tables.tables), (false.into(), Attr::from(BTreeSet::from(names))));
    }

    #[test]
    fn a_table_with_limits_is_a_block() {
        let columns = TableSpec { columns: Some(BTreeSet::from([Ident::new("id").unwrap()])), filter: None };
        let rows = TableSpec { columns: None, filter: Some(RowFilter::new("total > 0").unwrap()) };
        let tables = BTreeMap::from([(name("a"), columns), (name("b"), rows), (name("c"), TableSpec::default())]);
        let found = found(Target::Lists { tables, schemas: BTreeSet::new() });
        assert_eq!(found.tables, BTreeSet::from(["public.c".to_owned()]).into());
        let a =
            Table { name: "public.a".into(), columns: BTreeSet::from(["id".to_owned()]).into(), r#where: Attr::Null };
        let b = Table { name: "public.b".into(), columns: Attr::Null, r#where: "total > 0".into() };
        assert_eq!(found.table, vec![a, b].into());
    }
}
