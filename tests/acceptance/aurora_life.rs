// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_aurora_logical_replication` through real cores: its whole life on the stand-in, with real Postgres
//! servers as instances.

use std::fs;

use neonrepl::rds::api::{NewParameterGroup, RdsApi};
use serde_json::{Value, json};

use crate::aurora::rds;
use crate::common::aurora::{ClusterConfig, NoServers, PostgresServers, REGION, StandIn, StandInConfig};
use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::{Database, Major, Role, SUPERUSER, SUPERUSER_PASSWORD, Server, Settings};
use crate::common::relay::Relay;
use crate::common::tools;
use crate::common::wait::wait_until;

const ADDRESS: &str = "neonrepl_aurora_logical_replication.source";
const DEFAULT: &str = "default.aurora-postgresql16";
const OWN: &str = "shop-logical-replication";
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Makes a test of each of these asynchronous functions with each core.
macro_rules! with_both_cores {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use crate::common::cli::Core;

            #[tokio::test]
            async fn terraform() {
                super::$test(Core::Terraform).await;
            }

            #[tokio::test]
            async fn opentofu() {
                super::$test(Core::OpenTofu).await;
            }
        }
    )+};
}

with_both_cores!(
    a_default_group_is_replaced_and_comes_back,
    a_custom_group_is_edited_in_place,
    a_group_of_another_provider_is_left_alone,
    parameters_change_in_place,
    drift_is_planned_and_mended,
    an_imported_cluster_has_an_empty_plan,
    without_a_reboot_one_stays_pending,
    readers_are_rebooted_on_request,
    slots_forbid_a_destroy,
    a_destroy_can_leave_or_reboot,
    a_half_finished_create_is_finished,
    a_create_that_was_interrupted_goes_on,
    a_cluster_that_is_gone_is_planned_anew,
    another_group_takes_over,
    a_group_that_is_there_is_taken_and_given_back,
    a_failover_is_followed,
    a_cluster_of_the_same_apply_is_not_known_yet,
    without_a_publisher_nothing_is_verified,
    what_cannot_be_done_is_said_before_anything_changes,
    an_upgrade_is_planned_and_mended,
    another_server_proves_nothing,
    a_tunnel_is_as_good_as_the_endpoint,
    the_guide_from_end_to_end,
);

/// A cluster, and a workspace whose provider is configured for it.
struct Shop {
    aws: StandIn,
    writer: Database,
    workspace: Workspace,
}

impl Shop {
    async fn new(core: Core, cluster: ClusterConfig) -> Self {
        Self::of(core, StandInConfig::new(PostgresServers(Major::V16), vec![cluster])).await
    }

    async fn of(core: Core, config: StandInConfig) -> Self {
        let aws = StandIn::start(config).await;
        let writer = aws.database("shop-1", SUPERUSER);
        let mut workspace = Workspace::with_stand_in(core, &aws);
        workspace.secret(SUPERUSER_PASSWORD).env("NEONREPL_PUBLISHER_URL", &writer.url());
        workspace.init().await;
        Self { aws, writer, workspace }
    }

    /// Writes the resource with these further attributes.
    fn configure(&self, attributes: &str) {
        let text = format!(
            "resource \"neonrepl_aurora_logical_replication\" \"source\" {{\n  cluster_identifier = \"shop\"\n{attributes}\n}}\n"
        );
        self.workspace.write("main.tf", &text);
    }

    async fn apply(&self, attributes: &str) -> Run {
        self.configure(attributes);
        self.workspace.apply().await
    }

    /// Applies, and checks that nothing is left to do. Returns the changes in AWS.
    async fn settle(&self, attributes: &str) -> Vec<String> {
        self.aws.forget_calls();
        self.apply(attributes).await;
        let changes = self.aws.changes();
        self.workspace.expect_empty_plan().await;
        changes
    }

    /// Plans a change, and returns the output.
    async fn planned(&self) -> String {
        let plan = self.workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        plan.flat()
    }

    async fn attributes(&self) -> Value {
        self.workspace.attributes(ADDRESS).await
    }

    /// The writer's own `wal_level`.
    async fn wal(&self) -> String {
        self.writer
            .rows("SELECT current_setting('wal_level'), current_setting('rds.logical_replication')")
            .await
            .concat()
    }

    /// The value that somebody set.
    fn parameter(&self, group: &str, name: &str) -> Option<String> {
        self.aws.parameter(group, name)
    }

