// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_subscription` through real cores, from its first plan to its end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Database, Major, Role};
use crate::common::relay::Relay;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair, on_every_pair};

const ADDRESS: &str = "neonrepl_subscription.shop";

/// A publication of these tables, and a subscription to it with these further arguments.
fn config(tables: &str, arguments: &str) -> String {
    format!(
        "resource \"neonrepl_publication\" \"shop\" {{
  name   = \"shop\"
  tables = [{tables}]
}}

resource \"neonrepl_subscription\" \"shop\" {{
{arguments}
}}
"
    )
}

/// A subscription: the columns of its catalog row that every version has.
async fn row(database: &Database) -> Vec<String> {
    let query = "SELECT subname, subenabled, subbinary, subdisableonerr, subslotname, \
        (SELECT string_agg(p, ',' ORDER BY p) FROM unnest(subpublications) p) FROM pg_subscription \
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    database.rows(query).await
}

/// The only change of a plan: its actions, and the planned values.
async fn planned(workspace: &Workspace) -> (Value, Value) {
    let mut plan = workspace.plan_json().await;
    let changes = plan["resource_changes"].as_array_mut().expect("changes");
    let change = &mut changes.iter_mut().find(|change| change["address"] == ADDRESS).expect("the change")["change"];
    (change["actions"].take(), change["after"].take())
}

async fn life(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "subscription").await;
    // Slot names are unique on a server, and the tests share servers.
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;

    create(&workspace, &pair, &name).await;
    update_in_place(&workspace, &pair, &name).await;
    publish_more(&workspace, &pair, &name).await;
    import(&workspace, &pair, &name).await;
    disappear(&workspace, &pair, &name).await;

    workspace.destroy().await;
    assert_eq!(row(&pair.subscriber).await, [""; 0]);
    assert_eq!(pair.slots().await, [""; 0]);
}

on_every_pair!(life);

fn simple(name: &str) -> String {
    format!("  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]")
}

async fn create(workspace: &Workspace, pair: &Pair, name: &str) {
    pair.publisher.sql("INSERT INTO orders SELECT n, n, 'eu' FROM generate_series(1, 5) n").await;
    let arguments = format!("{}\n  wait_for_initial_sync = true", simple(name));
    workspace.write("main.tf", &config("\"orders\"", &arguments));
    workspace.apply().await;
    assert_eq!(pair.subscriber.rows("SELECT count(*) FROM orders").await, ["5"], "create waits for the copy");
    pair.publisher.sql("INSERT INTO orders VALUES (6, 6, 'us')").await;
    pair.wait_for_rows("SELECT count(*) FROM orders", &["6"]).await;
    assert_eq!(pair.slots().await, [name]);
    let state = workspace.attributes(ADDRESS).await;
    assert_eq!(state["id"], format!("{}/{name}", pair.subscriber.name));
    assert_eq!(state["slot_name"], name);
    assert_eq!(state["unsubscribed_tables"], json!([]));
    workspace.expect_empty_plan().await;
}

async fn update_in_place(workspace: &Workspace, pair: &Pair, name: &str) {
    let renamed = format!("{name}-renamed");
    let arguments = format!(
        "{}\n  slot_name = \"{name}\"\n  binary = true\n  streaming = \"on\"\n  disable_on_error = true\n  enabled = false",
        simple(&renamed)
    );
    workspace.write("main.tf", &config("\"orders\"", &arguments));
    assert_eq!(planned(workspace).await.0, json!(["update"]));
    workspace.apply().await;
    assert_eq!(row(&pair.subscriber).await, [format!("{renamed}|f|t|t|{name}|shop")]);
    workspace.expect_empty_plan().await;

    pair.publisher
        .value::<String>(&format!(
            "SELECT slot_name::text FROM pg_create_logical_replication_slot('{name}_b', 'pgoutput')"
        ))
        .await;
    let arguments = format!("{}\n  slot_name = \"{name}_b\"\n  binary = false", simple(name));
    workspace.write("main.tf", &config("\"orders\"", &arguments));
    workspace.apply().await;
    assert_eq!(row(&pair.subscriber).await, [format!("{name}|t|f|t|{name}_b|shop")], "what is not set stays");
    workspace.expect_empty_plan().await;
    pair.publisher.sql("INSERT INTO orders VALUES (7, 7, 'us')").await;
    pair.wait_for_rows("SELECT count(*) FROM orders", &["7"]).await;
    wait_until("the old slot to be free", DEADLINE, async || {
        pair.publisher.try_sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await.is_ok()
    })
    .await;
}

