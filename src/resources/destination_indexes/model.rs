// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource.

use std::collections::BTreeSet;

use super::Wished;
use crate::config::{Context, building, names};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::destination::building::There;
use crate::resources::destination_tables::{name, of_tables, with_places};
use crate::resources::object_id::in_database;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, timeouts_block};

crate::model! {
    /// The indexes of a subscriber's tables.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// Its publications and tables, as one name.
        name: Attr<String>,
        /// The publications whose tables get their indexes.
        publications: Attr<BTreeSet<String>>,
        /// Further tables.
        tables: Attr<BTreeSet<String>>,
        /// The database of the publisher.
        publisher_database: Attr<String>,
        /// The database of the subscriber.
        database: Attr<String>,
        /// The subscriptions whose copy must end first.
        subscriptions: Attr<BTreeSet<String>>,
        /// How many indexes are built at a time.
        parallel: Attr<i64>,
        /// The `maintenance_work_mem` of the sessions that build.
        maintenance_work_mem: Attr<String>,
        /// Whether the tables are analyzed.
        analyze: Attr<bool>,
        /// The indexes that exist.
        indexes: Attr<Vec<String>>,
        /// The foreign keys that exist.
        foreign_keys: Attr<Vec<String>>,
        /// The extended statistics that exist.
        statistics: Attr<Vec<String>>,
        /// How long the last apply took to build, in seconds.
        seconds: Attr<i64>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

in_database!(Model, Context::subscriber);
of_tables!(Model);

pub(super) fn schema() -> Schema {
    let schema = Schema::new(
        "Creates the publisher's indexes, foreign keys and extended statistics on the subscriber's tables, once the \
         rows have been copied. Copying into tables without them is several times as fast, so \
         `neonrepl_destination_schema` leaves them for later by default.\n\nIndexes are built `CONCURRENTLY`, the \
         largest tables first and several at a time, so that neither the replication nor an application waits for \
         them. The index of a partitioned table is built on each partition and then attached. Foreign keys are \
         added `NOT VALID` and validated afterwards. A statement that locks a table briefly is tried for a second \
         at a time, so that other sessions do not queue behind it. At the end the tables are analyzed.\n\nExisting \
         objects are left alone. An invalid index that an earlier attempt left behind is built again; if the server \
         is still building it, the apply waits first. If one object cannot be created, all others are, and the \
         error names the keys in the way: duplicates of a unique index, or rows without the row that they refer to. \
         If an apply is stopped or killed, the next one creates what is missing.\n\nThe role must be a member of \
         the owner of the tables, and have `CREATE` on their schemas; no superuser is needed. A destroy keeps \
         everything.",
    );
    let computed = |name: &str, ty: Type, description: &str| Attribute::computed(name, ty, description);
    let texts = || Type::list(Type::String);
    building::with_choices(with_places(schema, "whose tables get their indexes", "what was created stays"))
        .attribute(computed("id", Type::String, "`database/name`, by which it is imported."))
        .attribute(computed(
            "name",
            Type::String,
            "Its publications and tables, written as the `name` of a `neonrepl_destination_schema`.",
        ))
        .attribute(computed(
            "indexes",
            texts(),
            "The indexes that the subscriber has, as `schema.index`: all indexes that the publisher has on these \
             tables, apart from those of constraints. The next apply rebuilds one that goes missing.",
        ))
        .attribute(computed(
            "foreign_keys",
            texts(),
            "The foreign keys between these tables that the subscriber has, validated, as `schema.table.key`.",
        ))
        .attribute(computed(
            "statistics",
            texts(),
            "The extended statistics that the subscriber has, as `schema.statistics`.",
        ))
        .attribute(computed(
            "seconds",
            Type::Number,
            "How long building took in the last apply that changed \
             something, in seconds.",
        ))
        .block(timeouts_block("12h", "12h", "5m"))
}

/// The publications and tables.
pub(super) fn wished(model: &Model) -> Result<Wished> {
    model.publications.optional("publications")?;
    model.tables.optional("tables")?;
    Ok((
        names("publications", &model.publications, |text| Ident::new(text))?,
        names("tables", &model.tables, QualifiedName::parse)?,
    ))
}

/// The subscriptions whose copy must end first.
pub(super) fn subscriptions(model: &Model) -> Result<BTreeSet<Ident>> {
    names("subscriptions", &model.subscriptions, |text| Ident::new(text))
}

/// The state from what exists, with the previous configuration.
pub(super) fn to_model(there: &There, before: &Model) -> Model {
    Model {
        name: name(&before.publications, &before.tables),
        indexes: there.indexes.clone().into(),
        foreign_keys: there.foreign_keys.clone().into(),
        statistics: there.statistics.clone().into(),
        seconds: before.seconds.known().copied().unwrap_or_default().into(),
        ..before.clone()
    }
}
