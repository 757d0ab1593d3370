// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replication_slot` through real cores, from its first plan to its end.

use serde_json::json;

use crate::common::cli::{Core, Workspace, says};
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

/// The slots of a database on the server.
async fn slots(database: &Database) -> Vec<String> {
    let query = "SELECT concat_ws(' ', slot_name, plugin, CASE WHEN two_phase THEN 'two_phase' END) \
        FROM pg_replication_slots WHERE database = current_database() ORDER BY 1";
    database.rows(query).await
}

/// The actions of the only planned change.
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

on_every_pair!(life, in_use, named);

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

    // A change of the timeouts is not a change of the slot.
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
        [format!("creating replication slot \"{name}\": it already exists"), format!("import it by the id \"{id}\"")]
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
    let plan = workspace.plan().await.flat();
    let says = format!("replacing replication slot \"{name}\" loses its position");
    assert!(plan.contains(&says) && plan.contains(" of WAL from the old slot's restart_lsn until now"), "{plan}");
    assert_eq!(actions(workspace).await, json!(["delete", "create"]));
    workspace.apply().await;
    assert_eq!(slots(database).await, [format!("{name} pgoutput two_phase")]);
    workspace.expect_empty_plan().await;

    workspace.write("main.tf", &config(&format!("name = \"{name}\"\nfailover = true")));
    if major >= Major::V17 {
        let position = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = current_database()";
        let before: String = database.value(position).await;
        assert_eq!(actions(workspace).await, json!(["update"]));
        workspace.apply().await;
        assert!(
            database
                .value::<bool>("SELECT failover FROM pg_replication_slots WHERE database = current_database()")
                .await
        );
        assert_eq!(database.value::<String>(position).await, before, "it is the same slot");
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

/// A pair with a managed slot, and a subscription `reader` that reads from it.
async fn subscribed(core: Core, major: Major, other: Major, prefix: &str) -> (Pair, Workspace, String) {
    let pair = Pair::new(major, other, prefix).await;
    let workspace = pair.workspace(core).await;
    let name = unique(&pair.publisher);
    workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
    workspace.apply().await;
    subscribe(&pair, &name).await;
    wait_for_activity(&pair.publisher, &name, true).await;
    (pair, workspace, name)
}

async fn subscribe(pair: &Pair, slot: &str) {
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
    let connection = pair.publisher.url();
    let options = format!("create_slot = false, slot_name = '{slot}'");
    pair.subscriber
        .sql(&format!("CREATE SUBSCRIPTION reader CONNECTION '{connection}' PUBLICATION shop WITH ({options})"))
        .await;
}

/// Detaches the subscription from its slot.
async fn detach(pair: &Pair) {
    pair.subscriber.sql("ALTER SUBSCRIPTION reader DISABLE; ALTER SUBSCRIPTION reader SET (slot_name = NONE)").await;
}

const DESTROY: [&str; 3] = ["destroy", "-auto-approve", "-no-color"];

/// A slot stays as long as a subscription reads from it.
async fn in_use(core: Core, major: Major, other: Major) {
    let (pair, workspace, name) = subscribed(core, major, other, "slot_use").await;
    let slot = |time: &str, forced: bool| {
        config(&format!("name = \"{name}\"\nforce_destroy = {forced}\ntimeouts {{\ndelete = \"{time}\"\n}}"))
    };
    workspace.write("main.tf", &slot("2s", false));
    workspace.apply().await;
    let whose = format!("subscription \"reader\" of database \"{}\" on the subscriber uses it", pair.subscriber.name);
    let failed = workspace.expect(&DESTROY, 1).await;
    says(&failed, &[&whose, "Nothing was changed", "Destroy the subscription first", "force_destroy = true"]);
    assert_eq!(slots(&pair.publisher).await.len(), 1);

    // With force it is dropped, but no reader is ended.
    workspace.write("main.tf", &slot("2s", true));
    workspace.apply().await;
    let failed = workspace.expect(&DESTROY, 1).await;
    says(&failed, &["is active for PID", "(55006)", "Its reader calls itself \"reader\"", "timeouts.delete"]);
    assert_eq!(slots(&pair.publisher).await.len(), 1);

    for forced in [false, true] {
        workspace.write("main.tf", &slot("2m", forced));
        workspace.apply().await;
        if forced {
            subscribe(&pair, &name).await;
            wait_for_activity(&pair.publisher, &name, true).await;
        }
        workspace.expect(&["apply", "-refresh-only", "-auto-approve", "-no-color"], 0).await;
        assert_eq!(workspace.attributes(ADDRESS).await["active"], true);
        let destroying = workspace.spawn(&DESTROY);
        destroying.wait_for("Destroying...").await;
        detach(&pair).await;
        let destroyed = destroying.wait().await;
        assert_eq!(destroyed.code, Some(0), "{}", destroyed.text());
        assert_eq!(slots(&pair.publisher).await, [""; 0]);
        pair.subscriber.sql("DROP SUBSCRIPTION reader").await;
        pair.publisher.sql("DROP PUBLICATION shop").await;
    }
}

/// A new slot in place of one that a subscription uses would silently lose rows.
async fn named(core: Core, major: Major, other: Major) {
    let (pair, workspace, name) = subscribed(core, major, other, "slot_named").await;
    let whose = format!("subscription \"reader\" of database \"{}\" on the subscriber uses it", pair.subscriber.name);
    let replaced = format!("replacing replication slot \"{name}\" loses its position");
    let again = format!("replication slot \"{name}\" already exists: recreating it loses its position");
    let lost = " of WAL from the old slot's restart_lsn until now";
    let replace = format!("-replace={ADDRESS}");
    for enabled in [true, false] {
        if !enabled {
            pair.subscriber.sql("ALTER SUBSCRIPTION reader DISABLE").await;
            wait_for_activity(&pair.publisher, &name, false).await;
            pair.publisher.sql("INSERT INTO orders VALUES (1), (2)").await;
        }
        for body in [
            format!("name = \"{name}\"\ntwo_phase = true"),
            format!("name = \"{name}\"\nplugin = \"test_decoding\""),
            format!("name = \"{name}_2\""),
            format!("name = \"{name}\"\ndatabase = \"postgres\""),
        ] {
            workspace.write("main.tf", &config(&body));
            let refused = workspace.expect(&["plan", "-no-color"], 1).await;
            says(&refused, &[&replaced, &whose, lost, "apply force_destroy = true first"]);
        }
        workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
        let refused = workspace.expect(&["apply", "-auto-approve", "-no-color", &replace], 1).await;
        says(&refused, &[&again, &whose, lost]);
    }
    pair.subscriber.sql("ALTER SUBSCRIPTION reader ENABLE").await;
    pair.wait_for_rows("SELECT id FROM orders ORDER BY id", &["1", "2"]).await;

    let forced = format!("name = \"{name}\"\nforce_destroy = true");
    workspace.write("main.tf", &config(&forced));
    workspace.apply().await;
    pair.subscriber.sql("ALTER SUBSCRIPTION reader DISABLE").await;
    wait_for_activity(&pair.publisher, &name, false).await;
    workspace.write("main.tf", &config(&format!("{forced}\ntwo_phase = true")));
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    says(&plan, &[&replaced, &whose, lost]);
    workspace.apply().await;
    assert_eq!(slots(&pair.publisher).await, [format!("{name} pgoutput two_phase")]);
    detach(&pair).await;
    pair.subscriber.sql("DROP SUBSCRIPTION reader").await;
    workspace.destroy().await;
}

/// Reads a slot's changes, like another consumer.
async fn consume(database: &Database, slot: &str) {
    let read = format!(
        "SELECT lsn::text FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL, 'proto_version', '1', \
         'publication_names', 'shop')"
    );
    database.rows(&read).await;
}

/// Without a subscription, the slot itself shows whether it is in use.
#[tokio::test]
async fn a_slot_that_was_read_is_not_replaced() {
    for (core, major) in Core::installed().into_iter().zip([Major::V14, Major::V18]) {
        let pair = Pair::new(major, Major::V16, "slot_read").await;
        let workspace = pair.workspace(core).await;
        let name = unique(&pair.publisher);
        let other_plugin = config(&format!("name = \"{name}\"\nplugin = \"test_decoding\""));
        workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
        workspace.apply().await;
        pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
        pair.publisher.sql("INSERT INTO orders VALUES (1)").await;
        workspace.write("main.tf", &other_plugin);
        assert_eq!(actions(&workspace).await, json!(["delete", "create"]), "nobody has read from it");
        consume(&pair.publisher, &name).await;
        let refused = workspace.expect(&["plan", "-no-color"], 1).await;
        says(&refused, &["loses its position: it has been read from, and its reader may return"]);
        workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
        workspace.destroy().await;
        assert_eq!(slots(&pair.publisher).await, [""; 0]);
    }
}

/// A subscriber that cannot be queried may have a subscription that needs the slot.
#[tokio::test]
async fn a_subscriber_that_does_not_answer_is_not_taken_for_none() {
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V17]) {
        let pair = Pair::new(major, Major::V16, "slot_mute").await;
        let mut workspace = pair.workspace(core).await;
        let name = unique(&pair.publisher);
        workspace.write("main.tf", &config(&format!("name = \"{name}\"")));
        workspace.apply().await;
        let mute = pair.subscriber.url().replace(&format!(":{}/", pair.subscriber.port), ":1/");
        workspace.env("NEONREPL_SUBSCRIBER_URL", &mute);
        let unknown = "the provider's subscriber could not be asked whether one of its subscriptions uses it";
        says(&workspace.expect(&DESTROY, 1).await, &[unknown, "Nothing was changed"]);
        workspace.write("main.tf", &config(&format!("name = \"{name}\"\ntwo_phase = true")));
        says(&workspace.expect(&["plan", "-no-color"], 1).await, &[unknown]);
        workspace.write("main.tf", &config(&format!("name = \"{name}\"\nforce_destroy = true")));
        workspace.apply().await;
        workspace.destroy().await;
        assert_eq!(slots(&pair.publisher).await, [""; 0]);
    }
}

