// SPDX-License-Identifier: MPL-2.0

//! Every diff applies on every major version, the result equals the desired value, and the next diff is empty.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use neonrepl::postgres::catalog;
use neonrepl::postgres::publication::{
    self, GeneratedColumns, Operation, Problem, Publication, RowFilter, TableSpec, Target,
};
use neonrepl::postgres::subscription::{self, How, Options, Origin, SlotName, Streaming, Subscription, SyncState};
use neonrepl::postgres::{
    Conninfo, Database, Ident, Limits, QualifiedName, Secret, ServerConfig, SqlState, SslMode, slot,
};
use neonrepl::replication::subscribing::{self, Creation, Made, NotMade};
use neonrepl::replication::{self, Listener, tables};

use crate::common::postgres::{self as servers, Major, Role};
use crate::common::wait::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);

/// A database, through the tests' own connection and through the provider's.
pub(crate) struct Pair {
    pub(crate) test: servers::Database,
    pub(crate) db: Database,
}

/// Creates a subscription like an apply.
async fn subscribe(publisher: &Pair, subscriber: &Pair, desired: &Subscription) -> Result<Made, NotMade> {
    let operation = replication::Operation::new("creating", limits(), &Quiet);
    let how = How::default();
    let creation = Creation {
        subscriber: &subscriber.db,
        publisher: Some(&publisher.db),
        desired,
        how: &how,
        operation: &operation,
    };
    subscribing::create(creation).await
}

/// Ignores all messages.
struct Quiet;

impl Listener for Quiet {
    fn warn(&self, warning: replication::Error) {
        panic!("{warning}");
    }
}

/// The error of a failed create, of which nothing may be left.
fn refusal(made: Result<Made, NotMade>) -> replication::Error {
    match made.unwrap_err() {
        NotMade::Failed { error, left: None } => *error,
        other => panic!("{other:?}"),
    }
}

/// The pair of publisher and subscriber.
fn between(publisher: &Pair, subscriber: &Pair) -> replication::Pair {
    replication::Pair { publisher: publisher.db.clone(), subscriber: subscriber.db.clone() }
}

/// The provider's configuration for a database with this role.
pub(crate) fn config(database: &servers::Database, role: &Role) -> ServerConfig {
    let mut config = ServerConfig::new("127.0.0.1", &database.name, &role.name);
    config.port = database.port;
    config.password = Some(Secret::new(&role.password));
    config.sslmode = SslMode::Disable;
    config
}

pub(crate) fn connect(database: &servers::Database, role: &Role) -> Database {
    neonrepl::postgres::Server::new(config(database, role)).database(None)
}

pub(crate) async fn pair(major: Major, name: &str) -> Pair {
    let test = servers::shared(major).database(name).await;
    let db = connect(&test, &Role::superuser());
    Pair { test, db }
}

pub(crate) fn ident(text: &str) -> Ident {
    Ident::new(text).unwrap()
}

fn table(text: &str) -> QualifiedName {
    QualifiedName::parse(text).unwrap()
}

fn limits() -> Limits {
    Limits::within(DEADLINE)
}

/// Adds the server's printed form of every filter, like a resource before it compares.
async fn with_canonical_filters(db: &Database, publication: &Publication) -> Publication {
    let mut publication = publication.clone();
    if let Target::Lists { tables, .. } = &mut publication.target {
        for (name, spec) in tables {
            if let Some(filter) = spec.filter.take() {
                let canonical = publication::canonical_filter(db, name, &filter).await.unwrap();
                spec.filter = Some(filter.with_canonical(canonical));
            }
        }
    }
    publication
}

