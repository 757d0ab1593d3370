// SPDX-License-Identifier: MPL-2.0

//! What the comment of a fence records for the next call. It holds no secrets. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Switched;
use crate::postgres::Ident;
use crate::replication::Place;

/// What a side's fence remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// The program that created it, for people who read the comment.
    made_by: String,
    /// The subscriptions that the fence is for.
    pub(super) subscriptions: BTreeSet<Ident>,
    /// The database at the other end: its server's identifier and its name; none if the server did not tell it.
    pub(super) other: Option<String>,
    /// The last switch away from this side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left: Option<Left>,
    /// The subscriptions of this side that were stopped, each with its slot.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) stopped: BTreeMap<Ident, Ident>,
    /// The subscriptions of this side that confirm each commit for now, each with its previous setting.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) hastened: BTreeMap<Ident, String>,
    /// The database's default before it was made read-only; none if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_only: Option<Before>,
}

/// The previous value of a setting, or none if it was left to the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) value: Option<String>,
}

/// A switch away from a side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) switch: u64,
    /// The role that did it.
    pub(super) by: Ident,
    pub(super) at: String,
    /// The message for writers.
    pub(super) message: String,
    pub(super) position: String,
    pub(super) pause_ms: u64,
    pub(super) writers_waited: u64,
    pub(super) sequences_copied: u64,
}

impl Memory {
    /// The memory of a new fence.
    pub(super) fn new(subscriptions: &BTreeSet<Ident>, other: Option<String>) -> Self {
        let made_by = "terraform-provider-neonrepl".to_owned();
        Self { made_by, subscriptions: subscriptions.clone(), other, ..Self::default() }
    }

    /// Reads a comment. A comment that somebody has changed, or that a later version wrote in another form, counts
    /// as empty.
    pub(super) fn read(comment: Option<&str>) -> Self {
        comment.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The comment.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The number of the last switch away from this side.
    pub(super) fn left_by(&self) -> u64 {
        self.left.as_ref().map(|left| left.switch).unwrap_or_default()
    }
}

impl Left {
    /// The switch in the form that callers get.
    pub(super) fn switched(&self, side: Place) -> Switched {
        Switched {
            number: self.switch,
            to: side.other(),
            position: self.position.clone(),
            at: self.at.clone(),
            pause: Duration::from_millis(self.pause_ms),
            writers_waited: self.writers_waited,
            sequences_copied: self.sequences_copied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn what_is_written_is_read() {
        let ident = |text: &str| Ident::new(text).unwrap();
        let mut memory = Memory::new(&[ident("Shop 'x'")].into(), Some("7/shop".to_owned()));
        let text =
            expect![[r#"{"made_by":"terraform-provider-neonrepl","subscriptions":["Shop 'x'"],"other":"7/shop"}"#]];
        text.assert_eq(&memory.text());
        assert_eq!(memory.left_by(), 0);
        memory.stopped.insert(ident("Shop 'x'"), ident("shop_slot"));
        memory.hastened.insert(ident("Shop 'x'"), "off".to_owned());
        memory.read_only = Some(Before { value: None });
        memory.left = Some(Left {
            switch: 3,
            by: ident("owner"),
            at: "2026-11-29T10:00:00Z".to_owned(),
            message: "gone".to_owned(),
            position: "0/1A".to_owned(),
            pause_ms: 40,
            writers_waited: 4,
            sequences_copied: 2,
        });
        assert_eq!(Memory::read(Some(&memory.text())), memory);
        let switched = memory.left.as_ref().map(|left| left.switched(Place::Publisher)).unwrap();
        assert_eq!((switched.to, switched.pause), (Place::Subscriber, Duration::from_millis(40)));
    }

    #[test]
    fn a_comment_of_somebody_else_says_nothing() {
        for comment in [None, Some(""), Some("a note"), Some("[1]"), Some("{\"left\": 3}")] {
            assert_eq!(Memory::read(comment), Memory::default(), "{comment:?}");
        }
    }
}
