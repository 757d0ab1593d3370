// SPDX-License-Identifier: MPL-2.0

//! The target of the publisher connection: only the writer's own answer is proof, and slots are only checked on the
//! writer.

use std::cell::Cell;
use std::net::IpAddr;

use futures_util::future::BoxFuture;
use neonrepl::rds::Error;
use neonrepl::rds::logical_replication::{
    Applied, LogicalReplication, Probe, ProbeError, Reboot, Record, ServerIdentity, ServerSettings,
};

use super::{ALL, DEFAULT, DELETE, OWN, With, World, check_failure, print_table, short};
use crate::common::aurora::ClusterConfig;

/// The target of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    /// To the writer, which reports that it is.
    Named,
    /// To the writer by its endpoint; the server does not report its identity.
    Endpoint,
    /// To the writer by another name of the endpoint's address.
    Alias,
    /// To the writer through a tunnel on loopback; the server does not report its identity.
    Tunnel,
    /// To another member of the cluster, which reports that it is.
    Reader,
    /// To another cluster, which reports that it is.
    Stranger,
    /// To the endpoint of something else.
    OtherEndpoint,
    /// Through a tunnel to a logical server that does not report its identity.
    Elsewhere,
}

/// A connection with this target.
struct Connection<'a> {
    world: &'a World,
    leads: Leads,
}

impl Connection<'_> {
    fn server(&self) -> ServerIdentity {
        let (host, port) = self.world.address(self.world.writer_instance("shop").as_deref().unwrap_or("shop-1"));
        let says = |instance: &str| Some(instance.to_owned());
        let tunnel = ServerIdentity { host: "localhost".to_owned(), port: 1, ..ServerIdentity::default() };
        match self.leads {
            Leads::Named => ServerIdentity { instance: self.world.writer_instance("shop"), ..tunnel },
            Leads::Endpoint => ServerIdentity { host, port, ..tunnel },
            Leads::Alias => ServerIdentity { host: "shop.example".to_owned(), port, ..tunnel },
            Leads::Tunnel | Leads::Elsewhere => tunnel,
            Leads::Reader => ServerIdentity { instance: says("shop-2"), ..tunnel },
            Leads::Stranger => ServerIdentity { instance: says("other-1"), ..tunnel },
            Leads::OtherEndpoint => {
                ServerIdentity { host: "other.abc.us-east-2.rds.amazonaws.com".to_owned(), port: 5432, ..tunnel }
            }
        }
    }

    fn is_the_writer(&self) -> bool {
        matches!(self.leads, Leads::Named | Leads::Endpoint | Leads::Alias | Leads::Tunnel)
    }
}

impl Probe for Connection<'_> {
    fn settings(&self) -> BoxFuture<'_, Result<ServerSettings, ProbeError>> {
        let elsewhere = ServerSettings {
            wal_level: "logical".to_owned(),
            rds_logical_replication: Some("on".to_owned()),
            started_at: Some(1),
            ..ServerSettings::default()
        };
        let said = if self.is_the_writer() { self.world.writer() } else { Ok(elsewhere) };
        let said = said.map(|settings| ServerSettings { server: self.server(), ..settings });
        Box::pin(std::future::ready(said))
    }

    fn addresses(&self, host: &str) -> BoxFuture<'_, Vec<IpAddr>> {
        let is_known = host == "127.0.0.1" || host == "shop.example";
        let all = is_known.then(|| IpAddr::from([127, 0, 0, 1]));
        Box::pin(std::future::ready(all.into_iter().collect()))
    }
}

async fn apply(
    world: &World,
    leads: Leads,
    desired: &LogicalReplication,
    record: &mut Record,
) -> Result<Applied, Error> {
    let connection = Connection { world, leads };
    world.apply_asking(&With::new(desired), record, Some(&connection)).await
}

const KNOWN: [Leads; 4] = [Leads::Named, Leads::Endpoint, Leads::Alias, Leads::Tunnel];

/// The texts for other servers, and for an unidentified one.
const OTHERS: [(Leads, &str); 3] = [
    (Leads::Reader, "leads to shop-2, a reader of the DB cluster shop"),
    (Leads::Stranger, "leads to DB instance other-1, and not to the DB cluster shop"),
    (Leads::OtherEndpoint, "leads to other.abc.us-east-2.rds.amazonaws.com, and not to the DB cluster shop"),
];
const UNKNOWN: &str = "is not known to lead to the DB cluster shop";

fn shop() -> ClusterConfig {
    super::shop().readers(1)
}

