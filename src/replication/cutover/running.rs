// SPDX-License-Identifier: MPL-2.0

//! Runs a call: reads, decides, acts, and reads again until nothing is left to do.

use std::time::Duration;

use tokio::time::Instant;

use super::objecting;
use super::reading::Facts;
use super::run::Run;
use super::steps::Step;
use super::switching::{self, Done, Switch, milliseconds};
use super::{Active, Cutover, Outcome, Switched};
use crate::postgres::{Ident, settings};
use crate::replication::checks::Objection;
use crate::replication::comparison::{Closed, Mode};
use crate::replication::error::{Error, Result};
use crate::replication::{Operation, Pair, Place};

/// How often it reads at most. The second time finds what a step has left, and the third should find nothing.
const LOOKS: usize = 5;

/// Added to the error of a failure after the commit.
const COMMITTED: &str = "The switch itself is committed. Apply again: that finishes it.";

/// How many round trips a switch takes while writers wait.
const ROUND_TRIPS: u32 = 20;

/// How many rows a server counts in a millisecond, at least.
const COUNTED: u64 = 10_000;

/// How many rows a server hashes in a millisecond, at least.
const HASHED: u64 = 1_500;

/// Does the remaining steps.
pub(super) async fn run(pair: &Pair, cutover: &Cutover, operation: &Operation<'_>) -> Result<Outcome> {
    let pair = pair.within(operation.limits());
    let mut cutover = cutover.clone();
    let alone = switching::alone(&Run::begin(operation, &pair, &cutover).await?).await?;
    let mut has_switched = false;
    for _ in 0..LOOKS {
        operation.go_on()?;
        let mut run = Run::begin(operation, &pair, &cutover).await?;
        let (steps, objections) = Box::pin(objecting::judge(&run)).await?;
        heed(operation, objections)?;
        if steps.is_empty() {
            // The lock ends with its transaction in any case.
            let _ = alone.end(operation.limits()).await;
            return Ok(run.outcome(has_switched));
        }
        has_switched |= steps.iter().any(|step| matches!(step, Step::Switch { .. }));
        let reconnects = steps.iter().any(|step| matches!(step, Step::Reconnect(_) | Step::MakeStream(_)));
        Box::pin(run.perform(&steps)).await?;
        if let Some(way) = cutover.way_back.as_mut().filter(|_| reconnects) {
            way.resend = false;
        }
    }
    Err(operation
        .error("each step is undone as soon as it is done")
        .detail("Check whether another run works on the same cutover."))
}

/// Fails with all refusals, and reports the warnings.
fn heed(operation: &Operation<'_>, objections: Vec<Objection>) -> Result<()> {
    let (mut refusals, mut warnings) = (Vec::new(), Vec::new());
    for objection in objections {
        match objection {
            Objection::Refusal(error) => refusals.push(error),
            Objection::Warning(warning) => warnings.push(warning),
        }
    }
    match refused(operation, refusals) {
        Some(error) => Err(error),
        None => {
            warnings.into_iter().for_each(|warning| operation.warn(warning.during(operation.doing())));
            Ok(())
        }
    }
}

/// One error of all that stands in the way.
fn refused(operation: &Operation<'_>, refusals: Vec<Error>) -> Option<Error> {
    let count = refusals.len();
    let mut refusals = refusals.into_iter();
    match (refusals.next()?, count) {
        (only, 1) => Some(only.during(operation.doing())),
        (first, count) => {
            let option = first.option();
            let all = [first].into_iter().chain(refusals);
            let error = all.fold(operation.error(format!("{count} things stand in the way")), |error, one| {
                error.detail(one.to_string())
            });
            Some(option.into_iter().fold(error, Error::about))
        }
    }
}

