// SPDX-License-Identifier: MPL-2.0

//! Statements that write rows. The server may refuse any of them, because they may repeat keys.

use super::maker::Maker;
use super::tables::{Column, Table};

impl Maker {
    /// A row for a table.
    pub(crate) fn insert(&mut self, table: &Table) -> Option<String> {
        let given: Vec<_> = table.columns.iter().filter(|column| column.is_given).cloned().collect();
        if given.is_empty() {
            return Some(format!("INSERT INTO {} DEFAULT VALUES", table.name));
        }
        let names: Vec<_> = given.iter().map(|column| column.name.clone()).collect();
        let values: Vec<_> = given.iter().map(|column| self.value(column)).collect();
        Some(format!("INSERT INTO {} ({}) VALUES ({})", table.name, names.join(", "), values.join(", ")))
    }

    fn value(&mut self, column: &Column) -> String {
        if !column.is_not_null && self.chance.one_in(6) {
            return "NULL".to_owned();
        }
        // Numbers of many sizes, so that keys occur more than once, and all kinds of partitions are used.
        match column.kind.sql.as_str() {
            "integer" | "bigint" | "smallint" if !self.chance.one_in(4) => self.chance.below(40).to_string(),
            "text" if self.chance.one_in(2) => {
                format!("'{}{}'", self.chance.pick(&["a", "m", "Ü", "it''s", "z"]), self.chance.below(30))
            }
            _ => self.chance.pick(&column.kind.values).clone(),
        }
    }

    /// An update of all rows and a delete of some, as far as the table has a replica identity.
    pub(crate) fn update(&mut self, table: &Table) -> Vec<String> {
        // A publisher accepts changes of a partition by the partition's identity, and sends them by the root's.
        if table.is_mute {
            return Vec::new();
        }
        // A subscriber searches a row by all of its columns, which fails if the type of one has no equality.
        if table.is_full && table.columns.iter().any(|column| !column.kind.sorts) {
            return Vec::new();
        }
        let given: Vec<_> = table
            .columns
            .iter()
            .filter(|column| column.is_given && !table.key.contains(&column.name))
            .cloned()
            .collect();
        let mut all = Vec::new();
        if !given.is_empty() {
            let column = self.chance.pick(&given).clone();
            let value = self.value(&column);
            all.push(format!("UPDATE {} SET {} = {value}", table.name, column.name));
        }
        if self.chance.one_in(2) {
            all.push(format!("DELETE FROM {0} WHERE ctid IN (SELECT ctid FROM {0} LIMIT 1)", table.name));
        }
        all
    }
}
