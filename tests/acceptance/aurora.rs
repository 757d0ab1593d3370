// SPDX-License-Identifier: MPL-2.0

//! Logical replication on an Aurora cluster through the real AWS SDK, against the stand-in with real Postgres servers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use neonrepl::rds::api::{ApplyMethod, NewParameterGroup, ParameterSetting, RdsApi, Source};
use neonrepl::rds::logical_replication::{
    Applied, LogicalReplication, Operation, Patience, ProbeError, Reboot, Record, ServerIdentity, ServerSettings,
    apply, destroy,
};
use neonrepl::rds::wait::{Polling, Waiter};
use neonrepl::rds::{AwsConfig, Error, Kind, RdsClusters};
use tokio_util::sync::CancellationToken;

use crate::common::aurora::{ClusterConfig, NoServers, PostgresServers, StandIn, StandInConfig};
use crate::common::postgres::{Major, SUPERUSER, SUPERUSER_PASSWORD};
use crate::common::wait::wait_until;

const GROUP: &str = "shop-logical-replication";
const DEFAULT: &str = "default.aurora-postgresql16";

pub(crate) fn rds(stand_in: &StandIn) -> RdsClusters {
    RdsClusters::new(config(stand_in))
}

pub(crate) fn config(stand_in: &StandIn) -> AwsConfig {
    AwsConfig {
        region: Some("us-east-2".to_owned()),
        access_key: Some("AKIATEST".to_owned()),
        secret_key: Some("secret".to_owned()),
        endpoint_url: Some(stand_in.endpoint_url.clone()),
        ..AwsConfig::default()
    }
}

fn waiter() -> Waiter {
    let polling = Polling { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
    Waiter::new(polling, Duration::from_secs(60), CancellationToken::new())
}

fn patience() -> Patience {
    Patience { settle: Duration::from_millis(1500), connect: Duration::from_secs(30) }
}

async fn real(cluster: ClusterConfig) -> StandIn {
    StandIn::start(StandInConfig::new(PostgresServers(Major::V16), vec![cluster])).await
}

async fn without_servers(cluster: ClusterConfig) -> StandIn {
    StandIn::start(StandInConfig::new(NoServers, vec![cluster])).await
}

/// The settings of the server at that address.
async fn ask((host, port): (String, u16)) -> Result<ServerSettings, ProbeError> {
    let transient = |error: tokio_postgres::Error| ProbeError { message: error.to_string(), is_transient: true };
    let server = ServerIdentity { host: host.clone(), port, ..ServerIdentity::default() };
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port).user(SUPERUSER).password(SUPERUSER_PASSWORD).dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.map_err(transient)?;
    tokio::spawn(connection);
    let row = client
        .query_one(
            "SELECT current_setting('wal_level'), current_setting('rds.logical_replication', true), \
             array(SELECT slot_name::text FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1), \
             (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint",
            &[],
        )
        .await
        .map_err(transient)?;
    Ok(ServerSettings {
        wal_level: row.get(0),
        rds_logical_replication: row.get(1),
        logical_slots: row.get(2),
        started_at: row.get(3),
        server,
    })
}

/// Runs one apply with the writer probed over SQL.
async fn run(stand_in: &StandIn, desired: &LogicalReplication, record: Record) -> Result<Applied, Error> {
    let api = rds(stand_in);
    let address = stand_in.address("shop-1");
    let probe = move || ask(address.clone());
    let operation = Operation { api: &api, probe: Some(&probe), waiter: waiter(), patience: patience() };
    apply(&operation, desired, record, &mut |_| {}).await
}

async fn undo(stand_in: &StandIn, desired: &LogicalReplication, record: &Record, reboot: Reboot) -> Result<(), Error> {
    let api = rds(stand_in);
    let address = stand_in.address("shop-1");
    let probe = move || ask(address.clone());
    let operation = Operation { api: &api, probe: Some(&probe), waiter: waiter(), patience: patience() };
    destroy(&operation, desired, record, reboot, &mut |_| {}).await.map(drop)
}

