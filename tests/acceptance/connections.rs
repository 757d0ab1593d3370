// SPDX-License-Identifier: MPL-2.0

//! The behavior of connections: lazy, pooled, reconnected, cancelled.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use neonrepl::postgres::publication::{self, Publication, Target};
use neonrepl::postgres::slot::{self, Slot};
use neonrepl::postgres::{Cause, Database, Limits, Secret, Server, ServerConfig, SqlState, SslMode};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Pair, config, connect, ident, pair};
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Major, Role, SUPERUSER, SUPERUSER_PASSWORD, settings};
use crate::common::relay::Relay;
use crate::common::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

/// How many connections of the provider are open to a database.
async fn sessions(pair: &Pair) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'terraform-provider-neonrepl%'";
    pair.test.value(sql).await
}

async fn end_sessions(pair: &Pair) {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name LIKE 'terraform-provider-neonrepl%'";
    pair.test.value::<i64>(sql).await;
    wait_until("the sessions to end", DEADLINE, async || sessions(pair).await == 0).await;
}

async fn create(db: &Database, name: &str, limits: &Limits) -> neonrepl::postgres::Result<()> {
    let desired = Publication::new(ident(name), Target::none());
    let statements = publication::diff(None, Some(&desired), db.version().await?).unwrap();
    db.run_within("creating a publication", &statements, limits).await.map(drop)
}