impl Run<'_> {
    /// Does the steps in their order.
    async fn perform(&mut self, steps: &[Step]) -> Result<()> {
        let active = self.facts.current(self.cutover).active();
        let mut done: Option<(Place, Done)> = None;
        for step in steps {
            tracing::info!(?step, "cutover");
            match step {
                Step::Switch { from, number, under } => {
                    let switch = Switch { run: self, from: *from, number: *number, under };
                    let result = Box::pin(switch.perform()).await;
                    match result {
                        Ok(committed) => {
                            *self.memory(*from) = committed.memory.clone();
                            self.finish_in_any_case();
                            done = Some((*from, committed));
                        }
                        Err(not_done) => {
                            if !not_done.is_open {
                                self.undo_switch(*from).await;
                            }
                            return Err(not_done.error);
                        }
                    }
                }
                Step::Hasten(to) => {
                    if let Err(error) = Box::pin(self.one(step, active)).await {
                        self.undo_switch(to.other()).await;
                        return Err(error);
                    }
                }
                step => {
                    let result = Box::pin(self.one(step, active)).await;
                    result.map_err(|error| if done.is_some() { error.detail(COMMITTED) } else { error })?;
                }
            }
            if let (Step::Open(_), Some((from, committed))) = (step, &done) {
                self.note_pause(*from, committed.since).await;
            }
        }
        Ok(())
    }

    /// One step.
    async fn one(&mut self, step: &Step, active: Active) -> Result<()> {
        match step {
            Step::MakeFence(place) => self.make_fence(*place, active == Active::Side(*place)).await,
            Step::Guard(place) => self.guard(*place).await,
            Step::RemoveStream(_) => self.remove_stream().await,
            Step::MakeStream(_) => self.make_stream().await,
            Step::Reconnect(_) => self.reconnect().await,
            Step::Hasten(place) => self.hasten(*place).await,
            Step::Stop(place) => self.stop(*place).await,
            Step::Start(place) => self.start(*place).await,
            Step::Open(place) => self.open(*place, active == Active::Between(place.other())).await,
            Step::DropSlot(place) => self.drop_slots(*place).await,
            Step::Calm(place) => self.calm(*place).await,
            Step::Switch { .. } => Ok(()),
        }
    }

    /// Records how long nobody could write, once that is over.
    async fn note_pause(&mut self, from: Place, since: Instant) {
        let mut memory = self.remembered(from);
        if let Some(left) = memory.left.as_mut() {
            left.pause_ms = milliseconds(since.elapsed());
        }
        if let Err(cause) = self.change(from, "noting how long writers waited", [], memory).await {
            tracing::info!(%cause, "the noted pause ends at the commit");
        }
    }

    /// The current result.
    pub(super) fn outcome(&self, has_switched: bool) -> Outcome {
        let (active, is_unfinished) = match self.facts.current(self.cutover).active() {
            Active::Side(active) => (active, false),
            Active::Between(next) => (next, true),
        };
        Outcome {
            active,
            is_unfinished,
            fenced_tables: self.facts.tables.clone(),
            last: self.facts.last(),
            has_switched,
            reverse_subscription: self.facts.backward.as_ref().filter(|back| back.is_ours).and(self.way_back_name()),
        }
    }

    /// About how long writers wait: the round trips, and the rows that are compared.
    pub(super) async fn expected_wait(&self) -> Result<Duration> {
        let began = Instant::now();
        self.operation().unless_stopped(settings::started_at(&self.pair().publisher)).await?;
        self.operation().unless_stopped(settings::started_at(&self.pair().subscriber)).await?;
        let trips = began.elapsed() / 2 * ROUND_TRIPS;
        let Some(question) = self.comparison_question() else { return Ok(trips) };
        let closed = Closed::prepare(self.operation(), self.pair(), &question, self.terms().compare_max_rows).await;
        let rows = closed.map(|closed| closed.rows()).unwrap_or_default();
        let rate = if question.mode == Mode::Counts { COUNTED } else { HASHED };
        Ok(trips + Duration::from_millis(rows / rate))
    }

    pub(super) fn way_back_name(&self) -> Option<Ident> {
        let is_there = !self.facts.streams_to(Place::Publisher).is_empty();
        (is_there || self.cutover.desired.reverse).then(|| self.facts.names.back.clone())
    }
}

impl Facts {
    /// The last switch.
    pub(super) fn last(&self) -> Option<Switched> {
        let sides = [Place::Publisher, Place::Subscriber];
        let left = sides.into_iter().filter_map(|place| Some(self.side(place).memory.left.as_ref()?.switched(place)));
        left.max_by_key(|switched| switched.number)
    }
}
