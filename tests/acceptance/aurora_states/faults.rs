// SPDX-License-Identifier: MPL-2.0

//! Faults during an apply.

use std::time::Duration;

use neonrepl::rds::logical_replication::{LogicalReplication, Phase, Reboot, Record, Step, StepEvent};

use super::{
    ALL, ATTACH, CREATE, Case, DEFAULT, Expected, FAMILY, OWN, REBOOT, SET, With, World, on_group, shop, short, try_all,
};

fn fail(world: &World, action: &str, status: u16, code: &str, times: usize) {
    (0..times).for_each(|_| world.fail_next(action, status, code, "so it is"));
}

const DONE: Expected = Expected::Done(&ALL);

/// Faults that pass by themselves only take longer.
fn passing() -> Vec<Case> {
    let failing = |action: &'static str, status, code: &'static str| {
        Case::on(format!("{code} of {action}, three times"), move |world| fail(world, action, status, code, 3), DONE)
    };
    let mut cases: Vec<Case> = [
        ("DescribeDBClusters", 400, "Throttling"),
        ("DescribeDBInstances", 400, "Throttling"),
        ("DescribeDBClusterParameterGroups", 400, "Throttling"),
        ("DescribeDBClusterParameters", 400, "Throttling"),
        (CREATE, 400, "Throttling"),
        (SET, 400, "ThrottlingException"),
        (ATTACH, 503, "RequestLimitExceeded"),
        (REBOOT, 400, "Throttling"),
        (SET, 500, "InternalFailure"),
        (ATTACH, 503, "ServiceUnavailable"),
        (SET, 400, "InvalidDBParameterGroupState"),
        (ATTACH, 400, "InvalidDBClusterStateFault"),
        (ATTACH, 400, "InvalidDBInstanceState"),
        (REBOOT, 400, "InvalidDBInstanceState"),
        (SET, 404, "DBParameterGroupNotFound"),
        (ATTACH, 404, "DBClusterParameterGroupNotFound"),
    ]
    .into_iter()
    .map(|(action, status, code)| failing(action, status, code))
    .collect();
    cases.push(Case::on("a storm: the first 40 calls are throttled", |world| world.throttle_next(40), DONE));
    cases.push(Case::on("every answer is slow", |world| world.slow(Duration::from_millis(60)), DONE));
    cases
}

/// Faults that last longer than the timeout.
fn lasting() -> Vec<Case> {
    let (soon, later) = (Duration::from_secs(5), Duration::from_secs(8));
    vec![
        Case::on(
            "throttled until the timeout",
            |world| world.fail_always("*", 400, "Throttling", "Rate exceeded"),
            Expected::Refused(&["Rate exceeded (Throttling", "timed out"]),
        )
        .timeout(soon),
        Case::on(
            "the cluster is busy until the timeout",
            |world| world.fail_always(ATTACH, 400, "InvalidDBClusterStateFault", "it is busy"),
            Expected::Resumes(&["it is busy (InvalidDBClusterStateFault", "It did not change until the timeout"]),
        )
        .timeout(later),
        Case::on(
            "the instance is busy until the timeout",
            |world| world.fail_always(REBOOT, 400, "InvalidDBInstanceState", "an operation is in progress"),
            Expected::Resumes(&[
                "an operation is in progress (InvalidDBInstanceState",
                "It did not change until the timeout",
            ]),
        )
        .timeout(later),
        Case::on(
            "a modification stays pending until the timeout",
            |world| world.set_pending_values("shop", true),
            Expected::Refused(&["it has pending modifications", "timed out"]),
        )
        .timeout(soon),
    ]
}

