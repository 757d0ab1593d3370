// SPDX-License-Identifier: MPL-2.0

//! Every state of a cluster, and every fault during an apply, against the stand-in through the real AWS SDK: the result
//! of each, and the remedy in the error. The tables are printed, with their counts.

mod destroys;
mod faults;
mod instances;
mod interruptions;
mod publishers;
mod states;
mod upgrades;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::ready;
use std::io::Write as _;
use std::ops::Deref;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use neonrepl::rds::api::RdsApi;
use neonrepl::rds::logical_replication::{
    Applied, LogicalReplication, Operation, Patience, Probe, ProbeError, Reboot, Record, ServerIdentity,
    ServerSettings, Step, StepEvent, When, apply, blue_green, destroy, fetch, steps, warnings,
};
use neonrepl::rds::wait::{Polling, Waiter};
use neonrepl::rds::{AwsConfig, Error, RdsClusters, RdsInstances};
use tokio_util::sync::CancellationToken;

use crate::common::aurora::{ClusterConfig, Delays, NoServers, REGION, StandIn, StandInConfig};
use crate::common::relay::Relay;
use crate::common::wait::wait_until;

const OWN: &str = "shop-logical-replication";
const DEFAULT: &str = "default.aurora-postgresql16";
const FAMILY: &str = "aurora-postgresql16";
const DEADLINE: Duration = Duration::from_secs(180);

/// How many cases run at the same time: all of them on one thread would exceed their own timeouts.
const AT_A_TIME: usize = 8;

const CREATE: &str = "CreateDBClusterParameterGroup";
const COPY: &str = "CopyDBClusterParameterGroup";
const SET: &str = "ModifyDBClusterParameterGroup";
const RESET: &str = "ResetDBClusterParameterGroup";
const ATTACH: &str = "ModifyDBCluster";
const REBOOT: &str = "RebootDBInstance";
const DELETE: &str = "DeleteDBClusterParameterGroup";
/// The calls for a default group.
const ALL: [&str; 4] = [CREATE, SET, ATTACH, REBOOT];

/// The stand-in, and the network in front of it.
struct World {
    aws: StandIn,
    network: Relay,
    /// How many times the SDK itself tries a call.
    attempts: u32,
    /// Whether `shop` is a single DB instance.
    is_instance: bool,
}

impl Deref for World {
    type Target = StandIn;

    fn deref(&self) -> &StandIn {
        &self.aws
    }
}

impl World {
    async fn new(clusters: Vec<ClusterConfig>, delays: Delays) -> Self {
        let is_instance = clusters.iter().any(|cluster| cluster.is_instance);
        let aws = StandIn::start(StandInConfig { delays, ..StandInConfig::new(NoServers, clusters) }).await;
        let port = aws.endpoint_url.rsplit(':').next().expect("a port").parse().expect("a port");
        Self { network: Relay::start(port, Duration::ZERO), aws, attempts: 1, is_instance }
    }

    fn api(&self) -> RdsClusters {
        RdsClusters::new(self.config())
    }

    fn config(&self) -> AwsConfig {
        AwsConfig {
            region: Some(REGION.to_owned()),
            access_key: Some("AKIATEST".to_owned()),
            secret_key: Some("secret".to_owned()),
            endpoint_url: Some(format!("http://127.0.0.1:{}", self.network.port())),
            max_attempts: Some(self.attempts),
            ..AwsConfig::default()
        }
    }

    /// The settings that the writer would report over SQL.
    fn writer(&self) -> Result<ServerSettings, ProbeError> {
        let setting = |name| self.writer_setting("shop", name);
        let away = || ProbeError { message: "connection refused".to_owned(), is_transient: true };
        Ok(ServerSettings {
            wal_level: setting("wal_level").ok_or_else(away)?,
            rds_logical_replication: setting("rds.logical_replication"),
            logical_slots: Vec::new(),
            started_at: self.writer_started("shop"),
            server: self.identity(),
        })
    }

    /// The writer's identity on Aurora, or an instance's by its endpoint.
    fn identity(&self) -> ServerIdentity {
        if !self.is_instance {
            return ServerIdentity { instance: self.writer_instance("shop"), ..ServerIdentity::default() };
        }
        let (host, port) = self.address("shop");
        ServerIdentity { host, port, ..ServerIdentity::default() }
    }

