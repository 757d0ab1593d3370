// SPDX-License-Identifier: MPL-2.0

//! Each statement of each kind of change, at each moment, with each fault.

use futures_util::FutureExt;

use crate::common::cli::{Run, Running};
use crate::common::fault_point::Moment;
use crate::common::postgres::{Major, Role};
use crate::common::wait::wait_until;
use crate::lane::{DEADLINE, Lane, On};
use crate::{Case, Counts};

/// The fault at the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    ServerKilled,
    CoreKilled,
    ConnectionCut,
}

impl Fault {
    const ALL: [Self; 3] = [Self::ServerKilled, Self::CoreKilled, Self::ConnectionCut];

    const fn name(self) -> &'static str {
        match self {
            Self::ServerKilled => "server killed",
            Self::CoreKilled => "core killed",
            Self::ConnectionCut => "connection cut",
        }
    }
}

/// A change from one configuration to another.
struct Change {
    kind: &'static str,
    name: &'static str,
    from: &'static str,
    /// Empty means that everything is destroyed.
    to: &'static str,
    /// The objects before and after it, in the form of [`Lane::objects`].
    before: &'static [&'static str],
    after: &'static [&'static str],
    steps: &'static [Step],
    fits: fn(Major, Major) -> bool,
}

/// A statement of the change.
struct Step {
    on: On,
    begins: &'static str,
    /// What makes it wait while it runs; none if nothing does.
    blocked_by: Option<Blocker>,
}

/// How a test makes a statement wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocker {
    /// It locks the catalog that the statement changes.
    Lock(&'static str),
    /// It leaves a transaction open that has written.
    OldTransaction,
}

const fn publication(begins: &'static str) -> Step {
    Step { on: On::Publisher, begins, blocked_by: Some(Blocker::Lock("pg_publication")) }
}

const fn comment(begins: &'static str) -> Step {
    Step { on: On::Publisher, begins, blocked_by: Some(Blocker::Lock("pg_description")) }
}

const fn subscription(begins: &'static str) -> Step {
    Step { on: On::Subscriber, begins, blocked_by: Some(Blocker::Lock("pg_subscription")) }
}

/// A statement that creates or drops a part of the destination's schema.
const fn made(begins: &'static str, catalog: &'static str) -> Step {
    Step { on: On::Subscriber, begins, blocked_by: Some(Blocker::Lock(catalog)) }
}

/// A statement that builds something on a table while others read and write it.
const fn built(begins: &'static str, table: &'static str) -> Step {
    Step { on: On::Subscriber, begins, blocked_by: Some(Blocker::Lock(table)) }
}

/// A statement that is tried for a second at a time.
const fn in_turn(begins: &'static str) -> Step {
    Step { on: On::Subscriber, begins, blocked_by: None }
}

const fn commit(on: On) -> Step {
    Step { on, begins: "COMMIT", blocked_by: None }
}

const MAKE_SLOT: Step = Step {
    on: On::Publisher,
    begins: "SELECT pg_create_logical_replication_slot",
    blocked_by: Some(Blocker::OldTransaction),
};
const DROP_SLOT: Step = Step { on: On::Publisher, begins: "SELECT pg_drop_replication_slot", blocked_by: None };

/// Removes the mark that the subscription is being created, once that is locked.
const UNMARK: Step = Step { on: On::Subscriber, begins: "COMMENT ON SUBSCRIPTION", blocked_by: None };

fn anywhere(_: Major, _: Major) -> bool {
    true
}

pub(crate) const PUBLICATION: &str = r#"resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["orders"]
}
"#;

pub(crate) const SLOT: &str = r#"resource "neonrepl_replication_slot" "shop" {
  name = "shop"
}
"#;

pub(crate) const SUBSCRIPTION: &str = r#"resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = ["given"]
}
"#;

const READ_PUBLICATION: &str = r#"resource "neonrepl_publication" "shop" {
  name   = "shop"
  tables = ["orders"]
}

resource "neonrepl_subscription" "shop" {
  name         = "shop"
  publications = [neonrepl_publication.shop.name]
}
"#;

const IDENTITY: &str =
    "resource \"neonrepl_replica_identity\" \"shop\" {\n  table = \"orders\"\n  identity = \"full\"\n}\n";

pub(crate) const DESTINATION: &str = r#"resource "neonrepl_destination_schema" "shop" {
  tables          = ["mall.goods"]
  drop_on_destroy = true
}
"#;

const MADE: &[&str] = &["made goods,mall,mood"];

