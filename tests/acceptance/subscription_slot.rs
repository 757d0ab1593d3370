// SPDX-License-Identifier: MPL-2.0

//! Another slot for an existing subscription, and a subscription that is created a second time.

use neonrepl::postgres::Limits;
use neonrepl::postgres::subscription::{self, How, SlotName, Subscription};
use neonrepl::replication::slot_change::SlotChange;
use neonrepl::replication::{Error, Operation};

use crate::catalog;
use crate::common::cli::{Core, says};
use crate::common::postgres::{Database, Major, Role};
use crate::common::wait::wait_until;
use crate::creation::Heard;
use crate::replication::{DEADLINE, Pair};

const ADDRESS: &str = "neonrepl_subscription.shop";

/// A subscription to the publication `shop`, with these further arguments.
pub(crate) fn config(name: &str, arguments: &str) -> String {
    format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name         = \"{name}\"\n  publications = [\"shop\"]\n{arguments}}}\n"
    )
}

async fn publish(pair: &Pair) {
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
}

async fn make_slot(database: &Database, name: &str) {
    database.rows(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await;
}

async fn slot_of(pair: &Pair) -> String {
    let query = "SELECT subslotname::text FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    pair.subscriber.value(query).await
}

async fn drop_slot(pair: &Pair, name: &str) {
    wait_until("the old slot to be free", DEADLINE, async || {
        pair.publisher.try_sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await.is_ok()
    })
    .await;
}

/// The new slot's position is after changes that wait for a lock on the subscriber.
#[tokio::test]
async fn a_slot_changes_once_what_is_older_has_been_applied() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V14, Major::V18), (Major::V18, Major::V16)]) {
        let pair = Pair::new(from, to, "lagging").await;
        let name = pair.subscriber.name.clone();
        publish(&pair).await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.apply().await;
        let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
        lock.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
        for order in 1..=9 {
            pair.publisher.sql(&format!("INSERT INTO orders VALUES ({order}, 1, 'eu')")).await;
        }
        let new = format!("{name}_b");
        make_slot(&pair.publisher, &new).await;
        pair.publisher.sql("INSERT INTO orders SELECT n, 1, 'eu' FROM generate_series(10, 12) n").await;
        workspace
            .write("main.tf", &config(&name, &format!("  wait_for_initial_sync = true\n  slot_name = \"{new}\"\n")));
        says(
            &workspace.plan().await,
            &["changes over to replication slot", &format!("SELECT pg_drop_replication_slot('{name}')")],
        );
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND query LIKE '%confirmed_flush_lsn >=%' AND pid <> pg_backend_pid()";
        wait_until("the apply to wait or to go on", DEADLINE, async || {
            pair.publisher.value::<i64>(looks).await > 0 || slot_of(&pair).await == new
        })
        .await;
        assert_eq!(slot_of(&pair).await, name, "it must not change while what is older waits for the lock");
        lock.batch_execute("COMMIT").await.expect("the end of the lock");
        let run = apply.wait().await;
        assert_eq!(run.code, Some(0), "{}", run.text());
        says(&run, &["stays on the publisher", &format!("SELECT pg_drop_replication_slot('{name}')")]);
        pair.wait_for_rows("SELECT count(*) FROM orders", &["12"]).await;
        pair.publisher.sql("INSERT INTO orders VALUES (13, 1, 'eu')").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["13"]).await;
        drop_slot(&pair, &name).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_slot_that_would_lose_what_a_disabled_subscription_waits_for_is_refused() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V18, Major::V14), (Major::V15, Major::V17)]) {
        let pair = Pair::new(from, to, "pending").await;
        let name = pair.subscriber.name.clone();
        publish(&pair).await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.apply().await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n  enabled = false\n"));
        workspace.apply().await;
        wait_until("the slot to be idle", DEADLINE, async || {
            pair.publisher.rows(&format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'")).await
                == ["f"]
        })
        .await;
        pair.publisher.sql("INSERT INTO orders SELECT n, 1, 'eu' FROM generate_series(1, 10) n").await;
        let new = format!("{name}_b");
        make_slot(&pair.publisher, &new).await;
        for enabled in [false, true] {
            let arguments = format!("  wait_for_initial_sync = true\n  enabled = {enabled}\n  slot_name = \"{new}\"\n");
            workspace.write("main.tf", &config(&name, &arguments));
            let refused = workspace.plan().await;
            assert_eq!(refused.code, Some(1), "{}", refused.text());
            says(&refused, &["would be lost", "Nothing was changed", "Enable it with its old slot first"]);
        }
        let failed = workspace.apply_error().await;
        says(&failed, &["would be lost"]);
        assert_eq!(slot_of(&pair).await, name);

        // The remedy from the error.
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.apply().await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["10"]).await;
        workspace
            .write("main.tf", &config(&name, &format!("  wait_for_initial_sync = true\n  slot_name = \"{new}\"\n")));
        workspace.apply().await;
        pair.publisher.sql("INSERT INTO orders VALUES (11, 1, 'eu')").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["11"]).await;
        drop_slot(&pair, &name).await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

