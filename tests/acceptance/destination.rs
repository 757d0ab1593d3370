// SPDX-License-Identifier: MPL-2.0

//! The tables of the subscriber, created like the publisher's: every kind of object between versions, refusals, and
//! `neonrepl_destination_schema` through real cores.

mod distance;
mod expressions;
mod following;
mod joining;
mod refusals;
mod replaced;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neonrepl::postgres::definition::Freshness;
use neonrepl::postgres::{Limits, QualifiedName};
use neonrepl::replication::destination::{self, Outcome, Published, When, Wish};
use neonrepl::replication::{self, Operation};

use serde_json::json;

use crate::catalog::connect;
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major::{V14, V15, V16, V17, V18};
use crate::common::postgres::{self as servers, Database, Major, Role, SUPERUSER_PASSWORD};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, subscribers};
use crate::status::Quiet;

/// Every kind of object that a table can need, on each version.
const RICH: &str = include_str!("destination/rich.sql");

/// Two databases, through the test's connections and through the provider's.
struct Sides {
    publisher: Database,
    subscriber: Database,
    pair: replication::Pair,
}

impl Sides {
    async fn new(from: Major, to: Major, schema: &str) -> Self {
        let publisher = servers::shared(from).database("destination_from").await;
        let subscriber = subscribers(to).database("destination_to").await;
        publisher.sql(schema).await;
        Self::of(publisher, subscriber)
    }

    fn of(publisher: Database, subscriber: Database) -> Self {
        let me = Role::superuser();
        let pair = replication::Pair { publisher: connect(&publisher, &me), subscriber: connect(&subscriber, &me) };
        Self { publisher, subscriber, pair }
    }

    /// The same for another process of the provider.
    fn again(&self) -> Self {
        let same = |side: &Database| Database::at(side.port, &side.name);
        Self::of(same(&self.publisher), same(&self.subscriber))
    }

    /// Every table of the publisher.
    async fn tables(&self) -> BTreeSet<QualifiedName> {
        let names = self.publisher.rows(TABLES).await;
        names.iter().map(|name| QualifiedName::parse(name).unwrap()).collect()
    }

    async fn look(&self, wish: &Wish) -> replication::Result<destination::Look> {
        let published = Published { tables: wish.tables.clone(), ..Published::default() };
        destination::look(&self.pair, &published, wish, Freshness::Now).await
    }

    async fn make(&self, wish: &Wish) -> replication::Result<Outcome> {
        let look = self.look(wish).await?;
        self.make_of(look, wish).await
    }

    async fn make_of(&self, look: destination::Look, wish: &Wish) -> replication::Result<Outcome> {
        let operation = Operation::new("making tables", Limits::within(Duration::from_secs(60)), &Quiet);
        destination::make(&operation, &self.pair, look, wish).await
    }
}

/// Tables that are not partitions, in the spelling of configurations.
const TABLES: &str = "SELECT concat('\"', replace(n.nspname, '\"', '\"\"'), '\".\"', replace(c.relname, '\"', '\"\"'), '\"') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

fn everything(tables: BTreeSet<QualifiedName>) -> Wish {
    Wish {
        publications: BTreeSet::new(),
        tables,
        indexes: When::WithTables,
        foreign_keys: When::WithTables,
        makes_functions: true,
        follows: true,
        known: BTreeMap::new(),
    }
}

