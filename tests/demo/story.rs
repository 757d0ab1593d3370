// SPDX-License-Identifier: MPL-2.0

//! The story, step by step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::process::Command;

use super::Failure;
use super::common::aurora::Call;
use super::common::cli::Run;
use super::common::postgres::Role;
use super::common::tools;
use super::common::wait::wait_until;
use super::screen::{note, say, step, table};
use super::stage::{CLUSTER, Stage, WRITER};

/// How long the apply may take.
const APPLY_DEADLINE: Duration = Duration::from_secs(300);
/// The guide's table, and the publication of it.
const TABLE: &str = "playing_with_neon";
/// The table and its rows.
const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS playing_with_neon(id SERIAL PRIMARY KEY, name TEXT NOT NULL, value REAL)";
const CREATE_INDEX: &str = "CREATE INDEX IF NOT EXISTS playing_with_neon_name ON playing_with_neon (name)";
const INSERT_TEN: &str = "INSERT INTO playing_with_neon(name, value) \
    SELECT LEFT(md5(i::TEXT), 10), random() FROM generate_series(1, 10) s(i)";
const COUNT: &str = "SELECT count(*) FROM playing_with_neon";
/// The valid indexes of the table, as the server prints them.
const INDEXES: &str = "SELECT pg_get_indexdef(indexrelid) FROM pg_index \
    WHERE indrelid = to_regclass('playing_with_neon') AND indisvalid ORDER BY 1";
const SETTINGS: &str =
    "SELECT current_setting('wal_level'), current_setting('rds.logical_replication'), pg_postmaster_start_time()";
const STATISTICS: &str = "SELECT subname, pid, received_lsn, latest_end_lsn, last_msg_receipt_time \
    FROM pg_stat_subscription WHERE pid IS NOT NULL";
/// Everything that an apply leaves on a server, and a destroy removes.
const OBJECTS: &str = "SELECT 'replication slot ' || slot_name FROM pg_replication_slots \
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication \
    UNION ALL SELECT 'subscription ' || subname FROM pg_subscription";

/// From a server that cannot replicate to rows that flow, and to a plan without changes.
pub(super) async fn replicate(stage: &Stage) -> Result<(), Failure> {
    fill(stage).await;
    let before = show_settings(stage, "Ask the writer: it cannot replicate").await;
    expect(before.starts_with("replica|off|"), "the writer is logical already")?;
    step("Look before anything moves: what stands in the way, what will not come along, and how big it is");
    let blocked = look(stage, &["preflight", "--table", TABLE]).await;
    expect(blocked == Some(1), "the preflight finds nothing in the way")?;
    plan(stage).await?;
    apply(stage).await?;
    let after = show_settings(stage, "Ask the writer again: it was restarted, and is logical now").await;
    expect(after.starts_with("logical|on|"), "the writer is not logical")?;
    expect(before.rsplit('|').next() != after.rsplit('|').next(), "the writer was not restarted")?;
    step("Watch until all that was written has arrived");
    expect(look(stage, &["watch", "--until", "caught-up"]).await == Some(0), "it does not catch up")?;
    follow_rows(stage).await?;
    show_indexes(stage).await?;
    step("Compare the rows of both sides, in the same state of the table");
    let equal = look(stage, &["compare", "--publication", TABLE, "--mode", "rows"]).await;
    expect(equal == Some(0), "the rows differ")?;
    show_statistics(stage).await?;
    plan_again(stage).await
}

/// The source with its rows. The destination has no table yet.
async fn fill(stage: &Stage) {
    step("Fill the guide's table, playing_with_neon, on Aurora, with an index; Neon has none of it yet");
    stage.source.sql(&format!("{CREATE_TABLE}; {CREATE_INDEX}; {INSERT_TEN}")).await;
    say(&format!("Rows: {} on Aurora.", stage.source.value::<i64>(COUNT).await));
}

