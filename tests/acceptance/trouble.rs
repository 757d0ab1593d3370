// SPDX-License-Identifier: MPL-2.0

//! Further ways in which a replication gets stuck, each with a stage of its own, and the messages of an apply.

use std::time::Duration;

use neonrepl::replication::status::Until;

use crate::causes::{Outcome, ROW, tell};
use crate::common::cli::Core;
use crate::common::postgres::{Major, Role, SUPERUSER_PASSWORD, Server, Stop, quote, settings};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};
use crate::status::{Asked, subscribe, unsubscribe};

/// A session of the subscriber holds a lock that the worker waits for.
async fn another_session(major: Major) -> Outcome {
    let pair = Pair::new(major, major, "blocked").await;
    subscribe(&pair, "TABLE orders", "").await;
    let asked = Asked::of(&pair);
    asked.wait(Until::Ready, 3 * DEADLINE).await.unwrap();
    let holder = pair.subscriber.connect_as(&Role::superuser()).await.unwrap();
    holder.batch_execute("SET application_name = 'nightly report'; BEGIN; LOCK TABLE orders").await.unwrap();
    pair.publisher.sql(ROW).await;
    let outcome = Outcome::of("another session holds a lock", major, "blocked", &asked).await;
    let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let told = asked.status().await;
    let said = told.causes[0].to_string();
    for part in [
        "a lock on public.orders",
        "nightly report",
        "it is idle in transaction",
        &format!("pg_terminate_backend({pid});"),
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // The remedy fixes it.
    pair.subscriber.rows(&format!("SELECT pg_terminate_backend({pid})")).await;
    asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();
    assert!(asked.status().await.is_well());
    unsubscribe(&pair).await;
    outcome
}

/// A slot that is not one for subscriptions.
async fn a_wrong_slot(major: Major, slot: &str, first: &'static str) -> Outcome {
    let pair = Pair::new(major, major, "wrong_slot").await;
    let (name, port, from) = (&pair.subscriber.name, pair.publisher.port, &pair.publisher.name);
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
    pair.publisher.rows(&format!("SELECT {}", slot.replace("$name", name))).await;
    pair.subscriber
        .sql(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port={port} dbname={from} user=postgres \
             password={SUPERUSER_PASSWORD}' PUBLICATION shop WITH (connect = false)"
        ))
        .await;
    pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} ENABLE")).await;
    let outcome = Outcome::of(slot, major, first, &Asked::of(&pair)).await;
    unsubscribe(&pair).await;
    let left =
        format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'");
    pair.publisher.rows(&left).await;
    outcome
}

