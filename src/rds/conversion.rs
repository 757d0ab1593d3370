// SPDX-License-Identifier: MPL-2.0

//! Conversions between the SDK's types and ours.

use std::collections::BTreeMap;

use aws_sdk_rds::types;

use super::api::{
    ApplyMethod, ApplyType, Cluster, Deployment, Instance, Member, Parameter, ParameterGroup, ParameterSetting, Source,
};

pub(super) fn sdk_tags(tags: &BTreeMap<String, String>) -> Vec<types::Tag> {
    tags.iter().map(|(key, value)| types::Tag::builder().key(key).value(value).build()).collect()
}

pub(super) fn sdk_parameter(setting: &ParameterSetting) -> types::Parameter {
    types::Parameter::builder()
        .parameter_name(&setting.name)
        .set_parameter_value(setting.value.clone())
        .apply_method(match setting.apply_method {
            ApplyMethod::Immediate => types::ApplyMethod::Immediate,
            ApplyMethod::PendingReboot => types::ApplyMethod::PendingReboot,
        })
        .build()
}

impl From<types::DbCluster> for Cluster {
    fn from(cluster: types::DbCluster) -> Self {
        let members = cluster.db_cluster_members.unwrap_or_default();
        Self {
            deployment: Deployment::AuroraCluster,
            identifier: cluster.db_cluster_identifier.unwrap_or_default(),
            arn: cluster.db_cluster_arn.unwrap_or_default(),
            status: cluster.status.unwrap_or_default(),
            engine: cluster.engine.unwrap_or_default(),
            engine_version: cluster.engine_version.unwrap_or_default(),
            engine_mode: cluster.engine_mode,
            parameter_group: cluster.db_cluster_parameter_group.unwrap_or_default(),
            endpoint: cluster.endpoint,
            port: cluster.port.and_then(|port| u16::try_from(port).ok()),
            members: members.into_iter().map(Member::from).collect(),
            has_pending_modifications: cluster
                .pending_modified_values
                .is_some_and(|pending| pending != types::ClusterPendingModifiedValues::builder().build()),
            global_cluster: cluster.global_cluster_identifier,
            replication_source: cluster.replication_source_identifier.filter(|source| !source.is_empty()),
            member_of: None,
            is_multi_az: false,
        }
    }
}

/// A single instance is a cluster of one.
impl From<types::DbInstance> for Cluster {
    fn from(instance: types::DbInstance) -> Self {
        let group = instance.db_parameter_groups.unwrap_or_default().into_iter().next();
        let group = group.unwrap_or_else(|| types::DbParameterGroupStatus::builder().build());
        let identifier = instance.db_instance_identifier.unwrap_or_default();
        let endpoint = instance.endpoint;
        let port = endpoint.as_ref().and_then(|endpoint| endpoint.port);
        let member = Member {
            instance: identifier.clone(),
            is_writer: true,
            parameter_group_status: group.parameter_apply_status.unwrap_or_default(),
        };
        let source = instance.read_replica_source_db_instance_identifier;
        Self {
            deployment: Deployment::RdsInstance,
            identifier,
            arn: instance.db_instance_arn.unwrap_or_default(),
            status: instance.db_instance_status.unwrap_or_default(),
            engine: instance.engine.unwrap_or_default(),
            engine_version: instance.engine_version.unwrap_or_default(),
            engine_mode: None,
            parameter_group: group.db_parameter_group_name.unwrap_or_default(),
            endpoint: endpoint.and_then(|endpoint| endpoint.address),
            port: port.and_then(|port| u16::try_from(port).ok()),
            members: vec![member],
            // Changes that wait for a maintenance window do not matter here, and never include a group's parameters.
            has_pending_modifications: false,
            global_cluster: None,
            replication_source: source.or(instance.read_replica_source_db_cluster_identifier),
            member_of: instance.db_cluster_identifier.filter(|cluster| !cluster.is_empty()),
            is_multi_az: instance.multi_az.unwrap_or_default(),
        }
    }
}

impl From<types::DbClusterMember> for Member {
    fn from(member: types::DbClusterMember) -> Self {
        Self {
            instance: member.db_instance_identifier.unwrap_or_default(),
            is_writer: member.is_cluster_writer.unwrap_or_default(),
            parameter_group_status: member.db_cluster_parameter_group_status.unwrap_or_default(),
        }
    }
}

impl From<types::DbInstance> for Instance {
    fn from(instance: types::DbInstance) -> Self {
        let endpoint = instance.endpoint;
        let port = endpoint.as_ref().and_then(|endpoint| endpoint.port);
        Self {
            identifier: instance.db_instance_identifier.unwrap_or_default(),
            status: instance.db_instance_status.unwrap_or_default(),
            publicly_accessible: instance.publicly_accessible.unwrap_or_default(),
            endpoint: endpoint.and_then(|endpoint| endpoint.address),
            port: port.and_then(|port| u16::try_from(port).ok()),
        }
    }
}

impl From<types::DbClusterParameterGroup> for ParameterGroup {
    fn from(group: types::DbClusterParameterGroup) -> Self {
        Self {
            name: group.db_cluster_parameter_group_name.unwrap_or_default(),
            family: group.db_parameter_group_family.unwrap_or_default(),
            description: group.description.unwrap_or_default(),
            arn: group.db_cluster_parameter_group_arn.unwrap_or_default(),
        }
    }
}

impl From<types::DbParameterGroup> for ParameterGroup {
    fn from(group: types::DbParameterGroup) -> Self {
        Self {
            name: group.db_parameter_group_name.unwrap_or_default(),
            family: group.db_parameter_group_family.unwrap_or_default(),
            description: group.description.unwrap_or_default(),
            arn: group.db_parameter_group_arn.unwrap_or_default(),
        }
    }
}

/// Values that the API omits get the careful default: static, and modifiable, so that AWS itself may refuse.
pub(super) fn parameter_from(parameter: types::Parameter) -> Option<Parameter> {
    Some(Parameter {
        name: parameter.parameter_name?,
        value: parameter.parameter_value,
        source: match parameter.source.as_deref() {
            Some("user") => Source::User,
            Some("engine-default") => Source::EngineDefault,
            _ => Source::System,
        },
        apply_type: match parameter.apply_type.as_deref() {
            Some("dynamic") => ApplyType::Dynamic,
            _ => ApplyType::Static,
        },
        data_type: parameter.data_type.unwrap_or_default(),
        allowed_values: parameter.allowed_values.filter(|values| !values.is_empty()),
        is_modifiable: parameter.is_modifiable.unwrap_or(true),
        description: parameter.description.unwrap_or_default(),
    })
}
