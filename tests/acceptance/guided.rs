// SPDX-License-Identifier: MPL-2.0

//! The guides "Replicate Aurora PostgreSQL to Neon" and "Go back", walked from their first block to their last with
//! each core: every block and statement is taken from the page, and the output must be what the page shows.

mod needs;
mod terminal;

use std::fs;

use crate::cli::Cli;
use crate::common::aurora::{ClusterConfig, PostgresServers, StandIn, StandInConfig};
use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::{Database, Major, Role, SUPERUSER, SUPERUSER_PASSWORD, Server, Settings};
use crate::common::tools;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// Where the page's servers are.
const AURORA: &str = "shop.cluster-c9abcdefghij.us-east-2.rds.amazonaws.com";
const NEON: &str = "ep-cool-name-123456.us-east-2.aws.neon.tech";
const OWNER_PASSWORD: &str = "pw-owner-of-the-guide-2Kd9";
const REPLICATOR_PASSWORD: &str = "choose one";

/// The fenced blocks of a page, in order.
struct Page {
    text: String,
    fences: Vec<(String, String)>,
}

impl Page {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(tools::checkout().join("docs/guides").join(name)).expect("a guide");
        let parts: Vec<_> = text.split("```").collect();
        let fences = parts.chunks(2).filter_map(|part| part.get(1)).map(|fence| {
            let (language, code) = fence.split_once('\n').expect("a fence");
            (language.to_owned(), code.to_owned())
        });
        let fences = fences.collect();
        Self { text, fences }
    }

    /// The first cells of the rows of the first table after a heading.
    fn first_cells(&self, heading: &str) -> Vec<&str> {
        let (_, section) = self.text.split_once(heading).unwrap_or_else(|| panic!("no heading {heading:?}"));
        let rows = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
        rows.skip(2).filter_map(|row| row.split('|').nth(1)).map(str::trim).collect()
    }

    /// The only fenced block of a language that contains this text.
    fn fence(&self, language: &str, holds: &str) -> &str {
        let mut found = self.fences.iter().filter(|(of, code)| of == language && code.contains(holds));
        let (_, code) = found.next().unwrap_or_else(|| panic!("no {language} shows {holds:?}"));
        code
    }
}

/// A cluster on its default group, a database of Neon's kind, and a person with the page open.
struct Walk {
    core: Core,
    page: Page,
    back: Page,
    workspace: Workspace,
    aws: StandIn,
    pair: Pair,
    owner: Role,
    _neon: Server,
}

impl Walk {
    async fn begin(core: Core) -> Self {
        let cluster = ClusterConfig::new("shop", "16.4");
        let aws = StandIn::start(StandInConfig::new(PostgresServers(Major::V16), vec![cluster])).await;
        let source = aws.database("shop-1", SUPERUSER);
        // Only AWS has the granted role. Here it gives no rights, so `subscribe` adds the attribute.
        source.sql("CREATE DATABASE shop").await;
        source.sql("CREATE ROLE rds_replication").await;
        let neon = Server::start(Major::V18, Settings::new());
        let owner = Role { name: "owner".to_owned(), password: OWNER_PASSWORD.to_owned() };
        neon.create_role(&owner, "REPLICATION IN ROLE pg_create_subscription").await;
        neon.open(SUPERUSER).sql("CREATE DATABASE neondb OWNER owner").await;
        let pair = Pair { publisher: aws.database("shop-1", "shop"), subscriber: neon.open("neondb") };
        let mut workspace = Workspace::with_stand_in(core, &aws);
        workspace.remove("provider.tf");
        workspace
            .secret(OWNER_PASSWORD)
            .secret(SUPERUSER_PASSWORD)
            .env("TF_VAR_aurora_password", SUPERUSER_PASSWORD)
            .env("TF_VAR_neon_password", OWNER_PASSWORD)
            .env("TF_VAR_replicator_password", REPLICATOR_PASSWORD);
        let (page, back) = (Page::read("aurora-to-neon.md"), Page::read("go-back.md"));
        Self { core, page, back, workspace, aws, pair, owner, _neon: neon }
    }

