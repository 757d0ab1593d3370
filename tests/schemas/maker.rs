// SPDX-License-Identifier: MPL-2.0

//! Makes a random schema: statements that a server of that version always accepts, and the facts about them.
//!
//! A table needs everything that is created, except objects with `unneeded` in their names.

use std::collections::BTreeSet;

use super::chance::Chance;
use super::indexes::schema_of;
use super::kinds::{self, Kind};
use super::names::Names;
use super::tables::Table;

/// A random schema.
pub(crate) struct Made {
    /// The extensions that both sides must have first.
    pub(crate) extensions: Vec<String>,
    /// The statements, in order.
    pub(crate) statements: Vec<String>,
    /// The statement that publishes everything, under the name `proof`.
    pub(crate) publication: String,
    /// Statements that write rows, each of which the server may refuse.
    pub(crate) writes: Vec<String>,
}

/// The maker of a schema.
pub(crate) struct Maker {
    pub(crate) chance: Chance,
    pub(crate) version: u16,
    pub(crate) names: Names,
    pub(crate) schemas: Vec<String>,
    pub(crate) own: Vec<Kind>,
    pub(crate) made: Vec<Kind>,
    pub(crate) tables: Vec<Table>,
    pub(crate) sequences: Vec<String>,
    /// The schema of the current table.
    pub(crate) home: String,
    statements: Vec<String>,
    collations: Vec<(String, bool)>,
    extensions: BTreeSet<&'static str>,
}

impl Maker {
    /// A schema of this seed for a server of this version.
    pub(crate) fn make(seed: u64, version: u16) -> Made {
        let mut maker = Self {
            chance: Chance::new(seed),
            version,
            names: Names::default(),
            schemas: vec!["public".to_owned()],
            own: kinds::own(),
            made: Vec::new(),
            tables: Vec::new(),
            sequences: Vec::new(),
            home: String::new(),
            statements: Vec::new(),
            collations: Vec::new(),
            extensions: BTreeSet::new(),
        };
        maker.all();
        let publication = maker.publication();
        let writes = maker.writes();
        let extensions = maker.extensions.iter().map(|name| format!("CREATE EXTENSION {name}")).collect();
        Made { extensions, statements: maker.statements, publication, writes }
    }

    fn all(&mut self) {
        if self.chance.one_in(3) {
            self.extensions.insert("citext");
            let values = vec!["'MiXeD'::public.citext".to_owned()];
            let citext = Kind { collates: true, is_long: true, ..Kind::made("public.citext".to_owned(), values) };
            self.made.push(citext);
        }
        for _ in 0..self.chance.between(1, 3) {
            let schema = self.names.next(&mut self.chance, "s");
            self.run(format!("CREATE SCHEMA {schema}"));
            self.comment("SCHEMA", &schema);
            self.schemas.push(schema);
        }
        for _ in 0..self.chance.between(2, 7) {
            match self.chance.below(8) {
                0 | 1 => self.partitioned(),
                2 => self.family(),
                3 => self.typed(),
                4 if self.version >= 18 => self.temporal(),
                _ => self.table(),
            }
        }
        self.foreign_keys();
        self.cycle();
        self.unneeded();
        self.run("SELECT 1".to_owned());
    }

    /// Adds a statement.
    pub(crate) fn run(&mut self, statement: String) {
        self.statements.push(statement);
    }

    /// A new name in one of the schemas.
    pub(crate) fn qualified(&mut self, what: &str) -> String {
        let schema = self.chance.pick(&self.schemas).clone();
        let name = self.names.next(&mut self.chance, what);
        format!("{schema}.{name}")
    }

    /// A name for a table.
    pub(crate) fn table_name(&mut self, what: &str) -> String {
        let name = self.qualified(what);
        self.home = schema_of(&name).to_owned();
        name
    }

    /// Sets a comment on something, sometimes.
    pub(crate) fn comment(&mut self, kind: &str, what: &str) {
        if self.chance.one_in(3) {
            self.run(format!("COMMENT ON {kind} {what} IS 'It''s \\ a \"comment\"\nof two lines, 日本'"));
        }
    }

