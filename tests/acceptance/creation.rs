// SPDX-License-Identifier: MPL-2.0

//! Creating a subscription with its slot: other owners' objects are neither used, recorded nor removed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use neonrepl::postgres::Limits;
use neonrepl::postgres::slot::Taking;
use neonrepl::postgres::subscription::{How, SlotName, Subscription};
use neonrepl::replication::subscribing::{self, Creation};
use neonrepl::replication::{Listener, Operation};
use serde_json::Value;

use crate::catalog;
use crate::common::cli::{Core, Workspace, says};
use crate::common::fault_point::{FaultPoint, Moment};
use crate::common::postgres::{self as servers, Database, Major, Role, quote};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// A subscription with these further arguments to an existing publication.
fn config(name: &str, arguments: &str) -> String {
    format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [\"given\"]\n  {arguments}\n}}\n"
    )
}

/// Two servers with a row to copy, and a workspace whose connections can be stopped at a statement.
struct Stage {
    pair: Pair,
    publisher: FaultPoint,
    subscriber: FaultPoint,
    workspace: Workspace,
    name: String,
}

impl Stage {
    async fn new(pair: Pair) -> Self {
        pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders; INSERT INTO orders VALUES (1, 1, 'eu')").await;
        let publisher = FaultPoint::start(pair.publisher.port);
        let subscriber = FaultPoint::start(pair.subscriber.port);
        let role = Role::superuser();
        let urls = [
            pair.publisher.url_through(&role, publisher.port()),
            pair.subscriber.url_through(&role, subscriber.port()),
        ];
        let workspace = pair.workspace_with(Core::OpenTofu, &urls[0], &urls[1]).await;
        let name = pair.subscriber.name.clone();
        Self { pair, publisher, subscriber, workspace, name }
    }

    /// Another person's configuration, which is not stopped at the points of this one.
    async fn other(&self, arguments: &str) -> Workspace {
        let other = self.pair.workspace(Core::Terraform).await;
        other.write("main.tf", &config(&self.name, arguments));
        other
    }

    /// Checks that an existing slot of the name is unchanged and nothing was created; without the slot,
    /// everything is created.
    async fn expect_slot_left_to_its_owner(&self, before: &str) {
        assert_eq!(position(&self.pair.publisher, &self.name).await, before);
        assert_eq!(subscriptions(&self.pair.subscriber).await, [""; 0]);
        assert_eq!(recorded(&self.workspace), 0);
        drop_slot(&self.pair.publisher, &self.name).await;
        self.workspace.apply().await;
        self.expect_whole_and_destroy().await;
    }

    async fn expect_nothing(&self) {
        assert_eq!(subscriptions(&self.pair.subscriber).await, [""; 0]);
        assert_eq!(self.pair.slots().await, [""; 0]);
        assert_eq!(recorded(&self.workspace), 0);
    }

    /// Checks that the row exists once, and that a destroy removes everything.
    async fn expect_whole_and_destroy(&self) {
        self.pair.wait_for_rows("SELECT total FROM orders", &["1"]).await;
        self.workspace.expect_empty_plan().await;
        self.workspace.destroy().await;
        self.expect_nothing().await;
    }
}

/// Name, slot and whether it runs of each subscription of the database.
async fn subscriptions(database: &Database) -> Vec<String> {
    let query = "SELECT subname, subslotname, subenabled FROM pg_subscription \
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1";
    database.rows(query).await
}

/// How many objects the state has.
fn recorded(workspace: &Workspace) -> usize {
    let state: Value = serde_json::from_str(&workspace.state()).unwrap_or_default();
    state["resources"].as_array().map_or(0, Vec::len)
}

