// SPDX-License-Identifier: MPL-2.0

//! The plan of a change of a subscription's slot.

use std::time::Duration;

use super::connection::publisher_of;
use super::ident;
use super::model::{Model, is_set, to_desired};
use crate::config::Context;
use crate::postgres::{Database, Limits, subscription};
use crate::replication::Operation;
use crate::replication::slot_change::SlotChange;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::resource::PlannedChange;

/// How long a plan may read the slots.
const LOOK: Duration = Duration::from_secs(30);

/// Decides while planning, and reports what will be done.
///
/// # Errors
/// As [`SlotChange::decide`].
pub(super) async fn preview(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    database: &Database,
) -> Result<()> {
    let Some((prior, planned)) = change.prior().cloned().zip(change.planned().cloned()) else { return Ok(()) };
    if change.replaces() || planned.slot_name.known().is_none() || prior.slot_name == planned.slot_name {
        return Ok(());
    }
    let name = ident(&prior.name)?;
    let Some(current) = call.unless_stopped(subscription::fetch(database, &name)).await? else { return Ok(()) };
    let Ok(desired) = to_desired(&planned) else { return Ok(()) };
    let publisher = publisher_of(call, database, &current, &prior).await;
    let limits = Limits::within(LOOK).cancelled_by(call.stop().clone());
    let operation = Operation::new(format!("planning subscription {name}"), limits, call);
    if let Some(slot_change) =
        SlotChange::of(&operation, (publisher.as_ref(), database), &current, &desired, is_set(&planned.create_slot))
    {
        let way = slot_change.decide().await?;
        change.warn(slot_change.outlook(&way).into());
    }
    Ok(())
}
