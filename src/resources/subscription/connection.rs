// SPDX-License-Identifier: MPL-2.0

//! The subscriber's connection to the publisher: the resource's `publisher` block over the provider's.

use super::Model;
use super::sent;
use crate::config::Context;
use crate::postgres::conninfo_parts::meant;
use crate::postgres::subscription::Subscription;
use crate::postgres::{Conninfo, Database, Given, Ident, ServerVersion};
use crate::replication::whereabouts::{self, Clues};
use crate::resources::reaching::{Connected, Connection, Way};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::Result;

/// The connection string for a subscriber of this version, or, without a version, in a form that all accept.
///
/// # Errors
/// When neither block has a host, or a value is not known.
pub(super) fn conninfo(context: &Context, model: &Model, version: Option<ServerVersion>) -> Result<Conninfo> {
    Way::FORWARD.conninfo(context, &model.publisher, None, version)
}

/// The publisher of an existing subscription, if it is known which server that is.
pub(super) async fn publisher_of(
    call: &Call<Context>,
    subscriber: &Database,
    found: &Subscription,
    model: &Model,
) -> Option<Database> {
    let connection = known(call, found, model);
    let database = connection.as_ref().and_then(|connection| meant(connection, "dbname"));
    let configured = call.context().publisher().database(database).ok();
    let proof = sent::proof(call.private());
    let clues = Clues { subscriber, subscription: found, connection: connection.as_ref(), configured, proof };
    let publisher = clues.find().await?;
    if let Some(proof) = &publisher.proof {
        sent::remember_proof(call.private(), proof);
    }
    Some(publisher.database.like(subscriber))
}

/// The connection of an existing subscription, as far as known, with a password if there is one.
pub(super) fn known(call: &Call<Context>, found: &Subscription, model: &Model) -> Option<Conninfo> {
    let connected = Connected::of(found.connection.as_ref(), call.private());
    connected.conninfo().map(|connection| with_password(call.context(), connection, model))
}

/// A connection with the password that only the configuration has.
fn with_password(context: &Context, connection: &Conninfo, model: &Model) -> Conninfo {
    let mut connection = connection.clone();
    if connection.get("password").is_none()
        && let Ok(wanted) = conninfo(context, model, None)
        && wanted.get("user") == connection.get("user")
    {
        connection.set("password", wanted.get("password").unwrap_or_default());
    }
    connection
}

/// The publisher of a new subscription: the provider's if the connection leads to it, otherwise the server that the
/// connection names, reached from here.
pub(super) fn publisher(context: &Context, conninfo: &Conninfo, subscriber: &Database) -> Option<Database> {
    let configured = context.publisher().database(conninfo.get("dbname")).ok();
    let configured = configured.filter(|configured| whereabouts::leads_to(conninfo, configured, subscriber));
    configured.or_else(|| whereabouts::named(conninfo, subscriber)).map(|publisher| publisher.like(subscriber))
}

/// The publisher with the subscription's login, if that can be tried from here.
pub(super) fn login(context: &Context, model: &Model, conninfo: &Conninfo, subscriber: &Database) -> Option<Database> {
    let provider = context.publisher().database(None).ok();
    let ours = model.publisher.known().map(Connection::given).unwrap_or_default();
    let given = Given::named(|keyword| match (ours.contains(keyword), &provider) {
        (false, Some(provider)) => provider.config().given.of(keyword).to_owned(),
        _ => format!("{} of the resource's publisher block", attribute_of(keyword)),
    });
    whereabouts::named_as(conninfo, subscriber, given)
}

fn attribute_of(keyword: &str) -> &str {
    match keyword {
        "dbname" => "database",
        "user" => "username",
        keyword => keyword,
    }
}

/// The statement that removes a slot by hand.
pub(super) fn drop_slot_by_hand(slot: &Ident) -> String {
    crate::postgres::slot::drop_slot(slot).to_string()
}
