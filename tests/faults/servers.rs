// SPDX-License-Identifier: MPL-2.0

//! Problems of servers: unavailable, not set up, or without the resources for a subscription.

use crate::common::cli::says;
use crate::common::postgres::{Major, Role, Settings, Stop, settings};
use crate::common::wait::wait_until;
use crate::lane::{DEADLINE, Lane};
use crate::matrix::SUBSCRIPTION;
use crate::{Case, case};

pub(crate) fn cases() -> Vec<Case> {
    let kind = "subscription";
    vec![
        case!(kind, "create", "throughout", "publisher away", create_without_publisher),
        case!(kind, "create", "throughout", "subscriber away", create_without_subscriber),
        case!(kind, "refresh", "throughout", "publisher away", refresh_without_publisher),
        case!(kind, "destroy", "throughout", "publisher away", destroy_without_publisher),
        case!(kind, "destroy with force_destroy", "throughout", "publisher away", force_destroy),
        case!(kind, "destroy with force_destroy", "while a table is copied", "publisher away", force_destroy_copying),
        case!(
            kind,
            "create",
            "connecting",
            "no such database",
            wrong_connection,
            "database = \"nowhere\"",
            "does not exist"
        ),
        case!(
            kind,
            "create",
            "connecting",
            "no such role",
            wrong_connection,
            "username = \"nobody\"\n    password = \"wrong\"",
            "authentication failed"
        ),
        case!(
            kind,
            "create",
            "connecting",
            "wrong password",
            wrong_connection,
            "password = \"wrong\"",
            "authentication failed"
        ),
        case!(kind, "create", "making the slot", "wal_level too low", wal_level),
        case!(kind, "create", "making the slot", "no slot is free", no_free_slot),
        case!(kind, "create", "making the slot", "a role without REPLICATION", no_replication),
        case!(kind, "create", "subscribing", "table missing on the subscriber", missing_table),
        case!(kind, "refresh", "subscribing", "table missing on the subscriber", missing_table_at_refresh),
        case!(kind, "create", "subscribing", "a view on the subscriber", view),
        case!(kind, "create", "subscribing", "no such publication", no_publication).on(|_, to| to >= Major::V15),
        case!(kind, "create", "subscribing", "different column lists", column_lists)
            .on(|from, to| from.min(to) >= Major::V15),
        case!(kind, "destroy", "while the copy fails", "duplicate key", failing_copy),
        case!(kind, "plan", "afterwards", "sent to another database", another_database),
        case!("publication", "apply", "afterwards", "dropped under a subscription", dropped_publication),
        case!(
            "publication",
            "destroy",
            "the subscription stays",
            "its database is away",
            publisher_gone_for_publication
        ),
    ]
}

const NOTHING: [&str; 0] = [];
const SUBSCRIBED: [&str; 2] = ["slot shop", "subscription shop given of postgres"];

fn with(arguments: &str) -> String {
    SUBSCRIPTION.replace('}', &format!("  {arguments}\n}}"))
}

/// Applies a valid configuration after a refusal that must have left nothing, and destroys it.
async fn make_and_clean(lane: &Lane) {
    lane.expect_nothing().await;
    lane.apply(SUBSCRIPTION).await;
    assert_eq!(lane.objects().await, SUBSCRIBED);
    lane.clean().await;
}

async fn create_without_publisher(lane: &mut Lane) -> String {
    lane.publisher.server.stop(Stop::Immediate);
    lane.refuse(SUBSCRIPTION, &["creating subscription \"shop\"", "could not connect to the publisher", "(08006)"])
        .await;
    assert_eq!(lane.state(), NOTHING);
    lane.publisher.server.restart(Settings::new());
    make_and_clean(lane).await;
    "refused; the next apply made it".to_owned()
}

async fn create_without_subscriber(lane: &mut Lane) -> String {
    lane.subscriber.server.stop(Stop::Immediate);
    lane.refuse(SUBSCRIPTION, &["subscription \"shop\"", "cannot connect"]).await;
    assert_eq!(lane.state(), NOTHING);
    lane.subscriber.server.restart(Settings::new());
    make_and_clean(lane).await;
    "refused; the next apply made it".to_owned()
}

async fn refresh_without_publisher(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    lane.publisher.server.stop(Stop::Immediate);
    let changed = with("refresh_triggers = { a = \"b\" }");
    lane.refuse(&changed, &["changing subscription \"shop\"", "could not connect to the publisher"]).await;
    lane.publisher.server.restart(Settings::new());
    lane.apply(&changed).await;
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    "refused; the next apply did it".to_owned()
}

async fn destroy_without_publisher(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    lane.publisher.server.stop(Stop::Immediate);
    lane.refuse("", &["dropping subscription \"shop\"", "force_destroy = true"]).await;
    assert_eq!(lane.state(), ["subscription shop given of postgres"]);
    lane.publisher.server.restart(Settings::new());
    lane.clean().await;
    "refused with what to do; the next destroy dropped it".to_owned()
}

