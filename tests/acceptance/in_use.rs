// SPDX-License-Identifier: MPL-2.0

//! Publications that a running subscription uses: no change of them stops it or loses a row, under writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Database, Major, Role, Server, Settings};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// Writes rows without a pause, each in a transaction of its own, with long transactions at the same time.
struct Writes {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicI32>,
    task: tokio::task::JoinHandle<()>,
}

impl Writes {
    async fn begin(publisher: &Database) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI32::new(0)));
        let client = publisher.connect_as(&Role::superuser()).await.expect("a connection");
        let long = publisher.connect_as(&Role::superuser()).await.expect("a connection");
        let (flag, count) = (Arc::clone(&stop), Arc::clone(&written));
        let task = tokio::spawn(async move {
            let mut next = 1;
            while !flag.load(Ordering::SeqCst) {
                long.batch_execute(&format!("BEGIN; INSERT INTO orders VALUES ({next}, 1, 'long')"))
                    .await
                    .expect("a write");
                for _ in 0..50 {
                    next += 1;
                    client
                        .batch_execute(&format!("INSERT INTO orders VALUES ({next}, 1, 'eu')"))
                        .await
                        .expect("a write");
                }
                long.batch_execute("COMMIT").await.expect("a commit");
                next += 1;
                count.store(next - 1, Ordering::SeqCst);
            }
        });
        Self { stop, written, task }
    }

    /// Waits until more rows have been written.
    async fn go_on(&self) {
        let before = self.written.load(Ordering::SeqCst);
        wait_until("further writes", DEADLINE, async || self.written.load(Ordering::SeqCst) > before).await;
    }

    /// Ends, and returns how many rows were written.
    async fn end(self) -> i32 {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the writer");
        self.written.load(Ordering::SeqCst)
    }
}

fn config(name: &str, publication: &str, arguments: &str) -> String {
    format!(
        "resource \"neonrepl_publication\" \"shop\" {{\n  {publication}\n}}\n\n\
         resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n  \
         refresh_triggers = {{ shop = neonrepl_publication.shop.fingerprint }}\n  {arguments}\n}}\n"
    )
}

const LISTED: &str = "name = \"shop\"\n  tables = [\"orders\", \"customers\"]";

async fn count(database: &Database) -> i64 {
    database.value("SELECT count(*) FROM orders").await
}

/// Checks that the subscription has every row, and that its worker never ended with an error.
async fn nothing_is_lost(pair: &Pair, rows: i32) {
    assert_eq!(count(&pair.publisher).await, i64::from(rows));
    wait_until("every row to arrive", DEADLINE, async || count(&pair.subscriber).await == i64::from(rows)).await;
    let ids = "SELECT count(DISTINCT id) FROM orders";
    assert_eq!(pair.subscriber.value::<i64>(ids).await, i64::from(rows));
}

async fn life(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "in_use").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let arguments = "wait_for_initial_sync = true";
    workspace.write("main.tf", &config(&name, LISTED, arguments));
    workspace.apply().await;
    let writes = Writes::begin(&pair.publisher).await;
    writes.go_on().await;

    // To all tables and back: Postgres can only drop it and create it again.
    workspace.write("main.tf", &config(&name, "name = \"shop\"\n  all_tables = true", arguments));
    workspace.apply().await;
    writes.go_on().await;
    workspace.write("main.tf", &config(&name, LISTED, arguments));
    workspace.apply().await;
    writes.go_on().await;
    workspace.expect_empty_plan().await;

    let renamed = LISTED.replace("\"shop\"", "\"the shop's\"");
    workspace.write("main.tf", &config(&name, &renamed, arguments));
    let plan = workspace.plan().await;
    assert!(plan.flat().contains("becomes \"the shop's\" under subscription"), "{}", plan.text());
    workspace.apply().await;
    writes.go_on().await;
    assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, ["the shop's"]);
    let names = "SELECT subpublications::text FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(pair.subscriber.rows(names).await, ["{\"the shop's\"}"]);
    workspace.expect_empty_plan().await;

    swap_publications(&workspace, &pair, &name, &renamed).await;
    writes.go_on().await;
    let rows = writes.end().await;
    nothing_is_lost(&pair, rows).await;
    workspace.destroy().await;
    assert_eq!(pair.slots().await, [""; 0]);
}

