// SPDX-License-Identifier: MPL-2.0

//! `moved` from cyrilgdn/postgresql through real cores: the objects stay, and nothing is left to plan.

use serde_json::{Value, json};

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Database, Major, SUPERUSER_PASSWORD};
use crate::replication::Pair;

/// A resource in that provider's state.
pub(crate) fn resource(core: Core, kind: &str, database: &str, name: &str, attributes: Value) -> Value {
    let host = match core {
        Core::Terraform => "registry.terraform.io",
        Core::OpenTofu => "registry.opentofu.org",
    };
    let mut all = json!({ "id": format!("{database}.{name}"), "database": database, "name": name });
    all.as_object_mut().unwrap().extend(attributes.as_object().unwrap().clone());
    json!({
        "mode": "managed",
        "type": format!("postgresql_{kind}"),
        "name": "shop",
        "provider": format!("provider[\"{host}/cyrilgdn/postgresql\"]"),
        "instances": [{ "schema_version": 0, "attributes": all, "sensitive_attributes": [] }],
    })
}

pub(crate) fn state(resources: &[Value]) -> String {
    json!({ "version": 4, "terraform_version": "1.9.0", "serial": 3, "lineage": "moved", "outputs": {}, "resources": resources })
        .to_string()
}

/// The oids, which distinguish an object from another one of the same name.
async fn oids(pair: &Pair) -> [Vec<String>; 3] {
    let publications = pair.publisher.rows("SELECT oid, pubname FROM pg_publication").await;
    let subscriptions = "SELECT oid, subname FROM pg_subscription WHERE subdbid = \
        (SELECT oid FROM pg_database WHERE datname = current_database())";
    [publications, pair.subscriber.rows(subscriptions).await, slots(&pair.publisher).await]
}

async fn slots(database: &Database) -> Vec<String> {
    let query = "SELECT slot_name, plugin FROM pg_replication_slots WHERE database = current_database() \
        AND slot_name !~ '^pg_[0-9]+_sync_' ORDER BY 1";
    database.rows(query).await
}

fn configuration(name: &str) -> String {
    let moved =
        |kind: &str| format!("moved {{\n  from = postgresql_{kind}.shop\n  to   = neonrepl_{kind}.shop\n}}\n\n");
    let blocks: String = ["publication", "subscription", "replication_slot"].map(moved).concat();
    format!(
        "{blocks}resource \"neonrepl_publication\" \"shop\" {{\n  name    = \"shop\"\n  tables  = [\"orders\", \"customers\"]\n  \
         publish = [\"insert\", \"update\"]\n}}\n\n\
         resource \"neonrepl_subscription\" \"shop\" {{\n  name         = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n  \
         create_slot  = false\n}}\n\n\
         resource \"neonrepl_replication_slot\" \"shop\" {{\n  name   = \"{name}\"\n  plugin = \"pgoutput\"\n}}\n"
    )
}

/// The objects of the state, made by hand.
async fn make(pair: &Pair, name: &str) {
    let publication = "CREATE PUBLICATION shop FOR TABLE orders, customers WITH (publish = 'insert, update')";
    pair.publisher.sql(publication).await;
    let slot = format!("SELECT slot_name::text FROM pg_create_logical_replication_slot('{name}', 'pgoutput')");
    pair.publisher.value::<String>(&slot).await;
    pair.subscriber
        .sql(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION '{}' PUBLICATION shop WITH (create_slot = false)",
            pair.publisher.url()
        ))
        .await;
}

fn resources(core: Core, pair: &Pair, name: &str) -> [Value; 3] {
    let (from, to) = (&pair.publisher.name, &pair.subscriber.name);
    let publication = json!({
        "owner": "postgres", "tables": ["public.orders", "public.customers"], "all_tables": false,
        "tables_in_schemas": null, "publish_param": ["insert", "update"], "publish_via_partition_root_param": false,
        "drop_cascade": false,
    });
    let subscription = json!({
        "conninfo": "host=replaced", "publications": ["shop"], "create_slot": false, "slot_name": name, "enabled": true,
    });
    [
        resource(core, "publication", from, "shop", publication),
        resource(core, "subscription", to, name, subscription),
        resource(core, "replication_slot", from, name, json!({ "plugin": "pgoutput" })),
    ]
}

#[tokio::test]
async fn objects_of_another_provider_are_taken_over_as_they_are() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V16, Major::V18, "moved").await;
        let name = &pair.subscriber.name;
        make(&pair, name).await;
        let before = oids(&pair).await;
        let workspace = workspace(core, &pair).await;
        workspace.write("terraform.tfstate", &state(&resources(core, &pair, name)));
        workspace.write("main.tf", &configuration(name));
        workspace.init().await;
        let plan = workspace.run(&["plan", "-no-color"]).await;
        for kind in ["publication", "subscription", "replication_slot"] {
            let says = format!("postgresql_{kind}.shop has moved to neonrepl_{kind}.shop");
            assert!(plan.flat().contains(&says), "{}", plan.text());
        }
        assert!(plan.text().contains("Plan: 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
        workspace.apply().await;
        assert_eq!(oids(&pair).await, before);
        assert_eq!(
            workspace.attributes("neonrepl_publication.shop").await["id"],
            format!("{}/shop", pair.publisher.name)
        );
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(oids(&pair).await.concat(), [""; 0]);
    }
}

