// SPDX-License-Identifier: MPL-2.0

//! A stand-in for Aurora: a server on loopback that speaks the RDS query protocol (version 2014-10-31), so that the
//! unmodified AWS SDK can use it through `endpoint_url`. Its DB instances are real Postgres servers.
//!
//! `RebootDBInstance` really restarts the instance's Postgres with the values of its cluster parameter group, with
//! the delays and states of RDS. The switches on [`StandIn`] make it slow, refuse calls or move the writer.

mod clusters;
mod engine;
mod form;
mod groups;
mod parameters;
mod server;
pub mod shapes;
mod state;
mod xml;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use engine::{Engine, Engines, NoServers, PostgresServers};
use state::{BlueGreen, Cluster, Group, Instance, State};
use tokio_util::sync::CancellationToken;

use super::postgres::Database;

/// The region in all ARNs.
pub const REGION: &str = "us-east-2";

/// How long RDS takes to show accepted changes.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// From a change of the group until the members notice the new values and show `pending-reboot`.
    pub notice: Duration,
    /// How long a modification of a cluster takes: one half `modifying`, the other half `available` with
    /// pending values.
    pub modifying: Duration,
    /// From `RebootDBInstance` until the instance shows `rebooting`.
    pub before_rebooting: Duration,
    /// How long it is at least `rebooting`, in addition to the restart itself.
    pub rebooting: Duration,
    /// From `available` until the member shows `in-sync` again.
    pub in_sync: Duration,
    /// How long a group counts as in use after it was detached.
    pub detach: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            notice: ms(150),
            modifying: ms(100),
            before_rebooting: ms(100),
            rebooting: ms(150),
            in_sync: ms(100),
            detach: ms(200),
        }
    }
}

/// One cluster at the start.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    pub identifier: String,
    pub engine: String,
    pub engine_version: String,
    pub engine_mode: String,
    pub status: String,
    /// The attached group; by default AWS's own of the family. A custom one is created.
    pub parameter_group: Option<String>,
    /// The first one is the writer.
    pub instances: Vec<String>,
    pub publicly_accessible: bool,
    /// Whether the first instance is the writer: a secondary of a global database has none.
    pub has_writer: bool,
    pub global_cluster: Option<String>,
    pub replication_source: Option<String>,
    /// Whether a reboot of the writer restarts the readers, as in old versions.
    pub restarts_readers: bool,
    /// Whether it is a single DB instance.
    pub is_instance: bool,
    pub is_multi_az: bool,
    /// Whether its servers have `aurora_db_instance_identifier()`, like Aurora's.
    pub has_identity: bool,
}

impl ClusterConfig {
    /// An available cluster on its default group, with one instance.
    pub fn new(identifier: &str, engine_version: &str) -> Self {
        Self {
            identifier: identifier.to_owned(),
            engine: "aurora-postgresql".to_owned(),
            engine_version: engine_version.to_owned(),
            engine_mode: "provisioned".to_owned(),
            status: "available".to_owned(),
            parameter_group: None,
            instances: vec![format!("{identifier}-1")],
            publicly_accessible: true,
            has_writer: true,
            global_cluster: None,
            replication_source: None,
            restarts_readers: false,
            is_instance: false,
            is_multi_az: false,
            has_identity: true,
        }
    }

    /// A single DB instance of RDS for PostgreSQL.
    pub fn instance(identifier: &str, engine_version: &str) -> Self {
        Self {
            engine: "postgres".to_owned(),
            instances: vec![identifier.to_owned()],
            is_instance: true,
            has_identity: false,
            ..Self::new(identifier, engine_version)
        }
    }

    /// The same with that many readers.
    pub fn readers(mut self, count: usize) -> Self {
        self.instances.extend((0..count).map(|n| format!("{}-{}", self.identifier, n + 2)));
        self
    }
}

/// The configuration at the start.
pub struct StandInConfig {
    pub clusters: Vec<ClusterConfig>,
    pub delays: Delays,
    /// How many records a page has.
    pub page_size: usize,
    /// The servers of the instances.
    pub engines: Arc<dyn Engines>,
}

impl StandInConfig {
    /// These clusters, on the engines given.
    pub fn new(engines: impl Engines + 'static, clusters: Vec<ClusterConfig>) -> Self {
        Self { clusters, delays: Delays::default(), page_size: 6, engines: Arc::new(engines) }
    }
}

