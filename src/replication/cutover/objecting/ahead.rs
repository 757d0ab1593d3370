// SPDX-License-Identifier: MPL-2.0

//! Reports what the switch will need while it is only being prepared: rights and owners, which only people change. The
//! plan of the switch checks everything that can change by itself.

use std::collections::BTreeSet;

use super::super::run::Run;
use super::super::steps::{Desired, Step, steps};
use super::super::{Active, Current, Forward};
use super::{rights, switch};
use crate::postgres::slot;
use crate::replication::Place;
use crate::replication::checks::Objection;
use crate::replication::error::{Error, Result};

/// Added to each warning.
const LATER: &str = "It is not needed yet, but the switch would be refused without it.";

/// Whether these steps prepare a switch to the subscriber without doing it.
pub(super) fn is_preparing(run: &Run<'_>, current: &Current, decided: &[Step]) -> bool {
    let stays = run.cutover.desired.active == Place::Publisher && current.active() == Active::Side(Place::Publisher);
    stays && !decided.is_empty()
}

/// What the switch to the subscriber lacks, and, if there is a way back, the switch to the publisher.
///
/// # Errors
/// When a query fails.
pub(super) async fn objections(run: &Run<'_>, current: &Current) -> Result<Vec<Objection>> {
    let desired = Desired { active: Place::Subscriber, ..run.cutover.desired };
    let Ok(there) = steps(current, &desired) else { return Ok(Vec::new()) };
    let is_switch = |step: &&Step| matches!(step, Step::Switch { .. });
    let mut found: Vec<_> =
        there.iter().filter(is_switch).flat_map(|step| rights(&run.facts, run.cutover, current, step)).collect();
    if desired.reverse {
        let back = Step::Switch { from: Place::Subscriber, number: 0, under: Vec::new() };
        found.extend(rights(&run.facts, run.cutover, current, &back));
    }
    found.extend(slots(run).await?);
    found.extend(switch::of_others(run, Place::Subscriber).await?);
    let left = [Some(Place::Publisher), desired.reverse.then_some(Place::Subscriber)];
    for from in left.into_iter().flatten() {
        found.extend(switch::numbers(run, from).await.filter(|one| matches!(one, Objection::Refusal(_))));
    }
    Ok(warnings(found))
}

/// The switch drops the subscription's slot on the publisher, and the way back creates it again.
async fn slots(run: &Run<'_>) -> Result<Option<Objection>> {
    if run.terms().forward != Forward::Drop && !run.cutover.desired.reverse {
        return Ok(None);
    }
    let publisher = run.db(Place::Publisher);
    let said = run.operation().unless_stopped(slot::forbidden(publisher, run.operation().doing())).await?;
    Ok(said.map(|said| Objection::Refusal(Error::from(said).about("forward"))))
}

/// Turns objections into warnings without duplicates.
fn warnings(found: Vec<Objection>) -> Vec<Objection> {
    let mut said = BTreeSet::new();
    let errors = found.into_iter().map(|objection| match objection {
        Objection::Refusal(error) | Objection::Warning(error) => error,
    });
    errors.filter(|error| said.insert(error.to_string())).map(|error| Objection::Warning(error.detail(LATER))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_directions_need_is_said_once() {
        let refusal = |what: &str| Objection::Refusal(Error::new(what));
        let found = warnings(vec![refusal("a"), refusal("b"), refusal("a")]);
        let said: Vec<_> = found.iter().map(|one| matches!(one, Objection::Warning(_))).collect();
        assert_eq!(said, [true, true]);
    }
}
