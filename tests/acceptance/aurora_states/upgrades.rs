// SPDX-License-Identifier: MPL-2.0

//! The cluster was upgraded to another major version: its parameter group has a family that the cluster can no longer
//! use.

use neonrepl::rds::logical_replication::{LogicalReplication, Reboot, Record, When, fetch, steps, warnings};

use super::{
    ATTACH, COPY, CREATE, Case, DELETE, Expected, OWN, REBOOT, RESET, SET, With, World, check_failure, on_group,
    print_table, shop, short,
};
use crate::common::aurora::ClusterConfig;

const NEW_DEFAULT: &str = "default.aurora-postgresql17";
const NEW_FAMILY: &str = "aurora-postgresql17";
const NEW_OWN: &str = "shop-logical-replication-17";

/// A cluster that was made logical, and then upgraded.
async fn upgraded(cluster: ClusterConfig, desired: &LogicalReplication, group: Option<&str>) -> (World, Record) {
    let world = World::new(vec![cluster, ClusterConfig::new("other", "17.5")], short()).await;
    let mut record = Record::default();
    world.apply(&With::new(desired), &mut record).await.unwrap();
    if let Some(group) = group {
        world.add_group(group, NEW_FAMILY);
    }
    world.upgrade("shop", "17.5", group);
    assert_eq!(world.writer_setting("shop", "wal_level").as_deref(), Some("replica"));
    world.forget_calls();
    (world, record)
}

/// The text of a plan.
async fn said(world: &World, desired: &LogicalReplication, record: &Record) -> Vec<String> {
    let api = world.api();
    let current = fetch(&api, desired, record).await.unwrap().unwrap();
    let steps = steps(&current, desired, record).unwrap();
    warnings(&current, desired, &steps, When::Before)
}

async fn is_mended(world: &World, desired: &LogicalReplication, record: &mut Record, expected: &[&str], name: &str) {
    let applied = Box::pin(world.apply(&With::new(desired), record)).await;
    let applied = applied.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(world.done(), expected, "{name}");
    assert!(applied.current.settings.is_some_and(|settings| settings.is_logical()), "{name}");
    let again = Box::pin(world.apply(&With::new(desired), record)).await.unwrap();
    assert_eq!(again.steps, [], "{name}");
}

#[tokio::test]
async fn every_upgrade() {
    let mut rows = Vec::new();
    let mut row = |name: &str, outcome: &str| rows.push((name.to_owned(), outcome.to_owned()));
    Box::pin(own_group(&mut row)).await;
    custom_group(&mut row).await;
    named_group(&mut row).await;
    Box::pin(left_behind(&mut row)).await;
    without_an_apply(&mut row).await;
    instance(&mut row).await;
    print_table("aurora, upgrades", &rows);
}

type Row<'a> = &'a mut dyn FnMut(&str, &str);

async fn own_group(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let (world, mut record) = upgraded(shop(), &desired, None).await;
    let warnings = said(&world, &desired, &record).await;
    let says = "parameter group shop-logical-replication is of aurora-postgresql16, which cannot be changed: \
                shop-logical-replication-17 takes its place";
    assert!(warnings.iter().any(|warning| warning.contains(says)), "{warnings:?}");
    Box::pin(is_mended(&world, &desired, &mut record, &[CREATE, SET, ATTACH, REBOOT, DELETE], "own group")).await;
    assert_eq!((world.attached_group("shop").as_str(), world.custom_groups()), (NEW_OWN, vec![NEW_OWN.to_owned()]));
    assert_eq!(record.previous_group.as_deref(), Some(NEW_DEFAULT));
    row("a group that was made here", "another one is made and attached, the old one deleted");

    world.destroy(&With::new(&desired), &record, Reboot::Writer).await.unwrap();
    assert_eq!((world.attached_group("shop").as_str(), world.custom_groups()), (NEW_DEFAULT, vec![]));
    row("a group that was made here, then destroyed", "the default group that it has now");

    let (world, record) = upgraded(shop(), &desired, None).await;
    let (mut imported, before) = (Record::default(), record);
    Box::pin(is_mended(&world, &desired, &mut imported, &[CREATE, SET, ATTACH, REBOOT, DELETE], "imported")).await;
    assert_eq!((imported.previous_group.as_deref(), before.group.as_deref()), (Some(NEW_DEFAULT), Some(OWN)));
    row("a group that was made here, imported afterwards", "known by its tag, and deleted");
}

