// SPDX-License-Identifier: MPL-2.0

//! Why a computed attribute of a subscription is `(known after apply)`, in words: the plan shows what changes, and not why.

use std::collections::BTreeSet;

use super::model::Model;
use crate::replication::names;
use crate::tf_provider::convert::Attr;

/// Why it refreshes: `unsubscribed_tables` is not known.
pub(super) fn of_refresh(prior: &Model, planned: &Model) -> Option<String> {
    if !planned.unsubscribed_tables.is_unknown() {
        return None;
    }
    let missing = listed(&prior.unsubscribed_tables);
    Some(match missing {
        Some(tables) => format!("it subscribes to new tables: {tables}"),
        None if prior.publications != planned.publications => {
            "it looks for new tables, because its publications change".to_owned()
        }
        None if prior.refresh_triggers != planned.refresh_triggers => {
            "it looks for new tables, because refresh_triggers changes".to_owned()
        }
        None => "it looks for new tables, because it is enabled again".to_owned(),
    })
}

/// Why its connection is set again: `connection_differs` is not known, or a write-only password has another version.
pub(super) fn of_sending(prior: &Model, planned: &Model) -> Option<String> {
    if let Some(parts) = listed(&prior.connection_differs) {
        return Some(format!("its connection is sent again, because it differs from the configuration in: {parts}"));
    }
    let is_asked = prior.connection_version != planned.connection_version;
    is_asked.then(|| "its connection is sent again, password included, because connection_version changes".to_owned())
}

fn listed(set: &Attr<BTreeSet<String>>) -> Option<String> {
    let set = set.known().filter(|set| !set.is_empty())?;
    Some(names::list(set.iter().cloned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_after_apply_has_a_reason() {
        let set = |names: &[&str]| Attr::from(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>());
        let prior =
            Model { unsubscribed_tables: set(&["public.new"]), connection_differs: set(&[]), ..Model::default() };
        let planned = Model { unsubscribed_tables: Attr::Unknown, ..prior.clone() };
        let reason = of_refresh(&prior, &planned).unwrap();
        assert_eq!(reason, "it subscribes to new tables: public.new");
        let nothing_new = Model { unsubscribed_tables: set(&[]), ..prior.clone() };
        assert_eq!(of_refresh(&nothing_new, &planned).unwrap(), "it looks for new tables, because it is enabled again");
        let more = Model { publications: set(&["p"]), ..planned.clone() };
        assert!(of_refresh(&nothing_new, &more).unwrap().ends_with("because its publications change"));
        assert_eq!((of_refresh(&prior, &prior), of_sending(&prior, &prior)), (None, None));

        let differs = Model { connection_differs: set(&["host"]), ..prior.clone() };
        assert!(of_sending(&differs, &differs).unwrap().ends_with("differs from the configuration in: host"));
        let asked = Model { connection_version: Attr::Known(2), ..prior.clone() };
        assert!(of_sending(&prior, &asked).unwrap().ends_with("because connection_version changes"));
    }
}
