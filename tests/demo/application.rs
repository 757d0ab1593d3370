// SPDX-License-Identifier: MPL-2.0

//! An application that writes all the time, on the side that accepts writes: it knows both servers, and changes to the
//! other one when an error says that writes have moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

/// How many write at the same time.
const WRITERS: usize = 4;

/// The running application.
pub(super) struct Application {
    told: Arc<Told>,
    writers: Vec<JoinHandle<()>>,
}

/// The results of its writers.
#[derive(Default)]
struct Told {
    is_over: AtomicBool,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    longest: AtomicU64,
}

impl Application {
    /// Starts writing to the first of the servers.
    pub(super) fn start(servers: [Config; 2]) -> Self {
        let told = Arc::new(Told::default());
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write(writer, servers.clone(), Arc::clone(&told))));
        Self { writers: writers.collect(), told }
    }

    /// How many rows were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.told.acknowledged.load(Ordering::Relaxed)
    }

    /// How often it was refused since the last call, and the time of its longest write in milliseconds.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.told.refused.swap(0, Ordering::Relaxed), self.told.longest.swap(0, Ordering::Relaxed))
    }

    /// Ends it, and returns how many rows were acknowledged.
    pub(super) async fn stop(self) -> u64 {
        self.told.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.expect("a writer");
        }
        self.told.acknowledged.load(Ordering::Relaxed)
    }
}

async fn write(writer: usize, servers: [Config; 2], told: Arc<Told>) {
    let (mut at, mut client, mut number) = (0, None, 0_u64);
    while !told.is_over.load(Ordering::Relaxed) {
        let connected = match client.take() {
            Some(connected) => connected,
            None => match connect(&servers[at]).await {
                Some(connected) => connected,
                None => continue,
            },
        };
        let begun = Instant::now();
        let name = format!("w{writer}-{number}");
        match connected.execute("INSERT INTO playing_with_neon(name, value) VALUES ($1, 0)", &[&name]).await {
            Ok(_) => {
                let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                told.longest.fetch_max(took, Ordering::Relaxed);
                told.acknowledged.fetch_add(1, Ordering::Relaxed);
                number += 1;
                client = Some(connected);
            }
            Err(error) => {
                // 25006 is the error of a side that does not take writes.
                let is_moved = error.code().is_some_and(|code| code.code() == "25006");
                told.refused.fetch_add(1, Ordering::Relaxed);
                at = if is_moved { 1 - at } else { at };
            }
        }
    }
}

async fn connect(server: &Config) -> Option<Client> {
    let (client, connection) = server.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}
