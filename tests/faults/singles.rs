// SPDX-License-Identifier: MPL-2.0

//! Effects of a person, another person, or a lock on an apply.

use crate::common::cli::{Core, Workspace, says};
use crate::common::fault_point::Moment;
use crate::common::postgres::{Role, SUPERUSER_PASSWORD};
use crate::common::wait::wait_until;
use crate::lane::{DEADLINE, Lane};
use crate::matrix::{BOTH_INDEXED, BOTH_TABLES, DESTINATION, INDEXED, PUBLICATION, SLOT, SUBSCRIPTION};
use crate::{Case, case};

pub(crate) fn cases() -> Vec<Case> {
    let subscription = "subscription";
    let (schema, indexes) = ("destination schema", "destination indexes");
    vec![
        case!(schema, "create", "each kind of statement", "refused by the server", refused_tables),
        case!(indexes, "create", "each kind of statement", "refused by the server", refused_indexes),
        case!(schema, "follow", "new label: before ALTER TYPE", "connection cut", label, "ALTER TYPE", Moment::Before),
        case!(schema, "follow", "new label: before COMMIT", "connection cut", label, "COMMIT", Moment::Before),
        case!(schema, "follow", "new label: after COMMIT", "connection cut", label, "COMMIT", Moment::After),
        case!(indexes, "build again", "DROP INDEX: before it", "connection cut", left_over, Moment::Before),
        case!(indexes, "build again", "DROP INDEX: after it", "connection cut", left_over, Moment::After),
        case!("publication", "create", "waits for a lock on the table", "Ctrl-C", interrupt, PUBLICATION, LOCK),
        case!("replication slot", "create", "waits for a transaction", "Ctrl-C", interrupt, SLOT, OLD),
        case!(subscription, "create", "waits for a transaction", "Ctrl-C", interrupt, SUBSCRIPTION, OLD),
        case!(subscription, "create", "waits for the initial copy", "Ctrl-C", interrupt_copy),
        case!("replication slot", "create", "waits for a transaction", "time is over", time_is_over, SLOT, OLD),
        case!(subscription, "create", "waits for a transaction", "time is over", time_is_over, SUBSCRIPTION, OLD),
        case!(subscription, "update", "waits for a lock", "time is over", update_time_is_over),
        case!(subscription, "destroy", "waits for a lock", "time is over", destroy_time_is_over),
        case!("publication", "create", "table locked for a while", "role's statement_timeout", role_timeouts),
        case!("publication", "two creates", "between them", "sessions terminated", terminated),
        case!("publication", "create", "at once", "two applies", two_at_once, PUBLICATION, "CREATE PUBLICATION"),
        case!("replication slot", "create", "at once", "two applies", two_at_once, SLOT, "SELECT pg_create_logical"),
        case!(subscription, "create", "at once", "two applies", two_at_once, SUBSCRIPTION, "CREATE SUBSCRIPTION"),
        case!(subscription, "create", "its slot in the making", "two applies", two_slots_at_once),
        case!("publication", "update", "at once", "two applies", two_updates_at_once),
        case!(
            "publication",
            "destroy",
            "at once",
            "two applies",
            two_destroys_at_once,
            PUBLICATION,
            "DROP PUBLICATION"
        ),
        case!(
            subscription,
            "destroy",
            "at once",
            "two applies",
            two_destroys_at_once,
            SUBSCRIPTION,
            "DROP SUBSCRIPTION"
        ),
    ]
}

/// The lock that makes a create wait on the publisher.
const LOCK: &str = "LOCK TABLE orders IN ACCESS EXCLUSIVE MODE";
const OLD: &str = "SELECT pg_current_xact_id()";

/// The objects of an applied configuration.
fn made(config: &str) -> &'static [&'static str] {
    match config {
        PUBLICATION => &["publication shop orders of postgres"],
        SLOT => &["slot shop"],
        _ => &["slot shop", "subscription shop given of postgres"],
    }
}

async fn blocked(lane: &Lane, blocker: &str) -> tokio_postgres::Client {
    let client = lane.publisher.database.connect_as(&Role::superuser()).await.unwrap();
    client.batch_execute(&format!("BEGIN; {blocker}")).await.unwrap();
    client
}

fn statement(config: &str) -> &'static str {
    if config == PUBLICATION { "CREATE PUBLICATION" } else { "SELECT pg_create_logical_replication_slot" }
}

/// Makes a server refuse these commands one after the other, by an event trigger.
async fn refusing(lane: &Lane, command: &str) {
    let text = format!(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not today'; END$$; \
         CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('{command}') EXECUTE FUNCTION refuse()"
    );
    lane.subscriber.database.sql(&text).await;
}