async fn force_destroy(lane: &mut Lane) -> String {
    lane.apply(&with("force_destroy = true\n  wait_for_initial_sync = true")).await;
    lane.publisher.server.stop(Stop::Immediate);
    let run = lane.apply("").await;
    says(&run, &["replication slot \"shop\" stays on the publisher", "SELECT pg_drop_replication_slot('shop')"]);
    lane.publisher.server.restart(Settings::new());
    assert_eq!(lane.objects().await, ["slot shop"]);
    lane.publisher.database.value::<String>("SELECT pg_drop_replication_slot('shop')::text").await;
    lane.expect_nothing().await;
    "dropped; the warning says how to remove the slot".to_owned()
}

async fn force_destroy_copying(lane: &mut Lane) -> String {
    let held = lane.subscriber.database.connect_as(&Role::superuser()).await.unwrap();
    lane.publisher.database.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    // The copy waits for the end of the transaction with the same key.
    held.batch_execute("BEGIN; INSERT INTO orders VALUES (1, 1, 'eu')").await.unwrap();
    lane.apply(&with("force_destroy = true")).await;
    let slots = "SELECT slot_name::text FROM pg_replication_slots ORDER BY slot_name = 'shop'";
    let all = "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL";
    wait_until("the copy to begin", DEADLINE, async || lane.publisher.database.value::<i64>(all).await == 2).await;
    let copies: String = lane.publisher.database.rows(slots).await.remove(0);
    lane.publisher.server.stop(Stop::Immediate);
    drop(held);
    let run = lane.apply("").await;
    lane.publisher.server.restart(Settings::new());
    for slot in [copies.as_str(), "shop"] {
        says(&run, &[&format!("SELECT pg_drop_replication_slot('{slot}')")]);
        lane.publisher.database.value::<String>(&format!("SELECT pg_drop_replication_slot('{slot}')::text")).await;
    }
    lane.expect_nothing().await;
    lane.empty_tables().await;
    "dropped; the warnings say how to remove both slots".to_owned()
}

async fn wrong_connection(lane: &mut Lane, part: &str, said: &str) -> String {
    let wrong = with(&format!("publisher {{\n    {part}\n  }}"));
    // The plan logs in like the subscription.
    lane.refuse(&wrong, &["planning subscription \"shop\"", said]).await;
    make_and_clean(lane).await;
    "refused; nothing is left".to_owned()
}

async fn wal_level(lane: &mut Lane) -> String {
    lane.publisher.server.restart(settings([("wal_level", "replica")]));
    lane.refuse(SUBSCRIPTION, &["logical decoding requires", "must run with wal_level = logical"]).await;
    lane.publisher.server.restart(settings([("wal_level", "logical")]));
    make_and_clean(lane).await;
    "refused with what to do; the next apply made it".to_owned()
}

async fn no_free_slot(lane: &mut Lane) -> String {
    lane.publisher.server.restart(settings([("max_replication_slots", "1")]));
    let other = "SELECT slot_name::text FROM pg_create_logical_replication_slot('other', 'pgoutput')";
    lane.publisher.database.value::<String>(other).await;
    lane.refuse(SUBSCRIPTION, &["all replication slots are in use", "max_replication_slots"]).await;
    lane.publisher.database.value::<String>("SELECT pg_drop_replication_slot('other')::text").await;
    lane.publisher.server.restart(settings([("max_replication_slots", "100")]));
    make_and_clean(lane).await;
    "refused with what to do; the next apply made it".to_owned()
}

async fn no_replication(lane: &mut Lane) -> String {
    let role = lane.publisher.server.role("plain", "").await;
    let connection = format!("username = {:?}\n    password = {:?}", role.name, role.password);
    let wrong = with(&format!("publisher {{\n    {connection}\n  }}"));
    let remedy = format!("ALTER ROLE \"{}\" REPLICATION;", role.name);
    lane.refuse(&wrong, &["planning subscription \"shop\"", "to start", &remedy]).await;
    make_and_clean(lane).await;
    "refused; nothing is left".to_owned()
}

async fn missing_table(lane: &mut Lane) -> String {
    lane.subscriber.database.sql("ALTER TABLE orders RENAME TO elsewhere").await;
    lane.refuse(SUBSCRIPTION, &["public.orders: it is not a table on the subscriber"]).await;
    lane.expect_nothing().await;
    lane.subscriber.database.sql("ALTER TABLE elsewhere RENAME TO orders").await;
    make_and_clean(lane).await;
    "refused; nothing is left".to_owned()
}

