// SPDX-License-Identifier: MPL-2.0

//! Clusters and their instances: their description, and their changes over time.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::form::Form;
use super::server::{Answer, Fault};
use super::state::{BlueGreen, Cluster, Instance, State};
use super::xml::{Element, list, node, text};
use super::{REGION, Shared, parameters};
use crate::common::postgres::Settings;

/// One page of the records: those after `Marker`, and the next marker if there are more.
pub(super) fn page<'a, T>(all: &'a [T], form: &Form, size: usize) -> (&'a [T], Option<Element>) {
    let asked = form.get("MaxRecords").and_then(|records| records.parse().ok()).unwrap_or(size);
    let start = form.get("Marker").and_then(|marker| marker.parse().ok()).unwrap_or(0).min(all.len());
    let end = (start + asked.min(size).max(1)).min(all.len());
    (&all[start..end], (end < all.len()).then(|| text("Marker", end)))
}

fn no_cluster(name: &str) -> Fault {
    Fault::new(404, "DBClusterNotFoundFault", format!("DBCluster {name} not found."))
}

fn no_instance(name: &str) -> Fault {
    Fault::new(404, "DBInstanceNotFound", format!("DBInstance {name} not found."))
}

pub(super) fn describe_clusters(shared: &Shared, form: &Form) -> Answer {
    let mut state = shared.state();
    if let Some(name) = form.get("DBClusterIdentifier") {
        let named = state.cluster(name).filter(|cluster| !cluster.is_instance);
        let at = named.map(|cluster| cluster.identifier.clone()).ok_or_else(|| no_cluster(name))?;
        let cluster = state.clusters.iter().find(|cluster| cluster.identifier == at).ok_or_else(|| no_cluster(name))?;
        return Ok(vec![node("DBClusters", vec![describe_cluster(&state, cluster)])]);
    }
    let engines = form.filter("engine");
    let is_asked = |cluster: &&Cluster| {
        !cluster.is_instance && engines.as_ref().is_none_or(|engines| engines.contains(&cluster.engine))
    };
    let clusters: Vec<&Cluster> = state.clusters.iter().filter(is_asked).collect();
    let (clusters, marker) = page(&clusters, form, shared.page_size);
    Ok(vec![list("DBClusters", clusters, |cluster| describe_cluster(&state, cluster))]
        .into_iter()
        .chain(marker)
        .collect())
}

/// The endpoint is the writer's own address, so that it works: a name with the cluster in it would not resolve.
fn describe_cluster(state: &State, cluster: &Cluster) -> Element {
    let members = state.instances.iter().filter(|instance| cluster.instances.contains(&instance.identifier));
    let writer = state.instances.iter().find(|instance| instance.identifier == cluster.writer);
    let (host, port) = writer.map(|writer| writer.address.clone()).unwrap_or_default();
    let name = &cluster.identifier;
    let pending = cluster.has_pending_values.then(|| text("BackupRetentionPeriod", 7));
    let pending = pending.into_iter().collect();
    let optional = [
        ("GlobalClusterIdentifier", &cluster.global_cluster),
        ("ReplicationSourceIdentifier", &cluster.replication_source),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some(text(name, value.as_ref()?)));
    let mut fields = vec![
        text("DBClusterIdentifier", name),
        text("DBClusterParameterGroup", &cluster.group),
        text("Status", &cluster.status),
        text("Endpoint", host),
        text("ReaderEndpoint", format!("{name}.cluster-ro-hytu3sso0o51.{REGION}.rds.amazonaws.com")),
        text("Engine", &cluster.engine),
        text("EngineVersion", &cluster.engine_version),
        text("Port", port),
        text("MasterUsername", "postgres"),
        list("DBClusterMembers", members, |instance| describe_member(cluster, instance)),
        text("DBClusterArn", arn_of_cluster(name)),
        text("EngineMode", &cluster.engine_mode),
        node("PendingModifiedValues", pending),
    ];
    fields.extend(optional);
    node("DBCluster", fields)
}

pub(super) fn arn_of_cluster(name: &str) -> String {
    format!("arn:aws:rds:{REGION}:123456789012:cluster:{name}")
}

pub(super) fn arn_of_instance(name: &str) -> String {
    format!("arn:aws:rds:{REGION}:123456789012:db:{name}")
}

