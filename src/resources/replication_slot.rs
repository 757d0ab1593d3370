// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replication_slot`: a logical slot of the publisher, independent of any subscription.

mod model;
mod outlook;

use std::time::Duration;

use self::model::{Model, desired, schema, to_model};
use super::moved;
use super::object_id::{self, ObjectId};
use super::server_check::{check_version, report};
use crate::config::Context;
use crate::postgres::slot::{self, Home, Slot};
use crate::postgres::{self, Database, Ident, Limits, SqlState, look_again};
use crate::replication::slot_use::Subscriber;
use crate::replication::{Operation, cutover, lost, slot_failover, slot_removal};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::{ImportId, MoveSource, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::timeouts::timeout;
use crate::tf_provider::value::Value;

/// How long operations may take by default.
const CREATE_TIME: Duration = Duration::from_secs(5 * 60);
const UPDATE_TIME: Duration = Duration::from_secs(5 * 60);
const DELETE_TIME: Duration = Duration::from_secs(5 * 60);

/// The key in the private state for the slot's start: a later position shows that somebody has read from it.
const MADE_AT: &str = "made_at";

/// The resource.
pub(super) struct ReplicationSlot;

impl Resource for ReplicationSlot {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_replication_slot";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("The slot's name."))
    }

    fn identify(context: Option<&Context>, state: &Model, stored: &Value) -> Value {
        object_id::identify(context, state, stored)
    }

    fn upgrade_identity(context: Option<&Context>, version: u64, identity: Value) -> Result<Value> {
        object_id::upgrade_identity::<Model>(context, version, identity)
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        object_id::plan_id(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_none() || !change.changes() {
            return Ok(());
        }
        object_id::plan_database(call.context(), change)?;
        let planned = change.planned().cloned().unwrap_or_default();
        if call.context().publisher().is_waiting() {
            return Ok(());
        }
        let database = database(call, &planned)?;
        let Ok(desired) = desired(&planned) else { return Ok(()) };
        let doing = format!("planning replication slot {}", desired.name);
        if !check_version(change, &database, &doing, |version| desired.check_supported(version)).await? {
            return Ok(());
        }
        let outlook = Box::pin(outlook::outlook(call, change, &database));
        report(change, call.unless_stopped(outlook).await?);
        if change.prior().is_none() || change.replaces() {
            let foreseen = Box::pin(outlook::of_making(call, &database, &doing));
            report(change, call.unless_stopped(foreseen).await?);
            call.context().intended().slot(&database, &desired.name);
        }
        Ok(())
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let database = database(call, &state)?;
        let name = model::ident(&state)?;
        let found = slot::fetch(&database, &name).await?;
        if found.is_none() && is_dropped_by_cutover(call, &name).await {
            return Ok(Some(state));
        }
        if let Some(warning) = found.as_ref().and_then(unhealthy) {
            call.warn(warning);
        }
        Ok(found.map(|found| to_model(database.name(), &found, &state)))
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, CREATE_TIME);
        let database = database(call, &plan)?;
        let desired = desired(&plan)?;
        let doing = format!("creating replication slot {}", desired.name);
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
        let statement =
            slot::create(&desired, version).map_err(|unsupported| database.unsupported(&doing, unsupported))?;
        let limits = limits(call, time);
        slot::fetch_settled(&database, &doing, &desired.name, &limits).await?;
        if let Some(home) = call.unless_stopped(slot::home(&database, &desired.name)).await? {
            return Err(exists(&database, &doing, &home, &plan));
        }
        let found = match database.run_within(&doing, &[statement], &limits).await {
            Ok(_) => {
                // It exists, even if reading it fails.
                saved.record(&to_model(database.name(), &desired, &plan));
                slot::fetch_now(&database, &desired.name).await?
            }
            Err(error) => Some(after_failure(&database, &desired.name, &plan, error, &limits).await?),
        };
        let found = found.ok_or_else(|| Error::new(format!("{doing}: it disappeared right after")))?;
        if let Some(began) = &found.confirmed {
            call.private().set(MADE_AT, began.as_str().into());
        }
        Ok(to_model(database.name(), &found, &plan))
    }

    /// Only `failover` can be changed in place; other changes need a new slot.
    async fn update(call: &Call<Context>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let database = database(call, &prior)?;
        let name = model::ident(&prior)?;
        let found = call.unless_stopped(slot::fetch_now(&database, &name)).await?;
        let gone = || {
            saved.record_gone();
            Error::new(format!("changing replication slot {name}: it no longer exists"))
                .detail("The next plan will create it.")
        };
        let found = found.ok_or_else(gone)?;
        let Some(failover) = plan.failover.known().copied().filter(|failover| *failover != found.failover) else {
            return Ok(to_model(database.name(), &found, &plan));
        };
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, UPDATE_TIME);
        let limits = limits(call, time);
        let operation = Operation::new(format!("changing failover of replication slot {name}"), limits, call);
        Box::pin(slot_failover::change(&operation, &database, subscriber(call), &name, failover)).await?;
        let found = slot::fetch_now(&database, &name).await?.ok_or_else(gone)?;
        Ok(to_model(database.name(), &found, &plan))
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DELETE_TIME);
        let database = database(call, &prior)?;
        let name = model::ident(&prior)?;
        let operation = Operation::new(format!("dropping replication slot {name}"), limits(call, time), call);
        if prior.force_destroy.known() != Some(&true) {
            Box::pin(slot_removal::refuse_to_drop(&operation, &database, subscriber(call), &name)).await?;
        }
        Ok(slot_removal::drop_when_idle(&operation, &database, &name).await?)
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        object_id::imported(call.context(), id)
    }

    fn move_from(source: &MoveSource) -> Option<Result<Model>> {
        moved::moved(source, "postgresql_replication_slot")
    }
}