/// Queries that describe a database, independent of the provider's.
const SAID: [&str; 9] = [
    "SELECT table_schema, table_name, column_name, ordinal_position, data_type, udt_schema, udt_name, \
     character_maximum_length, numeric_precision, is_nullable, column_default, is_identity, identity_start, \
     identity_increment, is_generated, generation_expression, collation_name, domain_name FROM information_schema.columns \
     WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, 3",
    "SELECT conrelid::regclass, contypid::regtype, conname, contype, pg_get_constraintdef(oid), convalidated, conislocal, coninhcount, \
     obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE connamespace <> 'pg_catalog'::regnamespace \
     AND connamespace <> 'information_schema'::regnamespace AND contype <> 'n' ORDER BY 1, 2, 3",
    "SELECT indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid, indisreplident, indisclustered FROM pg_index \
     WHERE indrelid >= 16384 AND indrelid::regclass::text !~ '^pg_toast' ORDER BY 1",
    "SELECT c.oid::regclass, c.relkind, c.relpersistence, c.relreplident, c.reloptions, t.reloptions, pg_get_expr(c.relpartbound, c.oid), \
     CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END, obj_description(c.oid, 'pg_class') FROM pg_class c \
     LEFT JOIN pg_class t ON t.oid = c.reltoastrelid WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'S', 'c') ORDER BY 1",
    "SELECT attrelid::regclass, attname, attstorage, attcompression, nullif(attstattarget, -1), attoptions, \
     attislocal, attinhcount, col_description(attrelid, attnum) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid \
     WHERE attrelid >= 16384 AND attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'c') ORDER BY 1, 2",
    "SELECT t.oid::regtype, typtype, typnotnull, typdefault, typbasetype::regtype, typtypmod, ARRAY(SELECT enumlabel FROM pg_enum \
     WHERE enumtypid = t.oid ORDER BY enumsortorder), rngsubtype::regtype, rngsubdiff, rngmultitypid::regtype, obj_description(t.oid, 'pg_type') \
     FROM pg_type t LEFT JOIN pg_range ON rngtypid = t.oid WHERE t.oid >= 16384 ORDER BY t.oid::regtype::text COLLATE \"C\"",
    "SELECT schemaname, sequencename, data_type, start_value, min_value, max_value, increment_by, cycle, cache_size, \
     pg_get_serial_sequence('app.users', 'id') FROM pg_sequences ORDER BY 1, 2",
    "SELECT nspname, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
    "SELECT stxnamespace::regnamespace, stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1, 2",
];

async fn said(database: &Database) -> Vec<String> {
    let mut said = Vec::new();
    for query in SAID {
        said.extend(database.rows(query).await);
    }
    said
}

/// Fails with the lines that only one of them has.
fn expect_same(what: &str, one: &[String], other: &[String]) {
    let only = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (left, right) = (only(one, other), only(other, one));
    assert!(left.is_empty() && right.is_empty(), "{what}: only there {left:#?}, only here {right:#?}");
}

#[tokio::test]
async fn a_rich_schema_is_the_same_on_both_sides() {
    let pairs = [(V14, V14), (V14, V16), (V16, V18), (V18, V18), (V15, V17), (V18, V14)];
    for (from, to) in pairs {
        let what = format!("{from:?} to {to:?}");
        let sides = Sides::new(from, to, RICH).await;
        // Versions print differently: each side is compared with its own printed form.
        let wish = everything(sides.tables().await);
        let outcome = sides.make(&wish).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(outcome.made.len() > 40, "{what}: {:?}", outcome.made);
        assert_eq!(outcome.look.plan.unlike(), [], "{what}");
        let again = sides.look(&wish).await.unwrap();
        assert!(again.plan.is_done() && again.plan.later.is_empty(), "{what}: {:#?}", again.plan);
        if from == to {
            let without_attached = "DROP TRIGGER tr ON app.users; DROP FUNCTION app.tr()";
            sides.publisher.sql(without_attached).await;
            expect_same(&what, &said(&sides.publisher).await, &said(&sides.subscriber).await);
        }
        let plain = servers::shared(to).database("destination_plain").await;
        plain.sql(RICH).await;
        expect_same(&what, &said(&plain).await, &said(&sides.subscriber).await);
    }
    println!("{} pairs", pairs.len());
}

const ADDRESS: &str = "neonrepl_destination_schema.shop";

