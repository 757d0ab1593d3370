// SPDX-License-Identifier: MPL-2.0

//! Tables that have replaced the recorded ones of the same names: created again, swapped, renamed, moved into each
//! other's place, on either side. Replication uses only names, so nothing else shows it.

use serde_json::json;

use super::{Sides, shop_of, wait_for_count};
use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::Major::{self, V14, V18};
use crate::common::postgres::quote;
use crate::common::wait::wait_until;
use crate::replication::DEADLINE;

const ADDRESS: &str = "neonrepl_destination_schema.shop";

/// The tables of both sides, with a referenced and a partitioned one.
const SHOP: &str = "CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY, n text); CREATE TABLE app.b (id int PRIMARY KEY, n text); \
    CREATE TABLE app.p (id int, n text, PRIMARY KEY (id, n)) PARTITION BY LIST (n); \
    CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN ('x'); \
    INSERT INTO app.a VALUES (1, 'one'), (2, 'two'); INSERT INTO app.b VALUES (1, 'eins'); INSERT INTO app.p VALUES (1, 'x'), (2, 'x')";

/// The target of a publication.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Publishes {
    /// All tables; the other resource finds them by the publication.
    All,
    /// A list, which is also the other resource's.
    Listed,
    /// A list, and no block has made it.
    ByHand,
}

impl Publishes {
    /// The blocks of the publication and of the tables.
    fn blocks(self, name: &str) -> String {
        let publication = |published: &str| {
            format!("resource \"neonrepl_publication\" \"shop\" {{\n  name = \"{name}\"\n  {published}\n}}\n")
        };
        let tables = |made: &str| format!("resource \"neonrepl_destination_schema\" \"shop\" {{\n  {made}\n}}\n");
        match self {
            Self::All => publication("all_tables = true") + &tables("publications = [neonrepl_publication.shop.name]"),
            Self::Listed => {
                publication("tables = neonrepl_destination_schema.shop.tables")
                    + &tables("tables = [\"app.a\", \"app.b\", \"app.p\"]")
            }
            Self::ByHand => tables(&format!("publications = [\"{name}\"]")),
        }
    }

    /// What the subscription has of the publication.
    fn arguments(self, name: &str) -> String {
        match self {
            Self::All | Self::Listed => "publications = [neonrepl_publication.shop.name]\n  \
                refresh_triggers = { shop = neonrepl_publication.shop.fingerprint }"
                .to_owned(),
            Self::ByHand => format!("publications = [\"{name}\"]"),
        }
    }
}

struct Shop {
    sides: Sides,
    workspace: Workspace,
    /// That of the publication and of the subscription.
    name: String,
}

impl Shop {
    /// A publication of all tables, or of a list of them, the tables, and a running subscription.
    async fn begin(core: Core, majors: (Major, Major), publishes: Publishes) -> Self {
        let (sides, workspace) = shop_of(core, majors, SHOP).await;
        // Databases of two servers may have the same name, and the subscriptions of both are on one server.
        let name = format!("{}_{}", sides.publisher.name, sides.publisher.port);
        if publishes == Publishes::ByHand {
            sides.publisher.sql(&format!("CREATE PUBLICATION {} FOR TABLE app.a, app.b, app.p", quote(&name))).await;
        }
        let (blocks, arguments) = (publishes.blocks(&name), publishes.arguments(&name));
        workspace.write(
            "main.tf",
            &format!(
                "{blocks}resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  {arguments}\n  \
                 wait_for_initial_sync = true\n  depends_on = [{ADDRESS}]\n}}\n"
            ),
        );
        workspace.apply().await;
        let shop = Self { sides, workspace, name };
        shop.expect_same(&["app.a", "app.b", "app.p"]).await;
        shop.workspace.expect_empty_plan().await;
        shop
    }

    async fn publisher(&self, statements: &str) {
        self.sides.publisher.sql(statements).await;
    }

    async fn subscriber(&self, statements: &str) {
        self.sides.subscriber.sql(statements).await;
    }

    async fn plan(&self) -> String {
        self.workspace.plan().await.flat()
    }

    async fn says(&self, texts: &[&str]) {
        let plan = self.plan().await;
        for text in texts {
            assert!(plan.contains(text), "{text} is not in {plan}");
        }
    }