async fn publish_more(workspace: &Workspace, pair: &Pair, name: &str) {
    pair.publisher.sql("INSERT INTO customers VALUES (1, 'a'); INSERT INTO invoices VALUES (1, 1, 'eu', 'n')").await;
    pair.publisher.sql("CREATE PUBLICATION extra FOR TABLE orders").await;
    let slot = format!("  slot_name = \"{name}_b\"");
    let triggers = "  refresh_triggers = { shop = neonrepl_publication.shop.fingerprint }";
    workspace.write("main.tf", &config("\"orders\"", &format!("{}\n{slot}\n{triggers}", simple(name))));
    workspace.apply().await;
    workspace.write("main.tf", &config("\"orders\", \"customers\"", &format!("{}\n{slot}\n{triggers}", simple(name))));
    workspace.apply().await;
    let subscribed = "SELECT srrelid::regclass::text FROM pg_subscription_rel ORDER BY 1";
    assert_eq!(pair.subscriber.rows(subscribed).await, ["customers", "orders"]);
    pair.wait_for_rows("SELECT name FROM customers", &["a"]).await;
    workspace.expect_empty_plan().await;

    let publications = format!("  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name, \"extra\"]");
    workspace.write("main.tf", &config("\"orders\", \"customers\"", &format!("{publications}\n{slot}\n{triggers}")));
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    pair.publisher.sql("ALTER PUBLICATION extra ADD TABLE invoices").await;
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    assert!(plan.text().contains("public.invoices"), "{}", plan.text());
    workspace.apply().await;
    pair.wait_for_rows("SELECT note FROM invoices", &["n"]).await;
    workspace.expect_empty_plan().await;
}

async fn import(workspace: &Workspace, pair: &Pair, name: &str) {
    let publications = format!("  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name, \"extra\"]");
    workspace.write("main.tf", &config("\"orders\", \"customers\"", &publications));
    workspace.apply().await;
    let forget = ["state", "rm", ADDRESS];
    workspace.expect(&forget, 0).await;
    workspace.import(ADDRESS, &format!("{}/{name}", pair.subscriber.name)).await;
    workspace.expect_empty_plan().await;

    workspace.expect(&forget, 0).await;
    workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  identity = {{ name = \"{name}\" }}\n}}\n"));
    let applied = workspace.apply().await;
    assert!(applied.text().contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", applied.text());

    workspace.expect(&forget, 0).await;
    workspace.write(
        "main.tf",
        &config("\"orders\", \"customers\"", "").replace("resource \"neonrepl_subscription\" \"shop\" {\n\n}\n", ""),
    );
    workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  id = \"{name}\"\n}}\n"));
    workspace.expect(&["plan", "-no-color", "-generate-config-out=generated.tf"], 0).await;
    let applied = workspace.apply().await;
    assert!(applied.text().contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", applied.text());
    workspace.write("import.tf", "");
    workspace.write("generated.tf", "");
    workspace.write("main.tf", &config("\"orders\", \"customers\"", &publications));
    workspace.expect_empty_plan().await;
}

async fn disappear(workspace: &Workspace, pair: &Pair, name: &str) {
    pair.subscriber
        .sql(&format!("ALTER SUBSCRIPTION {name} DISABLE; ALTER SUBSCRIPTION {name} SET (binary = true)"))
        .await;
    workspace.write("main.tf", &config("\"orders\", \"customers\"", &format!("{}\n  binary = false", simple(name))));
    let plan = workspace.plan().await;
    for shown in ["enabled", "binary", "publications", "1 to change"] {
        assert!(plan.text().contains(shown), "{shown} is not in {}", plan.text());
    }
    workspace.apply().await;
    assert_eq!(row(&pair.subscriber).await, [format!("{name}|t|f|t|{name}_b|shop")]);
    workspace.expect_empty_plan().await;

    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    pair.subscriber.sql("TRUNCATE orders, customers, invoices").await;
    let (actions, after) = planned(workspace).await;
    assert_eq!(actions, json!(["create"]));
    assert_eq!(after["slot_name"], name);
    workspace.apply().await;
    pair.wait_for_rows("SELECT count(*) FROM orders", &["7"]).await;
    assert_eq!(pair.slots().await, [name]);
}

