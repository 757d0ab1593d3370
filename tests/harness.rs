// SPDX-License-Identifier: MPL-2.0

//! The harness itself, which the other tests rely on.

mod common;
#[allow(dead_code, reason = "the bench watches with it; here it is tested")]
#[path = "bench/usage.rs"]
mod usage;

use std::time::{Duration, Instant};

use common::cli::{Core, Workspace};
use common::postgres::{self, Major, Role, Server, Settings, Stop, settings};
use common::relay::Relay;

#[tokio::test]
async fn every_major_starts_and_checks_passwords() {
    for major in Major::ALL {
        let server = postgres::shared(major);
        let database = server.database("har ness").await;
        let version: String = database.value("SHOW server_version_num").await;
        assert_eq!(version[..2], major.number().to_string());
        let mut role = server.role("o'role", "REPLICATION").await;
        assert!(database.connect_as(&role).await.is_ok());
        role.password.push('x');
        assert!(database.connect_as(&role).await.is_err(), "a wrong password was accepted");
    }
}

#[tokio::test]
async fn a_server_restarts_with_other_settings() {
    let mut server =
        Server::start(Major::V18, settings([("wal_level", "replica"), ("rds.logical_replication", "off")]));
    let database = server.database("d").await;
    assert_eq!(database.value::<String>("SHOW wal_level").await, "replica");
    server.restart(settings([("wal_level", "logical"), ("rds.logical_replication", "on")]));
    assert_eq!(
        database.rows("SELECT current_setting('wal_level'), current_setting('rds.logical_replication')").await,
        ["logical|on"]
    );
    server.kill();
    server.restart(Settings::new());
    assert_eq!(database.value::<i32>("SELECT 1").await, 1);
    server.stop(Stop::Fast);
    assert!(database.connect_as(&postgres::Role::superuser()).await.is_err());
}

#[tokio::test]
async fn a_kept_server_lives_until_it_is_stopped() {
    let server = Server::start(Major::V17, Settings::new());
    let (database, data) = (server.open("postgres"), server.data());
    let pid = server.keep().to_string();
    assert_eq!(database.value::<i32>("SELECT 1").await, 1);
    let stop = std::process::Command::new("sh").args(["-c", "kill -s INT \"$1\"", "sh", &pid]).status();
    assert!(stop.is_ok_and(|status| status.success()));
    common::wait::wait_until("the data to go", Duration::from_secs(10), async || !data.exists()).await;
}

#[tokio::test]
async fn a_relay_delays_cuts_and_refuses() {
    let database = postgres::shared(Major::V18).database("relayed").await;
    let relay = Relay::start(database.port, Duration::from_millis(20));
    let connect = async || {
        let (client, connection) =
            database.config_through(&Role::superuser(), relay.port()).connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok::<_, tokio_postgres::Error>(client)
    };
    let client = connect().await.expect("a connection through the relay");
    let started = Instant::now();
    client.batch_execute("SELECT 1").await.expect("an answer through the relay");
    assert!(started.elapsed() >= Duration::from_millis(20));

    relay.cut();
    assert!(client.batch_execute("SELECT 1").await.is_err());
    let client = connect().await.expect("a connection after a cut");
    relay.refuse();
    assert!(client.batch_execute("SELECT 1").await.is_err());
    assert!(connect().await.is_err());
    relay.open();
    let client = connect().await.expect("a connection");
    relay.stall();
    let answer = client.batch_execute("SELECT 1");
    tokio::pin!(answer);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err());
    relay.open();
    answer.await.expect("the answer that was held back");
}

#[tokio::test]
async fn cores_run_in_workspaces() {
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        workspace.write("versions.tf", "");
        workspace.write("main.tf", "resource \"terraform_data\" \"one\" { input = \"here\" }\n");
        workspace.init().await;
        assert_eq!(workspace.plan().await.code, Some(2));
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        assert_eq!(workspace.attributes("terraform_data.one").await["input"], "here");
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn an_interrupted_core_stops_in_good_order() {
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        workspace.write("versions.tf", "");
        let slow = "resource \"terraform_data\" \"slow\" {\n  provisioner \"local-exec\" { command = \"trap '' INT; echo armed; exec sleep 60\" }\n}\n";
        workspace.write("main.tf", slow);
        workspace.init().await;
        let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        // An interrupt before the trap would end the command, and not the core.
        apply.wait_for("(local-exec): armed").await;
        apply.interrupt().await;
        let run = apply.wait().await;
        assert_eq!(run.code, Some(1), "{}", run.text());
        assert!(run.flat().contains("Interrupt received"), "{}", run.text());
        assert!(workspace.state().contains("tainted"), "{}", workspace.state());
    }
}

#[tokio::test]
#[should_panic(expected = "secret number 0 is in")]
async fn a_secret_in_a_state_is_found() {
    let mut workspace = Workspace::new(Core::Terraform);
    workspace.write("versions.tf", "");
    workspace.write("main.tf", "resource \"terraform_data\" \"one\" { input = sensitive(\"o'pen\") }\n");
    workspace.secret("o'pen");
    workspace.init().await;
    workspace.apply().await;
}
