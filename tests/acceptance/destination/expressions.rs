// SPDX-License-Identifier: MPL-2.0

//! Expressions between versions: equal ones are copied as they are, and different ones are found.

use super::{Sides, everything};
use crate::common::postgres::Database;
use crate::common::postgres::Major::{self, V14, V15, V16, V17, V18};

const ROUTES: [(Major, Major); 5] = [(V14, V18), (V18, V14), (V18, V18), (V15, V17), (V16, V15)];

const COLUMNS: &str = "s varchar(20), t text, i int, b bigint, n numeric(10,2), d date, ts timestamp, tz timestamptz, a int[], ta text[], \
    j jsonb, f bool, e char(5), va varchar[], r int4range";

/// Conditions as people write them.
const CONDITIONS: &[&str] = &[
    "s IN ('a', 'b')",
    "s NOT IN ('a', 'b')",
    "s IS NULL OR s IN ('x', 'y', 'z') AND t IN ('a', 'b')",
    "s = ANY (ARRAY['a', 'b'])",
    "va @> ARRAY['a', 'b']::varchar[]",
    "t IN ('a', 'b')",
    "e IN ('a', 'b')",
    "i IN (1, 2)",
    "(i + 1) * 2 > 3",
    "i + 1 * 2 > 3",
    "i - (b - 1) > 0",
    "i - b - 1 > 0",
    "- (i + 1) > 3",
    "i BETWEEN 1 AND 5",
    "i NOT BETWEEN 1 AND 5",
    "f AND (i > 0 OR s = 'a')",
    "f AND i > 0 OR s = 'a'",
    "NOT (f AND i > 0)",
    "NOT f AND i > 0",
    "i IS DISTINCT FROM 3",
    "(i > 0) IS NOT TRUE",
    "CASE WHEN i > 0 THEN f ELSE s = 'x' END",
    "CASE i WHEN 1 THEN true WHEN 2 THEN false END",
    "coalesce(s, 'x') = 'y'",
    "s LIKE 'a%' AND t !~* '^b'",
    "extract(year FROM d) > 2000",
    "substring(t FROM 1 FOR 2) = 'ab'",
    "tz AT TIME ZONE 'UTC' > ts",
    "s || t || i = 'x'",
    "t COLLATE \"C\" < 'a'",
    "(t COLLATE \"C\") || 'x' < 'a'",
    "a[1] > 0 AND a[1:2] = '{1,2}'",
    "(j -> 'a' ->> 'b')::int > 0",
    "(i, b) < (1, 2)",
    "t = 'it''s (a)'",
    "n > -0.5",
    "r @> 5",
    "(i | 1) = (i << 2)",
];

/// Other objects with expressions.
const MORE: &str = "CREATE INDEX by_all ON app.t ((i + b), ((i + b) * 2) DESC, lower(s), (s || t)) INCLUDE (d) WHERE i > 0 AND (f OR s IN ('a', 'b')); \
    CREATE INDEX by_case ON app.t ((CASE WHEN i > 0 THEN 1 END), (t COLLATE \"C\") text_pattern_ops); \
    CREATE STATISTICS app.of_all ON (i + b), (lower(t)), d FROM app.t; CREATE DOMAIN app.kind AS varchar CHECK (VALUE IN ('a', 'b')); \
    CREATE TABLE app.more (kind app.kind, g int GENERATED ALWAYS AS ((i + 1) * 2 - (i - (i - 1))) STORED, i int DEFAULT (1 + 2) * 3, \
      m timestamptz DEFAULT (now() AT TIME ZONE 'utc'), s varchar DEFAULT 'x', v varchar(5)[] DEFAULT ARRAY['a', 'b'], \
      EXCLUDE USING btree (i WITH =) WHERE (i > 0 AND (s IN ('a', 'b') OR i < 5))); \
    CREATE TABLE app.parts (i int, t text) PARTITION BY RANGE ((i + 1), lower(t), ((i - 1) * 2)); \
    CREATE TABLE app.part PARTITION OF app.parts FOR VALUES FROM (1, 'a', MINVALUE) TO (2, 'b', MAXVALUE)";

