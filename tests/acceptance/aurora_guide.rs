// SPDX-License-Identifier: MPL-2.0

//! The guide "Enable logical replication on Aurora" is right: the plan's own words, and the IAM policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::ready;
use std::path::PathBuf;
use std::time::Duration;

use neonrepl::rds::api::RdsApi;
use neonrepl::rds::logical_replication::{
    LogicalReplication, Operation, Patience, Reboot, Record, ServerIdentity, ServerSettings, apply, blue_green,
    destroy, fetch, steps,
};
use neonrepl::rds::wait::{Polling, Waiter};
use neonrepl::rds::{RdsClusters, RdsInstances};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::aurora::config;
use crate::common::aurora::{ClusterConfig, NoServers, PostgresServers, REGION, StandIn, StandInConfig};
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Major, SUPERUSER};
use crate::common::tools;

fn guide() -> PathBuf {
    tools::checkout().join("docs/guides/enable-logical-replication-on-aurora.md")
}

/// Compares the part between two texts of the guide, or rewrites it with `UPDATE_GOLDEN=1`.
fn check_guide(after: &str, before: &str, expected: &str) {
    let text = fs::read_to_string(guide()).expect("the guide");
    let start = text.find(after).expect("the place in the guide") + after.len();
    let end = start + text[start..].find(before).expect("the end of the place in the guide");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(guide(), format!("{}{expected}{}", &text[..start], &text[end..])).expect("writing the guide");
        return;
    }
    assert_eq!(&text[start..end], expected, "run this test with UPDATE_GOLDEN=1");
}

#[tokio::test]
async fn the_guide_shows_the_policy_and_the_plan() {
    check_policy().await;
    check_plan().await;
}

/// Checks the plan of the example.
async fn check_plan() {
    let cluster = ClusterConfig::new("shop", "16.4").readers(1);
    let aws = StandIn::start(StandInConfig::new(PostgresServers(Major::V16), vec![cluster])).await;
    let mut workspace = Workspace::new(Core::OpenTofu);
    workspace
        .env("NEONREPL_PUBLISHER_URL", &aws.database("shop-1", SUPERUSER).url())
        .env("AWS_ACCESS_KEY_ID", "AKIATEST")
        .env("AWS_SECRET_ACCESS_KEY", "secret");
    let configuration = format!(
        "provider \"neonrepl\" {{\n  aws {{\n    region = \"{REGION}\"\n    endpoint_url = \"{}\"\n  }}\n}}\n\n\
         resource \"neonrepl_aurora_logical_replication\" \"source\" {{\n  cluster_identifier = \"shop\"\n}}\n",
        aws.endpoint_url
    );
    workspace.write("main.tf", &configuration);
    workspace.init().await;
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    check_guide("on its default group:\n\n```text\n", "```\n", &warning(&plan.stdout));
}