pub(crate) const BOTH_TABLES: &str = r#"resource "neonrepl_destination_schema" "shop" {
  tables          = ["mall.goods", "mall.lines"]
  drop_on_destroy = true
}
"#;

pub(crate) const INDEXED: &str = r#"resource "neonrepl_destination_schema" "shop" {
  tables          = ["mall.goods", "mall.lines"]
  drop_on_destroy = true
}

resource "neonrepl_destination_indexes" "shop" {
  tables     = ["mall.goods", "mall.lines"]
  depends_on = [neonrepl_destination_schema.shop]
}
"#;

const BOTH_MADE: &[&str] = &["made goods,lines,mall,mood"];
pub(crate) const BOTH_INDEXED: &[&str] = &["made goods,lines,mall,mood", "late goods_mood,goods_stats,lines_good"];

const SHOP: &[&str] = &["publication shop orders of postgres"];
const SUBSCRIBED: &[&str] = &["slot shop", "subscription shop given of postgres"];

const CHANGES: &[Change] = &[
    Change {
        kind: "publication",
        name: "create",
        from: "",
        to: PUBLICATION,
        before: &[],
        after: SHOP,
        steps: &[publication("CREATE PUBLICATION")],
        fits: anywhere,
    },
    Change {
        kind: "publication",
        name: "create for an owner",
        from: "",
        to: "resource \"neonrepl_publication\" \"shop\" {\n  name = \"shop\"\n  tables = [\"orders\"]\n  owner = \"keeper\"\n}\n",
        before: &[],
        after: &["publication shop orders of keeper"],
        steps: &[publication("CREATE PUBLICATION"), publication("ALTER PUBLICATION"), commit(On::Publisher)],
        fits: anywhere,
    },
    Change {
        kind: "publication",
        name: "add a table",
        from: PUBLICATION,
        to: "resource \"neonrepl_publication\" \"shop\" {\n  name = \"shop\"\n  tables = [\"orders\", \"customers\"]\n}\n",
        before: SHOP,
        after: &["publication shop customers,orders of postgres"],
        steps: &[publication("ALTER PUBLICATION \"shop\" ADD")],
        fits: anywhere,
    },
    Change {
        kind: "publication",
        name: "rename and change all",
        from: PUBLICATION,
        to: "resource \"neonrepl_publication\" \"shop\" {\n  name = \"mall\"\n  tables = [\"customers\"]\n  publish = [\"insert\"]\n  \
             owner = \"keeper\"\n}\n",
        before: SHOP,
        after: &["publication mall customers without delete of keeper"],
        steps: &[
            publication("ALTER PUBLICATION \"shop\" RENAME"),
            publication("ALTER PUBLICATION \"mall\" SET TABLE"),
            publication("ALTER PUBLICATION \"mall\" SET (publish"),
            publication("ALTER PUBLICATION \"mall\" OWNER"),
            commit(On::Publisher),
        ],
        fits: anywhere,
    },
    Change {
        kind: "publication",
        name: "rename under a subscription",
        from: READ_PUBLICATION,
        to: "resource \"neonrepl_publication\" \"shop\" {\n  name = \"mall\"\n  tables = [\"orders\"]\n}\n\n\
             resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [neonrepl_publication.shop.name]\n}\n",
        before: &["publication shop orders of postgres", "slot shop", "subscription shop shop of postgres"],
        after: &["publication mall orders of postgres", "slot shop", "subscription shop mall of postgres"],
        steps: &[
            publication("CREATE PUBLICATION \"mall\""),
            comment("COMMENT ON PUBLICATION \"mall\" IS 'terraform"),
            subscription("ALTER SUBSCRIPTION \"shop\" SET PUBLICATION"),
            publication("DROP PUBLICATION \"shop\""),
            comment("COMMENT ON PUBLICATION \"mall\" IS NULL"),
        ],
        fits: anywhere,
    },
    Change {
        kind: "publication",
        name: "list to all tables",
        from: PUBLICATION,
        to: "resource \"neonrepl_publication\" \"shop\" {\n  name = \"shop\"\n  all_tables = true\n}\n",
        before: SHOP,
        after: &["publication shop all tables of postgres"],
        steps: &[
            publication("DROP PUBLICATION"),
            publication("CREATE PUBLICATION"),
            publication("ALTER PUBLICATION"),
            commit(On::Publisher),
        ],
        fits: anywhere,
    },
    Change {
        kind: "publication",
        name: "destroy",
        from: PUBLICATION,
        to: "",
        before: SHOP,
        after: &[],
        steps: &[publication("DROP PUBLICATION")],
        fits: anywhere,
    },
    Change {
        kind: "replication slot",
        name: "create",
        from: "",
        to: SLOT,
        before: &[],
        after: &["slot shop"],
        steps: &[MAKE_SLOT],
        fits: anywhere,
    },
    Change {
        kind: "replication slot",
        name: "make a new one",
        from: SLOT,
        to: "resource \"neonrepl_replication_slot\" \"shop\" {\n  name = \"shop\"\n  plugin = \"test_decoding\"\n}\n",
        before: &["slot shop"],
        after: &["slot shop test_decoding"],
        steps: &[DROP_SLOT, MAKE_SLOT],
        fits: anywhere,
    },
    Change {
        kind: "replication slot",
        name: "set failover",
        from: SLOT,
        to: "resource \"neonrepl_replication_slot\" \"shop\" {\n  name = \"shop\"\n  failover = true\n}\n",
        before: &["slot shop"],
        after: &["slot shop failover"],
        steps: &[Step { on: On::Publisher, begins: "ALTER_REPLICATION_SLOT", blocked_by: None }],
        fits: |publisher, _| publisher >= Major::V17,
    },
    Change {
        kind: "replication slot",
        name: "destroy",
        from: SLOT,
        to: "",
        before: &["slot shop"],
        after: &[],
        steps: &[DROP_SLOT],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "create",
        from: "",
        to: SUBSCRIPTION,
        before: &[],
        after: SUBSCRIBED,
        steps: &[MAKE_SLOT],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "begin to create",
        from: "",
        to: SUBSCRIPTION,
        before: &[],
        after: SUBSCRIBED,
        steps: &[subscription("CREATE SUBSCRIPTION"), commit(On::Subscriber)],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "end to create",
        from: "",
        to: SUBSCRIPTION,
        before: &[],
        after: SUBSCRIBED,
        steps: &[subscription("ALTER SUBSCRIPTION \"shop\" ENABLE"), UNMARK],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "create for an owner",
        from: "",
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\"]\n  owner = \"keeper\"\n}\n",
        before: &[],
        after: &["slot shop", "subscription shop given of keeper"],
        steps: &[subscription("ALTER SUBSCRIPTION \"shop\" OWNER"), commit(On::Subscriber)],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "set an option",
        from: SUBSCRIPTION,
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\"]\n  binary = true\n}\n",
        before: SUBSCRIBED,
        after: &["slot shop", "subscription shop given binary of postgres"],
        steps: &[subscription("ALTER SUBSCRIPTION \"shop\" SET")],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "rename, disable and give away",
        from: SUBSCRIPTION,
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"mall\"\n  publications = [\"given\"]\n  slot_name = \"shop\"\n  \
             enabled = false\n  owner = \"keeper\"\n}\n",
        before: SUBSCRIBED,
        after: &["slot shop", "subscription mall disabled given of keeper"],
        steps: &[
            subscription("ALTER SUBSCRIPTION \"shop\" RENAME"),
            subscription("ALTER SUBSCRIPTION \"mall\" DISABLE"),
            subscription("ALTER SUBSCRIPTION \"mall\" OWNER"),
            commit(On::Subscriber),
        ],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "send the connection again",
        from: SUBSCRIPTION,
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\"]\n  connection_version = 2\n}\n",
        before: SUBSCRIBED,
        after: SUBSCRIBED,
        steps: &[subscription("ALTER SUBSCRIPTION \"shop\" CONNECTION")],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "add a publication",
        from: SUBSCRIPTION,
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\", \"given_too\"]\n}\n",
        before: SUBSCRIBED,
        after: &["slot shop", "subscription shop given,given_too of postgres"],
        steps: &[subscription("ALTER SUBSCRIPTION \"shop\" ADD PUBLICATION")],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "refresh",
        from: SUBSCRIPTION,
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\"]\n  refresh_triggers = { a = \"b\" }\n}\n",
        before: SUBSCRIBED,
        after: SUBSCRIBED,
        steps: &[subscription("ALTER SUBSCRIPTION \"shop\" REFRESH")],
        fits: anywhere,
    },
    Change {
        kind: "subscription",
        name: "set what needs it disabled",
        from: SUBSCRIPTION,
        to: "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"given\"]\n  failover = true\n}\n",
        before: SUBSCRIBED,
        after: &["slot shop failover", "subscription shop given failover of postgres"],
        steps: &[
            subscription("ALTER SUBSCRIPTION \"shop\" DISABLE"),
            subscription("ALTER SUBSCRIPTION \"shop\" SET (failover"),
            subscription("ALTER SUBSCRIPTION \"shop\" ENABLE"),
        ],
        fits: |publisher, subscriber| publisher >= Major::V17 && subscriber >= Major::V17,
    },
    Change {
        kind: "subscription",
        name: "destroy",
        from: SUBSCRIPTION,
        to: "",
        before: SUBSCRIBED,
        after: &[],
        steps: &[subscription("DROP SUBSCRIPTION")],
        fits: anywhere,
    },
    Change {
        kind: "replica identity",
        name: "create",
        from: "",
        to: IDENTITY,
        before: &[],
        after: &["replica identity orders f"],
        steps: &[
            Step { on: On::Publisher, begins: "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY", blocked_by: None },
            commit(On::Publisher),
        ],
        fits: anywhere,
    },
    Change {
        kind: "destination schema",
        name: "create",
        from: "",
        to: DESTINATION,
        before: &[],
        after: MADE,
        steps: &[
            made("CREATE SCHEMA", "pg_namespace"),
            made("CREATE TYPE", "pg_enum"),
            made("CREATE TABLE", "pg_attribute"),
            commit(On::Subscriber),
        ],
        fits: anywhere,
    },
    Change {
        kind: "destination schema",
        name: "destroy",
        from: DESTINATION,
        to: "",
        before: MADE,
        after: &[],
        steps: &[built("LOCK TABLE", "mall.goods"), made("DROP TABLE", "pg_class"), commit(On::Subscriber)],
        fits: anywhere,
    },
    Change {
        kind: "destination indexes",
        name: "create",
        from: BOTH_TABLES,
        to: INDEXED,
        before: BOTH_MADE,
        after: BOTH_INDEXED,
        steps: &[
            built("CREATE INDEX CONCURRENTLY", "mall.goods"),
            in_turn("ALTER TABLE \"mall\".\"lines\" ADD CONSTRAINT"),
            built("ALTER TABLE \"mall\".\"lines\" VALIDATE", "mall.lines"),
            in_turn("CREATE STATISTICS"),
            in_turn("ANALYZE \"mall\".\"goods\""),
        ],
        fits: anywhere,
    },
];

