// SPDX-License-Identifier: MPL-2.0

//! The verbs of both resources: read, create, update, delete.

use std::time::Duration;

use serde_json::Value as Json;

use super::model::{self, Attributes, Model, on_destroy, to_desired, to_state};
use super::{Product, shown};
use crate::config::Context;
use crate::postgres::settings;
use crate::rds;
use crate::rds::logical_replication::{
    self as flow, Current, LogicalReplication, OnDestroy, Operation, Phase, Probe, ProbeError, Record, ServerIdentity,
    ServerSettings, Step, StepEvent,
};
use crate::rds::wait::Waiter;
use crate::tf_provider::call::{Call, Private, Saved};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::timeouts::timeout;

/// How long an operation may take by default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// The key of the [`Record`] in the private state.
const RECORD: &str = "record";
/// The key in the private state for: the last read found something to repair.
pub(super) const MEND: &str = "mend";

/// See [`Resource::read`](crate::tf_provider::resource::Resource::read).
pub(super) async fn read<P: Product>(call: &Call<Context>, state: Model<P>) -> Result<Option<Model<P>>> {
    let state = model::with_defaults(state.attributes, P::REBOOT);
    let desired = to_desired(&state, &Attr::Null, P::IDENTIFIER)?;
    let Some(current) = look::<P>(call, &desired).await? else { return Ok(None) };
    let mut record = record(call.private());
    if call.private().get(RECORD).is_none() && desired.manage_parameter_group {
        record.adopt(&current);
        call.private().set(RECORD, Json::String(record.to_json()));
    }
    if let Some(objection) = current.objection() {
        call.warn(unproven(&current, &objection).detail("Its answer proves nothing, so wal_level is not known."));
    }
    let mends = match flow::steps(&current, &desired, &record) {
        Ok(steps) => steps.iter().any(Step::is_change),
        // Without this, a plan without a change of the configuration would not report it, and nothing here can
        // repair it.
        Err(refusal) => {
            call.warn(shown::<P>(refusal));
            false
        }
    };
    call.private().set(MEND, Json::Bool(mends));
    Ok(Some(Model::from(to_state(&state, &current, &record))))
}

/// See [`Resource::create`](crate::tf_provider::resource::Resource::create).
pub(super) async fn create<P: Product>(
    call: &Call<Context>,
    plan: Model<P>,
    saved: &Saved<Model<P>>,
) -> Result<Model<P>> {
    let plan = plan.attributes;
    let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, DEFAULT_TIMEOUT);
    let made = bring_about(call, &plan, saved, time).await;
    let is_begun = call.private().get(RECORD).is_some();
    match made {
        Err(stopped) if is_begun && call.stop().is_cancelled() => {
            call.warn(go_on_later(&stopped));
            Ok(Model::from(model::interrupted(&plan, &record(call.private()))))
        }
        Err(failed) if is_begun => {
            call.warn(go_on_untainted());
            Err(failed)
        }
        made => made,
    }
}

/// See [`Resource::update`](crate::tf_provider::resource::Resource::update).
pub(super) async fn update<P: Product>(
    call: &Call<Context>,
    plan: Model<P>,
    saved: &Saved<Model<P>>,
) -> Result<Model<P>> {
    let plan = plan.attributes;
    let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, DEFAULT_TIMEOUT);
    bring_about(call, &plan, saved, time).await
}

/// See [`Resource::delete`](crate::tf_provider::resource::Resource::delete).
pub(super) async fn delete<P: Product>(call: &Call<Context>, prior: Model<P>) -> Result<()> {
    let prior = prior.attributes;
    let desired = to_desired(&prior, &Attr::Null, P::IDENTIFIER)?;
    let OnDestroy::GiveBack(reboot) = on_destroy(&prior, desired.reboot) else {
        return Ok(());
    };
    let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DEFAULT_TIMEOUT);
    let probe = probe(call.context());
    let operation = operation::<P>(call, probe.as_ref(), time)?;
    let record = record(call.private());
    let destroyed = flow::destroy(&operation, &desired, &record, reboot, &mut |event: StepEvent<'_>| log(&event)).await;
    destroyed.map(drop).map_err(shown::<P>)
}

/// The current state.
pub(super) struct Seen {
    pub(super) current: Current,
    /// Why the server could not be queried over SQL, if it should have been.
    pub(super) unasked: Option<ProbeError>,
}

/// Why the current state could not be read.
pub(super) struct Unseen {
    pub(super) error: Error,
    /// Whether AWS was not reached, or has not answered the request.
    pub(super) is_unreached: bool,
}

impl From<Error> for Unseen {
    fn from(error: Error) -> Self {
        Self { error, is_unreached: false }
    }
}

