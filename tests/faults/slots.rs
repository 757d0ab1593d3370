// SPDX-License-Identifier: MPL-2.0

//! A slot that exists, is gone, or is lost.

use crate::common::fault_point::Moment;
use crate::common::postgres::{Major, settings};
use crate::common::wait::wait_until;
use crate::lane::{DEADLINE, Lane};
use crate::matrix::{SLOT, SUBSCRIPTION};
use crate::{Case, case};

pub(crate) fn cases() -> Vec<Case> {
    let kind = "subscription";
    vec![
        case!(kind, "create", "before", "its slot exists", exists),
        case!(kind, "create with create_slot = false", "before", "its slot exists", adopted),
        case!(kind, "plan and update", "afterwards", "its slot is gone", gone),
        case!(kind, "add a publication", "afterwards", "its slot is gone", gone_and_joined),
        case!(kind, "refresh", "afterwards", "its slot is gone", gone_and_refreshed),
        case!(kind, "destroy", "afterwards", "its slot is gone", gone_and_destroyed),
        case!(kind, "plan", "afterwards", "its slot is lost", lost),
        case!(kind, "add a publication", "afterwards", "its slot is lost", lost_and_joined),
        case!(kind, "make it again", "afterwards", "its slot is lost", lost_and_replaced),
        case!("replication slot", "plan", "afterwards", "it is lost", lost_slot),
        case!("replication slot", "create", "before", "it is in the making", in_the_making),
        case!("replication slot", "make a new one", "before", "a subscription reads from it", replaced_under_a_reader),
        case!(
            "replication slot",
            "make a new one",
            "before",
            "it was invalidated, and a subscription names it",
            replaced_lost
        ),
        case!("replication slot", "destroy", "before", "a subscription names it", destroyed_under_a_reader),
        case!("replication slot", "destroy", "before", "nobody knows who names it", destroyed_unasked),
        with_failover("connection cut", set_failover_cut),
        with_failover("core killed", set_failover_killed),
    ]
}

fn with_failover(fault: &str, run: fn(&mut Lane) -> futures_util::future::LocalBoxFuture<'_, String>) -> Case {
    let columns = ["replication slot", "set failover under its subscription: ALTER SUBSCRIPTION", "before", fault];
    Case::new(columns, Box::new(run)).on(|publisher, subscriber| publisher >= Major::V17 && subscriber >= Major::V17)
}

const SUBSCRIBED: [&str; 2] = ["slot shop", "subscription shop given of postgres"];
const JOINED: &str = "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\", \"given_too\"]\n}\n";

async fn make_slot(lane: &Lane) {
    let make = "SELECT slot_name::text FROM pg_create_logical_replication_slot('shop', 'pgoutput')";
    lane.publisher.database.value::<String>(make).await;
}

async fn exists(lane: &mut Lane) -> String {
    make_slot(lane).await;
    lane.refuse(SUBSCRIPTION, &["replication slot \"shop\" already exists", "create_slot = false"]).await;
    assert_eq!(lane.objects().await, ["slot shop"], "it was there before");
    lane.publisher.database.value::<String>("SELECT pg_drop_replication_slot('shop')::text").await;
    lane.apply(SUBSCRIPTION).await;
    lane.clean().await;
    "refused with what to decide; it stays".to_owned()
}

async fn adopted(lane: &mut Lane) -> String {
    make_slot(lane).await;
    lane.apply(&SUBSCRIPTION.replace('}', "  create_slot = false\n}")).await;
    assert_eq!(lane.objects().await, SUBSCRIBED);
    lane.clean().await;
    "the subscription reads from it".to_owned()
}

/// Drops the slot of the subscription behind its back.
async fn drop_behind(lane: &Lane) {
    lane.subscriber.database.sql("ALTER SUBSCRIPTION shop DISABLE").await;
    wait_until("the slot to be dropped", DEADLINE, async || {
        lane.publisher.database.try_sql("SELECT pg_drop_replication_slot('shop')").await.is_ok()
    })
    .await;
    lane.subscriber.database.sql("ALTER SUBSCRIPTION shop ENABLE").await;
}

