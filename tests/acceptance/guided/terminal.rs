// SPDX-License-Identifier: MPL-2.0

//! What the guide "Look at a replication from a terminal" shows: the same databases are looked at, and the same is seen.

use super::{Page, flat};
use crate::cli::Cli;
use crate::common::postgres::{Major, Server, Settings};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

#[tokio::test]
async fn the_terminal_shows_what_the_guide_shows() {
    let page = Page::read("at-a-terminal.md");
    // What a server has for all databases is looked at, too.
    let [from, to] = [Major::V17, Major::V18].map(|major| Server::start(major, Settings::new()));
    let pair = Pair { publisher: from.database("shop").await, subscriber: to.database("shop").await };
    pair.publisher
        .sql(
            "CREATE TABLE orders (id int PRIMARY KEY, total numeric); CREATE TABLE visits (token text); \
             CREATE TABLE customers (id int PRIMARY KEY); CREATE VIEW big AS SELECT id FROM orders WHERE total > 100; \
             INSERT INTO orders SELECT n, n FROM generate_series(1, 30000) n; ANALYZE",
        )
        .await;
    pair.subscriber
        .sql(
            "CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE visits (token text); \
             CREATE TABLE customers (id int PRIMARY KEY); INSERT INTO customers VALUES (1)",
        )
        .await;
    shows(&page, &pair, &["preflight"], 1, "replica_identity").await;
    replicate(&pair).await;
    shows(&page, &pair, &["status"], 0, "Healthy: 3 of 3").await;
    pair.subscriber.sql("DELETE FROM orders WHERE id = 4711; UPDATE orders SET total = 0 WHERE id = 29").await;
    let compare: Vec<_> =
        page.fence("shell", "terraform-provider-neonrepl compare").split_whitespace().skip(1).collect();
    shows(&page, &pair, &compare, 1, "Not equal").await;
}

/// The page has, in a fence with this text, what the command prints.
async fn shows(page: &Page, pair: &Pair, arguments: &[&str], status: i32, holds: &str) {
    let seen = Cli::of(pair).run(arguments).await;
    assert_eq!(seen.status, status, "{seen:#?}");
    assert_eq!(flat(page.fence("", holds)), flat(&seen.out), "\n{}", seen.out);
}

/// Does what the preflight asks for, and replicates.
async fn replicate(pair: &Pair) {
    pair.subscriber.sql("ALTER TABLE orders ADD total numeric; TRUNCATE customers").await;
    pair.publisher
        .sql(
            "ALTER TABLE visits REPLICA IDENTITY FULL; INSERT INTO customers SELECT generate_series(1, 12); \
             CREATE PUBLICATION shop FOR TABLE orders, visits, customers",
        )
        .await;
    let url = pair.publisher.url();
    pair.subscriber.sql(&format!("CREATE SUBSCRIPTION shop CONNECTION '{url}' PUBLICATION shop")).await;
    let status = Cli::of(pair);
    wait_until("all rows to arrive", DEADLINE, async || {
        status.run(&["status"]).await.out.contains("ready, caught up.")
    })
    .await;
}
