//! What a cluster is at this moment.

use std::collections::BTreeMap;

use super::{LogicalReplication, PARAMETER, PREVIOUS_GROUP_TAG, Record, ServerSettings};
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
    /// The other clusters with the target group. `None` where the policy does not allow to list clusters.
    pub sharing: Option<Vec<String>>,
    /// The blue/green deployment that the cluster is a side of, if that was asked for and answered.
    pub blue_green: Option<BlueGreen>,
    /// What the writer says over SQL, if it was asked and answered.
    pub settings: Option<ServerSettings>,
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
    let target_name = desired.target_name(&attached.group, record);
    let target = match target_name == attached.group.name {
        true => Some(attached.clone()),
        false => found(group_with_content(api, &target_name).await)?,
    };
    let sharing = match &target {
        Some(target) if !target.group.is_default() => sharing(api, target, &cluster.identifier).await?,
        _ => Some(Vec::new()),
    };
    let left = left_groups(api, &target_name, record).await?;
    Ok(Some(Current {
        cluster,
        instances,
        attached,
        target_name,
        target,
        left,
        sharing,
        blue_green: None,
        settings: None,
    }))
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
async fn sharing<A: RdsApi>(api: &A, group: &Group, cluster: &str) -> Result<Option<Vec<String>>> {
    match api.clusters_with_parameter_group(&group.group.name).await {
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
