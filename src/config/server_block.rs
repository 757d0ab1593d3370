//! The `publisher` and `subscriber` blocks: a URL, parts that win over it, and what a host name gives away.

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
    /// How one server is reached.
    pub struct ServerBlock {
        /// A connection URI or keyword/value text.
        url: Attr<String>,
        /// The host.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The database that is meant where a resource names none.
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
    let block = Block::new(&format!("{what} Every attribute may be left out where `{variable}` is set."))
        .attribute(
            text(
                "url",
                &format!(
                    "A connection URI, such as `postgresql://user:password@host:5432/database?sslmode=require`. A part given \
                     beside it wins. Default: the environment variable `{variable}`."
                ),
            )
            .sensitive(),
        )
        .attribute(text("host", "The host name or address; the direct host, not a pooler's."))
        .attribute(Attribute::optional("port", Type::Number, "The port. Default: `5432`.").between(1, 65535))
        .attribute(text("database", "The database that is meant where a resource names none."))
        .attribute(text("username", "The role to connect as."))
        .attribute(text("password", "Its password. Not together with `aws_iam_auth`.").sensitive())
        .attribute(
            text(
                "sslmode",
                "Whether to encrypt, and what to verify, as in libpq. Default: `require`, and `prefer` on a loopback address.",
            )
            .one_of(SSL_MODES),
        )
        .attribute(text(
            "sslrootcert",
            "The certificate authorities to trust: a path, or the PEM text itself. Default: the system's.",
        ))
        .attribute(text("sslcert", "The client's certificate: a path, or the PEM text itself; together with `sslkey`."))
        .attribute(text("sslkey", "The key of the client's certificate: a path, or the PEM text itself.").sensitive())
        .attribute(
            Attribute::optional("connect_timeout", Type::Number, "How long connecting may take, in seconds. Default: `10`.")
                .between(1, 3600),
        )
        .attribute(
            Attribute::optional(
                "max_connections",
                Type::Number,
                "The most connections to this server at a time, over all its databases. One is kept for reading, and what may \
                 take long, as creating subscriptions and slots, gets half of them. Default: `10`.",
            )
            .between(1, 100),
        )
        .attribute(Attribute::optional(
            "aws_iam_auth",
            Type::Bool,
            "Whether an RDS IAM token is the password: signed with the credentials of the `aws` block for `host`, `port` and \
             `username`, and a new one at the latest after ten minutes. The role needs `rds_iam`, the AWS identity \
             `rds-db:connect`. It needs TLS, so `sslmode` is `require` where it is not given. The region is that of the \
             `aws` block, else that of the host's name, else the AWS SDK's. Default: `false`.",
        ));
    NestedBlock::single(side.name(), block)
}

/// A host that logical replication cannot use is refused, with the one that it can.
pub(super) fn check_host(side: Side, host: &str, attribute: &str) -> Result<()> {
    let refuse = |summary: String, instead: String| {
        Err(Error::new(summary).detail(format!("Use the direct host: {instead}")).at(&path(side, attribute)))
    };
    if let Some(direct) = endpoint::direct_host_of_pooler(host) {
        return refuse(
            format!("{}: {host} is a connection pooler, through which logical replication does not work", side.name()),
            direct,
        );
    }
    match endpoint::aurora_writer_of_reader(host) {
        Some(writer) if side == Side::Publisher => {
            refuse(format!("{}: {host} is an Aurora reader endpoint, which cannot publish", side.name()), writer)
        }
        _ => Ok(()),
    }
}

/// The path of an attribute of a side's block.
pub(super) fn path(side: Side, attribute: &str) -> AttributePath {
    AttributePath::of(side.name()).attribute(attribute)
}

/// The URL with the parts that win over it.
pub(super) fn merged(side: Side, block: &ServerBlock, url: Option<&str>) -> Result<Conninfo> {
    let mut conninfo = match url {
        Some(url) => Conninfo::parse(url).map_err(|error| {
            Error::new(format!("{}: {error}", side.name()))
                .detail(
                    "Write postgresql://user:password@host:port/database, with reserved characters percent-encoded.",
                )
                .at(&path(side, "url"))
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