/// Changes the first publication to the second, and checks the result.
async fn check_publication(db: &Database, from: Option<&Publication>, to: &Publication) {
    let to = &with_canonical_filters(db, to).await;
    let current = match from {
        Some(from) => publication::fetch_now(db, &from.name).await.unwrap(),
        None => None,
    };
    let version = db.version().await.unwrap();
    let statements = publication::diff(current.as_ref(), Some(to), version).unwrap();
    let applied = publication::apply(db, "changing a publication", &statements, &to.name, &limits()).await;
    let (_, found) = applied.unwrap_or_else(|error| panic!("{version} {statements:?}: {error}"));
    let found = found.unwrap_or_else(|| panic!("{version} {statements:?}: not found"));
    assert_eq!(found.target, to.target, "{version} {statements:?}");
    assert_eq!(publication::diff(Some(&found), Some(to), version).unwrap(), [], "{version}");
    assert_eq!(publication::fetch(db, &to.name).await.unwrap().as_ref(), Some(&found));
}

fn lists<const T: usize, const S: usize>(tables: [(&str, TableSpec); T], schemas: [&str; S]) -> Target {
    Target::Lists {
        tables: tables.into_iter().map(|(name, spec)| (table(name), spec)).collect(),
        schemas: schemas.into_iter().map(ident).collect(),
    }
}

fn whole() -> TableSpec {
    TableSpec::default()
}

fn columns<const N: usize>(names: [&str; N]) -> TableSpec {
    TableSpec { columns: Some(names.into_iter().map(ident).collect()), filter: None }
}

fn filter(text: &str) -> TableSpec {
    TableSpec { columns: None, filter: Some(RowFilter::new(text).unwrap()) }
}

/// The targets that every version can publish, and those that only some can.
fn targets(major: Major) -> Vec<Target> {
    let mut targets = vec![
        Target::none(),
        lists([("a", whole()), ("b", whole())], []),
        lists([("b", whole())], []),
        lists([("b", whole()), ("parent", whole()), ("parted", whole()), ("\"s.x\".\"we\"\"ird\"", whole())], []),
        Target::AllTables,
    ];
    if major >= Major::V15 {
        targets.extend([
            lists([("a", columns(["id", "x"])), ("b", filter("id>1 and note in ('x', 'y') -- )"))], []),
            lists([("a", columns(["id"])), ("b", filter("id > 2"))], []),
            lists([("b", filter("id > 2"))], ["s"]),
            lists([("a", whole()), ("parent", filter("id <> 0"))], ["s"]),
            lists([], ["s", "s.x"]),
            lists([], ["s.x"]),
            lists([("b", whole())], []),
        ]);
    }
    targets
}

const TABLES: &str = r#"
    CREATE TABLE a (id int PRIMARY KEY, x text, y text);
    CREATE TABLE b (id int PRIMARY KEY, note text);
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child () INHERITS (parent);
    CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE part PARTITION OF parted DEFAULT;
    CREATE SCHEMA s;
    CREATE TABLE s.t (id int PRIMARY KEY);
    CREATE SCHEMA "s.x";
    CREATE TABLE "s.x"."we""ird" (id int PRIMARY KEY);
"#;

