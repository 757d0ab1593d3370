// SPDX-License-Identifier: MPL-2.0

//! The state of the stand-in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::engine::{Engine, Engines};
use super::server::Fault;
use super::{Call, ClusterConfig, REGION};
use crate::common::postgres::Settings;

#[derive(Default)]
pub(super) struct State {
    pub(super) clusters: Vec<Cluster>,
    pub(super) instances: Vec<Instance>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) blue_green: Vec<BlueGreen>,
    /// Detached groups that count as in use until this time.
    pub(super) lingering: Vec<(String, Instant)>,
    pub(super) calls: Vec<Call>,
    /// The calls that were not refused.
    pub(super) accepted: Vec<Call>,
    pub(super) faults: Vec<(String, Fault)>,
    /// Errors that stay until they are removed, by action; `*` is every action.
    pub(super) lasting: Vec<(String, Fault)>,
    /// Whether only named objects may be described.
    pub(super) lists_are_denied: bool,
    /// Answers that RDS would never give.
    pub(super) violations: Vec<String>,
    /// Cancelled after that many calls.
    pub(super) stop_at: Option<(usize, CancellationToken)>,
    pub(super) throttled: usize,
    /// How many reboots restore the old values.
    pub(super) reboots_in_vain: usize,
    /// The status of an instance after a reboot, if not available.
    pub(super) reboots_end_as: Option<String>,
    pub(super) slow: Duration,
}

impl State {
    /// A cluster by identifier or ARN, in any case.
    pub(super) fn cluster(&mut self, name: &str) -> Option<&mut Cluster> {
        let name = name.rsplit(':').next().unwrap_or(name).to_ascii_lowercase();
        self.clusters.iter_mut().find(|cluster| cluster.identifier == name)
    }

    pub(super) fn instance(&mut self, name: &str) -> Option<&mut Instance> {
        let name = name.to_ascii_lowercase();
        self.instances.iter_mut().find(|instance| instance.identifier == name)
    }

    /// Whether the group counts as in use, so that it cannot be deleted.
    pub(super) fn is_in_use(&self, group: &str) -> bool {
        let now = Instant::now();
        let lingers = self.lingering.iter().any(|(name, until)| name == group && *until > now);
        lingers || self.clusters.iter().any(|cluster| cluster.group == group)
    }
}

/// A blue/green deployment between two clusters, or DB instances.
pub(super) struct BlueGreen {
    pub(super) name: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) status: String,
}

/// A cluster, or a single DB instance: then it has one instance, with the same name.
pub(super) struct Cluster {
    pub(super) identifier: String,
    pub(super) is_instance: bool,
    pub(super) is_multi_az: bool,
    pub(super) engine: String,
    pub(super) engine_version: String,
    pub(super) engine_mode: String,
    pub(super) family: String,
    pub(super) status: String,
    pub(super) has_pending_values: bool,
    pub(super) global_cluster: Option<String>,
    pub(super) replication_source: Option<String>,
    pub(super) restarts_readers: bool,
    pub(super) group: String,
    pub(super) writer: String,
    pub(super) instances: Vec<String>,
}

impl Cluster {
    pub(super) fn new(config: &ClusterConfig, family: &str, group: &str) -> Self {
        Self {
            identifier: config.identifier.clone(),
            is_instance: config.is_instance,
            is_multi_az: config.is_multi_az,
            engine: config.engine.clone(),
            engine_version: config.engine_version.clone(),
            engine_mode: config.engine_mode.clone(),
            family: family.to_owned(),
            status: config.status.clone(),
            has_pending_values: false,
            global_cluster: config.global_cluster.clone(),
            replication_source: config.replication_source.clone(),
            restarts_readers: config.restarts_readers,
            group: group.to_owned(),
            writer: config.instances.first().filter(|_| config.has_writer).cloned().unwrap_or_default(),
            instances: config.instances.clone(),
        }
    }
}

pub(super) struct Instance {
    pub(super) identifier: String,
    pub(super) cluster: String,
    pub(super) status: String,
    /// From the call until it is available again, even before its status shows it.
    pub(super) is_rebooting: bool,
    pub(super) group_status: String,
    pub(super) publicly_accessible: bool,
    pub(super) address: (String, u16),
    /// The settings of its next start: the group's values, once the instance has noticed them.
    pub(super) settings: Settings,
    /// Its current settings.
    pub(super) running: Settings,
    /// How often it was started.
    pub(super) starts: i64,
    pub(super) engine: Arc<Mutex<Box<dyn Engine>>>,
}

impl Instance {
    pub(super) fn start(name: &str, cluster: &ClusterConfig, engines: &dyn Engines, settings: &Settings) -> Self {
        let engine = engines.start(settings);
        Self {
            identifier: name.to_owned(),
            cluster: cluster.identifier.clone(),
            status: "available".to_owned(),
            is_rebooting: false,
            group_status: "in-sync".to_owned(),
            publicly_accessible: cluster.publicly_accessible,
            address: engine.address(),
            settings: settings.clone(),
            running: settings.clone(),
            starts: 1,
            engine: Arc::new(Mutex::new(engine)),
        }
    }
}

#[derive(Clone)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) family: String,
    pub(super) description: String,
    /// The values that users have set.
    pub(super) values: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
}

impl Group {
    pub(super) fn new(name: &str, family: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            family: family.to_owned(),
            description: description.to_owned(),
            values: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Whether it is a cluster parameter group, and not one of DB instances.
    pub(super) fn is_of_clusters(&self) -> bool {
        self.family.starts_with("aurora")
    }

    pub(super) fn is_default(&self) -> bool {
        self.name.starts_with("default.")
    }

    pub(super) fn arn(&self) -> String {
        let kind = if self.is_of_clusters() { "cluster-pg" } else { "pg" };
        format!("arn:aws:rds:{REGION}:123456789012:{kind}:{}", self.name)
    }
}
