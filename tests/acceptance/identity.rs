// SPDX-License-Identifier: MPL-2.0

//! Identities, which name an object across configurations, through real cores: the server, the database and the name.

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major;
use crate::replication::Pair;

const PUBLICATION: &str = "neonrepl_publication.shop";

fn config(name: &str) -> String {
    format!("resource \"neonrepl_publication\" \"shop\" {{\n  name   = \"{name}\"\n  tables = [\"orders\"]\n}}\n")
}

/// The only object in the state, as it is stored.
fn instance(workspace: &Workspace) -> Value {
    let state: Value = serde_json::from_str(&workspace.state()).expect("a state");
    state["resources"][0]["instances"][0].clone()
}

fn identity(host: &str, port: u16, database: &str, name: &str) -> Value {
    json!({ "host": host, "port": port.to_string(), "database": database, "name": name })
}

/// A pair with a workspace for each core.
async fn pairs(prefix: &str) -> Vec<(Pair, Workspace)> {
    let mut pairs = Vec::new();
    for core in Core::installed() {
        let pair = Pair::new(Major::V16, Major::V18, prefix).await;
        let workspace = pair.workspace(core).await;
        pairs.push((pair, workspace));
    }
    pairs
}

#[tokio::test]
async fn it_names_the_server_and_follows_a_rename() {
    for (pair, workspace) in pairs("identity").await {
        let (port, database) = (pair.publisher.port, &pair.publisher.name);
        workspace.write("main.tf", &config("shop"));
        workspace.apply().await;
        assert_eq!(instance(&workspace)["identity"], identity("127.0.0.1", port, database, "shop"));
        workspace.write("main.tf", &config("mall"));
        workspace.apply().await;
        assert_eq!(instance(&workspace)["identity"], identity("127.0.0.1", port, database, "mall"));
        workspace.expect_empty_plan().await;

        // By its current name, it is the existing object.
        let here = format!("{{ host = \"127.0.0.1\", port = {port}, database = \"{database}\", name = \"mall\" }}");
        workspace.write("import.tf", &format!("import {{\n  to = {PUBLICATION}\n  identity = {here}\n}}\n"));
        workspace.expect_empty_plan().await;
        workspace.write("import.tf", "");
        workspace.destroy().await;
    }
}

/// Older cores accept no other identity for an object that they read again.
#[tokio::test]
async fn another_address_of_the_same_server_leaves_it_as_it_is() {
    for (pair, mut workspace) in pairs("address").await {
        let (port, database) = (pair.publisher.port, &pair.publisher.name);
        workspace.write("main.tf", &config("shop"));
        workspace.apply().await;
        let elsewhere = pair.publisher.url().replace("127.0.0.1", "localhost");
        workspace.env("NEONREPL_PUBLISHER_URL", &elsewhere);
        workspace.expect_empty_plan().await;
        workspace.write("main.tf", &config("mall"));
        workspace.apply().await;
        assert_eq!(instance(&workspace)["identity"], identity("127.0.0.1", port, database, "mall"));
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn one_of_another_server_is_refused_by_name() {
    for (pair, workspace) in pairs("stranger").await {
        pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
        workspace.write("main.tf", &config("shop"));
        let (port, database) = (pair.publisher.port, &pair.publisher.name);
        let import = |parts: &str| {
            let identity = format!("{{ {parts}, database = \"{database}\", name = \"shop\" }}");
            workspace.write("import.tf", &format!("import {{\n  to = {PUBLICATION}\n  identity = {identity}\n}}\n"));
        };
        for (parts, said) in [
            (
                "host = \"db.example\"",
                "the identity has host \"db.example\", but the provider's publisher is 127.0.0.1:",
            ),
            ("port = 1", "the identity has port \"1\", but the provider's publisher is 127.0.0.1:"),
        ] {
            import(parts);
            let refused = workspace.expect(&["plan", "-no-color"], 1).await.flat();
            assert!(refused.contains(said), "{said} is not in {refused}");
        }
        import(&format!("host = \"127.0.0.1\", port = {port}"));
        let plan = workspace.plan().await;
        assert!(plan.text().contains("Plan: 1 to import, 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
        workspace.apply().await;
        assert_eq!(instance(&workspace)["identity"], identity("127.0.0.1", port, database, "shop"));
        workspace.write("import.tf", "");
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn a_state_of_before_gets_the_server_into_it() {
    for (pair, workspace) in pairs("older").await {
        let (port, database) = (pair.publisher.port, &pair.publisher.name);
        workspace.write("main.tf", &config("shop"));
        workspace.apply().await;
        let mut state: Value = serde_json::from_str(&workspace.state()).expect("a state");
        let stored = &mut state["resources"][0]["instances"][0];
        stored["identity"] = json!({ "database": database, "name": "shop" });
        stored["identity_schema_version"] = json!(0);
        workspace.write("terraform.tfstate", &state.to_string());
        workspace.expect_empty_plan().await;
        workspace.expect(&["apply", "-refresh-only", "-auto-approve", "-no-color"], 0).await;
        workspace.write("main.tf", &config("mall"));
        workspace.apply().await;
        let instance = instance(&workspace);
        assert_eq!(instance["identity"], identity("127.0.0.1", port, database, "mall"));
        assert_eq!(instance["identity_schema_version"], 1);
        workspace.destroy().await;
    }
}