async fn missing_table_at_refresh(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    lane.publisher.database.sql("CREATE TABLE only_here (id int PRIMARY KEY)").await;
    lane.publisher.database.sql("ALTER PUBLICATION given ADD TABLE only_here").await;
    lane.refuse(SUBSCRIPTION, &["relation \"public.only_here\" does not exist (42P01)"]).await;
    lane.subscriber.database.sql("CREATE TABLE only_here (id int PRIMARY KEY)").await;
    lane.apply(SUBSCRIPTION).await;
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    for side in [&lane.publisher, &lane.subscriber] {
        side.database.sql("DROP TABLE only_here").await;
    }
    "refused; once the table is there, the next apply did it".to_owned()
}

async fn view(lane: &mut Lane) -> String {
    lane.subscriber.database.sql("ALTER TABLE orders RENAME TO elsewhere; CREATE VIEW orders AS SELECT 1 AS id").await;
    lane.refuse(SUBSCRIPTION, &["public.orders: it is not a table on the subscriber"]).await;
    lane.expect_nothing().await;
    lane.subscriber.database.sql("DROP VIEW orders; ALTER TABLE elsewhere RENAME TO orders").await;
    make_and_clean(lane).await;
    "refused; nothing is left".to_owned()
}

async fn no_publication(lane: &mut Lane) -> String {
    let said = ["there is no publication \"nowhere\"", "Create the publication first"];
    lane.refuse(&SUBSCRIPTION.replace("given", "nowhere"), &said).await;
    lane.expect_nothing().await;
    "refused; nothing is left".to_owned()
}

async fn column_lists(lane: &mut Lane) -> String {
    let lists =
        "CREATE PUBLICATION given_a FOR TABLE orders (id); CREATE PUBLICATION given_b FOR TABLE orders (id, total)";
    lane.publisher.database.sql(lists).await;
    let both = SUBSCRIPTION.replace("\"given\"", "\"given_a\", \"given_b\"");
    lane.refuse(&both, &["public.orders: publications \"given_a\", \"given_b\" send different columns of it"]).await;
    lane.publisher.database.sql("DROP PUBLICATION given_a, given_b").await;
    make_and_clean(lane).await;
    "refused; nothing is left".to_owned()
}

async fn failing_copy(lane: &mut Lane) -> String {
    for side in [&lane.publisher, &lane.subscriber] {
        side.database.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    }
    lane.apply(SUBSCRIPTION).await;
    lane.wait_for_rows("SELECT DISTINCT srsubstate FROM pg_subscription_rel", &["d"]).await;
    lane.clean().await;
    lane.empty_tables().await;
    "dropped, with every slot of it".to_owned()
}

async fn another_database(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    let conninfo: String = lane.subscriber.database.value("SELECT subconninfo FROM pg_subscription").await;
    let elsewhere = conninfo.replace(&format!("dbname={}", lane.publisher.database.name), "dbname=postgres");
    assert_ne!(conninfo, elsewhere);
    let alter = format!("ALTER SUBSCRIPTION shop CONNECTION '{}'", elsewhere.replace('\'', "''"));
    lane.subscriber.database.sql(&alter).await;
    lane.plan_says(&["connection_differs", "\"dbname\"", "1 to change"]).await;
    lane.apply(SUBSCRIPTION).await;
    lane.publisher.database.sql("INSERT INTO orders VALUES (2, 1, 'eu')").await;
    lane.wait_for_rows("SELECT id FROM orders", &["2"]).await;
    lane.clean().await;
    lane.empty_tables().await;
    "the plan says so; the apply sends it back".to_owned()
}

/// Nothing is written meanwhile: later changes are decoded with the new publication.
async fn dropped_publication(lane: &mut Lane) -> String {
    let both = format!(
        "{}{}",
        crate::matrix::PUBLICATION,
        SUBSCRIPTION.replace("\"given\"", "neonrepl_publication.shop.name")
    );
    lane.apply(&both).await;
    lane.publisher.database.sql("DROP PUBLICATION shop").await;
    lane.plan_says(&["neonrepl_publication.shop will be created"]).await;
    lane.apply(&both).await;
    lane.publisher.database.sql("INSERT INTO orders VALUES (3, 1, 'eu')").await;
    lane.wait_for_rows("SELECT id FROM orders", &["3"]).await;
    lane.clean().await;
    lane.empty_tables().await;
    "the next apply made it again, and rows flow".to_owned()
}

async fn publisher_gone_for_publication(lane: &mut Lane) -> String {
    lane.apply(crate::matrix::PUBLICATION).await;
    lane.publisher.server.stop(Stop::Immediate);
    lane.refuse("", &["cannot connect"]).await;
    assert_eq!(lane.state(), ["publication shop orders of postgres"]);
    lane.publisher.server.restart(Settings::new());
    lane.clean().await;
    "refused; the next destroy dropped it".to_owned()
}
