// SPDX-License-Identifier: MPL-2.0

//! `terraform query`: existing objects are listed, and the generated configuration has an empty plan.

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major;
use crate::replication::Pair;

const LISTS: &str = r#"
list "neonrepl_publication" "all" {
  provider         = neonrepl
  include_resource = true
}

list "neonrepl_replica_identity" "all" {
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

/// The same with the slots of subscriptions.
fn lists_of_all() -> String {
    let (others, slots) = LISTS.rsplit_once('}').expect("a block");
    format!("{others}\n  config {{\n    include_in_use = true\n  }}\n}}{slots}")
}

/// A pair with objects of each kind, and a workspace; `None` if there is no Terraform.
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
             CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root); \
             ALTER TABLE orders REPLICA IDENTITY FULL",
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

/// A slot of a subscription is not imported with everything else.
#[tokio::test]
async fn the_slots_of_subscriptions_are_left_out() {
    let Some((pair, workspace)) = stocked("own").await else { return };
    let name = &pair.subscriber.name;
    workspace.write("all.tfquery.hcl", LISTS);
    for enabled in [true, false] {
        if !enabled {
            pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await;
        }
        let run = workspace.expect(&["query", "-no-color"], 0).await;
        let slots: Vec<_> = run.stdout.lines().filter(|line| line.contains("neonrepl_replication_slot")).collect();
        assert!(slots.len() == 1 && slots[0].contains(&format!("{name}_lone")), "{}", run.text());
    }
    let run = workspace.expect(&["query", "-no-color", "-generate-config-out=generated.tf"], 0).await;
    assert_eq!(run.code, Some(0));
    let generated = std::fs::read_to_string(workspace.path().join("generated.tf")).expect("a configuration");
    let (_, slot) = generated.split_once("resource \"neonrepl_replication_slot\"").expect("a slot");
    let (slot, _) = slot.split_once("\n}").expect("its end");
    assert!(slot.contains("name") && !slot.contains("failover") && !slot.contains("two_phase"), "{slot}");
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
    assert_eq!(pair.slots().await, [""; 0]);
}

/// A subscriber that cannot be queried may have a subscription that needs the slot.
#[tokio::test]
async fn slots_are_not_listed_without_their_subscriber() {
    let Some((pair, workspace)) = stocked("mute").await else { return };
    let mut workspace = workspace;
    let (name, port) = (&pair.subscriber.name, pair.subscriber.port);
    let mute = pair.subscriber.url().replace(&format!(":{port}/"), ":1/");
    workspace.env("NEONREPL_SUBSCRIBER_URL", &mute);
    let list = "list \"neonrepl_replication_slot\" \"all\" {\n  provider = neonrepl\n";
    workspace.write("all.tfquery.hcl", &format!("{list}}}\n"));
    let refused = workspace.expect(&["query", "-no-color"], 1).await.flat();
    assert!(refused.contains("With include_in_use = true it is not asked"), "{refused}");
    workspace.write("all.tfquery.hcl", &format!("{list}  config {{\n    include_in_use = true\n  }}\n}}\n"));
    let run = workspace.expect(&["query", "-no-color"], 0).await;
    assert!(run.stdout.contains(&format!("{name}_lone")), "{}", run.text());
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    pair.publisher.rows(&format!("SELECT pg_drop_replication_slot('{name}_lone')")).await;
}

#[tokio::test]
async fn what_is_listed_is_imported_as_it_is() {
    let Some((pair, workspace)) = stocked("query").await else { return };
    let name = &pair.subscriber.name;
    workspace.write("all.tfquery.hcl", &lists_of_all());
    let temporary = format!("{name}_temporary");
    let make =
        format!("SELECT slot_name::text FROM pg_create_logical_replication_slot('{temporary}', 'pgoutput', true)");
    pair.publisher.value::<String>(&make).await;
    let run = workspace.expect(&["query", "-no-color", "-generate-config-out=generated.tf"], 0).await;
    let (slot, lone) = (name.clone(), format!("{name}_lone"));
    for listed in ["Picky 1", "everything", "plain", "public.orders", &slot, &lone] {
        assert!(run.stdout.lines().any(|line| line.contains(listed)), "no {listed} in:\n{}", run.text());
    }
    assert!(!run.stdout.contains(&temporary), "a slot that ends with its session is none to manage");
    pair.publisher.rows(&format!("SELECT pg_drop_replication_slot('{temporary}')")).await;
    let plan = workspace.expect(&["plan", "-no-color"], 0).await;
    assert!(plan.text().contains("Plan: 7 to import, 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
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
