// SPDX-License-Identifier: MPL-2.0

//! Moves writers from one side to the other and back, while an application writes all the time.

mod faults;
mod terms;
mod writers;

use std::collections::BTreeSet;
use std::sync::Mutex;

use futures_util::future::join;
use futures_util::stream::{self, StreamExt as _};
use neonrepl::postgres::Conninfo;
use neonrepl::postgres::Limits;
use neonrepl::replication::cutover::{self, Cutover, Desired, Outcome, Terms, WayBack};
use neonrepl::replication::{self, Listener, Operation, Pair, Place};

use crate::catalog::{connect, ident};
use crate::common::postgres::{Database, Major, Role, Server, Settings, quote};
use crate::common::wait::wait_until;
use crate::replication::DEADLINE;
use tokio_postgres::error::SqlState;
use writers::{Tally, Writers};

/// The application's tables: two that are written in one transaction, with numbers from sequences. A third one is
/// partitioned.
const TABLES: &str = "
    CREATE TABLE orders (id bigserial PRIMARY KEY, writer int NOT NULL, n int NOT NULL);
    CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer int NOT NULL, n int NOT NULL);
    CREATE TABLE events (id serial, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
    CREATE TABLE aside (id int);";

/// Collects warnings.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn warn(&self, warning: replication::Error) {
        self.0.lock().unwrap().push(warning.to_string());
    }
}

impl Heard {
    fn all(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// The warnings without this text.
    fn besides(&self, text: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|warning| !warning.contains(text)).cloned().collect()
    }
}

/// A database on each of two servers: one is replicated to the other by a role that is a superuser only if necessary.
struct Shop {
    from: Database,
    to: Database,
    movers: [Role; 2],
    apps: [Role; 2],
    pair: Pair,
    heard: Heard,
}

async fn side(server: &Server, major: Major) -> (Database, Role, Role) {
    let database = server.database("cutover").await;
    let rights = if major < Major::V16 { "SUPERUSER" } else { "REPLICATION" };
    let (mover, app) = (server.role("mover", rights).await, server.role("app", "").await);
    let (name, owner) = (quote(&database.name), quote(&mover.name));
    if major >= Major::V16 {
        database.sql(&format!("GRANT pg_create_subscription TO {owner}")).await;
    }
    database.sql(&format!("ALTER DATABASE {name} OWNER TO {owner}; ALTER SCHEMA public OWNER TO {owner}")).await;
    database.connect_as(&mover).await.unwrap().batch_execute(TABLES).await.unwrap();
    let app_name = quote(&app.name);
    let grants = format!(
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {app_name}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {app_name}"
    );
    database.sql(&grants).await;
    (database, mover, app)
}

fn conninfo(database: &Database, role: &Role) -> Conninfo {
    let mut connection = Conninfo::new();
    connection.set("host", "127.0.0.1");
    connection.set("port", database.port.to_string());
    connection.set("dbname", database.name.clone());
    connection.set("user", role.name.clone());
    connection.set("password", role.password.clone());
    connection
}

impl Shop {
    /// A subscription that has copied its tables.
    async fn new(from: &Server, to: &Server) -> Self {
        let (old, old_mover, old_app) = side(from, from.major()).await;
        let (new, new_mover, new_app) = side(to, to.major()).await;
        let pair = Pair { publisher: connect(&old, &old_mover), subscriber: connect(&new, &new_mover) };
        let shop = Self {
            from: old,
            to: new,
            movers: [old_mover, new_mover],
            apps: [old_app, new_app],
            pair,
            heard: Heard::default(),
        };
        shop.subscribe().await;
        shop
    }

    async fn subscribe(&self) {
        let publisher = self.from.connect_as(&self.movers[0]).await.unwrap();
        let tables = "CREATE PUBLICATION shop FOR TABLE orders, items, events WITH (publish_via_partition_root = true)";
        publisher.batch_execute(tables).await.unwrap();
        let connection = conninfo(&self.from, &self.movers[0]).to_secret();
        let subscriber = self.to.connect_as(&self.movers[1]).await.unwrap();
        let slot = self.slot();
        // On one server, a subscription that creates its slot would wait for itself.
        publisher
            .batch_execute(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"))
            .await
            .unwrap();
        let subscribe = format!(
            "CREATE SUBSCRIPTION shop CONNECTION '{}' PUBLICATION shop WITH (create_slot = false, slot_name = {slot})",
            connection.expose()
        );
        subscriber.batch_execute(&subscribe).await.unwrap();
        let ready = "SELECT count(*) FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid \
            JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database() AND srsubstate = 'r'";
        wait_until("the tables to be copied", 3 * DEADLINE, async || self.to.value::<i64>(ready).await == 3).await;
    }

    /// The slot, with a name that is unique on the old server.
    fn slot(&self) -> String {
        format!("{}_{}_shop", self.to.name, self.to.port)
    }

    fn cutover(&self, active: Place) -> Cutover {
        Cutover {
            subscriptions: [ident("shop")].into(),
            desired: Desired { active, reverse: true, guard: true },
            way_back: Some(WayBack { connection: conninfo(&self.to, &self.movers[1]), resend: false }),
            terms: Terms { message: "writes have moved".to_owned(), ..Terms::default() },
        }
    }

    fn operation(&self) -> Operation<'_> {
        Operation::new("cutting over", Limits::within(5 * DEADLINE), &self.heard)
    }

    async fn run(&self, cutover: &Cutover) -> replication::Result<Outcome> {
        cutover::run(&self.anew(), cutover, &self.operation()).await
    }

    /// Both sides for a new provider.
    fn anew(&self) -> Pair {
        Pair { publisher: connect(&self.from, &self.movers[0]), subscriber: connect(&self.to, &self.movers[1]) }
    }