/// The position of a slot: it changes once somebody has read from it, or another slot has its name.
async fn position(database: &Database, slot: &str) -> String {
    let query = format!(
        "SELECT concat_ws(' ', confirmed_flush_lsn, catalog_xmin) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    database.value(&query).await
}

async fn make_slot(database: &Database, name: &str) {
    let make = format!("SELECT slot_name::text FROM pg_create_logical_replication_slot('{name}', 'pgoutput')");
    database.value::<String>(&make).await;
}

async fn drop_slot(database: &Database, name: &str) {
    database.value::<String>(&format!("SELECT pg_drop_replication_slot('{name}')::text")).await;
}

const APPLY: [&str; 3] = ["apply", "-auto-approve", "-no-color"];

#[tokio::test]
async fn whoever_comes_second_keeps_nothing_of_the_first_ones() {
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V14)] {
        let stage = Stage::new(Pair::new(from, to, "second").await).await;
        let theirs = stage.other(&format!("slot_name = \"{}_theirs\"", stage.name)).await;
        stage.workspace.write("main.tf", &config(&stage.name, ""));
        stage.subscriber.arm("CREATE SUBSCRIPTION", Moment::Before);
        let apply = stage.workspace.spawn(&APPLY);
        stage.subscriber.reached().await;
        theirs.apply().await;
        stage.subscriber.release();
        let ours = apply.wait().await;
        assert_eq!(ours.code, Some(1), "{}", ours.text());
        says(&ours, &["already exists", "import it by the id"]);
        assert_eq!(recorded(&stage.workspace), 0, "{}", stage.workspace.state());

        stage.pair.wait_for_rows("SELECT total FROM orders", &["1"]).await;
        says(&stage.workspace.apply_error().await, &["already exists"]);
        stage.workspace.destroy().await;
        let running = format!("{0}|{0}_theirs|t", stage.name);
        assert_eq!(subscriptions(&stage.pair.subscriber).await, [running]);
        assert_eq!(stage.pair.slots().await, [format!("{}_theirs", stage.name)]);
        theirs.expect_empty_plan().await;
        theirs.destroy().await;
        stage.expect_nothing().await;
    }
}

#[tokio::test]
async fn what_another_apply_is_making_is_left_to_it() {
    let stage = Stage::new(Pair::new(Major::V16, Major::V17, "making").await).await;
    stage.workspace.write("main.tf", &config(&stage.name, ""));
    stage.publisher.arm("SELECT pg_create_logical_replication_slot", Moment::Before);
    let apply = stage.workspace.spawn(&APPLY);
    stage.publisher.reached().await;
    let theirs = stage.other("").await;
    says(&theirs.apply_error().await, &["another apply is creating it"]);
    assert_eq!(recorded(&theirs), 0);
    stage.publisher.release();
    let ours = apply.wait().await;
    assert_eq!(ours.code, Some(0), "{}", ours.text());
    says(&theirs.apply_error().await, &["already exists", "import it by the id"]);
    stage.expect_whole_and_destroy().await;
}

/// On the same cluster too, a slot may belong to a paused subscription elsewhere.
#[tokio::test]
async fn a_slot_of_one_cluster_is_not_taken_for_its_name() {
    for major in [Major::V15, Major::V18] {
        let stage = Stage::new(Pair::on_one_server(major, "paused").await).await;
        make_slot(&stage.pair.publisher, &stage.name).await;
        let before = position(&stage.pair.publisher, &stage.name).await;
        stage.workspace.write("main.tf", &config(&stage.name, ""));
        let failed = stage.workspace.apply_error().await;
        says(&failed, &["already exists", "may be paused", "create_slot = false", "SELECT pg_drop_replication_slot"]);
        stage.expect_slot_left_to_its_owner(&before).await;
    }
}

/// For both creators of the slot: the provider, or the subscriber, whose connection has another address than
/// the provider's.
#[tokio::test]
async fn a_slot_that_somebody_else_makes_meanwhile_stays() {
    let elsewhere = "publisher {\n    host = \"localhost\"\n  }";
    for (from, to) in [(Major::V16, Major::V18), (Major::V18, Major::V15)] {
        for (arguments, at_subscriber) in [("", false), (elsewhere, true)] {
            let stage = Stage::new(Pair::new(from, to, "meanwhile").await).await;
            stage.workspace.write("main.tf", &config(&stage.name, arguments));
            let (point, statement) = match at_subscriber {
                true => (&stage.subscriber, "CREATE SUBSCRIPTION"),
                false => (&stage.publisher, "SELECT pg_create_logical_replication_slot"),
            };
            point.arm(statement, Moment::Before);
            let apply = stage.workspace.spawn(&APPLY);
            point.reached().await;
            make_slot(&stage.pair.publisher, &stage.name).await;
            let before = position(&stage.pair.publisher, &stage.name).await;
            point.release();
            let run = apply.wait().await;
            assert_eq!(run.code, Some(1), "{}", run.text());
            says(&run, &["already exists"]);
            assert_eq!(stage.pair.slots().await, [stage.name.as_str()]);
            stage.expect_slot_left_to_its_owner(&before).await;
        }
    }
}

