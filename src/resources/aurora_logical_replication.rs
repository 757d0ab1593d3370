//! `neonrepl_aurora_logical_replication`: the writer of an Aurora cluster runs with a logical WAL.

mod model;

use std::time::Duration;

use serde_json::Value as Json;

use self::model::{Model, on_destroy, planned_outcome, schema, to_desired, to_model};
use crate::aurora::logical_replication::{
    self as flow, Current, LogicalReplication, OnDestroy, Operation, Phase, Probe, ProbeError, Progress, Record,
    ServerSettings, Step,
};
use crate::aurora::wait::Waiter;
use crate::aurora::{self, Kind, Rds};
use crate::postgres::settings;
use crate::provider::{Context, Side};
use crate::tf_provider::call::{Call, Private, Saved};
use crate::tf_provider::convert::{Attr, FromValue};
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentityAttribute, IdentitySchema, Schema};
use crate::tf_provider::timeouts::{Timeouts, timeout};
use crate::tf_provider::value::Value;

/// How long an operation may take where the configuration does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// The key of the [`Record`] in the private state.
const RECORD: &str = "record";
/// The key in the private state that says: the last read found something to mend.
const MEND: &str = "mend";

/// The resource.
pub(super) struct AuroraLogicalReplication;

crate::model! {
    /// The identity.
    struct Identity {
        /// The cluster.
        cluster_identifier: Attr<String>,
    }
}

impl Resource for AuroraLogicalReplication {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_aurora_logical_replication";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        let attribute = IdentityAttribute {
            name: "cluster_identifier",
            description: "The cluster's identifier.",
            required_for_import: true,
        };
        Some(IdentitySchema { version: 0, attributes: vec![attribute] })
    }

    fn identify(state: &Model) -> Value {
        let cluster = state.cluster_identifier.known().map_or(Value::UNKNOWN, |name| Value::from(name.as_str()));
        Value::Map([("cluster_identifier".to_owned(), cluster)].into())
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        model::validate(config, diagnostics);
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        // What is to be made anew is asked for a second time, as a new object.
        if call.context().is_aws_waiting() || change.replaces() {
            return Ok(());
        }
        let mends = call.private().get(MEND) == Some(Json::Bool(true));
        match change.planned() {
            None => preview_destroy(call, change).await,
            Some(_) if !change.changes() && !mends => Ok(()),
            Some(_) => preview_apply(call, change).await,
        }
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        let desired = to_desired(&model::with_defaults(state.clone()), &Attr::Null)?;
        let Some(current) = look(call, &desired).await? else { return Ok(None) };
        let mut record = record(call.private());
        if call.private().get(RECORD).is_none() && desired.manage_parameter_group {
            record.adopt(&current);
            call.private().set(RECORD, Json::String(record.to_json()));
        }
        // What cannot be done is said when a change is planned; a refresh only shows what is.
        let mends = flow::steps(&current, &desired, &record).is_ok_and(|steps| steps.iter().any(Step::is_change));
        call.private().set(MEND, Json::Bool(mends));
        Ok(Some(to_model(&model::with_defaults(state), &current, &record)))
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, DEFAULT_TIMEOUT);
        let made = bring_about(call, plan.clone(), saved, time).await;
        let is_begun = call.private().get(RECORD).is_some();
        match made {
            Err(stopped) if is_begun && call.stop().is_cancelled() => {
                call.warn(go_on_later(&stopped));
                Ok(model::interrupted(&plan, &record(call.private())))
            }
            Err(failed) if is_begun => {
                call.warn(go_on_untainted());
                Err(failed)
            }
            made => made,
        }
    }

    async fn update(call: &Call<Context>, _prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, DEFAULT_TIMEOUT);
        bring_about(call, plan, saved, time).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let desired = to_desired(&prior, &Attr::Null)?;
        let OnDestroy::GiveBack(reboot) = on_destroy(&prior, desired.reboot) else {
            return Ok(());
        };
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DEFAULT_TIMEOUT);
        let probe = probe(call.context());
        let operation = operation(call, probe.as_ref(), time)?;
        let record = record(call.private());
        flow::destroy(&operation, &desired, &record, reboot, &mut |progress: Progress<'_>| log(&progress)).await?;
        Ok(())
    }

    async fn import(_call: &Call<Context>, id: ImportId) -> Result<Model> {
        let cluster = match id {
            ImportId::Id(text) => text,
            ImportId::Identity(value) => {
                Identity::from_value(value)?.cluster_identifier.required("cluster_identifier")?.clone()
            }
        };
        Ok(model::with_defaults(Model { cluster_identifier: cluster.into(), ..Model::default() }))
    }
}

