// SPDX-License-Identifier: MPL-2.0

//! Ctrl-C: the commands of the binary, and data sources that a core waits for.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

use crate::cli::{Cli, Told, subscribe, unsubscribe};
use crate::common::cli::Core;
use crate::common::postgres::{Major, Role};
use crate::common::tools;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// How long a command may take to end. A machine may be busy; without Ctrl-C each of them takes longer.
const SOON: Duration = Duration::from_secs(20);

/// A running command.
struct Begun {
    title: String,
    child: Child,
    out: ChildStdout,
    errors: ChildStderr,
    told: String,
    complained: String,
}

impl Begun {
    fn new(cli: &Cli, arguments: &[&str]) -> Self {
        let mut child = cli.command(tools::provider(), arguments).spawn().expect("a command");
        let (out, errors) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        Self { title: format!("{arguments:?}"), child, out, errors, told: String::new(), complained: String::new() }
    }

    /// Waits until its output has this text.
    async fn says(mut self, sign: &str) -> Self {
        let seen = async {
            while !self.told.contains(sign) && !self.complained.contains(sign) {
                tokio::select! {
                    () = read(&mut self.out, &mut self.told) => {}
                    () = read(&mut self.errors, &mut self.complained) => {}
                }
            }
        };
        timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("{} has not said {sign:?}", self.title));
        self
    }

    /// Interrupts it, and waits for its end.
    async fn interrupted(self) -> Told {
        let pid = self.child.id().expect("a process").to_string();
        assert!(Command::new("kill").args(["-s", "INT", &pid]).status().await.expect("kill").success());
        self.ended().await
    }

    /// Waits for its end, which must come soon.
    async fn ended(mut self) -> Told {
        let rest = async {
            let status = self.child.wait().await.expect("a status");
            let out = self.out.read_to_string(&mut self.told);
            let _ = tokio::join!(out, self.errors.read_to_string(&mut self.complained));
            status
        };
        let status = timeout(SOON, rest).await.unwrap_or_else(|_| panic!("{} goes on", self.title));
        Told { status: status.code().expect("a status of its own"), out: self.told, errors: self.complained }
    }
}

async fn interrupted(cli: &Cli, arguments: &[&str], sign: &str) -> Told {
    Begun::new(cli, arguments).says(sign).await.interrupted().await
}

async fn read(from: &mut (impl AsyncRead + Unpin), into: &mut String) {
    let mut buffer = [0; 4096];
    let read = from.read(&mut buffer).await.expect("reading an output");
    assert!(read > 0, "it has ended by itself: {into}");
    into.push_str(&String::from_utf8_lossy(&buffer[..read]));
}

/// The running statements in the databases of a pair, except of a lock's holder.
async fn statements(pair: &Pair) -> usize {
    let active = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    pair.publisher.rows(active).await.len() + pair.subscriber.rows(active).await.len()
}

