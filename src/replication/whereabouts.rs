// SPDX-License-Identifier: MPL-2.0

//! Finds the server that a subscription reads from, as far as the provider can see it.
//!
//! A subscription has its own connection string, and the subscriber may reach its publisher by another name than the
//! provider does: a private host, a tunnel. It may also read from another server than the provider's publisher, with
//! slots and publications of the same names. So a server that is not proven to be the right one proves nothing about
//! the subscription. Above all, a slot that is missing there is not gone.

use std::sync::Arc;
use std::time::Duration;

use crate::postgres::subscription::{Subscription, reads_from, system_identifier};
use crate::postgres::{Conninfo, Database, Given, Server, ServerConfig, SslMode, is_loopback};

/// How long to try to connect to a server that may not be reachable from here.
const CONNECT: Duration = Duration::from_secs(5);

/// Earlier proof that two addresses lead to the same server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The address in the subscription's connection.
    pub named: String,
    /// The address of the provider's publisher.
    pub configured: String,
    /// The identifier of the cluster that was there.
    pub system: String,
}

/// The publisher of a subscription.
pub struct Publisher {
    /// The database that its slot is in.
    pub database: Database,
    /// The new proof, to be recorded: the slot may be idle the next time.
    pub proof: Option<Proof>,
}

/// The facts for finding a publisher.
pub struct Clues<'a> {
    /// The subscriber.
    pub subscriber: &'a Database,
    /// The subscription, as it was read there.
    pub subscription: &'a Subscription,
    /// Its connection, as far as known, with a password if there is one.
    pub connection: Option<&'a Conninfo>,
    /// The provider's publisher, in the database that the subscription names.
    pub configured: Option<Database>,
    /// An earlier proof.
    pub proof: Option<Proof>,
}

impl Clues<'_> {
    /// The publisher, if it is known to be one of the servers that can be reached from here.
    pub async fn find(self) -> Option<Publisher> {
        if let Some(configured) = &self.configured {
            if self.is_at(configured) || self.was_proven(configured).await {
                return Some(Publisher { database: configured.clone(), proof: None });
            }
            if self.is_read(configured).await {
                let proof = self.prove(configured).await;
                return Some(Publisher { database: configured.clone(), proof });
            }
        }
        named(self.connection?, self.subscriber).map(|database| Publisher { database, proof: None })
    }

    /// Whether the subscription's connection has the provider's address.
    fn is_at(&self, configured: &Database) -> bool {
        self.connection.is_some_and(|connection| leads_to(connection, configured, self.subscriber))
    }

    async fn was_proven(&self, configured: &Database) -> bool {
        let Some(proof) = &self.proof else { return false };
        let is_unchanged = self.connection.map(address_of).as_ref() == Some(&proof.named)
            && configured.config().address() == proof.configured;
        is_unchanged && system_identifier(configured).await.is_ok_and(|system| system == proof.system)
    }

    /// Whether the subscription's worker reads from its slot there now.
    async fn is_read(&self, configured: &Database) -> bool {
        let Some(slot) = self.subscription.slot_name().filter(|_| self.subscription.enabled) else { return false };
        let name = &self.subscription.name;
        let reader = self.connection.and_then(|connection| connection.get("application_name"));
        let reads = reads_from(configured, slot, self.subscriber, name, reader.unwrap_or(name.as_str())).await;
        reads.unwrap_or_else(|cause| {
            tracing::info!(%cause, "it could not be checked whether the provider's publisher is that of the \
                 subscription");
            false
        })
    }

    async fn prove(&self, configured: &Database) -> Option<Proof> {
        let named = address_of(self.connection?);
        let system = system_identifier(configured).await.ok()?;
        Some(Proof { named, configured: configured.config().address(), system })
    }
}