/// Whatever is not there yet may be by the time of the apply; for a new object, that is no failure.
async fn preview_apply(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let asked = &change.config().parameter_group_name;
    let Some(Ok(desired)) = change.planned().map(|planned| to_desired(planned, asked)) else { return Ok(()) };
    match look(call, &desired).await {
        Ok(Some(current)) => plan_steps(call, change, &current, &desired),
        Ok(None) if change.prior().is_none() => {
            change.warn(missing(&desired.cluster).detail("It must exist by the time this is applied."));
            Ok(())
        }
        Ok(None) => Err(missing(&desired.cluster)),
        Err(error) if change.prior().is_none() => {
            let summary =
                format!("the cluster {:?} could not be read, so the steps are not known yet", desired.cluster);
            change.warn(Error::new(summary).detail(error.to_string()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Shows what a destroy would do. What cannot be read is for the destroy itself to report.
async fn preview_destroy(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let Some(prior) = change.prior() else { return Ok(()) };
    let Ok(desired) = to_desired(prior, &Attr::Null) else { return Ok(()) };
    let on_destroy = on_destroy(prior, desired.reboot);
    if let Ok(Some(current)) = look(call, &desired).await
        && let Some(outlook) = flow::destroy_outlook(&current, &record(call.private()), on_destroy)
    {
        change.warn(Error::new(outlook.summary).detail(outlook.detail));
    }
    Ok(())
}

/// Shows the steps that an apply would take, and what they lead to as far as that is known.
fn plan_steps(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    current: &Current,
    desired: &LogicalReplication,
) -> Result<()> {
    let record = record(call.private());
    let steps = flow::steps(current, desired, &record)?;
    if desired.verify && !steps.is_empty() {
        refuse_without_publisher(call.context())?;
    }
    planned_outcome(change, current, &steps)?;
    let Some(on_destroy) = change.planned().map(|planned| on_destroy(planned, desired.reboot)) else { return Ok(()) };
    if steps.iter().any(Step::is_change) {
        let outlook = flow::outlook(current, desired, &record, &steps, on_destroy);
        change.warn(Error::new(outlook.summary).detail(outlook.detail));
        return Ok(());
    }
    for warning in flow::warnings(current, desired, &steps) {
        change.warn(Error::new(warning));
    }
    Ok(())
}

fn refuse_without_publisher(context: &Context) -> Result<()> {
    match context.is_waiting(Side::Publisher) {
        true => Ok(()),
        false => context.database(Side::Publisher, None).map(drop).map_err(|_| {
            Error::new("there is no connection to verify it over")
                .detail("Configure the provider's publisher block, or set verify = false.")
                .attribute("verify")
        }),
    }
}

/// The cluster as it is, with what the writer says where it can be asked; `None` when there is none.
async fn look(call: &Call<Context>, desired: &LogicalReplication) -> Result<Option<Current>> {
    let api = call.context().cluster_api()?;
    let record = record(call.private());
    let Some(mut current) = Box::pin(flow::fetch(api, desired, &record)).await? else { return Ok(None) };
    if desired.verify
        && let Some(probe) = probe(call.context())
    {
        match probe.settings().await {
            Ok(settings) => current.settings = Some(settings),
            Err(error) => {
                call.warn(Error::new("the writer could not be asked whether its WAL is logical").detail(error.message));
            }
        }
    }
    Ok(Some(current))
}

async fn bring_about(call: &Call<Context>, plan: Model, saved: &Saved<Model>, time: Duration) -> Result<Model> {
    let desired = to_desired(&plan, &plan.parameter_group_name)?;
    let probe = probe(call.context());
    let operation = operation(call, probe.as_ref(), time)?;
    let mut on_step = |progress: Progress<'_>| {
        log(&progress);
        if progress.is_worth_saving() || call.private().get(RECORD).is_some() {
            call.private().set(RECORD, Json::String(progress.record.to_json()));
            saved.record(&plan);
        }
    };
    let applied = flow::apply(&operation, &desired, record(call.private()), &mut on_step).await?;
    call.private().set(RECORD, Json::String(applied.record.to_json()));
    call.private().remove(MEND);
    for warning in flow::warnings(&applied.current, &desired, &applied.steps) {
        call.warn(Error::new(warning));
    }
    Ok(to_model(&plan, &applied.current, &applied.record))
}

fn operation<'a>(call: &'a Call<Context>, probe: Option<&'a impl Probe>, time: Duration) -> Result<Operation<'a, Rds>> {
    Ok(Operation {
        api: call.context().cluster_api()?,
        probe: probe.map(|probe| probe as &dyn Probe),
        waiter: Waiter::new(call.context().polling(), time, call.stop().clone()),
        patience: call.context().patience(),
    })
}

/// Asks the publisher, where one is configured.
fn probe(context: &Context) -> Option<impl Probe + use<>> {
    let database = context.database(Side::Publisher, None).ok()?;
    Some(move || {
        let database = database.clone();
        async move {
            match settings::fetch(&database).await {
                Ok(found) => Ok(ServerSettings {
                    wal_level: found.wal_level,
                    rds_logical_replication: found.rds_logical_replication,
                    logical_slots: found.logical_slots,
                    started_at: Some(found.started_at),
                }),
                Err(error) => Err(ProbeError { is_transient: error.is_transient(), message: error.to_string() }),
            }
        }
    })
}

/// A core that was asked to stop runs nothing that depends on this, so an unfinished object is no false promise: the next
/// plan sees what is left of it. Failing would have the core mark it as tainted, to be undone and begun anew.
fn go_on_later(stopped: &Error) -> Error {
    Error::new("the operation was cancelled before logical replication was enabled")
        .detail(format!("{stopped}. What was done so far is in the state: the next apply goes on from there."))
}

fn go_on_untainted() -> Error {
    Error::new("what was done so far is in the state").detail(
        "A create that fails leaves the resource tainted: the next apply would take everything back and begin anew. \
         To go on from here instead, run \"terraform untaint\" or \"tofu untaint\" with its address first.",
    )
}

fn log(progress: &Progress<'_>) {
    let step = progress.step.to_string();
    match progress.phase {
        Phase::Started => tracing::info!(step, "step begins"),
        Phase::Done => tracing::info!(step, "step is done"),
    }
}

fn record(private: &Private) -> Record {
    private.get(RECORD).as_ref().and_then(Json::as_str).and_then(Record::from_json).unwrap_or_default()
}

fn missing(cluster: &str) -> Error {
    Error::new(format!("there is no Aurora cluster {cluster:?}"))
        .detail("No DB cluster of this identifier is in the region and account that the provider's aws block leads to.")
        .attribute("cluster_identifier")
}

impl From<aurora::Error> for Error {
    fn from(error: aurora::Error) -> Self {
        let hint = error.hint.clone();
        let shown = Self::new(aurora::Error { hint: None, ..error.clone() }.to_string());
        let shown = shown.detail(hint.unwrap_or_default());
        match (&error.parameter, error.kind) {
            (Some(name), _) => shown.at(&crate::tf_provider::path::AttributePath::of("parameters").key(name)),
            (None, Kind::NotFound | Kind::Refused) => shown.attribute("cluster_identifier"),
            (None, _) => shown,
        }
    }
}