/// A subscription whose slot is gone would continue from a new one as if nothing were missing.
#[tokio::test]
async fn a_slot_that_comes_too_late_is_said() {
    for core in Core::installed() {
        let (pair, workspace, name) = subscribed(core, Major::V16, Major::V18, "slot_late").await;
        pair.subscriber.sql("ALTER SUBSCRIPTION reader DISABLE").await;
        wait_for_activity(&pair.publisher, &name, false).await;
        pair.publisher.sql(&format!("DO $$ BEGIN PERFORM pg_drop_replication_slot('{name}'); END $$")).await;
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        let yet = format!("there is no replication slot \"{name}\" yet, and subscription \"reader\"");
        says(&plan, &[&yet, "it misses what was written before"]);
        detach(&pair).await;
        pair.subscriber.sql("DROP SUBSCRIPTION reader").await;
        workspace.destroy().await;
    }
}

/// A subscription and its slot in one configuration are created and destroyed together, in any order of the core.
#[tokio::test]
async fn a_slot_and_its_subscription_live_together() {
    for core in Core::installed() {
        for reference in [true, false] {
            let pair = Pair::new(Major::V17, Major::V18, "slot_both").await;
            let workspace = pair.workspace(core).await;
            let name = unique(&pair.publisher);
            pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
            let slot = config(&format!("name = \"{name}\""));
            let slot_name = if reference { format!("{ADDRESS}.name") } else { format!("\"{name}\"") };
            let subscription = |called: &str| {
                format!(
                    "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{called}\"\n  publications = [\"shop\"]\n  \
                     create_slot = false\n  slot_name = {slot_name}\n}}\n"
                )
            };
            workspace.write("main.tf", &slot);
            workspace.apply().await;
            workspace.write("main.tf", &format!("{slot}{}", subscription("reader")));
            workspace.apply().await;
            workspace.expect_empty_plan().await;
            workspace.write("main.tf", &format!("{slot}{}", subscription("other")));
            workspace.apply().await;
            workspace.expect_empty_plan().await;
            workspace.destroy().await;
            assert_eq!(pair.slots().await, [""; 0]);
        }
    }
}

