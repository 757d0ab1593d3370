// SPDX-License-Identifier: MPL-2.0

//! The data sources that list existing objects, through real cores.

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Major, SUPERUSER_PASSWORD};
use crate::replication::{Pair, on_every_pair};

/// The value of an output.
async fn output(workspace: &Workspace, name: &str) -> Value {
    workspace.show_json().await["values"]["outputs"][name]["value"].take()
}

/// The element of that name in a list.
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().expect("a list").iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {list}"))
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name")).collect()
}

const CONFIG: &str = r#"
data "neonrepl_publications" "all" {}
data "neonrepl_subscriptions" "all" {}
data "neonrepl_tables" "all" {}
data "neonrepl_tables" "some" {
  schemas = ["sales", "nowhere"]
}
output "publications" { value = data.neonrepl_publications.all.publications }
output "subscriptions" { value = data.neonrepl_subscriptions.all.subscriptions }
output "tables" { value = data.neonrepl_tables.all.tables }
output "some" { value = data.neonrepl_tables.some.tables }
output "database" { value = data.neonrepl_tables.all.database }
"#;

async fn what_exists_is_listed(core: Core, major: Major, other: Major) {
    let pair = Pair::new(major, other, "listing").await;
    let workspace = pair.workspace(core).await;
    workspace.write("main.tf", CONFIG);
    workspace.apply().await;
    assert_eq!(output(&workspace, "publications").await, json!([]));
    assert_eq!(output(&workspace, "subscriptions").await, json!([]));
    assert_eq!(output(&workspace, "some").await, json!([]));
    let before = output(&workspace, "tables").await;
    assert_eq!(names(&before), ["customers", "invoices", "orders"]);
    assert_eq!(before[0]["rows_estimate"], Value::Null);

    publish(&pair).await;
    workspace.apply().await;
    assert_eq!(output(&workspace, "database").await, pair.publisher.name);
    check_publications(&output(&workspace, "publications").await);
    check_tables(&output(&workspace, "tables").await);
    let some = output(&workspace, "some").await;
    assert_eq!(names(&some), ["2024", "A \"b\"", "years"]);
    check_subscriptions(&output(&workspace, "subscriptions").await, other);
    assert!(!workspace.state().contains(SUPERUSER_PASSWORD), "a password is in the state");
    workspace.expect_empty_plan().await;
}

on_every_pair!(what_exists_is_listed);

async fn publish(pair: &Pair) {
    let tables = r#"
        CREATE SCHEMA sales;
        CREATE TABLE sales."A ""b""" (x int);
        ALTER TABLE sales."A ""b""" REPLICA IDENTITY FULL;
        CREATE TABLE sales.years (y int PRIMARY KEY) PARTITION BY RANGE (y);
        CREATE TABLE sales."2024" PARTITION OF sales.years FOR VALUES FROM (2024) TO (2025);
        INSERT INTO sales.years SELECT 2024;
        CREATE UNLOGGED TABLE scratch (x int NOT NULL UNIQUE);
        ALTER TABLE scratch REPLICA IDENTITY USING INDEX scratch_x_key;
        ALTER TABLE customers REPLICA IDENTITY NOTHING;
        INSERT INTO orders SELECT n FROM generate_series(1, 1000) n;
        CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert');
        CREATE PUBLICATION parts FOR TABLE orders, TABLE invoices (id, total) WHERE (total > 0);
        CREATE PUBLICATION schemas FOR TABLES IN SCHEMA sales WITH (publish_via_partition_root = true);"#;
    pair.publisher.sql(tables).await;
    pair.publisher.sql("ANALYZE").await;
    let connection = pair.publisher.url();
    let detached = "connect = false, slot_name = NONE, enabled = false";
    let subscribe = |name: &str, of: &str| {
        format!("CREATE SUBSCRIPTION {name} CONNECTION '{connection}' PUBLICATION {of} WITH ({detached});")
    };
    pair.subscriber.sql(&subscribe("one", "parts, schemas")).await;
    pair.subscriber.sql(&subscribe("two", "parts")).await;
    pair.subscriber.sql("ALTER SUBSCRIPTION two SET (slot_name = 'its_slot', binary = true)").await;
}

