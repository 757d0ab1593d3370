//! Why the subscriptions that were looked at are not well: evidence is gathered for them, and causes follow from it.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::reading::{Followed, Heard, Reading, Seen};
use super::watching::Health;
use super::{Cause, Drift, Status, causes, evidence};
use crate::postgres::{self, Database, Ident};
use crate::replication::error::Result;

impl Reading<'_> {
    /// Adds to the statuses why the subscriptions are not well, and what differs between their tables.
    ///
    /// # Errors
    /// When the operation is over.
    pub(super) async fn explain(
        &self,
        seen: &BTreeMap<Ident, Seen>,
        mut health: BTreeMap<Ident, Health>,
        statuses: &mut [Status],
    ) -> Result<()> {
        let work = self.followed.iter().filter_map(|one| {
            let name = &one.subscription.name;
            Some(one.explain(self.subscriber, seen.get(name)?, health.remove(name)?))
        });
        let told = self.operation.unless_stopped(async { Ok::<_, postgres::Error>(join_all(work).await) }).await?;
        for (status, (causes, drift)) in statuses.iter_mut().zip(told) {
            (status.causes, status.schema_drift) = (causes, drift);
        }
        Ok(())
    }

    /// Why one of them is not well.
    ///
    /// # Errors
    /// Never; it is one to be awaited as others are.
    pub(super) async fn causes(
        &self,
        name: &Ident,
        seen: &BTreeMap<Ident, Seen>,
        health: Health,
    ) -> postgres::Result<Vec<Cause>> {
        let followed = self.followed.iter().find(|one| one.subscription.name == *name);
        let Some((followed, seen)) = followed.zip(seen.get(name)) else { return Ok(Vec::new()) };
        if health.is_well() {
            let evidence = Box::pin(evidence::gather(followed, self.subscriber, seen, health, BTreeMap::new())).await;
            return Ok(causes::causes(&evidence));
        }
        Ok(followed.explain(self.subscriber, seen, health).await.0)
    }
}

impl Followed {
    /// Why it is not well, and what differs between its tables.
    async fn explain(&self, subscriber: &Database, seen: &Seen, health: Health) -> (Vec<Cause>, Vec<Drift>) {
        let flaws = match &seen.publisher {
            Heard::Facts(_) => Box::pin(evidence::flaws(self, subscriber)).await,
            Heard::Nothing | Heard::Failed(_) => BTreeMap::new(),
        };
        let drift = flaws.iter().flat_map(|(table, flaws)| flaws.iter().filter_map(|flaw| flaw.drift(table))).collect();
        let evidence = Box::pin(evidence::gather(self, subscriber, seen, health, flaws)).await;
        (causes::causes(&evidence), drift)
    }
}
