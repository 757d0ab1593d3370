// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource, and the publication that they describe.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Context;
use crate::postgres::publication::{
    GeneratedColumns, Operation, Publication as Desired, RowFilter, TableSpec, Target, can_be_subscribed_to,
};
use crate::postgres::{Ident, QualifiedName};
use crate::resources::object_id;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::schema::{Attribute, Block, NestedBlock, Schema, Type};
use crate::tf_provider::value::Value;

crate::model! {
    /// A publication.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// Its name.
        name: Attr<String>,
        /// Its database.
        database: Attr<String>,
        /// Whole tables.
        tables: Attr<BTreeSet<String>>,
        /// Tables with a column list or a row filter.
        table: Attr<Vec<Table>>,
        /// Schemas.
        schemas: Attr<BTreeSet<String>>,
        /// Whether it publishes every table.
        all_tables: Attr<bool>,
        /// The operations.
        publish: Attr<BTreeSet<String>>,
        /// Whether partitions are published as their root.
        publish_via_partition_root: Attr<bool>,
        /// Whether stored generated columns are published.
        publish_generated_columns: Attr<String>,
        /// Its owner.
        owner: Attr<String>,
        /// Whether a plan that would break the publisher's application is refused.
        strict: Attr<bool>,
        /// Whether to drop it even if subscriptions use it.
        force_destroy: Attr<bool>,
        /// A hash of what is published.
        fingerprint: Attr<String>,
    }
}

object_id::in_database!(Model, Context::publisher);

crate::model! {
    /// A `table` block.
    pub(in crate::resources) struct Table {
        /// The table.
        name: Attr<String>,
        /// Only these columns.
        columns: Attr<BTreeSet<String>>,
        /// Only these rows.
        r#where: Attr<String>,
    }
}

pub(super) fn schema() -> Schema {
    let operations = Operation::ALL.map(Operation::as_str);
    let all_operations = Value::Set(operations.iter().map(|name| Value::from(*name)).collect());
    Schema::new(
        "A publication: which tables are published, and how. Every attribute but `database` is changed in place, in \
         one transaction, so that a running subscription never finds the publication missing. A plan also checks \
         the subscriptions that read from it: a table that one of them could not replicate is refused before \
         anything is changed.",
    )
    .attribute(
        Attribute::required("name", Type::String, "The name. Renamed in place. If a subscription of the provider's \
             subscriber reads from it, a second publication with the new name is created first, the subscription \
             changes over once it has applied everything older, and then the old publication is dropped: nothing is \
             lost. If the apply is interrupted, the next one goes on with it.").text(object_id::check_name),
    )
    .attribute(
        Attribute::optional_computed(
            "database",
            Type::String,
            "The database that it belongs to. Default: the provider's publisher database. A change makes a new publication.",
        )
        .text(object_id::check_name)
        .replaces(),
    )
    .attribute(
        Attribute::optional(
            "tables",
            Type::set(Type::String),
            "Whole tables, as `schema.table`, or `table` in schema `public`. A part that holds a dot or a double \
             quote is written in double quotes, as in SQL. Names are taken literally: upper case is not folded.",
        )
        .text(check_table),
    )
    .attribute(
        Attribute::optional(
            "schemas",
            Type::set(Type::String),
            "Schemas whose tables are published, future ones included. Needs Postgres 15 and a superuser.",
        )
        .text(object_id::check_name),
    )
    .attribute(
        Attribute::optional(
            "all_tables",
            Type::Bool,
            "Publishes every table of the database, future ones included. Needs a superuser. Not together with `tables`, \
             `table` or `schemas`. Default: `false`.",
        )
        .default(false),
    )
    .attribute(
        Attribute::optional(
            "publish",
            Type::set(Type::String),
            "The operations that are published. Default: `insert`, `update`, `delete` and `truncate`.",
        )
        .default(all_operations)
        .one_of(&["insert", "update", "delete", "truncate"]),
    )
    .attribute(
        Attribute::optional(
            "publish_via_partition_root",
            Type::Bool,
            "Whether changes of partitions are published as changes of the partitioned table. A change is refused \
             while a subscription reads the partitions, because rows would be lost: the plan then says how to \
             change over to a second publication. With `true`, the rows of a table that is attached as a partition \
             later are never copied, and a detached table is no longer published: subscribers only get what is \
             written while it is a partition. Default: `false`.",
        )
        .default(false),
    )
    .attribute(
        Attribute::optional(
            "publish_generated_columns",
            Type::String,
            "Whether stored generated columns are published: `none` or `stored` (Postgres 18). Default: `none`.",
        )
        .default("none")
        .one_of(&["none", "stored"]),
    )
    .attribute(
        Attribute::optional_computed("owner", Type::String, "The role that owns it. Default: the role that creates it.")
            .text(object_id::check_name),
    )
    .attribute(
        Attribute::optional(
            "strict",
            Type::Bool,
            "Whether a plan fails if Postgres would accept the publication and then refuse the application's \
             updates and deletes: because a table has no replica identity, a row filter uses columns outside of it, \
             a column list lacks its columns, or, since Postgres 18, it has generated columns that are not \
             published. With `false`, the plan warns. Only plans that change the publication check this. Default: \
             `false`.",
        )
        .default(false),
    )
    .attribute(
        Attribute::optional(
            "force_destroy",
            Type::Bool,
            "Whether it may be dropped while subscriptions use it, which then stop at the next change. With \
             `false`, that is an error. Terraform and OpenTofu drop a publication before they change a subscription \
             that used it: to remove it from a subscription in the same apply, set `lifecycle { \
             create_before_destroy = true }`. Default: `false`.",
        )
        .default(false),
    )
    .attribute(Attribute::computed("id", Type::String, "`database/name`, by which it is imported.").stable())
    .attribute(
        Attribute::computed(
            "fingerprint",
            Type::String,
            "A hash of what is published, without the name and the owner. Use it in a subscription's \
             `refresh_triggers`.",
        )
        .stable(),
    )
    .block(NestedBlock::list(
        "table",
        Block::new("A table of which only some columns or rows are published (Postgres 15). The block can be repeated.")
            .attribute(Attribute::required("name", Type::String, "The table, as in `tables`.").text(check_table))
            .attribute(
                Attribute::optional(
                    "columns",
                    Type::set(Type::String),
                    "Only these columns. Updates and deletes need those of the replica identity among them.",
                )
                .text(object_id::check_name)
                .validator(|value| match value {
                    Value::Set(items) if items.is_empty() => {
                        Err("It must not be empty. Name a column, or leave `columns` out to publish all of them.".to_owned())
                    }
                    _ => Ok(()),
                }),
            )
            .attribute(
                Attribute::optional(
                    "where",
                    Type::String,
                    "Only the rows for which this expression is true. Two spellings that the server prints alike are the \
                     same filter.",
                )
                .text(|text| RowFilter::new(text).map(|_| ()).map_err(|error| format!("It is {error}."))),
            ),
    ))
}

