// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_publication` through real cores, from its first plan to its end.

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Database, Major};
use crate::replication::{Pair, on_every_pair};

const ADDRESS: &str = "neonrepl_publication.shop";

/// A publication as `psql` would show it: its options, and each table with columns and filter.
async fn published(database: &Database, name: &str) -> Vec<String> {
    let name = name.replace('\'', "''");
    let options = format!(
        "SELECT concat_ws(' ', CASE WHEN puballtables THEN 'all' END, CASE WHEN pubinsert THEN 'insert' END, \
         CASE WHEN pubupdate THEN 'update' END, CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END, \
         CASE WHEN pubviaroot THEN 'via_root' END) FROM pg_publication WHERE pubname = '{name}'"
    );
    let tables = format!(
        "SELECT concat(prrelid::regclass, '(' || (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = prrelid AND attnum = ANY (prattrs)) || ')', ' ' || pg_get_expr(prqual, prrelid)) \
         FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid WHERE pubname = '{name}' ORDER BY 1"
    );
    let mut rows = database.rows(&options).await;
    rows.extend(database.rows(&tables).await);
    rows
}

/// The only change of a plan: its actions, and the planned values.
async fn planned(workspace: &Workspace) -> (Value, Value) {
    let mut plan = workspace.plan_json().await;
    let changes = plan["resource_changes"].as_array_mut().expect("changes");
    let change = &mut changes.iter_mut().find(|change| change["address"] == ADDRESS).expect("the change")["change"];
    (change["actions"].take(), change["after"].take())
}

fn config(body: &str) -> String {
    format!("resource \"neonrepl_publication\" \"shop\" {{\n{body}\n}}\n")
}

const FIRST: &str = r#"
  name   = "shop"
  tables = ["orders", "public.customers"]
  table {
    name    = "invoices"
    columns = ["id", "total"]
    where   = "total>0"
  }
  publish = ["insert"]
"#;

