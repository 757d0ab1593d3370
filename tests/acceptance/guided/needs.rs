// SPDX-License-Identifier: MPL-2.0

//! What the guide "Go back" lists as needed before a cutover: without any of it, the plan of the cutover says what is missing.

use super::Page;
use crate::common::cli::{Core, Workspace, says};
use crate::common::postgres::{Major, SUPERUSER, Server, Settings, settings};
use crate::replication::Pair;

/// The beginnings of the rows of the guide's table, in its order, each with what the plan says where that is missing.
const NEEDED: [(&str, &str); 6] = [
    ("`wal_level = logical`", "wal_level"),
    ("a role with `REPLICATION`", "REPLICATION;"),
    ("a primary key, or another replica identity", "REPLICA IDENTITY"),
    ("`pg_create_subscription`", "GRANT pg_create_subscription TO"),
    ("a free slot and a free walsender", "max_replication_slots"),
    ("a free worker", "max_logical_replication_workers"),
];

const CONFIGURATION: &str = "resource \"neonrepl_publication\" \"shop\" {
  name   = \"shop\"
  tables = [\"orders\"]
}

resource \"neonrepl_subscription\" \"shop\" {
  name                  = \"shop\"
  publications          = [neonrepl_publication.shop.name]
  wait_for_initial_sync = true
}
";

const CUTOVER: &str = "
resource \"neonrepl_cutover\" \"shop\" {
  subscriptions = [neonrepl_subscription.shop.name]
  active        = \"publisher\"

  reverse {
    username    = \"back\"
    password_wo = \"pw-back-of-the-guide-4Hs\"
  }
}
";

/// Two servers with a replicated table, and a workspace that adds a cutover to it.
struct Needs {
    from: Server,
    to: Server,
    pair: Pair,
    workspace: Workspace,
}

impl Needs {
    async fn begin(core: Core) -> Self {
        let [from, to] = [Major::V17, Major::V18].map(|major| Server::start(major, Settings::new()));
        let pair = Pair::on(&from, &to, "needs").await;
        to.open(SUPERUSER).sql("CREATE ROLE back LOGIN REPLICATION PASSWORD 'pw-back-of-the-guide-4Hs'").await;
        from.open(SUPERUSER).sql("CREATE ROLE plain LOGIN REPLICATION PASSWORD 'pw-plain-9Qe'").await;
        let workspace = pair.workspace(core).await;
        workspace.write("main.tf", CONFIGURATION);
        workspace.apply().await;
        workspace.write("cutover.tf", CUTOVER);
        Self { from, to, pair, workspace }
    }

    /// Takes away what the row of the table names, or gives it back.
    async fn set(&mut self, row: usize, given: bool) {
        let Self { from, to, pair, workspace } = self;
        match (row, given) {
            (0, false) => to.restart(settings([("wal_level", "replica")])),
            (0, true) => to.restart(settings([("wal_level", "logical")])),
            (1, false) => pair.subscriber.sql("ALTER ROLE back NOREPLICATION").await,
            (1, true) => pair.subscriber.sql("ALTER ROLE back REPLICATION").await,
            (2, false) => pair.subscriber.sql("ALTER TABLE orders DROP CONSTRAINT orders_pkey").await,
            (2, true) => pair.subscriber.sql("ALTER TABLE orders ADD PRIMARY KEY (id)").await,
            (3, false) => {
                let url = pair.publisher.url().replace("postgres:pw-superuser-7Qx2", "plain:pw-plain-9Qe");
                workspace.env("NEONREPL_PUBLISHER_URL", &url);
                pair.publisher.sql("ALTER TABLE orders OWNER TO plain; ALTER PUBLICATION shop OWNER TO plain").await;
            }
            (3, true) => {
                workspace.env("NEONREPL_PUBLISHER_URL", &pair.publisher.url());
            }
            (4, false) => {
                to.restart(settings([("max_replication_slots", "1")]));
                pair.subscriber.sql("SELECT pg_create_logical_replication_slot('other', 'pgoutput')").await;
            }
            (4, true) => pair.subscriber.sql("SELECT pg_drop_replication_slot('other')").await,
            (_, false) => from.restart(settings([("max_logical_replication_workers", "0")])),
            (_, true) => from.restart(settings([("max_logical_replication_workers", "4")])),
        }
    }
}

#[tokio::test]
async fn the_plan_checks_what_the_guide_lists() {
    let page = Page::read("go-back.md");
    let rows = page.first_cells("## What is needed before the cutover");
    assert_eq!(rows.len(), NEEDED.len(), "{rows:?}");
    for core in Core::installed().into_iter().take(1) {
        let mut needs = Needs::begin(core).await;
        for (at, (row, said)) in NEEDED.into_iter().enumerate() {
            assert!(rows[at].starts_with(row), "{row:?} is not {:?}", rows[at]);
            needs.set(at, false).await;
            // Rights of the role of the way back are warnings, as the same apply may give them. The rest is refused.
            let plan = needs.workspace.run(&["plan", "-no-color"]).await;
            says(&plan, &[said]);
            needs.set(at, true).await;
        }
        // With all of it, and without a right to the tables for the role, the way back is made.
        needs.workspace.apply().await;
        needs.workspace.destroy().await;
    }
}