/// The printed warning, without its origin.
fn warning(printed: &str) -> String {
    let start = printed.find("Warning: applying changes").expect("the warning");
    let lines = printed[start..].lines().take_while(|line| !line.starts_with("─"));
    let of_place = ["with neonrepl_", "on main.tf line", "5: resource", "6: resource", "7: resource", "8: resource"];
    let lines = lines.filter(|line| !of_place.iter().any(|place| line.trim_start().starts_with(place)));
    let mut text = String::new();
    for line in lines {
        if !(line.trim().is_empty() && text.ends_with("\n\n")) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    format!("{}\n", text.trim_end())
}

/// The actions that each operation calls, in the order of the policy.
async fn check_policy() {
    let of_instance: Vec<_> = policy(1).concat();
    let called_for_it = called(ClusterConfig::instance, |aws| RdsInstances::new(config(aws))).await;
    let all: BTreeSet<&String> = called_for_it.values().flatten().collect();
    assert_eq!(of_instance.iter().collect::<BTreeSet<_>>(), all, "the policy for DB instances");
    let called = called(ClusterConfig::new, |aws| RdsClusters::new(config(aws))).await;
    let statements = policy(0);
    let (reads, policy) = (&statements[0], statements.concat());
    let granted: BTreeSet<&String> = policy.iter().collect();
    assert_eq!(granted.len(), policy.len(), "an action stands twice in the policy");
    let all: BTreeSet<&String> = called.values().flatten().collect();
    assert_eq!(granted, all, "the policy grants what is called, and no more");
    let rows = called.iter().map(|(operation, actions)| {
        assert!(
            reads.iter().all(|read| actions.contains(read)),
            "{operation} does not need all of the first statement"
        );
        let further = policy.iter().filter(|action| actions.contains(*action) && !reads.contains(action));
        let further = further.map(|action| format!(", `{}`", action.trim_start_matches("rds:")));
        format!("| {} | all of Read{} |\n", &operation[2..], further.collect::<String>())
    });
    check_guide("| operation | actions |\n|---|---|\n", "\nA refresh needs", &rows.collect::<String>());
}

/// The actions of each statement of one of the guide's policies, in their order.
fn policy(which: usize) -> Vec<Vec<String>> {
    let text = fs::read_to_string(guide()).expect("the guide");
    let json = text.split("```json\n").nth(which + 1).and_then(|rest| rest.split("```").next()).expect("the policy");
    let policy: Value = serde_json::from_str(json).expect("a policy");
    let statements = policy["Statement"].as_array().cloned().unwrap_or_default();
    let actions = statements.into_iter().map(|mut statement| match statement["Action"].take() {
        Value::Array(actions) => actions,
        action => vec![action],
    });
    let text = |action: &Value| action.as_str().expect("an action").to_owned();
    actions.map(|actions| actions.iter().map(text).collect()).collect()
}

type Called = BTreeMap<&'static str, BTreeSet<String>>;

/// A cluster or an instance of that name and version, with its API.
async fn called<A: RdsApi>(config: fn(&str, &str) -> ClusterConfig, api: fn(&StandIn) -> A) -> Called {
    let mut called = Called::new();
    let with_group = |group: Option<&str>| {
        let shop = ClusterConfig { parameter_group: group.map(str::to_owned), ..config("shop", "16.4") };
        StandIn::start(StandInConfig::new(NoServers, vec![shop]))
    };
    let aws = with_group(None).await;
    Box::pin(own_group(&mut called, &aws, &api(&aws))).await;
    let aws = with_group(Some("theirs")).await;
    Box::pin(custom_group(&mut called, &aws, &api(&aws))).await;
    let aws = with_group(Some("theirs")).await;
    Box::pin(unmanaged(&mut called, &aws, &api(&aws))).await;
    called
}

/// Records the calls since the last time.
fn note(called: &mut Called, operation: &'static str, aws: &StandIn) {
    let actions = aws.calls().into_iter().map(|call| format!("rds:{}", call.action));
    called.entry(operation).or_default().extend(actions);
    aws.forget_calls();
}

const REFRESH: &str = "1 refresh, import";
const PLAN: &str = "2 plan";
const CREATE: &str = "3 create";
const UPDATE: &str = "4 update";
const DESTROY: &str = "5 destroy, with `reboot_on_destroy`";
const UNMANAGED: &str = "6 all of them, with `manage_parameter_group = false`";

async fn plan(api: &impl RdsApi, desired: &LogicalReplication, record: &Record) {
    let current = fetch(api, desired, record).await.unwrap().unwrap();
    blue_green(api, &current.cluster).await;
    steps(&current, desired, record).unwrap();
}

/// One apply, which returns its record.
async fn make<A: RdsApi>(aws: &StandIn, api: &A, desired: &LogicalReplication, record: Record) -> Record {
    let probe = || ready(Ok(settings(aws)));
    let operation = Operation { api, probe: Some(&probe), waiter: waiter(), patience: patience() };
    apply(&operation, desired, record, &mut |_| {}).await.unwrap().record
}

async fn undo<A: RdsApi>(aws: &StandIn, api: &A, desired: &LogicalReplication, record: &Record) {
    let probe = || ready(Ok(settings(aws)));
    let operation = Operation { api, probe: Some(&probe), waiter: waiter(), patience: patience() };
    destroy(&operation, desired, record, Reboot::Writer, &mut |_| {}).await.unwrap();
}

fn settings(aws: &StandIn) -> ServerSettings {
    let wal_level = aws.writer_setting("shop", "wal_level").unwrap_or_default();
    let (host, port) = aws.address(&aws.writer_instance("shop").expect("a writer"));
    let server = ServerIdentity { host, port, ..ServerIdentity::default() };
    ServerSettings { wal_level, server, ..ServerSettings::default() }
}

fn waiter() -> Waiter {
    let polling = Polling { first: Duration::from_millis(20), longest: Duration::from_millis(80) };
    Waiter::new(polling, Duration::from_secs(60), CancellationToken::new())
}

fn patience() -> Patience {
    Patience { settle: Duration::from_millis(1500), connect: Duration::from_secs(30) }
}

async fn own_group<A: RdsApi>(called: &mut Called, aws: &StandIn, api: &A) {
    let mut desired = LogicalReplication::new("shop");
    desired.tags.insert("team".to_owned(), "orders".to_owned());
    fetch(api, &desired, &Record::default()).await.unwrap().unwrap();
    note(called, REFRESH, aws);
    plan(api, &desired, &Record::default()).await;
    note(called, PLAN, aws);
    let record = make(aws, api, &desired, Record::default()).await;
    note(called, CREATE, aws);
    fetch(api, &desired, &record).await.unwrap().unwrap();
    note(called, REFRESH, aws);
    plan(api, &desired, &record).await;
    note(called, PLAN, aws);
    desired.tags = [("owner".to_owned(), "me".to_owned())].into();
    desired.parameters.insert("max_replication_slots".to_owned(), "30".to_owned());
    let record = make(aws, api, &desired, record).await;
    desired.parameters.clear();
    let record = make(aws, api, &desired, record).await;
    note(called, UPDATE, aws);
    undo(aws, api, &desired, &record).await;
    note(called, DESTROY, aws);
}

async fn custom_group<A: RdsApi>(called: &mut Called, aws: &StandIn, api: &A) {
    let desired = LogicalReplication::new("shop");
    let named = LogicalReplication { parameter_group_name: Some("mine".to_owned()), ..desired.clone() };
    let record = make(aws, api, &named, Record::default()).await;
    note(called, CREATE, aws);
    let other = LogicalReplication { parameter_group_name: Some("other".to_owned()), ..desired.clone() };
    let record = make(aws, api, &other, record).await;
    note(called, UPDATE, aws);
    undo(aws, api, &other, &record).await;
    note(called, DESTROY, aws);
    let record = make(aws, api, &desired, Record::default()).await;
    note(called, CREATE, aws);
    undo(aws, api, &desired, &record).await;
    note(called, DESTROY, aws);
}

async fn unmanaged<A: RdsApi>(called: &mut Called, aws: &StandIn, api: &A) {
    aws.set_parameter("theirs", "rds.logical_replication", "1");
    aws.take_notice("theirs");
    let desired = LogicalReplication { manage_parameter_group: false, ..LogicalReplication::new("shop") };
    plan(api, &desired, &Record::default()).await;
    let record = make(aws, api, &desired, Record::default()).await;
    undo(aws, api, &desired, &record).await;
    note(called, UNMANAGED, aws);
}
