// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_destination_indexes`: indexes, foreign keys and extended statistics of the subscriber's tables, created
//! after the copy.

mod model;

use std::collections::BTreeSet;
use std::time::Duration;

use self::model::{Model, schema, subscriptions, to_model, wished};
use super::destination_tables::{
    self, go_on_without, is_waiting, name, pair, plan_publisher_database, with_id, with_names,
};
use super::object_id;
use crate::config::{Context, building};
use crate::postgres::definition::Freshness;
use crate::postgres::{Ident, Limits, QualifiedName};
use crate::replication::destination::building::{Analyze, Event, Look, Seen, build, look as look_at, wait_for_copies};
use crate::replication::destination::published;
use crate::replication::status;
use crate::replication::{self, Operation, Pair};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::timeouts::timeout;
use crate::tf_provider::value::Value;

/// How long operations may take by default.
const TIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The attributes that are known only after apply, if something is created.
const FOUND: [&str; 4] = ["indexes", "foreign_keys", "statistics", "seconds"];

/// The resource.
pub(super) struct DestinationIndexes;

impl Resource for DestinationIndexes {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_destination_indexes";

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
            return Ok(());
        }
        object_id::plan_database(call.context(), change)?;
        plan_publisher_database(call, change)?;
        let planned = change.planned().cloned().unwrap_or_default();
        warn_of_parallel(call, &planned);
        let (Ok(wished), false) = (wished(&planned), is_waiting(call)) else { return Ok(()) };
        let doing = format!("planning the indexes of database {:?}", pair(call, &planned)?.subscriber.name());
        let looked = Box::pin(foresee(call, &planned, &wished));
        let look = match call.unless_stopped(async { Ok::<_, Error>(looked.await) }).await? {
            Ok(Some(look)) => look,
            Ok(None) => return Ok(()),
            Err(error) => return go_on_without(change, error, &doing),
        };
        plan_what_is_done(change, &look, &doing)
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let state = with_names(call, state)?;
        let (pair, wished) = (pair(call, &state)?, wished(&state)?);
        let look = match Box::pin(look(&pair, &wished, Freshness::Plan)).await {
            Ok(look) => look,
            Err(error) if state.indexes.known().is_some() => {
                let what =
                    format!("reading the indexes of database {:?}: they could not be compared", pair.subscriber.name());
                call.warn(Error::new(what).detail(error.to_string()).detail("The state is kept as it was."));
                return Ok(Some(state));
            }
            Err(error) => return Err(error.into()),
        };
        if look.tables.is_empty() && !look.absent.is_empty() {
            return Ok(None);
        }
        Ok(Some(to_model(&look.there(), &state)))
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, TIME);
        Box::pin(apply(call, plan, None, time, saved)).await
    }

    async fn update(call: &Call<Context>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, TIME);
        Box::pin(apply(call, plan, Some(&prior), time, saved)).await
    }

    async fn delete(_call: &Call<Context>, _prior: Model, _saved: &Saved<Model>) -> Result<()> {
        Ok(())
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        object_id::imported(call.context(), id)
    }
}

/// Publications and tables.
type Wished = (BTreeSet<Ident>, BTreeSet<QualifiedName>);

/// Reads the current state of both sides.
async fn look(pair: &Pair, (publications, tables): &Wished, freshness: Freshness) -> replication::Result<Look> {
    // Without pending plans, the published tables are always known.
    let published = published(pair, (publications, tables), None).await?.unwrap_or_default();
    look_at(pair, &published, Seen::Now, freshness).await
}

/// The planned state of both sides. None while that is not known.
async fn foresee(
    call: &Call<Context>,
    planned: &Model,
    (publications, tables): &Wished,
) -> Result<Option<Look>, replication::Error> {
    let Ok(pair) = pair(call, planned) else { return Ok(None) };
    match published(&pair, (publications, tables), Some(call.context().intended())).await? {
        Some(published) => look_at(&pair, &published, Seen::Planned, Freshness::Plan).await.map(Some),
        None => Ok(None),
    }
}

