// SPDX-License-Identifier: MPL-2.0

//! How often a definition is read: of many databases, that is what a plan costs their servers.

use neonrepl::postgres::definition::Freshness;
use neonrepl::replication::destination::{self, Published};

use super::{Sides, everything};
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major::{V14, V17, V18};
use crate::common::postgres::{self as servers, SUPERUSER_PASSWORD, Server};
use crate::replication::subscribers;

const SCHEMA: &str = "CREATE SCHEMA app; CREATE TABLE app.users (id bigint PRIMARY KEY, name text); CREATE INDEX ON app.users (name); \
    CREATE TABLE app.events (id bigint PRIMARY KEY, user_id bigint REFERENCES app.users) PARTITION BY RANGE (id); \
    CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (1) TO (100)";

const CONFIG: &str = r#"
resource "neonrepl_publication" "shop" {
  name   = "shared"
  tables = ["app.users", "app.events"]
}
resource "neonrepl_destination_schema" "shop" {
  publications = [neonrepl_publication.shop.name]
  changes      = "follow"
}
resource "neonrepl_destination_indexes" "shop" {
  publications = neonrepl_destination_schema.shop.publications
}
"#;

/// A server whose log has each statement in one of its databases.
struct Counted {
    server: &'static Server,
    seen: usize,
}

impl Counted {
    /// How often a definition was read since the last time.
    fn reads(&mut self) -> usize {
        let log = self.server.log();
        let new = &log[self.seen..];
        let reads =
            new.lines().filter(|line| line.contains("execute") && line.contains("SELECT 'schema', row_to_json"));
        let reads = reads.count();
        self.seen = log.len();
        reads
    }
}

#[tokio::test]
async fn a_plan_reads_each_side_once_and_an_apply_reads_it_again() {
    let sides = Sides::new(V17, V17, SCHEMA).await;
    for side in [&sides.publisher, &sides.subscriber] {
        side.sql(&format!("ALTER DATABASE \"{}\" SET log_statement = 'all'", side.name)).await;
    }
    let mut counted =
        [servers::shared(V17), subscribers(V17)].map(|server| Counted { server, seen: server.log().len() });
    let mut reads = || counted.each_mut().map(Counted::reads);
    let mut workspace = Workspace::new(Core::OpenTofu);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.env("NEONREPL_PUBLISHER_URL", &sides.publisher.url());
    workspace.env("NEONREPL_SUBSCRIBER_URL", &sides.subscriber.url());
    workspace.write("main.tf", CONFIG);
    workspace.init().await;
    workspace.expect(&["plan", "-no-color", "-out=planned"], 0).await;
    assert_eq!(reads(), [1, 1], "by a plan of what is new");
    sides.subscriber.sql("CREATE SCHEMA app; CREATE TABLE app.users (id bigint PRIMARY KEY, name text)").await;
    workspace.expect(&["apply", "-no-color", "planned"], 0).await;
    let [_, subscriber] = reads();
    // Of the tables: what it is planned from again, what is changed, and the proof. Of the indexes: planned from, changed, proof.
    assert_eq!(subscriber, 6, "by an apply, of the subscriber");
    workspace.expect_empty_plan().await;
    assert_eq!(reads(), [1, 1], "by a plan of what is there");
}

#[tokio::test]
async fn a_change_sees_what_others_did_and_a_plan_sees_what_a_change_did() {
    let sides = Sides::new(V18, V14, SCHEMA).await;
    let wish = everything(sides.tables().await);
    let look = async |freshness| {
        let published = Published { tables: wish.tables.clone(), ..Published::default() };
        destination::look(&sides.pair, &published, &wish, freshness).await.unwrap()
    };
    assert_eq!(look(Freshness::Plan).await.there.len(), 0);
    sides.subscriber.sql("CREATE SCHEMA app; CREATE TABLE app.users (id bigint PRIMARY KEY, name text)").await;
    let now = look(Freshness::Now).await;
    assert_eq!(now.there.len(), 1, "{:?}", now.there);
    assert!(!look(Freshness::Plan).await.plan.is_done());
    sides.make_of(now, &wish).await.unwrap();
    let after = look(Freshness::Plan).await;
    assert!(after.plan.is_done(), "{:?}", after.plan);
}