#[tokio::test]
async fn two_subscriptions_do_not_get_one_slot() {
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V15)] {
        let stage = Stage::new(Pair::new(from, to, "shared").await).await;
        let second = Pair::new(from, to, "sharing").await;
        let workspace =
            second.workspace_with(Core::Terraform, &stage.pair.publisher.url(), &second.subscriber.url()).await;
        let shares = config("another", &format!("slot_name = \"{}\"\n  create_slot = false", stage.name));
        workspace.write("main.tf", &shares);
        for enabled in [true, false] {
            stage.workspace.write("main.tf", &config(&stage.name, &format!("enabled = {enabled}")));
            stage.workspace.apply().await;
            let active = format!("SELECT active FROM pg_replication_slots WHERE slot_name = '{}'", stage.name);
            wait_until("the slot's reader", DEADLINE, async || {
                stage.pair.publisher.value::<bool>(&active).await == enabled
            })
            .await;
            let failed = workspace.apply_error().await;
            let theirs = format!("subscription \"{}\" of database \"{}\"", stage.name, stage.pair.subscriber.name);
            says(&failed, &[if enabled { "a reader is connected" } else { theirs.as_str() }, "slot_name"]);
            assert_eq!(subscriptions(&second.subscriber).await, [""; 0]);
            assert_eq!(recorded(&workspace), 0);
        }
        stage.workspace.write("main.tf", &config(&stage.name, ""));
        stage.workspace.apply().await;
        stage.expect_whole_and_destroy().await;
    }
}

/// An existing pair, made by hand.
#[tokio::test]
async fn a_slot_that_another_subscription_names_stays_when_one_goes() {
    let stage = Stage::new(Pair::new(Major::V17, Major::V16, "kept").await).await;
    let second = Pair::new(Major::V17, Major::V16, "keeping").await;
    stage.workspace.write("main.tf", &config(&stage.name, "enabled = false"));
    stage.workspace.apply().await;
    let connection = stage.pair.publisher.url();
    let by_hand = format!(
        "CREATE SUBSCRIPTION theirs CONNECTION '{connection}' PUBLICATION given \
         WITH (create_slot = false, enabled = false, slot_name = '{}')",
        stage.name
    );
    second.subscriber.sql(&by_hand).await;
    let destroyed = stage.workspace.destroy().await;
    let whose = format!("subscription \"theirs\" of database \"{}\"", second.subscriber.name);
    says(&destroyed, &["stays on the publisher", &whose]);
    assert_eq!(subscriptions(&stage.pair.subscriber).await, [""; 0]);
    assert_eq!(stage.pair.slots().await, [stage.name.as_str()]);
    second.subscriber.sql("DROP SUBSCRIPTION theirs").await;
    stage.expect_nothing().await;
}

#[tokio::test]
async fn a_slot_that_is_not_there_or_does_not_fit_is_refused_before_anything_is_made() {
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V15)] {
        let stage = Stage::new(Pair::new(from, to, "fitting").await).await;
        stage.workspace.write("main.tf", &config(&stage.name, "create_slot = false"));
        let elsewhere = Pair::new(from, to, "fitting").await.publisher;
        let physical = format!("SELECT slot_name::text FROM pg_create_physical_replication_slot('{}')", stage.name);
        let other_plugin = format!(
            "SELECT slot_name::text FROM pg_create_logical_replication_slot('{}', 'test_decoding')",
            stage.name
        );
        let home = format!("it is a slot of database \"{}\"", elsewhere.name);

        let make = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput', false);", stage.name);
        says(&stage.workspace.apply_error().await, &["there is no replication slot", &make, "Nothing was changed"]);
        stage.expect_nothing().await;
        for (on, sql, said) in [
            (&stage.pair.publisher, physical.as_str(), "it is a physical slot"),
            (&stage.pair.publisher, other_plugin.as_str(), "its plugin is \"test_decoding\""),
            (&elsewhere, &make.replace("SELECT", "SELECT slot_name::text FROM").replace(';', ""), home.as_str()),
        ] {
            on.value::<String>(sql).await;
            says(&stage.workspace.apply_error().await, &[said, "Nothing was changed"]);
            assert_eq!(subscriptions(&stage.pair.subscriber).await, [""; 0]);
            assert_eq!(recorded(&stage.workspace), 0);
            drop_slot(on, &stage.name).await;
        }
        make_slot(&stage.pair.publisher, &stage.name).await;
        stage.workspace.apply().await;
        stage.expect_whole_and_destroy().await;
    }
}