    /// Waits until RDS shows a change that was made outside the provider.
    async fn wait_for_pending_reboot(&self) {
        wait_until("the writer to wait for a reboot", DEADLINE, async || {
            self.aws.member_statuses("shop").iter().any(|(name, status)| name == "shop-1" && status == "pending-reboot")
        })
        .await;
    }
}

fn shop() -> ClusterConfig {
    ClusterConfig::new("shop", "16.4")
}

fn on_custom_group() -> ClusterConfig {
    ClusterConfig { parameter_group: Some("theirs".to_owned()), ..shop() }
}

#[track_caller]
pub(crate) fn assert_says(text: &str, sentences: &[&str]) {
    for sentence in sentences {
        assert!(text.contains(sentence), "no {sentence:?} in:\n{text}");
    }
}

async fn a_default_group_is_replaced_and_comes_back(core: Core) {
    let shop = Shop::new(core, shop().readers(1)).await;
    assert_eq!(shop.wal().await, "replica|off");
    shop.configure("  tags = { team = \"orders\" }");
    let plan = shop.planned().await;
    assert_says(
        &plan,
        &[
            "Warning: applying changes the DB cluster shop: this reboots shop-1",
            "1. create parameter group shop-logical-replication (family aurora-postgresql16)",
            "2. in parameter group shop-logical-replication, set rds.logical_replication: 0 -> 1",
            "3. attach parameter group shop-logical-replication to shop in place of default.",
            "4. wait until shop is available",
            "5. reboot the writer instance shop-1",
            "6. verify that the server runs with wal_level = logical",
            "Note that - the readers shop-2 are not rebooted and stay pending-reboot",
            "A destroy then: 1. attach parameter group default.aurora-postgresql16 to shop",
            "3. delete parameter group shop-logical-replication",
            "Plan: 1 to add, 0 to change, 0 to destroy.",
        ],
    );
    assert_eq!(shop.aws.changes(), [""; 0], "a plan changes nothing");

    let changes = shop.settle("  tags = { team = \"orders\" }").await;
    let expected =
        ["CreateDBClusterParameterGroup", "ModifyDBClusterParameterGroup", "ModifyDBCluster", "RebootDBInstance"];
    assert_eq!(changes, expected);
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!(shop.aws.attached_group("shop"), OWN);
    assert_eq!(shop.parameter(OWN, "rds.logical_replication").as_deref(), Some("1"));
    let (host, port) = shop.aws.address("shop-1");
    let state = shop.attributes().await;
    for (name, value) in [
        ("id", json!("shop")),
        ("parameter_group_name", json!(OWN)),
        ("parameter_group_family", json!("aurora-postgresql16")),
        ("parameter_group_created", json!(true)),
        ("previous_parameter_group_name", json!(DEFAULT)),
        ("writer_instance_identifier", json!("shop-1")),
        ("endpoint", json!(host)),
        ("port", json!(port)),
        ("engine_version", json!("16.4")),
        ("pending_reboot", json!(false)),
        ("wal_level", json!("logical")),
    ] {
        assert_eq!(state[name], value, "{name}");
    }

    let changes = shop.settle("  tags = { team = \"billing\" }").await;
    assert_eq!(changes, ["AddTagsToResource"]);

    shop.aws.forget_calls();
    let destroyed = shop.workspace.destroy().await;
    assert_says(
        &destroyed.flat(),
        &[
            "destroying restores the DB cluster shop: no instance is rebooted",
            "The old parameters take effect when the instances restart",
        ],
    );
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
    assert!(!shop.aws.changes().contains(&"RebootDBInstance".to_owned()), "{:?}", shop.aws.changes());
    assert_eq!(shop.wal().await, "logical|on", "nothing was rebooted");
}

async fn a_custom_group_is_edited_in_place(core: Core) {
    let shop = Shop::new(core, on_custom_group()).await;
    shop.aws.set_parameter("theirs", "max_wal_senders", "30");
    let changes = shop.settle("  parameters = { max_wal_senders = \"40\" }").await;
    assert_eq!(changes, ["ModifyDBClusterParameterGroup", "RebootDBInstance"]);
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!(shop.writer.rows("SHOW max_wal_senders").await, ["40"]);
    let state = shop.attributes().await;
    assert_eq!(state["parameter_group_name"], "theirs");
    assert_eq!(state["parameter_group_created"], false);
    assert_eq!(state["previous_parameter_group_name"], Value::Null);

    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), "theirs");
    assert_eq!(shop.aws.custom_groups(), ["theirs"]);
    assert_eq!(shop.parameter("theirs", "rds.logical_replication"), None);
    assert_eq!(shop.parameter("theirs", "max_wal_senders").as_deref(), Some("30"));
}

