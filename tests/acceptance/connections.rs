//! How connections behave: lazy, pooled, made again, cancelled.

use std::time::Duration;

use neonrepl::postgres::publication::{self, Publication, Target};
use neonrepl::postgres::{Cause, Database, Limits, Secret, Server, SqlState};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Pair, config, connect, ident, pair};
use crate::common::postgres::{self as servers, Major, Role};
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

/// Those who share a connection cannot be cancelled apart: whoever is hit in another's place does its work again.
#[tokio::test]
async fn who_shares_a_connection_is_not_cancelled_with_another() {
    let pair = pair(Major::V18, "shared").await;
    pair.test.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    let mut config = config(&pair.test, &Role::superuser());
    config.max_connections = 1;
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
    let waiting = async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        pair.test.value::<i64>(sql).await == 1
    };

    let locked = publish("locked", Some("t"), Limits::default());
    wait_until("the first to wait for the lock", DEADLINE, waiting).await;
    let cancel = CancellationToken::new();
    let second = publish("second", Some("u"), Limits::default().cancelled_by(cancel.clone()));
    let third = publish("third", None, Limits::default());
    cancel.cancel();
    let cancelled = second.await.unwrap().unwrap_err();
    assert!(matches!(cancelled.cause(), Cause::Cancelled), "{cancelled}");
    wait_until("the first to wait again", DEADLINE, waiting).await;
    assert!(!locked.is_finished());
    blocker.batch_execute("ROLLBACK").await.unwrap();
    assert!(locked.await.unwrap().unwrap().1.is_some());
    assert!(third.await.unwrap().unwrap().1.is_some());
    let names: Vec<_> = pair.test.rows("SELECT pubname FROM pg_publication ORDER BY 1").await;
    assert_eq!(names, ["locked", "third"]);
    assert_eq!(sessions(&pair).await, 1);
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
            "reading the server's version in database \"{}\" on 127.0.0.1:1: cannot connect: Connection refused (os error 111)",
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
