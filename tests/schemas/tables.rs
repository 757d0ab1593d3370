// SPDX-License-Identifier: MPL-2.0

//! Tables of every shape that are not partitioned, with their columns, keys and indexes.

use super::kinds::Kind;
use super::maker::Maker;

/// A column.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Whether a row may give it a value.
    pub(crate) is_given: bool,
    pub(crate) is_not_null: bool,
}

/// A table, with the facts for rows and keys.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Schema and name, quoted.
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    /// The names of the columns of its primary key; empty if there is none.
    pub(crate) key: Vec<String>,
    /// Whether it is published with another table, of which it is a child.
    pub(crate) is_child: bool,
    /// Whether it is not partitioned, does not inherit, and has no type.
    pub(crate) is_plain: bool,
    /// Whether its rows are in its partitions.
    pub(crate) is_partitioned: bool,
    /// Whether its replica identity is the whole row.
    pub(crate) is_full: bool,
    /// Whether it has no replica identity.
    pub(crate) is_mute: bool,
    /// Whether another table may reference its key.
    pub(crate) is_referable: bool,
}

impl Table {
    /// Its NOT NULL columns with a type for keys.
    fn sorting(&self) -> Vec<&Column> {
        self.columns.iter().filter(|column| column.kind.sorts && column.is_given).collect()
    }
}

