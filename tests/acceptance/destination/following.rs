// SPDX-License-Identifier: MPL-2.0

//! The effect of the publisher's migrations on the subscriber: what one apply changes there, and what a person must do.

use std::collections::BTreeSet;

use neonrepl::postgres::QualifiedName;
use neonrepl::postgres::definition::Difference;
use neonrepl::replication::destination::Wish;

use super::{Sides, everything, expect_same, said};
use crate::common::postgres::Major::{self, V14, V18};

const PAIRS: [(Major, Major); 3] = [(V14, V18), (V18, V14), (V18, V18)];

/// The objects of both sides before.
const BEFORE: &str = "CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'glad'); CREATE DOMAIN app.short AS varchar(10) NOT NULL; \
    CREATE SEQUENCE app.numbers; CREATE FUNCTION app.twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'; ";

/// A migration, and changes by hand on the subscriber.
struct Case {
    name: &'static str,
    before: &'static str,
    /// On the publisher.
    migration: &'static str,
    /// On the subscriber.
    there: &'static str,
    /// The texts for a person; empty if an apply does everything.
    told: &'static [&'static str],
}

const fn followed(name: &'static str, before: &'static str, migration: &'static str) -> Case {
    Case { name, before, migration, there: "", told: &[] }
}

const fn told(
    name: &'static str,
    before: &'static str,
    migration: &'static str,
    told: &'static [&'static str],
) -> Case {
    Case { name, before, migration, there: "", told }
}

const ONE: &str = "CREATE TABLE app.t (id int PRIMARY KEY, a int, b text, c varchar(10), d numeric(8,2), e smallint NOT NULL DEFAULT 1)";
const TREE: &str = "CREATE TABLE app.t (id int, a int) PARTITION BY LIST (a); CREATE TABLE app.t1 PARTITION OF app.t FOR VALUES IN (1); \
    CREATE TABLE app.t2 (a int, id int); ALTER TABLE app.t ATTACH PARTITION app.t2 FOR VALUES IN (2)";
const HEIRS: &str = "CREATE TABLE app.t (id int PRIMARY KEY, a int); CREATE TABLE app.u (x int) INHERITS (app.t)";

