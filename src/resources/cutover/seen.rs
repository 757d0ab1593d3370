// SPDX-License-Identifier: MPL-2.0

//! Turns the state of both servers into the resource's state.

use std::collections::BTreeSet;

use super::meant::{self, side};
use super::model::{self, Model};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::cutover::{Active, Flow, Found, Outcome, Step, Switched};
use crate::replication::{Pair, Place};
use crate::resources::object_id::ObjectId;
use crate::tf_provider::convert::Attr;

/// The result of a look, as far as a state stores it.
pub(super) struct Seen {
    active: Place,
    prepared: bool,
    tables: BTreeSet<QualifiedName>,
    reverse: Option<Ident>,
    last: Option<Switched>,
}

impl Seen {
    /// The state after everything was done.
    pub(super) fn done(outcome: Outcome) -> Self {
        let Outcome { active, is_unfinished, fenced_tables: tables, last, reverse_subscription: reverse, .. } = outcome;
        Self { active, prepared: !is_unfinished, tables, reverse, last }
    }

    /// The current state. While neither side takes writes, it keeps the previous active side: `before`.
    pub(super) fn now(found: &Found, before: Place) -> Self {
        let active = match found.active {
            Active::Side(side) => side,
            Active::Between(_) => before,
        };
        let is_there = found.current.backward.flow != Flow::Missing;
        Self {
            active,
            prepared: is_prepared(found),
            tables: found.tables.clone(),
            reverse: found.reverse_subscription.clone().filter(|_| is_there),
            last: found.last.clone(),
        }
    }

    /// The resource's state; values that only the configuration has come from `before`.
    pub(super) fn to_model(&self, pair: &Pair, before: &Model) -> Model {
        let config = side(pair, self.active).config();
        let last = self.last.as_ref();
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let (name, database) = (model::name(&before.subscriptions), pair.subscriber.name());
        let id = name.known().map(|name| ObjectId::new(database, name).to_string());
        Model {
            id: id.into(),
            name,
            active: self.active.as_str().into(),
            publisher_database: pair.publisher.name().into(),
            subscriber_database: database.into(),
            prepared: self.prepared.into(),
            fenced_tables: self.tables.iter().map(QualifiedName::to_text).collect::<BTreeSet<_>>().into(),
            reverse_subscription: self.reverse.as_ref().map(|name| name.as_str().to_owned()).into(),
            host: config.host.clone().into(),
            port: i64::from(config.port).into(),
            database: side(pair, self.active).name().into(),
            position: last.map(|last| last.position.clone()).into(),
            cut_over_at: last.map(|last| last.at.clone()).into(),
            write_pause_ms: last.map(|last| i64::try_from(last.pause.as_millis()).unwrap_or(i64::MAX)).into(),
            writers_waited: last.map(|last| number(last.writers_waited)).into(),
            sequences_copied: last.map(|last| number(last.sequences_copied)).into(),
            ..before.clone()
        }
    }
}

/// Whether nothing remains to be done except a switch.
fn is_prepared(found: &Found) -> bool {
    let is_between = matches!(found.active, Active::Between(_));
    let is_begin = |step: &&Step| !matches!(step, Step::Hasten(_) | Step::Switch { .. });
    let switches = found.steps.iter().any(|step| matches!(step, Step::Switch { .. }));
    let first = found.steps.iter().take_while(|step| !matches!(step, Step::Switch { .. })).find(is_begin);
    !is_between && first.is_none() && (switches || found.steps.is_empty())
}

/// Whether any part of a cutover exists.
pub(super) fn is_there(found: &Found) -> bool {
    use crate::postgres::fence::Gate;
    let sides = [found.current.publisher, found.current.subscriber];
    sides.iter().any(|side| side.gate != Gate::Missing) || found.current.backward.flow != Flow::Missing
}

/// Whether a model creates something that can be seen on the servers.
pub(super) fn leaves_traces(model: &Model) -> bool {
    let is_fenced = model.writes.known().is_none_or(|writes| writes == "fence");
    is_fenced || model.guard.known() != Some(&false) || !matches!(model.reverse, Attr::Null)
}

/// The active side in a state or plan, in words.
pub(super) fn said(model: &Model) -> &'static str {
    meant::active(model).as_str()
}
