// SPDX-License-Identifier: MPL-2.0

//! The same for single DB instances of RDS for PostgreSQL.

use std::time::Duration;

use neonrepl::rds::logical_replication::{Phase, Reboot, Step};

use super::{Case, Expected, OWN, REBOOT, World, try_all};
use crate::common::aurora::ClusterConfig;

const CREATE: &str = "CreateDBParameterGroup";
const COPY: &str = "CopyDBParameterGroup";
const SET: &str = "ModifyDBParameterGroup";
const ATTACH: &str = "ModifyDBInstance";
/// The calls for a default group.
const ALL: [&str; 4] = [CREATE, SET, ATTACH, REBOOT];
const DONE: Expected = Expected::Done(&ALL);

fn shop() -> ClusterConfig {
    ClusterConfig::instance("shop", "16.4")
}

fn on_group(group: &str) -> ClusterConfig {
    ClusterConfig { parameter_group: Some(group.to_owned()), ..shop() }
}

fn states() -> Vec<Case> {
    let other =
        || ClusterConfig { parameter_group: Some("theirs".to_owned()), ..ClusterConfig::instance("other", "16.4") };
    let with_status = |status: &str| ClusterConfig { status: status.to_owned(), ..shop() };
    vec![
        Case::new("default group", shop(), DONE),
        Case::new("custom group", on_group("theirs"), Expected::Done(&[SET, REBOOT])),
        Case::new("custom group, shared", on_group("theirs"), Expected::Warned("its parameters change there too"))
            .beside(other()),
        Case::new(
            "custom group, and no instances may be listed",
            on_group("theirs"),
            Expected::Warned("these credentials may not list what uses it"),
        )
        .before(|world| world.deny_lists()),
        Case::new("group given, absent", on_group("theirs"), Expected::Done(&[COPY, SET, ATTACH, REBOOT]))
            .group("mine"),
        Case::new("group given, present", shop(), Expected::Done(&[SET, ATTACH, REBOOT]))
            .before(|world| world.add_group("mine", "postgres16"))
            .group("mine"),
        Case::new(
            "group given, of another family",
            shop(),
            Expected::Refused(&["is of family postgres17, not postgres16", "Choose another"]),
        )
        .before(|world| world.add_group("newer", "postgres17"))
        .group("newer"),
        Case::new("group of another provider, reboot pending", on_group("theirs"), Expected::Done(&[REBOOT]))
            .before(|world| {
                world.set_parameter("theirs", "rds.logical_replication", "1");
                world.take_notice("theirs");
            })
            .unmanaged(),
        Case::new("Multi-AZ", ClusterConfig { is_multi_az: true, ..shop() }, Expected::Warned("without a failover")),
        Case::new("not publicly accessible", ClusterConfig { publicly_accessible: false, ..shop() }, DONE),
        Case::new("no reboot wanted", shop(), Expected::Done(&[CREATE, SET, ATTACH])).reboot(Reboot::Never),
        Case::new(
            "a member of an Aurora cluster",
            ClusterConfig { instances: vec!["shop".to_owned()], ..ClusterConfig::new("cluster", "16.4") },
            Expected::Refused(&["it is a member of DB cluster cluster", "Use neonrepl_aurora_logical_replication"]),
        )
        .beside(ClusterConfig::instance("other", "16.4")),
        Case::new(
            "mysql",
            ClusterConfig { engine: "mysql".to_owned(), ..shop() },
            Expected::Refused(&["its engine is mysql, not postgres", "Name a DB instance of RDS for PostgreSQL"]),
        ),
        Case::new(
            "read replica",
            ClusterConfig { replication_source: Some("main".to_owned()), ..shop() },
            Expected::Refused(&["it is a replica of main", "Name the primary"]),
        ),
        Case::new("stopped", with_status("stopped"), Expected::Refused(&["it is stopped", "Start or repair it first"])),
        Case::new("storage-full", with_status("storage-full"), Expected::Refused(&["it is storage-full"])),
        Case::new("backing-up", with_status("backing-up"), DONE)
            .meanwhile(|world| world.set_cluster_status("shop", "available")),
        Case::new(
            "no such instance",
            ClusterConfig::instance("else", "16.4"),
            Expected::Refused(&["DBInstanceNotFound"]),
        ),
    ]
}

fn faults() -> Vec<Case> {
    let fail = |action: &'static str, code: &'static str, status: u16| {
        move |world: &World| (0..3).for_each(|_| world.fail_next(action, status, code, "so it is"))
    };
    vec![
        Case::new("InvalidDBInstanceState of ModifyDBInstance, three times", shop(), DONE).before(fail(
            ATTACH,
            "InvalidDBInstanceState",
            400,
        )),
        Case::new("DBParameterGroupNotFound of ModifyDBInstance, three times", shop(), DONE).before(fail(
            ATTACH,
            "DBParameterGroupNotFound",
            404,
        )),
        Case::new("AccessDenied for ModifyDBInstance", shop(), Expected::Resumes(&["AccessDenied", "the guide"]))
            .before(|world| world.fail_always(ATTACH, 403, "AccessDenied", "not authorized")),
        Case::new("pending-reboot shows late", shop(), DONE)
            .delays(|delays| delays.notice = Duration::from_millis(900)),
        Case::new("a reboot that did not take", shop(), Expected::Done(&[CREATE, SET, ATTACH, REBOOT, REBOOT]))
            .before(|world| world.reboot_in_vain(1)),
        Case::new("the group is deleted on the way", shop(), Expected::Resumes(&["DBParameterGroupNotFound"])).on_step(
            |world, event| {
                let is_set = matches!(event.step, Step::SetParameters { .. });
                if event.phase == Phase::Done && is_set && world.count(CREATE) == 1 {
                    world.remove_group(OWN);
                }
            },
        ),
    ]
}

#[tokio::test]
async fn every_state_of_an_instance() {
    try_all("rds, states and faults", states().into_iter().chain(faults()).collect()).await;
}
