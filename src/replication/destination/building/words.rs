// SPDX-License-Identifier: MPL-2.0

//! The messages of a look.

use std::collections::BTreeMap;

use super::{Look, key_name};
use crate::postgres::QualifiedName;
use crate::postgres::indexing::Rights;
use crate::replication::destination::words::{counted, listed};
use crate::replication::error::Error;
use crate::replication::names;

impl Look {
    /// What apply will create, for a plan.
    pub fn announcement(&self, doing: &str) -> Option<Error> {
        if self.is_done() {
            return None;
        }
        let late = &self.late;
        let indexes = self.largest_first().into_iter().map(|(name, line)| format!("{name}{line}")).collect();
        let keys = late.keys.iter().map(|key| key_name(&key.table, &key.name)).collect();
        let statistics = late.statistics.iter().map(|turn| turn.object.to_string()).collect();
        let counts = [
            (late.indexes.len(), "index", "indexes"),
            (late.keys.len(), "foreign key", "foreign keys"),
            (late.statistics.len(), "statistics object", "statistics objects"),
        ];
        let counts = counts.into_iter().filter(|(count, ..)| *count > 0);
        let counts: Vec<_> =
            counts.map(|(count, one, more)| format!("{count} {}", if count == 1 { one } else { more })).collect();
        let left = self.left.iter().map(|left| format!("{}: {}", left.object, left.reason)).collect();
        let warning = Error::new(format!("{doing} makes {} on the subscriber", counts.join(", ")))
            .detail(listed("Indexes, each built while others read and write:", indexes))
            .detail(listed("Foreign keys, added and then validated:", keys))
            .detail(listed("Statistics:", statistics))
            .detail(listed("Not made:", left));
        Some(warning)
    }

    /// The indexes, those of the largest tables first, each with its description.
    fn largest_first(&self) -> Vec<(String, String)> {
        let bytes = |table: &QualifiedName| self.sizes.get(table).map(|size| size.bytes).unwrap_or_default();
        let mut indexes: Vec<_> = self.late.indexes.iter().collect();
        indexes.sort_by_key(|index| std::cmp::Reverse(bytes(&index.table)));
        let line = |index: &&crate::postgres::definition::LateIndex| {
            let again = index.builds.iter().any(|build| build.is_left_over);
            let again = if again { ", which an earlier attempt has left unfinished" } else { "" };
            let parts = index.builds.len();
            let parts = if index.builds.iter().all(|build| build.table == index.table) {
                String::new()
            } else {
                format!(", on {}", counted(parts, "partition"))
            };
            (index.name.to_text(), format!(" on {}{parts}{again}", index.table.to_text()))
        };
        indexes.iter().map(line).collect()
    }

    /// The warning that existing objects are not as they should be, if so.
    pub fn objection(&self, doing: &str) -> Option<Error> {
        let lines: Vec<_> = self.late.otherwise.clone();
        let count = counted(lines.len(), "object");
        (!lines.is_empty()).then(|| {
            let what =
                format!("{doing}: the subscriber has {count} of the same name that {} not the same", be(lines.len()));
            Error::new(what).detail(listed("Not the same, and left alone:", lines))
        })
    }

    /// The error that something is still missing after everything was created, if so.
    pub fn unproven(&self, doing: &str) -> Option<Error> {
        self.announcement("apply").map(|left| {
            let what = format!("{doing}: something is still missing on the subscriber");
            let why = "Either the publisher or the subscriber was changed in the meantime. Apply again.";
            left.details().iter().fold(Error::new(what), Error::detail).detail(why)
        })
    }

    /// The error that the role lacks rights, if so.
    pub fn refusal(&self, doing: &str) -> Option<Error> {
        forbidden(doing, self)
    }
}

fn be(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// The error about missing tables, if any.
pub(super) fn absent(doing: &str, look: &Look) -> Option<Error> {
    (!look.absent.is_empty()).then(|| {
        let tables = names::tables(&look.absent);
        let what = format!("{doing}: the subscriber lacks {}", counted(look.absent.len(), "table"));
        Error::new(what).detail(format!("Missing: {tables}.")).detail(
            "neonrepl_destination_schema creates them; put it before this resource with depends_on. Nothing was \
             changed.",
        )
    })
}

/// The error that the role lacks rights, if so.
pub(super) fn forbidden(doing: &str, look: &Look) -> Option<Error> {
    let (tables, referenced) = look.touched();
    let mut lines: BTreeMap<String, ()> = BTreeMap::new();
    for (table, rights) in tables.into_iter().filter_map(|table| Some((table, look.rights.get(table)?))) {
        let Rights { role, owner, .. } = rights;
        let name = table.to_text();
        if !rights.owns {
            let line = format!(
                "{name} belongs to {}. As a superuser: ALTER TABLE {table} OWNER TO {role}; or GRANT {owner} TO {role};",
                owner.as_str()
            );
            lines.insert(line, ());
        }
        if !rights.creates {
            let schema = &table.schema;
            let line = format!(
                "the role may not create anything in schema {}. As its owner: GRANT CREATE ON SCHEMA {schema} TO \
                 {role};",
                schema.as_str()
            );
            lines.insert(line, ());
        }
    }
    for (table, rights) in referenced.into_iter().filter_map(|table| Some((table, look.rights.get(table)?))) {
        if !(rights.refers || rights.owns) {
            let role = &rights.role;
            let line = format!(
                "no foreign key may refer to {}. As its owner: GRANT REFERENCES ON TABLE {table} TO {role};",
                table.to_text()
            );
            lines.insert(line, ());
        }
    }
    (!lines.is_empty()).then(|| {
        Error::new(format!("{doing}: the role may not create indexes on all of the tables"))
            .detail(listed("On the subscriber:", lines.into_keys().collect()))
            .detail("The owner of a table may do so; no superuser is needed. Nothing was changed.")
    })
}