/// The messages of an operation.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn warn(&self, warning: neonrepl::replication::Error) {
        self.0.lock().unwrap().push(warning.to_string());
    }
}

/// If only the subscriber can reach its publisher, nobody can check the slot.
#[tokio::test]
async fn a_slot_that_cannot_be_looked_at_is_said_to_be_unchecked() {
    let pair = Pair::new(Major::V16, Major::V16, "unseen").await;
    let subscriber = catalog::connect(&pair.subscriber, &Role::superuser());
    let connection = catalog::config(&pair.publisher, &Role::superuser()).conninfo();
    let desired = Subscription::new(catalog::ident("unseen"), connection, [catalog::ident("given")]);
    let how = How { create_slot: false, ..How::default() };
    let heard = Heard::default();
    let operation = Operation::new("creating", Limits::within(DEADLINE), &heard);
    let creation =
        Creation { subscriber: &subscriber, publisher: None, desired: &desired, how: &how, operation: &operation };
    subscribing::prepare(creation).await.unwrap();
    let said = heard.0.lock().unwrap().join("\n");
    assert!(said.contains("it was not checked whether replication slot \"unseen\" exists and is free"), "{said}");
}

/// Creates a subscription that reads from an existing slot.
async fn read_from(publisher: &Database, subscriber: &Database, slot: &str) -> Result<(), String> {
    read_within(DEADLINE, publisher, subscriber, slot).await
}

async fn read_within(time: Duration, publisher: &Database, subscriber: &Database, slot: &str) -> Result<(), String> {
    let role = Role::superuser();
    let (publisher, subscriber) = (catalog::connect(publisher, &role), catalog::connect(subscriber, &role));
    let (connection, name) = (publisher.config().conninfo(), catalog::ident("sharing"));
    let mut desired = Subscription::new(name, connection, [catalog::ident("given")]);
    desired.slot = Some(SlotName::Named(catalog::ident(slot)));
    let how = How { create_slot: false, ..How::default() };
    let heard = Heard::default();
    let operation = Operation::new("creating", Limits::within(time), &heard);
    let (publisher, subscriber) = (Some(&publisher), &subscriber);
    let creation = Creation { subscriber, publisher, desired: &desired, how: &how, operation: &operation };
    subscribing::prepare(creation).await.map_err(|refused| format!("{refused:?}"))?;
    subscribing::create(creation).await.map(drop).map_err(|refused| format!("{refused:?}"))
}

/// Two applies at the same moment, on one slot of the first pair's publisher. The later one is refused in these words,
/// and the other's subscription is removed again.
async fn one_gets_it([one, other]: [&Pair; 2], slot: &str, said: &str) {
    let (first, second) = tokio::join!(
        read_from(&one.publisher, &one.subscriber, slot),
        read_from(&one.publisher, &other.subscriber, slot)
    );
    let made = [subscriptions(&one.subscriber).await, subscriptions(&other.subscriber).await].concat();
    assert_eq!(made, [format!("sharing|{slot}|t")], "{first:?} {second:?}");
    let refused: Vec<_> = [&first, &second].into_iter().filter_map(|made| made.as_ref().err()).collect();
    assert!(refused.len() == 1 && refused[0].contains(said), "{first:?} {second:?}");
    let holder = if first.is_ok() { &one.subscriber } else { &other.subscriber };
    holder.sql("DROP SUBSCRIPTION sharing").await;
}

