// SPDX-License-Identifier: MPL-2.0

//! One call: its parameters, the facts that it has read, and the names that it uses.

use std::time::Duration;

use super::memory::Memory;
use super::reading::{Facts, Side, Stream};
use super::{Cutover, Terms};
use crate::postgres::fence::Refusal;
use crate::postgres::{Database, Ident, Limits, Statement};
use crate::replication::error::{Error, Result};
use crate::replication::{Listener, Operation, Pair, Place};

/// A call in progress.
pub(super) struct Run<'a> {
    operation: Operation<'a>,
    pair: Pair,
    pub(super) cutover: &'a Cutover,
    pub(super) facts: Facts,
}

/// How long a committed switch may take to finish, even after a request to stop: nobody can write until then.
const AFTER_COMMIT: Duration = Duration::from_secs(60);

impl<'a> Run<'a> {
    /// Looks at both servers.
    ///
    /// # Errors
    /// When a query fails.
    pub(super) async fn begin(operation: &Operation<'a>, pair: &Pair, cutover: &'a Cutover) -> Result<Self> {
        let facts = operation.unless_stopped(Box::pin(Facts::read(pair, cutover))).await?;
        Ok(Self { operation: operation.clone(), pair: pair.clone(), cutover, facts })
    }

    /// Continues until the switch is finished, and ignores requests to stop.
    pub(super) fn finish_in_any_case(&mut self) {
        self.operation = Operation::new(self.operation.doing(), Limits::within(AFTER_COMMIT), &Nobody);
        self.pair = self.pair.within(self.operation.limits());
    }

    pub(super) fn operation(&self) -> &Operation<'a> {
        &self.operation
    }

    pub(super) fn pair(&self) -> &Pair {
        &self.pair
    }

    pub(super) fn db(&self, place: Place) -> &Database {
        if place == Place::Subscriber { &self.pair.subscriber } else { &self.pair.publisher }
    }

    pub(super) fn terms(&self) -> &'a Terms {
        &self.cutover.terms
    }

    pub(super) fn limits(&self) -> &Limits {
        self.operation.limits()
    }

    pub(super) fn memory(&mut self, place: Place) -> &mut Memory {
        &mut self.facts.side_mut(place).memory
    }

    /// The memory of this side's fence, or a new one if it has none.
    pub(super) fn remembered(&self, place: Place) -> Memory {
        let side = self.facts.side(place);
        let other = self.facts.side(place.other());
        match side.memory.subscriptions.is_empty() {
            true => Memory::new(&self.cutover.subscriptions, other.identity.clone()),
            false => side.memory.clone(),
        }
    }

    /// Runs statements on a side and updates the memory of its fence, in one transaction.
    ///
    /// # Errors
    /// When the server refuses it, or a query fails.
    pub(super) async fn change(
        &mut self,
        place: Place,
        doing: &str,
        statements: impl IntoIterator<Item = Statement>,
        memory: Memory,
    ) -> Result<()> {
        let describe = self.facts.names.fence.describing(&memory.text());
        let statements: Vec<_> = statements.into_iter().chain([describe]).collect();
        self.db(place).run_within(doing, &statements, self.limits()).await?;
        *self.memory(place) = memory;
        Ok(())
    }

    /// The message for writers on a side that does not take writes.
    pub(super) fn refusal(&self, closed: Place, is_left: bool) -> Refusal {
        let active = self.db(closed.other());
        let config = active.config();
        let message = match is_left {
            true => self.terms().message.clone(),
            false => "this database does not take writes yet".to_owned(),
        };
        let hint = format!("Database {} on {}:{} takes them.", active.name(), config.host, config.port);
        Refusal { message, hint }
    }

    /// The subscriptions that bring changes to a side, each with its slot.
    pub(super) fn slots_to(&self, place: Place) -> Vec<(Ident, Ident)> {
        let streams = self.facts.streams_to(place);
        streams.into_iter().map(|stream| (stream.subscription.name.clone(), stream.slot.clone())).collect()
    }
}

impl Facts {
    pub(super) fn side_mut(&mut self, place: Place) -> &mut Side {
        if place == Place::Subscriber { &mut self.subscriber } else { &mut self.publisher }
    }

    /// The subscriptions that bring changes to a side.
    pub(super) fn streams_to_mut(&mut self, place: Place) -> Vec<&mut Stream> {
        match place {
            Place::Subscriber => self.forward.values_mut().collect(),
            _ => self.backward.iter_mut().filter(|back| back.is_ours).collect(),
        }
    }
}

/// After a commit, warnings go only to the log.
struct Nobody;

impl Listener for Nobody {
    fn warn(&self, warning: Error) {
        tracing::info!(%warning, "after the commit of a switch");
    }
}