async fn life(core: Core, major: Major, other: Major) {
    let pair = Pair::new(major, other, "publication").await;
    let database = &pair.publisher;
    let workspace = pair.workspace(core).await;

    create(&workspace, database).await;
    spell_differently(&workspace).await;
    update_in_place(&workspace, database).await;
    publish_schemas(&workspace, database, major).await;
    drift_is_mended(&workspace, database).await;
    import(&workspace, database).await;

    workspace.destroy().await;
    assert_eq!(database.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
}

on_every_pair!(life);

async fn create(workspace: &Workspace, database: &Database) {
    workspace.write("main.tf", &config(FIRST));
    let (actions, after) = planned(workspace).await;
    assert_eq!(actions, json!(["create"]));
    assert_eq!(after["id"], format!("{}/shop", database.name));
    let fingerprint = after["fingerprint"].as_str().expect("known at plan").to_owned();
    workspace.apply().await;
    assert_eq!(
        published(database, "shop").await,
        ["insert", "customers", "invoices(id,total) (total > (0)::numeric)", "orders"]
    );
    let state = workspace.attributes(ADDRESS).await;
    assert_eq!(state["fingerprint"], fingerprint);
    assert_eq!(state["tables"], json!(["orders", "public.customers"]));
    assert_eq!(state["table"][0]["where"], "total>0");
    assert_eq!(state["owner"], "postgres");
    workspace.expect_empty_plan().await;
}

async fn spell_differently(workspace: &Workspace) {
    let respelled = r#"
      name     = "shop"
      tables   = ["public.orders", "customers"]
      table {
        name    = "public.invoices"
        columns = ["total", "id"]
        where   = "((total >  0::numeric)) -- positive"
      }
      publish = ["insert"]
    "#;
    workspace.write("main.tf", &config(respelled));
    workspace.expect_empty_plan().await;
}

async fn update_in_place(workspace: &Workspace, database: &Database) {
    let oid: u32 = database.value("SELECT oid FROM pg_publication").await;
    let changed = r#"
      name   = "shop two"
      tables = ["public.orders"]
      table {
        name  = "invoices"
        where = "total > 100 AND region = 'eu'"
      }
      table {
        name    = "customers"
        columns = ["id"]
      }
      publish                    = ["insert", "update", "delete"]
      publish_via_partition_root = true
      owner                      = "pg_database_owner"
    "#;
    workspace.write("main.tf", &config(changed));
    let (actions, after) = planned(workspace).await;
    assert_eq!(actions, json!(["update"]));
    assert_eq!(after["id"], format!("{}/shop two", database.name));
    let applied = workspace.apply().await;
    assert!(!applied.flat().contains("under subscription"), "nobody uses it: {}", applied.text());
    assert_eq!(
        published(database, "shop two").await,
        [
            "insert update delete via_root",
            "customers(id)",
            "invoices ((total > (100)::numeric) AND (region = 'eu'::text))",
            "orders"
        ]
    );
    let owner = "SELECT pubowner::regrole::text FROM pg_publication";
    assert_eq!(database.value::<String>(owner).await, "pg_database_owner");
    assert_eq!(database.value::<u32>("SELECT oid FROM pg_publication").await, oid);
    workspace.expect_empty_plan().await;

    workspace.write("main.tf", &config("name = \"shop\"\nall_tables = true\nowner = \"postgres\""));
    assert_eq!(planned(workspace).await.0, json!(["update"]));
    workspace.apply().await;
    assert_eq!(published(database, "shop").await, ["all insert update delete truncate"]);
    workspace.expect_empty_plan().await;
}

async fn publish_schemas(workspace: &Workspace, database: &Database, major: Major) {
    database.sql("CREATE SCHEMA billing; CREATE SCHEMA \"Other\"").await;
    let generated = if major >= Major::V18 { "publish_generated_columns = \"stored\"" } else { "" };
    let schemas = format!("name = \"shop\"\ntables = [\"orders\"]\nschemas = [\"billing\", \"Other\"]\n{generated}");
    workspace.write("main.tf", &config(&schemas));
    workspace.apply().await;
    let published_schemas =
        "SELECT nspname FROM pg_publication_namespace JOIN pg_namespace n ON n.oid = pnnspid ORDER BY 1";
    assert_eq!(database.rows(published_schemas).await, ["Other", "billing"]);
    workspace.expect_empty_plan().await;

    workspace.write("main.tf", &config(FIRST));
    workspace.apply().await;
    workspace.expect_empty_plan().await;
}

async fn drift_is_mended(workspace: &Workspace, database: &Database) {
    let wanted = published(database, "shop").await;
    database.sql("ALTER PUBLICATION shop DROP TABLE orders, invoices").await;
    database.sql("ALTER PUBLICATION shop ADD TABLE invoices WHERE (total > 7)").await;
    database.sql("CREATE TABLE extra (id int PRIMARY KEY); ALTER PUBLICATION shop ADD TABLE extra").await;
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    for shown in ["public.extra", "\"orders\"", "(total > (7)::numeric)"] {
        assert!(plan.text().contains(shown), "{shown} is not in {}", plan.text());
    }
    workspace.apply().await;
    assert_eq!(published(database, "shop").await, wanted);
    workspace.expect_empty_plan().await;

    database.sql("DROP PUBLICATION shop").await;
    assert_eq!(planned(workspace).await.0, json!(["create"]));
    workspace.apply().await;
    assert_eq!(published(database, "shop").await, wanted);
}

async fn import(workspace: &Workspace, database: &Database) {
    let forget = ["state", "rm", ADDRESS];
    let id = format!("{}/shop", database.name);
    workspace.expect(&forget, 0).await;
    workspace.import(ADDRESS, &id).await;
    workspace.expect_empty_plan().await;

    workspace.expect(&forget, 0).await;
    let identity = format!(
        "import {{\n  to = {ADDRESS}\n  identity = {{ database = \"{}\", name = \"shop\" }}\n}}\n",
        database.name
    );
    workspace.write("import.tf", &identity);
    let applied = workspace.apply().await;
    assert!(applied.text().contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", applied.text());

    workspace.expect(&forget, 0).await;
    workspace.write("main.tf", "");
    workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  id = \"shop\"\n}}\n"));
    workspace.expect(&["plan", "-no-color", "-generate-config-out=generated.tf"], 0).await;
    let applied = workspace.apply().await;
    assert!(applied.text().contains("1 imported, 0 added, 0 changed, 0 destroyed"), "{}", applied.text());
    workspace.write("import.tf", "");
    workspace.expect_empty_plan().await;
}

