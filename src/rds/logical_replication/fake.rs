// SPDX-License-Identifier: MPL-2.0

//! A scripted cluster in place of AWS. It shows accepted changes only after a lag, as RDS does, on tokio's clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Current, Group, LogicalReplication, Operation, PARAMETER, Patience, Probe, ProbeError, Record, ServerIdentity,
    ServerSettings, fetch,
};
use crate::rds::api::{
    ApplyMethod, ApplyType, BlueGreen, Cluster, Instance, Member, NewParameterGroup, PARAMETERS_PER_CALL, Parameter,
    ParameterGroup, ParameterSetting, RdsApi, Source,
};
use crate::rds::parameters::Parameters;
use crate::rds::wait::{Polling, Waiter};
use crate::rds::{Error, Kind, Result};

pub(super) const DEFAULT: &str = "default.aurora-postgresql16";
pub(super) const OWN: &str = "shop-logical-replication";

/// The time from a call until its effect shows.
#[derive(Clone, Copy)]
pub(super) struct Lags {
    pub(super) modifying: u64,
    pub(super) pending_reboot: u64,
    pub(super) away: u64,
    pub(super) back: u64,
    pub(super) in_sync: u64,
    /// The status while it is unavailable.
    pub(super) away_status: &'static str,
    /// How many reboots restore the old values.
    pub(super) reboots_in_vain: usize,
}

impl Default for Lags {
    fn default() -> Self {
        Self {
            modifying: 20,
            pending_reboot: 30,
            away: 5,
            back: 40,
            in_sync: 45,
            away_status: "rebooting",
            reboots_in_vain: 0,
        }
    }
}

type Event = Box<dyn FnOnce(&mut World) + Send>;

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) instances: Vec<Instance>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) is_logical: bool,
    pub(super) lags: Lags,
    /// Every call that changes something, as text.
    pub(super) log: Vec<String>,
    /// The errors of the next calls, by the beginning of their text.
    pub(super) failures: Vec<(&'static str, Error)>,
    events: Vec<(Instant, Event)>,
}

impl World {
    fn later(&mut self, seconds: u64, event: impl FnOnce(&mut World) + Send + 'static) {
        self.events.push((Instant::now() + Duration::from_secs(seconds), Box::new(event)));
    }

    fn catch_up(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.events.iter().position(|(due, _)| *due <= now) {
            let (_, event) = self.events.remove(at);
            event(self);
        }
    }

    fn mark(&mut self, instance: Option<&str>, status: &str) {
        let chosen = |member: &&mut Member| instance.is_none_or(|name| name == member.instance);
        self.cluster
            .members
            .iter_mut()
            .filter(chosen)
            .for_each(|member| status.clone_into(&mut member.parameter_group_status));
    }

    fn status(&mut self, instance: &str, status: &str) {
        if let Some(one) = self.instances.iter_mut().find(|one| one.identifier == instance) {
            status.clone_into(&mut one.status);
        }
    }

    fn pending_after_lag(&mut self) {
        self.later(self.lags.pending_reboot, |world| {
            world.mark(None, "pending-reboot");
        });
    }

    fn call(&mut self, text: String) -> Result<()> {
        self.catch_up();
        let failing = self.failures.iter().position(|(beginning, _)| text.starts_with(beginning));
        self.log.push(text);
        match failing {
            Some(at) => Err(self.failures.remove(at).1),
            None => Ok(()),
        }
    }
}

pub(super) struct Fake(Mutex<World>);

impl Fake {
    /// The available cluster `shop` on its default group, with the writer `shop-1` and that many readers.
    pub(super) fn new(readers: usize) -> Self {
        let names: Vec<String> = (1..=readers + 1).map(|n| format!("shop-{n}")).collect();
        let cluster = Cluster {
            identifier: "shop".to_owned(),
            status: "available".to_owned(),
            engine: "aurora-postgresql".to_owned(),
            engine_version: "16.4".to_owned(),
            engine_mode: Some("provisioned".to_owned()),
            parameter_group: DEFAULT.to_owned(),
            endpoint: Some("shop.cluster-x.us-east-2.rds.amazonaws.com".to_owned()),
            port: Some(5432),
            members: names.iter().enumerate().map(|(at, name)| member(name, at == 0)).collect(),
            ..Cluster::default()
        };
        let instances = names.into_iter().map(|identifier| Instance {
            identifier,
            status: "available".to_owned(),
            publicly_accessible: true,
            ..Instance::default()
        });
        Self(Mutex::new(World {
            cluster,
            instances: instances.collect(),
            groups: BTreeMap::from([(DEFAULT.to_owned(), group(DEFAULT))]),
            is_logical: false,
            lags: Lags::default(),
            log: Vec::new(),
            failures: Vec::new(),
            events: Vec::new(),
        }))
    }