    /// Brings the cluster to the desired state, and keeps the record as the resource does.
    async fn apply(&self, with: &With<'_>, record: &mut Record) -> Result<Applied, Error> {
        let probe = || ready(self.writer());
        self.apply_asking(with, record, Some(&probe)).await
    }

    async fn apply_asking(
        &self,
        with: &With<'_>,
        record: &mut Record,
        probe: Option<&dyn Probe>,
    ) -> Result<Applied, Error> {
        match self.is_instance {
            true => Box::pin(self.apply_on(&RdsInstances::new(self.config()), with, record, probe)).await,
            false => Box::pin(self.apply_on(&self.api(), with, record, probe)).await,
        }
    }

    async fn apply_on<A: RdsApi>(
        &self,
        api: &A,
        with: &With<'_>,
        record: &mut Record,
        probe: Option<&dyn Probe>,
    ) -> Result<Applied, Error> {
        let operation = with.operation(api, probe);
        let before = record.clone();
        let mut on_step = |event: StepEvent<'_>| {
            if event.is_worth_saving() || *record != Record::default() {
                record.clone_from(event.record);
            }
            (with.on_step)(self, &event);
        };
        let applied = apply(&operation, with.desired, before, &mut on_step).await?;
        record.clone_from(&applied.record);
        Ok(applied)
    }

    async fn destroy(&self, with: &With<'_>, record: &Record, reboot: Reboot) -> Result<Vec<Step>, Error> {
        let probe = || ready(self.writer());
        self.destroy_asking(with, record, reboot, Some(&probe)).await
    }

    async fn destroy_asking(
        &self,
        with: &With<'_>,
        record: &Record,
        reboot: Reboot,
        probe: Option<&dyn Probe>,
    ) -> Result<Vec<Step>, Error> {
        let mut on_step = |event: StepEvent<'_>| (with.on_step)(self, &event);
        if self.is_instance {
            let api = RdsInstances::new(self.config());
            let operation = with.operation(&api, probe);
            return Box::pin(destroy(&operation, with.desired, record, reboot, &mut on_step)).await;
        }
        let api = self.api();
        Box::pin(destroy(&with.operation(&api, probe), with.desired, record, reboot, &mut on_step)).await
    }

    /// The names of the calls that changed something.
    fn done(&self) -> Vec<String> {
        self.accepted().into_iter().map(|call| call.action).collect()
    }

    fn count(&self, action: &str) -> usize {
        self.done().iter().filter(|done| *done == action).count()
    }
}

/// The inputs of an apply or a destroy.
struct With<'a> {
    desired: &'a LogicalReplication,
    on_step: fn(&World, &StepEvent<'_>),
    timeout: Duration,
    token: CancellationToken,
}

impl<'a> With<'a> {
    fn new(desired: &'a LogicalReplication) -> Self {
        Self { desired, on_step: |_, _| {}, timeout: DEADLINE, token: CancellationToken::new() }
    }

    fn operation<'b, A>(&self, api: &'b A, probe: Option<&'b dyn Probe>) -> Operation<'b, A> {
        let polling = Polling { first: Duration::from_millis(20), longest: Duration::from_millis(80) };
        let waiter = Waiter::new(polling, self.timeout, self.token.clone());
        let patience = Patience { settle: Duration::from_millis(1500), connect: Duration::from_secs(30) };
        Operation { api, probe, waiter, patience }
    }
}

/// One row of a table: the state, the events during the apply, and the expected result.
struct Case {
    name: String,
    clusters: Vec<ClusterConfig>,
    delays: Delays,
    desired: LogicalReplication,
    before: Box<dyn Fn(&World)>,
    on_step: fn(&World, &StepEvent<'_>),
    /// Runs once AWS has been asked for the cluster a few times.
    meanwhile: Option<fn(&World)>,
    timeout: Duration,
    attempts: u32,
    expected: Expected,
    /// The repair before the next apply.
    mend: fn(&World),
    /// The checks at the end.
    after: fn(&World),
}

enum Expected {
    /// It succeeds, and these are the calls that changed something.
    Done(&'static [&'static str]),
    /// It succeeds, and the plan had said this.
    Warned(&'static str),
    /// It fails with these texts, before anything is changed.
    Refused(&'static [&'static str]),
    /// It fails with these texts, and after the repair, the next apply finishes without doing anything twice.
    Resumes(&'static [&'static str]),
    /// It fails with these texts during the apply.
    Fails(&'static [&'static str]),
}

