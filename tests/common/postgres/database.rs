// SPDX-License-Identifier: MPL-2.0

//! Databases and roles on a server, each test its own, and queries on them.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::{SUPERUSER, SUPERUSER_PASSWORD, Server};

/// A role that can log in.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name, unquoted.
    pub name: String,
    /// Its password: a unique text.
    pub password: String,
}

impl Role {
    /// The superuser of every server.
    pub fn superuser() -> Self {
        Self { name: SUPERUSER.to_owned(), password: SUPERUSER_PASSWORD.to_owned() }
    }
}

/// A database, with a superuser's connection for the test itself, which is opened at its first use.
pub struct Database {
    /// Its name, unquoted.
    pub name: String,
    /// The server's port on 127.0.0.1.
    pub port: u16,
    starts: Arc<AtomicU32>,
    client: Mutex<Option<(u32, Client)>>,
}

impl Server {
    /// Makes an empty database whose name begins with `prefix` and is unique on the server.
    pub async fn database(&self, prefix: &str) -> Database {
        let name = format!("{prefix}_{}", self.next());
        self.open(SUPERUSER).sql(&format!("CREATE DATABASE {}", quote(&name))).await;
        self.open(&name)
    }

    /// An existing database.
    pub fn open(&self, name: &str) -> Database {
        Database {
            name: name.to_owned(),
            port: self.port(),
            starts: Arc::clone(&self.starts),
            client: Mutex::new(None),
        }
    }

    /// Creates a role that can log in, with a unique name, its own password and further attributes (`"REPLICATION"`).
    pub async fn role(&self, prefix: &str, attributes: &str) -> Role {
        let number = self.next();
        let role = Role { name: format!("{prefix}_{number}"), password: format!("pw-{prefix}-{number}-k8Zq") };
        self.create_role(&role, attributes).await;
        role
    }

    /// Creates exactly this role.
    pub async fn create_role(&self, role: &Role, attributes: &str) {
        let (name, password) = (quote(&role.name), role.password.replace('\'', "''"));
        let create = format!("CREATE ROLE {name} LOGIN PASSWORD '{password}' {attributes}");
        self.open(SUPERUSER).sql(&create).await;
    }
}

impl Database {
    /// A database of a server that is only known by its port.
    pub fn at(port: u16, name: &str) -> Self {
        Self { name: name.to_owned(), port, starts: Arc::default(), client: Mutex::new(None) }
    }

    /// A superuser's URL for a provider block.
    pub fn url(&self) -> String {
        self.url_as(&Role::superuser())
    }

    /// A role's URL.
    pub fn url_as(&self, role: &Role) -> String {
        self.url_through(role, self.port)
    }

    /// A role's URL through another port, for example a relay's.
    pub fn url_through(&self, role: &Role, port: u16) -> String {
        let (user, password, name) = (encode(&role.name), encode(&role.password), encode(&self.name));
        format!("postgresql://{user}:{password}@127.0.0.1:{port}/{name}?sslmode=disable")
    }

    /// tokio-postgres's configuration to connect as a role.
    pub fn config(&self, role: &Role) -> Config {
        self.config_through(role, self.port)
    }

    /// The same through another port, for example a relay's.
    pub fn config_through(&self, role: &Role, port: u16) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).dbname(&self.name).user(&role.name).password(&role.password);
        config
    }

    /// A new connection of a role's.
    pub async fn connect_as(&self, role: &Role) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = self.config(role).connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements, one or many.
    ///
    /// # Panics
    /// When one fails.
    pub async fn sql(&self, text: &str) {
        if let Err(error) = self.try_sql(text).await {
            panic!("{}", explain(text, &error));
        }
    }

    /// Runs statements, one or many, and returns the error of the one that fails.
    pub async fn try_sql(&self, text: &str) -> Result<(), tokio_postgres::Error> {
        self.client().await.batch_execute(text).await
    }

    /// The one value that a query returns.
    ///
    /// # Panics
    /// When the query fails, or does not return exactly one row of that type.
    pub async fn value<T: FromSqlOwned>(&self, query: &str) -> T {
        self.optional(query).await.unwrap_or_else(|| panic!("no row from: {query}"))
    }

    /// The value of the first row, if there is a row.
    ///
    /// # Panics
    /// When the query fails or the type is another.
    pub async fn optional<T: FromSqlOwned>(&self, query: &str) -> Option<T> {
        let row = self.client().await.query_opt(query, &[]).await;
        row.unwrap_or_else(|error| panic!("{}", explain(query, &error))).map(|row| row.get(0))
    }

    /// All rows as text, with columns joined by `|` and nulls empty, like `psql -At`.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn rows(&self, query: &str) -> Vec<String> {
        let messages = self.client().await.simple_query(query).await;
        let messages = messages.unwrap_or_else(|error| panic!("{}", explain(query, &error)));
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| (0..row.len()).map(|column| row.get(column).unwrap_or("")).collect::<Vec<_>>().join("|"))
            .collect()
    }

    /// The test's own connection, reopened after a restart of the server.
    async fn client(&self) -> MappedMutexGuard<'_, Client> {
        let mut client = self.client.lock().await;
        let start = self.starts.load(Ordering::Relaxed);
        if client.as_ref().is_none_or(|(of, client)| *of != start || client.is_closed()) {
            let connected = self.connect_as(&Role::superuser()).await;
            let connected = connected.unwrap_or_else(|error| panic!("{}", explain("connecting", &error)));
            *client = Some((start, connected));
        }
        MutexGuard::map(client, |client| &mut client.as_mut().expect("a connection").1)
    }
}

/// A name as an SQL identifier, always quoted.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Percent-encodes all characters that are not plain in every part of a URL.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string");
        }
        encoded
    })
}

fn explain(text: &str, error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(cause) => {
            format!("{text}: {} ({}) {}", cause.message(), cause.code().code(), cause.detail().unwrap_or(""))
        }
        None => format!("{text}: {error:?}"),
    }
}
