// SPDX-License-Identifier: MPL-2.0

//! [`RdsApi`] through the AWS SDK. The SDK's client is created at the first call.

use std::collections::BTreeMap;

use aws_sdk_rds::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_rds::operation::RequestId;
use aws_sdk_rds::types;
use tokio::sync::OnceCell;

use super::api::{
    BlueGreen, Cluster, Instance, NewParameterGroup, Parameter, ParameterGroup, ParameterSetting, RdsApi,
};
use super::config::AwsConfig;
use super::conversion::{parameter_from, sdk_parameter, sdk_tags};
use super::error::{advice, classify};
use super::{Error, Kind, Result};

/// The RDS API through the AWS SDK.
#[derive(Debug)]
pub struct RdsClusters {
    config: AwsConfig,
    client: OnceCell<aws_sdk_rds::Client>,
}

impl RdsClusters {
    /// Creates the API without resolving or connecting anything yet.
    #[must_use]
    pub fn new(config: AwsConfig) -> Self {
        Self { config, client: OnceCell::new() }
    }

    pub(super) async fn client(&self) -> Result<&aws_sdk_rds::Client> {
        self.client
            .get_or_try_init(|| async {
                let mut config = aws_sdk_rds::config::Builder::from(&self.config.sdk_config().await?);
                if let Some(url) = &self.config.endpoint_url {
                    config = config.endpoint_url(url);
                }
                Ok(aws_sdk_rds::Client::from_conf(config.build()))
            })
            .await
    }
}

impl RdsApi for RdsClusters {
    async fn cluster(&self, identifier: &str) -> Result<Cluster> {
        let doing = format!("reading DB cluster \"{identifier}\"");
        let answer = self
            .client()
            .await?
            .describe_db_clusters()
            .db_cluster_identifier(identifier)
            .send()
            .await
            .map_err(|error| self.failure(&doing, error))?;
        let found = answer.db_clusters.unwrap_or_default().into_iter().next();
        found.map(Cluster::from).ok_or_else(|| nothing_came(&doing, "cluster"))
    }

    async fn cluster_instances(&self, cluster: &str) -> Result<Vec<Instance>> {
        let mine = types::Filter::builder().name("db-cluster-id").values(cluster).build();
        let mut pages = self.client().await?.describe_db_instances().filters(mine).into_paginator().items().send();
        let mut instances = Vec::new();
        while let Some(instance) = pages.next().await {
            let instance = instance
                .map_err(|error| self.failure(&format!("listing the instances of DB cluster \"{cluster}\""), error))?;
            instances.push(Instance::from(instance));
        }
        Ok(instances)
    }

    async fn instance(&self, identifier: &str) -> Result<Instance> {
        let doing = format!("reading DB instance \"{identifier}\"");
        let answer = self
            .client()
            .await?
            .describe_db_instances()
            .db_instance_identifier(identifier)
            .send()
            .await
            .map_err(|error| self.failure(&doing, error))?;
        let found = answer.db_instances.unwrap_or_default().into_iter().next();
        found.map(Instance::from).ok_or_else(|| nothing_came(&doing, "instance"))
    }

    async fn clusters_with_parameter_group(&self, group: &str) -> Result<Vec<String>> {
        let aurora = types::Filter::builder().name("engine").values("aurora-postgresql").build();
        let mut pages = self.client().await?.describe_db_clusters().filters(aurora).into_paginator().items().send();
        let mut clusters = Vec::new();
        while let Some(cluster) = pages.next().await {
            let cluster = Cluster::from(cluster.map_err(|error| {
                self.failure(&format!("listing the DB clusters with cluster parameter group \"{group}\""), error)
            })?);
            if cluster.parameter_group == group {
                clusters.push(cluster.identifier);
            }
        }
        Ok(clusters)
    }

    async fn blue_green(&self, arn: &str) -> Result<Option<BlueGreen>> {
        self.blue_green_of(arn).await
    }

    async fn parameter_group(&self, name: &str) -> Result<ParameterGroup> {
        let doing = format!("reading cluster parameter group \"{name}\"");
        let answer = self
            .client()
            .await?
            .describe_db_cluster_parameter_groups()
            .db_cluster_parameter_group_name(name)
            .send()
            .await
            .map_err(|error| self.failure(&doing, error))?;
        let found = answer.db_cluster_parameter_groups.unwrap_or_default().into_iter().next();
        found.map(ParameterGroup::from).ok_or_else(|| nothing_came(&doing, "parameter group"))
    }

    async fn create_parameter_group(&self, group: &NewParameterGroup) -> Result<ParameterGroup> {
        let doing = format!("creating cluster parameter group \"{}\"", group.name);
        let created = match &group.copy_of {
            Some(original) => self.copy_group(&doing, group, original).await?,
            None => self.create_group(&doing, group).await?,
        };
        created.map(ParameterGroup::from).ok_or_else(|| nothing_came(&doing, "parameter group"))
    }

