// SPDX-License-Identifier: MPL-2.0

//! Indexes, foreign keys and statistics that are created after the copy: `neonrepl_destination_indexes` through real
//! cores, while changes arrive.

use serde_json::json;

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::Major::{V14, V16, V18};
use crate::common::postgres::{self as servers, Database, Major, Role, SUPERUSER_PASSWORD};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, subscribers};

const ADDRESS: &str = "neonrepl_destination_indexes.shop";

/// An application's tables: indexes of each kind, partitions of partitions, foreign keys from and to them.
const SHOP: &str = "CREATE SCHEMA app; \
    CREATE TABLE app.users (id int PRIMARY KEY, email text NOT NULL, name text, gone bool NOT NULL DEFAULT false); \
    CREATE UNIQUE INDEX users_email ON app.users (lower(email)) WHERE NOT gone; CREATE INDEX ON app.users (name DESC) INCLUDE (email); \
    COMMENT ON INDEX app.users_email IS 'one each'; ALTER INDEX app.users_email ALTER COLUMN 1 SET STATISTICS 200; \
    CREATE INDEX \"odd \"\" USING name\" ON app.users USING hash (name); CREATE UNIQUE INDEX users_both ON app.users (id, email); \
    CREATE STATISTICS app.users_stats ON email, name FROM app.users; \
    CREATE TABLE app.orders (id int, day date, user_id int REFERENCES app.users, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); \
    CREATE TABLE app.orders_1 PARTITION OF app.orders FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
    CREATE TABLE app.orders_2 PARTITION OF app.orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id); \
    CREATE TABLE app.orders_2a PARTITION OF app.orders_2 FOR VALUES IN (1, 2, 3); CREATE TABLE app.orders_2b PARTITION OF app.orders_2 DEFAULT; \
    CREATE INDEX orders_note ON app.orders (note); CREATE INDEX orders_2b_own ON app.orders_2b (user_id); CREATE INDEX ON app.orders (user_id, day); \
    CREATE TABLE app.lines (id int PRIMARY KEY, order_id int, day date, pair_id int, pair_email text, \
      FOREIGN KEY (order_id, day) REFERENCES app.orders ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, \
      CONSTRAINT to_both FOREIGN KEY (pair_id, pair_email) REFERENCES app.users (id, email)); \
    ALTER TABLE app.lines ADD CONSTRAINT late FOREIGN KEY (pair_id) REFERENCES app.users NOT VALID; ALTER TABLE app.lines CLUSTER ON lines_pkey; \
    INSERT INTO app.users SELECT n, 'u' || n, 'name ' || n % 10 FROM generate_series(1, 2000) n; \
    INSERT INTO app.orders SELECT n, '2024-06-01'::date + n % 500, n, 'note ' || n FROM generate_series(1, 2000) n; \
    INSERT INTO app.lines SELECT n, n, '2024-06-01'::date + n % 500, n, 'u' || n FROM generate_series(1, 2000) n;";

/// Queries that describe a database.
const SAID: [&str; 3] = [
    "SELECT indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid, indisclustered, inhparent::regclass, obj_description(indexrelid, 'pg_class'), \
     ARRAY(SELECT a.attstattarget FROM pg_attribute a WHERE a.attrelid = indexrelid AND a.attstattarget >= 0) FROM pg_index \
     LEFT JOIN pg_inherits ON inhrelid = indexrelid WHERE indrelid >= 16384 AND indrelid::regclass::text !~ '^pg_toast' ORDER BY indexrelid::regclass::text",
    "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), convalidated, conparentid <> 0 FROM pg_constraint WHERE contype = 'f' \
     AND (conparentid = 0 OR confrelid = (SELECT p.confrelid FROM pg_constraint p WHERE p.oid = pg_constraint.conparentid)) ORDER BY 1, 2, 3",
    "SELECT stxname, pg_get_statisticsobjdef(oid) FROM pg_statistic_ext ORDER BY 1",
];

async fn said(database: &Database) -> Vec<String> {
    let mut said = Vec::new();
    for query in SAID {
        said.extend(database.rows(query).await);
    }
    said.sort();
    said
}

struct Shop {
    publisher: Database,
    subscriber: Database,
    workspace: Workspace,
    name: String,
}