#[tokio::test]
async fn ctrl_c_ends_a_command_and_what_its_servers_do() {
    let pair = Pair::new(Major::V16, Major::V18, "cli_interrupted").await;
    let cli = Cli::of(&pair);
    let name = subscribe(&pair).await;
    let well = interrupted(&cli, &["watch", "--interval", "100ms"], "3 of 3").await;
    assert_eq!((well.status, well.errors.as_str()), (0, ""), "{well:#?}");
    assert!(well.out.trim_end().ends_with("Healthy: 3 of 3 tables ready, caught up."), "{well:#?}");

    // A question that a server does not answer, for each command.
    let holder = pair.subscriber.connect_as(&Role::superuser()).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    let behind = ["watch", "--until", "caught-up", "--interval", "100ms"];
    let until = interrupted(&cli, &behind, "3 of 3").await;
    assert_eq!((until.status, until.errors.as_str()), (130, ""), "{until:#?}");
    let compare = ["compare", "--table", "orders", "--mode", "rows"];
    let compared = interrupted(&cli, &compare, "comparing public.orders").await;
    assert_eq!((compared.status, compared.out.as_str()), (130, ""), "{compared:#?}");
    wait_until("the statements to end", SOON, async || statements(&pair).await == 0).await;

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgresql://u@{}/d?sslmode=disable", silent.local_addr().unwrap());
    let deaf = cli.clone().env("NEONREPL_SUBSCRIBER_URL", &url);
    for command in ["status", "preflight", "watch"] {
        let begun = Begun::new(&deaf, &[command]);
        let _connected = timeout(DEADLINE, silent.accept()).await.expect("a connection").unwrap();
        let told = begun.interrupted().await;
        assert_eq!((told.status, told.out.as_str(), told.errors.as_str()), (130, "", ""), "{command}");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    unsubscribe(&pair, &name).await;
}

/// On a terminal nothing is left hidden or half drawn.
#[tokio::test]
async fn ctrl_c_leaves_a_terminal_as_it_was() {
    let pair = Pair::new(Major::V18, Major::V16, "cli_terminal_interrupted").await;
    let cli = Cli::of(&pair);
    let name = subscribe(&pair).await;
    let holder = pair.subscriber.connect_as(&Role::superuser()).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    for (arguments, sign) in [
        (&["watch", "--until", "caught-up", "--interval", "100ms"][..], "lag"),
        (&["compare", "--table", "orders"], "comparing public.orders"),
    ] {
        let told = cli.interrupt_in_terminal(arguments, sign).await;
        assert_eq!(told.status, 130, "{arguments:?}: {told:#?}");
        assert!(!told.out.contains("\u{1b}[?25l") || told.out.ends_with("\u{1b}[?25h"), "a hidden cursor: {told:#?}");
        let last = told.out.replace("^C", "");
        assert!(last.ends_with("\r\n") || last.ends_with("\r\u{1b}[K"), "half a line is left: {told:#?}");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    unsubscribe(&pair, &name).await;
}

#[tokio::test]
async fn compare_shows_how_far_it_is_beside_its_answer() {
    let pair = Pair::new(Major::V14, Major::V18, "cli_compare_shows").await;
    let cli = Cli::of(&pair);
    let holder = pair.subscriber.connect_as(&Role::superuser()).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let begun = Begun::new(&cli, &["compare", "--table", "orders"]).says("comparing public.orders for").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    let lines = begun.ended().await;
    assert!(lines.errors.contains("Z 0 of 1 table done, comparing public.orders for"), "{lines:#?}");
    assert!(lines.out.ends_with("Equal: 1 table, 1 of them not in the same state on both sides.\n"), "{lines:#?}");
    assert!(!lines.out.contains("comparing") && lines.status == 0, "{lines:#?}");
    let quick = cli.run(&["compare", "--table", "orders", "--json"]).await;
    assert!(quick.errors.is_empty() && quick.out.starts_with('{'), "{quick:#?}");
}

const WAITS: &str = "
data \"neonrepl_replication_status\" \"waited\" {
  wait_until = \"caught_up\"
  timeout    = \"10m\"
}
";

/// A session whose last statement read the subscriptions' activity.
const WAITING: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
    AND query LIKE '%pg_stat_subscription%'";

/// A data source that waits ends with its core, also in a plan.
async fn a_data_source_ends(core: Core) {
    let pair = Pair::new(Major::V15, Major::V18, "source_interrupted").await;
    let workspace = pair.workspace(core).await;
    let name = subscribe(&pair).await;
    let holder = pair.subscriber.connect_as(&Role::superuser()).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    workspace.write("main.tf", WAITS);
    for arguments in [&["plan", "-no-color"][..], &["apply", "-auto-approve", "-no-color"], &["refresh", "-no-color"]] {
        let running = workspace.spawn(arguments);
        running.wait_for("Reading...").await;
        wait_until("the provider to wait", DEADLINE, async || !pair.subscriber.rows(WAITING).await.is_empty()).await;
        running.interrupt().await;
        let begun = Instant::now();
        let run = running.wait().await;
        assert!(begun.elapsed() < SOON, "it goes on for {:?}: {}", begun.elapsed(), run.text());
        assert_ne!(run.code, Some(0), "{}", run.text());
        assert!(run.flat().contains("cancelled"), "{}", run.text());
        wait_until("the providers to end", SOON, async || workspace.providers() == 0).await;
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    unsubscribe(&pair, &name).await;
}

#[tokio::test]
async fn a_data_source_that_waits_ends_with_terraform() {
    a_data_source_ends(Core::Terraform).await;
}

#[tokio::test]
async fn a_data_source_that_waits_ends_with_opentofu() {
    a_data_source_ends(Core::OpenTofu).await;
}
