// SPDX-License-Identifier: MPL-2.0

//! Functions through real cores.

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};

const FUNCTIONS: &str = r#"
locals {
  uri   = "postgresql://o%27neil:p%40ss@db.example/shop?sslmode=require&keepalives_idle=60"
  parts = provider::neonrepl::parse_connection_uri(local.uri)
}

output "parts" {
  value = local.parts
}

output "again" {
  value = provider::neonrepl::conninfo(local.parts)
}

output "some" {
  value = provider::neonrepl::conninfo({ host = "h", port = 6000, options = { connect_timeout = 5 } })
}

output "name" {
  value = provider::neonrepl::quote_identifier("Order \"items\"")
}
"#;

#[tokio::test]
async fn connections_and_names_are_written_and_read() {
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        workspace.write("main.tf", FUNCTIONS);
        workspace.init().await;
        workspace.apply().await;
        let outputs = workspace.expect(&["output", "-json"], 0).await;
        let outputs: Value = serde_json::from_str(&outputs.stdout).unwrap();
        let parts = json!({
            "host": "db.example", "port": 5432, "database": "shop", "username": "o'neil", "password": "p@ss",
            "sslmode": "require", "options": { "keepalives_idle": "60" },
        });
        let again =
            r"dbname=shop host=db.example keepalives_idle=60 password=p@ss port=5432 sslmode=require user='o\'neil'";
        for (name, value) in [
            ("parts", parts),
            ("again", json!(again)),
            ("some", json!("connect_timeout=5 host=h port=6000")),
            ("name", json!("\"Order \"\"items\"\"\"")),
        ] {
            assert_eq!(outputs[name]["value"], value, "{name}");
        }
    }
}

#[tokio::test]
async fn a_wrong_argument_is_named_and_a_secret_is_not_repeated() {
    for core in Core::installed() {
        let mut workspace = Workspace::new(core);
        workspace.secret("hunter2-functions");
        workspace.env("TF_VAR_uri", "postgresql://u:hunter2-functions@h:x/d");
        workspace.write("variables.tf", "variable \"uri\" {\n  sensitive = true\n}\n");
        workspace.init().await;
        for (call, says) in [
            ("parse_connection_uri(var.uri)", "port of the connection string is not a number from 1 to 65535"),
            (
                "parse_connection_uri(replace(var.uri, \"x/d\", \"6000/d?sslmod=require\"))",
                "sslmod is not a keyword of libpq (did you mean sslmode?)",
            ),
            (
                "parse_connection_uri(replace(var.uri, \"@\", \"/@\"))",
                "in the user, the password, the database and the values, write %2F for \"/\"",
            ),
            ("conninfo({ host = \"h\", options = { sslmod = \"require\" } })", "did you mean sslmode?"),
            ("conninfo({ user = \"u\" })", "A connection has no \"user\". It has host, port, database, username"),
            ("quote_identifier(\"\")", "\"\" is not a valid name: it is empty"),
        ] {
            let output = format!("output \"x\" {{\n  sensitive = true\n  value     = provider::neonrepl::{call}\n}}\n");
            workspace.write("main.tf", &output);
            let refused = workspace.expect(&["plan", "-no-color"], 1).await.flat();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
