// SPDX-License-Identifier: MPL-2.0

//! The plan of a new subscription: checks how the servers would answer its creation, without creating anything.
//!
//! A missing object that another resource may still create (a publication, a slot, a table, a role) is a warning.
//! Everything that the servers refuse in any case is an error.

use std::collections::BTreeSet;

use futures_util::future::join;

use super::Creation;
use crate::postgres::publication::Publications;
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{self, Database, Ident, SqlState, catalog, publication, replicates};
use crate::replication::checks::{self, Objection, Obstacle, Obstacles};
use crate::replication::{Error, Intended, Operation, Pair, Result, initial_copy, slot_use};

/// A planned subscription.
#[derive(Clone, Copy)]
pub struct Prospect<'a> {
    /// The subscription to create. Its operation is the plan.
    pub creation: Creation<'a>,
    /// The publisher with the subscription's login, if that can be tried from here.
    pub login: Option<&'a Database>,
    /// The objects that other plans of this run create.
    pub intended: &'a Intended,
    /// Whether the apply waits for the initial copy.
    pub waits: bool,
}

/// All objections to it. A server that cannot be reached gives no answer, and therefore no objection.
///
/// # Errors
/// When a query fails, or a person asks to stop.
pub async fn outlook(prospect: Prospect<'_>) -> Result<Vec<Objection>> {
    let operation = prospect.creation.operation;
    let looks = Box::pin(join(prospect.at_subscriber(), prospect.at_publisher()));
    let (subscriber, publisher) = operation.unless_stopped(async { Ok::<_, Error>(looks.await) }).await?;
    let mut objections: Vec<_> = subscriber?.into_iter().collect();
    objections.extend(publisher?);
    Ok(objections)
}

impl Prospect<'_> {
    /// The subscriber's objection.
    async fn at_subscriber(&self) -> Result<Option<Objection>> {
        let Creation { subscriber, desired, how, operation, .. } = self.creation;
        let refused = subscription::refused(subscriber, operation.doing(), desired, how).await?;
        Ok(refused.map(|error| match error.is(&SqlState::UNDEFINED_OBJECT) {
            // The same apply may create the role.
            true => Objection::Warning(Error::from(error).about("owner")),
            false => Objection::Refusal(self.of_subscriber(error)),
        }))
    }

    fn of_subscriber(&self, error: postgres::Error) -> Error {
        let is_about_owner = self.creation.desired.owner.is_some() && error.to_string().contains(": must be ");
        let error = Error::from(error);
        if is_about_owner { error.about("owner") } else { error }
    }

    /// The publisher's objections, to the subscription's login and to ours.
    async fn at_publisher(&self) -> Result<Vec<Objection>> {
        if !self.creation.how.connect {
            return Ok(Vec::new());
        }
        let mut objections: Vec<_> = self.of_login().await.into_iter().collect();
        let Some(publisher) = self.creation.publisher.filter(|_| objections.is_empty()) else { return Ok(objections) };
        if let Err(error) = publisher.version().await {
            objections.extend(self.of_unasked(error));
            return Ok(objections);
        }
        objections.extend(self.creation.foresee_slot(self.has_intended_slot(publisher)).await?);
        objections.extend(self.of_settings(publisher).await?);
        objections.extend(self.of_tables(publisher).await);
        Ok(objections)
    }

    fn has_intended_slot(&self, publisher: &Database) -> bool {
        let name = self.creation.desired.slot_name();
        name.is_some_and(|name| self.intended.has_slot(publisher, name))
    }

    /// The publisher's objection to the subscription's connection.
    async fn of_login(&self) -> Option<Objection> {
        let Creation { operation, .. } = self.creation;
        let error = replicates(self.login?, operation.limits()).await.err()?;
        // Errors that depend on where the connection comes from do not apply to the subscriber.
        let is_answer = [SqlState::INVALID_PASSWORD, SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE];
        is_answer.iter().any(|code| error.is(code)).then(|| {
            Objection::Refusal(
                Error::from(error)
                    .during(operation.doing())
                    .detail("The subscription logs in with this, from the subscriber's server."),
            )
        })
    }

    /// Only the subscriber must reach the publisher; if we cannot, some things are not checked.
    fn of_unasked(&self, error: postgres::Error) -> Option<Objection> {
        let operation = self.creation.operation;
        let what = "the publisher could not be asked for publications, tables and slots";
        let warning = operation.error(what).detail(error.to_string()).detail(error.hint().unwrap_or_default());
        Some(Objection::Warning(
            warning.detail("Whether the subscription can be created is only known when this is applied."),
        ))
    }

    /// What a publisher lacks for a new slot.
    async fn of_settings(&self, publisher: &Database) -> Result<Vec<Objection>> {
        if !self.creation.how.create_slot || self.creation.desired.slot_name().is_none() {
            return Ok(Vec::new());
        }
        slot_use::room(publisher, self.creation.operation.doing(), self.intended.makes_wal_logical()).await
    }

    /// The obstacles for the tables that will be published.
    async fn of_tables(&self, publisher: &Database) -> Vec<Objection> {
        let Creation { subscriber, desired, operation, .. } = self.creation;
        let Ok(existing) = publication::fetch_all(publisher).await else { return Vec::new() };
        let (publications, open) = self.intended.over(publisher, &existing);
        let mut objections: Vec<_> =
            missing(operation, publisher, desired, (&publications, &open), "Apply fails unless it exists by then.")
                .into_iter()
                .collect();
        let pair = Pair { publisher: publisher.clone(), subscriber: subscriber.clone() };
        match self.in_the_way(&pair, &publications).await {
            Ok(found) => objections.extend(found),
            Err(cause) => tracing::info!(%cause, "it could not be checked whether the tables can be copied"),
        }
        objections
    }

    async fn in_the_way(&self, pair: &Pair, publications: &Publications) -> postgres::Result<Vec<Objection>> {
        let Creation { desired, how, operation, .. } = self.creation;
        let outline = catalog::outline(&pair.publisher).await?;
        let sent = checks::sent(pair, desired, publications, &outline).await?;
        let found = checks::obstacles_of(pair, desired, checks::login(desired).as_ref(), &sent).await?;
        let found = self.intended.left_of(&pair.subscriber, found);
        let (absent, other) = apart(found);
        let mut objections: Vec<_> =
            initial_copy::objection(operation, other, desired, how, self.waits).into_iter().collect();
        if let Some(Objection::Refusal(error)) = initial_copy::objection(operation, absent, desired, how, self.waits) {
            objections.push(Objection::Warning(error.detail(BY_THEN)));
        }
        if desired.enabled && how.copy_data {
            let tables: BTreeSet<_> = sent.tables.keys().cloned().collect();
            let held = catalog::with_rows(&pair.subscriber, &tables).await?;
            objections.extend(initial_copy::of_rows(operation, &held).map(Objection::Warning));
        }
        Ok(objections)
    }
}

