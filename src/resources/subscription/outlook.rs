// SPDX-License-Identifier: MPL-2.0

//! The plan's checks of creating and changing a subscription: how the servers would answer the apply.

use std::time::Duration;

use super::connection;
use super::model::{Model, is_set, to_desired};
use super::{database, ident, reasons};
use crate::config::Context;
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{self, Conninfo, Database, Limits, ServerVersion, SqlState};
use crate::replication::checks::Objection;
use crate::replication::subscribing::{self, Creation, Prospect};
use crate::replication::{self, Operation, Pair};
use crate::resources::reaching::{Connection, Way};
use crate::resources::server_check::{go_on_without, report};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::resource::PlannedChange;

/// How long a plan may read both servers.
const LOOK: Duration = Duration::from_secs(30);

/// The current work, for messages.
pub(super) fn doing(planned: &Model) -> String {
    match planned.name.known() {
        Some(name) => format!("planning subscription {name:?}"),
        None => "planning a subscription".to_owned(),
    }
}

/// Reads the subscriber's version, if the subscription is new or something depends on it; otherwise `None`.
///
/// # Errors
/// When a person asks to stop.
pub(super) async fn ask(
    call: &Call<Context>,
    change: &PlannedChange<Model>,
    planned: &Model,
) -> Result<Option<postgres::Result<ServerVersion>>> {
    let is_needed = change.prior().is_none() || Way::FORWARD.needs_version(call.context(), &planned.publisher);
    if !is_needed || call.context().subscriber().is_waiting() {
        return Ok(None);
    }
    let database = database(call, planned)?;
    call.unless_stopped(async { Ok::<_, Error>(Some(database.version().await)) }).await
}

/// Reports how the servers would answer.
///
/// # Errors
/// When the subscriber refuses the login, or a person asks to stop.
pub(super) async fn preview(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    subscriber: &Database,
) -> Result<()> {
    let Some(planned) = change.planned().cloned() else { return Ok(()) };
    match change.prior().cloned() {
        None => of_new(call, change, subscriber, &planned).await,
        Some(_) if change.replaces() => Ok(()),
        Some(prior) => of_change(call, change, subscriber, (&prior, &planned)).await,
    }
}

async fn of_new(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    subscriber: &Database,
    planned: &Model,
) -> Result<()> {
    let Ok(desired) = to_desired(planned) else { return Ok(()) };
    // An existing one is replaced, or refused: the servers' answers will be different then.
    if call.unless_stopped(subscription::fetch(subscriber, &desired.name)).await?.is_some() {
        return Ok(());
    }
    let limits = Limits::within(LOOK).cancelled_by(call.stop().clone());
    let operation = Operation::new(doing(planned), limits, call);
    let known = Known::of(call.context(), planned, &change.config().publisher, subscriber);
    let desired = Subscription { connection: known.connection.clone(), ..desired };
    let prospect = Prospect {
        creation: Creation {
            subscriber,
            publisher: known.publisher.as_ref(),
            desired: &desired,
            how: &how(planned),
            operation: &operation,
        },
        login: known.login.as_ref(),
        intended: call.context().intended(),
        waits: is_set(&planned.wait_for_initial_sync),
    };
    match Box::pin(subscribing::outlook(prospect)).await {
        Ok(objections) => say(change, objections),
        Err(error) => match error.cause().cloned() {
            Some(cause) => {
                let unchecked = "Whether the subscription can be created is only known when this is applied.";
                go_on_without(change, cause, &doing(planned), unchecked)?;
            }
            None => return Err(error.into()),
        },
    }
    Ok(())
}

/// The options that no catalog stores.
fn how(planned: &Model) -> How {
    How {
        connect: is_set(&planned.connect),
        create_slot: is_set(&planned.create_slot),
        copy_data: is_set(&planned.copy_data),
        ..How::default()
    }
}

/// Reports objections to a login at the resource's own attribute, if that gives the value.
fn say(change: &mut PlannedChange<Model>, objections: Vec<Objection>) {
    let block = change.config().publisher.known().cloned().unwrap_or_default();
    for objection in objections {
        let cause = match &objection {
            Objection::Refusal(error) => error.cause().and_then(|cause| giver(&block, cause)),
            Objection::Warning(_) => None,
        };
        match (objection, cause) {
            (Objection::Refusal(error), Some(attribute)) => {
                let path = AttributePath::of("publisher").attribute(attribute);
                change.error(Error::from(error).at(&path));
            }
            (objection, _) => report(change, [objection]),
        }
    }
}