pub(crate) fn cases() -> Vec<Case> {
    let steps = CHANGES.iter().flat_map(|change| change.steps.iter().map(move |step| (change, step)));
    let cases = steps.flat_map(|(change, step)| {
        let moments = Moment::ALL.into_iter().filter(|moment| step.has(*moment, change.is_within_transaction(step)));
        let faults = move |moment| Fault::ALL.into_iter().map(move |fault| (moment, fault));
        // Within a transaction, a cut connection is like a killed server: nothing of it stays.
        let tried = move |fault| fault != Fault::ConnectionCut || !change.is_within_transaction(step);
        moments
            .flat_map(faults)
            .filter(move |(_, fault)| tried(*fault))
            .map(move |(moment, fault)| case(change, step, moment, fault))
    });
    cases.collect()
}

impl Change {
    /// Whether it moves a subscription, which the state only shows after the next plan, and creates one publication
    /// beside the other until it is done.
    fn leads_over(&self) -> bool {
        self.kind == "publication" && self.steps.iter().any(|step| step.on == On::Subscriber)
    }

    /// Whether more steps follow before this one is committed.
    fn is_within_transaction(&self, step: &Step) -> bool {
        step.begins != "COMMIT" && self.steps.iter().any(|other| other.begins == "COMMIT")
    }
}

