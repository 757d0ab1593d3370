// SPDX-License-Identifier: MPL-2.0

//! Creates, changes and drops a subscription, on both servers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::{Model, is_set, to_desired, to_model};
use super::{ObjectId, connection, difference, gone, held, ident};
use crate::config::Context;
use crate::postgres::slot;
use crate::postgres::subscription::{self, HalfMade, How, Neighbour, Subscription};
use crate::postgres::{Conninfo, Database, Ident, Limits, Notice, SqlState, grant_of_replication, look_again};
use crate::replication::initial_copy::{self, InitialCopy};
use crate::replication::routes::TakingUp;
use crate::replication::slot_change::{self, SlotChange};
use crate::replication::slot_health::wrong_slot;
use crate::replication::status::{self, Known};
use crate::replication::subscribing::{self, Creation, NotMade, Remains};
use crate::replication::{self, Operation, Pair, connecting, joining, lost, tables};
use crate::resources::reaching::{self, Connected, Way};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::diagnostics::{Error, Result};

/// The state of a subscription, with values that need both servers, and a warning if its slot is gone.
pub(super) async fn observe(
    call: &Call<Context>,
    database: &Database,
    found: &Subscription,
    before: &Model,
) -> Result<Model> {
    let (model, publisher) = look_at(call, database, found, before).await?;
    if let Some(publisher) = &publisher
        && let Some(wrong) = wrong_slot(publisher, found).await
    {
        call.warn(wrong.into());
    }
    Ok(model)
}

/// The state of a subscription, and its publisher if known.
pub(super) async fn look_at(
    call: &Call<Context>,
    database: &Database,
    found: &Subscription,
    before: &Model,
) -> Result<(Model, Option<Database>)> {
    let mut model = to_model(database.name(), found, before);
    model = held::as_given_back(model, held::found(database, found).await?.as_ref());
    let publisher = connection::publisher_of(call, database, found, &model).await;
    model.unsubscribed_tables = unsubscribed(call, (publisher.clone(), database), found, before).await?.into();
    let connected = Connected::of(found.connection.as_ref(), call.private());
    model.connection_differs = difference::differing(call.context(), call.private(), &model, &connected).into();
    Ok((model, publisher))
}

/// How long to check whether a subscription is healthy; if no problem is known by then, it counts as healthy.
const JUDGING: Duration = Duration::from_secs(90);

/// Warns of an unhealthy subscription, with the causes; `changed` says that it was just changed. Returns whether there
/// was a warning.
pub(super) async fn warn_of_trouble(
    call: &Call<Context>,
    (publisher, database): (Option<&Database>, &Database),
    found: &Subscription,
    model: &Model,
    changed: bool,
) -> Result<bool> {
    let doing = format!("reading subscription {}", found.name);
    let operation = Operation::new(doing, Limits::within(JUDGING).cancelled_by(call.stop().clone()), call);
    let connection = connection::known(call, found, model);
    let subscription = Subscription { connection, ..found.clone() };
    let known = Known { subscriber: database, publisher, subscription: &subscription };
    let warning = Box::pin(status::warning(&operation, known, changed)).await?;
    let is_ill = warning.is_some();
    warning.into_iter().for_each(|warning| call.warn(warning.into()));
    Ok(is_ill)
}

/// The state of a subscription after a change, and a warning with the causes if it does not run. The change itself is
/// still a success.
async fn observe_changed(
    call: &Call<Context>,
    database: &Database,
    found: &Subscription,
    plan: &Model,
    saved: &Saved<Model>,
) -> Result<Model> {
    let (model, publisher) = look_at(call, database, found, plan).await?;
    saved.record(&model);
    let told = Box::pin(warn_of_trouble(call, (publisher.as_ref(), database), found, &model, true)).await;
    let is_told = told.unwrap_or_else(|cause| {
        tracing::info!(%cause, "it is not known whether the subscription works after its change");
        false
    });
    if let Some(publisher) = publisher.as_ref().filter(|_| !is_told)
        && let Some(wrong) = wrong_slot(publisher, found).await
    {
        call.warn(wrong.into());
    }
    Ok(model)
}