/// The current state, with the server's settings if it can be queried; `None` if the cluster does not exist.
pub(super) async fn look_closely<P: Product>(
    call: &Call<Context>,
    desired: &LogicalReplication,
) -> Result<Option<Seen>, Unseen> {
    let record = record(call.private());
    let fetched = Box::pin(flow::fetch(P::api(call.context())?, desired, &record)).await;
    let unseen = |error: rds::Error| Unseen { is_unreached: error.is_unreached(), error: shown::<P>(error) };
    let Some(mut current) = fetched.map_err(unseen)? else { return Ok(None) };
    let unasked = match probe(call.context()).filter(|_| desired.verify) {
        Some(probe) => flow::ask(&probe, &mut current, &record).await.err(),
        None => None,
    };
    Ok(Some(Seen { current, unasked }))
}

/// The same, with a warning if the server could not be queried.
pub(super) async fn look<P: Product>(call: &Call<Context>, desired: &LogicalReplication) -> Result<Option<Current>> {
    let Some(seen) = look_closely::<P>(call, desired).await.map_err(|unseen| unseen.error)? else { return Ok(None) };
    if let Some(error) = seen.unasked {
        call.warn(unasked::<P>(&error));
    }
    Ok(Some(seen.current))
}

/// The warning if the server could not be queried.
pub(super) fn unasked<P: Product>(error: &ProbeError) -> Error {
    let server = P::WORDS.server;
    Error::new(format!("the {server} could not be asked for its wal_level")).detail(&error.message)
}

async fn bring_about<P: Product>(
    call: &Call<Context>,
    plan: &Attributes,
    saved: &Saved<Model<P>>,
    time: Duration,
) -> Result<Model<P>> {
    let desired = to_desired(plan, &plan.parameter_group_name, P::IDENTIFIER)?;
    let planned_family = plan.parameter_group_family.known().cloned();
    let desired = LogicalReplication { planned_family, ..desired };
    let probe = probe(call.context());
    let operation = operation::<P>(call, probe.as_ref(), time)?;
    let mut on_step = |event: StepEvent<'_>| {
        log(&event);
        if event.is_worth_saving() || call.private().get(RECORD).is_some() {
            call.private().set(RECORD, Json::String(event.record.to_json()));
            saved.record(&Model::from(plan.clone()));
        }
    };
    let applied = flow::apply(&operation, &desired, record(call.private()), &mut on_step).await;
    let applied = applied.map_err(shown::<P>)?;
    call.private().set(RECORD, Json::String(applied.record.to_json()));
    call.private().remove(MEND);
    for warning in flow::warnings(&applied.current, &desired, &applied.steps, flow::When::After) {
        call.warn(Error::new(warning));
    }
    Ok(Model::from(to_state(plan, &applied.current, &applied.record)))
}

/// The warning if the connection leads to another server, or to an unidentified one.
pub(super) fn unproven(current: &Current, objection: &str) -> Error {
    Error::new(format!("the provider's publisher connection {objection}"))
        .detail(format!("{}, or set verify = false.", flow::remedy(&current.cluster)))
}

fn operation<'a, P: Product>(
    call: &'a Call<Context>,
    probe: Option<&'a (impl Probe + 'a)>,
    time: Duration,
) -> Result<Operation<'a, P::Api>> {
    Ok(Operation {
        api: P::api(call.context())?,
        probe: probe.map(|probe| probe as &dyn Probe),
        waiter: Waiter::new(call.context().polling(), time, call.stop().clone()),
        patience: call.context().patience(),
    })
}

/// Queries the publisher, if one is configured.
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
                    server: ServerIdentity {
                        host: database.config().host.clone(),
                        port: database.config().port,
                        instance: found.aurora_instance,
                        own_address: found.own_address,
                    },
                }),
                Err(error) => {
                    let hint = error.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
                    Err(ProbeError { is_transient: error.is_transient(), message: format!("{error}{hint}") })
                }
            }
        }
    })
}

/// After a request to stop, Terraform and OpenTofu run nothing that depends on this, so an unfinished object does no
/// harm: the next plan sees what remains. An error would mark it as tainted, so that it would be undone and started
/// again.
fn go_on_later(stopped: &Error) -> Error {
    Error::new("the operation was cancelled before logical replication was enabled")
        .detail(format!("{stopped}. The state has what was done so far: the next apply goes on from there."))
}

fn go_on_untainted() -> Error {
    Error::new("the state has what was done so far").detail(
        "The failed create leaves the resource tainted, so the next apply would undo everything and begin again. To \
         go on from here instead, run \"terraform untaint\" or \"tofu untaint\" with its address first.",
    )
}

fn log(event: &StepEvent<'_>) {
    let step = event.step.to_string();
    match event.phase {
        Phase::Started => tracing::info!(step, "step begins"),
        Phase::Done => tracing::info!(step, "step is done"),
    }
}

pub(super) fn record(private: &Private) -> Record {
    private.get(RECORD).as_ref().and_then(Json::as_str).and_then(Record::from_json).unwrap_or_default()
}
