// SPDX-License-Identifier: MPL-2.0

//! How long writers wait for a switch: under load, with very many tables, and with 20 ms to each server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use neonrepl::postgres::{self, Conninfo, Ident, Limits, Secret, ServerConfig, SslMode};
use neonrepl::replication::cutover::{self, Cutover, Desired, Switched, Terms, WayBack};
use neonrepl::replication::{Listener, Operation, Pair, Place};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::common::postgres::{Database, Major, Role, Server, settings};
use super::common::relay::Relay;
use super::cycle::median;
use super::goals::Goals;

const DEADLINE: Duration = Duration::from_secs(300);

/// How often writers are moved, under load.
const SWITCHES: usize = 20;

/// Tables under load, and writers.
const TABLES: usize = 10;
const WRITERS: usize = 4;

/// The tables of the large case, each with an identity column and so a sequence.
const MANY: usize = 1000;

/// What is added to each round trip in the far case.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Measures, prints a line for each case and adds the promises.
pub(super) async fn compare(goals: &mut Goals) {
    println!("\n| switch | median | worst | longest write |\n|---|---|---|---|");
    let (from, to) = (server(), server());
    let near = Moved::new(&from, &to, TABLES, Duration::ZERO).await;
    let (pauses, longest) = near.under_load(SWITCHES).await;
    let (middle, worst) = (median(pauses.clone()), pauses.iter().copied().fold(0.0, f64::max));
    println!("| {TABLES} tables under load, {SWITCHES} times | {middle:.3} | {worst:.3} | {longest:.3} |");
    goals.at_most("switch under load: the pause of writers, median", middle, 0.25, "s");
    goals.at_most("switch under load: the pause of writers, worst", worst, 1.0, "s");

    let far = Moved::new(&from, &to, TABLES, ROUND_TRIP).await;
    let (pauses, longest) = far.under_load(4).await;
    let (middle, worst) = (median(pauses.clone()), pauses.iter().copied().fold(0.0, f64::max));
    let trips = middle / ROUND_TRIP.as_secs_f64();
    println!(
        "| the same with 20 ms to each server, about {trips:.0} round trips | {middle:.3} | {worst:.3} | {longest:.3} |"
    );

    let many = Moved::new(&from, &to, MANY, Duration::ZERO).await;
    many.switch(Place::Publisher).await;
    let switched = many.switch(Place::Subscriber).await.expect("a switch");
    let pause = switched.pause.as_secs_f64();
    println!("| {MANY} tables and {} sequences, once | {pause:.3} | | |", switched.sequences_copied);
    goals.at_most("switch of 1000 tables and 1000 sequences: the pause of writers", pause, 3.0, "s");
}

fn server() -> Server {
    Server::start(Major::V17, settings([("max_locks_per_transaction", "512")]))
}

/// A database that is replicated from one server to another.
struct Moved {
    from: Database,
    to: Database,
    pair: Pair,
    /// Keeps the distance between the provider and the servers.
    _relays: Vec<Relay>,
}

/// A switch under load gives no messages.
struct Silent;

impl Listener for Silent {
    fn warn(&self, _: neonrepl::replication::Error) {}
}

impl Moved {
    /// Empty tables on both sides, and a subscription to them.
    async fn new(from: &Server, to: &Server, tables: usize, round_trip: Duration) -> Self {
        let (from, to) = (from.database("bench").await, to.database("bench").await);
        let made: String = (0..tables)
            .map(|at| format!("CREATE TABLE t{at} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);\n"))
            .collect();
        from.sql(&made).await;
        to.sql(&made).await;
        from.sql("CREATE PUBLICATION bench FOR ALL TABLES").await;
        let connection = conninfo(&from).to_secret();
        to.sql(&format!(
            "CREATE SUBSCRIPTION {0} CONNECTION '{1}' PUBLICATION bench WITH (copy_data = false)",
            to.name,
            connection.expose()
        ))
        .await;
        let relays: Vec<_> = [&from, &to].map(|database| Relay::start(database.port, round_trip)).into();
        let port = |at: usize, database: &Database| {
            if round_trip.is_zero() { database.port } else { relays[at].port() }
        };
        let pair = Pair { publisher: connect(&from, port(0, &from)), subscriber: connect(&to, port(1, &to)) };
        Self { from, to, pair, _relays: relays }
    }