    /// Writes the page's block with this text into a file: the page's addresses become those of the servers here.
    fn write(&self, file: &str, holds: &str) {
        self.write_from(&self.page, file, holds);
    }

    fn write_from(&self, page: &Page, file: &str, holds: &str) {
        let at = |host: &str, port: u16| {
            (format!("host     = \"{host}\""), format!("host = \"127.0.0.1\"\n    port = {port}"))
        };
        let endpoint = format!("region = \"us-east-2\"\n    endpoint_url = \"{}\"", self.aws.endpoint_url);
        let mut text = page.fence("terraform", holds).replace("    region = \"us-east-2\"", &format!("    {endpoint}"));
        for (is, becomes) in [at(AURORA, self.pair.publisher.port), at(NEON, self.pair.subscriber.port)] {
            text = text.replace(&is, &becomes);
        }
        // The rules of a security group need hashicorp/aws. Loopback needs no rules.
        let text = text.replace("aws_vpc_security_group_ingress_rule.neon, ", "");
        self.workspace.write(file, &text);
    }

    /// The output with the page's addresses. Parts that change from run to run are `#`.
    fn seen(&self, text: &str) -> String {
        let text = text.replace(&format!("127.0.0.1:{}", self.pair.publisher.port), &format!("{AURORA}:5432"));
        let text = text.replace(&format!("127.0.0.1:{}", self.pair.subscriber.port), &format!("{NEON}:5432"));
        let lines = text.lines().filter(|line| !is_of_place(line)).collect::<Vec<_>>().join("\n");
        flat(&lines.replace("127.0.0.1", NEON))
    }

    /// The page must show what was printed.
    #[track_caller]
    fn shows(&self, page: &Page, holds: &str, printed: &str) {
        let (shown, seen) = (flat(page.fence("text", holds)), self.seen(printed));
        assert!(
            seen.contains(&shown),
            "{}: the page shows\n{shown}\n\nand this was seen:\n{printed}\n\n{seen}",
            self.core.name()
        );
    }

    async fn status(&self, arguments: &[&str]) -> String {
        let cli = Cli::of(&self.pair).env("NEONREPL_SUBSCRIBER_URL", &self.pair.subscriber.url_as(&self.owner));
        let told = cli.run(arguments).await;
        assert_eq!(told.status, 0, "{arguments:?} {told:#?}");
        told.out
    }

    async fn plan(&self) -> Run {
        let plan = self.workspace.plan().await;
        assert_eq!(plan.code, Some(2), "{}", plan.text());
        plan
    }

    async fn apply(&self) -> Run {
        let run = self.workspace.apply().await;
        self.workspace.expect_empty_plan().await;
        run
    }
}

/// Whether a line of a core's message gives the place in the configuration, which the page leaves out.
fn is_of_place(line: &str) -> bool {
    let line = line.trim_start_matches(['│', ' ']);
    let number = line.split(':').next().unwrap_or_default();
    let is_quoted = line.contains(':') && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    is_quoted || line.starts_with("with neonrepl_") || (line.starts_with("on ") && line.contains(".tf line "))
}

