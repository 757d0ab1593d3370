// SPDX-License-Identifier: MPL-2.0

//! Random schemas, copied by `neonrepl_destination_schema`, with rows that go through real replication.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use neonrepl::tf_provider::value::Value;

use crate::common::postgres::{Database, Major, Server, settings};
use crate::dumped;
use crate::maker::{Made, Maker};
use crate::printed::{Later, differences, row_differences};
use crate::provider::Provider;
use crate::random::{number, run};
use crate::wire::set;

/// How long rows may take.
const DEADLINE: Duration = Duration::from_secs(180);

/// How many schemas are copied at a time.
const LANES: usize = 3;

/// The majors of publisher and subscriber.
const ROUTES: [(Major, Major); 5] = [
    (Major::V14, Major::V18),
    (Major::V16, Major::V16),
    (Major::V18, Major::V18),
    (Major::V18, Major::V16),
    (Major::V14, Major::V14),
];

/// The servers of every major: a publisher and a subscriber.
pub(crate) struct Servers {
    publishers: Vec<Server>,
    subscribers: Vec<Server>,
}

impl Servers {
    /// The servers of these majors.
    pub(crate) fn start(majors: impl Iterator<Item = (Major, Major)> + Clone) -> Self {
        let start = |mut majors: Vec<Major>| {
            majors.sort();
            majors.dedup();
            // Foreign keys of hundreds of partitions take many locks.
            let room = || settings([("max_locks_per_transaction", "512"), ("max_sync_workers_per_subscription", "4")]);
            majors.into_iter().map(|major| Server::start(major, room())).collect()
        };
        Self {
            publishers: start(majors.clone().map(|one| one.0).collect()),
            subscribers: start(majors.map(|one| one.1).collect()),
        }
    }

    fn of(all: &[Server], major: Major) -> &Server {
        all.iter().find(|server| server.major() == major).expect("it was started")
    }

    /// The publisher of that major.
    pub(crate) fn publisher(&self, major: Major) -> &Server {
        Self::of(&self.publishers, major)
    }

    /// The subscriber of that major.
    pub(crate) fn subscriber(&self, major: Major) -> &Server {
        Self::of(&self.subscribers, major)
    }
}

/// Two databases, and the schema that is copied.
pub(crate) struct Copy<'a> {
    pub(crate) publisher: &'a Database,
    pub(crate) subscriber: &'a Database,
    pub(crate) route: (Major, Major),
    pub(crate) later: Later,
}

impl Copy<'_> {
    /// The configuration of the destination.
    fn wish(&self) -> Vec<(&'static str, Value)> {
        let when = |later| Value::from(if later { "later" } else { "with_tables" });
        vec![
            ("publications", set(&["proof"])),
            ("indexes", when(self.later.indexes)),
            ("foreign_keys", when(self.later.foreign_keys)),
        ]
    }

    /// Creates the tables, and compares both sides with independent code. Returns the time of the creation.
    ///
    /// # Errors
    /// The differences, or the error of the creation.
    pub(crate) async fn make(&self, provider: &Provider) -> Result<Duration, String> {
        let name = "neonrepl_destination_schema";
        let began = Instant::now();
        let state = provider.create(name, &self.wish()).await.map_err(|said| format!("it was not made: {said}"))?;
        let took = began.elapsed();
        let left = state.value.get("not_copied").cloned();
        if !matches!(&left, Some(Value::List(left)) if left.is_empty()) {
            return Err(format!(
                "something was left out: {}",
                serde_json::to_string(&shown(left.as_ref())).unwrap_or_default()
            ));
        }
        let (one, other) = ((self.publisher, self.route.0), (self.subscriber, self.route.1));
        let found = differences(one, other, self.later).await;
        if !found.is_empty() {
            return Err(format!("both sides differ:\n{}", found.join("\n")));
        }
        if one.1 == other.1
            && let Some(found) = dumped::differences(one.0, other.0, one.1, self.later)
            && !found.is_empty()
        {
            return Err(format!("pg_dump prints both sides otherwise:\n{}", found.join("\n")));
        }
        let changes =
            provider.changes(name, &self.wish(), &state).await.map_err(|said| format!("the second plan: {said}"))?;
        if !changes.is_empty() {
            return Err(format!("the second plan changes {}", changes.join(", ")));
        }
        Ok(took)
    }

    /// Replicates the existing rows and those that these statements write. Returns how many statements succeeded.
    ///
    /// # Errors
    /// The tables whose rows differ at the end.
    pub(crate) async fn replicate(&self, provider: &Provider, writes: &[String]) -> Result<usize, String> {
        // Slot names are unique on the publisher, where several servers subscribe.
        let name = format!("{}_{}", self.subscriber.name, self.subscriber.port);
        let items = [("name", name.as_str().into()), ("publications", set(&["proof"]))];
        provider.create("neonrepl_subscription", &items).await.map_err(|said| format!("not subscribed: {said}"))?;
        self.wait_for_rows().await.map_err(|found| format!("after the copy: {found}"))?;
        let mut taken = 0;
        for write in writes {
            taken += usize::from(self.publisher.try_sql(write).await.is_ok());
        }
        self.wait_for_rows().await.map_err(|found| format!("after the writes: {found}"))?;
        self.subscriber.sql(&format!("DROP SUBSCRIPTION \"{name}\"")).await;
        Ok(taken)
    }

    async fn wait_for_rows(&self) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let found = row_differences(self.publisher, self.subscriber).await;
            if found.is_empty() {
                return Ok(());
            }
            if began.elapsed() > DEADLINE {
                return Err(found.join("\n"));
            }
            // Only the rows themselves show when they have arrived.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The last errors of a server, with their details.
