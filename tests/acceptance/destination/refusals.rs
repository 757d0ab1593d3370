// SPDX-License-Identifier: MPL-2.0

//! Objects that cannot be copied, or only without a part: each is named with the reason and the remedy, before anything
//! is created.

use std::collections::{BTreeMap, BTreeSet};

use neonrepl::postgres::definition::Freshness;
use neonrepl::postgres::{Ident, QualifiedName};
use neonrepl::replication::destination::{self, Published, Wish};

use super::{Sides, everything};
use crate::common::postgres::Major::{self, V14, V16, V17, V18};

/// The result of a case.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comes {
    /// Nothing is created.
    Refused,
    /// The rest is created.
    LeftOut,
}
use Comes::{LeftOut, Refused};

struct Case {
    what: &'static str,
    versions: (Major, Major),
    publisher: &'static str,
    subscriber: &'static str,
    comes: Comes,
    /// Words of the plan: the object, the reason, and the remedy.
    said: &'static [&'static str],
    wish: fn(Wish) -> Wish,
    /// The sent columns of `app.t`, if not all are sent.
    list: &'static [&'static str],
}

const CASE: Case = Case {
    what: "",
    versions: (V16, V16),
    publisher: "",
    subscriber: "",
    comes: Refused,
    said: &[],
    wish: |wish| wish,
    list: &[],
};

const NO_FUNCTIONS: fn(Wish) -> Wish = |wish| Wish { makes_functions: false, ..wish };