/// The publisher of a subscription, if it is known: the configured one, in the subscription's database, or the one that
/// its connection leads to from here.
pub async fn publisher_of(
    subscriber: &Database,
    configured: Option<&Database>,
    subscription: &Subscription,
) -> Option<Database> {
    let connection = subscription.connection.as_ref();
    let database = connection.and_then(|connection| connection.get("dbname").or_else(|| connection.get("user")));
    let configured = configured.map(|publisher| publisher.beside(database.unwrap_or(publisher.name())));
    let clues = Clues { subscriber, subscription, connection, configured, proof: None };
    clues.find().await.map(|publisher| publisher.database)
}

/// Whether a connection string of a subscription names the server that this database is on. A loopback address means
/// the subscriber's own machine, which is this one only if the subscriber has such an address too.
pub fn leads_to(connection: &Conninfo, publisher: &Database, subscriber: &Database) -> bool {
    let Ok((host, port)) = connection.tcp_address() else { return false };
    let config = publisher.config();
    let goes_there = connection.get("hostaddr").is_none_or(|address| address == config.host || address == host);
    goes_there
        && host.eq_ignore_ascii_case(&config.host)
        && port == config.port
        && means_the_same_here(host, subscriber)
}

fn means_the_same_here(host: &str, subscriber: &Database) -> bool {
    !is_loopback(host) || is_loopback(&subscriber.config().host)
}

/// The address of a connection, as a text for comparisons.
fn address_of(connection: &Conninfo) -> String {
    let parts = ["host", "hostaddr", "port"].map(|keyword| connection.get(keyword).unwrap_or_default());
    parts.join(" ")
}

/// The server that the connection names, reached from here.
pub fn named(connection: &Conninfo, subscriber: &Database) -> Option<Database> {
    named_as(connection, subscriber, Given::default())
}

/// The same, with the user's names for the parts of the connection.
pub fn named_as(connection: &Conninfo, subscriber: &Database, given: Given) -> Option<Database> {
    let (host, port) = connection.tcp_address().ok().filter(|(host, _)| means_the_same_here(host, subscriber))?;
    let user = connection.get("user")?;
    let mut config =
        ServerConfig::new(connection.get("hostaddr").unwrap_or(host), connection.get("dbname").unwrap_or(user), user);
    config.port = port;
    config.password = connection.password();
    config.given = Arc::new(given);
    config.connect_timeout = CONNECT;
    config.sslmode = connection.get("sslmode").and_then(|mode| mode.parse().ok()).unwrap_or(config.sslmode);
    if config.sslmode == SslMode::VerifyCa {
        // The authority's certificate is a file on the subscriber, and public authorities are only trusted together
        // with the host name.
        config.sslmode = SslMode::VerifyFull;
    }
    Some(Server::new(config).database(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(host: &str, port: u16) -> Database {
        let mut config = ServerConfig::new(host, "shop", "postgres");
        config.port = port;
        Server::new(config).database(None)
    }

    fn leads(connection: &str, publisher: (&str, u16), subscriber: &str) -> bool {
        let connection = Conninfo::parse(connection).unwrap();
        leads_to(&connection, &database(publisher.0, publisher.1), &database(subscriber, 5432))
    }

    #[test]
    fn a_connection_leads_to_the_server_that_it_names() {
        let publisher = ("db.example", 5432);
        assert!(leads("host=DB.example user=u", publisher, "neon.example"));
        for other in [
            "host=db.example port=5433",
            "host=other.example",
            "host=db.example hostaddr=10.0.0.1",
            "host=/tmp",
            "user=u",
        ] {
            assert!(!leads(other, publisher, "neon.example"), "{other}");
        }
    }

    #[test]
    fn a_loopback_address_is_the_subscribers_own() {
        assert!(leads("host=127.0.0.1", ("127.0.0.1", 5432), "localhost"));
        assert!(!leads("host=127.0.0.1", ("127.0.0.1", 5432), "neon.example"));
        let connection = Conninfo::parse("host=localhost user=u").unwrap();
        assert!(named(&connection, &database("neon.example", 5432)).is_none());
        assert!(named(&connection, &database("localhost", 5432)).is_some());
    }
}