/// A publication of `app`'s tables, the tables on the subscriber (with more attributes), and a subscription.
fn config(name: &str, publication: &str, schema: &str) -> String {
    format!(
        "resource \"neonrepl_publication\" \"shop\" {{\n  name = \"{name}\"\n{publication}\n}}\n\
         resource \"neonrepl_destination_schema\" \"shop\" {{\n  publications = [neonrepl_publication.shop.name]\n{schema}\n}}\n\
         resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n  \
         wait_for_initial_sync = true\n  refresh_triggers = {{ shop = neonrepl_publication.shop.fingerprint }}\n  \
         depends_on = [neonrepl_destination_schema.shop]\n}}\n"
    )
}

/// An application's tables on the publisher, with rows.
const SHOP: &str = "CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad', 'glad'); \
    CREATE TABLE app.users (id serial PRIMARY KEY, name text NOT NULL, mood app.mood); CREATE INDEX ON app.users (name); \
    CREATE TABLE app.orders (id int PRIMARY KEY, user_id int REFERENCES app.users, total numeric(8,2)); \
    INSERT INTO app.users (name, mood) SELECT n::text, 'glad' FROM generate_series(1, 100) n; INSERT INTO app.orders VALUES (1, 1, 2);";

async fn shop(core: Core, from: Major, to: Major) -> (Sides, Workspace) {
    shop_of(core, (from, to), SHOP).await
}

/// Two servers, the first with these statements, and a workspace for both.
async fn shop_of(core: Core, (from, to): (Major, Major), statements: &str) -> (Sides, Workspace) {
    let sides = Sides::new(from, to, statements).await;
    let mut workspace = Workspace::new(core);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.env("NEONREPL_PUBLISHER_URL", &sides.publisher.url());
    workspace.env("NEONREPL_SUBSCRIBER_URL", &sides.subscriber.url());
    workspace.init().await;
    (sides, workspace)
}

async fn wait_for_count(sides: &Sides, table: &str) {
    let query = format!("SELECT count(*) FROM {table}");
    let count: i64 = sides.publisher.value(&query).await;
    wait_until(&format!("{count} rows of {table}"), DEADLINE, async || {
        sides.subscriber.value::<i64>(&query).await == count
    })
    .await;
}

async fn life(core: Core, from: Major, to: Major) {
    let (sides, workspace) = shop(core, from, to).await;
    let name = sides.publisher.name.clone();
    let tables = "  tables = [\"app.users\", \"app.orders\"]";

    // Everything in one apply: the publication does not exist when the tables are planned.
    workspace.write("main.tf", &config(&name, tables, ""));
    let plan = workspace.plan().await.flat();
    for said in [
        "apply makes 2 tables on the subscriber",
        "- table app.users",
        "- type app.mood",
        "CREATE INDEX users_name_idx",
    ] {
        assert!(plan.contains(said), "{said} is not in {plan}");
    }
    workspace.apply().await;
    wait_for_count(&sides, "app.users").await;
    wait_for_count(&sides, "app.orders").await;
    let state = workspace.attributes(ADDRESS).await;
    assert_eq!((&state["differences"], &state["not_copied"]), (&json!([]), &json!([])));
    assert_eq!(state["id"], format!("{}/{name}", sides.subscriber.name));
    assert_eq!(state["later"].as_array().unwrap().len(), 2, "{state}");
    workspace.expect_empty_plan().await;

    import(&workspace, &sides, &name).await;
    follow(&workspace, &sides).await;

    // Tables with rows stay.
    workspace.write("main.tf", &config(&name, tables, "  drop_on_destroy = true"));
    workspace.apply().await;
    workspace.destroy().await;
    assert_eq!(sides.subscriber.value::<i64>("SELECT count(*) FROM app.orders").await, 32);
}

