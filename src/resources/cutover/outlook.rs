// SPDX-License-Identifier: MPL-2.0

//! The plan of a cutover: the steps, all obstacles, and how long writers will wait.

use std::time::Duration;

use super::meant::{self, side};
use super::model::{Model, OF_SERVERS, subscriptions};
use super::seen;
use crate::config::Context;
use crate::postgres::{Ident, Limits, subscription};
use crate::replication::cutover::{self, Active, Flow, Found, Step};
use crate::replication::{Operation, Pair, Place, names, units};
use crate::resources::object_id;
use crate::resources::reaching::{Connection, Way, check_options, with_write_only};
use crate::resources::server_check::{go_on_without, report};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// How long a plan may read both servers.
const LOOK: Duration = Duration::from_secs(60);

/// Shows what the apply will do, and refuses what it could not do.
///
/// # Errors
/// When a query of a required server fails, or a person asks to stop.
pub(super) async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    if change.planned().is_none() {
        leaving(change);
        return Ok(());
    }
    plan_databases(call, change)?;
    let planned = change.planned().cloned().unwrap_or_default();
    check_way_back(call, change, &planned)?;
    if is_waiting(call) || is_open(&planned) {
        return Ok(());
    }
    let pair = meant::pair(call, &planned)?;
    let resend = plan_sending(call, change, &pair).await?;
    if change.prior().is_some() && !change.changes() {
        return Ok(());
    }
    plan_where(change, &pair)?;
    if let Some(error) = late_way_back(change.prior(), &planned) {
        change.error(error);
    }
    match change.prior().filter(|_| change.replaces()).map(|prior| replacing(prior, &planned)) {
        Some(Err(error)) => change.error(error),
        Some(Ok(())) => {}
        None => Box::pin(of_servers(call, change, &pair, resend)).await?,
    }
    Ok(())
}

/// The current work, for messages.
pub(super) fn doing(verb: &str, model: &Model) -> String {
    match subscriptions(model) {
        Ok(names) if !names.is_empty() => {
            format!("{verb} the cutover of subscription {}", names::list(names.iter().map(ToString::to_string)))
        }
        _ => format!("{verb} a cutover"),
    }
}

/// Plans the configured databases as defaults.
fn plan_databases(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
    let is_open =
        |pick: fn(&Model) -> &Attr<String>| change.planned().is_some_and(|planned| pick(planned).is_unknown());
    let context = call.context();
    let publisher = context.publisher().database_name().filter(|_| is_open(|model| &model.publisher_database));
    let subscriber = context.subscriber().database_name().filter(|_| is_open(|model| &model.subscriber_database));
    if let Some(database) = publisher {
        change.set("publisher_database", database)?;
    }
    if let Some(database) = subscriber {
        change.set("subscriber_database", database)?;
        object_id::plan_id(change)?;
    }
    Ok(())
}

/// Refuses a way back without a host, or with a login that soon expires.
fn check_way_back(call: &Call<Context>, change: &mut PlannedChange<Model>, planned: &Model) -> Result<()> {
    if planned.reverse.is_null() {
        return Ok(());
    }
    Way::BACK.check_known(call.context(), &planned.reverse)?;
    Way::BACK.check_login(call.context(), &change.config().reverse)
}

fn is_waiting(call: &Call<Context>) -> bool {
    call.context().publisher().is_waiting() || call.context().subscriber().is_waiting()
}

/// Whether a configured value is not known yet.
fn is_open(planned: &Model) -> bool {
    let has_unknown = planned.reverse.known().is_some_and(Connection::has_unknown);
    let subscriptions = planned.subscriptions.known().is_none();
    subscriptions
        || planned.active.is_unknown()
        || planned.reverse.is_unknown()
        || has_unknown
        || planned.message.is_unknown()
}

/// Plans whether to set the connection of the way back again. If it follows from the provider's configuration, this is
/// a change of its own.
async fn plan_sending(call: &Call<Context>, change: &mut PlannedChange<Model>, pair: &Pair) -> Result<bool> {
    let Some((prior, planned)) = change.prior().cloned().zip(change.planned().cloned()) else { return Ok(false) };
    if planned.reverse.is_null() || prior.reverse.is_null() || change.replaces() {
        return Ok(false);
    }
    let wanted = meant::connection(call, pair, &planned).await?;
    let is_sent = meant::is_sent_again(call.private(), &prior, &planned, &wanted);
    if is_sent {
        change.set_unknown("prepared")?;
        OF_SERVERS.iter().try_for_each(|attribute| change.set_unknown(attribute))?;
        let what = format!("{}: the way back gets a new connection to the subscriber", doing("planning", &planned));
        let why = match meant::differs(call.private(), &wanted) {
            true => "It differs from the one that was sent last, so it is sent again, password included.",
            false => "It is sent again, password included.",
        };
        change.warn(Error::new(what).detail(why));
    }
    Ok(is_sent)
}