fn complaints(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let errors = lines.iter().enumerate().filter(|(_, line)| line.contains("ERROR:") || line.contains("FATAL:"));
    let mut last: Vec<_> = errors.map(|(at, _)| lines[at..lines.len().min(at + 3)].join("\n")).collect();
    last.split_off(last.len().saturating_sub(3)).join("\n")
}

/// A value as JSON, for messages.
fn shown(value: Option<&Value>) -> serde_json::Value {
    match value {
        Some(Value::String(text)) => text.as_str().into(),
        Some(Value::List(items) | Value::Set(items)) => items.iter().map(|item| shown(Some(item))).collect(),
        Some(Value::Map(items)) => items.iter().map(|(name, item)| (name.clone(), shown(Some(item)))).collect(),
        _ => serde_json::Value::Null,
    }
}

/// Copies the schema of one seed. Returns how many rows were written while it replicated.
async fn copy(servers: &Servers, route: (Major, Major), seed: u64, made: &Made) -> Result<usize, String> {
    let publisher = servers.publisher(route.0).database("made").await;
    let subscriber = servers.subscriber(route.1).database("copied").await;
    run(&publisher, made).await?;
    publisher.sql(&made.publication).await;
    for extension in &made.extensions {
        subscriber.sql(extension).await;
    }
    let (before, after) = made.writes.split_at(made.writes.len() / 2);
    for write in before {
        let _ = publisher.try_sql(write).await;
    }
    let later = Later { indexes: seed.is_multiple_of(2), foreign_keys: seed % 4 < 2 };
    let provider = Provider::start(&publisher, &subscriber).await;
    let copy = Copy { publisher: &publisher, subscriber: &subscriber, route, later };
    copy.make(&provider).await?;
    let taken = copy
        .replicate(&provider, after)
        .await
        .map_err(|said| format!("{said}\nThe subscriber says:\n{}", complaints(&servers.subscriber(route.1).log())))?;
    servers
        .publisher(route.0)
        .open("postgres")
        .sql(&format!("DROP DATABASE \"{}\" WITH (FORCE)", publisher.name))
        .await;
    servers
        .subscriber(route.1)
        .open("postgres")
        .sql(&format!("DROP DATABASE \"{}\" WITH (FORCE)", subscriber.name))
        .await;
    Ok(taken)
}

/// The same, with the seed and the statements in the error. A panic is an error too.
async fn tried(servers: &Servers, route: (Major, Major), seed: u64) -> Result<usize, String> {
    let version = route.0.min(route.1).number();
    let made = Maker::make(seed, version);
    let outcome = AssertUnwindSafe(Box::pin(copy(servers, route, seed, &made))).catch_unwind().await;
    let said = match outcome {
        Ok(Ok(taken)) => return Ok(taken),
        Ok(Err(said)) => said,
        Err(panic) => panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()),
    };
    let statements: Vec<_> =
        made.extensions.iter().chain(&made.statements).chain([&made.publication]).cloned().collect();
    Err(format!("SEED={seed} from {:?} to {:?}: {said}\nThe schema:\n{};", route.0, route.1, statements.join(";\n")))
}

/// SEED is the first seed, COUNT the number of seeds: `make soak` runs thousands.
#[tokio::test]
async fn what_chance_makes_is_copied_and_replicated() {
    let (first, count) = (number("SEED", 1), number("COUNT", 10));
    let servers = Servers::start(ROUTES.into_iter());
    let (next, written) = (Cell::new(first), Cell::new(0));
    let failures = std::cell::RefCell::new(Vec::new());
    let began = Instant::now();
    let lane = async || {
        while next.get() < first + count {
            let seed = next.replace(next.get() + 1);
            let route = ROUTES[usize::try_from(seed).unwrap_or(0) % ROUTES.len()];
            match tried(&servers, route, seed).await {
                Ok(taken) => written.set(written.get() + taken),
                Err(said) => {
                    eprintln!("{said}\n");
                    failures.borrow_mut().push(seed);
                }
            }
        }
    };
    join_all((0..LANES).map(|_| lane())).await;
    let failures = failures.into_inner();
    eprintln!(
        "schemas: {count} made by chance from seed {first}, copied and replicated with {} writes, in {:.0?}",
        written.get(),
        began.elapsed()
    );
    assert!(failures.is_empty(), "{} of {count} seeds: {failures:?}", failures.len());
}
