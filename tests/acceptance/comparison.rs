// SPDX-License-Identifier: MPL-2.0

//! Tables of two servers compared: no false difference while applications write, and every damage found.

mod splitting;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use neonrepl::postgres::{Database, Limits, QualifiedName};
use neonrepl::replication::comparison::{self, Compared, Mode, Outcome, Question};
use neonrepl::replication::{self, Operation};
use neonrepl::report;

use crate::catalog::{config, connect, ident};
use crate::common::cli::Core;
use crate::common::postgres::{self as servers, Major, Role, quote};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};
use crate::status::{Quiet, subscribe, unsubscribe};

/// Types of all families, so that the two servers number and print them differently if possible.
const TYPES: &str = "
    CREATE COLLATION lax (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
    CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN short AS varchar(20);";

const COLUMNS: [(&str, &str, &str); 24] = [
    ("small", "int2", "7"),
    ("number", "numeric", "1.50"),
    ("real", "float8", "0.1"),
    ("flag", "bool", "true"),
    ("name", "text COLLATE lax", "'Ann'"),
    ("padded", "char(8)", "'ab'"),
    ("plain", "short", "'ab'"),
    ("mood", "mood", "'glad'"),
    ("moods", "mood[]", "'{glad,sad}'"),
    ("numbers", "int4[]", "'{1,NULL,3}'"),
    ("whole", "pair", "'(1,x)'"),
    ("doc", "json", "'{\"a\": 1}'"),
    ("docb", "jsonb", "'{\"a\": 1.0}'"),
    ("bits", "bit(4)", "'1010'"),
    ("bytes", "bytea", "'\\x00ff'"),
    ("id_of", "uuid", "'7d8f1c0e-3d5b-4b7a-9b0a-0123456789ab'"),
    ("day", "date", "'2024-02-29'"),
    ("at", "timestamptz", "'2024-02-29 12:00:00+05'"),
    ("span", "interval", "'1 mon 2 days 03:00'"),
    ("address", "inet", "'10.0.0.1/8'"),
    ("place", "point", "'(1,2)'"),
    ("words", "tsvector", "'a fat cat'"),
    ("price", "money", "'1.50'"),
    ("range", "int4range", "'[1,5)'"),
];

/// Changes of a value after which it is no longer equal.
const OTHERS: [&str; 24] = [
    "8",
    "1.51",
    "0.2",
    "false",
    "'ann'",
    "'abc'",
    "'abc'",
    "'sad'",
    "'{glad}'",
    "'{1,2,3}'",
    "'(1,y)'",
    "'{\"a\": 2}'",
    "'{\"a\": 2}'",
    "'1011'",
    "'\\x00fe'",
    "'7d8f1c0e-3d5b-4b7a-9b0a-0123456789ac'",
    "'2024-03-01'",
    "'2024-02-29 12:00:00+04'",
    "'1 mon 2 days 03:01'",
    "'10.0.0.2/8'",
    "'(1,3)'",
    "'a fat dog'",
    "'1.51'",
    "'[1,6)'",
];

/// The columns; on the subscriber in reverse order, with another one in between.
fn columns(forwards: bool) -> String {
    let mut columns: Vec<_> = COLUMNS.iter().map(|(name, ty, _)| format!("{} {ty}", quote(name))).collect();
    if !forwards {
        columns.reverse();
        columns.insert(3, "of_its_own int".to_owned());
    }
    columns.join(", ")
}

struct Compare {
    publisher: Database,
    subscriber: Database,
}

impl Compare {
    fn of(pair: &Pair) -> Self {
        Self::as_role(pair, &Role::superuser())
    }

    fn as_role(pair: &Pair, role: &Role) -> Self {
        Self { publisher: connect(&pair.publisher, role), subscriber: connect(&pair.subscriber, &Role::superuser()) }
    }

    async fn ask(&self, mode: Mode, tables: &[&str]) -> Outcome {
        self.ask_for(&["shop"], mode, tables).await.unwrap()
    }

    async fn ask_for(&self, publications: &[&str], mode: Mode, tables: &[&str]) -> replication::Result<Outcome> {
        let operation = Operation::new("comparing tables", Limits::within(5 * DEADLINE), &Quiet);
        let pair = replication::Pair { publisher: self.publisher.clone(), subscriber: self.subscriber.clone() };
        let tables = tables.iter().map(|name| QualifiedName::parse(name).unwrap()).collect();
        let publications = publications.iter().map(|name| ident(name)).collect();
        let question = Question { publications, tables, mode, max_differences: 100 };
        let mut told = 0;
        let mut count = |told_of: comparison::Progress<'_>| {
            told += usize::from(matches!(told_of.step, comparison::Step::Ended(_)));
        };
        let outcome = comparison::compare(&operation, &pair, &question, &mut count).await?;
        assert_eq!(told, outcome.tables.len());
        Ok(outcome)
    }

    /// The only table.
    async fn one(&self, mode: Mode, table: &str) -> Compared {
        let [compared] = self.ask(mode, &[table]).await.tables.try_into().unwrap();
        compared
    }
}