/// Pairs of conditions with different meanings.
const OTHER: &[(&str, &str)] = &[
    ("(i + 1) * 2 > 3", "i + 1 * 2 > 3"),
    ("i - (b - 1) > 0", "i - b - 1 > 0"),
    ("f AND (i > 0 OR s = 'a')", "f AND i > 0 OR s = 'a'"),
    ("NOT (f AND i > 0)", "NOT f AND i > 0"),
    ("- (i + 1) > 3", "- i + 1 > 3"),
    ("s IN ('a', 'b')", "s IN ('a', 'c')"),
    ("s IN ('a', 'b')", "s NOT IN ('a', 'b')"),
    ("s = ' (a) '", "s = '(a)'"),
    ("CASE WHEN i > 0 THEN 1 ELSE 2 END > 1", "CASE WHEN i > 0 THEN 2 ELSE 1 END > 1"),
    ("(i | 1) << 2 > 0", "(i | (1 << 2)) > 0"),
    ("(t COLLATE \"C\") < 'a'", "t < 'a'"),
    ("(i > 0) IS TRUE", "(i > 0) IS NOT FALSE"),
];

/// Pairs of conditions with the same meaning.
const SAME: &[(&str, &str)] = &[
    ("s IN ('a', 'b')", "s::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])"),
    ("i + b * 2 > 3 OR f AND NOT f", "(((i + (b * 2)) > 3) OR (f AND (NOT f)))"),
];

/// A table with these conditions, in order.
fn table<'a>(conditions: impl Iterator<Item = &'a str>) -> String {
    let checks = conditions.enumerate().map(|(at, condition)| format!(", CONSTRAINT c{at} CHECK ({condition})"));
    format!("CREATE SCHEMA app; CREATE TABLE app.t ({COLUMNS}{})", checks.collect::<String>())
}

#[tokio::test]
async fn conditions_are_copied_whatever_the_server_makes_of_their_text() {
    for (from, to) in ROUTES {
        let what = format!("{from:?} to {to:?}");
        let schema = format!("{}; {MORE}", table(CONDITIONS.iter().copied()));
        let sides = Sides::new(from, to, &schema).await;
        let wish = everything(sides.tables().await);
        let outcome = sides.make(&wish).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(outcome.look.plan.unlike(), [], "{what}");
        let again = sides.again().look(&wish).await.unwrap();
        assert!(again.plan.is_done() && again.plan.later.is_empty(), "{what}: {:#?}", again.plan);
        // A copy of the copy is the same too.
        let third = Database::at(sides.subscriber.port, &sides.subscriber.name);
        let onward = Sides::of(third, crate::replication::subscribers(from).database("destination_third").await);
        let outcome = onward.make(&wish).await.unwrap_or_else(|error| panic!("{what}, and on: {error}"));
        assert_eq!(outcome.look.plan.unlike(), [], "{what}, and on");
    }
    println!("{} conditions on {} routes", CONDITIONS.len(), ROUTES.len());
}

#[tokio::test]
async fn conditions_that_are_others_are_found() {
    for (from, to) in ROUTES {
        for (pairs, are_found) in [(OTHER, true), (SAME, false)] {
            let sides = Sides::new(from, to, &table(pairs.iter().map(|pair| pair.0))).await;
            sides.subscriber.sql(&table(pairs.iter().map(|pair| pair.1))).await;
            let plan = sides.look(&everything(sides.tables().await)).await.unwrap().plan;
            for (at, pair) in pairs.iter().enumerate() {
                let is_found = plan.differences.iter().any(|one| one.attribute == format!("constraint c{at}"));
                assert_eq!(is_found, are_found, "{pair:?} from {from:?} to {to:?}: {:#?}", plan.differences);
            }
        }
    }
    println!("{} pairs on {} routes", OTHER.len() + SAME.len(), ROUTES.len());
}
