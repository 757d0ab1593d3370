// SPDX-License-Identifier: MPL-2.0

//! What a cluster is at this moment.

use std::collections::{BTreeMap, BTreeSet};

use super::identity::answerer;
use super::{Answerer, LogicalReplication, PARAMETER, PREVIOUS_GROUP_TAG, Probe, ProbeError, Record, ServerSettings};
use crate::rds::api::{BlueGreen, Cluster, Instance, ParameterGroup, RdsApi};
use crate::rds::parameters::{Parameters, truth};
use crate::rds::{Kind, Result};

/// A parameter group with all that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// The group.
    pub group: ParameterGroup,
    /// Its parameters.
    pub parameters: Parameters,
    /// Its tags. AWS's own groups are not asked for any.
    pub tags: BTreeMap<String, String>,
}

impl Group {
    /// Whether it was made here, for that cluster or instance.
    #[must_use]
    pub fn is_made_for(&self, cluster: &Cluster) -> bool {
        self.tags.get(cluster.deployment.tag()).is_some_and(|made_for| *made_for == cluster.identifier)
    }

    /// The group that the cluster had before this one was made, as its tag says.
    #[must_use]
    pub fn previous_group(&self) -> Option<&String> {
        self.tags.get(PREVIOUS_GROUP_TAG)
    }

    /// Whether it turns logical decoding on.
    #[must_use]
    pub fn is_logical(&self) -> bool {
        let parameter = self.parameters.get(PARAMETER).and_then(|parameter| parameter.value.as_deref());
        parameter.and_then(truth) == Some(true)
    }
}

/// A cluster with its instances, its parameter group and the one that it is to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Current {
    /// The cluster.
    pub cluster: Cluster,
    /// Its instances.
    pub instances: Vec<Instance>,
    /// The parameter group that is attached.
    pub attached: Group,
    /// The name of the parameter group that is to be attached.
    pub target_name: String,
    /// That group, if it exists; the same as `attached` where it is attached.
    pub target: Option<Group>,
    /// The groups that were edited in place before the target took their place, as far as they still exist.
    pub left: Vec<Group>,
    /// The groups that were used until the cluster was upgraded to another family: it cannot have them any more.
    pub outgrown: Vec<Group>,
    /// The group from before that a destroy gives back, if it is a custom one that still exists.
    pub previous: Option<ParameterGroup>,
    /// Who else has a group that was made here and that the target has taken the place of: it cannot be deleted yet.
    pub still_used: BTreeMap<String, Vec<String>>,
    /// The other clusters with the target group. `None` where the policy does not allow to list clusters.
    pub sharing: Option<Vec<String>>,
    /// The blue/green deployment that the cluster is a side of, if that was asked for and answered.
    pub blue_green: Option<BlueGreen>,
    /// What the writer says over SQL, if it was asked and answered, and it was the writer that did.
    pub settings: Option<ServerSettings>,
    /// Who answered, if anybody was asked.
    pub answerer: Option<Answerer>,
    /// When a server was started that answered and is not known.
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

    /// Takes over what a server said, if that was the writer.
    pub(super) fn hear(&mut self, settings: ServerSettings, answerer: Answerer) {
        self.unknown_start = settings.started_at.filter(|_| answerer == Answerer::Unknown);
        self.settings = (answerer == Answerer::Writer).then_some(settings);
        self.answerer = Some(answerer);
    }

    /// Why what the server said counts for nothing; nothing where it counts, or was not asked.
    #[must_use]
    pub fn objection(&self) -> Option<String> {
        self.answerer.as_ref()?.objection(&self.cluster)
    }

    /// The start of the server that a reboot of the writer must change, where nothing but that tells who it is.
    pub(super) fn telling_start(&self, record: &Record) -> Option<i64> {
        let known = self.settings.as_ref().and_then(|settings| settings.started_at);
        known.filter(|start| record.proven_start == Some(*start)).or(self.unknown_start)
    }

    /// Whether the cluster can have a group of that name, as far as its family goes.
    #[must_use]
    pub fn fits(&self, group: &str) -> bool {
        match &self.previous {
            Some(previous) if previous.name == group => previous.family == self.family(),
            _ => group.strip_prefix("default.").is_none_or(|family| family == self.family()),
        }
    }

    /// Whether the group that is to be attached is.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.cluster.parameter_group == self.target_name
    }

    /// Whether the writer does not run yet what its group says: its status says so, or it says so itself.
    #[must_use]
    pub fn is_reboot_pending(&self) -> bool {
        let by_status = self.cluster.writer().is_some_and(|writer| !writer.is_in_sync());
        let by_itself = self.settings.as_ref().is_some_and(|settings| !settings.is_logical());
        by_status || (by_itself && self.attached.is_logical())
    }

    /// The values that the named parameters have, in the user's spelling where it means the same. A parameter without a
    /// value is left out.
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

/// Reads a cluster; nothing if it does not exist. `settings` are not filled in: they are SQL, which the caller speaks. Nor
/// is `blue_green`, which only a plan shows: see [`blue_green`].
pub async fn fetch<A: RdsApi>(api: &A, desired: &LogicalReplication, record: &Record) -> Result<Option<Current>> {
    let Some(cluster) = found(api.cluster(&desired.cluster).await)? else {
        return Ok(None);
    };
    // The group of a cluster's member is none that this is about.
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
    // On the heap, what asks for several groups does not make every future around it large.
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

/// The group that is to be attached, if it exists: the first that is not of another family, or the last.
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

/// The groups of before an upgrade: the one used so far, and one of our own name that the record may not know of.
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

/// A cluster that was upgraded by way of a copy, as in a blue/green deployment, leaves one behind that still has the group.
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

/// Asks the server, and whether it is the writer.
///
/// # Errors
/// When it does not answer.
pub async fn ask(probe: &dyn Probe, current: &mut Current, record: &Record) -> Result<(), ProbeError> {
    let settings = probe.settings().await?;
    let answerer = answerer(probe, &settings, &current.cluster, &current.instances, record).await;
    current.hear(settings, answerer);
    Ok(())
}

/// The blue/green deployment that the cluster is a side of. It is only worth a warning, so an answer that does not come,
/// as where the policy forbids the question, is none.
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

/// Who else has the group is only worth a warning, so a policy that forbids the question is no failure.
async fn sharing<A: RdsApi>(api: &A, group: &str, cluster: &str) -> Result<Option<Vec<String>>> {
    match api.clusters_with_parameter_group(group).await {
        Ok(clusters) => Ok(Some(clusters.into_iter().filter(|other| other != cluster).collect())),
        Err(error) if error.kind == Kind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Turns "not found" into nothing.
pub(super) fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
