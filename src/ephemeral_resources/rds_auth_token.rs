// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_rds_auth_token`: a token that RDS accepts as a password for a quarter of an hour.

use crate::config::Context;
use crate::rds::auth_token::{AuthTokens, Login, check_host};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::ephemeral_resource::{EphemeralResource, Opened};
use crate::tf_provider::rfc3339;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// The default port.
const DEFAULT_PORT: u16 = 5432;

/// The ephemeral resource.
pub(super) struct RdsAuthToken;

crate::model! {
    /// The login, and its token.
    pub(super) struct Model {
        /// The host name in RDS.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The database role.
        username: Attr<String>,
        /// The region.
        region: Attr<String>,
        /// The token.
        token: Attr<String>,
        /// When RDS stops accepting it.
        expires_at: Attr<String>,
    }
}

impl EphemeralResource for RdsAuthToken {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_rds_auth_token";

    fn schema() -> Schema {
        let text = |name: &str, description: &str| Attribute::required(name, Type::String, description);
        Schema::new(
            "A token of IAM database authentication, which RDS and Aurora accept as a password. The provider signs \
             it with the credentials of its `aws` block, without a call to AWS. It is stored in neither plan nor \
             state.",
        )
        .attribute(
            text("host", "The endpoint of the instance, the cluster or the proxy, as RDS names it.")
                .text(|host| check_host(host).map_err(|why| format!("{why}."))),
        )
        .attribute(
            Attribute::optional("port", Type::Number, "The port that the endpoint listens on. Default: `5432`.")
                .between(1, 65535),
        )
        .attribute(
            text("username", "The database role. It needs `rds_iam`, and the AWS identity `rds-db:connect` on it.")
                .text(not_empty),
        )
        .attribute(
            Attribute::optional(
                "region",
                Type::String,
                "The region of the endpoint. Default: that of the `aws` block, otherwise that in the host's name, \
                 otherwise the AWS SDK's.",
            )
            .text(not_empty),
        )
        .attribute(Attribute::computed("token", Type::String, "The token: the password to connect with.").sensitive())
        .attribute(Attribute::computed(
            "expires_at",
            Type::String,
            "When the token expires (RFC 3339): 15 minutes after it was signed, or when the credentials that signed \
             it expire, if that is sooner. Connections that were opened with it stay open.",
        ))
    }

    async fn open(call: &Call<Context>, config: Model) -> Result<Opened<Model>> {
        let mut aws = call.context().aws()?;
        if let Some(region) = config.region.known() {
            aws.region = Some(region.clone());
        }
        let tokens = AuthTokens::new(aws, login(&config)?);
        let token = call.unless_stopped(tokens.sign()).await?;
        let expires_at = rfc3339::utc(token.expires_at);
        let result = Model { token: token.text.into(), expires_at: expires_at.into(), ..config };
        // A token cannot be renewed: if it is needed for longer, open another one.
        Ok(Opened { result, renew_at: None })
    }
}

fn login(config: &Model) -> Result<Login> {
    let port = config.port.known().map_or(Ok(DEFAULT_PORT), |port| u16::try_from(*port));
    let port = port.map_err(|_| Error::new("the port must be from 1 to 65535").attribute("port"))?;
    Ok(Login {
        host: config.host.required("host")?.clone(),
        port,
        username: config.username.required("username")?.clone(),
    })
}

fn not_empty(text: &str) -> std::result::Result<(), String> {
    if text.trim().is_empty() { Err("It must not be empty.".to_owned()) } else { Ok(()) }
}
