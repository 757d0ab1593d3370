//! `neonrepl_replication_slot` through real cores, from its first plan to its end.

use serde_json::json;

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Database, Major};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair, on_every_pair};

const ADDRESS: &str = "neonrepl_replication_slot.shop";

fn config(body: &str) -> String {
    format!("resource \"neonrepl_replication_slot\" \"shop\" {{\n{body}\n}}\n")
}

/// A name that no other test on the shared servers has: names of slots are unique in a cluster.
fn unique(database: &Database) -> String {
    format!("slot_of_{}", database.name)
}

/// What the server says of the slots of a database.
async fn slots(database: &Database) -> Vec<String> {
    let query = "SELECT concat_ws(' ', slot_name, plugin, CASE WHEN two_phase THEN 'two_phase' END) \
        FROM pg_replication_slots WHERE database = current_database() ORDER BY 1";
    database.rows(query).await
}

/// The actions of the only change that is planned.
async fn actions(workspace: &Workspace) -> serde_json::Value {
    workspace.plan_json().await["resource_changes"][0]["change"]["actions"].take()
}

async fn life(core: Core, major: Major, other: Major) {
    let pair = Pair::new(major, other, "slot").await;
    let database = &pair.publisher;
    let workspace = pair.workspace(core).await;
    let name = unique(database);

    create(&workspace, database, &name).await;
    import(&workspace, database, &name).await;
    options_make_a_new_one(&workspace, database, &name, major).await;
    disappear(&workspace, database, &name).await;

    workspace.destroy().await;
    assert_eq!(slots(database).await, [""; 0]);
}

on_every_pair!(life, in_use);

async fn create(workspace: &Workspace, database: &Database, name: &str) {
    workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
    workspace.apply().await;
    assert_eq!(slots(database).await, [format!("{name} pgoutput")]);
    let state = workspace.attributes(ADDRESS).await;
    assert_eq!(state["id"], format!("{}/{name}", database.name));
    let known = [&state["plugin"], &state["two_phase"], &state["failover"], &state["active"], &state["wal_status"]];
    assert_eq!(known, [&json!("pgoutput"), &json!(false), &json!(false), &json!(false), &json!("reserved")]);
    assert!(state["restart_lsn"].as_str().expect("a position").contains('/'), "{state}");
    workspace.expect_empty_plan().await;

    // What the provider itself waits for is no change of the slot.
    workspace.write("main.tf", &config(&format!("name = \"{name}\"\ntimeouts {{\ndelete = \"2m\"\n}}")));
    assert_eq!(actions(workspace).await, json!(["update"]));
    workspace.apply().await;
    workspace.expect_empty_plan().await;
}

async fn import(workspace: &Workspace, database: &Database, name: &str) {
    let forget = ["state", "rm", ADDRESS];
    workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
    workspace.expect(&forget, 0).await;
    let failed = workspace.apply_error().await;
    let id = format!("{}/{name}", database.name);
    for said in
        [format!("creating replication slot \"{name}\": it exists already"), format!("import it by the id \"{id}\"")]
    {
        assert!(failed.flat().contains(&said), "{said} is not in {}", failed.text());
    }
    workspace.import(ADDRESS, &id).await;
    workspace.expect_empty_plan().await;

    workspace.expect(&forget, 0).await;
    let identity = format!("{{ database = \"{}\", name = \"{name}\" }}", database.name);
    workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  identity = {identity}\n}}\n"));
    let applied = workspace.apply().await;
    assert!(applied.text().contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", applied.text());
    workspace.write("import.tf", "");
    workspace.expect_empty_plan().await;
}

async fn options_make_a_new_one(workspace: &Workspace, database: &Database, name: &str, major: Major) {
    workspace.write("main.tf", &config(&format!("name = \"{name}\"\ntwo_phase = true")));
    assert_eq!(actions(workspace).await, json!(["delete", "create"]));
    workspace.apply().await;
    assert_eq!(slots(database).await, [format!("{name} pgoutput two_phase")]);
    workspace.expect_empty_plan().await;

    workspace.write("main.tf", &config(&format!("name = \"{name}\"\nfailover = true")));
    if major >= Major::V17 {
        workspace.apply().await;
        assert!(
            database
                .value::<bool>("SELECT failover FROM pg_replication_slots WHERE database = current_database()")
                .await
        );
        workspace.expect_empty_plan().await;
    } else {
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(1), "{}", plan.text());
        assert!(plan.flat().contains("failover needs Postgres 17 or newer; the server runs 15"), "{}", plan.text());
        assert!(plan.flat().contains("on main.tf line 3"), "{}", plan.text());
    }
    workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
    workspace.expect_empty_plan().await;
}