/// Plans the attributes that follow from both sides.
fn plan_what_is_done(change: &mut PlannedChange<Model>, look: &Look, doing: &str) -> Result<()> {
    let is_new = change.prior().is_none() || change.replaces();
    if let Some(error) = look.refusal(doing) {
        change.error(error.into());
    }
    if let Some(warning) = look.objection(doing) {
        change.warn(warning.into());
    }
    if let Some(warning) = look.announcement("apply") {
        change.warn(warning.into());
    }
    if is_new || change.changes() || !look.is_done() {
        FOUND.iter().try_for_each(|name| change.set_unknown(name))?;
    }
    Ok(())
}

/// Warns if the provider may not open as many connections.
fn warn_of_parallel(call: &Call<Context>, planned: &Model) {
    let Ok(server) = call.context().subscriber().server() else { return };
    let most = building::at_a_time(server.config().max_connections);
    if planned.parallel.known().is_some_and(|parallel| usize::try_from(*parallel).is_ok_and(|wanted| wanted > most)) {
        let what = format!("{most} at a time are built at most");
        let why = "At most half of the connections to a server are used for long work. To allow more, raise \
            max_connections in the provider's subscriber block.";
        call.warn(Error::new(what).detail(why).attribute("parallel"));
    }
}

async fn apply(
    call: &Call<Context>,
    plan: Model,
    prior: Option<&Model>,
    time: Duration,
    saved: &Saved<Model>,
) -> Result<Model> {
    let (pair, wished) = (pair(call, &plan)?, wished(&plan)?);
    let limits = Limits::within(time).cancelled_by(call.stop().clone());
    let pair = pair.within(&limits);
    let doing = format!("building the indexes of database {:?}", pair.subscriber.name());
    let operation = Operation::new(doing.as_str(), limits, call);
    let plan = with_id(Model {
        name: name(&plan.publications, &plan.tables),
        publisher_database: pair.publisher.name().into(),
        database: pair.subscriber.name().into(),
        seconds: prior.and_then(|prior| prior.seconds.known().copied()).unwrap_or_default().into(),
        ..plan
    });
    let subscriptions = subscriptions(&plan)?;
    let copied = wait_for_copies(&operation, &pair, &subscriptions, &log);
    Box::pin(copied).await.map_err(|error| error.during(&doing))?;
    let is_all = plan.analyze.known() != Some(&false);
    let analyzes = match prior {
        _ if !is_all => Analyze::None,
        Some(_) => Analyze::Changed,
        None => Analyze::All,
    };
    let look_now = || async {
        let looked = operation.unless_stopped(look(&pair, &wished, Freshness::Now));
        looked.await.map_err(|error| error.during(&doing))
    };
    let first = Box::pin(look_now()).await?;
    if let Some(warning) = first.objection(&doing) {
        call.warn(warning.into());
    }
    let most = pair.subscriber.config().max_connections;
    let how = building::how(&plan.parallel, &plan.maintenance_work_mem, most, analyzes);
    let built = Box::pin(build(&operation, &pair, &first, &how, &log)).await;
    // Everything created so far is kept, even after an error.
    let after = Box::pin(look(&pair, &wished, Freshness::Now)).await;
    if let Ok(after) = &after {
        saved.record(&to_model(&after.there(), &plan));
    }
    let (built, after) = (built?, after?);
    if let Some(error) = after.unproven(&doing) {
        return Err(error.into());
    }
    let seconds = i64::try_from(built.took.as_secs()).unwrap_or(i64::MAX);
    Ok(to_model(&after.there(), &Model { seconds: seconds.into(), ..plan }))
}

/// Logs the progress.
fn log(event: &Event<'_>) {
    match event {
        Event::Copying(statuses) => status::log(statuses),
        event => {
            if let Some(line) = event.line() {
                tracing::info!("{line}");
            }
        }
    }
}
