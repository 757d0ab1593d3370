// SPDX-License-Identifier: MPL-2.0

//! Obstacles to a destroy.

use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use neonrepl::rds::logical_replication::{
    LogicalReplication, Probe, ProbeError, Reboot, Record, ServerIdentity, ServerSettings,
};
use tokio_util::sync::CancellationToken;

use super::{
    ATTACH, DEFAULT, DELETE, OWN, REBOOT, RESET, With, World, check_failure, on_group, print_table, shop, short,
};
use crate::common::aurora::ClusterConfig;
use crate::common::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster that was made logical, and its record.
async fn logical(clusters: Vec<ClusterConfig>, desired: &LogicalReplication) -> (World, Record) {
    let world = World::new(clusters, short()).await;
    let mut record = Record::default();
    world.apply(&With::new(desired), &mut record).await.unwrap();
    world.forget_calls();
    (world, record)
}

/// The writer's identity on Aurora.
fn shop_1() -> ServerIdentity {
    ServerIdentity { instance: Some("shop-1".to_owned()), ..ServerIdentity::default() }
}

/// A server with these slots.
fn with_slots(slots: &[&str]) -> impl Probe + use<> {
    let logical_slots: Vec<String> = slots.iter().map(|slot| (*slot).to_owned()).collect();
    move || {
        let wal_level = "logical".to_owned();
        let (logical_slots, server) = (logical_slots.clone(), shop_1());
        ready(Ok(ServerSettings { wal_level, logical_slots, server, ..ServerSettings::default() }))
    }
}

#[tokio::test]
async fn every_destroy() {
    let mut rows = Vec::new();
    let mut row = |name: &str, outcome: &str| rows.push((name.to_owned(), outcome.to_owned()));
    passing(&mut row).await;
    in_the_way(&mut row).await;
    slots(&mut row).await;
    gone(&mut row).await;
    interrupted(&mut row).await;
    print_table("aurora, destroys", &rows);
}

type Row<'a> = &'a mut dyn FnMut(&str, &str);