fn check_table(text: &str) -> std::result::Result<(), String> {
    // Within quotes it may be a part of a name.
    if !text.contains('"') && text.to_ascii_lowercase().contains(" where ") {
        return Err(format!(
            "{text:?} is more than a table. Write a row filter or a column list in a block: table {{ }}, with name, \
             where and columns in it, each on its own line."
        ));
    }
    let remedy = "Write \"schema.table\", or \"table\" for one of schema public.";
    QualifiedName::parse(text).map(|_| ()).map_err(|error| format!("{error}. {remedy}"))
}

/// Checks rules across attributes, as far as values are known.
pub(super) fn validate(config: &Model, diagnostics: &mut Diagnostics) {
    check_targets(config, diagnostics);
    check_duplicates(config, diagnostics);
    check_backslash(config, diagnostics);
}

/// Refuses a name that Postgres accepts, but that no subscription can use.
fn check_backslash(config: &Model, diagnostics: &mut Diagnostics) {
    if let Some(name) = config.name.known().filter(|name| !can_be_subscribed_to(name)) {
        let warning = Error::new(format!("no subscription can read from publication {name:?}"))
            .detail("Postgres cannot send a backslash in a publication's name to its publisher. Choose another name.");
        diagnostics.warning(warning.attribute("name"));
    }
}

