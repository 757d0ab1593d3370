// SPDX-License-Identifier: MPL-2.0

//! Tables that another session has locked while a plan or an apply reads them.

use std::time::{Duration, Instant};

use neonrepl::postgres::publication;
use tokio_postgres::Client;

use crate::catalog::{Pair, ident, pair};
use crate::common::cli::{Core, Run, Workspace, says};
use crate::common::postgres::{Database, Major, Role};
use crate::common::wait::wait_until;
use crate::replication;

const DEADLINE: Duration = Duration::from_secs(60);

/// How long a plan may take: seconds for each read of a locked object, on a busy machine.
const PLAN: Duration = Duration::from_secs(60);

/// Postgres 14 has no row filters, and reading its publications waits for no lock.
const FILTERS: [Major; 4] = [Major::V15, Major::V16, Major::V17, Major::V18];

async fn shop(major: Major) -> Pair {
    let pair = pair(major, "locks").await;
    pair.test.sql("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY)").await;
    pair
}

fn provider(pair: &Pair) -> String {
    format!("provider \"neonrepl\" {{\n  publisher {{\n    url = \"{}\"\n  }}\n}}\n", pair.test.url())
}

fn filtered(name: &str, filter: &str) -> String {
    format!(
        "resource \"neonrepl_publication\" \"{name}\" {{\n  name = \"{name}\"\n  table {{\n    name  = \"t\"\n    \
         where = \"{filter}\"\n  }}\n}}\n"
    )
}

const PLAIN: &str = "resource \"neonrepl_publication\" \"plain\" {\n  name   = \"plain\"\n  tables = [\"u\"]\n}\n";

fn workspace(config: &[&str]) -> Workspace {
    let workspace = Workspace::new(Core::installed().pop().unwrap());
    workspace.write("main.tf", &config.concat());
    workspace
}

/// A session that holds a lock, and its process.
async fn lock(database: &Database, table: &str) -> (Client, i32) {
    let client = database.connect_as(&Role::superuser()).await.unwrap();
    let lock = format!("SET application_name = 'migration'; BEGIN; LOCK TABLE {table}");
    client.batch_execute(&lock).await.unwrap();
    let process = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, process)
}

async fn quick_plan(workspace: &Workspace, code: i32) -> Run {
    let began = Instant::now();
    let run = workspace.expect(&["plan", "-no-color", "-detailed-exitcode"], code).await;
    assert!(began.elapsed() < PLAN, "{:?}: {}", began.elapsed(), run.text());
    run
}

