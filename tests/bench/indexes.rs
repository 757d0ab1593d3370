// SPDX-License-Identifier: MPL-2.0

//! The initial copy of a large table with six secondary indexes: with all of them in place, and with all of them
//! created afterwards.

use std::time::Duration;

use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Major, Server, Settings};
use super::cycle::Step;
use super::goals::Goals;

const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];

/// A small machine may take long for a copy with indexes in place.
const DEADLINE: Duration = Duration::from_secs(3600);

/// The table, and indexes of the kinds that applications have.
const TABLE: &str = "CREATE TABLE visits (id bigint PRIMARY KEY, number int, token uuid, note text, at timestamptz, price numeric(10,2)); \
    CREATE INDEX visits_number ON visits (number); CREATE INDEX visits_token ON visits (token); \
    CREATE INDEX visits_note ON visits (note); CREATE INDEX visits_at ON visits (at); \
    CREATE INDEX visits_price ON visits (price, number); CREATE INDEX visits_lower ON visits (lower(note))";

/// Measures each once, because it takes a minute, prints a line and adds the promise.
pub(super) async fn compare(core: Core, rows: usize, goals: &mut Goals) {
    // Memory and WAL of the size for a database of gigabytes: otherwise constant checkpoints would be measured.
    let settings = [("shared_buffers", "256MB"), ("max_wal_size", "8GB"), ("checkpoint_timeout", "30min")];
    let settings: Settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let (from, to) = (Server::start(Major::V18, settings.clone()), Server::start(Major::V18, settings));
    let publisher = from.database("bench").await;
    publisher.sql(TABLE).await;
    let fill = format!(
        "INSERT INTO visits SELECT n, hashint8(n), md5(n::text)::uuid, md5('note ' || n), \
         '2025-01-01'::timestamptz + make_interval(secs => hashint8(n) / 100), (hashint8(n) % 1000000) / 100.0 \
         FROM generate_series(1, {rows}) n"
    );
    publisher.sql(&fill).await;
    publisher.sql("CREATE PUBLICATION bench FOR TABLE visits").await;
    let in_place = copy(core, &publisher, &to.database("in_place").await, "with_tables", rows).await;
    let later = copy(core, &publisher, &to.database("later").await, "later", rows).await;
    println!("\n| {rows} rows, six indexes | seconds |\n|---|---|");
    println!("| copied with all of them in place | {in_place:.1} |\n| copied, then indexed | {later:.1} |");
    let what = format!("{rows} rows with six indexes, copied and then indexed: a third of with the indexes in place");
    goals.at_most(&what, later, in_place / 3.0, "s");
}

/// The time from nothing to copied and indexed rows, in seconds.
async fn copy(core: Core, publisher: &Database, subscriber: &Database, indexes: &str, rows: usize) -> f64 {
    let mut workspace = Workspace::new(core).within(DEADLINE);
    workspace.env("NEONREPL_PUBLISHER_URL", &publisher.url());
    workspace.env("NEONREPL_SUBSCRIBER_URL", &subscriber.url());
    let name = &subscriber.name;
    let text = format!(
        "resource \"neonrepl_destination_schema\" \"bench\" {{\n  publications = [\"bench\"]\n  indexes      = \"{indexes}\"\n}}\n\
         resource \"neonrepl_subscription\" \"bench\" {{\n  name                  = \"{name}\"\n  publications          = [\"bench\"]\n  \
         wait_for_initial_sync = true\n  depends_on            = [neonrepl_destination_schema.bench]\n}}\n\
         resource \"neonrepl_destination_indexes\" \"bench\" {{\n  publications         = [\"bench\"]\n  \
         subscriptions        = [neonrepl_subscription.bench.name]\n  maintenance_work_mem = \"256MB\"\n  analyze              = false\n}}\n"
    );
    workspace.write("main.tf", &text);
    workspace.init().await;
    let took = Step::run(&workspace, &APPLY, 0).await.seconds;
    assert_eq!(subscriber.value::<i64>("SELECT count(*) FROM visits").await, i64::try_from(rows).unwrap_or_default());
    let valid = "SELECT count(*) FROM pg_index WHERE indrelid = 'visits'::regclass AND indisvalid";
    assert_eq!(subscriber.value::<i64>(valid).await, 7);
    workspace.expect(&["destroy", "-no-color", "-auto-approve"], 0).await;
    subscriber.sql("DROP TABLE visits").await;
    took
}
