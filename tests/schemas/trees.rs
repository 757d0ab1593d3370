// SPDX-License-Identifier: MPL-2.0

//! Related tables: partitions of partitions, inheritance, typed tables, tables with temporal keys.

use super::indexes::schema_of;
use super::maker::Maker;
use super::tables::{Column, Table};

impl Maker {
    /// A partitioned table with partitions, some of which are partitioned again.
    pub(crate) fn partitioned(&mut self) {
        let name = self.table_name("parted");
        let (number, text) = (self.names.next(&mut self.chance, "pn"), self.names.next(&mut self.chance, "pt"));
        let integer = self.own[0].clone();
        let kind = self.own.iter().find(|kind| kind.is("text")).cloned().unwrap_or_else(|| integer.clone());
        let key = |name: &str, kind| Column { name: name.to_owned(), kind, is_given: true, is_not_null: true };
        let mut columns = vec![key(&number, integer), key(&text, kind)];
        let mut listed = vec![format!("{number} integer NOT NULL"), format!("{text} text NOT NULL")];
        for _ in 0..self.chance.below(4) {
            let (column, text) = self.column(&columns);
            // An identity in a partitioned table came with 17.
            if column.is_given || self.version >= 17 {
                // A partitioned table cannot have NO INHERIT constraints.
                listed.push(text.replace(" NO INHERIT", ""));
                columns.push(column);
            }
        }
        // A key has the collations of its columns, so the columns of the partitions need the same ones.
        let is_keyed = !self.chance.one_in(4);
        let text_by = if is_keyed { text.clone() } else { format!("{text} COLLATE \"C\"") };
        let by = self.how(&number, &text_by);
        self.run(format!("CREATE TABLE {name} ({}) PARTITION BY {by}", listed.join(", ")));
        let table = Table {
            name: name.clone(),
            columns,
            key: Vec::new(),
            is_child: false,
            is_plain: false,
            is_partitioned: true,
            is_full: true,
            is_mute: false,
            is_referable: false,
        };
        // Some parts exist before the partitions and are copied to them; others come later and are added to them.
        let early = self.chance.one_in(2);
        if is_keyed && early {
            self.tree_key(&table, &number, &text);
        }
        self.partitions(&table, &by, &number, &text, 2);
        if is_keyed && !early {
            self.tree_key(&table, &number, &text);
        }
        let mut table = table;
        self.after(&mut table);
        self.tables.push(table);
    }

    fn tree_key(&mut self, table: &Table, number: &str, text: &str) {
        let constraint = self.names.next(&mut self.chance, "tpk");
        let name = &table.name;
        self.run(format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} PRIMARY KEY ({text}, {number})"));
    }

    fn how(&mut self, number: &str, text: &str) -> String {
        match self.chance.below(5) {
            0 => format!("LIST ({text})"),
            1 => format!("RANGE ({number})"),
            2 => format!("RANGE ({text}, {number})"),
            3 => format!("HASH ({number}, {text})"),
            _ => format!("LIST ({number})"),
        }
    }

    fn partitions(&mut self, table: &Table, by: &str, number: &str, text: &str, depth: usize) {
        let bounds: Vec<String> = match by {
            _ if by.starts_with("HASH") => {
                (0..3).map(|remainder| format!("FOR VALUES WITH (MODULUS 3, REMAINDER {remainder})")).collect()
            }
            _ if by.starts_with("LIST") && by.contains(number) => {
                vec!["FOR VALUES IN (1, 2, -7)".into(), "FOR VALUES IN (3)".into(), "DEFAULT".into()]
            }
            _ if by.starts_with("LIST") => {
                vec!["FOR VALUES IN ('a', 'it''s')".into(), "FOR VALUES IN ('Ü')".into(), "DEFAULT".into()]
            }
            _ if by.contains(text) => vec![
                "FOR VALUES FROM (MINVALUE, MINVALUE) TO ('k', 5)".into(),
                "FOR VALUES FROM ('k', 5) TO (MAXVALUE, MAXVALUE)".into(),
            ],
            _ => {
                vec!["FOR VALUES FROM (MINVALUE) TO (0)".into(), "FOR VALUES FROM (0) TO (10)".into(), "DEFAULT".into()]
            }
        };
        for bound in bounds {
            self.partition(table, &bound, number, text, depth);
        }
    }