async fn a_group_of_another_provider_is_left_alone(core: Core) {
    let shop = Shop::new(core, on_custom_group()).await;
    shop.configure("  manage_parameter_group = false");
    let refused = shop.workspace.plan().await;
    assert_eq!(refused.code, Some(1));
    assert_says(
        &refused.flat(),
        &["rds.logical_replication is not 1 in its parameter group \"theirs\", which is not managed here"],
    );

    shop.aws.set_parameter("theirs", "rds.logical_replication", "1");
    shop.aws.take_notice("theirs");
    assert_eq!(shop.settle("  manage_parameter_group = false").await, ["RebootDBInstance"]);
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!(shop.attributes().await["parameter_group_name"], "theirs");

    shop.aws.forget_calls();
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.changes(), [""; 0]);
    assert_eq!(shop.parameter("theirs", "rds.logical_replication").as_deref(), Some("1"));
}

async fn parameters_change_in_place(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.apply("  parameters = { max_replication_slots = \"33\" }").await;
    assert_eq!(shop.writer.rows("SHOW max_replication_slots").await, ["33"]);

    shop.configure("  parameters = { max_replication_slots = \"44\" }");
    assert_says(
        &shop.planned().await,
        &["will be updated in-place", "set max_replication_slots: 33 -> 44", "this reboots shop-1"],
    );
    let changes = shop.settle("  parameters = { max_replication_slots = \"44\" }").await;
    assert_eq!(changes, ["ModifyDBClusterParameterGroup", "RebootDBInstance"]);
    assert_eq!(shop.writer.rows("SHOW max_replication_slots").await, ["44"]);

    let more = "  parameters = { max_replication_slots = \"44\", wal_sender_timeout = \"300000\" }";
    assert_eq!(shop.settle(more).await, ["ModifyDBClusterParameterGroup"], "a dynamic parameter needs no reboot");
    wait_until("the new value", DEADLINE, async || shop.writer.rows("SHOW wal_sender_timeout").await == ["5min"]).await;

    assert_eq!(shop.settle("").await, ["ResetDBClusterParameterGroup", "RebootDBInstance"]);
    assert_eq!(shop.writer.rows("SHOW max_replication_slots").await, ["20"]);
    assert_eq!(shop.parameter(OWN, "wal_sender_timeout"), None);
    shop.workspace.destroy().await;
}

async fn drift_is_planned_and_mended(core: Core) {
    let shop = Shop::new(core, shop()).await;
    let slots = "  parameters = { max_replication_slots = \"33\" }";
    shop.apply(slots).await;

    shop.aws.set_parameter(OWN, "max_replication_slots", "21");
    assert_says(&shop.planned().await, &["will be updated in-place", "set max_replication_slots: 21 -> 33"]);
    shop.settle(slots).await;
    assert_eq!(shop.parameter(OWN, "max_replication_slots").as_deref(), Some("33"));

    shop.aws.set_parameter(OWN, "rds.logical_replication", "0");
    assert_says(&shop.planned().await, &["will be updated in-place", "set rds.logical_replication: 0 -> 1"]);
    shop.settle(slots).await;
    assert_eq!(shop.wal().await, "logical|on");

    let others = NewParameterGroup {
        name: "others".to_owned(),
        family: "aurora-postgresql16".to_owned(),
        description: "somebody else's".to_owned(),
        ..NewParameterGroup::default()
    };
    rds(&shop.aws).create_parameter_group(&others).await.expect("making another group");
    for group in [DEFAULT, "others"] {
        rds(&shop.aws).attach_parameter_group("shop", group).await.expect("attaching another group");
        shop.wait_for_pending_reboot().await;
        shop.workspace.expect(&["apply", "-refresh-only", "-auto-approve", "-no-color"], 0).await;
        assert_eq!(shop.attributes().await["parameter_group_name"], group, "a refresh shows what is");
        assert_says(
            &shop.planned().await,
            &["will be updated in-place", "attach parameter group shop-logical-replication to shop"],
        );
        shop.settle(slots).await;
        assert_eq!(shop.aws.attached_group("shop"), OWN);
        assert_eq!(shop.wal().await, "logical|on");
    }
    assert_eq!(shop.parameter("others", "rds.logical_replication"), None, "a group of others is not touched");

    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT, "what was before the drift came back");
    assert_eq!(shop.aws.custom_groups(), ["others"]);
}