#[tokio::test]
async fn a_locked_table_keeps_only_its_own_publications_from_being_read() {
    for major in FILTERS {
        let pair = shop(major).await;
        let other = "CREATE PUBLICATION filtered FOR TABLE t WHERE (id > 1); CREATE PUBLICATION plain FOR TABLE u, t";
        pair.test.sql(other).await;
        let (held, process) = lock(&pair.test, "t").await;
        let (plain, filtered, all) = tokio::join!(
            async { publication::fetch(&pair.db, &ident("plain")).await },
            async { publication::fetch(&pair.db, &ident("filtered")).await },
            async { publication::fetch_all(&pair.db).await.map(drop) }
        );
        assert!(plain.unwrap().is_some());
        for error in [filtered.unwrap_err(), all.unwrap_err()] {
            assert!(error.is_locked(), "{error}");
            let hint = error.hint().unwrap();
            let holder = format!("Locked now: public.t by process {process} (migration, postgres), for ");
            assert!(hint.contains(&holder), "{hint}");
        }
        held.batch_execute("ROLLBACK").await.unwrap();
        assert!(publication::fetch_now(&pair.db, &ident("filtered")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_plan_does_not_wait_for_locked_tables() {
    for major in [Major::V15, Major::V18] {
        let pair = shop(major).await;
        let provider = provider(&pair);
        let workspace = workspace(&[&provider, &filtered("filtered", "id > 1"), PLAIN]);
        workspace.init().await;
        workspace.apply().await;
        let (held, process) = lock(&pair.test, "t").await;
        let holder = format!("public.t by process {process} (migration, postgres)");

        // Nothing changed: the state stays, and the plan says what it does not know.
        let run = quick_plan(&workspace, 0).await;
        says(&run, &["reading publication \"filtered\": another session has locked a table", &holder]);
        assert!(!run.flat().contains("reading publication \"plain\""), "{}", run.text());

        // Something new, something changed, and something that was dropped meanwhile.
        pair.test.sql("DROP PUBLICATION plain").await;
        let config = [&provider, &filtered("filtered", "id > 2"), &filtered("new", "id > 3"), PLAIN].concat();
        workspace.write("main.tf", &config);
        let run = quick_plan(&workspace, 2).await;
        says(
            &run,
            &[
                "2 to add, 1 to change",
                "comparing the row filters of public.t: another session has locked a table",
                "planning publication \"new\": another session has locked a table",
                "was not checked",
            ],
        );
        held.batch_execute("ROLLBACK").await.unwrap();
        let run = workspace.apply().await;
        assert!(!run.flat().contains("locked"), "{}", run.text());
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

/// A plan gives up after seconds; an apply waits for its turn, as the change itself does.
#[tokio::test]
async fn an_apply_waits_for_a_lock_longer_than_a_plan() {
    let pair = shop(Major::V17).await;
    let provider = provider(&pair);
    let workspace = workspace(&[&provider, &filtered("filtered", "id > 1")]);
    workspace.init().await;
    workspace.apply().await;
    workspace.write("main.tf", &[&provider[..], &filtered("filtered", "id > 2")].concat());
    workspace.expect(&["plan", "-no-color", "-out=test.tfplan"], 0).await;
    let (held, _) = lock(&pair.test, "t").await;
    let apply = workspace.spawn(&["apply", "-no-color", "test.tfplan"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
        AND now() - query_start > interval '4 seconds'";
    wait_until("the apply to wait for long", DEADLINE, async || pair.test.value::<i64>(waits).await == 1).await;
    held.batch_execute("ROLLBACK").await.unwrap();
    let run = apply.wait().await;
    assert_eq!(run.code, Some(0), "{}", run.text());
    workspace.expect_empty_plan().await;
}

#[tokio::test]
async fn a_subscription_keeps_its_state_while_a_published_table_is_locked() {
    let pair = replication::Pair::new(Major::V17, Major::V16, "locked").await;
    let name = pair.subscriber.name.clone();
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
    let workspace = pair.workspace(Core::installed().pop().unwrap()).await;
    let config = format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name         = \"{name}\"\n  publications = [\"shop\"]\n  \
         wait_for_initial_sync = true\n}}\n"
    );
    workspace.write("main.tf", &config);
    workspace.apply().await;
    let (held, process) = lock(&pair.publisher, "orders").await;
    let run = quick_plan(&workspace, 0).await;
    let what = format!("reading subscription \"{name}\": another session has locked a table of the publisher");
    says(&run, &[&what, &format!("public.orders by process {process} (migration, postgres)")]);
    held.batch_execute("ROLLBACK").await.unwrap();
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
}

/// An apply checks a locked table once the lock is gone; a plan continues without the check.
#[tokio::test]
async fn an_apply_waits_for_what_it_has_to_check() {
    let pair = replication::Pair::new(Major::V18, Major::V16, "checks").await;
    let name = pair.subscriber.name.clone();
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders WHERE (id > 0)").await;
    pair.subscriber.sql("ALTER TABLE orders DROP COLUMN region").await;
    let workspace = pair.workspace(Core::OpenTofu).await;
    workspace.write(
        "main.tf",
        &format!(
            "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [\"shop\"]\n  \
             wait_for_initial_sync = true\n}}\n"
        ),
    );
    let (held, _) = lock(&pair.publisher, "orders").await;
    let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    // Longer than a plan waits.
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
        AND application_name LIKE 'terraform-provider-neonrepl%' AND now() - query_start > interval '5 seconds'";
    wait_until("the apply to wait for the lock", DEADLINE, async || pair.publisher.value::<i64>(waits).await > 0).await;
    held.batch_execute("ROLLBACK").await.unwrap();
    let refused = apply.wait().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    says(&refused, &["public.orders: it lacks published columns on the subscriber: region", "Nothing was changed."]);
    let made = "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(pair.subscriber.rows(made).await, [""; 0]);
    assert_eq!(pair.slots().await, [""; 0]);
}
