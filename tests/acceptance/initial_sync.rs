// SPDX-License-Identifier: MPL-2.0

//! Waiting for the initial copy: obstacles are reported, before anything is created if both servers show them.

use std::time::{Duration, Instant};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Major, Role, Server, Settings, Stop, quote, settings};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

const ADDRESS: &str = "neonrepl_subscription.shop";

/// A publication of these tables and a subscription to it, with these further arguments.
fn config(name: &str, tables: &str, arguments: &str) -> String {
    format!(
        "resource \"neonrepl_publication\" \"shop\" {{\n  name   = \"shop\"\n  tables = [{tables}]\n}}\n\n\
         resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n\
         refresh_triggers = {{ shop = neonrepl_publication.shop.fingerprint }}\n  {arguments}\n}}\n"
    )
}

const WAITS: &str = "wait_for_initial_sync = true\n  timeouts {\n    create = \"50s\"\n    update = \"50s\"\n  }";

/// An apply that must fail with these texts.
async fn fails(workspace: &Workspace, says: &[&str]) {
    let failed = workspace.apply_error().await;
    for said in says {
        assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
    }
}

async fn nothing_was_made(pair: &Pair) {
    assert_eq!(pair.subscriber.rows("SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()").await, [""; 0]);
    assert_eq!(pair.slots().await, [""; 0]);
}

#[tokio::test]
async fn what_both_servers_show_is_refused_before_anything_is_made() {
    for (core, from, to) in [(Core::OpenTofu, Major::V14, Major::V18), (Core::Terraform, Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "refused").await;
        let name = pair.subscriber.name.clone();
        pair.publisher
            .sql("CREATE TABLE only_here (id int PRIMARY KEY); ALTER TABLE invoices ADD extra text; INSERT INTO customers VALUES (1)")
            .await;
        pair.subscriber.sql("ALTER TABLE customers ADD wanted int NOT NULL").await;
        let workspace = pair.workspace(core).await;

        workspace.write("main.tf", &config(&name, "\"orders\", \"only_here\"", ""));
        fails(&workspace, &["a table cannot be copied", "public.only_here: it is not a table on the subscriber"]).await;
        nothing_was_made(&pair).await;

        workspace.write("main.tf", &config(&name, "\"orders\", \"customers\", \"invoices\"", WAITS));
        let obstacles = [
            "2 tables cannot be copied",
            "public.customers: columns of the subscriber that are not published are NOT NULL, and have no default: wanted",
            "public.invoices: it lacks published columns on the subscriber: extra",
        ];
        fails(&workspace, &obstacles).await;
        nothing_was_made(&pair).await;

        workspace.write("main.tf", &config(&name, "\"orders\", \"customers\", \"invoices\"", ""));
        let warned = workspace.apply().await;
        for said in &obstacles[1..] {
            assert!(warned.flat().contains(said), "{said} is not in {}", warned.text());
        }
        pair.subscriber
            .sql("ALTER TABLE customers ALTER wanted DROP NOT NULL; ALTER TABLE invoices ADD extra text")
            .await;
        pair.wait_for_rows("SELECT id FROM customers", &["1"]).await;
        workspace.destroy().await;

        let missing = config(&name, "\"orders\"", "").replace("[neonrepl_publication.shop.name]", "[\"nowhere\"]");
        workspace.write("main.tf", &missing);
        fails(&workspace, &["there is no publication \"nowhere\"", "Create the publication first"]).await;
        nothing_was_made(&pair).await;
    }
}

#[tokio::test]
async fn rows_that_are_there_already_fail_the_copy_early_and_by_name() {
    for (core, from, to) in [(Core::OpenTofu, Major::V18, Major::V14), (Core::OpenTofu, Major::V14, Major::V18)] {
        let pair = Pair::new(from, to, "collides").await;
        let name = pair.subscriber.name.clone();
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'); INSERT INTO customers VALUES (1)").await;
        pair.subscriber.sql("INSERT INTO orders VALUES (1, 7, 'us')").await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config(&name, "\"orders\", \"customers\"", WAITS));
        fails(
            &workspace,
            &[
                "copying fails repeatedly",
                "Table public.orders already held rows on the subscriber before it was copied",
                "TRUNCATE \"public\".\"orders\"",
                "is tainted now",
            ],
        )
        .await;
        assert!(workspace.state().contains("\"tainted\""), "{}", workspace.state());

        pair.subscriber.sql("TRUNCATE orders").await;
        pair.wait_for_rows("SELECT total FROM orders", &["1"]).await;
        let untaint = ["untaint", ADDRESS];
        workspace.expect(&untaint, 0).await;
        workspace.expect_empty_plan().await;

        // The apply also waits for a table that joins.
        pair.publisher.sql("INSERT INTO invoices VALUES (1, 1, 'eu', 'n')").await;
        pair.subscriber.sql("INSERT INTO invoices VALUES (1, 1, 'us', 'o')").await;
        workspace.write("main.tf", &config(&name, "\"orders\", \"customers\", \"invoices\"", WAITS));
        fails(&workspace, &["copying fails repeatedly", "Table public.invoices already held rows on the subscriber"])
            .await;
        pair.subscriber.sql("TRUNCATE invoices").await;
        workspace.apply().await;
        pair.wait_for_rows("SELECT note FROM invoices", &["n"]).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        nothing_was_made(&pair).await;
    }
}

