// SPDX-License-Identifier: MPL-2.0

//! Actions through Terraform, the only core that has them.

use std::time::Duration;

use crate::common::aurora::{Call, ClusterConfig, NoServers, StandIn, StandInConfig};
use crate::common::cli::{Core, Workspace, says};
use crate::common::postgres::Major;
use crate::replication::Pair;

const INVOKE: [&str; 4] = ["apply", "-auto-approve", "-no-color", "-invoke=action.neonrepl_reboot_writer.shop"];

/// A cluster with a reader, and a workspace with the action; `None` if there is no Terraform.
async fn shop(delays: impl FnOnce(&mut StandInConfig)) -> Option<(StandIn, Workspace)> {
    if !Core::installed().contains(&Core::Terraform) {
        return None;
    }
    let mut config = StandInConfig::new(NoServers, vec![ClusterConfig::new("shop", "16.4").readers(1)]);
    delays(&mut config);
    let aws = StandIn::start(config).await;
    let mut workspace = Workspace::with_stand_in(Core::Terraform, &aws);
    workspace.env("NEONREPL_AWS_POLL_INTERVAL", "50ms");
    workspace.write("action.tf", &action("cluster_identifier = \"shop\""));
    workspace.init().await;
    Some((aws, workspace))
}

fn action(config: &str) -> String {
    format!("action \"neonrepl_reboot_writer\" \"shop\" {{\n  config {{\n    {config}\n  }}\n}}\n")
}

/// The instances that were rebooted, in order.
fn rebooted(aws: &StandIn) -> Vec<String> {
    let reboots = aws.calls().into_iter().filter(|call| call.action == "RebootDBInstance");
    reboots.filter_map(|call: Call| call.parameters.get("DBInstanceIdentifier").cloned()).collect()
}

#[tokio::test]
async fn a_person_has_the_writer_rebooted() {
    let Some((aws, workspace)) = shop(|_| {}).await else { return };
    let run = workspace.expect(&INVOKE, 0).await;
    assert_eq!(rebooted(&aws), ["shop-1"]);
    says(
        &run,
        &[
            "Warning: the action reboots shop-1, the writer of the Aurora cluster shop",
            "Its connections are closed",
            "rebooting the writer of DB cluster \"shop\"",
            "waiting for DB instance \"shop-1\" to come back: it is rebooting",
            "DB instance \"shop-1\" is back and is the writer: DB cluster \"shop\" is available, its parameters in-sync",
            "1 invoked",
        ],
    );

    // Another instance is the writer by now: the action finds it.
    aws.move_writer("shop", "shop-2");
    aws.forget_calls();
    workspace.expect(&INVOKE, 0).await;
    assert_eq!(rebooted(&aws), ["shop-2"]);
}

#[tokio::test]
async fn a_change_has_the_writer_rebooted() {
    let Some((aws, workspace)) = shop(|_| {}).await else { return };
    let settings = |value: &str| {
        format!(
            "resource \"terraform_data\" \"settings\" {{\n  input = \"{value}\"\n  lifecycle {{\n    action_trigger {{\n      \
             events  = [after_update]\n      actions = [action.neonrepl_reboot_writer.shop]\n    }}\n  }}\n}}\n"
        )
    };
    workspace.write("main.tf", &settings("one"));
    workspace.apply().await;
    assert_eq!(rebooted(&aws), [""; 0], "only an update is waited for");
    workspace.write("main.tf", &settings("two"));
    let plan = workspace.plan().await;
    says(&plan, &["the action reboots shop-1", "1 to invoke"]);
    let run = workspace.apply().await;
    says(&run, &["DB instance \"shop-1\" is back"]);
    assert_eq!(rebooted(&aws), ["shop-1"]);
}

#[tokio::test]
async fn a_reboot_that_cannot_be_says_why() {
    let Some((aws, workspace)) = shop(|_| {}).await else { return };
    workspace.write("action.tf", &action("cluster_identifier = \"shop\"\n    timeout = \"soon\""));
    says(
        &workspace.expect(&["validate", "-no-color"], 1).await,
        &["\"soon\" is not a valid duration", "on action.tf line 4"],
    );
    workspace.write("action.tf", &action("cluster_identifier = \"shop\""));
    aws.fail_next(
        "RebootDBInstance",
        403,
        "AccessDenied",
        "User: eve is not authorized to perform: rds:RebootDBInstance",
    );
    let denied = workspace.expect(&INVOKE, 1).await;
    says(&denied, &["rebooting DB instance \"shop-1\": User: eve is not authorized", "(AccessDenied", "IAM policy"]);
    aws.set_cluster_status("shop", "modifying");
    workspace.write("action.tf", &action("cluster_identifier = \"shop\"\n    timeout = \"5s\""));
    let late = workspace.expect(&INVOKE, 1).await;
    says(&late, &["waiting for DB cluster \"shop\": timed out: it is modifying", "Give a longer timeout"]);
    workspace.write("action.tf", &action("cluster_identifier = \"shpo\""));
    let missing = workspace.expect(&INVOKE, 1).await;
    says(&missing, &["there is no Aurora cluster \"shpo\" to reboot the writer of yet", "DBClusterNotFoundFault"]);
    assert_eq!(rebooted(&aws).len(), 1);
}