fn check_publications(found: &Value) {
    assert_eq!(names(found), ["everything", "parts", "schemas"]);
    let everything = named(found, "everything");
    assert_eq!(
        [&everything["all_tables"], &everything["tables"], &everything["publish"], &everything["owner"]],
        [&json!(true), &Value::Null, &json!(["insert"]), &json!("postgres")]
    );
    assert_eq!([&everything["schemas"], &everything["table"]], [&Value::Null, &json!([])]);
    let schemas = named(found, "schemas");
    assert_eq!([&schemas["schemas"], &schemas["publish_via_partition_root"]], [&json!(["sales"]), &json!(true)]);
    let parts = named(found, "parts");
    assert_eq!(parts["tables"], json!(["public.orders"]));
    let invoices =
        json!([{ "name": "public.invoices", "columns": ["id", "total"], "where": "(total > (0)::numeric)" }]);
    assert_eq!([&parts["table"], &parts["schemas"]], [&invoices, &Value::Null]);
    assert_eq!(parts["publish_generated_columns"], "none");
    assert_eq!(parts["fingerprint"].as_str().expect("a hash").len(), 64);
}

fn check_tables(found: &Value) {
    assert_eq!(names(found), ["customers", "invoices", "orders", "scratch", "2024", "A \"b\"", "years"]);
    let orders = named(found, "orders");
    assert_eq!(
        [&orders["rows_estimate"], &orders["has_primary_key"], &orders["replica_identity"], &orders["published_by"]],
        [&json!(1000), &json!(true), &json!("default"), &json!(["everything", "parts"])]
    );
    assert!(orders["bytes"].as_i64().expect("a size") >= 32768, "{orders}");
    let odd = named(found, "A \"b\"");
    assert_eq!(
        [&odd["schema"], &odd["qualified_name"], &odd["replica_identity"], &odd["has_primary_key"]],
        [&json!("sales"), &json!("sales.\"A \"\"b\"\"\""), &json!("full"), &json!(false)]
    );
    let scratch = named(found, "scratch");
    assert_eq!(
        [&scratch["unlogged"], &scratch["replica_identity"], &scratch["published_by"]],
        [&json!(true), &json!("index"), &json!([])]
    );
    assert_eq!(named(found, "customers")["replica_identity"], "nothing");
    let (root, leaf) = (named(found, "years"), named(found, "2024"));
    assert_eq!([&root["partition_of"], &leaf["partition_of"]], [&Value::Null, &json!("sales.years")]);
    assert_eq!([&root["published_by"], &leaf["published_by"]], [&json!(["schemas"]), &json!(["everything"])]);
    assert_eq!([&root["rows_estimate"], &root["bytes"]], [&leaf["rows_estimate"], &leaf["bytes"]]);
    assert_eq!(leaf["rows_estimate"], 1);
}

fn check_subscriptions(found: &Value, major: Major) {
    assert_eq!(names(found), ["one", "two"]);
    let (one, two) = (named(found, "one"), named(found, "two"));
    assert_eq!([&one["publications"], &one["slot_name"]], [&json!(["parts", "schemas"]), &Value::Null]);
    assert_eq!(
        [&two["publications"], &two["slot_name"], &two["binary"]],
        [&json!(["parts"]), &json!("its_slot"), &json!(true)]
    );
    assert_eq!([&two["enabled"], &two["two_phase"], &two["owner"]], [&json!(false), &json!(false), &json!("postgres")]);
    let origin = if major >= Major::V16 { json!("any") } else { Value::Null };
    assert_eq!(two["origin"], origin);
    // Both connect with the provider's own block.
    assert!(!found.to_string().contains("conninfo") && two["publisher"].is_null(), "{two}");
}

/// The part of the data source's example that imports everything.
fn takeover() -> String {
    let example = include_str!("../../examples/data-sources/neonrepl_publications/data-source.tf");
    let (data, rest) = example.split_once("\n\n").expect("a data source first");
    let (_, takeover) = rest.split_once("# Manages all of them as they are").expect("then the takeover");
    format!("{data}\n\n# Manages all of them as they are{takeover}")
}

/// The data sources return the arguments of the resources: everything is imported, and nothing is left to change.
#[tokio::test]
async fn everything_that_is_listed_can_be_imported_as_it_is() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V18, Major::V17, "takeover").await;
        publish(&pair).await;
        let more = r#"
            CREATE PUBLICATION nothing;
            CREATE PUBLICATION "Of ""rows"", 50%" FOR TABLE orders WHERE (region = 'it''s "x"'), customers (id);
            CREATE PUBLICATION stored FOR TABLE orders WITH (publish = '', publish_generated_columns = stored)"#;
        pair.publisher.sql(more).await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &takeover());
        let plan = workspace.plan().await;
        assert!(plan.text().contains("Plan: 6 to import, 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
        for name in ["one", "two"] {
            pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")).await;
            pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
        }
    }
}