/// The objections to a subscription that changes its publications to those of `asked`.
///
/// # Errors
/// When a query fails.
pub async fn follow_outlook(
    operation: &Operation<'_>,
    pair: &Pair,
    asked: &Subscription,
    how: &How,
    intended: &Intended,
) -> Result<Vec<Objection>> {
    let Ok(existing) = publication::fetch_all(&pair.publisher).await else { return Ok(Vec::new()) };
    let (publications, open) = intended.over(&pair.publisher, &existing);
    let mut objections: Vec<_> = missing(
        operation,
        &pair.publisher,
        asked,
        (&publications, &open),
        "It must exist by the time this is applied.",
    )
    .into_iter()
    .collect();
    if !asked.enabled {
        return Ok(objections);
    }
    let subscribed = subscription::tables(&pair.subscriber, &asked.name).await?;
    let subscribed: BTreeSet<_> = subscribed.into_iter().map(|(table, _)| table).collect();
    let Ok(outline) = catalog::outline(&pair.publisher).await else { return Ok(objections) };
    let mut sent = checks::sent(pair, asked, &publications, &outline).await?;
    sent.tables.retain(|table, _| !subscribed.contains(table));
    let found = checks::obstacles_of(pair, asked, checks::login(asked).as_ref(), &sent).await?;
    let found = intended.left_of(&pair.subscriber, found);
    let found = initial_copy::objection(operation, found, asked, how, false);
    objections.extend(found.map(|objection| match objection {
        Objection::Refusal(error) => Objection::Warning(error.detail(BY_THEN)),
        warning => warning,
    }));
    if how.copy_data {
        let held = catalog::with_rows(&pair.subscriber, &sent.tables.keys().cloned().collect()).await?;
        objections.extend(initial_copy::of_rows(operation, &held).map(Objection::Warning));
    }
    Ok(objections)
}

/// The objection about publications that neither exist nor are created by another plan.
fn missing(
    operation: &Operation<'_>,
    publisher: &Database,
    desired: &Subscription,
    (publications, open): (&Publications, &BTreeSet<Ident>),
    by_then: &str,
) -> Option<Objection> {
    let is_missing = |name: &&Ident| !publications.contains_key(*name) && !open.contains(*name);
    let missing: Vec<_> = desired.publications.iter().filter(is_missing).collect();
    let warning = (!missing.is_empty()).then(|| initial_copy::missing(operation, publisher, &missing));
    warning.map(|warning| Objection::Warning(warning.detail(by_then)))
}

/// Added to a warning about tables that may still be created.
const BY_THEN: &str = "Apply fails unless this has changed by then.";

/// Splits obstacles into missing tables, which the same apply may create, and the others.
fn apart(found: Obstacles) -> (Obstacles, Obstacles) {
    found.into_iter().partition(|(_, obstacles)| obstacles.contains(&Obstacle::NoTable))
}

/// The objection to a new owner of a subscription; `None` if there is none.
///
/// # Errors
/// When a query fails.
pub async fn owner_outlook(
    subscriber: &Database,
    doing: &str,
    current: &Subscription,
    owner: &Ident,
) -> Result<Option<Objection>> {
    let refused = subscription::refused_owner(subscriber, doing, &current.name, owner).await?;
    Ok(refused.map(|error| match error.is(&SqlState::UNDEFINED_OBJECT) {
        true => Objection::Warning(Error::from(error).about("owner")),
        false => Objection::Refusal(Error::from(error).about("owner")),
    }))
}
