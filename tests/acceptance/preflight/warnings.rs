// SPDX-License-Identifier: MPL-2.0

//! Warnings that need servers of their own, provoked one by one.

use std::collections::BTreeSet;

use neonrepl::replication::preflight::Question;
use neonrepl::replication::{Place, Severity};

use super::looking::{Looking, publications, shown, tables};
use crate::catalog::ident;
use crate::common::postgres::{Database, Major, Role, Server, quote, settings};

/// A warning or a note: its side, its object, and the statements that provoke it, on the publisher and then on the
/// subscriber.
struct Told {
    check: &'static str,
    severity: Severity,
    place: Place,
    object: &'static str,
    provoke: (&'static str, &'static str),
    /// Whether its table will only be published later, and not by an existing publication.
    planned: bool,
}

const TOLD: Told = Told {
    check: "",
    severity: Severity::Warning,
    place: Place::Publisher,
    object: "",
    provoke: ("", ""),
    planned: false,
};

/// Each begins with a table `t` on both sides that the publication `p` publishes.
const ALL: &[Told] = &[
    Told {
        check: "prepared_transactions",
        object: "left over",
        provoke: ("BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION 'left over'", ""),
        ..TOLD
    },
    Told { check: "slot_wal_keep_size", object: "max_slot_wal_keep_size", ..TOLD },
    Told {
        check: "invalid_index",
        object: "broken",
        provoke: (
            "CREATE INDEX broken ON t (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
            "",
        ),
        ..TOLD
    },
    Told {
        check: "invalid_index",
        place: Place::Subscriber,
        object: "broken",
        provoke: (
            "",
            "CREATE INDEX broken ON t (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass",
        ),
        ..TOLD
    },
    Told {
        check: "extension_missing",
        place: Place::Subscriber,
        object: "plpgsql",
        provoke: ("", "DROP EXTENSION plpgsql"),
        ..TOLD
    },
    Told {
        check: "extension_version",
        severity: Severity::Info,
        place: Place::Both,
        object: "plpgsql",
        provoke: ("", "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'"),
        ..TOLD
    },
    Told {
        check: "subscribed_twice",
        place: Place::Subscriber,
        object: "public.t",
        provoke: (
            "CREATE PUBLICATION first FOR TABLE t",
            "CREATE SUBSCRIPTION first CONNECTION '$from' PUBLICATION first WITH (copy_data = false, slot_name = '$slot')",
        ),
        ..TOLD
    },
    Told { check: "publication_missing", object: "absent", planned: true, ..TOLD },
    Told {
        check: "role_settings",
        object: "postgres.row_security",
        provoke: ("ALTER ROLE postgres SET row_security = off", ""),
        ..TOLD
    },
];

/// A pair of databases with the table, which is too large for a slot's limit.
async fn pair(from: &Server, to: &Server) -> (Database, Database) {
    let (publisher, subscriber) = (from.database("from").await, to.database("to").await);
    let table = "CREATE TABLE t (id int PRIMARY KEY)";
    publisher
        .sql(&format!(
            "{table}; INSERT INTO t SELECT i + 10 FROM generate_series(1, 60000) i; CREATE PUBLICATION p FOR TABLE t"
        ))
        .await;
    subscriber.sql(table).await;
    (publisher, subscriber)
}

async fn is_told(told: &Told, from: &Server, to: &Server) {
    let (publisher, subscriber) = pair(from, to).await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&publisher, &superuser), subscriber: (&subscriber, &superuser) };
    let connection = looking.connection(&superuser);
    let fill =
        |text: &str| text.replace("'$from'", &connection).replace("$slot", &format!("{}_first", subscriber.name));
    for (database, provoke) in [(&publisher, told.provoke.0), (&subscriber, told.provoke.1)] {
        for statement in fill(provoke).split("; ") {
            database.sql(statement).await;
        }
    }
    let question = match told.planned {
        true => Question { publications: [ident("absent")].into(), ..tables(&["t"]) },
        false => publications(&["p"]),
    };
    let report = looking.report(&question).await;
    let is_it = report.findings.iter().any(|found| {
        (found.check, found.severity, found.place, found.object.as_str())
            == (told.check, told.severity, told.place, told.object)
            && !found.message.is_empty()
    });
    assert!(is_it, "{} about {} is not told:\n{}", told.check, told.object, shown(&report));
    if told.check == "subscribed_twice" {
        super::looking::unsubscribe(&subscriber).await;
    }
    if told.check == "prepared_transactions" {
        publisher.sql("ROLLBACK PREPARED 'left over'").await;
    }
    publisher.sql("ALTER ROLE postgres RESET row_security").await;
}

/// A database whose text is stored and sorted differently from the publisher's, and two databases on one server.
async fn other_texts(from: &Server, to: &Server) -> BTreeSet<String> {
    let (publisher, plain) = pair(from, to).await;
    let superuser = Role::superuser();
    let (latin, sorted) = (to.open(&format!("{}_latin", plain.name)), to.open(&format!("{}_sorted", plain.name)));
    for (other, how) in [
        (&latin, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"),
        (&sorted, "ENCODING 'UTF8' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"),
    ] {
        plain.sql(&format!("CREATE DATABASE {} TEMPLATE template0 {how}", quote(&other.name))).await;
        other.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    }
    let neighbour = from.database("beside").await;
    neighbour.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
    let mut found = BTreeSet::new();
    for subscriber in [&latin, &sorted, &neighbour] {
        let looking = Looking { publisher: (&publisher, &superuser), subscriber: (subscriber, &superuser) };
        let report = looking.report(&publications(&["p"])).await;
        found.extend(report.findings.iter().map(|found| format!("{} {}", found.severity.as_str(), found.check)));
    }
    found
}

async fn all_are_told(major: Major) {
    let mut limits = settings([
        ("max_prepared_transactions", "5"),
        ("max_slot_wal_keep_size", "1MB"),
        ("allow_system_table_mods", "on"),
    ]);
    if major == Major::V18 {
        limits.extend(settings([("idle_replication_slot_timeout", "90min")]));
    }
    let (from, to) =
        (Server::start(major, limits), Server::start(major, settings([("allow_system_table_mods", "on")])));
    let idle = Told { check: "idle_slots", object: "idle_replication_slot_timeout", ..TOLD };
    let mut count = 0;
    for told in ALL.iter().chain((major == Major::V18).then_some(&idle)) {
        is_told(told, &from, &to).await;
        count += 1;
    }
    let found = other_texts(&from, &to).await;
    for expected in ["warning encoding", "warning collation", "info one_server"] {
        assert!(found.contains(expected), "{expected} is not in {found:?}");
        count += 1;
    }
    eprintln!("preflight on {}: {count} warnings and notes provoked", major.number());
}

#[tokio::test]
async fn warnings_are_told_where_they_are_provoked_on_14() {
    all_are_told(Major::V14).await;
}

#[tokio::test]
async fn warnings_are_told_where_they_are_provoked_on_18() {
    all_are_told(Major::V18).await;
}
