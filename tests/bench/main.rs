// SPDX-License-Identifier: MPL-2.0

//! Time and memory of whole processes, compared with the least possible. `make bench` runs it.
//!
//! Every number is the median of `BENCH_REPEATS` runs (default 3) that take turns with their floors:
//! - a start to the handshake line, compared with a program that only prints a line, and a provider in Go that does
//!   nothing;
//! - plan, apply, plan without changes and destroy of `BENCH_COUNTS` publications (default 200,1000) with each core,
//!   compared with as many `terraform_data`, which cost the core the same and the provider nothing;
//! - the same statements alone, over as many connections as the provider uses by default;
//! - the same publications by cyrilgdn/postgresql with OpenTofu, if `BENCH_PEER` names its binary;
//! - one publication of `BENCH_TABLES` tables (default 1000) with OpenTofu, compared with both; the core starts a
//!   plugin there too. The cores' own time for a set grows with its square, so ten thousand take minutes;
//! - a destination schema of a thousand tables with three thousand indexes with OpenTofu, compared with `psql` and the
//!   same statements, and with `pg_dump` if the machine has a version that the tests start, and its round trips to
//!   distant servers;
//! - the initial copy of `BENCH_ROWS` rows (default 1500000; 0 skips it) with six secondary indexes in place, compared
//!   with the same with the indexes created afterwards, once each;
//! - counts and checksums of `BENCH_ROWS` rows (default 10000000; 0 skips them) on two servers, compared with the
//!   slower server's time for the same query alone, and finding damaged rows;
//! - `BENCH_DATABASES` databases (default 50; 0 skips them) of two servers, moved by `examples/migration-module`, and
//!   the number of connections;
//! - how long writers wait for a switch from one server to the other: of ten tables under load, of a thousand tables, and with
//!   20 ms to each server.
//!
//! `BENCH_PARTS` names the parts to run, such as `destination,indexes`: handshake, lives, large, destination, indexes, comparison, many, cutover.
//!
//! The lives are measured without a network, and with a relay that adds 20 ms to each round trip. At the end it prints
//! the promises for the largest count with OpenTofu, and whether they were kept. Each figure is also recorded in
//! `target/bench.jsonl`, from which `make figures` creates the README's tables.

#![allow(clippy::print_stdout)] // printing is what it is for

mod client;
#[path = "../common/mod.rs"]
mod common;
mod comparison;
mod contenders;
mod cutover;
mod cycle;
mod destination;
mod goals;
mod handshake;
mod indexes;
mod large;
mod many;
mod statements;
mod usage;

use std::env;
use std::time::Duration;

use common::cli::Core;
use common::postgres::{self, Database, Major, Server, Settings};
use common::relay::Relay;
use cycle::Cycle;
use goals::Goals;

const ROUND_TRIPS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];

#[tokio::main]
async fn main() {
    let repeats = numbers("BENCH_REPEATS", "3")[0];
    let mut goals = Goals::default();
    goals::note_programs();
    let parts = env::var("BENCH_PARTS").unwrap_or_default();
    let is_run = |part: &str| parts.is_empty() || parts.split(',').any(|one| one == part);
    if is_run("handshake") {
        handshake::report(&mut goals);
    }
    if is_run("lives") {
        lives(repeats, &mut goals).await;
    }
    if is_run("large") {
        large(repeats, &mut goals).await;
    }
    if is_run("destination") {
        destination::compare(Core::OpenTofu, repeats, &mut goals).await;
    }
    let rows = numbers("BENCH_ROWS", "1500000")[0];
    if is_run("indexes") && rows > 0 {
        indexes::compare(Core::OpenTofu, rows, &mut goals).await;
    }
    let rows = numbers("BENCH_ROWS", "10000000")[0];
    if is_run("comparison") && rows > 0 {
        comparison::compare(rows, repeats, &mut goals).await;
    }
    let databases = numbers("BENCH_DATABASES", "50")[0];
    if is_run("many") && databases > 0 {
        many::compare(Core::OpenTofu, databases, &mut goals).await;
    }
    if is_run("cutover") {
        cutover::compare(&mut goals).await;
    }
    goals.print();
}