impl Shop {
    async fn new(core: Core, from: Major, to: Major, schema: &str) -> Self {
        let publisher = servers::shared(from).database("indexes_from").await;
        let subscriber = subscribers(to).database("indexes_to").await;
        publisher.sql(schema).await;
        let mut workspace = Workspace::new(core);
        workspace.secret(SUPERUSER_PASSWORD);
        workspace.env("NEONREPL_PUBLISHER_URL", &publisher.url());
        workspace.env("NEONREPL_SUBSCRIBER_URL", &subscriber.url());
        workspace.init().await;
        let name = publisher.name.clone();
        Self { publisher, subscriber, workspace, name }
    }

    /// Tables, a subscription and the indexes, the last with more attributes.
    fn write(&self, more: &str) {
        let name = &self.name;
        let publication = "publications = [neonrepl_publication.shop.name]";
        self.workspace.write(
            "main.tf",
            &format!(
                "resource \"neonrepl_publication\" \"shop\" {{\n  name = \"{name}\"\n  \
                 tables = [\"app.users\", \"app.orders\", \"app.lines\"]\n}}\n\
                 resource \"neonrepl_destination_schema\" \"shop\" {{\n  {publication}\n}}\n\
                 resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  {publication}\n  \
                 refresh_triggers = {{ shop = neonrepl_publication.shop.fingerprint }}\n  depends_on = [neonrepl_destination_schema.shop]\n}}\n\
                 resource \"neonrepl_destination_indexes\" \"shop\" {{\n  {publication}\n  \
                 subscriptions = [neonrepl_subscription.shop.name]\n{more}\n}}\n"
            ),
        );
    }
}

async fn life(core: Core, from: Major, to: Major) {
    let shop = Shop::new(core, from, to, SHOP).await;
    let Shop { publisher, subscriber, workspace, name } = &shop;
    shop.write("  parallel = 3\n  maintenance_work_mem = \"16MB\"");
    let plan = workspace.plan().await.flat();
    for text in [
        "apply makes 7 indexes, 4 foreign keys, 1 statistics object on the subscriber",
        "app.users_email on app.users",
        "app.lines.to_both",
        "statistics app.users_stats",
    ] {
        assert!(plan.contains(text), "{text} is not in {plan}");
    }
    workspace.apply().await;
    assert_eq!(said(subscriber).await, said(publisher).await);
    let state = workspace.attributes(ADDRESS).await;
    assert_eq!(state["statistics"], json!(["app.users_stats"]), "{state}");
    assert_eq!((state["indexes"].as_array().unwrap().len(), state["foreign_keys"].as_array().unwrap().len()), (7, 4));
    assert_eq!(state["id"], format!("{}/{name}", subscriber.name));
    let unanalyzed = "SELECT count(*) FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p') AND reltuples < 0";
    assert_eq!(subscriber.value::<i64>(unanalyzed).await, 0);
    workspace.expect_empty_plan().await;

    // Missing and later objects are created: under writes, and with partitions that only the subscriber has.
    subscriber
        .sql(
            "DROP INDEX app.users_name_email_idx; DROP INDEX app.orders_note; DROP STATISTICS app.users_stats; \
             ALTER TABLE app.orders DROP CONSTRAINT orders_user_id_fkey; \
             CREATE TABLE app.orders_0 PARTITION OF app.orders FOR VALUES FROM ('2023-01-01') TO ('2024-01-01')",
        )
        .await;
    publisher.sql("CREATE INDEX users_gone ON app.users (gone)").await;
    let plan = workspace.plan().await.flat();
    assert!(plan.contains("apply makes 3 indexes, 1 foreign key, 1 statistics object"), "{plan}");
    assert!(plan.contains("app.orders_note on app.orders, on 4 partitions"), "{plan}");
    let writing = async {
        for round in 0..40 {
            publisher
                .sql(&format!(
                    "UPDATE app.users SET name = 'r{round}' WHERE id % 100 = {round}; \
                INSERT INTO app.orders VALUES ({}, '2025-03-01', 1, 'new')",
                    10_000 + round
                ))
                .await;
        }
    };
    tokio::join!(workspace.apply(), writing);
    let orders: i64 = publisher.value("SELECT count(*) FROM app.orders").await;
    wait_until("all orders", DEADLINE, async || {
        subscriber.value::<i64>("SELECT count(*) FROM app.orders").await == orders
    })
    .await;
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(subscriber.value::<i64>(invalid).await, 0);
    subscriber.sql("ALTER TABLE app.orders DETACH PARTITION app.orders_0; DROP TABLE app.orders_0").await;
    assert_eq!(said(subscriber).await, said(publisher).await);
    workspace.expect_empty_plan().await;

    workspace.expect(&["state", "rm", ADDRESS], 0).await;
    shop.write("");
    workspace.import(ADDRESS, &format!("{}/{name}", subscriber.name)).await;
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    let before = said(subscriber).await;
    workspace.destroy().await;
    assert_eq!(said(subscriber).await, before);
}