impl Step {
    /// Whether there is such a moment: not every statement waits, and within a transaction "after" is the same as
    /// "before" the next.
    fn has(&self, moment: Moment, is_within_transaction: bool) -> bool {
        match moment {
            Moment::Before => true,
            Moment::During => self.blocked_by.is_some(),
            Moment::After => !is_within_transaction,
        }
    }
}

fn case(change: &'static Change, step: &'static Step, moment: Moment, fault: Fault) -> Case {
    let statement = format!("{}: {}", change.name, step.begins);
    Case {
        columns: [change.kind.to_owned(), statement, moment.name().to_owned(), fault.name().to_owned()],
        counts: Counts::Fault,
        fits: change.fits,
        run: Box::new(move |lane| attempt(lane, change, step, moment, fault).boxed_local()),
    }
}

/// One case from nothing to nothing.
async fn attempt(lane: &mut Lane, change: &Change, step: &Step, moment: Moment, fault: Fault) -> String {
    if !change.from.is_empty() {
        lane.apply(change.from).await;
        lane.wait_for_quiet().await;
    }
    assert_eq!(lane.objects().await, change.before);
    lane.configure(change.to);
    let blocker = (moment == Moment::During).then_some(step.blocked_by).flatten();
    lane.side(step.on).point.arm(step.begins, if blocker.is_some() { Moment::Before } else { moment });
    let workspace = &lane.workspace;
    let running = workspace.spawn(&Lane::command(change.to));
    let side = match step.on {
        On::Publisher => &mut lane.publisher,
        On::Subscriber => &mut lane.subscriber,
    };
    side.point.reached().await;
    let mut held = match blocker {
        Some(blocker) => {
            let client = side.database.connect_as(&Role::superuser()).await.unwrap();
            let block = match blocker {
                Blocker::Lock(catalog) => format!("BEGIN; LOCK TABLE {catalog} IN EXCLUSIVE MODE"),
                Blocker::OldTransaction => "BEGIN; SELECT pg_current_xact_id()".to_owned(),
            };
            client.batch_execute(&block).await.unwrap();
            side.point.release_to(Moment::During);
            Some((client, side.wait_for_blocked(step.begins).await))
        }
        None => None,
    };
    let run = match fault {
        Fault::ServerKilled => {
            side.crash();
            running.wait().await
        }
        Fault::ConnectionCut => {
            side.point.cut();
            if let Some((client, process)) = held.take() {
                // Ends a statement that still runs, so that it is not done later.
                side.wait_for_end(process).await;
                drop(client);
            }
            running.wait().await
        }
        Fault::CoreKilled => kill_core(running, side, moment).await,
    };
    if fault == Fault::CoreKilled {
        // Its provider ends by itself, even while it waits.
        wait_until("the provider to end", DEADLINE, async || lane.workspace.providers() == 0).await;
    }
    drop(held);
    lane.wait_for_quiet().await;
    let now = lane.objects().await;
    if fault == Fault::CoreKilled {
        finish_after_core(lane, change, &now).await
    } else {
        finish(lane, change, &run, &now).await
    }
}

