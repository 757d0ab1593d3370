//! [`ClusterApi`] through the AWS SDK. The SDK's client is made on the first call and not before.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_rds::config::{Credentials, Region, SharedCredentialsProvider};
use aws_sdk_rds::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_rds::operation::RequestId;
use aws_sdk_rds::types;
use tokio::sync::OnceCell;

use super::api::{
    ApplyMethod, ApplyType, Cluster, ClusterApi, Instance, Member, NewParameterGroup, Parameter,
    ParameterGroup, ParameterSetting, Source,
};
use super::error::classify;
use super::{Error, Kind, Result};

/// One attempt of one call takes no longer than this; the SDK then tries again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach AWS. What is absent follows the SDK's own chain of environment, profile and instance metadata.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AwsConfig {
    /// The region, as in `us-east-2`.
    pub region: Option<String>,
    /// The profile of the shared configuration files.
    pub profile: Option<String>,
    /// The access key id; with it, no other source of credentials is asked.
    pub access_key: Option<String>,
    /// The secret access key.
    pub secret_key: Option<String>,
    /// The session token of temporary credentials.
    pub token: Option<String>,
    /// Where the RDS API is, instead of AWS's own address.
    pub endpoint_url: Option<String>,
    /// How many times one call is tried in all; the SDK's default is 3.
    pub max_attempts: Option<u32>,
    /// The role to take on.
    pub assume_role_arn: Option<String>,
    /// The external id that the role asks for.
    pub assume_role_external_id: Option<String>,
}

impl fmt::Debug for AwsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsConfig")
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("access_key", &self.access_key)
            .field(
                "secret_key",
                &self.secret_key.as_ref().map(|_| "(sensitive)"),
            )
            .field("token", &self.token.as_ref().map(|_| "(sensitive)"))
            .field("endpoint_url", &self.endpoint_url)
            .field("max_attempts", &self.max_attempts)
            .field("assume_role_arn", &self.assume_role_arn)
            .finish_non_exhaustive()
    }
}

impl AwsConfig {
    /// Resolves what is absent and makes the SDK's configuration: region, credentials, retries and timeouts, but not the
    /// RDS endpoint. It reads files and environment and, only where nothing else is given, instance metadata.
    pub async fn sdk_config(&self) -> Result<aws_config::SdkConfig> {
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(self.region_chain())
            .retry_config(self.retry_config())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .build(),
            );
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(keys) = self.keys()? {
            loader = loader.credentials_provider(keys);
        }
        let config = loader.load().await;
        if config.region().is_none() {
            return Err(Error::new(
                Kind::Denied,
                "configuring the AWS client",
                "no region is configured",
            )
            .hint("Set region in the aws block, or AWS_REGION"));
        }
        Ok(self.assume_role(config).await)
    }

    fn keys(&self) -> Result<Option<Credentials>> {
        match (&self.access_key, &self.secret_key) {
            (Some(id), Some(secret)) => Ok(Some(Credentials::new(
                id,
                secret,
                self.token.clone(),
                None,
                "neonrepl aws block",
            ))),
            (None, None) => Ok(None),
            _ => Err(Error::new(
                Kind::Denied,
                "configuring the AWS client",
                "access_key and secret_key are only of use together",
            )),
        }
    }

    /// With keys given, instance metadata is not asked for the region: whoever brings keys is seldom on an instance, and the
    /// answer takes seconds to stay away.
    fn region_chain(&self) -> RegionProviderChain {
        let given = RegionProviderChain::first_try(self.region.clone().map(Region::new));
        if self.access_key.is_none() {
            return given.or_else(self.default_region());
        }
        given
            .or_else(aws_config::environment::region::EnvironmentVariableRegionProvider::new())
            .or_else(self.profile_region())
    }

    fn default_region(&self) -> aws_config::default_provider::region::DefaultRegionChain {
        let mut chain = aws_config::default_provider::region::Builder::default();
        if let Some(profile) = &self.profile {
            chain = chain.profile_name(profile);
        }
        chain.build()
    }

    fn profile_region(&self) -> aws_config::profile::region::ProfileFileRegionProvider {
        let mut provider = aws_config::profile::region::Builder::default();
        if let Some(profile) = &self.profile {
            provider = provider.profile_name(profile);
        }
        provider.build()
    }

    fn retry_config(&self) -> RetryConfig {
        match self.max_attempts {
            Some(attempts) => RetryConfig::standard().with_max_attempts(attempts.max(1)),
            None => RetryConfig::standard(),
        }
    }

    async fn assume_role(&self, config: aws_config::SdkConfig) -> aws_config::SdkConfig {
        let Some(arn) = &self.assume_role_arn else {
            return config;
        };
        let mut role = aws_config::sts::AssumeRoleProvider::builder(arn)
            .session_name("terraform-provider-neonrepl")
            .configure(&config);
        if let Some(id) = &self.assume_role_external_id {
            role = role.external_id(id);
        }
        let provider = SharedCredentialsProvider::new(role.build().await);
        config.into_builder().credentials_provider(provider).build()
    }
}