const CASES: &[Case] = &[
    followed(
        "a column with all that is set of it",
        ONE,
        "ALTER TABLE app.t ADD note text COLLATE \"C\" NOT NULL DEFAULT 'x'; ALTER TABLE app.t ALTER note SET STORAGE EXTERNAL; \
         ALTER TABLE app.t ALTER note SET STATISTICS 77; ALTER TABLE app.t ALTER note SET (n_distinct = 5); \
         ALTER TABLE app.t ALTER note SET COMPRESSION pglz; COMMENT ON COLUMN app.t.note IS 'it''s new'",
    ),
    followed(
        "a column that counts",
        ONE,
        "ALTER TABLE app.t ADD n serial, ADD m bigint GENERATED ALWAYS AS IDENTITY (START 5)",
    ),
    followed("a generated column", ONE, "ALTER TABLE app.t ADD f int GENERATED ALWAYS AS (app.twice(a)) STORED"),
    followed(
        "a column of a new type with a new function",
        ONE,
        "CREATE TYPE app.tone AS ENUM ('low'); CREATE FUNCTION app.new() RETURNS app.tone LANGUAGE sql AS $$SELECT 'low'::app.tone$$; \
         ALTER TABLE app.t ADD tone app.tone DEFAULT app.new()",
    ),
    followed(
        "a column of partitions, with what each has of its own",
        TREE,
        "ALTER TABLE app.t ADD note text DEFAULT 'x'; ALTER TABLE app.t1 ALTER note SET STATISTICS 7; \
         ALTER TABLE app.t2 ALTER note SET STORAGE PLAIN; ALTER TABLE app.t2 ALTER note SET DEFAULT 'y'",
    ),
    followed("a column of an heir's parent", HEIRS, "ALTER TABLE app.t ADD note text; ALTER TABLE app.u ADD own int"),
    followed("a partition", TREE, "CREATE TABLE app.t3 PARTITION OF app.t DEFAULT; COMMENT ON TABLE app.t3 IS 'rest'"),
    followed(
        "partitions of a table that has keys, checks and indexes",
        "CREATE TABLE app.u (id int PRIMARY KEY); CREATE TABLE app.t (id int, a int NOT NULL CONSTRAINT t_a CHECK (a > 0), b int REFERENCES app.u, \
         PRIMARY KEY (id, a), UNIQUE (a, id)) PARTITION BY LIST (a); CREATE INDEX ON app.t (id); \
         CREATE TABLE app.t1 PARTITION OF app.t FOR VALUES IN (1)",
        "CREATE TABLE app.t3 PARTITION OF app.t DEFAULT PARTITION BY RANGE (id); \
         CREATE TABLE app.t3a PARTITION OF app.t3 FOR VALUES FROM (1) TO (9); \
         CREATE TABLE app.t2 (a int NOT NULL CONSTRAINT t_a CHECK (a > 0) CONSTRAINT own CHECK (a < 9), b int, id int NOT NULL, \
         CONSTRAINT t2_key PRIMARY KEY (id, a)); ALTER TABLE app.t ATTACH PARTITION app.t2 FOR VALUES IN (2)",
    ),
    followed(
        "wider types, and what lets more in",
        ONE,
        "ALTER TABLE app.t ALTER a TYPE bigint, ALTER c TYPE text, ALTER d TYPE numeric(12,2), ALTER e TYPE int, ALTER e DROP NOT NULL, \
         ALTER e SET DEFAULT 9, ALTER b SET DEFAULT now()::text; ALTER DOMAIN app.short DROP NOT NULL; \
         ALTER DOMAIN app.short SET DEFAULT 'x'; ALTER SEQUENCE app.numbers INCREMENT 5 CYCLE",
    ),
    followed(
        "labels in between, used at once",
        "CREATE TABLE app.t (id int PRIMARY KEY, a app.mood DEFAULT 'sad')",
        "ALTER TYPE app.mood ADD VALUE 'dull' BEFORE 'glad'; ALTER TYPE app.mood ADD VALUE 'best'; \
         ALTER TYPE app.mood ADD VALUE 'worst' BEFORE 'sad'; ALTER TABLE app.t ALTER a SET DEFAULT 'dull', ADD z app.mood DEFAULT 'best'",
    ),
    followed(
        "names that columns give each other, in a row",
        ONE,
        "ALTER TABLE app.t RENAME b TO \"B old\"; ALTER TABLE app.t RENAME a TO b; ALTER TABLE app.t RENAME id TO a",
    ),
    followed("a column of partitions with another name", TREE, "ALTER TABLE app.t RENAME id TO number"),
    followed(
        "a column of heirs with another name",
        HEIRS,
        "ALTER TABLE app.t RENAME a TO number; ALTER TABLE app.u RENAME x TO own",
    ),
    followed(
        "comments and storage parameters",
        ONE,
        "COMMENT ON TABLE app.t IS 'c'; COMMENT ON TYPE app.mood IS NULL; \
         ALTER TABLE app.t SET (fillfactor = 70); ALTER TABLE app.t REPLICA IDENTITY FULL",
    ),
    followed(
        "comments of what is within a type, a domain, an identity and a NOT NULL",
        "CREATE TYPE app.address AS (street text, town text); CREATE TABLE app.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         home app.address); ALTER DOMAIN app.short ADD CONSTRAINT long CHECK (length(VALUE) > 1)",
        "COMMENT ON COLUMN app.address.town IS 'it''s a town'; COMMENT ON CONSTRAINT long ON DOMAIN app.short IS 'c'; \
         COMMENT ON SEQUENCE app.t_id_seq IS 's'",
    ),
    followed(
        "comments that are gone",
        "CREATE TYPE app.address AS (street text, town text); COMMENT ON COLUMN app.address.town IS 'x'; \
         CREATE TABLE app.t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, home app.address); COMMENT ON SEQUENCE app.t_id_seq IS 's'; \
         ALTER DOMAIN app.short ADD CONSTRAINT long CHECK (length(VALUE) > 1); COMMENT ON CONSTRAINT long ON DOMAIN app.short IS 'c'",
        "COMMENT ON COLUMN app.address.town IS NULL; COMMENT ON CONSTRAINT long ON DOMAIN app.short IS NULL; \
         COMMENT ON SEQUENCE app.t_id_seq IS NULL",
    ),
    followed(
        "what is set of indexes and statistics",
        "CREATE TABLE app.t (id int PRIMARY KEY, a int, b int, CONSTRAINT t_a UNIQUE (a) WITH (fillfactor = 90)); \
         CREATE INDEX t_b ON app.t ((a + b)); CREATE STATISTICS app.t_s ON a, b FROM app.t",
        "COMMENT ON STATISTICS app.t_s IS 's'; ALTER STATISTICS app.t_s SET STATISTICS 50; \
         ALTER INDEX app.t_b ALTER COLUMN 1 SET STATISTICS 70; ALTER TABLE app.t CLUSTER ON t_b; ALTER INDEX app.t_a RESET (fillfactor); \
         ALTER INDEX app.t_pkey SET (fillfactor = 80); COMMENT ON INDEX app.t_b IS 'i'",
    ),
    followed(
        "what was set and is no more",
        "CREATE TABLE app.t (id int PRIMARY KEY, a int, b int) WITH (fillfactor = 70, autovacuum_enabled = false); \
         ALTER TABLE app.t ALTER a SET (n_distinct = 5, n_distinct_inherited = 6); CREATE INDEX t_b ON app.t ((a + b)); \
         ALTER INDEX app.t_b ALTER COLUMN 1 SET STATISTICS 70; ALTER TABLE app.t CLUSTER ON t_b",
        "ALTER TABLE app.t RESET (fillfactor); ALTER TABLE app.t ALTER a RESET (n_distinct); \
         ALTER INDEX app.t_b ALTER COLUMN 1 SET STATISTICS -1; ALTER TABLE app.t SET WITHOUT CLUSTER",
    ),
    followed(
        "a foreign key's comment",
        "CREATE TABLE app.u (id int PRIMARY KEY); CREATE TABLE app.t (id int PRIMARY KEY, a int CONSTRAINT t_u REFERENCES app.u)",
        "COMMENT ON CONSTRAINT t_u ON app.t IS 'k'",
    ),
    told(
        "another foreign key of the name",
        "CREATE TABLE app.u (id int PRIMARY KEY); CREATE TABLE app.t (id int PRIMARY KEY, a int CONSTRAINT t_u REFERENCES app.u)",
        "ALTER TABLE app.t DROP CONSTRAINT t_u; ALTER TABLE app.t ADD CONSTRAINT t_u FOREIGN KEY (a) REFERENCES app.u ON DELETE CASCADE",
        &[
            "DROP CONSTRAINT \"t_u\"; ALTER TABLE \"app\".\"t\" ADD CONSTRAINT \"t_u\" FOREIGN KEY (a) REFERENCES app.u(id) ON DELETE CASCADE;",
        ],
    ),
    Case {
        name: "a constraint whose index is there",
        before: "CREATE TABLE app.t (id int CONSTRAINT t_id PRIMARY KEY, a int, CONSTRAINT t_a UNIQUE (a) INCLUDE (id))",
        migration: "",
        there: "ALTER TABLE app.t DROP CONSTRAINT t_id, DROP CONSTRAINT t_a; CREATE UNIQUE INDEX t_id ON app.t (id); \
            ALTER TABLE app.t ALTER id SET NOT NULL; CREATE UNIQUE INDEX other ON app.t (a) INCLUDE (id)",
        told: &[],
    },
    Case {
        name: "a constraint whose name an index has that does less",
        before: "CREATE TABLE app.t (id int PRIMARY KEY, a int CONSTRAINT t_a UNIQUE)",
        migration: "",
        there: "ALTER TABLE app.t DROP CONSTRAINT t_a; CREATE INDEX t_a ON app.t (a)",
        told: &["DROP INDEX \"app\".\"t_a\"; ALTER TABLE \"app\".\"t\" ADD CONSTRAINT \"t_a\" UNIQUE (a);"],
    },
    told(
        "what takes away, or lets less in",
        ONE,
        "ALTER TABLE app.t DROP b, ALTER c TYPE varchar(5), ALTER a SET NOT NULL, ADD CONSTRAINT t_d CHECK (d > 0), \
         ADD CONSTRAINT t_a UNIQUE (a); ALTER DOMAIN app.short ADD CONSTRAINT long CHECK (length(VALUE) > 1)",
        &[
            "DROP COLUMN \"b\"; (once the publisher has dropped it and all rows from before have arrived)",
            "ALTER COLUMN \"c\" TYPE character varying(5); (values that do not fit stop it, or the rows that bring them)",
            "ALTER COLUMN \"a\" SET NOT NULL; (once no row there has a null)",
            "ADD CONSTRAINT \"t_d\" CHECK ((d > (0)::numeric)); (once the rows there keep it, and rows from before have arrived)",
            "ADD CONSTRAINT \"t_a\" UNIQUE (a); (once the rows there keep it; the table is locked while its index is built)",
            "ALTER DOMAIN \"app\".\"short\" ADD CONSTRAINT \"long\"",
        ],
    ),
    told(
        "what the publisher has no more",
        "CREATE TABLE app.t (id int PRIMARY KEY, a int CONSTRAINT t_a CHECK (a > 0) CONSTRAINT t_u UNIQUE)",
        "ALTER TABLE app.t DROP CONSTRAINT t_a, DROP CONSTRAINT t_u",
        &[
            "DROP CONSTRAINT \"t_a\"; (rows that the publisher takes may stop at it)",
            "DROP CONSTRAINT \"t_u\"; (rows that the publisher takes may stop at it)",
        ],
    ),
    told(
        "labels with other names",
        "CREATE TABLE app.t (id int PRIMARY KEY, a app.mood)",
        "ALTER TYPE app.mood RENAME VALUE 'sad' TO 'blue'",
        &["ALTER TYPE … RENAME VALUE on the subscriber"],
    ),
    told(
        "names that two columns have exchanged",
        "CREATE TABLE app.t (id int PRIMARY KEY, a int, b int)",
        "ALTER TABLE app.t RENAME a TO c; ALTER TABLE app.t RENAME b TO a; ALTER TABLE app.t RENAME c TO b",
        &[
            "name of column a: b on the publisher, a on the subscriber",
            "name of column b: a on the publisher, b on the subscriber",
        ],
    ),
    told(
        "a name that a dropped column had",
        "CREATE TABLE app.t (id int PRIMARY KEY, a int, b int)",
        "ALTER TABLE app.t DROP a; ALTER TABLE app.t RENAME b TO a",
        &[
            "name of column b: a on the publisher, b on the subscriber; the publisher has given this name to another column",
        ],
    ),
    told(
        "a column that was dropped and made again under its name",
        ONE,
        "ALTER TABLE app.t DROP b; ALTER TABLE app.t ADD b text; ALTER TABLE app.t DROP a; ALTER TABLE app.t ADD a bigint",
        &[
            "values of column a: another column of this name on the publisher, values of the one that was dropped on the subscriber; \
             the publisher has dropped this column and made another one of its name",
            "values of column b: another column",
            "apply with -replace of this resource, which leaves the tables as they are",
        ],
    ),
    told(
        "a column of partitions that was made again",
        TREE,
        "ALTER TABLE app.t DROP id; ALTER TABLE app.t ADD id int",
        &["table app.t: values of column id: another column of this name"],
    ),
];

