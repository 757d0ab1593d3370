// SPDX-License-Identifier: MPL-2.0

//! `aws_iam_auth`: an RDS IAM token for each connection, instead of a password.

use futures_util::future::{BoxFuture, FutureExt};

use super::server_block::{self, ServerBlock};
use super::side::Side;
use crate::postgres::{Conninfo, Passwords, Secret, SslMode};
use crate::rds::auth_token::{AuthTokens, check_host};
use crate::tf_provider::diagnostics::{Error, Result};

/// The tokens of one server.
pub(super) struct IamPasswords(pub(super) AuthTokens);

impl Passwords for IamPasswords {
    fn current(&self) -> BoxFuture<'_, std::result::Result<Secret, String>> {
        let token = async {
            let token = self.0.current().await.map_err(|error| error.to_string())?;
            Ok(Secret::new(token.text))
        };
        token.boxed()
    }
}

/// Whether a server's block requires tokens.
pub(super) fn is_asked_for(block: &ServerBlock) -> bool {
    block.aws_iam_auth.known() == Some(&true)
}

/// Refuses options that cannot be combined with a token.
///
/// # Errors
/// When there is a password too, the host is not an RDS host, or the connection might not use TLS.
pub(super) fn check(side: Side, block: &ServerBlock, conninfo: &Conninfo) -> Result<()> {
    if conninfo.get("password").is_some() {
        let attribute = if block.password.known().is_some() { "password" } else { "aws_iam_auth" };
        return Err(Error::new(format!("{}: a password and aws_iam_auth exclude each other", side.name()))
            .detail("The token is the password. Leave out aws_iam_auth, or the password, in the URL too.")
            .at(&server_block::path(side, attribute)));
    }
    if let Some(Err(why)) = conninfo.get("host").map(check_host) {
        let attribute = if block.host.known().is_some() { "host" } else { "url" };
        return Err(Error::new(format!("{}: aws_iam_auth needs an RDS endpoint, and {why}", side.name()))
            .at(&server_block::path(side, attribute)));
    }
    let mode = conninfo.get("sslmode").and_then(|mode| mode.parse::<SslMode>().ok());
    match mode.filter(|mode| *mode < SslMode::Require) {
        Some(mode) => {
            let attribute = if block.sslmode.known().is_some() { "sslmode" } else { "url" };
            Err(Error::new(format!(
                "{}: aws_iam_auth needs TLS, and sslmode = \"{mode}\" allows a connection \
                 without it",
                side.name()
            ))
            .detail("Set sslmode to \"require\", \"verify-ca\" or \"verify-full\", or leave it out.")
            .at(&server_block::path(side, attribute)))
        }
        None => Ok(()),
    }
}
