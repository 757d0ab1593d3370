// SPDX-License-Identifier: MPL-2.0

//! The same applies against the stand-in and against moto, which others wrote: so requests and responses are checked by
//! more than the project itself. moto has neither default groups nor pending reboots, and lists only parameters that
//! were set; this only uses what both support.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_rds::types::{ApplyMethod as SdkApplyMethod, Parameter};
use neonrepl::rds::api::{NewParameterGroup, RdsApi};
use neonrepl::rds::logical_replication::{
    Applied, LogicalReplication, Operation, Patience, Reboot, Record, apply, destroy, fetch,
};
use neonrepl::rds::wait::{Polling, Waiter};
use neonrepl::rds::{AwsConfig, Kind, RdsClusters};
use tokio_util::sync::CancellationToken;

use crate::common::aurora::{ClusterConfig, NoServers, REGION, StandIn, StandInConfig};
use crate::common::moto::Moto;

const FAMILY: &str = "aurora-postgresql16";

fn config(endpoint_url: &str) -> AwsConfig {
    AwsConfig {
        region: Some(REGION.to_owned()),
        access_key: Some("AKIATEST".to_owned()),
        secret_key: Some("secret".to_owned()),
        endpoint_url: Some(endpoint_url.to_owned()),
        ..AwsConfig::default()
    }
}

/// The cluster `shop` with a reader, on the custom group `theirs`.
async fn fill(moto: &Moto) {
    let config = config(&moto.endpoint_url).sdk_config().await.unwrap();
    let builder = aws_sdk_rds::config::Builder::from(&config).endpoint_url(&moto.endpoint_url);
    let client = aws_sdk_rds::Client::from_conf(builder.build());
    let group = client.create_db_cluster_parameter_group().db_cluster_parameter_group_name("theirs");
    group.db_parameter_group_family(FAMILY).description("made for a test").send().await.unwrap();
    let off = Parameter::builder().parameter_name("rds.logical_replication").parameter_value("0");
    let off = off.apply_method(SdkApplyMethod::PendingReboot).build();
    let modify = client.modify_db_cluster_parameter_group().db_cluster_parameter_group_name("theirs");
    modify.parameters(off).send().await.unwrap();
    let cluster = client.create_db_cluster().db_cluster_identifier("shop").engine("aurora-postgresql");
    let cluster = cluster.engine_version("16.4").master_username("postgres").master_user_password("not-a-secret");
    cluster.db_cluster_parameter_group_name("theirs").send().await.unwrap();
    for name in ["shop-1", "shop-2"] {
        let instance = client.create_db_instance().db_instance_identifier(name).db_instance_class("db.r6g.large");
        instance.engine("aurora-postgresql").db_cluster_identifier("shop").send().await.unwrap();
    }
}

async fn stand_in() -> StandIn {
    let cluster = ClusterConfig { parameter_group: Some("theirs".to_owned()), ..ClusterConfig::new("shop", "16.4") };
    let stand_in = StandIn::start(StandInConfig::new(NoServers, vec![cluster.readers(1)])).await;
    stand_in.set_parameter("theirs", "rds.logical_replication", "0");
    stand_in
}

#[tokio::test]
async fn what_the_stand_in_carries_moto_carries_too() {
    let stand_in = stand_in().await;
    Box::pin(carry(&stand_in.endpoint_url)).await;
    let Some(moto) = Moto::start() else { return };
    fill(&moto).await;
    Box::pin(carry(&moto.endpoint_url)).await;
}

/// Runs one cluster through all steps.
async fn carry(endpoint_url: &str) {
    let world = World { api: RdsClusters::new(config(endpoint_url)) };
    let record = Box::pin(a_group_is_edited_in_place(&world)).await;
    let record = Box::pin(another_group_takes_its_place(&world, record)).await;
    Box::pin(a_group_that_is_there_takes_over(&world, record)).await;
    what_is_not_there_is_not_found(&world).await;
}

struct World {
    api: RdsClusters,
}

impl World {
    fn operation(&self) -> Operation<'_, RdsClusters> {
        let polling = Polling { first: Duration::from_millis(20), longest: Duration::from_millis(50) };
        let waiter = Waiter::new(polling, Duration::from_secs(60), CancellationToken::new());
        let patience = Patience { settle: Duration::from_millis(400), connect: Duration::from_secs(1) };
        Operation { api: &self.api, probe: None, waiter, patience }
    }

    async fn apply(&self, desired: &LogicalReplication, record: Record) -> Applied {
        let applied = apply(&self.operation(), desired, record, &mut |_| {}).await.unwrap();
        let again = apply(&self.operation(), desired, applied.record.clone(), &mut |_| {}).await.unwrap();
        assert_eq!(again.steps, [], "a second apply has nothing to do");
        applied
    }

    async fn attached(&self) -> String {
        self.api.cluster("shop").await.unwrap().parameter_group
    }

    async fn value(&self, group: &str, name: &str) -> Option<String> {
        let parameters = self.api.parameters(group).await.unwrap();
        parameters.into_iter().find(|parameter| parameter.name == name)?.value
    }

    async fn tags(&self, group: &str) -> BTreeMap<String, String> {
        self.api.tags(&self.api.parameter_group(group).await.unwrap().arn).await.unwrap()
    }
}

