// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_subscription`: a subscription of the subscriber to publications.

mod connection;
mod difference;
mod held;
mod lifecycle;
mod model;
mod outlook;
mod reasons;
mod replacement;
mod resending;
mod routes;
mod sent;
mod slot;
mod takeover;

use std::time::Duration;

use self::model::{Model, schema, to_desired};
use super::moved;
use super::object_id::{self, ObjectId};
use super::reaching::{Way, check_options};
use super::server_check::{check_version, go_on_without};
use crate::config::Context;
use crate::postgres::{Database, Ident, Limits, subscription};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, MoveSource, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::timeouts::timeout;
use crate::tf_provider::value::Value;

/// How long operations may take by default.
const CREATE_TIME: Duration = Duration::from_secs(20 * 60);
const UPDATE_TIME: Duration = CREATE_TIME;
const DELETE_TIME: Duration = Duration::from_secs(5 * 60);

/// The resource.
pub(super) struct Subscription;

impl Resource for Subscription {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_subscription";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("The subscription's name."))
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
        model::plan_computed(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_none() || !change.changes() {
            return Ok(());
        }
        object_id::plan_database(call.context(), change)?;
        let planned = change.planned().cloned().unwrap_or_default();
        Way::FORWARD.check_known(call.context(), &planned.publisher)?;
        let asked = outlook::ask(call, change, &planned).await?;
        let version = asked.as_ref().and_then(|asked| asked.as_ref().ok().copied());
        check_options(Way::FORWARD, &planned.publisher, version)?;
        if let Some(weaker) = Way::FORWARD.weaker_leg(call.context(), &planned.publisher, version) {
            change.warn(weaker);
        }
        if call.context().subscriber().is_waiting() {
            return match change.prior() {
                None => Way::FORWARD.check_login(call.context(), &change.config().publisher),
                Some(_) => Ok(()),
            };
        }
        let doing = outlook::doing(&planned);
        if let Some(Err(error)) = asked {
            let unchecked = "Whether the subscription can be created is only known when this is applied.";
            go_on_without(change, error, &doing, unchecked)?;
            return Way::FORWARD.check_login(call.context(), &change.config().publisher);
        }
        let existing = self::database(call, change.prior().unwrap_or(&planned))?;
        if (change.prior().is_none() || change.replaces())
            && let (Ok(name), Ok(place)) = (ident(&planned.name), self::database(call, &planned))
        {
            call.context().intended().subscription(&place, &name);
        }
        if held::preview(call, change, &existing).await? {
            return Ok(());
        }
        replacement::preview(call, change, &existing).await?;
        resending::preview(call, change, &existing).await?;
        slot::preview(call, change, &existing).await?;
        routes::preview(call, change, &existing).await?;
        let planned = change.planned().cloned().unwrap_or_default();
        let database = database(call, &planned)?;
        if let Ok(desired) = to_desired(&planned) {
            check_version(change, &database, &doing, |version| desired.options.check_supported(version)).await?;
        }
        Box::pin(outlook::preview(call, change, &database)).await
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let database = database(call, &state)?;
        let Some(found) = subscription::fetch(&database, &ident(&state.name)?).await? else { return Ok(None) };
        let mut state = state;
        takeover::take_over(call, &found, &mut state);
        let (model, publisher) = lifecycle::look_at(call, &database, &found, &state).await?;
        lifecycle::warn_of_trouble(call, (publisher.as_ref(), &database), &found, &model, false).await?;
        held::warn_of_left_behind(call, &database, &found).await?;
        Ok(Some(model))
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, CREATE_TIME);
        let limits = limits(call, time);
        // Reads for a change wait for locks like the change itself.
        let database = database(call, &plan)?.within(&limits);
        lifecycle::create(call, &database, plan, saved, &limits).await
    }

    async fn update(call: &Call<Context>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, UPDATE_TIME);
        let limits = limits(call, time);
        let database = database(call, &prior)?.within(&limits);
        lifecycle::update(call, &database, &prior, plan, saved, &limits).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DELETE_TIME);
        let limits = limits(call, time);
        let database = database(call, &prior)?.within(&limits);
        lifecycle::delete(call, &database, &prior, &limits).await
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        object_id::imported(call.context(), id).map(model::with_defaults)
    }

    fn move_from(source: &MoveSource) -> Option<Result<Model>> {
        // No catalog stores it, so a difference would be planned.
        let without_slot = source.state.get("create_slot") == Some(&Value::Bool(false));
        let imported = |state| Model { create_slot: (!without_slot).into(), ..model::with_defaults(state) };
        moved::moved(source, "postgresql_subscription").map(|state| state.map(imported))
    }
}

/// The object's database: the state's or plan's own, or the configured one.
fn database(call: &Call<Context>, model: &Model) -> Result<Database> {
    object_id::database(call.context(), model)
}

fn limits(call: &Call<Context>, time: Duration) -> Limits {
    Limits::within(time).cancelled_by(call.stop().clone())
}

fn ident(name: &Attr<String>) -> Result<Ident> {
    model::to_ident(name.required("name")?, "name")
}

fn gone(doing: &str) -> Error {
    Error::new(format!("{doing}: it no longer exists")).detail("The next plan will create it.")
}
