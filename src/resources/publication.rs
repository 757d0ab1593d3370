//! `neonrepl_publication`: which tables of the publisher are published, and how.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::read::{Filters, to_model};
use super::object_id::{self, ObjectId};
use super::server_check::check_version;
use crate::postgres::publication::{
    self, GeneratedColumns, Operation, Publication as Desired, RowFilter, TableSpec, Target,
};
use crate::postgres::{Database, Ident, Limits, Notice, QualifiedName, SqlState};
use crate::provider::{Context, Side};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{Attribute, Block, IdentitySchema, NestedBlock, Schema, Type};
use crate::tf_provider::value::Value;

/// How long the statements of one change may take, waiting for locks included.
const CHANGE_TIME: Duration = Duration::from_secs(300);

/// The resource.
pub(super) struct Publication;

crate::model! {
    /// A publication.
    pub(super) struct Model {
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
        /// A hash of what is published.
        fingerprint: Attr<String>,
    }
}

crate::model! {
    /// A `table` block.
    pub(super) struct Table {
        /// The table.
        name: Attr<String>,
        /// Only these columns.
        columns: Attr<BTreeSet<String>>,
        /// Only these rows.
        r#where: Attr<String>,
    }
}

impl Resource for Publication {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_publication";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("publication"))
    }

    fn identify(state: &Model) -> Value {
        match (state.database.known(), state.name.known()) {
            (Some(database), Some(name)) => ObjectId::new(database, name).identity(),
            _ => Value::UNKNOWN,
        }
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        check_targets(config, diagnostics);
        check_duplicates(config, diagnostics);
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        keep_equal_tables(change)?;
        plan_computed(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_none() || !change.changes() {
            return Ok(());
        }
        if change.planned().is_some_and(|planned| planned.database.is_unknown())
            && let Some(database) = call.context().database_name(Side::Publisher)
        {
            change.set("database", database)?;
        }
        keep_equal_blocks(call, change).await?;
        plan_computed(change)?;
        let planned = change.planned().cloned().unwrap_or_default();
        let (Ok(desired), Ok(database)) = (desired(&planned), database(call, &planned)) else { return Ok(()) };
        let doing = format!("planning publication {}", desired.name);
        check_version(change, &database, &doing, |version| desired.check_supported(version)).await
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let database = database(call, &state)?;
        let found = publication::fetch(&database, &ident(&state.name, "name")?).await?;
        Ok(found.map(|found| to_model(database.name(), &found, &state, &Filters::of(call.private()))))
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let database = database(call, &plan)?;
        let desired = desired(&plan)?;
        let doing = format!("creating publication {}", desired.name);
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
        let statements = publication::diff(None, Some(&desired), version)
            .map_err(|unsupported| database.unsupported(&doing, unsupported))?;
        apply(call, &database, &doing, &statements, &plan, &desired, saved).await
    }

    async fn update(call: &Call<Context>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let database = database(call, &prior)?;
        let name = ident(&prior.name, "name")?;
        let doing = format!("changing publication {name}");
        let current = call.unless_stopped(publication::fetch_now(&database, &name)).await.map_err(|error| error.during(&doing))?;
        if current.is_none() {
            saved.record_gone();
            return Err(Error::new(format!("{doing}: it is not there any more")).detail("The next plan will create it."));
        }
        let desired = with_known_filters(call, &database, desired(&plan)?, current.as_ref()).await?;
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
        let statements = publication::diff(current.as_ref(), Some(&desired), version)
            .map_err(|unsupported| database.unsupported(&doing, unsupported))?;
        apply(call, &database, &doing, &statements, &plan, &desired, saved).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let database = database(call, &prior)?;
        let name = ident(&prior.name, "name")?;
        let doing = format!("dropping publication {name}");
        let dropped = database.run_within(&doing, &[publication::drop_publication(&name)], &limits(call)).await;
        match dropped {
            Err(error) if !error.is(&SqlState::UNDEFINED_OBJECT) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        let id = ObjectId::of_import(id, call.context(), Side::Publisher)?;
        Ok(Model {
            id: id.to_string().into(),
            name: id.name.into(),
            database: id.database.into(),
            ..Model::default()
        })
    }
}

fn schema() -> Schema {
    let operations = Operation::ALL.map(Operation::as_str);
    let all_operations = Value::Set(operations.iter().map(|name| Value::from(*name)).collect());
    Schema::new(
        "A publication: which tables are published, and how. Every change but that of `database` is made in place, in one \
         transaction, so that a running subscription never sees the publication missing.",
    )
    .attribute(
        Attribute::required("name", Type::String, "The name. Renamed in place.").text(object_id::check_name),
    )
    .attribute(
        Attribute::optional_computed(
            "database",
            Type::String,
            "The database that it is made in. Default: the provider's publisher database. A change makes a new publication.",
        )
        .text(object_id::check_name)
        .replaces(),
    )
    .attribute(
        Attribute::optional(
            "tables",
            Type::set(Type::String),
            "Whole tables, as `schema.table`; without a schema, `public` is meant. A part that holds a dot or a double \
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
            "Whether changes of partitions are published as changes of the partitioned table. Default: `false`.",
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
        Attribute::optional_computed("owner", Type::String, "The role that owns it. Default: the one that creates it.")
            .text(object_id::check_name),
    )
    .attribute(Attribute::computed("id", Type::String, "`database/name`, by which it is imported.").stable())
    .attribute(
        Attribute::computed(
            "fingerprint",
            Type::String,
            "A hash of what is published, whatever the name and the owner. Feed it to a subscription's `refresh_triggers`.",
        )
        .stable(),
    )
    .block(NestedBlock::list(
        "table",
        Block::new("A table of which only some columns or rows are published (Postgres 15). Any number of blocks.")
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
                        Err("It is empty. Name a column, or leave `columns` out to publish all of them.".to_owned())
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
    let remedy = "Write \"schema.table\", or \"table\" for one of schema public.";
    QualifiedName::parse(text).map(|_| ()).map_err(|error| format!("{error}. {remedy}"))
}

/// What can be published together.
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

/// The same table twice, in any spelling.
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

fn block_path(at: usize) -> AttributePath {
    AttributePath::of("table").index(at)
}

/// What follows from the other attributes once they are known.
fn plan_computed(change: &mut PlannedChange<Model>) -> Result<()> {
    let Some(planned) = change.planned() else { return Ok(()) };
    let id = match (planned.database.known(), planned.name.known()) {
        (Some(database), Some(name)) => Attr::Known(ObjectId::new(database, name).to_string()),
        _ => Attr::Unknown,
    };
    let fingerprint = match desired(planned) {
        Ok(desired) => Attr::Known(desired.fingerprint()),
        Err(_) => Attr::Unknown,
    };
    change.set("id", id)?;
    change.set("fingerprint", fingerprint)
}

/// Keeps the state's spelling of tables that are the same.
fn keep_equal_tables(change: &mut PlannedChange<Model>) -> Result<()> {
    let (Some(prior), Some(planned)) = (change.prior(), change.planned()) else { return Ok(()) };
    let parsed = |tables: &Attr<BTreeSet<String>>| -> Option<BTreeSet<QualifiedName>> {
        tables.known()?.iter().map(|text| QualifiedName::parse(text).ok()).collect()
    };
    match (parsed(&prior.tables), parsed(&planned.tables)) {
        (Some(old), Some(new)) if old == new => change.keep("tables"),
        _ => Ok(()),
    }
}

/// Keeps the state's spelling of `table` blocks where all of them, in any order, mean what the server has.
async fn keep_equal_blocks(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let (Some(prior), Some(planned)) = (change.prior(), change.planned()) else { return Ok(()) };
    let (Attr::Known(old), Attr::Known(new)) = (&prior.table, &planned.table) else { return Ok(()) };
    if old == new || !may_stand_for(old, new) || call.context().is_waiting(Side::Publisher) {
        return Ok(());
    }
    let (Some(old), Some(new)) = (by_name(old), by_name(new)) else { return Ok(()) };
    if !old.keys().eq(new.keys()) {
        return Ok(());
    }
    let database = database(call, prior)?;
    for ((name, old), new) in old.iter().zip(new.values()) {
        if !means_the_same(call, &database, name, old, new).await? {
            return Ok(());
        }
    }
    change.keep("table")
}

/// Whether a core takes the old blocks in the place of the new: for a value that is set it takes another, for none it
/// takes none.
fn may_stand_for(old: &[Table], new: &[Table]) -> bool {
    let alike = |(old, new): (&Table, &Table)| {
        old.columns.is_null() == new.columns.is_null() && old.r#where.is_null() == new.r#where.is_null()
    };
    old.len() == new.len() && old.iter().zip(new).all(alike)
}

fn by_name(blocks: &[Table]) -> Option<BTreeMap<QualifiedName, Table>> {
    blocks.iter().map(|block| Some((QualifiedName::parse(block.name.known()?).ok()?, block.clone()))).collect()
}

/// Whether two blocks of one table publish the same. What the server cannot print, it will refuse when it is applied.
async fn means_the_same(
    call: &Call<Context>,
    database: &Database,
    table: &QualifiedName,
    old: &Table,
    new: &Table,
) -> Result<bool> {
    if old.columns != new.columns {
        return Ok(false);
    }
    match (&old.r#where, &new.r#where) {
        (old, new) if old == new => Ok(true),
        (Attr::Known(old), Attr::Known(new)) => {
            let filters = Filters::of(call.private());
            let Ok(filter) = RowFilter::new(new) else { return Ok(false) };
            let old = filters.canonical(table, old).unwrap_or(old).to_owned();
            match publication::canonical_filter(database, table, &filter).await {
                Ok(canonical) => Ok(canonical == old),
                Err(error) if error.code().is_some() && !error.is_connect() => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        _ => Ok(false),
    }
}

/// The object's database: the state's or plan's own, or the configured one.
fn database(call: &Call<Context>, model: &Model) -> Result<Database> {
    call.context().database(Side::Publisher, model.database.known().map(String::as_str))
}

fn limits(call: &Call<Context>) -> Limits {
    Limits::within(CHANGE_TIME).cancelled_by(call.stop().clone())
}

fn ident(attribute: &Attr<String>, name: &str) -> Result<Ident> {
    to_ident(attribute.required(name)?, name)
}

fn to_ident(text: &str, attribute: &str) -> Result<Ident> {
    Ident::new(text).map_err(|error| Error::new(error.to_string()).attribute(attribute))
}

/// The publication that a wholly known model describes.
fn desired(model: &Model) -> Result<Desired> {
    let mut desired = Desired::new(ident(&model.name, "name")?, target(model)?);
    // A computed owner is not known before it is made, and is nobody in particular.
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
    let filter = filter.map(|text| RowFilter::new(text).map_err(|error| Error::new(error.to_string()).attribute("where")));
    Ok((name, TableSpec { columns: columns.transpose()?, filter: filter.transpose()? }))
}

/// Adds the server's printing to filters that stand beside one of the same table, so that equal ones compare equal.
async fn with_known_filters(
    call: &Call<Context>,
    database: &Database,
    mut desired: Desired,
    current: Option<&Desired>,
) -> Result<Desired> {
    let Some(Target::Lists { tables: old, .. }) = current.map(|current| &current.target) else { return Ok(desired) };
    let filters = Filters::of(call.private());
    if let Target::Lists { tables, .. } = &mut desired.target {
        for (table, spec) in tables {
            let filtered = old.get(table).is_some_and(|old| old.filter.is_some());
            let Some(filter) = spec.filter.take() else { continue };
            let canonical = match filters.canonical(table, filter.text()) {
                Some(known) => Some(known.to_owned()),
                None if filtered => Some(publication::canonical_filter(database, table, &filter).await?),
                None => None,
            };
            spec.filter = Some(match canonical {
                Some(canonical) => filter.with_canonical(canonical),
                None => filter,
            });
        }
    }
    Ok(desired)
}

/// Runs the statements, and returns what the server then has.
async fn apply(
    call: &Call<Context>,
    database: &Database,
    doing: &str,
    statements: &[crate::postgres::Statement],
    plan: &Model,
    desired: &Desired,
    saved: &Saved<Model>,
) -> Result<Model> {
    let result = publication::apply(database, doing, statements, &desired.name, &limits(call)).await;
    let (notices, found) = match result {
        Ok(done) => done,
        Err(error) => {
            // The connection may have broken after the commit: what exists must be in the state.
            if error.is_lost()
                && let Ok(Some(found)) = publication::fetch_now(database, &desired.name).await
            {
                saved.record(&to_model(database.name(), &found, plan, &Filters::of(call.private())));
            }
            let exists = error.is(&SqlState::DUPLICATE_OBJECT);
            let shown = Error::from(error);
            return Err(if exists { shown.detail(ObjectId::import_hint(&plan.id)) } else { shown });
        }
    };
    warn(call, doing, &notices);
    let found = found.ok_or_else(|| Error::new(format!("{doing}: it was gone right after")))?;
    let filters = Filters::between(desired, &found);
    filters.store(call.private());
    Ok(to_model(database.name(), &found, plan, &filters))
}

fn warn(call: &Call<Context>, doing: &str, notices: &[Notice]) {
    for notice in notices.iter().filter(|notice| notice.is_warning()) {
        call.warn(Error::new(format!("{doing}: {}", notice.message)).detail(notice.hint.as_deref().unwrap_or_default()));
    }
}