/// Kills the core. Before the statement, its provider loses the connection too; later the provider gets the result.
async fn kill_core(running: Running<'_>, side: &crate::lane::Side, moment: Moment) -> Run {
    running.kill().await;
    match moment {
        Moment::Before => side.point.cut(),
        Moment::During | Moment::After => side.point.release(),
    }
    running.wait().await
}

/// The core lives, so the state has the actual objects, and the next apply does the rest.
async fn finish(lane: &Lane, change: &Change, run: &Run, now: &[String]) -> String {
    let is_done = now == change.after;
    // Objects that are created after the copy belong to the tables: the state only lists them.
    let is_own =
        |line: &&String| !line.starts_with("late ") && (change.kind != "subscription" || !line.starts_with("slot"));
    let kept: Vec<_> = now.iter().filter(is_own).collect();
    if !change.leads_over() {
        assert_eq!(lane.state().iter().collect::<Vec<_>>(), kept, "the state is true");
    }
    if run.code != Some(0) {
        lane.apply(change.to).await;
    }
    end(lane, change).await;
    match (run.code, is_done) {
        (Some(0), true) => "the apply noticed, and is done".to_owned(),
        (Some(1), true) => "done, and the state knows; the next apply says so".to_owned(),
        (Some(1), false) => "the next apply did what was left".to_owned(),
        other => panic!("{other:?} in {}", run.text()),
    }
}

/// The core is gone with its knowledge: the next one finds the objects, or says how to import them.
async fn finish_after_core(lane: &Lane, change: &Change, now: &[String]) -> String {
    lane.configure(change.to);
    let again = lane.workspace.run(&Lane::command(change.to)).await;
    let came = if again.code == Some(0) && now == change.after {
        "the next apply found it done"
    } else if again.code == Some(0) {
        "the next apply did what was left"
    } else {
        assert_eq!(now, change.after, "{}", again.text());
        let told = again.flat();
        let (_, id) = told.split_once("To manage the one that exists, import it by the id \"").expect(&told);
        let (id, _) = id.split_once('"').expect(&told);
        lane.workspace
            .import(&format!("neonrepl_{}.shop", change.kind.replace("replication slot", "replication_slot")), id)
            .await;
        lane.apply(change.to).await;
        "it exists; the next apply names the id to import"
    };
    end(lane, change).await;
    came.to_owned()
}

/// The change is done, and then everything is destroyed.
async fn end(lane: &Lane, change: &Change) {
    lane.wait_for_quiet().await;
    assert_eq!(lane.objects().await, change.after);
    if change.to.is_empty() {
        return lane.expect_nothing().await;
    }
    lane.apply("").await;
    lane.take_back_what_was_made().await;
    lane.expect_nothing().await;
}