pub(super) fn describe_blue_green(shared: &Shared, form: &Form) -> Answer {
    let state = shared.state();
    let (deployments, marker) = page(&state.blue_green, form, shared.page_size);
    let describe = |deployment: &BlueGreen| {
        node(
            "member",
            vec![
                text("BlueGreenDeploymentIdentifier", format!("bgd-{}", deployment.name)),
                text("BlueGreenDeploymentName", &deployment.name),
                text("Source", &deployment.source),
                text("Target", &deployment.target),
                text("Status", &deployment.status),
            ],
        )
    };
    Ok(vec![list("BlueGreenDeployments", deployments, describe)].into_iter().chain(marker).collect())
}

fn describe_member(cluster: &Cluster, instance: &Instance) -> Element {
    node(
        "DBClusterMember",
        vec![
            text("DBInstanceIdentifier", &instance.identifier),
            text("IsClusterWriter", instance.identifier == cluster.writer),
            text("DBClusterParameterGroupStatus", &instance.group_status),
            text("PromotionTier", 1),
        ],
    )
}

pub(super) fn describe_instances(shared: &Shared, form: &Form) -> Answer {
    let mut state = shared.state();
    if let Some(name) = form.get("DBInstanceIdentifier") {
        let identifier = state.instance(name).ok_or_else(|| no_instance(name))?.identifier.clone();
        let one: Vec<Element> = described(&state, |instance| instance.identifier == identifier).collect();
        return Ok(vec![node("DBInstances", one)]);
    }
    let (clusters, engines) = (form.filter("db-cluster-id"), form.filter("engine"));
    let of = |instance: &Instance| state.clusters.iter().find(|one| one.identifier == instance.cluster);
    let is_asked = |instance: &Instance| {
        let cluster = of(instance);
        let is_in =
            |names: &Vec<String>| cluster.is_some_and(|one| !one.is_instance && names.contains(&one.identifier));
        let has = |names: &Vec<String>| cluster.is_some_and(|one| names.contains(&one.engine));
        clusters.as_ref().is_none_or(is_in) && engines.as_ref().is_none_or(has)
    };
    let instances: Vec<&Instance> = state.instances.iter().filter(|instance| is_asked(instance)).collect();
    let (instances, marker) = page(&instances, form, shared.page_size);
    let names: Vec<&String> = instances.iter().map(|instance| &instance.identifier).collect();
    let instances = described(&state, |instance| names.contains(&&instance.identifier)).collect();
    Ok(vec![node("DBInstances", instances)].into_iter().chain(marker).collect())
}

fn described<'a>(state: &'a State, is_asked: impl Fn(&Instance) -> bool + 'a) -> impl Iterator<Item = Element> + 'a {
    let asked = state.instances.iter().filter(move |instance| is_asked(instance));
    asked.map(|instance| {
        let cluster = state.clusters.iter().find(|cluster| cluster.identifier == instance.cluster);
        describe_instance(instance, cluster)
    })
}

/// A single DB instance has a parameter group and a status that a member of a cluster does not have.
fn describe_instance(instance: &Instance, cluster: Option<&Cluster>) -> Element {
    let (host, port) = &instance.address;
    let alone = cluster.filter(|cluster| cluster.is_instance);
    let status = alone.map(|alone| &alone.status).filter(|status| *status != "available").unwrap_or(&instance.status);
    let mut fields = vec![
        text("DBInstanceIdentifier", &instance.identifier),
        text("DBInstanceClass", "db.r6g.large"),
        text("Engine", cluster.map_or("aurora-postgresql", |cluster| &cluster.engine)),
        text("DBInstanceStatus", status),
        node("Endpoint", vec![text("Address", host), text("Port", port)]),
        text("PubliclyAccessible", instance.publicly_accessible),
        text("DBInstanceArn", arn_of_instance(&instance.identifier)),
    ];
    fields.extend(cluster.map(|cluster| text("EngineVersion", &cluster.engine_version)));
    let Some(alone) = alone else {
        fields.push(text("DBClusterIdentifier", &instance.cluster));
        return node("DBInstance", fields);
    };
    let group = vec![text("DBParameterGroupName", &alone.group), text("ParameterApplyStatus", &instance.group_status)];
    fields.push(node("DBParameterGroups", vec![node("DBParameterGroup", group)]));
    fields.push(text("MultiAZ", alone.is_multi_az));
    fields
        .extend(alone.replication_source.as_ref().map(|source| text("ReadReplicaSourceDBInstanceIdentifier", source)));
    node("DBInstance", fields)
}

