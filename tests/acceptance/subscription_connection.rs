// SPDX-License-Identifier: MPL-2.0

//! The connection of a subscription: its target, its changes, and whether it works.

use std::time::Duration;

use crate::common::cli::{Core, Run, Workspace, does_not_say, says};
use crate::common::postgres::{self as servers, Database, Major, Role, Server, Settings, Stop, quote};
use crate::common::relay::Relay;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};
use crate::subscription_slot::config;

const ADDRESS: &str = "neonrepl_subscription.shop";
const PASSWORD: &str = "variable \"password\" {\n  type      = string\n  ephemeral = true\n}\n\n";

/// Checks that the plan is empty, with or without warnings.
async fn unchanged(workspace: &Workspace) -> Run {
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(0), "{}", plan.text());
    plan
}

async fn conninfo(pair: &Pair) -> String {
    let query = "SELECT subconninfo FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    pair.subscriber.value(query).await
}

/// A role that may replicate from the shared server of that major.
async fn replicator(pair: &Pair, major: Major) -> Role {
    let role = servers::shared(major).role("replicator", "REPLICATION").await;
    pair.publisher.sql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", quote(&role.name))).await;
    role
}

async fn publish(database: &Database) {
    database.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
}

async fn slots(database: &Database) -> Vec<String> {
    database.rows("SELECT slot_name FROM pg_replication_slots WHERE slot_name !~ '^pg_[0-9]+_sync_' ORDER BY 1").await
}

/// A subscription that reads from another cluster than the provider's publisher, which has a publication of the same name.
#[tokio::test]
async fn the_server_that_a_subscription_names_is_asked() {
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V18]) {
        let pair = Pair::new(Major::V16, Major::V18, "elsewhere").await;
        let mut other = Server::start(major, Settings::new());
        // With the same name as on the provider's publisher, where there is no such slot.
        other.open("postgres").sql(&format!("CREATE DATABASE {}", quote(&pair.publisher.name))).await;
        let source = other.open(&pair.publisher.name);
        source.sql("CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text)").await;
        for database in [&pair.publisher, &source] {
            publish(database).await;
        }
        let name = pair.subscriber.name.clone();
        let mut workspace = pair.workspace(core).await;
        workspace.env("TF_VAR_password", &Role::superuser().password);
        let block = format!(
            "  publisher {{\n    host        = \"127.0.0.1\"\n    port        = {}\n    database    = \"{}\"\n    username    = \"postgres\"\n    \
             password_wo = var.password\n  }}\n",
            source.port, source.name
        );
        workspace.write("main.tf", &(PASSWORD.to_owned() + &config(&name, &block)));
        workspace.apply().await;
        source.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
        let well = unchanged(&workspace).await;
        does_not_say(&well, &["replicates nothing", "empty its tables", "Warning"]);

        other.stop(Stop::Fast);
        let target = format!("-target={ADDRESS}");
        let destroy = ["destroy", "-auto-approve", "-no-color", "-refresh=false", &target];
        let failed = workspace.expect(&destroy, 1).await;
        says(&failed, &["dropping subscription", "force_destroy = true"]);
        assert_eq!(
            pair.subscriber.rows("SELECT subname FROM pg_subscription WHERE subname = current_database()").await,
            [name.as_str()]
        );

        other.restart(Settings::new());
        workspace.destroy().await;
        assert_eq!(slots(&source).await, [""; 0]);
    }
}