/// Tables that a refresh would add; empty if the publisher cannot be queried, which is not the subscription's fault.
async fn unsubscribed(
    call: &Call<Context>,
    (publisher, database): (Option<Database>, &Database),
    found: &Subscription,
    before: &Model,
) -> Result<BTreeSet<String>> {
    let Some(publisher) = publisher.filter(|_| found.enabled) else { return Ok(BTreeSet::new()) };
    match tables::compared(&Pair { publisher, subscriber: database.clone() }, found).await {
        Ok((new, missed)) => {
            if !missed.is_empty() {
                call.warn(tables::left_behind(found, &missed).into());
            }
            Ok(new.iter().map(crate::postgres::QualifiedName::to_text).collect())
        }
        Err(error) if error.is_locked() => {
            let what =
                format!("reading subscription {}: another session has locked a table of the publisher", found.name);
            let warning = Error::new(what)
                .detail("Whether there are new tables to subscribe to is not known, so the state is kept as it was.");
            call.warn(warning.detail(error.hint().unwrap_or_default()));
            Ok(before.unsubscribed_tables.known().cloned().unwrap_or_default())
        }
        Err(error) if error.place().address == database.config().address() => Err(error.into()),
        Err(error) => {
            tracing::warn!(cause = %error, "the publisher could not be asked for its tables");
            Ok(BTreeSet::new())
        }
    }
}

pub(super) async fn create(
    call: &Call<Context>,
    database: &Database,
    plan: Model,
    saved: &Saved<Model>,
    limits: &Limits,
) -> Result<Model> {
    let mut desired = to_desired(&plan)?;
    let doing = format!("creating subscription {}", desired.name);
    Way::FORWARD.check_login(call.context(), &plan.publisher)?;
    let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
    let conninfo = connection::conninfo(call.context(), &plan, Some(version))?;
    let publisher = connection::publisher(call.context(), &conninfo, database);
    reaching::remember(call.private(), &conninfo, &plan.publisher);
    desired.connection = Some(conninfo);
    let how = How {
        connect: is_set(&plan.connect),
        create_slot: is_set(&plan.create_slot),
        copy_data: is_set(&plan.copy_data),
        ..How::default()
    };
    let waits = is_set(&plan.wait_for_initial_sync);
    let operation = Operation::new(doing.as_str(), limits.clone(), call);
    let creation = Creation {
        subscriber: database,
        publisher: publisher.as_ref(),
        desired: &desired,
        how: &how,
        operation: &operation,
    };
    let explain = |not_made| explain(not_made, saved, database, &plan, &operation, desired.connection.as_ref());
    subscribing::prepare(creation).await.map_err(explain)?;
    if let Some(publisher) = &publisher {
        let pair = Pair { publisher: publisher.clone(), subscriber: database.clone() };
        initial_copy::check(&operation, &pair, &desired, &how, waits).await?;
        if how.connect {
            let (current, desired, copies) = (None, &desired, how.copy_data);
            TakingUp { pair: &pair, current, desired, copies }.refuse(&operation).await?;
        }
        if how.connect && !how.create_slot {
            joining::warn_of_younger(&operation, publisher, &desired).await?;
        }
    }
    let (notices, found) = subscribing::create(creation).await.map_err(explain)?;
    let model = to_model(database.name(), &found, &plan);
    saved.record(&model);
    warn(call, &doing, &notices);
    if waits && found.enabled {
        wait_for_copy(&operation, database, publisher.as_ref(), &desired).await?;
    }
    observe(call, database, &found, &model).await.map_err(|error| error.detail(initial_copy::KEPT_BY_UNTAINT))
}