#[tokio::test]
async fn terraform_builds_indexes_from_14_to_18() {
    life(Core::Terraform, V14, V18).await;
}

#[tokio::test]
async fn opentofu_builds_indexes_from_18_to_14() {
    life(Core::OpenTofu, V18, V14).await;
}

/// Rows that prevent an index are named, everything else is created, and the next apply continues after the repair.
#[tokio::test]
async fn violations_are_findings_with_their_keys() {
    let cases = [(Core::OpenTofu, V14), (Core::Terraform, V18)];
    for (core, major) in cases {
        let shop = Shop::new(core, major, major, SHOP).await;
        let Shop { publisher, subscriber, workspace, .. } = &shop;
        shop.write("");
        workspace.expect(&["apply", "-auto-approve", "-no-color", "-target=neonrepl_subscription.shop"], 0).await;
        wait_until("all rows", DEADLINE, async || {
            subscriber.value::<i64>("SELECT count(*) FROM app.lines").await == 2000
                && subscriber.value::<i64>("SELECT count(*) FROM app.users").await == 2000
        })
        .await;
        // An index of an earlier attempt, a different one that a person has created, and rows from somebody else.
        subscriber.sql("CREATE INDEX orders_2b_own ON app.orders_2b (note)").await;
        subscriber.sql("CREATE STATISTICS app.users_stats ON id, name FROM app.users").await;
        subscriber.sql("CREATE INDEX users_name_email_idx ON app.users (name DESC) INCLUDE (email)").await;
        subscriber
            .sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.users_name_email_idx'::regclass")
            .await;
        subscriber.sql("INSERT INTO app.users VALUES (9001, 'U7'), (9002, 'u9'); INSERT INTO app.lines VALUES (9001, NULL, NULL, 77777, 'x')").await;
        let failed = workspace.run(&["apply", "-auto-approve", "-no-color"]).await;
        assert_eq!(failed.code, Some(1), "{}", failed.text());
        for text in [
            "2 things could not be made",
            "Keys that several rows have: (u7), (u9).",
            "Keys of rows that refer to nothing: (77777,x).",
            "SELECT lower(email), count(*) FROM \"app\".\"users\" WHERE",
            "index app.orders_2b_own is defined differently on the subscriber",
            "statistics app.users_stats is defined differently on the subscriber",
            "Everything else was created",
        ] {
            assert!(failed.flat().contains(text), "{text} is not in {}", failed.text());
        }
        let invalid = "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid";
        assert_eq!(subscriber.rows(invalid).await, [""; 0], "an index that could not be built is dropped again");
        subscriber.sql("DELETE FROM app.users WHERE id > 9000; DELETE FROM app.lines WHERE id > 9000; DROP INDEX app.orders_2b_own; DROP STATISTICS app.users_stats").await;
        workspace.apply().await;
        assert_eq!(said(subscriber).await, said(publisher).await);
        workspace.expect_empty_plan().await;
    }
    println!("{} cases", cases.len());
}