async fn an_imported_cluster_has_an_empty_plan(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.apply("").await;
    let forget = ["state", "rm", ADDRESS];
    shop.workspace.expect(&forget, 0).await;
    shop.workspace.import(ADDRESS, "shop").await;
    shop.workspace.expect_empty_plan().await;

    shop.workspace.expect(&forget, 0).await;
    let import = format!("import {{\n  to = {ADDRESS}\n  identity = {{ cluster_identifier = \"shop\" }}\n}}\n");
    shop.workspace.write("import.tf", &import);
    let applied = shop.workspace.apply().await;
    assert_says(&applied.text(), &["1 imported, 0 added, 0 changed, 0 destroyed"]);
    shop.workspace.write("import.tf", "");
    shop.workspace.expect_empty_plan().await;

    shop.aws.forget_calls();
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT, "the group's tags say what was before");
    assert_eq!(shop.aws.custom_groups(), [""; 0]);

    let missing = shop.workspace.run(&["import", "-no-color", ADDRESS, "shop-of-others"]).await;
    assert_eq!(missing.code, Some(1));
    assert_says(&missing.flat(), &["Cannot import non-existent remote object"]);
}

async fn without_a_reboot_one_stays_pending(core: Core) {
    let shop = Shop::new(core, shop()).await;
    let changes = shop.settle("  reboot = \"never\"").await;
    assert!(!changes.contains(&"RebootDBInstance".to_owned()), "{changes:?}");
    let state = shop.attributes().await;
    assert_eq!((&state["pending_reboot"], &state["wal_level"]), (&json!(true), &json!("replica")));
    assert_eq!(shop.wal().await, "replica|off");

    shop.configure("");
    shop.aws.add_blue_green("upgrade", "shop", "shop-green", "AVAILABLE");
    let blue =
        "shop is the blue side of blue/green deployment upgrade (AVAILABLE): a switchover leaves its replication slots";
    assert_says(&shop.planned().await, &["will be updated in-place", "this reboots shop-1", blue]);
    assert_eq!(shop.settle("").await, ["RebootDBInstance"]);
    let state = shop.attributes().await;
    assert_eq!((&state["pending_reboot"], &state["wal_level"]), (&json!(false), &json!("logical")));
    shop.workspace.destroy().await;
}

async fn readers_are_rebooted_on_request(core: Core) {
    let shop = Shop::new(core, shop().readers(1)).await;
    shop.configure("  reboot = \"all\"");
    assert_says(
        &shop.planned().await,
        &["this reboots shop-2, shop-1", "5. reboot the reader instance shop-2 6. reboot the writer instance shop-1"],
    );
    shop.settle("  reboot = \"all\"").await;
    let in_sync = |name: &str| (name.to_owned(), "in-sync".to_owned());
    assert_eq!(shop.aws.member_statuses("shop"), [in_sync("shop-1"), in_sync("shop-2")]);
}

async fn slots_forbid_a_destroy(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.apply("").await;
    for slot in ["orders", "users"] {
        shop.writer.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    }
    shop.aws.forget_calls();
    let refused = shop.workspace.expect(&["destroy", "-auto-approve", "-no-color"], 1).await;
    assert_says(
        &refused.flat(),
        &["logical replication slots exist: orders, users", "Drop the subscriptions that use them"],
    );
    assert_eq!(shop.aws.changes(), [""; 0]);
    shop.workspace.expect_empty_plan().await;

    shop.writer.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").await;
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
}

async fn a_destroy_can_leave_or_reboot(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.apply("  skip_destroy = true").await;
    shop.aws.forget_calls();
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.changes(), [""; 0]);
    assert_eq!(shop.aws.attached_group("shop"), OWN);

    assert_eq!(shop.settle("  reboot_on_destroy = true").await, [""; 0], "the group that was left is taken up again");
    assert_eq!(shop.attributes().await["parameter_group_created"], true);
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
    assert_eq!(shop.wal().await, "replica|off");
}

async fn a_half_finished_create_is_finished(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.configure("");
    let what = "User: arn:aws:iam::123456789012:user/ci is not authorized to perform: rds:RebootDBInstance";
    shop.aws.fail_next("RebootDBInstance", 403, "AccessDenied", what);
    let failed = shop.workspace.apply_error().await;
    assert_says(
        &failed.flat(),
        &[
            "not authorized to perform: rds:RebootDBInstance",
            "AccessDenied",
            "run \"terraform untaint\" or \"tofu untaint\"",
        ],
    );
    assert_eq!(shop.aws.attached_group("shop"), OWN);
    shop.workspace.expect(&["untaint", "-no-color", ADDRESS], 0).await;
    assert_eq!(shop.settle("").await, ["RebootDBInstance"]);
    assert_eq!(shop.wal().await, "logical|on");
    shop.workspace.destroy().await;

    shop.aws.fail_next("ModifyDBCluster", 403, "AccessDenied", "not authorized");
    shop.workspace.apply_error().await;
    shop.settle("").await;
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!(shop.attributes().await["previous_parameter_group_name"], DEFAULT);
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
}