/// Permanent refusals of AWS, at each call, with the remedy.
fn refused() -> Vec<Case> {
    const GUIDE: &str =
        "the guide \"Enable logical replication on Aurora\" has a policy with everything that is needed";
    let denied =
        |action: &'static str| move |world: &World| world.fail_always(action, 403, "AccessDenied", "not authorized");
    let reads = [
        "DescribeDBClusters",
        "DescribeDBInstances",
        "DescribeDBClusterParameterGroups",
        "DescribeDBClusterParameters",
    ];
    let reads = reads.map(|action| {
        Case::on(format!("AccessDenied for {action}"), denied(action), Expected::Refused(&["AccessDenied", GUIDE]))
    });
    let writes = [CREATE, SET, ATTACH, REBOOT].map(|action| {
        Case::on(format!("AccessDenied for {action}"), denied(action), Expected::Resumes(&["AccessDenied", GUIDE]))
    });
    let once = |action: &'static str, status, code: &'static str, texts| {
        let name = format!("{code} of {action}");
        Case::on(name, move |world| world.fail_next(action, status, code, "so it is"), Expected::Resumes(texts))
    };
    let others = [
        once(
            CREATE,
            400,
            "DBParameterGroupAlreadyExists",
            &["DBParameterGroupAlreadyExists", "set parameter_group_name"],
        ),
        once(
            CREATE,
            400,
            "DBParameterGroupQuotaExceeded",
            &["DBParameterGroupQuotaExceeded", "ask AWS for a higher quota"],
        ),
        once(SET, 400, "InvalidParameterValue", &["setting rds.logical_replication in", "InvalidParameterValue"]),
        once(
            ATTACH,
            400,
            "InvalidParameterCombination",
            &["attaching cluster parameter group", "InvalidParameterCombination"],
        ),
        once(ATTACH, 400, "StorageQuotaExceeded", &["StorageQuotaExceeded", "Ask AWS for a higher storage quota"]),
        once(REBOOT, 400, "KMSKeyNotAccessibleFault", &["KMSKeyNotAccessibleFault", "Give RDS access to the KMS key"]),
    ];
    reads.into_iter().chain(writes).chain(others).collect()
}

fn expire(world: &World, event: &StepEvent<'_>, is_it: fn(&Step) -> bool) {
    if event.phase == Phase::Started && is_it(event.step) {
        world.fail_always("*", 403, "ExpiredToken", "The security token included in the request is expired");
    }
}

fn access() -> Vec<Case> {
    const RENEW: &[&str] = &["ExpiredToken", "renew them and apply again"];
    const UNREACHED: &[&str] = &["AWS was not reached", "Check the network"];
    let at_first = |code: &'static str, texts| {
        Case::on(code, move |world| world.fail_always("*", 403, code, "no"), Expected::Refused(texts))
    };
    vec![
        at_first("ExpiredToken", RENEW),
        at_first("InvalidClientTokenId", &["InvalidClientTokenId", "Check the credentials"]),
        at_first("SignatureDoesNotMatch", &["SignatureDoesNotMatch", "Check the credentials"]),
        Case::on("credentials that expire before the parameters are set", |_| {}, Expected::Resumes(RENEW))
            .on_step(|world, event| expire(world, event, |step| matches!(step, Step::SetParameters { .. }))),
        Case::on("credentials that expire while waiting", |_| {}, Expected::Resumes(RENEW))
            .on_step(|world, event| expire(world, event, |step| matches!(step, Step::WaitUntilAvailable { .. }))),
        Case::on("credentials that expire before the reboot", |_| {}, Expected::Resumes(RENEW))
            .on_step(|world, event| expire(world, event, |step| step.reboots().is_some())),
        Case::on("no network", |world| world.network.refuse(), Expected::Refused(UNREACHED)),
        Case::on("a network that goes before the reboot", |_| {}, Expected::Resumes(UNREACHED))
            .on_step(|world, event| {
                if event.phase == Phase::Started && event.step.reboots().is_some() {
                    world.network.refuse();
                }
            })
            .mend(|world| world.network.open()),
        Case::on("a network that goes and comes back while waiting", |_| {}, DONE)
            .attempts(2)
            .delays(|delays| delays.modifying = Duration::from_millis(400))
            .on_step(|world, event| {
                if event.phase == Phase::Started && matches!(event.step, Step::WaitUntilAvailable { .. }) {
                    world.network.cut();
                }
            }),
    ]
}