#[tokio::test]
async fn a_cluster_on_a_default_group_becomes_logical_and_goes_back() {
    let stand_in = real(ClusterConfig::new("shop", "16.4")).await;
    let before = ask(stand_in.address("shop-1")).await.unwrap();
    assert_eq!(before.to_string(), "wal_level is replica, rds.logical_replication is off");

    let mut shop = LogicalReplication::new("shop");
    shop.parameters.insert("max_replication_slots".to_owned(), "33".to_owned());
    shop.parameters.insert("wal_sender_timeout".to_owned(), "5min".to_owned());
    shop.tags.insert("team".to_owned(), "orders".to_owned());
    let applied = run(&stand_in, &shop, Record::default()).await.unwrap();
    let done: Vec<String> = applied.steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        done,
        [
            "create parameter group shop-logical-replication (family aurora-postgresql16)",
            "in parameter group shop-logical-replication, set max_replication_slots: 20 -> 33, \
             rds.logical_replication: 0 -> 1, wal_sender_timeout: 30000 -> 300000",
            "attach parameter group shop-logical-replication to shop in place of default.aurora-postgresql16",
            "wait until shop is available",
            "reboot the writer instance shop-1",
            "verify that the server runs with wal_level = logical",
        ]
    );
    assert!(applied.current.settings.as_ref().unwrap().is_logical());
    assert!(!applied.current.is_reboot_pending());
    assert_eq!(applied.record.previous_group.as_deref(), Some(DEFAULT));
    assert!(applied.record.group_created);
    let reboots = stand_in.changes().iter().filter(|action| *action == "RebootDBInstance").count();
    assert_eq!(reboots, 1);

    stand_in.forget_calls();
    let again = run(&stand_in, &shop, applied.record.clone()).await.unwrap();
    assert_eq!(again.steps, []);
    assert_eq!(again.record, applied.record);
    assert_eq!(stand_in.changes(), [""; 0]);

    undo(&stand_in, &shop, &applied.record, Reboot::Writer).await.unwrap();
    assert_eq!(stand_in.attached_group("shop"), DEFAULT);
    assert_eq!(stand_in.custom_groups(), [""; 0]);
    let after = ask(stand_in.address("shop-1")).await.unwrap();
    assert_eq!(after.to_string(), "wal_level is replica, rds.logical_replication is off");
}

#[tokio::test]
async fn a_custom_group_is_edited_in_place_and_restored() {
    let mut cluster = ClusterConfig::new("shop", "16.4");
    cluster.parameter_group = Some("theirs".to_owned());
    let stand_in = real(cluster).await;
    stand_in.set_parameter("theirs", "max_replication_slots", "25");
    stand_in.set_parameter("theirs", "autovacuum_naptime", "7");
    let mut shop = LogicalReplication::new("shop");
    shop.parameters.insert("max_replication_slots".to_owned(), "30".to_owned());

    let applied = run(&stand_in, &shop, Record::default()).await.unwrap();
    assert_eq!(stand_in.attached_group("shop"), "theirs");
    assert_eq!(stand_in.parameter("theirs", "max_replication_slots").as_deref(), Some("30"));
    assert!(!applied.record.group_created);
    assert!(applied.current.settings.unwrap().is_logical());

    shop.parameters.clear();
    let record = Record::from_json(&applied.record.to_json()).unwrap();
    let less = run(&stand_in, &shop, record).await.unwrap();
    assert_eq!(stand_in.parameter("theirs", "max_replication_slots").as_deref(), Some("25"));
    assert_eq!(less.record.previous_values.keys().collect::<Vec<_>>(), ["rds.logical_replication"]);

    undo(&stand_in, &shop, &less.record, Reboot::Never).await.unwrap();
    assert_eq!(stand_in.parameter("theirs", "rds.logical_replication"), None);
    assert_eq!(stand_in.parameter("theirs", "max_replication_slots").as_deref(), Some("25"));
    assert_eq!(stand_in.parameter("theirs", "autovacuum_naptime").as_deref(), Some("7"));
    assert!(ask(stand_in.address("shop-1")).await.unwrap().is_logical(), "it runs on until somebody reboots it");
}