impl Maker {
    /// A plain table.
    pub(crate) fn table(&mut self) {
        let name = self.table_name("t");
        let count = self.chance.between(1, 8);
        let (mut columns, mut listed) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (column, text) = self.column(&columns);
            columns.push(column);
            listed.push(text);
        }
        let key = if self.chance.one_in(5) { Vec::new() } else { self.key_column(&mut columns, &mut listed) };
        let mut table = Table {
            name,
            columns,
            key: key.clone(),
            is_child: false,
            is_plain: true,
            is_partitioned: false,
            is_full: false,
            is_mute: false,
            is_referable: !key.is_empty(),
        };
        self.generated(&mut table, &mut listed);
        self.table_checks(&table, &mut listed);
        if !key.is_empty() {
            listed.push(self.primary_key(&mut table));
        }
        let options = self.options();
        self.run(format!("CREATE TABLE {} ({}){options}", table.name, listed.join(", ")));
        self.after(&mut table);
        self.tables.push(table);
    }

    /// Additions that every table may get.
    pub(crate) fn after(&mut self, table: &mut Table) {
        self.alter_columns(table);
        self.uniques(table);
        self.indexes(table);
        self.identity(table);
        self.comment("TABLE", &table.name.clone());
        self.drop_a_column(table);
    }

    /// A column for CREATE TABLE.
    pub(crate) fn column(&mut self, others: &[Column]) -> (Column, String) {
        let taken: Vec<_> = others.iter().map(|column| column.name.clone()).collect();
        let name = self.names.column(&mut self.chance, &taken);
        if self.chance.one_in(10) {
            return self.numbered(name);
        }
        let kind = self.kind(2);
        let mut text = format!("{name} {}", kind.sql);
        if kind.collates && self.chance.one_in(4) {
            text += &format!(" COLLATE {}", self.collation());
        }
        if self.chance.one_in(3) {
            let default = self.default_of(&kind);
            // Without parentheses, the parser may read it as the beginning of something else.
            text += &format!(" DEFAULT ({default})");
        }
        let is_not_null = self.chance.one_in(4);
        if is_not_null {
            text += &self.not_null(kind.sorts);
        }
        if self.chance.one_in(6) {
            let (constraint, test) = (self.names.next(&mut self.chance, "ck"), self.test(&kind, &name));
            text += &format!(" CONSTRAINT {constraint} CHECK ({test})");
        }
        (Column { name, kind, is_given: true, is_not_null }, text)
    }

    fn not_null(&mut self, is_for_keys: bool) -> String {
        if self.version >= 18 && self.chance.one_in(2) {
            // A primary key accepts no column whose NOT NULL is not inherited.
            let inherits = if !is_for_keys && self.chance.one_in(2) { " NO INHERIT" } else { "" };
            return format!(" CONSTRAINT {} NOT NULL{inherits}", self.names.next(&mut self.chance, "nn"));
        }
        " NOT NULL".to_owned()
    }

    /// A numbered column: serial in three sizes, or an identity with options.
    fn numbered(&mut self, name: String) -> (Column, String) {
        let kind = self.own[self.chance.below(3)].clone();
        let always = self.chance.one_in(2);
        let text = match self.chance.below(4) {
            0 => {
                let serial = match kind.sql.as_str() {
                    "integer" => "serial",
                    "smallint" => "smallserial",
                    _ => "bigserial",
                };
                format!("{name} {serial}")
            }
            1 => {
                let sequence = format!("{}.{}", self.home, self.names.next(&mut self.chance, "idseq"));
                format!(
                    "{name} {} GENERATED {} AS IDENTITY (SEQUENCE NAME {sequence} START WITH 100 INCREMENT BY 10 CACHE 3)",
                    kind.sql,
                    if always { "ALWAYS" } else { "BY DEFAULT" }
                )
            }
            _ => format!("{name} {} GENERATED {} AS IDENTITY", kind.sql, if always { "ALWAYS" } else { "BY DEFAULT" }),
        };
        (Column { name, kind, is_given: false, is_not_null: true }, text)
    }

    /// A column for the primary key, at the front.
    fn key_column(&mut self, columns: &mut Vec<Column>, listed: &mut Vec<String>) -> Vec<String> {
        let taken: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
        let name = self.names.column(&mut self.chance, &taken);
        let kind = if self.chance.one_in(2) { self.own[self.chance.below(3)].clone() } else { self.sorting_kind() };
        listed.insert(0, format!("{name} {}", kind.sql));
        columns.insert(0, Column { name: name.clone(), kind, is_given: true, is_not_null: true });
        vec![name]
    }

    fn primary_key(&mut self, table: &mut Table) -> String {
        let others: Vec<_> = table.sorting().iter().map(|column| column.name.clone()).collect();
        if self.chance.one_in(3) {
            let other = self.chance.pick(&others).clone();
            if !table.key.contains(&other) {
                table.key.push(other);
            }
        }
        let key = table.key.join(", ");
        let constraint = self.names.next(&mut self.chance, "pk");
        let deferrable = if self.chance.one_in(12) { " DEFERRABLE INITIALLY DEFERRED" } else { "" };
        if !deferrable.is_empty() {
            table.is_referable = false;
        }
        match self.chance.below(3) {
            0 => format!("PRIMARY KEY ({key})"),
            1 => format!("CONSTRAINT {constraint} PRIMARY KEY ({key}) INCLUDE ({}){deferrable}", others[0]),
            _ => format!("CONSTRAINT {constraint} PRIMARY KEY ({key}){deferrable}"),
        }
    }

    /// A generated column.
    fn generated(&mut self, table: &mut Table, listed: &mut Vec<String>) {
        if !self.chance.one_in(3) {
            return;
        }
        let Some(from) = table.columns.iter().find(|column| column.is_given).cloned() else { return };
        let taken: Vec<_> = table.columns.iter().map(|column| column.name.clone()).collect();
        let name = self.names.column(&mut self.chance, &taken);
        let is_virtual = self.version >= 18 && self.chance.one_in(2) && from.kind.is_own;
        let (sql, expression) = match self.chance.below(3) {
            0 if from.kind.is("integer") => ("bigint", format!("{}::bigint * 2 + 1", from.name)),
            1 if from.kind.is("text") => ("text", format!("lower({} || 'X'::text)", from.name)),
            2 if !is_virtual => ("boolean", self.test(&from.kind, &from.name)),
            _ => ("boolean", format!("{} IS NULL", from.name)),
        };
        let how = if is_virtual { "VIRTUAL" } else { "STORED" };
        listed.push(format!("{name} {sql} GENERATED ALWAYS AS ({expression}) {how}"));
        let kind = self.own.iter().find(|kind| kind.sql == sql).cloned().unwrap_or_else(|| self.own[0].clone());
        table.columns.push(Column { name, kind, is_given: false, is_not_null: false });
    }

    fn table_checks(&mut self, table: &Table, listed: &mut Vec<String>) {
        for _ in 0..self.chance.below(3) {
            let column = self.chance.pick(&table.columns).clone();
            let constraint = self.names.next(&mut self.chance, "tck");
            // No virtual columns as arguments of user-defined functions.
            let test = if column.is_given {
                self.test(&column.kind, &column.name)
            } else {
                format!("{} IS NULL OR true", column.name)
            };
            let inherits = if self.chance.one_in(4) { " NO INHERIT" } else { "" };
            let enforced = if self.version >= 18 && self.chance.one_in(4) { " NOT ENFORCED" } else { "" };
            listed.push(format!("CONSTRAINT {constraint} CHECK ({test}){inherits}{enforced}"));
        }
    }

    pub(crate) fn options(&mut self) -> String {
        match self.chance.below(6) {
            0 => " WITH (fillfactor = 70, autovacuum_enabled = false)".to_owned(),
            1 => " WITH (toast.autovacuum_enabled = false, toast_tuple_target = 256, parallel_workers = 2)".to_owned(),
            _ => String::new(),
        }
    }

    fn alter_columns(&mut self, table: &Table) {
        let name = &table.name;
        for column in table.columns.iter().filter(|column| column.is_given) {
            let column_name = &column.name;
            if column.kind.is_long && self.chance.one_in(6) {
                let storage = *self.chance.pick(&["EXTERNAL", "MAIN", "PLAIN", "EXTENDED"]);
                self.run(format!("ALTER TABLE {name} ALTER COLUMN {column_name} SET STORAGE {storage}"));
            }
            if column.kind.is_long && self.chance.one_in(10) {
                self.run(format!("ALTER TABLE {name} ALTER COLUMN {column_name} SET COMPRESSION pglz"));
            }
            if self.chance.one_in(12) {
                self.run(format!("ALTER TABLE {name} ALTER COLUMN {column_name} SET STATISTICS 77"));
            }
            if self.chance.one_in(12) {
                self.run(format!("ALTER TABLE {name} ALTER COLUMN {column_name} SET (n_distinct = -0.5)"));
            }
            if self.chance.one_in(8) {
                self.run(format!("COMMENT ON COLUMN {name}.{column_name} IS 'it''s a \\ column'"));
            }
        }
        if self.chance.one_in(5) {
            let column = self.chance.pick(&table.columns).clone();
            let constraint = self.names.next(&mut self.chance, "nv");
            let name = name.clone();
            self.run(format!(
                "ALTER TABLE {name} ADD CONSTRAINT {constraint} CHECK ({} IS NULL OR true) NOT VALID",
                column.name
            ));
            self.run(format!("COMMENT ON CONSTRAINT {constraint} ON {name} IS 'not valid'"));
        }
        let nullable: Vec<_> =
            table.columns.iter().filter(|column| column.is_given && !column.is_not_null).cloned().collect();
        if self.version >= 18 && table.is_plain && !nullable.is_empty() && self.chance.one_in(8) {
            let column = self.chance.pick(&nullable).clone();
            if !table.key.contains(&column.name) {
                let constraint = self.names.next(&mut self.chance, "nnv");
                let name = table.name.clone();
                self.run(format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} NOT NULL {} NOT VALID", column.name));
            }
        }
    }

    fn uniques(&mut self, table: &Table) {
        if !table.is_plain {
            return;
        }
        let (name, sorting) = (table.name.clone(), table.sorting().into_iter().cloned().collect::<Vec<_>>());
        if !sorting.is_empty() && self.chance.one_in(3) {
            let column = self.chance.pick(&sorting).name.clone();
            let constraint = self.names.next(&mut self.chance, "uq");
            let nulls = if self.version >= 15 && self.chance.one_in(2) { " NULLS NOT DISTINCT" } else { "" };
            let rest = *self.chance.pick(&["", " DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"]);
            self.run(format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} UNIQUE{nulls} ({column}){rest}"));
        }
        let hashing: Vec<_> =
            sorting.iter().filter(|column| column.kind.hashes && column.kind.is_own).cloned().collect();
        let ranges: Vec<_> = sorting.iter().filter(|column| column.kind.overlaps).cloned().collect();
        let constraint = self.names.next(&mut self.chance, "ex");
        if !ranges.is_empty() && self.chance.one_in(2) {
            let column = self.chance.pick(&ranges).name.clone();
            self.run(format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} EXCLUDE USING gist ({column} WITH &&) WHERE (({column} IS NOT NULL))"));
        } else if !hashing.is_empty() && self.chance.one_in(6) {
            let column = self.chance.pick(&hashing).name.clone();
            let method = *self.chance.pick(&["hash", "btree"]);
            self.run(format!(
                "ALTER TABLE {name} ADD CONSTRAINT {constraint} EXCLUDE USING {method} ({column} WITH =) DEFERRABLE"
            ));
        }
    }

    fn drop_a_column(&mut self, table: &mut Table) {
        if !table.is_plain || !self.chance.one_in(4) {
            return;
        }
        let name = table.name.clone();
        self.run(format!("ALTER TABLE {name} ADD COLUMN gone integer DEFAULT 7 NOT NULL"));
        self.run(format!("ALTER TABLE {name} ADD COLUMN \"after Gone\" text DEFAULT 'x''y'"));
        self.run(format!("ALTER TABLE {name} DROP COLUMN gone"));
        let kind = self.own.iter().find(|kind| kind.is("text")).cloned().unwrap_or_else(|| self.own[0].clone());
        table.columns.push(Column { name: "\"after Gone\"".to_owned(), kind, is_given: true, is_not_null: false });
    }
}