/// Runs a command of the provider's own binary, shows its output, and returns its exit status.
async fn look(stage: &Stage, arguments: &[&str]) -> Option<i32> {
    say(&format!("$ terraform-provider-neonrepl {}", arguments.join(" ")));
    let mut command = Command::new(tools::provider());
    command.args(arguments).env("NEONREPL_PUBLISHER_URL", stage.source.url());
    command.env("NEONREPL_SUBSCRIBER_URL", stage.destination.url_as(&stage.owner));
    let output = command.output().await.expect("running the provider's binary");
    [output.stdout, output.stderr].iter().for_each(|text| String::from_utf8_lossy(text).lines().for_each(say));
    output.status.code()
}

pub(super) async fn show_counts(stage: &Stage) -> (i64, i64) {
    let counts = (stage.source.value(COUNT).await, stage.destination.value(COUNT).await);
    say(&format!("Rows: {} on Aurora, {} on Neon.", counts.0, counts.1));
    counts
}

async fn show_settings(stage: &Stage, title: &str) -> String {
    step(title);
    let rows = stage.source.rows(SETTINGS).await;
    table(&["wal_level", "rds.logical_replication", "started"], &rows);
    rows.concat()
}

async fn plan(stage: &Stage) -> Result<(), Failure> {
    let why = "the provider comes from a directory, as it would from the registry";
    run_showing(stage, &["init"], why, |line| line.starts_with("- ")).await?;
    let plan = run(stage, &["plan", "-out=demo.tfplan"], "what will change, and which instance that reboots").await?;
    expect(plan.flat().contains(&format!("this reboots {WRITER}")), "the plan does not say that it reboots the writer")
}

async fn apply(stage: &Stage) -> Result<(), Failure> {
    stage.aws.forget_calls();
    let ended = AtomicBool::new(false);
    let applying = async {
        let applied = run(stage, &["apply", "demo.tfplan"], "all of it at once, with what AWS is told meanwhile").await;
        ended.store(true, Ordering::Relaxed);
        applied
    };
    tokio::join!(applying, watch_aws(stage, &ended)).0?;
    step("What AWS says now");
    for (instance, status) in stage.aws.member_statuses(CLUSTER) {
        say(&format!("{instance} is {status} with {}.", stage.aws.attached_group(CLUSTER)));
    }
    Ok(())
}

/// Shows each step on AWS: the calls that change something, and the states of the instances.
async fn watch_aws(stage: &Stage, ended: &AtomicBool) {
    let (mut told, mut statuses) = (0, BTreeMap::new());
    wait_until("the apply to end", APPLY_DEADLINE, async || {
        let calls = stage.aws.accepted();
        calls[told..].iter().for_each(show_call);
        told = calls.len();
        for (instance, group_status) in stage.aws.member_statuses(CLUSTER) {
            let status = format!("{}, {group_status}", stage.aws.instance_status(&instance));
            if statuses.insert(instance.clone(), status.clone()).is_some_and(|before| before != status) {
                note(&format!("{instance} is {status}"));
            }
        }
        ended.load(Ordering::Relaxed)
    })
    .await;
}

fn show_call(call: &Call) {
    let subject = ["DBInstanceIdentifier", "DBClusterIdentifier", "DBClusterParameterGroupName"];
    let subject = subject.iter().find_map(|name| call.parameters.get(*name));
    note(format!("{} {}", call.action, subject.map_or("", String::as_str)).trim_end());
}

/// Shows the existing rows, and ten more.
async fn follow_rows(stage: &Stage) -> Result<(), Failure> {
    step("Count the rows: those that were there have been copied");
    let counts = show_counts(stage).await;
    expect(counts == (10, 10), "the rows were not copied")?;
    step("Insert ten more on Aurora, and count again");
    let inserted = Instant::now();
    stage.source.sql(INSERT_TEN).await;
    wait_until("the new rows to arrive", Duration::from_secs(30), async || {
        stage.destination.value::<i64>(COUNT).await == 20
    })
    .await;
    say(&format!("They arrived within {} ms.", inserted.elapsed().as_millis()));
    let counts = show_counts(stage).await;
    expect(counts == (20, 20), "the counts differ")
}

/// Shows the index, which was created after the copy.
async fn show_indexes(stage: &Stage) -> Result<(), Failure> {
    step("Ask Neon for the table's indexes: they were made once the rows were there");
    let indexes = stage.destination.rows(INDEXES).await;
    indexes.iter().for_each(|index| say(index));
    expect(indexes == stage.source.rows(INDEXES).await, "the indexes are not those of Aurora")
}