#[tokio::test]
async fn destroying_is_refused_while_a_logical_slot_exists() {
    let stand_in = real(ClusterConfig::new("shop", "16.4")).await;
    let shop = LogicalReplication::new("shop");
    let applied = run(&stand_in, &shop, Record::default()).await.unwrap();
    let (host, port) = stand_in.address("shop-1");
    let mut config = tokio_postgres::Config::new();
    config.host(host).port(port).user(SUPERUSER).password(SUPERUSER_PASSWORD).dbname("postgres");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SELECT pg_create_logical_replication_slot('orders', 'pgoutput')").await.unwrap();

    let refused = undo(&stand_in, &shop, &applied.record, Reboot::Writer).await.unwrap_err();
    assert!(refused.to_string().contains("logical replication slots exist: orders"), "{refused}");
    assert_eq!(stand_in.attached_group("shop"), GROUP);

    client.batch_execute("SELECT pg_drop_replication_slot('orders')").await.unwrap();
    undo(&stand_in, &shop, &applied.record, Reboot::Never).await.unwrap();
    assert_eq!(stand_in.custom_groups(), [""; 0]);
}

#[tokio::test]
async fn readers_are_rebooted_on_request() {
    let stand_in = real(ClusterConfig::new("shop", "16.4").readers(1)).await;
    let shop = LogicalReplication { reboot: Reboot::All, ..LogicalReplication::new("shop") };
    run(&stand_in, &shop, Record::default()).await.unwrap();
    for instance in ["shop-1", "shop-2"] {
        assert!(ask(stand_in.address(instance)).await.unwrap().is_logical(), "{instance}");
    }
    let in_sync = [("shop-1".to_owned(), "in-sync".to_owned()), ("shop-2".to_owned(), "in-sync".to_owned())];
    assert_eq!(stand_in.member_statuses("shop"), in_sync);
}

#[tokio::test]
async fn a_reboot_that_came_too_early_is_done_once_more() {
    let mut config = StandInConfig::new(PostgresServers(Major::V16), vec![ClusterConfig::new("shop", "16.4")]);
    config.delays.notice = Duration::from_secs(3600);
    let stand_in = StandIn::start(config).await;
    let shop = LogicalReplication::new("shop");
    let noticed = async {
        wait_until("the first reboot", Duration::from_secs(60), async || {
            stand_in.instance_status("shop-1") == "rebooting"
        })
        .await;
        stand_in.take_notice(GROUP);
    };
    let (applied, ()) = tokio::join!(run(&stand_in, &shop, Record::default()), noticed);
    assert!(applied.unwrap().current.settings.unwrap().is_logical());
    let reboots = stand_in.changes().into_iter().filter(|action| action == "RebootDBInstance").count();
    assert_eq!(reboots, 2);
}

#[tokio::test]
async fn never_rebooting_leaves_the_reboot_pending() {
    let stand_in = real(ClusterConfig::new("shop", "16.4")).await;
    let shop = LogicalReplication { reboot: Reboot::Never, ..LogicalReplication::new("shop") };
    let applied = run(&stand_in, &shop, Record::default()).await.unwrap();
    assert!(applied.current.is_reboot_pending());
    assert!(!stand_in.changes().contains(&"RebootDBInstance".to_owned()));

    let shop = LogicalReplication { reboot: Reboot::Writer, ..shop };
    let applied = run(&stand_in, &shop, applied.record).await.unwrap();
    assert_eq!(applied.steps.iter().filter_map(|step| step.reboots()).collect::<Vec<_>>(), ["shop-1"]);
    assert!(!applied.current.is_reboot_pending());
}

