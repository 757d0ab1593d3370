// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_publication`: which tables of the publisher are published, and how.

mod checks;
mod model;
mod read;
mod rights;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::model::{Model, Table, desired, ident, schema};
use self::read::{Filters, to_model};
use super::moved;
use super::object_id::{self, ObjectId};
use super::server_check::report;
use crate::config::Context;
use crate::postgres::publication::{self, Publication as Desired, RowFilter, Target};
use crate::postgres::{self, Database, Ident, Limits, Notice, QualifiedName, SqlState, Statement, look_again};
use crate::replication::{Operation, in_use, lost, users};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, MoveSource, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::value::Value;

/// How long the statements of one change may take, including waits for locks.
const CHANGE_TIME: Duration = Duration::from_secs(300);

/// The resource.
pub(super) struct Publication;

impl Resource for Publication {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_publication";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("The publication's name."))
    }

    fn identify(context: Option<&Context>, state: &Model, stored: &Value) -> Value {
        object_id::identify(context, state, stored)
    }

    fn upgrade_identity(context: Option<&Context>, version: u64, identity: Value) -> Result<Value> {
        object_id::upgrade_identity::<Model>(context, version, identity)
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        model::validate(config, diagnostics);
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        keep_equal_tables(change)?;
        plan_computed(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_none() || !change.changes() {
            return Ok(());
        }
        object_id::plan_database(call.context(), change)?;
        keep_equal_blocks(call, change).await?;
        plan_computed(change)?;
        let planned = change.planned().cloned().unwrap_or_default();
        if call.context().publisher().is_waiting() {
            return Ok(());
        }
        let database = database(call, &planned)?;
        let Ok(desired) = desired(&planned) else {
            if let Ok(name) = ident(&planned.name, "name") {
                call.context().intended().publication(&database, &name, None);
            }
            return Ok(());
        };
        let doing = format!("planning publication {}", desired.name);
        call.context().intended().publication(&database, &desired.name, Some(desired.clone()));
        call.unless_stopped(Box::pin(announce(call, change, &database, &desired))).await?;
        let check = checks::check(change, &database, &doing, &desired, call.context().intended());
        call.unless_stopped(Box::pin(check)).await
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let database = database(call, &state)?;
        let name = ident(&state.name, "name")?;
        let found = match publication::fetch(&database, &name).await {
            // A state that was just imported has no values to keep.
            Err(error) if error.is_locked() && state.fingerprint.known().is_some() => {
                let what = "Whether it was changed is not known, so the state is kept as it was.";
                call.warn(unchecked(&format!("reading publication {name}"), what, &error));
                return Ok(Some(state));
            }
            found => found?,
        };
        Ok(found.map(|found| to_model(database.name(), &found, &state, &Filters::of(call.private()))))
    }

    async fn create(call: &Call<Context>, plan: Model, _saved: &Saved<Model>) -> Result<Model> {
        let database = database(call, &plan)?.within(&Limits::within(CHANGE_TIME));
        let desired = desired(&plan)?;
        let doing = format!("creating publication {}", desired.name);
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
        let statements = publication::diff(None, Some(&desired), version)
            .map_err(|unsupported| database.unsupported(&doing, unsupported))?;
        make(call, &database, &doing, statements, &plan, &desired).await
    }

    async fn update(call: &Call<Context>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        // Reads for a change wait for locks like the change itself.
        let database = database(call, &prior)?.within(&Limits::within(CHANGE_TIME));
        let name = ident(&prior.name, "name")?;
        let doing = format!("changing publication {name}");
        let current = call
            .unless_stopped(publication::fetch_now(&database, &name))
            .await
            .map_err(|error| error.during(&doing))?;
        let Some(mut current) = current else {
            saved.record_gone();
            return Err(Error::new(format!("{doing}: it no longer exists")).detail("The next plan will create it."));
        };
        let desired = with_known_filters(call, &database, desired(&plan)?, Some(&current)).await?;
        check_again(call, &database, &doing, Some(&current), &desired).await?;
        if current.name != desired.name {
            let subscriber = call.context().subscriber().server().ok();
            let users = users::users(&database, subscriber, &current.name).await?;
            if in_use::is_led_over(&database, &current.name, &desired.name, &users).await? {
                let renaming = format!("renaming publication {} to {}", current.name, desired.name);
                let operation = Operation::new(renaming, limits(call), call);
                let renamed = in_use::rename(&operation, &database, subscriber, &current, &desired.name, &users);
                current = Box::pin(renamed).await?;
                saved.record(&to_model(database.name(), &current, &prior, &Filters::of(call.private())));
                // The change may have waited long.
                check_again(call, &database, &doing, Some(&current), &desired).await?;
            }
        }
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
        let statements = publication::diff(Some(&current), Some(&desired), version)
            .map_err(|unsupported| database.unsupported(&doing, unsupported))?;
        apply(call, &database, &doing, &statements, &plan, &desired).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let database = database(call, &prior)?;
        let name = ident(&prior.name, "name")?;
        let doing = format!("dropping publication {name}");
        let is_forced = prior.force_destroy.known() == Some(&true);
        if drop_unused(call, &database, &name, is_forced).await? {
            return Ok(());
        }
        // The remains of an interrupted renaming are dropped too.
        let left = call.unless_stopped(publication::successors(&database, &name)).await;
        for name in left.map_err(|error| error.during(&doing))?.iter().chain([&name]) {
            drop_one(call, &database, name, is_forced).await?;
        }
        Ok(())
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        object_id::imported(call.context(), id)
    }

    fn move_from(source: &MoveSource) -> Option<Result<Model>> {
        moved::moved(source, "postgresql_publication")
    }
}