async fn custom_group(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let (world, mut record) = upgraded(on_group("theirs"), &desired, None).await;
    Box::pin(is_mended(&world, &desired, &mut record, &[CREATE, SET, ATTACH, REBOOT, RESET], "custom, default now"))
        .await;
    assert_eq!(world.attached_group("shop"), OWN);
    assert_eq!(world.parameter("theirs", "rds.logical_replication"), None, "it gets its value back");
    world.destroy(&With::new(&desired), &record, Reboot::Never).await.unwrap();
    assert_eq!(
        (world.attached_group("shop").as_str(), world.custom_groups()),
        (NEW_DEFAULT, vec!["theirs".to_owned()])
    );
    row("a custom group, the default one now", "one of our own, the old one gets its values back");

    let (world, mut record) = upgraded(on_group("theirs"), &desired, Some("theirs17")).await;
    Box::pin(is_mended(&world, &desired, &mut record, &[SET, REBOOT, RESET], "custom, another custom one now")).await;
    assert_eq!(world.attached_group("shop"), "theirs17");
    world.destroy(&With::new(&desired), &record, Reboot::Never).await.unwrap();
    assert_eq!(world.attached_group("shop"), "theirs17");
    assert_eq!(world.parameter("theirs17", "rds.logical_replication"), None);
    row("a custom group, another custom one now", "edited in place, the old one gets its values back");

    let (world, mut record) = upgraded(shop(), &desired, Some("theirs17")).await;
    Box::pin(is_mended(&world, &desired, &mut record, &[SET, REBOOT, DELETE], "own, a custom one now")).await;
    world.destroy(&With::new(&desired), &record, Reboot::Never).await.unwrap();
    assert_eq!(
        (world.attached_group("shop").as_str(), world.custom_groups()),
        ("theirs17", vec!["theirs17".to_owned()])
    );
    row("a group that was made here, a custom one now", "edited in place, the old one deleted");

    let unmanaged = LogicalReplication { manage_parameter_group: false, ..desired.clone() };
    let world = World::new(vec![on_group("theirs")], short()).await;
    world.upgrade("shop", "17.5", None);
    let refused = world.apply(&With::new(&unmanaged), &mut Record::default()).await;
    let says = ["rds.logical_replication is not 1 in its parameter group \"default.aurora-postgresql17\""];
    check_failure("unmanaged", &refused, &says);
    row("a group of another provider, the default one now", "refused: not 1 in its parameter group");
}

async fn named_group(row: Row<'_>) {
    let mine = LogicalReplication { parameter_group_name: Some("mine".to_owned()), ..LogicalReplication::new("shop") };
    let (world, mut record) = upgraded(shop(), &mine, None).await;
    let refused = world.apply(&With::new(&mine), &mut record).await;
    check_failure(
        "named",
        &refused,
        &["\"mine\" is of family aurora-postgresql16, not aurora-postgresql17", "Choose another"],
    );
    assert_eq!(world.done(), [""; 0]);
    row("a group that was asked for", "refused: choose another parameter_group_name");

    let other = LogicalReplication { parameter_group_name: Some("mine17".to_owned()), ..mine.clone() };
    Box::pin(is_mended(&world, &other, &mut record, &[CREATE, SET, ATTACH, REBOOT, DELETE], "another name")).await;
    assert_eq!(
        (record.previous_group.as_deref(), world.custom_groups()),
        (Some(NEW_DEFAULT), vec!["mine17".to_owned()])
    );
    world.destroy(&With::new(&other), &record, Reboot::Never).await.unwrap();
    assert_eq!((world.attached_group("shop").as_str(), world.custom_groups()), (NEW_DEFAULT, vec![]));
    row("a group that was asked for, another one now", "made and attached, the old one deleted");

    let planned = LogicalReplication {
        planned_family: Some("aurora-postgresql16".to_owned()),
        ..LogicalReplication::new("shop")
    };
    let (world, mut record) = upgraded(shop(), &LogicalReplication::new("shop"), None).await;
    let refused = world.apply(&With::new(&planned), &mut record).await;
    check_failure("planned before", &refused, &["it was upgraded since the plan", "Plan and apply again"]);
    assert_eq!(world.done(), [""; 0]);
    row("upgraded between plan and apply", "refused: plan and apply again");
}

