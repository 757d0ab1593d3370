// SPDX-License-Identifier: MPL-2.0

//! The plan's checks of rows that would arrive under another name, or under two.

use super::connection::{self, publisher_of};
use super::ident;
use super::model::{Model, is_set, to_desired};
use crate::config::Context;
use crate::postgres::Database;
use crate::postgres::subscription::{self, Subscription};
use crate::replication::Pair;
use crate::replication::routes::TakingUp;
use crate::resources::server_check::report;
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::resource::PlannedChange;

/// Reads both servers, if they can be reached. A failed check is repeated before anything is changed.
///
/// # Errors
/// When a person asks to stop, or the query for an existing subscription fails.
pub(super) async fn preview(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    database: &Database,
) -> Result<()> {
    let Some(planned) = change.planned().cloned() else { return Ok(()) };
    let Ok(desired) = to_desired(&planned) else { return Ok(()) };
    let (current, publisher) = match change.prior().filter(|_| !change.replaces()) {
        Some(prior) => {
            let follows = planned.unsubscribed_tables.is_unknown() || prior.publications != planned.publications;
            let name = ident(&prior.name)?;
            let found = if follows { call.unless_stopped(subscription::fetch(database, &name)).await? } else { None };
            let Some(current) = found else { return Ok(()) };
            let publisher = publisher_of(call, database, &current, prior).await;
            (Some(current), publisher)
        }
        None => (None, publisher_of_new(call.context(), &planned, database)),
    };
    let Some(publisher) = publisher else { return Ok(()) };
    let pair = Pair { publisher, subscriber: database.clone() };
    let (current, copies): (Option<&Subscription>, _) = (current.as_ref(), is_set(&planned.copy_data));
    let taking_up = TakingUp { pair: &pair, current, desired: &desired, copies };
    match call.unless_stopped(Box::pin(taking_up.outlook())).await {
        Ok(objections) => {
            let doing = format!("planning subscription {}", desired.name);
            report(change, objections.into_iter().map(|objection| objection.during(&doing)));
        }
        Err(cause) => {
            call.go_on()?;
            tracing::info!(%cause, "it could not be checked under which names rows would arrive");
        }
    }
    Ok(())
}

/// The publisher of a new subscription that connects.
fn publisher_of_new(context: &Context, planned: &Model, subscriber: &Database) -> Option<Database> {
    let conninfo = connection::conninfo(context, planned, None).ok().filter(|_| is_set(&planned.connect))?;
    connection::publisher(context, &conninfo, subscriber)
}
