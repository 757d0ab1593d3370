// SPDX-License-Identifier: MPL-2.0

//! A lane, where cases run one after the other: two servers that they may kill, fault points in front of them, and
//! a workspace.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::common::cli::{Core, Run, Workspace, says};
use crate::common::fault_point::FaultPoint;
use crate::common::postgres::{Database, Major, Role, SUPERUSER_PASSWORD, Server, Settings, settings};
use crate::common::wait::{wait_for, wait_until};

/// How long a condition may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The tables of both sides.
const TABLES: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text);
    CREATE TABLE customers (id int PRIMARY KEY, name text);";

/// The objects that only the publisher has, to be created on the subscriber.
const MALL: &str = "
    CREATE SCHEMA mall;
    CREATE TYPE mall.mood AS ENUM ('sad', 'glad');
    CREATE TABLE mall.goods (id int PRIMARY KEY, mood mall.mood DEFAULT 'glad');
    CREATE INDEX goods_mood ON mall.goods (mood);
    CREATE STATISTICS mall.goods_stats ON id, mood FROM mall.goods;
    CREATE TABLE mall.lines (id int PRIMARY KEY, good int CONSTRAINT lines_good REFERENCES mall.goods);";

/// A role on both sides that can become an owner.
const ROLE: &str = "CREATE ROLE keeper SUPERUSER";

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Publisher,
    Subscriber,
}

/// A server of the lane.
pub(crate) struct Side {
    pub(crate) server: Server,
    pub(crate) point: FaultPoint,
    pub(crate) database: Database,
}

impl Side {
    async fn start(major: Major) -> Self {
        // Commits survive a kill.
        let server = Server::start(major, settings([("synchronous_commit", "on")]));
        let database = server.database("shop").await;
        database.sql(TABLES).await;
        database.sql(ROLE).await;
        Self { point: FaultPoint::start(server.port()), server, database }
    }

    /// The URL through the fault point.
    pub(crate) fn url(&self) -> String {
        self.database.url_through(&Role::superuser(), self.point.port())
    }

    /// Kills the server and starts it again, with every connection gone.
    pub(crate) fn crash(&mut self) {
        self.server.kill();
        self.point.cut();
        self.server.restart(Settings::new());
    }

    /// Waits until the server runs a statement that begins so, and that statement waits for a lock. Returns its
    /// process.
    pub(crate) async fn wait_for_blocked(&self, statement: &str) -> i32 {
        let query = format!(
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND wait_event_type = 'Lock' \
             AND starts_with(query, '{}')",
            statement.replace('\'', "''")
        );
        wait_for(&format!("{statement} to wait"), DEADLINE, async || self.database.optional(&query).await).await
    }

    /// Waits until a process of the server has ended.
    pub(crate) async fn wait_for_end(&self, process: i32) {
        let query = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process}");
        wait_until("a process to end", DEADLINE, async || self.database.value::<i64>(&query).await == 0).await;
    }

    /// Waits until no provider is connected.
    pub(crate) async fn wait_for_no_session(&self) {
        wait_until("the sessions to end", DEADLINE, async || self.sessions().await == 0).await;
    }

    /// How many connections of providers there are.
    async fn sessions(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'terraform-provider-neonrepl%'";
        self.database.value(query).await
    }
}

/// Two servers and a workspace.
pub(crate) struct Lane {
    pub(crate) publisher: Side,
    pub(crate) subscriber: Side,
    pub(crate) workspace: Workspace,
}

const PUBLICATIONS: &str = "SELECT concat_ws(' ', 'publication', p.pubname, CASE WHEN p.puballtables THEN 'all tables' END, \
    (SELECT string_agg(c.relname, ',' ORDER BY c.relname) FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid \
     WHERE r.prpubid = p.oid), CASE WHEN NOT p.pubdelete THEN 'without delete' END, 'of ' || pg_get_userbyid(p.pubowner)) \
    FROM pg_publication p WHERE p.pubname NOT LIKE 'given%' ORDER BY 1";

/// The publisher's tables whose replica identity differs from the start.
const IDENTITIES: &str = "SELECT concat('replica identity ', relname, ' ', relreplident) FROM pg_class \
    WHERE relname IN ('orders', 'customers') AND relreplident <> 'd' ORDER BY 1";

/// The objects of the publisher's initial schema that the subscriber has, all in one line.
const MADE: &str = "SELECT concat('made ', string_agg(o.name, ',' ORDER BY o.name)) FROM ( \
    SELECT c.relname::text, relnamespace FROM pg_class c WHERE relkind = 'r' UNION ALL SELECT typname, typnamespace FROM pg_type WHERE typtype = 'e' \
    UNION ALL SELECT nspname, oid FROM pg_namespace) o (name, schema) JOIN pg_namespace n ON n.oid = o.schema AND n.nspname = 'mall' \
    HAVING count(*) > 0";