/// The tables, with the type and the sequence of the cases.
async fn wish(sides: &Sides) -> Wish {
    let mut tables = sides.tables().await;
    tables.insert(QualifiedName::parse("app.keeper").unwrap());
    everything(tables)
}

const KEEPER: &str = "; CREATE TABLE app.users (id serial PRIMARY KEY); CREATE TABLE app.keeper (id int DEFAULT nextval('app.numbers'), mood app.mood, short app.short, twice int \
    DEFAULT app.twice(1))";

async fn attempt(case: &Case, from: Major, to: Major) -> Result<(), String> {
    let sides = Sides::new(from, to, &[BEFORE, case.before, KEEPER].concat()).await;
    let mut wish = wish(&sides).await;
    let made = sides.make(&wish).await.map_err(|error| format!("before: {error}"))?;
    wish.known = made.look.known(&wish.known);
    // Each in its own transaction: a new label may not be used in the transaction that adds it.
    for statement in case.migration.split("; ") {
        sides.publisher.sql(statement).await;
    }
    sides.subscriber.sql(case.there).await;
    let sides = sides.again();
    let look = sides.look(&wish).await.map_err(|error| error.to_string())?;
    let objection = look.plan.objection("planning").map(|error| error.to_string()).unwrap_or_default();
    for said in case.told {
        if !objection.contains(said) {
            return Err(format!("{said} is not in {objection}"));
        }
    }
    if case.told.is_empty() && !objection.is_empty() {
        return Err(objection);
    }
    if !case.told.is_empty()
        && !look.plan.is_done()
        && look.plan.changed.iter().any(|one| objection.contains(&one.remedy()))
    {
        return Err(format!("something is done and told: {objection}"));
    }
    let outcome = sides.make_of(look, &wish).await.map_err(|error| format!("after: {error}"))?;
    let after = sides.again().look(&wish).await.map_err(|error| error.to_string())?;
    if !after.plan.is_done() {
        return Err(format!("a second apply has something to do: {:#?} {:#?}", after.plan.changed, after.plan.made));
    }
    let left: BTreeSet<_> = after.plan.differences.iter().map(Difference::remedy).collect();
    if case.told.is_empty() != left.is_empty() || outcome.look.plan.differences != after.plan.differences {
        return Err(format!("left: {left:?}"));
    }
    if case.told.is_empty() && from == to {
        expect_same(case.name, &said(&sides.publisher).await, &said(&sides.subscriber).await);
    }
    Ok(())
}

#[tokio::test]
async fn each_change_is_followed_or_told() {
    let (mut failed, mut tried) = (Vec::new(), 0);
    for (from, to) in PAIRS {
        for case in CASES {
            tried += 1;
            if let Err(said) = Box::pin(attempt(case, from, to)).await {
                failed.push(format!("{} from {from:?} to {to:?}: {said}", case.name));
            }
        }
    }
    println!("{tried} cases");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
