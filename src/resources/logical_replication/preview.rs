// SPDX-License-Identifier: MPL-2.0

//! The plans of both resources.

use serde_json::Value as Json;

use super::lifecycle::{self, MEND, Seen, Unseen, look, look_closely, record, unproven};
use super::model::{Model, on_destroy, planned_outcome, to_desired};
use super::{Product, shown};
use crate::config::Context;
use crate::rds::logical_replication::{self as flow, Answerer, Current, LogicalReplication, Reboot, Step};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// See [`Resource::preview`](crate::tf_provider::resource::Resource::preview).
pub(super) async fn preview<P: Product>(call: &Call<Context>, change: &mut PlannedChange<Model<P>>) -> Result<()> {
    // A replacement is planned a second time, as a new object.
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

/// Missing objects may exist by the time of the apply; for a new object, that is not an error.
async fn preview_apply<P: Product>(call: &Call<Context>, change: &mut PlannedChange<Model<P>>) -> Result<()> {
    let asked = change.config().attributes.parameter_group_name.clone();
    let desired = change.planned().map(|planned| to_desired(&planned.attributes, &asked, P::IDENTIFIER));
    let Some(Ok(desired)) = desired else { return Ok(()) };
    if desired.reboot != Reboot::Never {
        call.context().intended().logical_wal();
    }
    match look_closely::<P>(call, &desired).await {
        Ok(Some(Seen { mut current, unasked })) => {
            current.blue_green = Box::pin(flow::blue_green(P::api(call.context())?, &current.cluster)).await;
            match unasked {
                // It would give the same answer after a reboot, and could not be verified then.
                Some(error) if !error.is_transient => change.error(lifecycle::unasked::<P>(&error).attribute("verify")),
                Some(error) => change.warn(lifecycle::unasked::<P>(&error)),
                None => {}
            }
            plan_steps(call, change, &current, &desired)
        }
        Ok(None) if change.prior().is_none() => {
            change.warn(missing::<P>(&desired.cluster).detail("It must exist by the time this is applied."));
            Ok(())
        }
        Ok(None) => Err(missing::<P>(&desired.cluster)),
        Err(Unseen { error, is_unreached: true }) if change.prior().is_none() => {
            let (deployment, name) = (P::DEPLOYMENT, &desired.cluster);
            let summary = format!("the {deployment} {name:?} could not be read, so the steps are not known yet");
            change.warn(Error::new(summary).detail(error.to_string()));
            Ok(())
        }
        Err(Unseen { error, .. }) => Err(error),
    }
}

/// Shows what a destroy would do. The destroy itself reports what cannot be read.
async fn preview_destroy<P: Product>(call: &Call<Context>, change: &mut PlannedChange<Model<P>>) -> Result<()> {
    let Some(prior) = change.prior().map(|prior| prior.attributes.clone()) else { return Ok(()) };
    let Ok(desired) = to_desired(&prior, &Attr::Null, P::IDENTIFIER) else { return Ok(()) };
    let on_destroy = on_destroy(&prior, desired.reboot);
    if let Ok(Some(current)) = look::<P>(call, &desired).await
        && let Some(outlook) = flow::destroy_outlook(&current, &record(call.private()), on_destroy)
    {
        change.warn(Error::new(outlook.summary).detail(outlook.detail));
    }
    Ok(())
}

/// Shows the steps of an apply, and their results as far as known.
fn plan_steps<P: Product>(
    call: &Call<Context>,
    change: &mut PlannedChange<Model<P>>,
    current: &Current,
    desired: &LogicalReplication,
) -> Result<()> {
    if let (true, Some(Answerer::Stranger(_)), Some(objection)) =
        (desired.verify, &current.answerer, current.objection())
    {
        return Err(unproven(current, &objection).attribute("verify"));
    }
    let record = record(call.private());
    let steps = flow::steps(current, desired, &record).map_err(shown::<P>)?;
    if desired.verify && !steps.is_empty() {
        refuse_without_publisher(call.context())?;
    }
    planned_outcome(change, current, &steps)?;
    let on_destroy = change.planned().map(|planned| on_destroy(&planned.attributes, desired.reboot));
    let Some(on_destroy) = on_destroy else { return Ok(()) };
    if steps.iter().any(Step::is_change) {
        let outlook = flow::outlook(current, desired, &record, &steps, on_destroy);
        change.warn(Error::new(outlook.summary).detail(outlook.detail));
        return Ok(());
    }
    for warning in flow::warnings(current, desired, &steps, flow::When::Before) {
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

fn missing<P: Product>(identifier: &str) -> Error {
    let deployment = P::DEPLOYMENT;
    Error::new(format!("there is no {deployment} {identifier:?}"))
        .detail(format!(
            "No {deployment} of this identifier is in the region and account that the provider's aws block leads to."
        ))
        .attribute(P::IDENTIFIER)
}