    fn partition(&mut self, table: &Table, bound: &str, number: &str, text: &str, depth: usize) {
        let name = self.qualified("part");
        let below = if depth > 0 && self.chance.one_in(3) { Some(self.how(number, text)) } else { None };
        let by = below.as_ref().map(|by| format!(" PARTITION BY {by}")).unwrap_or_default();
        let is_attachable = table.columns.iter().all(|column| column.is_given);
        if is_attachable && self.chance.one_in(3) {
            self.attached(table, &name, bound, &by);
        } else {
            let options = if by.is_empty() { self.options() } else { String::new() };
            self.run(format!("CREATE TABLE {name} PARTITION OF {} {bound}{by}{options}", table.name));
        }
        if by.is_empty() && self.chance.one_in(4) {
            let index = self.names.next(&mut self.chance, "leaf_i");
            self.run(format!("CREATE INDEX {index} ON {name} ({number})"));
            let constraint = self.names.next(&mut self.chance, "leaf_ck");
            self.run(format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} CHECK ({text} IS NOT NULL)"));
            self.run(format!("ALTER TABLE {name} ALTER COLUMN {number} SET DEFAULT 4"));
        }
        if by.is_empty() && self.chance.one_in(5) {
            let identity = *self.chance.pick(&["FULL", "NOTHING", "DEFAULT"]);
            self.run(format!("ALTER TABLE {name} REPLICA IDENTITY {identity}"));
        }
        self.comment("TABLE", &name);
        if let Some(by) = below {
            let inner = Table { name, ..table.clone() };
            self.partitions(&inner, &by, number, text, depth - 1);
        }
    }

    /// A partition whose columns have another order than its table's.
    fn attached(&mut self, table: &Table, name: &str, bound: &str, by: &str) {
        let like = self.names.next(&mut self.chance, "like");
        let schema = schema_of(name).to_owned();
        // Its columns come from its table, in another order: by a temporary copy of the table.
        self.run(format!("CREATE TABLE {schema}.{like} (LIKE {})", table.name));
        let mut columns: Vec<_> = table.columns.iter().map(|column| column.name.clone()).collect();
        self.chance.shuffle(&mut columns);
        self.run(format!(
            "DO $do$ DECLARE listed text; BEGIN SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) || \
             CASE WHEN l.oid IS NULL THEN '' ELSE ' COLLATE ' || quote_ident(ln.nspname) || '.' || quote_ident(l.collname) END || \
             CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY w.place) INTO listed FROM pg_attribute a \
             JOIN pg_type y ON y.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation AND a.attcollation <> y.typcollation \
             LEFT JOIN pg_namespace ln ON ln.oid = l.collnamespace \
             JOIN unnest(ARRAY[{names}]) WITH ORDINALITY AS w (name, place) ON w.name = quote_ident(a.attname) OR w.name = '\"' || replace(a.attname, '\"', '\"\"') || '\"' \
             WHERE a.attrelid = {like_text}::regclass AND a.attnum > 0; EXECUTE 'CREATE TABLE ' || {name_text} || ' (' || listed || '){by_text}'; END $do$",
            names = columns.iter().map(|column| literal(column)).collect::<Vec<_>>().join(", "),
            like_text = literal(&format!("{schema}.{like}")),
            name_text = literal(name),
            by_text = by.replace('\'', "''"),
        ));
        self.run(format!("DROP TABLE {schema}.{like}"));
        // A partition must have the table's checks before it can be attached.
        self.run(format!(
            "DO $do$ DECLARE one record; BEGIN FOR one IN SELECT conname, pg_get_constraintdef(oid) AS def FROM pg_constraint \
             WHERE conrelid = {}::regclass AND contype = 'c' LOOP EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', {}, one.conname, one.def); \
             END LOOP; END $do$",
            literal(&table.name),
            literal(name),
        ));
        self.run(format!("ALTER TABLE {} ATTACH PARTITION {name} {bound}", table.name));
    }