/// The valid objects of it that are created after the copy.
const LATE: &str = "SELECT concat('late ', string_agg(o.name, ',' ORDER BY o.name)) FROM ( \
    SELECT c.relname::text FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid AND c.relnamespace = to_regnamespace('mall') \
      WHERE x.indisvalid AND NOT x.indisprimary \
    UNION ALL SELECT conname FROM pg_constraint WHERE contype = 'f' AND convalidated AND connamespace = to_regnamespace('mall') \
    UNION ALL SELECT stxname FROM pg_statistic_ext WHERE stxnamespace = to_regnamespace('mall')) o (name) HAVING count(*) > 0";

const SLOTS: &str = "SELECT concat_ws(' ', 'slot', slot_name, nullif(plugin, 'pgoutput'), \
    CASE WHEN to_jsonb(s) ->> 'failover' = 'true' THEN 'failover' END) \
    FROM pg_replication_slots s WHERE slot_name !~ '^pg_[0-9]+_sync_' ORDER BY 1";

const SUBSCRIPTIONS: &str = "SELECT concat_ws(' ', 'subscription', subname, CASE WHEN NOT subenabled THEN 'disabled' END, \
    (SELECT string_agg(p, ',' ORDER BY p) FROM unnest(subpublications) p), CASE WHEN subbinary THEN 'binary' END, \
    CASE WHEN to_jsonb(s) ->> 'subtwophasestate' <> 'd' THEN 'two_phase' END, \
    CASE WHEN to_jsonb(s) ->> 'subfailover' = 'true' THEN 'failover' END, 'of ' || pg_get_userbyid(subowner)) \
    FROM pg_subscription s ORDER BY 1";

impl Lane {
    pub(crate) async fn new(publisher: Major, subscriber: Major) -> Self {
        let (publisher, subscriber) = (Side::start(publisher).await, Side::start(subscriber).await);
        publisher.database.sql(MALL).await;
        publisher.database.sql("CREATE PUBLICATION given FOR TABLE orders; CREATE PUBLICATION given_too").await;
        let mut workspace = Workspace::new(Core::OpenTofu);
        workspace.secret(SUPERUSER_PASSWORD);
        // Creating its keys is much of the work of a start, and has its own tests.
        workspace.env("TF_DISABLE_PLUGIN_TLS", "1");
        workspace.env("NEONREPL_PUBLISHER_URL", &publisher.url());
        workspace.env("NEONREPL_SUBSCRIBER_URL", &subscriber.url());
        workspace.init().await;
        Self { publisher, subscriber, workspace }
    }

    pub(crate) fn side(&mut self, on: On) -> &mut Side {
        match on {
            On::Publisher => &mut self.publisher,
            On::Subscriber => &mut self.subscriber,
        }
    }

    /// The existing objects, one line each, without the initial ones.
    pub(crate) async fn objects(&self) -> Vec<String> {
        let mut objects = self.publisher.database.rows(PUBLICATIONS).await;
        objects.extend(self.publisher.database.rows(SLOTS).await);
        objects.extend(self.publisher.database.rows(IDENTITIES).await);
        objects.extend(self.subscriber.database.rows(SUBSCRIPTIONS).await);
        objects.extend(self.subscriber.database.rows(MADE).await);
        objects.extend(self.subscriber.database.rows(LATE).await);
        objects
    }