/// Two applies of two databases at the same moment: the later one withdraws, and nothing is left of it.
#[tokio::test]
async fn of_two_at_once_one_gets_the_slot() {
    let mut tries = 0;
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V14)] {
        let [one, other] = [Pair::new(from, to, "race").await, Pair::new(from, to, "race").await];
        one.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
        for number in 0..20 {
            let slot = format!("{}_{number}", one.subscriber.name);
            make_slot(&one.publisher, &slot).await;
            one_gets_it([&one, &other], &slot, "of database").await;
            tries += 1;
        }
        assert_eq!(one.slots().await, [""; 0]);
    }
    println!("two creates at once on one slot: {tries} tries");
}

/// Two subscriptions of two clusters, which cannot see each other: the publisher shows the worker of the first one.
#[tokio::test]
async fn of_two_clusters_one_gets_the_slot() {
    let mut tries = 0;
    for (from, to, beside) in [(Major::V14, Major::V18, Major::V16), (Major::V18, Major::V15, Major::V17)] {
        let [one, other] = [Pair::new(from, to, "apart").await, Pair::new(from, beside, "apart").await];
        one.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
        for number in 0..15 {
            let slot = format!("{}_{number}", one.subscriber.name);
            make_slot(&one.publisher, &slot).await;
            one_gets_it([&one, &other], &slot, "a reader is connected that calls itself \\\"sharing\\\"").await;
            tries += 1;
        }
        assert_eq!(one.slots().await, [""; 0]);
    }
    println!("two creates at once on one slot, on two clusters: {tries} tries");
}

/// A session that never releases a slot's lock prevents others from taking it; an apply says so, and creates nothing.
#[tokio::test]
async fn a_slot_that_another_apply_takes_is_waited_for() {
    let pair = Pair::new(Major::V16, Major::V17, "taken").await;
    pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
    let (slot, role) = (pair.subscriber.name.clone(), Role::superuser());
    make_slot(&pair.publisher, &slot).await;
    let publisher = catalog::connect(&pair.publisher, &role);
    let limits = Limits::within(DEADLINE);
    let name = catalog::ident(&slot);
    let taking = Taking::begin(&publisher, &name, &limits).await.unwrap().expect("the right to take the slot");
    assert!(Taking::begin(&publisher, &name, &limits).await.unwrap().is_none());
    let other = catalog::ident("another");
    Taking::begin(&publisher, &other, &limits)
        .await
        .unwrap()
        .expect("the right to another one")
        .end(&limits)
        .await
        .unwrap();
    let refused = read_within(Duration::from_secs(2), &pair.publisher, &pair.subscriber, &slot).await.unwrap_err();
    assert!(refused.contains("another apply is taking replication slot"), "{refused}");
    assert_eq!(subscriptions(&pair.subscriber).await, [""; 0]);
    // Its session ends, and the lock with it.
    drop(taking);
    read_from(&pair.publisher, &pair.subscriber, &slot).await.unwrap();
    assert_eq!(subscriptions(&pair.subscriber).await, [format!("sharing|{slot}|t")]);
    pair.subscriber.sql("DROP SUBSCRIPTION sharing").await;
    assert_eq!(pair.slots().await, [""; 0]);
}

/// Two servers where the subscription's role may create slots, but not the provider's own: so the subscriber creates
/// it.
async fn left_to_the_subscriber(from: Major, to: Major) -> Stage {
    let mut stage = Stage::new(Pair::new(from, to, "afar").await).await;
    let server = servers::shared(from);
    let [own, theirs] = [server.role("plain", "").await, server.role("replicator", "REPLICATION").await];
    stage.pair.publisher.sql(&format!("GRANT SELECT ON orders TO {}, {}", quote(&own.name), quote(&theirs.name))).await;
    let url = stage.pair.publisher.url_through(&own, stage.publisher.port());
    stage.workspace.secret(&own.password).secret(&theirs.password);
    stage.workspace.env("NEONREPL_PUBLISHER_URL", &url).env("TF_VAR_password", &theirs.password);
    let login = format!("publisher {{\n    username = \"{}\"\n    password_wo = var.password\n  }}", theirs.name);
    let variable = "variable \"password\" {\n  type = string\n  ephemeral = true\n}\n\n";
    stage.workspace.write("main.tf", &format!("{variable}{}", config(&stage.name, &login)));
    stage
}