fn before_the_reboot(event: &StepEvent<'_>) -> bool {
    event.phase == Phase::Started && matches!(event.step, Step::RebootWriter { .. })
}

/// Changes in between, late effects, and changes without effect.
fn moving() -> Vec<Case> {
    const TWICE: [&str; 5] = [CREATE, SET, ATTACH, REBOOT, REBOOT];
    vec![
        Case::new("the writer fails over before the reboot", shop().readers(1), DONE)
            .on_step(|world, event| {
                if before_the_reboot(event) {
                    world.move_writer("shop", "shop-2");
                }
            })
            .after(|world| assert_eq!(world.rebooted(), ["shop-2"])),
        Case::new("the writer fails over after the reboot", shop().readers(1), Expected::Done(&TWICE))
            .on_step(|world, event| {
                if event.phase == Phase::Done && matches!(event.step, Step::RebootWriter { .. }) {
                    world.move_writer("shop", "shop-2");
                }
            })
            .after(|world| assert_eq!(world.rebooted(), ["shop-1", "shop-2"])),
        Case::new("the writer fails over after the reboot, unseen by SQL", shop().readers(1), Expected::Done(&TWICE))
            .unverified()
            .on_step(|world, event| {
                if event.phase == Phase::Done && matches!(event.step, Step::RebootWriter { .. }) {
                    world.move_writer("shop", "shop-2");
                }
            })
            .after(|world| assert_eq!(world.rebooted(), ["shop-1", "shop-2"])),
        Case::new("a reader becomes the writer before its turn", shop().readers(1), Expected::Done(&TWICE))
            .reboot(Reboot::All)
            .on_step(|world, event| {
                if event.phase == Phase::Started && matches!(event.step, Step::RebootReader { .. }) {
                    world.move_writer("shop", "shop-2");
                }
            })
            .after(|world| assert_eq!(world.rebooted(), ["shop-2", "shop-1"])),
        Case::on("pending-reboot shows late", |_| {}, DONE).delays(|delays| delays.notice = Duration::from_millis(900)),
        Case::on("pending-reboot shows after the reboot", |_| {}, Expected::Done(&TWICE))
            .delays(|delays| delays.notice = Duration::from_secs(3600))
            .on_step(|world, event| {
                if event.phase == Phase::Done && event.step.reboots().is_some() {
                    world.take_notice(OWN);
                }
            }),
        Case::on("available long before rebooting", |_| {}, DONE)
            .delays(|delays| delays.before_rebooting = Duration::from_millis(900)),
        Case::on("in-sync long after available", |_| {}, DONE)
            .delays(|delays| delays.in_sync = Duration::from_millis(700)),
        Case::on("a reboot that did not take", |world| world.reboot_in_vain(1), Expected::Done(&TWICE)),
        Case::on("a reboot that did not take, unseen by SQL", |world| world.reboot_in_vain(1), Expected::Done(&TWICE))
            .unverified(),
        Case::on(
            "reboots that never take",
            |world| world.reboot_in_vain(9),
            Expected::Resumes(&["after a further reboot of \"shop-1\", wal_level is replica", "Check that"]),
        ),
        Case::on(
            "reboots that never take, unseen by SQL",
            |world| world.reboot_in_vain(9),
            Expected::Resumes(&["after a further reboot, shop-1 is still pending-reboot", "Look at the events"]),
        )
        .unverified(),
        Case::on(
            "an instance that does not come up",
            |world| world.reboots_end_as("incompatible-parameters"),
            Expected::Resumes(&["it is incompatible-parameters", "Look at its events"]),
        ),
        Case::on("the cluster is stopped on the way", |_| {}, Expected::Resumes(&["it is stopped", "apply again"]))
            .on_step(|world, event| {
                if before_the_reboot(event) {
                    world.set_cluster_status("shop", "stopped");
                }
            })
            .mend(|world| world.set_cluster_status("shop", "available")),
        Case::on("the cluster is deleted on the way", |_| {}, Expected::Fails(&["DBClusterNotFoundFault"])).on_step(
            |world, event| {
                if before_the_reboot(event) {
                    world.remove_cluster("shop");
                }
            },
        ),
        Case::on("the group is deleted on the way", |_| {}, Expected::Resumes(&["DBClusterParameterGroupNotFound"]))
            .on_step(|world, event| {
                if event.phase == Phase::Done
                    && matches!(event.step, Step::SetParameters { .. })
                    && world.count(CREATE) == 1
                {
                    world.remove_group(OWN);
                }
            }),
    ]
}

