// SPDX-License-Identifier: MPL-2.0

//! The few used calls of the RDS API, with plain types of our own.
//!
//! [`RdsApi`] is the only place where unit tests replace AWS. Names follow the API (version 2014-10-31).

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;

use serde::{Deserialize, Serialize};

use super::Result;

/// The most parameters that one modify or reset call takes ("A maximum of 20 parameters can be modified").
pub const PARAMETERS_PER_CALL: usize = 20;

/// What a parameter group is attached to. `Display` prints AWS's name for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Deployment {
    /// An Aurora DB cluster, with a cluster parameter group.
    #[default]
    AuroraCluster,
    /// A single DB instance of RDS for PostgreSQL, with a DB parameter group.
    RdsInstance,
}

impl Deployment {
    /// `Engine`.
    #[must_use]
    pub fn engine(self) -> &'static str {
        match self {
            Self::AuroraCluster => "aurora-postgresql",
            Self::RdsInstance => "postgres",
        }
    }

    /// The product's name.
    #[must_use]
    pub fn product(self) -> &'static str {
        match self {
            Self::AuroraCluster => "Aurora PostgreSQL",
            Self::RdsInstance => "RDS for PostgreSQL",
        }
    }

    /// The word for the owner of the parameters, in a sentence that has already named it.
    #[must_use]
    pub fn whole(self) -> &'static str {
        match self {
            Self::AuroraCluster => "cluster",
            Self::RdsInstance => "instance",
        }
    }

    /// The word for the instance that takes writes, is rebooted and queried, in such a sentence.
    #[must_use]
    pub fn server(self) -> &'static str {
        match self {
            Self::AuroraCluster => "writer",
            Self::RdsInstance => "instance",
        }
    }

    /// AWS's name for the kind of its parameters.
    #[must_use]
    pub fn parameter(self) -> &'static str {
        match self {
            Self::AuroraCluster => "cluster parameter",
            Self::RdsInstance => "parameter",
        }
    }

    /// The tag of parameter groups that the provider created: its value is the identifier of the cluster or instance.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::AuroraCluster => "neonrepl:cluster",
            Self::RdsInstance => "neonrepl:instance",
        }
    }
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuroraCluster => "DB cluster",
            Self::RdsInstance => "DB instance",
        })
    }
}

/// An Aurora DB cluster as `DescribeDBClusters` shows it, or a single DB instance as `DescribeDBInstances` shows it: a
/// cluster of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// Which of the two.
    pub deployment: Deployment,
    /// `DBClusterIdentifier` or `DBInstanceIdentifier`, in lower case.
    pub identifier: String,
    /// `DBClusterArn` or `DBInstanceArn`.
    pub arn: String,
    /// `Status`: `available`, `modifying`, `stopped`, ….
    pub status: String,
    /// `Engine`: `aurora-postgresql` for the clusters of this module.
    pub engine: String,
    /// `EngineVersion`, as in `16.4`.
    pub engine_version: String,
    /// `EngineMode`: `provisioned`, or `serverless` for Serverless v1.
    pub engine_mode: Option<String>,
    /// `DBClusterParameterGroup`, the name of the attached group.
    pub parameter_group: String,
    /// `Endpoint`: the host name that follows the writer.
    pub endpoint: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
    /// `DBClusterMembers`.
    pub members: Vec<Member>,
    /// Whether `PendingModifiedValues` has any values.
    pub has_pending_modifications: bool,
    /// `GlobalClusterIdentifier`, or a marker that the cluster is a secondary of a global database.
    pub global_cluster: Option<String>,
    /// `ReplicationSourceIdentifier` or `ReadReplicaSourceDBInstanceIdentifier`: it is a read replica of that one.
    pub replication_source: Option<String>,
    /// `DBClusterIdentifier` of an instance: then the cluster has the parameters.
    pub member_of: Option<String>,
    /// `MultiAZ` of an instance: it has a standby in another availability zone.
    pub is_multi_az: bool,
}

