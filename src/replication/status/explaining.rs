// SPDX-License-Identifier: MPL-2.0

//! Explains an unhealthy subscription: gathers evidence, and derives causes from it.

use std::collections::BTreeMap;

use super::judging::Judgement;
use super::reading::{Followed, Heard, Reading, Seen};
use super::watching::Opinion;
use super::{causes, evidence};
use crate::postgres::{Database, Ident};

impl Reading<'_> {
    /// The causes of an unhealthy subscription, and the differences between its tables. None if it is not one of these.
    pub(super) fn explain<'s>(
        &'s self,
        name: &Ident,
        seen: &'s Seen,
        opinion: Opinion,
    ) -> Option<impl Future<Output = Judgement> + Send + use<'s>> {
        let followed = self.followed.iter().find(|one| one.subscription.name == *name)?;
        Some(followed.explain(self.subscriber, self.compares_all, seen, opinion))
    }
}

impl Followed {
    async fn explain(&self, subscriber: &Database, compares_all: bool, seen: &Seen, opinion: Opinion) -> Judgement {
        let flaws = match &seen.publisher {
            Heard::Facts(_) if compares_all || !opinion.health.is_well() => {
                Box::pin(evidence::flaws(self, subscriber)).await
            }
            _ => BTreeMap::new(),
        };
        let drift = flaws.iter().flat_map(|(table, flaws)| flaws.iter().filter_map(|flaw| flaw.drift(table))).collect();
        let evidence = Box::pin(evidence::gather(self, subscriber, seen, opinion.health.clone(), flaws)).await;
        Judgement::new(opinion, causes::told(&evidence), drift)
    }
}
