// SPDX-License-Identifier: MPL-2.0

//! A server from its URL alone, for code without a provider block.

use std::sync::Arc;

use super::server_block::{self, ServerBlock};
use super::server_config::{Given, Reach};
use super::side::Side;
use crate::postgres::conninfo::Conninfo;
use crate::postgres::{self, Server};
use crate::tf_provider::diagnostics::{Error, Result};

/// The server of a URL, with the defaults and checks of the provider block. Does not connect.
///
/// `giver` is the source of the URL, an option or a variable of the environment: errors begin with it. No error
/// contains a password.
///
/// # Errors
/// When it is not a connection string, lacks a host, user or database, or has an option that would be ignored; and for
/// a pooler or, on the publisher's side, a reader.
pub fn server(side: Side, url: &str, giver: &str) -> Result<Server> {
    let conninfo = Conninfo::parse(url).map_err(|error| {
        Error::new(format!("{giver}: {error}"))
            .detail("Write postgresql://user:password@host:port/database, with reserved characters percent-encoded.")
    })?;
    // With the URL in the block, errors do not mention the environment; the giver replaces the block's name.
    let block = ServerBlock { url: url.into(), ..ServerBlock::default() };
    match reach(side, &block, &conninfo).map_err(|error| at_giver(side, giver, &error))? {
        Reach::Missing(what) => Err(Error::new(format!("{giver}: the URL has no {what}"))
            .detail("Write postgresql://user:password@host:port/database.")),
        Reach::Complete(mut config) => {
            config.given = Arc::new(postgres::Given::named(|keyword| named(keyword, giver)));
            Ok(Server::new(*config))
        }
    }
}

fn reach(side: Side, block: &ServerBlock, conninfo: &Conninfo) -> Result<Reach> {
    server_block::check_host(side, block, conninfo)?;
    let given = Given { side, block, conninfo, uses_iam: false };
    given.check()?;
    given.reach()
}

/// The name of a value of the URL, for errors.
fn named(keyword: &str, giver: &str) -> String {
    let name = match keyword {
        "dbname" => "database",
        "user" => "username",
        keyword => keyword,
    };
    format!("{name} in the URL of {giver}")
}

/// The error with the giver's name instead of the block's.
fn at_giver(side: Side, giver: &str, error: &Error) -> Error {
    let block = format!("{}: ", side.name());
    let cause = error.summary().strip_prefix(&block).unwrap_or(error.summary());
    Error::new(format!("{giver}: {cause}")).detail(error.details())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::SslMode;

    fn refused(side: Side, url: &str) -> String {
        server(side, url, "--url").err().unwrap().to_string()
    }

    #[test]
    fn a_url_has_the_defaults_of_the_block() {
        let neon = server(Side::Subscriber, "postgresql://u:p@ep-cool-1.us-east-2.aws.neon.tech/d", "--url").unwrap();
        assert_eq!(neon.config().sslmode, SslMode::VerifyFull);
        assert_eq!(neon.config().port, 5432);
        assert_eq!(neon.config().given.database, "database in the URL of --url");
        let local = server(Side::Publisher, "host=127.0.0.1 user=u dbname=d port=6000", "--url").unwrap();
        assert_eq!((local.config().sslmode, local.config().port), (SslMode::Prefer, 6000));
    }

    #[test]
    fn what_is_wrong_is_said_of_the_giver_without_the_password() {
        let neon = "postgresql://u:hidden-pw@ep-cool-1-pooler.us-east-2.aws.neon.tech/d";
        let reader = "postgresql://u:hidden-pw@shop.cluster-ro-abc.us-east-2.rds.amazonaws.com/d";
        let cases = [
            refused(Side::Subscriber, neon),
            refused(Side::Publisher, reader),
            refused(Side::Publisher, "mysql://u:hidden-pw@h/d"),
            refused(Side::Publisher, "postgresql://u:hidden-pw@h:port/d"),
            refused(Side::Publisher, "postgresql://u:hidden-pw@h"),
            refused(Side::Publisher, "postgresql://u:hidden-pw@h/d?sslmode=sometimes"),
            refused(Side::Publisher, ""),
        ];
        for error in &cases {
            assert!(error.starts_with("--url: ") && !error.contains("hidden-pw"), "{error}");
            assert!(!error.contains("block") && !error.contains("attribute"), "{error}");
        }
        assert!(cases[0].contains("Use the direct host: ep-cool-1.us-east-2.aws.neon.tech"), "{}", cases[0]);
        assert!(cases[4].contains("the URL has no database"), "{}", cases[4]);
        assert!(cases[6].contains("the URL has no host"), "{}", cases[6]);
    }
}