async fn disappear(workspace: &Workspace, database: &Database, name: &str) {
    database.sql(&format!("DO $$ BEGIN PERFORM pg_drop_replication_slot('{name}'); END $$")).await;
    assert_eq!(actions(workspace).await, json!(["create"]));
    workspace.apply().await;
    workspace.expect_empty_plan().await;

    database.sql(&format!("DO $$ BEGIN PERFORM pg_drop_replication_slot('{name}'); END $$")).await;
    workspace.destroy().await;
    workspace.apply().await;
}

/// A slot that a subscription reads from stays until it does not.
async fn in_use(core: Core, major: Major, other: Major) {
    let pair = Pair::new(major, other, "slot_use").await;
    let workspace = pair.workspace(core).await;
    let name = unique(&pair.publisher);
    let slot = |time: &str| config(&format!("name = \"{name}\"\ntimeouts {{\ndelete = \"{time}\"\n}}"));
    workspace.write("main.tf", &slot("2s"));
    workspace.apply().await;
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
    let connection = pair.publisher.url();
    let options = format!("create_slot = false, slot_name = '{name}'");
    pair.subscriber
        .sql(&format!("CREATE SUBSCRIPTION reader CONNECTION '{connection}' PUBLICATION shop WITH ({options})"))
        .await;
    wait_for_activity(&pair.publisher, &name, true).await;

    let failed = workspace.expect(&["destroy", "-auto-approve", "-no-color"], 1).await;
    for said in ["is active for PID", "(55006)", "Its reader calls itself \"reader\"", "timeouts.delete"] {
        assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
    }
    assert_eq!(slots(&pair.publisher).await.len(), 1);

    workspace.write("main.tf", &slot("2m"));
    workspace.apply().await;
    assert_eq!(workspace.attributes(ADDRESS).await["active"], true);
    let destroying = workspace.spawn(&["destroy", "-auto-approve", "-no-color"]);
    destroying.wait_for("Destroying...").await;
    pair.subscriber.sql("ALTER SUBSCRIPTION reader DISABLE; ALTER SUBSCRIPTION reader SET (slot_name = NONE)").await;
    let destroyed = destroying.wait().await;
    assert_eq!(destroyed.code, Some(0), "{}", destroyed.text());
    assert_eq!(slots(&pair.publisher).await, [""; 0]);
    pair.subscriber.sql("DROP SUBSCRIPTION reader").await;
}

async fn wait_for_activity(database: &Database, name: &str, active: bool) {
    let query = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'");
    wait_until("the slot's reader", DEADLINE, async || database.optional::<bool>(&query).await == Some(active)).await;
}

/// A slot of the same name in another database of the cluster is another one.
#[tokio::test]
async fn a_slot_of_another_database_is_left_alone() {
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V18]) {
        let pair = Pair::on_one_server(major, "slot_home").await;
        let workspace = pair.workspace(core).await;
        let name = unique(&pair.publisher);
        workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
        workspace.apply().await;
        let drop = format!("DO $$ BEGIN PERFORM pg_drop_replication_slot('{name}'); END $$");
        pair.publisher.sql(&drop).await;
        pair.subscriber
            .value::<String>(&format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')::text"))
            .await;

        let failed = workspace.apply_error().await;
        let home = format!("It is one of database \"{}\"", pair.subscriber.name);
        assert!(failed.flat().contains(&home), "{}", failed.text());
        let id = format!("{}/{name}", pair.publisher.name);
        workspace.expect(&["import", "-no-color", ADDRESS, &id], 1).await;
        workspace.destroy().await;
        assert_eq!(slots(&pair.subscriber).await.len(), 1);

        // With its database, it is the one.
        let body = format!("name = \"{name}\"\ndatabase = \"{}\"", pair.subscriber.name);
        workspace.write("main.tf", &config(&body));
        workspace.import(ADDRESS, &format!("{}/{name}", pair.subscriber.name)).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(slots(&pair.subscriber).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_name_that_no_slot_can_have_is_refused_at_its_line() {
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        workspace.write("provider.tf", "provider \"neonrepl\" {}\n");
        workspace.write("main.tf", &config("name = \"Shop-1\""));
        workspace.init().await;
        let run = workspace.expect(&["validate", "-no-color"], 1).await;
        for said in ["on main.tf line 2", "lower-case letters, digits and underscores"] {
            assert!(run.flat().contains(said), "{said} is not in {}", run.text());
        }
    }
}
