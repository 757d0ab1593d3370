// SPDX-License-Identifier: MPL-2.0

//! `examples/migration-module`: several databases of two servers, moved by one module.

use std::path::Path;

use crate::common::cli::{Core, Workspace, says};
use crate::common::postgres::{self, Database, Major, SUPERUSER_PASSWORD};
use crate::common::tools::checkout;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, subscribers};

/// An application's objects in each database: two tables, one with a foreign key to the other, an index, and rows.
const APPLICATION: &str = "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL); \
     CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users, total numeric); \
     CREATE INDEX orders_of_user ON orders (user_id); \
     INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 20) n; \
     INSERT INTO orders (user_id, total) SELECT 1 + n % 20, n FROM generate_series(1, 50) n";

/// A database of one server, and its counterpart on the other.
struct Moved {
    publisher: Database,
    subscriber: Database,
}

impl Moved {
    async fn new() -> Self {
        let publisher = postgres::shared(Major::V17).database("many_from").await;
        let subscriber = subscribers(Major::V16).database("many_to").await;
        publisher.sql(APPLICATION).await;
        Self { publisher, subscriber }
    }

    async fn orders(&self) -> i64 {
        self.subscriber.optional::<i64>("SELECT count(*) FROM orders").await.unwrap_or_default()
    }

    /// Inserts a row on the active side, which the other side gets. That refuses writes from others.
    async fn write(&self, is_moved: bool, total: i32) {
        let (active, other) =
            if is_moved { (&self.subscriber, &self.publisher) } else { (&self.publisher, &self.subscriber) };
        let insert = format!("INSERT INTO orders (user_id, total) VALUES (1, {total})");
        active.sql(&insert).await;
        let there = format!("SELECT count(*) FROM orders WHERE total = {total}");
        wait_until("the row to arrive", DEADLINE, async || other.value::<i64>(&there).await == 1).await;
        let refused = other.try_sql(&insert).await.unwrap_err();
        assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("25006"), "{refused}");
    }

    /// The objects that the migration has created there.
    async fn left(&self) -> Vec<String> {
        let slots = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()";
        let publications = "SELECT pubname::text FROM pg_publication";
        let subscriptions = "SELECT subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
             WHERE d.datname = current_database()";
        let mut left = self.publisher.rows(slots).await;
        left.extend(self.publisher.rows(publications).await);
        left.extend(self.subscriber.rows(subscriptions).await);
        left
    }
}

fn set(workspace: &Workspace, phase: &str, databases: &[Moved]) {
    let databases: Vec<_> = databases
        .iter()
        .enumerate()
        .map(|(at, moved)| {
            let (publisher, subscriber) = (&moved.publisher.name, &moved.subscriber.name);
            format!("  db{at} = {{ publisher = \"{publisher}\", subscriber = \"{subscriber}\" }}\n")
        })
        .collect();
    let text = format!("phase = \"{phase}\"\ndatabases = {{\n{}}}\n", databases.concat());
    workspace.write("terraform.tfvars", &text);
}

#[tokio::test]
async fn many_databases_are_moved_by_one_module() {
    // One after the other, because the module's objects have the same names on the servers.
    for core in Core::installed() {
        moved_by_one_module(core).await;
    }
}

async fn moved_by_one_module(core: Core) {
    let mut databases = vec![Moved::new().await, Moved::new().await];
    let mut workspace = Workspace::new(core);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.env("TF_VAR_publisher_url", &databases[0].publisher.url());
    workspace.env("TF_VAR_subscriber_url", &databases[0].subscriber.url());
    workspace.write_all(&checkout().join("examples/migration-module"), Path::new(""));
    set(&workspace, "copy", &databases);
    workspace.init().await;
    workspace.apply().await;
    for moved in &databases {
        assert_eq!(moved.orders().await, 50);
    }
    workspace.expect_empty_plan().await;
    // Another database joins, and everything moves to the next phase.
    databases.push(Moved::new().await);
    set(&workspace, "index", &databases);
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    for moved in &databases {
        let indexes = "SELECT count(*) FROM pg_indexes WHERE indexname = 'orders_of_user'";
        assert_eq!(moved.subscriber.value::<i64>(indexes).await, 1);
        moved.publisher.sql("INSERT INTO orders (user_id, total) VALUES (1, 51)").await;
        wait_until("the row arrives", DEADLINE, async || moved.orders().await == 51).await;
    }
    // The switch, the way back, and the switch again: every row that is written on the active side arrives on the
    // other one.
    for (phase, total) in [("ready", 52), ("moved", 53), ("ready", 54), ("moved", 55)] {
        set(&workspace, phase, &databases);
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        let hosts = &workspace.show_json().await["values"]["outputs"]["hosts"]["value"];
        for (at, moved) in databases.iter().enumerate() {
            moved.write(phase == "moved", total).await;
            let active = if phase == "moved" { &moved.subscriber } else { &moved.publisher };
            let host = &hosts[format!("db{at}")];
            assert_eq!(
                (&host["port"], &host["database"]),
                (&active.port.into(), &active.name.as_str().into()),
                "{phase}"
            );
        }
    }
    let destroyed = workspace.destroy().await;
    says(&destroyed, &["the publisher stays closed to writes", "To open it, run on"]);
    for moved in &databases {
        assert_eq!(moved.left().await, Vec::<String>::new());
        assert_eq!(moved.orders().await, 55, "rows stay");
        moved.subscriber.sql("INSERT INTO orders (user_id, total) VALUES (1, 56)").await;
    }
}
