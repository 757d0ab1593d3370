// SPDX-License-Identifier: MPL-2.0

//! The comparison of a large table: compared with each server's time for the same query alone, and with damaged rows.
//!
//! "Alone" is one session that sends the query to one of the two servers while the other one is idle; the slower one
//! counts. Neither server runs a query in parallel here. They share the machine's processors, so a server that used
//! all of them for a query could not do so while the other one counts, unlike two servers on separate machines. "Both
//! at once" is a session on each of them with the same query at the same time: if that takes longer than the slower
//! one alone, the machine has too few free processors for two servers, and the result says nothing about the
//! provider.

use std::process::Stdio;
use std::time::Instant;

use serde_json::Value;
use tokio::process::Command;

use super::common::postgres::{Database, Major, Server, settings};
use super::common::tools;
use super::cycle::median;
use super::goals::Goals;
use super::usage;

/// A table like those of applications.
const TABLE: &str = "CREATE TABLE visits (id bigint, number int, note text, at timestamptz, price numeric(10,2))";

/// The queries for each server alone. The provider's own queries are the same.
const COUNT: &str = "SELECT count(*) FROM visits";
const CHECKSUM: &str =
    "SELECT count(*), sum(hash_record_extended(ROW(at, id, note, number, price), 0)::numeric)::text FROM visits";

/// Rows of each kind of damage: changed, missing, extra.
const DAMAGED: usize = 100;

/// More than are damaged: each must be reported.
const MOST: &str = "1000";

/// The time of a comparison, relative to the slower server alone.
const RATIO: f64 = 1.2;

/// The provider's maximum memory, in MiB.
const MEMORY: f64 = 30.0;

/// Measures, prints a line for each case and adds the promises.
pub(super) async fn compare(rows: usize, repeats: usize, goals: &mut Goals) {
    let (from, to) = (server(), server());
    let sides = Sides { from: from.database("bench").await, to: to.database("bench").await };
    sides.fill(rows).await;
    println!(
        "\n| {rows} rows compared, medians of {repeats} | publisher alone | subscriber alone | both at once | compared | peak memory |"
    );
    println!("|---|---|---|---|---|---|");
    for (mode, query) in [("counts", COUNT), ("checksums", CHECKSUM)] {
        let measured = sides.measure(mode, query, repeats).await;
        let [publisher, subscriber, both, ours] = measured.seconds;
        println!("| {mode} | {publisher:.2} | {subscriber:.2} | {both:.2} | {ours:.2} | {:.1} MiB |", measured.peak);
        let limit = RATIO * publisher.max(subscriber);
        goals.at_most(&format!("{rows} rows, {mode}: {RATIO} times the slower server alone"), ours, limit, "s");
        goals.at_most(&format!("{rows} rows, {mode}: memory"), measured.peak, MEMORY, "MiB");
    }
    sides.damage(rows).await;
    let compared = sides.ask(&["--mode", "rows", "--max-differences", MOST]).await;
    assert_eq!(compared.kinds(), [DAMAGED; 3], "every damaged row is named");
    println!("| rows, {} of them damaged | | | | {:.2} | {:.1} MiB |", 3 * DAMAGED, compared.seconds, compared.peak);
    goals.at_most(&format!("{rows} rows, damaged ones named: memory"), compared.peak, MEMORY, "MiB");
}

fn server() -> Server {
    let pairs = [
        ("max_parallel_workers_per_gather", "0"),
        ("shared_buffers", "256MB"),
        ("max_wal_size", "4GB"),
        ("checkpoint_timeout", "30min"),
        ("synchronous_commit", "off"),
    ];
    Server::start(Major::V18, settings(pairs))
}

/// A table on two servers, and a subscription between them.
struct Sides {
    from: Database,
    to: Database,
}

/// Seconds on the publisher alone, on the subscriber alone, on both at once, and of a comparison; and its maximum
/// memory, in MiB.
struct Measured {
    seconds: [f64; 4],
    peak: f64,
}