async fn refused_tables(lane: &mut Lane) -> String {
    let commands = ["CREATE SCHEMA", "CREATE TYPE", "CREATE TABLE"];
    for command in commands {
        refusing(lane, command).await;
        lane.refuse(BOTH_TABLES, &["not today", "Nothing was changed."]).await;
        lane.expect_nothing().await;
        lane.subscriber.database.sql("DROP EVENT TRIGGER refuse").await;
    }
    lane.apply(BOTH_TABLES).await;
    lane.clean().await;
    format!("{} commands; nothing is left each time; the next apply made it", commands.len())
}

/// If one command fails, everything else is still created, and the next apply creates the rest.
async fn refused_indexes(lane: &mut Lane) -> String {
    lane.apply(BOTH_TABLES).await;
    let commands = [
        ("CREATE INDEX", "late goods_stats,lines_good"),
        ("ALTER TABLE", "late goods_mood,goods_stats"),
        ("CREATE STATISTICS", "late goods_mood,lines_good"),
    ];
    for (command, left) in commands {
        lane.subscriber
            .database
            .sql(
                "DROP INDEX IF EXISTS mall.goods_mood; DROP STATISTICS IF EXISTS mall.goods_stats; \
                ALTER TABLE mall.lines DROP CONSTRAINT IF EXISTS lines_good",
            )
            .await;
        refusing(lane, command).await;
        let said = ["not today", "could not be made", "Everything else was created"];
        lane.refuse(INDEXED, &said).await;
        assert_eq!(lane.objects().await, [BOTH_INDEXED[0], left], "{command}");
        lane.subscriber.database.sql("DROP EVENT TRIGGER refuse").await;
        lane.apply(INDEXED).await;
        assert_eq!(lane.objects().await, BOTH_INDEXED);
    }
    lane.clean().await;
    format!("{} commands; the rest is made each time, and by the next apply all", commands.len())
}

/// New labels are committed before the rest: if the connection breaks meanwhile, the result is known.
async fn label(lane: &mut Lane, statement: &str, moment: Moment) -> String {
    lane.apply(DESTINATION).await;
    let labels = "SELECT count(*) FROM pg_enum WHERE enumtypid = 'mall.mood'::regtype";
    let before: i64 = lane.publisher.database.value(labels).await;
    let change =
        format!("ALTER TYPE mall.mood ADD VALUE 'odd {before}'; ALTER TABLE mall.goods ADD COLUMN note mall.mood");
    lane.publisher.database.sql(&change).await;
    lane.subscriber.point.arm(statement, moment);
    lane.configure(DESTINATION);
    let apply = lane.workspace.spawn(&Lane::command(DESTINATION));
    lane.subscriber.point.reached().await;
    lane.subscriber.point.cut();
    let run = apply.wait().await;
    let is_done = moment == Moment::After;
    assert_eq!(run.code, Some(i32::from(!is_done)), "{}", run.text());
    if !is_done {
        says(&run, &["The change was not made. Apply again."]);
        lane.apply(DESTINATION).await;
    }
    assert_eq!(lane.subscriber.database.value::<i64>(labels).await, before + 1);
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    lane.publisher.database.sql("ALTER TABLE mall.goods DROP COLUMN note").await;
    if is_done { "the apply noticed, and is done" } else { "the next apply did what was left" }.to_owned()
}

/// An index that an earlier attempt has left is dropped and built again, wherever that is interrupted.
async fn left_over(lane: &mut Lane, moment: Moment) -> String {
    lane.apply(INDEXED).await;
    let broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mall.goods_mood'::regclass";
    lane.subscriber.database.sql(broken).await;
    lane.subscriber.point.arm("DROP INDEX CONCURRENTLY", moment);
    lane.configure(INDEXED);
    let apply = lane.workspace.spawn(&Lane::command(INDEXED));
    lane.subscriber.point.reached().await;
    lane.subscriber.point.cut();
    let run = apply.wait().await;
    assert_eq!(run.code, Some(1), "{}", run.text());
    lane.wait_for_quiet().await;
    lane.apply(INDEXED).await;
    assert_eq!(lane.objects().await, BOTH_INDEXED);
    lane.clean().await;
    "the next apply did what was left".to_owned()
}

async fn interrupt(lane: &mut Lane, config: &str, blocker: &str) -> String {
    let held = blocked(lane, blocker).await;
    lane.configure(config);
    let apply = lane.workspace.spawn(&Lane::command(config));
    lane.publisher.wait_for_blocked(statement(config)).await;
    apply.interrupt().await;
    let run = apply.wait().await;
    assert_eq!(run.code, Some(1), "{}", run.text());
    says(&run, &["Interrupt received", "cancelled"]);
    lane.expect_nothing().await;
    drop(held);
    lane.apply(config).await;
    assert_eq!(lane.objects().await, made(config));
    lane.clean().await;
    "nothing is left; the next apply made it".to_owned()
}

