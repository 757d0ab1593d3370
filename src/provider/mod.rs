//! The provider `neonrepl`: its configuration block, and what is made of it.

mod context;
mod errors;
mod iam;
mod server_block;

use self::context::Endpoint;
pub use self::context::{Context, Side};
pub(crate) use self::server_block::SSL_MODES;
use self::server_block::ServerBlock;
use crate::tf_provider::action::AnyAction;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::data_source::AnyDataSource;
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::ephemeral_resource::AnyEphemeralResource;
use crate::tf_provider::function::Function;
use crate::tf_provider::list_resource::AnyListResource;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::resource::AnyResource;
use crate::tf_provider::schema::{Attribute, Block, NestedBlock, Schema, Type};
use crate::{actions, data_sources, ephemeral_resources, functions, list_resources, resources};

/// The provider: two servers, and access to AWS.
pub struct NeonRepl;

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
    /// The `aws` block; what is absent follows the AWS SDK's own chain.
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
        /// How often a call is tried.
        max_attempts: Attr<i64>,
        /// The role to assume.
        assume_role_arn: Attr<String>,
        /// The external id that the role asks for.
        assume_role_external_id: Attr<String>,
    }
}

impl Provider for NeonRepl {
    type Config = Config;
    type Context = Context;

    fn schema() -> Schema {
        Schema::new(
            "Replicates data from Aurora PostgreSQL, or from any Postgres, to Neon by logical replication. \
             One provider configuration describes one pair of servers.",
        )
        .block(server_block::schema(Side::Publisher))
        .block(server_block::schema(Side::Subscriber))
        .block(aws_schema())
    }

    fn validate(config: &Config, diagnostics: &mut Diagnostics) {
        server_block::validate(Side::Publisher, &config.publisher, &config.aws, diagnostics);
        server_block::validate(Side::Subscriber, &config.subscriber, &config.aws, diagnostics);
    }

    fn configure(config: Config, _diagnostics: &mut Diagnostics) -> Result<Context> {
        let endpoint = |side, block| Endpoint::resolve(side, block, &config.aws, |name| std::env::var(name).ok());
        let publisher = endpoint(Side::Publisher, &config.publisher)?;
        let subscriber = endpoint(Side::Subscriber, &config.subscriber)?;
        Ok(Context::new(publisher, subscriber, config.aws))
    }

    fn resources() -> &'static [&'static dyn AnyResource<Context>] {
        resources::ALL
    }

    fn data_sources() -> &'static [&'static dyn AnyDataSource<Context>] {
        data_sources::ALL
    }

    fn ephemeral_resources() -> &'static [&'static dyn AnyEphemeralResource<Context>] {
        ephemeral_resources::ALL
    }

    fn list_resources() -> &'static [&'static dyn AnyListResource<Context>] {
        list_resources::ALL
    }

    fn actions() -> &'static [&'static dyn AnyAction<Context>] {
        actions::ALL
    }

    fn functions() -> &'static [&'static dyn Function] {
        functions::ALL
    }
}

fn aws_schema() -> NestedBlock {
    let text = |name: &str, description: &str| Attribute::optional(name, Type::String, description);
    let block = Block::new(
        "Access to the AWS API. What is absent follows the AWS SDK's own chain: environment variables, shared \
         configuration files, single sign-on, the container's or the instance's role.",
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
            "How often a call is tried before its failure is final: throttling and faults of the network are retried. \
             Default: the SDK's, 3.",
        )
        .between(1, 100),
    )
    .attribute(text("assume_role_arn", "The ARN of a role to assume."))
    .attribute(text("assume_role_external_id", "The external id that the role's trust policy asks for."));
    NestedBlock::single("aws", block)
}
