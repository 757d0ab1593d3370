// SPDX-License-Identifier: MPL-2.0

//! Names that need care, in every position of a name, through a whole life.

use crate::common::postgres::{Database, Major, Role, quote};
use crate::lane::Lane;
use crate::{Case, Counts, case};

/// The positions: databases of both sides, publication, schema, table, column, filter column, both owners, subscription,
/// and the connection's database, user and password; and the new names of publication and subscription.
const POSITIONS: usize = 15;

fn names() -> [(&'static str, String); 12] {
    [
        ("63 bytes", "n".repeat(63)),
        ("63 bytes of other letters", format!("{}n", "ß".repeat(31))),
        ("quotes", "it's \"so\" \"\"".to_owned()),
        ("dots", "a.b..c.".to_owned()),
        ("spaces", " a  b ".to_owned()),
        ("upper case", "ShopSHOP".to_owned()),
        ("backslashes", "back\\slash\\\\n\\".to_owned()),
        ("newlines", "line\nbreak\r\n\ttab".to_owned()),
        ("non-ASCII letters", "Größe №中文 🐘".to_owned()),
        ("an SQL keyword", "select".to_owned()),
        ("marks of URLs and ids", "50%25/a?b#c@d:e&f=g".to_owned()),
        ("marks of SQL and HCL", "${x} %{y} $1;--/* '||' */)".to_owned()),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let cases = names().into_iter().map(|(what, name)| {
        let case = case!("names", what, "throughout a life", "all positions", life, name.clone());
        // Column lists and row filters came with Postgres 15.
        Case { counts: Counts::Names(POSITIONS), ..case }.on(|publisher, _| publisher >= Major::V15)
    });
    let refused = case!("names", "a backslash", "validate", "of a publication", backslash);
    cases.chain([Case { counts: Counts::Names(1), ..refused }]).collect()
}

/// A text in the syntax of a configuration.
fn hcl(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace("${", "$${").replace("%{", "%%{")
}

/// A table in the form of `tables`.
fn qualified(name: &str) -> String {
    let part = if name.contains(['.', '"']) { quote(name) } else { name.to_owned() };
    format!("{part}.{part}")
}

/// A similar name with another first letter.
fn renamed(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map_or(0, char::len_utf8);
    format!("{}{}", "z".repeat(first), letters.as_str())
}

fn config(name: &str, publication: &str, subscription: &str, bound: u32, password: &str) -> String {
    let (database, table) = (hcl(name), hcl(&qualified(name)));
    let filter = hcl(&format!("{} > {bound}", quote(name)));
    // Postgres cannot replicate a publication with a backslash in its name: `backslash` below.
    let (publication, subscription) = (hcl(&publication.replace('\\', "|")), hcl(subscription));
    format!(
        "resource \"neonrepl_publication\" \"p\" {{
  name     = {publication}
  database = {database}
  owner    = {database}
  publish  = [\"insert\"]
  table {{
    name    = {table}
    columns = [\"id\", {database}]
    where   = {filter}
  }}
}}

resource \"neonrepl_subscription\" \"s\" {{
  name                  = {subscription}
  database              = {database}
  owner                 = {database}
  slot_name             = \"names\"
  publications          = [neonrepl_publication.p.name]
  wait_for_initial_sync = true
  publisher {{
    database = {database}
    username = {database}
    password = {}
  }}
}}
",
        hcl(password)
    )
}

async fn life(lane: &mut Lane, name: String) -> String {
    let (from, to) = set_up(lane, &name).await;
    let password = format!("pw {name}");
    let text = config(&name, &name, &name, 0, &password);
    lane.apply(&text).await;
    from.sql(&format!("INSERT INTO {0}.{0} VALUES (1, 1), (2, 0)", quote(&name))).await;
    wait_for_id(&to, &name, "1").await;
    lane.workspace.expect_empty_plan().await;

    let other = renamed(&name);
    let text = config(&name, &other, &other, 5, &password);
    lane.apply(&text).await;
    lane.workspace.expect_empty_plan().await;
    from.sql(&format!("INSERT INTO {0}.{0} VALUES (3, 1), (4, 9)", quote(&name))).await;
    wait_for_id(&to, &name, "1,4").await;

    for address in ["neonrepl_publication.p", "neonrepl_subscription.s"] {
        let id = lane.workspace.attributes(address).await["id"].as_str().unwrap().to_owned();
        lane.workspace.expect(&["state", "rm", address], 0).await;
        lane.workspace.import(address, &id).await;
    }
    // What no catalog stores comes from the configuration.
    lane.apply(&text).await;
    lane.workspace.expect_empty_plan().await;
    lane.apply("").await;
    for (database, catalog) in [(&from, "pg_publication"), (&to, "pg_subscription"), (&from, "pg_replication_slots")] {
        assert_eq!(database.value::<i64>(&format!("SELECT count(*) FROM {catalog}")).await, 0, "{catalog}");
    }
    lane.wait_for_quiet().await;
    tear_down(lane, &name).await;
    lane.expect_nothing().await;
    "created, planned, changed, imported and destroyed".to_owned()
}

async fn backslash(lane: &mut Lane) -> String {
    let said = ["No subscription can read from publication", "Rename it", "on main.tf line 3"];
    lane.refuse(&crate::matrix::SUBSCRIPTION.replace("given", "back\\\\slash"), &said).await;
    lane.expect_nothing().await;
    "refused at its line".to_owned()
}

async fn wait_for_id(to: &Database, name: &str, ids: &str) {
    let query = format!("SELECT coalesce(string_agg(id::text, ',' ORDER BY id), '') FROM {0}.{0}", quote(name));
    crate::common::wait::wait_until("the rows", crate::lane::DEADLINE, async || {
        to.value::<String>(&query).await == ids
    })
    .await;
}

async fn set_up(lane: &Lane, name: &str) -> (Database, Database) {
    let quoted = quote(name);
    let mut made = Vec::new();
    for side in [&lane.publisher, &lane.subscriber] {
        side.database.sql(&format!("CREATE DATABASE {quoted}")).await;
        let role = Role { name: name.to_owned(), password: format!("pw {name}") };
        side.server.create_role(&role, "SUPERUSER").await;
        let database = side.server.open(name);
        let table =
            format!("CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} (id int PRIMARY KEY, {quoted} int)");
        database.sql(&table).await;
        made.push(database);
    }
    let to = made.remove(1);
    (made.remove(0), to)
}

async fn tear_down(lane: &Lane, name: &str) {
    for side in [&lane.publisher, &lane.subscriber] {
        side.database.sql(&format!("DROP DATABASE {} WITH (FORCE)", quote(name))).await;
        side.database.sql(&format!("DROP ROLE {}", quote(name))).await;
    }
}