    async fn parameters(&self, group: &str) -> Result<Vec<Parameter>> {
        let mut pages = self
            .client()
            .await?
            .describe_db_cluster_parameters()
            .db_cluster_parameter_group_name(group)
            .into_paginator()
            .items()
            .send();
        let mut parameters = Vec::new();
        while let Some(parameter) = pages.next().await {
            let parameter =
                parameter.map_err(|error| self.failure(&format!("reading the parameters of \"{group}\""), error))?;
            parameters.extend(parameter_from(parameter));
        }
        Ok(parameters)
    }

    async fn modify_parameters(&self, group: &str, settings: &[ParameterSetting]) -> Result<()> {
        let sent = self
            .client()
            .await?
            .modify_db_cluster_parameter_group()
            .db_cluster_parameter_group_name(group)
            .set_parameters(Some(settings.iter().map(sdk_parameter).collect()))
            .send()
            .await;
        sent.map(drop).map_err(|error| self.failure(&format!("setting {} in \"{group}\"", names(settings)), error))
    }

    async fn reset_parameters(&self, group: &str, settings: &[ParameterSetting]) -> Result<()> {
        let sent = self
            .client()
            .await?
            .reset_db_cluster_parameter_group()
            .db_cluster_parameter_group_name(group)
            .reset_all_parameters(false)
            .set_parameters(Some(settings.iter().map(sdk_parameter).collect()))
            .send()
            .await;
        sent.map(drop).map_err(|error| self.failure(&format!("resetting {} in \"{group}\"", names(settings)), error))
    }

    async fn delete_parameter_group(&self, name: &str) -> Result<()> {
        let sent =
            self.client().await?.delete_db_cluster_parameter_group().db_cluster_parameter_group_name(name).send().await;
        sent.map(drop).map_err(|error| self.failure(&format!("deleting cluster parameter group \"{name}\""), error))
    }

    async fn attach_parameter_group(&self, cluster: &str, group: &str) -> Result<()> {
        let sent = self
            .client()
            .await?
            .modify_db_cluster()
            .db_cluster_identifier(cluster)
            .db_cluster_parameter_group_name(group)
            .apply_immediately(true)
            .send()
            .await;
        sent.map(drop).map_err(|error| {
            self.failure(&format!("attaching cluster parameter group \"{group}\" to DB cluster \"{cluster}\""), error)
        })
    }

    async fn reboot_instance(&self, identifier: &str) -> Result<()> {
        let sent = self.client().await?.reboot_db_instance().db_instance_identifier(identifier).send().await;
        sent.map(drop).map_err(|error| self.failure(&format!("rebooting DB instance \"{identifier}\""), error))
    }

    async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        let answer = self
            .client()
            .await?
            .list_tags_for_resource()
            .resource_name(arn)
            .send()
            .await
            .map_err(|error| self.failure(&format!("reading the tags of {arn}"), error))?;
        let tags = answer.tag_list.unwrap_or_default().into_iter();
        Ok(tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect())
    }

    async fn add_tags(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        let sent =
            self.client().await?.add_tags_to_resource().resource_name(arn).set_tags(Some(sdk_tags(tags))).send().await;
        sent.map(drop).map_err(|error| self.failure(&format!("tagging {arn}"), error))
    }

    async fn remove_tags(&self, arn: &str, keys: &[String]) -> Result<()> {
        let sent = self
            .client()
            .await?
            .remove_tags_from_resource()
            .resource_name(arn)
            .set_tag_keys(Some(keys.to_vec()))
            .send()
            .await;
        sent.map(drop).map_err(|error| self.failure(&format!("removing tags from {arn}"), error))
    }
}

impl RdsClusters {
    async fn create_group(
        &self,
        doing: &str,
        group: &NewParameterGroup,
    ) -> Result<Option<types::DbClusterParameterGroup>> {
        let sent = self
            .client()
            .await?
            .create_db_cluster_parameter_group()
            .db_cluster_parameter_group_name(&group.name)
            .db_parameter_group_family(&group.family)
            .description(&group.description)
            .set_tags(Some(sdk_tags(&group.tags)))
            .send()
            .await;
        sent.map(|answer| answer.db_cluster_parameter_group).map_err(|error| self.failure(doing, error))
    }

    async fn copy_group(
        &self,
        doing: &str,
        group: &NewParameterGroup,
        original: &str,
    ) -> Result<Option<types::DbClusterParameterGroup>> {
        let sent = self
            .client()
            .await?
            .copy_db_cluster_parameter_group()
            .source_db_cluster_parameter_group_identifier(original)
            .target_db_cluster_parameter_group_identifier(&group.name)
            .target_db_cluster_parameter_group_description(&group.description)
            .set_tags(Some(sdk_tags(&group.tags)))
            .send()
            .await;
        sent.map(|answer| answer.db_cluster_parameter_group).map_err(|error| self.failure(doing, error))
    }
}

