// SPDX-License-Identifier: MPL-2.0

//! What a plan says about a new subscription: what the servers would answer to its creation, asked without
//! creating anything.
//!
//! What another resource of the same configuration may still create (a publication, a slot, a table, a role) is a warning. What
//! the servers refuse in any case is an error.

use std::collections::BTreeSet;

use futures_util::future::join;

use super::Creation;
use crate::postgres::publication::Publications;
use crate::postgres::subscription::{self, How, Subscription};
use crate::postgres::{self, Database, Ident, SqlState, catalog, publication, replicates};
use crate::replication::checks::{self, Objection, Obstacle, Obstacles};
use crate::replication::{Error, Intended, Operation, Pair, Result, initial_copy, slot_use};

/// A subscription that is planned.
#[derive(Clone, Copy)]
pub struct Prospect<'a> {
    /// What is to be made. Its operation is the plan.
    pub creation: Creation<'a>,
    /// The publisher as the subscription will log in there, where that can be tried from here.
    pub login: Option<&'a Database>,
    /// What other plans of this run make.
    pub intended: &'a Intended,
    /// Whether the initial copy is waited for.
    pub waits: bool,
}

/// All that there is to say against it. Nothing of a server that cannot be reached: that is no answer.
///
/// # Errors
/// When the subscriber cannot be asked, or a person asks to stop.
pub async fn outlook(prospect: Prospect<'_>) -> Result<Vec<Objection>> {
    let operation = prospect.creation.operation;
    let looks = Box::pin(join(prospect.at_subscriber(), prospect.at_publisher()));
    let (subscriber, publisher) = operation.unless_stopped(async { Ok::<_, Error>(looks.await) }).await?;
    let mut objections: Vec<_> = subscriber?.into_iter().collect();
    objections.extend(publisher?);
    Ok(objections)
}

impl Prospect<'_> {
    /// What the subscriber says.
    async fn at_subscriber(&self) -> Result<Option<Objection>> {
        let Creation { subscriber, desired, how, operation, .. } = self.creation;
        let refused = subscription::refused(subscriber, operation.doing(), desired, how).await?;
        Ok(refused.map(|error| match error.is(&SqlState::UNDEFINED_OBJECT) {
            // A role may be made by the same apply.
            true => Objection::Warning(Error::from(error).about("owner")),
            false => Objection::Refusal(self.of_subscriber(error)),
        }))
    }

    fn of_subscriber(&self, error: postgres::Error) -> Error {
        let is_about_owner = self.creation.desired.owner.is_some() && error.to_string().contains(": must be ");
        let error = Error::from(error);
        if is_about_owner { error.about("owner") } else { error }
    }

    /// What the publisher says, to the login of the subscription and to ours.
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

    /// What the publisher answers to the connection that the subscription will make.
    async fn of_login(&self) -> Option<Objection> {
        let Creation { operation, .. } = self.creation;
        let error = replicates(self.login?, operation.limits()).await.err()?;
        // What depends on where the connection comes from says nothing of the subscriber's.
        let is_answer = [SqlState::INVALID_PASSWORD, SqlState::INVALID_CATALOG_NAME, SqlState::INSUFFICIENT_PRIVILEGE];
        is_answer.iter().any(|code| error.is(code)).then(|| {
            Objection::Refusal(
                Error::from(error)
                    .during(operation.doing())
                    .detail("The subscription logs in with this, from the subscriber's server."),
            )
        })
    }

    /// The subscriber has to reach the publisher; that we cannot leaves things unchecked.
    fn of_unasked(&self, error: postgres::Error) -> Option<Objection> {
        let operation = self.creation.operation;
        let what = "the publisher could not be asked for publications, tables and slots";
        let warning = operation.error(what).detail(error.to_string()).detail(error.hint().unwrap_or_default());
        Some(Objection::Warning(
            warning.detail("Whether the subscription can be created is only known when this is applied."),
        ))
    }

    /// What a publisher lacks that is to have a slot.
    async fn of_settings(&self, publisher: &Database) -> Result<Vec<Objection>> {
        if !self.creation.how.create_slot || self.creation.desired.slot_name().is_none() {
            return Ok(Vec::new());
        }
        slot_use::room(publisher, self.creation.operation.doing(), self.intended.makes_wal_logical()).await
    }

    /// What is in the way of the tables that are going to be published.
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

/// What there is to say of a subscription that follows its publications: `asked` has the publications that it is to have.
///
/// # Errors
/// When the subscriber cannot be asked.
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

/// That publications are missing which neither are there nor are made by another plan.
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

/// What tables must be that another resource, or somebody, may still make.
const BY_THEN: &str = "Apply fails unless this has changed by then.";

/// Tables that are not there, which the same apply may make, and what is in the way of the others.
fn apart(found: Obstacles) -> (Obstacles, Obstacles) {
    found.into_iter().partition(|(_, obstacles)| obstacles.contains(&Obstacle::NoTable))
}

/// What the owner that a subscription is given would meet; `None` where nothing.
///
/// # Errors
/// When the subscriber cannot be asked.
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
