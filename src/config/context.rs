// SPDX-License-Identifier: MPL-2.0

//! The result of the provider's configuration: two servers and access to AWS, none of them connected yet.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::AwsBlock;
use super::iam::{self, IamPasswords};
use super::server_block::{self, ServerBlock};
use super::server_config::{Given, Reach};
use super::side::Side;
use crate::postgres::{Database, Server, ServerConfig};
use crate::rds;
use crate::rds::auth_token::{AuthTokens, Login};
use crate::rds::logical_replication::Patience;
use crate::rds::wait::Polling;
use crate::replication::{Intended, Pair};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::timeouts::parse_duration;

/// The state of a server's configuration.
pub(super) enum Endpoint {
    /// Not configured at all, or too little to connect; the text says what is missing.
    Missing(String),
    /// Configured with a value that is not known before apply.
    Waiting(AttributePath),
    /// Ready to connect.
    Ready(Box<Ready>),
}

/// A server, and how to log in there.
pub(super) struct Ready {
    server: Server,
    uses_iam: bool,
}

impl Endpoint {
    /// Reads a side's block. `environment` returns variables.
    pub(super) fn resolve(
        side: Side,
        block: &Attr<ServerBlock>,
        aws: &Attr<AwsBlock>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let empty = ServerBlock::default();
        let block = match block {
            Attr::Unknown => return Ok(Self::Waiting(AttributePath::of(side.name()))),
            Attr::Null => &empty,
            Attr::Known(block) => block,
        };
        let url = match &block.url {
            Attr::Null => environment(side.variable()).filter(|url| !url.is_empty()),
            url => url.known().cloned(),
        };
        let conninfo = server_block::merged(side, block, url.as_deref())?;
        server_block::check_host(side, block, &conninfo)?;
        let uses_iam = iam::is_asked_for(block);
        if uses_iam {
            iam::check(side, block, &conninfo)?;
        }
        let given = Given { side, block, conninfo: &conninfo, uses_iam };
        given.check()?;
        if let Some(attribute) = server_block::unknown(block) {
            return Ok(Self::Waiting(server_block::path(side, attribute)));
        }
        match unknown_aws_value(aws).filter(|_| uses_iam) {
            Some(path) => Ok(Self::Waiting(path)),
            None => Ok(ready(side, aws, uses_iam, given.reach()?)),
        }
    }
}

fn ready(side: Side, aws: &Attr<AwsBlock>, uses_iam: bool, reach: Reach) -> Endpoint {
    match reach {
        Reach::Missing(what) => Endpoint::Missing(format!(
            "Give the {what} in the provider's {} block, or a URL that names it in {}.",
            side.name(),
            side.variable()
        )),
        Reach::Complete(config) => {
            let server = if uses_iam { with_tokens(*config, aws) } else { Server::new(*config) };
            Endpoint::Ready(Box::new(Ready { server, uses_iam }))
        }
    }
}

fn with_tokens(config: ServerConfig, aws: &Attr<AwsBlock>) -> Server {
    let login = Login { host: config.host.clone(), port: config.port, username: config.username.clone() };
    let tokens = AuthTokens::new(aws_config(aws.known()), login);
    Server::with_passwords(config, Arc::new(IamPasswords(tokens)))
}

/// One of the two servers, as far as its configuration is known.
pub struct ConfiguredServer {
    side: Side,
    endpoint: Endpoint,
}

impl ConfiguredServer {
    /// The name of its block: `publisher` or `subscriber`.
    pub fn name(&self) -> &'static str {
        self.side.name()
    }

    /// Whether a value of its configuration is not known before apply: a plan must do without it.
    pub fn is_waiting(&self) -> bool {
        matches!(self.endpoint, Endpoint::Waiting(_))
    }

    /// The server. Does not connect.
    ///
    /// # Errors
    /// When it is not configured, or a value of its configuration is not known yet.
    pub fn server(&self) -> Result<&Server> {
        Ok(&self.ready()?.server)
    }

    /// One of its databases, by default the configured one. Does not connect.
    ///
    /// # Errors
    /// As [`ConfiguredServer::server`].
    pub fn database(&self, name: Option<&str>) -> Result<Database> {
        Ok(self.server()?.database(name))
    }

    /// The name of the configured database, if known.
    pub fn database_name(&self) -> Option<String> {
        self.server().ok().map(|server| server.config().database.clone())
    }

    /// Whether connections use IAM tokens, which other servers can use only for a short time.
    pub fn uses_iam(&self) -> bool {
        self.ready().is_ok_and(|ready| ready.uses_iam)
    }

    fn ready(&self) -> Result<&Ready> {
        match &self.endpoint {
            Endpoint::Ready(ready) => Ok(ready),
            Endpoint::Missing(remedy) => {
                Err(Error::new(format!("the provider has no {} to connect to", self.name())).detail(remedy))
            }
            Endpoint::Waiting(path) => {
                Err(Error::new(format!("the provider's {path} is not known yet")).detail(format!(
                    "Existing objects can only be read if the {} is known while planning. First apply the resource \
                     that the value comes from, for instance with -target.",
                    self.name()
                )))
            }
        }
    }
}

/// The context of a configured provider, shared by all of its resources.
pub struct Context {
    publisher: ConfiguredServer,
    subscriber: ConfiguredServer,
    aws: Attr<AwsBlock>,
    cluster_api: OnceLock<rds::RdsClusters>,
    instance_api: OnceLock<rds::RdsInstances>,
    intended: Intended,
}