/// The object's database: the state's or plan's own, or the configured one.
fn database(call: &Call<Context>, model: &Model) -> Result<Database> {
    object_id::database(call.context(), model)
}

/// The server whose subscriptions may use the slot.
fn subscriber(call: &Call<Context>) -> Subscriber<'_> {
    let configured = call.context().subscriber();
    match configured.server() {
        Ok(server) => Subscriber::At(server),
        Err(_) if configured.is_waiting() => Subscriber::Later,
        Err(_) => Subscriber::None,
    }
}

/// The slot's start, if the provider created it.
fn made_at(call: &Call<Context>) -> Option<String> {
    call.private().get(MADE_AT)?.as_str().map(str::to_owned)
}

/// The problem of a slot that cannot be read from, or soon not any more.
fn unhealthy(found: &Slot) -> Option<Error> {
    let name = &found.name;
    if found.is_lost() {
        let why = match &found.invalidation {
            Some(reason) => format!("The server invalidated it: {reason}."),
            None => "It held back more WAL than the publisher's max_slot_wal_keep_size, or was invalidated for \
                 another reason."
                .to_owned(),
        };
        return Some(
            Error::new(format!("replication slot {name} has lost WAL that it needs: nothing can be read from it"))
                .detail(why)
                .detail(
                    "It must be replaced: apply with -replace and its address. Its reader must then start again \
                     from the beginning.",
                ),
        );
    }
    let is_ending = found.wal_status.as_deref() == Some("unreserved");
    is_ending.then(|| {
        Error::new(format!("replication slot {name} is about to lose WAL that it needs"))
            .detail(
                "It holds back more WAL than the publisher's max_slot_wal_keep_size. The next checkpoint may remove \
                 that WAL.",
            )
            .detail("Have its reader catch up, or raise max_slot_wal_keep_size on the publisher.")
    })
}

fn limits(call: &Call<Context>, time: Duration) -> Limits {
    Limits::within(time).cancelled_by(call.stop().clone())
}

/// Names are unique in a cluster: the existing slot may belong to another database.
fn exists(database: &Database, doing: &str, home: &Home, plan: &Model) -> Error {
    let error = Error::new(format!("{doing}: it already exists")).attribute("name");
    let elsewhere = match home {
        Home::Database(name) if name == database.name() => return error.detail(ObjectId::import_hint(&plan.id)),
        Home::Database(name) => format!("It belongs to database {name:?}."),
        Home::Cluster => "It is a physical slot.".to_owned(),
    };
    error.detail(elsewhere).detail("The name of a slot is unique on the whole server. Give this one another name.")
}

/// The slot if it was created although the connection broke; otherwise the error.
async fn after_failure(
    database: &Database,
    name: &Ident,
    plan: &Model,
    error: postgres::Error,
    limits: &Limits,
) -> Result<Slot> {
    if error.is_lost() {
        // It did not exist before.
        let found = look_again(limits, || slot::fetch_now(database, name)).await;
        let explained = lost::explain(error, found.as_ref());
        return found.flatten().ok_or_else(|| explained.into());
    }
    if error.is(&SqlState::DUPLICATE_OBJECT)
        && let Ok(Some(home)) = slot::home(database, name).await
    {
        return Err(exists(database, error.doing(), &home, plan));
    }
    Err(error.into())
}

/// Whether a cutover has dropped the slot of a subscription, and will create it again with the way back.
async fn is_dropped_by_cutover(call: &Call<Context>, name: &Ident) -> bool {
    let Ok(subscriber) = call.context().subscriber().database(None) else { return false };
    cutover::has_stopped_reader(&subscriber, name).await.unwrap_or_else(|cause| {
        tracing::info!(%cause, "whether a cutover has dropped the slot is not known");
        false
    })
}