#[tokio::test]
async fn an_unmanaged_group_is_only_rebooted_and_verified() {
    let mut cluster = ClusterConfig::new("shop", "16.4");
    cluster.parameter_group = Some("theirs".to_owned());
    let stand_in = real(cluster).await;
    let shop = LogicalReplication { manage_parameter_group: false, ..LogicalReplication::new("shop") };
    let refused = run(&stand_in, &shop, Record::default()).await.unwrap_err();
    assert!(refused.to_string().contains("is not managed here"), "{refused}");
    assert_eq!(stand_in.changes(), [""; 0]);

    let theirs = rds(&stand_in);
    let on = ParameterSetting {
        name: "rds.logical_replication".to_owned(),
        value: Some("1".to_owned()),
        apply_method: ApplyMethod::PendingReboot,
    };
    theirs.modify_parameters("theirs", &[on]).await.unwrap();
    stand_in.forget_calls();
    let applied = run(&stand_in, &shop, Record::default()).await.unwrap();
    assert!(applied.current.settings.unwrap().is_logical());
    assert!(stand_in.changes().iter().all(|action| action == "RebootDBInstance"), "{:?}", stand_in.changes());
    assert_eq!(applied.record, Record::default());
}

/// Runs one apply that is interrupted after `steps` steps, with the API alone.
async fn cut_off(stand_in: &StandIn, desired: &LogicalReplication, after: usize) {
    let token = CancellationToken::new();
    let polling = Polling { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
    let waiter = Waiter::new(polling, Duration::from_secs(60), token.clone());
    let api = rds(stand_in);
    let operation = Operation { api: &api, probe: None, waiter, patience: patience() };
    let seen = AtomicUsize::new(0);
    let ended = apply(&operation, desired, Record::default(), &mut |_| {
        if seen.fetch_add(1, Ordering::Relaxed) + 1 >= after * 2 {
            token.cancel();
        }
    })
    .await;
    assert!(ended.is_err_and(|error| error.kind == Kind::Cancelled));
}

#[tokio::test]
async fn a_record_that_was_lost_is_found_in_the_tags() {
    for after in [1, 3] {
        let stand_in = without_servers(ClusterConfig::new("shop", "16.4")).await;
        let shop = LogicalReplication { verify: false, ..LogicalReplication::new("shop") };
        cut_off(&stand_in, &shop, after).await;
        let api = rds(&stand_in);
        let operation = Operation { api: &api, probe: None, waiter: waiter(), patience: patience() };
        wait_until("the members to take notice", Duration::from_secs(10), async || {
            after < 3 || stand_in.member_statuses("shop")[0].1 == "pending-reboot"
        })
        .await;
        let applied = apply(&operation, &shop, Record::default(), &mut |_| {}).await.unwrap();
        assert_eq!(stand_in.attached_group("shop"), GROUP);
        assert_eq!(stand_in.member_statuses("shop")[0].1, "in-sync", "cut off after {after}");
        assert!(applied.record.group_created);
        assert_eq!(applied.record.previous_group.as_deref(), Some(DEFAULT), "cut off after {after}");

        destroy(&operation, &shop, &applied.record, Reboot::Never, &mut |_| {}).await.unwrap();
        assert_eq!(stand_in.attached_group("shop"), DEFAULT);
        assert_eq!(stand_in.custom_groups(), [""; 0]);
    }
}

/// The API's own rules, each through the SDK: code and kind.
#[tokio::test]
async fn the_api_refuses_as_rds_does() {
    let mut config = StandInConfig::new(NoServers, vec![ClusterConfig::new("shop", "16.4")]);
    // Calls are refused meanwhile, however slow this is.
    (config.delays.modifying, config.delays.rebooting) = (Duration::from_secs(3600), Duration::from_secs(3600));
    let stand_in = StandIn::start(config).await;
    let api = rds(&stand_in);
    let group = |name: &str, family: &str| NewParameterGroup {
        name: name.to_owned(),
        family: family.to_owned(),
        description: "a <test> & more".to_owned(),
        tags: BTreeMap::from([("a key".to_owned(), "a&b=c+d %é".to_owned())]),
        copy_of: None,
    };
    let setting = |name: &str, value: &str, apply_method| ParameterSetting {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        apply_method,
    };
    let made = api.create_parameter_group(&group("Mine", "aurora-postgresql16")).await.unwrap();
    assert_eq!((made.name.as_str(), made.description.as_str()), ("mine", "a <test> & more"));
    assert_eq!(api.tags(&made.arn).await.unwrap()["a key"], "a&b=c+d %é");
    api.add_tags(&made.arn, &BTreeMap::from([("b".to_owned(), "2".to_owned())])).await.unwrap();
    api.remove_tags(&made.arn, &["a key".to_owned()]).await.unwrap();
    assert_eq!(api.tags(&made.arn).await.unwrap().into_keys().collect::<Vec<_>>(), ["b"]);

    let parameters = api.parameters("mine").await.unwrap();
    assert_eq!(parameters.len(), 15, "all pages");
    assert!(parameters.iter().all(|parameter| parameter.source != Source::User));

    let code = |result: Result<(), Error>| result.unwrap_err().code.map_or_else(String::new, String::from);
    let (soon, later) = (ApplyMethod::Immediate, ApplyMethod::PendingReboot);
    let set = async |group: &str, settings: &[ParameterSetting]| code(api.modify_parameters(group, settings).await);
    let on = || setting("rds.logical_replication", "1", later);
    assert_eq!(set("mine", &[setting("rds.logical_replication", "1", soon)]).await, "InvalidParameterCombination");
    assert_eq!(set("mine", &[setting("rds.logical_replication", "banana", later)]).await, "InvalidParameterValue");
    assert_eq!(set("mine", &[setting("no.such", "1", later)]).await, "InvalidParameterValue");
    assert_eq!(set("mine", &[setting("rds.extensions", "x", later)]).await, "InvalidParameterValue");
    assert_eq!(set("mine", &vec![on(); 21]).await, "InvalidParameterValue");
    assert_eq!(set("nobodys", &[on()]).await, "DBParameterGroupNotFound");
    assert_eq!(set(DEFAULT, &[on()]).await, "InvalidDBParameterGroupState");

    let create =
        async |name: &str, family: &str| code(api.create_parameter_group(&group(name, family)).await.map(drop));
    assert_eq!(create("mine", "aurora-postgresql16").await, "DBParameterGroupAlreadyExists");
    assert_eq!(create("new", "aurora-postgresql99").await, "InvalidParameterValue");
    assert_eq!(create("bad--name", "aurora-postgresql16").await, "InvalidParameterValue");
    let copy = NewParameterGroup { copy_of: Some(DEFAULT.to_owned()), ..group("copy", "") };
    assert_eq!(code(api.create_parameter_group(&copy).await.map(drop)), "InvalidParameterValue");

    api.create_parameter_group(&group("older", "aurora-postgresql15")).await.unwrap();
    assert_eq!(code(api.attach_parameter_group("shop", "older").await), "InvalidParameterCombination");
    assert_eq!(code(api.attach_parameter_group("shop", "nobodys").await), "DBClusterParameterGroupNotFound");
    assert_eq!(code(api.attach_parameter_group("nobodys", "mine").await), "DBClusterNotFoundFault");
    api.attach_parameter_group("shop", "mine").await.unwrap();
    assert_eq!(code(api.attach_parameter_group("shop", DEFAULT).await), "InvalidDBClusterStateFault");
    assert_eq!(code(api.delete_parameter_group("mine").await), "InvalidDBParameterGroupState");
    assert_eq!(code(api.delete_parameter_group(DEFAULT).await), "InvalidDBParameterGroupState");
    assert_eq!(code(api.delete_parameter_group("nobodys").await), "DBParameterGroupNotFound");
    assert_eq!(api.clusters_with_parameter_group("mine").await.unwrap(), ["shop"]);

    api.reboot_instance("shop-1").await.unwrap();
    assert_eq!(code(api.reboot_instance("shop-1").await), "InvalidDBInstanceState");
    assert_eq!(code(api.reboot_instance("nobodys").await), "DBInstanceNotFound");
}