async fn interrupt_copy(lane: &mut Lane) -> String {
    let held = lane.subscriber.database.connect_as(&Role::superuser()).await.unwrap();
    held.batch_execute("BEGIN; LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE").await.unwrap();
    lane.configure(&SUBSCRIPTION.replace("}", "  wait_for_initial_sync = true\n}"));
    let apply = lane.workspace.spawn(&Lane::command(SUBSCRIPTION));
    let copying = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'd'";
    wait_until("the copy to wait", DEADLINE, async || lane.subscriber.database.value::<i64>(copying).await > 0).await;
    apply.interrupt().await;
    let run = apply.wait().await;
    says(&run, &["goes on copying 1 of 1 table"]);
    assert_eq!(lane.state(), ["subscription shop given of postgres"]);
    assert!(!lane.workspace.state().contains("tainted"));
    drop(held);
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    "it is made and goes on copying; the next plan is empty".to_owned()
}

fn with_timeout(config: &str, verb: &str) -> String {
    config.replace('}', &format!("  timeouts {{\n    {verb} = \"2s\"\n  }}\n}}"))
}

async fn time_is_over(lane: &mut Lane, config: &str, blocker: &str) -> String {
    let held = blocked(lane, blocker).await;
    lane.refuse(&with_timeout(config, "create"), &["not finished within", "a long open transaction"]).await;
    lane.expect_nothing().await;
    drop(held);
    lane.apply(config).await;
    assert_eq!(lane.objects().await, made(config));
    lane.clean().await;
    "nothing is left; the next apply made it".to_owned()
}

async fn locked_catalog(lane: &Lane) -> tokio_postgres::Client {
    let held = lane.subscriber.database.connect_as(&Role::superuser()).await.unwrap();
    held.batch_execute("BEGIN; LOCK TABLE pg_subscription IN EXCLUSIVE MODE").await.unwrap();
    held
}

async fn update_time_is_over(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    let held = locked_catalog(lane).await;
    let changed = with_timeout(&SUBSCRIPTION.replace('}', "  binary = true\n}"), "update");
    lane.refuse(&changed, &["changing subscription \"shop\"", "not finished within"]).await;
    assert_eq!(lane.state(), ["subscription shop given of postgres"]);
    drop(held);
    lane.apply(&changed).await;
    assert_eq!(lane.objects().await, ["slot shop", "subscription shop given binary of postgres"]);
    lane.clean().await;
    "nothing was changed; the next apply changed it".to_owned()
}

async fn destroy_time_is_over(lane: &mut Lane) -> String {
    lane.apply(&with_timeout(SUBSCRIPTION, "delete")).await;
    let held = locked_catalog(lane).await;
    lane.refuse("", &["dropping subscription \"shop\"", "not finished within"]).await;
    assert_eq!(lane.state(), ["subscription shop given of postgres"]);
    drop(held);
    lane.clean().await;
    "it is still there and in the state; the next destroy dropped it".to_owned()
}

/// The role's limits are for the application's statements: an apply has its own.
async fn role_timeouts(lane: &mut Lane) -> String {
    let limits = "ALTER ROLE postgres SET statement_timeout = '200ms'; ALTER ROLE postgres SET lock_timeout = '200ms'";
    lane.publisher.database.sql(limits).await;
    let held = blocked(lane, LOCK).await;
    lane.configure(PUBLICATION);
    let apply = lane.workspace.spawn(&Lane::command(PUBLICATION));
    lane.publisher.wait_for_blocked("CREATE PUBLICATION").await;
    let longer = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
        AND now() - query_start > interval '500 milliseconds'";
    wait_until("longer than the limits", DEADLINE, async || lane.publisher.database.value::<i64>(longer).await > 0)
        .await;
    drop(held);
    let run = apply.wait().await;
    assert_eq!(run.code, Some(0), "{}", run.text());
    lane.publisher.database.sql("ALTER ROLE postgres RESET ALL").await;
    lane.clean().await;
    "the apply waited and is done".to_owned()
}

async fn terminated(lane: &mut Lane) -> String {
    let second =
        PUBLICATION.replace("shop", "shop_two").replace("}\n", "  depends_on = [neonrepl_publication.shop]\n}\n");
    let both = format!("{PUBLICATION}{second}");
    lane.publisher.point.arm("CREATE PUBLICATION \"shop_two\"", Moment::Before);
    lane.configure(&both);
    let apply = lane.workspace.spawn(&Lane::command(&both));
    lane.publisher.point.reached().await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name LIKE 'terraform-provider-neonrepl%'";
    assert!(lane.publisher.database.value::<i64>(end).await > 0);
    lane.publisher.wait_for_no_session().await;
    lane.publisher.point.release();
    let run = apply.wait().await;
    let now = lane.objects().await;
    assert_eq!(lane.state(), now, "the state is true");
    let came =
        if run.code == Some(0) { "the apply connected again and is done" } else { "the next apply made the second" };
    lane.apply(&both).await;
    lane.clean().await;
    came.to_owned()
}