/// The role of the subscription may not connect any more.
async fn no_right_to_connect(major: Major) -> Outcome {
    let pair = Pair::new(major, major, "unconnected").await;
    let reader = crate::common::postgres::shared(major).role("unconnected", "REPLICATION").await;
    pair.publisher.sql(&format!("GRANT SELECT ON orders TO {}", quote(&reader.name))).await;
    subscribe(&pair, "TABLE orders", "").await;
    let asked = Asked::of(&pair);
    asked.wait(Until::Ready, 3 * DEADLINE).await.unwrap();
    let (name, port, from) = (&pair.subscriber.name, pair.publisher.port, &pair.publisher.name);
    pair.publisher.sql(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", quote(from))).await;
    pair.subscriber
        .sql(&format!(
            "ALTER SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port={port} dbname={from} user={} password={}'",
            reader.name, reader.password
        ))
        .await;
    let outcome = Outcome::of("no CONNECT", major, "no_connect", &asked).await;
    unsubscribe(&pair).await;
    outcome
}

/// Rows that are changed on the publisher and missing on the subscriber: nothing stops, but both sides differ.
async fn rows_that_are_missing() -> Outcome {
    let pair = Pair::new(Major::V18, Major::V18, "conflicts").await;
    subscribe(&pair, "TABLE orders", "").await;
    let asked = Asked::of(&pair);
    pair.publisher.sql(ROW).await;
    asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();
    pair.subscriber.sql("DELETE FROM orders").await;
    let name = &pair.subscriber.name;
    // Conflicts are reported while they are counted, and a subscription that has just begun is watched for longer.
    pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} SET (synchronous_commit = local)")).await;
    let writes = async {
        loop {
            pair.publisher.sql("UPDATE orders SET total = total + 1").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let outcome = tokio::select! {
        outcome = Outcome::of("rows are missing on the subscriber", Major::V18, "conflicts", &asked) => outcome,
        () = writes => unreachable!(),
    };
    unsubscribe(&pair).await;
    outcome
}

/// Publishers and subscribers without room, and one that has become a standby.
async fn servers_without_room(major: Major) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let publisher = Server::start(major, settings([("max_wal_senders", "1"), ("max_replication_slots", "10")]));
    let mut subscriber = Server::start(major, settings([]));
    let pair = Pair::on(&publisher, &subscriber, "crowded").await;
    pair.publisher.sql(ROW).await;
    subscribe(&pair, "TABLE orders", "").await;
    let asked = Asked::of(&pair);
    outcomes.push(Outcome::of("no WAL sender for the copy", major, "no_free_sender", &asked).await);
    subscriber.restart(settings([("max_worker_processes", "1")]));
    outcomes.push(Outcome::of("no process for the worker", major, "no_free_process", &asked).await);
    subscriber.stop(Stop::Fast);
    subscriber.write("standby.signal", "");
    subscriber.restart(settings([("hot_standby", "on"), ("max_worker_processes", "8")]));
    outcomes.push(Outcome::of("the subscriber is a standby", major, "subscriber_is_standby", &asked).await);
    outcomes
}

async fn further(major: Major) {
    let mut outcomes = servers_without_room(major).await;
    outcomes.push(another_session(major).await);
    for (slot, first) in [
        ("pg_create_physical_replication_slot('$name')", "slot_physical"),
        ("pg_create_logical_replication_slot('$name', 'test_decoding')", "slot_plugin"),
    ] {
        outcomes.push(a_wrong_slot(major, slot, first).await);
    }
    outcomes.push(no_right_to_connect(major).await);
    if major == Major::V18 {
        outcomes.push(rows_that_are_missing().await);
    }
    tell(&outcomes);
}

#[tokio::test]
async fn further_causes_are_named_first_on_14() {
    further(Major::V14).await;
}

#[tokio::test]
async fn further_causes_are_named_first_on_18() {
    further(Major::V18).await;
}

/// A subscription whose plan was made before it got stuck: the apply changes it, and says why it does not run.
async fn an_update_warns(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "updated").await;
    let workspace = pair.workspace(core).await;
    let name = pair.subscriber.name.clone();
    let config = |further: &str| {
        format!(
            "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [\"shop\"]\n{further}}}\n"
        )
    };
    let apply_late = async |further: &str, publisher: &str, subscriber: &str| {
        workspace.write("main.tf", &config(further));
        workspace.expect(&["plan", "-no-color", "-out=late"], 0).await;
        pair.publisher.sql(publisher).await;
        pair.subscriber.sql(subscriber).await;
        workspace.expect(&["apply", "-no-color", "late"], 0).await
    };
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
    pair.publisher.sql(ROW).await;
    workspace.write("main.tf", &config("  enabled = false\n"));
    workspace.apply().await;

    let stuck = apply_late("", "", "INSERT INTO orders VALUES (100, 2, 'us')").await;
    for said in ["does not replicate everything", "public.orders already held rows on the subscriber", "TRUNCATE"] {
        assert!(stuck.flat().contains(said), "{said} is not in {}", stuck.text());
    }
    pair.subscriber.sql("TRUNCATE orders").await;
    pair.wait_for_rows("SELECT id FROM orders", &["100"]).await;
    let asked = Asked::of(&pair);
    asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();

    let well = apply_late("  streaming = \"on\"\n", "", "").await;
    assert!(!well.text().contains("Warning"), "{}", well.text());
    let broken = "ALTER TABLE orders ADD note text; INSERT INTO orders VALUES (101, 1, 'eu', 'n')";
    let stops = apply_late("  streaming = \"off\"\n", broken, "").await;
    for said in ["replicates nothing", "Table public.orders lacks column note", "ADD COLUMN \"note\" text"] {
        assert!(stops.flat().contains(said), "{said} is not in {}", stops.text());
    }
    // A subscription that is disabled on purpose has no worker, which is not a problem.
    let disabled = apply_late("  enabled = false\n", "", "ALTER TABLE orders ADD note text").await;
    assert!(!disabled.text().contains("Warning"), "{}", disabled.text());
    workspace.destroy().await;
    wait_until("the slot to go", DEADLINE, async || pair.slots().await.is_empty()).await;
}

#[tokio::test]
async fn an_update_of_what_is_stuck_warns_in_terraform() {
    an_update_warns(Core::Terraform, Major::V14, Major::V18).await;
}

#[tokio::test]
async fn an_update_of_what_is_stuck_warns_in_opentofu() {
    an_update_warns(Core::OpenTofu, Major::V18, Major::V14).await;
}