    /// With that custom group attached.
    pub(super) fn with_group(self, name: &str) -> Self {
        self.world().groups.insert(name.to_owned(), group(name));
        name.clone_into(&mut self.world().cluster.parameter_group);
        self
    }

    pub(super) fn lags(self, lags: Lags) -> Self {
        self.world().lags = lags;
        self
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.0.lock().unwrap();
        world.catch_up();
        world
    }

    /// The calls so far that change something.
    pub(super) fn log(&self) -> Vec<String> {
        self.world().log.clone()
    }

    pub(super) fn fail(&self, call: &'static str, kind: Kind, code: &str) {
        let mut error = Error::new(kind, call, "no");
        error.code = Some(code.into());
        self.world().failures.push((call, error));
    }

    pub(super) fn operation<'a>(&'a self, probe: Option<&'a dyn Probe>, minutes: u64) -> Operation<'a, Fake> {
        let waiter = Waiter::new(Polling::default(), Duration::from_secs(60 * minutes), CancellationToken::new());
        Operation { api: self, probe, waiter, patience: Patience::default() }
    }

    fn group<T>(&self, name: &str, read: impl FnOnce(&Group) -> T) -> Result<T> {
        self.world().groups.get(name).map(read).ok_or_else(|| missing(name, "DBParameterGroupNotFound"))
    }
}

/// The writer that a [`Fake`] stands for.
impl Probe for Fake {
    fn settings(&self) -> futures_util::future::BoxFuture<'_, Result<ServerSettings, ProbeError>> {
        let world = self.world();
        let is_up = world.instances.iter().all(|instance| instance.status == "available");
        let (wal_level, rds) = if world.is_logical { ("logical", "on") } else { ("replica", "off") };
        let settings = ServerSettings {
            wal_level: wal_level.to_owned(),
            rds_logical_replication: Some(rds.to_owned()),
            server: ServerIdentity {
                instance: world.cluster.writer().map(|writer| writer.instance.clone()),
                ..ServerIdentity::default()
            },
            ..ServerSettings::default()
        };
        let refused = ProbeError { message: "connection refused".to_owned(), is_transient: true };
        Box::pin(std::future::ready(if is_up { Ok(settings) } else { Err(refused) }))
    }
}

fn member(name: &str, is_writer: bool) -> Member {
    Member { instance: name.to_owned(), is_writer, parameter_group_status: "in-sync".to_owned() }
}

/// The cluster's current state, without a record.
pub(super) async fn current(fake: &Fake, desired: &LogicalReplication) -> Current {
    fetch(fake, desired, &Record::default()).await.unwrap().unwrap()
}

pub(super) fn group(name: &str) -> Group {
    let arn = format!("arn:aws:rds:us-east-2:123456789012:cluster-pg:{name}");
    let (name, family) = (name.to_owned(), "aurora-postgresql16".to_owned());
    let group = ParameterGroup { name, family, description: String::new(), arn };
    Group { group, parameters: parameters(), tags: BTreeMap::new() }
}

fn parameters() -> Parameters {
    let parameter = |name: &str, value: &str, data_type: &str, allowed: &str, apply_type| Parameter {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source: Source::System,
        apply_type,
        data_type: data_type.to_owned(),
        allowed_values: Some(allowed.to_owned()),
        is_modifiable: true,
        description: String::new(),
    };
    let mut all = vec![
        parameter(PARAMETER, "0", "boolean", "0,1", ApplyType::Static),
        parameter("max_replication_slots", "20", "integer", "5-262143", ApplyType::Static),
        parameter("wal_sender_timeout", "30000", "integer", "0-3600000", ApplyType::Dynamic),
    ];
    let many = (0..45).map(|n| parameter(&format!("p{n:02}"), "0", "integer", "0-9", ApplyType::Dynamic));
    all.extend(many);
    all.into_iter().map(|parameter| (parameter.name.clone(), parameter)).collect()
}

fn missing(name: &str, code: &str) -> Error {
    let mut error = Error::new(Kind::NotFound, format!("reading \"{name}\""), "not found");
    error.code = Some(code.into());
    error
}

impl RdsApi for Fake {
    async fn cluster(&self, identifier: &str) -> Result<Cluster> {
        let world = self.world();
        let is_here = world.cluster.identifier == identifier;
        is_here.then(|| world.cluster.clone()).ok_or_else(|| missing(identifier, "DBClusterNotFoundFault"))
    }

    async fn cluster_instances(&self, _: &str) -> Result<Vec<Instance>> {
        Ok(self.world().instances.clone())
    }

    async fn instance(&self, identifier: &str) -> Result<Instance> {
        let world = self.world();
        let found = world.instances.iter().find(|instance| instance.identifier == identifier);
        found.cloned().ok_or_else(|| missing(identifier, "DBInstanceNotFound"))
    }