fn differences(compared: &Compared) -> BTreeSet<String> {
    compared.differences.iter().map(report::difference).collect()
}

async fn caught_up(pair: &Pair, tables: &[&str]) {
    for table in tables {
        let count = format!("SELECT count(*) FROM {table}");
        let state = format!("SELECT r.srsubstate FROM pg_subscription_rel r WHERE r.srrelid = '{table}'::regclass");
        wait_until(&format!("{table} to be there"), DEADLINE, async || {
            pair.subscriber.rows(&state).await == ["r"]
                && pair.publisher.value::<i64>(&count).await == pair.subscriber.value::<i64>(&count).await
        })
        .await;
    }
}

#[tokio::test]
async fn what_writers_do_meanwhile_is_no_difference() {
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "compared").await;
        pair.publisher.sql("INSERT INTO orders SELECT i, i, 'eu' FROM generate_series(1, 20000) i").await;
        subscribe(&pair, "TABLE orders, customers, invoices", "").await;
        caught_up(&pair, &["orders", "customers", "invoices"]).await;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writers: Vec<_> = (0..3)
            .map(|at| {
                tokio::spawn(write(
                    servers::Database::at(pair.publisher.port, &pair.publisher.name),
                    at,
                    Arc::clone(&stop),
                    Arc::clone(&written),
                ))
            })
            .collect();
        let compare = Compare::of(&pair);
        let mut looks = 0;
        for mode in [Mode::Counts, Mode::Checksums, Mode::Rows, Mode::Rows, Mode::Checksums, Mode::Counts] {
            let before = written.load(Ordering::Relaxed);
            wait_until("writers to go on", DEADLINE, async || written.load(Ordering::Relaxed) > before + 20).await;
            let outcome = compare.ask(mode, &[]).await;
            assert!(outcome.is_equal() && outcome.is_exact(), "{from:?} to {to:?}, {mode:?}: {outcome:#?}");
            assert!(outcome.position.is_some());
            looks += outcome.tables.len();
        }
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
        println!("{from:?} to {to:?}: {looks} tables compared under {} writes", written.load(Ordering::Relaxed));
        unsubscribe(&pair).await;
    }
}