const PASSWORD_VARIABLE: &str = "variable \"password\" {\n  type      = string\n  ephemeral = true\n}\n";

fn with_publisher(name: &str, role: &Role, version: u32) -> String {
    format!(
        "{}\n  connection_version = {version}\n  publisher {{\n    username = {:?}\n    password_wo = var.password\n    options = {{ keepalives_idle = \"60\" }}\n  }}",
        simple(name),
        role.name
    )
}

/// A role that may replicate, and its password.
async fn replicator(pair: &Pair, major: Major) -> Role {
    let role = servers::shared(major).role("replicator", "REPLICATION").await;
    pair.publisher.sql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", servers::quote(&role.name))).await;
    role
}

async fn conninfo(pair: &Pair) -> String {
    pair.subscriber.value("SELECT subconninfo FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())").await
}

async fn a_password_is_written_only(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "write_only").await;
    let name = pair.subscriber.name.clone();
    let role = replicator(&pair, from).await;
    let mut workspace = pair.workspace(core).await;
    let rotated = "pw-rotated it's 9Yx";
    workspace.secret(&role.password).secret(rotated).env("TF_LOG", "trace").env("TF_VAR_password", &role.password);
    workspace
        .write("main.tf", &(PASSWORD_VARIABLE.to_owned() + &config("\"orders\"", &with_publisher(&name, &role, 1))));
    let applied = workspace.apply().await;
    assert!(applied.stderr.contains("CREATE SUBSCRIPTION"), "the trace holds the statements");
    assert!(conninfo(&pair).await.contains(&role.password));
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
    workspace.expect_empty_plan().await;

    let alter = format!("ALTER ROLE {} PASSWORD '{}'", servers::quote(&role.name), rotated.replace('\'', "''"));
    pair.publisher.sql(&alter).await;
    workspace.env("TF_VAR_password", rotated);
    workspace
        .write("main.tf", &(PASSWORD_VARIABLE.to_owned() + &config("\"orders\"", &with_publisher(&name, &role, 2))));
    workspace.apply().await;
    assert!(conninfo(&pair).await.contains("pw-rotated"));
    pair.publisher.sql("INSERT INTO orders VALUES (2, 2, 'eu')").await;
    pair.wait_for_rows("SELECT count(*) FROM orders", &["2"]).await;
    workspace.expect_empty_plan().await;

    workspace.env("TF_VAR_password", "pw-wrong-3c");
    workspace.secret("pw-wrong-3c");
    workspace
        .write("main.tf", &(PASSWORD_VARIABLE.to_owned() + &config("\"orders\"", &with_publisher("other", &role, 2))));
    workspace.env("TF_LOG", "");
    workspace.destroy().await;
    let failed = workspace.apply_error().await;
    assert!(failed.flat().contains("password authentication failed"), "{}", failed.text());
    workspace.destroy().await;
    assert_eq!(pair.slots().await, [""; 0]);
}

#[tokio::test]
async fn a_password_is_written_only_by_terraform() {
    a_password_is_written_only(Core::Terraform, Major::V15, Major::V18).await;
}

#[tokio::test]
async fn a_password_is_written_only_by_opentofu() {
    a_password_is_written_only(Core::OpenTofu, Major::V18, Major::V15).await;
}

#[tokio::test]
async fn a_password_in_the_state_is_nowhere_else_and_its_drift_is_mended() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V18, Major::V15, "in_state").await;
        let name = pair.subscriber.name.clone();
        let role = replicator(&pair, Major::V18).await;
        let mut workspace = pair.workspace(core).await;
        workspace.env("TF_LOG", "trace").env("TF_VAR_password", &role.password);
        let connection = format!("  publisher {{\n    username = {:?}\n    password = var.password\n  }}", role.name);
        let arguments = format!("{}\n{connection}", simple(&name));
        workspace.write(
            "main.tf",
            &("variable \"password\" {\n  sensitive = true\n}\n".to_owned() + &config("\"orders\"", &arguments)),
        );
        let applied = workspace.apply().await;
        assert!(!applied.text().contains(&role.password));
        assert!(workspace.state().contains(&role.password));
        workspace.expect_empty_plan().await;

        let drifted = conninfo(&pair).await.replace(&role.password, "pw-drifted-5t");
        assert!(drifted.contains("pw-drifted-5t"), "{drifted}");
        workspace.secret("pw-drifted-5t");
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} CONNECTION '{}'", drifted.replace('\'', "''"))).await;
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        assert!(plan.stdout.contains("connection_differs") && plan.stdout.contains("\"password\""), "{}", plan.stdout);
        assert!(!plan.text().contains(&role.password));
        workspace.apply().await;
        assert!(conninfo(&pair).await.contains(&role.password));
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn both_databases_of_one_cluster_do_not_wait_for_each_other() {
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V18]) {
        let pair = Pair::on_one_server(major, "one_cluster").await;
        let name = pair.subscriber.name.clone();
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config("\"orders\"", &simple(&name)));
        workspace.apply().await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