#[tokio::test]
async fn every_publisher() {
    let mut rows = Vec::new();
    let mut row = |name: String, outcome: &str| rows.push((name, outcome.to_owned()));
    creates(&mut row).await;
    updates(&mut row).await;
    destroys(&mut row).await;
    instances(&mut row).await;
    print_table("aurora, publishers", &rows);
}

type Row<'a> = &'a mut dyn FnMut(String, &str);

async fn creates(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    for leads in KNOWN {
        let (world, mut record) = (World::new(vec![shop()], short()).await, Record::default());
        let applied = apply(&world, leads, &desired, &mut record).await.unwrap();
        assert!(applied.current.settings.is_some_and(|settings| settings.is_logical()), "{leads:?}");
        assert_eq!(world.done(), ALL, "{leads:?}");
        row(format!("create, {leads:?}"), "proven");
    }
    for (leads, says) in OTHERS {
        let (world, mut record) = (World::new(vec![shop()], short()).await, Record::default());
        // A reader may become the writer, so the apply waits.
        let soon = With { timeout: std::time::Duration::from_secs(4), ..With::new(&desired) };
        let connection = Connection { world: &world, leads };
        let refused = world.apply_asking(&soon, &mut record, Some(&connection)).await;
        check_failure(&format!("{leads:?}"), &refused, &[says, "verify = false"]);
        assert_eq!(world.done(), [""; 0], "{leads:?}");
        row(format!("create, {leads:?}"), "refused before anything changes");
    }
    let (world, mut record) = (World::new(vec![shop()], short()).await, Record::default());
    let unproven = apply(&world, Leads::Elsewhere, &desired, &mut record).await;
    let says = ["the server there did not restart when the writer did", "publisher block connect to 127.0.0.1"];
    check_failure("Elsewhere", &unproven, &says);
    assert_eq!(world.rebooted(), ["shop-1"], "it is not rebooted for what another server says");
    row("create, Elsewhere".to_owned(), "fails: the server there did not restart when the writer did");
    let applied = apply(&world, Leads::Tunnel, &desired, &mut record).await.unwrap();
    assert_eq!(applied.current.settings, None, "nothing tells who answers, without a reboot");
    row("create, Elsewhere, and then a tunnel to the writer".to_owned(), "done, nothing proven");
}

/// A cluster that was made logical over this connection, and its record.
async fn logical(leads: Leads) -> (World, Record) {
    let (world, mut record) = (World::new(vec![shop()], short()).await, Record::default());
    apply(&world, leads, &LogicalReplication::new("shop"), &mut record).await.unwrap();
    world.forget_calls();
    (world, record)
}

async fn updates(row: Row<'_>) {
    let mut desired = LogicalReplication::new("shop");
    desired.parameters.insert("wal_sender_timeout".to_owned(), "0".to_owned());
    for leads in KNOWN {
        let (world, mut record) = logical(leads).await;
        let applied = apply(&world, leads, &desired, &mut record).await.unwrap();
        assert!(applied.current.settings.is_some_and(|settings| settings.is_logical()), "{leads:?}");
        assert_eq!(world.rebooted(), [""; 0], "{leads:?}");
        row(format!("update without a reboot, {leads:?}"), "proven");
    }
    desired.parameters.insert("max_replication_slots".to_owned(), "33".to_owned());
    for leads in KNOWN {
        let (world, mut record) = logical(leads).await;
        let applied = apply(&world, leads, &desired, &mut record).await.unwrap();
        assert!(applied.current.settings.is_some_and(|settings| settings.is_logical()), "{leads:?}");
        assert_eq!(world.rebooted(), ["shop-1"], "{leads:?}");
        row(format!("update with a reboot, {leads:?}"), "proven");
    }
    let (world, mut record) = logical(Leads::Tunnel).await;
    let refused = apply(&world, Leads::Stranger, &desired, &mut record).await;
    check_failure("update, Stranger", &refused, &["leads to DB instance other-1"]);
    assert_eq!(world.done(), [""; 0]);
    row("update, Stranger".to_owned(), "refused before anything changes");
}