async fn show_statistics(stage: &Stage) -> Result<(), Failure> {
    step("Ask Neon for pg_stat_subscription");
    let rows = stage.destination.rows(STATISTICS).await;
    table(&["subname", "pid", "received_lsn", "latest_end_lsn", "last_msg_receipt_time"], &rows);
    expect(rows.len() == 1, "the subscription does not run")
}

async fn plan_again(stage: &Stage) -> Result<(), Failure> {
    run(stage, &["plan", "-detailed-exitcode"], "a second time there is nothing to do").await?;
    say("No password is in the state or in any output so far: each was searched for.");
    Ok(())
}

/// Back to where it began, with nothing left.
pub(super) async fn give_back(stage: &Stage) -> Result<(), Failure> {
    let is_shown = |line: &str| line.contains("Destr");
    run_showing(stage, &["destroy", "-auto-approve"], "everything is given back", is_shown).await?;
    step("Look for what is left");
    let mut left = stage.source.rows(OBJECTS).await;
    left.extend(stage.destination.rows(OBJECTS).await);
    left.extend(stage.aws.custom_groups().into_iter().map(|group| format!("cluster parameter group {group}")));
    left.iter().for_each(|object| say(&format!("Left: {object}.")));
    expect(left.is_empty(), "something is left")?;
    say("No replication slot, no publication, no subscription, no cluster parameter group.");
    let group = stage.aws.attached_group(CLUSTER);
    say(&format!("DB cluster {CLUSTER} is on {group} again, which takes effect when {WRITER} next restarts."));
    show_counts(stage).await;
    Ok(())
}

/// Keeps everything running until the user ends it.
pub(super) async fn keep(stage: &Stage) {
    step("Everything stays as it is, to look around");
    for (name, url) in [
        ("Aurora", stage.source.url_as(&Role::superuser())),
        ("Neon", stage.destination.url_as(&stage.owner)),
        ("Neon as a superuser", stage.destination.url_as(&Role::superuser())),
    ] {
        say(&format!("{name}: psql '{url}'"));
    }
    say(&format!("The RDS API: {}", stage.aws.endpoint_url));
    let configuration = stage.workspace.path().with_file_name("cli.tfrc");
    let core = stage.workspace.core().name();
    let directory = stage.workspace.path();
    say(&format!(
        "The configuration: cd {} && TF_CLI_CONFIG_FILE={} {core} plan",
        directory.display(),
        configuration.display()
    ));
    say("Enter or Ctrl-C goes on: everything is destroyed and ended.");
    tokio::select! {
        () = enter() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Waits for a line on stdin; for ever if none can come.
async fn enter() {
    let (entered, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || match std::io::stdin().read_line(&mut String::new()) {
        Ok(1..) => entered.send(()).unwrap_or_default(),
        _ => std::mem::forget(entered),
    });
    let _ = wait.await;
}

/// Runs the core, prints its output, and fails with its errors.
async fn run(stage: &Stage, arguments: &[&str], why: &str) -> Result<Run, Failure> {
    run_showing(stage, arguments, why, |_| true).await
}

/// The same, but prints only selected lines.
pub(super) async fn run_showing(
    stage: &Stage,
    arguments: &[&str],
    why: &str,
    is_shown: fn(&str) -> bool,
) -> Result<Run, Failure> {
    let core = stage.workspace.core().name();
    step(&format!("{core} {}: {why}", arguments[0]));
    let mut all = arguments.to_vec();
    all.insert(1, "-no-color");
    let show = |line: &str| {
        if is_shown(line) {
            say(line);
        }
    };
    let run = stage.workspace.spawn(&all).follow(show).await;
    match run.code {
        Some(0) => Ok(run),
        code => {
            let code = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            Err(format!("{core} {} ended with {code}\n{}", arguments[0], run.stderr))
        }
    }
}

pub(super) fn expect(holds: bool, otherwise: &str) -> Result<(), Failure> {
    holds.then_some(()).ok_or_else(|| otherwise.to_owned())
}
