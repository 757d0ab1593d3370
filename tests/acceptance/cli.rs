// SPDX-License-Identifier: MPL-2.0

//! The commands of the binary, as a person at a terminal and a pipeline run them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use neonrepl::data_sources;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::common::postgres::{Database, Major, Role, SUPERUSER_PASSWORD, encode};
use crate::common::tools;
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};

/// The output of a command, and its exit status.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) errors: String,
}

/// How to start the binary: without the test's own environment.
#[derive(Clone)]
pub(crate) struct Cli {
    environment: Vec<(String, String)>,
    secrets: Vec<String>,
}

impl Cli {
    fn new() -> Self {
        Self { environment: Vec::new(), secrets: Vec::new() }.hiding(SUPERUSER_PASSWORD)
    }

    pub(crate) fn of(pair: &Pair) -> Self {
        Self::new()
            .env("NEONREPL_PUBLISHER_URL", &pair.publisher.url())
            .env("NEONREPL_SUBSCRIBER_URL", &pair.subscriber.url())
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Checks that no output contains this text.
    fn hiding(mut self, secret: &str) -> Self {
        self.secrets.extend([secret.to_owned(), encode(secret)]);
        self
    }

    pub(crate) fn command(&self, program: PathBuf, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Told {
        self.told(self.command(tools::provider(), arguments)).await
    }

    /// The same in a terminal.
    pub(crate) async fn run_in_terminal(&self, arguments: &[&str]) -> Told {
        let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        self.in_terminal(spawn, arguments).await
    }

    /// The same, with Ctrl-C once this text is shown.
    pub(crate) async fn interrupt_in_terminal(&self, arguments: &[&str], sign: &str) -> Told {
        let spawn = format!(
            "import os, pty, sys\nshown, asked = b'', False\ndef read(fd):\n    global shown, asked\n    data = os.read(fd, 1024)\n    \
             shown += data\n    if not asked and {sign:?}.encode() in shown:\n        asked = True\n        os.write(fd, b'\\x03')\n    \
             return data\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:], read)))"
        );
        self.in_terminal(&spawn, arguments).await
    }

    /// Runs it in a terminal that a script in Python makes.
    async fn in_terminal(&self, spawn: &str, arguments: &[&str]) -> Told {
        let python =
            ["/usr/bin/python3", "/usr/local/bin/python3"].map(PathBuf::from).into_iter().find(|path| path.exists());
        let python = python.unwrap_or_else(|| "python3".into());
        let binary = tools::provider();
        let binary = binary.to_str().expect("a path");
        let mut command = self.command(python, &[&["-c", spawn, binary], arguments].concat());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm");
        self.told(command).await
    }

    async fn told(&self, mut command: Command) -> Told {
        let output = timeout(DEADLINE, command.output()).await.expect("a command that ends").expect("running it");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let told = Told {
            status: output.status.code().expect("an exit status"),
            out: text(output.stdout),
            errors: text(output.stderr),
        };
        for secret in &self.secrets {
            assert!(!told.out.contains(secret) && !told.errors.contains(secret), "a secret is in {told:#?}");
        }
        told
    }

    /// Runs a command that must end with this status.
    async fn expect(&self, arguments: &[&str], status: i32) -> Told {
        let told = self.run(arguments).await;
        assert_eq!(told.status, status, "{arguments:?}: {told:#?}");
        told
    }
}

/// Makes the pair replicate all of its tables.
pub(crate) async fn subscribe(pair: &Pair) -> String {
    let name = pair.subscriber.name.clone();
    pair.publisher.sql(&format!("CREATE PUBLICATION {name} FOR ALL TABLES")).await;
    let (port, database, role) = (pair.publisher.port, &pair.publisher.name, Role::superuser());
    pair.subscriber
        .sql(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port={port} dbname={database} user={} password={}' \
             PUBLICATION {name}",
            role.name, role.password
        ))
        .await;
    name
}

/// Ends the replication, so that no slot is left.
pub(crate) async fn unsubscribe(pair: &Pair, name: &str) {
    pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
}

async fn wait_for_ready(subscriber: &Database) {
    let left = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'";
    wait_until("the tables to be ready", DEADLINE, async || subscriber.value::<i64>(left).await == 0).await;
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Fails if an object of the answer has a name that the data source's type lacks.
fn assert_named_as(ty: &Value, answer: &Value, path: &str) {
    match (ty, answer) {
        (Value::Array(parts), Value::Object(answer)) if parts[0] == "object" => {
            let known: BTreeSet<_> = parts[1].as_object().expect("attributes").keys().collect();
            for (name, value) in answer {
                assert!(known.contains(name), "{path}.{name} is not among {known:?}");
                assert_named_as(&parts[1][name], value, &format!("{path}.{name}"));
            }
        }
        (Value::Array(parts), Value::Array(answer)) => {
            answer.iter().for_each(|answer| assert_named_as(&parts[1], answer, path));
        }
        _ => {}
    }
}

/// The type of a data source, in the protocol's form.
fn type_of(data_source: &str) -> Value {
    let found = data_sources::ALL.iter().find(|found| found.type_name() == data_source);
    found.expect("a data source").schema().implied_type().to_json()
}

/// Fails if a subscription of the answer lacks one of the data source's names.
fn assert_has_names_of_status(answer: &Value) {
    let names = "name enabled worker_running tables tables_ready tables_total lag_bytes lag_seconds received_lsn latest_end_lsn \
        last_msg_receipt_time apply_error_count sync_error_count slot causes schema_drift";
    for subscription in answer["subscriptions"].as_array().expect("subscriptions") {
        names.split(' ').for_each(|name| assert!(subscription.get(name).is_some(), "no {name} in {subscription}"));
        for table in subscription["tables"].as_array().expect("tables") {
            let names = "name state rows_copied rows_estimate bytes";
            names.split(' ').for_each(|name| assert!(table.get(name).is_some(), "no {name} in {table}"));
        }
    }
}

#[tokio::test]
async fn preflight_says_what_stands_in_the_way() {
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "cli_preflight").await;
        let cli = Cli::of(&pair);
        let well = cli.expect(&["preflight"], 0).await;
        assert!(well.out.contains("Ready to replicate: ") && well.errors.is_empty(), "{well:#?}");
        assert!(!well.out.contains('\u{1b}'), "there is no terminal: {}", well.out);

        pair.subscriber.sql("DROP TABLE invoices").await;
        let missing = cli.expect(&["preflight"], 1).await;
        assert!(missing.out.contains("public.invoices") && missing.out.contains("Not ready"), "{missing:#?}");
        cli.expect(&["preflight", "--table", "orders", "--table", "public.customers"], 0).await;
        cli.expect(&["preflight", "--publication", "nobody"], 1).await;

        let mut answer = json(&cli.expect(&["preflight", "--json"], 1).await.out);
        assert_eq!(answer["ok"], false);
        // The data source has this in its report.
        assert!(answer.as_object_mut().unwrap().remove("size").unwrap()["tables"] == 3);
        assert_named_as(&type_of("neonrepl_preflight"), &answer, "preflight");
        let findings = answer["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["object"] == "public.invoices").unwrap();
        assert_eq!((&found["severity"], &found["side"]), (&"error".into(), &"subscriber".into()), "{found}");
    }
}

#[tokio::test]
async fn status_says_whether_it_is_well() {
    for (from, to) in [(Major::V15, Major::V18), (Major::V18, Major::V15)] {
        let pair = Pair::new(from, to, "cli_status").await;
        let cli = Cli::of(&pair);
        let none = cli.expect(&["status"], 1).await;
        assert_eq!(none.out, "There is no subscription.\n");
        let name = subscribe(&pair).await;
        let unknown = cli.expect(&["status", "--subscription", "nobody"], 2).await;
        assert!(unknown.errors.contains("there is no subscription \"nobody\""), "{unknown:#?}");

        wait_for_ready(&pair.subscriber).await;
        let well = cli.expect(&["status", "--subscription", &name], 0).await;
        assert!(well.out.contains("Healthy: 3 of 3 tables ready"), "{well:#?}");
        let answer = json(&cli.expect(&["status", "--json"], 0).await.out);
        assert_has_names_of_status(&answer);
        assert_named_as(&type_of("neonrepl_replication_status"), &answer, "status");
        let found = &answer["subscriptions"][0];
        assert_eq!((&found["name"], &found["tables_total"]), (&name.clone().into(), &3.into()), "{answer}");
        assert_eq!(found["worker_running"], true);
        assert_eq!(found["tables"][0]["state"], "ready");

        pair.subscriber.sql("ALTER TABLE orders DROP COLUMN total").await;
        pair.publisher.sql("INSERT INTO orders VALUES (1, 2, 'eu')").await;
        let broken = "SELECT count(*) FROM pg_stat_subscription_stats WHERE apply_error_count > 0";
        wait_until("the worker to fail", DEADLINE, async || pair.subscriber.value::<i64>(broken).await > 0).await;
        let ill = cli.expect(&["status"], 1).await;
        assert!(ill.out.contains("Not healthy: ") && ill.out.contains("total"), "{ill:#?}");
        unsubscribe(&pair, &name).await;
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_without_a_password() {
    let pair = Pair::new(Major::V16, Major::V18, "cli_refused").await;
    let wrong = Role { name: Role::superuser().name, password: "hidden-pw-5Ks".to_owned() };
    let cli = Cli::of(&pair).hiding("hidden-pw-5Ks");
    let wrong_password = pair.subscriber.url_as(&wrong);
    let closed = "postgresql://u:hidden-pw-5Ks@127.0.0.1:1/d";
    /// Arguments, variables, and a part of the error.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
    let cases: [Case<'_>; 9] = [
        (&[], &[("NEONREPL_SUBSCRIBER_URL", &wrong_password)], "password authentication failed"),
        (&["--subscriber-url", closed], &[], "127.0.0.1:1"),
        (&["--subscriber-url", "mysql://u:hidden-pw-5Ks@h/d"], &[], "--subscriber-url: "),
        (&[], &[("NEONREPL_SUBSCRIBER_URL", "host=h password=hidden-pw-5Ks nonsense")], "NEONREPL_SUBSCRIBER_URL: "),
        (&[], &[("NEONREPL_SUBSCRIBER_URL", "")], "NEONREPL_SUBSCRIBER_URL"),
        (&["--subscriber-url", "postgresql://u:hidden-pw-5Ks@ep-a-pooler.eu.aws.neon.tech/d"], &[], "pooler"),
        (&[closed], &[], "unexpected argument"),
        (&["--table", closed, "password=hidden-pw-5Ks"], &[], "error: "),
        (&["--database", "no_such_database"], &[], "\"no_such_database\" does not exist"),
    ];
    let mut count = 0;
    for command in ["preflight", "status", "watch"] {
        for (arguments, environment, expected) in &cases {
            let cli = environment.iter().fold(cli.clone(), |cli, (name, value)| cli.env(name, value));
            let told = cli.expect(&[&[command], *arguments].concat(), 2).await;
            assert!(told.errors.contains(expected) && told.out.is_empty(), "{command} {arguments:?}: {told:#?}");
            assert!(!told.errors.contains("block"), "there is no provider block: {told:#?}");
            count += 1;
        }
    }
    println!("{count} commands that could not ask");
    for help in [&["help"][..], &["--help"], &["status", "--help"], &["help", "watch"]] {
        cli.expect(help, 0).await;
    }
}

#[tokio::test]
async fn a_watch_prints_lines_until_all_is_there() {
    let pair = Pair::new(Major::V15, Major::V18, "cli_watch").await;
    pair.publisher.sql("INSERT INTO orders SELECT g, g, 'eu' FROM generate_series(1, 1000) g; ANALYZE orders").await;
    let cli = Cli::of(&pair);
    // A copy that waits for a lock stays visible. On the publisher, an open transaction would delay every new slot.
    let mut holder = pair.subscriber.connect_as(&Role::superuser()).await.unwrap();
    let held = holder.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE orders IN SHARE MODE").await.unwrap();
    let name = subscribe(&pair).await;
    let late = cli.expect(&["watch", "--until", "ready", "--timeout", "12s", "--interval", "200ms"], 1).await;
    assert!(late.out.contains(&format!("subscription \"{name}\": ")), "{late:#?}");
    assert!(late.out.contains("public.orders") && late.errors.contains(" in time"), "{late:#?}");
    assert!(!late.out.contains('\u{1b}'), "there is no terminal: {late:#?}");
    held.commit().await.unwrap();

    let until = cli.expect(&["watch", "--until", "caught-up", "--interval", "100ms"], 0).await;
    assert!(until.out.trim_end().ends_with("Healthy: 3 of 3 tables ready, caught up."), "{until:#?}");
    let lines = cli.expect(&["watch", "--until", "ready", "--json"], 0).await;
    for line in lines.out.lines() {
        let mut answer = json(line);
        let time = answer.as_object_mut().unwrap().remove("time");
        assert!(time.unwrap().as_str().unwrap().ends_with('Z'), "{line}");
        assert_has_names_of_status(&answer);
        assert_named_as(&type_of("neonrepl_replication_status"), &answer, "watch");
    }
    pair.publisher.sql("CREATE TABLE late (id int PRIMARY KEY)").await;
    let never = cli.expect(&["watch", "--until", "ready"], 1).await;
    assert!(never.errors.contains("public.late"), "what cannot come is not waited for: {never:#?}");
    unsubscribe(&pair, &name).await;
}

#[tokio::test]
async fn a_terminal_is_drawn_on_with_colours_that_can_be_refused() {
    let pair = Pair::new(Major::V16, Major::V18, "cli_terminal").await;
    let cli = Cli::of(&pair);
    let name = subscribe(&pair).await;
    let watch = cli.run_in_terminal(&["watch", "--until", "ready", "--interval", "50ms"]).await;
    assert_eq!(watch.status, 0, "{watch:#?}");
    let (up, colour) = ("\u{1b}[J", "\u{1b}[32m");
    assert!(watch.out.contains(up) && watch.out.contains(colour), "{watch:#?}");
    assert!(watch.out.contains("3 of 3 tables"), "{watch:#?}");
    let status = cli.run_in_terminal(&["status"]).await;
    assert!(status.out.contains(colour), "{status:#?}");
    let refused = cli.clone().env("NO_COLOR", "1");
    let watch = refused.run_in_terminal(&["watch", "--until", "ready"]).await;
    assert!(watch.out.contains(up) && !watch.out.contains(colour), "{watch:#?}");
    for arguments in [&["status"][..], &["preflight"], &["help"], &["nothing"]] {
        let told = refused.run_in_terminal(arguments).await;
        assert!(!told.out.contains('\u{1b}'), "{told:#?}");
    }
    unsubscribe(&pair, &name).await;
}

#[tokio::test]
async fn compare_says_which_rows_differ() {
    let pair = Pair::new(Major::V18, Major::V14, "cli_compare").await;
    let cli = Cli::of(&pair);
    pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu'), (2, 2, 'eu')").await;
    let name = subscribe(&pair).await;
    wait_for_ready(&pair.subscriber).await;
    let publication = ["--publication", &name];
    let equal = cli.expect(&[&["compare"][..], &publication].concat(), 0).await;
    assert!(equal.out.ends_with("Equal: 3 tables.\n") && equal.errors.is_empty(), "{equal:#?}");
    pair.subscriber.sql("UPDATE orders SET region = 'us' WHERE id = 2").await;
    cli.expect(&["compare", "--table", "orders"], 0).await;
    let rows = ["compare", "--table", "orders", "--mode", "rows"];
    let differs = cli.expect(&rows, 1).await;
    assert!(differs.out.contains("changed: id=2 (column region)"), "{differs:#?}");
    let answer = json(&cli.expect(&[&rows[..], &["--json"]].concat(), 1).await.out);
    assert_eq!(answer["tables"][0]["differences"][0]["key"], "id=2");
    assert_named_as(&type_of("neonrepl_table_comparison"), &answer, "comparison");
    let unknown = cli.expect(&["compare", "--publication", "nobody"], 2).await;
    assert!(unknown.errors.contains("there is no publication \"nobody\""), "{unknown:#?}");
    let away =
        Cli::of(&pair).env("NEONREPL_SUBSCRIBER_URL", "postgresql://u:hidden-pw@127.0.0.1:1/d").hiding("hidden-pw");
    away.expect(&rows, 2).await;
    unsubscribe(&pair, &name).await;
}