/// The RDS API through the AWS SDK.
#[derive(Debug)]
pub struct Rds {
    config: AwsConfig,
    client: OnceCell<aws_sdk_rds::Client>,
}

impl Rds {
    /// Resolves and connects nothing yet.
    #[must_use]
    pub fn new(config: AwsConfig) -> Self {
        Self {
            config,
            client: OnceCell::new(),
        }
    }

    async fn client(&self) -> Result<&aws_sdk_rds::Client> {
        self.client
            .get_or_try_init(|| async {
                let mut config =
                    aws_sdk_rds::config::Builder::from(&self.config.sdk_config().await?);
                if let Some(url) = &self.config.endpoint_url {
                    config = config.endpoint_url(url);
                }
                Ok(aws_sdk_rds::Client::from_conf(config.build()))
            })
            .await
    }
}

impl ClusterApi for Rds {
    async fn cluster(&self, identifier: &str) -> Result<Cluster> {
        let doing = format!("reading DB cluster \"{identifier}\"");
        let answer = self
            .client()
            .await?
            .describe_db_clusters()
            .db_cluster_identifier(identifier)
            .send()
            .await
            .map_err(|error| failure(&doing, error))?;
        let found = answer.db_clusters.unwrap_or_default().into_iter().next();
        found
            .map(Cluster::from)
            .ok_or_else(|| nothing_came(&doing, "cluster"))
    }

    async fn cluster_instances(&self, cluster: &str) -> Result<Vec<Instance>> {
        let mine = types::Filter::builder()
            .name("db-cluster-id")
            .values(cluster)
            .build();
        let mut pages = self
            .client()
            .await?
            .describe_db_instances()
            .filters(mine)
            .into_paginator()
            .items()
            .send();
        let mut instances = Vec::new();
        while let Some(instance) = pages.next().await {
            let instance = instance.map_err(|error| {
                failure(
                    &format!("listing the instances of DB cluster \"{cluster}\""),
                    error,
                )
            })?;
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
            .map_err(|error| failure(&doing, error))?;
        let found = answer.db_instances.unwrap_or_default().into_iter().next();
        found
            .map(Instance::from)
            .ok_or_else(|| nothing_came(&doing, "instance"))
    }

    async fn clusters_with_parameter_group(&self, group: &str) -> Result<Vec<String>> {
        let aurora = types::Filter::builder()
            .name("engine")
            .values("aurora-postgresql")
            .build();
        let mut pages = self
            .client()
            .await?
            .describe_db_clusters()
            .filters(aurora)
            .into_paginator()
            .items()
            .send();
        let mut clusters = Vec::new();
        while let Some(cluster) = pages.next().await {
            let cluster = Cluster::from(cluster.map_err(|error| {
                failure(
                    &format!("listing the DB clusters with cluster parameter group \"{group}\""),
                    error,
                )
            })?);
            if cluster.parameter_group == group {
                clusters.push(cluster.identifier);
            }
        }
        Ok(clusters)
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
            .map_err(|error| failure(&doing, error))?;
        let found = answer
            .db_cluster_parameter_groups
            .unwrap_or_default()
            .into_iter()
            .next();
        found
            .map(ParameterGroup::from)
            .ok_or_else(|| nothing_came(&doing, "parameter group"))
    }

    async fn create_parameter_group(&self, group: &NewParameterGroup) -> Result<ParameterGroup> {
        let doing = format!("creating cluster parameter group \"{}\"", group.name);
        let created = match &group.copy_of {
            Some(original) => self.copy_group(&doing, group, original).await?,
            None => self.create_group(&doing, group).await?,
        };
        created
            .map(ParameterGroup::from)
            .ok_or_else(|| nothing_came(&doing, "parameter group"))
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
            let parameter = parameter.map_err(|error| {
                failure(&format!("reading the parameters of \"{group}\""), error)
            })?;
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
        sent.map(drop).map_err(|error| {
            failure(
                &format!("setting {} in \"{group}\"", names(settings)),
                error,
            )
        })
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
        sent.map(drop).map_err(|error| {
            failure(
                &format!("resetting {} in \"{group}\"", names(settings)),
                error,
            )
        })
    }

    async fn delete_parameter_group(&self, name: &str) -> Result<()> {
        let sent = self
            .client()
            .await?
            .delete_db_cluster_parameter_group()
            .db_cluster_parameter_group_name(name)
            .send()
            .await;
        sent.map(drop).map_err(|error| {
            failure(
                &format!("deleting cluster parameter group \"{name}\""),
                error,
            )
        })
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
            failure(
                &format!(
                    "attaching cluster parameter group \"{group}\" to DB cluster \"{cluster}\""
                ),
                error,
            )
        })
    }

    async fn reboot_instance(&self, identifier: &str) -> Result<()> {
        let sent = self
            .client()
            .await?
            .reboot_db_instance()
            .db_instance_identifier(identifier)
            .send()
            .await;
        sent.map(drop)
            .map_err(|error| failure(&format!("rebooting DB instance \"{identifier}\""), error))
    }

    async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>> {
        let answer = self
            .client()
            .await?
            .list_tags_for_resource()
            .resource_name(arn)
            .send()
            .await
            .map_err(|error| failure(&format!("reading the tags of {arn}"), error))?;
        let tags = answer.tag_list.unwrap_or_default().into_iter();
        Ok(tags
            .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
            .collect())
    }

    async fn add_tags(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<()> {
        let sent = self
            .client()
            .await?
            .add_tags_to_resource()
            .resource_name(arn)
            .set_tags(Some(sdk_tags(tags)))
            .send()
            .await;
        sent.map(drop)
            .map_err(|error| failure(&format!("tagging {arn}"), error))
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
        sent.map(drop)
            .map_err(|error| failure(&format!("removing tags from {arn}"), error))
    }
}

