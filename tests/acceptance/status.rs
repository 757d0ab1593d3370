// SPDX-License-Identifier: MPL-2.0

//! The status of a replication, from both servers.

use std::collections::BTreeSet;
use std::time::Duration;

use neonrepl::postgres::subscription::SyncState;
use neonrepl::postgres::{Database, Limits, QualifiedName};
use neonrepl::replication::status::{self, Question, Status, Until};
use neonrepl::replication::{self, Listener, Operation};

use tokio_util::sync::CancellationToken;

use crate::catalog::{connect, ident};
use crate::common::cli::Core;
use crate::common::postgres::{Major, Role};
use crate::common::wait::wait_for;
use crate::replication::{DEADLINE, Pair};

/// Ignores all messages.
pub(crate) struct Quiet;

impl Listener for Quiet {
    fn warn(&self, warning: replication::Error) {
        panic!("{warning}");
    }
}

/// The question for the status of a pair.
pub(crate) struct Asked {
    pub(crate) publisher: Database,
    pub(crate) subscriber: Database,
}

impl Asked {
    pub(crate) fn of(pair: &Pair) -> Self {
        let superuser = Role::superuser();
        Self { publisher: connect(&pair.publisher, &superuser), subscriber: connect(&pair.subscriber, &superuser) }
    }

    /// The status of the only subscription.
    pub(crate) async fn status(&self) -> Status {
        let operation = Operation::new("reading the status", Limits::within(DEADLINE), &Quiet);
        let found = status::statuses(&operation, &self.question()).await.unwrap();
        let [status] = found.try_into().unwrap();
        status
    }

    fn question(&self) -> Question<'_> {
        Question { subscriber: &self.subscriber, publisher: Some(&self.publisher), names: None }
    }

    /// Waits until this state.
    pub(crate) async fn wait(&self, until: Until, deadline: Duration) -> replication::Result<Vec<Status>> {
        let operation = Operation::new("waiting", Limits::within(deadline), &Quiet);
        let mut looks = 0;
        let mut count = |statuses: &[Status]| looks += statuses.len();
        let waited = status::wait_until(&operation, &self.question(), until, &mut count).await;
        assert!(looks > 0);
        waited
    }
}

/// A publication of these tables, and a subscription to it with these options.
pub(crate) async fn subscribe(pair: &Pair, tables: &str, options: &str) {
    pair.publisher.sql(&format!("CREATE PUBLICATION shop FOR {tables}")).await;
    let (name, port, from) = (&pair.subscriber.name, pair.publisher.port, &pair.publisher.name);
    let superuser = Role::superuser();
    pair.subscriber
        .sql(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port={port} dbname={from} user={} password={}' \
             PUBLICATION shop {options}",
            superuser.name, superuser.password
        ))
        .await;
}

/// Removes a subscription in any state, and its slot.
pub(crate) async fn unsubscribe(pair: &Pair) {
    let name = &pair.subscriber.name;
    for step in ["DISABLE", "SET (slot_name = NONE)"] {
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} {step}")).await;
    }
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    let drop = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL AND database = current_database()";
    pair.publisher.rows(drop).await;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database() AND NOT active";
    let left = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()";
    wait_for("the slots to go", DEADLINE, async || {
        let _ = pair.publisher.try_sql(drop).await;
        pair.publisher.rows(left).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn how_far_a_replication_is_comes_from_both_servers() {
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "status").await;
        pair.publisher
            .sql("INSERT INTO orders SELECT i, i, 'eu' FROM generate_series(1, 1000) i; ANALYZE orders")
            .await;
        subscribe(&pair, "TABLE orders, customers", "").await;
        let asked = Asked::of(&pair);
        let ready = wait_for("the copy", DEADLINE, async || Some(asked.status().await).filter(Status::is_ready)).await;
        assert_eq!((ready.enabled, ready.worker_running, ready.tables_ready()), (true, true, 2));
        assert!(ready.causes.is_empty() && ready.schema_drift.is_empty(), "{ready:?}");
        let orders = QualifiedName::parse("orders").unwrap();
        let table = ready.tables.iter().find(|table| table.name == orders).unwrap();
        assert_eq!((table.state, table.rows_estimate, table.is_copying), (SyncState::Ready, Some(1000), false));
        assert!(table.bytes.unwrap() >= 8192, "{table:?}");
        assert!(ready.publisher.as_deref().unwrap().ends_with(&format!("/{}", pair.publisher.name)), "{ready:?}");
        assert_eq!(ready.apply_error_count, (to > Major::V14).then_some(0));
        let slot = ready.slot.as_ref().unwrap();
        assert!(slot.active && slot.wal_status.as_deref() == Some("reserved"), "{slot:?}");

        let idle = wait_for("no lag", DEADLINE, async || {
            Some(asked.status().await).filter(|status| status.lag_bytes == Some(0))
        })
        .await;
        assert_eq!(idle.lag_seconds, Some(0.0));
        assert!(idle.received_lsn.is_some() && idle.last_msg_receipt_time.is_some(), "{idle:?}");

        // A table that is published later is missing until a refresh.
        pair.publisher.sql("ALTER PUBLICATION shop ADD TABLE invoices").await;
        let behind = asked.status().await;
        assert!(!behind.is_ready() && behind.is_well(), "{behind:?}");
        assert_eq!(behind.unsubscribed_tables, [QualifiedName::parse("invoices").unwrap()]);

        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {} REFRESH PUBLICATION", pair.subscriber.name)).await;
        let rows = "INSERT INTO orders SELECT i, i, 'us' FROM generate_series(1001, 6000) i";
        pair.publisher.sql(rows).await;
        let there = asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();
        assert!(there[0].is_ready(), "{there:?}");
        assert_eq!(pair.subscriber.rows("SELECT count(*) FROM orders").await, ["6000"]);

        // A table that was created again only has the name: on the publisher it is not published, on the subscriber not
        // subscribed. No error shows it.
        let again = |table: &str| {
            format!(
                "CREATE TABLE again (LIKE {table} INCLUDING ALL); DROP TABLE {table} CASCADE; ALTER TABLE again RENAME TO {table}"
            )
        };
        pair.publisher.sql(&again("customers")).await;
        pair.subscriber.sql(&again("invoices")).await;
        let other = asked.status().await;
        assert_eq!(other.unpublished_tables, [QualifiedName::parse("customers").unwrap()]);
        assert_eq!(other.unsubscribed_tables, [QualifiedName::parse("invoices").unwrap()]);
        assert!(other.is_well() && !other.is_ready(), "{other:?}");

        // This server proves nothing about a subscription that reads from elsewhere.
        let elsewhere = connect(&pair.subscriber, &Role::superuser());
        let operation = Operation::new("reading the status", Limits::within(Duration::from_secs(30)), &Quiet);
        let names = BTreeSet::from([ident(&pair.subscriber.name)]);
        let question = Question { publisher: Some(&elsewhere), names: Some(&names), ..asked.question() };
        let found = status::statuses(&operation, &question).await.unwrap();
        assert!(found[0].publisher.as_deref().unwrap().ends_with(&pair.publisher.name), "{found:?}");
        let names = BTreeSet::from([ident("nowhere")]);
        let question = Question { publisher: None, names: Some(&names), ..question };
        let error = status::statuses(&operation, &question).await.unwrap_err().to_string();
        let there = format!("It has \"{}\".", pair.subscriber.name);
        assert!(
            error.contains("there is no subscription \"nowhere\" in database") && error.contains(&there),
            "{error}"
        );
        unsubscribe(&pair).await;
    }
}

