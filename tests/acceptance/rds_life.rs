// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_rds_logical_replication` through real cores: its whole life on the stand-in, with a real Postgres
//! server as its instance.

use serde_json::json;

use crate::aurora_life::assert_says;
use crate::common::aurora::{ClusterConfig, PostgresServers, StandIn, StandInConfig};
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Database, Major, Role, SUPERUSER, SUPERUSER_PASSWORD};
use crate::common::relay::Relay;

const ADDRESS: &str = "neonrepl_rds_logical_replication.source";
const DEFAULT: &str = "default.postgres16";
const OWN: &str = "shop-logical-replication";

#[tokio::test]
async fn terraform() {
    an_instance_becomes_logical_and_goes_back(Core::Terraform).await;
}

#[tokio::test]
async fn opentofu() {
    an_instance_becomes_logical_and_goes_back(Core::OpenTofu).await;
}

/// No function of RDS reports the instance: behind a tunnel, its restart identifies it.
#[tokio::test]
async fn a_tunnel_is_as_good_as_the_endpoint() {
    let mut shop = Shop::new(Core::OpenTofu).await;
    let tunnel = Relay::start(shop.aws.address("shop").1, std::time::Duration::ZERO);
    shop.workspace.env("NEONREPL_PUBLISHER_URL", &shop.server.url_through(&Role::superuser(), tunnel.port()));
    shop.settle("").await;
    assert_eq!(shop.workspace.attributes(ADDRESS).await["wal_level"], "logical");
    shop.aws.upgrade("shop", "17.5", None);
    shop.settle("").await;
    assert_eq!(shop.workspace.attributes(ADDRESS).await["wal_level"], "logical");
    assert_eq!(shop.aws.attached_group("shop"), "shop-logical-replication-17");
    shop.workspace.destroy().await;
    assert_eq!((shop.aws.attached_group("shop").as_str(), shop.aws.custom_groups()), ("default.postgres17", vec![]));
}

struct Shop {
    aws: StandIn,
    server: Database,
    workspace: Workspace,
}

impl Shop {
    async fn new(core: Core) -> Self {
        let instance = ClusterConfig { is_multi_az: true, ..ClusterConfig::instance("shop", "16.4") };
        let aws = StandIn::start(StandInConfig::new(PostgresServers(Major::V16), vec![instance])).await;
        let server = aws.database("shop", SUPERUSER);
        let mut workspace = Workspace::with_stand_in(core, &aws);
        workspace.secret(SUPERUSER_PASSWORD).env("NEONREPL_PUBLISHER_URL", &server.url());
        workspace.init().await;
        Self { aws, server, workspace }
    }

    /// Writes the resource with these further attributes.
    fn configure(&self, attributes: &str) {
        let text = format!(
            "resource \"neonrepl_rds_logical_replication\" \"source\" {{\n  instance_identifier = \"shop\"\n{attributes}\n}}\n"
        );
        self.workspace.write("main.tf", &text);
    }

    /// Applies, and checks that nothing is left to do. Returns the changes in AWS.
    async fn settle(&self, attributes: &str) -> Vec<String> {
        self.aws.forget_calls();
        self.configure(attributes);
        self.workspace.apply().await;
        let changes = self.aws.changes();
        self.workspace.expect_empty_plan().await;
        changes
    }

    async fn wal(&self) -> String {
        let sql = "SELECT current_setting('wal_level'), current_setting('rds.logical_replication')";
        self.server.rows(sql).await.concat()
    }
}

async fn an_instance_becomes_logical_and_goes_back(core: Core) {
    let shop = Shop::new(core).await;
    assert_eq!(shop.wal().await, "replica|off");
    shop.configure("");
    let plan = shop.workspace.plan().await;
    assert_says(
        &plan.flat(),
        &[
            "applying changes the DB instance shop: this reboots shop",
            "1. create parameter group shop-logical-replication (family postgres16)",
            "3. attach parameter group shop-logical-replication to shop in place of default.postgres16",
            "5. reboot the instance shop",
            "shop is Multi-AZ: it is rebooted in place",
            "A destroy then: 1. attach parameter group default.postgres16 to shop",
        ],
    );
    let changes = shop.settle("").await;
    assert_eq!(changes, ["CreateDBParameterGroup", "ModifyDBParameterGroup", "ModifyDBInstance", "RebootDBInstance"]);
    assert_eq!(shop.wal().await, "logical|on");
    let state = shop.workspace.attributes(ADDRESS).await;
    for (name, value) in [
        ("id", json!("shop")),
        ("parameter_group_name", json!(OWN)),
        ("parameter_group_family", json!("postgres16")),
        ("parameter_group_created", json!(true)),
        ("previous_parameter_group_name", json!(DEFAULT)),
        ("engine_version", json!("16.4")),
        ("pending_reboot", json!(false)),
        ("wal_level", json!("logical")),
    ] {
        assert_eq!(state[name], value, "{name}");
    }
    change_and_import(&shop).await;
    give_back(&shop).await;
}

async fn change_and_import(shop: &Shop) {
    let slots = "  parameters = { max_replication_slots = \"33\" }";
    assert_eq!(shop.settle(slots).await, ["ModifyDBParameterGroup", "RebootDBInstance"]);
    assert_eq!(shop.server.rows("SHOW max_replication_slots").await, ["33"]);
    shop.workspace.expect(&["state", "rm", ADDRESS], 0).await;
    shop.workspace.import(ADDRESS, "shop").await;
    assert_eq!(shop.settle(slots).await, [""; 0], "the group's tags say that it was made here");

    shop.aws.set_parameter(OWN, "rds.logical_replication", "0");
    assert_eq!(shop.settle(slots).await, ["ModifyDBParameterGroup", "RebootDBInstance"], "drift is mended");
}

async fn give_back(shop: &Shop) {
    shop.server.sql("SELECT pg_create_logical_replication_slot('orders', 'pgoutput')").await;
    let refused = shop.workspace.expect(&["destroy", "-auto-approve", "-no-color"], 1).await;
    assert_says(&refused.flat(), &["logical replication slots exist: orders"]);
    shop.server.sql("SELECT pg_drop_replication_slot('orders')").await;
    shop.workspace.destroy().await;
    assert_eq!(shop.aws.attached_group("shop"), DEFAULT);
    assert_eq!(shop.aws.custom_groups(), [""; 0]);

    shop.configure("  manage_parameter_group = false\n  tags = { a = \"b\" }");
    let refused = shop.workspace.plan().await;
    assert_says(&refused.flat(), &["tags has no effect with manage_parameter_group = false"]);
}
