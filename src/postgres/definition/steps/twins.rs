// SPDX-License-Identifier: MPL-2.0

//! Indexes of a partitioned table that are equal except for their direction.
//!
//! When a server creates the index of a partitioned table, it attaches the first index of each partition that fits, but
//! ignores `DESC` and `NULLS FIRST`. With two such indexes it may attach the wrong one. So these are created with `ON
//! ONLY`, and the indexes of the partitions are attached by name.

use std::collections::BTreeMap;

use super::super::model::{Definition, Index};
use crate::postgres::sql::QualifiedName;

/// The indexes of partitions by the index that they are a part of.
pub(super) type Parts<'a> = BTreeMap<&'a QualifiedName, Vec<&'a QualifiedName>>;

pub(super) fn parts(definition: &Definition) -> Parts<'_> {
    let mut parts = Parts::new();
    for part in definition.indexes.values() {
        part.parent.iter().for_each(|parent| parts.entry(parent).or_default().push(&part.name));
    }
    parts
}

/// The indexes of partitions to attach by name; empty if the server attaches the right ones.
pub(super) fn attached<'a>(definition: &Definition, parts: &Parts<'a>, index: &Index) -> Vec<&'a QualifiedName> {
    let is_twin = |other: &Index| {
        let is_other = other.name != index.name && other.table == index.table;
        is_other && without_direction(&other.tail) == without_direction(&index.tail)
    };
    let parts = parts.get(&index.name).filter(|_| definition.indexes.values().any(is_twin));
    parts.cloned().unwrap_or_default()
}

/// The statements that create an index with `ON ONLY` and attach the others to it.
pub(super) fn statements(index: &Index, parts: &[&QualifiedName]) -> Vec<String> {
    let unique = if index.is_unique { "UNIQUE " } else { "" };
    let create = format!("CREATE {unique}INDEX {} ON ONLY {} {}", index.name.name, index.table, index.tail);
    let attach = parts.iter().map(|part| format!("ALTER INDEX {} ATTACH PARTITION {part}", index.name));
    [create].into_iter().chain(attach).chain(index.finishing(&index.name)).collect()
}

fn without_direction(tail: &str) -> String {
    [" DESC", " NULLS FIRST", " NULLS LAST"].iter().fold(tail.to_owned(), |tail, word| tail.replace(word, ""))
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{database, name};
    use super::*;

    #[test]
    fn only_indexes_that_a_server_may_confuse_are_attached_by_name() {
        let log = database(18).partitioned("log", "id day").partition("log_1", "log", "id day");
        let with = |definition: Definition, called: &str, tail: &str| {
            let of_part = format!("{called}_1");
            let with = definition.index("log", called, tail).index("log_1", &of_part, tail);
            with.with_index(&of_part, |index| (index.is_clone, index.parent) = (true, Some(name(called))))
        };
        let one = with(log, "up", "USING btree (day)");
        let other = with(one.clone(), "key", "USING btree (id)");
        let twins = with(one.clone(), "down", "USING btree (day DESC NULLS LAST)");
        let attached = |definition: &Definition| {
            let index = &definition.indexes[&name("up")];
            let parts = attached(definition, &parts(definition), index);
            if parts.is_empty() { Vec::new() } else { statements(index, &parts) }
        };
        assert_eq!(attached(&one), [""; 0]);
        assert_eq!(attached(&other), [""; 0]);
        let text = attached(&twins).join("; ").replace("\"public\".", "").replace("public.", "").replace('"', "");
        assert_eq!(text, "CREATE INDEX up ON ONLY log USING btree (day); ALTER INDEX up ATTACH PARTITION up_1");
    }
}