    async fn switch(&self, active: Place) -> Outcome {
        let outcome = self.run(&self.cutover(active)).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((outcome.active, outcome.is_unfinished), (active, false));
        outcome
    }

    fn writers(&self) -> Writers {
        Writers::start([self.from.config(&self.apps[0]), self.to.config(&self.apps[1])])
    }

    fn database(&self, place: Place) -> &Database {
        if place == Place::Subscriber { &self.to } else { &self.from }
    }

    /// Checks that every acknowledged commit is on a side, and nothing is there twice.
    async fn prove(&self, place: Place, tally: &Tally) -> String {
        let database = self.database(place);
        let mut found = String::new();
        for table in ["orders", "items"] {
            let rows = database.rows(&format!("SELECT writer || ' ' || n FROM {table}")).await;
            let there: BTreeSet<&String> = rows.iter().collect();
            let lost = tally.acknowledged.iter().filter(|one| !there.contains(one)).count();
            let twice = rows.len() - there.len();
            let unknown = there
                .iter()
                .filter(|one| !tally.acknowledged.contains(**one) && !tally.unknown.contains(**one))
                .count();
            assert_eq!((lost, twice, unknown), (0, 0, 0), "{table} on the {}", place.as_str());
            found = format!(
                "acknowledged {}, arrived {}, lost {lost}, twice {twice}",
                tally.acknowledged.len(),
                rows.len()
            );
        }
        found
    }
}

/// The switches of one pair there and back, under four writers. Returns the text to print.
async fn there_and_back(from: &Server, to: &Server, switches: usize) -> String {
    let shop = Shop::new(from, to).await;
    let prepared = shop.switch(Place::Publisher).await;
    assert_eq!(prepared.last, None);
    // The guard prevents an application from writing to the new side too early.
    let early = shop
        .to
        .connect_as(&shop.apps[1])
        .await
        .unwrap()
        .batch_execute("INSERT INTO orders (writer, n) VALUES (9, 9)")
        .await;
    assert_eq!(early.unwrap_err().code().cloned(), Some(SqlState::READ_ONLY_SQL_TRANSACTION));

    let writers = shop.writers();
    let mut active = Place::Publisher;
    let (mut pauses, mut since, mut took) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=switches {
        writers.progress(writers.committed() + 40).await;
        active = active.other();
        let began = std::time::Instant::now();
        let outcome = shop.switch(active).await;
        took.push(began.elapsed().as_millis());
        let last = outcome.last.unwrap();
        assert_eq!((usize::try_from(last.number).unwrap(), last.to, outcome.has_switched), (number, active, true));
        assert!(last.sequences_copied >= 3, "{last:?}");
        pauses.push(last.pause.as_millis());
        let committed = writers.committed();
        writers.progress(committed + 20).await;
        since.push(last.writers_waited);
    }
    let tally = writers.stop().await;
    let proof = shop.prove(active, &tally).await;
    // Changes of the active side also flow to the other side.
    let other = shop.database(active.other());
    let there = shop.database(active);
    wait_until("the other side to follow", 3 * DEADLINE, async || {
        let count = "SELECT count(*) FROM orders";
        other.value::<i64>(count).await == there.value::<i64>(count).await
    })
    .await;
    // A server analyzes new rows only after a while.
    assert_eq!(shop.heard.besides("queries there may be slow at first"), [""; 0]);
    format!(
        "{} -> {}, {switches} switches: {proof}; pauses {pauses:?} ms of {took:?} ms, waited {since:?}, refused {}, longest write {:?}",
        from.major().number(),
        to.major().number(),
        tally.refused,
        tally.longest,
    )
}

/// How many pairs move at the same time.
const AT_ONCE: usize = 2;

/// Every major to the one before it, and the oldest to the latest; each also to itself, and on one server.
#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_commit_arrives_once_there_and_back() {
    let start = |major| Server::start(major, Settings::new());
    let (servers, twins) = (Major::ALL.map(start), Major::ALL.map(start));
    let mixed = (0..servers.len()).map(|at| (&servers[at], &servers[(at + servers.len() - 1) % servers.len()]));
    let pairs = mixed.chain(servers.iter().zip(&twins)).chain([(&servers[2], &servers[2])]);
    let moves = pairs.map(|(from, to)| there_and_back(from, to, 6)).collect::<Vec<_>>();
    let mut moved = stream::iter(moves).buffer_unordered(AT_ONCE);
    let mut count = 0;
    while let Some(line) = moved.next().await {
        println!("{line}");
        count += 1;
    }
    println!("{count} pairs");
}

/// A slot waits for all writing transactions on its server, so also for another switch from there.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_move_in_opposite_directions_do_not_wait_for_each_other() {
    let servers = [Major::V15, Major::V17].map(|major| Server::start(major, Settings::new()));
    let (one, other) = (Shop::new(&servers[0], &servers[1]).await, Shop::new(&servers[1], &servers[0]).await);
    for active in [Place::Publisher, Place::Subscriber, Place::Publisher, Place::Subscriber, Place::Publisher] {
        Box::pin(join(one.switch(active), other.switch(active))).await;
    }
    // Room for one slot is enough.
    let fill = "SELECT count(pg_create_physical_replication_slot('full_' || n)) FROM generate_series(2, \
        current_setting('max_replication_slots')::bigint - (SELECT count(*) FROM pg_replication_slots)) n";
    assert!(one.to.value::<i64>(fill).await > 0);
    one.switch(Place::Subscriber).await;
    assert_eq!((one.heard.all(), other.heard.all()), (String::new(), String::new()));
}