const CASES: &[Case] = &[
    Case {
        what: "an extension that the subscriber lacks",
        publisher: "CREATE EXTENSION citext; CREATE TABLE app.t (id int PRIMARY KEY, t citext)",
        said: &[
            "extension citext",
            "the subscriber's database does not have it",
            "On the subscriber: CREATE EXTENSION \"citext\" WITH SCHEMA \"public\";",
        ],
        ..CASE
    },
    Case {
        what: "an extension that is in another schema",
        publisher: "CREATE EXTENSION citext; CREATE TABLE app.t (id int PRIMARY KEY, t citext)",
        subscriber: "CREATE SCHEMA more; CREATE EXTENSION citext SCHEMA more",
        said: &[
            "extension citext",
            "in schema public on the publisher and in more on the subscriber",
            "ALTER EXTENSION \"citext\" SET SCHEMA \"public\";",
        ],
        ..CASE
    },
    Case {
        what: "an operator class of an extension, used by an index alone",
        publisher: "CREATE EXTENSION citext; CREATE TABLE app.t (id int PRIMARY KEY, t text); CREATE INDEX ON app.t ((t::citext))",
        said: &["extension citext", "CREATE EXTENSION \"citext\" WITH SCHEMA \"public\";"],
        ..CASE
    },
    Case {
        what: "a function in C",
        publisher: "CREATE FUNCTION app.in_c(oid) RETURNS boolean LANGUAGE c IMMUTABLE AS '$libdir/plpgsql', 'plpgsql_validator'; \
            CREATE TABLE app.t (id oid PRIMARY KEY CHECK (app.in_c(id)))",
        said: &["function app.in_c(oid)", "cannot be created from the catalogs", "Create it on the subscriber by hand"],
        ..CASE
    },
    Case {
        what: "a table that is on another server, as a partition",
        publisher: "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER away FOREIGN DATA WRAPPER far; \
            CREATE TABLE app.t (id int, k text) PARTITION BY LIST (k); CREATE TABLE app.near PARTITION OF app.t FOR VALUES IN ('n'); \
            CREATE FOREIGN TABLE app.t_away PARTITION OF app.t FOR VALUES IN ('f') SERVER away",
        said: &["foreign table app.t_away", "its rows are on another server", "leave the table out"],
        ..CASE
    },
    Case {
        what: "a range with a canonical function",
        publisher: "CREATE TYPE app.r; CREATE FUNCTION app.canon(app.r) RETURNS app.r LANGUAGE internal IMMUTABLE STRICT AS \
            'int4range_canonical'; CREATE TYPE app.r AS RANGE (subtype = int, canonical = app.canon); CREATE TABLE app.t (r app.r)",
        said: &["type app.r", "its canonical function takes a shell type", "Make the type on the subscriber by hand"],
        ..CASE
    },
    Case {
        what: "constraints that are not enforced",
        versions: (V18, V17),
        publisher: "CREATE TABLE app.p (id int PRIMARY KEY); CREATE TABLE app.t (id int PRIMARY KEY, \
            p int CONSTRAINT to_p REFERENCES app.p NOT ENFORCED, CONSTRAINT ck CHECK (id > 0) NOT ENFORCED)",
        comes: LeftOut,
        said: &[
            "constraint ck of table app.t: a constraint that is not enforced needs Postgres 18, and the subscriber runs 17",
            "constraint to_p of table app.t: a constraint that is not enforced needs Postgres 18",
        ],
        ..CASE
    },
    Case {
        what: "a key of periods",
        versions: (V18, V17),
        publisher: "CREATE TABLE app.t (id int4range, at daterange, CONSTRAINT pk PRIMARY KEY (id, at WITHOUT OVERLAPS))",
        said: &[
            "constraint pk of table app.t",
            "a key of periods needs Postgres 18",
            "Change it on the publisher, or make the table",
        ],
        ..CASE
    },
    Case {
        what: "NOT NULL that is not valid",
        versions: (V18, V17),
        publisher: "CREATE TABLE app.t (id int PRIMARY KEY, n int); ALTER TABLE app.t ADD CONSTRAINT nn NOT NULL n NOT VALID",
        comes: LeftOut,
        said: &[
            "NOT NULL of column n of table app.t",
            "NOT NULL that rows from before need not keep needs Postgres 18",
        ],
        ..CASE
    },
    Case {
        what: "a generated column that is not stored",
        versions: (V18, V17),
        publisher: "CREATE TABLE app.t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)",
        said: &[
            "column twice of table app.t",
            "a generated column that is not stored needs Postgres 18",
            "Make it STORED on the publisher, drop it there, or leave the table out",
        ],
        ..CASE
    },
    Case {
        what: "NULLS NOT DISTINCT",
        versions: (V16, V14),
        publisher: "CREATE TABLE app.t (id int CONSTRAINT uq UNIQUE NULLS NOT DISTINCT, n int); \
            CREATE UNIQUE INDEX i ON app.t (n) NULLS NOT DISTINCT",
        said: &[
            "constraint uq of table app.t: NULLS NOT DISTINCT needs Postgres 15",
            "index app.i: NULLS NOT DISTINCT",
        ],
        ..CASE
    },
    Case {
        what: "a collation with rules",
        versions: (V16, V14),
        publisher: "CREATE COLLATION app.c (provider = icu, locale = 'und', rules = '& a < g'); CREATE TABLE app.t (t text COLLATE app.c)",
        said: &["collation app.c", "a collation with rules needs Postgres 16", "by hand that sorts alike"],
        ..CASE
    },
    Case {
        what: "a collation of the built-in provider",
        versions: (V17, V16),
        publisher: "CREATE COLLATION app.c (provider = builtin, locale = 'C.UTF-8'); CREATE TABLE app.t (t text COLLATE app.c)",
        said: &["collation app.c", "the provider builtin needs Postgres 17"],
        ..CASE
    },
    Case {
        what: "an identity that a partition has for itself",
        versions: (V16, V18),
        publisher: "CREATE TABLE app.t (k text, n int NOT NULL) PARTITION BY LIST (k); \
            CREATE TABLE app.a (k text, n int GENERATED ALWAYS AS IDENTITY); ALTER TABLE app.t ATTACH PARTITION app.a FOR VALUES IN ('a')",
        comes: LeftOut,
        said: &["identity of column n of table app.a", "a partition has no identity of its own since Postgres 17"],
        ..CASE
    },
    Case {
        what: "a function that a default calls, where none are made",
        publisher: "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
            CREATE TABLE app.t (id int PRIMARY KEY, n int DEFAULT app.f(), CONSTRAINT ck CHECK (app.f() > n))",
        comes: LeftOut,
        said: &[
            "default of app.t.n: it calls function app.f(), which the subscriber does not have, and functions = \"never\"",
            "constraint ck of table app.t: it calls function app.f()",
        ],
        wish: NO_FUNCTIONS,
        ..CASE
    },
    Case {
        what: "a function that an index calls, where none are made",
        publisher: "CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; \
            CREATE TABLE app.t (id int PRIMARY KEY); CREATE INDEX by_f ON app.t (app.f(id))",
        comes: LeftOut,
        said: &["index app.by_f: it calls function app.f(integer)"],
        wish: NO_FUNCTIONS,
        ..CASE
    },
    Case {
        what: "a function that a generated column calls, where none are made",
        publisher: "CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; \
            CREATE TABLE app.t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (app.f(id)) STORED)",
        said: &["table app.t: it calls function app.f(integer)", "Set functions to \"needed\""],
        wish: NO_FUNCTIONS,
        ..CASE
    },
    Case {
        what: "a function that a domain calls, where none are made",
        publisher: "CREATE FUNCTION app.f(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'; \
            CREATE DOMAIN app.d AS int CONSTRAINT fine CHECK (app.f(VALUE)); CREATE TABLE app.t (id app.d)",
        said: &["constraint fine of domain app.d: it calls function app.f(integer)", "Set functions to \"needed\""],
        wish: NO_FUNCTIONS,
        ..CASE
    },
    Case {
        what: "a column that no publication sends",
        publisher: "CREATE TABLE app.t (id int PRIMARY KEY, sent int NOT NULL, kept int NOT NULL, filled int NOT NULL DEFAULT 3)",
        comes: LeftOut,
        said: &["NOT NULL of column kept of table app.t: no publication sends the column, so rows would be refused"],
        list: &["id", "sent"],
        ..CASE
    },
    Case {
        what: "a foreign key to a table that is not meant",
        publisher: "CREATE SCHEMA other; CREATE TABLE other.p (id int PRIMARY KEY); \
            CREATE TABLE app.t (id int PRIMARY KEY CONSTRAINT to_p REFERENCES other.p)",
        comes: LeftOut,
        said: &["constraint to_p of table app.t: it refers to other.p, which is not among the tables"],
        ..CASE
    },
    Case {
        what: "triggers, rules, policies and row-level security",
        publisher: "CREATE TABLE app.t (id int PRIMARY KEY); CREATE RULE r AS ON DELETE TO app.t DO INSTEAD NOTHING; \
            CREATE POLICY p ON app.t; ALTER TABLE app.t ENABLE ROW LEVEL SECURITY",
        comes: LeftOut,
        said: &[
            "policy p of table app.t: only sessions that write need it",
            "row-level security of table app.t",
            "rule r of table app.t",
        ],
        ..CASE
    },
];