pub(super) async fn update(
    call: &Call<Context>,
    database: &Database,
    prior: &Model,
    plan: Model,
    saved: &Saved<Model>,
    limits: &Limits,
) -> Result<Model> {
    let name = ident(&prior.name)?;
    let doing = format!("changing subscription {name}");
    let current = call.unless_stopped(subscription::fetch_now(database, &name)).await;
    let Some(mut current) = current.map_err(|error| error.during(&doing))? else {
        saved.record_gone();
        return Err(gone(&doing));
    };
    let stopped = held::found(database, &current).await?;
    let mut desired = held::kept(to_desired(&plan)?, &current, stopped.as_ref());
    let resend_connection = difference::is_sent(call.private(), prior, &plan);
    let publisher = connection::publisher_of(call, database, &current, prior).await;
    if resend_connection {
        Way::FORWARD.check_login(call.context(), &plan.publisher)?;
        let connected = Connected::of(current.connection.as_ref(), call.private());
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(&doing))?;
        let conninfo = difference::to_send(call.context(), call.private(), &plan, &connected, Some(version))?;
        desired.connection = Some(conninfo);
    }
    let operation = Operation::new(doing.as_str(), limits.clone(), call);
    let before = current.clone();
    let follows =
        plan.unsubscribed_tables.is_unknown() && desired.enabled || before.publications != desired.publications;
    let pair = publisher.clone().map(|publisher| Pair { publisher, subscriber: database.clone() });
    if follows && let Some(pair) = &pair {
        let (current, desired, copies) = (Some(&before), &desired, is_set(&plan.copy_data));
        TakingUp { pair, current, desired, copies }.refuse(&operation).await?;
    }
    let servers = (publisher.as_ref(), database);
    let slot_change = SlotChange::of(&operation, servers, &before, &desired, is_set(&plan.create_slot));
    let way = match &slot_change {
        Some(slot_change) => Some(slot_change.prepare().await?),
        None => None,
    };
    let mut how = How {
        copy_data: is_set(&plan.copy_data),
        refresh: plan.unsubscribed_tables.is_unknown() && desired.enabled,
        resend_connection,
        ..How::default()
    };
    let joins = !desired.publications.is_subset(&current.publications);
    if let Some(publisher) = publisher.as_ref().filter(|_| joins) {
        let joining = desired.publications.difference(&current.publications).cloned().collect();
        initial_copy::refuse_missing(&operation, publisher, &joining).await?;
    }
    let change = Change { call, database, prior, doing: &doing, saved, limits };
    let mut slot = slot_change.as_ref().zip(way.as_ref());
    if joins && !current.enabled && desired.enabled {
        // It must first apply changes older than the publication, but applies nothing while disabled.
        let first = Subscription { publications: current.publications.clone(), ..desired.clone() };
        let without_refresh = How { refresh: false, ..how.clone() };
        current = change.run_over(slot.take(), &current, &first, &without_refresh).await?;
        saved.record(&to_model(database.name(), &current, prior));
        how.resend_connection = false;
    }
    match &publisher {
        Some(publisher) if joins => joining::prepare(&operation, publisher, &current, &desired).await?,
        None if joins && current.slot_name().is_some() => joining::warn_of_unknown(&operation)?,
        _ => {}
    }
    if follows && let Some(pair) = &pair {
        let (enabled, publications) = (desired.enabled, desired.publications.clone());
        let asked = Subscription { enabled, publications, ..current.clone() };
        initial_copy::warn_of_rows(&operation, pair, &asked, &how).await?;
    }
    let old_worker = connecting::process(database, &current.name).await;
    let found = change.run_over(slot, &current, &desired, &how).await?;
    if let (Some(slot_change), Some(way)) = (&slot_change, &way) {
        slot_change.finish(way).await;
    }
    if let Some(connection) = desired.connection.as_ref().filter(|_| resend_connection) {
        reaching::remember(
            call.private(),
            &connection::conninfo(call.context(), &plan, database.version().await.ok())?,
            &plan.publisher,
        );
        // Values that only the configuration has stay as they were, so that the next plan sends the connection again.
        let (connection_version, publisher) = (prior.connection_version.clone(), prior.publisher.clone());
        saved.record(&Model { connection_version, publisher, ..to_model(database.name(), &found, &plan) });
        connecting::check(&operation, database, &found, (old_worker, connection)).await?;
    }
    if is_set(&plan.wait_for_initial_sync) && found.enabled && follows {
        saved.record(&to_model(database.name(), &found, &plan));
        let publisher = connection::publisher_of(call, database, &found, &plan).await;
        wait_for_copy(&operation, database, publisher.as_ref(), &found).await?;
    }
    Box::pin(observe_changed(call, database, &found, &plan, saved)).await
}

/// Waits for the copy. Each read is short, because another one follows.
async fn wait_for_copy(
    operation: &Operation<'_>,
    subscriber: &Database,
    publisher: Option<&Database>,
    subscription: &Subscription,
) -> Result<()> {
    let (subscriber, publisher) = (subscriber.briefly(), publisher.map(Database::briefly));
    let copy = InitialCopy { subscriber: &subscriber, publisher: publisher.as_ref(), subscription };
    Ok(initial_copy::wait(operation, &copy).await?)
}

/// The shared parts of one update.
struct Change<'a> {
    call: &'a Call<Context>,
    database: &'a Database,
    prior: &'a Model,
    doing: &'a str,
    saved: &'a Saved<Model>,
    limits: &'a Limits,
}