impl Rds {
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
        sent.map(|answer| answer.db_cluster_parameter_group)
            .map_err(|error| failure(doing, error))
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
        sent.map(|answer| answer.db_cluster_parameter_group)
            .map_err(|error| failure(doing, error))
    }
}

/// What the SDK reports, as one of ours.
fn failure<E>(doing: &str, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(|service| service.code().map(str::to_owned));
    let message = service.and_then(|service| service.message().map(str::to_owned));
    let request_id = error.request_id().map(str::to_owned);
    let kind = match (&error, &code) {
        (_, Some(code)) => classify(code),
        (SdkError::ConstructionFailure(_), None) => Kind::Denied,
        (SdkError::ServiceError(answer), None) if answer.raw().status().is_server_error() => {
            Kind::Throttled
        }
        _ => Kind::Network,
    };
    let mut failure = Error::new(kind, doing, message.unwrap_or_else(|| causes(&error)));
    failure.code = code;
    failure.request_id = request_id;
    match kind {
        Kind::Denied => failure.hint("Check the credentials and the IAM policy of the aws block"),
        _ => failure,
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

fn nothing_came(doing: &str, what: &str) -> Error {
    Error::new(
        Kind::NotFound,
        doing,
        format!("AWS answered with no {what}"),
    )
}

fn names(settings: &[ParameterSetting]) -> String {
    settings
        .iter()
        .map(|setting| setting.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn sdk_tags(tags: &BTreeMap<String, String>) -> Vec<types::Tag> {
    tags.iter()
        .map(|(key, value)| types::Tag::builder().key(key).value(value).build())
        .collect()
}

fn sdk_parameter(setting: &ParameterSetting) -> types::Parameter {
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
            identifier: cluster.db_cluster_identifier.unwrap_or_default(),
            status: cluster.status.unwrap_or_default(),
            engine: cluster.engine.unwrap_or_default(),
            engine_version: cluster.engine_version.unwrap_or_default(),
            engine_mode: cluster.engine_mode,
            parameter_group: cluster.db_cluster_parameter_group.unwrap_or_default(),
            endpoint: cluster.endpoint,
            port: cluster.port.and_then(|port| u16::try_from(port).ok()),
            members: members.into_iter().map(Member::from).collect(),
            has_pending_modifications: cluster.pending_modified_values.is_some_and(|pending| {
                pending != types::ClusterPendingModifiedValues::builder().build()
            }),
            global_cluster: cluster.global_cluster_identifier,
            replication_source: cluster
                .replication_source_identifier
                .filter(|source| !source.is_empty()),
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
        Self {
            identifier: instance.db_instance_identifier.unwrap_or_default(),
            status: instance.db_instance_status.unwrap_or_default(),
            publicly_accessible: instance.publicly_accessible.unwrap_or_default(),
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

/// What the API leaves out is taken as the careful choice: static, and modifiable so that AWS itself may refuse.
fn parameter_from(parameter: types::Parameter) -> Option<Parameter> {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show() {
        let config = AwsConfig {
            access_key: Some("AKIA".to_owned()),
            secret_key: Some("very-secret".to_owned()),
            token: Some("a-token".to_owned()),
            ..AwsConfig::default()
        };
        let shown = format!("{config:?} {:?}", Rds::new(config.clone()));
        assert!(
            !shown.contains("very-secret") && !shown.contains("a-token"),
            "{shown}"
        );
    }

    #[tokio::test]
    async fn half_a_key_pair_is_refused() {
        let config = AwsConfig {
            region: Some("us-east-2".to_owned()),
            access_key: Some("AKIA".to_owned()),
            ..AwsConfig::default()
        };
        assert_eq!(config.sdk_config().await.unwrap_err().kind, Kind::Denied);
    }

    #[tokio::test]
    async fn an_unreachable_endpoint_is_a_network_error() {
        let rds = Rds::new(AwsConfig {
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
        assert!(
            text.starts_with("reading DB cluster \"shop\": dispatch failure"),
            "{text}"
        );
        assert!(
            !text.contains("very-secret") && !text.contains('{'),
            "{text}"
        );
    }
}