/// Names that need care everywhere: in SQL, in an id, in a configuration.
#[tokio::test]
async fn names_are_taken_literally() {
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V18]) {
        let pair = Pair::new(major, Major::V18, "names").await;
        let database = &pair.publisher;
        database.sql(r#"CREATE SCHEMA "Größe x"; CREATE TABLE "Größe x"."a.b ""c""" ("Id №" int PRIMARY KEY, "sel;ect" text)"#).await;
        database.sql(r#"CREATE TABLE "Orders" (id int PRIMARY KEY)"#).await;
        let workspace = pair.workspace(core).await;
        let body = r#"
          name   = "It's \"50%\" a/b.c Ünï"
          tables = ["Orders", "orders"]
          table {
            name    = "Größe x.\"a.b \"\"c\"\"\""
            columns = ["Id №"]
            where   = "\"Id №\" > 1"
          }
        "#;
        workspace.write("main.tf", &config(body));
        workspace.apply().await;
        let name = "It's \"50%\" a/b.c Ünï";
        assert_eq!(
            published(database, name).await[1..],
            [r#""Größe x"."a.b ""c"""(Id №) ("Id №" > 1)"#, "\"Orders\"", "orders"]
        );
        workspace.expect_empty_plan().await;
        let id = workspace.attributes(ADDRESS).await["id"].as_str().expect("an id").to_owned();
        assert!(id.ends_with("/It's \"50%25\" a%2Fb.c Ünï"), "{id}");
        workspace.expect(&["state", "rm", ADDRESS], 0).await;
        workspace.import(ADDRESS, &id).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(published(database, name).await, [""; 0]);
    }
}

/// Each error is at the line of its attribute.
#[tokio::test]
async fn a_wrong_configuration_is_refused_at_its_attribute() {
    let long = format!("name = \"{}\"", "n".repeat(64));
    let cases = [
        ("name = \"a\"\ntables = [\"orders\", \"public.orders\"]", 3, "is named twice"),
        ("name = \"a\"\ntables = [\"orders\"]\ntable {\nname = \"public.orders\"\n}", 5, "is named twice"),
        ("name = \"a\"\nall_tables = true\ntables = [\"orders\"]", 4, "exclude each other"),
        (long.as_str(), 2, "63 bytes"),
        ("name = \"\"", 2, "empty"),
        ("name = \"a\"\npublish = [\"upsert\"]", 3, "\"truncate\""),
        ("name = \"a\"\ntables = [\"a.b.c\"]", 3, "schema.table"),
        ("name = \"a\"\ntable {\nname = \"orders\"\ncolumns = []\n}", 5, "It must not be empty"),
        ("name = \"a\"\ntable {\nname = \"orders\"\nwhere = \"(a > 1\"\n}", 5, "row filter"),
    ];
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        workspace.write("main.tf", "");
        workspace.write("provider.tf", "provider \"neonrepl\" {}\n");
        workspace.init().await;
        for (body, line, says) in &cases {
            workspace.write("main.tf", &config(body));
            let run = workspace.expect(&["validate", "-json"], 1).await;
            let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
            let errors = found["diagnostics"].as_array().expect("diagnostics");
            assert!(
                errors.iter().all(|error| error["range"]["start"]["line"] == *line)
                    && run.stdout.replace("\\\"", "\"").contains(says),
                "{body}: {errors:#?}"
            );
        }
        workspace.write("main.tf", &config(r#"name = "a\\b""#));
        let warned = workspace.expect(&["validate", "-no-color"], 0).await;
        assert!(warned.flat().contains(r#"no subscription can read from publication "a\\b""#), "{}", warned.text());
    }
}

/// The plan reports missing features of a server, with the attribute.
#[tokio::test]
async fn what_the_version_lacks_is_refused_while_planning() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V15, Major::V18, "lacks").await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", &config("name = \"a\"\npublish_generated_columns = \"stored\""));
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(1), "{}", plan.text());
        for said in ["publish_generated_columns needs Postgres 18 or newer; the server runs 15", "on main.tf line 3"] {
            assert!(plan.flat().contains(said), "{said} is not in {}", plan.text());
        }
        workspace.write("main.tf", &config("name = \"a\"\ntables = [\"nowhere\"]"));
        let failed = workspace.apply_error().await;
        assert!(failed.flat().contains("relation \"public.nowhere\" does not exist"), "{}", failed.text());
    }
}

/// The page's example, with another database name: the plan has no warnings, and the application can still update and
/// delete rows of every table.
#[tokio::test]
async fn the_example_leaves_updates_possible() {
    let pair = Pair::new(Major::V18, Major::V17, "publication").await;
    let publisher = &pair.publisher;
    publisher
        .sql(
            "CREATE TABLE users (id bigint PRIMARY KEY, name text); CREATE SCHEMA billing; \
             CREATE TABLE billing.invoices (id bigint PRIMARY KEY, customer_id bigint, total numeric, note text); \
             CREATE TABLE IF NOT EXISTS orders (id bigint PRIMARY KEY, total numeric); \
             INSERT INTO users VALUES (1, 'a'); INSERT INTO billing.invoices VALUES (1, 1, 1), (100000, 1, 1)",
        )
        .await;
    let example = include_str!("../../examples/resources/neonrepl_publication/resource.tf");
    let example = example.replace("database = \"shop\"", &format!("database = \"{}\"", publisher.name));
    let workspace = pair.workspace(Core::Terraform).await;
    workspace.write("main.tf", &example);
    let applied = workspace.apply().await;
    assert!(applied.text().contains("2 added") && !applied.text().contains("Warning"), "{}", applied.text());
    publisher
        .sql("UPDATE users SET name = 'b'; UPDATE billing.invoices SET total = 2; DELETE FROM billing.invoices")
        .await;
    workspace.destroy().await;
}