impl Change<'_> {
    /// Like [`Change::run`], with the lock on the new slot if the slot changes.
    async fn run_over(
        &self,
        slot: Option<(&SlotChange<'_>, &slot_change::Way)>,
        current: &Subscription,
        desired: &Subscription,
        how: &How,
    ) -> Result<Subscription> {
        let change = self.run(current, desired, how);
        match slot {
            Some((slot_change, way)) => Box::pin(slot_change.change_over(way, change)).await,
            None => change.await,
        }
    }

    /// Turns `current` into `desired`, and returns the result on the server.
    ///
    /// # Errors
    /// When the server refuses a statement or its version lacks a feature. Then the state has the actual values.
    async fn run(&self, current: &Subscription, desired: &Subscription, how: &How) -> Result<Subscription> {
        let Self { call, database, prior, doing, saved, limits } = *self;
        let version = call.unless_stopped(database.version()).await.map_err(|error| error.during(doing))?;
        let statements = subscription::diff(Some(current), Some(desired), how, version)
            .map_err(|unsupported| database.unsupported(doing, unsupported))?;
        let error = match subscription::apply(database, doing, &statements, &desired.name, limits).await {
            Ok((notices, found)) => {
                warn(call, doing, &notices);
                return found.ok_or_else(|| gone(doing));
            }
            Err(error) => error,
        };
        let found = what_is(database, &[&desired.name, &current.name], limits).await;
        if let Some(Some(found)) = &found {
            // Values that only the configuration has stay as they were, so that the next plan tries again.
            saved.record(&to_model(database.name(), found, prior));
        }
        // A connection that may be read has been compared.
        let left = |found: &Subscription| {
            let resend_connection = how.resend_connection && found.connection.is_none();
            subscription::diff(Some(found), Some(desired), &How { resend_connection, ..how.clone() }, version)
        };
        match found {
            Some(Some(found)) if error.is_lost() && left(&found).is_ok_and(|left| left.is_empty()) => Ok(found),
            found => Err(lost::explain(error, found.as_ref()).into()),
        }
    }
}

/// After a failure some statements may have run: reads the actual subscription, under any of its names.
async fn what_is(database: &Database, names: &[&Ident], limits: &Limits) -> Option<Option<Subscription>> {
    for name in names {
        match look_again(limits, || subscription::fetch_now(database, name)).await {
            Some(None) => {}
            found => return found,
        }
    }
    Some(None)
}

pub(super) async fn delete(call: &Call<Context>, database: &Database, prior: &Model, limits: &Limits) -> Result<()> {
    let name = ident(&prior.name)?;
    let doing = format!("dropping subscription {name}");
    let current = call.unless_stopped(subscription::fetch_now(database, &name)).await;
    let Some(current) = current.map_err(|error| error.during(&doing))? else { return Ok(()) };
    if let Some(half_made) = half_made(database, &current).await? {
        let publisher = connection::publisher_of(call, database, &current, prior).await;
        let (subscriber, publisher) = (database, publisher.as_ref());
        let remains = Remains { subscriber, publisher, found: &current, half_made: &half_made };
        subscribing::remove(remains, &Operation::new(doing, limits.clone(), call)).await?;
        return Ok(());
    }
    if let Some(slot) = current.slot_name()
        && let Some(other) = subscription::sharer(database, slot, &name).await?
    {
        return drop_beside(call, database, &doing, (&name, slot), &other, limits).await;
    }
    let error = match database.run_within(&doing, &[subscription::drop_with_slot(&current)], limits).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is(&SqlState::UNDEFINED_OBJECT) => return Ok(()),
        Err(error) if error.is_lost() => {
            let found = look_again(limits, || subscription::fetch_now(database, &name)).await;
            return if matches!(found, Some(None)) { Ok(()) } else { Err(lost::explain(error, found.as_ref()).into()) };
        }
        Err(error) => error,
    };
    // Only the publisher's side is optional.
    let publisher_failed = error.is(&SqlState::CONNECTION_FAILURE);
    let slot = current.slot_name().cloned();
    let slot_is_gone = publisher_failed && is_slot_gone(call, database, prior, &current).await;
    let does_without = publisher_failed && is_set(&prior.force_destroy);
    if !(slot_is_gone || does_without) {
        let remedy =
            "To drop it without its publisher, apply force_destroy = true first. The slot stays on the publisher then.";
        let shown = Error::from(error);
        return Err(if publisher_failed { shown.detail(remedy) } else { shown });
    }
    // Slots that copy a table now are dropped with the subscription if the publisher answers.
    let copying =
        if slot_is_gone { Vec::new() } else { subscription::sync_slots(database, &name).await.unwrap_or_default() };
    database.run_within(&doing, &subscription::drop_detached(&name), limits).await?;
    for slot in slot.into_iter().filter(|_| !slot_is_gone).chain(copying) {
        call.warn(
            Error::new(format!("replication slot {slot} stays on the publisher, and keeps WAL there"))
                .detail(error.to_string())
                .detail(format!(
                    "Once the publisher can be reached, run there: {}",
                    connection::drop_slot_by_hand(&slot)
                )),
        );
    }
    Ok(())
}