    /// Checks that rows arrive, and that both sides are the same.
    async fn expect_same(&self, tables: &[&str]) {
        for table in tables {
            wait_for_count(&self.sides, table).await;
            let all = format!("SELECT * FROM {table} ORDER BY 1, 2");
            let publisher = self.sides.publisher.rows(&all).await;
            wait_until(&format!("the rows of {table}"), DEADLINE, async || {
                self.sides.subscriber.rows(&all).await == publisher
            })
            .await;
        }
    }

    /// Waits until a row of each table arrives: everything written before has been applied.
    async fn catch_up(&self) {
        let mark = "INSERT INTO app.b SELECT max(id) + 1, 'mark' FROM app.b";
        self.publisher(mark).await;
        self.expect_same(&["app.b"]).await;
    }

    async fn differences(&self) -> Vec<String> {
        let found = self.workspace.attributes(ADDRESS).await["differences"].clone();
        found.as_array().unwrap().iter().map(|one| one["object"].as_str().unwrap().to_owned()).collect()
    }

    async fn replace(&self) -> Run {
        self.workspace.expect(&["apply", "-auto-approve", "-no-color", "-replace", ADDRESS], 0).await
    }
}

const OTHER: &str =
    "rows: another table of this name on the publisher, rows of the one that had it before on the subscriber";

/// A table of the publisher that was dropped and created again: reported each time until it is copied again, as the
/// remedy says.
async fn made_again(core: Core, pair: (Major, Major), publishes: Publishes) {
    let shop = Shop::begin(core, pair, publishes).await;
    // A rewritten table keeps its oid.
    for rewritten in [
        "VACUUM FULL app.a",
        "CLUSTER app.a USING a_pkey",
        "ALTER TABLE app.b ALTER id TYPE bigint",
        "TRUNCATE app.b",
        "INSERT INTO app.b VALUES (1, 'eins')",
    ] {
        shop.publisher(rewritten).await;
    }
    shop.workspace.apply().await;
    shop.workspace.expect_empty_plan().await;
    shop.expect_same(&["app.a", "app.b"]).await;

    shop.publisher(
        "DROP TABLE app.a; CREATE TABLE app.a (id int PRIMARY KEY, n text); INSERT INTO app.a VALUES (3, 'new')",
    )
    .await;
    shop.catch_up().await;
    let rows = shop.sides.subscriber.rows("SELECT n FROM app.a WHERE id < 3 ORDER BY id").await;
    assert_eq!(rows, ["one", "two"], "rows of the old table stay");
    let drop = "DROP TABLE \"app\".\"a\"";
    let text = format!("table app.a: {OTHER}");
    for _ in 0..2 {
        shop.says(&[&text, drop, "-replace of this resource"]).await;
        shop.workspace.apply().await;
        assert_eq!(shop.differences().await, ["table app.a"]);
    }
    shop.subscriber(drop).await;
    shop.says(&["apply makes one table on the subscriber", "- table app.a"]).await;
    shop.workspace.apply().await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.a", "app.b", "app.p"]).await;
    shop.workspace.expect_empty_plan().await;
    assert_eq!(shop.workspace.attributes(ADDRESS).await["differences"], json!([]));
    shop.publisher("INSERT INTO app.a VALUES (4, 'more')").await;
    shop.expect_same(&["app.a"]).await;
    shop.workspace.destroy().await;
}

#[tokio::test]
async fn terraform_tells_of_a_table_that_was_made_again_with_a_list_of_tables() {
    made_again(Core::Terraform, (V14, V18), Publishes::Listed).await;
}

#[tokio::test]
async fn opentofu_tells_of_a_table_that_was_made_again_with_all_tables() {
    made_again(Core::OpenTofu, (V18, V14), Publishes::All).await;
}

