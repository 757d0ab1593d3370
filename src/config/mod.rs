// SPDX-License-Identifier: MPL-2.0

//! The provider's configuration block, and its result: two servers and access to AWS, none of them connected yet.

pub(crate) mod building;
mod context;
mod errors;
mod given;
mod iam;
mod names;
mod server_block;
mod server_config;
mod side;
mod url;

use self::context::Endpoint;
pub use self::context::{ConfiguredServer, Context};
pub(crate) use self::names::{are_empty, check_name, check_table, names};
pub(crate) use self::server_block::SSL_MODES;
use self::server_block::ServerBlock;
pub use self::side::Side;
pub use self::url::server;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::schema::{Attribute, Block, NestedBlock, Schema, Type};

crate::model! {
    /// The `provider` block.
    pub struct Config {
        /// The server that is replicated from.
        publisher: Attr<ServerBlock>,
        /// The server that is replicated to.
        subscriber: Attr<ServerBlock>,
        /// Access to AWS.
        aws: Attr<AwsBlock>,
    }
}

crate::model! {
    /// The `aws` block; absent values follow the AWS SDK's own chain.
    pub struct AwsBlock {
        /// The region of the Aurora cluster.
        region: Attr<String>,
        /// The profile of the shared configuration files.
        profile: Attr<String>,
        /// The access key's id.
        access_key: Attr<String>,
        /// The secret access key.
        secret_key: Attr<String>,
        /// The session token of temporary credentials.
        token: Attr<String>,
        /// The address of the RDS API.
        endpoint_url: Attr<String>,
        /// How many times a call is tried.
        max_attempts: Attr<i64>,
        /// The role to assume.
        assume_role_arn: Attr<String>,
        /// The external id that the role requires.
        assume_role_external_id: Attr<String>,
    }
}

/// The schema of the block.
pub fn schema() -> Schema {
    Schema::new(
        "Replicates data from Aurora PostgreSQL, or from any Postgres, to Neon by logical replication. \
         One provider configuration describes one pair of servers.",
    )
    .block(server_block::schema(Side::Publisher))
    .block(server_block::schema(Side::Subscriber))
    .block(aws_schema())
}

/// Checks everything that can be checked before any value of the environment is read.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    for (side, block) in [(Side::Publisher, &config.publisher), (Side::Subscriber, &config.subscriber)] {
        diagnostics.take(Endpoint::resolve(side, block, &config.aws, |_| None));
    }
}

/// The context from the block and the environment. Nothing is connected.
///
/// # Errors
/// When a value of the block, or a variable of the environment, is not valid.
pub fn configure(config: Config) -> Result<Context> {
    let endpoint = |side, block| Endpoint::resolve(side, block, &config.aws, |name| std::env::var(name).ok());
    let publisher = endpoint(Side::Publisher, &config.publisher)?;
    let subscriber = endpoint(Side::Subscriber, &config.subscriber)?;
    Ok(Context::new(publisher, subscriber, config.aws))
}

fn aws_schema() -> NestedBlock {
    let text = |name: &str, description: &str| Attribute::optional(name, Type::String, description);
    let block = Block::new(
        "Access to the AWS API. The AWS SDK looks for missing values in its usual places: environment \
         variables, shared configuration files, single sign-on, the role of the container or the instance.",
    )
    .attribute(text("region", "The region of the Aurora cluster, such as `us-east-2`."))
    .attribute(text("profile", "The profile of the shared configuration files to use."))
    .attribute(text("access_key", "The id of an access key; together with `secret_key`."))
    .attribute(text("secret_key", "The secret access key.").sensitive())
    .attribute(text("token", "The session token of temporary credentials.").sensitive())
    .attribute(text("endpoint_url", "The address of the RDS API, for a proxy, a VPC endpoint or a test."))
    .attribute(
        Attribute::optional(
            "max_attempts",
            Type::Number,
            "How often a call is tried if it is throttled or the network fails. Default: 3, as in the AWS SDK.",
        )
        .between(1, 100),
    )
    .attribute(text("assume_role_arn", "The ARN of a role to assume."))
    .attribute(text("assume_role_external_id", "The external id that the role's trust policy asks for."));
    NestedBlock::single("aws", block)
}
