//! Time and memory of whole processes, beside the least that they could take. `make bench` runs it.
//!
//! Every number is the median of `BENCH_REPEATS` runs (default 3) that take turns with their floors:
//! - a start to the handshake line, beside a program that only prints a line;
//! - plan, apply, plan without changes and destroy of `BENCH_COUNTS` publications (default 200,1000) with each core,
//!   beside as many `terraform_data`, which cost the core the same and the provider nothing;
//! - the same statements alone, over as many connections as the provider uses by default.
//!
//! All of it without a network, and with a relay that adds 20 ms to each round trip.

#![allow(clippy::print_stdout)] // printing is what it is for

#[path = "../common/mod.rs"]
mod common;
mod cycle;
mod handshake;
mod memory;
mod statements;

use std::env;
use std::time::Duration;

use common::cli::{Core, Workspace};
use common::postgres::{self, Database, Major, Role};
use common::relay::Relay;
use cycle::Cycle;

const ROUND_TRIPS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];

#[tokio::main]
async fn main() {
    let repeats = numbers("BENCH_REPEATS", "3")[0];
    handshake::report();
    println!("\nSeconds, medians of {repeats}; in brackets the ratio to terraform_data on the same core.\n");
    println!("| count | round trip | what | plan | apply | plan again | destroy | peak memory |");
    println!("|---|---|---|---|---|---|---|---|");
    for count in numbers("BENCH_COUNTS", "200,1000") {
        let database = postgres::shared(Major::V18).database("bench").await;
        statements::create_tables(&database, count).await;
        for round_trip in ROUND_TRIPS {
            compare(&database, count, round_trip, repeats).await;
        }
    }
}

/// Measures one number of publications at one distance, and prints a line for each contender.
async fn compare(database: &Database, count: usize, round_trip: Duration, repeats: usize) {
    let relay = Relay::start(database.port, round_trip);
    let port = if round_trip.is_zero() { database.port } else { relay.port() };
    let label = format!("| {count} | {} ms |", round_trip.as_millis());

    let mut alone = Vec::new();
    for _ in 0..repeats {
        alone.push(statements::run(database, port, count).await);
    }
    println!("{label} statements alone {}", Cycle::median(&alone).row(None));

    for core in Core::installed() {
        let ours = publications(core, &database.url_through(&Role::superuser(), port), count);
        let floor = terraform_data(core, count);
        let (mut of_ours, mut of_floor) = (Vec::new(), Vec::new());
        ours.init().await;
        floor.init().await;
        for _ in 0..repeats {
            of_floor.push(Cycle::run(&floor).await);
            of_ours.push(Cycle::run(&ours).await);
        }
        let least = Cycle::median(&of_floor);
        println!("{label} {}, terraform_data {}", core.name(), least.row(None));
        println!("{label} {}, publications {}", core.name(), Cycle::median(&of_ours).row(Some(&least)));
    }
}

fn publications(core: Core, url: &str, count: usize) -> Workspace {
    let workspace = Workspace::new(core);
    let text = format!(
        r#"
provider "neonrepl" {{
  publisher {{
    url = "{url}"
  }}
}}

resource "neonrepl_publication" "p" {{
  count  = {count}
  name   = "p${{count.index}}"
  tables = ["public.a${{count.index}}", "public.b${{count.index}}"]
}}
"#
    );
    workspace.write("main.tf", &text);
    workspace
}

fn terraform_data(core: Core, count: usize) -> Workspace {
    let workspace = Workspace::new(core);
    let text = format!(
        r#"
resource "terraform_data" "p" {{
  count = {count}
  input = {{
    name   = "p${{count.index}}"
    tables = ["public.a${{count.index}}", "public.b${{count.index}}"]
  }}
}}
"#
    );
    workspace.write("versions.tf", "");
    workspace.write("main.tf", &text);
    workspace
}

/// Numbers from an environment variable, separated by commas.
fn numbers(variable: &str, default: &str) -> Vec<usize> {
    let text = env::var(variable).unwrap_or_else(|_| default.to_owned());
    text.split(',').map(|number| number.trim().parse().unwrap_or_else(|_| panic!("{variable}={text}"))).collect()
}
