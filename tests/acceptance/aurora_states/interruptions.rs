// SPDX-License-Identifier: MPL-2.0

//! Ctrl-C at any point: the record is true, and the next apply continues without doing anything twice.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use neonrepl::rds::Kind;
use neonrepl::rds::logical_replication::{LogicalReplication, Reboot, Record};
use tokio_util::sync::CancellationToken;

use super::{
    AT_A_TIME, ATTACH, COPY, CREATE, DEADLINE, DEFAULT, REBOOT, With, World, on_group, print_table, shop, short,
};
use crate::common::aurora::{Call, ClusterConfig, Delays};
use crate::common::wait::wait_until;

/// The desired states of a cluster, one after the other.
struct Story {
    name: &'static str,
    cluster: ClusterConfig,
    desires: Vec<LogicalReplication>,
}

fn stories() -> [Story; 3] {
    let mut whole = LogicalReplication::new("shop");
    whole.parameters.insert("max_replication_slots".to_owned(), "33".to_owned());
    whole.tags.insert("team".to_owned(), "orders".to_owned());
    let plain = LogicalReplication::new("shop");
    let renamed = LogicalReplication { parameter_group_name: Some("mine".to_owned()), ..plain.clone() };
    [
        Story {
            name: "a group of its own, readers too",
            cluster: shop().readers(1),
            desires: vec![LogicalReplication { reboot: Reboot::All, ..whole }],
        },
        Story { name: "a custom group, edited in place", cluster: on_group("theirs"), desires: vec![plain.clone()] },
        Story {
            name: "a custom group, left for another one",
            cluster: on_group("theirs"),
            desires: vec![plain, renamed],
        },
    ]
}

impl Story {
    /// The world before the last desired state, and the record so far.
    async fn begin(&self) -> (World, Record) {
        let world = World::new(vec![self.cluster.clone()], short()).await;
        let mut record = Record::default();
        for desired in &self.desires[..self.desires.len() - 1] {
            world.apply(&With::new(desired), &mut record).await.unwrap();
        }
        world.forget_calls();
        (world, record)
    }

    fn last(&self) -> &LogicalReplication {
        self.desires.last().expect("a wish")
    }

    /// The calls without an interruption, and those that change something.
    async fn undisturbed(&self) -> (Vec<Call>, Vec<String>) {
        let (world, mut record) = self.begin().await;
        world.apply(&With::new(self.last()), &mut record).await.unwrap();
        (world.calls(), world.done())
    }

    async fn cut_off(&self, at: usize, expected: &[String]) -> bool {
        let (world, mut record) = self.begin().await;
        let token = CancellationToken::new();
        world.cancel_at(at, token.clone());
        let with = With { token, ..With::new(self.last()) };
        let ended = world.apply(&with, &mut record).await;
        let place = format!("{}, cut off at call {at}", self.name);
        let was_cut = ended.as_ref().is_err_and(|error| error.kind == Kind::Cancelled);
        assert!(was_cut || ended.is_ok(), "{place}: {}", ended.unwrap_err());

        let resumed = world.apply(&With::new(self.last()), &mut record).await;
        let applied = resumed.unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(!applied.current.is_reboot_pending(), "{place}");
        for action in [CREATE, COPY, ATTACH, REBOOT] {
            let count = |calls: &[String]| calls.iter().filter(|call| *call == action).count();
            assert_eq!(
                count(&world.done()),
                count(expected),
                "{place}: {action} in {:?}",
                world.calls().into_iter().map(|call| call.action).collect::<Vec<_>>()
            );
        }
        self.give_back(&world, &record, &place).await;
        was_cut
    }

    async fn give_back(&self, world: &World, record: &Record, place: &str) {
        let undone = world.destroy(&With::new(self.last()), record, Reboot::Never).await;
        undone.unwrap_or_else(|error| panic!("{place}: {error}"));
        let before = self.cluster.parameter_group.as_deref().unwrap_or(DEFAULT);
        assert_eq!(world.attached_group("shop"), before, "{place}");
        let theirs: Vec<_> = self.cluster.parameter_group.iter().cloned().collect();
        assert_eq!(world.custom_groups(), theirs, "{place}");
        assert_eq!(world.parameter(before, "rds.logical_replication"), None, "{place}");
    }
}

/// Every call that changes something, the one after it, and every third of those that only read: during a wait,
/// they are all alike.
fn worth_cutting(calls: &[Call]) -> Vec<usize> {
    let is_change = |at: usize| calls.get(at).is_some_and(Call::changes_something);
    (1..=calls.len()).filter(|at| is_change(at - 1) || *at > 1 && is_change(at - 2) || at % 3 == 0).collect()
}

#[tokio::test]
async fn an_apply_is_cut_off_anywhere() {
    let mut rows = Vec::new();
    for story in stories() {
        let (calls, expected) = story.undisturbed().await;
        let places = worth_cutting(&calls);
        let cuts = stream::iter(places.iter().map(|at| Box::pin(story.cut_off(*at, &expected))));
        let cuts: Vec<_> = cuts.buffered(AT_A_TIME).collect().await;
        let cut = cuts.into_iter().filter(|was_cut| *was_cut).count();
        assert!(cut * 2 > places.len(), "{}: {cut} of {}", story.name, places.len());
        rows.push((story.name.to_owned(), format!("cut off {cut} times, resumed each time, given back")));
    }
    print_table("aurora, interruptions", &rows);
}

/// The reader is back but does not show its new settings yet. Neither this, nor the status available right before the
/// reboot, is a reason for another reboot.
#[tokio::test]
async fn a_reboot_that_was_cut_off_is_not_done_twice() {
    let desired = LogicalReplication { reboot: Reboot::All, ..LogicalReplication::new("shop") };
    for seen_again in ["available still", "rebooting", "available again"] {
        let delays =
            Delays { before_rebooting: Duration::from_millis(400), in_sync: Duration::from_millis(700), ..short() };
        let world = World::new(vec![shop().readers(1)], delays).await;
        let mut record = Record::default();
        let token = CancellationToken::new();
        let with = With { token: token.clone(), ..With::new(&desired) };
        let cut = async {
            wait_until("the reboot", DEADLINE, async || !world.rebooted().is_empty()).await;
            token.cancel();
        };
        let (ended, ()) = tokio::join!(world.apply(&with, &mut record), cut);
        assert_eq!(ended.unwrap_err().kind, Kind::Cancelled);
        assert_eq!(record.rebooting.as_deref(), Some("shop-2"));

        let statuses: &[&str] = match seen_again {
            "available still" => &[],
            "rebooting" => &["rebooting"],
            _ => &["rebooting", "available"],
        };
        for status in statuses {
            wait_until(status, DEADLINE, async || world.instance_status("shop-2") == *status).await;
        }
        world.apply(&With::new(&desired), &mut record).await.unwrap();
        assert_eq!(world.rebooted(), ["shop-2", "shop-1"], "resumed while it was {seen_again}");
        assert_eq!(record.rebooting, None);
    }
}