async fn write(database: servers::Database, at: u64, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = 100_000 * (at + 1) + round;
        database
            .sql(&format!(
                "BEGIN; INSERT INTO orders VALUES ({id}, 1, 'us'); UPDATE orders SET total = total + 1 WHERE id = {}; \
                 INSERT INTO customers VALUES ({id}, 'n'); DELETE FROM orders WHERE id = {}; COMMIT; SELECT pg_sleep(0.01)",
                round % 20_000 + 1,
                100_000 * (at + 1) + round / 2
            ))
            .await;
        written.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn every_damage_is_found_by_its_key() {
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V14), (Major::V16, Major::V16)] {
        let pair = match from == to {
            true => Pair::on_one_server(from, "damaged").await,
            false => Pair::new(from, to, "damaged").await,
        };
        // Other oids, and another order of the labels' oids.
        pair.publisher.sql("CREATE TYPE mood AS ENUM ('glad', 'sad')").await;
        pair.subscriber.sql("CREATE TYPE other AS ENUM ('x'); CREATE TYPE mood AS ENUM ('sad'); ALTER TYPE mood ADD VALUE 'glad' BEFORE 'sad'").await;
        for (side, forwards) in [(&pair.publisher, true), (&pair.subscriber, false)] {
            let columns = columns(forwards);
            side.sql(&format!(
                "{TYPES} CREATE TABLE kinds (id bigint, region text, {columns}, PRIMARY KEY (id, region))"
            ))
            .await;
        }
        let values: Vec<_> = COLUMNS.iter().map(|(_, _, value)| *value).collect();
        let names: Vec<_> = COLUMNS.iter().map(|(name, _, _)| quote(name)).collect();
        let fill = format!(
            "INSERT INTO kinds (id, region, {}) SELECT i, 'eu', {} FROM generate_series(1, 60) i; INSERT INTO kinds (id, region) \
             VALUES (61, 'é'), (62, '')",
            names.join(", "),
            values.join(", ")
        );
        let compare = Compare::of(&pair);
        if from == to {
            // On one server a subscription needs its slot in advance; here both sides are filled alike.
            pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE kinds").await;
            pair.publisher.sql(&fill).await;
            pair.subscriber.sql(&fill).await;
        } else {
            pair.publisher.sql(&fill).await;
            subscribe(&pair, "TABLE kinds", "").await;
            caught_up(&pair, &["kinds"]).await;
        }
        let whole = compare.one(Mode::Rows, "kinds").await;
        assert!(whole.equal && whole.exact == (from != to), "{from:?} to {to:?}: {whole:#?}");
        assert_eq!((whole.publisher_rows, whole.subscriber_rows), (Some(62), Some(62)));

        let mut expected = BTreeSet::new();
        for (at, ((name, _, _), other)) in COLUMNS.iter().zip(OTHERS).enumerate() {
            let (damaged, emptied) = (at + 1, at + 31);
            let column = quote(name);
            pair.subscriber
                .sql(&format!(
                    "UPDATE kinds SET {column} = {other} WHERE id = {damaged}; UPDATE kinds SET {column} = NULL WHERE id = {emptied}"
                ))
                .await;
            expected.insert(format!("changed: id={damaged}, region=eu (column {name})"));
            expected.insert(format!("changed: id={emptied}, region=eu (column {name})"));
        }
        pair.subscriber
            .sql("DELETE FROM kinds WHERE id IN (29, 61); INSERT INTO kinds (id, region) VALUES (29, 'us'), (1000, 'eu')")
            .await;
        expected.extend(["29, region=eu", "61, region=é"].map(|key| format!("missing on the subscriber: id={key}")));
        expected.extend(["29, region=us", "1000, region=eu"].map(|key| format!("only on the subscriber: id={key}")));
        let found = compare.one(Mode::Rows, "kinds").await;
        assert!(!found.equal && found.further_differences == 0, "{found:#?}");
        assert_eq!(differences(&found), expected, "{from:?} to {to:?}");
        // As many rows as before: a count sees nothing, a sum does.
        assert!(compare.one(Mode::Counts, "kinds").await.equal);
        let summed = compare.one(Mode::Checksums, "kinds").await;
        assert!(!summed.equal && summed.differences.is_empty());
        println!("{from:?} to {to:?}: {} damages found", expected.len());
        if from != to {
            unsubscribe(&pair).await;
        }
    }
}