const MAKES: &str = "CREATE SUBSCRIPTION \"neonrepl_making_";
const NAMES: &str = "ALTER SUBSCRIPTION \"neonrepl_making_";

/// A subscription that creates its own slot has a unique name until the slot exists, so a lost answer can be resolved.
#[tokio::test]
async fn what_the_subscriber_makes_says_whose_it_is() {
    let cuts = [
        (MAKES, Moment::Before, false),
        (MAKES, Moment::After, true),
        (NAMES, Moment::Before, true),
        (NAMES, Moment::After, true),
    ];
    let mut tries = 0;
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V15)] {
        for (statement, moment, is_made) in cuts {
            let stage = left_to_the_subscriber(from, to).await;
            stage.subscriber.arm(statement, moment);
            let apply = stage.workspace.spawn(&APPLY);
            stage.subscriber.reached().await;
            stage.subscriber.cut();
            let run = apply.wait().await;
            assert_eq!(run.code, Some(i32::from(!is_made)), "{statement} {moment:?} {}", run.text());
            if !is_made {
                says(&run, &["The change was not made", "may be left on the publisher"]);
                stage.expect_nothing().await;
                stage.workspace.apply().await;
            }
            stage.expect_whole_and_destroy().await;
            tries += 1;
        }
        for (statement, moment) in [(MAKES, Moment::After), (NAMES, Moment::Before)] {
            let stage = left_to_the_subscriber(from, to).await;
            stage.subscriber.arm(statement, moment);
            let apply = stage.workspace.spawn(&APPLY);
            stage.subscriber.reached().await;
            apply.kill_all().await;
            apply.wait().await;
            stage.subscriber.cut();
            stage.workspace.unlock();
            assert_eq!(recorded(&stage.workspace), 0);
            stage.workspace.apply().await;
            stage.expect_whole_and_destroy().await;
            tries += 1;
        }
    }
    println!("subscriptions whose slot the subscriber makes, cut short: {tries}");
}

/// If another session takes the name while the slot is created, it keeps it, and ours is removed with its slot.
#[tokio::test]
async fn a_name_that_is_taken_while_the_subscriber_makes_the_slot_is_the_others() {
    let stage = left_to_the_subscriber(Major::V17, Major::V16).await;
    stage.subscriber.arm(NAMES, Moment::Before);
    let apply = stage.workspace.spawn(&APPLY);
    stage.subscriber.reached().await;
    let theirs = format!(
        "CREATE SUBSCRIPTION {0} CONNECTION '{1}' PUBLICATION given WITH (slot_name = '{0}_theirs')",
        stage.name,
        stage.pair.publisher.url()
    );
    stage.pair.subscriber.sql(&theirs).await;
    stage.subscriber.release();
    let ours = apply.wait().await;
    assert_eq!(ours.code, Some(1), "{}", ours.text());
    says(&ours, &["already exists", "import it by the id"]);
    assert_eq!(recorded(&stage.workspace), 0);
    assert_eq!(subscriptions(&stage.pair.subscriber).await, [format!("{0}|{0}_theirs|t", stage.name)]);
    assert_eq!(stage.pair.slots().await, [format!("{}_theirs", stage.name)]);
    stage.pair.subscriber.sql(&format!("DROP SUBSCRIPTION {}", stage.name)).await;
    stage.expect_nothing().await;
}

/// The provider is killed with its core at each point; the remains show whose they are.
#[tokio::test]
async fn what_a_killed_apply_has_left_the_next_one_makes_whole() {
    for (from, to) in [(Major::V14, Major::V17), (Major::V18, Major::V15)] {
        for (on_publisher, statement, moment) in [
            (false, "CREATE SUBSCRIPTION", Moment::Before),
            (true, "SELECT pg_create_logical_replication_slot", Moment::Before),
            (true, "SELECT pg_create_logical_replication_slot", Moment::After),
            (false, "ALTER SUBSCRIPTION", Moment::Before),
        ] {
            let stage = Stage::new(Pair::new(from, to, "killed").await).await;
            stage.workspace.write("main.tf", &config(&stage.name, ""));
            let point = if on_publisher { &stage.publisher } else { &stage.subscriber };
            point.arm(statement, moment);
            let apply = stage.workspace.spawn(&APPLY);
            point.reached().await;
            apply.kill_all().await;
            let ended = apply.wait().await;
            assert_eq!(ended.code, None, "{}", ended.text());
            stage.publisher.cut();
            stage.subscriber.cut();
            stage.workspace.unlock();
            assert_eq!(recorded(&stage.workspace), 0, "{}", stage.workspace.state());
            stage.workspace.apply().await;
            stage.expect_whole_and_destroy().await;
        }
    }
}