/// `CREATE SUBSCRIPTION` creates its slot inside a transaction that has written; two of them would wait for each other.
#[tokio::test]
async fn two_in_opposite_directions_do_not_wait_for_each_other() {
    let there = Pair::crossing("there").await;
    let back = Pair::crossing("back").await.reversed();
    let (mut workspaces, mut old) = (Vec::new(), Vec::new());
    for pair in [&there, &back] {
        let workspace = pair.workspace(Core::OpenTofu).await;
        workspace.write("main.tf", &config("\"orders\"", &simple(&pair.subscriber.name)));
        workspaces.push(workspace);
        // Until it ends, no slot is created: both are in progress then.
        let transaction = pair.publisher.connect_as(&Role::superuser()).await.expect("a connection");
        transaction.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("a transaction");
        old.push(transaction);
    }
    let applies: Vec<_> =
        workspaces.iter().map(|workspace| workspace.spawn(&["apply", "-auto-approve", "-no-color"])).collect();
    for pair in [&there, &back] {
        let name = pair.subscriber.name.clone();
        wait_until("the slot to be in the making", DEADLINE, async || pair.slots().await.contains(&name)).await;
    }
    for transaction in old {
        transaction.batch_execute("COMMIT").await.expect("the end of the transaction");
    }
    for apply in applies {
        let run = apply.wait().await;
        assert_eq!(run.code, Some(0), "{}", run.text());
    }
    for (workspace, pair) in workspaces.iter().zip([&there, &back]) {
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_publisher_that_is_gone_hinders_destroying_unless_it_is_forced() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V15)]) {
        let pair = Pair::new(from, to, "unreachable").await;
        let name = pair.subscriber.name.clone();
        let relay = Relay::start(pair.publisher.port, Duration::ZERO);
        let publisher = pair.publisher.url_through(&Role::superuser(), relay.port());
        let workspace = pair.workspace_with(core, &publisher, &pair.subscriber.url()).await;
        workspace.write("main.tf", &config("\"orders\"", &simple(&name)));
        workspace.apply().await;

        relay.refuse();
        let target = format!("-target={ADDRESS}");
        let destroy = ["destroy", "-auto-approve", "-no-color", "-refresh=false", &target];
        let failed = workspace.expect(&destroy, 1).await;
        for said in ["dropping subscription", "force_destroy = true"] {
            assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
        }
        assert!(!row(&pair.subscriber).await.is_empty());
        workspace.write("main.tf", &config("\"orders\"", &format!("{}\n  force_destroy = true", simple(&name))));
        workspace.expect(&["apply", "-auto-approve", "-no-color", "-refresh=false", &target], 0).await;
        let forced = workspace.expect(&destroy, 0).await;
        assert!(
            forced.flat().contains(&format!("replication slot \"{name}\" stays on the publisher")),
            "{}",
            forced.text()
        );
        assert!(forced.flat().contains(&format!("SELECT pg_drop_replication_slot('{name}')")), "{}", forced.text());
        assert_eq!(row(&pair.subscriber).await, [""; 0]);
        assert_eq!(pair.slots().await, [name.as_str()]);

        relay.open();
        wait_until("the orphan to be free", DEADLINE, async || {
            pair.publisher.try_sql(&format!("SELECT pg_drop_replication_slot('{name}')")).await.is_ok()
        })
        .await;
        workspace.destroy().await;
    }
}