/// Checks what can be published together.
fn check_targets(config: &Model, diagnostics: &mut Diagnostics) {
    let blocks = config.table.known().map(Vec::as_slice).unwrap_or_default();
    let has_schemas = config.schemas.known().is_some_and(|schemas| !schemas.is_empty());
    if config.all_tables.known() == Some(&true) {
        let lists = [
            ("tables", config.tables.known().is_some_and(|tables| !tables.is_empty())),
            ("table", !blocks.is_empty()),
            ("schemas", has_schemas),
        ];
        for (attribute, _) in lists.into_iter().filter(|(_, given)| *given) {
            let error = Error::new(format!("{attribute} and all_tables exclude each other"))
                .detail("Every table is published already. Leave one of the two out.");
            diagnostics.error(error.attribute(attribute));
        }
    }
    if has_schemas {
        let listed = blocks.iter().enumerate().filter(|(_, table)| table.columns.known().is_some());
        for (at, _) in listed {
            let error = Error::new("a column list and schemas exclude each other")
                .detail("Postgres takes no column list in a publication of schemas. Leave one of the two out.");
            diagnostics.error(error.at(&block_path(at).attribute("columns")));
        }
    }
}

/// Refuses the same table twice, in any spelling.
fn check_duplicates(config: &Model, diagnostics: &mut Diagnostics) {
    let mut seen = BTreeMap::new();
    let listed = config.tables.known().into_iter().flatten().map(|text| (text, AttributePath::of("tables")));
    let blocks = config.table.known().into_iter().flatten().enumerate();
    let blocks = blocks.filter_map(|(at, table)| Some((table.name.known()?, block_path(at).attribute("name"))));
    for (text, path) in listed.chain(blocks) {
        let Ok(name) = QualifiedName::parse(text) else { continue };
        if let Some(other) = seen.insert(name.clone(), text) {
            let error = Error::new(format!("table {} is named twice", name.to_text()))
                .detail(format!("{other:?} and {text:?} are the same table. Name it once."));
            diagnostics.error(error.at(&path));
        }
    }
}

pub(super) fn block_path(at: usize) -> AttributePath {
    AttributePath::of("table").index(at)
}

pub(super) fn ident(attribute: &Attr<String>, name: &str) -> Result<Ident> {
    to_ident(attribute.required(name)?, name)
}

fn to_ident(text: &str, attribute: &str) -> Result<Ident> {
    Ident::new(text).map_err(|error| Error::new(error.to_string()).attribute(attribute))
}

/// The publication that a wholly known model describes.
pub(super) fn desired(model: &Model) -> Result<Desired> {
    let mut desired = Desired::new(ident(&model.name, "name")?, target(model)?);
    // A computed owner is not known before creation, and means any owner.
    desired.owner = model.owner.known().map(|owner| to_ident(owner, "owner")).transpose()?;
    if let Some(names) = model.publish.optional("publish")? {
        desired.publish = names.iter().filter_map(|name| Operation::from_name(name)).collect();
    }
    desired.via_partition_root =
        model.publish_via_partition_root.optional("publish_via_partition_root")?.copied().unwrap_or(false);
    let generated = model.publish_generated_columns.optional("publish_generated_columns")?;
    desired.generated_columns =
        generated.and_then(|name| GeneratedColumns::from_name(name)).unwrap_or(GeneratedColumns::None);
    Ok(desired)
}

fn target(model: &Model) -> Result<Target> {
    if model.all_tables.optional("all_tables")? == Some(&true) {
        return Ok(Target::AllTables);
    }
    let mut tables = BTreeMap::new();
    for text in model.tables.optional("tables")?.into_iter().flatten() {
        tables.insert(to_table(text).map_err(|error| error.attribute("tables"))?, TableSpec::default());
    }
    for (at, table) in model.table.optional("table")?.into_iter().flatten().enumerate() {
        let (name, spec) = table_spec(table).map_err(|error| error.at(&block_path(at)))?;
        tables.insert(name, spec);
    }
    let schemas = model.schemas.optional("schemas")?.into_iter().flatten();
    Ok(Target::Lists { tables, schemas: schemas.map(|name| to_ident(name, "schemas")).collect::<Result<_>>()? })
}

fn to_table(text: &str) -> Result<QualifiedName> {
    QualifiedName::parse(text).map_err(|error| Error::new(error.to_string()))
}

fn table_spec(table: &Table) -> Result<(QualifiedName, TableSpec)> {
    let name = to_table(table.name.required("name")?).map_err(|error| error.attribute("name"))?;
    let columns = table.columns.optional("columns")?;
    let columns = columns.map(|columns| columns.iter().map(|column| to_ident(column, "columns")).collect());
    let filter = table.r#where.optional("where")?;
    let filter =
        filter.map(|text| RowFilter::new(text).map_err(|error| Error::new(error.to_string()).attribute("where")));
    Ok((name, TableSpec { columns: columns.transpose()?, filter: filter.transpose()? }))
}
