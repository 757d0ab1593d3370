// SPDX-License-Identifier: MPL-2.0

//! Judges subscriptions by repeated looks: whether each is healthy, and if not, why.
//!
//! Evidence is gathered as soon as one is suspected. If it shows a reason, and the next look does not show a healthy subscription,
//! that is the judgement. A suspicion without a reason is watched until it is proven, or gone.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::reading::{Reading, Seen};
use super::watching::{Health, Opinion, Watching};
use super::{Cause, Drift};
use crate::postgres::{self, Ident};
use crate::replication::error::Result;
use crate::replication::operation::Look;

/// The looks so far, and their results.
#[derive(Default)]
pub(super) struct Judging {
    watches: Watches,
    judgements: BTreeMap<Ident, Judgement>,
}

/// Whether a subscription is healthy, and if not, why.
#[derive(Debug, Clone)]
pub(super) struct Judgement {
    opinion: Opinion,
    /// Whether the evidence shows a reason.
    has_reason: bool,
    /// Why it is unhealthy, the most likely cause first.
    pub(super) causes: Vec<Cause>,
    /// The differences between its tables.
    pub(super) drift: Vec<Drift>,
}

impl Judgement {
    pub(super) fn new(opinion: Opinion, (causes, has_reason): (Vec<Cause>, bool), drift: Vec<Drift>) -> Self {
        Self { opinion, has_reason, causes, drift }
    }

    /// The observed health.
    pub(super) fn health(&self) -> &Health {
        &self.opinion.health
    }
}

impl Judging {
    /// Adds a look. Returns the subscriptions that are judged: the others need further looks.
    ///
    /// # Errors
    /// When a person asks to stop.
    pub(super) async fn look(
        &mut self,
        reading: &Reading<'_>,
        seen: &BTreeMap<Ident, Seen>,
    ) -> Result<BTreeSet<Ident>> {
        let opinions = self.watches.look(seen);
        let is_same = |name: &Ident, opinion: &Opinion| {
            self.judgements.get(name).is_some_and(|judgement| judgement.opinion == *opinion)
        };
        let (same, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
            opinions.into_iter().partition(|(name, opinion)| is_same(name, opinion));
        // A suspicion must be confirmed by the next look.
        let is_confirmed = |(name, opinion): &(&Ident, &Opinion)| {
            opinion.is_sure || self.judgements.get(*name).is_some_and(|judgement| judgement.has_reason)
        };
        let sure = new.iter().filter(|(_, opinion)| opinion.is_sure).map(|(name, _)| name.clone());
        let judged = same.iter().filter(is_confirmed).map(|(name, _)| name.clone()).chain(sure).collect();
        self.judge(reading, seen, new).await?;
        Ok(judged)
    }

    async fn judge(
        &mut self,
        reading: &Reading<'_>,
        seen: &BTreeMap<Ident, Seen>,
        opinions: BTreeMap<Ident, Opinion>,
    ) -> Result<()> {
        let work = opinions.into_iter().filter_map(|(name, opinion)| {
            let explained = reading.explain(&name, seen.get(&name)?, opinion)?;
            Some(async { (name, explained.await) })
        });
        let work = join_all(work);
        let told = reading.operation.unless_stopped(async { Ok::<_, postgres::Error>(work.await) }).await?;
        self.judgements.extend(told);
        Ok(())
    }

    /// Looks until each subscription is judged, or the time is over: a subscription that is not known to be unhealthy
    /// by then counts as healthy.
    ///
    /// # Errors
    /// When a query fails, or a person asks to stop.
    pub(super) async fn until_told(mut self, reading: &mut Reading<'_>) -> Result<Judged> {
        let operation = reading.operation;
        let mut waiting = operation.waiting();
        loop {
            let seen = reading.see().await?;
            let judged = self.look(reading, &seen).await?;
            let look = match judged.len() == seen.len() {
                true => Look::There(()),
                false => Look::NotYet(operation.error("it is not known in time whether the subscriptions are healthy")),
            };
            match waiting.after(Ok(look)).await {
                Ok(None) => continue,
                Err(error) if operation.is_stopped() => return Err(error),
                Ok(Some(())) | Err(_) => {}
            }
            let well = Opinion { health: Health::default(), is_sure: true };
            let left = seen.keys().filter(|name| !judged.contains(*name));
            self.judge(reading, &seen, left.map(|name| (name.clone(), well.clone())).collect()).await?;
            return Ok(Judged { seen, judgements: self.judgements });
        }
    }

    /// The judgement of a subscription so far.
    pub(super) fn judgement(&self, name: &Ident) -> Option<&Judgement> {
        self.judgements.get(name)
    }

    /// Starts again with one subscription, without its earlier looks.
    pub(super) fn forget(&mut self, name: &Ident) {
        self.watches.0.remove(name);
        self.judgements.remove(name);
    }
}

/// Judged subscriptions, with the last look at them.
pub(super) struct Judged {
    pub(super) seen: BTreeMap<Ident, Seen>,
    pub(super) judgements: BTreeMap<Ident, Judgement>,
}

/// The looks at all of them so far.
#[derive(Default)]
struct Watches(BTreeMap<Ident, Watching>);

impl Watches {
    /// Adds a look, and returns the results so far.
    fn look(&mut self, seen: &BTreeMap<Ident, Seen>) -> BTreeMap<Ident, Opinion> {
        let now = Instant::now();
        let away = seen.values().filter(|seen| seen.activity.enabled && !seen.activity.is_connected()).count();
        let told = seen.iter().filter_map(|(name, seen)| {
            let watching = self.0.entry(name.clone()).or_insert_with(|| Watching::new(now, away));
            Some((name.clone(), watching.look(&seen.activity, !seen.publisher.is_outage(), now)?))
        });
        told.collect()
    }
}