/// The same for subscriptions: each with its role and keywords, without its password.
#[tokio::test]
async fn every_subscription_that_is_listed_can_be_imported_as_it_is() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V14)]) {
        let pair = Pair::new(from, to, "taken").await;
        let role = servers::shared(from).role("taken", "REPLICATION").await;
        let (host, port, database) = ("127.0.0.1", pair.publisher.port, &pair.publisher.name);
        let own = format!("host={host} port={port} dbname={database} user={}", role.name);
        let own = format!("{own} password={} keepalives_idle=77 application_name=app sslmode=disable", role.password);
        pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
        let name = &pair.subscriber.name;
        for (suffix, connection) in [("default", &pair.publisher.url()), ("own", &own)] {
            let create = format!("CREATE SUBSCRIPTION {name}_{suffix} CONNECTION '{connection}' PUBLICATION shop");
            pair.subscriber.sql(&create).await;
        }
        let detached = "connect = false, slot_name = NONE";
        let create =
            format!("CREATE SUBSCRIPTION {name}_detached CONNECTION '{own}' PUBLICATION shop WITH ({detached})");
        pair.subscriber.sql(&create).await;
        let connections = "SELECT subname, subconninfo FROM pg_subscription \
            WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1";
        let before = pair.subscriber.rows(connections).await;

        let mut workspace = pair.workspace(core).await;
        workspace.secret(&role.password);
        let example = include_str!("../../examples/data-sources/neonrepl_subscriptions/data-source.tf");
        let config = example.replace("\"warehouse\"\n}", &format!("\"{name}\"\n}}"));
        workspace.write("main.tf", &config);
        let plan = workspace.plan().await;
        assert!(plan.text().contains("Plan: 3 to import, 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        assert_eq!(pair.subscriber.rows(connections).await, before);
        let address = format!("neonrepl_subscription.all[\"{name}_own\"]");
        let publisher = workspace.attributes(&address).await["publisher"].take();
        assert_eq!([&publisher["username"], &publisher["port"]], [&json!(role.name), &json!(port)]);
        let options = json!({ "application_name": "app", "keepalives_idle": "77" });
        assert_eq!(publisher["options"], options);
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

/// Objects of another database of the cluster are not listed by default, but can be requested.
#[tokio::test]
async fn databases_of_one_cluster_are_kept_apart() {
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V18]) {
        let pair = Pair::on_one_server(major, "apart").await;
        for (database, table) in [(&pair.publisher, "orders"), (&pair.subscriber, "customers")] {
            database.sql(&format!("CREATE PUBLICATION same FOR TABLE {table}")).await;
            let options = "connect = false, slot_name = NONE, enabled = false";
            let name = &database.name;
            database
                .sql(&format!(
                    "CREATE SUBSCRIPTION same CONNECTION 'dbname={name}' PUBLICATION {table} WITH ({options})"
                ))
                .await;
        }
        let workspace = pair.workspace(core).await;
        let other = &pair.subscriber.name;
        let blocks = [("from", String::new()), ("to", format!("database = \"{other}\"\n"))].map(|(label, body)| {
            format!(
                "data \"neonrepl_publications\" \"{label}\" {{\n{body}}}\n\
                 output \"{label}\" {{\nvalue = data.neonrepl_publications.{label}.publications[*].tables\n}}\n"
            )
        });
        let subscriptions = format!(
            "data \"neonrepl_subscriptions\" \"from\" {{\ndatabase = \"{}\"\n}}\n\
             output \"subscribed\" {{\nvalue = data.neonrepl_subscriptions.from.subscriptions[*].publications\n}}\n",
            pair.publisher.name
        );
        workspace.write("main.tf", &(blocks.concat() + &subscriptions));
        workspace.apply().await;
        assert_eq!(output(&workspace, "from").await, json!([["public.orders"]]));
        assert_eq!(output(&workspace, "to").await, json!([["public.customers"]]));
        assert_eq!(output(&workspace, "subscribed").await, json!([["orders"]]));
        for database in [&pair.publisher, &pair.subscriber] {
            database.sql("DROP SUBSCRIPTION same").await;
        }
    }
}
