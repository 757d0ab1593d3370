// SPDX-License-Identifier: MPL-2.0

//! Indexes, and the one that is the table's replica identity.

use super::maker::Maker;
use super::tables::{Column, Table};

impl Maker {
    pub(crate) fn indexes(&mut self, table: &Table) {
        let given: Vec<_> = table.columns.iter().filter(|column| column.is_given).cloned().collect();
        if given.is_empty() {
            return;
        }
        for _ in 0..self.chance.below(4) {
            let column = self.chance.pick(&given).clone();
            let index = self.names.next(&mut self.chance, "i");
            if let Some(on) = self.index_on(&column, &given) {
                self.run(format!("CREATE INDEX {index} ON {} {on}", table.name));
                let schema = schema_of(&table.name);
                self.comment("INDEX", &format!("{schema}.{index}"));
                if on.starts_with("((") && self.chance.one_in(2) {
                    self.run(format!("ALTER INDEX {schema}.{index} ALTER COLUMN 1 SET STATISTICS 55"));
                }
            }
        }
    }

    fn index_on(&mut self, column: &Column, others: &[Column]) -> Option<String> {
        let (name, kind) = (&column.name, &column.kind);
        let text = match self.chance.below(8) {
            0 if kind.is("text") => format!("({name} text_pattern_ops DESC NULLS LAST)"),
            1 if kind.is("text") => format!("((lower({name})) COLLATE \"C\")"),
            2 if kind.is("jsonb") => format!("USING gin ({name} jsonb_path_ops) WITH (fastupdate = off)"),
            3 if kind.is("inet") => format!("USING gist ({name} inet_ops)"),
            4 if kind.overlaps => format!("USING gist ({name}) WITH (fillfactor = 80)"),
            5 if kind.is("integer") || kind.is("date") => format!("USING brin ({name}) WITH (pages_per_range = 4)"),
            6 if kind.hashes => format!("USING hash ({name})"),
            7 => {
                let test = self.test(kind, name);
                format!("((({test})))")
            }
            _ if kind.sorts => {
                let included = self.chance.pick(others).name.clone();
                let nulls = *self.chance.pick(&["", " DESC", " ASC NULLS FIRST"]);
                let partial =
                    if self.chance.one_in(3) { format!(" WHERE ({name} IS NOT NULL)") } else { String::new() };
                format!("({name}{nulls}) INCLUDE ({included}){partial}")
            }
            _ => return None,
        };
        Some(text)
    }

    /// The replica identity of each kind.
    pub(crate) fn identity(&mut self, table: &mut Table) {
        let name = table.name.clone();
        let unique =
            table.columns.iter().find(|column| column.is_not_null && column.is_given && column.kind.sorts).cloned();
        match (self.chance.below(5), unique) {
            (0, _) => {
                self.run(format!("ALTER TABLE {name} REPLICA IDENTITY FULL"));
                table.is_full = true;
            }
            (1, _) => {
                self.run(format!("ALTER TABLE {name} REPLICA IDENTITY NOTHING"));
                table.is_mute = true;
            }
            (2, Some(column)) if table.is_plain => {
                let index = self.names.next(&mut self.chance, "ri");
                self.run(format!("CREATE UNIQUE INDEX {index} ON {name} ({})", column.name));
                self.run(format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {index}"));
            }
            _ => {}
        }
        let key_index = self.names.next(&mut self.chance, "cl");
        let is_clustered = table.is_plain && self.chance.one_in(10);
        let sorting = table.columns.iter().find(|column| column.kind.sorts && column.is_given);
        if let Some(column) = sorting.filter(|_| is_clustered) {
            self.run(format!("CREATE INDEX {key_index} ON {name} ({})", column.name));
            self.run(format!("ALTER TABLE {name} CLUSTER ON {key_index}"));
        }
    }

    /// Foreign keys between tables, each to the primary key of an existing one.
    pub(crate) fn foreign_keys(&mut self) {
        let tables = self.tables.clone();
        let referable: Vec<_> = tables.iter().filter(|table| table.is_referable && table.key.len() == 1).collect();
        for _ in 0..self.chance.below(4) {
            if referable.is_empty() {
                return;
            }
            let to = (*self.chance.pick(&referable)).clone();
            let key = to.columns.iter().find(|column| column.name == to.key[0]).cloned();
            let Some(key) = key.filter(|column| column.kind.refers) else { continue };
            let candidates: Vec<_> = tables.iter().filter(|table| table.is_plain || table.is_partitioned).collect();
            if candidates.is_empty() {
                return;
            }
            let from = (*self.chance.pick(&candidates)).clone();
            let added = self.names.next(&mut self.chance, "fk_col");
            let constraint = self.names.next(&mut self.chance, "fk");
            self.run(format!("ALTER TABLE {} ADD COLUMN {added} {}", from.name, key.kind.sql));
            let action =
                *self.chance.pick(&["", " ON DELETE CASCADE", " ON DELETE SET NULL ON UPDATE CASCADE", " MATCH FULL"]);
            let when = *self.chance.pick(&["", " DEFERRABLE INITIALLY DEFERRED"]);
            let valid = match self.chance.below(6) {
                0 if from.is_plain => " NOT VALID",
                1 if self.version >= 18 && from.is_plain && to.is_plain => " NOT ENFORCED",
                _ => "",
            };
            let when = if valid == " NOT ENFORCED" { "" } else { when };
            self.run(format!(
                "ALTER TABLE {} ADD CONSTRAINT {constraint} FOREIGN KEY ({added}) REFERENCES {} ({}){action}{when}{valid}",
                from.name, to.name, key.name
            ));
        }
    }
}

/// The schema in a table's name.
pub(crate) fn schema_of(table: &str) -> &str {
    let Some(quoted) = table.strip_prefix('"') else { return "public" };
    let mut at = 0;
    loop {
        let Some(end) = quoted[at..].find('"') else { return table };
        at += end + 1;
        match quoted[at..].strip_prefix('"') {
            Some(_) => at += 1,
            None => return &table[..=at],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::schema_of;

    #[test]
    fn a_schema_ends_where_its_quotes_do() {
        assert_eq!(schema_of("public.\"a\""), "public");
        assert_eq!(schema_of("\"a.b\".\"c\""), "\"a.b\"");
        assert_eq!(schema_of("\"a\"\"b\".\"c\""), "\"a\"\"b\"");
    }
}
