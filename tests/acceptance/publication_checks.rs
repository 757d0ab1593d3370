// SPDX-License-Identifier: MPL-2.0

//! The checks in a plan of `neonrepl_publication` for tables that Postgres refuses, or accepts although
//! they then break the application.

use crate::common::cli::{Core, Workspace, says};
use crate::common::postgres::{Database, Major, Server, settings};
use crate::replication::Pair;

const TABLES: &str = "
    CREATE TABLE bare (id int, note text);
    CREATE TABLE whole (id int, note text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE TABLE sums (id int, twice int GENERATED ALWAYS AS (id * 2) STORED);
    ALTER TABLE sums REPLICA IDENTITY FULL;
    CREATE UNLOGGED TABLE quick (id int PRIMARY KEY);
    CREATE VIEW seen AS SELECT * FROM orders;
    CREATE TABLE parted (id int, region text) PARTITION BY LIST (region);
    CREATE SCHEMA loose;
    CREATE TABLE loose.part PARTITION OF public.parted FOR VALUES IN ('eu');
    CREATE SCHEMA billing;
    CREATE TABLE billing.drafts (id int);";

/// A publication that breaks the application.
struct Breaking {
    body: &'static str,
    says: &'static str,
    /// The attribute's line below the name.
    line: u16,
    /// The statement that fails from then on.
    fails: &'static str,
    code: &'static str,
}

const BREAKING: [Breaking; 7] = [
    Breaking {
        body: "tables = [\"orders\", \"bare\", \"parted\"]",
        says: "UPDATE and DELETE would fail on the publisher, because these tables have no replica identity: loose.part, public.bare",
        line: 3,
        fails: "DELETE FROM bare",
        code: "55000",
    },
    Breaking {
        body: "tables = [\"parted\"]\npublish = [\"insert\", \"update\"]",
        says: "UPDATE would fail on the publisher, because these tables have no replica identity: loose.part",
        line: 3,
        fails: "UPDATE parted SET id = 1",
        code: "55000",
    },
    Breaking {
        body: "schemas = [\"billing\"]",
        says: "because these tables have no replica identity: billing.drafts",
        line: 3,
        fails: "UPDATE billing.drafts SET id = 1",
        code: "55000",
    },
    Breaking {
        body: "all_tables = true",
        says: "because these tables have no replica identity: billing.drafts, loose.part, public.bare",
        line: 3,
        fails: "UPDATE bare SET id = 1",
        code: "55000",
    },
    Breaking {
        body: "table {\nname = \"orders\"\nwhere = \"region = 'eu' AND id > 1\"\n}",
        says: "because the row filter uses columns outside the replica identity: public.orders (region)",
        line: 5,
        fails: "UPDATE orders SET total = 1",
        code: "42P10",
    },
    Breaking {
        body: "table {\nname = \"customers\"\ncolumns = [\"name\"]\n}",
        says: "because the column list lacks columns of the replica identity: public.customers (id)",
        line: 5,
        fails: "DELETE FROM customers",
        code: "42P10",
    },
    Breaking {
        body: "table {\nname = \"whole\"\ncolumns = [\"id\", \"note\"]\n}",
        says: "because no column list covers REPLICA IDENTITY FULL: public.whole",
        line: 5,
        fails: "UPDATE whole SET id = 1",
        code: "42P10",
    },
];

const GENERATED: Breaking = Breaking {
    body: "tables = [\"sums\"]",
    says: "because generated columns of the replica identity are not published: public.sums (twice)",
    line: 3,
    fails: "UPDATE sums SET id = 1",
    code: "42P10",
};

fn write(workspace: &Workspace, body: &str) {
    workspace
        .write("main.tf", &format!("resource \"neonrepl_publication\" \"shop\" {{\nname = \"shop\"\n{body}\n}}\n"));
}

/// The plan warns, the application breaks as predicted, and `strict` refuses.
async fn breaks(workspace: &Workspace, database: &Database, case: &Breaking) {
    let line = format!("on main.tf line {}", case.line);
    write(workspace, case.body);
    let applied = workspace.apply().await;
    says(&applied, &["Warning: ", case.says, &line]);
    let error = database.try_sql(case.fails).await.expect_err(case.fails);
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some(case.code), "{}", case.fails);

    write(workspace, &format!("{}\nstrict = true", case.body));
    let refused = workspace.plan().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    says(&refused, &["Error: ", case.says, &line]);
}

