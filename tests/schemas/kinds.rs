// SPDX-License-Identifier: MPL-2.0

//! The types of columns: the server's own, and those that are based on them.

use super::maker::Maker;

/// A type, and its possible uses.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// Its text in SQL.
    pub(crate) sql: String,
    /// Some of its values, as expressions of this type.
    pub(crate) values: Vec<String>,
    /// Whether a B-tree sorts it, so that it can be in a key.
    pub(crate) sorts: bool,
    /// Whether it can be hashed.
    pub(crate) hashes: bool,
    /// Whether two values may overlap: a range.
    pub(crate) overlaps: bool,
    /// Whether a column of it can have a collation.
    pub(crate) collates: bool,
    /// Whether its values may be long, so that a column's storage can be set.
    pub(crate) is_long: bool,
    /// Whether it is the server's own.
    pub(crate) is_own: bool,
    /// Whether it is an enum, or a domain over one.
    pub(crate) is_enum: bool,
    /// Whether a foreign key can use it. No version accepts one on a domain over an enum.
    pub(crate) refers: bool,
}

impl Kind {
    /// One of the server's own types.
    fn of(sql: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| format!("'{}'::{sql}", value.replace('\'', "''"))).collect();
        Self { is_own: true, ..Self::made(sql.to_owned(), values) }
    }

    /// A user-defined type.
    pub(crate) fn made(sql: String, values: Vec<String>) -> Self {
        Self {
            sql,
            values,
            sorts: true,
            hashes: true,
            overlaps: false,
            collates: false,
            is_long: false,
            is_own: false,
            is_enum: false,
            refers: true,
        }
    }

    fn long(self) -> Self {
        Self { is_long: true, ..self }
    }

    fn text(self) -> Self {
        Self { collates: true, is_long: true, ..self }
    }

    fn plain(self) -> Self {
        Self { sorts: false, hashes: false, ..self }
    }

    fn range(self) -> Self {
        Self { overlaps: true, is_long: true, ..self }
    }

    /// Whether it is the server's type of that name.
    pub(crate) fn is(&self, sql: &str) -> bool {
        self.is_own && self.sql == sql
    }
}

