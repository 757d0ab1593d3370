// SPDX-License-Identifier: MPL-2.0

//! [`RdsApi`] for single DB instances of RDS for PostgreSQL: the same calls, for the instance and its DB
//! parameter group.

use std::collections::BTreeMap;

use aws_sdk_rds::types;

use super::api::{
    BlueGreen, Cluster, Deployment, Instance, NewParameterGroup, Parameter, ParameterGroup, ParameterSetting, RdsApi,
};
use super::client::{names, nothing_came};
use super::conversion::{parameter_from, sdk_parameter, sdk_tags};
use super::{AwsConfig, RdsClusters, Result};

/// The API for an instance instead of a cluster: it has one member, the writer.
#[derive(Debug)]
pub struct RdsInstances(RdsClusters);

impl RdsInstances {
    /// Creates the API without resolving or connecting anything yet.
    #[must_use]
    pub fn new(config: AwsConfig) -> Self {
        Self(RdsClusters::new(config))
    }

    async fn describe(&self, identifier: &str) -> Result<types::DbInstance> {
        let doing = format!("reading DB instance \"{identifier}\"");
        let client = self.0.client().await?;
        let answer = client.describe_db_instances().db_instance_identifier(identifier).send().await;
        let answer = answer.map_err(|error| self.0.failure(&doing, error))?;
        let found = answer.db_instances.unwrap_or_default().into_iter().next();
        found.ok_or_else(|| nothing_came(&doing, "instance"))
    }

    async fn create(&self, doing: &str, group: &NewParameterGroup) -> Result<Option<types::DbParameterGroup>> {
        let call = self.0.client().await?.create_db_parameter_group().db_parameter_group_name(&group.name);
        let call = call.db_parameter_group_family(&group.family).description(&group.description);
        let sent = call.set_tags(Some(sdk_tags(&group.tags))).send().await;
        sent.map(|answer| answer.db_parameter_group).map_err(|error| self.0.failure(doing, error))
    }

    async fn copy(
        &self,
        doing: &str,
        group: &NewParameterGroup,
        original: &str,
    ) -> Result<Option<types::DbParameterGroup>> {
        let call = self.0.client().await?.copy_db_parameter_group().source_db_parameter_group_identifier(original);
        let call = call.target_db_parameter_group_identifier(&group.name);
        let call = call.target_db_parameter_group_description(&group.description);
        let sent = call.set_tags(Some(sdk_tags(&group.tags))).send().await;
        sent.map(|answer| answer.db_parameter_group).map_err(|error| self.0.failure(doing, error))
    }
}

impl RdsApi for RdsInstances {
    fn deployment(&self) -> Deployment {
        Deployment::RdsInstance
    }

    async fn cluster(&self, identifier: &str) -> Result<Cluster> {
        Ok(Cluster::from(self.describe(identifier).await?))
    }

    async fn cluster_instances(&self, identifier: &str) -> Result<Vec<Instance>> {
        Ok(vec![Instance::from(self.describe(identifier).await?)])
    }

    async fn instance(&self, identifier: &str) -> Result<Instance> {
        Ok(Instance::from(self.describe(identifier).await?))
    }

    async fn clusters_with_parameter_group(&self, group: &str) -> Result<Vec<String>> {
        let doing = format!("listing the DB instances with parameter group \"{group}\"");
        let postgres = types::Filter::builder().name("engine").values(Deployment::RdsInstance.engine()).build();
        let call = self.0.client().await?.describe_db_instances().filters(postgres);
        let mut pages = call.into_paginator().items().send();
        let mut instances = Vec::new();
        while let Some(instance) = pages.next().await {
            let instance = Cluster::from(instance.map_err(|error| self.0.failure(&doing, error))?);
            if instance.parameter_group == group {
                instances.push(instance.identifier);
            }
        }
        Ok(instances)
    }

    async fn blue_green(&self, arn: &str) -> Result<Option<BlueGreen>> {
        self.0.blue_green_of(arn).await
    }

    async fn parameter_group(&self, name: &str) -> Result<ParameterGroup> {
        let doing = format!("reading parameter group \"{name}\"");
        let sent = self.0.client().await?.describe_db_parameter_groups().db_parameter_group_name(name).send().await;
        let answer = sent.map_err(|error| self.0.failure(&doing, error))?;
        let found = answer.db_parameter_groups.unwrap_or_default().into_iter().next();
        found.map(ParameterGroup::from).ok_or_else(|| nothing_came(&doing, "parameter group"))
    }

    async fn create_parameter_group(&self, group: &NewParameterGroup) -> Result<ParameterGroup> {
        let doing = format!("creating parameter group \"{}\"", group.name);
        let created = match &group.copy_of {
            Some(original) => self.copy(&doing, group, original).await?,
            None => self.create(&doing, group).await?,
        };
        created.map(ParameterGroup::from).ok_or_else(|| nothing_came(&doing, "parameter group"))
    }

    async fn parameters(&self, group: &str) -> Result<Vec<Parameter>> {
        let call = self.0.client().await?.describe_db_parameters().db_parameter_group_name(group);
        let mut pages = call.into_paginator().items().send();
        let mut parameters = Vec::new();
        while let Some(parameter) = pages.next().await {
            let doing = || format!("reading the parameters of \"{group}\"");
            parameters.extend(parameter_from(parameter.map_err(|error| self.0.failure(&doing(), error))?));
        }
        Ok(parameters)
    }

    async fn modify_parameters(&self, group: &str, settings: &[ParameterSetting]) -> Result<()> {
        let call = self.0.client().await?.modify_db_parameter_group().db_parameter_group_name(group);
        let sent = call.set_parameters(Some(settings.iter().map(sdk_parameter).collect())).send().await;
        sent.map(drop).map_err(|error| self.0.failure(&format!("setting {} in \"{group}\"", names(settings)), error))
    }

    async fn reset_parameters(&self, group: &str, settings: &[ParameterSetting]) -> Result<()> {
        let call = self.0.client().await?.reset_db_parameter_group().db_parameter_group_name(group);
        let call = call.reset_all_parameters(false);
        let sent = call.set_parameters(Some(settings.iter().map(sdk_parameter).collect())).send().await;
        sent.map(drop).map_err(|error| self.0.failure(&format!("resetting {} in \"{group}\"", names(settings)), error))
    }

    async fn delete_parameter_group(&self, name: &str) -> Result<()> {
        let sent = self.0.client().await?.delete_db_parameter_group().db_parameter_group_name(name).send().await;
        sent.map(drop).map_err(|error| self.0.failure(&format!("deleting parameter group \"{name}\""), error))
    }

    async fn attach_parameter_group(&self, instance: &str, group: &str) -> Result<()> {
        let doing = format!("attaching parameter group \"{group}\" to DB instance \"{instance}\"");
        let call = self.0.client().await?.modify_db_instance().db_instance_identifier(instance);
        let sent = call.db_parameter_group_name(group).apply_immediately(true).send().await;
        sent.map(drop).map_err(|error| self.0.failure(&doing, error))
    }

    async fn reboot_instance(&self, identifier: &str) -> Result<()> {
        self.0.reboot_instance(identifier).await
    }

    async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        self.0.tags(arn).await
    }

    async fn add_tags(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        self.0.add_tags(arn, tags).await
    }

    async fn remove_tags(&self, arn: &str, keys: &[String]) -> Result<()> {
        self.0.remove_tags(arn, keys).await
    }
}