/// Without a wait for the copy, nobody would learn that it fails.
#[tokio::test]
async fn rows_that_are_there_already_are_warned_of() {
    let pair = Pair::new(Major::V15, Major::V17, "held").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(Core::OpenTofu).await;
    pair.subscriber.sql("INSERT INTO orders VALUES (1); INSERT INTO customers VALUES (1); DELETE FROM customers").await;
    workspace.write("main.tf", &config(&name, "\"orders\", \"customers\"", ""));
    let held = "on the subscriber, tables hold rows before they are copied: public.";
    let created = workspace.apply().await;
    assert!(created.flat().contains(&format!("{held}orders with neonrepl")), "{}", created.text());
    pair.subscriber.sql("INSERT INTO invoices VALUES (1)").await;
    workspace.write("main.tf", &config(&name, "\"orders\", \"customers\", \"invoices\"", ""));
    let changed = workspace.apply().await;
    assert!(changed.flat().contains(&format!("{held}invoices with neonrepl")), "{}", changed.text());
    let without = config(&name, "\"orders\", \"customers\", \"invoices\"", "copy_data = false");
    workspace.destroy().await;
    workspace.write("main.tf", &without);
    let created = workspace.apply().await;
    assert!(!created.flat().contains(held), "{}", created.text());
    workspace.destroy().await;
}

#[tokio::test]
async fn a_publisher_without_room_for_the_copies_is_told() {
    let server = Server::start(Major::V17, settings([("max_replication_slots", "1")]));
    let mut pair = Pair::new(Major::V17, Major::V16, "room").await;
    pair.publisher = server.database("room_from").await;
    pair.publisher.sql("CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text); INSERT INTO orders VALUES (1, 1, 'eu')").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(Core::OpenTofu).await;
    workspace.write("main.tf", &config(&name, "\"orders\"", WAITS));
    fails(&workspace, &["copying fails repeatedly", "no replication slot left", "max_replication_slots"]).await;
    workspace.destroy().await;
    nothing_was_made(&pair).await;
}

/// The subscription's login may not read a table, and its owner may not write one.
#[tokio::test]
async fn missing_rights_are_named_with_their_grant() {
    for (core, from, to) in [(Core::OpenTofu, Major::V15, Major::V18), (Core::OpenTofu, Major::V18, Major::V16)] {
        let pair = Pair::new(from, to, "rights").await;
        let name = pair.subscriber.name.clone();
        let reader = servers::shared(from).role("reader", "REPLICATION").await;
        let owner = pair.role_of_subscriber(to, "owner", "IN ROLE pg_create_subscription").await;
        let database = quote(&pair.subscriber.name);
        pair.subscriber.sql(&format!("GRANT CREATE ON DATABASE {database} TO {}", quote(&owner.name))).await;
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        let workspace = pair.workspace_with(core, &pair.publisher.url(), &pair.subscriber.url_as(&owner)).await;
        let publisher = format!(
            "publisher {{\n    username = {:?}\n    password_wo = {:?}\n  }}\n  {WAITS}",
            reader.name, reader.password
        );
        workspace.write("main.tf", &config(&name, "\"orders\"", &publisher));
        let (reader, owner) = (quote(&reader.name), quote(&owner.name));
        let grant = format!("GRANT SELECT ON \"public\".\"orders\" TO {reader}");
        let become_owner =
            format!("GRANT \"postgres\" TO {owner}; or ALTER TABLE \"public\".\"orders\" OWNER TO {owner}");
        fails(&workspace, &["a table cannot be copied", &grant, &become_owner]).await;
        nothing_was_made(&pair).await;

        pair.publisher.sql(&grant).await;
        pair.subscriber.sql(&format!("ALTER TABLE orders OWNER TO {owner}")).await;
        workspace.apply().await;
        assert_eq!(pair.subscriber.rows("SELECT total FROM orders").await, ["1"]);
        workspace.destroy().await;
        nothing_was_made(&pair).await;
    }
}