/// The attribute of the `publisher` block that gives the value which a login's answer is about.
fn giver(block: &Connection, cause: &postgres::Error) -> Option<&'static str> {
    let attributes = [
        ("password", SqlState::INVALID_PASSWORD, block.password.known().is_some()),
        ("password_wo", SqlState::INVALID_PASSWORD, block.password_wo.known().is_some()),
        ("username", SqlState::INVALID_PASSWORD, block.username.known().is_some()),
        ("database", SqlState::INVALID_CATALOG_NAME, block.database.known().is_some()),
        ("username", SqlState::INSUFFICIENT_PRIVILEGE, block.username.known().is_some()),
    ];
    let fits = |(_, code, is_given): &&(&str, SqlState, bool)| *is_given && cause.is_connect() && cause.is(code);
    attributes.iter().find(fits).map(|(attribute, ..)| *attribute)
}

/// The connection as far as it is known while planning, and its target.
struct Known {
    connection: Option<Conninfo>,
    publisher: Option<Database>,
    login: Option<Database>,
}

impl Known {
    /// `configured` is the block of the configuration: only that has a write-only password.
    fn of(context: &Context, planned: &Model, configured: &Attr<Connection>, subscriber: &Database) -> Self {
        let nothing = Self { connection: None, publisher: None, login: None };
        if context.publisher().is_waiting() || configured.is_unknown() {
            return nothing;
        }
        let block = configured.known().cloned().unwrap_or_default();
        let of_address = [block.host.is_unknown(), block.port.is_unknown(), block.database.is_unknown()];
        if of_address.contains(&true) {
            return nothing;
        }
        let is_whole = !block.has_unknown() && !block.password_wo.is_unknown();
        let publisher = configured.known().map(|block| without_unknown(block.clone()));
        let model = Model { publisher: publisher.into(), ..planned.clone() };
        let Ok(mut connection) = connection::conninfo(context, &model, None) else { return nothing };
        let publisher = connection::publisher(context, &connection, subscriber);
        let login = is_whole.then(|| connection::login(context, &model, &connection, subscriber)).flatten();
        if block.username.is_unknown() {
            connection.set("user", "");
        }
        if block.password.is_unknown() || block.password_wo.is_unknown() {
            connection.set("password", "later");
        }
        Self { connection: Some(connection), publisher, login }
    }
}

fn without_unknown(block: Connection) -> Connection {
    let known = |text: Attr<String>| text.into_known().into();
    Connection {
        username: known(block.username),
        password: known(block.password),
        password_wo: known(block.password_wo),
        sslmode: known(block.sslmode),
        options: block.options.into_known().into(),
        ..block
    }
}

/// Checks a change: an owner that it cannot be given to, missing publications and tables.
async fn of_change(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    subscriber: &Database,
    (prior, planned): (&Model, &Model),
) -> Result<()> {
    for reason in [reasons::of_refresh(prior, planned), reasons::of_sending(prior, planned)].into_iter().flatten() {
        change.warn(Error::new(format!("{}: {reason}", doing(planned))));
    }
    let Ok(desired) = to_desired(planned) else { return Ok(()) };
    let name = ident(&prior.name)?;
    let Some(current) = call.unless_stopped(subscription::fetch(subscriber, &name)).await? else { return Ok(()) };
    let limits = Limits::within(LOOK).cancelled_by(call.stop().clone());
    let operation = Operation::new(doing(planned), limits, call);
    if let Some(owner) = desired.owner.as_ref().filter(|owner| current.owner.as_ref() != Some(owner)) {
        let looked = subscribing::owner_outlook(subscriber, operation.doing(), &current, owner);
        report(change, operation.unless_stopped(looked).await.map_err(Error::from)?);
    }
    let follows = planned.unsubscribed_tables.is_unknown() || desired.publications != current.publications;
    if follows && let Some(publisher) = connection::publisher_of(call, subscriber, &current, prior).await {
        let (enabled, publications) = (desired.enabled, desired.publications);
        let asked = Subscription { enabled, publications, ..current };
        let pair = Pair { publisher, subscriber: subscriber.clone() };
        let (how, intended) = (how(planned), call.context().intended());
        let looked = subscribing::follow_outlook(&operation, &pair, &asked, &how, intended);
        let objections: replication::Result<_> = operation.unless_stopped(Box::pin(looked)).await;
        report(change, objections.map_err(Error::from)?);
    }
    Ok(())
}
