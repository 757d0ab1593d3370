// SPDX-License-Identifier: MPL-2.0

//! Finds everything that prevents the steps at once, before anything is changed.

mod ahead;
mod room;
mod switch;
mod way_back;

use std::collections::{BTreeMap, BTreeSet};

use super::current::Current;
use super::reading::{Facts, Side};
use super::run::Run;
use super::steps::{Refused, Step, steps};
use super::{Cutover, Forward, Unpublished, Writes};
use crate::postgres::fence::Gate;
use crate::postgres::{Ident, QualifiedName, quoted};
use crate::replication::checks::Objection;
use crate::replication::error::{Error, Result};
use crate::replication::{Place, names};

/// How many connections to a server the provider uses at the same time. Half of them are for the lock, the open
/// transaction and a comparison.
const CONNECTIONS: usize = 8;

/// The remaining steps, and everything that prevents them. There are no steps if a refusal says why nothing can be
/// done.
///
/// # Errors
/// When a query fails.
pub(super) async fn judge(run: &Run<'_>) -> Result<(Vec<Step>, Vec<Objection>)> {
    let (facts, cutover) = (&run.facts, run.cutover);
    let current = facts.current(cutover);
    let mut found = standing(facts, cutover);
    let decided = match steps(&current, &cutover.desired) {
        Ok(steps) => done(cutover, steps),
        // A missing subscription is reported already.
        Err(Refused::NoStream(_) | Refused::NoWayBack) if !facts.missing.is_empty() => return Ok((Vec::new(), found)),
        Err(refused) => {
            found.push(Objection::Refusal(words(facts, &refused)));
            return Ok((Vec::new(), found));
        }
    };
    found.extend(decided.iter().flat_map(|step| rights(facts, cutover, &current, step)));
    if decided.iter().any(|step| matches!(step, Step::MakeStream(_))) {
        found.extend(Box::pin(way_back::objections(run)).await?);
    }
    if ahead::is_preparing(run, &current, &decided) {
        found.extend(Box::pin(ahead::objections(run, &current)).await?);
    }
    for step in &decided {
        if let Step::Switch { from, under, .. } = step {
            found.extend(connections(run));
            found.extend(Box::pin(switch::objections(run, *from, under)).await?);
        }
    }
    Ok((decided, found))
}

/// The steps without those that the terms exclude.
fn done(cutover: &Cutover, steps: Vec<Step>) -> Vec<Step> {
    let keeps = cutover.terms.forward == Forward::Disable;
    steps.into_iter().filter(|step| !(keeps && *step == Step::DropSlot(Place::Subscriber))).collect()
}

/// Objections to any step.
fn standing(facts: &Facts, cutover: &Cutover) -> Vec<Objection> {
    let mut found = Vec::new();
    if !facts.missing.is_empty() {
        let missing = names::list(facts.missing.iter().map(ToString::to_string));
        let config = facts.subscriber.database.config();
        let place = format!("database {:?} on {}", facts.subscriber.database.name(), config.address());
        found
            .push(refusal(Error::new(format!("there is no subscription {missing} in {place}")).about("subscriptions")));
    }
    found.extend(of_others(facts));
    found.extend(foreign(facts));
    found.extend(opened(facts, &facts.current(cutover)));
    if cutover.desired.reverse && cutover.way_back.is_none() {
        let error = Error::new("nothing says how the publisher's server reaches the subscriber");
        found.push(refusal(error.about("reverse")));
    }
    found
}

/// Fences that were created between other databases.
fn of_others(facts: &Facts) -> Vec<Objection> {
    let both = [(&facts.publisher, &facts.subscriber), (&facts.subscriber, &facts.publisher)];
    let others = both.into_iter().filter(|(side, neighbour)| side.is_of_others(neighbour));
    let found = others.map(|(side, neighbour)| {
        let (function, here) = (&facts.names.fence.function, side.place.as_str());
        let error = format!(
            "the fence {} on the {here} belongs to a cutover with another {} than database {:?} on {}",
            function.to_text(),
            neighbour.place.as_str(),
            neighbour.database.name(),
            neighbour.database.config().address(),
        );
        refusal(Error::new(error).detail(format!(
            "Two cutovers of subscriptions of the same name cannot share a database: give the subscriptions \
             different names. If the other database is gone for good, run on the {here}: DROP FUNCTION {function}() \
             CASCADE; which opens the tables to writes there."
        )))
    });
    found.collect()
}