async fn a_create_that_was_interrupted_goes_on(core: Core) {
    let mut config = StandInConfig::new(PostgresServers(Major::V16), vec![shop()]);
    config.delays.modifying = std::time::Duration::from_secs(3);
    let shop = Shop::of(core, config).await;
    shop.configure("  parameters = { max_replication_slots = \"33\" }");
    let apply = shop.workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    wait_until("the group to be attached", DEADLINE, async || shop.aws.attached_group("shop") == OWN).await;
    apply.interrupt().await;
    let interrupted = apply.wait().await;
    assert_eq!(interrupted.code, Some(1), "{}", interrupted.text());
    assert_says(&interrupted.flat(), &["the next apply goes on from there"]);
    assert!(!shop.workspace.state().contains("tainted"), "{}", shop.workspace.state());
    assert_eq!(shop.attributes().await["pending_reboot"], true);

    assert_says(&shop.planned().await, &["will be updated in-place", "this reboots shop-1"]);
    let changes = shop.settle("  parameters = { max_replication_slots = \"33\" }").await;
    assert_eq!(changes, ["RebootDBInstance"]);
    assert_eq!(shop.wal().await, "logical|on");
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
}

async fn a_cluster_that_is_gone_is_planned_anew(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.apply("").await;
    shop.aws.remove_cluster("shop");
    assert_says(
        &shop.planned().await,
        &["Plan: 1 to add, 0 to change, 0 to destroy.", "there is no DB cluster \"shop\""],
    );
    shop.workspace.destroy().await;
}

async fn another_group_takes_over(core: Core) {
    let shop = Shop::new(core, shop()).await;
    let with = |group: &str| {
        format!("  parameters = {{ max_replication_slots = \"33\" }}\n  parameter_group_name = \"{group}\"")
    };
    shop.apply("  parameters = { max_replication_slots = \"33\" }").await;

    shop.settle(&with("Mine")).await;
    assert_eq!(shop.aws.attached_group("shop"), "mine");
    assert_eq!(shop.aws.custom_groups(), ["mine"], "the group that was made before is gone");
    let state = shop.attributes().await;
    assert_eq!(state["parameter_group_name"], "Mine");
    assert_eq!(state["previous_parameter_group_name"], DEFAULT);

    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
}

async fn a_group_that_is_there_is_taken_and_given_back(core: Core) {
    let shop = Shop::new(core, shop()).await;
    let theirs = NewParameterGroup {
        name: "theirs".to_owned(),
        family: "aurora-postgresql16".to_owned(),
        description: "another provider's".to_owned(),
        ..NewParameterGroup::default()
    };
    rds(&shop.aws).create_parameter_group(&theirs).await.expect("making a group");
    let changes = shop.settle("  parameter_group_name = \"theirs\"").await;
    assert_eq!(changes, ["ModifyDBClusterParameterGroup", "ModifyDBCluster", "RebootDBInstance"]);
    assert_eq!(shop.attributes().await["parameter_group_created"], false);

    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), ["theirs"]);
    assert_eq!(shop.parameter("theirs", "rds.logical_replication"), None);

    shop.apply("").await;
    shop.settle("  parameter_group_name = \"theirs\"").await;
    assert_eq!(shop.aws.custom_groups(), ["theirs"], "the group that was made before is gone");
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), ["theirs"], "what was not made here stays");
    assert_eq!(shop.parameter("theirs", "rds.logical_replication"), None);
}

async fn a_failover_is_followed(core: Core) {
    let mut shop = Shop::new(core, shop().readers(1)).await;
    shop.apply("").await;
    shop.aws.move_writer("shop", "shop-2");
    // The name of the cluster's endpoint follows the writer.
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &shop.aws.database("shop-2", SUPERUSER).url());
    assert_says(&shop.planned().await, &["will be updated in-place", "this reboots shop-2"]);
    assert_eq!(shop.settle("").await, ["RebootDBInstance"]);
    assert_eq!(shop.attributes().await["writer_instance_identifier"], "shop-2");
    assert_eq!(shop.aws.database("shop-2", SUPERUSER).rows("SHOW wal_level").await, ["logical"]);
}

