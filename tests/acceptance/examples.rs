// SPDX-License-Identifier: MPL-2.0

//! Every directory of `examples/`, as a person who copies it: applied by a real core to real servers, planned again without
//! changes, imported in each way that it shows, and destroyed, with nothing left. The exceptions are listed with their reasons.

mod stage;
mod walking;

use std::collections::BTreeSet;
use std::fs;

use crate::common::aurora::{ClusterConfig, PostgresServers, REGION, StandIn, StandInConfig};
use crate::common::cli::{Core, Workspace, says};
use crate::common::postgres::{Major, SUPERUSER, SUPERUSER_PASSWORD, Server, Settings};
use crate::common::tools::checkout;
use crate::replication::Pair;
use stage::{Side, Stage, files, place};
use walking::{Example, walk};

/// How an example is tried, if not as all others.
enum Instead {
    /// A test of this suite applies it.
    By(&'static str),
    /// Its blocks need providers that the tests do not have.
    OtherProviders,
    /// It is a part of the example above it.
    Part,
    /// On the stand-in for the RDS API, below.
    OnStandIn,
}

const INSTEAD: [(&str, Instead); 10] = [
    ("actions/neonrepl_reboot_writer", Instead::OnStandIn),
    ("aurora-to-neon", Instead::By("aurora_life.rs")),
    ("aurora-to-neon-complete", Instead::OtherProviders),
    ("cutover-application", Instead::OtherProviders),
    ("first-configuration", Instead::OnStandIn),
    ("guides/aurora", Instead::OnStandIn),
    ("migration-module", Instead::By("many_databases.rs")),
    ("migration-module/module", Instead::Part),
    ("resources/neonrepl_aurora_logical_replication", Instead::OnStandIn),
    ("resources/neonrepl_rds_logical_replication", Instead::OnStandIn),
];

const PUBLISHED: (Side, &str, &str) = (Side::Publisher, "shop", "CREATE PUBLICATION shop FOR TABLE users, orders");
const SUBSCRIBED: (Side, &str, &str) = (
    Side::Subscriber,
    "neondb",
    "CREATE SUBSCRIPTION shop CONNECTION '{publisher}' PUBLICATION shop WITH (slot_name = shop_neondb)",
);

/// The examples that are applied here, with what is there before.
const APPLIED: &[Example] = &[
    Example::new(
        "actions/neonrepl_build_indexes",
        &[PUBLISHED, SUBSCRIBED, (Side::Subscriber, "neondb", "DROP INDEX orders_of_user")],
    ),
    Example::new("actions/neonrepl_compare_tables", &[PUBLISHED, SUBSCRIBED]),
    Example::new("actions/neonrepl_copy_sequences", &[PUBLISHED, SUBSCRIBED]),
    Example::new("actions/neonrepl_refresh_publication", &[PUBLISHED, SUBSCRIBED]),
    Example::new("actions/neonrepl_wait_for_sync", &[PUBLISHED, SUBSCRIBED]),
    Example::new("cutover-checked", &[PUBLISHED]),
    Example::new("data-sources/neonrepl_neon_nat_addresses", &[]),
    Example::new("data-sources/neonrepl_preflight", &[]),
    Example::new("data-sources/neonrepl_publications", &[PUBLISHED]),
    Example::new("data-sources/neonrepl_replication_status", &[PUBLISHED]),
    Example::new(
        "data-sources/neonrepl_subscriptions",
        &[
            PUBLISHED,
            (Side::Subscriber, "warehouse", "CREATE SUBSCRIPTION warehouse CONNECTION '{publisher}' PUBLICATION shop"),
        ],
    ),
    Example::new("data-sources/neonrepl_table_comparison", &[PUBLISHED, SUBSCRIBED]),
    Example::new("data-sources/neonrepl_tables", &[]),
    Example::new("ephemeral-resources/neonrepl_rds_auth_token", &[])
        .with("data \"neonrepl_tables\" \"all\" {\n  provider = neonrepl.shop\n}\n"),
    Example::new("functions/conninfo", &[]),
    Example::new("functions/neon_nat_cidrs", &[]),
    Example::new("functions/parse_connection_uri", &[]),
    Example::new("functions/quote_identifier", &[]),
    Example::new(
        "guides/import-what-exists",
        &[PUBLISHED, SUBSCRIBED, (Side::Publisher, "shop", "CREATE PUBLICATION reports FOR TABLE documents")],
    ),
    Example::new("guides/large-databases", &[]),
    Example::new(
        "guides/least-privilege",
        &[
            (
                Side::Publisher,
                "shop",
                "ALTER TABLE users OWNER TO migrator; ALTER TABLE orders OWNER TO migrator; \
             GRANT CREATE ON DATABASE shop TO migrator",
            ),
            (
                Side::Subscriber,
                "neondb",
                "ALTER TABLE users OWNER TO neondb_owner; ALTER TABLE orders OWNER TO neondb_owner; \
             GRANT CREATE ON DATABASE neondb TO neondb_owner",
            ),
        ],
    ),
    Example::new(
        "guides/move-from-cyrilgdn-postgresql",
        &[
            (
                Side::Publisher,
                "shop",
                "CREATE PUBLICATION shop FOR TABLE users, orders WITH (publish = 'insert, update, delete')",
            ),
            (Side::Subscriber, "neondb", "CREATE SUBSCRIPTION shop CONNECTION '{publisher}' PUBLICATION shop"),
        ],
    ),
    Example::new("guides/secrets", &[PUBLISHED]),
    Example::new("guides/secrets-iam", &[]).with("data \"neonrepl_tables\" \"all\" {}\n"),
    Example::new("guides/several-aliases", &[]),
    Example::new("guides/verify-full", &[]).with(BOTH_SIDES),
    Example::new("guides/what-is-copied", &[]),
    Example::new("list-resources/neonrepl_publication", &[PUBLISHED]),
    Example::new(
        "list-resources/neonrepl_replica_identity",
        &[(Side::Publisher, "shop", "ALTER TABLE visits REPLICA IDENTITY FULL")],
    ),
    Example::new(
        "list-resources/neonrepl_replication_slot",
        &[(Side::Publisher, "shop", "SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')")],
    ),
    Example::new("list-resources/neonrepl_subscription", &[PUBLISHED, SUBSCRIBED]),
    Example::new("provider", &[]).with(BOTH_SIDES),
    Example::new(
        "resources/neonrepl_cutover",
        &[PUBLISHED, (Side::Publisher, "mall", "CREATE PUBLICATION mall FOR TABLE users, orders")],
    ),
    Example::new(
        "resources/neonrepl_destination_indexes",
        &[
            (Side::Publisher, "shop", "CREATE PUBLICATION archive FOR TABLE countries, visits"),
            (
                Side::Subscriber,
                "archive",
                "CREATE TABLE countries (code text PRIMARY KEY, name text); \
             CREATE TABLE visits (token text NOT NULL, page text)",
            ),
            (Side::Subscriber, "archive", "CREATE SUBSCRIPTION archive CONNECTION '{publisher}' PUBLICATION archive"),
        ],
    ),
    Example::new("resources/neonrepl_destination_schema", &[]),
    Example::new("resources/neonrepl_publication", &[]),
    Example::new(
        "resources/neonrepl_replica_identity",
        &[(Side::Publisher, "shop", "ALTER TABLE events DROP CONSTRAINT events_pkey")],
    ),
    Example::new("resources/neonrepl_replication_slot", &[PUBLISHED]),
    Example::new("resources/neonrepl_subscription", &[]),
    Example::new("several-pairs", &[]),
];

const BOTH_SIDES: &str = "data \"neonrepl_publications\" \"all\" {}\n\ndata \"neonrepl_subscriptions\" \"all\" {}\n";

/// The directories of `examples/` that hold a configuration, by their paths below it.
fn directories() -> BTreeSet<String> {
    let (mut open, mut found) = (vec![place("")], BTreeSet::new());
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("reading examples").flatten().map(|entry| entry.path()) {
            let name = entry.to_string_lossy().into_owned();
            if name.ends_with(".tf") || name.ends_with(".tfquery.hcl") {
                let path = directory.strip_prefix(place("")).expect("a path below examples");
                found.insert(path.to_string_lossy().into_owned());
            } else if entry.is_dir() {
                open.push(entry);
            }
        }
    }
    found
}