/// The provider reaches the publisher through a tunnel, the subscriber directly: facts through the tunnel count, even
/// if the connection cannot be tried from here because only the subscriber has its password.
#[tokio::test]
async fn a_publisher_behind_a_tunnel_is_known_by_its_reader() {
    for (core, major) in Core::installed().into_iter().zip([Major::V17, Major::V18]) {
        let owners = Owners::new(Major::V15, major, "tunnel").await;
        let pair = &owners.pair;
        let relay = Relay::start(pair.publisher.port, Duration::ZERO);
        let mut workspace = owners.workspace(core, relay.port()).await;
        workspace.env("TF_VAR_password", &owners.publisher.password);
        let block = format!(
            "  publisher {{\n    port        = {}\n    username    = \"{}\"\n    password_wo = var.password\n  }}\n",
            pair.publisher.port, owners.publisher.name
        );
        workspace.write("main.tf", &(PASSWORD.to_owned() + &config(&owners.name, &block)));
        workspace.apply().await;
        // The proof is stored with the state.
        wait_until("the reader to be seen", DEADLINE, async || {
            workspace.apply().await;
            private_state(&workspace).contains("publisher_proof")
        })
        .await;
        does_not_say(&unchanged(&workspace).await, &["Warning"]);

        pair.publisher.sql("ALTER PUBLICATION shop ADD TABLE customers").await;
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        says(&plan, &["public.customers"]);
        workspace.apply().await;

        // Now that the slot is gone, it has no reader any more.
        wait_until("the slot to go", DEADLINE, async || {
            let end = format!(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
                owners.name
            );
            pair.publisher.rows(&end).await;
            pair.publisher.try_sql(&format!("SELECT pg_drop_replication_slot('{}')", owners.name)).await.is_ok()
        })
        .await;
        says(&workspace.plan().await, &["replicates nothing", "is no longer in database"]);
        pair.subscriber
            .sql(&format!(
                "ALTER SUBSCRIPTION {0} DISABLE; ALTER SUBSCRIPTION {0} SET (slot_name = NONE); DROP SUBSCRIPTION {0}",
                owners.name
            ))
            .await;
    }
}

/// The private state of the only object, decoded.
fn private_state(workspace: &Workspace) -> String {
    use base64::Engine;
    let state: serde_json::Value = serde_json::from_str(&workspace.state()).unwrap_or_default();
    let private = state["resources"][0]["instances"][0]["private"].as_str().unwrap_or_default();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(private).unwrap_or_default()).unwrap_or_default()
}

/// Two roles that own their tables and have only the needed rights: the subscriber's may not read connections.
struct Owners {
    pair: Pair,
    publisher: Role,
    subscriber: Role,
    name: String,
}

impl Owners {
    async fn new(from: Major, to: Major, prefix: &str) -> Self {
        let pair = Pair::new(from, to, prefix).await;
        let publisher = servers::shared(from).role("conn pub", "REPLICATION").await;
        let subscriber = pair.role_of_subscriber(to, "conn sub", "").await;
        for (database, role) in [(&pair.publisher, &publisher), (&pair.subscriber, &subscriber)] {
            for table in ["orders", "customers", "invoices"] {
                database.sql(&format!("ALTER TABLE {table} OWNER TO {}", quote(&role.name))).await;
            }
            database.sql(&format!("GRANT CREATE ON DATABASE {} TO {}", quote(&database.name), quote(&role.name))).await;
        }
        pair.subscriber.sql(&format!("GRANT pg_create_subscription TO {}", quote(&subscriber.name))).await;
        publish(&pair.publisher).await;
        let name = pair.subscriber.name.clone();
        Self { pair, publisher, subscriber, name }
    }

    /// The publisher's URL through a port.
    fn publisher_url(&self, port: u16) -> String {
        self.pair.publisher.url_through(&self.publisher, port)
    }

    async fn workspace(&self, core: Core, port: u16) -> Workspace {
        let subscriber = self.pair.subscriber.url_as(&self.subscriber);
        let mut workspace = self.pair.workspace_with(core, &self.publisher_url(port), &subscriber).await;
        workspace.secret(&self.publisher.password).secret(&self.subscriber.password);
        workspace
    }
}

#[tokio::test]
async fn a_changed_host_is_sent_though_the_connection_cannot_be_read() {
    for (core, major) in Core::installed().into_iter().zip([Major::V16, Major::V18]) {
        let owners = Owners::new(Major::V14, major, "moved host").await;
        let pair = &owners.pair;
        let old = Relay::start(pair.publisher.port, Duration::ZERO);
        let new = Relay::start(pair.publisher.port, Duration::ZERO);
        let mut workspace = owners.workspace(core, old.port()).await;
        let subscription = |arguments: &str| {
            config("shop", arguments).replace(
                "name         = \"shop\"",
                &format!("name         = \"{0}\"\n  slot_name    = \"{1}\"", owners.name, slot_of(&owners.name)),
            )
        };
        workspace.write("main.tf", &subscription(""));
        workspace.apply().await;
        does_not_say(&unchanged(&workspace).await, &["Warning"]);

        workspace.env("NEONREPL_PUBLISHER_URL", &owners.publisher_url(new.port()));
        old.refuse();
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        says(&plan, &["a new connection", &format!("port: {} becomes {}", old.port(), new.port())]);
        workspace.apply().await;
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
        does_not_say(&unchanged(&workspace).await, &["Warning"]);
        workspace.destroy().await;
    }
}