/// The server's own types.
pub(crate) fn own() -> Vec<Kind> {
    vec![
        Kind::of("integer", &["1", "-5", "2147483647"]),
        Kind::of("smallint", &["0", "32767"]),
        Kind::of("bigint", &["9007199254740993", "-1"]),
        Kind::of("numeric", &["1.50", "NaN", "-0.0001"]).long(),
        Kind::of("numeric(12,3)", &["1.5", "-99.125"]).long(),
        Kind::of("real", &["1.5", "-0.1"]),
        Kind::of("double precision", &["0.1", "Infinity"]),
        Kind::of("money", &["12.34"]).plain(),
        Kind::of("boolean", &["t", "f"]),
        Kind::of("text", &["", "a b", "O'Neil \\ \"x\"", "ünï 日本"]).text(),
        Kind::of("character varying(30)", &["short", ""]).text(),
        Kind::of("character varying", &["any"]).text(),
        Kind::of("character(5)", &["ab", "abcde"]).text(),
        Kind { collates: true, ..Kind::of("name", &["a_name"]) },
        Kind::of("\"char\"", &["x"]),
        Kind::of("bytea", &["\\x00ff"]).long(),
        Kind::of("date", &["2024-02-29", "infinity"]),
        Kind::of("time without time zone", &["12:34:56.789"]),
        Kind::of("time(3) with time zone", &["12:34:56.789+02"]),
        Kind::of("timestamp without time zone", &["2024-01-01 00:00:00"]),
        Kind::of("timestamp(2) with time zone", &["2024-01-01 00:00:00.12+00"]),
        Kind::of("interval", &["1 day 02:03"]),
        Kind::of("interval day to second(3)", &["1 day 02:03:04.5"]),
        Kind::of("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        Kind::of("inet", &["10.0.0.1/8", "::1"]).long(),
        Kind::of("cidr", &["10.0.0.0/8"]).long(),
        Kind::of("macaddr", &["08:00:2b:01:02:03"]),
        Kind::of("macaddr8", &["08:00:2b:01:02:03:04:05"]),
        Kind::of("json", &["{\"a\": [1, null]}"]).long().plain(),
        Kind::of("jsonb", &["{\"a\": [1, null]}", "7"]).long(),
        Kind::of("xml", &["<a b=\"c\"/>"]).long().plain(),
        Kind::of("bit(4)", &["1010"]).long().hashless(),
        Kind::of("bit varying(9)", &["10101"]).long().hashless(),
        Kind::of("tsvector", &["fat cat"]).long().hashless(),
        Kind::of("tsquery", &["fat & cat"]).hashless(),
        Kind::of("point", &["(1,2)"]).plain(),
        Kind::of("line", &["{1,2,3}"]).plain(),
        Kind::of("lseg", &["[(0,0),(1,1)]"]).plain(),
        Kind::of("box", &["(1,1),(0,0)"]).plain(),
        Kind::of("path", &["[(0,0),(1,1)]"]).long().plain(),
        Kind::of("polygon", &["((0,0),(1,1),(1,0))"]).long().plain(),
        Kind::of("circle", &["<(1,2),3>"]).plain(),
        Kind::of("int4range", &["[1,5)", "empty", "[10,20)"]).range(),
        Kind::of("numrange", &["[1.5,2.5]"]).range(),
        Kind::of("tstzrange", &["[2024-01-01 00:00+00,2024-02-01 00:00+00)"]).range(),
        Kind::of("daterange", &["[2024-01-01,2024-02-01)"]).range(),
        Kind::of("int8multirange", &["{[1,3),[5,7)}"]).long(),
        Kind::of("pg_lsn", &["0/16B3748"]),
        Kind::of("oid", &["4711"]),
        Kind::of("pg_snapshot", &["10:20:10,14,15"]).long().plain(),
        Kind::of("jsonpath", &["$.a[*]"]).long().plain(),
        Kind::of("xid8", &["42"]),
    ]
}

impl Kind {
    fn hashless(self) -> Self {
        Self { hashes: false, ..self }
    }

    /// An array of it.
    pub(crate) fn array(&self) -> Self {
        let sql = format!("{}[]", self.sql);
        let all = self.values.join(", ");
        let values = vec![
            format!("ARRAY[{all}]::{sql}"),
            format!("ARRAY[NULL, {}]::{sql}", self.values[0]),
            format!("'{{}}'::{sql}"),
        ];
        Self { sql, values, overlaps: false, is_long: true, is_enum: false, refers: true, ..self.clone() }
    }
}

impl Maker {
    /// A type: the server's own, an existing one, or a new one, which may be based on others.
    pub(crate) fn kind(&mut self, depth: usize) -> Kind {
        let kind = match self.chance.below(10) {
            0..=4 => self.chance.pick(&self.own).clone(),
            5 | 6 if !self.made.is_empty() => self.chance.pick(&self.made).clone(),
            _ if depth == 0 => self.chance.pick(&self.own).clone(),
            _ => self.new_kind(depth - 1),
        };
        // No array of a domain prints differently, so all of them can be used.
        if self.chance.one_in(6) && !kind.sql.ends_with("[]") { kind.array() } else { kind }
    }

    /// A type for a key. It is never a new one, because nothing would need a new type that is not used.
    pub(crate) fn sorting_kind(&mut self) -> Kind {
        let is_good = |kind: &&Kind| kind.sorts && kind.hashes;
        let good: Vec<_> = self.own.iter().chain(&self.made).filter(is_good).cloned().collect();
        self.chance.pick(&good).clone()
    }

    fn new_kind(&mut self, depth: usize) -> Kind {
        let kind = match self.chance.below(5) {
            0 => self.enumeration(),
            1 | 2 => self.domain(depth),
            3 => self.composite(depth),
            _ => self.range(),
        };
        self.made.push(kind.clone());
        kind
    }

    fn enumeration(&mut self) -> Kind {
        let name = self.qualified("enum");
        let labels = ["sad", "it's", "Über glücklich", "with \"quotes\"", " a b ", "{}"];
        let count = self.chance.between(1, labels.len());
        let listed: Vec<_> = labels[..count].iter().map(|label| format!("'{}'", label.replace('\'', "''"))).collect();
        self.run(format!("CREATE TYPE {name} AS ENUM ({})", listed.join(", ")));
        if self.chance.one_in(2) {
            // Then the order of the labels is not the order of their creation.
            self.run(format!("ALTER TYPE {name} ADD VALUE 'before' BEFORE {}", listed[0]));
            self.run(format!("ALTER TYPE {name} ADD VALUE 'between' AFTER 'before'"));
        }
        self.comment("TYPE", &name);
        let values = listed.iter().map(|label| format!("{label}::{name}")).collect();
        Kind { is_enum: true, ..Kind::made(name, values) }
    }

    fn domain(&mut self, depth: usize) -> Kind {
        let base = self.kind(depth);
        let name = self.qualified("domain");
        let mut parts = vec![format!("CREATE DOMAIN {name} AS {}", base.sql)];
        if base.collates && self.chance.one_in(3) {
            let collation = self.collation();
            parts.push(format!("COLLATE {collation}"));
        }
        if self.chance.one_in(3) {
            let value = self.chance.pick(&base.values).clone();
            parts.push(format!("DEFAULT {value}"));
        }
        if self.chance.one_in(4) {
            let constraint = self.names.next(&mut self.chance, "dnn");
            parts.push(if self.version >= 18 && self.chance.one_in(2) {
                format!("CONSTRAINT {constraint} NOT NULL")
            } else {
                "NOT NULL".to_owned()
            });
        }
        if self.chance.one_in(2) {
            let constraint = self.names.next(&mut self.chance, "dck");
            let test = self.test(&base, "VALUE");
            parts.push(format!("CONSTRAINT {constraint} CHECK ({test})"));
        }
        self.run(parts.join(" "));
        if self.chance.one_in(4) {
            let constraint = self.names.next(&mut self.chance, "dck");
            let test = self.test(&base, "VALUE");
            self.run(format!("ALTER DOMAIN {name} ADD CONSTRAINT {constraint} CHECK ({test}) NOT VALID"));
            self.run(format!("COMMENT ON CONSTRAINT {constraint} ON DOMAIN {name} IS 'of a domain''s \\ check'"));
        }
        self.comment("DOMAIN", &name);
        let values = base.values.iter().map(|value| format!("({value})::{name}")).collect();
        // The base type decides about generated columns and collations.
        Kind { sql: name, values, is_own: false, overlaps: false, refers: !base.is_enum, ..base }
    }

    fn composite(&mut self, depth: usize) -> Kind {
        let name = self.qualified("composite");
        let fields: Vec<_> = (0..self.chance.between(1, 4)).map(|_| self.kind(depth)).collect();
        let mut taken = Vec::new();
        let mut listed = Vec::new();
        for field in &fields {
            let column = self.names.column(&mut self.chance, &taken);
            let collation = if field.collates && self.chance.one_in(3) {
                format!(" COLLATE {}", self.collation())
            } else {
                String::new()
            };
            listed.push(format!("{column} {}{collation}", field.sql));
            taken.push(column);
        }
        self.run(format!("CREATE TYPE {name} AS ({})", listed.join(", ")));
        if self.chance.one_in(3) {
            self.run(format!("COMMENT ON COLUMN {name}.{} IS 'a field'", taken[0]));
        }
        self.comment("TYPE", &name);
        let row = |at: usize| {
            let parts: Vec<_> = fields.iter().map(|field| field.values[at % field.values.len()].clone()).collect();
            format!("ROW({})::{name}", parts.join(", "))
        };
        let values = vec![row(0), row(1)];
        let all = |test: fn(&Kind) -> bool| fields.iter().all(test);
        Kind {
            sorts: all(|field| field.sorts),
            hashes: all(|field| field.hashes) && all(|field| field.sorts),
            is_long: true,
            ..Kind::made(name, values)
        }
    }

    fn range(&mut self) -> Kind {
        let name = self.qualified("range");
        let (subtype, options) = match self.chance.below(4) {
            0 => ("text", format!(", collation = {}", self.deterministic_collation())),
            1 => ("text", ", subtype_opclass = text_pattern_ops".to_owned()),
            2 => ("double precision", ", subtype_diff = float8mi".to_owned()),
            _ => ("timestamp without time zone", String::new()),
        };
        let multirange = match self.chance.one_in(2) {
            true => format!(", multirange_type_name = {}", self.qualified("multi")),
            false => String::new(),
        };
        self.run(format!("CREATE TYPE {name} AS RANGE (subtype = {subtype}{options}{multirange})"));
        self.comment("TYPE", &name);
        let values = match subtype {
            "text" => vec![format!("'[a,b)'::{name}"), format!("'empty'::{name}")],
            "double precision" => vec![format!("'[1,2.5)'::{name}"), format!("'(,)'::{name}")],
            _ => vec![format!("'[2024-01-01,2024-01-02)'::{name}"), format!("'[2025-01-01,)'::{name}")],
        };
        Kind { overlaps: true, is_long: true, ..Kind::made(name, values) }
    }
}