/// A new example is applied, or there is a reason why it is not, which is true.
#[test]
fn every_example_is_applied_or_there_is_a_reason() {
    let applied = APPLIED.iter().map(|example| example.directory);
    let known: Vec<_> = applied.chain(INSTEAD.iter().map(|(directory, _)| *directory)).collect();
    let listed: BTreeSet<_> = known.iter().map(|directory| (*directory).to_owned()).collect();
    assert_eq!(listed.len(), known.len(), "an example is listed twice");
    assert_eq!(listed, directories(), "listed here, and in examples/");
    let own = fs::read_to_string(checkout().join("tests/acceptance/examples.rs")).expect("this file");
    let (_, tests) = own.split_once("const BOTH_SIDES").expect("the end of the lists");
    for (directory, instead) in INSTEAD {
        let is_so = match instead {
            Instead::By(test) => {
                let test = fs::read_to_string(checkout().join("tests/acceptance").join(test)).expect("a test");
                test.contains(&format!("\"examples/{directory}\""))
            }
            Instead::OtherProviders => files(&place(directory))
                .iter()
                .any(|(_, text)| text.contains("resource \"aws_") || text.contains("resource \"neon_")),
            Instead::Part => directory.rsplit_once('/').is_some_and(|(above, _)| directories().contains(above)),
            Instead::OnStandIn => tests.contains(&format!("\"{directory}\"")),
        };
        assert!(is_so, "what is said about {directory} is not so");
    }
}

