// SPDX-License-Identifier: MPL-2.0

//! A destination schema of a thousand tables with three thousand indexes, compared with `psql` and the same statements,
//! and with `pg_dump` if the machine has it.

use std::time::Duration;

use super::client;
use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Major, Role, Server, Settings};
use super::common::relay::Relay;
use super::cycle::{Step, median};
use super::goals::Goals;

const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];
const TABLES: usize = 1000;
const DISTANCE: Duration = Duration::from_millis(20);

/// The maximum number of round trips of an apply, to one server or to both at once.
const ROUND_TRIPS: f64 = 45.0;

/// A core with a thousand tables, and a provider that does nothing with them.
const FLOOR: &str = "resource \"terraform_data\" \"shop\" {\n  input = \"shop\"\n}\n";

const OURS: &str = "resource \"neonrepl_destination_schema\" \"shop\" {\n  publications = [\"bench\"]\n  \
    indexes      = \"with_tables\"\n  foreign_keys = \"with_tables\"\n}\n";

/// Measures, prints a line for each contender and adds the promises.
pub(super) async fn compare(core: Core, repeats: usize, goals: &mut Goals) {
    let dumps = client::dumps().filter(|_| client::has_psql());
    let major = dumps.unwrap_or(Major::V18);
    // One transaction locks everything that it creates.
    let settings = Settings::from([("max_locks_per_transaction".to_owned(), "512".to_owned())]);
    let (from, to) = (Server::start(major, settings.clone()), Server::start(major, settings));
    let publisher = from.database("bench").await;
    let mut times: [Vec<f64>; 5] = Default::default();
    let mut round_trips = Vec::new();
    client::run(&publisher, &schema()).await;
    publisher.sql("CREATE PUBLICATION bench FOR ALL TABLES").await;
    for _ in 0..repeats {
        times[0].push(floor(core).await);
        times[1].push(client::run(&to.database("alone").await, &schema()).await);
        times[2].push(ours(core, &publisher, &to.database("ours").await, Duration::ZERO).await.0);
        let (took, waits) = ours(core, &publisher, &to.database("far").await, DISTANCE).await;
        times[3].push(took);
        round_trips.push(waits);
        if dumps.is_some() {
            times[4].push(client::dump_and_restore(&publisher, &to.database("dumped").await).await);
        }
    }
    let [floor, alone, ours, far, dumped] = times.map(|times| if times.is_empty() { f64::NAN } else { median(times) });
    let by = if client::has_psql() { "psql" } else { "a connection, as there is no psql" };
    println!("\n| {TABLES} tables, {} indexes, Postgres {} | seconds |\n|---|---|", 3 * TABLES, major.number());
    println!("| the same statements by {by} | {alone:.2} |");
    match dumps {
        Some(_) => println!("| pg_dump and psql | {dumped:.2} |"),
        None => println!("| pg_dump and psql | none of a version that the tests start |"),
    }
    println!("| terraform_data | {floor:.2} |\n| destination schema | {ours:.2} |");
    let round_trips = median(round_trips);
    println!("| destination schema, 20 ms away, {round_trips:.0} round trips | {far:.2} |");
    goals.at_most(&format!("destination schema of {TABLES} tables: round trips"), round_trips, ROUND_TRIPS, "");
    let what = format!("destination schema of {TABLES} tables, twice the statements and the floor");
    goals.at_most(&what, ours, 2.0 * alone + floor, "s");
    goals.at_most(&format!("destination schema of {TABLES} tables, 20 ms: added"), far - ours, 1.0, "s");
    if dumps.is_some() {
        let what = format!("destination schema of {TABLES} tables, twice pg_dump and psql and the floor");
        goals.at_most(&what, ours, 2.0 * dumped + floor, "s");
    }
}

async fn floor(core: Core) -> f64 {
    let workspace = Workspace::new(core);
    workspace.write("versions.tf", "");
    workspace.write("main.tf", FLOOR);
    workspace.init().await;
    Step::run(&workspace, &APPLY, 0).await.seconds
}

/// The time of an apply in seconds and, with distance, its round trips. Checks that everything exists afterwards.
async fn ours(core: Core, publisher: &Database, subscriber: &Database, distance: Duration) -> (f64, f64) {
    let relays = [publisher, subscriber].map(|side| Relay::start(side.port, distance));
    let url = |side: &Database, relay: &Relay| {
        side.url_through(&Role::superuser(), if distance.is_zero() { side.port } else { relay.port() })
    };
    let mut workspace = Workspace::new(core);
    workspace.env("NEONREPL_PUBLISHER_URL", &url(publisher, &relays[0]));
    workspace.env("NEONREPL_SUBSCRIBER_URL", &url(subscriber, &relays[1]));
    workspace.write("main.tf", OURS);
    workspace.init().await;
    let took = Step::run(&workspace, &APPLY, 0).await.seconds;
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname LIKE 'area%'";
    assert_eq!(subscriber.value::<i64>(indexes).await, publisher.value::<i64>(indexes).await);
    let waits: usize = relays.iter().map(Relay::round_trips).sum();
    (took, f64::from(u32::try_from(waits).unwrap_or(u32::MAX)))
}

/// Tables with types, defaults, checks and references to each other in ten schemas, each with three indexes.
fn schema() -> String {
    let area = |number: usize| {
        format!(
            "CREATE SCHEMA area{number}; CREATE TYPE area{number}.mood AS ENUM ('sad', 'glad'); \
             CREATE DOMAIN area{number}.price AS numeric(10,2) CHECK (VALUE >= 0);\n"
        )
    };
    let areas: String = (0..10).map(area).collect();
    areas + &(0..TABLES).map(table).collect::<String>()
}

fn table(number: usize) -> String {
    let area = number % 10;
    let name = format!("area{area}.t{number}");
    let refers = if number < 10 { String::new() } else { format!(" REFERENCES area{area}.t{}", number - 10) };
    format!(
        "CREATE TABLE {name} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint{refers}, name text NOT NULL \
         DEFAULT 'x', mood area{area}.mood DEFAULT 'glad', price area{area}.price, made timestamptz DEFAULT now(), \
         CHECK (length(name) < 200));\n\
         CREATE INDEX t{number}_name ON {name} (lower(name)); CREATE INDEX t{number}_made ON {name} (made DESC, id); \
         CREATE INDEX t{number}_parent ON {name} (parent) WHERE parent IS NOT NULL;\n"
    )
}
