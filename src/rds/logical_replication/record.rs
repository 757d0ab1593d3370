//! What must be remembered to take everything back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Current, Group};
use crate::rds::api::Source;
use crate::rds::parameters::Previous;

/// What was changed, and what it was before. It grows with every step and is to be kept with the object's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The parameter group in use.
    pub group: Option<String>,
    /// Whether that group was made here; only then is it ever deleted.
    pub group_created: bool,
    /// The parameter group that was attached before, if another one.
    pub previous_group: Option<String>,
    /// The parameters that were changed, and what they were.
    pub previous_values: BTreeMap<String, Previous>,
    /// The keys of the tags that were set.
    pub tag_keys: BTreeSet<String>,
    /// Groups that were edited in place before another one took their place, and what their parameters were.
    pub left_values: BTreeMap<String, BTreeMap<String, Previous>>,
    /// Groups that were made here before another one took their place, and that are to be deleted.
    pub obsolete_groups: BTreeSet<String>,
    /// The instance whose reboot was asked for and not seen to end: an apply that goes on waits for that one first.
    pub rebooting: Option<String>,
}

impl Record {
    /// Takes over what the cluster itself tells: a target group that carries our tag was made here, by an apply whose
    /// record was lost on the way or before an import.
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

    /// Another group in place of the one so far: whether that one was made here says nothing of this one.
    fn change_group(&mut self, current: &Current) {
        let replaced = self.replaced_group(&current.target_name).map(str::to_owned);
        self.obsolete_groups.extend(replaced);
        if let Some(left) = self.left_group(&current.target_name).map(str::to_owned) {
            self.left_values.insert(left, self.previous_values.clone());
        }
        if self.is_of_another(current) {
            self.previous_values.clear();
        }
        if self.group.as_ref().is_some_and(|group| *group != current.target_name) {
            self.group_created = false;
        }
        self.obsolete_groups.remove(&current.target_name);
        if let Some(values) = self.left_values.remove(&current.target_name) {
            self.previous_values = values;
        }
        self.group = Some(current.target_name.clone());
    }

    /// Whether the target is a group that was there before it became the target: the previous values are not its own. A
    /// new one takes over what the attached one holds.
    pub(super) fn is_of_another(&self, current: &Current) -> bool {
        current.target.is_some() && self.group.as_ref().is_some_and(|group| *group != current.target_name)
    }

    /// The group that was made here and that a target of this name takes the place of.
    pub(super) fn replaced_group(&self, target_name: &str) -> Option<&str> {
        let made = self.group.as_deref().filter(|_| self.group_created);
        made.filter(|group| *group != target_name)
    }

    /// The group that was edited in place and that a target of this name takes the place of.
    fn left_group(&self, target_name: &str) -> Option<&str> {
        let edited = self.group.as_deref().filter(|_| !self.group_created && !self.previous_values.is_empty());
        edited.filter(|group| *group != target_name)
    }

    /// All groups that were edited in place and that a target of this name has taken, or takes, the place of.
    pub(super) fn left_groups<'a>(&'a self, target_name: &'a str) -> impl Iterator<Item = &'a str> {
        let earlier = self.left_values.keys().map(String::as_str).filter(move |group| *group != target_name);
        self.left_group(target_name).into_iter().chain(earlier)
    }

    /// What the parameters of that group were before they were changed here.
    pub(super) fn values_of(&self, group: &str) -> Option<&BTreeMap<String, Previous>> {
        let own = self.group.as_deref().filter(|own| *own == group).map(|_| &self.previous_values);
        self.left_values.get(group).or(own)
    }

    /// As text, for a state that has no place for the details.
    #[must_use]
    pub fn to_json(&self) -> String {
        let left = self.left_values.iter().map(|(group, values)| (group.clone(), values_to_json(values)));
        json!({
            "group": self.group,
            "group_created": self.group_created,
            "previous_group": self.previous_group,
            "previous_values": values_to_json(&self.previous_values),
            "left_values": left.collect::<Map<_, _>>(),
            "tag_keys": self.tag_keys,
            "obsolete_groups": self.obsolete_groups,
            "rebooting": self.rebooting,
        })
        .to_string()
    }

    /// Reads [`Record::to_json`] back. What is missing is empty; text that is not ours is nothing.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let fields = value.as_object()?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        let left = fields.get("left_values").and_then(Value::as_object).into_iter().flatten();
        let names = |name: &str| {
            let all = fields.get(name).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Some(Self {
            group: text("group"),
            group_created: fields.get("group_created").and_then(Value::as_bool).unwrap_or_default(),
            previous_group: text("previous_group"),
            previous_values: values_from_json(fields.get("previous_values")),
            left_values: left.map(|(group, values)| (group.clone(), values_from_json(Some(values)))).collect(),
            tag_keys: names("tag_keys"),
            obsolete_groups: names("obsolete_groups"),
            rebooting: text("rebooting"),
        })
    }
}

fn values_to_json(values: &BTreeMap<String, Previous>) -> Value {
    let values = values.iter().map(|(name, previous)| {
        let source = source_name(previous.source);
        (name.clone(), json!({ "value": previous.value, "source": source }))
    });
    Value::Object(values.collect())
}

fn values_from_json(values: Option<&Value>) -> BTreeMap<String, Previous> {
    let values = values.and_then(Value::as_object).into_iter().flatten();
    values.map(|(name, value)| (name.clone(), previous_from(value))).collect()
}

fn previous_from(value: &Value) -> Previous {
    Previous {
        value: value["value"].as_str().map(str::to_owned),
        source: match value["source"].as_str() {
            Some("user") => Source::User,
            Some("engine-default") => Source::EngineDefault,
            _ => Source::System,
        },
    }
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::User => "user",
        Source::System => "system",
        Source::EngineDefault => "engine-default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        };
        assert_eq!(Record::from_json(&record.to_json()), Some(record));
        assert_eq!(Record::from_json(&Record::default().to_json()), Some(Record::default()));
    }

    #[test]
    fn other_text_is_nothing() {
        for text in ["", "[]", "null", "{"] {
            assert_eq!(Record::from_json(text), None, "{text}");
        }
        assert_eq!(Record::from_json("{}"), Some(Record::default()));
    }
}
