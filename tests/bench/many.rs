// SPDX-License-Identifier: MPL-2.0

//! Many databases of two servers, moved by the module of `examples/migration-module`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Major, Role, Server, settings};
use super::common::tools::checkout;
use super::cycle::Step;
use super::goals::Goals;

const PLAN: [&str; 3] = ["plan", "-no-color", "-detailed-exitcode"];
const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];
const DESTROY: [&str; 3] = ["destroy", "-no-color", "-auto-approve"];

/// The provider's default for `max_connections`.
const CONNECTIONS: f64 = 10.0;

/// How often to read the server's connections.
const SAMPLE: Duration = Duration::from_millis(20);

const APPLICATION: &str = "CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); \
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users, total numeric); \
    CREATE INDEX orders_of_user ON orders (user_id); \
    INSERT INTO users (name) SELECT 'user ' || n FROM generate_series(1, 100) n; \
    INSERT INTO orders (user_id, total) SELECT n, n FROM generate_series(1, 100) n";

/// Measures once, prints a line for each step and adds the promise about connections.
pub(super) async fn compare(core: Core, count: usize, goals: &mut Goals) {
    let (from, to) = (server(), server());
    let (mut publishers, mut subscribers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let publisher = from.database("bench").await;
        publisher.sql(APPLICATION).await;
        publishers.push(publisher);
        subscribers.push(to.database("bench").await);
    }
    let mut workspace = Workspace::new(core).within(Duration::from_secs(3600));
    workspace.env("TF_VAR_publisher_url", &publishers[0].url()).env("TF_VAR_subscriber_url", &subscribers[0].url());
    workspace.write_all(&checkout().join("examples/migration-module"), Path::new(""));
    workspace.init().await;
    let counts = [Connections::count(&publishers[0]), Connections::count(&subscribers[0])];
    println!("\n| {count} databases | seconds |\n|---|---|");
    for (title, phase, arguments, code) in [
        ("published, made, copied", "copy", APPLY, 0),
        ("plan again", "copy", PLAN, 0),
        ("indexed", "index", APPLY, 0),
        ("plan again, indexed", "index", PLAN, 0),
        ("prepared for the day", "ready", APPLY, 0),
        ("plan again, prepared", "ready", PLAN, 0),
        ("all moved", "moved", APPLY, 0),
        ("destroyed", "moved", DESTROY, 0),
    ] {
        workspace.write("terraform.tfvars", &variables(phase, &publishers, &subscribers));
        println!("| {title} | {:.1} |", Step::run(&workspace, &arguments, code).await.seconds);
    }
    for (side, connections) in ["publisher", "subscriber"].into_iter().zip(counts) {
        let what = format!("{count} databases: connections to the {side}");
        goals.at_most(&what, connections.most().await, CONNECTIONS, "");
    }
}

/// A server with the resources for fifty subscriptions, but the usual number of connections.
fn server() -> Server {
    Server::start(
        Major::V17,
        settings([
            ("max_connections", "100"),
            ("max_replication_slots", "200"),
            ("max_wal_senders", "200"),
            ("max_worker_processes", "220"),
            ("max_logical_replication_workers", "200"),
        ]),
    )
}

fn variables(phase: &str, publishers: &[Database], subscribers: &[Database]) -> String {
    let pairs = publishers.iter().zip(subscribers).enumerate().map(|(at, (publisher, subscriber))| {
        format!("  db{at} = {{ publisher = \"{}\", subscriber = \"{}\" }}\n", publisher.name, subscriber.name)
    });
    format!("phase = \"{phase}\"\ndatabases = {{\n{}}}\n", pairs.collect::<String>())
}

/// The maximum number of the provider's connections that a server had at once, and still had at the next look: a closed
/// one counts for some milliseconds longer, while its replacement is already open.
struct Connections {
    ended: Arc<AtomicBool>,
    task: JoinHandle<usize>,
}

impl Connections {
    fn count(database: &Database) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (flag, database) = (Arc::clone(&ended), Database::at(database.port, &database.name));
        let task = tokio::spawn(async move {
            let client = database.connect_as(&Role::superuser()).await.expect("a connection");
            // `max_connections` does not count a walsender, which tries a subscription's login for a moment.
            let sql = "SELECT pid FROM pg_stat_activity \
                WHERE application_name LIKE 'terraform-provider-neonrepl%' AND backend_type = 'client backend'";
            let (mut most, mut before) = (0, HashSet::new());
            while !flag.load(Ordering::Relaxed) {
                let rows = client.query(sql, &[]).await.expect("the connections");
                let now: HashSet<i32> = rows.iter().map(|row| row.get(0)).collect();
                most = most.max(now.intersection(&before).count());
                before = now;
                tokio::time::sleep(SAMPLE).await;
            }
            most
        });
        Self { ended, task }
    }

    async fn most(self) -> f64 {
        self.ended.store(true, Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss, reason = "a server has few connections")]
        let most = self.task.await.expect("a count") as f64;
        most
    }
}
