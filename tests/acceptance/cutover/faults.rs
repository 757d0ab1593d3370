// SPDX-License-Identifier: MPL-2.0

//! Any fault at any step: writers go on, the guard stays, and the next call needs no cleanup.

use std::time::Duration;

use neonrepl::postgres::Limits;
use neonrepl::replication::cutover::{self, Outcome};
use neonrepl::replication::{self, Operation, Pair, Place};

use super::writers::Writers;
use super::{Heard, Shop, Tally};
use crate::catalog::config;
use crate::common::fault_point::{FaultPoint, Moment};
use crate::common::postgres::{Database, Major, Role, Server, Stop, settings};
use crate::common::wait::wait_until;
use crate::replication::DEADLINE;

/// The server of the provider's statement, seen from the side that writes leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Left,
    Next,
}

/// The fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// All connections of the provider to that server.
    Cut,
    /// The server is stopped immediately, and started again.
    Crash,
    /// The call itself is dropped, as if the provider were killed.
    Kill,
    /// The worker that applies is ended.
    Worker,
}

/// The points of a switch, by the sent statement: where, what, when. If the statement occurs more than once, an earlier
/// text comes first.
const POINTS: [(At, &str, &str, Moment, Break); 19] = [
    (At::Next, "", "synchronous_commit = 'on'", Moment::After, Break::Kill),
    (At::Left, "", "IN SHARE ROW EXCLUSIVE MODE", Moment::Before, Break::Cut),
    (At::Left, "", "IN SHARE ROW EXCLUSIVE MODE", Moment::After, Break::Cut),
    (At::Left, "", "ERRCODE = ''25006''", Moment::After, Break::Kill),
    (At::Left, "pg_current_xact_id", "pg_logical_emit_message", Moment::Before, Break::Cut),
    (At::Left, "pg_current_xact_id", "pg_logical_emit_message", Moment::After, Break::Crash),
    (At::Left, "pg_current_xact_id", "pg_logical_emit_message", Moment::Before, Break::Worker),
    (At::Next, "", "count(*)", Moment::After, Break::Cut),
    (At::Next, "", "setval", Moment::After, Break::Kill),
    (At::Next, "", "pg_create_logical_replication_slot", Moment::After, Break::Cut),
    (At::Next, "", "pg_create_logical_replication_slot", Moment::After, Break::Crash),
    (At::Left, "", " ENABLE", Moment::After, Break::Kill),
    (At::Left, " ENABLE", "COMMIT", Moment::Before, Break::Cut),
    (At::Left, " ENABLE", "COMMIT", Moment::After, Break::Cut),
    (At::Left, " ENABLE", "COMMIT", Moment::After, Break::Crash),
    (At::Next, "", " DISABLE", Moment::Before, Break::Kill),
    (At::Next, "", " DISABLE", Moment::After, Break::Kill),
    (At::Next, "", "BEGIN RETURN NULL", Moment::Before, Break::Crash),
    (At::Next, "", "slot_name = NONE", Moment::After, Break::Kill),
];

/// Each point once, and for a long run `FAULTS` in all, the others by chance from `SEED` on.
fn points() -> Vec<(At, &'static str, &'static str, Moment, Break)> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = number("FAULTS").and_then(|count| usize::try_from(count).ok()).unwrap_or(POINTS.len());
    // A linear congruential generator, with the factors of MMIX.
    let chance = std::iter::successors(Some(number("SEED").unwrap_or(1)), |last| {
        Some(last.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    });
    let at = chance.skip(1).map(|number| usize::try_from(number >> 33).unwrap_or_default() % POINTS.len());
    (0..POINTS.len()).chain(at).take(count.max(POINTS.len())).map(|at| POINTS[at]).collect()
}

/// The provider's connections to both servers.
struct Lanes {
    points: [FaultPoint; 2],
}

impl Lanes {
    fn to(servers: &[Server; 2]) -> Self {
        Self { points: [FaultPoint::start(servers[0].port()), FaultPoint::start(servers[1].port())] }
    }

    fn point(&self, place: Place) -> &FaultPoint {
        &self.points[usize::from(place == Place::Subscriber)]
    }

    /// A provider that has not connected yet.
    fn pair(&self, shop: &Shop) -> Pair {
        let through = |database: &Database, role: &Role, point: &FaultPoint| {
            let mut config = config(database, role);
            config.port = point.port();
            neonrepl::postgres::Server::new(config).database(None)
        };
        Pair {
            publisher: through(&shop.from, &shop.movers[0], &self.points[0]),
            subscriber: through(&shop.to, &shop.movers[1], &self.points[1]),
        }
    }
}