async fn breaking(core: Core, major: Major) {
    let pair = Pair::new(major, major, "checks").await;
    let database = &pair.publisher;
    database.sql(TABLES).await;
    let workspace = pair.workspace(core).await;
    for case in &BREAKING {
        breaks(&workspace, database, case).await;
    }
    if major >= Major::V18 {
        breaks(&workspace, database, &GENERATED).await;
    }
    // Without problems, nothing is reported, with or without `strict`.
    let generated = if major >= Major::V18 { "publish_generated_columns = \"stored\"" } else { "" };
    let well = format!(
        "tables = [\"whole\", \"sums\"]\ntable {{\nname = \"orders\"\nwhere = \"id > 1\"\ncolumns = [\"id\"]\n}}\nstrict = true\n{generated}"
    );
    write(&workspace, &well);
    let applied = workspace.apply().await;
    assert!(!applied.text().contains("Warning"), "{}", applied.text());
    database.sql("UPDATE orders SET total = 1; DELETE FROM whole; UPDATE sums SET id = 1").await;
    workspace.expect_empty_plan().await;
    write(&workspace, "tables = [\"bare\"]\npublish = [\"insert\", \"truncate\"]\nstrict = true");
    let applied = workspace.apply().await;
    assert!(!applied.text().contains("Warning"), "{}", applied.text());
    database.sql("UPDATE bare SET id = 1; DELETE FROM bare").await;
}

#[tokio::test]
async fn what_breaks_the_application_is_said_on_15() {
    breaking(Core::OpenTofu, Major::V15).await;
}

#[tokio::test]
async fn what_breaks_the_application_is_said_on_18() {
    breaking(Core::OpenTofu, Major::V18).await;
}

#[tokio::test]
async fn what_postgres_refuses_is_refused_while_planning() {
    let cases = [
        ("tables = [\"seen\"]", "a view cannot be published: public.seen", 3),
        ("table {\nname = \"quick\"\n}", "an unlogged table cannot be published: public.quick", 4),
        ("tables = [\"pg_catalog.pg_class\"]", "a system table cannot be published: pg_catalog.pg_class", 3),
        ("schemas = [\"pg_catalog\"]", "a schema of the system cannot be published: pg_catalog", 3),
        (
            "table {\nname = \"parted\"\nwhere = \"id > 1\"\n}",
            "a row filter on a partitioned table needs publish_via_partition_root: public.parted",
            5,
        ),
        (
            "table {\nname = \"parted\"\ncolumns = [\"id\"]\n}",
            "a column list on a partitioned table needs publish_via_partition_root: public.parted",
            5,
        ),
    ];
    for (core, major) in Core::installed().into_iter().zip([Major::V15, Major::V18]) {
        let pair = Pair::new(major, major, "refused").await;
        pair.publisher.sql(TABLES).await;
        let workspace = pair.workspace(core).await;
        for (body, words, line) in cases {
            write(&workspace, body);
            let plan = workspace.plan().await;
            assert_eq!(plan.code, Some(1), "{}", plan.text());
            says(&plan, &["Error: ", words, &format!("on main.tf line {line}")]);
        }
    }
}

/// Another resource may create them before the publication.
#[tokio::test]
async fn what_is_missing_is_a_warning_even_if_strict() {
    let pair = Pair::new(Major::V18, Major::V18, "missing").await;
    let workspace = pair.workspace(Core::OpenTofu).await;
    write(&workspace, "tables = [\"orders\", \"later\"]\nschemas = [\"soon\"]\nstrict = true");
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    says(&plan, &["Warning: ", "there is no table public.later yet", "there is no schema soon yet"]);
    let at = format!("in database {:?} on 127.0.0.1:{} first", pair.publisher.name, pair.publisher.port);
    for (kind, made) in [("schema", "CREATE SCHEMA soon"), ("table", "CREATE TABLE later (id int PRIMARY KEY)")] {
        let failed = workspace.apply_error().await;
        says(&failed, &[&format!("Create the {kind} {at}"), "upper case in a name is not folded"]);
        pair.publisher.sql(made).await;
    }
    let applied = workspace.apply().await;
    assert!(!applied.text().contains("Warning"), "{}", applied.text());
}

