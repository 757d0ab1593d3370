//! `neonrepl_publications`: the publications of a database of the publisher.

use std::collections::{BTreeMap, BTreeSet};

use super::{database, database_attribute, texts};
use crate::config::Context;
use crate::postgres::publication::{self, Operation, Publication, Target};
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
        /// The tables that it names.
        tables: Attr<BTreeSet<String>>,
        /// The schemas that it names.
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

impl DataSource for Publications {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_publications";

    fn schema() -> Schema {
        let strings = || Type::set(Type::String);
        let publication = Type::object([
            ("name", Type::String),
            ("owner", Type::String),
            ("all_tables", Type::Bool),
            ("tables", strings()),
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
            "The publications in the order of their names, with the attributes of `neonrepl_publication`. `tables` has every \
             table that is named, as `schema.table`, those of which only some columns or rows are published too. \
             `fingerprint` changes when what is published does.",
        ))
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
    let publish = publication.publish.iter().copied().map(Operation::as_str).map(str::to_owned);
    Found {
        name: publication.name.as_str().into(),
        owner: publication.owner.as_ref().map(Ident::as_str).map(str::to_owned).into(),
        all_tables: (publication.target == Target::AllTables).into(),
        tables: tables.keys().map(QualifiedName::to_text).collect::<BTreeSet<_>>().into(),
        schemas: texts(schemas).into(),
        publish: publish.collect::<BTreeSet<_>>().into(),
        publish_via_partition_root: publication.via_partition_root.into(),
        publish_generated_columns: publication.generated_columns.as_str().into(),
        fingerprint: publication.fingerprint().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(target: Target) -> Found {
        to_found(&Publication::new(Ident::new("p").unwrap(), target))
    }

    #[test]
    fn a_publication_of_everything_names_nothing() {
        let all = found(Target::AllTables);
        assert_eq!(
            (all.all_tables, all.tables, all.schemas),
            (true.into(), Attr::from(BTreeSet::new()), Attr::from(BTreeSet::new()))
        );
        assert!(all.owner.is_null());
    }

    #[test]
    fn tables_are_named_in_full() {
        let tables = found(Target::tables(["orders", "s.\"a.b\""].map(|name| QualifiedName::parse(name).unwrap())));
        let names = ["public.orders", "s.\"a.b\""].map(str::to_owned);
        assert_eq!((tables.all_tables, tables.tables), (false.into(), Attr::from(BTreeSet::from(names))));
    }
}
