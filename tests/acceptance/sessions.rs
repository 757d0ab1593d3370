// SPDX-License-Identifier: MPL-2.0

//! Held sessions: transactions with savepoints, the result of COMMIT, streams of rows, limits.

use std::time::Duration;

use neonrepl::postgres::publication::{self, Publication, Target};
use neonrepl::postgres::{Begin, Cause, Database, Isolation, Limits, SqlState, Statement};

use crate::catalog::{Pair, ident, pair};
use crate::common::postgres::{Major, Role};
use crate::common::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits::within(DEADLINE)
}

async fn publish(db: &Database, name: &str) -> Vec<Statement> {
    let desired = Publication::new(ident(name), Target::none());
    publication::diff(None, Some(&desired), db.version().await.unwrap()).unwrap()
}

async fn publications(pair: &Pair) -> Vec<String> {
    pair.test.rows("SELECT pubname FROM pg_publication ORDER BY 1").await
}

#[tokio::test]
async fn a_transaction_goes_back_to_a_savepoint_and_on_from_there() {
    for major in Major::ALL {
        let pair = pair(major, "savepoint").await;
        let [p, q] = [publish(&pair.db, "p").await, publish(&pair.db, "q").await];
        let mut session = pair.db.session("testing", &limits()).await.unwrap();
        let mut transaction = session.transaction(&Begin::default());
        transaction.run("making p", &p, &limits()).await.unwrap();
        let savepoint = transaction.savepoint();
        let twice = transaction.run("making p", &p, &limits()).await.unwrap_err();
        assert!(twice.is(&SqlState::DUPLICATE_OBJECT), "{twice}");
        let spoiled = transaction.run("making q", &q, &limits()).await.unwrap_err();
        assert!(spoiled.is(&SqlState::IN_FAILED_SQL_TRANSACTION), "{spoiled}");
        transaction.roll_back_to(&savepoint);
        transaction.run("making q", &q, &limits()).await.unwrap();
        transaction.release(&savepoint);
        assert_eq!(publications(&pair).await, [""; 0]);
        transaction.commit("committing", &limits()).await.unwrap();
        assert_eq!(publications(&pair).await, ["p", "q"]);
    }
}

/// The server then answers COMMIT with ROLLBACK, and reports no error.
#[tokio::test]
async fn a_commit_that_rolls_back_is_an_error() {
    for major in Major::ALL {
        let pair = pair(major, "spoiled").await;
        let p = publish(&pair.db, "p").await;
        let mut session = pair.db.session("testing", &limits()).await.unwrap();
        let mut transaction = session.transaction(&Begin::default());
        transaction.run("making p", &p, &limits()).await.unwrap();
        transaction.run("making p", &p, &limits()).await.unwrap_err();
        let error = transaction.commit("committing", &limits()).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::RolledBack), "{error}");
        assert!(error.to_string().ends_with("a statement had failed, so the transaction was rolled back"), "{error}");
        assert_eq!(publications(&pair).await, [""; 0]);
        // The session can still be used.
        let mut transaction = session.transaction(&Begin::default());
        transaction.run("making p", &p, &limits()).await.unwrap();
        transaction.commit("committing", &limits()).await.unwrap();
        assert_eq!(publications(&pair).await, ["p"]);
    }
}