#[tokio::test]
async fn a_low_wal_level_is_a_warning() {
    let server = Server::start(Major::V18, settings([("wal_level", "replica")]));
    let database = server.database("wal").await;
    database.sql("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let mut workspace = Workspace::new(Core::OpenTofu);
    workspace.env("NEONREPL_PUBLISHER_URL", &database.url());
    workspace.init().await;
    write(&workspace, "tables = [\"orders\"]");
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    says(&plan, &["Warning: ", "wal_level of the server is not logical yet"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_a_warning() {
    let pair = Pair::new(Major::V18, Major::V18, "later").await;
    let absent = pair.publisher.url().replace(&format!(":{}/", pair.publisher.port), ":1/");
    let workspace = pair.workspace_with(Core::OpenTofu, &absent, &pair.subscriber.url()).await;
    write(&workspace, "tables = [\"orders\"]");
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(2), "{}", plan.text());
    says(&plan, &["Warning: ", "the server could not be asked", "replica identity", "127.0.0.1:1: cannot connect"]);
}

/// A server that answers would give an apply the same answer.
#[tokio::test]
async fn a_database_that_is_not_there_is_an_error_of_the_plan() {
    let pair = Pair::new(Major::V18, Major::V18, "later").await;
    let missing = pair.publisher.url().replace(&pair.publisher.name, "not_made_yet");
    let workspace = pair.workspace_with(Core::OpenTofu, &missing, &pair.subscriber.url()).await;
    write(&workspace, "tables = [\"orders\"]");
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    says(&plan, &["Error: ", "\"not_made_yet\" does not exist", "NEONREPL_PUBLISHER_URL", "-target"]);
}

/// Column lists and row filters that Postgres refuses, with the attribute, its line, and the error.
const REFUSED: &[(&str, usize, &str)] = &[
    ("columns = [\"id\", \"nowhere\"]", 7, "column \"nowhere\" of relation \"keyed\" does not exist"),
    ("columns = [\"id\", \"ctid\"]", 7, "cannot use system column \"ctid\" in publication column list"),
    ("where = \"nowhere > 1\"", 7, "column \"nowhere\" does not exist"),
    ("where = \"id\"", 7, "argument of PUBLICATION WHERE must be type boolean, not type integer"),
    ("where = \"random() > 0.5\"", 7, "User-defined or built-in mutable functions are not allowed."),
    ("where = \"id IN (SELECT 1)\"", 7, "Only columns, constants, built-in operators, "),
    ("where = \"max(id) > 1\"", 7, "aggregate functions are not allowed in WHERE"),
    ("where = \"ctid IS NULL\"", 7, "System columns are not allowed."),
    ("columns = [\"id\"]\n    where = \"state = 'new'\"", 8, "User-defined types are not allowed."),
];

#[tokio::test]
async fn column_lists_and_filters_that_postgres_refuses_are_refused_while_planning() {
    for major in [Major::V15, Major::V18] {
        let pair = Pair::new(major, Major::V18, "refused").await;
        pair.publisher
            .sql("CREATE TYPE state AS ENUM ('new'); CREATE TABLE keyed (id int PRIMARY KEY, a text, state state)")
            .await;
        let workspace = pair.workspace(Core::OpenTofu).await;
        for (body, line, says) in REFUSED {
            let table = format!("  table {{\n    name = \"keyed\"\n    {body}\n  }}");
            workspace.write(
                "main.tf",
                &format!("resource \"neonrepl_publication\" \"shop\" {{\n  name = \"shop\"\n  tables = [\"orders\"]\n  publish = [\"insert\"]\n{table}\n}}\n"),
            );
            let plan = workspace.plan().await;
            assert_eq!(plan.code, Some(1), "{body}: {}", plan.text());
            for said in [says, format!("on main.tf line {line}").as_str()] {
                assert!(plan.flat().contains(said), "{said} is not in {}", plan.text());
            }
        }
        assert_eq!(pair.publisher.rows("SELECT pubname FROM pg_publication").await, [""; 0]);
    }
}
