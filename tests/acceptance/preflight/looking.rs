// SPDX-License-Identifier: MPL-2.0

//! How the tests run the preflight, and count the findings that were tried.

use std::collections::BTreeSet;

use neonrepl::postgres::{Limits, QualifiedName};
use neonrepl::replication::preflight::{Question, Report, preflight};
use neonrepl::replication::{self, Operation, Place, Severity};

use crate::catalog::{config, ident};
use crate::common::postgres::{Database, Role, Server, quote};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair};
use crate::status::Quiet;

/// Two databases, each with its role.
pub(super) struct Looking<'a> {
    pub(super) publisher: (&'a Database, &'a Role),
    pub(super) subscriber: (&'a Database, &'a Role),
}

impl Looking<'_> {
    pub(super) async fn report(&self, question: &Question) -> Report {
        // One connection to each server is enough.
        let connect = |(database, role): (&Database, &Role)| {
            let mut config = config(database, role);
            config.max_connections = 1;
            neonrepl::postgres::Server::new(config).database(None)
        };
        let pair = replication::Pair { publisher: connect(self.publisher), subscriber: connect(self.subscriber) };
        let operation = Operation::new("looking", Limits::within(DEADLINE), &Quiet);
        preflight(&operation, &pair, question).await.unwrap()
    }

    /// A report without errors that could check everything.
    pub(super) async fn sound(&self, question: &Question) -> Report {
        let report = self.report(question).await;
        assert!(report.is_ok(), "{}", shown(&report));
        assert!(report.findings.iter().all(|finding| finding.check != "unchecked"), "{}", shown(&report));
        report
    }

    /// The connection string of a subscription, as an SQL literal.
    pub(super) fn connection(&self, login: &Role) -> String {
        let (port, database) = (self.publisher.0.port, &self.publisher.0.name);
        let text = format!(
            "host=127.0.0.1 port={port} dbname='{database}' user='{}' password='{}'",
            login.name, login.password
        );
        format!("'{}'", text.replace('\'', "''"))
    }
}

pub(super) fn publications(names: &[&str]) -> Question {
    Question { publications: names.iter().map(|name| ident(name)).collect(), ..Question::default() }
}

pub(super) fn tables(names: &[&str]) -> Question {
    Question { tables: names.iter().map(|name| QualifiedName::parse(name).unwrap()).collect(), ..Question::default() }
}

pub(super) fn all_tables() -> Question {
    Question::default()
}

pub(super) fn shown(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{}: {finding}\n", finding.check)).collect()
}

/// The reported errors that really occurred.
#[derive(Default)]
pub(super) struct Held(BTreeSet<(&'static str, Place)>);

impl Held {
    /// Checks that the report has this error about an object whose name ends so; the test then shows that
    /// it really fails.
    pub(super) fn called(&mut self, report: &Report, check: &'static str, place: Place, object: &str) {
        let called = report.findings.iter().any(|finding| {
            finding.severity == Severity::Error
                && finding.check == check
                && finding.place == place
                && finding.object.ends_with(object)
        });
        assert!(called, "{check} about {object} is not an error in:\n{}", shown(report));
        self.0.insert((check, place));
    }

    pub(super) fn count(&self, of: &str) {
        eprintln!("preflight, {of}: {} errors held against reality", self.0.len());
    }
}

/// Runs a statement that must be refused, with these words.
pub(super) async fn refused(database: &Database, role: &Role, sql: &str, words: &str) {
    let client = database.connect_as(role).await.unwrap();
    let error = client.batch_execute(sql).await.expect_err(sql);
    let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_else(|| error.to_string());
    assert!(message.contains(words), "{sql}: {message:?} lacks {words:?}");
}

/// Waits until the server has logged these words. Its workers do not log their database.
pub(super) async fn logged(server: &Server, words: &str) {
    wait_until(&format!("{words:?} in the log"), DEADLINE, async || server.log().contains(words)).await;
}

/// Makes a subscription in SQL.
pub(super) async fn subscribe(pair: &Pair, looking: &Looking<'_>, login: &Role, name: &str, publication: &str) {
    let (name, publication, connection) = (quote(name), quote(publication), looking.connection(login));
    pair.subscriber.sql(&format!("CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION {publication}")).await;
}

/// Drops subscriptions that keep failing.
pub(super) async fn unsubscribe(database: &Database) {
    let names = "SELECT subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()";
    for name in database.rows(names).await {
        database.sql(&format!("DROP SUBSCRIPTION {}", quote(&name))).await;
    }
}
