// SPDX-License-Identifier: MPL-2.0

//! A publisher and a subscriber for one test, and workspaces whose provider is configured for them.

use std::sync::OnceLock;
use std::time::Duration;

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Database, Major, Role, SUPERUSER_PASSWORD, Server, Settings};
use crate::common::wait::wait_until;

/// How long a condition on the servers may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Makes a test of this asynchronous function for each core, from Postgres 15 to 18 and from 18 to 15.
macro_rules! on_every_pair {
    ($($life:ident),+ $(,)?) => {$(
        mod $life {
            use crate::common::cli::Core::{OpenTofu, Terraform};
            use crate::common::postgres::Major::{V15, V18};

            #[tokio::test]
            async fn terraform_from_15_to_18() {
                super::$life(Terraform, V15, V18).await;
            }

            #[tokio::test]
            async fn terraform_from_18_to_15() {
                super::$life(Terraform, V18, V15).await;
            }

            #[tokio::test]
            async fn opentofu_from_15_to_18() {
                super::$life(OpenTofu, V15, V18).await;
            }

            #[tokio::test]
            async fn opentofu_from_18_to_15() {
                super::$life(OpenTofu, V18, V15).await;
            }
        }
    )+};
}
pub(crate) use on_every_pair;

/// The tables that [`Pair`] makes on both sides.
const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text);
    CREATE TABLE customers (id int PRIMARY KEY, name text);
    CREATE TABLE invoices (id int PRIMARY KEY, total numeric, region text, note text);";

/// The server of one major that only has subscribers: a test's open transaction on a publisher delays the creation of
/// slots there, but not here.
pub(crate) fn subscribers(major: Major) -> &'static Server {
    static SERVERS: [OnceLock<Server>; Major::ALL.len()] = [const { OnceLock::new() }; Major::ALL.len()];
    SERVERS[major as usize].get_or_init(|| Server::start(major, Settings::new()))
}

/// Two databases on two servers.
pub(crate) struct Pair {
    pub(crate) publisher: Database,
    pub(crate) subscriber: Database,
}

impl Pair {
    /// New databases on the shared servers, with the same empty tables.
    pub(crate) async fn new(publisher: Major, subscriber: Major, prefix: &str) -> Self {
        let pair = Self::empty(publisher, subscriber, prefix).await;
        pair.publisher.sql(TABLES).await;
        pair.subscriber.sql(TABLES).await;
        pair
    }

    /// New empty databases on the shared servers.
    pub(crate) async fn empty(publisher: Major, subscriber: Major, prefix: &str) -> Self {
        Self {
            publisher: servers::shared(publisher).database(&format!("{prefix}_from")).await,
            subscriber: subscribers(subscriber).database(&format!("{prefix}_to")).await,
        }
    }

    /// New databases on these servers, with the same empty tables.
    pub(crate) async fn on(publisher: &Server, subscriber: &Server, prefix: &str) -> Self {
        let pair = Self {
            publisher: publisher.database(&format!("{prefix}_from")).await,
            subscriber: subscriber.database(&format!("{prefix}_to")).await,
        };
        pair.publisher.sql(TABLES).await;
        pair.subscriber.sql(TABLES).await;
        pair
    }

    /// New databases on two servers that replicate from each other.
    pub(crate) async fn crossing(prefix: &str) -> Self {
        let pair = Self {
            publisher: subscribers(Major::V17).database(&format!("{prefix}_from")).await,
            subscriber: subscribers(Major::V16).database(&format!("{prefix}_to")).await,
        };
        pair.publisher.sql(TABLES).await;
        pair.subscriber.sql(TABLES).await;
        pair
    }

    /// The same in the opposite direction.
    pub(crate) fn reversed(self) -> Self {
        Self { publisher: self.subscriber, subscriber: self.publisher }
    }

    /// New databases on one server.
    pub(crate) async fn on_one_server(major: Major, prefix: &str) -> Self {
        let server = servers::shared(major);
        let pair = Self {
            publisher: server.database(&format!("{prefix}_from")).await,
            subscriber: server.database(&format!("{prefix}_to")).await,
        };
        pair.publisher.sql(TABLES).await;
        pair.subscriber.sql(TABLES).await;
        pair
    }

    /// An initialized workspace whose environment configures the provider, because the core prints values of a
    /// configuration in a plan.
    pub(crate) async fn workspace(&self, core: Core) -> Workspace {
        self.workspace_with(core, &self.publisher.url(), &self.subscriber.url()).await
    }

    /// The same with other URLs.
    pub(crate) async fn workspace_with(&self, core: Core, publisher: &str, subscriber: &str) -> Workspace {
        let mut workspace = Workspace::new(core);
        workspace.secret(SUPERUSER_PASSWORD);
        workspace.env("NEONREPL_PUBLISHER_URL", publisher).env("NEONREPL_SUBSCRIBER_URL", subscriber);
        workspace.init().await;
        workspace
    }

    /// A role on the subscriber's server, which must be the one for subscribers of that major.
    pub(crate) async fn role_of_subscriber(&self, major: Major, prefix: &str, attributes: &str) -> Role {
        let server = subscribers(major);
        assert_eq!(server.port(), self.subscriber.port, "the subscriber is on another server");
        server.role(prefix, attributes).await
    }

    /// Waits until a query on the subscriber returns these rows.
    pub(crate) async fn wait_for_rows(&self, query: &str, rows: &[&str]) {
        wait_until(&format!("{rows:?} from {query}"), DEADLINE, async || self.subscriber.rows(query).await == rows)
            .await;
    }

    /// The logical slots of the publisher's database, without temporary ones for copies of tables.
    pub(crate) async fn slots(&self) -> Vec<String> {
        let query = "SELECT slot_name FROM pg_replication_slots \
            WHERE database = current_database() AND slot_name !~ '^pg_[0-9]+_sync_' ORDER BY 1";
        self.publisher.rows(query).await
    }
}
