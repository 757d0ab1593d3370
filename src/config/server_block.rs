// SPDX-License-Identifier: MPL-2.0

//! The `publisher` and `subscriber` blocks: a URL, attributes that take precedence over it, and checks of the host
//! name.

use super::side::Side;
use crate::neon::endpoint;
use crate::postgres::conninfo::Conninfo;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::path::AttributePath;
use crate::tf_provider::schema::{Attribute, Block, NestedBlock, Type};

/// The values of `sslmode`, as libpq names them.
pub(crate) const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

crate::model! {
    /// The connection to one server.
    pub struct ServerBlock {
        /// A connection URI or keyword/value text.
        url: Attr<String>,
        /// The host.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The default database of resources.
        database: Attr<String>,
        /// The role.
        username: Attr<String>,
        /// Its password.
        password: Attr<String>,
        /// Whether to encrypt, and what to verify.
        sslmode: Attr<String>,
        /// The certificate authorities to trust.
        sslrootcert: Attr<String>,
        /// The client's certificate.
        sslcert: Attr<String>,
        /// The key of the client's certificate.
        sslkey: Attr<String>,
        /// Seconds.
        connect_timeout: Attr<i64>,
        /// The most connections to the server, over all its databases.
        max_connections: Attr<i64>,
        /// Whether an RDS IAM token is the password.
        aws_iam_auth: Attr<bool>,
    }
}

/// The schema of a side's block.
pub(super) fn schema(side: Side) -> NestedBlock {
    let (what, variable) = match side {
        Side::Publisher => ("The server that is replicated from.", "NEONREPL_PUBLISHER_URL"),
        Side::Subscriber => ("The server that is replicated to: Neon.", "NEONREPL_SUBSCRIBER_URL"),
    };
    let text = |name: &str, description: &str| Attribute::optional(name, Type::String, description);
    let block = Block::new(&format!("{what} Every attribute may be left out if `{variable}` is set."))
        .attribute(
            text(
                "url",
                &format!(
                    "A connection URI, such as `postgresql://user:password@host:5432/database?sslmode=verify-full`, \
                     or keyword/value text. The other attributes of the block take precedence over its parts. It \
                     accepts the keywords of libpq, such as `channel_binding`, `application_name`, \
                     `keepalives_idle`, `options`, `hostaddr` and `sslcrl`; a keyword that would be ignored is an \
                     error. Default: the environment variable `{variable}`."
                ),
            )
            .sensitive(),
        )
        .attribute(text("host", "The host name or address; the direct host, not a pooler's."))
        .attribute(Attribute::optional("port", Type::Number, "The port. Default: `5432`.").between(1, 65535))
        .attribute(text("database", "The database that is used if a resource names none."))
        .attribute(text("username", "The role to connect as."))
        .attribute(text("password", "Its password. Not together with `aws_iam_auth`.").sensitive())
        .attribute(
            text(
                "sslmode",
                "Whether to encrypt, and what to verify, as in libpq. `require` encrypts and verifies nothing, \
                 unless `sslrootcert` is given: then it verifies as `verify-ca` does. `verify-ca` verifies who \
                 signed the certificate, and `verify-full` also that it is for this host. Default: `verify-full` \
                 for hosts of Neon and with `sslrootcert = \"system\"`, `prefer` on a loopback address, otherwise \
                 `require`.",
            )
            .one_of(SSL_MODES),
        )
        .attribute(text(
            "sslrootcert",
            "The certificate authorities to trust: a path, the PEM text itself, or `system` for the public ones \
             that this machine trusts. `system` goes with `verify-full` only, and is its default; `verify-ca` needs \
             a certificate here. If the environment variable `SSL_CERT_FILE` (a file with certificates) or \
             `SSL_CERT_DIR` (directories with files named by OpenSSL's hashes) is set, `system` means those \
             certificates instead.",
        ))
        .attribute(text("sslcert", "The client's certificate: a path, or the PEM text itself; together with `sslkey`."))
        .attribute(text("sslkey", "The key of the client's certificate: a path, or the PEM text itself.").sensitive())
        .attribute(
            Attribute::optional(
                "connect_timeout",
                Type::Number,
                "How long connecting may take, in seconds; `0` sets no limit. Default: `10`.",
            )
            .between(0, 3600),
        )
        .attribute(
            Attribute::optional(
                "max_connections",
                Type::Number,
                "The largest number of connections to this server at a time, over all its databases. One is \
                 reserved for reading, and work that may take long, such as creating subscriptions and slots, gets \
                 at most half of them. Default: `10`.",
            )
            .between(1, 100),
        )
        .attribute(Attribute::optional(
            "aws_iam_auth",
            Type::Bool,
            "Whether to log in with an RDS IAM token as the password. The token is signed with the credentials of \
             the `aws` block for `host`, `port` and `username`, and replaced after ten minutes at the latest. The \
             role needs `rds_iam`, and the AWS identity needs `rds-db:connect`. The connection must use TLS, so \
             `sslmode` defaults to `require`. The region is that of the `aws` block, otherwise that in the host's \
             name, otherwise the AWS SDK's. Default: `false`.",
        ));
    NestedBlock::single(side.name(), block)
}

