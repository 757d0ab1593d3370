// SPDX-License-Identifier: MPL-2.0

//! Postgres's own programs, if the machine has them: other ways to copy a schema.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::common::pg_dump::{self, program};
use super::common::postgres::{Database, Major};
use super::statements;

/// The major of `pg_dump` on the path, if the tests can start a server of it: it accepts no newer server.
pub(super) fn dumps() -> Option<Major> {
    let number = pg_dump::major()?;
    Major::ALL.into_iter().find(|major| major.number() == number)
}

/// Runs statements in one transaction: with `psql`, one after the other, or, without it, all at once over a connection.
/// Returns the time in seconds.
pub(super) async fn run(database: &Database, text: &str) -> f64 {
    let started = Instant::now();
    if has_psql() {
        let mut psql = program("psql", database);
        feed(psql.args(["-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", "-"]), text.as_bytes());
    } else {
        let client = statements::connect(database, database.port).await;
        client.batch_execute(text).await.expect("statements");
    }
    started.elapsed().as_secs_f64()
}

/// Whether there is a `psql` on the path.
pub(super) fn has_psql() -> bool {
    Command::new("psql").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Copies the schema of a database with `pg_dump` and `psql`. Returns the time in seconds.
pub(super) async fn dump_and_restore(from: &Database, to: &Database) -> f64 {
    let started = Instant::now();
    let dumped = program("pg_dump", from).args(["--schema-only", "--no-owner"]).output().expect("running pg_dump");
    assert!(dumped.status.success(), "pg_dump failed");
    let text = String::from_utf8(dumped.stdout).expect("UTF-8");
    run(to, &text).await;
    started.elapsed().as_secs_f64()
}

fn feed(command: &mut Command, text: &[u8]) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("starting psql");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text).expect("writing to psql");
    drop(input);
    assert!(child.wait().expect("waiting for psql").success(), "psql failed");
}