    /// A parent with children, of which one has two parents.
    pub(crate) fn family(&mut self) {
        let parent = self.table_name("parent");
        let (column, text) = self.column(&[]);
        let id = self.names.next(&mut self.chance, "fid");
        let check = self.names.next(&mut self.chance, "fck");
        let inherits = if self.chance.one_in(2) { " NO INHERIT" } else { "" };
        self.run(format!("CREATE TABLE {parent} ({id} integer NOT NULL DEFAULT 3, {text}, CONSTRAINT {check} CHECK ({id} > '-9999'::integer){inherits})"));
        let integer = self.own[0].clone();
        let own = Column { name: id.clone(), kind: integer.clone(), is_given: true, is_not_null: true };
        let columns = vec![own, column];
        let mut table = Table {
            name: parent.clone(),
            columns,
            key: Vec::new(),
            is_child: false,
            is_plain: false,
            is_partitioned: false,
            is_full: false,
            is_mute: false,
            is_referable: false,
        };
        let child = self.qualified("child");
        let extra = self.names.next(&mut self.chance, "extra");
        // The first column is merged with the parent's, and has a default of its own.
        self.run(format!(
            "CREATE TABLE {child} ({extra} text DEFAULT 'x', {id} integer DEFAULT 9) INHERITS ({parent})"
        ));
        let other = self.qualified("mixin");
        self.run(format!("CREATE TABLE {other} (mixed text, {id} integer)"));
        let grandchild = self.qualified("grandchild");
        self.run(format!("CREATE TABLE {grandchild} (PRIMARY KEY ({id})) INHERITS ({child}, {other})"));
        if self.chance.one_in(2) {
            self.run(format!("ALTER TABLE {grandchild} ALTER COLUMN {extra} SET DEFAULT 'grand'"));
        }
        let is_dropped = self.chance.one_in(3);
        if is_dropped {
            self.run(format!("ALTER TABLE {child} NO INHERIT {parent}"));
        }
        self.identity(&mut table);
        let with = |name: &str, more: &[&str], is_child: bool| {
            let kind = self.own.iter().find(|kind| kind.is("text")).cloned().unwrap_or_else(|| integer.clone());
            let more = more.iter().map(|name| Column {
                name: (*name).to_owned(),
                kind: kind.clone(),
                is_given: true,
                is_not_null: false,
            });
            let columns = table.columns.iter().cloned().chain(more).collect();
            Table { name: name.to_owned(), columns, is_child, ..table.clone() }
        };
        let children = [with(&child, &[&extra], !is_dropped), with(&grandchild, &[&extra, "mixed"], true)];
        let mut mixin = with(&other, &["mixed"], false);
        mixin.columns.retain(|column| column.name == id || column.name == "mixed");
        self.tables.push(table);
        self.tables.push(mixin);
        self.tables.extend(children);
    }

    /// A table of a composite type.
    pub(crate) fn typed(&mut self) {
        let (of, name) = (self.qualified("of_type"), self.qualified("typed"));
        let (first, second) = (self.kind(1), self.names.next(&mut self.chance, "of"));
        self.run(format!("CREATE TYPE {of} AS (id integer, {second} {})", first.sql));
        self.run(format!("CREATE TABLE {name} OF {of} (id WITH OPTIONS PRIMARY KEY DEFAULT 5)"));
        let integer = self.own[0].clone();
        let columns = vec![
            Column { name: "id".to_owned(), kind: integer, is_given: true, is_not_null: true },
            Column { name: second, kind: first, is_given: true, is_not_null: false },
        ];
        self.comment("TABLE", &name);
        let key = vec!["id".to_owned()];
        self.tables.push(Table {
            name,
            columns,
            key,
            is_child: false,
            is_plain: false,
            is_partitioned: false,
            is_full: false,
            is_mute: false,
            is_referable: true,
        });
    }

    /// Tables with temporal keys (Postgres 18).
    pub(crate) fn temporal(&mut self) {
        let (parent, child) = (self.qualified("held"), self.qualified("holding"));
        let kind =
            |sql: &str| self.own.iter().find(|kind| kind.is(sql)).cloned().unwrap_or_else(|| self.own[0].clone());
        let (range, dates) = (kind("int4range"), kind("daterange"));
        let (key, foreign) = (self.names.next(&mut self.chance, "tpk"), self.names.next(&mut self.chance, "tfk"));
        self.run(format!("CREATE TABLE {parent} (id int4range, valid daterange, CONSTRAINT {key} PRIMARY KEY (id, valid WITHOUT OVERLAPS))"));
        self.run(format!(
            "CREATE TABLE {child} (id int4range, valid daterange, UNIQUE (id, valid WITHOUT OVERLAPS), \
             CONSTRAINT {foreign} FOREIGN KEY (id, PERIOD valid) REFERENCES {parent} (id, PERIOD valid))"
        ));
        let column =
            |name: &str, kind, is_not_null| Column { name: name.to_owned(), kind, is_given: true, is_not_null };
        let table = |name: String, is_not_null| Table {
            name,
            columns: vec![column("id", range.clone(), is_not_null), column("valid", dates.clone(), is_not_null)],
            key: Vec::new(),
            is_child: false,
            is_plain: false,
            is_partitioned: false,
            is_full: false,
            is_mute: false,
            is_referable: false,
        };
        let tables = [table(parent, true), table(child, false)];
        self.tables.extend(tables);
    }
}

/// A text as an SQL literal, within a dollar-quoted block.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
