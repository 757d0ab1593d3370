//! `neonrepl_aurora_logical_replication`: the writer of an Aurora cluster runs with a logical WAL.

mod model;

use std::time::Duration;

use serde_json::Value as Json;

use self::model::{Model, planned_outcome, schema, to_desired, to_model};
use crate::aurora::logical_replication::{
    self as flow, Current, LogicalReplication, Operation, Phase, Probe, ProbeError, Progress, Reboot, Record,
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
        let mends = call.private().get(MEND) == Some(Json::Bool(true));
        match change.planned() {
            None => return Ok(()),
            Some(_) if !change.changes() && !mends => return Ok(()),
            Some(_) => {}
        }
        let asked = &change.config().parameter_group_name;
        let Some(Ok(desired)) = change.planned().map(|planned| to_desired(planned, asked)) else { return Ok(()) };
        if call.context().is_aws_waiting() {
            return Ok(());
        }
        match look(call, &desired).await {
            Ok(Some(current)) => plan_steps(call, change, &current, &desired),
            Ok(None) if change.prior().is_none() => {
                change.warn(missing(&desired.cluster).detail("It must exist by the time this is applied."));
                Ok(())
            }
            Ok(None) => Err(missing(&desired.cluster)),
            Err(error) if change.prior().is_none() => {
                change.warn(
                    Error::new(format!(
                        "the cluster {:?} could not be read, so the steps are not known yet",
                        desired.cluster
                    ))
                    .detail(error.to_string()),
                );
                Ok(())
            }
            Err(error) => Err(error),
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
        bring_about(call, plan, saved, time).await
    }

    async fn update(call: &Call<Context>, _prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, DEFAULT_TIMEOUT);
        bring_about(call, plan, saved, time).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        if prior.skip_destroy.known() == Some(&true) {
            return Ok(());
        }
        let desired = to_desired(&prior, &Attr::Null)?;
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DEFAULT_TIMEOUT);
        let reboot = match prior.reboot_on_destroy.known() {
            Some(true) if desired.reboot == Reboot::Never => Reboot::Writer,
            Some(true) => desired.reboot,
            _ => Reboot::Never,
        };
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

/// Shows the steps that an apply would take, and what they lead to as far as that is known.
fn plan_steps(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    current: &Current,
    desired: &LogicalReplication,
) -> Result<()> {
    let steps = flow::steps(current, desired, &record(call.private()))?;
    planned_outcome(change, current, &steps)?;
    if steps.iter().any(Step::is_change) {
        let list: Vec<_> = steps.iter().enumerate().map(|(at, step)| format!("  {}. {step}", at + 1)).collect();
        let reboots: Vec<_> = steps.iter().filter_map(Step::reboots).collect();
        let reboots = match reboots.as_slice() {
            [] => "no instance is rebooted".to_owned(),
            names => format!("this reboots {}", names.join(", ")),
        };
        let summary = format!("applying changes the Aurora cluster {}: {reboots}", desired.cluster);
        change.warn(Error::new(summary).detail(format!("The steps:\n{}", list.join("\n"))));
    }
    for warning in flow::warnings(current, desired, &steps) {
        change.warn(Error::new(warning));
    }
    Ok(())
}

/// The cluster as it is, with what the writer says where it can be asked; `None` when there is none.
async fn look(call: &Call<Context>, desired: &LogicalReplication) -> Result<Option<Current>> {
    let api = call.context().cluster_api()?;
    let Some(mut current) = flow::fetch(api, desired, &record(call.private())).await? else { return Ok(None) };
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
        call.private().set(RECORD, Json::String(progress.record.to_json()));
        saved.record(&plan);
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
                }),
                Err(error) => Err(ProbeError { is_transient: error.is_transient(), message: error.to_string() }),
            }
        }
    })
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