/// The mark of a subscription that is not completely created, which has never run.
async fn half_made(database: &Database, current: &Subscription) -> Result<Option<HalfMade>> {
    if current.enabled {
        return Ok(None);
    }
    Ok(subscription::half_made(database, &current.name).await?.filter(|half_made| !half_made.enabled))
}

/// Drops a subscription and keeps its slot for another one, which may need it.
async fn drop_beside(
    call: &Call<Context>,
    database: &Database,
    doing: &str,
    (name, slot): (&Ident, &Ident),
    other: &Neighbour,
    limits: &Limits,
) -> Result<()> {
    database.run_within(doing, &subscription::drop_detached(name), limits).await?;
    let left = format!("replication slot {slot} stays on the publisher, because {other} uses it too");
    call.warn(Error::new(left).detail("If two subscriptions share a slot, each misses the changes that the other \
         receives.").detail(format!(
        "If that subscription reads from another publisher, the slot is no longer needed. Then run on the publisher \
         of the dropped subscription: {}",
        connection::drop_slot_by_hand(slot)
    )));
    Ok(())
}

async fn is_slot_gone(call: &Call<Context>, database: &Database, prior: &Model, current: &Subscription) -> bool {
    match (connection::publisher_of(call, database, current, prior).await, current.slot_name()) {
        (Some(publisher), Some(slot)) => matches!(slot::fetch_now(&publisher, slot).await, Ok(None)),
        _ => false,
    }
}

/// Records the remains of a failed create, and says what to do.
fn explain(
    not_made: NotMade,
    saved: &Saved<Model>,
    database: &Database,
    plan: &Model,
    operation: &Operation<'_>,
    connection: Option<&Conninfo>,
) -> Error {
    match not_made {
        NotMade::Exists => Error::from(operation.error("it already exists")).detail(ObjectId::import_hint(&plan.id)),
        NotMade::Failed { error, left } => {
            if let Some(left) = left {
                saved.record(&to_model(database.name(), &left, plan));
            }
            with_remedy(*error, connection).into()
        }
    }
}

/// Adds a remedy to Postgres's error.
fn with_remedy(error: replication::Error, connection: Option<&Conninfo>) -> replication::Error {
    match connection {
        Some(connection) if error.is(&SqlState::CONNECTION_FAILURE) => unreached(error, connection),
        _ if error.is(&SqlState::PROTOCOL_VIOLATION) => error.detail(
            "A slot of that name may belong to another subscription. Set slot_name to another name, or, to use the \
             existing slot, set create_slot = false.",
        ),
        _ => error,
    }
}

/// Adds a remedy if the subscriber could not connect or log in with its connection.
fn unreached(error: replication::Error, connection: &Conninfo) -> replication::Error {
    let address = connection.tcp_address().map(|(host, port)| format!("{host}:{port}"));
    let address = address.unwrap_or_else(|_| connection.to_string());
    let replicates = error.to_string().contains("REPLICATION");
    let role = connection.get("user").and_then(|user| Ident::new(user).ok()).filter(|_| replicates);
    let grant = role.map(|role| grant_of_replication(&role, &address)).unwrap_or_default();
    error.detail(grant).detail(format!(
        "The subscriber's server connects to {address} from its own network. For Aurora, the writer must be \
         publicly accessible, and its security group must allow the addresses of data source \
         neonrepl_neon_nat_addresses. To give the subscriber another address, use the publisher block of the \
         subscription."
    ))
}

fn warn(call: &Call<Context>, doing: &str, notices: &[Notice]) {
    for notice in notices.iter().filter(|notice| notice.is_warning()) {
        call.warn(
            Error::new(format!("{doing}: {}", notice.message)).detail(notice.hint.as_deref().unwrap_or_default()),
        );
    }
}
