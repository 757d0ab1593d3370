// SPDX-License-Identifier: MPL-2.0

//! Finds what prevents a switch at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{refusal, room};
use crate::postgres::catalog::{self, Index};
use crate::postgres::fence::{self, Holder};
use crate::postgres::server_facts::{self, Transactions};
use crate::postgres::subscription::{self, Subscription, SyncState, turning};
use crate::postgres::{Database, Ended, Ident, Pauses, QualifiedName, Waiter, slot};
use crate::replication::checks::{Objection, statistics};
use crate::replication::comparison::Closed;
use crate::replication::cutover::Forward;
use crate::replication::cutover::reading::Stream;
use crate::replication::cutover::run::Run;
use crate::replication::cutover::steps::Under;
use crate::replication::error::{Error, Result};
use crate::replication::sequences::{self, Sides};
use crate::replication::{Place, names, units, whereabouts};

/// The switch does not wait for a transaction that has been open for longer and wrote to the tables, or to anything on
/// the other side.
const OLD: Duration = Duration::from_secs(60);

/// How long a new worker may take to show which server it reads from. After its publisher's restart it retries every
/// five seconds (`wal_retrieve_retry_interval`).
const SHOWS_ITSELF: Duration = Duration::from_secs(15);
const LOOKS: Duration = Duration::from_millis(200);

pub(super) async fn objections(run: &Run<'_>, from: Place, under: &[Under]) -> Result<Vec<Objection>> {
    let to = from.other();
    let mut found = Vec::new();
    for stream in run.facts.streams_to(to) {
        found.extend(not_ready(stream));
        found.extend(lag(run, from, stream));
        found.extend(elsewhere(run, to, stream).await?);
    }
    found.extend(of_others(run, to).await?);
    found.extend(of_others(run, from).await?);
    if to == Place::Publisher || run.terms().forward == Forward::Drop {
        let said = run.operation().unless_stopped(slot::forbidden(run.db(from), run.operation().doing())).await?;
        found.extend(said.map(|said| refusal(Error::from(said).about("forward"))));
    }
    found.extend(holders(run, from).await?);
    found.extend(chained(run, from).await?);
    if under.contains(&Under::BeginSlot) {
        found.extend(slots(run, to).await?);
    }
    found.extend(numbers(run, from).await);
    found.extend(compared(run).await?);
    found.extend(indexes(run, from).await?);
    found.extend(unanalyzed(run, from).await?);
    Ok(found)
}

fn not_ready(stream: &Stream) -> Option<Objection> {
    let late = stream.tables.iter().filter(|(_, state)| **state != SyncState::Ready).map(|(table, _)| table);
    let late: BTreeSet<_> = late.collect();
    let name = &stream.subscription.name;
    (!late.is_empty()).then(|| {
        let error = Error::new(format!("subscription {name} has not copied {} yet", names::tables(late)));
        refusal(
            error.detail("Wait for it, for instance with the action neonrepl_wait_for_sync.").about("subscriptions"),
        )
    })
}

fn lag(run: &Run<'_>, from: Place, stream: &Stream) -> Option<Objection> {
    let (name, slot, most) = (&stream.subscription.name, &stream.slot, run.terms().max_lag_bytes);
    let Some(position) = &stream.position else {
        let error = format!(
            "subscription {name} reads from slot {slot}, which is not in database {:?} of the {}",
            run.db(from).name(),
            from.as_str()
        );
        return Some(refusal(
            Error::new(error)
                .detail("Either the slot is gone, or the subscription reads from another server.")
                .about("subscriptions"),
        ));
    };
    if position.is_lost() {
        let error = Error::new(format!(
            "slot {slot} of subscription {name} has lost WAL, so nothing can be read from it any more"
        ));
        return Some(refusal(error.about("subscriptions")));
    }
    let lag = position.lag.unwrap_or_default();
    (lag > most).then(|| {
        let error = format!(
            "subscription {name} lags {} behind, more than max_lag_bytes allows ({})",
            units::bytes(lag),
            units::bytes(most)
        );
        refusal(Error::new(error).detail("Wait until it has caught up.").about("max_lag_bytes"))
    })
}

/// A subscription that reads from a server other than the one that writes leave.
async fn elsewhere(run: &Run<'_>, to: Place, stream: &Stream) -> Result<Option<Objection>> {
    let (subscriber, left, found) = (run.db(to), run.db(to.other()), &stream.subscription);
    let operation = run.operation().within(SHOWS_ITSELF);
    let mut waiter = Waiter::new(operation.limits(), Pauses::of(LOOKS));
    loop {
        let reads = subscription::reads_from(left, &stream.slot, subscriber, &found.name, found.name.as_str());
        if run.operation().unless_stopped(reads).await.unwrap_or(false) || leads_there(subscriber, left, found).await {
            return Ok(None);
        }
        match waiter.after(Ok::<Option<()>, Error>(None)).await {
            Ok(_) => {}
            Err(Ended::Stopped) => return Err(Error::cancelled()),
            Err(_) => break,
        }
    }
    let error = Error::new(format!(
        "it is not known whether subscription {} reads from database {:?} on {}",
        found.name,
        left.name(),
        left.config().address()
    ));
    Ok(Some(refusal(error.detail("Its worker does not run, or it reads from another server.").about("subscriptions"))))
}