async fn a_cluster_of_the_same_apply_is_not_known_yet(core: Core) {
    let shop = Shop::new(core, shop()).await;
    let text = "resource \"terraform_data\" \"shop\" {\n  input = \"SHOP\"\n}\n\n\
        resource \"neonrepl_aurora_logical_replication\" \"source\" {\n  cluster_identifier = terraform_data.shop.output\n}\n";
    shop.workspace.write("main.tf", text);
    assert_says(&shop.planned().await, &["Plan: 2 to add, 0 to change, 0 to destroy."]);
    shop.workspace.apply().await;
    shop.workspace.expect_empty_plan().await;
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!(shop.attributes().await["cluster_identifier"], "SHOP");
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
}

async fn without_a_publisher_nothing_is_verified(core: Core) {
    let mut shop = Shop::new(core, shop()).await;
    shop.workspace.env("NEONREPL_PUBLISHER_URL", "");
    shop.configure("");
    let failed = shop.workspace.apply_error().await;
    assert_says(&failed.flat(), &["there is no connection to verify it over", "or set verify = false"]);
    assert_eq!(shop.aws.changes(), [""; 0]);

    shop.settle("  verify = false").await;
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!(shop.attributes().await["wal_level"], Value::Null);
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
}

async fn what_cannot_be_done_is_said_before_anything_changes(core: Core) {
    let of = |identifier: &str| ClusterConfig::new(identifier, "16.4");
    let clusters = vec![
        shop(),
        ClusterConfig {
            engine: "aurora-mysql".to_owned(),
            engine_version: "8.0.mysql_aurora.3.05.2".to_owned(),
            ..of("mysql")
        },
        ClusterConfig { engine_mode: "serverless".to_owned(), ..of("serverless") },
        ClusterConfig { instances: Vec::new(), ..of("empty") },
        ClusterConfig { status: "stopped".to_owned(), ..of("stopped") },
    ];
    let shop = Shop::of(core, StandInConfig::new(NoServers, clusters)).await;
    let configure = |cluster: &str, attributes: &str| {
        let text = format!(
            "resource \"neonrepl_aurora_logical_replication\" \"source\" {{\n  cluster_identifier = \"{cluster}\"\n  verify = false\n{attributes}\n}}\n"
        );
        shop.workspace.write("main.tf", &text);
    };
    for (cluster, attributes, sentence) in [
        ("mysql", "", "its engine is aurora-mysql, not aurora-postgresql"),
        ("serverless", "", "Aurora Serverless v1 has no logical replication"),
        ("empty", "", "it has no DB instance"),
        ("stopped", "", "it is stopped"),
        ("shop", "parameters = { no_such_thing = \"1\" }", "no_such_thing"),
        ("shop", "parameters = { max_replication_slots = \"3\" }", "max_replication_slots"),
        (
            "shop",
            "parameters = { \"rds.logical_replication\" = \"0\" }",
            "rds.logical_replication is always set to 1. Leave it out.",
        ),
        ("shop", "parameter_group_name = \"default.aurora-postgresql16\"", "belongs to AWS and cannot be modified"),
        ("shop", "parameter_group_name = \"1-\"", "cannot be the name of a parameter group"),
        ("shop", "reboot = \"maybe\"", "reboot"),
        (
            "shop",
            "manage_parameter_group = false\n  tags = { a = \"b\" }",
            "tags has no effect with manage_parameter_group = false",
        ),
    ] {
        configure(cluster, attributes);
        let plan = shop.workspace.plan().await;
        assert_eq!(plan.code, Some(1), "{cluster} {attributes}: {}", plan.text());
        assert_says(&plan.flat(), &[sentence]);
    }

    configure("nowhere", "");
    assert_says(&shop.planned().await, &["there is no DB cluster \"nowhere\""]);
    let failed = shop.workspace.apply_error().await;
    assert_says(&failed.flat(), &["nowhere", "DBClusterNotFoundFault"]);
    assert_eq!(shop.aws.changes(), [""; 0]);
}