impl Cluster {
    /// The member that takes writes, if the cluster has one at this moment.
    #[must_use]
    pub fn writer(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.is_writer)
    }

    /// The members that do not take writes.
    pub fn readers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_writer)
    }

    /// Whether a reboot of the writer restarts the readers as well, as it does before 12.14, 13.10, 14.7 and 15.2.
    /// A version that cannot be read counts as a later one.
    ///
    /// Source: "Rebooting an Aurora cluster with read availability", Amazon Aurora User Guide.
    #[must_use]
    pub fn restarts_readers_with_the_writer(&self) -> bool {
        let mut parts = self.engine_version.split('.').map_while(|part| part.parse::<u32>().ok());
        let (Some(major), minor) = (parts.next(), parts.next().unwrap_or(u32::MAX)) else {
            return false;
        };
        const FIRST_WITHOUT: [(u32, u32); 4] = [(12, 14), (13, 10), (14, 7), (15, 2)];
        match FIRST_WITHOUT.iter().find(|(since, _)| *since == major) {
            Some((_, first)) => minor < *first,
            None => major < 12,
        }
    }

    /// The member of that instance.
    #[must_use]
    pub fn member(&self, instance: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.instance == instance)
    }
}

/// One entry of `DBClusterMembers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// `DBInstanceIdentifier`.
    pub instance: String,
    /// `IsClusterWriter`.
    pub is_writer: bool,
    /// `DBClusterParameterGroupStatus`: `in-sync`, `pending-reboot`, …. The API does not list the values.
    pub parameter_group_status: String,
}

impl Member {
    /// Whether the instance runs with the values of its cluster parameter group. An unknown status counts as no.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        self.parameter_group_status == "in-sync"
    }

    /// Whether the status will still change: `applying` comes before `pending-reboot`.
    #[must_use]
    pub fn is_applying(&self) -> bool {
        self.parameter_group_status == "applying"
    }
}

/// A DB instance as `DescribeDBInstances` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// `DBInstanceIdentifier`.
    pub identifier: String,
    /// `DBInstanceStatus`: `available`, `rebooting`, ….
    pub status: String,
    /// `PubliclyAccessible`.
    pub publicly_accessible: bool,
    /// `Endpoint.Address`: the host name of this instance alone.
    pub endpoint: Option<String>,
    /// `Endpoint.Port`.
    pub port: Option<u16>,
}

/// A blue/green deployment that a cluster is a side of, before the switchover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlueGreen {
    /// `BlueGreenDeploymentName`.
    pub name: String,
    /// `Status`: `PROVISIONING`, `AVAILABLE`, `SWITCHOVER_IN_PROGRESS`, ….
    pub status: String,
    /// Whether the cluster is the side that will take over.
    pub is_green: bool,
}

/// A cluster parameter group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterGroup {
    /// `DBClusterParameterGroupName`, in lower case.
    pub name: String,
    /// `DBParameterGroupFamily`, as in `aurora-postgresql16`.
    pub family: String,
    /// `Description`.
    pub description: String,
    /// `DBClusterParameterGroupArn`.
    pub arn: String,
}

impl ParameterGroup {
    /// Whether it is one of AWS's own groups, which nobody can modify or delete.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.name.starts_with("default.")
    }
}

/// A parameter group to create.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewParameterGroup {
    /// Its name: 1 to 255 letters, digits and single hyphens, beginning with a letter.
    pub name: String,
    /// Its family. Not used if the group is a copy.
    pub family: String,
    /// Its description.
    pub description: String,
    /// The tags that are set in the same call.
    pub tags: BTreeMap<String, String>,
    /// The custom group that it is a copy of.
    pub copy_of: Option<String>,
}

/// Where a parameter's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Somebody set it in this group.
    User,
    /// RDS sets it for every group of the family.
    System,
    /// The engine's own default.
    EngineDefault,
}

/// When a change of a parameter takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyType {
    /// Only when the instance starts.
    Static,
    /// At once.
    Dynamic,
}

/// `ApplyMethod` of a modify or reset call. Static parameters take [`ApplyMethod::PendingReboot`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApplyMethod {
    /// The change is made at once.
    Immediate,
    /// The change waits for the next reboot of each instance.
    PendingReboot,
}

/// A cluster parameter as `DescribeDBClusterParameters` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `ParameterName`.
    pub name: String,
    /// `ParameterValue`: absent if the engine decides, or a formula.
    pub value: Option<String>,
    /// `Source`.
    pub source: Source,
    /// `ApplyType`.
    pub apply_type: ApplyType,
    /// `DataType`: `boolean`, `integer`, `float`, `string`, `list`.
    pub data_type: String,
    /// `AllowedValues`: `0,1`, `5-262143`, `off,on,remote_apply`, ….
    pub allowed_values: Option<String>,
    /// `IsModifiable`.
    pub is_modifiable: bool,
    /// `Description`: it begins with the unit if the value has one, as in `(ms) Sets …`.
    pub description: String,
}