/// Publications from plan to destroy, near and far.
async fn lives(repeats: usize, goals: &mut Goals) {
    let counts = numbers("BENCH_COUNTS", "200,1000");
    let largest = counts.iter().copied().max().unwrap_or_default();
    println!("\nSeconds, medians of {repeats}; in brackets the ratio to terraform_data on the same core.");
    println!("CPU is the processor time of the provider in percent of the core's, step by step.\n");
    println!("| count | round trip | what | plan | apply | plan again | destroy | CPU | peak memory |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for count in counts {
        let database = postgres::shared(Major::V18).database("bench").await;
        statements::create_tables(&database, count).await;
        let near = compare(&database, count, ROUND_TRIPS[0], repeats).await;
        let far = compare(&database, count, ROUND_TRIPS[1], repeats).await;
        if let (Some(near), Some(far), true) = (near, far, count == largest) {
            goals.of_life(&format!("{count}"), &near.ours, &near.floor, &near.alone);
            goals.of_distance(&format!("{count}, 20 ms"), &near.ours, &far.ours);
        }
    }
}

/// One publication of many tables.
async fn large(repeats: usize, goals: &mut Goals) {
    println!("\n| count | step | statements alone | terraform_data | publication |\n|---|---|---|---|---|");
    for tables in numbers("BENCH_TABLES", "1000") {
        // A publication locks each of its tables while it is created.
        let locks = (tables / 32).max(64).to_string();
        let server = Server::start(Major::V18, Settings::from([("max_locks_per_transaction".to_owned(), locks)]));
        let database = server.database("bench").await;
        statements::create_tables(&database, tables + 1).await;
        large::compare(Core::OpenTofu, &database, tables, repeats, goals).await;
    }
}

/// The results for one number of publications at one distance.
struct Measured {
    alone: Cycle,
    floor: Cycle,
    ours: Cycle,
}

/// Measures one number of publications at one distance, and prints a line for each contender. Returns OpenTofu's
/// results.
async fn compare(database: &Database, count: usize, round_trip: Duration, repeats: usize) -> Option<Measured> {
    let relay = Relay::start(database.port, round_trip);
    let port = if round_trip.is_zero() { database.port } else { relay.port() };
    let label = format!("| {count} | {} ms |", round_trip.as_millis());

    let mut alone = Vec::new();
    for _ in 0..repeats {
        alone.push(statements::run(database, port, count).await);
    }
    let alone = Cycle::median(&alone);
    println!("{label} statements alone {}", alone.row(None));

    let mut measured = None;
    for core in cores() {
        let ours = contenders::publications(core, database, port, count);
        let floor = contenders::terraform_data(core, count);
        let (mut of_ours, mut of_floor) = (Vec::new(), Vec::new());
        ours.init().await;
        floor.init().await;
        for _ in 0..repeats {
            of_floor.push(Cycle::run(&floor).await);
            of_ours.push(Cycle::run(&ours).await);
        }
        let (ours, floor) = (Cycle::median(&of_ours), Cycle::median(&of_floor));
        println!("{label} {}, terraform_data {}", core.name(), floor.row(None));
        println!("{label} {}, publications {}", core.name(), ours.row(Some(&floor)));
        if core == Core::OpenTofu {
            goals::note_life("terraform_data", count, round_trip.as_millis(), &floor);
            goals::note_life("neonrepl", count, round_trip.as_millis(), &ours);
            if let Some(peer) = contenders::peer(core, database, port, count) {
                let peer = Cycle::run_often(&peer, repeats).await;
                goals::note_life("cyrilgdn/postgresql", count, round_trip.as_millis(), &peer);
                println!("{label} {}, cyrilgdn/postgresql {}", core.name(), peer.row(Some(&floor)));
            }
            measured = Some(Measured { alone, floor, ours });
        }
    }
    measured
}

/// The cores to measure with: those of `BENCH_CORES`, such as `tofu`, or all that are installed.
fn cores() -> Vec<Core> {
    let wanted = env::var("BENCH_CORES").unwrap_or_default();
    Core::installed().into_iter().filter(|core| wanted.is_empty() || wanted.contains(core.name())).collect()
}

/// Numbers from an environment variable, separated by commas.
fn numbers(variable: &str, default: &str) -> Vec<usize> {
    let text = env::var(variable).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(|number| number.trim().parse().unwrap_or_else(|_| panic!("{variable}={text}"))).collect()
}