/// A failure of COMMIT itself keeps its own cause.
#[tokio::test]
async fn a_commit_that_fails_says_why() {
    let pair = pair(Major::V16, "deferred").await;
    pair.test.sql("CREATE TABLE t (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    let mut transaction = session.transaction(&Begin::default());
    transaction.query("filling", "INSERT INTO public.t VALUES (1), (1)", &[], &limits()).await.unwrap();
    let error = transaction.commit("committing", &limits()).await.unwrap_err();
    assert!(error.is(&SqlState::UNIQUE_VIOLATION), "{error}");
    let rows = session.query("counting", "SELECT count(*) FROM public.t", &[], &limits()).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_transaction_begins_as_asked_and_is_undone_when_it_is_dropped() {
    let pair = pair(Major::V18, "begin").await;
    pair.test.sql("CREATE TABLE t (id int)").await;
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    let how =
        Begin { isolation: Isolation::RepeatableRead, read_only: true, lock_timeout: Some(Duration::from_millis(300)) };
    let mut transaction = session.transaction(&how);
    let sql = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), \
        current_setting('lock_timeout'), (SELECT count(*) FROM public.t)";
    let rows = transaction.query("looking", sql, &[], &limits()).await.unwrap();
    let text = |at: usize| rows[0].get::<_, &str>(at).to_owned();
    assert_eq!((text(0).as_str(), text(1).as_str(), text(2).as_str()), ("repeatable read", "on", "300ms"));
    pair.test.sql("INSERT INTO t VALUES (1)").await;
    let rows = transaction.query("counting", "SELECT count(*) FROM public.t", &[], &limits()).await.unwrap();
    assert_eq!(rows[0].get::<_, i64>(0), 0, "it sees what was there when it began");
    let refused = transaction.query("writing", "DELETE FROM public.t", &[], &limits()).await.unwrap_err();
    assert!(refused.is(&SqlState::READ_ONLY_SQL_TRANSACTION), "{refused}");
    transaction.roll_back("giving up", &limits()).await.unwrap();

    let mut transaction = session.transaction(&Begin::default());
    transaction.query("writing", "DELETE FROM public.t", &[], &limits()).await.unwrap();
    drop(session);
    // Nothing is read before the transaction has ended, so the table is free now.
    assert_eq!(publication::fetch_all(&pair.db).await.unwrap().len(), 0);
    pair.test.sql("SET lock_timeout = '1s'; LOCK TABLE t; ROLLBACK").await;
    assert_eq!(pair.test.value::<i64>("SELECT count(*) FROM t").await, 1);
}

/// The fence of a switch: if a lock is not granted in time, the transaction can continue.
#[tokio::test]
async fn a_lock_that_is_not_given_is_given_up_and_asked_for_again() {
    let pair = pair(Major::V17, "fence").await;
    pair.test.sql("CREATE TABLE t (id int)").await;
    let blocker = pair.test.connect_as(&Role::superuser()).await.unwrap();
    blocker.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    let how = Begin { lock_timeout: Some(Duration::from_millis(100)), ..Begin::default() };
    let mut transaction = session.transaction(&how);
    let savepoint = transaction.savepoint();
    let lock = "LOCK TABLE public.t IN SHARE ROW EXCLUSIVE MODE";
    let busy = transaction.query("locking", lock, &[], &limits()).await.unwrap_err();
    assert!(busy.is(&SqlState::LOCK_NOT_AVAILABLE), "{busy}");
    blocker.batch_execute("COMMIT").await.unwrap();
    transaction.roll_back_to(&savepoint);
    transaction.query("locking", lock, &[], &limits()).await.unwrap();
    transaction.commit("committing", &limits()).await.unwrap();
}

#[tokio::test]
async fn rows_come_no_faster_than_they_are_taken() {
    let pair = pair(Major::V16, "stream").await;
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    // Two gigabytes, most of which are never in memory.
    let sql = "SELECT i, repeat('x', 1000) FROM generate_series(1, 2000000) AS i";
    let mut rows = session.rows("reading", sql, &[], &limits()).await.unwrap();
    for expected in 1..=10_000 {
        let row = rows.next().await.unwrap().unwrap();
        assert_eq!(row.get::<_, i32>(0), expected);
    }
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientWrite'";
    wait_until("the server to wait for us", DEADLINE, async || pair.test.value::<i64>(waits).await == 1).await;
    // A query that is no longer needed is cancelled, and its connection is not used again.
    drop(rows);
    drop(session);
    let runs = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%generate_series%' \
        AND pid <> pg_backend_pid()";
    wait_until("the query to end", DEADLINE, async || pair.test.value::<i64>(runs).await == 0).await;
}

#[tokio::test]
async fn all_rows_come_in_a_transaction_as_well() {
    let pair = pair(Major::V14, "stream").await;
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    let mut transaction = session.transaction(&Begin { read_only: true, ..Begin::default() });
    let sql = "SELECT i FROM generate_series(1, 100000) AS i";
    let mut rows = transaction.rows("reading", sql, &[], &limits()).await.unwrap();
    let mut sum = 0;
    while let Some(row) = rows.next().await.unwrap() {
        sum += i64::from(row.get::<_, i32>(0));
    }
    assert!(rows.next().await.unwrap().is_none());
    drop(rows);
    assert_eq!(sum, 5_000_050_000);
    transaction.commit("committing", &limits()).await.unwrap();
    let bad = session.rows("dividing", "SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i", &[], &limits()).await;
    let mut bad = bad.unwrap();
    let mut error = None;
    while error.is_none() {
        error = bad.next().await.err();
    }
    assert!(error.unwrap().is(&SqlState::DIVISION_BY_ZERO));
}

#[tokio::test]
async fn limits_end_a_stream_and_a_statement_of_a_transaction() {
    let pair = pair(Major::V15, "limits").await;
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    let brief = Limits::within(Duration::from_millis(300));
    let sql = "SELECT i, pg_sleep(0.05) FROM generate_series(1, 10000) AS i";
    let mut rows = session.rows("reading", sql, &[], &brief).await.unwrap();
    let error = loop {
        match rows.next().await {
            Ok(row) => assert!(row.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.cause(), Cause::Timeout(_)), "{error}");
    drop(rows);
    drop(session);

    let p = publish(&pair.db, "p").await;
    let mut session = pair.db.session("testing", &limits()).await.unwrap();
    let mut transaction = session.transaction(&Begin::default());
    transaction.run("making p", &p, &limits()).await.unwrap();
    let brief = Limits::within(Duration::from_millis(300));
    let error = transaction.query("sleeping", "SELECT pg_sleep(60)", &[], &brief).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Timeout(_)), "{error}");
    let spoiled = transaction.commit("committing", &limits()).await.unwrap_err();
    assert!(matches!(spoiled.cause(), Cause::RolledBack), "{spoiled}");
    drop(session);
    assert_eq!(publications(&pair).await, [""; 0]);
    let left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
        AND pid <> pg_backend_pid()";
    wait_until("nothing to be left", DEADLINE, async || pair.test.value::<i64>(left).await == 0).await;
}