async fn an_upgrade_is_planned_and_mended(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.apply("").await;
    shop.aws.upgrade("shop", "17.5", None);
    assert_eq!(shop.wal().await, "replica|off");
    let own = "shop-logical-replication-17";
    assert_says(
        &shop.planned().await,
        &[
            "will be updated in-place",
            "create parameter group shop-logical-replication-17 (family aurora-postgresql17)",
            "attach parameter group shop-logical-replication-17 to shop in place of default.aurora-postgresql17",
            "delete parameter group shop-logical-replication",
            "shop was upgraded to the family aurora-postgresql17, and parameter group shop-logical-replication is of \
             aurora-postgresql16, which cannot be changed: shop-logical-replication-17 takes its place",
            "A destroy then: 1. attach parameter group default.aurora-postgresql17 to shop",
        ],
    );
    shop.settle("").await;
    assert_eq!(shop.wal().await, "logical|on");
    assert_eq!((shop.aws.attached_group("shop").as_str(), shop.aws.custom_groups()), (own, vec![own.to_owned()]));
    let state = shop.attributes().await;
    for (name, value) in [
        ("parameter_group_name", json!(own)),
        ("parameter_group_family", json!("aurora-postgresql17")),
        ("previous_parameter_group_name", json!("default.aurora-postgresql17")),
        ("engine_version", json!("17.5")),
        ("wal_level", json!("logical")),
    ] {
        assert_eq!(state[name], value, "{name}");
    }
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), "default.aurora-postgresql17");
    assert_eq!(shop.aws.custom_groups(), [""; 0]);

    let mine = "  parameter_group_name = \"mine\"";
    shop.settle(mine).await;
    shop.aws.add_group("theirs18", "aurora-postgresql18");
    shop.aws.upgrade("shop", "18.3", Some("theirs18"));
    let refused = shop.workspace.plan().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert_says(
        &refused.flat(),
        &["\"mine\" is of family aurora-postgresql17, not aurora-postgresql18", "Choose another parameter_group_name"],
    );
    shop.settle("").await;
    assert_eq!((shop.wal().await.as_str(), shop.aws.custom_groups()), ("logical|on", vec!["theirs18".to_owned()]));
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), "theirs18");

    // A group that the provider may not change.
    shop.aws.set_parameter("theirs18", "rds.logical_replication", "1");
    shop.aws.take_notice("theirs18");
    shop.settle("  manage_parameter_group = false").await;
    shop.aws.upgrade("shop", "17.5", None);
    let silent = shop.workspace.plan().await;
    assert_says(
        &silent.flat(),
        &["rds.logical_replication is not 1 in its parameter group \"default.aurora-postgresql17\""],
    );
}

async fn another_server_proves_nothing(core: Core) {
    let other = ClusterConfig::new("other", "16.4");
    let config = StandInConfig::new(PostgresServers(Major::V16), vec![shop(), other]);
    let mut shop = Shop::of(core, config).await;
    let (right, wrong) = (shop.writer.url(), shop.aws.database("other-1", SUPERUSER).url());
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &wrong);
    shop.configure("  reboot_on_destroy = true");
    let refused = shop.workspace.plan().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    let (host, port) = shop.aws.address("shop-1");
    let remedy = format!("Let the provider's publisher block connect to {host}, port {port}");
    let leads = "the provider's publisher connection leads to DB instance other-1, and not to the DB cluster shop";
    assert_says(&refused.flat(), &[leads, &remedy]);

    shop.workspace.env("NEONREPL_PUBLISHER_URL", &right);
    shop.settle("  reboot_on_destroy = true").await;
    shop.writer.sql("SELECT pg_create_logical_replication_slot('orders', 'pgoutput')").await;
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &wrong);
    assert_says(&shop.workspace.plan().await.flat(), &[leads, "Its answer proves nothing"]);
    shop.aws.forget_calls();
    let refused = shop.workspace.expect(&["destroy", "-auto-approve", "-no-color"], 1).await;
    assert_says(
        &refused.flat(),
        &[
            "It is refused while its logical replication slots cannot be listed",
            "its logical replication slots could not be listed",
            leads,
            &remedy,
            "skip_destroy = true",
        ],
    );
    assert_eq!(shop.aws.changes(), [""; 0]);
    assert_eq!(shop.wal().await, "logical|on");
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &right);
    shop.workspace.expect_empty_plan().await;
    shop.writer.sql("SELECT pg_drop_replication_slot('orders')").await;
    shop.workspace.destroy().await;
    assert_eq!(shop.wal().await, "replica|off");
}