/// A call that breaks at a point. None if it was killed.
async fn broken(
    shop: &Shop,
    (lanes, servers): (&Lanes, &mut [Server; 2]),
    active: Place,
    (at, first, then, moment, how): (At, &str, &str, Moment, Break),
) -> Option<replication::Result<Outcome>> {
    let left = active.other();
    let place = if at == At::Left { left } else { active };
    let point = lanes.point(place);
    let pair = lanes.pair(shop);
    let cutover = shop.cutover(active);
    let heard = Heard::default();
    let operation = Operation::new("cutting over", Limits::within(5 * DEADLINE), &heard);
    match first {
        "" => point.arm_within(then, moment),
        first => point.arm_within(first, Moment::Before),
    }
    let mut call = Box::pin(cutover::run(&pair, &cutover, &operation));
    let reached = async {
        point.reached().await;
        if !first.is_empty() {
            point.arm_within(then, moment);
            point.release();
            point.reached().await;
        }
    };
    tokio::select! {
        result = &mut call => panic!("it ended before {then} was sent: {result:?}"),
        () = reached => {}
    }
    match how {
        Break::Cut => point.cut(),
        Break::Kill => {
            drop(call);
            lanes.points.iter().for_each(FaultPoint::cut);
            return None;
        }
        Break::Crash => {
            let server = &mut servers[usize::from(place == Place::Subscriber)];
            server.stop(Stop::Immediate);
            point.cut();
            server.restart(settings([]));
        }
        Break::Worker => {
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_subscription WHERE pid IS NOT NULL";
            shop.database(active).value::<i64>(end).await;
            point.release();
        }
    }
    Some(call.await)
}

/// Whether writers make progress, or wait for the end of a committed switch.
async fn writers_go_on(shop: &Shop, writers: &Writers, active: Place) -> bool {
    let before = writers.committed();
    let unfinished = async || {
        let read = cutover::read(&shop.pair, &shop.cutover(active), &shop.operation()).await;
        read.is_ok_and(|found| found.is_some_and(|found| found.is_unfinished))
    };
    let mut waits = false;
    wait_until("writers to go on, or a switch to be left in the middle", 3 * DEADLINE, async || {
        waits = writers.committed() <= before + 10 && unfinished().await;
        waits || writers.committed() > before + 10
    })
    .await;
    waits
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_at_whatever_step_the_next_call_finishes_it() {
    let durable = || settings([("synchronous_commit", "on")]);
    let mut servers = [Server::start(Major::V17, durable()), Server::start(Major::V15, durable())];
    let shop = Shop::new(&servers[0], &servers[1]).await;
    let lanes = Lanes::to(&servers);
    shop.switch(Place::Publisher).await;
    let writers = shop.writers();
    let mut active = Place::Publisher;
    let (mut failed, mut waited) = (0, 0);
    let points = points();
    for &point in &points {
        writers.progress(writers.committed() + 20).await;
        active = active.other();
        let result = broken(&shop, (&lanes, &mut servers), active, point).await;
        let result = result.map(|result| result.map(|outcome| outcome.active));
        failed += usize::from(!matches!(result, Some(Ok(_))));
        waited += usize::from(writers_go_on(&shop, &writers, active).await);
        let outcome = cutover::run(&lanes.pair(&shop), &shop.cutover(active), &shop.operation()).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("after {point:?}, which said {result:?}: {error}"));
        assert_eq!((outcome.active, outcome.is_unfinished), (active, false), "{point:?}");
        leaves_nothing(&shop, active, point.2).await;
    }
    let tally = writers.stop().await;
    let proof = shop.prove(active, &tally).await;
    println!(
        "{} faults, {failed} calls failed, {waited} left in the middle: {proof}, unknown {}",
        points.len(),
        tally.unknown.len()
    );
}