/// Obstacles are reported before anything is created: missing tables, and rights.
#[tokio::test]
async fn what_the_role_may_not_do_is_an_error_of_the_plan() {
    let shop = Shop::new(Core::OpenTofu, V16, V16, SHOP).await;
    let Shop { subscriber, workspace, name, .. } = &shop;
    let only = |more: &str| {
        let tables = "tables = [\"app.users\", \"app.lines\"]";
        workspace.write(
            "main.tf",
            &format!("resource \"neonrepl_destination_indexes\" \"shop\" {{\n  {tables}\n{more}\n}}\n"),
        );
    };
    only("");
    let failed = workspace.run(&["apply", "-auto-approve", "-no-color"]).await;
    assert!(failed.flat().contains("the subscriber lacks 2 tables"), "{}", failed.text());
    subscriber.sql("CREATE SCHEMA app; CREATE TABLE app.users (id int PRIMARY KEY, email text NOT NULL, name text, gone bool); \
        CREATE TABLE app.lines (id int PRIMARY KEY, order_id int, day date, pair_id int, pair_email text)").await;
    let role = format!("{name}_builder");
    subscriber
        .sql(&format!(
            "CREATE ROLE \"{role}\" LOGIN PASSWORD '{SUPERUSER_PASSWORD}'; GRANT USAGE ON SCHEMA app TO \"{role}\""
        ))
        .await;
    let url = subscriber.url().replacen("//postgres:", &format!("//{role}:"), 1);
    let provider = format!("provider \"neonrepl\" {{\n  subscriber {{\n    url = \"{url}\"\n  }}\n}}\n");
    workspace.write("provider.tf", &provider);
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    for text in [
        format!(
            "app.users belongs to postgres. As a superuser: ALTER TABLE \"app\".\"users\" OWNER TO \"{role}\"; or GRANT \"postgres\" TO \"{role}\";"
        ),
        format!("GRANT CREATE ON SCHEMA \"app\" TO \"{role}\";"),
    ] {
        assert!(plan.flat().contains(&text), "{text} is not in {}", plan.text());
    }
    subscriber
        .sql(&format!(
            "ALTER TABLE app.users OWNER TO \"{role}\"; ALTER TABLE app.lines OWNER TO \"{role}\"; \
        GRANT CREATE ON SCHEMA app TO \"{role}\""
        ))
        .await;
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    only("  maintenance_work_mem = \"lots\"");
    let plan = workspace.plan().await;
    assert!(plan.flat().contains("\"lots\" is not an amount of memory"), "{}", plan.text());
}

/// An apply waits for an index that another session is building. The remains of an apply that was killed or stopped are
/// built again.
#[tokio::test]
async fn what_a_killed_or_stopped_apply_has_left_is_finished_by_the_next() {
    for (core, major) in [(Core::OpenTofu, V14), (Core::Terraform, V18)] {
        let mut shop = Shop::new(core, major, major, SHOP).await;
        shop.workspace.env("TF_LOG_PROVIDER", "INFO");
        let Shop { publisher, subscriber, workspace, .. } = &shop;
        subscriber.sql(TABLES).await;
        workspace.write(
            "main.tf",
            "resource \"neonrepl_destination_indexes\" \"shop\" {\n  tables = [\"app.users\", \"app.lines\"]\n}\n",
        );
        let hold = async || {
            let holder = subscriber.connect_as(&Role::superuser()).await.expect("a connection");
            holder.batch_execute("BEGIN; LOCK TABLE app.users IN ROW EXCLUSIVE MODE").await.expect("a lock");
            holder
        };
        let a_build_waits = async || {
            let waiting = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database() AND phase LIKE 'waiting%'";
            wait_until("a build that waits", DEADLINE, async || subscriber.value::<i64>(waiting).await > 0).await;
        };
        let begin = async || {
            let holder = hold().await;
            let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
            a_build_waits().await;
            (holder, apply)
        };
        let holder = hold().await;
        let other = subscriber.connect_as(&Role::superuser()).await.expect("a connection");
        // The first one that an apply builds.
        let first = "CREATE INDEX CONCURRENTLY \"odd \"\" USING name\" ON app.users USING hash (name)";
        let building = other.batch_execute(first);
        let applying = async {
            a_build_waits().await;
            let apply = workspace.spawn(&["apply", "-auto-approve", "-no-color"]);
            apply.wait_for("is already being built by process").await;
            drop(holder);
            apply.wait().await
        };
        let (built, run) = tokio::join!(building, applying);
        built.expect("an index that somebody else builds");
        assert_eq!(run.code, Some(0), "{}", run.text());

        subscriber.sql("DROP INDEX app.users_email").await;
        let (holder, apply) = begin().await;
        apply.wait_for("index app.users_email of app.users: waiting for writers before build, 0 % of it").await;
        apply.kill_all().await;
        apply.wait().await;
        workspace.unlock();
        drop(holder);
        workspace.apply().await;
        let users = "SELECT indexrelid::regclass, pg_get_indexdef(indexrelid), indisvalid FROM pg_index \
            WHERE indrelid = 'app.users'::regclass ORDER BY indexrelid::regclass::text";
        assert_eq!(subscriber.rows(users).await, publisher.rows(users).await);

        subscriber.sql("DROP INDEX app.users_email").await;
        let (holder, apply) = begin().await;
        apply.interrupt().await;
        let stopped = apply.wait().await;
        assert_eq!(stopped.code, Some(1), "{}", stopped.text());
        for text in ["Left unfinished, to be built again by the next apply:", "index app.users_email"] {
            assert!(stopped.flat().contains(text), "{text} is not in {}", stopped.text());
        }
        drop(holder);
        workspace.apply().await;
        assert_eq!(subscriber.rows(users).await, publisher.rows(users).await);
        workspace.expect_empty_plan().await;
    }
}