#[tokio::test]
async fn rows_without_a_key_are_counted_by_what_they_hold() {
    let pair = Pair::new(Major::V16, Major::V17, "keyless").await;
    for side in [&pair.publisher, &pair.subscriber] {
        side.sql("CREATE TABLE log (line text, level int); ALTER TABLE log REPLICA IDENTITY FULL").await;
    }
    pair.publisher.sql("INSERT INTO log VALUES ('a', 1), ('a', 1), ('b', NULL)").await;
    subscribe(&pair, "TABLE log", "").await;
    caught_up(&pair, &["log"]).await;
    let compare = Compare::of(&pair);
    assert!(compare.one(Mode::Rows, "log").await.equal);
    pair.subscriber.sql("DELETE FROM log WHERE ctid = '(0,1)'; INSERT INTO log VALUES ('b', NULL)").await;
    let found = differences(&compare.one(Mode::Rows, "log").await);
    let expected = ["missing on the subscriber: level=1, line=a", "only on the subscriber: level=null, line=b"];
    assert_eq!(found, expected.map(str::to_owned).into());
    unsubscribe(&pair).await;
}

#[tokio::test]
async fn only_what_is_published_is_compared() {
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V15)] {
        let pair = Pair::new(from, to, "published").await;
        let parted = "CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)";
        pair.publisher
            .sql(&format!(
                "{parted}; CREATE TABLE p1 PARTITION OF parted FOR VALUES FROM (0) TO (10); CREATE TABLE p2 PARTITION OF parted \
                 DEFAULT; CREATE TABLE child () INHERITS (customers); INSERT INTO parted VALUES (1, 'a'), (20, 'b')"
            ))
            .await;
        pair.subscriber.sql("CREATE TABLE parted (id int PRIMARY KEY, v text)").await;
        pair.publisher
            .sql("INSERT INTO orders VALUES (1, 1, 'eu'), (2, 2, 'us'); INSERT INTO customers VALUES (1, 'n'); INSERT INTO child VALUES (2, 'c')")
            .await;
        let tables =
            "TABLE orders (id, region) WHERE (id = 1), ONLY customers, parted WITH (publish_via_partition_root)";
        subscribe(&pair, tables, "").await;
        caught_up(&pair, &["parted"]).await;
        pair.wait_for_rows("SELECT id FROM orders", &["1"]).await;
        pair.wait_for_rows("SELECT id FROM customers", &["1"]).await;
        // Rows that are not sent may differ.
        pair.subscriber.sql("UPDATE orders SET total = 7; INSERT INTO orders VALUES (3, 3, 'ap')").await;
        let compare = Compare::of(&pair);
        let outcome = compare.ask(Mode::Rows, &[]).await;
        assert!(outcome.is_equal() && outcome.is_exact(), "{outcome:#?}");
        let rows: Vec<_> = outcome.tables.iter().map(|table| table.publisher_rows.unwrap()).collect();
        assert_eq!(rows, [1, 1, 2], "{outcome:#?}");
        pair.subscriber.sql("UPDATE orders SET region = 'x' WHERE id = 1; DELETE FROM parted WHERE id = 20").await;
        let found: BTreeSet<_> = compare.ask(Mode::Rows, &[]).await.tables.iter().flat_map(differences).collect();
        let expected = ["changed: id=1 (column region)", "missing on the subscriber: id=20"];
        assert_eq!(found, expected.map(str::to_owned).into());
        unsubscribe(&pair).await;
    }
}

