// SPDX-License-Identifier: MPL-2.0

//! The plan's message about a subscription's connection: what changes, and what stays.

use super::difference::{self, is_sent};
use super::ident;
use super::model::Model;
use crate::config::Context;
use crate::postgres::{Database, subscription};
use crate::resources::reaching::{Connected, Connection, Way, block_changes, with_write_only};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// Decides whether to set the connection of an existing subscription, and reports the changes.
///
/// # Errors
/// When the query for the current connection fails, or no connection to set is known.
pub(super) async fn preview(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    database: &Database,
) -> Result<()> {
    let Some((prior, planned)) = change.prior().cloned().zip(change.planned().cloned()).filter(|_| !change.replaces())
    else {
        return Way::FORWARD.check_login(call.context(), &change.config().publisher);
    };
    let private = call.private();
    let is_asked = is_sent(private, &prior, &planned);
    if !is_asked && !block_changes(&prior.publisher, &planned.publisher) {
        return Ok(());
    }
    let Some(found) = subscription::fetch(database, &ident(&prior.name)?).await? else { return Ok(()) };
    let connected = Connected::of(found.connection.as_ref(), private);
    let publisher = with_write_only(planned.publisher.clone(), &change.config().publisher);
    let configured = Model { publisher, ..planned };
    let is_open =
        configured.publisher.known().is_some_and(Connection::has_unknown) || configured.publisher.is_unknown();
    if !is_asked {
        if connected == Connected::Unknown {
            change.warn(stays(&found.name.to_string()));
            return Ok(());
        }
        if !is_open && difference::differing(call.context(), private, &configured, &connected).is_empty() {
            return Ok(());
        }
        change.set_unknown("connection_differs")?;
    }
    Way::FORWARD.check_login(call.context(), &change.config().publisher)?;
    if !is_open && !call.context().publisher().is_waiting() {
        let version = call.unless_stopped(database.version()).await.ok();
        let new = difference::to_send(call.context(), private, &configured, &connected, version)?;
        let lines = difference::lines(&connected, &new);
        if !lines.is_empty() {
            let summary = format!("planning subscription {}: it gets a new connection to its publisher", found.name);
            change.warn(lines.into_iter().fold(Error::new(summary), Error::detail));
        }
    }
    Ok(())
}

fn stays(name: &str) -> Error {
    Error::new(format!("planning subscription {name}: its connection stays as it is"))
        .detail(
            "It was imported or moved, and the provider's role may not read its connection, which may differ \
             from the publisher block.",
        )
        .detail("To send the configured connection, password included, set or change connection_version.")
        .attribute("publisher")
}
