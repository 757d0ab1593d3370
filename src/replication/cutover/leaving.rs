// SPDX-License-Identifier: MPL-2.0

//! Removes a cutover: drops the objects that it created, and keeps the side that writes have left closed.

use super::run::Run;
use super::switching;
use super::{Active, Cutover, Left};
use crate::postgres::fence::{self, Gate};
use crate::postgres::{SqlState, in_short_turns, read_only};
use crate::replication::error::Result;
use crate::replication::{Operation, Pair, Place};

pub(super) async fn take_away(
    pair: &Pair,
    cutover: &Cutover,
    open_on_destroy: bool,
    operation: &Operation<'_>,
) -> Result<Left> {
    let pair = pair.within(operation.limits());
    let run = Run::begin(operation, &pair, cutover).await?;
    let alone = switching::alone(&run).await?;
    let mut run = Run::begin(operation, &pair, cutover).await?;
    run.finish_switch().await?;
    run.remove_stream().await?;
    let active = match run.facts.current(cutover).active() {
        Active::Side(active) | Active::Between(active) => active,
    };
    if !run.facts.side(active.other()).memory.hastened.is_empty() {
        run.calm(active.other()).await?;
    }
    run.unmake(active).await?;
    let left = run.leave_closed(active.other(), open_on_destroy).await?;
    let _ = alone.end(operation.limits()).await;
    Ok(left)
}

impl Run<'_> {
    /// Finishes a switch that was interrupted after its commit.
    async fn finish_switch(&mut self) -> Result<()> {
        let Active::Between(next) = self.facts.current(self.cutover).active() else { return Ok(()) };
        self.stop(next).await?;
        self.open(next, false).await?;
        self.drop_slots(next).await
    }

    /// Removes a side's fence, and restores the settings that it recorded.
    async fn unmake(&mut self, place: Place) -> Result<()> {
        if matches!(self.facts.side(place).standing.gate, Gate::Missing | Gate::Foreign) {
            return Ok(());
        }
        let fence = self.facts.names.fence.clone();
        self.open(place, false).await?;
        let db = self.db(place);
        for relation in fence::covered(db, &fence).await? {
            let uncover = fence.uncovering(&relation);
            in_short_turns(db, "taking the fence off tables", &[uncover], &[relation].into(), self.limits()).await?;
        }
        let mut drop = self.marks(place).await?;
        drop.extend(fence.dropping());
        match db.run_within("dropping the fence", &drop, self.limits()).await {
            Err(error) if error.is(&SqlState::UNDEFINED_FUNCTION) => Ok(()),
            result => result.map(|_| ()).map_err(Into::into),
        }
    }

    /// Handles the side that does not take writes: one that writes have left stays closed.
    async fn leave_closed(&mut self, place: Place, open_on_destroy: bool) -> Result<Left> {
        let side = self.facts.side(place);
        let was_left = side.memory.left.is_some() && side.standing.gate == Gate::Armed;
        if open_on_destroy || !was_left {
            self.unmake(place).await?;
            return Ok(Left::default());
        }
        Ok(Left { closed: Some((place, self.opening(place))) })
    }

    /// The statements by which a person opens a side.
    fn opening(&self, place: Place) -> Vec<String> {
        let before = self.facts.side(place).memory.read_only.as_ref();
        let default = before.and_then(|before| self.default_of(place, before.value.as_deref()));
        let drop = self.facts.names.fence.dropping_with_triggers();
        let first = default.as_ref().map(|_| read_only::writing_here());
        first.into_iter().chain([drop]).chain(default).map(|statement| format!("{statement};")).collect()
    }
}