/// One parameter of a modify or reset call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSetting {
    /// `ParameterName`.
    pub name: String,
    /// `ParameterValue`. A reset sends none.
    pub value: Option<String>,
    /// `ApplyMethod`.
    pub apply_method: ApplyMethod,
}

/// The used RDS calls. A missing object is an error of kind [`NotFound`](super::Kind::NotFound).
///
/// They have the names of Aurora's calls. For a single instance, [`RdsInstances`](super::RdsInstances) makes the
/// equivalent calls, such as `DescribeDBInstances` and `ModifyDBParameterGroup`.
pub trait RdsApi: Send + Sync {
    /// What the calls are about.
    fn deployment(&self) -> Deployment {
        Deployment::AuroraCluster
    }

    /// `DescribeDBClusters` of one cluster.
    fn cluster(&self, identifier: &str) -> impl Future<Output = Result<Cluster>> + Send;

    /// `DescribeDBInstances` of one cluster's members.
    fn cluster_instances(&self, cluster: &str) -> impl Future<Output = Result<Vec<Instance>>> + Send;

    /// `DescribeDBInstances` of one instance.
    fn instance(&self, identifier: &str) -> impl Future<Output = Result<Instance>> + Send;

    /// The identifiers of all clusters that the group is attached to. The API has no such filter, so every Aurora
    /// PostgreSQL cluster of the region is listed.
    fn clusters_with_parameter_group(&self, group: &str) -> impl Future<Output = Result<Vec<String>>> + Send;

    /// The blue/green deployment that the cluster of this ARN is a side of, from `DescribeBlueGreenDeployments`, except
    /// those that have been switched over or are being deleted.
    fn blue_green(&self, arn: &str) -> impl Future<Output = Result<Option<BlueGreen>>> + Send;

    /// `DescribeDBClusterParameterGroups` of one group.
    fn parameter_group(&self, name: &str) -> impl Future<Output = Result<ParameterGroup>> + Send;

    /// `CreateDBClusterParameterGroup`, or `CopyDBClusterParameterGroup` for a copy.
    fn create_parameter_group(&self, group: &NewParameterGroup) -> impl Future<Output = Result<ParameterGroup>> + Send;

    /// `DescribeDBClusterParameters`, all pages.
    fn parameters(&self, group: &str) -> impl Future<Output = Result<Vec<Parameter>>> + Send;

    /// `ModifyDBClusterParameterGroup` of at most [`PARAMETERS_PER_CALL`] parameters.
    fn modify_parameters(&self, group: &str, settings: &[ParameterSetting]) -> impl Future<Output = Result<()>> + Send;

    /// `ResetDBClusterParameterGroup` of at most [`PARAMETERS_PER_CALL`] named parameters.
    fn reset_parameters(&self, group: &str, settings: &[ParameterSetting]) -> impl Future<Output = Result<()>> + Send;

    /// `DeleteDBClusterParameterGroup`.
    fn delete_parameter_group(&self, name: &str) -> impl Future<Output = Result<()>> + Send;

    /// `ModifyDBCluster` with this `DBClusterParameterGroupName` and `ApplyImmediately`.
    fn attach_parameter_group(&self, cluster: &str, group: &str) -> impl Future<Output = Result<()>> + Send;

    /// `RebootDBInstance`.
    fn reboot_instance(&self, identifier: &str) -> impl Future<Output = Result<()>> + Send;

    /// `ListTagsForResource`.
    fn tags(&self, arn: &str) -> impl Future<Output = Result<BTreeMap<String, String>>> + Send;

    /// `AddTagsToResource`: adds, or overwrites the value.
    fn add_tags(&self, arn: &str, tags: &BTreeMap<String, String>) -> impl Future<Output = Result<()>> + Send;

    /// `RemoveTagsFromResource`.
    fn remove_tags(&self, arn: &str, keys: &[String]) -> impl Future<Output = Result<()>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_restart_with_the_writer_of_old_versions() {
        for (version, expected) in [
            ("11.21", true),
            ("12.13", true),
            ("12.14", false),
            ("13.9", true),
            ("13.10", false),
            ("14.6", true),
            ("14.7", false),
            ("15.2", false),
            ("16.4", false),
            ("18.3", false),
            ("14", false),
            ("8.0.mysql_aurora.3.05.2", true),
            ("", false),
        ] {
            let cluster = Cluster { engine_version: version.to_owned(), ..Cluster::default() };
            assert_eq!(cluster.restarts_readers_with_the_writer(), expected, "{version}");
        }
    }
}