/// A migration that creates a new table, copies the rows, and replaces the old table with it.
async fn put_in_place(core: Core, pair: (Major, Major), publishes: Publishes) {
    let shop = Shop::begin(core, pair, publishes).await;
    shop.publisher("CREATE TABLE app.a_new (id int PRIMARY KEY, n text, more int); INSERT INTO app.a_new SELECT id, n, 7 FROM app.a").await;
    shop.publisher("BEGIN; ALTER TABLE app.a RENAME TO a_old; ALTER TABLE app.a_new RENAME TO a; COMMIT").await;
    shop.publisher("INSERT INTO app.a VALUES (5, 'after', 1)").await;
    if publishes == Publishes::Listed {
        // The renamed table is the one that is published.
        shop.says(&[&format!("table app.a: {OTHER}"), "DROP TABLE \"app\".\"a\""]).await;
    } else {
        // The worker stops at rows of a table name that no longer exists.
        let unstuck = "CREATE TABLE \"app\".\"a_new\" (\"id\" text, \"n\" text, \"more\" text)";
        // A plan before the worker has reached that row, or while it tries again, finds no problem.
        let rows = format!("table app.a: {OTHER}");
        let told = ["Changes of table app.a_new are to come", unstuck, &rows];
        let is_told = async || {
            let plan = shop.plan().await;
            told.iter().all(|text| plan.contains(text))
        };
        wait_until("a plan that names the table", 3 * DEADLINE, is_told).await;
        shop.subscriber(unstuck).await;
    }
    shop.subscriber("DROP TABLE app.a").await;
    shop.workspace.apply().await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.a", "app.b", "app.p"]).await;
    if publishes == Publishes::All {
        shop.expect_same(&["app.a_old"]).await;
        shop.subscriber("DROP TABLE app.a_new").await;
    }
    shop.workspace.expect_empty_plan().await;
    shop.workspace.destroy().await;
}

#[tokio::test]
async fn a_table_in_the_place_of_another_is_told_with_a_list_of_tables() {
    put_in_place(Core::OpenTofu, (V14, V18), Publishes::Listed).await;
}

#[tokio::test]
async fn a_table_in_the_place_of_another_is_told_with_all_tables() {
    put_in_place(Core::Terraform, (V18, V14), Publishes::All).await;
}

/// The same with a publication that no block has made: it goes on with the old table.
async fn displaced(core: Core, pair: (Major, Major)) {
    let shop = Shop::begin(core, pair, Publishes::ByHand).await;
    shop.publisher("CREATE TABLE app.a_new (id int PRIMARY KEY, n text); INSERT INTO app.a_new SELECT * FROM app.a")
        .await;
    shop.publisher("BEGIN; ALTER TABLE app.a RENAME TO a_old; ALTER TABLE app.a_new RENAME TO a; COMMIT").await;
    shop.publisher("INSERT INTO app.a VALUES (5, 'after')").await;
    shop.says(&[
        "table app.a_old: name: app.a_old on the publisher, app.a on the subscriber",
        "which is not published",
    ])
    .await;
    shop.publisher(&format!("ALTER PUBLICATION {} SET TABLE app.a, app.b, app.p", quote(&shop.name))).await;
    shop.says(&[&format!("table app.a: {OTHER}"), "DROP TABLE \"app\".\"a\""]).await;
    shop.subscriber("DROP TABLE app.a").await;
    shop.workspace.apply().await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.a", "app.b", "app.p"]).await;
    shop.workspace.expect_empty_plan().await;
    shop.workspace.destroy().await;
}

#[tokio::test]
async fn terraform_tells_of_a_table_whose_name_another_has_from_18_to_14() {
    displaced(Core::Terraform, (V18, V14)).await;
}

#[tokio::test]
async fn opentofu_tells_of_a_table_whose_name_another_has_from_14_to_18() {
    displaced(Core::OpenTofu, (V14, V18)).await;
}

