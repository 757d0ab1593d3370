//! `terraform query`: what exists is listed, and the configuration that is generated for it plans empty.

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major;
use crate::replication::Pair;

const LISTS: &str = r#"
list "neonrepl_publication" "all" {
  provider         = neonrepl
  include_resource = true
}

list "neonrepl_subscription" "all" {
  provider         = neonrepl
  include_resource = true
}

list "neonrepl_replication_slot" "all" {
  provider         = neonrepl
  include_resource = true
}
"#;

/// A pair with a bit of everything, and a workspace; `None` where there is no Terraform.
async fn stocked(prefix: &str) -> Option<(Pair, Workspace)> {
    if !Core::installed().contains(&Core::Terraform) {
        return None;
    }
    let pair = Pair::new(Major::V17, Major::V18, prefix).await;
    let name = &pair.subscriber.name;
    pair.publisher
        .sql(
            "CREATE PUBLICATION plain FOR TABLE orders, customers; \
             CREATE PUBLICATION \"Picky 1\" FOR TABLE invoices (id, total) WHERE (total > 10), customers \
               WITH (publish = 'insert, delete'); \
             CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root)",
        )
        .await;
    let slot = format!("SELECT slot_name::text FROM pg_create_logical_replication_slot('{name}_lone', 'pgoutput')");
    pair.publisher.value::<String>(&slot).await;
    let connection = pair.publisher.url();
    pair.subscriber
        .sql(&format!("CREATE SUBSCRIPTION {name} CONNECTION '{connection}' PUBLICATION plain WITH (streaming = on)"))
        .await;
    let workspace = pair.workspace(Core::Terraform).await;
    Some((pair, workspace))
}

#[tokio::test]
async fn what_is_listed_is_imported_as_it_is() {
    let Some((pair, workspace)) = stocked("query").await else { return };
    let name = &pair.subscriber.name;
    workspace.write("all.tfquery.hcl", LISTS);
    let temporary = format!("{name}_temporary");
    let make =
        format!("SELECT slot_name::text FROM pg_create_logical_replication_slot('{temporary}', 'pgoutput', true)");
    pair.publisher.value::<String>(&make).await;
    let run = workspace.expect(&["query", "-no-color", "-generate-config-out=generated.tf"], 0).await;
    let (slot, lone) = (name.clone(), format!("{name}_lone"));
    for listed in ["Picky 1", "everything", "plain", &slot, &lone] {
        assert!(run.stdout.lines().any(|line| line.contains(listed)), "no {listed} in:\n{}", run.text());
    }
    assert!(!run.stdout.contains(&temporary), "a slot that ends with its session is none to manage");
    pair.publisher.rows(&format!("SELECT pg_drop_replication_slot('{temporary}')")).await;
    let plan = workspace.expect(&["plan", "-no-color"], 0).await;
    assert!(plan.text().contains("Plan: 6 to import, 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
    assert_eq!(pair.slots().await, [""; 0]);
}

#[tokio::test]
async fn a_list_is_narrowed_and_says_what_is_wrong() {
    let Some((pair, workspace)) = stocked("narrow").await else { return };
    let query = async |arguments: &str, code: i32| {
        let list = format!("list \"neonrepl_publication\" \"some\" {{\n  provider = neonrepl\n{arguments}\n}}\n");
        workspace.write("some.tfquery.hcl", &list);
        workspace.expect(&["query", "-no-color"], code).await
    };
    let found = |text: &str| text.lines().filter(|line| line.starts_with("list.")).count();
    assert_eq!(found(&query("", 0).await.stdout), 3);
    assert_eq!(found(&query("  limit = 1", 0).await.stdout), 1);
    assert_eq!(found(&query("  config {\n    database = \"template1\"\n  }", 0).await.stdout), 0);
    let here = format!("  config {{\n    database = \"{}\"\n  }}", pair.publisher.name);
    assert_eq!(found(&query(&here, 0).await.stdout), 3);
    let nowhere = query("  config {\n    database = \"nowhere\"\n  }", 1).await.flat();
    assert!(nowhere.contains("in database \"nowhere\" on 127.0.0.1"), "{nowhere}");
    assert!(nowhere.contains("does not exist (3D000)"), "{nowhere}");
    let nameless = query("  config {\n    database = \"\"\n  }", 1).await.flat();
    assert!(nameless.contains("\"\" is not a valid name: it is empty."), "{nameless}");
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {}", pair.subscriber.name)).await;
    let lone = format!("SELECT pg_drop_replication_slot('{}_lone')", pair.subscriber.name);
    pair.publisher.rows(&lone).await;
}
