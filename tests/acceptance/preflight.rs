//! The look before anything moves, held against what really happens.

use neonrepl::postgres::{Limits, QualifiedName};
use neonrepl::replication::preflight::{Question, Report, preflight};
use neonrepl::replication::{self, Operation};

use crate::catalog::{connect, ident};
use crate::common::postgres::{Database, Major, Role};
use crate::replication::{DEADLINE, Pair};
use crate::status::Quiet;

/// Two databases, each with the role that looks at it.
struct Looking<'a> {
    publisher: (&'a Database, &'a Role),
    subscriber: (&'a Database, &'a Role),
}

impl Looking<'_> {
    async fn report(&self, question: &Question) -> Report {
        let pair = replication::Pair {
            publisher: connect(self.publisher.0, self.publisher.1),
            subscriber: connect(self.subscriber.0, self.subscriber.1),
        };
        let operation = Operation::new("looking", Limits::within(DEADLINE), &Quiet);
        preflight(&operation, &pair, question).await.unwrap()
    }
}

fn publications(names: &[&str]) -> Question {
    Question { publications: names.iter().map(|name| ident(name)).collect(), ..Question::default() }
}

fn tables(names: &[&str]) -> Question {
    Question { tables: names.iter().map(|name| QualifiedName::parse(name).unwrap()).collect(), ..Question::default() }
}

fn shown(report: &Report) -> String {
    report.findings.iter().map(|finding| format!("{}: {finding}\n", finding.check)).collect()
}

async fn clean(from: Major, to: Major) {
    let pair = Pair::new(from, to, "preflight").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders, customers").await;
    for question in [publications(&["shop"]), tables(&["orders"]), Question::default()] {
        let report = looking.report(&question).await;
        assert!(report.is_ok(), "{}", shown(&report));
        assert!(report.findings.iter().all(|finding| finding.check != "unchecked"), "{}", shown(&report));
    }
}

#[tokio::test]
async fn what_is_sound_is_called_so_from_14_to_18() {
    clean(Major::V14, Major::V18).await;
}

#[tokio::test]
async fn what_is_sound_is_called_so_from_18_to_14() {
    clean(Major::V18, Major::V14).await;
}
