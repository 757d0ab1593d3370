// SPDX-License-Identifier: MPL-2.0

//! The states of a cluster before an apply.

use neonrepl::rds::logical_replication::Reboot;

use super::{
    ALL, ATTACH, COPY, CREATE, Case, DEFAULT, Expected, FAMILY, OWN, REBOOT, SET, World, on_group, shop, try_all,
};
use crate::common::aurora::ClusterConfig;

fn groups() -> Vec<Case> {
    let other = || ClusterConfig { parameter_group: Some("theirs".to_owned()), ..ClusterConfig::new("other", "16.4") };
    vec![
        Case::on("default group", |_| {}, Expected::Done(&ALL)),
        Case::new("custom group", on_group("theirs"), Expected::Done(&[SET, REBOOT])),
        Case::new("custom group, shared", on_group("theirs"), Expected::Warned("its parameters change there too"))
            .beside(other()),
        Case::new(
            "custom group, and no clusters may be listed",
            on_group("theirs"),
            Expected::Warned("these credentials may not list what uses it"),
        )
        .before(|world| world.deny_lists()),
        Case::on("default group, and no clusters may be listed", |world| world.deny_lists(), Expected::Done(&ALL)),
        Case::new("custom group, logical already", on_group("theirs"), Expected::Done(&[])).before(|world| {
            turn_on(world);
            world.run_as_configured("shop-1");
        }),
        Case::new("custom group, logical, reboot pending", on_group("theirs"), Expected::Done(&[REBOOT]))
            .before(turn_on),
        Case::on("group given, absent", |_| {}, Expected::Done(&ALL)).group("Mine"),
        Case::new(
            "group given, absent, custom one attached",
            on_group("theirs"),
            Expected::Done(&[COPY, SET, ATTACH, REBOOT]),
        )
        .group("mine"),
        Case::on(
            "group given, present",
            |world| world.add_group("mine", FAMILY),
            Expected::Done(&[SET, ATTACH, REBOOT]),
        )
        .group("mine"),
        Case::on(
            "group given, shared",
            |world| world.add_group("mine", FAMILY),
            Expected::Warned("its parameters change there too"),
        )
        .group("theirs")
        .beside(other()),
        Case::on(
            "group given, of another family",
            |world| world.add_group("older", "aurora-postgresql15"),
            Expected::Refused(&["is of family aurora-postgresql15, not aurora-postgresql16", "Choose another"]),
        )
        .group("older"),
        Case::on(
            "group given, AWS's own",
            |_| {},
            Expected::Refused(&["belongs to AWS and cannot be modified", "Choose another"]),
        )
        .group(DEFAULT),
        Case::on(
            "group given, no possible name",
            |_| {},
            Expected::Refused(&["cannot be the name", "A name has 1 to 255"]),
        )
        .group("two--hyphens"),
        Case::on(
            "another one's group of our name",
            |world| world.add_group(OWN, FAMILY),
            Expected::Refused(&["exists and was not created for it", "set parameter_group_name"]),
        ),
        Case::new(
            "group of another provider, not logical",
            on_group("theirs"),
            Expected::Refused(&["which is not managed here", "Set it where the group is managed"]),
        )
        .unmanaged(),
        Case::new("group of another provider, reboot pending", on_group("theirs"), Expected::Done(&[REBOOT]))
            .before(turn_on)
            .unmanaged(),
        Case::on("no group of another provider", |_| {}, Expected::Refused(&["which is not managed here"])).unmanaged(),
    ]
}

/// Enables it as another provider would, so long ago that the members show it.
fn turn_on(world: &World) {
    world.set_parameter("theirs", "rds.logical_replication", "1");
    world.take_notice("theirs");
}