/// The same configuration in somebody else's workspace.
async fn other_workspace(lane: &Lane, config: &str) -> Workspace {
    let mut other = Workspace::new(Core::OpenTofu);
    other.secret(SUPERUSER_PASSWORD);
    // Past the fault points, which stop only the first.
    other.env("NEONREPL_PUBLISHER_URL", &lane.publisher.database.url());
    other.env("NEONREPL_SUBSCRIBER_URL", &lane.subscriber.database.url());
    other.init().await;
    other.write("main.tf", config);
    other
}

async fn two_at_once(lane: &mut Lane, config: &str, statement: &str) -> String {
    let other = other_workspace(lane, config).await;
    let first = if config == SUBSCRIPTION { &lane.subscriber.point } else { &lane.publisher.point };
    first.arm(statement, Moment::Before);
    lane.configure(config);
    let apply = lane.workspace.spawn(&Lane::command(config));
    first.reached().await;
    let theirs = other.run(&Lane::command(config)).await;
    assert_eq!(theirs.code, Some(0), "{}", theirs.text());
    first.release();
    let ours = apply.wait().await;
    assert_eq!(ours.code, Some(1), "{}", ours.text());
    says(&ours, &["exist", "import it by the id"]);
    assert_eq!(lane.state(), [""; 0]);
    assert_eq!(lane.objects().await, made(config));
    other.expect_empty_plan().await;
    other.destroy().await;
    lane.clean().await;
    "one made it, the other says that it exists".to_owned()
}

async fn two_slots_at_once(lane: &mut Lane) -> String {
    let held = blocked(lane, OLD).await;
    let other = other_workspace(lane, SUBSCRIPTION).await;
    lane.configure(SUBSCRIPTION);
    let command = Lane::command(SUBSCRIPTION);
    let applies = [lane.workspace.spawn(&command), other.spawn(&command)];
    lane.publisher.wait_for_blocked("SELECT pg_create_logical_replication_slot").await;
    drop(held);
    let mut runs = Vec::new();
    for apply in applies {
        runs.push(apply.wait().await);
    }
    let codes: Vec<_> = runs.iter().map(|run| run.code).collect();
    assert!(codes == [Some(0), Some(1)] || codes == [Some(1), Some(0)], "{codes:?}: {runs:?}");
    assert_eq!(lane.objects().await, made(SUBSCRIPTION));
    let winner = if codes[0] == Some(0) { &lane.workspace } else { &other };
    winner.expect_empty_plan().await;
    winner.destroy().await;
    lane.clean().await;
    "one made it, the other says whose the slot is".to_owned()
}

async fn two_updates_at_once(lane: &mut Lane) -> String {
    lane.apply(PUBLICATION).await;
    let other = other_workspace(lane, PUBLICATION).await;
    other.import("neonrepl_publication.shop", &format!("{}/shop", lane.publisher.database.name)).await;
    let changed = PUBLICATION.replace("[\"orders\"]", "[\"orders\", \"customers\"]");
    other.write("main.tf", &changed);
    lane.publisher.point.arm("ALTER PUBLICATION", Moment::Before);
    lane.configure(&changed);
    let apply = lane.workspace.spawn(&Lane::command(&changed));
    lane.publisher.point.reached().await;
    other.apply().await;
    lane.publisher.point.release();
    let ours = apply.wait().await;
    assert_eq!(ours.code, Some(1), "{}", ours.text());
    says(&ours, &["changing publication \"shop\"", "is already member of publication"]);
    lane.apply(&changed).await;
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    "one changed it, the other's next apply found it done".to_owned()
}

async fn two_destroys_at_once(lane: &mut Lane, config: &str, statement: &str) -> String {
    lane.apply(config).await;
    let other = other_workspace(lane, config).await;
    let (kind, side) = match config {
        SUBSCRIPTION => ("subscription", &lane.subscriber),
        _ => ("publication", &lane.publisher),
    };
    other.import(&format!("neonrepl_{kind}.shop"), &format!("{}/shop", side.database.name)).await;
    side.point.arm(statement, Moment::Before);
    lane.configure("");
    let destroy = lane.workspace.spawn(&Lane::command(""));
    side.point.reached().await;
    other.destroy().await;
    side.point.release();
    let ours = destroy.wait().await;
    assert_eq!(ours.code, Some(0), "{}", ours.text());
    lane.expect_nothing().await;
    "both are content".to_owned()
}