fn short() -> Delays {
    let ms = Duration::from_millis;
    Delays {
        notice: ms(60),
        modifying: ms(40),
        before_rebooting: ms(40),
        rebooting: ms(60),
        in_sync: ms(40),
        detach: ms(80),
    }
}

fn shop() -> ClusterConfig {
    ClusterConfig::new("shop", "16.4")
}

fn on_group(group: &str) -> ClusterConfig {
    ClusterConfig { parameter_group: Some(group.to_owned()), ..shop() }
}

impl Case {
    fn new(name: impl Into<String>, cluster: ClusterConfig, expected: Expected) -> Self {
        Self {
            name: name.into(),
            clusters: vec![cluster],
            delays: short(),
            desired: LogicalReplication::new("shop"),
            before: Box::new(|_| {}),
            on_step: |_, _| {},
            meanwhile: None,
            timeout: DEADLINE,
            attempts: 1,
            expected,
            mend: |world| world.stop_failing(),
            after: |_| {},
        }
    }

    /// A case whose cluster has no problem at first.
    fn on(name: impl Into<String>, before: impl Fn(&World) + 'static, expected: Expected) -> Self {
        Self::new(name, shop(), expected).before(before)
    }

    fn group(mut self, name: &str) -> Self {
        self.desired.parameter_group_name = Some(name.to_owned());
        self
    }