/// One call that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The action, as in `RebootDBInstance`.
    pub action: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
}

impl Call {
    /// Whether it changes anything. Other calls only read.
    pub fn changes_something(&self) -> bool {
        !self.action.starts_with("Describe") && !self.action.starts_with("List")
    }
}

/// The running stand-in. Dropping it ends the server and its instances.
pub struct StandIn {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub endpoint_url: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

/// The shared state of the server and the switches.
struct Shared {
    state: Mutex<State>,
    delays: Delays,
    page_size: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StandIn {
    /// Starts the instances, then the server.
    pub async fn start(config: StandInConfig) -> Self {
        let StandInConfig { clusters, delays, page_size, engines } = config;
        let named: Vec<String> = clusters
            .iter()
            .filter(|cluster| cluster.has_identity)
            .flat_map(|cluster| cluster.instances.clone())
            .collect();
        let built = tokio::task::spawn_blocking(move || build(&clusters, &*engines));
        let state = Mutex::new(built.await.expect("starting the instances"));
        let shared = Arc::new(Shared { state, delays, page_size });
        for instance in &named {
            identify(&shared, instance).await;
        }
        let (endpoint_url, server) = server::listen(Arc::clone(&shared)).await;
        Self { endpoint_url, shared, server }
    }

    /// Where an instance's Postgres listens.
    pub fn address(&self, instance: &str) -> (String, u16) {
        self.shared.state().instance(instance).expect("an instance").address.clone()
    }

    /// An existing database on an instance's Postgres.
    pub fn database(&self, instance: &str, name: &str) -> Database {
        Database::at(self.address(instance).1, name)
    }

    /// What an instance's Postgres has logged so far. Waits while it is being restarted.
    pub fn log(&self, instance: &str) -> String {
        let engine = Arc::clone(&self.shared.state().instance(instance).expect("an instance").engine);
        engine.lock().unwrap_or_else(PoisonError::into_inner).log()
    }

    /// Makes the instances with a group notice its values now, without the delay.
    pub fn take_notice(&self, group: &str) {
        clusters::take_notice(&self.shared, group);
    }

    /// Every call so far, in order; throttled ones as well.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The names of the calls that change something, in order.
    pub fn changes(&self) -> Vec<String> {
        self.calls().into_iter().filter(Call::changes_something).map(|call| call.action).collect()
    }

    /// The calls that change something and were not refused, in order.
    pub fn accepted(&self) -> Vec<Call> {
        self.shared.state().accepted.iter().filter(|call| call.changes_something()).cloned().collect()
    }

    /// The instances that were rebooted by a call, in order.
    pub fn rebooted(&self) -> Vec<String> {
        let reboots = self.accepted().into_iter().filter(|call| call.action == "RebootDBInstance");
        reboots.map(|call| call.parameters["DBInstanceIdentifier"].clone()).collect()
    }

    /// A setting of the cluster's running writer; none while it is unavailable.
    pub fn writer_setting(&self, cluster: &str, name: &str) -> Option<String> {
        let mut state = self.shared.state();
        let writer = state.cluster(cluster)?.writer.clone();
        let writer = state.instance(&writer).filter(|writer| writer.status == "available")?;
        writer.running.get(name).cloned()
    }

    /// The cluster's writer instance, if there is such a cluster and it has one.
    pub fn writer_instance(&self, cluster: &str) -> Option<String> {
        let mut state = self.shared.state();
        state.cluster(cluster).map(|cluster| cluster.writer.clone()).filter(|writer| !writer.is_empty())
    }

    /// How often the cluster's writer was started; none while it is unavailable.
    pub fn writer_started(&self, cluster: &str) -> Option<i64> {
        let mut state = self.shared.state();
        let writer = state.cluster(cluster)?.writer.clone();
        state.instance(&writer).filter(|writer| writer.status == "available").map(|writer| writer.starts)
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        let mut state = self.shared.state();
        state.calls.clear();
        state.accepted.clear();
    }

    /// Answers the next calls with "Rate exceeded".
    pub fn throttle_next(&self, calls: usize) {
        self.shared.state().throttled = calls;
    }

    /// Answers the next call of that action with an error. Several errors are used one after the other.
    ///
    /// # Panics
    /// When RDS has no such error.
    pub fn fail_next(&self, action: &str, status: u16, code: &str, message: &str) {
        assert_eq!(shapes::problem_of_error(action, code, status), None);
        let fault = server::Fault::new(status, code, message);
        self.shared.state().faults.push((action.to_owned(), fault));
    }

    /// Answers every call of that action, or of every action for `*`, with an error, until
    /// [`StandIn::stop_failing`].
    pub fn fail_always(&self, action: &str, status: u16, code: &str, message: &str) {
        let fault = server::Fault::new(status, code, message);
        self.shared.state().lasting.push((action.to_owned(), fault));
    }

    /// Adds a blue/green deployment from one cluster, or instance, to another.
    pub fn add_blue_green(&self, name: &str, source: &str, target: &str, status: &str) {
        let mut state = self.shared.state();
        let is_instance = state.clusters.iter().any(|cluster| cluster.identifier == source && cluster.is_instance);
        let arn = if is_instance { clusters::arn_of_instance } else { clusters::arn_of_cluster };
        let (name, status) = (name.to_owned(), status.to_owned());
        state.blue_green.push(BlueGreen { name, source: arn(source), target: arn(target), status });
    }

    /// Only allows describing clusters and instances by name, like a policy for one of them.
    pub fn deny_lists(&self) {
        self.shared.state().lists_are_denied = true;
    }

    /// Ends the effects of [`StandIn::fail_always`], [`StandIn::reboot_in_vain`] and [`StandIn::reboots_end_as`].
    pub fn stop_failing(&self) {
        let mut state = self.shared.state();
        state.lasting.clear();
        state.reboots_in_vain = 0;
        if let Some(status) = state.reboots_end_as.take() {
            let ended = state.instances.iter_mut().filter(|instance| instance.status == status);
            ended.for_each(|instance| instance.status = "available".to_owned());
        }
    }

    /// Cancels the token after that many calls, counted from the first.
    pub fn cancel_at(&self, calls: usize, token: CancellationToken) {
        self.shared.state().stop_at = Some((calls, token));
    }

    /// Makes the next reboots restore the old values.
    pub fn reboot_in_vain(&self, reboots: usize) {
        self.shared.state().reboots_in_vain = reboots;
    }

    /// Sets the status of instances after a reboot.
    pub fn reboots_end_as(&self, status: &str) {
        self.shared.state().reboots_end_as = Some(status.to_owned());
    }

    /// Answers of the stand-in that RDS would never give: see [`shapes`].
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Deletes a parameter group at once, as somebody else could.
    pub fn remove_group(&self, group: &str) {
        self.shared.state().groups.remove(group);
    }

    /// Creates a parameter group, as somebody else could.
    pub fn add_group(&self, name: &str, family: &str) {
        self.shared.state().groups.insert(name.to_owned(), Group::new(name, family, "made by somebody else"));
    }

    /// The tags of a parameter group.
    pub fn tags(&self, group: &str) -> BTreeMap<String, String> {
        self.shared.state().groups.get(group).map(|group| group.tags.clone()).unwrap_or_default()
    }

    /// Answers every call only after that time.
    pub fn slow(&self, delay: Duration) {
        self.shared.state().slow = delay;
    }

    /// Makes another instance the writer.
    pub fn move_writer(&self, cluster: &str, instance: &str) {
        self.shared.state().cluster(cluster).expect("a cluster").writer = instance.to_owned();
    }

    /// Sets a cluster's status until it is set again.
    pub fn set_cluster_status(&self, cluster: &str, status: &str) {
        self.shared.state().cluster(cluster).expect("a cluster").status = status.to_owned();
    }

    /// An instance's status.
    pub fn instance_status(&self, instance: &str) -> String {
        self.shared.state().instance(instance).expect("an instance").status.clone()
    }

    /// Sets an instance's status until it is set again.
    pub fn set_instance_status(&self, instance: &str, status: &str) {
        self.shared.state().instance(instance).expect("an instance").status = status.to_owned();
    }

    /// Sets a parameter as somebody else would, without a call.
    pub fn set_parameter(&self, group: &str, name: &str, value: &str) {
        let mut state = self.shared.state();
        let group = state.groups.get_mut(group).expect("a group");
        group.values.insert(name.to_owned(), value.to_owned());
    }

    /// A parameter that was set in a group.
    pub fn parameter(&self, group: &str, name: &str) -> Option<String> {
        self.shared.state().groups.get(group)?.values.get(name).cloned()
    }

    /// The names of the custom groups.
    pub fn custom_groups(&self) -> Vec<String> {
        let state = self.shared.state();
        state.groups.keys().filter(|name| !name.starts_with("default.")).cloned().collect()
    }

    /// The group that is attached to a cluster.
    pub fn attached_group(&self, cluster: &str) -> String {
        self.shared.state().cluster(cluster).expect("a cluster").group.clone()
    }

    /// The members of a cluster with their parameter group status.
    pub fn member_statuses(&self, cluster: &str) -> Vec<(String, String)> {
        let mut state = self.shared.state();
        let members = state.cluster(cluster).expect("a cluster").instances.clone();
        let status = |name: String| {
            let status = state.instance(&name).expect("an instance").group_status.clone();
            (name, status)
        };
        members.into_iter().map(status).collect()
    }

    /// Makes an instance run with its group's values, as after a reboot.
    pub fn run_as_configured(&self, instance: &str) {
        let mut state = self.shared.state();
        let instance = state.instance(instance).expect("an instance");
        instance.running = instance.settings.clone();
        instance.group_status = "in-sync".to_owned();
    }

    /// Upgrades a cluster to another major version, as somebody else could: then it has that group, or AWS's own of its
    /// new family, and its instances were started with it.
    pub fn upgrade(&self, cluster: &str, version: &str, group: Option<&str>) {
        let mut state = self.shared.state();
        let upgraded = state.cluster(cluster).expect("a cluster");
        let family = parameters::family(&upgraded.engine, version);
        let group = group.map_or_else(|| format!("default.{family}"), str::to_owned);
        (upgraded.engine_version, upgraded.family, upgraded.group) = (version.to_owned(), family, group.clone());
        let names = upgraded.instances.clone();
        let settings = parameters::server_settings(&state.groups[&group].values);
        for name in names {
            let instance = state.instance(&name).expect("an instance");
            (instance.settings, instance.running) = (settings.clone(), settings.clone());
            instance.starts += 1;
            "in-sync".clone_into(&mut instance.group_status);
            instance.engine.lock().unwrap_or_else(PoisonError::into_inner).restart(&settings);
        }
    }

    /// Sets whether a modification of the cluster is pending.
    pub fn set_pending_values(&self, cluster: &str, is_pending: bool) {
        self.shared.state().cluster(cluster).expect("a cluster").has_pending_values = is_pending;
    }

    /// Attaches a group, as somebody else could have done some time ago: its members already use it.
    pub fn swap_group(&self, cluster: &str, group: &str) {
        self.shared.state().cluster(cluster).expect("a cluster").group = group.to_owned();
        clusters::take_notice(&self.shared, group);
    }

    /// Deletes a cluster at once.
    pub fn remove_cluster(&self, cluster: &str) {
        self.shared.state().clusters.retain(|one| one.identifier != cluster);
    }
}

/// Creates the function that returns a server's instance, in every later database.
async fn identify(shared: &Shared, instance: &str) {
    let (is_postgres, port) = {
        let mut state = shared.state();
        let instance = state.instance(instance).expect("an instance");
        let is_postgres = instance.engine.lock().unwrap_or_else(PoisonError::into_inner).is_postgres();
        (is_postgres, instance.address.1)
    };
    for database in ["postgres", "template1"].into_iter().filter(|_| is_postgres) {
        let function = format!(
            "SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text \
             LANGUAGE sql STABLE AS $$ SELECT '{instance}'::text $$"
        );
        Database::at(port, database).sql(&function).await;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
        if !std::thread::panicking() {
            assert_eq!(self.violations(), [""; 0], "the stand-in does not answer as RDS does");
        }
    }
}

fn build(clusters: &[ClusterConfig], engines: &dyn Engines) -> State {
    let mut state = State { groups: groups::defaults(), ..State::default() };
    for config in clusters {
        let family = parameters::family(&config.engine, &config.engine_version);
        let default = format!("default.{family}");
        let group = config.parameter_group.clone().unwrap_or(default);
        state.groups.entry(group.clone()).or_insert_with(|| Group::new(&group, &family, "made for a test"));
        let settings = parameters::server_settings(&state.groups[&group].values);
        for name in &config.instances {
            state.instances.push(Instance::start(name, config, engines, &settings));
        }
        state.clusters.push(Cluster::new(config, &family, &group));
    }
    state
}