#[tokio::test]
async fn a_copy_that_waits_for_no_reason_but_time_goes_on() {
    let pair = Pair::new(Major::V16, Major::V17, "slow").await;
    let name = pair.subscriber.name.clone();
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'), (2, 1, 'eu')").await;
    pair.subscriber
        .sql(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.id = 2 THEN \
             PERFORM pg_advisory_xact_lock(42); END IF; RETURN NEW; END $$; \
             CREATE TRIGGER pause BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pause(); \
             ALTER TABLE orders ENABLE ALWAYS TRIGGER pause",
        )
        .await;
    let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
    lock.batch_execute("SELECT pg_advisory_lock(42)").await.expect("a lock");
    let mut workspace = pair.workspace(Core::OpenTofu).await;
    workspace.env("TF_LOG_PROVIDER", "INFO");
    workspace.write("main.tf", &config(&name, "\"orders\"", WAITS));
    let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sync_error_count%' \
        AND pid <> pg_backend_pid()";
    let copying = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'd'";
    wait_until("the copy to wait", DEADLINE, async || {
        pair.subscriber.value::<i64>(copying).await > 0 && pair.subscriber.value::<i64>(looks).await > 0
    })
    .await;
    let looked: String = pair.subscriber.value("SELECT max(query_start)::text FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sync_error_count%' AND pid <> pg_backend_pid()").await;
    wait_until("several further looks", DEADLINE, async || {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sync_error_count%' AND pid <> pg_backend_pid() AND query_start > '{looked}'::timestamptz + interval '2 s'");
        pair.subscriber.value::<i64>(&sql).await > 0
    })
    .await;
    lock.batch_execute("SELECT pg_advisory_unlock(42)").await.expect("the end of the lock");
    let run = apply.wait().await;
    assert_eq!(run.code, Some(0), "{}", run.text());
    let log: Vec<_> = run.stderr.lines().filter(|line| line.contains("table=public.orders")).collect();
    for said in ["state=copying", "rows=1", "state=ready"] {
        assert!(log.iter().any(|line| line.contains(said)), "{said} is not in {log:#?}");
    }
    workspace.destroy().await;
}

/// Two servers for one test, with a row to copy.
async fn own_servers(from: Major, to: Major) -> (Server, Server, Pair) {
    let publisher = Server::start(from, settings([("synchronous_commit", "on")]));
    let subscriber = Server::start(to, settings([("synchronous_commit", "on")]));
    let pair =
        Pair { publisher: publisher.database("away_from").await, subscriber: subscriber.database("away_to").await };
    let table = "CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text)";
    pair.publisher.sql(table).await;
    pair.subscriber.sql(table).await;
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    (publisher, subscriber, pair)
}

/// The apply waits for a server that becomes unavailable; this is not a failure of the subscription.
#[tokio::test]
async fn an_outage_of_either_server_is_lived_through() {
    for (core, from, to) in [(Core::OpenTofu, Major::V18, Major::V15), (Core::Terraform, Major::V14, Major::V17)] {
        let (mut publisher, mut subscriber, pair) = own_servers(from, to).await;
        let name = pair.subscriber.name.clone();
        let mut workspace = pair.workspace(core).await;
        workspace.env("TF_LOG_PROVIDER", "INFO");
        workspace.write("main.tf", &config(&name, "\"orders\"", &WAITS.replace("50s", "5m")));
        let hold = async || {
            let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
            lock.batch_execute("BEGIN; LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE").await.expect("a lock");
            lock
        };
        let lock = hold().await;
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        let copying = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'd'";
        wait_until("the copy to wait", DEADLINE, async || pair.subscriber.value::<i64>(copying).await > 0).await;

        publisher.stop(Stop::Immediate);
        let away = Instant::now();
        // Longer than the wait for a missing worker.
        wait_until("a long outage", DEADLINE, async || away.elapsed() > Duration::from_secs(25)).await;
        publisher.restart(Settings::new());
        subscriber.stop(Stop::Immediate);
        drop(lock);
        apply.wait_for("the subscriber is away").await;
        subscriber.restart(Settings::new());

        let run = apply.wait().await;
        assert_eq!(run.code, Some(0), "{}", run.text());
        assert!(!workspace.state().contains("\"tainted\""), "{}", workspace.state());
        assert_eq!(pair.subscriber.rows("SELECT total FROM orders").await, ["1"]);
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

/// Whatever ends the wait, the error says how to keep the created objects.
#[tokio::test]
async fn an_outage_that_outlasts_the_wait_says_how_to_keep_the_subscription() {
    let (_publisher, mut subscriber, pair) = own_servers(Major::V17, Major::V18).await;
    let name = pair.subscriber.name.clone();
    let mut workspace = pair.workspace(Core::OpenTofu).await;
    workspace.env("TF_LOG_PROVIDER", "INFO");
    workspace.write("main.tf", &config(&name, "\"orders\"", &WAITS.replace("50s", "12s")));
    let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
    lock.batch_execute("BEGIN; LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE").await.expect("a lock");
    let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    let copying = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'd'";
    wait_until("the copy to wait", DEADLINE, async || pair.subscriber.value::<i64>(copying).await > 0).await;
    subscriber.stop(Stop::Immediate);
    let run = apply.wait().await;
    assert_eq!(run.code, Some(1), "{}", run.text());
    assert!(run.flat().contains("untaint`"), "{}", run.text());
    subscriber.restart(Settings::new());
    drop(lock);
    workspace.expect(&["untaint", ADDRESS], 0).await;
    pair.wait_for_rows("SELECT total FROM orders", &["1"]).await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
}