/// A server that does not report its instance is identified by its restart.
async fn a_tunnel_is_as_good_as_the_endpoint(core: Core) {
    let cluster = ClusterConfig { has_identity: false, ..shop() };
    let mut shop = Shop::new(core, cluster).await;
    let elsewhere = Server::start(Major::V16, crate::common::postgres::settings([("wal_level", "logical")]));
    let wrong = elsewhere.open(SUPERUSER).url();
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &wrong);
    shop.configure("");
    let failed = shop.workspace.apply_error().await;
    let unknown = "the provider's publisher connection is not known to lead to the DB cluster shop";
    assert_says(&failed.flat(), &[unknown, "the server there did not restart when the writer did"]);
    assert_eq!(shop.aws.rebooted(), ["shop-1"]);
    let refused = shop.workspace.expect(&["destroy", "-auto-approve", "-no-color"], 1).await;
    assert_says(&refused.flat(), &["could not be listed", unknown]);
    assert_eq!(shop.aws.attached_group("shop"), OWN);
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &shop.writer.url());
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.custom_groups(), [""; 0]);

    shop.aws.upgrade("shop", "16.4", None);
    let tunnel = Relay::start(shop.aws.address("shop-1").1, std::time::Duration::ZERO);
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &shop.writer.url_through(&Role::superuser(), tunnel.port()));
    shop.settle("").await;
    assert_eq!(shop.attributes().await["wal_level"], "logical");
    let slots = "  parameters = { max_replication_slots = \"33\" }";
    shop.settle(slots).await;
    assert_eq!(shop.attributes().await["wal_level"], "logical");
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.custom_groups(), [""; 0]);

    // Somebody else has restarted it, so the server that answers is unknown again.
    shop.settle("").await;
    shop.aws.upgrade("shop", "16.5", Some(OWN));
    assert_says(&shop.workspace.plan().await.flat(), &[unknown, "wal_level is not known"]);
    let refused = shop.workspace.expect(&["destroy", "-auto-approve", "-no-color"], 1).await;
    assert_says(&refused.flat(), &["could not be listed", unknown]);
    shop.settle("  skip_destroy = true").await;
    shop.workspace.destroy().await;
}

async fn the_guide_from_end_to_end(core: Core) {
    let shop = Shop::new(core, shop()).await;
    shop.writer.sql("CREATE DATABASE shop").await;
    let source = shop.aws.database("shop-1", "shop");
    let neon = Server::start(Major::V18, Settings::new());
    let destination = neon.database("neondb").await;
    let table = "CREATE TABLE playing_with_neon (id serial PRIMARY KEY, name text NOT NULL, value real)";
    let insert = "INSERT INTO playing_with_neon (name, value) SELECT left(md5(i::text), 10), random() FROM generate_series(1, 10) s(i)";
    let index = "CREATE INDEX playing_with_neon_name ON playing_with_neon (name)";
    source.sql(&format!("{table}; {index}; {insert}")).await;
    copy_example(&shop.workspace);
    let variables = json!({
        "cluster_identifier": "shop",
        "publisher_host": "127.0.0.1",
        "publisher_port": source.port,
        "publisher_database": source.name,
        "publisher_password": SUPERUSER_PASSWORD,
        "subscriber_host": "127.0.0.1",
        "subscriber_port": destination.port,
        "subscriber_database": destination.name,
        "subscriber_username": SUPERUSER,
        "subscriber_password": SUPERUSER_PASSWORD,
        "aws_region": REGION,
        "aws_endpoint_url": shop.aws.endpoint_url,
    });
    shop.workspace.write("terraform.tfvars.json", &variables.to_string());

    let workspace = &shop.workspace;
    workspace.apply().await;
    let count = "SELECT count(*) FROM playing_with_neon";
    assert_eq!(destination.value::<i64>(count).await, 10, "the apply waits for the copy");
    let indexes = "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'playing_with_neon'::regclass AND indisvalid ORDER BY 1";
    assert_eq!(destination.rows(indexes).await, source.rows(indexes).await, "indexes come once the rows are there");
    source.sql(insert).await;
    wait_until("the new rows", DEADLINE, async || destination.value::<i64>(count).await == 20).await;
    workspace.expect_empty_plan().await;

    workspace.destroy().await;
    let objects = "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication \
        UNION ALL SELECT subname FROM pg_subscription";
    assert_eq!(source.rows(objects).await, [""; 0]);
    assert_eq!(destination.rows(objects).await, [""; 0]);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
}

/// Replaces the workspace's files by the example.
fn copy_example(workspace: &Workspace) {
    workspace.write("provider.tf", "");
    let example = tools::checkout().join("examples/aurora-to-neon");
    for file in fs::read_dir(example).expect("the example").flatten() {
        let text = fs::read_to_string(file.path()).expect("a file of the example");
        workspace.write(&file.file_name().to_string_lossy(), &text);
    }
}