#[tokio::test]
async fn every_fault() {
    let cases = [passing(), lasting(), refused(), access(), moving()];
    try_all("aurora, faults", cases.into_iter().flatten().collect()).await;
}

/// Others' changes of a cluster that was made logical, and the next apply.
#[tokio::test]
async fn drift_is_mended() {
    type Spoil = fn(&World);
    let cases: [(&str, Spoil, &[&str]); 5] = [
        ("the group is swapped for the default one", |world| world.swap_group("shop", DEFAULT), &[ATTACH, REBOOT]),
        (
            "the group is swapped for another one",
            |world| {
                world.add_group("others", FAMILY);
                world.swap_group("shop", "others");
            },
            &[ATTACH, REBOOT],
        ),
        (
            "the group is swapped and deleted",
            |world| {
                world.swap_group("shop", DEFAULT);
                world.remove_group(OWN);
            },
            &[CREATE, SET, ATTACH, REBOOT],
        ),
        ("the parameter is set back", |world| world.set_parameter(OWN, "rds.logical_replication", "0"), &[SET, REBOOT]),
        ("the writer fails over to an old reader", |world| world.move_writer("shop", "shop-2"), &[REBOOT]),
    ];
    for (name, spoil, expected) in cases {
        let world = World::new(vec![shop().readers(1)], short()).await;
        let desired = LogicalReplication::new("shop");
        let (with, mut record) = (With::new(&desired), Record::default());
        world.apply(&with, &mut record).await.unwrap();
        spoil(&world);
        world.forget_calls();
        let mended = world.apply(&with, &mut record).await;
        mended.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(world.done(), expected, "{name}");
        world.destroy(&with, &record, Reboot::Never).await.unwrap();
        assert_eq!(world.attached_group("shop"), DEFAULT, "{name}");
    }
}

/// A custom group that was edited and then replaced by another one has none of our values when it comes back.
#[tokio::test]
async fn a_group_that_was_left_gets_its_values_back() {
    let world = World::new(vec![on_group("theirs")], short()).await;
    world.set_parameter("theirs", "max_wal_senders", "25");
    let mut desired = LogicalReplication::new("shop");
    desired.parameters.insert("max_wal_senders".to_owned(), "30".to_owned());
    let mut record = Record::default();
    world.apply(&With::new(&desired), &mut record).await.unwrap();
    assert_eq!(world.parameter("theirs", "max_wal_senders").as_deref(), Some("30"));

    desired.parameter_group_name = Some("mine".to_owned());
    let applied = world.apply(&With::new(&desired), &mut record).await.unwrap();
    let given_back =
        "in parameter group theirs, set max_wal_senders: 30 -> 25, rds.logical_replication: 1 -> (default)";
    assert!(applied.steps.iter().any(|step| step.to_string() == given_back), "{:?}", applied.steps);
    assert_eq!(world.attached_group("shop"), "mine");
    assert_eq!(world.parameter("mine", "max_wal_senders").as_deref(), Some("30"));
    let is_as_before = || {
        assert_eq!(world.parameter("theirs", "max_wal_senders").as_deref(), Some("25"));
        assert_eq!(world.parameter("theirs", "rds.logical_replication"), None);
    };
    is_as_before();
    assert!(record.left_values.is_empty());

    world.destroy(&With::new(&desired), &record, Reboot::Never).await.unwrap();
    assert_eq!(world.attached_group("shop"), "theirs");
    assert_eq!(world.custom_groups(), ["theirs"]);
    is_as_before();
}