    /// The same from the state, where the slot of a subscription is not an object of its own.
    pub(crate) fn state(&self) -> Vec<String> {
        let state: Value = serde_json::from_str(&self.workspace.state()).unwrap_or_default();
        let resources = state["resources"].as_array().cloned().unwrap_or_default();
        let described = resources.iter().filter_map(|resource| {
            let attributes = resource["instances"].get(0)?.get("attributes")?;
            describe(resource["type"].as_str()?, attributes)
        });
        described.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The information for a failure: the core's whole output, and the end of the servers' logs.
    pub(crate) fn evidence(&self) -> String {
        let mut evidence = self.workspace.take_transcript();
        for (name, side) in [("publisher", &self.publisher), ("subscriber", &self.subscriber)] {
            let log = side.server.log();
            let lines: Vec<_> = log.lines().collect();
            evidence
                .push_str(&format!("the {name}'s log ends:\n{}\n", lines[lines.len().saturating_sub(40)..].join("\n")));
        }
        evidence
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, text: &str) {
        self.workspace.write("main.tf", text);
    }

    /// Applies, or destroys everything if the configuration is empty.
    pub(crate) fn command(text: &str) -> [&'static str; 3] {
        [if text.is_empty() { "destroy" } else { "apply" }, "-auto-approve", "-no-color"]
    }

    /// Applies a configuration that must succeed.
    pub(crate) async fn apply(&self, text: &str) -> Run {
        self.configure(text);
        self.workspace.expect(&Self::command(text), 0).await
    }

    /// Applies a configuration that must be refused with all of these words.
    pub(crate) async fn refuse(&self, text: &str, said: &[&str]) {
        self.configure(text);
        let run = self.workspace.expect(&Self::command(text), 1).await;
        says(&run, said);
    }

    /// Plans the current configuration; the plan must have all of these words, whether it succeeds or not.
    pub(crate) async fn plan_says(&self, said: &[&str]) {
        says(&self.workspace.plan().await, said);
    }

    /// Empties the tables of both sides.
    pub(crate) async fn empty_tables(&self) {
        for side in [&self.publisher, &self.subscriber] {
            side.database.sql("TRUNCATE orders, customers").await;
        }
    }

    /// Waits until a query on the subscriber returns these rows.
    pub(crate) async fn wait_for_rows(&self, query: &str, rows: &[&str]) {
        let what = format!("{rows:?} from {query}");
        wait_until(&what, DEADLINE, async || self.subscriber.database.rows(query).await == rows).await;
    }

    /// Waits until no provider runs any more, and neither server has a session of one.
    pub(crate) async fn wait_for_quiet(&self) {
        wait_until("the provider to end", DEADLINE, async || self.workspace.providers() == 0).await;
        for side in [&self.publisher, &self.subscriber] {
            side.wait_for_no_session().await;
        }
    }

    /// Destroys everything; nothing may be left.
    pub(crate) async fn clean(&self) {
        self.apply("").await;
        self.expect_nothing().await;
    }

    /// Removes objects of an apply whose state is lost, because no destroy does so.
    pub(crate) async fn take_back_what_was_made(&self) {
        self.subscriber.database.sql("DROP SCHEMA IF EXISTS mall CASCADE").await;
        self.publisher.database.sql("ALTER TABLE orders REPLICA IDENTITY DEFAULT").await;
    }

    /// Checks that nothing is left, neither on the servers nor in the state.
    pub(crate) async fn expect_nothing(&self) {
        self.wait_for_quiet().await;
        // The slot of a table's copy is dropped a moment after the subscription.
        let slots = "SELECT count(*) FROM pg_replication_slots";
        wait_until("the slots to go", DEADLINE, async || self.publisher.database.value::<i64>(slots).await == 0).await;
        assert_eq!(self.objects().await, [""; 0]);
        assert_eq!(self.state(), [""; 0]);
    }
}

/// A line in the form of [`Lane::objects`].
fn describe(kind: &str, attributes: &Value) -> Option<String> {
    let text = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
    let list = |name: &str| {
        let items = attributes[name].as_array().cloned().unwrap_or_default();
        let items: BTreeSet<_> =
            items.iter().filter_map(Value::as_str).map(|item| item.replace("public.", "")).collect();
        items.into_iter().collect::<Vec<_>>().join(",")
    };
    let is = |name: &str| attributes[name] == true;
    let when = |yes: bool, word: &str| if yes { word.to_owned() } else { String::new() };
    let owner = format!("of {}", text("owner"));
    let words = match kind {
        "neonrepl_publication" => vec![
            "publication".to_owned(),
            text("name"),
            when(is("all_tables"), "all tables"),
            list("tables"),
            when(!list("publish").contains("delete"), "without delete"),
            owner,
        ],
        "neonrepl_subscription" => vec![
            "subscription".to_owned(),
            text("name"),
            when(!is("enabled"), "disabled"),
            list("publications"),
            when(is("binary"), "binary"),
            when(is("two_phase"), "two_phase"),
            when(is("failover"), "failover"),
            owner,
        ],
        "neonrepl_replica_identity" => {
            let table = text("table").replace("public.", "");
            vec!["replica identity".to_owned(), table, text("identity").chars().take(1).collect()]
        }
        "neonrepl_destination_schema" if list("tables").contains("lines") => {
            vec!["made goods,lines,mall,mood".to_owned()]
        }
        "neonrepl_destination_schema" => vec!["made goods,mall,mood".to_owned()],
        "neonrepl_replication_slot" => vec![
            "slot".to_owned(),
            text("name"),
            text("plugin").replace("pgoutput", ""),
            when(is("failover"), "failover"),
        ],
        _ => return None,
    };
    Some(words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}
