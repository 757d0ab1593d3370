// SPDX-License-Identifier: MPL-2.0

//! A switch of the real resource that breaks in the middle: writers go on by themselves, and the next apply needs no
//! cleanup.

use super::{CUTOVER, Stage, cutover};
use crate::common::cli::{Core, Run, Running, does_not_say};
use crate::common::fault_point::{FaultPoint, Moment};
use crate::common::postgres::{Database, Major, Server, Settings};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// The fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// The provider is stopped, and continues once writers do (SIGSTOP, SIGCONT).
    Freeze,
    /// The provider is killed.
    Kill,
    /// The provider's connections to one side are cut.
    Cut,
    /// A person presses Ctrl-C.
    Interrupt,
}

/// A point of a switch: on the old side or on the other one, at which statement, when, and the fault. The last value
/// says whether the commit is done by then.
type Point = (bool, &'static [&'static str], Moment, Break, bool);

/// The old side.
const LEFT: bool = true;

/// The same in both cores: Ctrl-C before the commit, and after it.
const INTERRUPTS: [Point; 2] = [
    (!LEFT, &["setval"], Moment::Before, Break::Interrupt, false),
    (!LEFT, &[" DISABLE"], Moment::Before, Break::Interrupt, true),
];

/// A stage whose provider reaches both servers through points at which it can be stopped; the servers reach each other directly.
struct Broken {
    stage: Stage,
    points: [FaultPoint; 2],
}

impl Broken {
    async fn new(core: Core, from: Major, to: Major) -> Self {
        let (from, to) = (Server::start(from, Settings::new()), Server::start(to, Settings::new()));
        let pair = Pair::on(&from, &to, "cutover_broken").await;
        for database in [&pair.publisher, &pair.subscriber] {
            database.sql("CREATE TABLE tickets (id serial PRIMARY KEY, what text)").await;
        }
        let points = [FaultPoint::start(from.port()), FaultPoint::start(to.port())];
        let through = |database: &Database, point: &FaultPoint| {
            database.url().replace(&format!(":{}/", database.port), &format!(":{}/", point.port()))
        };
        let urls = [through(&pair.publisher, &points[0]), through(&pair.subscriber, &points[1])];
        let workspace = pair.workspace_with(core, &urls[0], &urls[1]).await;
        let name = pair.subscriber.name.clone();
        Self { stage: Stage { from, to, pair, workspace, name }, points }
    }

    fn write(&self, active: &str) {
        let port = |database: &Database| format!("{{\n    port = {}\n  }}", database.port);
        let reverse = format!("  reverse {}", port(&self.stage.pair.subscriber));
        let publisher = format!("  publisher {}", port(&self.stage.pair.publisher));
        self.stage.write(&publisher, &cutover(active, &reverse));
    }

    /// A switch that breaks, and the next apply. Returns the text to print.
    async fn breaks(&self, active: &str, point: &Point, row: i32) -> String {
        let stage = &self.stage;
        let (is_left, texts, moment, how, is_committed) = *point;
        self.write(active);
        let place = usize::from((active == "subscriber") != is_left);
        let at = &self.points[place];
        let (last, first) = texts.split_last().expect("a text");
        at.arm_within(first.first().unwrap_or(last), if first.is_empty() { moment } else { Moment::Before });
        let applying = stage.workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
        at.reached().await;
        if !first.is_empty() {
            at.arm_within(last, moment);
            at.release();
            at.reached().await;
        }
        let run = self.broken(applying, at, (active, how, is_committed), row).await;
        stage.workspace.unlock();
        let expected = if is_committed { active } else { other(active) };
        let now = stage.workspace.attributes(CUTOVER).await["active"].clone();
        // A core that has lost its provider keeps the previous state.
        assert!(now == expected || how == Break::Kill, "{now} after {point:?}\n{}", run.text());
        stage.workspace.apply().await;
        stage.expect_closed(other(active), "writes have moved to").await;
        stage.write_and_follow(active, row + 1).await;
        stage.workspace.expect_empty_plan().await;
        format!("{how:?} at {texts:?}, committed: {is_committed}: exit status {:?}\n", run.code)
    }

    /// Runs the command until its end, with the fault.
    async fn broken(
        &self,
        applying: Running<'_>,
        at: &FaultPoint,
        (active, how, is_committed): (&str, Break, bool),
        row: i32,
    ) -> Run {
        match how {
            Break::Freeze => self.stage.workspace.signal_providers("STOP").await,
            Break::Kill => self.stage.workspace.signal_providers("KILL").await,
            Break::Cut => at.cut(),
            Break::Interrupt => applying.interrupt().await,
        }
        if is_committed {
            at.release();
            let run = applying.wait().await;
            // It must not be created again, because the core would remove the way back first.
            does_not_say(&run, &["tainted", "untaint"]);
            return run;
        }
        // Nobody has to do anything for that.
        let left = self.database(other(active));
        let insert = format!("INSERT INTO orders VALUES ({row}, 1, 'eu')");
        wait_until("writers to go on", DEADLINE * 3, async || left.try_sql(&insert).await.is_ok()).await;
        self.stage.expect_closed(active, "").await;
        let arrived = format!("SELECT count(*) FROM orders WHERE id = {row}");
        let there = self.database(active);
        wait_until("the row to arrive", DEADLINE * 3, async || there.rows(&arrived).await == ["1"]).await;
        if how == Break::Freeze {
            self.stage.workspace.signal_providers("CONT").await;
        }
        at.release();
        let run = applying.wait().await;
        assert_ne!(run.code, Some(0), "{}", run.text());
        run
    }

    fn database(&self, side: &str) -> &Database {
        if side == "publisher" { &self.stage.pair.publisher } else { &self.stage.pair.subscriber }
    }
}

fn other(side: &str) -> &'static str {
    if side == "publisher" { "subscriber" } else { "publisher" }
}

async fn whatever_breaks(core: Core, (from, to): (Major, Major), points: &[Point]) -> String {
    let broken = Broken::new(core, from, to).await;
    let (mut active, mut lines) = ("publisher", String::new());
    // The first apply creates everything, including the cutover with its way back, and switches at once.
    let all: Vec<&Point> = points.iter().chain(&INTERRUPTS).collect();
    for (row, point) in (10..).step_by(10).zip(&all) {
        active = other(active);
        lines.push_str(&broken.breaks(active, point, row).await);
    }
    let counted = "SELECT count(*), count(DISTINCT id) FROM orders";
    let (here, there) =
        (broken.database("publisher").rows(counted).await, broken.database("subscriber").rows(counted).await);
    assert_eq!(here, there);
    format!("{lines}{} faults with {core:?}: {here:?} rows on both sides", all.len())
}

#[tokio::test]
async fn a_broken_switch_is_finished_by_the_next_apply_of_terraform() {
    let points = [
        (!LEFT, &[" DISABLE"] as &[_], Moment::Before, Break::Cut, true),
        (!LEFT, &["setval"] as &[_], Moment::After, Break::Freeze, false),
    ];
    println!("{}", whatever_breaks(Core::Terraform, (Major::V14, Major::V17), &points).await);
}

#[tokio::test]
async fn a_broken_switch_is_finished_by_the_next_apply_of_opentofu() {
    let points = [
        (LEFT, &[" ENABLE", "COMMIT"] as &[_], Moment::After, Break::Cut, true),
        (LEFT, &[" ENABLE"] as &[_], Moment::After, Break::Kill, false),
    ];
    println!("{}", whatever_breaks(Core::OpenTofu, (Major::V17, Major::V14), &points).await);
}
