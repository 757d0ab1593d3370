//! What the resources for logical replication on RDS have in common: all of it but their names. The cluster and the
//! instance differ in [`Shape`].

pub(super) mod model;

use std::time::Duration;

use serde_json::Value as Json;

use self::model::{Common, on_destroy, planned_outcome, to_common, to_desired};
use crate::config::Context;
use crate::postgres::settings;
use crate::rds::api::{ClusterApi, Deployment};
use crate::rds::logical_replication::{
    self as flow, Current, LogicalReplication, OnDestroy, Operation, Phase, Probe, ProbeError, Progress, Record,
    ServerSettings, Step,
};
use crate::rds::wait::Waiter;
use crate::rds::{self, Kind};
use crate::tf_provider::call::{Call, Private, Saved};
use crate::tf_provider::convert::{Attr, Model};
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::resource::PlannedChange;
use crate::tf_provider::timeouts::timeout;

/// How long an operation may take where the configuration does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// The key of the [`Record`] in the private state.
const RECORD: &str = "record";
/// The key in the private state that says: the last read found something to mend.
const MEND: &str = "mend";

/// The model of one of the resources.
pub(super) trait Shape: Model {
    /// The calls that are made for it.
    type Api: ClusterApi + 'static;
    /// What it is about.
    const DEPLOYMENT: Deployment;
    /// The attribute that names it.
    const IDENTIFIER: &'static str;
    /// The default of `reboot`.
    const REBOOT: &'static str;

    /// The API, which makes no call yet.
    fn api(context: &Context) -> Result<&Self::Api>;

    /// What both have.
    fn common(&self) -> Common;

    /// The model of these values.
    fn from_common(common: Common) -> Self;
}

/// See [`Resource::preview`](crate::tf_provider::resource::Resource::preview).
pub(super) async fn preview<M: Shape>(call: &Call<Context>, change: &mut PlannedChange<M>) -> Result<()> {
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

/// See [`Resource::read`](crate::tf_provider::resource::Resource::read).
pub(super) async fn read<M: Shape>(call: &Call<Context>, state: M) -> Result<Option<M>> {
    let state = model::with_defaults(state.common(), M::REBOOT);
    let desired = to_desired(&state, &Attr::Null, M::IDENTIFIER)?;
    let Some(current) = look::<M>(call, &desired).await? else { return Ok(None) };
    let mut record = record(call.private());
    if call.private().get(RECORD).is_none() && desired.manage_parameter_group {
        record.adopt(&current);
        call.private().set(RECORD, Json::String(record.to_json()));
    }
    // What cannot be done is said when a change is planned; a refresh only shows what is.
    let mends = flow::steps(&current, &desired, &record).is_ok_and(|steps| steps.iter().any(Step::is_change));
    call.private().set(MEND, Json::Bool(mends));
    Ok(Some(M::from_common(to_common(&state, &current, &record))))
}

/// See [`Resource::create`](crate::tf_provider::resource::Resource::create).
pub(super) async fn create<M: Shape>(call: &Call<Context>, plan: M, saved: &Saved<M>) -> Result<M> {
    let plan = plan.common();
    let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, DEFAULT_TIMEOUT);
    let made = bring_about(call, &plan, saved, time).await;
    let is_begun = call.private().get(RECORD).is_some();
    match made {
        Err(stopped) if is_begun && call.stop().is_cancelled() => {
            call.warn(go_on_later(&stopped));
            Ok(M::from_common(model::interrupted(&plan, &record(call.private()))))
        }
        Err(failed) if is_begun => {
            call.warn(go_on_untainted());
            Err(failed)
        }
        made => made,
    }
}

/// See [`Resource::update`](crate::tf_provider::resource::Resource::update).
pub(super) async fn update<M: Shape>(call: &Call<Context>, plan: M, saved: &Saved<M>) -> Result<M> {
    let plan = plan.common();
    let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, DEFAULT_TIMEOUT);
    bring_about(call, &plan, saved, time).await
}

/// See [`Resource::delete`](crate::tf_provider::resource::Resource::delete).
pub(super) async fn delete<M: Shape>(call: &Call<Context>, prior: M) -> Result<()> {
    let prior = prior.common();
    let desired = to_desired(&prior, &Attr::Null, M::IDENTIFIER)?;
    let OnDestroy::GiveBack(reboot) = on_destroy(&prior, desired.reboot) else {
        return Ok(());
    };
    let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DEFAULT_TIMEOUT);
    let probe = probe(call.context());
    let operation = operation::<M>(call, probe.as_ref(), time)?;
    let record = record(call.private());
    let destroyed =
        flow::destroy(&operation, &desired, &record, reboot, &mut |progress: Progress<'_>| log(&progress)).await;
    destroyed.map(drop).map_err(shown::<M>)
}

/// The state to begin with for an import.
pub(super) fn imported<M: Shape>(identifier: String) -> M {
    M::from_common(model::with_defaults(Common { identifier: identifier.into(), ..Common::default() }, M::REBOOT))
}