/// A comparison that has ended.
struct Compared {
    said: Value,
    seconds: f64,
    peak: f64,
}

impl Sides {
    /// Fills both sides with the same rows. Later rows are replicated.
    async fn fill(&self, rows: usize) {
        let fill = format!(
            "{TABLE}; INSERT INTO visits SELECT n, hashint8(n), md5(n::text), \
             '2025-01-01'::timestamptz + make_interval(secs => hashint8(n) / 100), (hashint8(n) % 1000000) / 100.0 \
             FROM generate_series(1, {rows}) n; ALTER TABLE visits ADD PRIMARY KEY (id)"
        );
        tokio::join!(self.from.sql(&fill), self.to.sql(&fill));
        tokio::join!(self.from.sql("VACUUM (ANALYZE) visits"), self.to.sql("VACUUM (ANALYZE) visits"));
        self.from.sql("CREATE PUBLICATION bench FOR TABLE visits").await;
        let (name, url) = (&self.to.name, self.from.url());
        let subscribe =
            format!("CREATE SUBSCRIPTION {name} CONNECTION '{url}' PUBLICATION bench WITH (copy_data = false)");
        self.to.sql(&subscribe).await;
    }

    /// Both servers alone and a comparison take turns, after one of each that fills the caches.
    async fn measure(&self, mode: &str, query: &str, repeats: usize) -> Measured {
        let (mut seconds, mut peak) = ([const { Vec::new() }; 4], 0.0_f64);
        for turn in 0..=repeats {
            let (publisher, subscriber) = (alone(&self.from, query).await, alone(&self.to, query).await);
            let both = tokio::join!(alone(&self.from, query), alone(&self.to, query));
            let compared = self.ask(&["--mode", mode]).await;
            assert_eq!(
                (&compared.said["equal"], &compared.said["exact"]),
                (&true.into(), &true.into()),
                "{}",
                compared.said
            );
            peak = peak.max(compared.peak);
            if turn > 0 {
                let all = [publisher, subscriber, both.0.max(both.1), compared.seconds];
                seconds.iter_mut().zip(all).for_each(|(of_one, took)| of_one.push(took));
            }
        }
        Measured { seconds: seconds.map(median), peak }
    }

    /// Makes rows differ in each way, all over the subscriber's table.
    async fn damage(&self, rows: usize) {
        let step = rows / DAMAGED;
        self.to
            .sql(&format!(
                "UPDATE visits SET note = 'damaged' WHERE id % {step} = 1; DELETE FROM visits WHERE id % {step} = 2; \
                 INSERT INTO visits SELECT -n, 1, 'extra', now(), 1 FROM generate_series(1, {DAMAGED}) n"
            ))
            .await;
    }

    /// Runs the command as a person does.
    async fn ask(&self, arguments: &[&str]) -> Compared {
        let mut command = Command::new(tools::provider());
        command.env("NEONREPL_PUBLISHER_URL", self.from.url()).env("NEONREPL_SUBSCRIBER_URL", self.to.url());
        command.args(["compare", "--publication", "bench", "--json"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let began = Instant::now();
        let child = command.spawn().expect("starting the provider");
        let watch = usage::Peak::begin(child.id().expect("a process"));
        let output = child.wait_with_output().await.expect("the provider");
        let seconds = began.elapsed().as_secs_f64();
        let said = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        Compared { said, seconds, peak: watch.end() }
    }
}

impl Compared {
    /// How many rows were reported as changed, missing and extra.
    fn kinds(&self) -> [usize; 3] {
        let differences = self.said["tables"][0]["differences"].as_array().map(Vec::as_slice).unwrap_or_default();
        ["changed", "missing", "extra"]
            .map(|kind| differences.iter().filter(|difference| difference["kind"] == kind).count())
    }
}

/// The time of a query in one session, in seconds.
async fn alone(database: &Database, query: &str) -> f64 {
    let began = Instant::now();
    database.sql(query).await;
    began.elapsed().as_secs_f64()
}