/// Turns an error of the SDK into one of ours.
pub(super) fn failure<E>(doing: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(|service| service.code().map(Box::from));
    let message = service.and_then(|service| service.message().map(str::to_owned));
    let request_id = error.request_id().map(Box::from);
    let kind = match (&error, &code) {
        (_, Some(code)) => classify(code),
        (SdkError::ConstructionFailure(_), None) => Kind::Denied,
        _ => Kind::Network,
    };
    let message = message.unwrap_or_else(|| causes(&error));
    if code.is_none()
        && let Some(why) = without_credentials(&message)
    {
        return Error::new(Kind::Denied, doing, why);
    }
    let message = if kind == Kind::Network { unreached(&message) } else { message };
    let mut failure = Error::new(kind, doing, message);
    failure.hint = advice(kind, code.as_deref().unwrap_or_default()).map(Box::from);
    failure.code = code;
    failure.request_id = request_id;
    failure
}

/// The reason why a call did not reach AWS, from the chain of causes: the last ones have it, the first ones are
/// the SDK's layers.
fn unreached(causes: &str) -> String {
    const LAYERS: [&str; 7] = [
        "dispatch failure",
        "io error",
        "timeout",
        "other",
        "client error (Connect)",
        "error trying to connect",
        "tcp connect error",
    ];
    let named = causes.split(": ").filter(|link| !LAYERS.contains(link));
    let named = named.map(|link| link.split(" (os error").next().unwrap_or(link)).collect::<Vec<_>>().join(": ");
    format!("AWS was not reached: {}", named.replace("Connection", "connection"))
}

/// Why a call could not be signed, if that failed: the SDK reports it like a call that did not get through.
fn without_credentials(causes: &str) -> Option<String> {
    let is_about_them =
        ["credential", "loading identity", "identity resolver"].iter().any(|part| causes.contains(part));
    let undefined = causes.find("profile `").zip(causes.find("` was not defined"));
    let undefined = undefined.and_then(|(at, end)| causes.get(at..end + "` was not defined".len()));
    is_about_them.then(|| match undefined {
        Some(undefined) => format!("no AWS credentials were found: {undefined}"),
        None => "no AWS credentials were found".to_owned(),
    })
}

impl RdsClusters {
    /// Turns an error of the SDK into one of ours, with the places where credentials were searched if there were none.
    pub(super) fn failure<E>(&self, doing: &str, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let failure = failure(doing, error);
        if failure.kind == Kind::Denied && failure.code.is_none() {
            failure.hint(self.config.remedy())
        } else {
            failure
        }
    }
}

/// The chain of causes, without the SDK's debug dump that [`DisplayErrorContext`] appends.
fn causes<E: std::error::Error>(error: &E) -> String {
    let text = DisplayErrorContext(error).to_string();
    match text.rfind(" (") {
        Some(end) if text.ends_with(')') => text[..end].to_owned(),
        _ => text,
    }
}

pub(super) fn nothing_came(doing: &str, what: &str) -> Error {
    Error::new(Kind::NotFound, doing, format!("AWS answered with no {what}"))
}

pub(super) fn names(settings: &[ParameterSetting]) -> String {
    settings.iter().map(|setting| setting.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_credentials_are_no_fault_of_the_network() {
        let found = "dispatch failure: other: the credential provider was not enabled: no credentials found in chain";
        assert_eq!(without_credentials(found).as_deref(), Some("no AWS credentials were found"));
        let profile = "dispatch failure: other: could not load credentials: profile `nowhere` was not defined: x";
        assert_eq!(
            without_credentials(profile).as_deref(),
            Some("no AWS credentials were found: profile `nowhere` was not defined")
        );
        assert_eq!(without_credentials("dispatch failure: io error: client error (Connect)"), None);
        let named = AwsConfig { profile: Some("nowhere".to_owned()), ..AwsConfig::default() };
        assert!(named.remedy().contains("profile \"nowhere\""), "{}", named.remedy());
    }

    #[tokio::test]
    async fn an_unreachable_endpoint_is_a_network_error() {
        let rds = RdsClusters::new(AwsConfig {
            region: Some("us-east-2".to_owned()),
            access_key: Some("AKIA".to_owned()),
            secret_key: Some("very-secret".to_owned()),
            endpoint_url: Some("http://127.0.0.1:1".to_owned()),
            max_attempts: Some(1),
            ..AwsConfig::default()
        });
        let error = rds.cluster("shop").await.unwrap_err();
        assert_eq!(error.kind, Kind::Network, "{error}");
        let text = error.to_string();
        let expected = "reading DB cluster \"shop\": AWS was not reached: connection refused. Check the network";
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("very-secret") && !text.contains('{'), "{text}");
    }
}
