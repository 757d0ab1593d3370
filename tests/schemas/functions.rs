// SPDX-License-Identifier: MPL-2.0

//! Functions and tests that checks, defaults, generated columns and indexes call.

use super::kinds::Kind;
use super::maker::Maker;

impl Maker {
    /// A condition on a value that is true of all values.
    pub(crate) fn test(&mut self, kind: &Kind, value: &str) -> String {
        match self.chance.below(5) {
            0 => {
                let function = self.testing(kind);
                format!("{function}({value})")
            }
            1 if kind.is("text") => format!("char_length({value}) < 1000 AND {value} <> 'it''s \\ never'"),
            2 if kind.is("integer") || kind.is("bigint") => {
                format!("{value} > '-999999'::integer OR {value} IN (1, 2)")
            }
            3 => format!("{value} IS NOT NULL OR true"),
            _ => format!("num_nulls({value}) IN (0, 1)"),
        }
    }

    /// A function that returns true for every value of a type.
    fn testing(&mut self, kind: &Kind) -> String {
        let name = self.qualified("test");
        let marks = match self.chance.below(4) {
            0 => "PARALLEL SAFE COST 7",
            1 => "SET search_path = pg_catalog, pg_temp",
            2 => "LEAKPROOF SET work_mem = '5MB'",
            _ => "",
        };
        let head = format!("CREATE FUNCTION {name}(one {}) RETURNS boolean", kind.sql);
        let body = match self.chance.below(4) {
            0 => format!(
                "{head} LANGUAGE plpgsql IMMUTABLE {marks} AS $body$ BEGIN\n  -- it's \\ \"fine\"\n  RETURN true;\nEND $body$"
            ),
            1 => format!("{head} LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 IS NOT NULL OR true'"),
            2 if !marks.starts_with("SET") => {
                // A parsed body, so that the server knows its dependencies.
                let called = self.qualified("called");
                self.run(format!(
                    "CREATE FUNCTION {called}(boolean) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN $1 OR true"
                ));
                format!("{head} LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT {called}(one IS NULL); END")
            }
            _ => format!("{head} LANGUAGE sql IMMUTABLE {marks} AS $$SELECT true$$"),
        };
        self.run(body);
        if self.chance.one_in(4) {
            self.run(format!("COMMENT ON FUNCTION {name}({}) IS 'says yes'", kind.sql));
        }
        name
    }

    /// A column's default: a value, a function's result, or a sequence's number.
    pub(crate) fn default_of(&mut self, kind: &Kind) -> String {
        match self.chance.below(5) {
            0 => {
                let name = self.qualified("made");
                let value = self.chance.pick(&kind.values).clone();
                self.run(format!(
                    "CREATE FUNCTION {name}(again integer DEFAULT 1) RETURNS {} LANGUAGE sql STABLE AS $f$SELECT {value}$f$",
                    kind.sql
                ));
                format!("{name}()")
            }
            1 | 2 if kind.is("integer") || kind.is("bigint") || kind.is("smallint") => {
                let sequence = self.sequence("bigint");
                format!("nextval('{}'::regclass)", sequence.replace('\'', "''"))
            }
            3 if kind.is("timestamp(2) with time zone") => "now()".to_owned(),
            3 if kind.is("uuid") => if self.version >= 18 { "uuidv7()" } else { "gen_random_uuid()" }.to_owned(),
            3 if kind.is("name") => "CURRENT_USER".to_owned(),
            _ => self.chance.pick(&kind.values).clone(),
        }
    }

    /// A sequence, new or shared with other columns.
    pub(crate) fn sequence(&mut self, kind: &str) -> String {
        if !self.sequences.is_empty() && self.chance.one_in(4) {
            return self.chance.pick(&self.sequences).clone();
        }
        let name = self.qualified("seq");
        let options = match self.chance.below(4) {
            0 => "INCREMENT BY 7 START WITH 100 MINVALUE 10 MAXVALUE 30000 CACHE 5 CYCLE",
            1 => "INCREMENT BY -2 MAXVALUE -1 MINVALUE -30000 START WITH -3",
            2 => "START WITH 17",
            _ => "",
        };
        self.run(format!("CREATE SEQUENCE {name} AS {kind} {options}"));
        self.comment("SEQUENCE", &name);
        self.sequences.push(name.clone());
        name
    }
}
