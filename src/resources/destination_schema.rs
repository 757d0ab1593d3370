// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_destination_schema`: the tables of the subscriber, as they are on the publisher.

mod model;

use std::time::Duration;

use self::model::{Model, schema, to_model, wish};
use super::destination_tables::{self, go_on_without, is_waiting, pair, plan_publisher_database, with_id, with_names};
use super::object_id;
use crate::config::Context;
use crate::postgres::Limits;
use crate::postgres::definition::{Freshness, Known, Object};
use crate::replication::destination::{self, Drop, Look, Outcome, Wish};
use crate::replication::{self, Operation, Pair, names};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::timeouts::timeout;
use crate::tf_provider::value::Value;

/// How long operations may take by default.
const CREATE_TIME: Duration = Duration::from_secs(20 * 60);
const UPDATE_TIME: Duration = Duration::from_secs(20 * 60);
const DELETE_TIME: Duration = Duration::from_secs(5 * 60);

/// The key in the private state for the objects that this resource created.
const MADE: &str = "made";

/// The key for which of the subscriber's columns matches which of the publisher's.
const COLUMNS: &str = "columns";

/// The attributes that are known only after apply, if something is changed.
const FOUND: [&str; 3] = ["differences", "not_copied", "later"];

/// The resource.
pub(super) struct DestinationSchema;

impl Resource for DestinationSchema {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_destination_schema";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("Its publications and tables, as in the attribute `name`."))
    }

    fn identify(context: Option<&Context>, state: &Model, stored: &Value) -> Value {
        object_id::identify(context, state, stored)
    }

    fn upgrade_identity(context: Option<&Context>, version: u64, identity: Value) -> Result<Value> {
        object_id::upgrade_identity::<Model>(context, version, identity)
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        destination_tables::validate(config, diagnostics);
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        destination_tables::plan_name(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        if change.planned().is_none() {
            if let Some(warning) = change.prior().and_then(|prior| nothing_to_drop(call, prior)) {
                change.warn(warning);
            }
            return Ok(());
        }
        object_id::plan_database(call.context(), change)?;
        plan_publisher_database(call, change)?;
        let planned = change.planned().cloned().unwrap_or_default();
        let known = if change.prior().is_none() || change.replaces() { Known::new() } else { known(call) };
        let (Ok(wish), false) = (wish(&planned, known), is_waiting(call)) else { return Ok(()) };
        let doing = format!("planning the tables of database {:?}", pair(call, &planned)?.subscriber.name());
        let looked = Box::pin(foresee(call, &planned, &wish));
        let look = match call.unless_stopped(async { Ok::<_, Error>(looked.await) }).await? {
            Ok(Some(look)) => look,
            Ok(None) => return Ok(()),
            Err(error) => return go_on_without(change, error, &doing),
        };
        if is_made(change, &wish) {
            call.context().intended().copies(&pair(call, &planned)?.subscriber, look.settled());
        }
        plan_what_is_done(change, &look, &wish, &doing)
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let state = with_names(call, state)?;
        let (pair, wish) = (pair(call, &state)?, wish(&state, known(call))?);
        let look = match Box::pin(look(&pair, &wish, Freshness::Plan)).await {
            Ok(look) => look,
            Err(error) if state.fingerprint.known().is_some() => {
                let what =
                    format!("reading the tables of database {:?}: they could not be compared", pair.subscriber.name());
                call.warn(Error::new(what).detail(error.to_string()).detail("The state is kept as it was."));
                return Ok(Some(state));
            }
            Err(error) => return Err(error.into()),
        };
        if look.there.is_empty() && !look.tables.is_empty() {
            return Ok(None);
        }
        // This also records columns that were added to both sides by hand.
        if look.plan.unlike().is_empty() {
            know(call, &look, &wish);
        }
        let model = to_model(&look, &state);
        // A resource that was just imported has no fingerprint yet, so it takes the current one.
        let fingerprint = state.fingerprint.into_known().unwrap_or(look.fingerprint);
        Ok(Some(Model { fingerprint: fingerprint.into(), ..model }))
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, CREATE_TIME);
        Box::pin(apply(call, plan, time, true, saved)).await
    }

    async fn update(call: &Call<Context>, _prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, UPDATE_TIME);
        Box::pin(apply(call, plan, time, false, saved)).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        if let Some(warning) = nothing_to_drop(call, &prior) {
            call.warn(warning);
        }
        let made = made_here(call);
        if prior.drop_on_destroy.known() != Some(&true) || made.is_empty() {
            return Ok(());
        }
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DELETE_TIME);
        let database = call.context().subscriber().database(prior.database.known().map(String::as_str))?;
        let limits = Limits::within(time).cancelled_by(call.stop().clone());
        let operation = Operation::new(format!("dropping the tables of database {:?}", database.name()), limits, call);
        if let Drop::Kept(held) = Box::pin(destination::drop_made(&operation, &database, &made)).await? {
            let what = format!("{}: they stay", operation.doing());
            let why =
                format!("These tables hold rows: {}. If they are not needed, drop them by hand.", names::tables(&held));
            call.warn(Error::new(what).detail(why).attribute("drop_on_destroy"));
        }
        Ok(())
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        object_id::imported(call.context(), id)
    }
}

/// Reads the current state of both sides.
async fn look(pair: &Pair, wish: &Wish, freshness: Freshness) -> replication::Result<Look> {
    // Without pending plans, the published tables are always known.
    let published = destination::published(pair, (&wish.publications, &wish.tables), None).await?.unwrap_or_default();
    destination::look(pair, &published, wish, freshness).await
}

