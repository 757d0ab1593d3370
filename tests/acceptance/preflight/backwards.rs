// SPDX-License-Identifier: MPL-2.0

//! Errors about the way back, each tried in that direction: changes flow from the subscriber to the publisher.

use neonrepl::replication::Place;
use neonrepl::replication::preflight::Question;

use super::looking::{Held, Looking, logged, refused, subscribe, tables, unsubscribe};
use crate::common::postgres::{self as servers, Database, Major, Role, Server, quote, settings};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair, subscribers};

const PUB: Place = Place::Publisher;
const SUB: Place = Place::Subscriber;
const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

fn there_and_back(names: &[&str]) -> Question {
    Question { reverse: true, ..tables(names) }
}

/// The same pair, seen from the other side.
fn turned(pair: &Pair, publisher: &Server, subscriber: &Server) -> Pair {
    Pair { publisher: subscriber.open(&pair.subscriber.name), subscriber: publisher.open(&pair.publisher.name) }
}

/// What the subscriber's server lacks as a publisher, and the publisher's to run a subscription.
async fn rooms(held: &mut Held, major: Major) {
    let mut from = Server::start(major, settings([]));
    let mut to = Server::start(major, settings([("wal_level", "replica")]));
    let pair = Pair { publisher: from.database("from").await, subscriber: to.database("to").await };
    let back = turned(&pair, &from, &to);
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    let returning = Looking { publisher: (&back.publisher, &superuser), subscriber: (&back.subscriber, &superuser) };
    let question = there_and_back(&["t"]);
    pair.publisher.sql(TABLE).await;
    pair.subscriber.sql(&format!("{TABLE}; CREATE PUBLICATION t FOR TABLE t")).await;
    let create = format!(
        "CREATE SUBSCRIPTION s CONNECTION {} PUBLICATION t WITH (copy_data = false)",
        returning.connection(&superuser)
    );
    held.called(&looking.report(&question).await, "wal_level", SUB, "wal_level");
    refused(&back.subscriber, &superuser, &create, "wal_level").await;

    to.restart(settings([("wal_level", "logical"), ("max_replication_slots", "1")]));
    pair.subscriber.sql("SELECT pg_create_logical_replication_slot('other', 'pgoutput')").await;
    held.called(&looking.report(&question).await, "replication_slots", SUB, "max_replication_slots");
    refused(&back.subscriber, &superuser, &create, "all replication slots are in use").await;
    pair.subscriber.sql("SELECT pg_drop_replication_slot('other')").await;
    to.restart(settings([("max_replication_slots", "10"), ("max_wal_senders", "0")]));
    held.called(&looking.report(&question).await, "wal_senders", SUB, "max_wal_senders");
    refused(&back.subscriber, &superuser, &create, "number of requested standby connections exceeds").await;
    to.restart(settings([("max_wal_senders", "10")]));

    // Another database of the publisher's server uses up all resources.
    let busy = Pair { publisher: to.database("busy").await, subscriber: from.database("busy").await };
    busy.publisher.sql(&format!("{TABLE}; CREATE PUBLICATION t FOR TABLE t")).await;
    busy.subscriber.sql(TABLE).await;
    let taking = Looking { publisher: (&busy.publisher, &superuser), subscriber: (&busy.subscriber, &superuser) };
    subscribe(&busy, &taking, &superuser, "busy", "t").await;
    let ready = "SELECT 1 FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    wait_until("the copy", DEADLINE, async || busy.subscriber.rows(ready).await.is_empty()).await;
    let origins = if major < Major::V18 { "max_replication_slots" } else { "max_active_replication_origins" };
    for (check, setting, limits, words) in [
        (
            "replication_workers",
            "max_logical_replication_workers",
            settings([("max_logical_replication_workers", "1")]),
            "out of logical replication worker slots",
        ),
        (
            "replication_origins",
            origins,
            settings([("max_logical_replication_workers", "10"), (origins, "1")]),
            "could not find free replication state",
        ),
    ] {
        from.restart(limits);
        busy.publisher.sql("INSERT INTO t SELECT coalesce(max(id), 0) + 1 FROM t").await;
        let there: i64 = busy.publisher.value("SELECT count(*) FROM t").await;
        busy.wait_for_rows("SELECT count(*) FROM t", &[&there.to_string()]).await;
        held.called(&looking.report(&question).await, check, PUB, setting);
        back.subscriber.sql(&create).await;
        logged(&from, words).await;
        unsubscribe(&back.subscriber).await;
    }
    unsubscribe(&busy.subscriber).await;
}