/// A subscription that connects as another role than the provider does: neither its role nor its keywords are replaced.
#[tokio::test]
async fn a_subscription_keeps_its_role_when_it_is_taken_over() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V16)]) {
        let pair = Pair::new(from, to, "moved_role").await;
        let name = &pair.subscriber.name;
        let role = servers::shared(from).role("mover", "REPLICATION").await;
        let (port, database) = (pair.publisher.port, &pair.publisher.name);
        let connection = format!(
            "host=127.0.0.1 port={port} dbname={database} user={} password={} sslmode=disable keepalives_idle=77",
            role.name, role.password
        );
        pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
        let create = format!("CREATE SUBSCRIPTION {name} CONNECTION '{connection}' PUBLICATION shop");
        pair.subscriber.sql(&create).await;
        let kept = format!("SELECT oid, subconninfo FROM pg_subscription WHERE subname = '{name}'");
        let before = pair.subscriber.rows(&kept).await;

        let mut workspace = workspace(core, &pair).await;
        workspace.secret(&role.password);
        let state_of = json!({
            "conninfo": "host=replaced", "publications": ["shop"], "create_slot": true, "slot_name": name, "enabled": true,
        });
        workspace.write("terraform.tfstate", &state(&[resource(core, "subscription", name, name, state_of)]));
        let config = |block: &str| {
            format!(
                "moved {{\n  from = postgresql_subscription.shop\n  to   = neonrepl_subscription.shop\n}}\n\n\
                 resource \"neonrepl_subscription\" \"shop\" {{\n  name         = \"{name}\"\n  publications = [\"shop\"]\n{block}}}\n"
            )
        };
        workspace.write("main.tf", &config(""));
        workspace.init().await;
        // A configuration without the block removes it visibly, and sets nothing.
        let without = workspace.plan().await;
        assert_eq!(without.code, Some(2), "{}", without.text());
        assert!(without.flat().contains(&format!("username = \"{}\" -> null", role.name)), "{}", without.text());
        assert!(!without.flat().contains("becomes"), "{}", without.text());

        let block = format!(
            "  publisher {{\n    host     = \"127.0.0.1\"\n    port     = {port}\n    database = \"{database}\"\n    username = \"{}\"\n    \
             sslmode  = \"disable\"\n    options  = {{ keepalives_idle = \"77\" }}\n  }}\n",
            role.name
        );
        workspace.write("main.tf", &config(&block));
        let plan = workspace.run(&["plan", "-no-color"]).await;
        assert!(plan.text().contains("Plan: 0 to add, 0 to change, 0 to destroy."), "{}", plan.text());
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        assert_eq!(pair.subscriber.rows(&kept).await, before);
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        workspace.destroy().await;
    }
}

async fn workspace(core: Core, pair: &Pair) -> Workspace {
    let mut workspace = Workspace::new(core);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.stand_in_for("cyrilgdn/postgresql", "1.26.0");
    workspace.env("NEONREPL_PUBLISHER_URL", &pair.publisher.url());
    workspace.env("NEONREPL_SUBSCRIBER_URL", &pair.subscriber.url());
    let requires = "terraform {\n  required_providers {\n    neonrepl = {\n      source = \"neonrepl/neonrepl\"\n    }\n    \
        postgresql = {\n      source = \"cyrilgdn/postgresql\"\n    }\n  }\n}\n";
    workspace.write("versions.tf", requires);
    workspace
}

#[tokio::test]
async fn a_state_without_its_database_is_refused() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V16, Major::V18, "moved_bare").await;
        let workspace = workspace(core, &pair).await;
        let mut bare = resource(core, "publication", "", "shop", json!({}));
        bare["instances"][0]["attributes"]["database"] = Value::Null;
        workspace.write("terraform.tfstate", &state(&[bare]));
        let moved = "moved {\n  from = postgresql_publication.shop\n  to   = neonrepl_publication.shop\n}\n\n";
        workspace.write(
            "main.tf",
            &format!("{moved}resource \"neonrepl_publication\" \"shop\" {{\n  name = \"shop\"\n}}\n"),
        );
        workspace.init().await;
        let refused = workspace.expect(&["plan", "-no-color"], 1).await.flat();
        assert!(refused.contains("the state of the postgresql_publication has no database"), "{refused}");
    }
}