/// Plans the address of the active side from the provider's configuration, so that other resources' plans can use it.
fn plan_where(change: &mut PlannedChange<Model>, pair: &Pair) -> Result<()> {
    let planned = change.planned().cloned().unwrap_or_default();
    if planned.host.is_unknown() {
        let database = side(pair, meant::active(&planned));
        change.set("host", database.config().host.clone())?;
        change.set("port", i64::from(database.config().port))?;
        change.set("database", database.name().to_owned())?;
    }
    if planned.reverse.is_null() {
        change.set("reverse_subscription", Attr::<String>::Null)?;
    }
    Ok(())
}

/// A way back can only be created before the first write to the subscriber.
fn late_way_back(prior: Option<&Model>, planned: &Model) -> Option<Error> {
    let prior = prior.filter(|prior| prior.reverse.is_null() && !planned.reverse.is_null())?;
    (meant::active(prior) == Place::Subscriber).then(|| too_late(planned))
}

fn too_late(planned: &Model) -> Error {
    let what = format!("{}: the way back cannot be created while the subscriber is active", doing("planning", planned));
    Error::new(what)
        .detail(
            "Rows that were written there since the cutover are missing on the publisher, and nothing would bring \
             them back.",
        )
        .detail("Leave reverse out.")
        .attribute("reverse")
}

/// Whether no stream brings the subscriber's writes back.
pub(super) fn has_lost_way_back(found: &Found) -> bool {
    found.active == Active::Side(Place::Subscriber) && found.current.backward.flow == Flow::Missing
}

/// Refuses to replace this resource while writes are on the subscriber.
fn replacing(prior: &Model, planned: &Model) -> Result<()> {
    if meant::active(prior) == Place::Publisher {
        return Ok(());
    }
    let what = format!("{}: it cannot be replaced while the subscriber is active", doing("planning", planned));
    let attribute = if prior.subscriptions == planned.subscriptions { "subscriber_database" } else { "subscriptions" };
    Err(Error::new(what)
        .detail("What it created on both sides belongs to the subscriptions and databases that it was created for.")
        .detail(
            "Move back first: set active = \"publisher\" and apply. Or leave this block as it is, and add another \
             one for further subscriptions.",
        )
        .attribute(attribute))
}

/// Plans from the state of both servers.
async fn of_servers(call: &Call<Context>, change: &mut PlannedChange<Model>, pair: &Pair, resend: bool) -> Result<()> {
    let planned = change.planned().cloned().unwrap_or_default();
    let doing = doing("planning", &planned);
    if let Err(error) = check_legs(call, change, pair, &planned).await {
        return unasked(change, error, &doing);
    }
    if !are_there(call, change, pair, &planned).await? {
        return Ok(());
    }
    let reverse = with_write_only(planned.reverse.clone(), &change.config().reverse);
    let asked = meant::cutover(call, pair, &Model { reverse, ..planned.clone() }, resend).await?;
    let limits = Limits::within(LOOK).cancelled_by(call.stop().clone());
    let operation = Operation::new(doing.as_str(), limits, call);
    let looked = Box::pin(cutover::look(pair, &asked, &operation)).await;
    match looked {
        Ok(found) => say(change, pair, &found, &planned),
        Err(error) => unasked(change, error, &doing)?,
    }
    Ok(())
}

/// Continues the plan of a new resource whose servers cannot be reached yet.
fn unasked(change: &mut PlannedChange<Model>, error: crate::replication::Error, doing: &str) -> Result<()> {
    let unchecked = "The steps, and what stands in their way, are only known when this is applied.";
    match error.cause().cloned() {
        Some(cause) => go_on_without(change, cause, doing, unchecked),
        None => Err(error.into()),
    }
}

/// Checks the connection that the publisher's server would use.
async fn check_legs(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    pair: &Pair,
    planned: &Model,
) -> crate::replication::Result<()> {
    if planned.reverse.is_null() {
        return Ok(());
    }
    let version = Some(pair.publisher.version().await?);
    if let Err(error) = check_options(Way::BACK, &planned.reverse, version) {
        change.error(error);
    }
    if let Some(weaker) = Way::BACK.weaker_leg(call.context(), &planned.reverse, version) {
        change.warn(weaker);
    }
    Ok(())
}

