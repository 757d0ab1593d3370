// SPDX-License-Identifier: MPL-2.0

//! An application that writes all the time: transactions over two tables, on the side that accepts them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::common::wait::wait_until;
use crate::replication::DEADLINE;

/// How many write at once.
const WRITERS: usize = 4;

/// The pause between two tries to reach a side.
const PAUSE: Duration = Duration::from_millis(5);

/// The pause of each writer, so that four of them leave time for other work on the machine.
const THINKS: Duration = Duration::from_millis(2);

/// The writers' results.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The commits that were acknowledged, as "writer number".
    pub(super) acknowledged: BTreeSet<String>,
    /// Those whose answer was lost: they may be there.
    pub(super) unknown: BTreeSet<String>,
    /// How often a side refused writes.
    pub(super) refused: usize,
    /// The longest transaction that succeeded.
    pub(super) longest: Duration,
}

/// Writers that run until they are stopped.
pub(super) struct Writers {
    tasks: Vec<JoinHandle<Tally>>,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
}

impl Writers {
    pub(super) fn start(sides: [Config; 2]) -> Self {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..WRITERS).map(|number| {
            let one = Writer {
                number,
                sides: sides.clone(),
                at: 0,
                stop: Arc::clone(&stop),
                committed: Arc::clone(&committed),
            };
            tokio::spawn(one.run())
        });
        Self { tasks: tasks.collect(), stop, committed }
    }

    /// How many commits have been acknowledged so far.
    pub(super) fn committed(&self) -> usize {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until this many more were.
    pub(super) async fn progress(&self, count: usize) {
        wait_until("writers to get on", 3 * DEADLINE, async || self.committed() >= count).await;
    }

    pub(super) async fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for task in self.tasks {
            let one = task.await.unwrap();
            all.acknowledged.extend(one.acknowledged);
            all.unknown.extend(one.unknown);
            all.refused += one.refused;
            all.longest = all.longest.max(one.longest);
        }
        all
    }
}

struct Writer {
    number: usize,
    sides: [Config; 2],
    at: usize,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(mut self) -> Tally {
        let mut tally = Tally::default();
        let mut client: Option<Client> = None;
        let mut n = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(open) = client.as_ref().filter(|client| !client.is_closed()) else {
                client = connect(&self.sides[self.at]).await;
                if client.is_none() {
                    self.at = 1 - self.at;
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            };
            n += 1;
            let name = format!("{} {n}", self.number);
            let began = Instant::now();
            let insert = format!(
                "BEGIN; INSERT INTO orders (writer, n) VALUES ({0}, {n}); INSERT INTO items (writer, n) VALUES ({0}, {n})",
                self.number
            );
            if let Err(error) = open.batch_execute(&insert).await {
                if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
                    tally.refused += 1;
                    self.at = 1 - self.at;
                }
                client = None;
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            match open.batch_execute("COMMIT").await {
                Ok(()) => {
                    tally.acknowledged.insert(name);
                    tally.longest = tally.longest.max(began.elapsed());
                    self.committed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(THINKS).await;
                }
                Err(_) => {
                    tally.unknown.insert(name);
                    client = None;
                }
            }
        }
        tally
    }
}

async fn connect(config: &Config) -> Option<Client> {
    let (client, connection) = config.connect(NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}
