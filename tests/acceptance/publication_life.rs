//! `neonrepl_publication` through real cores, from its first plan to its end.

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Database, Major};
use crate::replication::{Pair, on_every_pair};

const ADDRESS: &str = "neonrepl_publication.shop";

/// What `psql` would show of a publication: its options, and each table with columns and filter.
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
    workspace.apply().await;
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
