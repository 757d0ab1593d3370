// SPDX-License-Identifier: MPL-2.0

//! The current state of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::identity::answerer;
use super::{Answerer, LogicalReplication, PARAMETER, PREVIOUS_GROUP_TAG, Probe, ProbeError, Record, ServerSettings};
use crate::rds::api::{BlueGreen, Cluster, Instance, ParameterGroup, RdsApi};
use crate::rds::parameters::{Parameters, truth};
use crate::rds::{Kind, Result};

/// A parameter group with its contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The group.
    pub group: ParameterGroup,
    /// Its parameters.
    pub parameters: Parameters,
    /// Its tags; not read for AWS's own groups.
    pub tags: BTreeMap<String, String>,
}

impl Group {
    /// Whether the provider created it for that cluster or instance.
    #[must_use]
    pub fn is_made_for(&self, cluster: &Cluster) -> bool {
        self.tags.get(cluster.deployment.tag()).is_some_and(|made_for| *made_for == cluster.identifier)
    }

    /// The group that the cluster had before, from the tag.
    #[must_use]
    pub fn previous_group(&self) -> Option<&String> {
        self.tags.get(PREVIOUS_GROUP_TAG)
    }

    /// Whether it enables logical decoding.
    #[must_use]
    pub fn is_logical(&self) -> bool {
        let parameter = self.parameters.get(PARAMETER).and_then(|parameter| parameter.value.as_deref());
        parameter.and_then(truth) == Some(true)
    }
}

/// A cluster with its instances, its parameter group and the one that it should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// The cluster.
    pub cluster: Cluster,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// The attached parameter group.
    pub attached: Group,
    /// The name of the parameter group that should be attached.
    pub target_name: String,
    /// That group, if it exists; the same as `attached` if it is attached.
    pub target: Option<Group>,
    /// The existing groups that were edited in place before the target replaced them.
    pub left: Vec<Group>,
    /// The groups from before an upgrade to another family: the cluster cannot use them any more.
    pub outgrown: Vec<Group>,
    /// The previous group, which a destroy restores, if it is a custom one that still exists.
    pub previous: Option<ParameterGroup>,
    /// The other users of groups that the provider created and that the target has replaced: these cannot be deleted
    /// yet.
    pub still_used: BTreeMap<String, Vec<String>>,
    /// The other clusters with the target group. `None` if the policy does not allow listing clusters.
    pub sharing: Option<Vec<String>>,
    /// The blue/green deployment that the cluster is a side of, if it was read.
    pub blue_green: Option<BlueGreen>,
    /// The settings that the writer reports over SQL, if it was asked and the writer itself answered.
    pub settings: Option<ServerSettings>,
    /// The server that answered, if it was asked.
    pub answerer: Option<Answerer>,
    /// The start time of a server that answered but was not identified.
    pub unknown_start: Option<i64>,
}

impl Current {
    /// The parameter group family, as in `aurora-postgresql16`.
    #[must_use]
    pub fn family(&self) -> &str {
        &self.attached.group.family
    }

    /// The identifier of the writer instance.
    #[must_use]
    pub fn writer(&self) -> Option<&str> {
        self.cluster.writer().map(|writer| writer.instance.as_str())
    }

    /// Records a server's settings, if it was the writer.
    pub(super) fn hear(&mut self, settings: ServerSettings, answerer: Answerer) {
        self.unknown_start = settings.started_at.filter(|_| answerer == Answerer::Unknown);
        self.settings = (answerer == Answerer::Writer).then_some(settings);
        self.answerer = Some(answerer);
    }

    /// Why the server's answer does not count; none if it counts, or if it was not asked.
    #[must_use]
    pub fn objection(&self) -> Option<String> {
        self.answerer.as_ref()?.objection(&self.cluster)
    }

    /// The server's start time, which a reboot of the writer must change, if only that can identify it.
    pub(super) fn telling_start(&self, record: &Record) -> Option<i64> {
        let known = self.settings.as_ref().and_then(|settings| settings.started_at);
        known.filter(|start| record.proven_start == Some(*start)).or(self.unknown_start)
    }

    /// Whether the family of the group with that name fits the cluster.
    #[must_use]
    pub fn fits(&self, group: &str) -> bool {
        match &self.previous {
            Some(previous) if previous.name == group => previous.family == self.family(),
            _ => group.strip_prefix("default.").is_none_or(|family| family == self.family()),
        }
    }

    /// Whether the target group is attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.cluster.parameter_group == self.target_name
    }

    /// Whether the writer does not run with its group's values yet: by its status, or by its own answer.
    #[must_use]
    pub fn is_reboot_pending(&self) -> bool {
        let by_status = self.cluster.writer().is_some_and(|writer| !writer.is_in_sync());
        let by_itself = self.settings.as_ref().is_some_and(|settings| !settings.is_logical());
        by_status || (by_itself && self.attached.is_logical())
    }

    /// The values of the named parameters, in the user's spelling if it means the same. Omits parameters without a
    /// value.
    #[must_use]
    pub fn parameter_values(&self, named: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let parameters = &self.attached.parameters;
        let known = named.iter().filter_map(|(name, value)| Some((name, value, parameters.get(name)?)));
        known
            .filter_map(|(name, value, parameter)| {
                let actual = parameter.value.as_deref();
                let same = crate::rds::parameters::same_value(parameter, actual, Some(value));
                Some((name.clone(), if same { value.clone() } else { actual?.to_owned() }))
            })
            .collect()
    }
}