/// The stream from the active side runs, the stream to it is stopped without a slot, and no setting of a switch is
/// left.
async fn leaves_nothing(shop: &Shop, active: Place, after: &str) {
    let other = active.other();
    let streams = "SELECT string_agg(concat(subname, ' ', subenabled, ' ', subsynccommit, ' ', subslotname IS NOT NULL), ', ') \
        FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()";
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
    let name = |place| if place == Place::Subscriber { "shop" } else { "neonrepl_back_shop" };
    let here = shop.database(active).value::<String>(streams).await;
    assert_eq!(here, format!("{} f off f", name(active)), "after {after}");
    let there = shop.database(other).value::<String>(streams).await;
    assert_eq!(there, format!("{} t off t", name(other)), "after {after}");
    assert_eq!(shop.database(active).value::<i64>(slots).await, 1, "after {after}");
    assert_eq!(shop.database(other).value::<i64>(slots).await, 0, "after {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_the_way_is_named_and_ended_only_where_that_is_wanted() {
    let prepared = || settings([("max_prepared_transactions", "5")]);
    let servers = [Server::start(Major::V14, prepared()), Server::start(Major::V18, prepared())];
    let shop = Shop::new(&servers[0], &servers[1]).await;
    shop.switch(Place::Publisher).await;
    let mut cutover = shop.cutover(Place::Subscriber);

    // A session that writes and does not end is named, not ended, and nobody waits long behind it.
    let holder = shop.from.connect_as(&shop.apps[0]).await.unwrap();
    holder
        .batch_execute("SET application_name = 'the report'; BEGIN; INSERT INTO orders (writer, n) VALUES (7, 1)")
        .await
        .unwrap();
    let operation = Operation::new("cutting over", Limits::within(Duration::from_secs(8)), &shop.heard);
    let error = cutover::run(&shop.pair, &cutover, &operation).await.unwrap_err().to_string();
    assert!(error.contains("the report") && error.contains("writers go on"), "{error}");
    assert!(shop.heard.all().contains("the report"), "{}", shop.heard.all());
    holder.batch_execute("INSERT INTO items (writer, n) VALUES (7, 1); COMMIT").await.unwrap();

    // A prepared transaction is found before anything is tried.
    holder
        .batch_execute("BEGIN; INSERT INTO orders (writer, n) VALUES (7, 2); PREPARE TRANSACTION 'half'")
        .await
        .unwrap();
    let error = shop.run(&cutover).await.unwrap_err().to_string();
    assert!(error.contains("ROLLBACK PREPARED 'half'"), "{error}");
    shop.from.sql("ROLLBACK PREPARED 'half'").await;

    // It is ended if configured. Its acknowledged commits are there.
    holder.batch_execute("BEGIN; INSERT INTO orders (writer, n) VALUES (7, 3)").await.unwrap();
    cutover.terms.end_blockers_after = Some(Duration::from_secs(1));
    let outcome = shop.run(&cutover).await.unwrap();
    assert_eq!(outcome.active, Place::Subscriber);
    assert!(holder.batch_execute("COMMIT").await.is_err());
    let tally = Tally { acknowledged: ["7 1".to_owned()].into(), ..Tally::default() };
    println!("{}", shop.prove(Place::Subscriber, &tally).await);

    // A call that waits for its turn finds that nothing is left to do.
    let back = shop.cutover(Place::Publisher);
    let operation = shop.operation();
    let twins = futures_util::future::join(
        cutover::run(&shop.pair, &back, &operation),
        cutover::run(&shop.pair, &back, &operation),
    );
    let (one, other) = Box::pin(twins).await;
    let switched = [one.unwrap(), other.unwrap()].map(|outcome| (outcome.active, outcome.has_switched));
    assert!(switched.iter().all(|(active, _)| *active == Place::Publisher), "{switched:?}");
    assert_eq!(switched.iter().filter(|(_, has)| *has).count(), 1, "{switched:?}");

    // Removal drops everything, and everybody may write on the active side. The old side stays closed.
    shop.switch(Place::Subscriber).await;
    let left =
        cutover::take_away(&shop.pair, &shop.cutover(Place::Subscriber), false, &shop.operation()).await.unwrap();
    let (closed, statements) = left.closed.unwrap();
    assert_eq!(closed, Place::Publisher);
    let refused = shop
        .from
        .connect_as(&shop.apps[0])
        .await
        .unwrap()
        .batch_execute("INSERT INTO orders (writer, n) VALUES (8, 1)")
        .await;
    assert!(refused.is_err());
    let owner = shop.from.connect_as(&shop.movers[0]).await.unwrap();
    for statement in statements {
        owner.batch_execute(&statement).await.unwrap();
    }
    for (database, app) in [(&shop.from, &shop.apps[0]), (&shop.to, &shop.apps[1])] {
        database
            .connect_as(app)
            .await
            .unwrap()
            .batch_execute("INSERT INTO orders (writer, n) VALUES (8, 2)")
            .await
            .unwrap();
        let made =
            "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'neonrepl'";
        assert_eq!(database.value::<i64>(made).await, 0);
    }
    let left = "SELECT (SELECT count(*) FROM pg_publication WHERE pubname LIKE 'neonrepl%') + (SELECT count(*) FROM pg_replication_slots)";
    assert_eq!(shop.to.value::<i64>(left).await, 0);
}
