// SPDX-License-Identifier: MPL-2.0

//! Finds the two databases from options and the environment.

use super::arguments::Servers;
use crate::config::{self, Side};
use crate::postgres::conninfo::Secret;
use crate::postgres::{Database, Ident};
use crate::replication::Pair;
use crate::tf_provider::diagnostics::{Error, Result};

/// The variables of the environment.
pub(super) type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Servers {
    /// Both databases.
    ///
    /// # Errors
    /// When one of them has no URL, or a URL that cannot be used.
    pub(super) fn pair(&self, environment: &Environment<'_>) -> Result<Pair> {
        Ok(Pair { publisher: self.publisher(environment)?, subscriber: self.subscriber(environment)? })
    }

    /// The database that is replicated from.
    ///
    /// # Errors
    /// When it has no URL, or a URL that cannot be used.
    pub(super) fn publisher(&self, environment: &Environment<'_>) -> Result<Database> {
        let found = self.known_publisher(environment)?;
        found.ok_or_else(|| missing(Side::Publisher, "--publisher-url"))
    }

    /// The database that is replicated from, if it has a URL.
    ///
    /// # Errors
    /// When the URL cannot be used.
    pub(super) fn known_publisher(&self, environment: &Environment<'_>) -> Result<Option<Database>> {
        let given = given(Side::Publisher, "--publisher-url", self.publisher_url.as_ref(), environment);
        given.map(|given| given.database(self.publisher_database.as_ref())).transpose()
    }

    /// The database that is replicated to.
    ///
    /// # Errors
    /// When it has no URL, or a URL that cannot be used.
    pub(super) fn subscriber(&self, environment: &Environment<'_>) -> Result<Database> {
        let given = given(Side::Subscriber, "--subscriber-url", self.subscriber_url.as_ref(), environment);
        given.ok_or_else(|| missing(Side::Subscriber, "--subscriber-url"))?.database(self.database.as_ref())
    }
}

/// A URL and its source.
struct Given {
    side: Side,
    url: Secret,
    giver: &'static str,
}

impl Given {
    fn database(&self, name: Option<&Ident>) -> Result<Database> {
        let server = config::server(self.side, self.url.expose(), self.giver)?;
        Ok(server.database(name.map(Ident::as_str)))
    }
}

/// The URL of the option, otherwise of the variable, if that is not empty.
fn given(side: Side, option: &'static str, url: Option<&Secret>, environment: &Environment<'_>) -> Option<Given> {
    if let Some(url) = url {
        return Some(Given { side, url: url.clone(), giver: option });
    }
    let url = environment(side.variable()).filter(|url| !url.is_empty())?;
    Some(Given { side, url: Secret::new(url), giver: side.variable() })
}

fn missing(side: Side, option: &str) -> Error {
    Error::new(format!("there is no URL of the {}", side.name()))
        .detail(format!("Set the environment variable {}, or give {option}.", side.variable()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(publisher: Option<&str>, database: Option<&str>) -> Servers {
        Servers {
            publisher_url: publisher.map(Secret::new),
            subscriber_url: None,
            publisher_database: database.map(|name| Ident::new(format!("{name}_from")).unwrap()),
            database: database.map(|name| Ident::new(name).unwrap()),
        }
    }

    #[test]
    fn an_option_wins_over_the_environment() {
        let environment = |name: &str| Some(format!("postgresql://u@{}/d", name.to_lowercase()));
        let host = |servers: &Servers| servers.publisher(&environment).unwrap().config().host.clone();
        assert_eq!(host(&servers(Some("postgresql://u@option/d"), None)), "option");
        assert_eq!(host(&servers(None, None)), "neonrepl_publisher_url");
        let named = servers(None, Some("other"));
        assert_eq!(named.subscriber(&environment).unwrap().name(), "other");
        assert_eq!(named.publisher(&environment).unwrap().name(), "other_from");
    }

    #[test]
    fn a_url_that_is_missing_or_wrong_is_named() {
        let empty = |_: &str| Some(String::new());
        assert!(servers(None, None).known_publisher(&empty).unwrap().is_none());
        let error = servers(None, None).publisher(&empty).unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no URL of the publisher\n\
             Set the environment variable NEONREPL_PUBLISHER_URL, or give --publisher-url."
        );
        let wrong = |_: &str| Some("mysql://u:hidden-pw@h/d".to_owned());
        let error = servers(None, None).subscriber(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("NEONREPL_SUBSCRIBER_URL: ") && !error.contains("hidden-pw"), "{error}");
        let error = servers(Some("mysql://u:hidden-pw@h/d"), None).publisher(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("--publisher-url: ") && !error.contains("hidden-pw"), "{error}");
    }
}
