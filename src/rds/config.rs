// SPDX-License-Identifier: MPL-2.0

//! How to reach AWS: the provider's `aws` block, and the SDK's own chain for absent values.

use std::fmt;
use std::time::Duration;

use aws_config::meta::region::RegionProviderChain;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_rds::config::{Credentials, Region, SharedCredentialsProvider};

use super::{Error, Kind, Result};

/// How long one attempt of a call may take; then the SDK tries again.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach AWS. Absent values follow the SDK's own chain of environment, profile and instance metadata.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AwsConfig {
    /// The region, as in `us-east-2`.
    pub region: Option<String>,
    /// The profile of the shared configuration files.
    pub profile: Option<String>,
    /// The access key id; with it, no other source of credentials is used.
    pub access_key: Option<String>,
    /// The secret access key.
    pub secret_key: Option<String>,
    /// The session token of temporary credentials.
    pub token: Option<String>,
    /// The address of the RDS API, instead of AWS's own.
    pub endpoint_url: Option<String>,
    /// How many times a call is tried; the SDK's default is 3.
    pub max_attempts: Option<u32>,
    /// The role to assume.
    pub assume_role_arn: Option<String>,
    /// The external id that the role requires.
    pub assume_role_external_id: Option<String>,
}

impl fmt::Debug for AwsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsConfig")
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("access_key", &self.access_key)
            .field("secret_key", &self.secret_key.as_ref().map(|_| "(sensitive)"))
            .field("token", &self.token.as_ref().map(|_| "(sensitive)"))
            .field("endpoint_url", &self.endpoint_url)
            .field("max_attempts", &self.max_attempts)
            .field("assume_role_arn", &self.assume_role_arn)
            .finish_non_exhaustive()
    }
}

impl AwsConfig {
    /// Resolves absent values and creates the SDK's configuration: region, credentials, retries and timeouts, but not
    /// the RDS endpoint. It reads files, the environment and, only if nothing else is given, instance metadata.
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
            return Err(Error::new(Kind::Denied, "configuring the AWS client", "no region is configured")
                .hint("Set region in the aws block, or AWS_REGION"));
        }
        Ok(self.assume_role(config).await)
    }

    /// Where credentials are searched: what to check if none were found.
    pub(super) fn remedy(&self) -> String {
        let by_environment = || std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty());
        match (&self.profile, &self.assume_role_arn, by_environment()) {
            (Some(profile), ..) => format!(
                "Check profile {profile:?} of the aws block: the shared configuration files (~/.aws/config and ~/.aws/credentials) \
                 must have it, with credentials or a way to get them; for single sign-on, run aws sso login --profile {profile} \
                 again"
            ),
            (None, Some(arn), _) => format!("Check the credentials that role {arn} (assume_role_arn) is assumed with"),
            (None, None, Some(profile)) => format!(
                "Check profile {profile:?}, which the variable AWS_PROFILE names: the shared configuration files must have it, with \
                 credentials or a way to get them"
            ),
            (None, None, None) => "Set profile, or access_key and secret_key, in the aws block; or set AWS_PROFILE, \
                 or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or run where a role provides credentials"
                .to_owned(),
        }
    }

    fn keys(&self) -> Result<Option<Credentials>> {
        match (&self.access_key, &self.secret_key) {
            (Some(id), Some(secret)) => {
                Ok(Some(Credentials::new(id, secret, self.token.clone(), None, "neonrepl aws block")))
            }
            (None, None) => Ok(None),
            _ => Err(Error::new(
                Kind::Denied,
                "configuring the AWS client",
                "access_key and secret_key must be set together",
            )),
        }
    }

    /// With given keys, instance metadata is not asked for the region: users with keys are seldom on an instance, and
    /// without an answer it takes seconds to time out.
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
        let shown = format!("{config:?}");
        assert!(shown.contains("AKIA"));
        assert!(!shown.contains("very-secret") && !shown.contains("a-token"), "{shown}");
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
}