    async fn clusters_with_parameter_group(&self, _: &str) -> Result<Vec<String>> {
        Ok(vec!["shop".to_owned()])
    }

    async fn blue_green(&self, _: &str) -> Result<Option<BlueGreen>> {
        Ok(None)
    }

    async fn parameter_group(&self, name: &str) -> Result<ParameterGroup> {
        self.group(name, |group| group.group.clone())
    }

    async fn create_parameter_group(&self, new: &NewParameterGroup) -> Result<ParameterGroup> {
        let mut world = self.world();
        world.call(format!("create {}", new.name))?;
        let mut made = new.copy_of.as_ref().map_or_else(|| group(&new.name), |original| world.groups[original].clone());
        made.group.name.clone_from(&new.name);
        made.tags.clone_from(&new.tags);
        world.groups.insert(new.name.clone(), made.clone());
        Ok(made.group)
    }

    async fn parameters(&self, group: &str) -> Result<Vec<Parameter>> {
        self.group(group, |group| group.parameters.values().cloned().collect())
    }

    async fn modify_parameters(&self, group: &str, settings: &[ParameterSetting]) -> Result<()> {
        assert!(settings.len() <= PARAMETERS_PER_CALL);
        let mut world = self.world();
        world.call(format!("modify {group} ({})", settings.len()))?;
        if world.cluster.parameter_group == group
            && settings.iter().any(|setting| setting.apply_method == ApplyMethod::PendingReboot)
        {
            world.pending_after_lag();
        }
        let group = world.groups.get_mut(group).unwrap();
        for setting in settings {
            let parameter = group.parameters.get_mut(&setting.name).unwrap();
            parameter.value.clone_from(&setting.value);
            parameter.source = Source::User;
        }
        Ok(())
    }

    async fn reset_parameters(&self, group: &str, settings: &[ParameterSetting]) -> Result<()> {
        let mut world = self.world();
        world.call(format!("reset {group} ({})", settings.len()))?;
        let defaults = parameters();
        let group = world.groups.get_mut(group).unwrap();
        for setting in settings {
            group.parameters.insert(setting.name.clone(), defaults[&setting.name].clone());
        }
        Ok(())
    }

    async fn delete_parameter_group(&self, name: &str) -> Result<()> {
        let mut world = self.world();
        world.call(format!("delete {name}"))?;
        world.groups.remove(name).map(drop).ok_or_else(|| missing(name, "DBParameterGroupNotFound"))
    }

    async fn attach_parameter_group(&self, _: &str, group: &str) -> Result<()> {
        let mut world = self.world();
        world.call(format!("attach {group}"))?;
        if !world.groups.contains_key(group) {
            return Err(missing(group, "DBClusterParameterGroupNotFound"));
        }
        group.clone_into(&mut world.cluster.parameter_group);
        "modifying".clone_into(&mut world.cluster.status);
        let modifying = world.lags.modifying;
        world.later(modifying, |world| {
            "available".clone_into(&mut world.cluster.status);
        });
        world.pending_after_lag();
        Ok(())
    }

    async fn reboot_instance(&self, identifier: &str) -> Result<()> {
        let mut world = self.world();
        world.call(format!("reboot {identifier}"))?;
        let (lags, name) = (world.lags, identifier.to_owned());
        let in_vain = lags.reboots_in_vain > 0;
        world.lags.reboots_in_vain = lags.reboots_in_vain.saturating_sub(1);
        let away = name.clone();
        world.later(lags.away, move |world| {
            world.status(&away, lags.away_status);
        });
        let back = name.clone();
        world.later(lags.back, move |world| {
            world.status(&back, "available");
            let group = &world.groups[&world.cluster.parameter_group];
            let is_writer = world.cluster.writer().is_some_and(|writer| writer.instance == back);
            world.is_logical = if is_writer && !in_vain { group.is_logical() } else { world.is_logical };
        });
        world.later(lags.in_sync, move |world| {
            world.mark(Some(&name), "in-sync");
        });
        Ok(())
    }

    async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        let name = arn.rsplit(':').next().unwrap_or(arn);
        self.group(name, |group| group.tags.clone())
    }

    async fn add_tags(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        let mut world = self.world();
        let name = arn.rsplit(':').next().unwrap_or(arn).to_owned();
        world.call(format!("tag {name}"))?;
        world.groups.get_mut(&name).unwrap().tags.extend(tags.clone());
        Ok(())
    }

    async fn remove_tags(&self, arn: &str, keys: &[String]) -> Result<()> {
        let mut world = self.world();
        let name = arn.rsplit(':').next().unwrap_or(arn).to_owned();
        world.call(format!("untag {name}"))?;
        world.groups.get_mut(&name).unwrap().tags.retain(|key, _| !keys.contains(key));
        Ok(())
    }
}
