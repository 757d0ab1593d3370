// SPDX-License-Identifier: MPL-2.0

//! Reads, creates, changes and destroys a cutover.

use std::time::Duration;

use super::meant::{self, pair};
use super::model::Model;
use super::outlook::{doing, has_lost_way_back};
use super::seen::{self, Seen};
use crate::config::Context;
use crate::postgres::{Ident, Limits, subscription};
use crate::replication::cutover::{self, Active, Cutover, Found};
use crate::replication::{self, Operation, Pair, Place};
use crate::resources::reaching::{self, Connection, Way};
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(60);

/// How long a failed apply may read the current state.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
    let imported = state.active.is_null();
    let pair = pair(call, &state)?;
    let state = if imported { taken_over(&pair, state) } else { state };
    let doing = doing("reading", &state);
    let operation = Operation::new(doing.as_str(), Limits::within(LOOK).cancelled_by(call.stop().clone()), call);
    let asked = meant::cutover(call, &pair, &state, false).await?;
    let found = Box::pin(cutover::look(&pair, &asked, &operation)).await?;
    if !seen::is_there(&found) && (imported || seen::leaves_traces(&state)) {
        return Ok(None);
    }
    let state = if imported { with_found(call, &pair, &found, state).await } else { state };
    if let Active::Between(next) = found.active {
        call.warn(between(&doing, next));
    }
    if !state.reverse.is_null() && has_lost_way_back(&found) {
        call.warn(lost_way_back(&doing, found.reverse_subscription.as_ref()));
    }
    Ok(Some(Seen::now(&found, meant::active(&state)).to_model(&pair, &state)))
}

/// If both sides are closed, a person must know it at once.
fn between(doing: &str, next: Place) -> Error {
    Error::new(format!("{doing}: neither side takes writes"))
        .detail(format!(
            "An apply was interrupted after the switch to the {} had committed: the {} is closed to writes, and the \
             {} is not open yet.",
            next.as_str(),
            next.other().as_str(),
            next.as_str()
        ))
        .detail(
            "The next apply finishes the switch, or opens the old side again if you have changed active back. \
             Nothing was written in between.",
        )
}

/// Somebody has dropped the subscription that brings changes back, so switching back would lose changes.
fn lost_way_back(doing: &str, name: Option<&Ident>) -> Error {
    let name = name.map(|name| format!("{name}, ")).unwrap_or_default();
    Error::new(format!("{doing}: changes to the subscriber no longer flow back"))
        .detail(format!(
            "The subscription of the way back, {name}is gone from the publisher. It cannot be created \
             again, because changes made since then are missing there."
        ))
        .detail("Remove the `reverse` block, and stay on the subscriber.")
}

/// The state of an import before anything is read.
fn taken_over(pair: &Pair, state: Model) -> Model {
    Model { publisher_database: pair.publisher.name().into(), active: "publisher".into(), ..state }
}

/// The same, with configured values that can be read from the servers.
async fn with_found(call: &Call<Context>, pair: &Pair, found: &Found, state: Model) -> Model {
    use crate::postgres::fence::Gate;
    let active = match found.active {
        Active::Side(side) | Active::Between(side) => side,
    };
    let guard = found.current.side(active.other()).gate == Gate::Armed;
    let reverse = match &found.reverse_subscription {
        Some(name) if found.current.backward.flow != cutover::Flow::Missing => {
            Attr::Known(block(call, pair, name, &state).await)
        }
        _ => Attr::Null,
    };
    Model { active: active.as_str().into(), guard: guard.into(), reverse, ..state }
}

/// The block of an existing way back: empty if the provider's configuration alone gives the same, or if its connection
/// may not be read.
async fn block(call: &Call<Context>, pair: &Pair, name: &Ident, state: &Model) -> Connection {
    let empty = Connection::default();
    let by_default = Model { reverse: empty.clone().into(), ..state.clone() };
    let Ok(wanted) = meant::connection(call, pair, &by_default).await else { return empty };
    let found = subscription::fetch(&pair.publisher, name).await;
    match found.ok().flatten().and_then(|found| found.connection) {
        Some(there) if !crate::postgres::conninfo_parts::differing(&there, &wanted).is_empty() => {
            Connection::of(&there)
        }
        _ => empty,
    }
}

pub(super) async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>, time: Duration) -> Result<Model> {
    let change = Change { call, prior: None, plan: &plan, saved, time };
    Box::pin(change.apply("creating")).await
}

pub(super) async fn update(
    call: &Call<Context>,
    prior: &Model,
    plan: Model,
    saved: &Saved<Model>,
    time: Duration,
) -> Result<Model> {
    let change = Change { call, prior: Some(prior), plan: &plan, saved, time };
    Box::pin(change.apply("changing")).await
}

