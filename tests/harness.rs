//! The harness itself: what the other tests trust.

mod common;

use common::postgres::{self, Major, Server, Settings, Stop, settings};

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
        assert!(
            database.connect_as(&role).await.is_err(),
            "a wrong password was accepted"
        );
    }
}

#[tokio::test]
async fn a_server_restarts_with_other_settings() {
    let mut server = Server::start(
        Major::V18,
        settings([("wal_level", "replica"), ("rds.logical_replication", "off")]),
    );
    let database = server.database("d").await;
    assert_eq!(database.value::<String>("SHOW wal_level").await, "replica");
    server.restart(settings([
        ("wal_level", "logical"),
        ("rds.logical_replication", "on"),
    ]));
    assert_eq!(
        database
            .rows("SELECT current_setting('wal_level'), current_setting('rds.logical_replication')")
            .await,
        ["logical|on"]
    );
    server.kill();
    server.restart(Settings::new());
    assert_eq!(database.value::<i32>("SELECT 1").await, 1);
    server.stop(Stop::Fast);
    assert!(
        database
            .connect_as(&postgres::Role::superuser())
            .await
            .is_err()
    );
}
