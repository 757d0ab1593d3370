// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_replica_identity` through real cores: its life, refused plans, partitions, and locks.

use serde_json::json;

use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::{Database, Major, Role};
use crate::replication::{Pair, on_every_pair};

const ADDRESS: &str = "neonrepl_replica_identity.one";

const TABLES: &str = "
    CREATE TABLE bare (id int NOT NULL, note text);
    CREATE UNIQUE INDEX bare_id ON bare (id);
    CREATE UNIQUE INDEX bare_note ON bare (note);
    CREATE INDEX bare_plain ON bare (id);
    CREATE UNIQUE INDEX bare_part ON bare (id) WHERE id > 0;
    CREATE UNIQUE INDEX bare_twice ON bare ((id * 2));
    ALTER TABLE bare ADD CONSTRAINT bare_late UNIQUE (id) DEFERRABLE;
    CREATE VIEW seen AS SELECT * FROM bare;
    CREATE SCHEMA \"Odd.one\";
    CREATE TABLE \"Odd.one\".\"t/\"\"%\" (id int NOT NULL, \"Key\" int NOT NULL, CONSTRAINT \"The key\" UNIQUE (\"Key\"));
    CREATE TABLE parted (id int NOT NULL, region text NOT NULL) PARTITION BY LIST (region);
    CREATE UNIQUE INDEX parted_key ON parted (region, id);
    CREATE SCHEMA far;
    CREATE TABLE far.eu PARTITION OF parted FOR VALUES IN ('eu') PARTITION BY LIST (id);
    CREATE TABLE far.eu_1 (region text NOT NULL, id int NOT NULL);
    ALTER TABLE far.eu ATTACH PARTITION far.eu_1 FOR VALUES IN (1);
    CREATE TABLE us PARTITION OF parted FOR VALUES IN ('us');";

/// Writes the resource with these attributes; they begin on line 2.
fn write(workspace: &Workspace, body: &str) {
    workspace.write("main.tf", &format!("resource \"neonrepl_replica_identity\" \"one\" {{\n{body}\n}}\n"));
}

fn of(table: &str, identity: &str) -> String {
    match identity.strip_prefix("index ") {
        Some(index) => format!("table = {table:?}\nidentity = \"index\"\nindex = {index:?}"),
        None => format!("table = {table:?}\nidentity = {identity:?}"),
    }
}

/// The server's choice for a table: the letter in its catalog, and the index.
async fn has(database: &Database, table: &str) -> String {
    let query = format!(
        "SELECT concat_ws(' ', c.relreplident, i.indexrelid::regclass) FROM pg_class c \
         LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisreplident WHERE c.oid = '{}'::regclass",
        table.replace('\'', "''")
    );
    database.value(&query).await
}

#[track_caller]
fn assert_says(run: &Run, says: &[&str]) {
    for said in says {
        assert!(run.flat().contains(said), "{said} is not in {}", run.text());
    }
}

async fn refused(workspace: &Workspace, says: &[&str]) {
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    assert_says(&plan, says);
}

async fn prepared(core: Core, major: Major, other: Major) -> (Pair, Workspace) {
    let pair = Pair::new(major, other, "identity").await;
    pair.publisher.sql(TABLES).await;
    let workspace = pair.workspace(core).await;
    (pair, workspace)
}

/// From the first plan to the end: every choice, another spelling, drift, imports, a dropped table.
async fn life(core: Core, major: Major, other: Major) {
    let (pair, workspace) = prepared(core, major, other).await;
    let database = &pair.publisher;
    for (identity, expected) in
        [("full", "f"), ("nothing", "n"), ("index bare_id", "i bare_id"), ("default", "d"), ("full", "f")]
    {
        write(&workspace, &of("bare", identity));
        workspace.apply().await;
        assert_eq!(has(database, "bare").await, expected);
        workspace.expect_empty_plan().await;
    }
    let state = workspace.attributes(ADDRESS).await;
    assert_eq!(state["id"], format!("{}/public.bare", database.name));
    assert_eq!(
        (&state["table"], &state["index"], &state["differing_partitions"]),
        (&json!("bare"), &json!(null), &json!([]))
    );
    write(&workspace, &of("public.bare", "full"));
    workspace.expect_empty_plan().await;

    database.sql("ALTER TABLE bare REPLICA IDENTITY NOTHING").await;
    let plan = workspace.plan_json().await;
    assert_eq!(plan["resource_changes"][0]["change"]["actions"], json!(["update"]));
    workspace.apply().await;
    assert_eq!(has(database, "bare").await, "f");

    import(&workspace, database).await;
    odd_names(&workspace, database).await;

    write(&workspace, &of("customers", "full"));
    workspace.apply().await;
    database.sql("DROP TABLE customers").await;
    let plan = workspace.plan().await;
    assert_says(&plan, &["there is no such table in database", "on main.tf line 2"]);
    let failed = workspace.apply_error().await;
    assert_says(&failed, &["there is no table public.customers in database"]);
    workspace.destroy().await;
}