/// One create or update.
struct Change<'a> {
    call: &'a Call<Context>,
    prior: Option<&'a Model>,
    plan: &'a Model,
    saved: &'a Saved<Model>,
    time: Duration,
}

impl Change<'_> {
    async fn apply(&self, verb: &str) -> Result<Model> {
        let Self { call, plan, .. } = *self;
        let limits = Limits::within(self.time).cancelled_by(call.stop().clone());
        let pair = pair(call, plan)?.within(&limits);
        let doing = doing(verb, plan);
        let operation = Operation::new(doing.as_str(), limits, call);
        if !plan.reverse.is_null() {
            Way::BACK.check_login(call.context(), &plan.reverse)?;
        }
        let asked = self.asked(&pair).await?;
        match Box::pin(cutover::run(&pair, &asked, &operation)).await {
            Ok(outcome) => {
                self.remember(&asked);
                Ok(Seen::done(outcome).to_model(&pair, plan))
            }
            Err(error) => Box::pin(self.after_failure(&doing, &asked, error)).await,
        }
    }

    async fn asked(&self, pair: &Pair) -> Result<Cutover> {
        let Self { call, prior, plan, .. } = *self;
        let asked = meant::cutover(call, pair, plan, false).await?;
        let resend = match (&asked.way_back, prior.filter(|prior| !prior.reverse.is_null())) {
            (Some(back), Some(prior)) => meant::is_sent_again(call.private(), prior, plan, &back.connection),
            _ => false,
        };
        Ok(Cutover { way_back: asked.way_back.map(|back| cutover::WayBack { resend, ..back }), ..asked })
    }

    /// Records the connection that was set, without its password.
    fn remember(&self, asked: &Cutover) {
        if let Some(back) = &asked.way_back {
            reaching::remember(self.call.private(), &back.connection, &self.plan.reverse);
        }
    }

    /// Sets the state from the servers. After the commit of a switch, a create must not fail: Terraform and OpenTofu
    /// would make the next apply undo it first, including the way back.
    async fn after_failure(&self, doing: &str, asked: &Cutover, error: replication::Error) -> Result<Model> {
        let Self { call, prior, plan, .. } = *self;
        let limits = Limits::within(LOOK_AGAIN);
        let pair = pair(call, plan)?.within(&limits);
        let operation = Operation::new(doing, limits, call);
        let Ok(found) = Box::pin(cutover::look(&pair, asked, &operation)).await else { return Err(error.into()) };
        let is_committed = match found.active {
            Active::Side(side) => side == asked.desired.active && found.last.is_some(),
            Active::Between(next) => next == asked.desired.active,
        };
        let before = prior.unwrap_or(plan);
        let was = if is_committed { asked.desired.active } else { asked.desired.active.other() };
        let was = prior.map_or(was, meant::active);
        let model = Seen::now(&found, was).to_model(&pair, before);
        if prior.is_some() {
            self.saved.record(&model);
            return Err(error.into());
        }
        if !seen::is_there(&found) {
            return Err(error.into());
        }
        self.remember(asked);
        if is_committed || asked.desired.active == Place::Publisher && self.is_stopped() {
            call.warn(Error::from(error).detail("The next apply finishes it."));
            return Ok(model);
        }
        self.saved.record(&model);
        Err(Error::from(error).detail(KEPT))
    }

    fn is_stopped(&self) -> bool {
        self.call.stop().is_cancelled()
    }
}

/// Added to the error of a failed create.
const KEPT: &str = "What has been prepared is kept, and writers on the publisher do not notice it. The resource is \
     tainted now, so the next apply would delete and create it again. To go on from here instead, run `terraform \
     untaint` or `tofu untaint` with its address first.";

pub(super) async fn delete(call: &Call<Context>, prior: &Model, time: Duration) -> Result<()> {
    let limits = Limits::within(time).cancelled_by(call.stop().clone());
    let pair = pair(call, prior)?.within(&limits);
    let doing = doing("destroying", prior);
    let operation = Operation::new(doing.as_str(), limits, call);
    let asked = meant::cutover(call, &pair, prior, false).await?;
    let opens = prior.open_on_destroy.known() == Some(&true);
    let left = Box::pin(cutover::take_away(&pair, &asked, opens, &operation)).await?;
    if let Some((place, statements)) = left.closed {
        call.warn(stays_closed(&doing, &pair, place, &statements));
    }
    Ok(())
}

fn stays_closed(doing: &str, pair: &Pair, place: Place, statements: &[String]) -> Error {
    let database = meant::side(pair, place);
    Error::new(format!("{doing}: the {} stays closed to writes", place.as_str())).detail(format!(
        "To open it, run on {}, in database {:?}, as the owner of its tables: {}",
        database.config().address(),
        database.name(),
        statements.join(" ")
    ))
}