#[tokio::test]
async fn an_interrupted_action_ends_at_once() {
    let Some((aws, workspace)) = shop(|config| config.delays.rebooting = Duration::from_secs(600)).await else {
        return;
    };
    let running = workspace.spawn(&INVOKE);
    running.wait_for("it is rebooting").await;
    running.interrupt().await;
    let run = running.wait().await;
    assert_eq!(run.code, Some(1), "{}", run.text());
    says(&run, &["waiting for DB instance \"shop-1\" to come back: cancelled", "goes on in AWS"]);
    assert_eq!(rebooted(&aws), ["shop-1"]);
}

#[tokio::test]
async fn a_wait_for_rows_shows_how_they_get_on() {
    if !Core::installed().contains(&Core::Terraform) {
        return;
    }
    let pair = Pair::new(Major::V16, Major::V18, "action_wait").await;
    let name = crate::cli::subscribe(&pair).await;
    let workspace = pair.workspace(Core::Terraform).await;
    let wait =
        |config: &str| format!("action \"neonrepl_wait_for_sync\" \"all\" {{\n  config {{\n    {config}\n  }}\n}}\n");
    let invoke = ["apply", "-auto-approve", "-no-color", "-invoke=action.neonrepl_wait_for_sync.all"];
    workspace.write("action.tf", &wait("timeout = \"1m\""));
    let run = workspace.expect(&invoke, 0).await;
    let progress = format!("subscription \"{name}\": ");
    says(&run, &[progress.as_str(), "Healthy: 3 of 3 tables ready, caught up.", "1 invoked"]);

    workspace.write("action.tf", &wait("subscription = \"nobody\""));
    says(&workspace.expect(&invoke, 1).await, &["there is no subscription \"nobody\""]);
    workspace.write("action.tf", &wait("until = \"done\""));
    says(&workspace.expect(&["validate", "-no-color"], 1).await, &["done", "caught_up"]);

    // A subscription that never gets ready ends the wait before the time is over, with the remedy.
    pair.publisher.sql("CREATE TABLE late (id int PRIMARY KEY)").await;
    workspace.write("action.tf", &wait("until = \"ready\"\n    timeout = \"1m\""));
    let late = workspace.expect(&invoke, 1).await;
    let expected = ["does not have every table that is published", "public.late", "REFRESH PUBLICATION"];
    says(&late, &expected);
    crate::cli::unsubscribe(&pair, &name).await;
}

#[tokio::test]
async fn a_person_has_a_subscription_take_up_new_tables() {
    if !Core::installed().contains(&Core::Terraform) {
        return;
    }
    let pair = Pair::new(Major::V18, Major::V15, "action_refresh").await;
    let name = crate::cli::subscribe(&pair).await;
    let workspace = pair.workspace(Core::Terraform).await;
    let refresh = |subscription: &str| {
        workspace.write(
            "action.tf",
            &format!(
                "action \"neonrepl_refresh_publication\" \"it\" {{\n  config {{\n    subscription = \"{subscription}\"\n    timeout = \
                 \"1m\"\n  }}\n}}\n"
            ),
        );
    };
    let invoke = ["apply", "-auto-approve", "-no-color", "-invoke=action.neonrepl_refresh_publication.it"];
    refresh(&name);
    says(&workspace.expect(&invoke, 0).await, &["has all tables that are published"]);

    let late = "CREATE TABLE late (id int PRIMARY KEY, note text)";
    pair.publisher.sql(&format!("{late}; INSERT INTO late VALUES (1, 'n')")).await;
    let missing = workspace.expect(&invoke, 1).await;
    says(&missing, &["a table cannot be copied", "public.late", "Nothing was changed."]);
    let tables = "SELECT count(*) FROM pg_subscription_rel";
    assert_eq!(pair.subscriber.value::<i64>(tables).await, 3);

    pair.subscriber.sql(late).await;
    let taken = workspace.expect(&invoke, 0).await;
    says(&taken, &["adds public.late", "Healthy: 4 of 4 tables ready", "1 invoked"]);
    assert_eq!(pair.subscriber.rows("SELECT note FROM late").await, ["n"]);
    pair.publisher.sql("DROP TABLE late").await;
    says(&workspace.expect(&invoke, 0).await, &["removes public.late"]);

    refresh("nobody");
    says(&workspace.expect(&invoke, 1).await, &["there is no subscription \"nobody\""]);
    refresh(&name);
    pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await;
    says(&workspace.expect(&invoke, 1).await, &["it is disabled", "ENABLE"]);
    crate::cli::unsubscribe(&pair, &name).await;
}
