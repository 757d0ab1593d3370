// SPDX-License-Identifier: MPL-2.0

//! The names of a server's values in errors: the attribute, the URL, or the variable that gives each.

use super::server_block::ServerBlock;
use super::side::Side;
use crate::postgres::{Conninfo, Given};
use crate::tf_provider::convert::Attr;

/// The source of each value of a side's connection.
pub(super) fn names(side: Side, block: &ServerBlock, conninfo: &Conninfo) -> Given {
    Given::named(|keyword| name(side, block, conninfo, keyword))
}

fn name(side: Side, block: &ServerBlock, conninfo: &Conninfo, keyword: &'static str) -> String {
    let (attribute, is_given) = attribute(block, keyword);
    let path = format!("{}.{attribute} of the provider block", side.name());
    let is_in_url = conninfo.get(keyword).is_some();
    match block.url {
        _ if is_given || !is_in_url => path,
        Attr::Null => format!("{attribute} in the URL of the variable {}", side.variable()),
        _ => format!("{attribute} in the URL {}.url of the provider block", side.name()),
    }
}

/// The attribute for a keyword, and whether it is set.
fn attribute(block: &ServerBlock, keyword: &'static str) -> (&'static str, bool) {
    match keyword {
        "dbname" => ("database", block.database.known().is_some()),
        "user" => ("username", block.username.known().is_some()),
        "host" => (keyword, block.host.known().is_some()),
        "port" => (keyword, block.port.known().is_some()),
        "password" => (keyword, block.password.known().is_some()),
        "sslmode" => (keyword, block.sslmode.known().is_some()),
        "sslrootcert" => (keyword, block.sslrootcert.known().is_some()),
        "connect_timeout" => (keyword, block.connect_timeout.known().is_some()),
        keyword => (keyword, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_called_by_what_gives_it() {
        let conninfo = Conninfo::parse("postgresql://u:p@h/d").unwrap();
        let url = |url: Attr<String>| ServerBlock { url, password: "other".into(), ..ServerBlock::default() };
        let given = names(Side::Publisher, &url("postgresql://u:p@h/d".into()), &conninfo);
        assert_eq!(given.host, "host in the URL publisher.url of the provider block");
        assert_eq!(given.password, "publisher.password of the provider block");
        assert_eq!(given.sslmode, "publisher.sslmode of the provider block");
        let given = names(Side::Subscriber, &url(Attr::Null), &conninfo);
        assert_eq!(given.database, "database in the URL of the variable NEONREPL_SUBSCRIBER_URL");
        assert_eq!(given.max_connections, "subscriber.max_connections of the provider block");
    }
}