/// Whether all subscriptions exist. One that this run creates is expected; any other missing one is an error.
async fn are_there(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    pair: &Pair,
    planned: &Model,
) -> Result<bool> {
    let doing = doing("planning", planned);
    let existing =
        match call.unless_stopped(async { Ok::<_, Error>(subscription::fetch_all(&pair.subscriber).await) }).await? {
            Ok(existing) => existing,
            Err(error) => return unasked(change, error.into(), &doing).map(|()| false),
        };
    let wanted = subscriptions(planned)?;
    let intended = call.context().intended();
    let (coming, missing): (Vec<_>, Vec<_>) = wanted
        .iter()
        .filter(|name| !existing.contains_key(*name) || intended.makes_subscription(&pair.subscriber, name))
        .partition(|name| intended.makes_subscription(&pair.subscriber, name));
    for name in &missing {
        change.error(absent(&doing, pair, name, existing.keys()));
    }
    if !coming.is_empty() && missing.is_empty() {
        change.warn(comes_later(&doing, planned, &coming));
    }
    Ok(coming.is_empty() && missing.is_empty())
}

fn absent<'n>(doing: &str, pair: &Pair, name: &Ident, there: impl Iterator<Item = &'n Ident>) -> Error {
    let there = names::list(there.map(ToString::to_string));
    let there = if there.is_empty() { "It has none.".to_owned() } else { format!("It has {there}.") };
    let place = format!("{}/{}", pair.subscriber.config().address(), pair.subscriber.name());
    Error::new(format!("{doing}: there is no subscription {name} on the subscriber, {place}"))
        .detail(there)
        .detail("Refer to the neonrepl_subscription that creates it, so that it is created first, or correct the name.")
        .attribute("subscriptions")
}

fn comes_later(doing: &str, planned: &Model, coming: &[&Ident]) -> Error {
    let names = names::list(coming.iter().map(ToString::to_string));
    let switches = match meant::active(planned) {
        Place::Subscriber => "Then it prepares the cutover, waits until the tables are copied, and switches.",
        _ => "Then it prepares the cutover: the fence, the guard and the way back. Writers notice nothing of it.",
    };
    Error::new(format!("{doing}: subscription {names} is made by the same apply"))
        .detail(switches)
        .detail("What stands in its way is only known then.")
}

/// Reports all obstacles at once, and the steps.
fn say(change: &mut PlannedChange<Model>, pair: &Pair, found: &Found, planned: &Model) {
    report(change, found.objections.iter().cloned());
    if change.prior().is_none() && !planned.reverse.is_null() && has_lost_way_back(found) {
        change.error(too_late(planned));
    }
    if let Some(announcement) = announcement(pair, found, planned) {
        change.warn(announcement);
    }
}

/// The steps in words. None if there are none.
fn announcement(pair: &Pair, found: &Found, planned: &Model) -> Option<Error> {
    if found.steps.is_empty() {
        return None;
    }
    let switch = found.steps.iter().find_map(|step| match step {
        Step::Switch { from, .. } => Some(*from),
        _ => None,
    });
    let address = |place| side(pair, place).config().address();
    let what = match (switch, found.active) {
        (Some(from), _) => format!(
            "apply moves writes from the {} ({}) to the {} ({})",
            from.as_str(),
            address(from),
            from.other().as_str(),
            address(from.other())
        ),
        (None, Active::Between(_)) => {
            format!("neither side takes writes; apply opens the {}", seen::said(planned))
        }
        (None, Active::Side(_)) => "apply prepares it, and writers notice nothing".to_owned(),
    };
    let numbered = cutover::describe(&found.steps, found);
    let numbered = numbered.iter().enumerate().map(|(at, line)| format!("{}. {line}", at + 1));
    let error = Error::new(format!("{}: {what}", doing("planning", planned)));
    let error = error.detail(numbered.collect::<Vec<_>>().join("\n"));
    Some(if switch.is_some() { error.detail(pause(found)) } else { error })
}

fn pause(found: &Found) -> String {
    format!(
        "Writers wait while the tables are locked: about {} if no other session holds one of them. A session that \
         still writes to the old side afterwards gets error 25006. Readers are not affected.",
        units::duration(found.expected_wait)
    )
}

/// Warns of what a destroy leaves behind.
fn leaving(change: &mut PlannedChange<Model>) {
    let Some(prior) = change.prior() else { return };
    let has_switched = prior.position.known().is_some();
    let opens = prior.open_on_destroy.known() == Some(&true);
    let active = meant::active(prior);
    if !has_switched || opens && active == Place::Publisher {
        return;
    }
    let mut warning = Error::new(format!("{}: the {} stays active", doing("destroying", prior), active.as_str()));
    if prior.reverse_subscription.known().is_some() && active == Place::Subscriber {
        warning = warning.detail("The way back is removed: changes made from now on no longer flow back.");
    }
    if active == Place::Subscriber {
        warning = warning.detail(
            "The subscriptions that led there stay stopped and are no longer needed: remove their blocks as well.",
        );
    }
    if !opens {
        warning = warning.detail(format!(
            "The {} stays closed to writes. To let it take writes again, set open_on_destroy = true and apply first.",
            active.other().as_str()
        ));
    }
    change.warn(warning);
}