/// The blue side of a switchover keeps the group, and a previous custom one cannot be used any more.
async fn left_behind(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let world = World::new(vec![shop(), ClusterConfig::new("shop-old1", "16.4")], short()).await;
    let mut record = Record::default();
    world.apply(&With::new(&desired), &mut record).await.unwrap();
    world.swap_group("shop-old1", OWN);
    world.upgrade("shop", "17.5", None);
    world.forget_calls();
    let warnings = said(&world, &desired, &record).await;
    let says = "parameter group shop-logical-replication, which this resource created, is also attached to shop-old1";
    assert!(warnings.iter().any(|warning| warning.contains(says)), "{warnings:?}");
    Box::pin(is_mended(&world, &desired, &mut record, &[CREATE, SET, ATTACH, REBOOT], "still used")).await;
    row("the old group is still attached elsewhere", "it stays, and the plan says so");
    let refused = world.destroy(&With::new(&desired), &record, Reboot::Never).await;
    check_failure(
        "still used",
        &refused,
        &["\"shop-logical-replication\", which is to be deleted, is also attached to shop-old1"],
    );
    world.remove_cluster("shop-old1");
    world.forget_calls();
    world.apply(&With::new(&desired), &mut record).await.unwrap();
    assert_eq!((world.done(), world.custom_groups()), (vec![DELETE.to_owned()], vec![NEW_OWN.to_owned()]));
    row("the old group is attached elsewhere no more", "deleted by the next apply");

    let mine = LogicalReplication { parameter_group_name: Some("mine".to_owned()), ..desired };
    let mut record = Record::default();
    let world = World::new(vec![on_group("theirs")], short()).await;
    world.apply(&With::new(&mine), &mut record).await.unwrap();
    assert_eq!(world.done(), [COPY, SET, ATTACH, REBOOT]);
    // Upgraded with a group that was edited by hand, before the resource existed.
    world.add_group("mine17", NEW_FAMILY);
    world.set_parameter("mine17", "rds.logical_replication", "1");
    world.upgrade("shop", "17.5", Some("mine17"));
    record.group = Some("mine17".to_owned());
    world.forget_calls();
    let mine17 = LogicalReplication { parameter_group_name: Some("mine17".to_owned()), ..mine };
    world.destroy(&With::new(&mine17), &record, Reboot::Never).await.unwrap();
    assert_eq!(world.attached_group("shop"), NEW_DEFAULT);
    row("a custom group from before, of the old family", "the default group that it has now");
}

async fn without_an_apply(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let (world, record) = upgraded(shop(), &desired, None).await;
    world.destroy(&With::new(&desired), &record, Reboot::Writer).await.unwrap();
    assert_eq!((world.done(), world.custom_groups()), (vec![DELETE.to_owned()], vec![]));
    assert_eq!(world.attached_group("shop"), NEW_DEFAULT);
    row("destroyed without an apply in between", "the old group is deleted");

    let going_on =
        Case::new("upgrading", ClusterConfig { status: "upgrading".to_owned(), ..shop() }, Expected::Done(&[]));
    let world = World::new(going_on.clusters.clone(), short()).await;
    let mut record = Record::default();
    let with = With::new(&desired);
    let ends = async {
        crate::common::wait::wait_until("AWS to be asked", super::DEADLINE, async || world.calls().len() >= 3).await;
        world.upgrade("shop", "17.5", None);
        world.set_cluster_status("shop", "available");
    };
    let (applied, ()) = tokio::join!(world.apply(&with, &mut record), ends);
    assert!(applied.unwrap().current.settings.is_some_and(|settings| settings.is_logical()));
    assert_eq!((record.group.as_deref(), record.previous_group.as_deref()), (Some(OWN), Some(NEW_DEFAULT)));
    row("an upgrade that is still running", "waited for, then a group of the new family");
}

async fn instance(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let world = World::new(vec![ClusterConfig::instance("shop", "16.4")], short()).await;
    let mut record = Record::default();
    world.apply(&With::new(&desired), &mut record).await.unwrap();
    world.upgrade("shop", "17.5", None);
    world.forget_calls();
    let calls =
        ["CreateDBParameterGroup", "ModifyDBParameterGroup", "ModifyDBInstance", REBOOT, "DeleteDBParameterGroup"];
    Box::pin(is_mended(&world, &desired, &mut record, &calls, "instance")).await;
    assert_eq!(world.attached_group("shop"), NEW_OWN);
    world.destroy(&With::new(&desired), &record, Reboot::Never).await.unwrap();
    assert_eq!((world.attached_group("shop").as_str(), world.custom_groups()), ("default.postgres17", vec![]));
    row("a DB instance", "the same");
}