const GONE: &[&str] = &["subscription \"shop\" replicates nothing", "is no longer in database", "-replace"];
const LOST: &[&str] = &["subscription \"shop\" replicates nothing", "has lost WAL", "-replace"];

async fn gone(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    drop_behind(lane).await;
    lane.plan_says(GONE).await;
    let changed = SUBSCRIPTION.replace('}', "  binary = true\n}");
    crate::common::cli::says(&lane.apply(&changed).await, GONE);
    assert_eq!(lane.objects().await, ["subscription shop given binary of postgres"]);
    lane.workspace.expect(&["apply", "-auto-approve", "-no-color", "-replace=neonrepl_subscription.shop"], 0).await;
    assert_eq!(lane.objects().await, ["slot shop", "subscription shop given binary of postgres"]);
    lane.clean().await;
    "plan and apply say so; -replace makes it again".to_owned()
}

async fn gone_and_joined(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    drop_behind(lane).await;
    nothing_joins(lane, GONE).await
}

/// A publication cannot join a subscription without a slot that brings its rows.
async fn nothing_joins(lane: &mut Lane, said: &[&str]) -> String {
    lane.refuse(JOINED, said).await;
    assert_eq!(lane.state(), ["subscription shop given of postgres"]);
    lane.clean().await;
    "refused with what to decide".to_owned()
}

async fn gone_and_refreshed(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    drop_behind(lane).await;
    let run = lane.apply(&SUBSCRIPTION.replace('}', "  refresh_triggers = { a = \"b\" }\n}")).await;
    crate::common::cli::says(&run, GONE);
    lane.clean().await;
    "done, with a warning of what to decide".to_owned()
}

async fn gone_and_destroyed(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    drop_behind(lane).await;
    lane.clean().await;
    "dropped without it".to_owned()
}