impl Context {
    pub(super) fn new(publisher: Endpoint, subscriber: Endpoint, aws: Attr<AwsBlock>) -> Self {
        let publisher = ConfiguredServer { side: Side::Publisher, endpoint: publisher };
        let subscriber = ConfiguredServer { side: Side::Subscriber, endpoint: subscriber };
        let (cluster_api, instance_api) = (OnceLock::new(), OnceLock::new());
        Self { publisher, subscriber, aws, cluster_api, instance_api, intended: Intended::default() }
    }

    /// The objects that the plans of this run will create.
    pub fn intended(&self) -> &Intended {
        &self.intended
    }

    /// The server that is replicated from.
    pub fn publisher(&self) -> &ConfiguredServer {
        &self.publisher
    }

    /// The server that is replicated to.
    pub fn subscriber(&self) -> &ConfiguredServer {
        &self.subscriber
    }

    /// The databases of these names on both sides; by default the configured ones. Does not connect.
    ///
    /// # Errors
    /// When a side is not configured, or its values are not known yet.
    pub(crate) fn pair(&self, publisher: &Attr<String>, subscriber: &Attr<String>) -> Result<Pair> {
        Ok(Pair {
            publisher: self.publisher.database(publisher.known().map(String::as_str))?,
            subscriber: self.subscriber.database(subscriber.known().map(String::as_str))?,
        })
    }

    /// Whether a value of the `aws` block is not known before apply.
    pub fn is_aws_waiting(&self) -> bool {
        unknown_aws_value(&self.aws).is_some()
    }

    /// How to reach AWS.
    ///
    /// # Errors
    /// When a value of the `aws` block is not known yet.
    pub fn aws(&self) -> Result<rds::AwsConfig> {
        match unknown_aws_value(&self.aws) {
            Some(path) => Err(Error::new(format!("the provider's {path} is not known yet"))
                .detail("AWS can only be asked if the access to it is known while planning.")),
            None => Ok(aws_config(self.aws.known())),
        }
    }

    /// The RDS API. Makes no call and looks for no credentials yet.
    ///
    /// # Errors
    /// When a value of the `aws` block is not known yet.
    pub fn cluster_api(&self) -> Result<&rds::RdsClusters> {
        let config = self.aws()?;
        Ok(self.cluster_api.get_or_init(|| rds::RdsClusters::new(config)))
    }

    /// The RDS API for single DB instances.
    ///
    /// # Errors
    /// As [`Context::cluster_api`].
    pub fn instance_api(&self) -> Result<&rds::RdsInstances> {
        let config = self.aws()?;
        Ok(self.instance_api.get_or_init(|| rds::RdsInstances::new(config)))
    }

    /// How often AWS is asked during a wait. The variable `NEONREPL_AWS_POLL_INTERVAL` (such as `500ms`) overrides it,
    /// for tests and for throttled accounts.
    pub fn polling(&self) -> Polling {
        poll_interval().map_or_else(Polling::default, |interval| Polling { first: interval, longest: interval })
    }

    /// How long to wait for AWS to show an accepted change: a number of looks if their interval is set.
    pub fn patience(&self) -> Patience {
        let default = Patience::default();
        let settle = poll_interval().map_or(default.settle, |interval| (interval * 20).min(default.settle));
        Patience { settle, ..default }
    }
}

/// The first value of the `aws` block that is not known before apply.
fn unknown_aws_value(block: &Attr<AwsBlock>) -> Option<AttributePath> {
    let root = AttributePath::of("aws");
    let block = match block {
        Attr::Null => return None,
        Attr::Unknown => return Some(root),
        Attr::Known(block) => block,
    };
    let attributes = [
        ("region", &block.region),
        ("profile", &block.profile),
        ("access_key", &block.access_key),
        ("secret_key", &block.secret_key),
        ("token", &block.token),
        ("endpoint_url", &block.endpoint_url),
        ("assume_role_arn", &block.assume_role_arn),
        ("assume_role_external_id", &block.assume_role_external_id),
    ];
    let unknown = attributes.into_iter().find(|(_, value)| value.is_unknown()).map(|(name, _)| name);
    let unknown = unknown.or(block.max_attempts.is_unknown().then_some("max_attempts"));
    unknown.map(|name| root.attribute(name))
}

fn poll_interval() -> Option<Duration> {
    std::env::var("NEONREPL_AWS_POLL_INTERVAL").ok().and_then(|text| parse_duration(&text))
}

fn aws_config(block: Option<&AwsBlock>) -> rds::AwsConfig {
    let Some(block) = block else { return rds::AwsConfig::default() };
    rds::AwsConfig {
        region: block.region.known().cloned(),
        profile: block.profile.known().cloned(),
        access_key: block.access_key.known().cloned(),
        secret_key: block.secret_key.known().cloned(),
        token: block.token.known().cloned(),
        endpoint_url: block.endpoint_url.known().cloned(),
        max_attempts: block.max_attempts.known().and_then(|most| u32::try_from(*most).ok()),
        assume_role_arn: block.assume_role_arn.known().cloned(),
        assume_role_external_id: block.assume_role_external_id.known().cloned(),
    }
}

#[cfg(test)]
mod tests;