/// The action creates missing objects, and prints what it does.
#[tokio::test]
async fn the_action_builds_indexes_and_says_how_far_it_is() {
    let shop = Shop::new(Core::Terraform, V16, V16, SHOP).await;
    let Shop { publisher, subscriber, workspace, .. } = &shop;
    subscriber.sql(TABLES).await;
    // The function waits at one of the last rows while a session holds a lock.
    publisher.sql("CREATE FUNCTION app.held(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'; CREATE INDEX users_held ON app.users (app.held(id))").await;
    subscriber
        .sql(
            "CREATE FUNCTION app.held(id int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN \
               IF id = 1500 THEN PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1); END IF; RETURN id; END $$; \
             INSERT INTO app.users SELECT n, 'u' || n, 'name ' || n % 10 FROM generate_series(1, 2000) n; \
             INSERT INTO app.lines SELECT n, n, '2024-06-01'::date + n % 500, n, 'u' || n FROM generate_series(1, 2000) n",
        )
        .await;
    let holder = subscriber.connect_as(&Role::superuser()).await.expect("a connection");
    holder.batch_execute("SELECT pg_advisory_lock(1)").await.expect("a lock");
    workspace.write(
        "main.tf",
        "action \"neonrepl_build_indexes\" \"shop\" {\n  config {\n    tables = [\"app.users\", \"app.lines\"]\n  }\n}\n",
    );
    let invoke = ["apply", "-auto-approve", "-no-color", "-invoke=action.neonrepl_build_indexes.shop"];
    let building = workspace.spawn(&invoke);
    building.wait_for("index app.users_held of app.users: building index: scanning table, ").await;
    drop(holder);
    let built = building.wait().await;
    assert_eq!(built.code, Some(0), "{}", built.text());
    let flat = built.flat();
    let share = flat.split("app.users_held of app.users: building index: scanning table, ").nth(1).expect("a line");
    let share: u32 = share.split(" % of it").next().and_then(|share| share.parse().ok()).expect("a share");
    assert!((50..100).contains(&share), "{share} % of the table, and not some 75");
    for text in [
        "building index app.users_email of app.users",
        "making foreign key app.lines.to_both",
        "9 of 9: ",
        "All is built, in ",
    ] {
        assert!(built.flat().contains(text), "{text} is not in {}", built.text());
    }
    assert_eq!(
        subscriber
            .value::<i64>("SELECT count(*) FROM pg_index WHERE indrelid = 'app.users'::regclass AND indisvalid")
            .await,
        6
    );
    let built = workspace.expect(&invoke, 0).await;
    assert!(built.flat().contains("Nothing was missing."), "{}", built.text());
}

/// Two of the tables, without the objects that are created later.
const TABLES: &str = "CREATE SCHEMA app; \
    CREATE TABLE app.users (id int PRIMARY KEY, email text NOT NULL, name text, gone bool NOT NULL DEFAULT false); \
    CREATE TABLE app.lines (id int PRIMARY KEY, order_id int, day date, pair_id int, pair_email text)";