/// A side that writes had left, and that somebody has opened since.
fn opened(facts: &Facts, current: &Current) -> Option<Objection> {
    let sides = [Place::Publisher, Place::Subscriber];
    let is_opened = |place: &Place| {
        let (side, other) = (current.side(*place), current.side(place.other()));
        current.is_left_last(*place) && side.gate == Gate::Open && !other.is_shut()
    };
    let place = sides.into_iter().find(is_opened)?;
    let (here, there) = (place.as_str(), place.other().as_str());
    let function = facts.names.fence.function.to_text();
    let error = Error::new(format!(
        "the fence {function} was opened by hand on the {here}, the side that the last switch left"
    ));
    Some(Objection::Warning(error.detail(format!(
        "Rows written there since then are missing on the {there}, and may keep changes from flowing back. Compare \
         the tables, for instance with the action neonrepl_compare_tables."
    ))))
}

/// Objects with names of the way back that the provider did not create.
fn foreign(facts: &Facts) -> Vec<Objection> {
    let name = &facts.names.back;
    let subscription = facts.backward.as_ref().is_some_and(|back| !back.is_ours);
    let kinds = [
        (subscription, "subscription", Place::Publisher),
        (facts.publication == Some(false), "publication", Place::Subscriber),
    ];
    let found = kinds.into_iter().filter(|(is_there, ..)| *is_there).map(|(_, kind, place)| {
        let place = place.as_str();
        let error =
            Error::new(format!("{kind} {name} on the {place} was not created by the provider, which needs that name"));
        refusal(error.detail(format!(
            "Rename it, or drop it if nothing needs it. To rename it, run on the {place}: ALTER {} {name} RENAME TO …;",
            kind.to_uppercase()
        )))
    });
    found.collect()
}

fn words(facts: &Facts, refused: &Refused) -> Error {
    match refused {
        Refused::NoWayBack => {
            Error::new("the subscriber has taken writes, and no subscription brings them back to the publisher")
                .detail("The switch was made without `reverse`, so going back would lose rows.")
                .about("active")
        }
        Refused::NoStream(to) => {
            let streams = facts.streams_to(*to);
            let stopped = streams.iter().filter(|stream| !stream.subscription.enabled);
            let stopped = names::list(stopped.map(|stream| stream.subscription.name.to_string()));
            Error::new(format!("subscription {stopped} is disabled, so changes do not reach the {}", to.as_str()))
                .detail("Enable it, and wait until it has caught up.")
                .about("subscriptions")
        }
        Refused::Foreign(place) => {
            let (function, place) = (&facts.names.fence.function, place.as_str());
            Error::new(format!(
                "function {} on the {place} was not created by the provider, which needs that name for its fence",
                function.to_text()
            ))
            .detail(format!(
                "Drop or rename it. To rename it, run on the {place}: ALTER FUNCTION {function}() \
                 RENAME TO …;"
            ))
        }
    }
}