/// The planned state of both sides. None while that is not known.
async fn foresee(call: &Call<Context>, planned: &Model, wish: &Wish) -> Result<Option<Look>, replication::Error> {
    let Ok(pair) = pair(call, planned) else { return Ok(None) };
    match destination::published(&pair, (&wish.publications, &wish.tables), Some(call.context().intended())).await? {
        Some(published) => destination::look(&pair, &published, wish, Freshness::Plan).await.map(Some),
        None => Ok(None),
    }
}

/// Whether an apply makes the subscriber like the publisher. With `report`, only a new configuration does.
fn is_made(change: &PlannedChange<Model>, wish: &Wish) -> bool {
    change.prior().is_none() || change.replaces() || wish.follows || change.changes()
}

/// Plans the attributes that follow from both sides.
fn plan_what_is_done(change: &mut PlannedChange<Model>, look: &Look, wish: &Wish, doing: &str) -> Result<()> {
    let plan = &look.plan;
    let is_new = change.prior().is_none() || change.replaces();
    let is_configured = change.changes();
    if !is_made(change, wish) {
        if let Some(warning) = plan.drift(doing) {
            change.warn(warning.into());
        }
        return Ok(());
    }
    if let Some(error) = plan.refusal(doing) {
        change.error(error.into());
    }
    match plan.objection(doing) {
        Some(error) if is_new => change.error(error.into()),
        Some(warning) => change.warn(warning.into()),
        None => {}
    }
    let is_due = !plan.is_done() || is_known_otherwise(change.prior(), look);
    if let Some(warning) = plan.announcement("apply") {
        change.warn(warning.into());
    }
    if is_new || is_configured || is_due {
        change.set("fingerprint", look.fingerprint.clone())?;
        FOUND.iter().try_for_each(|name| change.set_unknown(name))?;
    }
    Ok(())
}

/// Whether the publisher has changed since the last apply.
fn is_known_otherwise(prior: Option<&Model>, look: &Look) -> bool {
    prior.is_some_and(|prior| prior.fingerprint.known() != Some(&look.fingerprint))
}

async fn apply(call: &Call<Context>, plan: Model, time: Duration, is_new: bool, saved: &Saved<Model>) -> Result<Model> {
    // A new resource accepts the tables as they are: it has no record of earlier columns.
    let known = if is_new { Known::new() } else { known(call) };
    let (pair, wish) = (pair(call, &plan)?, wish(&plan, known)?);
    let limits = Limits::within(time).cancelled_by(call.stop().clone());
    let pair = pair.within(&limits);
    let doing = format!("making the tables of database {:?}", pair.subscriber.name());
    let operation = Operation::new(doing.as_str(), limits, call);
    let looked = operation.unless_stopped(look(&pair, &wish, Freshness::Now));
    let look = Box::pin(looked).await.map_err(|error| error.during(&doing))?;
    check_unchanged(&doing, &plan, &look)?;
    if let Some(error) = look.plan.objection(&doing).filter(|_| is_new) {
        return Err(error.into());
    }
    let wish = Wish { known: look.known_before(wish.known), ..wish };
    let Outcome { made, look } = Box::pin(destination::make(&operation, &pair, look, &wish)).await?;
    remember(call, made);
    know(call, &look, &wish);
    let model = Model {
        id: plan.id.clone(),
        publisher_database: pair.publisher.name().into(),
        database: pair.subscriber.name().into(),
        fingerprint: look.fingerprint.as_str().into(),
        ..to_model(&look, &plan)
    };
    let model = with_id(model);
    saved.record(&model);
    Ok(model)
}

/// Refuses to create objects that no plan has shown.
fn check_unchanged(doing: &str, plan: &Model, look: &Look) -> Result<()> {
    match plan.fingerprint.known() {
        Some(planned) if *planned != look.fingerprint => {
            Err(Error::new(format!("{doing}: the publisher's tables have been changed since the plan"))
                .detail("Nothing was changed. Plan again."))
        }
        _ => Ok(()),
    }
}

/// The recorded matches of columns.
fn known(call: &Call<Context>) -> Known {
    call.private().get(COLUMNS).and_then(|known| serde_json::from_value(known).ok()).unwrap_or_default()
}

/// Records which columns match, together with earlier records.
fn know(call: &Call<Context>, look: &Look, wish: &Wish) {
    if let Ok(known) = serde_json::to_value(look.known(&wish.known)) {
        call.private().set(COLUMNS, known);
    }
}

/// The objects that this resource created, in order.
fn made_here(call: &Call<Context>) -> Vec<Object> {
    call.private().get(MADE).and_then(|made| serde_json::from_value(made).ok()).unwrap_or_default()
}

/// The error if tables should be dropped but none is recorded as created by this resource.
fn nothing_to_drop(call: &Call<Context>, prior: &Model) -> Option<Error> {
    let is_asked = prior.drop_on_destroy.known() == Some(&true);
    (is_asked && made_here(call).is_empty()).then(|| {
        let why = "A destroy drops only what this resource created. After an import that is not known, so the \
            tables stay. If they are not needed, drop them by hand.";
        let database = prior.database.known().cloned().unwrap_or_default();
        let what = format!(
            "dropping the tables of database {database:?}: this resource is not known to have \
             created any"
        );
        Error::new(what).detail(why).attribute("drop_on_destroy")
    })
}

/// Records what was created, so that destroy can drop it.
fn remember(call: &Call<Context>, made: Vec<Object>) {
    let mut all = made_here(call);
    all.extend(made);
    if let Ok(all) = serde_json::to_value(all) {
        call.private().set(MADE, all);
    }
}