/// Whatever is not there yet may be by the time of the apply; for a new object, that is no failure.
async fn preview_apply<M: Shape>(call: &Call<Context>, change: &mut PlannedChange<M>) -> Result<()> {
    let asked = change.config().common().parameter_group_name;
    let desired = change.planned().map(|planned| to_desired(&planned.common(), &asked, M::IDENTIFIER));
    let Some(Ok(desired)) = desired else { return Ok(()) };
    match look::<M>(call, &desired).await {
        Ok(Some(mut current)) => {
            current.blue_green = Box::pin(flow::blue_green(M::api(call.context())?, &current.cluster)).await;
            plan_steps(call, change, &current, &desired)
        }
        Ok(None) if change.prior().is_none() => {
            change.warn(missing::<M>(&desired.cluster).detail("It must exist by the time this is applied."));
            Ok(())
        }
        Ok(None) => Err(missing::<M>(&desired.cluster)),
        Err(error) if change.prior().is_none() => {
            let (deployment, name) = (M::DEPLOYMENT, &desired.cluster);
            let summary = format!("the {deployment} {name:?} could not be read, so the steps are not known yet");
            change.warn(Error::new(summary).detail(error.to_string()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Shows what a destroy would do. What cannot be read is for the destroy itself to report.
async fn preview_destroy<M: Shape>(call: &Call<Context>, change: &mut PlannedChange<M>) -> Result<()> {
    let Some(prior) = change.prior().map(Shape::common) else { return Ok(()) };
    let Ok(desired) = to_desired(&prior, &Attr::Null, M::IDENTIFIER) else { return Ok(()) };
    let on_destroy = on_destroy(&prior, desired.reboot);
    if let Ok(Some(current)) = look::<M>(call, &desired).await
        && let Some(outlook) = flow::destroy_outlook(&current, &record(call.private()), on_destroy)
    {
        change.warn(Error::new(outlook.summary).detail(outlook.detail));
    }
    Ok(())
}

/// Shows the steps that an apply would take, and what they lead to as far as that is known.
fn plan_steps<M: Shape>(
    call: &Call<Context>,
    change: &mut PlannedChange<M>,
    current: &Current,
    desired: &LogicalReplication,
) -> Result<()> {
    let record = record(call.private());
    let steps = flow::steps(current, desired, &record).map_err(shown::<M>)?;
    if desired.verify && !steps.is_empty() {
        refuse_without_publisher(call.context())?;
    }
    planned_outcome(change, current, &steps)?;
    let on_destroy = change.planned().map(|planned| on_destroy(&planned.common(), desired.reboot));
    let Some(on_destroy) = on_destroy else { return Ok(()) };
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
    match context.publisher().is_waiting() {
        true => Ok(()),
        false => context.publisher().database(None).map(drop).map_err(|_| {
            Error::new("there is no connection to verify it over")
                .detail("Configure the provider's publisher block, or set verify = false.")
                .attribute("verify")
        }),
    }
}

/// The cluster as it is, with what the writer says where it can be asked; `None` when there is none.
async fn look<M: Shape>(call: &Call<Context>, desired: &LogicalReplication) -> Result<Option<Current>> {
    let record = record(call.private());
    let fetched = Box::pin(flow::fetch(M::api(call.context())?, desired, &record)).await;
    let Some(mut current) = fetched.map_err(shown::<M>)? else { return Ok(None) };
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

async fn bring_about<M: Shape>(call: &Call<Context>, plan: &Common, saved: &Saved<M>, time: Duration) -> Result<M> {
    let desired = to_desired(plan, &plan.parameter_group_name, M::IDENTIFIER)?;
    let probe = probe(call.context());
    let operation = operation::<M>(call, probe.as_ref(), time)?;
    let mut on_step = |progress: Progress<'_>| {
        log(&progress);
        if progress.is_worth_saving() || call.private().get(RECORD).is_some() {
            call.private().set(RECORD, Json::String(progress.record.to_json()));
            saved.record(&M::from_common(plan.clone()));
        }
    };
    let applied = flow::apply(&operation, &desired, record(call.private()), &mut on_step).await;
    let applied = applied.map_err(shown::<M>)?;
    call.private().set(RECORD, Json::String(applied.record.to_json()));
    call.private().remove(MEND);
    for warning in flow::warnings(&applied.current, &desired, &applied.steps) {
        call.warn(Error::new(warning));
    }
    Ok(M::from_common(to_common(plan, &applied.current, &applied.record)))
}

fn operation<'a, M: Shape>(
    call: &'a Call<Context>,
    probe: Option<&'a (impl Probe + 'a)>,
    time: Duration,
) -> Result<Operation<'a, M::Api>> {
    Ok(Operation {
        api: M::api(call.context())?,
        probe: probe.map(|probe| probe as &dyn Probe),
        waiter: Waiter::new(call.context().polling(), time, call.stop().clone()),
        patience: call.context().patience(),
    })
}

/// Asks the publisher, where one is configured.
fn probe(context: &Context) -> Option<impl Probe + use<>> {
    let database = context.publisher().database(None).ok()?;
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

fn missing<M: Shape>(identifier: &str) -> Error {
    let deployment = M::DEPLOYMENT;
    Error::new(format!("there is no {deployment} {identifier:?}"))
        .detail(format!(
            "No {deployment} of this identifier is in the region and account that the provider's aws block leads to."
        ))
        .attribute(M::IDENTIFIER)
}

/// The error at the attribute that it is about.
fn shown<M: Shape>(error: rds::Error) -> Error {
    let is_about_it = error.parameter.is_none() && matches!(error.kind, Kind::NotFound | Kind::Refused);
    let shown = Error::from(error);
    if is_about_it { shown.attribute(M::IDENTIFIER) } else { shown }
}

impl From<rds::Error> for Error {
    fn from(error: rds::Error) -> Self {
        let hint = error.hint.clone();
        let shown = Self::new(rds::Error { hint: None, ..error.clone() }.to_string());
        let shown = shown.detail(hint.unwrap_or_default());
        match &error.parameter {
            Some(name) => shown.at(&AttributePath::of("parameters").key(name)),
            None => shown,
        }
    }
}