/// One publication replaces another: refused in a core's order, done in the right order.
async fn swap_publications(workspace: &Workspace, pair: &Pair, name: &str, old: &str) {
    let both = |lifecycle: &str| {
        let subscription = config(name, &format!("{old}\n  {lifecycle}"), "wait_for_initial_sync = true");
        let second =
            "resource \"neonrepl_publication\" \"second\" {\n  name   = \"second\"\n  tables = [\"orders\"]\n}\n";
        format!("{}{second}", subscription.replace(".shop.name]", ".shop.name, neonrepl_publication.second.name]"))
    };
    workspace.write("main.tf", &both(""));
    workspace.apply().await;
    let alone = config(name, old, "wait_for_initial_sync = true");
    workspace.write("main.tf", &alone);
    let refused = workspace.apply_error().await;
    for said in ["dropping publication \"second\": it is in use by subscription", "create_before_destroy = true"] {
        assert!(refused.flat().contains(said), "{said} is not in {}", refused.text());
    }
    assert_eq!(pair.publisher.value::<i64>("SELECT count(*) FROM pg_publication").await, 2);
    // Its state stays the same, and so does the subscription.
    let lets_go = both("").replace(", neonrepl_publication.second.name]", "]");
    workspace.write("main.tf", &lets_go);
    workspace.apply().await;
    workspace.write("main.tf", &alone);
    workspace.apply().await;
    assert_eq!(pair.publisher.value::<i64>("SELECT count(*) FROM pg_publication").await, 1);
    workspace.expect_empty_plan().await;
}

#[tokio::test]
async fn nothing_stops_a_subscription_from_14() {
    life(Core::OpenTofu, Major::V14, Major::V18).await;
}

#[tokio::test]
async fn nothing_stops_a_subscription_from_18() {
    life(Core::Terraform, Major::V18, Major::V14).await;
}

/// A core changes the subscription first if the publication is created before it is destroyed.
#[tokio::test]
async fn a_publication_goes_in_the_same_apply_after_its_subscription() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V16, Major::V17, "order").await;
        let name = pair.subscriber.name.clone();
        let workspace = pair.workspace(core).await;
        let second = "resource \"neonrepl_publication\" \"second\" {\n  name   = \"second\"\n  tables = [\"customers\"]\n  \
            lifecycle {\n    create_before_destroy = true\n  }\n}\n";
        let alone = config(&name, LISTED, "");
        let both = alone.replace(".shop.name]", ".shop.name, neonrepl_publication.second.name]");
        workspace.write("main.tf", &format!("{both}{second}"));
        workspace.apply().await;
        workspace.write("main.tf", &alone);
        workspace.apply().await;
        assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, ["shop"]);
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

/// Readers outside the provider's subscriptions, and subscriptions that do not run.
#[tokio::test]
async fn who_cannot_be_led_to_a_new_name_is_told_while_planning() {
    let pair = Pair::new(Major::V17, Major::V16, "strangers").await;
    // On another server than the provider's subscriber.
    let elsewhere = Pair::new(Major::V17, Major::V15, "elsewhere").await.subscriber;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(Core::OpenTofu).await;
    workspace.write("main.tf", &format!("resource \"neonrepl_publication\" \"shop\" {{\n  {LISTED}\n}}\n"));
    workspace.apply().await;
    let subscribe = format!("CREATE SUBSCRIPTION {name} CONNECTION '{}' PUBLICATION shop", pair.publisher.url());
    elsewhere.sql(&subscribe).await;
    let asks = "SELECT count(*) FROM pg_stat_activity a JOIN pg_replication_slots s ON s.active_pid = a.pid \
        WHERE s.database = current_database() AND a.query LIKE 'START_REPLICATION%'";
    wait_until("the reader", DEADLINE, async || pair.publisher.value::<i64>(asks).await > 0).await;

    let renamed = LISTED.replace("\"shop\"", "\"other\"");
    workspace.write("main.tf", &format!("resource \"neonrepl_publication\" \"shop\" {{\n  {renamed}\n}}\n"));
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    let stranger = format!("the reader of replication slot \"{name}\" would stop at the next change");
    assert!(plan.flat().contains(&stranger) && plan.flat().contains("on main.tf line 2"), "{}", plan.text());
    workspace.write("main.tf", "");
    let refused = workspace.apply_error().await;
    assert!(
        refused.flat().contains(&format!("in use by the reader of replication slot \"{name}\"")),
        "{}",
        refused.text()
    );

    elsewhere.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    pair.subscriber.sql(&subscribe).await;
    pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await;
    workspace.write("main.tf", &format!("resource \"neonrepl_publication\" \"shop\" {{\n  {renamed}\n}}\n"));
    let plan = workspace.plan().await;
    assert!(
        plan.flat().contains("It is disabled, and cannot apply what is older. Enable it first."),
        "{}",
        plan.text()
    );

    workspace.write(
        "main.tf",
        &format!("resource \"neonrepl_publication\" \"shop\" {{\n  {LISTED}\n  force_destroy = true\n}}\n"),
    );
    workspace.apply().await;
    workspace.destroy().await;
    assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
}

