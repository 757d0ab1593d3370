// SPDX-License-Identifier: MPL-2.0

//! The block as a model, and its schema.

use std::collections::{BTreeMap, BTreeSet};

use super::{Way, protection};
use crate::config::SSL_MODES;
use crate::postgres::Conninfo;
use crate::postgres::conninfo_parts::Parts;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::schema::{Attribute, Block, NestedBlock, Type};

crate::model! {
    /// A connection to a server.
    pub(in crate::resources) struct Connection {
        /// The host.
        host: Attr<String>,
        /// The port.
        port: Attr<i64>,
        /// The database.
        database: Attr<String>,
        /// The role.
        username: Attr<String>,
        /// Its password, in the state.
        password: Attr<String>,
        /// Its password, write-only.
        password_wo: Attr<String>,
        /// Encryption.
        sslmode: Attr<String>,
        /// Further keywords.
        options: Attr<BTreeMap<String, String>>,
    }
}

/// The schema of the block of that way.
pub(in crate::resources) fn of_block(way: Way, description: &str) -> NestedBlock {
    let Way { from, to, .. } = way;
    let text = |name: &str, description: &str| Attribute::optional(name, Type::String, description);
    let block = Block::new(description)
        .attribute(text("host", &format!("The {to}'s host, as the {from} reaches it.")))
        .attribute(Attribute::optional("port", Type::Number, "Its port.").between(1, 65535))
        .attribute(text("database", &format!("The database on the {to}.")))
        .attribute(text("username", "The role to connect as; it needs REPLICATION, or `rds_replication` on Aurora."))
        .attribute(text("password", "Its password. It is kept in the state; prefer `password_wo`.").sensitive())
        .attribute(
            text(
                "password_wo",
                &format!(
                    "Its password, write-only: it is stored in neither plan nor state. Raise `connection_version` \
                     to send another. Needs Terraform 1.11 or OpenTofu 1.11. Postgres itself keeps it in \
                     `pg_subscription` on the {from}. That server logs the statement with the password if \
                     `log_statement` is `ddl` or `all`, and if the statement fails, unless the provider logs in \
                     there as a superuser. So give the role no more rights than replication needs."
                ),
            )
            .write_only(),
        )
        .attribute(
            text(
                "sslmode",
                &format!(
                    "Whether to encrypt, and what to verify, as in libpq. `require` verifies nothing. `verify-ca` and `verify-full` \
                     need `sslrootcert` in `options`: a file on the {from}'s server, or `system` (Postgres 16, with `verify-full`)."
                ),
            )
            .one_of(SSL_MODES),
        )
        .attribute(
            Attribute::optional(
                "options",
                Type::map(Type::String),
                &format!(
                    "Further libpq keywords, such as `keepalives_idle`. An empty value removes a keyword. Keywords \
                     that hold a secret or lead to one, such as `sslpassword`, `passfile` and `service`, are \
                     refused. Files are those on the {from}'s server."
                ),
            )
            .validator(protection::validate_options),
        );
    NestedBlock::single(way.block, block)
}

impl Connection {
    /// The block for a connection string, without the password and other secrets. Missing values have libpq's
    /// defaults.
    pub(in crate::resources) fn of(conninfo: &Conninfo) -> Self {
        let Parts { host, port, database, username, sslmode, options } = Parts::of(conninfo);
        Self {
            host: host.into(),
            port: port.map(i64::from).into(),
            database: database.into(),
            username: username.into(),
            sslmode: sslmode.into(),
            options: Some(options).filter(|options| !options.is_empty()).into(),
            ..Self::default()
        }
    }

    /// The keywords that the block sets.
    pub(in crate::resources) fn given(&self) -> BTreeSet<&str> {
        let attributes = [
            ("host", self.host.known().is_some()),
            ("port", self.port.known().is_some()),
            ("dbname", self.database.known().is_some()),
            ("user", self.username.known().is_some()),
            ("password", self.password.known().is_some() || self.password_wo.known().is_some()),
            ("sslmode", self.sslmode.known().is_some()),
        ];
        let attributes = attributes.into_iter().filter(|(_, is_given)| *is_given).map(|(keyword, _)| keyword);
        attributes.chain(self.options.known().into_iter().flat_map(BTreeMap::keys).map(String::as_str)).collect()
    }
}