/// A slot that the killed apply did not create is not its own, whatever its remains on the subscriber.
#[tokio::test]
async fn what_a_killed_apply_has_left_takes_no_slot_with_it() {
    let stage = Stage::new(Pair::new(Major::V17, Major::V18, "remains").await).await;
    stage.workspace.write("main.tf", &config(&stage.name, ""));
    stage.publisher.arm("SELECT pg_create_logical_replication_slot", Moment::Before);
    let apply = stage.workspace.spawn(&APPLY);
    stage.publisher.reached().await;
    apply.kill_all().await;
    apply.wait().await;
    stage.publisher.cut();
    stage.subscriber.cut();
    stage.workspace.unlock();
    make_slot(&stage.pair.publisher, &stage.name).await;
    let before = position(&stage.pair.publisher, &stage.name).await;
    says(&stage.workspace.apply_error().await, &["already exists"]);
    assert_eq!(position(&stage.pair.publisher, &stage.name).await, before);
    assert_eq!(subscriptions(&stage.pair.subscriber).await, [""; 0]);
    drop_slot(&stage.pair.publisher, &stage.name).await;
    stage.workspace.apply().await;
    stage.expect_whole_and_destroy().await;
}

/// If the subscriber becomes unavailable between the slot and the end, the state records the remains, and a destroy
/// removes both.
#[tokio::test]
async fn what_could_not_be_taken_back_is_recorded_and_can_be_destroyed() {
    let stage = Stage::new(Pair::new(Major::V16, Major::V17, "left").await).await;
    stage.workspace.write("main.tf", &config(&stage.name, "timeouts {\n    create = \"20s\"\n  }"));
    stage.subscriber.arm("ALTER SUBSCRIPTION", Moment::Before);
    let began = Instant::now();
    let apply = stage.workspace.spawn(&APPLY);
    stage.subscriber.reached().await;
    // It hangs until its time is over, and so does the cleanup.
    let run = apply.wait().await;
    assert_eq!(run.code, Some(1), "{}", run.text());
    assert!(began.elapsed() < Duration::from_secs(100));
    stage.subscriber.cut();
    let left = subscriptions(&stage.pair.subscriber).await;
    assert_eq!(left.len(), recorded(&stage.workspace), "{left:?} {}", run.text());
    stage.workspace.destroy().await;
    stage.expect_nothing().await;
    stage.workspace.apply().await;
    stage.expect_whole_and_destroy().await;
}

/// Disabled means that it has its tables, but nothing is copied before it is enabled.
#[tokio::test]
async fn one_that_is_made_disabled_copies_nothing_until_it_is_enabled() {
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V15)] {
        let stage = Stage::new(Pair::new(from, to, "disabled").await).await;
        stage.workspace.write("main.tf", &config(&stage.name, "enabled = false\n  two_phase = true"));
        stage.workspace.apply().await;
        stage.workspace.expect_empty_plan().await;
        let tables = "SELECT srrelid::regclass::text, srsubstate FROM pg_subscription_rel";
        assert_eq!(stage.pair.subscriber.rows(tables).await, ["orders|i"]);
        assert_eq!(stage.pair.slots().await, [stage.name.as_str()]);
        assert_eq!(stage.pair.subscriber.rows("SELECT * FROM orders").await, [""; 0]);
        let comments = "SELECT description FROM pg_description WHERE classoid = 'pg_subscription'::regclass";
        assert_eq!(stage.pair.subscriber.rows(comments).await, [""; 0]);
        stage.workspace.write("main.tf", &config(&stage.name, "two_phase = true"));
        stage.workspace.apply().await;
        stage.expect_whole_and_destroy().await;
    }
}