/// The name of a database's slot.
fn slot_of(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "_")
}

#[tokio::test]
async fn a_password_that_is_wrong_is_told() {
    for (core, major) in Core::installed().into_iter().zip([Major::V18, Major::V16]) {
        let owners = Owners::new(Major::V17, major, "rotated").await;
        let pair = &owners.pair;
        let mut workspace = owners.workspace(core, pair.publisher.port).await;
        let rotated = "pw-rotated-4Kd1";
        workspace.secret(rotated).secret("pw-wrong-7Lm0").env("TF_VAR_password", &owners.publisher.password);
        let subscription = |version: u32| {
            let block = format!(
                "  connection_version = {version}\n  publisher {{\n    username    = \"{}\"\n    password_wo = var.password\n  }}\n",
                owners.publisher.name
            );
            PASSWORD.to_owned() + &config(&owners.name, &block)
        };
        workspace.write("main.tf", &subscription(1));
        workspace.apply().await;
        does_not_say(&unchanged(&workspace).await, &["Warning"]);

        // Changed on the publisher alone.
        pair.publisher.sql(&format!("ALTER ROLE {} PASSWORD '{rotated}'", quote(&owners.publisher.name))).await;
        let end = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
            owners.name
        );
        pair.publisher.rows(&end).await;
        workspace.env(
            "NEONREPL_PUBLISHER_URL",
            &pair.publisher.url_as(&Role { password: rotated.to_owned(), ..owners.publisher.clone() }),
        );
        let plan = unchanged(&workspace).await;
        says(&plan, &["replicates nothing", "is not connected to the publisher", "connection_version"]);

        workspace.env("TF_VAR_password", "pw-wrong-7Lm0");
        workspace.write("main.tf", &subscription(2));
        let failed = workspace.apply_error().await;
        says(&failed, &["its worker does not connect", "password authentication failed", "is kept"]);
        does_not_say(&failed, &["tainted"]);
        workspace.env("TF_VAR_password", rotated);
        let applied = workspace.apply().await;
        says(&applied, &["0 added, 1 changed, 0 destroyed"]);
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["1"]).await;
        does_not_say(&unchanged(&workspace).await, &["Warning"]);
        workspace.destroy().await;
    }
}

/// Creates a subscription by hand, with its own role and keywords.
async fn by_hand(pair: &Pair, role: &Role) {
    publish(&pair.publisher).await;
    let connection = format!(
        "host=127.0.0.1 port={} dbname={} user={} password={} sslmode=prefer keepalives_idle=60 application_name=by_hand",
        pair.publisher.port, pair.publisher.name, role.name, role.password
    );
    let create = format!("CREATE SUBSCRIPTION {} CONNECTION '{connection}' PUBLICATION shop", pair.subscriber.name);
    pair.subscriber.sql(&create).await;
}

