// SPDX-License-Identifier: MPL-2.0

//! The terms of a switch, and objections to it.

use neonrepl::postgres::Limits;
use neonrepl::replication::checks::Objection;
use neonrepl::replication::comparison::Mode;
use neonrepl::replication::cutover::{self, Cutover, Forward, Found, Unpublished, WayBack, Writes};
use neonrepl::replication::{Operation, Pair, Place};
use tokio_postgres::error::SqlState;

use super::{Heard, Shop, Tally, conninfo};
use crate::catalog::{connect, ident};
use crate::common::postgres::{Database, Major, Role, Server, Settings, quote};
use crate::common::wait::wait_until;
use crate::replication::DEADLINE;

/// The error of an application that writes to a side; none if it may.
async fn refused(database: &Database, app: &Role, n: i32) -> Option<SqlState> {
    let insert = format!(
        "BEGIN; INSERT INTO orders (writer, n) VALUES (1, {n}); INSERT INTO items (writer, n) VALUES (1, {n}); COMMIT"
    );
    let written = database.connect_as(app).await.unwrap().batch_execute(&insert).await;
    written.err().and_then(|error| error.code().cloned())
}

/// Switches there and back twice on these terms, with a row written on each side after each switch.
async fn on_terms(shop: &Shop, cutover: impl Fn(Place) -> Cutover) -> Tally {
    let mut tally = Tally::default();
    shop.run(&cutover(Place::Publisher)).await.unwrap_or_else(|error| panic!("{error}"));
    let mut active = Place::Publisher;
    for n in 1..=4 {
        active = active.other();
        let outcome = shop.run(&cutover(active)).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((outcome.active, outcome.has_switched), (active, true));
        let app = &shop.apps[usize::from(active == Place::Subscriber)];
        assert_eq!(refused(shop.database(active), app, n).await, None);
        tally.acknowledged.insert(format!("1 {n}"));
        // Nothing is left to do.
        assert!(look(shop, &cutover(active)).await.steps.is_empty());
    }
    shop.prove(active, &tally).await;
    tally
}