/// A missing slot is created at the old one's position, and the old one is dropped.
#[tokio::test]
async fn a_slot_gets_another_name() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V14, Major::V15), (Major::V18, Major::V18)]) {
        let pair = Pair::new(from, to, "renamed").await;
        let name = pair.subscriber.name.clone();
        publish(&pair).await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.apply().await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n  enabled = false\n"));
        workspace.apply().await;
        pair.publisher.sql("INSERT INTO orders SELECT n, 1, 'eu' FROM generate_series(1, 10) n").await;
        let arguments = format!("  wait_for_initial_sync = true\n  slot_name = \"{name}_new\"\n");
        workspace.write("main.tf", &config(&name, &arguments));
        says(&workspace.plan().await, &["is created as a copy"]);
        workspace.apply().await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["10"]).await;
        assert_eq!(pair.slots().await, [format!("{name}_new")]);
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);

        // Without create_slot it is not created, and nothing is changed.
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        pair.subscriber.sql("TRUNCATE orders").await;
        workspace.apply().await;
        workspace.write("main.tf", &config(&name, &format!("  create_slot = false\n{arguments}")));
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        says(&plan, &["create_slot is false", "pg_copy_logical_replication_slot"]);
        says(&workspace.apply_error().await, &["there is no replication slot", "Nothing was changed"]);
        assert_eq!(slot_of(&pair).await, name);
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.destroy().await;
    }
}

/// Gives a subscription another slot, as an update does.
async fn change_over(pair: &Pair, publisher: &Database, name: &str, slot: &str) -> Result<(), String> {
    let role = Role::superuser();
    let (publisher, subscriber) = (catalog::connect(publisher, &role), catalog::connect(&pair.subscriber, &role));
    let current = subscription::fetch_now(&subscriber, &catalog::ident(name)).await.unwrap().unwrap();
    let desired = Subscription { slot: Some(SlotName::Named(catalog::ident(slot))), ..current.clone() };
    let limits = Limits::within(DEADLINE);
    let heard = Heard::default();
    let operation = Operation::new("changing", limits.clone(), &heard);
    let servers = (Some(&publisher), &subscriber);
    let change = SlotChange::of(&operation, servers, &current, &desired, false).unwrap();
    let way = change.prepare().await.map_err(|refused| refused.to_string())?;
    let alter = async {
        let version = subscriber.version().await?;
        let statements = subscription::diff(Some(&current), Some(&desired), &How::default(), version).unwrap();
        let (_, found) = subscription::apply(&subscriber, "changing", &statements, &desired.name, &limits).await?;
        Ok::<_, Error>(found.unwrap())
    };
    change.change_over(&way, alter).await.map_err(|refused| refused.to_string())?;
    change.finish(&way).await;
    Ok(())
}

/// Two subscriptions, of one cluster and of two, that change over to one slot in the same moment.
#[tokio::test]
async fn of_two_that_change_over_to_one_slot_one_does() {
    let mut tries = 0;
    for (from, to, beside) in [(Major::V15, Major::V18, Major::V16), (Major::V18, Major::V14, Major::V14)] {
        let [one, other] = [Pair::new(from, to, "over").await, Pair::new(from, beside, "over").await];
        publish(&one).await;
        let connection = one.publisher.url();
        let [first, second] = [&one, &other].map(|pair| pair.subscriber.name.clone());
        for number in 0..8 {
            let new = format!("{first}_{number}");
            make_slot(&one.publisher, &new).await;
            for pair in [&one, &other] {
                let name = &pair.subscriber.name;
                let make = format!(
                    "CREATE SUBSCRIPTION {name} CONNECTION '{connection}' PUBLICATION shop WITH (copy_data = false)"
                );
                pair.subscriber.sql(&make).await;
            }
            one.publisher.sql(&format!("INSERT INTO orders VALUES ({number}, 1, 'eu')")).await;
            for name in [&first, &second] {
                let reads = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'");
                wait_until("both to read", DEADLINE, async || one.publisher.rows(&reads).await == ["t"]).await;
            }
            let (a, b) = tokio::join!(
                change_over(&one, &one.publisher, &first, &new),
                change_over(&other, &one.publisher, &second, &new)
            );
            let slots = [slot_of(&one).await, slot_of(&other).await];
            assert!(a.is_ok() != b.is_ok(), "{slots:?} {a:?} {b:?}");
            let refused = a.as_ref().err().or(b.as_ref().err()).unwrap();
            assert!(refused.contains("Nothing was changed"), "{refused}");
            assert_eq!(slots.iter().filter(|slot| **slot == new).count(), 1, "{slots:?} {a:?} {b:?}");
            for pair in [&one, &other] {
                pair.subscriber.sql(&format!("DROP SUBSCRIPTION {}", pair.subscriber.name)).await;
            }
            let left = if a.is_ok() { &first } else { &second };
            drop_slot(&one, left).await;
            assert_eq!(one.slots().await, [""; 0]);
            tries += 1;
        }
    }
    println!("two changes over to one slot at once: {tries} tries");
}

#[tokio::test]
async fn a_replacement_is_told_with_what_it_costs() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V16, Major::V18), (Major::V17, Major::V15)]) {
        let pair = Pair::new(from, to, "again").await;
        let name = pair.subscriber.name.clone();
        publish(&pair).await;
        pair.publisher.sql("INSERT INTO orders SELECT n, 1, 'eu' FROM generate_series(1, 10) n").await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.apply().await;
        let replace = format!("-replace={ADDRESS}");
        let refused = workspace.expect(&["plan", "-no-color", &replace], 1).await;
        let empty = format!("ALTER SUBSCRIPTION \"{name}\" DISABLE; TRUNCATE \"public\".\"orders\";");
        let told = [
            "every row would be copied again",
            "Tables: 1, with ",
            "KiB on the subscriber",
            &empty,
            "copy_data = false",
        ];
        says(&refused, &told);
        // The remedy from the error.
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await;
        pair.subscriber.sql("TRUNCATE orders").await;
        workspace.expect(&["apply", "-auto-approve", "-no-color", &replace], 0).await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["10"]).await;
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n  database = \"postgres\"\n"));
        let plan = workspace.expect(&["plan", "-no-color"], 0).await;
        says(&plan, &["must be replaced", "Every row is copied into database \"postgres\""]);
        workspace.write("main.tf", &config(&name, "  wait_for_initial_sync = true\n"));
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}