/// `failover` of a slot with a reader is changed by its subscription, without losing a row.
#[tokio::test]
async fn failover_changes_under_a_subscription() {
    for (core, subscriber) in Core::installed().into_iter().zip([Major::V18, Major::V17]) {
        let (pair, workspace, name) = subscribed(core, Major::V17, subscriber, "slot_failover").await;
        let failovers = async || {
            let slot = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{name}'");
            let subscription =
                format!("SELECT subfailover AND subenabled FROM pg_subscription WHERE subslotname = '{name}'");
            (pair.publisher.value::<bool>(&slot).await, pair.subscriber.value::<bool>(&subscription).await)
        };
        assert_eq!(failovers().await, (false, false));
        workspace.write("main.tf", &config(&format!("name = \"{name}\"\nfailover = true")));
        let plan = workspace.plan().await;
        says(&plan, &["subscription \"reader\"", "is disabled for a moment", "1 to change"]);
        pair.publisher.sql("INSERT INTO orders VALUES (1)").await;
        workspace.apply().await;
        assert_eq!(failovers().await, (true, true));
        pair.publisher.sql("INSERT INTO orders VALUES (2)").await;
        pair.wait_for_rows("SELECT id FROM orders ORDER BY id", &["1", "2"]).await;
        workspace.expect_empty_plan().await;
        detach(&pair).await;
        pair.subscriber.sql("DROP SUBSCRIPTION reader").await;
        workspace.destroy().await;
    }
}

