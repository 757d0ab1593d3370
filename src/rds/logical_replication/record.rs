// SPDX-License-Identifier: MPL-2.0

//! The record that is needed to undo everything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Current, Group};
use crate::rds::parameters::Previous;

/// All changes with the previous values. It grows with every step, and must be stored with the object's state.
///
/// Fields that an older version did not store are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The parameter group in use.
    pub group: Option<String>,
    /// Whether the provider created that group; only then is it ever deleted.
    pub group_created: bool,
    /// The parameter group that was attached before, if it is another one.
    pub previous_group: Option<String>,
    /// The changed parameters, with their previous values.
    pub previous_values: BTreeMap<String, Previous>,
    /// The keys of the tags that were set.
    pub tag_keys: BTreeSet<String>,
    /// Groups that were edited in place before another one replaced them, with the previous values of their parameters.
    pub left_values: BTreeMap<String, BTreeMap<String, Previous>>,
    /// Groups that the provider created, that another one has replaced, and that must be deleted.
    pub obsolete_groups: BTreeSet<String>,
    /// The instance whose reboot was requested but not seen to end: the next apply waits for that first.
    pub rebooting: Option<String>,
    /// The start time, before the writer's reboot was requested, of the server at the other end of the publisher
    /// connection, if only its restart can identify it as the writer. It is not stored, because later the connection
    /// may lead to another server with a later start.
    #[serde(skip)]
    pub start_before_reboot: Option<i64>,
    /// The start time of a server that such a restart has proven to be the writer.
    pub proven_start: Option<i64>,
}

impl Record {
    /// Adds facts from the cluster itself: a target group with our tag was created by an apply whose record was lost,
    /// or before an import.
    pub fn adopt(&mut self, current: &Current) {
        self.change_group(current);
        let is_ours = |target: &&Group| target.is_made_for(&current.cluster);
        let Some(target) = current.target.as_ref().filter(is_ours) else {
            return;
        };
        self.group_created = true;
        if self.previous_group.is_none() {
            self.previous_group = target.previous_group().filter(|name| **name != current.target_name).cloned();
        }
    }

    /// Updates the record after a reboot that should identify the server.
    pub(super) fn conclude_reboot(&mut self, current: &Current) {
        self.rebooting = None;
        if self.start_before_reboot.take().is_some() && current.settings.is_some() {
            self.proven_start = current.settings.as_ref().and_then(|settings| settings.started_at);
        }
    }

    /// Changes the group: whether the provider created the old one means nothing for the new one.
    fn change_group(&mut self, current: &Current) {
        let replaced = self.replaced_group(&current.target_name).map(str::to_owned);
        self.obsolete_groups.extend(replaced);
        if let Some(left) = self.left_group(&current.target_name).map(str::to_owned) {
            self.left_values.insert(left, self.previous_values.clone());
        }
        if self.is_of_another(current) {
            self.previous_values.clear();
        }
        if current.outgrown.iter().any(|outgrown| self.group.as_ref() == Some(&outgrown.group.name)) {
            // The group from before the upgrade has a family that the cluster no longer has.
            self.previous_group = None;
        }
        self.obsolete_groups.extend(made_before(current).map(str::to_owned));
        if self.group.as_ref().is_some_and(|group| *group != current.target_name) {
            self.group_created = false;
        }
        self.obsolete_groups.remove(&current.target_name);
        if let Some(values) = self.left_values.remove(&current.target_name) {
            self.previous_values = values;
        }
        self.group = Some(current.target_name.clone());
    }

    /// Whether the target is a group that existed before it became the target, or the first of another family: the
    /// previous values are not its own. A new group of the same family copies the attached one's values.
    pub(super) fn is_of_another(&self, current: &Current) -> bool {
        let is_fresh = current.target.is_none() && current.outgrown.is_empty();
        !is_fresh && self.group.as_ref().is_some_and(|group| *group != current.target_name)
    }

    /// All groups that the provider created and that the target has replaced or replaces.
    pub(super) fn obsolete_groups(&self, current: &Current) -> BTreeSet<String> {
        let replaced = self.replaced_group(&current.target_name);
        let all = replaced.into_iter().chain(self.obsolete_groups.iter().map(String::as_str));
        let all = all.chain(made_before(current)).filter(|group| *group != current.target_name);
        all.map(str::to_owned).collect()
    }