/// The rights that the roles lack in that direction.
async fn roles(held: &mut Held, pair: &Pair, major: Major) {
    let maker = servers::shared(major).role("back_maker", "").await;
    let other = pair.role_of_subscriber(major, "back_login", "").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &maker), subscriber: (&pair.subscriber, &other) };
    let back = Looking { publisher: (&pair.subscriber, &other), subscriber: (&pair.publisher, &maker) };
    let report = looking.report(&there_and_back(&["orders"])).await;
    held.called(&report, "role_replication", SUB, &other.name);
    pair.subscriber.sql("CREATE PUBLICATION back FOR TABLE orders").await;
    let create = |name: &str| {
        format!(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION back WITH (copy_data = false)",
            quote(name),
            back.connection(&other)
        )
    };
    let words = match major < Major::V16 {
        true => "must be superuser or replication role",
        false => "permission denied to start WAL sender",
    };
    refused(&pair.publisher, &superuser, &create("s"), words).await;

    held.called(&report, "create_subscription", PUB, &maker.name);
    pair.subscriber.sql(&format!("ALTER ROLE {} REPLICATION", quote(&other.name))).await;
    if major < Major::V16 {
        refused(&pair.publisher, &maker, &create("s"), "must be superuser to create subscriptions").await;
    } else {
        refused(&pair.publisher, &maker, &create("s"), "permission denied to create subscription").await;
        let (database, role) = (quote(&pair.publisher.name), quote(&maker.name));
        pair.publisher
            .sql(&format!("GRANT pg_create_subscription TO {role}; GRANT CREATE ON DATABASE {database} TO {role}"))
            .await;
        held.called(&looking.report(&there_and_back(&["orders"])).await, "way_back", PUB, "orders");
        let client = pair.publisher.connect_as(&maker).await.unwrap();
        client.batch_execute(&create(&format!("{}_set_role", pair.publisher.name))).await.unwrap();
        pair.subscriber.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        logged(servers::shared(major), &format!("role \"{}\" cannot SET ROLE to \"postgres\"", maker.name)).await;
        unsubscribe(&pair.publisher).await;
        pair.subscriber.sql("DELETE FROM orders").await;
    }

    // A role that may not read the tables still gets their changes, because nothing is copied.
    let sound = Looking { publisher: (&pair.publisher, &superuser), ..looking };
    let report = sound.report(&there_and_back(&["orders"])).await;
    assert!(!report.findings.iter().any(|finding| finding.check == "way_back"), "{}", super::looking::shown(&report));
    pair.publisher.sql(&create(&format!("{}_reads", pair.publisher.name))).await;
    pair.subscriber.sql("INSERT INTO orders VALUES (2, 2, 'eu')").await;
    let arrived = "SELECT id FROM orders";
    wait_until("the row that flows back", DEADLINE, async || pair.publisher.rows(arrived).await == ["2"]).await;
    unsubscribe(&pair.publisher).await;
    pair.publisher.sql("DELETE FROM orders").await;
    pair.subscriber.sql("DROP PUBLICATION back; DELETE FROM orders").await;
}

/// Tables whose changes cannot flow back: the objects on both sides, and the publisher's error.
const TABLES: [(&str, &str, &str, &str); 3] = [
    (
        "narrow",
        "CREATE TABLE narrow (id int PRIMARY KEY)",
        "CREATE TABLE narrow (id int PRIMARY KEY, extra int)",
        "\"public.narrow\" is missing replicated column: \"extra\"",
    ),
    (
        "reckoned",
        "CREATE TABLE reckoned (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "CREATE TABLE reckoned (id int PRIMARY KEY, twice int)",
        "logical replication target relation \"public.reckoned\"",
    ),
    (
        "strict",
        "CREATE TABLE strict (id int PRIMARY KEY, must int NOT NULL)",
        "CREATE TABLE strict (id int PRIMARY KEY)",
        "null value in column \"must\" of relation \"strict\" violates not-null constraint",
    ),
];

async fn rows(held: &mut Held, pair: &Pair, major: Major) {
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    let turned = Pair { publisher: open(&pair.subscriber), subscriber: open(&pair.publisher) };
    let back = Looking { publisher: looking.subscriber, subscriber: looking.publisher };
    for (table, here, there, words) in TABLES {
        pair.publisher.sql(here).await;
        pair.subscriber.sql(&format!("{there}; CREATE PUBLICATION {table} FOR TABLE {table}")).await;
        held.called(&looking.report(&there_and_back(&[table])).await, "way_back", PUB, table);
        subscribe(&turned, &back, &superuser, &format!("{}_{table}", pair.publisher.name), table).await;
        pair.subscriber.sql(&format!("INSERT INTO {table} (id) VALUES (1)")).await;
        logged(servers::shared(major), words).await;
        unsubscribe(&pair.publisher).await;
    }
    pair.publisher.sql("CREATE TABLE keyless (id int PRIMARY KEY)").await;
    pair.subscriber.sql("CREATE TABLE keyless (id int); INSERT INTO keyless VALUES (1)").await;
    held.called(&looking.report(&there_and_back(&["keyless"])).await, "replica_identity", SUB, "keyless");
    pair.subscriber.sql("CREATE PUBLICATION keyless FOR TABLE keyless").await;
    refused(&pair.subscriber, &superuser, "UPDATE keyless SET id = 2", "does not have a replica identity").await;
}

fn open(database: &Database) -> Database {
    Database::at(database.port, &database.name)
}

async fn errors_are_real(major: Major) {
    let pair = Pair::new(major, major, "preflight_back").await;
    assert_eq!(pair.subscriber.port, subscribers(major).port());
    let mut held = Held::default();
    rooms(&mut held, major).await;
    roles(&mut held, &pair, major).await;
    rows(&mut held, &pair, major).await;
    held.count(&format!("the way back on {}", major.number()));
}

#[tokio::test]
async fn errors_of_the_way_back_are_real_on_14() {
    errors_are_real(Major::V14).await;
}

#[tokio::test]
async fn errors_of_the_way_back_are_real_on_18() {
    errors_are_real(Major::V18).await;
}
