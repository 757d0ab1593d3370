// SPDX-License-Identifier: MPL-2.0

//! One server with its databases; it connects at the first statement.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::database::Database;
use super::link::{Link, ServerConfig};
use super::password::Passwords;
use super::pool::Pool;

/// One server. Clones share its connections.
#[derive(Clone)]
pub struct Server {
    pool: Arc<Pool>,
    databases: Arc<Mutex<HashMap<String, Database>>>,
}

impl Server {
    /// Describes a server; does not connect.
    pub fn new(config: ServerConfig) -> Self {
        Self::reached(Link::new(config, None))
    }

    /// The same, with a new password for each connection instead of the configuration's.
    pub fn with_passwords(config: ServerConfig, passwords: Arc<dyn Passwords>) -> Self {
        Self::reached(Link::new(config, Some(passwords)))
    }

    fn reached(link: Link) -> Self {
        Self { pool: Arc::new(Pool::new(link)), databases: Arc::default() }
    }

    /// Its configuration.
    pub fn config(&self) -> &ServerConfig {
        self.pool.config()
    }

    /// One of its databases, by default the configured one; does not connect.
    pub fn database(&self, name: Option<&str>) -> Database {
        let name = name.unwrap_or(&self.config().database);
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        databases.entry(name.to_owned()).or_insert_with(|| Database::new(Arc::clone(&self.pool), name)).clone()
    }
}