/// Reads a cluster; none if it does not exist. Does not set `settings`, which the caller reads by SQL, and
/// `blue_green`, which only a plan shows: see [`blue_green`].
pub async fn fetch<A: RdsApi>(api: &A, desired: &LogicalReplication, record: &Record) -> Result<Option<Current>> {
    let Some(cluster) = found(api.cluster(&desired.cluster).await)? else {
        return Ok(None);
    };
    // The group of a cluster's member does not matter here.
    if cluster.member_of.is_some() {
        return Ok(Some(Current { cluster, ..Current::default() }));
    }
    let instances = api.cluster_instances(&cluster.identifier).await?;
    let attached = group_with_content(api, &cluster.parameter_group).await?;
    let (target_name, target) = target(api, desired, record, &attached).await?;
    let sharing = match &target {
        Some(target) if !target.group.is_default() => sharing(api, &target.group.name, &cluster.identifier).await?,
        _ => Some(Vec::new()),
    };
    // On the heap, this large future does not make every future around it large.
    let left = Box::pin(left_groups(api, &target_name, record)).await?;
    let outgrown = Box::pin(outgrown(api, desired, record, &target_name, &attached.group.family)).await?;
    let previous = record.previous_group.as_ref().or(target.as_ref().and_then(Group::previous_group));
    let previous = match previous.filter(|previous| !previous.starts_with("default.")) {
        Some(previous) => found(api.parameter_group(previous).await)?,
        None => None,
    };
    let current = Current {
        cluster,
        instances,
        attached,
        target_name,
        target,
        left,
        outgrown,
        previous,
        sharing,
        ..Current::default()
    };
    let still_used = Box::pin(still_used(api, &current, record)).await?;
    Ok(Some(Current { still_used, ..current }))
}

/// The target group, if it exists: the first that is not of another family, or the last.
async fn target<A: RdsApi>(
    api: &A,
    desired: &LogicalReplication,
    record: &Record,
    attached: &Group,
) -> Result<(String, Option<Group>)> {
    let mut chosen = (attached.group.name.clone(), Some(attached.clone()));
    for name in desired.target_names(&attached.group, record) {
        let group = match name == attached.group.name {
            true => Some(attached.clone()),
            false => found(group_with_content(api, &name).await)?,
        };
        let fits = group.as_ref().is_none_or(|group| group.group.family == attached.group.family);
        chosen = (name, group);
        if fits {
            break;
        }
    }
    Ok(chosen)
}

/// The groups from before an upgrade: the one used so far, and one of our own name that the record may not have.
async fn outgrown<A: RdsApi>(
    api: &A,
    desired: &LogicalReplication,
    record: &Record,
    target_name: &str,
    family: &str,
) -> Result<Vec<Group>> {
    let own = desired.own_name();
    let own = target_name.starts_with(&format!("{own}-")).then_some(own);
    let names: BTreeSet<String> = record.group.clone().into_iter().chain(own).collect();
    let mut groups = Vec::new();
    for name in names.iter().filter(|name| desired.manage_parameter_group && *name != target_name) {
        let group = found(group_with_content(api, name).await)?;
        groups.extend(group.filter(|group| group.group.family != family));
    }
    Ok(groups)
}

/// An upgrade by a copy of the cluster, as in a blue/green deployment, leaves the old cluster behind, which still has
/// the group.
async fn still_used<A: RdsApi>(api: &A, current: &Current, record: &Record) -> Result<BTreeMap<String, Vec<String>>> {
    let mut used = BTreeMap::new();
    for group in record.obsolete_groups(current) {
        let others = sharing(api, &group, &current.cluster.identifier).await?.unwrap_or_default();
        if !others.is_empty() {
            used.insert(group, others);
        }
    }
    Ok(used)
}

/// Reads the server's settings, and whether it is the writer.
///
/// # Errors
/// When it does not answer.
pub async fn ask(probe: &dyn Probe, current: &mut Current, record: &Record) -> Result<(), ProbeError> {
    let settings = probe.settings().await?;
    let answerer = answerer(probe, &settings, &current.cluster, &current.instances, record).await;
    current.hear(settings, answerer);
    Ok(())
}

/// The blue/green deployment that the cluster is a side of. It is only worth a warning, so a missing answer, for
/// example because the policy forbids the call, counts as none.
pub async fn blue_green<A: RdsApi>(api: &A, cluster: &Cluster) -> Option<BlueGreen> {
    match api.blue_green(&cluster.arn).await {
        Ok(found) => found,
        Err(error) => {
            tracing::info!(%error, "whether there is a blue/green deployment is not known");
            None
        }
    }
}

async fn left_groups<A: RdsApi>(api: &A, target_name: &str, record: &Record) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for name in record.left_groups(target_name) {
        groups.extend(found(group_with_content(api, name).await)?);
    }
    Ok(groups)
}

async fn group_with_content<A: RdsApi>(api: &A, name: &str) -> Result<Group> {
    let group = api.parameter_group(name).await?;
    let parameters = api.parameters(name).await?;
    let tags = match group.is_default() || group.arn.is_empty() {
        true => BTreeMap::new(),
        false => api.tags(&group.arn).await?,
    };
    let parameters = parameters.into_iter().map(|parameter| (parameter.name.clone(), parameter)).collect();
    Ok(Group { group, parameters, tags })
}

/// Other users of the group are only worth a warning, so a policy that forbids the call is not an error.
async fn sharing<A: RdsApi>(api: &A, group: &str, cluster: &str) -> Result<Option<Vec<String>>> {
    match api.clusters_with_parameter_group(group).await {
        Ok(clusters) => Ok(Some(clusters.into_iter().filter(|other| other != cluster).collect())),
        Err(error) if error.kind == Kind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Turns "not found" into none.
pub(super) fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