on_every_pair!(life);

async fn import(workspace: &Workspace, database: &Database) {
    workspace.expect(&["state", "rm", ADDRESS], 0).await;
    workspace.import(ADDRESS, &format!("{}/bare", database.name)).await;
    write(workspace, &of("bare", "full"));
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    workspace.expect(&["state", "rm", ADDRESS], 0).await;
    let identity = format!("{{ database = \"{}\", name = \"public.bare\" }}", database.name);
    workspace.write("import.tf", &format!("import {{\n  to = {ADDRESS}\n  identity = {identity}\n}}\n"));
    let applied = workspace.apply().await;
    assert_says(&applied, &["1 imported, 0 added, 0 changed, 0 destroyed"]);
    workspace.write("import.tf", "");

    // The previous choice is unknown.
    let destroyed = workspace.destroy().await;
    assert_says(&destroyed, &["it stays as it is, because it was imported"]);
    assert_eq!(has(database, "bare").await, "f");
    database.sql("ALTER TABLE bare REPLICA IDENTITY DEFAULT").await;
}

async fn odd_names(workspace: &Workspace, database: &Database) {
    let table = "\"Odd.one\".\"t/\"\"%\"";
    write(workspace, &of(table, "index The key"));
    workspace.apply().await;
    assert_eq!(has(database, table).await, "i \"Odd.one\".\"The key\"");
    workspace.expect_empty_plan().await;
    let id = workspace.attributes(ADDRESS).await["id"].as_str().expect("an id").to_owned();
    workspace.expect(&["state", "rm", ADDRESS], 0).await;
    workspace.import(ADDRESS, &id).await;
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    // Another table is another object: this one stays, because its previous choice is unknown.
    write(workspace, &of("bare", "full"));
    let plan = workspace.plan_json().await;
    assert_eq!(plan["resource_changes"][0]["change"]["actions"], json!(["delete", "create"]));
    workspace.apply().await;
    assert_eq!(
        (has(database, table).await.as_str(), has(database, "bare").await.as_str()),
        ("i \"Odd.one\".\"The key\"", "f")
    );
}

/// Everything that Postgres would refuse is an error of the plan, at its attribute.
async fn unsuitable(core: Core, major: Major) {
    let (pair, workspace) = prepared(core, major, major).await;
    let usable = "Those that can: bare_id.";
    let cases = [
        ("bare", "index gone", "the table has no index of that name", 4, usable),
        ("bare", "index bare_note", "it has columns that may be null: \"note\"", 4, usable),
        ("bare", "index bare_plain", "it is not unique", 4, usable),
        ("bare", "index bare_part", "it is partial", 4, usable),
        ("bare", "index bare_twice", "it is of an expression", 4, usable),
        ("bare", "index bare_late", "it is deferrable", 4, usable),
        ("customers", "index gone", "no index of that name", 4, "Those that can: customers_pkey."),
        ("seen", "full", "it is a view, which has no replica identity", 2, "Name an ordinary or a partitioned table."),
        ("pg_catalog.pg_class", "full", "a system table has no replica identity of its own", 2, ""),
        ("bare", "fully", "is not one of the values it may have", 3, ""),
        ("a.b.c", "full", "it has more than two parts", 2, ""),
    ];
    for (table, identity, says, line, remedy) in cases {
        write(&workspace, &of(table, identity));
        refused(&workspace, &[says, &format!("on main.tf line {line}"), remedy]).await;
    }
    write(&workspace, "table = \"bare\"\nidentity = \"index\"");
    refused(&workspace, &["identity = \"index\" needs index"]).await;
    write(&workspace, "table = \"bare\"\nidentity = \"full\"\nindex = \"bare_id\"");
    refused(&workspace, &["index has no meaning with identity = \"full\"", "on main.tf line 4"]).await;
    // Nothing was done, and the plan says that a table has no key.
    assert_eq!(has(&pair.publisher, "bare").await, "d");
    pair.publisher.sql("ALTER TABLE bare REPLICA IDENTITY FULL").await;
    write(&workspace, &of("bare", "default"));
    assert_says(&workspace.plan().await, &["\"default\" does not identify its rows, because it has no primary key"]);
    eprintln!("replica identities: {} unsuitable choices refused on {major:?}", cases.len() + 2);
}