/// The state that a new provider finds.
async fn look(shop: &Shop, cutover: &Cutover) -> Found {
    let (publisher, subscriber) = (connect(&shop.from, &shop.movers[0]), connect(&shop.to, &shop.movers[1]));
    cutover::look(&Pair { publisher, subscriber }, cutover, &shop.operation())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

const READ_ONLY: &str = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
    WHERE d.datname = current_database() AND 'default_transaction_read_only=on' = ANY (s.setconfig)";

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_keeps_to_its_terms() {
    let servers = [Server::start(Major::V14, Settings::new()), Server::start(Major::V16, Settings::new())];
    let [from, to] = &servers;

    // The stream keeps its slot, and continues from it without changes that it has already brought.
    let shop = Shop::new(from, to).await;
    on_terms(&shop, |active| {
        let mut cutover = shop.cutover(active);
        (cutover.terms.forward, cutover.terms.compare) = (Forward::Disable, Some(Mode::Checksums));
        cutover
    })
    .await;
    shop.switch(Place::Subscriber).await;

    // The user has stopped writers: nothing refuses them afterwards, and there is no guard.
    let shop = Shop::new(from, to).await;
    let external = |active| {
        let mut cutover = shop.cutover(active);
        (cutover.terms.writes, cutover.terms.compare, cutover.desired.guard) = (Writes::External, None, false);
        cutover
    };
    on_terms(&shop, external).await;
    shop.run(&external(Place::Subscriber)).await.unwrap();
    assert_eq!(refused(&shop.from, &shop.apps[0], 9).await, None);
    assert_eq!(shop.from.value::<i64>(READ_ONLY).await, 0);

    // Without a way back, a switch back is refused once something could be lost. Writes to other tables are allowed.
    let shop = Shop::new(from, to).await;
    let forth = |active| {
        let mut cutover = shop.cutover(active);
        (cutover.desired.reverse, cutover.way_back, cutover.terms.unpublished_writes) =
            (false, None, Unpublished::Allow);
        cutover
    };
    shop.run(&forth(Place::Subscriber)).await.unwrap();
    assert_eq!(refused(&shop.from, &shop.apps[0], 1).await, Some(SqlState::READ_ONLY_SQL_TRANSACTION));
    shop.from.connect_as(&shop.apps[0]).await.unwrap().batch_execute("INSERT INTO aside VALUES (1)").await.unwrap();
    let error = shop.run(&forth(Place::Publisher)).await.unwrap_err().to_string();
    assert!(error.contains("nothing brings") || error.contains("no subscription brings them back"), "{error}");
    assert_eq!(shop.from.value::<i64>("SELECT count(*) FROM pg_subscription").await, 2);

    // The database's previous default is restored.
    let shop = Shop::new(from, to).await;
    let name = quote(&shop.from.name);
    shop.from.sql(&format!("ALTER DATABASE {name} SET default_transaction_read_only = off")).await;
    shop.switch(Place::Subscriber).await;
    assert_eq!(shop.from.value::<i64>(READ_ONLY).await, 1);
    let aside = shop.from.connect_as(&shop.apps[0]).await.unwrap().batch_execute("INSERT INTO aside VALUES (1)").await;
    assert_eq!(aside.unwrap_err().code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    let told = cutover::stopped(&shop.pair.subscriber, &ident("shop")).await.unwrap().unwrap();
    assert_eq!((told.is_disabled, told.slot), (true, Some(ident(&shop.slot()))));
    shop.switch(Place::Publisher).await;
    let setting = "SELECT s.setconfig[1] FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase \
        WHERE d.datname = current_database()";
    assert_eq!(shop.from.value::<String>(setting).await, "default_transaction_read_only=off");
    assert_eq!(cutover::stopped(&shop.pair.subscriber, &ident("shop")).await.unwrap(), None);

    // A difference that is only found under the fence stops the switch, and writers go on.
    shop.to.sql("SET session_replication_role = replica; INSERT INTO orders (id, writer, n) VALUES (-1, 3, 3)").await;
    let error = shop.run(&shop.cutover(Place::Subscriber)).await.unwrap_err().to_string();
    assert!(error.contains("public.orders: 0 rows on the publisher, 1 on the subscriber"), "{error}");
    assert_eq!(refused(&shop.from, &shop.apps[0], 1).await, None);
    shop.to.sql("SET session_replication_role = replica; DELETE FROM orders WHERE id = -1").await;
    assert_eq!(shop.switch(Place::Subscriber).await.last.unwrap().number, 3);
    assert_eq!(shop.heard.all(), "");
}

/// All objections to the steps.
fn said(found: &Found) -> String {
    let texts = found.objections.iter().map(|objection| match objection {
        Objection::Refusal(error) => format!("refused: {error}"),
        Objection::Warning(error) => format!("warning: {error}"),
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_stands_in_the_way_is_said_at_once_and_nothing_is_changed() {
    let servers = [Server::start(Major::V16, Settings::new()), Server::start(Major::V18, Settings::new())];
    let [from, to] = &servers;
    let shop = Shop::new(from, to).await;
    let there = shop.cutover(Place::Subscriber);

    // The plan of a first switch, one line for each step.
    let found = look(&shop, &there).await;
    assert_eq!(said(&found), "");
    let lines = cutover::describe(&found.steps, &found).join("\n");
    holds(
        &lines,
        &["publisher: put a fence on 3 tables", "publisher: close 3 tables to writers", "Writers wait about"],
    );
    assert_eq!(found.steps.len(), 9, "{lines}");

    // Differences, missing objects, and obstacles.
    shop.to.sql("ALTER TABLE items REPLICA IDENTITY NOTHING").await;
    shop.to.sql("ALTER TABLE orders ADD extra text NOT NULL; ALTER SEQUENCE orders_id_seq MAXVALUE 5; CREATE PUBLICATION neonrepl_back_shop").await;
    shop.from
        .sql("CREATE INDEX orders_n ON orders (n); CREATE SCHEMA neonrepl; SELECT setval('orders_id_seq', 50)")
        .await;
    let found = said(&look(&shop, &there).await);
    holds(
        &found,
        &[
            "publication \"neonrepl_back_shop\" on the subscriber was not created by the provider",
            "public.items on the subscriber has no replica identity",
            "changes of public.orders cannot flow back",
            "role \"mover_1\" may not make the fence's function on the publisher",
            "GRANT USAGE, CREATE ON SCHEMA \"neonrepl\" TO \"mover_1\";",
            "the subscriber lacks indexes: \"orders_n\" of public.orders",
        ],
    );
    let error = shop.run(&there).await.unwrap_err().to_string();
    holds(
        &error,
        &[
            "things stand in the way",
            "public.items on the subscriber has no replica identity",
            "GRANT USAGE, CREATE ON SCHEMA",
        ],
    );
    let made =
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'neonrepl'";
    assert_eq!((shop.from.value::<i64>(made).await, shop.to.value::<i64>(made).await), (0, 0));
    shop.to.sql("ALTER TABLE items REPLICA IDENTITY DEFAULT; ALTER TABLE orders DROP extra; DROP PUBLICATION neonrepl_back_shop").await;
    shop.from.sql("DROP SCHEMA neonrepl; DROP INDEX orders_n").await;

    // A number that does not fit is only found under the fence; writers go on.
    let error = shop.run(&there).await.unwrap_err().to_string();
    holds(&error, &["public.orders_id_seq on the publisher is at 50"]);
    assert_eq!(refused(&shop.from, &shop.apps[0], 1).await, None);
    shop.to.sql("ALTER SEQUENCE orders_id_seq NO MAXVALUE").await;

    // Roles without rights, each with its statement.
    let strangers = [from.role("stranger", "").await, to.role("stranger", "").await];
    let pair = Pair { publisher: connect(&shop.from, &strangers[0]), subscriber: connect(&shop.to, &strangers[1]) };
    let heard = Heard::default();
    let operation = Operation::new("looking", Limits::within(DEADLINE), &heard);
    let found = said(&cutover::look(&pair, &there, &operation).await.unwrap());
    holds(&found, &["may not make database", "REPLICATION"]);

    // A way back that leads elsewhere is detected before anything depends on it.
    let other = to.database("elsewhere").await;
    other.sql("CREATE TABLE orders (id int); CREATE PUBLICATION neonrepl_back_shop FOR TABLE orders").await;
    let wrong = Cutover {
        way_back: Some(WayBack { connection: conninfo(&other, &shop.movers[1]), resend: true }),
        ..shop.cutover(Place::Publisher)
    };
    shop.run(&shop.cutover(Place::Publisher)).await.unwrap_or_else(|error| panic!("{error}"));
    let taken =
        cutover::take_away(&shop.pair, &shop.cutover(Place::Publisher), false, &shop.operation()).await.unwrap();
    assert_eq!(taken.closed, None);
    let error = shop.run(&wrong).await.unwrap_err().to_string();
    holds(&error, &["does not lead to the subscriber"]);
    assert_eq!(shop.from.value::<i64>("SELECT count(*) FROM pg_subscription").await, 0);

    // A table that has not been copied, and one server's fence at another's database.
    shop.switch(Place::Publisher).await;
    let third = Shop { to: to.database("third").await, ..Shop::new(from, to).await };
    let crossed = Pair { publisher: shop.pair.publisher.clone(), subscriber: third.pair.subscriber.clone() };
    let found = said(&cutover::look(&crossed, &there, &operation).await.unwrap());
    holds(&found, &["belongs to a cutover with another subscriber"]);
    shop.from.sql("ALTER PUBLICATION shop ADD TABLE aside").await;
    shop.to.sql("ALTER TABLE aside ADD PRIMARY KEY (id); INSERT INTO aside VALUES (1)").await;
    shop.from.sql("ALTER TABLE aside ADD PRIMARY KEY (id); INSERT INTO aside VALUES (1)").await;
    shop.to.sql("ALTER SUBSCRIPTION shop REFRESH PUBLICATION").await;
    let found = said(&look(&shop, &there).await);
    holds(&found, &["has not copied public.aside yet"]);

    // Once it is copied, the way back and the fence include it.
    shop.to.sql("TRUNCATE aside").await;
    let late = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    wait_until("the new table to be copied", 3 * DEADLINE, async || shop.to.value::<i64>(late).await == 0).await;
    shop.switch(Place::Subscriber).await;
    assert_eq!(shop.from.value::<i64>("SELECT count(*) FROM pg_subscription_rel").await, 4);
    let refused =
        shop.from.connect_as(&Role::superuser()).await.unwrap().batch_execute("INSERT INTO aside VALUES (2)").await;
    assert_eq!(refused.unwrap_err().code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
}