/// Walks the applied examples below a directory; both cores take turns.
async fn walk_below(kinds: &[&str]) {
    let stage = Stage::start().await;
    let examples = APPLIED.iter().filter(|example| kinds.iter().any(|kind| example.directory.starts_with(kind)));
    for (turn, example) in examples.enumerate() {
        let cores: Vec<_> = Core::installed().into_iter().filter(|core| example.runs_with(*core)).collect();
        if let Some(core) = cores.get(turn % cores.len().max(1)) {
            walk(&stage, *core, example).await;
        }
    }
}

#[tokio::test]
async fn resources() {
    walk_below(&["resources/"]).await;
}

#[tokio::test]
async fn data_sources_ephemeral_resources_and_functions() {
    walk_below(&["data-sources/", "ephemeral-resources/", "functions/"]).await;
}

#[tokio::test]
async fn actions_and_lists() {
    walk_below(&["actions/", "list-resources/"]).await;
}

#[tokio::test]
async fn guides_and_whole_configurations() {
    walk_below(&["guides/", "provider", "cutover", "several"]).await;
}

/// Two clusters on their default groups, or two DB instances, and a workspace for the first one's database.
async fn stand_in(core: Core, is_instance: bool) -> (StandIn, Workspace) {
    let new = if is_instance { ClusterConfig::instance } else { ClusterConfig::new };
    let clusters = ["shop", "mall"].map(|name| new(name, "16.4"));
    let writer = if is_instance { "shop" } else { "shop-1" };
    let aws = StandIn::start(StandInConfig::new(PostgresServers(Major::V16), clusters.into())).await;
    let mut workspace = Workspace::with_stand_in(core, &aws);
    let url = aws.database(writer, SUPERUSER).url();
    workspace.secret(SUPERUSER_PASSWORD).env("NEONREPL_PUBLISHER_URL", &url);
    (aws, workspace)
}

#[tokio::test]
async fn logical_replication_on_aurora_and_rds() {
    let cores = Core::installed();
    for (turn, (directory, is_instance)) in [
        ("resources/neonrepl_aurora_logical_replication", false),
        ("resources/neonrepl_rds_logical_replication", true),
        ("guides/aurora", false),
    ]
    .into_iter()
    .enumerate()
    {
        let (aws, mut workspace) = stand_in(cores[turn % cores.len()], is_instance).await;
        let mall = if is_instance { "mall" } else { "mall-1" };
        workspace.env("TF_VAR_mall_url", &aws.database(mall, SUPERUSER).url());
        let here = format!("alias = \"mall\"\n\n  aws {{\n    endpoint_url = \"{}\"\n  }}\n", aws.endpoint_url);
        workspace.env("AWS_REGION", REGION);
        let files = files(&place(directory)).into_iter();
        let files: Vec<_> = files.map(|(name, text)| (name, text.replace("alias = \"mall\"\n", &here))).collect();
        walking::apply(&workspace, &files).await;
        assert_eq!(aws.rebooted().len(), 1, "{directory}: the other one is for a maintenance window");
        walking::import(&workspace, &files).await;
        workspace.destroy().await;
        assert_eq!(aws.custom_groups(), [""; 0], "{directory}");
    }
}