fn shop() -> LogicalReplication {
    LogicalReplication { verify: false, ..LogicalReplication::new("shop") }
}

fn steps(applied: &Applied) -> Vec<String> {
    applied.steps.iter().map(ToString::to_string).collect()
}

const WAIT: &str = "wait until shop is available";
const REBOOT: &str = "reboot the writer instance shop-1";

async fn a_group_is_edited_in_place(world: &World) -> Record {
    let current = fetch(&world.api, &shop(), &Record::default()).await.unwrap().unwrap();
    assert_eq!((current.family(), current.writer()), (FAMILY, Some("shop-1")));
    assert_eq!(current.cluster.readers().map(|reader| reader.instance.as_str()).collect::<Vec<_>>(), ["shop-2"]);
    let applied = world.apply(&shop(), Record::default()).await;
    let set = "in parameter group theirs, set rds.logical_replication: 0 -> 1";
    assert_eq!(steps(&applied), [set, WAIT, REBOOT]);
    assert_eq!(world.value("theirs", "rds.logical_replication").await.as_deref(), Some("1"));
    applied.record
}

/// A copy, with tags that follow the configuration.
async fn another_group_takes_its_place(world: &World, record: Record) -> Record {
    let mut desired =
        LogicalReplication { parameter_group_name: Some("Mine".to_owned()), reboot: Reboot::All, ..shop() };
    desired.tags.insert("a key".to_owned(), "a&b=c+d %é".to_owned());
    let applied = world.apply(&desired, record).await;
    let create = "create parameter group mine (family aurora-postgresql16, a copy of theirs)";
    let attach = "attach parameter group mine to shop in place of theirs";
    assert_eq!(steps(&applied)[..5], [create, attach, WAIT, "reboot the reader instance shop-2", REBOOT]);
    assert_eq!(world.attached().await, "mine");
    assert_eq!(world.value("mine", "rds.logical_replication").await.as_deref(), Some("1"));
    assert_eq!(world.tags("mine").await["a key"], "a&b=c+d %é");

    desired.tags = BTreeMap::from([("team".to_owned(), "orders".to_owned())]);
    let applied = world.apply(&desired, applied.record).await;
    assert_eq!(steps(&applied)[0], "tag parameter group mine");
    let tags = world.tags("mine").await;
    assert_eq!((tags.get("team").map(String::as_str), tags.get("a key")), (Some("orders"), None));

    destroy(&world.operation(), &desired, &applied.record, Reboot::Never, &mut |_| {}).await.unwrap();
    assert_eq!(world.attached().await, "theirs");
    let gone = world.api.parameter_group("mine").await.unwrap_err();
    assert_eq!((gone.kind, gone.code.as_deref()), (Kind::NotFound, Some("DBParameterGroupNotFound")));
    Record::default()
}

async fn a_group_that_is_there_takes_over(world: &World, record: Record) {
    let group = NewParameterGroup {
        name: "third".to_owned(),
        description: "made for a test".to_owned(),
        copy_of: Some("theirs".to_owned()),
        ..NewParameterGroup::default()
    };
    world.api.create_parameter_group(&group).await.unwrap();
    let desired = LogicalReplication { parameter_group_name: Some("third".to_owned()), ..shop() };
    let applied = world.apply(&desired, record).await;
    assert_eq!(world.attached().await, "third");
    assert!(!applied.record.group_created);
    destroy(&world.operation(), &desired, &applied.record, Reboot::Never, &mut |_| {}).await.unwrap();
    assert_eq!(world.attached().await, "theirs");
    assert_eq!(world.api.parameter_group("third").await.unwrap().family, FAMILY);
}

async fn what_is_not_there_is_not_found(world: &World) {
    let elsewhere = LogicalReplication { verify: false, ..LogicalReplication::new("elsewhere") };
    assert_eq!(fetch(&world.api, &elsewhere, &Record::default()).await.unwrap(), None);
    let code = |error: neonrepl::rds::Error| error.code.map_or_else(String::new, String::from);
    assert_eq!(code(world.api.cluster("elsewhere").await.unwrap_err()), "DBClusterNotFoundFault");
    assert_eq!(code(world.api.instance("elsewhere").await.unwrap_err()), "DBInstanceNotFound");
    assert_eq!(code(world.api.reboot_instance("elsewhere").await.unwrap_err()), "DBInstanceNotFound");
    assert_eq!(code(world.api.parameters("elsewhere").await.unwrap_err()), "DBParameterGroupNotFound");
    assert_eq!(code(world.api.delete_parameter_group("elsewhere").await.unwrap_err()), "DBParameterGroupNotFound");
    let theirs =
        NewParameterGroup { name: "theirs".to_owned(), family: FAMILY.to_owned(), ..NewParameterGroup::default() };
    let theirs = NewParameterGroup { description: "made for a test".to_owned(), ..theirs };
    let twice = world.api.create_parameter_group(&theirs).await.unwrap_err();
    assert_eq!((twice.kind, code(twice).as_str()), (Kind::AlreadyExists, "DBParameterGroupAlreadyExists"));
}
