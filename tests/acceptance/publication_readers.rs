// SPDX-License-Identifier: MPL-2.0

//! Changes of publications with readers: the plan refuses or reports changes that would stop a subscription or lose a
//! row, and its remedy loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::cli::{Core, Workspace, says};
use crate::common::fault_point::{FaultPoint, Moment};
use crate::common::postgres::{self as servers, Database, Major, Role, quote};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// Writes one row after the other: the statement with its number for `$`.
pub(crate) struct Writes {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Writes {
    pub(crate) async fn begin(publisher: &Database, statement: &str) -> Self {
        let statement = statement.to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let client = publisher.connect_as(&Role::superuser()).await.expect("a connection");
        let flag = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            for number in 1000.. {
                if flag.load(Ordering::SeqCst) {
                    return;
                }
                client.batch_execute(&statement.replace('$', &number.to_string())).await.expect("a write");
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("the writer");
    }
}

/// A publication resource.
fn publication(label: &str, body: &str) -> String {
    format!("resource \"neonrepl_publication\" \"{label}\" {{\n  name = \"{label}\"\n  {body}\n}}\n\n")
}

/// A subscription to publication resources.
fn subscription(name: &str, labels: &[&str], arguments: &str) -> String {
    let list = |attribute: &str| {
        labels.iter().map(|label| format!("neonrepl_publication.{label}.{attribute}")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [{}]\n  \
         refresh_triggers = {{ all = join(\" \", [{}]) }}\n  wait_for_initial_sync = true\n  {arguments}\n}}\n",
        list("name"),
        list("fingerprint")
    )
}

/// Checks that the plan is refused with these words, and the publisher is unchanged.
async fn refuses(workspace: &Workspace, pair: &Pair, config: &str, words: &[&str]) {
    let published = "SELECT p.pubname, p.pubviaroot, p.puballtables, r.prrelid::regclass, to_jsonb(r) ->> 'prattrs' \
        FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid ORDER BY 1, 4";
    let before = pair.publisher.rows(published).await;
    workspace.write("main.tf", config);
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    says(&plan, words);
    let refused = workspace.apply_error().await;
    says(&refused, words);
    assert_eq!(pair.publisher.rows(published).await, before);
}

/// Checks that both sides have the same rows of a table.
pub(crate) async fn nothing_is_lost(pair: &Pair, table: &str) {
    let count = format!("SELECT count(*) FROM {table}");
    let rows: i64 = pair.publisher.value(&count).await;
    wait_until("every row to arrive", DEADLINE, async || pair.subscriber.value::<i64>(&count).await == rows).await;
}

pub(crate) const TREE: &str = "
    CREATE TABLE parted (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
    CREATE TABLE parted_us PARTITION OF parted FOR VALUES IN ('us');";

pub(crate) const WRITE_PARTED: &str = "INSERT INTO parted VALUES ($, (ARRAY['eu', 'us'])[1 + $ % 2])";

/// From partitions to their root, or back: refused, and done without losing a row by a second publication.
async fn partitions(core: Core, from: Major, to: Major, is_rooted: bool) {
    let pair = Pair::new(from, to, "roots").await;
    for side in [&pair.publisher, &pair.subscriber] {
        side.sql(TREE).await;
    }
    pair.publisher.sql("INSERT INTO parted VALUES (1, 'eu'), (2, 'us')").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let body = |rooted: bool| format!("tables = [\"orders\", \"parted\"]\n  publish_via_partition_root = {rooted}");
    let first = publication("shop", &body(is_rooted));
    workspace.write("main.tf", &format!("{first}{}", subscription(&name, &["shop"], "")));
    workspace.apply().await;

    let turned = publication("shop", &body(!is_rooted));
    let (lacks, line) = match is_rooted {
        false => ("would arrive as those of public.parted", "on main.tf line 4"),
        true => ("would arrive as those of public.parted_eu", "on main.tf line 4"),
    };
    let words = [lacks, &format!("subscription \"{name}\""), "Create a second publication", "copy_data = false", line];
    for arguments in ["", "enabled = false"] {
        refuses(&workspace, &pair, &format!("{turned}{}", subscription(&name, &["shop"], arguments)), &words).await;
    }

    let writes = Writes::begin(&pair.publisher, WRITE_PARTED).await;
    let second = publication("turned", &body(!is_rooted));
    let over = subscription(&name, &["turned"], "copy_data = false");
    workspace.write("main.tf", &format!("{first}{second}{over}"));
    workspace.apply().await;
    workspace.write("main.tf", &format!("{second}{over}"));
    workspace.apply().await;
    writes.end().await;
    nothing_is_lost(&pair, "parted").await;
    workspace.expect_empty_plan().await;
    // Without readers, it is changed.
    workspace.write("main.tf", &first);
    workspace.apply().await;
    workspace.write("main.tf", &turned);
    workspace.apply().await;
    workspace.destroy().await;
    assert_eq!(pair.slots().await, [""; 0]);
}

#[tokio::test]
async fn partitions_do_not_turn_into_their_root_under_a_subscription_from_15() {
    partitions(Core::Terraform, Major::V15, Major::V18, false).await;
}

#[tokio::test]
async fn partitions_do_not_turn_into_their_root_under_a_subscription_from_18() {
    partitions(Core::OpenTofu, Major::V18, Major::V16, false).await;
}

#[tokio::test]
async fn a_root_does_not_turn_into_its_partitions_under_a_subscription_from_14() {
    partitions(Core::OpenTofu, Major::V14, Major::V17, true).await;
}

#[tokio::test]
async fn a_root_does_not_turn_into_its_partitions_under_a_subscription_from_18() {
    partitions(Core::Terraform, Major::V18, Major::V15, true).await;
}

/// A root joins in addition to its partitions, and a second publication of the subscription decides for both.
#[tokio::test]
async fn no_other_change_turns_partitions_into_their_root_either() {
    let pair = Pair::new(Major::V16, Major::V18, "rooting").await;
    for side in [&pair.publisher, &pair.subscriber] {
        side.sql(TREE).await;
    }
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(Core::OpenTofu).await;
    let rooted = "publish_via_partition_root = true";
    let leaves = publication("shop", &format!("tables = [\"parted_eu\"]\n  {rooted}"));
    let second = |tables: &str| publication("second", &format!("tables = [{tables}]\n  {rooted}"));
    let reads = subscription(&name, &["shop", "second"], "");
    workspace.write("main.tf", &format!("{leaves}{}{reads}", second("\"orders\"")));
    workspace.apply().await;

    let joined = publication("shop", &format!("tables = [\"parted_eu\", \"parted\"]\n  {rooted}"));
    let words = ["rows of public.parted_eu would arrive as those of public.parted", "Create a second publication"];
    refuses(&workspace, &pair, &format!("{joined}{}{reads}", second("\"orders\"")), &words).await;
    refuses(&workspace, &pair, &format!("{leaves}{}{reads}", second("\"orders\", \"parted\"")), &words).await;
    // It does not matter for tables without partitions.
    let plain = publication("second", "tables = [\"orders\"]\n  publish_via_partition_root = false");
    workspace.write("main.tf", &format!("{leaves}{plain}{reads}"));
    workspace.apply().await;
    pair.publisher.sql("INSERT INTO parted VALUES (1, 'eu')").await;
    pair.wait_for_rows("SELECT region FROM parted", &["eu"]).await;
    workspace.destroy().await;
}

/// Readers outside the provider's subscriptions: problems that the publisher alone shows are refused, and the plan says
/// what is unknown.
#[tokio::test]
async fn strangers_are_told_of_too() {
    let pair = Pair::new(Major::V17, Major::V16, "strange").await;
    // On another server than the provider's subscriber.
    let elsewhere = Pair::new(Major::V17, Major::V15, "afar").await.subscriber;
    for side in [&pair.publisher, &elsewhere] {
        side.sql(TREE).await;
    }
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(Core::OpenTofu).await;
    let body = |tables: &str, rooted: bool| {
        publication("shop", &format!("tables = [{tables}]\n  publish_via_partition_root = {rooted}"))
    };
    workspace.write("main.tf", &body("\"orders\", \"parted\"", false));
    workspace.apply().await;
    elsewhere.sql(&format!("CREATE SUBSCRIPTION {name} CONNECTION '{}' PUBLICATION shop", pair.publisher.url())).await;
    let asks = "SELECT count(*) FROM pg_stat_activity a JOIN pg_replication_slots s ON s.active_pid = a.pid \
        WHERE s.database = current_database() AND a.query LIKE 'START_REPLICATION%'";
    wait_until("the reader", DEADLINE, async || pair.publisher.value::<i64>(asks).await > 0).await;

    let stranger = format!("the reader of replication slot \"{name}\"");
    let lost = format!("would arrive as those of public.parted, and {stranger} would lose them");
    refuses(&workspace, &pair, &body("\"orders\", \"parted\"", true), &[&lost]).await;
    workspace.write("main.tf", &body("\"orders\", \"parted\", \"customers\"", false));
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    says(&plan, &[&format!("it was not checked whether {stranger} can replicate public.customers")]);
    elsewhere.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    workspace.destroy().await;
}

/// A table that cannot be replicated joins: the plan refuses it with the reason, and nothing stops.
async fn joining(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "joins").await;
    let name = pair.subscriber.name.clone();
    let role = servers::shared(from).role("reader", "REPLICATION").await;
    pair.publisher.sql(&format!("GRANT SELECT ON orders TO {}", quote(&role.name))).await;
    pair.publisher
        .sql("CREATE TABLE later (id int PRIMARY KEY, note text); CREATE SCHEMA billing; CREATE TABLE billing.drafts (id int PRIMARY KEY)")
        .await;
    let mut workspace = pair.workspace(core).await;
    workspace.secret(&role.password);
    let login =
        format!("publisher {{\n    username = \"{}\"\n    password_wo = \"{}\"\n  }}", role.name, role.password);
    let reads = subscription(&name, &["shop"], &login);
    let with = |tables: &str| format!("{}{reads}", publication("shop", tables));
    workspace.write("main.tf", &with("tables = [\"orders\"]"));
    workspace.apply().await;

    let tables = "tables = [\"orders\", \"later\"]";
    let subscriber = format!("subscription \"{name}\"");
    refuses(&workspace, &pair, &with(tables), &["public.later: it is not a table on the subscriber", &subscriber])
        .await;
    refuses(&workspace, &pair, &with("all_tables = true"), &["billing.drafts: it is not a table on the subscriber"])
        .await;
    if from >= Major::V15 {
        let schemas = "tables = [\"orders\"]\n  schemas = [\"billing\"]";
        let words = ["billing.drafts: it is not a table on the subscriber", "on main.tf line"];
        refuses(&workspace, &pair, &with(schemas), &words).await;
    }
    pair.subscriber.sql("CREATE TABLE later (id int PRIMARY KEY)").await;
    let lacks = "public.later: it lacks published columns on the subscriber: note";
    refuses(&workspace, &pair, &with(tables), &[lacks]).await;
    pair.subscriber.sql("ALTER TABLE later ADD note text").await;
    let grant = format!("GRANT SELECT ON \"public\".\"later\" TO {}", quote(&role.name));
    let words = [format!("public.later: role {} may not read it", quote(&role.name)), grant.clone()];
    refuses(&workspace, &pair, &with(tables), &[&words[0], &words[1]]).await;
    pair.publisher.sql(&grant).await;
    pair.subscriber.sql("ALTER TABLE later ADD must int NOT NULL").await;
    let requires = "columns of the subscriber that are not published are NOT NULL, and have no default: must";
    refuses(&workspace, &pair, &with(tables), &[requires]).await;
    pair.subscriber.sql("ALTER TABLE later ALTER must DROP NOT NULL").await;

    workspace.write("main.tf", &with(tables));
    workspace.apply().await;
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'); INSERT INTO later VALUES (1, 'x')").await;
    pair.wait_for_rows("SELECT note FROM later", &["x"]).await;
    pair.wait_for_rows("SELECT region FROM orders", &["eu"]).await;
    // Earlier problems do not prevent other changes.
    pair.subscriber
        .sql("ALTER TABLE later ADD must_too int NOT NULL DEFAULT 1; ALTER TABLE later ALTER must_too DROP DEFAULT")
        .await;
    workspace.write("main.tf", &with(&format!("{tables}\n  publish = [\"insert\", \"update\", \"delete\"]")));
    workspace.apply().await;
    workspace.destroy().await;
}

#[tokio::test]
async fn what_cannot_be_replicated_does_not_join_from_14() {
    joining(Core::Terraform, Major::V14, Major::V18).await;
}

#[tokio::test]
async fn what_cannot_be_replicated_does_not_join_from_18() {
    joining(Core::OpenTofu, Major::V18, Major::V15).await;
}

/// A table that is dropped between the plan and the change counts as missing too.
#[tokio::test]
async fn what_goes_after_the_plan_is_seen_before_the_change() {
    let pair = Pair::new(Major::V18, Major::V14, "meanwhile").await;
    let name = pair.subscriber.name.clone();
    for side in [&pair.publisher, &pair.subscriber] {
        side.sql("CREATE TABLE later (id int PRIMARY KEY)").await;
    }
    let point = FaultPoint::start(pair.publisher.port);
    let url = pair.publisher.url_through(&Role::superuser(), point.port());
    let workspace = pair.workspace_with(Core::OpenTofu, &url, &pair.subscriber.url()).await;
    let with = |tables: &str| format!("{}{}", publication("shop", tables), subscription(&name, &["shop"], ""));
    workspace.write("main.tf", &with("tables = [\"orders\"]"));
    workspace.apply().await;

    workspace.write("main.tf", &with("tables = [\"orders\", \"later\"]"));
    // The first statement of the change itself: it reads this one publication.
    point.arm_within("WHERE o.pubname = $1", Moment::Before);
    let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    point.reached().await;
    pair.subscriber.sql("DROP TABLE later").await;
    point.release();
    let refused = apply.wait().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    says(&refused, &["public.later: it is not a table on the subscriber", "Nothing was changed."]);
    let published = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'shop'";
    assert_eq!(pair.publisher.rows(published).await, ["orders"]);
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    pair.wait_for_rows("SELECT region FROM orders", &["eu"]).await;

    // Creating a publication that a subscription already asks for is a change for that subscription too.
    pair.publisher.sql("DROP PUBLICATION shop").await;
    refuses(
        &workspace,
        &pair,
        &with("tables = [\"orders\", \"later\"]"),
        &["public.later: it is not a table on the subscriber", &format!("subscription \"{name}\"")],
    )
    .await;
    workspace.write("main.tf", &with("tables = [\"orders\"]"));
    workspace.apply().await;
    workspace.destroy().await;
}

/// Nobody reads from the database when a publication is about to be created or dropped; then a subscription appears
/// that asks for it.
#[tokio::test]
async fn who_comes_right_before_a_publication_is_made_or_dropped_is_seen() {
    let pair = Pair::new(Major::V14, Major::V18, "comes").await;
    pair.publisher.sql("CREATE TABLE later (id int PRIMARY KEY)").await;
    let point = FaultPoint::start(pair.publisher.port);
    let url = pair.publisher.url_through(&Role::superuser(), point.port());
    let workspace = pair.workspace_with(Core::OpenTofu, &url, &pair.subscriber.url()).await;
    workspace.write("main.tf", &publication("shop", "tables = [\"later\"]"));
    point.arm("SELECT 1 / (count(*)", Moment::Before);
    let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
    point.reached().await;
    let (name, port, from, role) =
        (&pair.subscriber.name, pair.publisher.port, &pair.publisher.name, Role::superuser());
    let to = format!("host=127.0.0.1 port={port} dbname={from} user={} password={}", role.name, role.password);
    let with = "PUBLICATION shop WITH (copy_data = false)";
    let subscribe = format!("CREATE SUBSCRIPTION {name} CONNECTION '{to}' {with}");
    pair.subscriber.sql(&subscribe).await;
    point.release();
    let refused = apply.wait().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    says(&refused, &["public.later", "on the subscriber", "Nothing was changed."]);
    assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
    pair.subscriber.sql("CREATE TABLE later (id int PRIMARY KEY)").await;
    workspace.apply().await;
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    point.arm("SELECT 1 / (count(*)", Moment::Before);
    let destroy = workspace.spawn(&["destroy", "-auto-approve", "-no-color"]);
    point.reached().await;
    pair.subscriber.sql(&subscribe).await;
    point.release();
    let refused = destroy.wait().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    says(&refused, &["dropping publication \"shop\": it is in use by", "Nothing was changed."]);
    assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, ["shop"]);
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    workspace.destroy().await;
}

/// A column list with a column that the subscriber lacks, and different lists of two publications.
async fn column_lists(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "lists").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let listed = |columns: &str| {
        publication("shop", &format!("table {{\n    name = \"orders\"\n    columns = [\"id\", {columns}]\n  }}"))
    };
    let second = |body: &str| publication("second", body);
    let reads = subscription(&name, &["shop", "second"], "");
    let customers = second("tables = [\"customers\"]");
    workspace.write("main.tf", &format!("{}{customers}{reads}", listed("\"total\"")));
    pair.subscriber.sql("ALTER TABLE orders DROP COLUMN region").await;
    workspace.apply().await;

    let words = ["public.orders: it lacks published columns on the subscriber: region"];
    refuses(&workspace, &pair, &format!("{}{customers}{reads}", listed("\"total\", \"region\"")), &words).await;
    let clash = ["publications \"second\", \"shop\" send different columns of it", &format!("subscription \"{name}\"")];
    let orders = second("tables = [\"customers\", \"orders\"]");
    refuses(&workspace, &pair, &format!("{}{orders}{reads}", listed("\"total\"")), &clash).await;
    // The same columns in both are not a clash, and neither are filters, which are combined.
    let alike =
        second("table {\n    name = \"orders\"\n    columns = [\"id\", \"total\"]\n    where = \"id > 0\"\n  }");
    workspace.write("main.tf", &format!("{}{alike}{reads}", listed("\"total\"")));
    workspace.apply().await;
    pair.publisher.sql("INSERT INTO orders VALUES (1, 2, 'eu')").await;
    pair.wait_for_rows("SELECT id || ' ' || total FROM orders", &["1 2"]).await;
    workspace.destroy().await;

    // The same for a planned subscription.
    let made = format!("{}{}{reads}", listed("\"total\""), second("tables = [\"orders\"]"));
    workspace.write("main.tf", &made);
    let refused = workspace.apply_error().await;
    says(&refused, &[clash[0], "planning subscription"]);
    assert_eq!(pair.slots().await, [""; 0]);
    assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
    workspace.destroy().await;
}

#[tokio::test]
async fn column_lists_that_stop_a_subscription_are_refused_from_15() {
    column_lists(Core::OpenTofu, Major::V15, Major::V18).await;
}

#[tokio::test]
async fn column_lists_that_stop_a_subscription_are_refused_from_18() {
    column_lists(Core::Terraform, Major::V18, Major::V15).await;
}

/// A table moves from one publication to another in one apply: the plan reports it, and the order that it recommends is
/// safe.
async fn moving(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "moves").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let reads = subscription(&name, &["shop", "second"], "");
    let config =
        |first: &str, second: &str| format!("{}{}{reads}", publication("shop", first), publication("second", second));
    let both = "tables = [\"orders\", \"customers\"]";
    workspace.write("main.tf", &config(both, "tables = [\"invoices\"]"));
    workspace.apply().await;

    let (alone, gets) = ("tables = [\"customers\"]", "tables = [\"invoices\", \"orders\"]");
    workspace.write("main.tf", &config(alone, gets));
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    let gets_no_more = format!("subscription \"{name}\" no longer receives what is written to public.orders");
    says(&plan, &[&gets_no_more, "depends_on", "on main.tf line 3"]);

    let writes = Writes::begin(&pair.publisher, "INSERT INTO orders VALUES ($, 1, 'eu')").await;
    let ordered = format!("{alone}\n  depends_on = [neonrepl_publication.second]");
    workspace.write("main.tf", &config(&ordered, gets));
    workspace.apply().await;
    writes.end().await;
    nothing_is_lost(&pair, "orders").await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
}

#[tokio::test]
async fn a_table_that_moves_between_publications_is_said_from_15() {
    moving(Core::Terraform, Major::V15, Major::V18).await;
}

#[tokio::test]
async fn a_table_that_moves_between_publications_is_said_from_18() {
    moving(Core::OpenTofu, Major::V18, Major::V15).await;
}

/// Somebody dropped a publication with a reader: the plan that creates it again says what this does to the
/// subscription, and its remedy restarts it.
async fn made_again(core: Core, from: Major, to: Major, words: &str) {
    let pair = Pair::new(from, to, "again").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let config = format!("{}{}", publication("shop", "tables = [\"orders\"]"), subscription(&name, &["shop"], ""));
    workspace.write("main.tf", &config);
    workspace.apply().await;
    pair.publisher.sql("DROP PUBLICATION shop").await;
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'missed')").await;
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    let steps = [
        format!("ALTER SUBSCRIPTION \"{name}\" DISABLE;"),
        format!("SELECT pg_replication_slot_advance('{name}', pg_current_wal_lsn());"),
        format!("ALTER SUBSCRIPTION \"{name}\" ENABLE;"),
    ];
    let asks = format!("subscription \"{name}\" already reads from publication \"shop\"");
    says(&plan, &[&asks, words, &steps[0], &steps[1], &steps[2], "on main.tf line 2"]);
    workspace.apply().await;

    pair.subscriber.sql(&steps[0]).await;
    // A worker that was about to start when the subscription was disabled may use the slot again for a moment.
    let advanced = async || pair.publisher.try_sql(&steps[1]).await.is_ok();
    wait_until("the slot to be free", DEADLINE, advanced).await;
    pair.subscriber.sql(&steps[2]).await;
    pair.publisher.sql("INSERT INTO orders VALUES (2, 1, 'arrives')").await;
    pair.wait_for_rows("SELECT region FROM orders", &["arrives"]).await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
}

#[tokio::test]
async fn a_publication_that_is_made_again_is_said_to_stop_its_subscription() {
    made_again(Core::OpenTofu, Major::V16, Major::V18, "stops it for good").await;
}

#[tokio::test]
async fn a_publication_that_is_made_again_is_said_to_have_lost_changes() {
    made_again(Core::Terraform, Major::V18, Major::V15, "is lost to it").await;
}

/// Prevents dropping publications.
const KEEP: &str = "
    CREATE FUNCTION keep() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''kept''; END';
    CREATE EVENT TRIGGER keep ON ddl_command_start WHEN TAG IN ('DROP PUBLICATION') EXECUTE FUNCTION keep();";

/// A renaming that was interrupted at its last step is continued, and does not use others' objects.
async fn renaming(core: Core, from: Major, to: Major) {
    let pair = Pair::new(from, to, "renames").await;
    let name = pair.subscriber.name.clone();
    let workspace = pair.workspace(core).await;
    let config = |new: &str| {
        let body = "tables = [\"orders\"]";
        let text = format!("{}{}", publication("shop", body), subscription(&name, &["shop"], ""));
        text.replacen("name = \"shop\"", &format!("name = \"{new}\""), 1)
    };
    workspace.write("main.tf", &config("shop"));
    workspace.apply().await;
    pair.publisher.sql("COMMENT ON PUBLICATION shop IS 'it''s ours'; CREATE PUBLICATION mall FOR TABLE orders").await;
    workspace.write("main.tf", &config("mall"));
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    says(&plan, &["publication \"mall\" already exists", "on main.tf line 2"]);
    let taken = workspace.apply_error().await;
    says(&taken, &["another publication has that name", "on main.tf line 2"]);
    pair.publisher.sql("DROP PUBLICATION mall").await;

    pair.publisher.sql(KEEP).await;
    let cut = workspace.apply_error().await;
    says(&cut, &["kept"]);
    let names = "SELECT pubname FROM pg_publication ORDER BY 1";
    assert_eq!(pair.publisher.rows(names).await, ["mall", "shop"]);
    refuses(&workspace, &pair, &config("third"), &["was interrupted", "name = \"mall\"", "DROP PUBLICATION \"mall\";"])
        .await;
    workspace.write("main.tf", &config("mall"));
    let plan = workspace.plan().await;
    says(&plan, &["publication \"shop\" becomes \"mall\"", "goes on"]);
    pair.publisher.sql("DROP EVENT TRIGGER keep").await;
    workspace.apply().await;
    assert_eq!(pair.publisher.rows(names).await, ["mall"]);
    let comments = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication";
    assert_eq!(pair.publisher.rows(comments).await, ["it's ours"]);
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    pair.wait_for_rows("SELECT region FROM orders", &["eu"]).await;
    workspace.expect_empty_plan().await;

    // If it is abandoned half way, nothing of it is left in the end.
    pair.publisher
        .sql("CREATE EVENT TRIGGER keep ON ddl_command_start WHEN TAG IN ('DROP PUBLICATION') EXECUTE FUNCTION keep()")
        .await;
    workspace.write("main.tf", &config("shop"));
    workspace.apply_error().await;
    pair.publisher.sql("DROP EVENT TRIGGER keep").await;
    workspace.destroy().await;
    assert_eq!(pair.publisher.rows(names).await, [""; 0]);
}

#[tokio::test]
async fn a_renaming_that_is_cut_off_is_finished_by_the_next_apply_on_14() {
    renaming(Core::Terraform, Major::V14, Major::V18).await;
}

#[tokio::test]
async fn a_renaming_that_is_cut_off_is_finished_by_the_next_apply_on_18() {
    renaming(Core::OpenTofu, Major::V18, Major::V15).await;
}
