// SPDX-License-Identifier: MPL-2.0

//! Why a subscription that was looked at is not well: evidence is gathered for it, and causes follow from it.

use std::collections::BTreeMap;

use super::judging::Judgement;
use super::reading::{Followed, Heard, Reading, Seen};
use super::watching::Opinion;
use super::{causes, evidence};
use crate::postgres::{Database, Ident};

impl Reading<'_> {
    /// Why one of them is not well, and what differs between its tables. None where it is not one of them.
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