async fn import(workspace: &Workspace, sides: &Sides, name: &str) {
    workspace.expect(&["state", "rm", ADDRESS], 0).await;
    workspace.import(ADDRESS, &format!("{}/{name}", sides.subscriber.name)).await;
    workspace.expect_empty_plan().await;
}

/// A migration that ran on the publisher first has stopped the replication: one apply repairs it, and nothing is lost.
async fn follow(workspace: &Workspace, sides: &Sides) {
    sides.publisher.sql("ALTER TYPE app.mood ADD VALUE 'odd' BEFORE 'glad'").await;
    sides
        .publisher
        .sql(
            "ALTER TABLE app.users ADD COLUMN age int NOT NULL DEFAULT 7, ADD COLUMN note text; ALTER TABLE app.users ALTER name DROP NOT NULL; \
             ALTER TABLE app.orders ALTER total TYPE numeric(12,2); INSERT INTO app.users (name, mood, age) VALUES (NULL, 'odd', 8); \
             INSERT INTO app.orders VALUES (2, 2, 123456789.25)",
        )
        .await;
    let plan = workspace.plan().await.flat();
    for said in ["column age", "column note", "labels", "not null of column name", "column total"] {
        assert!(plan.contains(said), "{said} is not in {plan}");
    }
    // The application keeps writing during the repair.
    let writing = async {
        for round in 1..31 {
            let write = format!(
                "INSERT INTO app.users (name, mood, age) VALUES ('w{round}', 'odd', {round}); UPDATE app.users SET note = 'n' WHERE id = {round}; \
                 INSERT INTO app.orders VALUES ({}, {round}, 123456789.5)",
                1000 + round
            );
            sides.publisher.sql(&write).await;
        }
    };
    tokio::join!(workspace.apply(), writing);
    wait_for_count(sides, "app.users").await;
    wait_for_count(sides, "app.orders").await;
    let rows = "SELECT name, mood, age FROM app.users WHERE id < 102 ORDER BY id DESC LIMIT 2";
    assert_eq!(sides.subscriber.rows(rows).await, ["|odd|8", "100|glad|7"]);
    for all in ["SELECT * FROM app.users ORDER BY id", "SELECT * FROM app.orders ORDER BY id"] {
        assert_eq!(sides.subscriber.rows(all).await, sides.publisher.rows(all).await, "nothing is lost");
    }
    workspace.expect_empty_plan().await;

    // A renamed column is renamed, not replaced by an empty one: existing rows keep their values.
    sides
        .publisher
        .sql("ALTER TABLE app.users RENAME age TO \"Years\"; INSERT INTO app.users (name, \"Years\") VALUES ('r', 9)")
        .await;
    let plan = workspace.plan().await.flat();
    assert!(plan.contains("table app.users: column age becomes Years"), "{plan}");
    workspace.apply().await;
    wait_for_count(sides, "app.users").await;
    assert_eq!(
        sides
            .subscriber
            .rows("SELECT name, \"Years\" FROM app.users WHERE id < 102 OR name = 'r' ORDER BY id DESC LIMIT 3")
            .await,
        ["r|9", "|8", "100|7"]
    );
    workspace.expect_empty_plan().await;
}

#[tokio::test]
async fn terraform_from_14_to_18() {
    life(Core::Terraform, V14, V18).await;
}

#[tokio::test]
async fn opentofu_from_18_to_14() {
    life(Core::OpenTofu, V18, V14).await;
}

