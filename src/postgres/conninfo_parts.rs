// SPDX-License-Identifier: MPL-2.0

//! The meaning of a connection string, split into a configuration's attributes, without secrets.

use std::collections::{BTreeMap, BTreeSet};

use super::conninfo::Conninfo;
use super::keywords;

/// The keywords of libpq that have an attribute of their own.
pub const ATTRIBUTES: &[&str] = &["host", "port", "dbname", "user", "password", "sslmode"];

/// A connection string without the password and other secrets. Missing parts have libpq's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The host or its address.
    pub host: Option<String>,
    /// The port.
    pub port: Option<u16>,
    /// The database.
    pub database: Option<String>,
    /// The role.
    pub username: Option<String>,
    /// Its `sslmode`.
    pub sslmode: Option<String>,
    /// Further keywords that a configuration may set.
    pub options: BTreeMap<String, String>,
}

impl Parts {
    /// The parts of a connection string.
    pub fn of(conninfo: &Conninfo) -> Self {
        let text = |keyword| meant(conninfo, keyword).map(str::to_owned);
        let options = conninfo.iter().filter(|(keyword, _)| keywords::may_be_option(keyword));
        Self {
            host: text("host"),
            port: text("port").and_then(|port| port.parse().ok()),
            database: text("dbname"),
            username: text("user"),
            sslmode: text("sslmode"),
            options: options.map(|(keyword, value)| (keyword.to_owned(), value.to_owned())).collect(),
        }
    }
}

/// The value of a keyword, or libpq's default.
pub fn meant<'a>(conninfo: &'a Conninfo, keyword: &str) -> Option<&'a str> {
    conninfo.get(keyword).or_else(|| match keyword {
        "port" => Some("5432"),
        "sslmode" => Some("prefer"),
        "host" => conninfo.get("hostaddr"),
        "dbname" => conninfo.get("user"),
        _ => None,
    })
}

/// The keywords that have different meanings in the two.
pub fn differing(one: &Conninfo, other: &Conninfo) -> BTreeSet<String> {
    let keywords = ATTRIBUTES.iter().copied().chain(one.iter().chain(other.iter()).map(|(keyword, _)| keyword));
    keywords.filter(|keyword| meant(one, keyword) != meant(other, keyword)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_as_libpq_has_it_and_no_secret_is_shown() {
        let conninfo =
            Conninfo::parse("hostaddr=10.0.0.1 user=u password=hidden keepalives_idle=9 passfile=/x").unwrap();
        let parts = Parts::of(&conninfo);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!((&parts.host, parts.port), (&text("10.0.0.1"), Some(5432)));
        assert_eq!((parts.database.clone(), parts.sslmode.clone()), (text("u"), text("prefer")));
        assert_eq!(parts.options.get("keepalives_idle").map(String::as_str), Some("9"));
        let shown = format!("{parts:?}");
        assert!(!shown.contains("hidden") && !shown.contains("/x"), "{shown}");
    }

    #[test]
    fn what_means_the_same_does_not_differ() {
        let parse = |text: &str| Conninfo::parse(text).unwrap();
        let one = parse("host=h user=u password=p");
        assert_eq!(
            differing(&one, &parse("host=h port=5432 dbname=u user=u password=p sslmode=prefer")),
            BTreeSet::new()
        );
        let differs = differing(&one, &parse("host=h user=v password=q"));
        assert_eq!(differs.into_iter().collect::<Vec<_>>(), ["dbname", "password", "user"]);
    }
}