/// Refuses a text that is not a host, and a host that logical replication cannot use, and names the right one.
pub(super) fn check_host(side: Side, block: &ServerBlock, conninfo: &Conninfo) -> Result<()> {
    let at_host = |error: Error| match block.host {
        Attr::Known(_) => error.at(&path(side, "host")),
        _ => at_url(side, block, error),
    };
    let instead = block.host.known().and_then(|host| without_port(host)).unwrap_or_default();
    let wrong =
        |cause: &dyn std::fmt::Display| at_host(Error::new(format!("{}: {cause}", side.name())).detail(&instead));
    let Some(host) = conninfo.host().map_err(|error| wrong(&error))? else { return Ok(()) };
    let refuse = |what: &str, instead: String| {
        Err(wrong(&format_args!("{host} is {what}")).detail(format!("Use the direct host: {instead}")))
    };
    if let Some(direct) = endpoint::direct_host_of_pooler(host) {
        return refuse("a connection pooler, through which logical replication does not work", direct);
    }
    match endpoint::aurora_writer_of_reader(host) {
        Some(writer) if side == Side::Publisher => refuse("an Aurora reader endpoint, which cannot publish", writer),
        _ => Ok(()),
    }
}

/// What to write instead of a host that ends with a port.
fn without_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse::<u16>().ok().filter(|_| text.starts_with('[') || !host.contains(':'))?;
    Some(format!("Write host = {host:?} and port = {port}."))
}

/// An error of the URL, which is in the block or in the environment.
pub(super) fn at_url(side: Side, block: &ServerBlock, error: Error) -> Error {
    match block.url {
        Attr::Known(_) => error.at(&path(side, "url")),
        _ => error
            .detail(format!("The URL is from the environment, {}.", side.variable()))
            .at(&AttributePath::of(side.name())),
    }
}

/// The path of an attribute of a side's block.
pub(super) fn path(side: Side, attribute: &str) -> AttributePath {
    AttributePath::of(side.name()).attribute(attribute)
}

/// The URL with the attributes that override it.
pub(super) fn merged(side: Side, block: &ServerBlock, url: Option<&str>) -> Result<Conninfo> {
    let mut conninfo = match url {
        Some(url) => Conninfo::parse(url).map_err(|error| {
            let error = Error::new(format!("{}: {error}", side.name())).detail(
                "Write postgresql://user:password@host:port/database, with reserved characters percent-encoded, or \
                 use the separate attributes, which need no encoding.",
            );
            at_url(side, block, error)
        })?,
        None => Conninfo::new(),
    };
    let port = block.port.known().map(ToString::to_string);
    let connect_timeout = block.connect_timeout.known().map(ToString::to_string);
    let parts = [
        ("host", block.host.known()),
        ("port", port.as_ref()),
        ("dbname", block.database.known()),
        ("user", block.username.known()),
        ("password", block.password.known()),
        ("sslmode", block.sslmode.known()),
        ("sslrootcert", block.sslrootcert.known()),
        ("sslcert", block.sslcert.known()),
        ("sslkey", block.sslkey.known()),
        ("connect_timeout", connect_timeout.as_ref()),
    ];
    for (keyword, value) in parts {
        if let Some(value) = value {
            conninfo.set(keyword, value.clone());
        }
    }
    Ok(conninfo)
}

/// The first attribute whose value is not known yet.
pub(super) fn unknown(block: &ServerBlock) -> Option<&'static str> {
    let attributes = [
        ("url", block.url.is_unknown()),
        ("host", block.host.is_unknown()),
        ("port", block.port.is_unknown()),
        ("database", block.database.is_unknown()),
        ("username", block.username.is_unknown()),
        ("password", block.password.is_unknown()),
        ("sslmode", block.sslmode.is_unknown()),
        ("sslrootcert", block.sslrootcert.is_unknown()),
        ("sslcert", block.sslcert.is_unknown()),
        ("sslkey", block.sslkey.is_unknown()),
        ("connect_timeout", block.connect_timeout.is_unknown()),
        ("max_connections", block.max_connections.is_unknown()),
        ("aws_iam_auth", block.aws_iam_auth.is_unknown()),
    ];
    attributes.into_iter().find(|(_, unknown)| *unknown).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_a_port_is_taken_apart() {
        assert_eq!(without_port("db:5433").as_deref(), Some("Write host = \"db\" and port = 5433."));
        assert_eq!(without_port("[::1]:5433").as_deref(), Some("Write host = \"::1\" and port = 5433."));
        assert_eq!(without_port("::1"), None);
        assert_eq!(without_port("db:main"), None);
    }
}