fn clusters() -> Vec<Case> {
    let with_status = |status: &str| ClusterConfig { status: status.to_owned(), ..shop() };
    let refused = |name, status: &str, texts| Case::new(name, with_status(status), Expected::Refused(texts));
    let passes = |name, status: &str| {
        Case::new(name, with_status(status), Expected::Done(&ALL))
            .meanwhile(|world| world.set_cluster_status("shop", "available"))
    };
    const REPAIR: &str = "Start or repair it first";
    vec![
        refused("stopped", "stopped", &["it is stopped", REPAIR]),
        refused("stopping", "stopping", &["it is stopping", REPAIR]),
        refused("deleting", "deleting", &["it is deleting", REPAIR]),
        refused("storage-full", "storage-full", &["it is storage-full", REPAIR]),
        refused("migration-failed", "migration-failed", &["it is migration-failed", REPAIR]),
        refused(
            "key not accessible",
            "inaccessible-encryption-credentials",
            &["it is inaccessible-encryption", REPAIR],
        ),
        passes("upgrading", "upgrading"),
        passes("backing-up", "backing-up"),
        passes("failing-over", "failing-over"),
        passes("a status of tomorrow", "being-polished"),
        Case::new(
            "no such cluster",
            ClusterConfig::new("else", "16.4"),
            Expected::Refused(&["DBClusterNotFoundFault", "Check the identifier, and the region"]),
        ),
        Case::new(
            "aurora-mysql",
            ClusterConfig {
                engine: "aurora-mysql".to_owned(),
                engine_version: "8.0.mysql_aurora.3.05.2".to_owned(),
                ..shop()
            },
            Expected::Refused(&["its engine is aurora-mysql", "Name an Aurora PostgreSQL cluster"]),
        ),
        Case::new(
            "Serverless v1",
            ClusterConfig { engine_mode: "serverless".to_owned(), ..shop() },
            Expected::Refused(&["Aurora Serverless v1 has no logical replication", "Serverless v2"]),
        ),
        Case::new(
            "secondary of a global database",
            ClusterConfig { has_writer: false, global_cluster: Some("world".to_owned()), ..shop() },
            Expected::Refused(&["it is a secondary of the global database world", "Name the primary"]),
        ),
        Case::new(
            "replica of another cluster",
            ClusterConfig { replication_source: Some("main".to_owned()), ..shop() },
            Expected::Refused(&["it is a replica of main", "Name the primary"]),
        ),
        Case::new(
            "no instances",
            ClusterConfig { instances: Vec::new(), ..shop() },
            Expected::Refused(&["it has no DB instance", "Add an instance"]),
        ),
        Case::new(
            "no writer",
            ClusterConfig { has_writer: false, ..shop() },
            Expected::Refused(&["it has no writer instance", "Wait for a failover to end"]),
        ),
        Case::on(
            "blue side of a blue/green deployment",
            |world| world.add_blue_green("upgrade", "shop", "shop-green", "AVAILABLE"),
            Expected::Warned("shop is the blue side of blue/green deployment upgrade (AVAILABLE)"),
        ),
        Case::on(
            "green side of a blue/green deployment",
            |world| world.add_blue_green("upgrade", "old", "shop", "PROVISIONING"),
            Expected::Warned("shop is the green side of blue/green deployment upgrade (PROVISIONING)"),
        ),
        Case::new(
            "not publicly accessible",
            ClusterConfig { publicly_accessible: false, ..shop() },
            Expected::Warned("Neon cannot reach it from outside"),
        ),
    ]
}

fn instances() -> Vec<Case> {
    const READER: [&str; 6] = [CREATE, SET, ATTACH, REBOOT, REBOOT, REBOOT];
    vec![
        Case::new("readers, writer alone rebooted", shop().readers(2), Expected::Warned("stay pending-reboot")),
        Case::new("readers, all rebooted", shop().readers(2), Expected::Done(&READER)).reboot(Reboot::All),
        Case::new("readers waiting since", on_group("theirs").readers(1), Expected::Done(&[REBOOT]))
            .reboot(Reboot::All)
            .before(|world| {
                turn_on(world);
                world.run_as_configured("shop-1");
            }),
        Case::new(
            "readers that restart with the writer",
            ClusterConfig { restarts_readers: true, ..ClusterConfig::new("shop", "14.6").readers(2) },
            Expected::Done(&ALL),
        )
        .reboot(Reboot::All),
        Case::on("no reboot wanted", |_| {}, Expected::Done(&[CREATE, SET, ATTACH])).reboot(Reboot::Never),
        Case::new("rebooting already", on_group("theirs"), Expected::Done(&[]))
            .before(|world| {
                turn_on(world);
                world.set_instance_status("shop-1", "rebooting");
            })
            .meanwhile(|world| {
                world.set_instance_status("shop-1", "available");
                world.run_as_configured("shop-1");
            }),
        Case::on("static, dynamic, units, switches", |_| {}, Expected::Done(&ALL))
            .parameter("max_replication_slots", "30")
            .parameter("wal_sender_timeout", "5min")
            .parameter("rds.force_ssl", "on"),
        Case::on("formula", |_| {}, Expected::Done(&ALL))
            .parameter("max_worker_processes", "GREATEST({DBInstanceVCPU*4}, 8)"),
        Case::on("parameter unknown", |_| {}, Expected::Refused(&["has no cluster parameter of that name"]))
            .parameter("no.such", "1"),
        Case::on("parameter fixed", |_| {}, Expected::Refused(&["it cannot be modified"]))
            .parameter("rds.extensions", "x"),
        Case::on("value out of range", |_| {}, Expected::Refused(&["is not among the allowed values 5-262143"]))
            .parameter("max_replication_slots", "4"),
    ]
}

#[tokio::test]
async fn every_state() {
    let cases: Vec<Case> = groups().into_iter().chain(clusters()).chain(instances()).collect();
    try_all("aurora, states", cases).await;
}