async fn passing(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    type Fault = (&'static str, fn(&World), &'static [&'static str]);
    let back = &[ATTACH, DELETE][..];
    let cases: [Fault; 5] = [
        ("nothing in the way", |_| {}, back),
        (
            "the group counts as in use for a while",
            |world| (0..3).for_each(|_| world.fail_next(DELETE, 400, "InvalidDBParameterGroupState", "in use")),
            back,
        ),
        (
            "the cluster is busy for a while",
            |world| (0..3).for_each(|_| world.fail_next(ATTACH, 400, "InvalidDBClusterStateFault", "busy")),
            back,
        ),
        ("throttled", |world| world.throttle_next(20), back),
        (
            "the group is swapped and deleted by somebody",
            |world| {
                world.swap_group("shop", DEFAULT);
                world.remove_group(OWN);
            },
            &[],
        ),
    ];
    for (name, spoil, expected) in cases {
        let (world, record) = logical(vec![shop()], &desired).await;
        spoil(&world);
        let undone = world.destroy(&With::new(&desired), &record, Reboot::Never).await;
        undone.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(world.done(), expected, "{name}");
        assert_eq!(world.attached_group("shop"), DEFAULT, "{name}");
        assert_eq!(world.custom_groups(), [""; 0], "{name}");
        row(name, "done");
    }
}

async fn in_the_way(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let with = With::new(&desired);
    let name = "the group is attached to another cluster as well";
    let (world, record) = logical(vec![shop(), ClusterConfig::new("other", "16.4")], &desired).await;
    world.swap_group("other", OWN);
    let refused = world.destroy(&with, &record, Reboot::Never).await;
    check_failure(name, &refused, &["is also attached to other", "Attach another group there first"]);
    assert_eq!(world.done(), [""; 0], "{name}");
    row(name, "refused: is also attached to other");

    let name = "the cluster is stopped";
    let (world, record) = logical(vec![shop()], &desired).await;
    world.set_cluster_status("shop", "stopped");
    let refused = world.destroy(&with, &record, Reboot::Never).await;
    check_failure(name, &refused, &["it is stopped", "or set skip_destroy = true"]);
    assert_eq!(world.done(), [""; 0], "{name}");
    row(name, "refused: it is stopped");

    let name = "AccessDenied for the deletion";
    let (world, record) = logical(vec![shop()], &desired).await;
    world.fail_always(DELETE, 403, "AccessDenied", "not authorized");
    let refused = world.destroy(&with, &record, Reboot::Never).await;
    check_failure(name, &refused, &["AccessDenied", "the guide"]);
    world.stop_failing();
    world.destroy(&with, &record, Reboot::Never).await.unwrap();
    assert_eq!(world.done(), [ATTACH, DELETE], "{name}");
    row(name, "fails: AccessDenied; the next destroy goes on");

    let name = "in use until the timeout";
    let (world, record) = logical(vec![shop()], &desired).await;
    world.fail_always(DELETE, 400, "InvalidDBParameterGroupState", "are still members of this parameter group");
    let soon = With { timeout: Duration::from_secs(8), ..With::new(&desired) };
    let refused = world.destroy(&soon, &record, Reboot::Never).await;
    check_failure(name, &refused, &["are still members", "It did not change until the timeout"]);
    row(name, "fails: are still members of this parameter group");
}

async fn slots(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let with = With::new(&desired);
    let (world, record) = logical(vec![shop()], &desired).await;
    let name = "logical slots exist";
    let probe = with_slots(&["orders", "users"]);
    let refused = world.destroy_asking(&with, &record, Reboot::Never, Some(&probe)).await;
    check_failure(name, &refused, &["logical replication slots exist: orders, users", "Drop the subscriptions"]);
    row(name, "refused: logical replication slots exist: orders, users");

    let name = "the server cannot be asked for slots";
    let probe = || ready(Err(ProbeError { message: "no route to host".to_owned(), is_transient: true }));
    let refused = world.destroy_asking(&with, &record, Reboot::Never, Some(&probe)).await;
    check_failure(name, &refused, &["the writer cannot be asked: no route to host", "skip_destroy = true"]);
    row(name, "refused: the writer cannot be asked");

    let name = "a reboot without a connection to ask for slots";
    let refused = world.destroy_asking(&with, &record, Reboot::Writer, None).await;
    check_failure(
        name,
        &refused,
        &["it is not known whether logical replication slots exist", "reboot_on_destroy = false"],
    );
    row(name, "refused: it is not known whether logical replication slots exist");
    assert_eq!(world.done(), [""; 0]);

    let name = "a slot is made while it runs";
    let asked = AtomicUsize::new(0);
    let probe = || {
        let slots: &[&str] = if asked.fetch_add(1, Ordering::Relaxed) == 0 { &[] } else { &["late"] };
        ready(Ok(ServerSettings {
            wal_level: "logical".to_owned(),
            logical_slots: slots.iter().map(|slot| (*slot).to_owned()).collect(),
            server: shop_1(),
            ..ServerSettings::default()
        }))
    };
    let refused = world.destroy_asking(&with, &record, Reboot::Writer, Some(&probe)).await;
    check_failure(name, &refused, &["logical replication slots exist: late"]);
    assert_eq!(world.rebooted(), [""; 0]);
    row(name, "refused before the reboot: logical replication slots exist: late");
}

async fn gone(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let with = With::new(&desired);
    let name = "the previous group is gone";
    let (world, mut record) = logical(vec![shop()], &desired).await;
    record.previous_group = Some("gone".to_owned());
    world.destroy(&with, &record, Reboot::Never).await.unwrap();
    assert_eq!(world.attached_group("shop"), DEFAULT, "{name}");
    row(name, "done: the family's own takes its place");

    let name = "the cluster is gone";
    let (world, record) = logical(vec![shop()], &desired).await;
    world.remove_cluster("shop");
    world.destroy(&with, &record, Reboot::Never).await.unwrap();
    assert_eq!(world.done(), [DELETE], "{name}");
    row(name, "done: the group is deleted");

    let name = "the cluster is being deleted";
    let (world, record) = logical(vec![shop()], &desired).await;
    world.set_cluster_status("shop", "deleting");
    let deleted = async {
        wait_until("the destroy to look", DEADLINE, async || world.calls().len() > 3).await;
        world.remove_cluster("shop");
    };
    let (undone, ()) = tokio::join!(world.destroy(&with, &record, Reboot::Never), deleted);
    undone.unwrap();
    assert_eq!(world.done(), [DELETE], "{name}");
    row(name, "done: waited for, then the group is deleted");

    let name = "a group of others";
    let (world, record) = logical(vec![on_group("theirs")], &desired).await;
    world.destroy(&with, &record, Reboot::Never).await.unwrap();
    assert_eq!(world.done(), [RESET], "{name}");
    assert_eq!(world.custom_groups(), ["theirs"], "{name}");
    row(name, "done: its values are reset, it stays");
}

/// A destroy whose reboot was interrupted; the next one finishes it.
async fn interrupted(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let (world, record) = logical(vec![shop()], &desired).await;
    let token = CancellationToken::new();
    let with = With { token: token.clone(), ..With::new(&desired) };
    // An interruption right after the call would look like one before it.
    world.fail_always(REBOOT, 400, "InvalidDBInstanceState", "an operation is in progress");
    let cut_off = async {
        let asked = || world.calls().iter().filter(|call| call.action == REBOOT).count();
        wait_until("the reboot to be asked for", DEADLINE, async || asked() > 0).await;
        token.cancel();
    };
    let (cancelled, ()) = tokio::join!(world.destroy(&with, &record, Reboot::Writer), cut_off);
    assert!(cancelled.is_err());
    assert_eq!(world.custom_groups(), [""; 0]);
    world.stop_failing();
    world.destroy(&With::new(&desired), &record, Reboot::Writer).await.unwrap();
    assert_eq!(world.rebooted(), ["shop-1"]);
    assert_eq!(world.writer_setting("shop", "wal_level").as_deref(), Some("replica"));
    assert_eq!(world.count(REBOOT), 1);
    row("cut off before its reboot", "the next destroy reboots");
}