#[tokio::test]
async fn what_cannot_identify_is_refused_on_14() {
    unsuitable(Core::OpenTofu, Major::V14).await;
}

#[tokio::test]
async fn what_cannot_identify_is_refused_on_18() {
    unsuitable(Core::Terraform, Major::V18).await;
}

/// Only an owner may choose, and the plan checks it.
#[tokio::test]
async fn a_table_of_another_role_is_refused_with_the_statement_that_helps() {
    let (pair, _) = prepared(Core::OpenTofu, Major::V18, Major::V18).await;
    let role = crate::common::postgres::shared(Major::V18).role("chooser", "").await;
    let workspace = pair.workspace_with(Core::OpenTofu, &pair.publisher.url_as(&role), &pair.subscriber.url()).await;
    write(&workspace, &of("bare", "full"));
    let says = format!("ALTER TABLE \"public\".\"bare\" OWNER TO \"{}\";", role.name);
    refused(&workspace, &["must own it, and does not own: public.bare of \"postgres\"", &says]).await;
    pair.publisher.sql(&format!("ALTER TABLE bare OWNER TO {}", role.name)).await;
    workspace.apply().await;
    workspace.destroy().await;
    pair.publisher.sql("ALTER TABLE bare OWNER TO postgres").await;
}

/// Each partition gets the same choice, also a later one, and each gets its previous choice back.
async fn partitions(core: Core, major: Major) {
    let (pair, workspace) = prepared(core, major, major).await;
    let database = &pair.publisher;
    let all = ["parted", "far.eu", "far.eu_1", "us"];
    database.sql("ALTER TABLE us REPLICA IDENTITY NOTHING").await;
    write(&workspace, &of("parted", "full"));
    workspace.apply().await;
    for table in all {
        assert_eq!(has(database, table).await, "f", "{table}");
    }
    workspace.expect_empty_plan().await;

    database.sql("CREATE TABLE asia PARTITION OF parted FOR VALUES IN ('asia')").await;
    let plan = workspace.plan().await;
    assert_says(&plan, &["differing_partitions", "public.asia"]);
    workspace.apply().await;
    assert_eq!(has(database, "asia").await, "f");
    workspace.expect_empty_plan().await;

    write(&workspace, &of("parted", "index parted_key"));
    workspace.apply().await;
    let expected = ["i parted_key", "i far.eu_region_id_idx", "i far.eu_1_region_id_idx", "i us_region_id_idx"];
    for (table, expected) in all.iter().zip(expected) {
        assert_eq!(has(database, table).await, expected, "{table}");
    }
    workspace.expect_empty_plan().await;
    // A partition's other index is not the table's.
    database.sql("CREATE UNIQUE INDEX own ON us (id); ALTER TABLE us REPLICA IDENTITY USING INDEX own").await;
    assert_says(&workspace.plan().await, &["public.us"]);
    workspace.apply().await;
    assert_eq!(has(database, "us").await, "i us_region_id_idx");

    database.sql("CREATE UNIQUE INDEX alone ON ONLY parted (region, id)").await;
    write(&workspace, &of("parted", "index alone"));
    refused(&workspace, &["index \"alone\" cannot identify its rows", "on main.tf line 4"]).await;
    write(&workspace, &of("parted", "index parted_key"));

    workspace.destroy().await;
    for (table, expected) in all.iter().chain(&["asia"]).zip(["d", "d", "d", "n", "d"]) {
        assert_eq!(has(database, table).await, expected, "{table}");
    }
}

#[tokio::test]
async fn partitions_follow_their_table_on_14() {
    partitions(Core::Terraform, Major::V14).await;
}

#[tokio::test]
async fn partitions_follow_their_table_on_18() {
    partitions(Core::OpenTofu, Major::V18).await;
}