pub(super) fn describe_engine_versions(form: &Form) -> Answer {
    let engine = form.get("Engine").unwrap_or("aurora-postgresql");
    let version = form.get("EngineVersion").unwrap_or("16.4");
    let fields = vec![
        text("Engine", engine),
        text("EngineVersion", version),
        text("DBParameterGroupFamily", parameters::family(engine, version)),
        text("Status", "available"),
    ];
    Ok(vec![node("DBEngineVersions", vec![node("DBEngineVersion", fields)])])
}

pub(super) fn modify_cluster(shared: &Arc<Shared>, form: &Form) -> Answer {
    let name = form.get("DBClusterIdentifier").unwrap_or_default();
    let mut state = shared.state();
    let cluster = state.cluster(name).ok_or_else(|| no_cluster(name))?;
    if cluster.status != "available" {
        let status = &cluster.status;
        let what = format!("Db Cluster {name} is not available for modification with status {status}");
        return Err(Fault::invalid("InvalidDBClusterStateFault", what));
    }
    let identifier = cluster.identifier.clone();
    if let Some(group) = form.identifier("DBClusterParameterGroupName") {
        attach(shared, &mut state, &identifier, &group)?;
    }
    let cluster =
        state.clusters.iter().find(|cluster| cluster.identifier == identifier).ok_or_else(|| no_cluster(name))?;
    Ok(vec![describe_cluster(&state, cluster)])
}

pub(super) fn modify_instance(shared: &Arc<Shared>, form: &Form) -> Answer {
    let name = form.identifier("DBInstanceIdentifier").unwrap_or_default();
    let mut state = shared.state();
    let instance = state.cluster(&name).filter(|one| one.is_instance).ok_or_else(|| no_instance(&name))?;
    if instance.status != "available" {
        let what = format!("Database instance is not in available state: {}", instance.status);
        return Err(Fault::invalid("InvalidDBInstanceState", what));
    }
    if let Some(group) = form.identifier("DBParameterGroupName") {
        attach(shared, &mut state, &name, &group)?;
    }
    Ok(described(&state, |one| one.identifier == name).collect())
}

fn attach(shared: &Arc<Shared>, state: &mut State, name: &str, group: &str) -> Result<(), Fault> {
    let is_instance = state.cluster(name).ok_or_else(|| no_cluster(name))?.is_instance;
    let code = if is_instance { "DBParameterGroupNotFound" } else { "DBClusterParameterGroupNotFound" };
    let missing = || Fault::new(404, code, format!("parameter group not found: {group}"));
    let found = state.groups.get(group).filter(|group| group.is_of_clusters() != is_instance);
    let family = found.ok_or_else(missing)?.family.clone();
    let cluster = state.cluster(name).ok_or_else(|| no_cluster(name))?;
    if family != cluster.family {
        let what = format!(
            "The Parameter Group {group} with DBParameterGroupFamily {family} cannot be used for this instance. \
             Please use a Parameter Group with DBParameterGroupFamily {}",
            cluster.family
        );
        return Err(Fault::invalid("InvalidParameterCombination", what));
    }
    let before = std::mem::replace(&mut cluster.group, group.to_owned());
    if before == group {
        return Ok(());
    }
    cluster.status = "modifying".to_owned();
    state.lingering.push((before, Instant::now() + shared.delays.detach));
    let (later, cluster) = (Arc::clone(shared), name.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(later.delays.modifying / 2).await;
        if let Some(cluster) = later.state().cluster(&cluster) {
            cluster.has_pending_values = true;
            if cluster.status == "modifying" {
                cluster.status = "available".to_owned();
            }
        }
        tokio::time::sleep(later.delays.modifying / 2).await;
        if let Some(cluster) = later.state().cluster(&cluster) {
            cluster.has_pending_values = false;
        }
    });
    if is_instance && let Some(instance) = state.instance(name) {
        instance.group_status = "applying".to_owned();
    }
    notice_group(shared, state, group, true);
    Ok(())
}

/// After a delay, every instance that has the group by then notices its values.
pub(super) fn notice_group(shared: &Arc<Shared>, state: &State, group: &str, is_static: bool) {
    let (later, group, members) = (Arc::clone(shared), group.to_owned(), members_with(state, group));
    tokio::spawn(async move {
        tokio::time::sleep(later.delays.notice).await;
        notice(&later, &group, &members, is_static);
    });
}

/// The same at once.
pub(super) fn take_notice(shared: &Shared, group: &str) {
    let members = members_with(&shared.state(), group);
    notice(shared, group, &members, true);
}

fn members_with(state: &State, group: &str) -> Vec<String> {
    let with_it = state.clusters.iter().filter(|cluster| cluster.group == group);
    with_it.flat_map(|cluster| cluster.instances.clone()).collect()
}

