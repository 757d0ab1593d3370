// SPDX-License-Identifier: MPL-2.0

//! Rows that stop a running subscription: the provider detects it, and restarts it once a person has fixed the reason.

use crate::common::postgres::{Database, Major};
use crate::common::wait::wait_until;
use crate::lane::{DEADLINE, Lane};
use crate::matrix::SUBSCRIPTION;
use crate::{Case, case};

/// The problem on the subscriber, the statement that then stops it, and the fix.
struct Stumble {
    before: &'static str,
    write: &'static str,
    mend: &'static str,
}

const CONFLICT: Stumble = Stumble {
    before: "INSERT INTO orders VALUES (7, 0, 'here')",
    write: "INSERT INTO orders VALUES (7, 1, 'eu')",
    mend: "DELETE FROM orders WHERE id = 7",
};

const MISFIT: Stumble = Stumble {
    before: "ALTER TABLE orders ALTER total TYPE int",
    write: "INSERT INTO orders VALUES (7, 1.5, 'eu')",
    mend: "ALTER TABLE orders ALTER total TYPE numeric",
};

const NO_KEY: Stumble = Stumble {
    before: "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
    write: "INSERT INTO orders VALUES (7, 1, 'us'); UPDATE orders SET region = 'eu' WHERE id = 7",
    mend: "ALTER TABLE orders ADD PRIMARY KEY (id)",
};

const NO_COLUMN: Stumble = Stumble {
    before: "ALTER TABLE orders RENAME COLUMN region TO area",
    write: "INSERT INTO orders VALUES (7, 1, 'eu')",
    mend: "ALTER TABLE orders RENAME COLUMN area TO region",
};

pub(crate) fn cases() -> Vec<Case> {
    // Counted errors, and stopping after one, came with Postgres 15.
    let stumbles = |what, stumble: &'static Stumble| {
        case!("subscription", "apply", "replicating", what, stands_still, stumble).on(|_, to| to >= Major::V15)
    };
    vec![
        stumbles("a row that is there already", &CONFLICT),
        stumbles("a value that does not fit", &MISFIT),
        stumbles("no key to find a row by", &NO_KEY),
        stumbles("a column that is gone", &NO_COLUMN),
        case!("subscription", "refresh", "replicating", "a table renamed on the publisher", renamed_table),
        case!("subscription", "apply", "while it is disabled", "its publisher's database renamed", renamed_database),
        case!("subscription", "destroy", "while it is disabled", "its publisher's database dropped", dropped_database),
    ]
}

async fn stands_still(lane: &mut Lane, stumble: &'static Stumble) -> String {
    let text =
        SUBSCRIPTION.replace("publications", "disable_on_error = true\n  wait_for_initial_sync = true\n  publications");
    lane.apply(&text).await;
    lane.subscriber.database.sql(stumble.before).await;
    lane.publisher.database.sql(stumble.write).await;
    let enabled = "SELECT subenabled FROM pg_subscription";
    wait_until("the subscription to stand still", DEADLINE, async || {
        !lane.subscriber.database.value::<bool>(enabled).await
    })
    .await;
    lane.plan_says(&["enabled", "false -> true", "1 to change"]).await;
    lane.subscriber.database.sql(stumble.mend).await;
    lane.apply(&text).await;
    lane.wait_for_rows("SELECT region FROM orders WHERE id = 7", &["eu"]).await;
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    lane.empty_tables().await;
    "the plan says so; mended, the next apply starts it again".to_owned()
}

async fn renamed_table(lane: &mut Lane) -> String {
    lane.apply(SUBSCRIPTION).await;
    lane.publisher.database.sql("ALTER TABLE orders RENAME TO elsewhere").await;
    lane.plan_says(&["public.elsewhere", "1 to change"]).await;
    lane.refuse(SUBSCRIPTION, &["relation \"public.elsewhere\" does not exist (42P01)"]).await;
    lane.subscriber.database.sql("ALTER TABLE orders RENAME TO elsewhere").await;
    lane.apply(SUBSCRIPTION).await;
    lane.publisher.database.sql("INSERT INTO elsewhere VALUES (8, 1, 'eu')").await;
    lane.wait_for_rows("SELECT id FROM elsewhere", &["8"]).await;
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    for side in [&lane.publisher, &lane.subscriber] {
        side.database.sql("ALTER TABLE elsewhere RENAME TO orders").await;
    }
    lane.empty_tables().await;
    "refused; renamed on the other side too, nothing is lost".to_owned()
}

/// A subscription to a database of its own on the publisher's server.
fn elsewhere(database: &str, enabled: bool, more: &str) -> String {
    let arguments =
        format!("enabled = {enabled}\n  {more}\n  publisher {{\n    database = \"{database}\"\n  }}\n  publications");
    SUBSCRIPTION.replace("publications", &arguments)
}

async fn publish_elsewhere(lane: &Lane) -> Database {
    let database = lane.publisher.server.database("elsewhere").await;
    let publish = "CREATE TABLE orders (id int PRIMARY KEY, total numeric, region text); CREATE PUBLICATION given FOR TABLE orders";
    database.sql(publish).await;
    database
}

async fn renamed_database(lane: &mut Lane) -> String {
    let database = publish_elsewhere(lane).await;
    let renamed = format!("{}_renamed", database.name);
    lane.apply(&elsewhere(&database.name, false, "")).await;
    end_sessions(lane, &database.name).await;
    lane.publisher.database.sql(&format!("ALTER DATABASE {} RENAME TO {renamed}", database.name)).await;
    lane.apply(&elsewhere(&renamed, true, "")).await;
    let database = lane.publisher.server.open(&renamed);
    database.sql("INSERT INTO orders VALUES (9, 1, 'eu')").await;
    lane.wait_for_rows("SELECT id FROM orders", &["9"]).await;
    lane.workspace.expect_empty_plan().await;
    lane.clean().await;
    lane.publisher.database.sql(&format!("DROP DATABASE {renamed} WITH (FORCE)")).await;
    lane.empty_tables().await;
    "the slot went with it; named again, the next apply goes on".to_owned()
}

async fn dropped_database(lane: &mut Lane) -> String {
    let database = publish_elsewhere(lane).await;
    lane.apply(&elsewhere(&database.name, false, "")).await;
    lane.publisher.database.sql(&format!("DROP DATABASE {} WITH (FORCE)", database.name)).await;
    lane.refuse("", &["could not connect to", "does not exist", "force_destroy = true"]).await;
    lane.apply(&elsewhere(&database.name, false, "force_destroy = true")).await;
    lane.clean().await;
    "refused; force_destroy drops it".to_owned()
}

/// A database with sessions cannot be renamed.
async fn end_sessions(lane: &Lane, database: &str) {
    let sessions =
        format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database}'");
    wait_until("the sessions to end", DEADLINE, async || lane.publisher.database.value::<i64>(&sessions).await == 0)
        .await;
}
