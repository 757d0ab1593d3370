// SPDX-License-Identifier: MPL-2.0

//! The `pg_dump` of this machine, if it has one.

use std::process::{Command, Stdio};

use super::postgres::{Database, Role, SUPERUSER_PASSWORD};

/// Its major. It accepts servers of this major and older ones.
pub fn major() -> Option<u16> {
    let version = Command::new("pg_dump").arg("--version").stderr(Stdio::null()).output().ok()?;
    major_of(&String::from_utf8(version.stdout).ok()?)
}

/// The major of a text such as `pg_dump (PostgreSQL) 16.4 (Debian 16.4-1)`.
fn major_of(version: &str) -> Option<u16> {
    let number = version.split_once(") ")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// One of Postgres's own programs, asked about a database as its superuser.
pub fn program(name: &str, database: &Database) -> Command {
    let mut command = Command::new(name);
    let port = database.port.to_string();
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", &Role::superuser().name, "-d", &database.name]);
    command.env("PGPASSWORD", SUPERUSER_PASSWORD).env("PGOPTIONS", "-c client_min_messages=warning");
    command.stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}

/// The statements for a database's schema, as `pg_dump` prints them.
pub fn schema_of(database: &Database) -> String {
    let options = ["--schema-only", "--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions"];
    let dumped = program("pg_dump", database).args(options).output().expect("running pg_dump");
    assert!(dumped.status.success(), "pg_dump of {}: {}", database.name, dumped.status);
    String::from_utf8(dumped.stdout).expect("text of pg_dump")
}

#[cfg(test)]
mod tests {
    use super::major_of;

    #[test]
    fn its_version_is_told_as_each_system_prints_it() {
        for (version, major) in [
            ("pg_dump (PostgreSQL) 16.4", Some(16)),
            ("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(15)),
            ("pg_dump (PostgreSQL) 18beta2", Some(18)),
            ("pg_dump: no such file", None),
        ] {
            assert_eq!(major_of(version), major, "{version}");
        }
    }
}