/// Created objects are dropped again if they are empty, and nothing else is.
#[tokio::test]
async fn what_was_made_and_is_empty_is_dropped_on_request() {
    let (sides, workspace) = shop(Core::OpenTofu, V16, V17).await;
    sides.publisher.sql(RICH_WITHOUT_SCHEMA).await;
    sides.subscriber.sql("CREATE SCHEMA app; CREATE TABLE app.mine (id int)").await;
    let schema = "resource \"neonrepl_destination_schema\" \"shop\" {\n  tables = [\"app.users\", \"app.orders\", \"app.calls\"]\n  \
        indexes = \"with_tables\"\n  drop_on_destroy = true\n}\n";
    workspace.write("main.tf", schema);
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    let left = "SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'S', 'i')";
    assert!(sides.subscriber.rows(left).await.len() > 8);
    // A later foreign key, to a table that is dropped first.
    sides
        .subscriber
        .sql("ALTER TABLE app.orders ADD CONSTRAINT later FOREIGN KEY (user_id) REFERENCES app.users")
        .await;
    workspace.destroy().await;
    assert_eq!(sides.subscriber.rows(left).await, ["mine"]);
    let functions = "SELECT count(*) FROM pg_proc WHERE pronamespace = 'app'::regnamespace";
    assert_eq!(sides.subscriber.value::<i64>(functions).await, 0);

    // Somebody writes a row meanwhile: the tables stay, and the row with them.
    workspace.apply().await;
    let writer = sides.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
    writer.batch_execute("BEGIN; INSERT INTO app.users (name) VALUES ('late')").await.expect("a row");
    let destroy = workspace.spawn(&["destroy", "-auto-approve", "-no-color"]);
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'app.users'::regclass";
    wait_until("a destroy that waits", DEADLINE, async || sides.subscriber.value::<i64>(waiting).await > 0).await;
    writer.batch_execute("COMMIT").await.expect("a commit");
    let kept = destroy.wait().await;
    assert!(kept.code == Some(0) && kept.flat().contains("These tables hold rows: app.users"), "{}", kept.text());
    assert_eq!(sides.subscriber.rows("SELECT name FROM app.users").await, ["late"]);
}

/// A function and a table that need each other.
const RICH_WITHOUT_SCHEMA: &str = "CREATE TABLE app.calls (id int PRIMARY KEY, n int); \
    CREATE FUNCTION app.of_call(app.calls) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.n'; \
    ALTER TABLE app.calls ADD CHECK (app.of_call(calls.*) > 0)";

/// Everything that cannot be copied, and all differences, are reported at once, before anything is created.
#[tokio::test]
async fn what_stands_in_the_way_is_said_at_once() {
    let (sides, workspace) = shop(Core::Terraform, V18, V14).await;
    sides
        .publisher
        .sql(
            "CREATE TABLE app.virtual (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2)); \
             CREATE TABLE app.alike (id int, n int UNIQUE NULLS NOT DISTINCT); \
             CREATE OPERATOR app.=== (leftarg = int, rightarg = int, function = int4eq); \
             CREATE TABLE app.strange (id int CHECK (id OPERATOR(app.===) 1)); \
             CREATE COLLATION app.own (provider = builtin, locale = 'C.UTF-8'); CREATE TABLE app.sorted (t text COLLATE app.own)",
        )
        .await;
    sides.subscriber.sql("CREATE SCHEMA app; CREATE TABLE app.orders (id bigint PRIMARY KEY, more text)").await;
    let tables =
        ["users", "orders", "virtual", "alike", "strange", "sorted"].map(|name| format!("\"app.{name}\"")).join(", ");
    workspace.write(
        "main.tf",
        &format!("resource \"neonrepl_destination_schema\" \"shop\" {{\n  tables = [{tables}]\n}}\n"),
    );
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    for said in [
        "column twice of table app.virtual: a generated column that is not stored needs Postgres 18",
        "NULLS NOT DISTINCT needs Postgres 15",
        "operator app.===(integer,integer)",
        "collation app.own: the provider builtin needs Postgres 17",
        "table app.orders: column id: integer on the publisher, bigint on the subscriber",
        "table app.orders: column more: nothing on the publisher, text on the subscriber",
    ] {
        assert!(plan.flat().contains(said), "{said} is not in {}", plan.text());
    }
    assert_eq!(
        sides
            .subscriber
            .rows("SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind = 'r'")
            .await,
        ["orders"]
    );
}