/// A disabled subscription applies no older changes: it is enabled first, or the publication does not join.
async fn joins_a_disabled_one(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "disabled").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let orders = "name = \"shop\"\n  tables = [\"orders\"]";
    workspace.write("main.tf", &config(&name, orders, "wait_for_initial_sync = true"));
    workspace.apply().await;
    workspace.write("main.tf", &config(&name, orders, "enabled = false"));
    workspace.apply().await;
    // Older than the publication that will join.
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'); INSERT INTO customers VALUES (1, 'a')").await;

    let second =
        "resource \"neonrepl_publication\" \"second\" {\n  name   = \"second\"\n  tables = [\"customers\"]\n}\n";
    let both = |arguments: &str| {
        let alone = config(&name, orders, arguments);
        format!("{}{second}", alone.replace(".shop.name]", ".shop.name, neonrepl_publication.second.name]"))
    };
    workspace.write("main.tf", &both("enabled = false"));
    let refused = workspace.apply_error().await;
    for said in ["may be older than publication \"second\"", "Nothing was changed.", "Set enabled = true"] {
        assert!(refused.flat().contains(said), "{said} is not in {}", refused.text());
    }
    let subscribed = format!("SELECT subpublications::text FROM pg_subscription WHERE subname = '{name}'");
    assert_eq!(pair.subscriber.rows(&subscribed).await, ["{shop}"]);

    let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
    lock.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    workspace.write("main.tf", &both("wait_for_initial_sync = true"));
    let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE '%confirmed_flush_lsn >=%' AND pid <> pg_backend_pid()";
    wait_until("the apply to wait or to go on", DEADLINE, async || {
        pair.publisher.value::<i64>(looks).await > 0 || pair.subscriber.rows(&subscribed).await != ["{shop}"]
    })
    .await;
    let joined = pair.subscriber.rows(&subscribed).await;
    assert_eq!(joined, ["{shop}"], "it must not join while what is older waits for the lock");
    lock.batch_execute("COMMIT").await.expect("the end of the lock");
    let run = apply.wait().await;
    assert_eq!(run.code, Some(0), "{}", run.text());
    pair.publisher.sql("INSERT INTO orders VALUES (2, 1, 'eu'); INSERT INTO customers VALUES (2, 'b')").await;
    for table in ["orders", "customers"] {
        pair.wait_for_rows(&format!("SELECT count(*) FROM {table}"), &["2"]).await;
    }
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
    assert_eq!(pair.slots().await, [""; 0]);
}

#[tokio::test]
async fn a_publication_joins_a_disabled_subscription_from_14() {
    joins_a_disabled_one(Core::Terraform, Major::V14, Major::V18).await;
}

#[tokio::test]
async fn a_publication_joins_a_disabled_subscription_from_18() {
    joins_a_disabled_one(Core::OpenTofu, Major::V18, Major::V15).await;
}

/// On a server of its own: other tests' open transactions would make every slot look old.
#[tokio::test]
async fn a_slot_that_is_older_than_its_publication_is_warned_of() {
    let server = Server::start(Major::V17, Settings::new());
    let mut pair = Pair::new(Major::V17, Major::V16, "older").await;
    pair.publisher = server.database("older_from").await;
    pair.publisher.sql("CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text)").await;
    let name = pair.subscriber.name.clone();
    let slot = format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')");
    let publish = "CREATE PUBLICATION shop FOR TABLE orders".to_owned();
    let workspace = pair.workspace(Core::OpenTofu).await;
    workspace.write(
        "main.tf",
        &format!(
            "resource \"neonrepl_subscription\" \"shop\" {{\n  name         = \"{name}\"\n  publications = [\"shop\"]\n  \
             create_slot  = false\n}}\n"
        ),
    );
    for (first, second, is_older) in [(&slot, &publish, true), (&publish, &slot, false)] {
        pair.publisher.sql(first).await;
        pair.publisher.sql(second).await;
        let applied = workspace.apply().await;
        let warning = format!("replication slot \"{name}\" may be older than publication \"shop\"");
        assert_eq!(applied.flat().contains(&warning), is_older, "{}", applied.text());
        workspace.destroy().await;
        pair.publisher.sql("DROP PUBLICATION shop").await;
    }
}

/// Somebody removes a table from the publication: writes until it is published again are lost for the
/// subscription, unless it forgets the table first.
#[tokio::test]
async fn a_table_that_comes_back_is_warned_of() {
    let pair = Pair::new(Major::V16, Major::V18, "back").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(Core::OpenTofu).await;
    let arguments = "wait_for_initial_sync = true";
    workspace.write("main.tf", &config(&name, LISTED, arguments));
    workspace.apply().await;
    pair.publisher.sql("ALTER PUBLICATION shop DROP TABLE customers; INSERT INTO customers VALUES (1, 'missed')").await;
    let plan = workspace.plan().await;
    let warning = format!("subscription \"{name}\" misses what was written to public.customers in the meantime");
    assert!(plan.code == Some(2) && plan.flat().contains(&warning), "{}", plan.text());

    let without = "name = \"shop\"\n  tables = [\"orders\"]";
    workspace.write("main.tf", &config(&name, without, arguments));
    workspace.apply().await;
    pair.subscriber.sql("TRUNCATE customers").await;
    workspace.write("main.tf", &config(&name, LISTED, arguments));
    let applied = workspace.apply().await;
    assert!(!applied.flat().contains("misses what was written"), "{}", applied.text());
    pair.wait_for_rows("SELECT name FROM customers", &["missed"]).await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
}