#[tokio::test]
async fn nothing_connects_before_it_is_needed_and_then_no_more_than_allowed() {
    let pair = pair(Major::V16, "pool").await;
    let mut config = config(&pair.test, &Role::superuser());
    config.max_connections = 2;
    let server = Server::new(config);
    let db = server.database(None);
    assert_eq!(sessions(&pair).await, 0);
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let db = server.database(None);
            tokio::spawn(async move { create(&db, &format!("p{number}"), &Limits::default()).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(sessions(&pair).await, 2);
    assert_eq!(publication::fetch_all(&db).await.unwrap().len(), 20);
}

#[tokio::test]
async fn sessions_that_the_server_ended_are_made_again() {
    for major in Major::ALL {
        let pair = pair(major, "ended").await;
        for round in 0..3 {
            create(&pair.db, &format!("p{round}"), &Limits::default()).await.unwrap();
            end_sessions(&pair).await;
            assert_eq!(publication::fetch_all(&pair.db).await.unwrap().len(), round + 1);
            end_sessions(&pair).await;
        }
    }
}

#[tokio::test]
async fn a_connection_cut_between_is_made_again() {
    let pair = pair(Major::V17, "cut").await;
    let relay = Relay::start(pair.test.port, Duration::ZERO);
    let mut config = config(&pair.test, &Role::superuser());
    config.port = relay.port();
    let db = Server::new(config).database(None);
    create(&db, "p", &Limits::default()).await.unwrap();
    relay.cut();
    assert_eq!(publication::fetch_all(&db).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_waits_for_a_lock_is_cancelled() {
    let pair = pair(Major::V18, "locked").await;
    pair.test.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let blocker = pair.test.connect_as(&Role::superuser()).await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let desired =
        Publication::new(ident("p"), Target::tables([neonrepl::postgres::QualifiedName::parse("t").unwrap()]));
    let statements = publication::diff(None, Some(&desired), pair.db.version().await.unwrap()).unwrap();
    let waiting = async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        pair.test.value::<i64>(sql).await
    };

    let error = pair
        .db
        .run_within("creating a publication", &statements, &Limits::within(Duration::from_millis(200)))
        .await
        .unwrap_err();
    assert!(matches!(error.cause(), Cause::Timeout(_)), "{error}");
    assert_eq!(waiting().await, 0);

    let cancel = CancellationToken::new();
    let limits = Limits::default().cancelled_by(cancel.clone());
    let run = pair.db.run_within("creating a publication", &statements, &limits);
    let stop = async {
        wait_until("the statement to wait", DEADLINE, async || waiting().await == 1).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(run, stop);
    assert!(matches!(result.unwrap_err().cause(), Cause::Cancelled));
    assert_eq!(waiting().await, 0);

    let db = pair.db.clone();
    let task = tokio::spawn(async move { db.run("creating a publication", &statements).await });
    wait_until("the statement to wait", DEADLINE, async || waiting().await == 1).await;
    task.abort();
    wait_until("the statement to be cancelled", DEADLINE, async || waiting().await == 0).await;
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(publication::fetch_all(&pair.db).await.unwrap().len(), 0);
}

/// Cancelling one call does not cancel another, and calls that wait in the server leave a connection for short ones.
#[tokio::test]
async fn who_waits_for_a_lock_neither_stops_others_nor_is_stopped_with_them() {
    let pair = pair(Major::V18, "apart").await;
    pair.test.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let mut config = config(&pair.test, &Role::superuser());
    config.max_connections = 3;
    let db = Server::new(config).database(None);
    let version = db.version().await.unwrap();
    let blocker = pair.test.connect_as(&Role::superuser()).await.unwrap();
    blocker.batch_execute("BEGIN; LOCK TABLE t, u").await.unwrap();
    let publish = |name: &'static str, table: Option<&str>, limits: Limits| {
        let tables = table.map(|table| neonrepl::postgres::QualifiedName::parse(table).unwrap());
        let desired = Publication::new(ident(name), Target::tables(tables));
        let statements = publication::diff(None, Some(&desired), version).unwrap();
        let db = db.clone();
        tokio::spawn(async move {
            publication::apply(&db, "creating a publication", &statements, &desired.name, &limits).await
        })
    };
    let waiting = async |count: i64| {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        pair.test.value::<i64>(sql).await == count
    };

    let locked = publish("locked", Some("t"), Limits::default());
    wait_until("the first to wait for the lock", DEADLINE, async || waiting(1).await).await;
    let cancel = CancellationToken::new();
    let second = publish("second", Some("u"), Limits::default().cancelled_by(cancel.clone()));
    wait_until("the second to wait, too", DEADLINE, async || waiting(2).await).await;
    let third = publish("third", None, Limits::default());
    // Both connections for changes are taken, and reads have the third.
    assert_eq!(publication::fetch_all(&db).await.unwrap().len(), 0);
    assert!(!third.is_finished());
    cancel.cancel();
    let cancelled = second.await.unwrap().unwrap_err();
    assert!(matches!(cancelled.cause(), Cause::Cancelled), "{cancelled}");
    assert!(third.await.unwrap().unwrap().1.is_some());
    assert!(!locked.is_finished() && waiting(1).await);
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert!(locked.await.unwrap().unwrap().1.is_some());
    let names: Vec<_> = pair.test.rows("SELECT pubname FROM pg_publication ORDER BY 1").await;
    assert_eq!(names, ["locked", "third"]);
    assert!(sessions(&pair).await <= 3);
}

#[tokio::test]
async fn a_connection_on_which_something_was_cancelled_is_not_used_again() {
    let pair = pair(Major::V17, "retired").await;
    let mut config = config(&pair.test, &Role::superuser());
    config.max_connections = 1;
    let db = Server::new(config).database(None);
    let limits = Limits::within(DEADLINE);
    let process = async || {
        let mut session = db.session("looking", &limits).await.unwrap();
        let rows = session.query("looking", "SELECT pg_backend_pid()", &[], &limits).await.unwrap();
        rows[0].get::<_, i32>(0)
    };
    let first = process().await;
    assert_eq!(process().await, first);
    {
        let mut session = db.session("sleeping", &limits).await.unwrap();
        let brief = Limits::within(Duration::from_millis(200));
        let error = session.query("sleeping", "SELECT pg_sleep(60)", &[], &brief).await.unwrap_err();
        assert!(matches!(error.cause(), Cause::Timeout(_)), "{error}");
    }
    let second = process().await;
    assert_ne!(second, first);
    // Nor is a connection on which something may still run because nobody waited for its end.
    let forgotten = {
        let db = db.clone();
        let limits = limits.clone();
        tokio::spawn(async move {
            let mut session = db.session("sleeping", &limits).await.unwrap();
            session.query("sleeping", "SELECT pg_sleep(60)", &[], &limits).await.map(drop)
        })
    };
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT pg_sleep(60)' \
        AND state = 'active'";
    wait_until("it to sleep", DEADLINE, async || pair.test.value::<i64>(sleeping).await == 1).await;
    forgotten.abort();
    wait_until("it to be cancelled", DEADLINE, async || pair.test.value::<i64>(sleeping).await == 0).await;
    assert_ne!(process().await, second);
}

#[tokio::test]
async fn slots_that_wait_for_a_transaction_do_not_delay_anything_else() {
    let pair = pair(Major::V16, "slots").await;
    let mut config = config(&pair.test, &Role::superuser());
    config.max_connections = 4;
    let db = Server::new(config).database(None);
    let version = db.version().await.unwrap();
    let old = pair.test.connect_as(&Role::superuser()).await.unwrap();
    old.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let slots: Vec<_> = (0..4)
        .map(|number| {
            let slot = Slot::new(ident(&format!("{}_{number}", pair.test.name)));
            let statement = slot::create(&slot, version).unwrap();
            let db = db.clone();
            tokio::spawn(async move { db.run("creating a slot", &[statement]).await })
        })
        .collect();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND query LIKE 'SELECT pg_create_logical%' AND state = 'active'";
    wait_until("slots to wait", DEADLINE, async || pair.test.value::<i64>(waiting).await == 2).await;
    // Callers that wait until a slot is settled hold no connection.
    let settled = {
        let (db, name) = (db.clone(), ident(&format!("{}_0", pair.test.name)));
        tokio::spawn(async move { slot::fetch_settled(&db, "looking", &name, &Limits::within(DEADLINE)).await })
    };
    for number in 0..10 {
        create(&db, &format!("p{number}"), &Limits::within(Duration::from_secs(20))).await.unwrap();
    }
    assert_eq!(publication::fetch_all(&db).await.unwrap().len(), 10);
    assert!(slots.iter().all(|slot| !slot.is_finished()) && !settled.is_finished());
    old.batch_execute("ROLLBACK").await.unwrap();
    for slot in slots {
        slot.await.unwrap().unwrap();
    }
    assert!(settled.await.unwrap().unwrap().is_some());
    for number in 0..4 {
        db.run("dropping a slot", &[slot::drop_slot(&ident(&format!("{}_{number}", pair.test.name)))]).await.unwrap();
    }
}

#[tokio::test]
async fn idle_connections_of_other_databases_give_way() {
    let server = servers::Server::start(Major::V16, settings([("max_connections", "8")]));
    let mut config = ServerConfig::new("127.0.0.1", SUPERUSER, SUPERUSER);
    (config.port, config.password) = (server.port(), Some(Secret::new(SUPERUSER_PASSWORD)));
    config.sslmode = SslMode::Disable;
    config.max_connections = 3;
    let ours = Server::new(config);
    let mut names = Vec::new();
    for _ in 0..12 {
        names.push(server.database("many").await.name);
    }
    let count = server.open(SUPERUSER);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'terraform-provider-neonrepl%'";
    for round in 0..3 {
        let each = names.iter().map(async |name| {
            let db = ours.database(Some(name));
            create(&db, &format!("p{round}"), &Limits::default()).await.unwrap();
            assert_eq!(publication::fetch_all(&db).await.unwrap().len(), round + 1);
        });
        join_all(each).await;
        // A process of the server ends a moment after its connection.
        wait_until("the sessions to be few", DEADLINE, async || count.value::<i64>(sessions).await <= 3).await;
    }
}

/// Each database has a publication; the server has room for the connections of a few at a time.
#[tokio::test]
async fn a_configuration_of_many_databases_stays_below_what_the_server_allows() {
    const DATABASES: usize = 120;
    let server = servers::Server::start(Major::V17, settings([("max_connections", "20"), ("max_wal_senders", "2")]));
    let admin = server.open(SUPERUSER);
    for number in 0..DATABASES {
        admin.sql(&format!("CREATE DATABASE many_{number} STRATEGY file_copy")).await;
    }
    let Some(core) = Core::installed().pop() else { return };
    let workspace = Workspace::new(core);
    let config = format!(
        r#"
provider "neonrepl" {{
  publisher {{
    url = "{}"
  }}
}}

resource "neonrepl_publication" "p" {{
  count    = {DATABASES}
  name     = "p"
  database = "many_${{count.index}}"
}}
"#,
        admin.url()
    );
    workspace.write("main.tf", &config);
    workspace.init().await;
    let most = AtomicI64::new(0);
    let watch = async {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'terraform-provider-neonrepl%'";
        loop {
            most.fetch_max(admin.value::<i64>(sql).await, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    };
    let apply = async {
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    };
    tokio::select! {
        () = apply => {}
        () = watch => {}
    }
    // Ten at a time, and a process of the server ends a moment after its connection.
    let most = most.into_inner();
    assert!((5..=16).contains(&most), "{most} connections at a time");
}

#[tokio::test]
async fn a_database_that_is_read_only_by_default_is_changed_all_the_same() {
    for major in Major::ALL {
        let pair = pair(major, "readonly").await;
        create(&pair.db, "before", &Limits::default()).await.unwrap();
        let set = format!("ALTER DATABASE {} SET default_transaction_read_only = on", pair.test.name);
        pair.test.sql(&set).await;
        let later = connect(&pair.test, &Role::superuser());
        create(&later, "after", &Limits::default()).await.unwrap();
        assert!(
            publication::drop(&later, "dropping a publication", Vec::new(), &ident("before"), &Limits::default())
                .await
                .unwrap()
        );
        // Other settings of the role or the database stay.
        let seen = pair.test.connect_as(&Role::superuser()).await.unwrap();
        let row = seen.query_one("SHOW default_transaction_read_only", &[]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "on");
    }
}

#[tokio::test]
async fn a_failure_to_connect_names_server_and_cause() {
    let pair = pair(Major::V16, "refused").await;
    let error = async |change: fn(&mut neonrepl::postgres::ServerConfig)| {
        let mut config = config(&pair.test, &Role::superuser());
        config.connect_timeout = Duration::from_secs(5);
        change(&mut config);
        Server::new(config).database(None).version().await.unwrap_err()
    };
    let refused = error(|config| config.port = 1).await;
    assert_eq!(
        refused.to_string(),
        format!(
            "reading the server's version in database \"{}\" on 127.0.0.1:1: cannot connect: the connection was refused",
            pair.test.name
        )
    );
    let password = error(|config| config.password = Some(Secret::new("pw-wrong-9x"))).await;
    assert!(password.is(&SqlState::INVALID_PASSWORD), "{password}");
    assert!(!format!("{password} {password:?} {:?}", password.hint()).contains("pw-wrong"));
    let tls = error(|config| config.sslmode = neonrepl::postgres::SslMode::Require).await;
    assert!(tls.to_string().ends_with("cannot connect: server does not support TLS"), "{tls}");
    let database = error(|config| config.database = "no such".to_owned()).await;
    assert!(database.is(&SqlState::INVALID_CATALOG_NAME), "{database}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let pair = pair(Major::V16, "silent").await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(&pair.test, &Role::superuser());
    config.port = silent.local_addr().unwrap().port();
    config.connect_timeout = Duration::from_millis(300);
    let error = Server::new(config).database(None).version().await.unwrap_err();
    assert!(error.to_string().ends_with("cannot connect: no answer within 0.3 s"), "{error}");
    assert!(error.is_connect());
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let Pair { test, db } = pair(Major::V14, "atomic").await;
    let version = db.version().await.unwrap();
    let statements: Vec<_> = ["p", "p"]
        .into_iter()
        .flat_map(|name| {
            publication::diff(None, Some(&Publication::new(ident(name), Target::none())), version).unwrap()
        })
        .collect();
    let error = db.run("creating publications", &statements).await.unwrap_err();
    assert!(error.is(&SqlState::DUPLICATE_OBJECT), "{error}");
    assert_eq!(test.value::<i64>("SELECT count(*) FROM pg_publication").await, 0);
    create(&db, "p", &Limits::default()).await.unwrap();
}

#[tokio::test]
async fn passwords_of_all_kinds_are_taken() {
    let server = servers::shared(Major::V18);
    let pair = pair(Major::V18, "passwords").await;
    for (number, password) in
        ["it's", "back\\slash", "sp ace", "quo\"te", "per%cent", "ünï", "@:/?#"].into_iter().enumerate()
    {
        let role = Role { name: format!("ro le\"'{number}\\"), password: password.to_owned() };
        server.create_role(&role, "").await;
        connect(&pair.test, &role).version().await.unwrap();
    }
}