#[tokio::test]
async fn an_imported_subscription_keeps_its_connection() {
    for (core, (from, to)) in Core::installed().into_iter().zip([(Major::V15, Major::V18), (Major::V18, Major::V14)]) {
        let pair = Pair::new(from, to, "keeps").await;
        let name = pair.subscriber.name.clone();
        let role = replicator(&pair, from).await;
        by_hand(&pair, &role).await;
        let before = conninfo(&pair).await;
        let mut workspace = pair.workspace(core).await;
        workspace.secret(&role.password);

        // With its generated configuration.
        workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  id = \"{name}\"\n}}\n"));
        let plan = workspace.expect(&["plan", "-no-color", "-generate-config-out=generated.tf"], 0).await;
        says(&plan, &["Plan: 1 to import, 0 to add, 0 to change, 0 to destroy."]);
        let generated =
            std::fs::read_to_string(workspace.path().join("generated.tf")).expect("a generated configuration");
        for part in ["publisher {", &format!("\"{}\"", role.name), "keepalives_idle", "\"prefer\""] {
            assert!(generated.contains(part), "{part} is not in {generated}");
        }
        workspace.apply().await;
        assert_eq!(conninfo(&pair).await, before);
        does_not_say(&unchanged(&workspace).await, &["Warning"]);

        // With a configuration without the connection.
        workspace.expect(&["state", "rm", ADDRESS], 0).await;
        workspace.write("generated.tf", "");
        workspace.write("main.tf", &config(&name, ""));
        workspace.apply().await;
        assert_eq!(conninfo(&pair).await, before);
        does_not_say(&unchanged(&workspace).await, &["Warning"]);

        // The connection is set once this is requested, and the plan shows the changes.
        workspace.write("import.tf", "");
        workspace.write("main.tf", &config(&name, "  connection_version = 1\n"));
        let plan = workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        says(
            &plan,
            &["a new connection", &format!("user: {} becomes postgres", role.name), "password: a new one is sent"],
        );
        workspace.apply().await;
        let after = conninfo(&pair).await;
        for stays in ["keepalives_idle=60", "application_name=by_hand", "sslmode=prefer", "user=postgres"] {
            assert!(after.contains(stays), "{stays} does not stay");
        }
        unchanged(&workspace).await;
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_block_for_an_imported_subscription_is_sent_where_it_differs() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V16, Major::V17, "block").await;
        let name = pair.subscriber.name.clone();
        let role = replicator(&pair, Major::V16).await;
        by_hand(&pair, &role).await;
        let before = conninfo(&pair).await;
        let mut workspace = pair.workspace(core).await;
        workspace.secret(&role.password).env("TF_VAR_password", &role.password);
        workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  id = \"{name}\"\n}}\n"));
        let block = |options: &str| {
            let block = format!(
                "  publisher {{\n    username    = \"{}\"\n    password_wo = var.password\n{options}  }}\n",
                role.name
            );
            PASSWORD.to_owned() + &config(&name, &block)
        };
        workspace.write("main.tf", &block(""));
        let plan = workspace.plan().await;
        does_not_say(&plan, &["a new connection"]);
        workspace.apply().await;
        assert_eq!(conninfo(&pair).await, before);
        unchanged(&workspace).await;
        workspace.write("main.tf", &block("    options     = { keepalives_idle = \"30\" }\n"));
        let plan = workspace.plan().await;
        says(&plan, &["a new connection", "keepalives_idle: 60 becomes 30"]);
        does_not_say(&plan, &["password: another", "application_name", "sslmode:"]);
        workspace.apply().await;
        assert_eq!(
            conninfo(&pair).await.replace("keepalives_idle=30", "keepalives_idle=60").split(' ').count(),
            before.split(' ').count()
        );
        does_not_say(&unchanged(&workspace).await, &["Warning"]);
        workspace.destroy().await;
    }
}

/// If the connection cannot be read, it is only set on request.
#[tokio::test]
async fn an_imported_connection_that_cannot_be_read_stays() {
    for (core, major) in Core::installed().into_iter().zip([Major::V16, Major::V18]) {
        let owners = Owners::new(Major::V16, major, "unread").await;
        let pair = &owners.pair;
        let direct = pair.publisher.port;
        let relay = Relay::start(direct, Duration::ZERO);
        let mut workspace = owners.workspace(core, relay.port()).await;
        workspace.env("TF_VAR_password", &owners.publisher.password);
        let connection = format!(
            "host=127.0.0.1 port={direct} dbname={} user=''{}'' password=''{}'' keepalives_idle=60",
            pair.publisher.name, owners.publisher.name, owners.publisher.password
        );
        let create = format!("CREATE SUBSCRIPTION {} CONNECTION '{connection}' PUBLICATION shop", owners.name);
        let maker = pair.subscriber.connect_as(&owners.subscriber).await.expect("a connection");
        maker.batch_execute(&create).await.expect("a subscription");
        let before = conninfo(pair).await;

        workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  id = \"{}\"\n}}\n", owners.name));
        let subscription = |version: &str| {
            let block = format!(
                "{version}  publisher {{\n    username    = \"{}\"\n    password_wo = var.password\n  }}\n",
                owners.publisher.name
            );
            PASSWORD.to_owned() + &config(&owners.name, &block)
        };
        workspace.write("main.tf", &subscription(""));
        let plan = workspace.plan().await;
        says(
            &plan,
            &["how it reaches its publisher is not known", "its connection stays as it is", "connection_version"],
        );
        workspace.apply().await;
        assert_eq!(conninfo(pair).await, before);
        does_not_say(&unchanged(&workspace).await, &["Warning"]);

        workspace.write("main.tf", &subscription("  connection_version = 1\n"));
        let plan = workspace.plan().await;
        says(&plan, &["This role may not read", &format!("port={}", relay.port()), "password=***"]);
        workspace.apply().await;
        assert!(conninfo(pair).await.contains(&format!("port={}", relay.port())));
        does_not_say(&unchanged(&workspace).await, &["Warning"]);
        workspace.destroy().await;
        assert_eq!(pair.slots().await, [""; 0]);
    }
}