/// The rights that a step needs.
fn rights(facts: &Facts, cutover: &Cutover, current: &Current, step: &Step) -> Vec<Objection> {
    match step {
        Step::MakeFence(place) => {
            let side = facts.side(*place);
            let covers = current.side(*place).uncovered > 0;
            may_make(facts, side).into_iter().chain(covers.then(|| not_owned(side)).into_iter().flatten()).collect()
        }
        Step::Switch { from, .. } => {
            let (side, next) = (facts.side(*from), facts.side(from.other()));
            let default = may_default(cutover, side).or_else(|| may_put_back(next));
            let both = [side, next].into_iter().filter_map(|side| may_change(facts, side));
            may_lock(cutover, side).into_iter().chain(default).chain(both).collect()
        }
        Step::Guard(place) | Step::Open(place) => may_change(facts, facts.side(*place)).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn may_make(facts: &Facts, side: &Side) -> Option<Objection> {
    let (role, place) = (&side.standing.role, side.place.as_str());
    let lacks = side.standing.gate == Gate::Missing && !side.standing.may_make;
    let schema = &facts.names.fence.function.schema;
    let grant = match side.standing.has_schema {
        true => format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role};"),
        false => format!("GRANT CREATE ON DATABASE {} TO {role};", quoted(side.database.name())),
    };
    lacks.then(|| {
        let error = Error::new(format!("role {role} may not make the fence's function on the {place}"));
        refusal(error.detail(format!("On the {place}, as the owner: {grant}")))
    })
}

/// A fence that another role has created. This must be found before the commit, because the fence
/// must be opened after it.
fn may_change(facts: &Facts, side: &Side) -> Option<Objection> {
    let (role, place, function) = (&side.standing.role, side.place.as_str(), &facts.names.fence.function);
    (!side.standing.may_change).then(|| {
        let error = Error::new(format!(
            "role {role} may not change the fence's function {} on the {place}",
            function.to_text()
        ));
        refusal(error.detail(format!("On the {place}, as its owner: ALTER FUNCTION {function}() OWNER TO {role};")))
    })
}

fn may_put_back(side: &Side) -> Option<Objection> {
    let (role, place) = (&side.standing.role, side.place.as_str());
    (side.memory.read_only.is_some() && !side.read_only.may_set).then(|| {
        let database = quoted(side.database.name());
        let error =
            Error::new(format!("role {role} may not let database {database} on the {place} write again by default"));
        refusal(
            error
                .detail(format!("On the {place}: ALTER DATABASE {database} OWNER TO {role};"))
                .about("unpublished_writes"),
        )
    })
}

fn not_owned(side: &Side) -> Vec<Objection> {
    let (role, place) = (&side.standing.role, side.place.as_str());
    let mut owners: BTreeMap<&Ident, BTreeSet<&QualifiedName>> = BTreeMap::new();
    for relation in side.standing.uncovered().filter(|relation| !relation.is_owned) {
        owners.entry(&relation.owner).or_default().insert(&relation.name);
    }
    let each = owners.into_iter().map(|(owner, tables)| {
        let tables = names::tables(tables);
        let error =
            Error::new(format!("role {role} may not put the fence on tables of role {owner} on the {place}: {tables}"));
        refusal(error.detail(format!("On the {place}: GRANT {owner} TO {role};")).about("writes"))
    });
    each.collect()
}

fn may_lock(cutover: &Cutover, side: &Side) -> Option<Objection> {
    let (role, place) = (&side.standing.role, side.place.as_str());
    let lacking: Vec<_> = side.standing.relations.iter().filter(|relation| !relation.may_lock).collect();
    let first = lacking.first().filter(|_| cutover.terms.writes == Writes::External)?;
    let tables = names::tables(lacking.iter().map(|relation| &relation.name));
    let error = Error::new(format!("role {role} may not lock {tables} against writers on the {place}"));
    Some(refusal(error.detail(format!("On the {place}, for each: GRANT UPDATE ON {} TO {role};", first.name))))
}

fn may_default(cutover: &Cutover, side: &Side) -> Option<Objection> {
    let blocks = cutover.terms.unpublished_writes == Unpublished::Block && cutover.terms.writes == Writes::Fence;
    let (role, place) = (&side.standing.role, side.place.as_str());
    (blocks && !side.read_only.may_set).then(|| {
        let database = quoted(side.database.name());
        let error = Error::new(format!("role {role} may not make database {database} read-only on the {place}"));
        refusal(
            error
                .detail(format!(
                    "On the {place}: ALTER DATABASE {database} OWNER TO {role}; or set unpublished_writes = \"allow\"."
                ))
                .about("unpublished_writes"),
        )
    })
}

fn connections(run: &Run<'_>) -> Option<Objection> {
    let sides = [Place::Publisher, Place::Subscriber];
    let few = sides.into_iter().find(|place| run.db(*place).config().max_connections < CONNECTIONS)?;
    let most = run.db(few).config().max_connections;
    let error =
        Error::new(format!("max_connections of the {} is {most}, and a switch takes {CONNECTIONS}", few.as_str()));
    Some(refusal(error.about("max_connections")))
}

pub(super) fn refusal(error: Error) -> Objection {
    Objection::Refusal(error)
}