/// From Postgres 16 on, a tree that one publication sends as its root and another one in parts arrives as the root.
#[tokio::test]
async fn a_tree_that_is_sent_in_two_ways_is_compared_as_it_arrives() {
    let pair = Pair::new(Major::V16, Major::V17, "two_ways").await;
    pair.publisher
        .sql("CREATE TABLE tree (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF tree DEFAULT; \
              INSERT INTO tree VALUES (1, 'a'); CREATE PUBLICATION parts FOR TABLE leaf")
        .await;
    pair.subscriber.sql("CREATE TABLE tree (id int PRIMARY KEY, v text)").await;
    subscribe(&pair, "TABLE tree WITH (publish_via_partition_root)", "").await;
    let name = &pair.subscriber.name;
    pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} ADD PUBLICATION parts")).await;
    caught_up(&pair, &["tree"]).await;
    let compare = Compare::of(&pair);
    let outcome = compare.ask_for(&["shop", "parts"], Mode::Rows, &[]).await.unwrap();
    assert!(outcome.is_equal() && outcome.is_exact() && outcome.tables.len() == 1, "{outcome:#?}");
    pair.subscriber.sql("UPDATE tree SET v = 'b'").await;
    let found = compare.ask_for(&["shop", "parts"], Mode::Rows, &[]).await.unwrap();
    assert_eq!(differences(&found.tables[0]), ["changed: id=1 (column v)".to_owned()].into());
    unsubscribe(&pair).await;
}

#[tokio::test]
async fn what_cannot_be_compared_exactly_says_why() {
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "loose").await;
        subscribe(&pair, "TABLE orders, customers, invoices", "").await;
        caught_up(&pair, &["orders", "customers", "invoices"]).await;
        let check = async |compare: &Compare, table: &str, equal: bool, says: &str| {
            let compared = compare.one(Mode::Rows, table).await;
            assert!(compared.note.contains(says), "{says} is not in {compared:#?}");
            assert_eq!((compared.equal, compared.exact), (equal, false), "{compared:#?}");
        };
        let reader = servers::shared(from).role("reader", "").await;
        pair.publisher.sql(&format!("GRANT SELECT ON orders, invoices TO {}", quote(&reader.name))).await;
        pair.publisher.sql("ALTER TABLE invoices ENABLE ROW LEVEL SECURITY").await;
        let reads = Compare::as_role(&pair, &reader);
        check(&reads, "orders", true, "may not lock the table against writers").await;
        check(&reads, "customers", false, "permission denied for table customers").await;
        check(&reads, "invoices", false, "row-level security").await;

        // Writers would wait for a session that cannot be opened any more.
        let mut few = config(&pair.publisher, &Role::superuser());
        few.max_connections = 2;
        let few = Compare { publisher: neonrepl::postgres::Server::new(few).database(None), ..Compare::of(&pair) };
        check(&few, "orders", true, "max_connections of the publisher is 2").await;

        let compare = Compare::of(&pair);
        let all = compare.ask_for(&[], Mode::Counts, &["orders", "public.nowhere"]).await.unwrap();
        assert_eq!(all.tables[0].note, "The table does not exist on the publisher.");
        assert!(!all.is_equal() && all.tables[1].exact, "{all:#?}");
        pair.publisher.sql("CREATE TABLE only_here (id int)").await;
        let here = compare.ask_for(&[], Mode::Counts, &["only_here"]).await.unwrap();
        assert_eq!(here.tables[0].note, "The table does not exist on the subscriber.");
        pair.subscriber.sql("CREATE TABLE only_here (id int)").await;
        let here = compare.ask_for(&[], Mode::Counts, &["only_here"]).await.unwrap();
        assert_eq!((here.tables[0].note.as_str(), here.is_equal()), ("No subscription replicates the table.", true));
        let refused = compare.ask_for(&["none"], Mode::Counts, &[]).await.unwrap_err();
        assert!(refused.summary().contains("there is no publication \"none\""), "{refused}");
        let refused = compare.ask_for(&["shop"], Mode::Counts, &["only_here"]).await.unwrap_err();
        assert!(refused.summary().contains("public.only_here is not published"), "{refused}");

        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {} DISABLE", pair.subscriber.name)).await;
        check(&compare, "orders", true, "is disabled").await;
        unsubscribe(&pair).await;
    }
}

