// SPDX-License-Identifier: MPL-2.0

//! The servers inside DB instances.

use std::net::TcpListener;

use crate::common::postgres::{Major, Server, Settings};

/// The server of one DB instance. All of it blocks.
pub trait Engine: Send {
    /// Stops the server, and starts it with these settings in addition to the previous ones.
    fn restart(&mut self, settings: &Settings);
    /// Adds settings that need no restart.
    fn reload(&mut self, settings: &Settings);
    /// Where it listens.
    fn address(&self) -> (String, u16);
    /// Everything it has logged so far.
    fn log(&self) -> String;
    /// Whether it supports SQL.
    fn is_postgres(&self) -> bool;
}

/// Starts the servers of DB instances.
pub trait Engines: Send + Sync {
    /// Starts one with these settings.
    fn start(&self, settings: &Settings) -> Box<dyn Engine>;
}

/// Real Postgres servers of one major.
pub struct PostgresServers(pub Major);

impl Engines for PostgresServers {
    fn start(&self, settings: &Settings) -> Box<dyn Engine> {
        Box::new(Server::start(self.0, settings.clone()))
    }
}

impl Engine for Server {
    fn restart(&mut self, settings: &Settings) {
        Server::restart(self, settings.clone());
    }

    fn reload(&mut self, settings: &Settings) {
        Server::reload(self, settings.clone());
    }

    fn address(&self) -> (String, u16) {
        (self.host().to_owned(), self.port())
    }

    fn log(&self) -> String {
        Server::log(self)
    }

    fn is_postgres(&self) -> bool {
        true
    }
}

/// No servers, for tests of the API alone.
pub struct NoServers;

impl Engines for NoServers {
    fn start(&self, _: &Settings) -> Box<dyn Engine> {
        Box::new(Nothing(TcpListener::bind("127.0.0.1:0").expect("listening on loopback")))
    }
}

struct Nothing(TcpListener);

impl Engine for Nothing {
    fn restart(&mut self, _: &Settings) {}

    fn reload(&mut self, _: &Settings) {}

    fn address(&self) -> (String, u16) {
        let address = self.0.local_addr().expect("an address");
        (address.ip().to_string(), address.port())
    }

    fn log(&self) -> String {
        String::new()
    }

    fn is_postgres(&self) -> bool {
        false
    }
}