/// The subscriber's tables in `app`, with their columns.
const THERE: &str = "SELECT c.relname, a.attname, a.attnotnull, format_type(a.atttypid, a.atttypmod) FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 \
    WHERE n.nspname = 'app' ORDER BY 1, 2";

/// Objects that are neither tables nor indexes.
const OTHERWISE: &str = "SELECT count(*) FROM (SELECT typnamespace FROM pg_type WHERE typrelid = 0 AND typcategory <> 'A' UNION ALL \
    SELECT pronamespace FROM pg_proc UNION ALL SELECT collnamespace FROM pg_collation) o (schema) \
    JOIN pg_namespace n ON n.oid = o.schema AND n.nspname = 'app'";

async fn attempt(case: &Case) -> Result<(), String> {
    let sides = Sides::new(case.versions.0, case.versions.1, "CREATE SCHEMA app").await;
    sides.publisher.sql(case.publisher).await;
    sides.subscriber.sql(case.subscriber).await;
    let mut tables = sides.tables().await;
    tables.retain(|table| table.schema.as_str() == "app");
    let wish = (case.wish)(everything(tables));
    let look = look(&sides, &wish, case.list).await?;
    let said =
        ["apply"].map(|doing| [look.plan.refusal(doing), look.plan.objection(doing), look.plan.announcement(doing)]);
    let said: Vec<String> = said.into_iter().flatten().flatten().map(|error| error.to_string()).collect();
    let said = said.join("\n");
    for words in case.said {
        if !said.contains(words) {
            return Err(format!("{words:?} is not said in {said}"));
        }
    }
    let before = sides.subscriber.rows(THERE).await;
    let made = sides.make_of(look, &wish).await;
    let after = sides.subscriber.rows(THERE).await;
    match (case.comes, made) {
        (Refused, Ok(_)) => Err("it was made all the same".to_owned()),
        (Refused, Err(error)) if !error.to_string().contains("Nothing was changed") => {
            Err(format!("the apply: {error}"))
        }
        (Refused, Err(_)) if after != before => Err(format!("something was made: {after:?}")),
        (Refused, Err(_)) if sides.subscriber.value::<i64>(OTHERWISE).await > 0 => {
            Err("something else was made".to_owned())
        }
        (LeftOut, Err(error)) => Err(format!("the rest was not made: {error}")),
        (LeftOut, Ok(outcome)) if after.is_empty() || !outcome.look.plan.is_done() => {
            Err(format!("it is not done: {after:?}"))
        }
        _ => Ok(()),
    }
}

async fn look(sides: &Sides, wish: &Wish, list: &[&str]) -> Result<destination::Look, String> {
    let lists = match list {
        [] => BTreeMap::new(),
        columns => {
            let columns: BTreeSet<Ident> = columns.iter().map(|name| Ident::new(*name).unwrap()).collect();
            BTreeMap::from([(QualifiedName::parse("app.t").unwrap(), columns)])
        }
    };
    let published = Published { tables: wish.tables.clone(), lists, ..Published::default() };
    destination::look(&sides.pair, &published, wish, Freshness::Now).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn each_thing_that_cannot_be_copied_is_named_with_the_reason_and_the_remedy() {
    let mut failures = Vec::new();
    for case in CASES {
        if let Err(said) = attempt(case).await {
            failures.push(format!("{} from {:?} to {:?}: {said}", case.what, case.versions.0, case.versions.1));
        }
    }
    println!("destination: {} things that cannot be copied", CASES.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
