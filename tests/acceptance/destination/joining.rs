// SPDX-License-Identifier: MPL-2.0

//! Changes of the publisher that are followed, or only reported: a new table is created before it is published.

use serde_json::json;

use super::{Sides, wait_for_count};
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major::{V16, V18};
use crate::common::postgres::SUPERUSER_PASSWORD;

const ADDRESS: &str = "neonrepl_destination_schema.shop";

/// The tables come first: the publication takes their names from the resource that creates them.
fn config(name: &str, tables: &str, changes: &str) -> String {
    format!(
        "resource \"neonrepl_destination_schema\" \"shop\" {{\n  tables = [{tables}]\n  changes = \"{changes}\"\n}}\n\
         resource \"neonrepl_publication\" \"shop\" {{\n  name = \"{name}\"\n  tables = neonrepl_destination_schema.shop.tables\n}}\n\
         resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n  \
         wait_for_initial_sync = true\n  refresh_triggers = {{ shop = neonrepl_publication.shop.fingerprint }}\n}}\n"
    )
}

const COLUMNS: &str =
    "SELECT attname FROM pg_attribute WHERE attrelid = 'app.a'::regclass AND attnum > 0 ORDER BY attnum";

async fn begin() -> (Sides, Workspace) {
    let tables = "CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY); INSERT INTO app.a VALUES (1)";
    let sides = Sides::new(V16, V18, tables).await;
    let mut workspace = Workspace::new(Core::OpenTofu);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.env("NEONREPL_PUBLISHER_URL", &sides.publisher.url());
    workspace.env("NEONREPL_SUBSCRIBER_URL", &sides.subscriber.url());
    workspace.init().await;
    (sides, workspace)
}

#[tokio::test]
async fn a_table_that_joins_is_made_before_it_is_published_and_a_report_changes_nothing() {
    let (sides, workspace) = begin().await;
    let name = sides.publisher.name.clone();
    workspace.write("main.tf", &config(&name, "\"app.a\"", "follow"));
    workspace.apply().await;
    wait_for_count(&sides, "app.a").await;

    // Rows are written all the time: the worker would stop at the first row of a missing table.
    sides.publisher.sql("CREATE TABLE app.b (id int PRIMARY KEY, n int); INSERT INTO app.b VALUES (1, 1)").await;
    workspace.write("main.tf", &config(&name, "\"app.a\", \"app.b\"", "follow"));
    let plan = workspace.plan().await.flat();
    assert!(plan.contains("apply makes one table on the subscriber") && plan.contains("- table app.b"), "{plan}");
    let is_done = std::cell::Cell::new(false);
    let write = async {
        for id in 2.. {
            sides.publisher.sql(&format!("INSERT INTO app.b VALUES ({id}, 2); INSERT INTO app.a VALUES ({id})")).await;
            if is_done.get() {
                break;
            }
        }
    };
    let apply = async {
        workspace.apply().await;
        is_done.set(true);
    };
    tokio::join!(write, apply);
    wait_for_count(&sides, "app.a").await;
    wait_for_count(&sides, "app.b").await;
    let errors =
        format!("SELECT apply_error_count + sync_error_count FROM pg_stat_subscription_stats WHERE subname = '{name}'");
    assert_eq!(sides.subscriber.value::<i64>(&errors).await, 0, "the worker never stopped");
    workspace.expect_empty_plan().await;

    // With `report`, the plan shows it, and nothing is done about it.
    workspace.write("main.tf", &config(&name, "\"app.a\", \"app.b\"", "report"));
    workspace.apply().await;
    sides.publisher.sql("ALTER TABLE app.a ADD COLUMN more int").await;
    let plan = workspace.plan().await.flat();
    for said in [
        "the subscriber differs from the publisher: one difference",
        "table app.a column more",
        "ADD COLUMN \"more\" integer",
    ] {
        assert!(plan.contains(said), "{said} is not in {plan}");
    }
    workspace.apply().await;
    assert_eq!(sides.subscriber.rows(COLUMNS).await, ["id"]);
    let differences = workspace.attributes(ADDRESS).await["differences"].clone();
    assert_eq!(differences[0]["object"], json!("table app.a"), "{differences}");
    workspace.write("main.tf", &config(&name, "\"app.a\", \"app.b\"", "follow"));
    workspace.apply().await;
    assert_eq!(sides.subscriber.rows(COLUMNS).await, ["id", "more"]);
    workspace.expect_empty_plan().await;

    // A column that was created again is another one, whatever else is applied, until a person confirms its values.
    for change in ["DROP COLUMN more", "ADD COLUMN more int", "ADD COLUMN last int"] {
        sides.publisher.sql(&format!("ALTER TABLE app.a {change}")).await;
    }
    let again = "app.a: values of column more: another column of this name";
    for _ in 0..2 {
        let plan = workspace.plan().await.flat();
        assert!(plan.contains(again), "{plan}");
        workspace.apply().await;
    }
    assert_eq!(sides.subscriber.rows(COLUMNS).await, ["id", "more", "last"]);
    workspace.expect(&["apply", "-auto-approve", "-no-color", "-replace", ADDRESS], 0).await;
    let plan = workspace.plan().await.flat();
    assert!(!plan.contains(again) && plan.contains("No changes"), "{plan}");
    wait_for_count(&sides, "app.a").await;

    // After an import it is unknown what was created: a destroy that should drop it says so, and drops nothing.
    let dropping = config(&name, "\"app.a\", \"app.b\"", "follow\"\n  drop_on_destroy = \"true");
    workspace.write("main.tf", &dropping);
    let id = workspace.attributes(ADDRESS).await["id"].as_str().unwrap().to_owned();
    workspace.expect(&["state", "rm", ADDRESS], 0).await;
    workspace.import(ADDRESS, &id).await;
    workspace.apply().await;
    let said = workspace.destroy().await.flat();
    assert!(said.contains("this resource is not known to have created any"), "{said}");
    assert_eq!(sides.subscriber.rows(COLUMNS).await, ["id", "more", "last"]);
}