    /// The group that the provider created and that a target of this name replaces.
    pub(super) fn replaced_group(&self, target_name: &str) -> Option<&str> {
        let made = self.group.as_deref().filter(|_| self.group_created);
        made.filter(|group| *group != target_name)
    }

    /// The group that was edited in place and that a target of this name replaces.
    fn left_group(&self, target_name: &str) -> Option<&str> {
        let edited = self.group.as_deref().filter(|_| !self.group_created && !self.previous_values.is_empty());
        edited.filter(|group| *group != target_name)
    }

    /// All groups that were edited in place and that a target of this name has replaced or replaces.
    pub(super) fn left_groups<'a>(&'a self, target_name: &'a str) -> impl Iterator<Item = &'a str> {
        let earlier = self.left_values.keys().map(String::as_str).filter(move |group| *group != target_name);
        self.left_group(target_name).into_iter().chain(earlier)
    }

    /// The previous values of that group's changed parameters.
    pub(super) fn values_of(&self, group: &str) -> Option<&BTreeMap<String, Previous>> {
        let own = self.group.as_deref().filter(|own| *own == group).map(|_| &self.previous_values);
        self.left_values.get(group).or(own)
    }

    /// The record as text, for a state without a place for the details.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only maps by text, lists and texts, which always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads [`Record::to_json`] back; none for another text.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        // Read as an object first: with defaults for all fields, an empty sequence would be accepted too.
        let fields: serde_json::Map<_, _> = serde_json::from_str(text).ok()?;
        serde_json::from_value(fields.into()).ok()
    }
}

/// The groups from before an upgrade that were created for the cluster.
fn made_before(current: &Current) -> impl Iterator<Item = &str> {
    let made = current.outgrown.iter().filter(|group| group.is_made_for(&current.cluster));
    made.map(|group| group.group.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rds::api::Source;

    #[test]
    fn survives_the_way_through_text() {
        let record = Record {
            group: Some("shop-logical-replication".to_owned()),
            group_created: true,
            previous_group: Some("default.aurora-postgresql16".to_owned()),
            previous_values: BTreeMap::from([
                ("a".to_owned(), Previous { value: None, source: Source::EngineDefault }),
                ("b".to_owned(), Previous { value: Some("0".to_owned()), source: Source::System }),
                ("c".to_owned(), Previous { value: Some("7".to_owned()), source: Source::User }),
            ]),
            left_values: BTreeMap::from([(
                "theirs".to_owned(),
                BTreeMap::from([("d".to_owned(), Previous { value: None, source: Source::System })]),
            )]),
            tag_keys: BTreeSet::from(["team".to_owned()]),
            obsolete_groups: BTreeSet::from(["old".to_owned()]),
            rebooting: Some("shop-2".to_owned()),
            start_before_reboot: None,
            proven_start: Some(2),
        };
        assert_eq!(Record::from_json(&record.to_json()), Some(record));
        assert_eq!(Record::from_json(&Record::default().to_json()), Some(Record::default()));
    }

    /// Existing states have this spelling.
    #[test]
    fn is_spelled_as_ever() {
        let text = r#"{"group":"g","group_created":true,"previous_group":null,"previous_values":{"a":{"value":null,
            "source":"engine-default"},"b":{"value":"1","source":"user"}},"left_values":{"theirs":{"c":{"value":"2",
            "source":"system"}}},"tag_keys":["team"],"obsolete_groups":["old"],"rebooting":"shop-2"}"#;
        let record = Record::from_json(text).unwrap();
        assert_eq!((record.group.as_deref(), record.group_created), (Some("g"), true));
        assert_eq!(record.previous_values["a"], Previous { value: None, source: Source::EngineDefault });
        assert_eq!(record.previous_values["b"], Previous { value: Some("1".to_owned()), source: Source::User });
        assert_eq!(record.left_values["theirs"]["c"].source, Source::System);
        assert!(record.tag_keys.contains("team") && record.obsolete_groups.contains("old"));
        assert_eq!(record.rebooting.as_deref(), Some("shop-2"));
    }

    #[test]
    fn other_text_is_nothing() {
        for text in ["", "[]", "null", "{"] {
            assert_eq!(Record::from_json(text), None, "{text}");
        }
        assert_eq!(Record::from_json("{}"), Some(Record::default()));
    }
}