/// Sessions that write all the time, or hold a table, do not wait long, and the comparison succeeds afterwards.
#[tokio::test]
async fn a_transaction_that_holds_a_table_is_waited_for() {
    let pair = Pair::new(Major::V17, Major::V16, "held").await;
    subscribe(&pair, "TABLE orders", "").await;
    caught_up(&pair, &["orders"]).await;
    let client = pair.publisher.connect_as(&Role::superuser()).await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO orders VALUES (1, 1, 'eu')").await.unwrap();
    let compare = Compare::of(&pair);
    let asked = compare.one(Mode::Rows, "orders");
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass";
    let writer = async {
        wait_until("the comparison to wait", DEADLINE, async || pair.publisher.value::<i64>(waits).await > 0).await;
        wait_until("it to step back", DEADLINE, async || pair.publisher.value::<i64>(waits).await == 0).await;
        client.batch_execute("COMMIT").await.unwrap();
    };
    let (compared, ()) = tokio::join!(asked, writer);
    assert!(compared.equal && compared.exact && compared.publisher_rows == Some(1), "{compared:#?}");
    unsubscribe(&pair).await;
}

#[tokio::test]
async fn the_data_source_tells_what_a_comparison_found() {
    let pair = Pair::new(Major::V14, Major::V18, "told").await;
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'), (2, 2, 'eu')").await;
    subscribe(&pair, "TABLE orders, customers", "").await;
    caught_up(&pair, &["orders", "customers"]).await;
    for core in Core::installed() {
        let workspace = pair.workspace(core).await;
        let config = "data \"neonrepl_table_comparison\" \"shop\" {\n  publications = [\"shop\"]\n  mode = \"rows\"\n}\n\n\
            output \"found\" {\n  value = data.neonrepl_table_comparison.shop\n}\n";
        workspace.write("main.tf", config);
        workspace.apply().await;
        let found = workspace.show_json().await["values"]["outputs"]["found"]["value"].clone();
        assert_eq!((&found["equal"], &found["exact"]), (&true.into(), &true.into()), "{found:#}");
        assert_eq!(found["tables"][1]["publisher_rows"], 2);
        workspace.write("main.tf", &config.replace("publications = [\"shop\"]", "timeout = \"10s\""));
        assert!(workspace.apply_error().await.flat().contains("nothing is to be compared"));
    }
    unsubscribe(&pair).await;
}

/// A comparison from the command line shows each table, and an error if one differs.
#[tokio::test]
async fn the_action_fails_where_rows_differ() {
    if !Core::installed().contains(&Core::Terraform) {
        return;
    }
    let pair = Pair::new(Major::V18, Major::V14, "invoked").await;
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'), (2, 2, 'eu')").await;
    subscribe(&pair, "TABLE orders, customers", "").await;
    caught_up(&pair, &["orders", "customers"]).await;
    let workspace = pair.workspace(Core::Terraform).await;
    workspace.write(
        "main.tf",
        "action \"neonrepl_compare_tables\" \"shop\" {\n  config {\n    publications = [\"shop\"]\n  }\n}\n",
    );
    let invoke = ["apply", "-auto-approve", "-no-color", "-invoke=action.neonrepl_compare_tables.shop"];
    let said = workspace.expect(&invoke, 0).await;
    let lines = [
        "1 of 2: public.customers equal: 0 rows on the publisher, 0 on the subscriber",
        "2 of 2: public.orders equal: 2 rows on the publisher, 2 on the subscriber",
        "Equal: 2 tables.",
    ];
    for line in lines {
        assert!(said.flat().contains(line), "no {line:?} in:\n{}", said.text());
    }
    pair.subscriber.sql("UPDATE orders SET region = 'us' WHERE id = 2").await;
    let said = workspace.expect(&invoke, 1).await;
    for line in [
        "the tables are not equal",
        "public.orders differs",
        "changed: id=2 (column region)",
        "Not equal: 1 of 2 tables.",
    ] {
        assert!(said.flat().contains(line), "no {line:?} in:\n{}", said.text());
    }
    unsubscribe(&pair).await;
}