async fn destroys(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let with = With::new(&desired);
    for reboot in [Reboot::Never, Reboot::Writer] {
        for leads in KNOWN {
            let (world, record) = logical(leads).await;
            let connection = Connection { world: &world, leads };
            let undone = world.destroy_asking(&with, &record, reboot, Some(&connection)).await;
            undone.unwrap_or_else(|error| panic!("{leads:?}: {error}"));
            assert_eq!(
                (world.attached_group("shop"), world.custom_groups()),
                (DEFAULT.to_owned(), vec![]),
                "{leads:?}"
            );
            row(format!("destroy, {reboot:?}, {leads:?}"), "done");
        }
        for (leads, says) in OTHERS.into_iter().chain([(Leads::Elsewhere, UNKNOWN)]) {
            let (world, record) = logical(Leads::Named).await;
            let connection = Connection { world: &world, leads };
            let refused = world.destroy_asking(&with, &record, reboot, Some(&connection)).await;
            let name = format!("destroy, {reboot:?}, {leads:?}");
            check_failure(&name, &refused, &["slots could not be listed", says, "skip_destroy = true"]);
            assert_eq!(world.done(), [""; 0], "{name}");
            row(name, "refused before anything changes");
        }
        let (world, record) = logical(Leads::Named).await;
        let refused = world.destroy_asking(&with, &record, reboot, None).await;
        check_failure("no connection", &refused, &["it is not known whether logical replication slots exist"]);
        assert_eq!(world.done(), [""; 0]);
        row(format!("destroy, {reboot:?}, no connection"), "refused before anything changes");
    }
    let (world, record) = logical(Leads::Named).await;
    world.swap_group("shop", DEFAULT);
    world.run_as_configured("shop-1");
    let connection = Connection { world: &world, leads: Leads::Stranger };
    world.destroy_asking(&with, &record, Reboot::Never, Some(&connection)).await.unwrap();
    assert_eq!(world.done(), [DELETE], "what nothing depends on is deleted all the same");
    row("destroy, Stranger, the group is attached no more".to_owned(), "done: the group is deleted");
    turns_away(row).await;
}

/// The connection leads to another server from the second query on: right before the reboot.
async fn turns_away(row: Row<'_>) {
    struct Turning<'a>(&'a World, Cell<usize>);
    // Only one thread uses it, one query after the other.
    struct Shared<T>(std::sync::Mutex<T>);
    impl Probe for Shared<Turning<'_>> {
        fn settings(&self) -> BoxFuture<'_, Result<ServerSettings, ProbeError>> {
            let turning = self.0.lock().unwrap();
            let leads = if turning.1.replace(turning.1.get() + 1) == 0 { Leads::Named } else { Leads::Stranger };
            let connection = Connection { world: turning.0, leads };
            let server = connection.server();
            Box::pin(std::future::ready(turning.0.writer().map(|settings| ServerSettings { server, ..settings })))
        }
    }
    let desired = LogicalReplication::new("shop");
    let (world, record) = logical(Leads::Named).await;
    let probe = Shared(std::sync::Mutex::new(Turning(&world, Cell::new(0))));
    let refused = world.destroy_asking(&With::new(&desired), &record, Reboot::Writer, Some(&probe)).await;
    check_failure("turns away", &refused, &["leads to DB instance other-1"]);
    assert_eq!(world.rebooted(), [""; 0]);
    row("destroy, Writer, another server before the reboot".to_owned(), "refused before the reboot");
}

/// A DB instance does not report its identity.
async fn instances(row: Row<'_>) {
    let desired = LogicalReplication::new("shop");
    let with = With::new(&desired);
    for leads in [Leads::Endpoint, Leads::Alias, Leads::Tunnel] {
        let world = World::new(vec![ClusterConfig::instance("shop", "16.4")], short()).await;
        let (connection, mut record) = (Connection { world: &world, leads }, Record::default());
        let applied = world.apply_asking(&with, &mut record, Some(&connection)).await.unwrap();
        assert!(applied.current.settings.is_some_and(|settings| settings.is_logical()), "{leads:?}");
        world.destroy_asking(&with, &record, Reboot::Writer, Some(&connection)).await.unwrap();
        assert_eq!(world.attached_group("shop"), "default.postgres16", "{leads:?}");
        row(format!("instance, {leads:?}"), "proven, given back");
    }
    for (leads, says) in [
        (Leads::Stranger, "leads to DB instance other-1, and not to the DB instance shop"),
        (Leads::OtherEndpoint, "leads to other.abc.us-east-2.rds.amazonaws.com, and not to the DB instance shop"),
        (Leads::Elsewhere, "did not restart when the instance did"),
    ] {
        let world = World::new(vec![ClusterConfig::instance("shop", "16.4")], short()).await;
        let (connection, mut record) = (Connection { world: &world, leads }, Record::default());
        let refused = world.apply_asking(&with, &mut record, Some(&connection)).await;
        check_failure(&format!("instance, {leads:?}"), &refused, &[says]);
        row(format!("instance, {leads:?}"), "fails");
        let refused = world.destroy_asking(&with, &record, Reboot::Never, Some(&connection)).await;
        match leads {
            Leads::Elsewhere => check_failure("instance", &refused, &["slots could not be listed"]),
            _ => assert_eq!(world.custom_groups(), [""; 0]),
        }
        assert_eq!(world.custom_groups().contains(&OWN.to_owned()), leads == Leads::Elsewhere);
    }
}