const CONFIG: &str = "
data \"neonrepl_replication_status\" \"now\" {}
data \"neonrepl_replication_status\" \"waited\" {
  wait_until = \"caught_up\"
  timeout    = \"50s\"
}
output \"report\" {
  value = data.neonrepl_replication_status.now.report
}
";

#[tokio::test]
async fn the_data_source_tells_waits_and_can_be_stopped() {
    for (core, from, to) in [(Core::Terraform, Major::V14, Major::V18), (Core::OpenTofu, Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "told").await;
        let workspace = pair.workspace(core).await;
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        subscribe(&pair, "TABLE orders, customers", "").await;
        workspace.write("main.tf", CONFIG);
        workspace.apply().await;
        let told = workspace.attributes("data.neonrepl_replication_status.waited").await;
        assert_eq!((&told["ready"], &told["ok"]), (&true.into(), &true.into()), "{told}");
        let one = &told["subscriptions"][0];
        assert_eq!((&one["name"], &one["tables_ready"]), (&pair.subscriber.name.as_str().into(), &2.into()), "{one}");
        // Others write to the same server, and WAL that it has not sent yet counts too.
        let is_close = one["lag_bytes"].as_u64().is_some_and(|lag| lag < 1 << 20);
        assert!(is_close && one["slot"]["active"] == true, "{one}");
        assert_eq!(one["tables"][1]["state"], "ready", "{one}");

        // The reason why it stops is reported, and ends the wait.
        pair.publisher.sql("ALTER TABLE orders ADD note text; INSERT INTO orders VALUES (2, 1, 'eu', 'n')").await;
        let failed = workspace.apply_error().await;
        assert!(failed.flat().contains("Table public.orders lacks column note on the subscriber"), "{}", failed.text());
        assert!(failed.flat().contains("ADD COLUMN \"note\" text"), "{}", failed.text());
        workspace.write("main.tf", "data \"neonrepl_replication_status\" \"now\" {}\n");
        workspace.apply().await;
        let told = workspace.attributes("data.neonrepl_replication_status.now").await;
        let one = &told["subscriptions"][0];
        assert_eq!((&told["ok"], &one["causes"][0]["kind"]), (&false.into(), &"missing_column".into()), "{told}");
        assert_eq!(one["schema_drift"][0]["table"], "public.orders", "{one}");
        pair.subscriber.sql("ALTER TABLE orders ADD note text").await;
        workspace.write("main.tf", CONFIG);
        workspace.apply().await;
        assert_eq!(pair.subscriber.rows("SELECT note FROM orders ORDER BY id").await, ["", "n"]);

        // A reader that cannot continue by itself: there is no problem, it just waits.
        pair.subscriber.sql("BEGIN; LOCK TABLE orders").await;
        pair.publisher.sql("INSERT INTO orders VALUES (3)").await;
        workspace.write("main.tf", &CONFIG.replace("50s", "2s"));
        let late = workspace.apply_error().await;
        assert!(late.flat().contains("has not confirmed what was written before"), "{}", late.text());
        let stop = CancellationToken::new();
        let limits = Limits::within(DEADLINE).cancelled_by(stop.clone());
        let operation = Operation::new("waiting", limits, &Quiet);
        let asked = Asked::of(&pair);
        let mut stops = |_: &[Status]| stop.cancel();
        let question = asked.question();
        let waited = status::wait_until(&operation, &question, Until::CaughtUp, &mut stops);
        let stopped = Box::pin(waited).await.unwrap_err().to_string();
        assert_eq!(stopped, "the operation was cancelled");
        pair.subscriber.sql("ROLLBACK").await;
        unsubscribe(&pair).await;
    }
}