/// Swapped names, a partition that was created again, a new name, and the subscriber's own tables.
async fn others(core: Core, pair: (Major, Major)) {
    let shop = Shop::begin(core, pair, Publishes::All).await;

    // A new name is followed: the worker stops, and continues where it was.
    shop.publisher("ALTER TABLE app.a RENAME TO renamed; INSERT INTO app.renamed VALUES (7, 'r')").await;
    shop.says(&["table app.a becomes app.renamed"]).await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.renamed"]).await;
    let gone = "SELECT to_regclass('app.a') IS NULL";
    assert!(shop.sides.subscriber.value::<bool>(gone).await);
    shop.workspace.expect_empty_plan().await;
    shop.publisher("ALTER TABLE app.renamed RENAME TO a").await;
    shop.workspace.apply().await;
    shop.workspace.expect_empty_plan().await;

    // Two names are swapped: rows arrive in the wrong tables, and only keys may show it.
    let exchange =
        "BEGIN; ALTER TABLE app.a RENAME TO x; ALTER TABLE app.b RENAME TO a; ALTER TABLE app.x RENAME TO b; COMMIT";
    shop.publisher(exchange).await;
    shop.says(&[
        "table app.a: rows: the table that is app.b on the subscriber on the publisher",
        "table app.b: rows: the table that is app.a on the subscriber on the publisher",
    ])
    .await;
    shop.publisher(exchange).await;
    shop.workspace.expect_empty_plan().await;

    // A partition.
    shop.publisher("DROP TABLE app.p1; CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN ('x'); INSERT INTO app.p VALUES (3, 'x')").await;
    shop.says(&[&format!("table app.p1: {OTHER}")]).await;
    shop.subscriber("DROP TABLE app.p1").await;
    shop.workspace.apply().await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.p"]).await;
    shop.workspace.expect_empty_plan().await;

    // Or the whole tree, which is reported in one line.
    shop.publisher(
        "DROP TABLE app.p; CREATE TABLE app.p (id int, n text, PRIMARY KEY (id, n)) PARTITION BY LIST (n); \
        CREATE TABLE app.p1 PARTITION OF app.p FOR VALUES IN ('x')",
    )
    .await;
    let plan = shop.plan().await;
    assert!(plan.contains(&format!("table app.p: {OTHER}")) && !plan.contains("table app.p1: rows"), "{plan}");
    // A person confirms that it is resolved.
    shop.subscriber("TRUNCATE app.p").await;
    shop.replace().await;
    shop.workspace.expect_empty_plan().await;

    // The subscriber's tables: rows do not arrive, without an error.
    shop.subscriber("DROP TABLE app.a; CREATE TABLE app.a (id int PRIMARY KEY, n text)").await;
    shop.publisher("INSERT INTO app.a VALUES (8, 'lost')").await;
    shop.catch_up().await;
    assert_eq!(shop.sides.subscriber.value::<i64>("SELECT count(*) FROM app.a").await, 0);
    shop.says(&[
        "table app.a: rows: the same table as before on the publisher, another table of this name on the subscriber",
        "TRUNCATE \"app\".\"a\"",
        "it subscribes to new tables: app.a",
    ])
    .await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.a"]).await;
    shop.workspace.apply().await;
    shop.workspace.expect_empty_plan().await;
    shop.workspace.destroy().await;
}

#[tokio::test]
async fn terraform_tells_of_other_tables_from_14_to_18() {
    others(Core::Terraform, (V14, V18)).await;
}

#[tokio::test]
async fn opentofu_tells_of_other_tables_from_18_to_14() {
    others(Core::OpenTofu, (V18, V14)).await;
}

/// A publisher that was restored from a dump has only new tables: this is reported once.
#[tokio::test]
async fn a_database_that_was_set_up_again_is_told_as_one() {
    let shop = Shop::begin(Core::OpenTofu, (V18, V18), Publishes::All).await;
    shop.publisher(&format!("DROP SCHEMA app CASCADE; {SHOP}")).await;
    let plan = shop.plan().await;
    assert!(plan.contains("the tables: rows: all 4 tables are others of the same names on the publisher"), "{plan}");
    assert!(plan.contains("one difference") && !plan.contains("table app.a: rows"), "{plan}");
    shop.replace().await;
    let plan = shop.plan().await;
    assert!(!plan.contains("the tables: rows"), "{plan}");
}

/// So has a subscriber, to which nothing arrives any more, without an error.
async fn subscriber_set_up_again(core: Core, pair: (Major, Major)) {
    let shop = Shop::begin(core, pair, Publishes::All).await;
    shop.subscriber(&format!("DROP SCHEMA app CASCADE; {SHOP}")).await;
    shop.publisher("INSERT INTO app.a VALUES (8, 'lost')").await;
    shop.says(&[
        "the tables: rows: the same tables as before on the publisher, all 4 tables are others of the same names",
    ])
    .await;
    shop.subscriber("TRUNCATE app.a, app.b, app.p").await;
    shop.workspace.apply().await;
    shop.expect_same(&["app.a", "app.b", "app.p"]).await;
    shop.workspace.apply().await;
    shop.workspace.expect_empty_plan().await;
    shop.workspace.destroy().await;
}

#[tokio::test]
async fn terraform_tells_of_a_subscriber_that_was_set_up_again_from_14_to_18() {
    subscriber_set_up_again(Core::Terraform, (V14, V18)).await;
}

#[tokio::test]
async fn opentofu_tells_of_a_subscriber_that_was_set_up_again_from_18_to_14() {
    subscriber_set_up_again(Core::OpenTofu, (V18, V14)).await;
}