/// Whether the connection leads there, if the role may see it.
async fn leads_there(subscriber: &Database, left: &Database, found: &Subscription) -> bool {
    whereabouts::publisher_of(subscriber, Some(left), found)
        .await
        .is_some_and(|found| found.config().address() == left.config().address() && found.name() == left.name())
}

/// Subscriptions that another role owns: the switch could not stop them after the commit.
pub(super) async fn of_others(run: &Run<'_>, place: Place) -> Result<Vec<Objection>> {
    let names = run.facts.streams_to(place).into_iter().map(|stream| &stream.subscription.name).collect::<Vec<_>>();
    let others = run.operation().unless_stopped(turning::of_others(run.db(place), &names)).await?;
    let role = &run.facts.side(place).standing.role;
    let found = others.into_iter().map(|(name, owner)| {
        let error = Error::new(format!("role {role} may not stop and start subscription {name} of role {owner}"));
        refusal(error.detail(format!("On the {}: GRANT {owner} TO {role};", place.as_str())).about("subscriptions"))
    });
    Ok(found.collect())
}

/// Transactions that wrote to the tables and do not end.
async fn holders(run: &Run<'_>, from: Place) -> Result<Vec<Objection>> {
    let relations = run.facts.side(from).standing.relations.iter().map(|one| one.name.clone()).collect();
    let found = run.operation().unless_stopped(fence::holders(run.db(from), &relations, OLD)).await?;
    Ok(found.iter().filter_map(|holder| held(run, from, holder)).collect())
}

fn held(run: &Run<'_>, from: Place, holder: &Holder) -> Option<Objection> {
    let (table, place) = (holder.table.to_text(), from.as_str());
    if let Some(gid) = &holder.prepared {
        let gid = gid.replace('\'', "''");
        let error = Error::new(format!(
            "a prepared transaction has written to {table} on the {place}, so the table cannot be closed"
        ));
        return Some(refusal(
            error.detail(format!("On the {place}: COMMIT PREPARED '{gid}'; or ROLLBACK PREPARED '{gid}';")),
        ));
    }
    let error = Error::new(format!(
        "a session has written to {table} on the {place}, and its transaction has not ended: {}",
        holder.blocker
    ));
    match run.terms().end_blockers_after {
        Some(_) if holder.blocker.is_client() => {
            Some(Objection::Warning(error.detail("It is going to be ended.").about("end_blockers_after")))
        }
        // An autovacuum gives way.
        _ if holder.blocker.kind.as_deref() == Some("autovacuum worker") => None,
        _ => Some(refusal(error.detail(format!(
            "End it, or set end_blockers_after. On the {place}: SELECT pg_terminate_backend({});",
            holder.blocker.process
        )))),
    }
}

/// Subscriptions that bring rows from elsewhere to the side that writes leave: a fence does not stop replication.
async fn chained(run: &Run<'_>, from: Place) -> Result<Vec<Objection>> {
    let db = run.db(from);
    let ours: BTreeSet<&Ident> = run.facts.streams_to(from).iter().map(|stream| &stream.subscription.name).collect();
    let all = run.operation().unless_stopped(subscription::fetch_all_now(db)).await?;
    let mut found = Vec::new();
    for other in all.values().filter(|other| other.enabled && !ours.contains(&other.name)) {
        let tables = run.operation().unless_stopped(subscription::tables(db, &other.name)).await?;
        let shared: BTreeSet<_> =
            tables.iter().map(|(table, _)| table).filter(|table| run.facts.tables.contains(*table)).collect();
        if !shared.is_empty() {
            let (name, place) = (&other.name, from.as_str());
            let error = format!(
                "subscription {name} writes to {} on the {place}, and a fence does not stop it",
                names::tables(shared)
            );
            found
                .push(refusal(Error::new(error).detail(format!("On the {place}: ALTER SUBSCRIPTION {name} DISABLE;"))));
        }
    }
    Ok(found)
}

/// What prevents the creation of a slot on the other side.
async fn slots(run: &Run<'_>, to: Place) -> Result<Vec<Objection>> {
    let (db, place) = (run.db(to), to.as_str());
    let mut found = Vec::new();
    if let Some(said) = run.operation().unless_stopped(slot::forbidden(db, run.operation().doing())).await? {
        found.push(refusal(Error::from(said)));
    }
    found.extend(room::full(run, to).await?);
    let open = run.operation().unless_stopped(server_facts::transactions(db, OLD)).await?;
    found.extend(open_transactions(&open, place));
    Ok(found)
}