#[tokio::test]
async fn every_publication_becomes_every_other() {
    for major in Major::ALL {
        let Pair { test, db } = pair(major, "pub lications").await;
        test.sql(TABLES).await;
        let publications: Vec<_> =
            targets(major).into_iter().map(|target| Publication::new(ident("p"), target)).collect();
        for from in &publications {
            for to in &publications {
                check_publication(&db, None, from).await;
                check_publication(&db, Some(from), to).await;
                db.run("dropping a publication", &[publication::drop_publication(&ident("p"))]).await.unwrap();
            }
        }
        assert_eq!(publication::fetch(&db, &ident("p")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn options_name_and_owner_change_in_place() {
    for major in Major::ALL {
        let Pair { test, db } = pair(major, "publication").await;
        test.sql(TABLES).await;
        let role = servers::shared(major).role("own\"er", "").await;
        let hostile = "x\"; DROP TABLE a; --\\\n é.'";
        let first = Publication::new(ident("p"), Target::tables([table("a")]));
        let mut second = Publication {
            name: ident(hostile),
            owner: Some(ident(&role.name)),
            publish: BTreeSet::from([Operation::Insert]),
            via_partition_root: true,
            ..first.clone()
        };
        if major >= Major::V18 {
            second.generated_columns = GeneratedColumns::Stored;
        }
        if major >= Major::V15 {
            second.target = lists([("parted", filter("id > 1"))], []);
        }
        let nothing = Publication { publish: BTreeSet::new(), ..second.clone() };
        test.sql(&format!("GRANT CREATE ON DATABASE {} TO {}", servers::quote(&test.name), servers::quote(&role.name)))
            .await;
        check_publication(&db, None, &first).await;
        check_publication(&db, Some(&first), &second).await;
        check_publication(&db, Some(&second), &nothing).await;
        check_publication(&db, Some(&nothing), &Publication { owner: Some(ident("postgres")), ..first.clone() }).await;
        assert_eq!(test.value::<i64>("SELECT count(*) FROM pg_publication").await, 1);
    }
}

#[tokio::test]
async fn a_filter_is_printed_by_the_server_and_leaves_nothing() {
    for major in [Major::V14, Major::V15, Major::V18] {
        let Pair { test, db } = pair(major, "filters").await;
        test.sql("CREATE TABLE t (id int PRIMARY KEY, note text, at timestamptz)").await;
        let canonical =
            async |text: &str| publication::canonical_filter(&db, &table("t"), &RowFilter::new(text).unwrap()).await;
        assert_eq!(canonical("id>1").await.unwrap(), "(id > 1)");
        assert_eq!(canonical("id>1 -- one").await.unwrap(), "(id > 1)");
        assert_eq!(
            canonical("at > '2024-01-01'").await.unwrap(),
            "(at > '2024-01-01 00:00:00+00'::timestamp with time zone)"
        );
        let error = canonical("nope > 1").await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::UNDEFINED_COLUMN));
        assert_eq!(test.value::<i64>("SELECT count(*) FROM pg_class WHERE relname LIKE 'neonrepl%'").await, 0);
    }
}

#[tokio::test]
async fn a_role_that_may_only_read_can_compare_filters() {
    let Pair { test, .. } = pair(Major::V18, "filters").await;
    let role = servers::shared(Major::V18).role("reader", "").await;
    test.sql(&format!("CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO {}", servers::quote(&role.name)))
        .await;
    let db = connect(&test, &role);
    let canonical = publication::canonical_filter(&db, &table("t"), &RowFilter::new("id>1").unwrap()).await;
    assert_eq!(canonical.unwrap(), "(id > 1)");
}

#[tokio::test]
async fn a_refusal_says_what_where_and_why() {
    let Pair { test, .. } = pair(Major::V16, "refusals").await;
    let role = servers::shared(Major::V16).role("pub", "").await;
    let db = connect(&test, &role);
    let desired = Publication::new(ident("p"), Target::none());
    let statements = publication::diff(None, Some(&desired), db.version().await.unwrap()).unwrap();
    let error = db.run("creating publication \"p\"", &statements).await.unwrap_err();
    let (name, port) = (&test.name, test.port);
    assert_eq!(
        error.to_string(),
        format!(
            "creating publication \"p\" in database \"{name}\" on 127.0.0.1:{port}: permission denied for database {name} (42501)"
        )
    );
    assert_eq!(
        error.hint().unwrap(),
        format!(
            "On 127.0.0.1:{port}, as the owner of the database or a superuser: GRANT CREATE ON DATABASE \"{name}\" TO \"{}\";",
            role.name
        )
    );
}

/// A publisher with one published table, and a subscriber on another server with the same table.
async fn replicated(publisher: Major, subscriber: Major) -> (Pair, Pair) {
    let (source, target) = (pair(publisher, "source").await, pair(subscriber, "target").await);
    for side in [&source, &target] {
        side.test.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)").await;
    }
    source
        .test
        .sql("INSERT INTO t VALUES (1), (2); CREATE PUBLICATION p FOR TABLE t; CREATE PUBLICATION q FOR TABLE u")
        .await;
    (source, target)
}

fn conninfo(source: &Pair) -> Conninfo {
    let mut conninfo = Conninfo::parse(&source.test.url()).unwrap();
    conninfo.set("application_name", "it's \\ here");
    conninfo
}

/// A unique name for a slot, because all databases of a server share slot names.
fn unique(prefix: &str, source: &Pair) -> Ident {
    ident(&format!("{prefix}_{}_{}", source.test.port, source.test.name))
}

async fn apply(db: &Database, current: Option<&Subscription>, desired: &Subscription, how: &How) -> Subscription {
    let version = db.version().await.unwrap();
    let statements = subscription::diff(current, Some(desired), how, version).unwrap();
    let applied = subscription::apply(db, "changing a subscription", &statements, &desired.name, &limits()).await;
    let (_, found) = applied.unwrap_or_else(|error| panic!("{version} {statements:?}: {error} {:?}", error.hint()));
    let found = found.expect("the subscription");
    let again = How { refresh: false, resend_connection: false, ..how.clone() };
    assert_eq!(subscription::diff(Some(&found), Some(desired), &again, version).unwrap(), [], "{version}");
    assert_eq!(subscription::fetch(db, &desired.name).await.unwrap().as_ref(), Some(&found));
    found
}

async fn until_ready(target: &Pair, name: &Ident, tables: usize) {
    wait_until("every table to be ready", DEADLINE, async || {
        let found = subscription::tables(&target.db, name).await.unwrap();
        found.len() == tables && found.iter().all(|(_, state)| *state == SyncState::Ready)
    })
    .await;
}

async fn drop_subscription(target: &Pair, subscription: &Subscription) {
    let statement = subscription::drop_with_slot(subscription);
    target.db.run("dropping a subscription", &[statement]).await.unwrap();
}

/// Each version reads from the next one, the newest from the oldest.
fn pairs() -> impl Iterator<Item = (Major, Major)> {
    Major::ALL.into_iter().zip(Major::ALL.into_iter().cycle().skip(1))
}

/// Every option that the version has, with a value unlike the default.
fn unusual(major: Major) -> Options {
    let since = |since: Major| (major >= since).then_some(());
    Options {
        binary: Some(true),
        streaming: Some(Streaming::On),
        synchronous_commit: Some("local".to_owned()),
        two_phase: None,
        disable_on_error: since(Major::V15).map(|()| true),
        password_required: since(Major::V16).map(|()| false),
        run_as_owner: since(Major::V16).map(|()| true),
        origin: since(Major::V16).map(|()| Origin::None),
        failover: None,
    }
}

#[tokio::test]
async fn rows_flow_and_everything_changes_in_place() {
    for (subscriber, publisher) in pairs() {
        let (source, target) = replicated(publisher, subscriber).await;
        let first = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
        let found = apply(&target.db, None, &first, &How::default()).await;
        until_ready(&target, &first.name, 1).await;
        assert_eq!(target.test.value::<i64>("SELECT count(*) FROM t").await, 2);

        let both = Subscription { publications: [ident("p"), ident("q")].into(), ..first.clone() };
        let found = apply(&target.db, Some(&found), &both, &How::default()).await;
        until_ready(&target, &first.name, 2).await;

        let other = Subscription {
            name: unique("re \"named\"", &source),
            options: unusual(subscriber),
            publications: [ident("q")].into(),
            ..both.clone()
        };
        let resend = How { resend_connection: true, ..How::default() };
        let found = apply(&target.db, Some(&found), &other, &resend).await;
        assert_eq!(found.slot, Some(SlotName::Named(first.name.clone())));
        let stopped = Subscription { enabled: false, ..other.clone() };
        let found = apply(&target.db, Some(&found), &stopped, &How::default()).await;
        let found = apply(&target.db, Some(&found), &other, &How { refresh: true, ..How::default() }).await;
        drop_subscription(&target, &found).await;
        assert_eq!(slot::fetch_now(&source.db, &first.name).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_option_for_disabled_subscriptions_is_changed_while_enabled() {
    let (source, target) = replicated(Major::V18, Major::V18).await;
    let first = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
    let create = How { create_slot: false, ..How::default() };
    let make = slot::create(&slot::Slot::new(first.name.clone()), source.db.version().await.unwrap()).unwrap();
    source.db.run("making a slot", &[make]).await.unwrap();
    let found = apply(&target.db, None, &first, &create).await;
    until_ready(&target, &first.name, 1).await;
    let mut other = first.clone();
    (other.options.failover, other.options.two_phase) = (Some(true), Some(true));
    let found = apply(&target.db, Some(&found), &other, &How::default()).await;
    assert!(found.enabled);
    let flags = wait_for("the slot to be changed", DEADLINE, async || {
        let slot = slot::fetch_now(&source.db, &first.name).await.unwrap()?;
        (slot.failover && slot.two_phase).then_some(())
    });
    flags.await;
    drop_subscription(&target, &found).await;
}

#[tokio::test]
async fn one_cluster_subscribes_to_itself_over_a_slot_made_before() {
    for major in Major::ALL {
        let (source, target) = replicated(major, major).await;
        assert!(between(&source, &target).is_one_cluster().await.unwrap());
        let desired = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
        let (_, found) = subscribe(&source, &target, &desired).await.unwrap();
        until_ready(&target, &desired.name, 1).await;
        drop_subscription(&target, &found).await;
        assert_eq!(slot::fetch_now(&source.db, &desired.name).await.unwrap(), None);
    }
    let (source, target) = replicated(Major::V16, Major::V16).await;
    target.test.sql("DROP TABLE t").await;
    let desired = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
    let error = refusal(subscribe(&source, &target, &desired).await);
    assert!(error.is(&SqlState::UNDEFINED_TABLE), "{error}");
    assert_eq!(slot::fetch_now(&source.db, &desired.name).await.unwrap(), None);
    let one = pair(Major::V14, "one").await;
    let other = pair(Major::V15, "other").await;
    assert!(!between(&one, &other).is_one_cluster().await.unwrap());
}

#[tokio::test]
async fn the_slot_of_another_subscription_is_not_adopted_even_while_nobody_reads_it() {
    for major in [Major::V14, Major::V18] {
        let (source, target) = replicated(major, major).await;
        let mut first = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
        first.enabled = false;
        let (_, found) = subscribe(&source, &target, &first).await.unwrap();

        let mut second = first.clone();
        second.name = unique("other", &source);
        second.slot = Some(SlotName::Named(first.name.clone()));
        let error = refusal(subscribe(&source, &target, &second).await);
        let whose = format!("subscription {} of database", first.name);
        assert!(error.to_string().contains("already exists") && error.to_string().contains(&whose), "{error}");
        assert_eq!(subscription::fetch_now(&target.db, &second.name).await.unwrap(), None);
        assert!(slot::fetch_now(&source.db, &first.name).await.unwrap().is_some());
        drop_subscription(&target, &found).await;
    }
}

#[tokio::test]
async fn a_subscription_to_its_own_cluster_is_cancelled_at_the_deadline_and_leaves_nothing() {
    let (source, target) = replicated(Major::V17, Major::V17).await;
    let desired = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
    let version = target.db.version().await.unwrap();
    let statements = subscription::diff(None, Some(&desired), &How::default(), version).unwrap();
    let soon = Limits::within(Duration::from_millis(500));
    let error = target.db.run_within("creating subscription \"s\"", &statements, &soon).await.unwrap_err();
    assert!(error.to_string().contains(": not finished within 0.5 s"), "{error}");
    assert_eq!(subscription::fetch(&target.db, &desired.name).await.unwrap(), None);
    wait_until("the slot to be gone", DEADLINE, async || {
        slot::fetch_now(&source.db, &desired.name).await.unwrap().is_none()
    })
    .await;
}

#[tokio::test]
async fn the_publisher_gone_leaves_a_slot_and_the_subscription_goes_detached() {
    let (source, target) = replicated(Major::V15, Major::V16).await;
    let mut desired = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
    let found = apply(&target.db, None, &desired, &How::default()).await;
    if let Some(connection) = &mut desired.connection {
        connection.set("port", "1");
    }
    let found = apply(&target.db, Some(&found), &desired, &How::default()).await;
    let error =
        target.db.run("dropping subscription \"s\"", &[subscription::drop_with_slot(&found)]).await.unwrap_err();
    assert!(error.is(&SqlState::CONNECTION_FAILURE), "{error}");
    target.db.run("dropping subscription \"s\"", &subscription::drop_detached(&found.name)).await.unwrap();
    assert_eq!(subscription::fetch(&target.db, &found.name).await.unwrap(), None);
    wait_until("the orphan to be inactive", DEADLINE, async || {
        slot::fetch_now(&source.db, &desired.name).await.unwrap().is_some_and(|slot| !slot.active)
    })
    .await;
    source.db.run("dropping a slot", &[slot::drop_slot(&desired.name)]).await.unwrap();
}

#[tokio::test]
async fn the_same_name_in_two_databases_is_two_subscriptions() {
    let (source, target) = replicated(Major::V14, Major::V18).await;
    let other = pair(Major::V18, "other").await;
    let desired = Subscription {
        slot: Some(SlotName::None),
        enabled: false,
        ..Subscription::new(ident("twin"), conninfo(&source), [ident("p")])
    };
    apply(&target.db, None, &desired, &How { connect: false, ..How::default() }).await;
    assert_eq!(subscription::fetch(&other.db, &desired.name).await.unwrap(), None);
    assert_eq!(subscription::tables(&other.db, &desired.name).await.unwrap(), []);
    drop_subscription(&target, &subscription::fetch_now(&target.db, &desired.name).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn a_role_that_may_not_read_the_connection_reads_the_rest() {
    let (source, target) = replicated(Major::V16, Major::V17).await;
    let role = servers::shared(Major::V17).role("neon_user", "").await;
    let desired = Subscription {
        slot: Some(SlotName::None),
        enabled: false,
        ..Subscription::new(unique("s", &source), conninfo(&source), [ident("p")])
    };
    let seen = apply(&target.db, None, &desired, &How { connect: false, ..How::default() }).await;
    assert_eq!(seen.connection, desired.connection);
    let found = subscription::fetch(&connect(&target.test, &role), &desired.name).await.unwrap();
    assert_eq!(found, Some(Subscription { connection: None, ..seen.clone() }));
    drop_subscription(&target, &seen).await;
}

#[tokio::test]
async fn a_missing_publication_is_a_warning() {
    let (source, target) = replicated(Major::V18, Major::V16).await;
    let desired = Subscription::new(unique("s", &source), conninfo(&source), [ident("nope")]);
    let statements =
        subscription::diff(None, Some(&desired), &How::default(), target.db.version().await.unwrap()).unwrap();
    let (notices, found) =
        subscription::apply(&target.db, "creating a subscription", &statements, &desired.name, &limits())
            .await
            .unwrap();
    let warnings: Vec<_> =
        notices.iter().filter(|notice| notice.is_warning()).map(|notice| notice.code.as_str()).collect();
    assert_eq!(warnings, ["42704"]);
    drop_subscription(&target, &found.unwrap()).await;
}

#[tokio::test]
async fn tables_published_since_are_unsubscribed() {
    let (source, target) = replicated(Major::V15, Major::V14).await;
    let desired = Subscription::new(unique("s", &source), conninfo(&source), [ident("p")]);
    let found = apply(&target.db, None, &desired, &How::default()).await;
    let unsubscribed = async || tables::unsubscribed(&between(&source, &target), &desired).await.unwrap();
    assert_eq!(unsubscribed().await, BTreeSet::new());
    source.test.sql("ALTER PUBLICATION p ADD TABLE u").await;
    assert_eq!(unsubscribed().await, BTreeSet::from([table("u")]));
    apply(&target.db, Some(&found), &desired, &How { refresh: true, ..How::default() }).await;
    assert_eq!(unsubscribed().await, BTreeSet::new());
    drop_subscription(&target, &found).await;
}

#[tokio::test]
async fn tables_without_a_replica_identity_are_found() {
    for major in Major::ALL {
        let Pair { test, db } = pair(major, "identities").await;
        test.sql("CREATE TABLE fine (id int PRIMARY KEY); CREATE TABLE bare (id int); CREATE TABLE full_row (id int); ALTER TABLE full_row REPLICA IDENTITY FULL; \
            CREATE PUBLICATION p FOR TABLE fine, bare, full_row; CREATE PUBLICATION i FOR TABLE bare WITH (publish = 'insert')").await;
        let outline = catalog::outline(&db).await.unwrap();
        let without = async |name: &str| -> BTreeSet<QualifiedName> {
            let publication = publication::fetch(&db, &ident(name)).await.unwrap().unwrap();
            let found = publication::flaws(&publication, &outline, &BTreeMap::new(), db.version().await.unwrap());
            let missing = found.into_iter().filter(|finding| finding.problem == Problem::NoIdentity);
            missing.flat_map(|finding| finding.tables.into_keys()).collect()
        };
        assert_eq!(without("p").await, BTreeSet::from([table("bare")]));
        assert_eq!(without("i").await, BTreeSet::new());
        let asked = BTreeSet::from([table("fine"), table("missing")]);
        let found = catalog::tables(&db, &asked, None).await.unwrap();
        assert_eq!(found.into_keys().collect::<BTreeSet<_>>(), BTreeSet::from([table("fine")]));
    }
}

/// Names are printed qualified, whatever the search path of the role or of the database.
#[tokio::test]
async fn columns_are_read_alike_on_every_version() {
    for major in Major::ALL {
        let Pair { test, db } = pair(major, "columns").await;
        let reader = servers::shared(major).role("reader", "").await;
        test.sql(&format!(
            "CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('sad'); \
             CREATE TABLE app.t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, gone int, mood app.mood[] NOT NULL, \
               price numeric(9, 2) DEFAULT 0, twice numeric GENERATED ALWAYS AS (price * 2) STORED, note varchar(5)); \
             ALTER TABLE app.t DROP COLUMN gone; GRANT USAGE ON SCHEMA app TO {0}; GRANT SELECT (id, note) ON app.t TO {0}; \
             CREATE VIEW app.v AS SELECT id FROM app.t; ALTER DATABASE {1} SET search_path = app",
            servers::quote(&reader.name),
            servers::quote(&test.name)
        ))
        .await;
        let names = BTreeSet::from([table("app.t"), table("app.v")]);
        let found = catalog::tables(&db, &names, Some(&ident(&reader.name))).await.unwrap();
        let (t, v) = (&found[&table("app.t")], &found[&table("app.v")]);
        assert_eq!((t.takes_rows, v.takes_rows), (true, false));
        let shown: Vec<_> = t
            .columns
            .iter()
            .map(|column| {
                let flags = [
                    (column.is_not_null, "!"),
                    (column.has_default, "="),
                    (column.is_generated, "#"),
                    (column.is_stored, "s"),
                ];
                let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, flag)| *flag).collect();
                format!("{} {}{flags}", column.name.as_str(), column.ty)
            })
            .collect();
        let expected =
            ["id bigint!=", "mood app.mood[]!", "price numeric(9,2)=", "twice numeric#s", "note character varying(5)"];
        assert_eq!(shown, expected, "{}", major.number());
        assert_eq!(t.rights.reads, BTreeSet::from([ident("id"), ident("note")]));
        assert!(!t.rights.becomes_owner && t.owner == ident("postgres"));
        let own = catalog::tables(&db, &names, None).await.unwrap();
        assert_eq!((own[&table("app.t")].rights.reads.len(), own[&table("app.t")].rights.becomes_owner), (5, true));
        let unknown = catalog::tables(&db, &names, Some(&ident("nobody knows"))).await.unwrap();
        assert_eq!(unknown[&table("app.t")].rights.reads.len(), 5);
    }
}

const TREES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, x text, sum int GENERATED ALWAYS AS (1) STORED);
    CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10);
    CREATE SCHEMA s;
    CREATE TABLE s.mid PARTITION OF root FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
    CREATE TABLE deep PARTITION OF s.mid DEFAULT;
    CREATE TABLE hollow (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE UNLOGGED TABLE quick (id int PRIMARY KEY);
    CREATE PUBLICATION a FOR TABLE plain, root;
    CREATE PUBLICATION b FOR TABLE root, leaf, hollow WITH (publish_via_partition_root = true);
    CREATE PUBLICATION c FOR TABLE s.mid WITH (publish_via_partition_root = true);
    CREATE PUBLICATION d FOR ALL TABLES;
    CREATE PUBLICATION e FOR ALL TABLES WITH (publish_via_partition_root = true);
    CREATE PUBLICATION f FOR TABLE hollow, deep;";

/// The computed result for publications, which may not exist yet, equals the server's for existing ones.
#[tokio::test]
async fn what_subscriptions_are_sent_is_as_the_server_says() {
    for major in Major::ALL {
        let Pair { test, db } = pair(major, "sent").await;
        test.sql(TREES).await;
        if major >= Major::V15 {
            test.sql(
                "CREATE PUBLICATION g FOR TABLES IN SCHEMA s; CREATE PUBLICATION h FOR TABLE plain (id); \
                 CREATE PUBLICATION i FOR TABLES IN SCHEMA s, TABLE leaf WITH (publish_via_partition_root = true)",
            )
            .await;
        }
        let all = publication::fetch_all(&db).await.unwrap();
        let (outline, version) = (catalog::outline(&db).await.unwrap(), db.version().await.unwrap());
        let names: Vec<_> = all.keys().collect();
        let sets = names.iter().flat_map(|one| names.iter().map(move |other| BTreeSet::from([*one, *other])));
        for set in sets.collect::<BTreeSet<_>>() {
            let sent = publication::sent(set.iter().filter_map(|name| all.get(*name)), &outline, version);
            let quoted: Vec<_> = set.iter().map(|name| format!("'{}'", name.as_str())).collect();
            let from = if major >= Major::V16 {
                format!(
                    "pg_get_publication_tables(VARIADIC ARRAY[{}]) g JOIN pg_class c ON c.oid = g.relid JOIN pg_namespace n ON n.oid = c.relnamespace",
                    quoted.join(", ")
                )
            } else {
                format!(
                    "(SELECT schemaname AS nspname, tablename AS relname FROM pg_publication_tables WHERE pubname IN ({})) n",
                    quoted.join(", ")
                )
            };
            let said = test.rows(&format!("SELECT DISTINCT nspname || '.' || relname FROM {from} ORDER BY 1")).await;
            let found: Vec<_> = sent.tables.keys().map(QualifiedName::to_text).collect();
            assert_eq!(found, said, "{set:?} on {}", major.number());
        }
        if major >= Major::V15 {
            let plain = &catalog::tables(&db, &BTreeSet::from([table("plain")]), None).await.unwrap()[&table("plain")];
            let of = |names: [&str; 2]| {
                publication::sent(names.iter().filter_map(|name| all.get(&ident(name))), &outline, version)
            };
            assert_eq!(
                of(["a", "d"]).tables[&table("plain")].columns(plain),
                BTreeSet::from([ident("id"), ident("x")])
            );
            assert_eq!(of(["a", "d"]).tables[&table("plain")].clash(plain), []);
            assert_eq!(of(["a", "h"]).tables[&table("plain")].clash(plain), [ident("a"), ident("h")]);
        }
    }
}