    async fn switch(&self, active: Place) -> Option<Switched> {
        let cutover = Cutover {
            subscriptions: [Ident::new(&self.to.name).expect("a name")].into(),
            desired: Desired { active, reverse: true, guard: true },
            way_back: Some(WayBack { connection: conninfo(&self.to), resend: false }),
            terms: Terms::default(),
        };
        let operation = Operation::new("cutting over", Limits::within(DEADLINE), &Silent);
        cutover::run(&self.pair, &cutover, &operation).await.unwrap_or_else(|error| panic!("{error}")).last
    }

    /// Moves writers from side to side while they write. Returns the pauses, and the time of the longest write.
    async fn under_load(&self, switches: usize) -> (Vec<f64>, f64) {
        self.switch(Place::Publisher).await;
        let writers = Writers::start([&self.from, &self.to]);
        let (mut active, mut pauses) = (Place::Publisher, Vec::new());
        for _ in 0..switches {
            writers.get_on().await;
            active = active.other();
            pauses.push(self.switch(active).await.expect("a switch").pause.as_secs_f64());
        }
        (pauses, writers.stop().await)
    }
}

fn conninfo(database: &Database) -> Conninfo {
    let role = Role::superuser();
    let mut connection = Conninfo::new();
    connection.set("host", "127.0.0.1");
    connection.set("port", database.port.to_string());
    connection.set("dbname", database.name.clone());
    connection.set("user", role.name);
    connection.set("password", role.password);
    connection
}

fn connect(database: &Database, port: u16) -> postgres::Database {
    let role = Role::superuser();
    let mut config = ServerConfig::new("127.0.0.1", &database.name, &role.name);
    config.port = port;
    config.password = Some(Secret::new(&role.password));
    config.sslmode = SslMode::Disable;
    postgres::Server::new(config).database(None)
}

/// Sessions that write all the time, on the side that accepts writes.
struct Writers {
    tasks: Vec<JoinHandle<Duration>>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
}

impl Writers {
    fn start(sides: [&Database; 2]) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let sides = sides.map(|database| database.config(&Role::superuser()));
        let tasks = (0..WRITERS)
            .map(|number| tokio::spawn(write(sides.clone(), number, Arc::clone(&stop), Arc::clone(&written))));
        Self { tasks: tasks.collect(), stop, written }
    }

    /// Waits until they have written more.
    async fn get_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        while self.written.load(Ordering::Relaxed) < before + 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends them. Returns the time of the longest write, in seconds.
    async fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for task in self.tasks {
            longest = longest.max(task.await.expect("a writer"));
        }
        longest.as_secs_f64()
    }
}

async fn write(sides: [Config; 2], number: usize, stop: Arc<AtomicBool>, written: Arc<AtomicUsize>) -> Duration {
    let (mut side, mut count, mut longest) = (0, number, Duration::ZERO);
    let mut client: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        if client.is_none() {
            let (open, connection) = sides[side].connect(NoTls).await.expect("a connection");
            tokio::spawn(connection);
            client = Some(open);
        }
        let (one, other) = (count % TABLES, (count + 3) % TABLES);
        count += 1;
        let insert =
            format!("BEGIN; INSERT INTO t{one} (v) VALUES ('a'); INSERT INTO t{other} (v) VALUES ('b'); COMMIT");
        let began = Instant::now();
        match client.as_ref().expect("a connection").batch_execute(&insert).await {
            Ok(()) => {
                longest = longest.max(began.elapsed());
                written.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                side = 1 - side;
                client = None;
            }
        }
    }
    longest
}