/// An old transaction on the publisher delays the creation of a slot there.
#[tokio::test]
async fn an_interrupted_create_leaves_nothing_and_is_finished_later() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V15)]) {
        let pair = Pair::new(from, to, "interrupted").await;
        let name = pair.subscriber.name.clone();
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config("\"orders\"", &simple(&name)));
        let old = pair.publisher.connect_as(&Role::superuser()).await.expect("a connection");
        old.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.expect("a transaction");
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        wait_until("the slot to be in the making", DEADLINE, async || pair.slots().await.contains(&name)).await;
        apply.interrupt().await;
        let run = apply.wait().await;
        assert_eq!(run.code, Some(1), "{}", run.text());
        assert!(!workspace.state().contains(ADDRESS.rsplit('.').nth(1).expect("a type")), "{}", workspace.state());
        assert_eq!(row(&pair.subscriber).await, [""; 0]);
        old.batch_execute("COMMIT").await.expect("the end of the transaction");
        wait_until("the slot to go", DEADLINE, async || pair.slots().await.is_empty()).await;
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn an_interrupted_wait_for_the_copy_keeps_the_subscription() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V15)]) {
        let pair = Pair::new(from, to, "waiting").await;
        let name = pair.subscriber.name.clone();
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        let workspace = pair.workspace(core).await;
        workspace
            .write("main.tf", &config("\"orders\"", &format!("{}\n  wait_for_initial_sync = true", simple(&name))));
        let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
        lock.batch_execute("BEGIN; LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE").await.expect("a lock");
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        let copying = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'd'";
        wait_until("the copy to wait", DEADLINE, async || pair.subscriber.value::<i64>(copying).await > 0).await;
        apply.interrupt().await;
        let run = apply.wait().await;
        assert_eq!(run.code, Some(1), "{}", run.text());
        assert!(run.flat().contains("goes on copying 1 of 1 table"), "{}", run.text());
        assert!(!workspace.state().contains("tainted"), "{}", workspace.state());
        lock.batch_execute("COMMIT").await.expect("the end of the lock");
        workspace.expect_empty_plan().await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_slot_that_is_there_is_not_taken_from_its_owner() {
    for (core, major) in Core::installed().into_iter().zip([Major::V18, Major::V15]) {
        let pair = Pair::new(major, Major::V18, "taken").await;
        let name = pair.subscriber.name.clone();
        pair.publisher
            .value::<String>(&format!(
                "SELECT slot_name::text FROM pg_create_logical_replication_slot('{name}', 'pgoutput')"
            ))
            .await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config("\"orders\"", &simple(&name)));
        let failed = workspace.apply_error().await;
        for said in ["already exists", "create_slot = false"] {
            assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
        }
        assert_eq!(row(&pair.subscriber).await, [""; 0]);
        assert_eq!(pair.slots().await, [name.as_str()], "it was there before");

        workspace.write("main.tf", &config("\"orders\"", &format!("{}\n  create_slot = false", simple(&name))));
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

/// Each error is at the line of its attribute, or of the block if the attribute is missing.
#[tokio::test]
async fn a_wrong_configuration_is_refused_at_its_attribute() {
    let cases = [
        ("name = \"a\"\npublications = []", 8, "It must not be empty"),
        ("name = \"a\"\npublications = [\"p\"]\nslot_name = \"A\"", 9, "is not a valid slot name"),
        ("name = \"A\"\npublications = [\"p\"]", 6, "slot_name must be set"),
        ("name = \"a\"\npublications = [\"p\"]\nstreaming = \"maybe\"", 9, "\"parallel\""),
        (
            "name = \"a\"\npublications = [\"p\"]\nconnect = false\nenabled = false\ncreate_slot = false\ncopy_data = true",
            12,
            "connect = false needs copy_data = false",
        ),
        (
            "name = \"a\"\npublications = [\"p\"]\npublisher {\npassword = \"x\"\npassword_wo = \"x\"\n}",
            10,
            "exclude each other",
        ),
        ("name = \"a\"\npublications = [\"p\"]\npublisher {\noptions = { host = \"h\" }\n}", 10, "its own attribute"),
        ("name = \"a\"\npublications = [\"p\"]\ntimeouts {\ncreate = \"soon\"\n}", 10, "timeouts"),
    ];
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        workspace.init().await;
        for (body, line, says) in &cases {
            workspace.write("main.tf", &config("\"orders\"", body));
            let run = workspace.expect(&["validate", "-json"], 1).await;
            let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
            let errors = found["diagnostics"].as_array().expect("diagnostics");
            assert!(
                errors.iter().all(|error| error["range"]["start"]["line"] == *line)
                    && run.stdout.replace("\\\"", "\"").contains(says),
                "{body}: {errors:#?}"
            );
        }
    }
}

/// A transaction that wrote before a publication existed, and commits after it, cannot be decoded for it either.
#[tokio::test]
async fn a_publication_joins_once_older_transactions_have_ended() {
    for (from, to) in [(Major::V14, Major::V16), (Major::V17, Major::V18)] {
        let pair = Pair::new(from, to, "older").await;
        let name = pair.subscriber.name.clone();
        let workspace = pair.workspace(Core::OpenTofu).await;
        let arguments = format!("{}\n  wait_for_initial_sync = true", simple(&name));
        workspace.write("main.tf", &config("\"orders\"", &arguments));
        workspace.apply().await;

        let old = pair.publisher.connect_as(&Role::superuser()).await.expect("a connection");
        old.batch_execute("BEGIN; INSERT INTO orders VALUES (1, 1, 'eu')").await.expect("a transaction");
        pair.publisher.sql("CREATE PUBLICATION more FOR TABLE customers").await;
        let both = arguments.replace("[neonrepl_publication.shop.name]", "[neonrepl_publication.shop.name, \"more\"]");
        workspace.write("main.tf", &config("\"orders\"", &both));
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        let alone = row(&pair.subscriber).await;
        let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND query LIKE '%pg_snapshot_xmin%' AND pid <> pg_backend_pid()";
        wait_until("the apply to wait or to go on", DEADLINE, async || {
            pair.publisher.value::<i64>(looks).await > 0 || row(&pair.subscriber).await != alone
        })
        .await;
        old.batch_execute("COMMIT").await.expect("the end of the transaction");
        let run = apply.wait().await;
        assert_eq!(run.code, Some(0), "{}", run.text());

        pair.publisher.sql("INSERT INTO orders VALUES (2, 2, 'eu'); INSERT INTO customers VALUES (1)").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["2"]).await;
        pair.wait_for_rows("SELECT count(*) FROM customers", &["1"]).await;
        workspace.destroy().await;
    }
}