/// One line of single-spaced words; each word with a digit becomes `#`.
fn flat(text: &str) -> String {
    let text = text.replace(['│', '╷', '╵'], " ");
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(|part| {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        match word.contains(|c: char| c.is_ascii_digit()) {
            true => format!("#{}", &part[word.len()..]),
            false => part.to_owned(),
        }
    });
    words.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn count(database: &Database) -> i64 {
    database.value("SELECT count(*) FROM playing_with_neon").await
}

#[tokio::test]
async fn the_guide_is_walked_from_its_first_block_to_its_last() {
    for core in Core::installed() {
        let walk = Walk::begin(core).await;
        prepare(&walk).await;
        subscribe(&walk).await;
        look(&walk).await;
        switch(&walk).await;
        go_back(&walk).await;
        stay(&walk).await;
    }
}

/// The provider, the cluster, the publication and the schema: steps 1 to 4.
async fn prepare(walk: &Walk) {
    let Walk { page, workspace, pair, .. } = walk;
    pair.publisher.sql(page.fence("sql", "CREATE TABLE playing_with_neon")).await;
    walk.write("main.tf", "variable \"neon_password\"");
    workspace.write("versions.tf", "");
    walk.write("cluster.tf", "neonrepl_aurora_logical_replication\" \"shop\"");
    workspace.init().await;
    let target = "-target=neonrepl_aurora_logical_replication.shop";
    assert!(page.fence("shell", "-target").contains(target));
    workspace.expect(&["apply", "-auto-approve", "-no-color", target], 0).await;
    let level: String = pair.publisher.value("SHOW wal_level").await;
    assert_eq!(level, "logical");
    walk.write(
        "publication.tf",
        "resource \"neonrepl_publication\" \"shop\" {\n  name   = \"shop\"\n  tables = [\"public.playing",
    );
    walk.write("schema.tf", "  publications = [neonrepl_publication.shop.name]\n}\n");
    walk.apply().await;
    assert_eq!(count(&pair.subscriber).await, 0);
}

/// Step 5, and the indexes that wait for the rows.
async fn subscribe(walk: &Walk) {
    let Walk { page, pair, .. } = walk;
    pair.publisher.sql(page.fence("sql", "CREATE ROLE replicator")).await;
    pair.publisher.sql("ALTER ROLE replicator REPLICATION").await;
    let ready = walk.status(&arguments(page.fence("shell", "preflight"))).await;
    assert!(ready.contains("Ready to replicate"), "{ready}");
    walk.write("subscription.tf", "resource \"neonrepl_subscription\" \"shop\"");
    walk.write("indexes.tf", "resource \"neonrepl_destination_indexes\" \"shop\"");
    walk.apply().await;
    assert_eq!(count(&pair.subscriber).await, 10, "the apply waits for the copy");
}

/// The words of a command of the binary.
fn arguments(shell: &str) -> Vec<&str> {
    shell.split_whitespace().skip(1).collect()
}

/// Step 6.
async fn look(walk: &Walk) {
    let Walk { page, pair, .. } = walk;
    // The page has these rows twice: with the table, and alone.
    let insert = page.fence("sql", "INSERT INTO").split("INSERT INTO").nth(1).expect("rows");
    pair.publisher.sql(&format!("INSERT INTO{insert}")).await;
    wait_until("the rows to arrive", DEADLINE, async || count(&pair.subscriber).await == 20).await;
    let status = walk.status(&["status"]).await;
    assert!(status.contains("Healthy: 1 of 1 table ready"), "{status}");
    let compared = walk.status(&arguments(page.fence("shell", "compare"))).await;
    assert!(compared.contains("Equal"), "{compared}");
    walk.write("checks.tf", "check \"replication\"");
    let checked = walk.apply().await;
    assert!(!checked.text().contains("Check block assertion"), "{}", checked.text());
    for by_hand in ["SELECT subname, pid", "SELECT slot_name, active"] {
        let database = if by_hand.contains("subname") { &pair.subscriber } else { &pair.publisher };
        database.sql(page.fence("sql", by_hand)).await;
    }
}

const AT_PUBLISHER: &str = "  active        = \"publisher\"";
const AT_SUBSCRIBER: &str = "  active        = \"subscriber\"";

/// Step 7.
async fn switch(walk: &Walk) {
    let Walk { page, pair, workspace, .. } = walk;
    walk.write("cutover.tf", AT_PUBLISHER);
    walk.apply().await;
    let before = pair.publisher.connect_as(&Role::superuser()).await.unwrap();
    // The session has read its defaults before the switch.
    before.batch_execute("INSERT INTO playing_with_neon (name) VALUES ('before')").await.unwrap();
    walk.write("cutover.tf", AT_SUBSCRIBER);
    walk.shows(page, "planning the cutover", &walk.plan().await.text());
    walk.apply().await;
    let refused = before.batch_execute("INSERT INTO playing_with_neon (name) VALUES ('after')").await.unwrap_err();
    let refused = refused.as_db_error().expect("an error of the server");
    let said = format!("ERROR:  {}\nHINT:  {}", refused.message(), refused.hint().unwrap_or_default());
    walk.shows(page, "HINT:", &said);
    let later = pair.publisher.connect_as(&Role::superuser()).await.unwrap();
    let refused = later.batch_execute("INSERT INTO playing_with_neon (name) VALUES ('later')").await.unwrap_err();
    assert!(
        refused.to_string().contains("cannot execute INSERT")
            || refused.as_db_error().is_some_and(|error| {
                error.message() == "cannot execute INSERT in a read-only transaction" && error.code().code() == "25006"
            })
    );
    let state = workspace.expect(&["state", "show", "-no-color", "neonrepl_cutover.shop"], 0).await;
    let seen = walk.seen(&state.stdout);
    for line in page.fence("text", "write_pause_ms").lines() {
        assert!(seen.contains(&flat(line)), "{line} is not in {seen}");
    }
    pair.subscriber.sql("INSERT INTO playing_with_neon (name) VALUES ('on Neon')").await;
    let arrived = "SELECT count(*) FROM playing_with_neon WHERE name = 'on Neon'";
    wait_until("the row to flow back", DEADLINE, async || pair.publisher.value::<i64>(arrived).await == 1).await;
}

/// The guide "Go back", and forward again.
async fn go_back(walk: &Walk) {
    let Walk { back, .. } = walk;
    wait_until("both to be healthy", DEADLINE, async || walk.status(&["status"]).await.contains("caught up.")).await;
    walk.shows(back, "stopped by a cutover", &walk.status(&["status"]).await);
    // The blocks of this page omit settings that the other guide has.
    walk.write("cutover.tf", AT_PUBLISHER);
    walk.shows(back, "planning the cutover", &walk.plan().await.text());
    walk.apply().await;
    walk.write("cutover.tf", AT_SUBSCRIBER);
    walk.apply().await;
    interrupted(walk).await;
}

/// A kill between the commit of the switch and the opening of the other side leaves the fence shut on both sides. The page says
/// that the next apply finishes the switch.
async fn interrupted(walk: &Walk) {
    let Walk { back, pair, .. } = walk;
    let shut = "SELECT pg_get_functiondef('neonrepl.fence_shop'::regproc)";
    let shut: String = pair.publisher.value(shut).await;
    pair.subscriber.sql(&shut).await;
    // The sequence is left as the switch has set it on both sides.
    let insert = "INSERT INTO playing_with_neon (id, name) VALUES (1000000, 'after a kill')";
    for side in [&pair.publisher, &pair.subscriber] {
        assert!(side.try_sql(insert).await.is_err(), "neither side takes writes");
    }
    walk.shows(back, "neither side takes writes", &walk.plan().await.text());
    walk.apply().await;
    pair.subscriber.sql(insert).await;
    assert!(pair.publisher.try_sql(insert).await.is_err(), "one side takes writes");
}

/// The end: removes the way back, and destroys everything.
async fn stay(walk: &Walk) {
    let Walk { page, back, pair, workspace, aws, .. } = walk;
    let without = page.fence("terraform", AT_SUBSCRIBER).replace("  reverse {}\n\n", "");
    workspace.write("cutover.tf", &without);
    walk.apply().await;
    workspace.write("cutover.tf", &without.replace("\"subscriber\"", "\"publisher\""));
    let refused = workspace.expect(&["plan", "-no-color"], 1).await;
    walk.shows(
        back,
        "no subscription brings them back",
        &refused.text().replace("planning the cutover of subscription \"shop\": ", ""),
    );
    workspace.write("cutover.tf", &without);
    let destroyed = workspace.destroy().await;
    walk.shows(back, "stays closed to writes", &destroyed.text());
    let said = destroyed.flat();
    let statements = said.split("as the owner of its tables: ").nth(1).expect("the statements");
    let end = statements.find("RESET default_transaction_read_only;").expect("the last one") + 36;
    pair.publisher.sql(&statements[..end]).await;
    pair.publisher.sql("INSERT INTO playing_with_neon (name) VALUES ('opened')").await;
    let objects = "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication \
        UNION ALL SELECT subname FROM pg_subscription";
    assert_eq!(pair.publisher.rows(objects).await, [""; 0]);
    assert_eq!(pair.subscriber.rows(objects).await, [""; 0]);
    assert_eq!(aws.custom_groups(), [""; 0], "the cluster has its old group back");
}