    fn parameter(mut self, name: &str, value: &str) -> Self {
        self.desired.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    fn unmanaged(mut self) -> Self {
        self.desired.manage_parameter_group = false;
        self
    }

    fn unverified(mut self) -> Self {
        self.desired.verify = false;
        self
    }

    fn reboot(mut self, reboot: Reboot) -> Self {
        self.desired.reboot = reboot;
        self
    }

    fn before(self, before: impl Fn(&World) + 'static) -> Self {
        Self { before: Box::new(before), ..self }
    }

    fn on_step(self, on_step: fn(&World, &StepEvent<'_>)) -> Self {
        Self { on_step, ..self }
    }

    fn meanwhile(self, meanwhile: fn(&World)) -> Self {
        Self { meanwhile: Some(meanwhile), ..self }
    }

    fn mend(self, mend: fn(&World)) -> Self {
        Self { mend, ..self }
    }

    fn after(self, after: fn(&World)) -> Self {
        Self { after, ..self }
    }

    fn beside(mut self, other: ClusterConfig) -> Self {
        self.clusters.push(other);
        self
    }

    fn delays(mut self, change: fn(&mut Delays)) -> Self {
        change(&mut self.delays);
        self
    }

    fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    fn attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }

    /// Checks that the warning comes before anything changes.
    async fn check_warning(&self) {
        let Expected::Warned(text) = self.expected else { return };
        let world = World::new(self.clusters.clone(), self.delays).await;
        (self.before)(&world);
        let said = match world.is_instance {
            true => Box::pin(said(&RdsInstances::new(world.config()), &self.desired)).await,
            false => Box::pin(said(&world.api(), &self.desired)).await,
        };
        assert!(said.iter().any(|warning| warning.contains(text)), "{}: {said:?}", self.name);
    }

    /// Runs it, and returns the result in a few words.
    async fn run(self) -> String {
        self.check_warning().await;
        let world = World { attempts: self.attempts, ..World::new(self.clusters.clone(), self.delays).await };
        (self.before)(&world);
        let mut record = Record::default();
        let happens = async {
            let Some(meanwhile) = self.meanwhile else { return };
            let looks = if world.is_instance { "DescribeDBInstances" } else { "DescribeDBClusters" };
            let asked = || world.calls().iter().filter(|call| call.action == looks).count();
            wait_until("AWS to be asked", DEADLINE, async || asked() >= 3).await;
            meanwhile(&world);
        };
        let with = With { on_step: self.on_step, timeout: self.timeout, ..With::new(&self.desired) };
        let (ended, ()) = tokio::join!(world.apply(&with, &mut record), happens);
        let outcome = self.judge(&world, ended, record).await;
        (self.after)(&world);
        outcome
    }

    async fn judge(&self, world: &World, ended: Result<Applied, Error>, record: Record) -> String {
        let name = &self.name;
        let done = |ended: Result<Applied, Error>| ended.unwrap_or_else(|error| panic!("{name}: {error}"));
        match self.expected {
            Expected::Done(calls) => {
                let applied = done(ended);
                assert_eq!(world.done(), calls, "{name}");
                let is_settled = !applied.current.is_reboot_pending() || self.desired.reboot == Reboot::Never;
                assert!(is_settled, "{name}: {:?}", world.member_statuses("shop"));
                if calls.is_empty() { "nothing to do".to_owned() } else { "done".to_owned() }
            }
            Expected::Warned(text) => {
                done(ended);
                format!("done; {text}")
            }
            Expected::Refused(texts) => {
                check_failure(name, &ended, texts);
                assert_eq!(world.done(), [""; 0], "{name}");
                format!("refused: {}", texts[0])
            }
            Expected::Fails(texts) => {
                check_failure(name, &ended, texts);
                format!("fails: {}", texts[0])
            }
            Expected::Resumes(texts) => {
                check_failure(name, &ended, texts);
                (self.mend)(world);
                self.resume(world, record).await;
                format!("fails: {}; the next apply goes on", texts[0])
            }
        }
    }

    async fn resume(&self, world: &World, mut record: Record) {
        let (name, with) = (&self.name, With::new(&self.desired));
        let resumed = world.apply(&with, &mut record).await;
        let applied = resumed.unwrap_or_else(|error| panic!("{name}: resuming: {error}"));
        assert!(!applied.current.is_reboot_pending(), "{name}");
        give_back(world, &with, &record, name).await;
    }
}

/// The text of a plan.
async fn said<A: RdsApi>(api: &A, desired: &LogicalReplication) -> Vec<String> {
    let mut current = fetch(api, desired, &Record::default()).await.unwrap().unwrap();
    current.blue_green = blue_green(api, &current.cluster).await;
    let steps = steps(&current, desired, &Record::default()).unwrap();
    warnings(&current, desired, &steps, When::Before)
}

#[track_caller]
fn check_failure<T>(name: &str, ended: &Result<T, Error>, texts: &[&str]) {
    let Err(error) = ended else { panic!("{name}: it succeeded") };
    let error = error.to_string();
    for text in texts {
        assert!(error.contains(text), "{name}: no {text:?} in: {error}");
    }
}

/// Destroys, and checks that everything is as before: the previous group, and none of ours.
async fn give_back(world: &World, with: &With<'_>, record: &Record, name: &str) {
    let undone = world.destroy(with, record, Reboot::Never).await;
    undone.unwrap_or_else(|error| panic!("{name}: destroying: {error}"));
    let default = if world.is_instance { "default.postgres16" } else { DEFAULT };
    assert_eq!(world.attached_group("shop"), default, "{name}");
    assert_eq!(world.custom_groups(), [""; 0], "{name}");
}

/// Prints past the test runner, which hides the output of passing tests.
fn print_table(kind: &str, rows: &[(String, String)]) {
    let mut text = format!("{kind}: {} tried\n", rows.len());
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, outcome) in rows {
        let _ = writeln!(text, "  {name:width$}  {outcome}");
    }
    std::io::stderr().write_all(text.as_bytes()).expect("printing the table");
}

async fn try_all(kind: &str, cases: Vec<Case>) {
    let names: Vec<_> = cases.iter().map(|case| case.name.clone()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a case has another one's name");
    let runs = stream::iter(cases.into_iter().map(|case| Box::pin(case.run())));
    let outcomes: Vec<_> = runs.buffered(AT_A_TIME).collect().await;
    print_table(kind, &names.into_iter().zip(outcomes).collect::<Vec<_>>());
}