#[tokio::test]
async fn a_reboot_on_request() {
    if !Core::installed().contains(&Core::Terraform) {
        return;
    }
    let (aws, workspace) = stand_in(Core::Terraform, false).await;
    let files = files(&place("actions/neonrepl_reboot_writer"));
    walking::apply(&workspace, &files).await;
    walking::invoke(&workspace, &files).await;
    assert_eq!(aws.rebooted(), ["shop-1"]);
    let changed = files[0].1.replace("max_worker_processes = 32", "max_worker_processes = 64");
    workspace.write(&files[0].0, &changed);
    workspace.apply().await;
    assert_eq!(aws.rebooted(), ["shop-1", "shop-1"]);
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
}

/// The README's first configuration, by the commands that it prints: from a cluster without logical replication to rows that
/// follow.
#[tokio::test]
async fn the_first_configuration_of_the_readme() {
    let readme = fs::read_to_string(checkout().join("README.md")).expect("the README");
    let (_, section) = readme.split_once("## A first configuration").expect("the section");
    let fence = |language: &str| {
        let code = section.split(&format!("```{language}\n")).nth(1).and_then(|code| code.split("```").next());
        code.expect("a fence").to_owned()
    };
    let shown = fence("terraform");
    assert_eq!(files(&place("first-configuration")), [("main.tf".to_owned(), shown.clone())]);
    let commands = fence("shell");
    for core in Core::installed() {
        let neon = Server::start(Major::V18, Settings::new());
        neon.open(SUPERUSER).sql("CREATE DATABASE neondb").await;
        let (aws, mut workspace) = stand_in(core, false).await;
        let source = aws.database("shop-1", SUPERUSER);
        source.sql("CREATE DATABASE shop").await;
        let pair = Pair { publisher: aws.database("shop-1", "shop"), subscriber: neon.open("neondb") };
        pair.publisher
            .sql(
                "CREATE TABLE users (id int PRIMARY KEY, name text); CREATE TABLE orders (id int PRIMARY KEY, total int); \
                 INSERT INTO users VALUES (1, 'a'); INSERT INTO orders SELECT n, n FROM generate_series(1, 100) n",
            )
            .await;
        let host = "host     = \"shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com\"";
        let here = format!("host = \"127.0.0.1\"\n    port = {}", pair.publisher.port);
        let region = "    region = \"us-east-2\"\n";
        let endpoint = format!("{region}    endpoint_url = \"{}\"\n", aws.endpoint_url);
        workspace.remove("provider.tf");
        workspace.write("versions.tf", "");
        workspace.write("main.tf", &shown.replace(host, &here).replace(region, &endpoint));
        workspace.unset("NEONREPL_PUBLISHER_URL");
        let values = [("aurora_password", SUPERUSER_PASSWORD.to_owned()), ("neon_url", pair.subscriber.url())];
        for (name, value) in values {
            assert!(commands.contains(&format!("export TF_VAR_{name}=")), "{commands}");
            workspace.env(&format!("TF_VAR_{name}"), &value);
        }
        let typed: Vec<_> = commands.lines().filter_map(|line| line.strip_prefix("terraform ")).collect();
        assert_eq!(typed, ["init", "plan", "apply"]);
        workspace.init().await;
        let plan = workspace.expect(&["plan", "-no-color"], 0).await;
        says(&plan, &["reboot", "shop-1", "public.users"]);
        workspace.apply().await;
        assert_eq!(pair.subscriber.rows("SELECT count(*) FROM orders").await, ["100"], "the apply waits for the copy");
        pair.publisher.sql("UPDATE users SET name = 'b'; INSERT INTO orders VALUES (101, 101)").await;
        pair.wait_for_rows("SELECT name FROM users", &["b"]).await;
        pair.wait_for_rows("SELECT count(*) FROM orders", &["101"]).await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
        assert_eq!(aws.custom_groups(), [""; 0]);
    }
}