/// Drops a publication if the database seems to have no reader. In the same round trip, the server itself checks this,
/// and that there are no remains of an interrupted renaming. Returns whether it was dropped.
async fn drop_unused(call: &Call<Context>, database: &Database, name: &Ident, is_forced: bool) -> Result<bool> {
    let mut guards = vec![publication::unless_succeeded(name)];
    if !is_forced {
        let doing = format!("dropping publication {name}");
        let readers = call.unless_stopped(publication::readers(database)).await;
        if !readers.map_err(|error| error.during(&doing))?.is_empty() {
            return Ok(false);
        }
        guards.push(publication::unless_read());
    }
    drop_guarded(call, database, guards, name).await
}

/// Drops one publication, unless it is in use.
async fn drop_one(call: &Call<Context>, database: &Database, name: &Ident, is_forced: bool) -> Result<()> {
    if !is_forced {
        let doing = format!("dropping publication {name}");
        let subscriber = call.context().subscriber().server().ok();
        let stop = Limits::default().cancelled_by(call.stop().clone());
        let operation = Operation::new(doing.as_str(), stop, call);
        in_use::refuse_to_drop(&operation, database, subscriber, name).await?;
    }
    drop_guarded(call, database, Vec::new(), name).await.map(drop)
}

/// Drops one publication in one transaction with the statements that guard it. Returns whether these let it.
async fn drop_guarded(call: &Call<Context>, database: &Database, guards: Vec<Statement>, name: &Ident) -> Result<bool> {
    let limits = limits(call);
    match publication::drop(database, &format!("dropping publication {name}"), guards, name, &limits).await {
        Ok(_) => Ok(true),
        Err(error) if error.is(&SqlState::DIVISION_BY_ZERO) => Ok(false),
        Err(error) if error.is_lost() => {
            let found = look_again(&limits, || publication::fetch_now(database, name)).await;
            if matches!(found, Some(None)) { Ok(true) } else { Err(lost::explain(error, found.as_ref()).into()) }
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows in the plan the effect of the change on readers of the publication.
async fn announce(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    publisher: &Database,
    new: &Desired,
) -> Result<()> {
    let old = match change.prior().filter(|_| !change.replaces()).map(desired) {
        Some(Ok(old)) => Some(old),
        Some(Err(_)) => return Ok(()),
        None => None,
    };
    let subscriber = call.context().subscriber().server().ok();
    match in_use::outlook(publisher, subscriber, old.as_ref(), new, call.context().intended()).await {
        Ok(objections) => report(change, objections),
        // A server that does not exist yet is no reason to refuse a new object; other checks report its answers and
        // what was not checked.
        Err(cause) if old.is_none() => tracing::info!(%cause, "which subscriptions use the publication is not known"),
        Err(error) => match error.cause().filter(|cause| cause.is_locked()) {
            Some(cause) => {
                let what = "Whether its subscribers can go on was not checked.";
                change.warn(unchecked(&format!("planning publication {}", new.name), what, cause));
            }
            None => return Err(error.into()),
        },
    }
    Ok(())
}

/// Repeats the plan's checks.
async fn check_again(
    call: &Call<Context>,
    publisher: &Database,
    doing: &str,
    old: Option<&Desired>,
    new: &Desired,
) -> Result<()> {
    let subscriber = call.context().subscriber().server().ok();
    let operation = Operation::new(doing, limits(call), call);
    Ok(in_use::refuse(&operation, publisher, subscriber, old, new).await?)
}

/// Plans the attributes that follow from others once these are known.
fn plan_computed(change: &mut PlannedChange<Model>) -> Result<()> {
    object_id::plan_id(change)?;
    let Some(planned) = change.planned() else { return Ok(()) };
    let fingerprint = match desired(planned) {
        Ok(desired) => Attr::Known(desired.fingerprint()),
        Err(_) => Attr::Unknown,
    };
    change.set("fingerprint", fingerprint)
}

/// Keeps the state's spelling of equal tables.
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

/// Keeps the state's spelling of `table` blocks if all of them, in any order, mean the same as on the server.
async fn keep_equal_blocks(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let (Some(prior), Some(planned)) = (change.prior(), change.planned()) else { return Ok(()) };
    let (Attr::Known(old), Attr::Known(new)) = (&prior.table, &planned.table) else { return Ok(()) };
    if old == new || !may_stand_for(old, new) || call.context().publisher().is_waiting() {
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

/// Whether Terraform and OpenTofu accept the old blocks instead of the new: another value is accepted if one is set,
/// but none if it is null.
fn may_stand_for(old: &[Table], new: &[Table]) -> bool {
    let alike = |(old, new): (&Table, &Table)| {
        old.columns.is_null() == new.columns.is_null() && old.r#where.is_null() == new.r#where.is_null()
    };
    old.len() == new.len() && old.iter().zip(new).all(alike)
}

fn by_name(blocks: &[Table]) -> Option<BTreeMap<QualifiedName, Table>> {
    blocks.iter().map(|block| Some((QualifiedName::parse(block.name.known()?).ok()?, block.clone()))).collect()
}

/// Whether two blocks of one table publish the same. If the server cannot print a filter, it will refuse it in the
/// apply.
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
                Err(error) if error.is_locked() => {
                    let what = "Whether the row filter only differs in spelling is not known, so the plan shows it \
                         as a change.";
                    call.warn(unchecked(&format!("comparing the row filters of {}", table.to_text()), what, &error));
                    Ok(false)
                }
                Err(error) if error.code().is_some() && !error.is_connect() => Ok(false),
                Err(error) => Err(error.into()),
            }
        }
        _ => Ok(false),
    }
}

/// The warning about what is unknown because a table is locked.
fn unchecked(doing: &str, what: &str, error: &postgres::Error) -> Error {
    let warning = Error::new(format!("{doing}: another session has locked a table")).detail(what);
    warning.detail(error.hint().unwrap_or_default())
}

/// The object's database: the state's or plan's own, or the configured one.
fn database(call: &Call<Context>, model: &Model) -> Result<Database> {
    object_id::database(call.context(), model)
}

fn limits(call: &Call<Context>) -> Limits {
    Limits::within(CHANGE_TIME).cancelled_by(call.stop().clone())
}

/// Adds the server's printed form to filters that are compared with another one of the same table, so that equal
/// ones compare equal.
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

/// Creates a publication. If the database seems to have no reader, the server itself checks this in the same round
/// trip; otherwise, readers are checked first.
async fn make(
    call: &Call<Context>,
    database: &Database,
    doing: &str,
    mut statements: Vec<Statement>,
    plan: &Model,
    desired: &Desired,
) -> Result<Model> {
    if call.unless_stopped(publication::readers(database)).await.map_err(|error| error.during(doing))?.is_empty() {
        statements.insert(0, publication::unless_read());
        let made = publication::apply(database, doing, &statements, &desired.name, &limits(call)).await;
        if !made.as_ref().is_err_and(|error| error.is(&SqlState::DIVISION_BY_ZERO)) {
            return finish(call, database, doing, made, plan, desired).await;
        }
        statements.remove(0);
    }
    check_again(call, database, doing, None, desired).await?;
    apply(call, database, doing, &statements, plan, desired).await
}

/// Runs the statements, and returns the publication afterwards.
async fn apply(
    call: &Call<Context>,
    database: &Database,
    doing: &str,
    statements: &[Statement],
    plan: &Model,
    desired: &Desired,
) -> Result<Model> {
    let result = publication::apply(database, doing, statements, &desired.name, &limits(call)).await;
    finish(call, database, doing, result, plan, desired).await
}

/// The publication after statements were sent, whatever their result.
async fn finish(
    call: &Call<Context>,
    database: &Database,
    doing: &str,
    result: postgres::Result<(Vec<Notice>, Option<Desired>)>,
    plan: &Model,
    desired: &Desired,
) -> Result<Model> {
    let (notices, found) = match result {
        Ok(done) => done,
        Err(error) if error.is_lost() => {
            (Vec::new(), Some(after_loss(call, database, error, plan, desired, &limits(call)).await?))
        }
        Err(error) => {
            let exists = error.is(&SqlState::DUPLICATE_OBJECT);
            let shown = Error::from(error);
            return Err(if exists { shown.detail(ObjectId::import_hint(&plan.id)) } else { shown });
        }
    };
    warn(call, doing, &notices);
    let found = found.ok_or_else(|| Error::new(format!("{doing}: it disappeared right after")))?;
    let filters = Filters::between(desired, &found);
    filters.store(call.private());
    Ok(to_model(database.name(), &found, plan, &filters))
}

/// The publication after the connection broke, if it is the desired one. All was one transaction, so otherwise nothing
/// was done.
async fn after_loss(
    call: &Call<Context>,
    database: &Database,
    error: postgres::Error,
    plan: &Model,
    desired: &Desired,
    limits: &Limits,
) -> Result<Desired> {
    let found = look_again(limits, || publication::fetch_now(database, &desired.name)).await;
    let Some(Some(there)) = found else { return Err(lost::explain(error, found.as_ref()).into()) };
    let desired = with_known_filters(call, database, desired.clone(), Some(&there)).await?;
    let is_done = publication::diff(Some(&there), Some(&desired), database.version().await?);
    if is_done.is_ok_and(|left| left.is_empty()) {
        return Ok(there);
    }
    Err(lost::explain(error, Some(&there)).detail(ObjectId::import_hint(&plan.id)).into())
}

fn warn(call: &Call<Context>, doing: &str, notices: &[Notice]) {
    for notice in notices.iter().filter(|notice| notice.is_warning()) {
        call.warn(
            Error::new(format!("{doing}: {}", notice.message)).detail(notice.hint.as_deref().unwrap_or_default()),
        );
    }
}