/// Changes from before a publication existed cannot be decoded for it: joining too early would stop the
/// subscription for good.
#[tokio::test]
async fn a_publication_joins_once_what_is_older_has_been_applied() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V15)]) {
        let pair = Pair::new(from, to, "joining").await;
        let name = pair.subscriber.name.clone();
        let workspace = pair.workspace(core).await;
        let arguments = format!("{}\n  wait_for_initial_sync = true", simple(&name));
        workspace.write("main.tf", &config("\"orders\"", &arguments));
        workspace.apply().await;

        let lock = pair.subscriber.connect_as(&Role::superuser()).await.expect("a connection");
        lock.batch_execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
        // The worker reads changes of its subscription between transactions: the second one would be decoded again.
        for order in 1..=2 {
            pair.publisher.sql(&format!("INSERT INTO orders VALUES ({order}, 1, 'eu')")).await;
        }
        let more =
            "\nresource \"neonrepl_publication\" \"more\" {\n  name   = \"more\"\n  tables = [\"customers\"]\n}\n";
        let both = arguments.replace(
            "[neonrepl_publication.shop.name]",
            "[neonrepl_publication.shop.name, neonrepl_publication.more.name]",
        );
        workspace.write("main.tf", &format!("{}{more}", config("\"orders\"", &both)));
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        wait_until("the new publication", DEADLINE, async || {
            pair.publisher.value::<i64>("SELECT count(*) FROM pg_publication").await == 2
        })
        .await;
        let alone = row(&pair.subscriber).await;
        let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
            AND query LIKE '%confirmed_flush_lsn >=%' AND pid <> pg_backend_pid()";
        wait_until("the apply to wait or to go on", DEADLINE, async || {
            pair.publisher.value::<i64>(looks).await > 0 || row(&pair.subscriber).await != alone
        })
        .await;
        assert_eq!(row(&pair.subscriber).await, alone, "it must not join while what is older waits for the lock");
        lock.batch_execute("COMMIT").await.expect("the end of the lock");
        let run = apply.wait().await;
        assert_eq!(run.code, Some(0), "{}", run.text());

        pair.publisher.sql("INSERT INTO orders VALUES (3, 2, 'eu'); INSERT INTO customers VALUES (1)").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["3"]).await;
        pair.wait_for_rows("SELECT count(*) FROM customers", &["1"]).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}