fn open_transactions(open: &Transactions, place: &str) -> Vec<Objection> {
    let old = open.old.iter().map(|one| {
        let error = format!(
            "process {} of {} on the {place} has had an open transaction that writes in database {:?} for {} s, and \
             the slot of the way back must wait for its end",
            one.process, one.whose, one.database, one.seconds
        );
        refusal(
            Error::new(error)
                .detail(format!("Let it end, or on the {place}: SELECT pg_terminate_backend({});", one.process)),
        )
    });
    let prepared = open.prepared.iter().map(|one| {
        let gid = one.name.replace('\'', "''");
        let error = format!(
            "a prepared transaction in database {:?} on the {place} blocks the creation of the way back's slot",
            one.database
        );
        refusal(Error::new(error).detail(format!("There: COMMIT PREPARED '{gid}'; or ROLLBACK PREPARED '{gid}';")))
    });
    old.chain(prepared).collect()
}

/// Sequences that cannot be copied.
pub(super) async fn numbers(run: &Run<'_>, from: Place) -> Option<Objection> {
    let sides = Sides { from: run.db(from).clone(), to: run.db(from.other()).clone(), place: from };
    match sequences::prepare(run.operation(), &sides, &run.sequence_question()).await {
        Ok(prepared) if prepared.left_out().is_empty() => None,
        Ok(prepared) => {
            let error = format!(
                "no column takes its numbers from {} on the {}",
                names::tables(prepared.left_out()),
                from.other().as_str()
            );
            Some(Objection::Warning(
                Error::new(error).detail("The columns have another default there, or none.").about("sequences"),
            ))
        }
        Err(error) => Some(refusal(error)),
    }
}

/// Tables that are not compared.
async fn compared(run: &Run<'_>) -> Result<Vec<Objection>> {
    let Some(question) = run.comparison_question() else { return Ok(Vec::new()) };
    let most = run.terms().compare_max_rows;
    let closed = match Closed::prepare(run.operation(), run.pair(), &question, most).await {
        Ok(closed) => closed,
        Err(error) => return Ok(vec![refusal(error.about("compare"))]),
    };
    let large = closed.too_large();
    let large = (!large.is_empty()).then(|| {
        let error = format!(
            "{} have more rows than compare_max_rows, and are not compared while writers wait",
            names::tables(large)
        );
        Objection::Warning(
            Error::new(error)
                .detail("Compare them beforehand, for instance with the action neonrepl_compare_tables.")
                .about("compare_max_rows"),
        )
    });
    let others = closed.others().iter().map(|table| {
        let error = Error::new(format!("{} cannot be compared", table.name.to_text()));
        Objection::Warning(error.detail(&table.note).about("compare"))
    });
    Ok(large.into_iter().chain(others).collect())
}

/// Indexes that only the old side has.
async fn indexes(run: &Run<'_>, from: Place) -> Result<Option<Objection>> {
    let tables = &run.facts.tables;
    let both = futures_util::future::try_join(
        catalog::indexes(run.db(from), tables),
        catalog::indexes(run.db(from.other()), tables),
    );
    let (here, there) = run.operation().unless_stopped(Box::pin(both)).await?;
    let missing = missing(&here, &there);
    Ok((!missing.is_empty()).then(|| {
        let error = format!("the {} lacks indexes: {}", from.other().as_str(), names::list(missing));
        Objection::Warning(Error::new(error).detail(
            "Create them first, for instance with the resource \
             neonrepl_destination_indexes.",
        ))
    }))
}

/// Tables without statistics on the side that takes writes next. Nothing has analyzed rows that were copied just now.
async fn unanalyzed(run: &Run<'_>, from: Place) -> Result<Vec<Objection>> {
    let (to, tables) = (from.other(), &run.facts.tables);
    let found = run.operation().unless_stopped(catalog::unanalyzed(run.db(to), tables)).await?;
    let unknown = statistics::unknown(&found, to, run.db(to).name());
    Ok(unknown.into_iter().map(|one| Objection::Warning(Error::new(one.says).detail(one.remedy))).collect())
}

/// The indexes that have no equivalent on the other side.
fn missing(here: &BTreeMap<QualifiedName, Vec<Index>>, there: &BTreeMap<QualifiedName, Vec<Index>>) -> Vec<String> {
    let alike = |one: &Index, other: &Index| {
        other.is_valid
            && (&one.method, &one.keys, one.is_unique, one.is_partial)
                == (&other.method, &other.keys, other.is_unique, other.is_partial)
    };
    let lacks = |table: &QualifiedName, one: &Index| {
        one.is_valid && !there.get(table).is_some_and(|all| all.iter().any(|other| alike(one, other)))
    };
    let all = here.iter().flat_map(|(table, all)| all.iter().map(move |one| (table, one)));
    all.filter(|(table, one)| lacks(table, one))
        .map(|(table, one)| format!("{} of {}", one.name, table.to_text()))
        .collect()
}