/// Makes the publisher remove the WAL that its slots need.
async fn lose(lane: &mut Lane) {
    lane.publisher.server.reload(settings([("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "2MB")]));
    let status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'shop'";
    wait_until("the slot to be lost", DEADLINE, async || {
        let fill = "CREATE TABLE filler AS SELECT repeat('x', 2000) FROM generate_series(1, 1000); DROP TABLE filler";
        lane.publisher.database.sql(fill).await;
        lane.publisher.database.sql("SELECT pg_switch_wal()").await;
        lane.publisher.database.sql("CHECKPOINT").await;
        lane.publisher.database.value::<String>(status).await == "lost"
    })
    .await;
    lane.publisher.server.reload(settings([("max_slot_wal_keep_size", "-1"), ("max_wal_size", "1GB")]));
}

/// Creates the subscription, and lets its slot be lost while it does not read.
async fn lose_subscribed(lane: &mut Lane) {
    lane.apply(SUBSCRIPTION).await;
    lane.subscriber.database.sql("ALTER SUBSCRIPTION shop DISABLE").await;
    let idle = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'shop'";
    wait_until("the slot to be idle", DEADLINE, async || lane.publisher.database.value::<bool>(idle).await).await;
    lose(lane).await;
    lane.subscriber.database.sql("ALTER SUBSCRIPTION shop ENABLE").await;
}

async fn lost(lane: &mut Lane) -> String {
    lose_subscribed(lane).await;
    lane.plan_says(LOST).await;
    lane.clean().await;
    "the plan says so; destroy drops it with its slot".to_owned()
}

async fn lost_and_joined(lane: &mut Lane) -> String {
    lose_subscribed(lane).await;
    nothing_joins(lane, LOST).await
}

async fn lost_and_replaced(lane: &mut Lane) -> String {
    lose_subscribed(lane).await;
    lane.workspace.expect(&["apply", "-auto-approve", "-no-color", "-replace=neonrepl_subscription.shop"], 0).await;
    assert_eq!(lane.objects().await, SUBSCRIBED);
    let plan = lane.workspace.plan().await;
    assert!(plan.code == Some(0) && !plan.flat().contains("replicates nothing"), "{}", plan.text());
    lane.clean().await;
    "made again, with another slot".to_owned()
}

async fn lost_slot(lane: &mut Lane) -> String {
    lane.apply(SLOT).await;
    lose(lane).await;
    lane.plan_says(&["replication slot \"shop\" has lost WAL", "-replace"]).await;
    lane.workspace.expect(&["apply", "-auto-approve", "-no-color", "-replace=neonrepl_replication_slot.shop"], 0).await;
    assert_eq!(lane.objects().await, ["slot shop"]);
    lane.clean().await;
    "the plan says so; -replace makes it again".to_owned()
}

/// The slot disappears with the session that creates it: it must not be imported.
async fn in_the_making(lane: &mut Lane) -> String {
    let role = crate::common::postgres::Role::superuser();
    let old = lane.publisher.database.connect_as(&role).await.unwrap();
    old.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let maker = lane.publisher.database.connect_as(&role).await.unwrap();
    let making = tokio::spawn(async move {
        maker.batch_execute("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')").await
    });
    lane.publisher.wait_for_blocked("SELECT pg_create_logical_replication_slot").await;
    lane.configure(SLOT);
    let apply = lane.workspace.spawn(&Lane::command(SLOT));
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%confirmed_flush_lsn IS NULL%' \
        AND application_name LIKE 'terraform-provider-neonrepl%'";
    wait_until("the apply to wait", DEADLINE, async || lane.publisher.database.value::<i64>(looks).await > 0).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE query LIKE 'SELECT pg_create_logical_replication_slot%' AND pid <> pg_backend_pid()";
    lane.publisher.database.value::<i64>(end).await;
    assert!(making.await.unwrap().is_err());
    old.batch_execute("COMMIT").await.unwrap();
    let run = apply.wait().await;
    assert_eq!(run.code, Some(0), "{}", run.text());
    assert_eq!(lane.objects().await, ["slot shop"]);
    lane.clean().await;
    "the apply waited for its maker to go, and made it".to_owned()
}

/// A slot of the resource, and a subscription that somebody has made for it.
async fn subscribe(lane: &Lane) {
    lane.apply(SLOT).await;
    let connection = lane.publisher.database.url();
    let options = "create_slot = false, slot_name = 'shop'";
    lane.subscriber
        .database
        .sql(&format!("CREATE SUBSCRIPTION shop CONNECTION '{connection}' PUBLICATION given WITH ({options})"))
        .await;
    let reads = "SELECT active FROM pg_replication_slots WHERE slot_name = 'shop'";
    wait_until("the slot's reader", DEADLINE, async || lane.publisher.database.value::<bool>(reads).await).await;
}

/// Drops the subscription; its slot stays.
async fn unsubscribe(lane: &Lane) {
    let pause =
        "ALTER SUBSCRIPTION shop DISABLE; ALTER SUBSCRIPTION shop SET (slot_name = NONE); DROP SUBSCRIPTION shop";
    lane.subscriber.database.sql(pause).await;
    lane.clean().await;
}

fn named(lane: &Lane) -> String {
    format!("subscription \"shop\" of database \"{}\" on the subscriber uses it", lane.subscriber.database.name)
}

const OTHER_PLUGIN: &str =
    "resource \"neonrepl_replication_slot\" \"shop\" {\n  name = \"shop\"\n  plugin = \"test_decoding\"\n}\n";

async fn replaced_under_a_reader(lane: &mut Lane) -> String {
    subscribe(lane).await;
    lane.refuse(OTHER_PLUGIN, &["loses its position", &named(lane), "force_destroy"]).await;
    let replace = ["apply", "-auto-approve", "-no-color", "-replace=neonrepl_replication_slot.shop"];
    lane.configure(SLOT);
    crate::common::cli::says(&lane.workspace.expect(&replace, 1).await, &["loses its position", &named(lane)]);
    lane.publisher.database.sql("INSERT INTO orders VALUES (1)").await;
    lane.wait_for_rows("SELECT id FROM orders", &["1"]).await;
    unsubscribe(lane).await;
    lane.empty_tables().await;
    "refused in the plan, with whose it is; no row is lost".to_owned()
}

async fn replaced_lost(lane: &mut Lane) -> String {
    subscribe(lane).await;
    lane.subscriber.database.sql("ALTER SUBSCRIPTION shop DISABLE").await;
    let idle = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'shop'";
    wait_until("the slot to be idle", DEADLINE, async || lane.publisher.database.value::<bool>(idle).await).await;
    lose(lane).await;
    lane.refuse(OTHER_PLUGIN, &["has lost WAL", "has already lost its WAL", &named(lane)]).await;
    unsubscribe(lane).await;
    "refused in the plan: its subscription would go on with a gap".to_owned()
}

async fn destroyed_under_a_reader(lane: &mut Lane) -> String {
    subscribe(lane).await;
    lane.refuse("", &["dropping replication slot \"shop\"", &named(lane), "Nothing was changed"]).await;
    unsubscribe(lane).await;
    "refused, with whose it is".to_owned()
}

async fn destroyed_unasked(lane: &mut Lane) -> String {
    lane.apply(SLOT).await;
    lane.subscriber.server.kill();
    lane.refuse("", &["the provider's subscriber could not be asked", "force_destroy"]).await;
    lane.subscriber.server.restart(crate::common::postgres::Settings::new());
    lane.clean().await;
    "refused, with what is not known".to_owned()
}

const WITH_FAILOVER: &str =
    "resource \"neonrepl_replication_slot\" \"shop\" {\n  name = \"shop\"\n  failover = true\n}\n";
const SET_FAILOVER: &str = "ALTER SUBSCRIPTION \"shop\" SET (failover";

fn set_failover_cut(lane: &mut Lane) -> futures_util::future::LocalBoxFuture<'_, String> {
    Box::pin(async {
        subscribe(lane).await;
        lane.configure(WITH_FAILOVER);
        lane.subscriber.point.arm(SET_FAILOVER, Moment::Before);
        let running = lane.workspace.spawn(&Lane::command(WITH_FAILOVER));
        lane.subscriber.point.reached().await;
        lane.subscriber.point.cut();
        assert_eq!(running.wait().await.code, Some(1));
        assert_eq!(lane.objects().await, ["slot shop", "subscription shop given of postgres"], "it runs again");
        finish_failover(lane).await;
        "the subscription runs again; the next apply did it".to_owned()
    })
}

fn set_failover_killed(lane: &mut Lane) -> futures_util::future::LocalBoxFuture<'_, String> {
    Box::pin(async {
        subscribe(lane).await;
        lane.configure(WITH_FAILOVER);
        lane.subscriber.point.arm(SET_FAILOVER, Moment::Before);
        let running = lane.workspace.spawn(&Lane::command(WITH_FAILOVER));
        lane.subscriber.point.reached().await;
        running.kill().await;
        lane.subscriber.point.release();
        drop(running.wait().await);
        lane.workspace.unlock();
        lane.wait_for_quiet().await;
        finish_failover(lane).await;
        "the provider did it to its end; the next apply found it done".to_owned()
    })
}

async fn finish_failover(lane: &Lane) {
    lane.apply(WITH_FAILOVER).await;
    assert_eq!(lane.objects().await, ["slot shop failover", "subscription shop given failover of postgres"]);
    lane.publisher.database.sql("INSERT INTO orders VALUES (1)").await;
    lane.wait_for_rows("SELECT id FROM orders", &["1"]).await;
    unsubscribe(lane).await;
    lane.empty_tables().await;
}