/// The identity is set before the publication in one apply, and removed after it in one destroy. Changes in between
/// that would break the application are refused.
async fn published(core: Core, major: Major) {
    let (pair, workspace) = prepared(core, major, major).await;
    let database = &pair.publisher;
    let publication = |tables: &str, rest: &str| {
        format!(
            "resource \"neonrepl_publication\" \"shop\" {{\n  name = \"shop\"\n  tables = [{tables}]\n  {rest}\n}}\n"
        )
    };
    let strict = publication("neonrepl_replica_identity.one.table", "strict = true");
    write(&workspace, &of("bare", "full"));
    workspace.write("publication.tf", &strict);
    let applied = workspace.apply().await;
    assert!(!applied.text().contains("Warning"), "{}", applied.text());
    database.sql("INSERT INTO bare VALUES (1, 'a'); UPDATE bare SET note = 'b'; DELETE FROM bare").await;
    workspace.expect_empty_plan().await;

    let breaks = "UPDATE and DELETE would fail on the publisher: public.bare in publication \"shop\"";
    for identity in ["nothing", "default"] {
        write(&workspace, &of("bare", identity));
        refused(&workspace, &[breaks, "it would have no replica identity", "on main.tf line 3"]).await;
    }
    write(&workspace, &of("bare", "index bare_id"));
    workspace.apply().await;
    database.sql("UPDATE bare SET note = 'b'; DELETE FROM bare").await;

    // Without the resource the table would have no identity, while the publication stays.
    workspace.write("main.tf", "");
    workspace.write("publication.tf", &publication("\"bare\"", ""));
    let plan = workspace.plan().await;
    assert_says(&plan, &["restoring the replica identity of table public.bare", breaks, "skip_destroy = true"]);
    let failed = workspace.apply_error().await;
    assert_says(&failed, &[breaks, "Nothing was changed."]);
    assert_eq!(has(database, "bare").await, "i bare_id");
    write(&workspace, &of("bare", "index bare_id"));
    workspace.write("publication.tf", &strict);
    workspace.expect_empty_plan().await;

    workspace.destroy().await;
    assert_eq!(has(database, "bare").await, "d");
    columns_and_skipping(&workspace, database, major).await;
}

async fn columns_and_skipping(workspace: &Workspace, database: &Database, major: Major) {
    workspace.write("publication.tf", "");
    if major >= Major::V15 {
        database.sql("CREATE PUBLICATION part FOR TABLE customers (id)").await;
        write(workspace, &of("customers", "full"));
        refused(workspace, &["public.customers in publication \"part\" (no column list covers \"full\")"]).await;
        database.sql("DROP PUBLICATION part").await;
    }
    write(workspace, &format!("{}\nskip_destroy = true", of("bare", "full")));
    workspace.apply().await;
    database.sql("CREATE PUBLICATION all_of_them FOR TABLE bare").await;
    workspace.destroy().await;
    assert_eq!(has(database, "bare").await, "f");
    database.sql("DROP PUBLICATION all_of_them; ALTER TABLE bare REPLICA IDENTITY DEFAULT").await;

    // A later choice by somebody else stays, and a dropped index cannot come back.
    database.sql("ALTER TABLE bare REPLICA IDENTITY USING INDEX bare_id").await;
    write(workspace, &of("bare", "full"));
    workspace.apply().await;
    database.sql("DROP INDEX bare_id").await;
    let destroyed = workspace.destroy().await;
    assert_says(&destroyed, &["its former index no longer exists: public.bare"]);
    assert_eq!(has(database, "bare").await, "f");
}

#[tokio::test]
async fn a_published_table_keeps_an_identity_on_14() {
    published(Core::OpenTofu, Major::V14).await;
}

#[tokio::test]
async fn a_published_table_keeps_an_identity_on_18() {
    published(Core::Terraform, Major::V18).await;
}

/// Readers of the table wait at most a second behind us, and the holder of the lock is named.
#[tokio::test]
async fn a_locked_table_is_waited_for_in_short_turns() {
    let (pair, workspace) = prepared(Core::OpenTofu, Major::V18, Major::V18).await;
    let holder = pair.publisher.connect_as(&Role::superuser()).await.unwrap();
    holder.batch_execute("SET application_name = 'a long report'; BEGIN; SELECT FROM bare").await.unwrap();
    write(&workspace, &format!("{}\ntimeouts {{\ncreate = \"3s\"\n}}", of("bare", "full")));
    let failed = workspace.apply_error().await;
    assert_says(&failed, &["Locked now: public.bare by process", "a long report", "Nothing was changed."]);
    assert_eq!(has(&pair.publisher, "bare").await, "d");

    write(&workspace, &of("bare", "full"));
    let applied = async {
        workspace.apply().await;
    };
    let released = async {
        let waits = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'bare'::regclass AND NOT granted";
        crate::common::wait::wait_until("the apply to wait", crate::replication::DEADLINE, async || {
            pair.publisher.value::<bool>(waits).await
        })
        .await;
        // It withdraws by itself, while the other session holds the table.
        crate::common::wait::wait_until("the apply to step back", crate::replication::DEADLINE, async || {
            !pair.publisher.value::<bool>(waits).await
        })
        .await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    futures_util::future::join(applied, released).await;
    assert_eq!(has(&pair.publisher, "bare").await, "f");
}