/// Dynamic values take effect, static ones wait for a reboot.
fn notice(shared: &Shared, group: &str, members: &[String], is_static: bool) {
    let mut state = shared.state();
    let Some(values) = state.groups.get(group).map(|group| group.values.clone()) else {
        return;
    };
    let settings = parameters::server_settings(&values);
    let still = members_with(&state, group);
    for name in members.iter().filter(|name| still.contains(name)) {
        let Some(instance) = state.instance(name) else {
            continue;
        };
        instance.settings = settings.clone();
        if is_static {
            instance.group_status = "pending-reboot".to_owned();
        }
        let (engine, dynamic) = (Arc::clone(&instance.engine), dynamic(&settings));
        tokio::task::spawn_blocking(move || {
            engine.lock().unwrap_or_else(PoisonError::into_inner).reload(&dynamic);
        });
    }
}

fn dynamic(settings: &Settings) -> Settings {
    let is_dynamic = |name: &str| parameters::named(name).is_some_and(|parameter| !parameter.is_static());
    let dynamic = settings.iter().filter(|(name, _)| is_dynamic(name) && !name.starts_with("rds."));
    dynamic.map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn reboot_instance(shared: &Arc<Shared>, form: &Form) -> Answer {
    let name = form.get("DBInstanceIdentifier").unwrap_or_default();
    let mut state = shared.state();
    let in_vain = state.reboots_in_vain > 0;
    let instance = state.instance(name).ok_or_else(|| no_instance(name))?;
    if instance.status != "available" || instance.is_rebooting {
        let what = "Instance cannot currently reboot due to an in-progress management operation";
        return Err(Fault::invalid("InvalidDBInstanceState", what));
    }
    instance.is_rebooting = true;
    let name = instance.identifier.clone();
    let answer = described(&state, |one| one.identifier == name).collect();
    state.reboots_in_vain = state.reboots_in_vain.saturating_sub(1);
    for along in restarted_along(&state, &name) {
        tokio::spawn(reboot(Arc::clone(shared), along, in_vain));
    }
    tokio::spawn(reboot(Arc::clone(shared), name, in_vain));
    Ok(answer)
}

/// The readers that restart with their writer, if the cluster's version does so.
fn restarted_along(state: &State, name: &str) -> Vec<String> {
    let cluster = state.clusters.iter().find(|cluster| cluster.restarts_readers && cluster.writer == name);
    let readers = cluster.into_iter().flat_map(|cluster| &cluster.instances);
    readers.filter(|reader| *reader != name).cloned().collect()
}

async fn reboot(shared: Arc<Shared>, name: String, is_in_vain: bool) {
    tokio::time::sleep(shared.delays.before_rebooting).await;
    let Some((engine, settings)) = begin_reboot(&shared, &name) else {
        return;
    };
    let started_with = settings.clone();
    let settings = if is_in_vain { Settings::new() } else { settings };
    let restarted = tokio::task::spawn_blocking(move || {
        engine.lock().unwrap_or_else(PoisonError::into_inner).restart(&settings);
    });
    let (restarted, ()) = tokio::join!(restarted, tokio::time::sleep(shared.delays.rebooting));
    end_reboot(&shared, &name, restarted.is_ok(), (!is_in_vain).then(|| started_with.clone()));
    tokio::time::sleep(shared.delays.in_sync).await;
    let is_same = |instance: &&mut Instance| instance.settings == started_with && !is_in_vain;
    if let Some(instance) = shared.state().instance(&name).filter(is_same) {
        instance.group_status = "in-sync".to_owned();
    }
}

fn end_reboot(shared: &Shared, name: &str, is_up: bool, started_with: Option<Settings>) {
    let mut state = shared.state();
    let status = state.reboots_end_as.clone().filter(|_| is_up);
    if let Some(instance) = state.instance(name) {
        instance.status = status.unwrap_or_else(|| if is_up { "available" } else { "failed" }.to_owned());
        instance.is_rebooting = false;
        instance.starts += 1;
        instance.running = started_with.unwrap_or_else(|| instance.running.clone());
    }
}

type EngineOf = Arc<std::sync::Mutex<Box<dyn super::Engine>>>;

fn begin_reboot(shared: &Shared, name: &str) -> Option<(EngineOf, Settings)> {
    let mut state = shared.state();
    let instance = state.instance(name)?;
    instance.status = "rebooting".to_owned();
    Some((Arc::clone(&instance.engine), instance.settings.clone()))
}