/// A subscriber that has no such option cannot pass it on; while its subscription rests, the slot can be changed.
#[tokio::test]
async fn failover_waits_for_an_older_subscriber() {
    for core in Core::installed() {
        let (pair, workspace, name) = subscribed(core, Major::V18, Major::V16, "slot_older").await;
        workspace.write("main.tf", &config(&format!("name = \"{name}\"\nfailover = true")));
        let refused = workspace.expect(&["plan", "-no-color"], 1).await;
        says(
            &refused,
            &["it is read from by a reader that calls itself \"reader\"", "ALTER SUBSCRIPTION \"reader\" DISABLE"],
        );
        pair.subscriber.sql("ALTER SUBSCRIPTION reader DISABLE").await;
        wait_for_activity(&pair.publisher, &name, false).await;
        pair.publisher.sql("INSERT INTO orders VALUES (1)").await;
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        pair.subscriber.sql("ALTER SUBSCRIPTION reader ENABLE").await;
        pair.wait_for_rows("SELECT id FROM orders", &["1"]).await;
        detach(&pair).await;
        pair.subscriber.sql("DROP SUBSCRIPTION reader").await;
        workspace.destroy().await;
    }
}

async fn wait_for_activity(database: &Database, name: &str, active: bool) {
    let query = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{name}'");
    wait_until("the slot's reader", DEADLINE, async || database.optional::<bool>(&query).await == Some(active)).await;
}

/// A slot of the same name in another database of the cluster is a different one.
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
        let home = format!("It belongs to database \"{}\"", pair.subscriber.name);
        assert!(failed.flat().contains(&home), "{}", failed.text());
        let id = format!("{}/{name}", pair.publisher.name);
        workspace.expect(&["import", "-no-color", ADDRESS, &id], 1).await;
        workspace.destroy().await;
        assert_eq!(slots(&pair.subscriber).await.len(), 1);

        // With its database, it is the right one.
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
