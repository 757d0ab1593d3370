// SPDX-License-Identifier: MPL-2.0

//! Subscriptions that stay stopped after their cutover is removed: writes have left their publisher, and nothing starts
//! them again. Their comment records this, because the fence that did so is gone.

use std::collections::BTreeMap;

use super::reading::OURS;
use super::run::Run;
use crate::postgres::owned::{self, Owned};
use crate::postgres::{Database, Ident, Statement};
use crate::replication::Place;
use crate::replication::error::Result;

/// The text of the comment between [`OURS`] and the name of the former slot.
const LEFT: &str = "its publisher was left in a cutover that was taken away, and its slot was ";

/// The new comment, which ends with the previous one. Pure.
fn comment(slot: &Ident, before: Option<&str>) -> String {
    let slot = serde_json::to_string(slot).unwrap_or_default();
    let before = before.filter(|before| slot_of(before).is_none()).map(|before| format!("\n{before}"));
    format!("{OURS}{LEFT}{slot}{}", before.unwrap_or_default())
}

/// The slot that such a comment names. Pure.
fn slot_of(comment: &str) -> Option<Ident> {
    let rest = comment.strip_prefix(OURS)?.strip_prefix(LEFT)?;
    serde_json::Deserializer::from_str(rest).into_iter::<Ident>().next()?.ok()
}

/// These subscriptions of a database, each with its former slot.
///
/// # Errors
/// When a query fails.
pub(super) async fn found(subscriber: &Database) -> Result<BTreeMap<Ident, Ident>> {
    let marked = owned::marked_subscriptions(subscriber, &format!("{OURS}{LEFT}")).await?;
    Ok(marked.into_iter().filter_map(|(name, comment)| Some((name, slot_of(&comment)?))).collect())
}

impl Run<'_> {
    /// The statements that set this comment on the subscriptions to a side whose fence is removed.
    ///
    /// # Errors
    /// When a query fails.
    pub(super) async fn marks(&self, place: Place) -> Result<Vec<Statement>> {
        let stopped = &self.facts.side(place).memory.stopped;
        let mut marks = Vec::new();
        for stream in self.facts.streams_to(place).into_iter().filter(|stream| !stream.subscription.enabled) {
            let owned = Owned::Subscription(&stream.subscription.name);
            if let Some(slot) = stopped.get(&stream.subscription.name) {
                let before = owned.comment(self.db(place)).await?;
                marks.push(owned.marking(&comment(slot, before.as_deref())));
            }
        }
        Ok(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_keeps_what_it_said_and_tells_the_slot_again() {
        let slot = Ident::new("Shop \"1\"").unwrap();
        for before in [None, Some("of the shop's team")] {
            let text = comment(&slot, before);
            assert_eq!(slot_of(&text), Some(slot.clone()), "{text}");
            assert!(before.is_none_or(|before| text.ends_with(before)), "{text}");
            assert_eq!(comment(&slot, Some(&text)).lines().count(), 1);
        }
        for other in ["", "a note", OURS, "terraform-provider-neonrepl: brings changes back of subscription \"shop\""] {
            assert_eq!(slot_of(other), None, "{other}");
        }
    }
}