    /// A collation, new or existing.
    pub(crate) fn collation(&mut self) -> String {
        if self.chance.one_in(3) {
            return self.chance.pick(&["\"C\"", "\"POSIX\"", "\"ucs_basic\"", "\"en-x-icu\""]).to_string();
        }
        if self.collations.is_empty() || self.chance.one_in(3) {
            return self.new_collation();
        }
        self.chance.pick(&self.collations).0.clone()
    }

    /// A collation that never treats different texts as equal.
    pub(crate) fn deterministic_collation(&mut self) -> String {
        let those: Vec<_> =
            self.collations.iter().filter(|(_, is_strict)| *is_strict).map(|one| one.0.clone()).collect();
        if those.is_empty() { "\"C\"".to_owned() } else { self.chance.pick(&those).clone() }
    }

    fn new_collation(&mut self) -> String {
        let name = self.qualified("collation");
        let is_strict = self.chance.one_in(2);
        let options = match self.chance.below(4) {
            0 => "provider = libc, locale = 'C'".to_owned(),
            1 if self.version >= 16 => {
                format!("provider = icu, locale = 'und', rules = '& a < g', deterministic = {is_strict}")
            }
            _ => format!(
                "provider = icu, locale = '{}', deterministic = {is_strict}",
                self.chance.pick(&["und", "de", "sv"])
            ),
        };
        let is_strict = is_strict || options.contains("libc");
        self.run(format!("CREATE COLLATION {name} ({options})"));
        self.comment("COLLATION", &name);
        self.collations.push((name.clone(), is_strict));
        name
    }

    /// Objects that no table needs, and that must therefore not be on the other side.
    fn unneeded(&mut self) {
        let schema = self.chance.pick(&self.schemas).clone();
        for statement in [
            format!("CREATE TYPE {schema}.unneeded_type AS ENUM ('a')"),
            format!("CREATE FUNCTION {schema}.unneeded_function() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
            format!("CREATE SEQUENCE {schema}.unneeded_sequence"),
            format!("CREATE TABLE {schema}.unneeded_table (id int PRIMARY KEY)"),
            format!("CREATE VIEW {schema}.unneeded_view AS SELECT 1 AS one"),
            "CREATE SCHEMA unneeded_schema".to_owned(),
        ] {
            self.run(statement);
        }
    }

    /// A table whose check calls a function that takes its own row: neither can be completed before the other.
    fn cycle(&mut self) {
        if !self.chance.one_in(3) {
            return;
        }
        let plain: Vec<_> = self.tables.iter().filter(|table| table.is_plain).map(|table| table.name.clone()).collect();
        if plain.is_empty() {
            return;
        }
        let table = self.chance.pick(&plain).clone();
        let function = self.qualified("of_row");
        let constraint = self.names.next(&mut self.chance, "cyc");
        self.run(format!(
            "CREATE FUNCTION {function}(one {table}) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1 IS NOT NULL OR true; END'"
        ));
        self.run(format!("ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({function}({}.*))", row_of(&table)));
    }

    /// The statement that publishes all tables except the unneeded ones.
    fn publication(&mut self) -> String {
        let names: Vec<_> =
            self.tables.iter().filter(|table| !table.is_child).map(|table| table.name.clone()).collect();
        let options = if self.chance.one_in(2) { " WITH (publish_via_partition_root = true)" } else { "" };
        format!("CREATE PUBLICATION proof FOR TABLE {}{options}", names.join(", "))
    }

    fn writes(&mut self) -> Vec<String> {
        let mut writes = Vec::new();
        let tables = std::mem::take(&mut self.tables);
        for table in &tables {
            for _ in 0..self.chance.between(2, 5) {
                writes.extend(self.insert(table));
            }
            writes.extend(self.update(table));
        }
        self.tables = tables;
        writes
    }
}

/// How the row of a table is named in its own check.
fn row_of(table: &str) -> &str {
    // The schema's name is quoted or `public`, and a quoted one may contain dots.
    let quoted_end =
        |text: &str| text[1..].match_indices('"').find_map(|(at, _)| text[at + 2..].strip_prefix('.').map(|_| at + 3));
    let begins = if table.starts_with('"') { quoted_end(table).unwrap_or_default() } else { "public.".len() };
    &table[begins..]
}
