// SPDX-License-Identifier: MPL-2.0

//! A running replication is broken in each known way, and the status must name the cause first. A healthy one must not
//! be called unhealthy.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;

use neonrepl::replication::status::{Status, Until};

use crate::common::postgres::{Major, Role, SUPERUSER_PASSWORD, Server, quote, settings};
use crate::common::wait::wait_for;
use crate::replication::{DEADLINE, Pair};
use crate::status::{Asked, subscribe, unsubscribe};

/// How many replications are broken at the same time.
const AT_ONCE: usize = 6;

/// One way to break a replication of `orders` and `customers`. `$sub` stands for the subscription.
#[derive(Clone, Copy)]
struct Breakage {
    name: &'static str,
    /// The cause that must come first.
    first: &'static str,
    /// The oldest major version that has it.
    since: u16,
    /// Options of the subscription.
    options: &'static str,
    /// The statements before it is subscribed, on the publisher and then on the subscriber.
    before: (&'static str, &'static str),
    /// The statements that break it: on the subscriber, then on the publisher.
    then: (&'static str, &'static str),
}

const WELL: Breakage = Breakage { name: "", first: "", since: 14, options: "", before: ("", ""), then: ("", "") };

pub(crate) const ROW: &str = "INSERT INTO orders VALUES (100, 1, 'eu')";

const FUNCTIONS_AND_ROW: &str = "INSERT INTO orders VALUES (100, 1, 'eu'); CREATE FUNCTION helper(text) RETURNS boolean LANGUAGE sql \
    AS 'SELECT true'; CREATE FUNCTION is_known(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END'; \
    ALTER TABLE orders ADD CONSTRAINT known CHECK (is_known(region))";

const FUNCTIONS: &str = "CREATE FUNCTION helper(text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; \
    CREATE FUNCTION is_known(text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END'; \
    ALTER TABLE orders ADD CONSTRAINT known CHECK (is_known(region))";

/// The breakages that only need statements on both sides.
const BREAKAGES: &[Breakage] = &[
    Breakage {
        name: "a column is added on the publisher",
        first: "missing_column",
        then: ("", "ALTER TABLE orders ADD note text; INSERT INTO orders VALUES (100, 1, 'eu', 'n')"),
        ..WELL
    },
    Breakage {
        name: "a column is dropped on the subscriber",
        first: "missing_column",
        then: ("ALTER TABLE orders DROP region", ROW),
        ..WELL
    },
    Breakage {
        name: "a column is renamed",
        first: "renamed_column",
        then: ("", "ALTER TABLE orders RENAME region TO country; INSERT INTO orders VALUES (100, 1, 'eu')"),
        ..WELL
    },
    Breakage {
        name: "a number is too large",
        first: "narrower_type",
        then: ("", "ALTER TABLE orders ALTER id TYPE bigint; INSERT INTO orders VALUES (5000000000, 1, 'eu')"),
        ..WELL
    },
    Breakage {
        name: "a text is too long",
        first: "narrower_type",
        then: ("ALTER TABLE orders ALTER region TYPE varchar(3)", "INSERT INTO orders VALUES (100, 1, 'europe')"),
        ..WELL
    },
    Breakage {
        name: "a text is no number",
        first: "narrower_type",
        before: ("", "ALTER TABLE orders ALTER region TYPE int USING NULL"),
        then: ("", ROW),
        ..WELL
    },
    Breakage {
        name: "an enum has a new label",
        first: "missing_label",
        before: (
            "CREATE TYPE mood AS ENUM ('a'); ALTER TABLE orders ADD mood mood",
            "CREATE TYPE mood AS ENUM ('a'); ALTER TABLE orders ADD mood mood",
        ),
        then: ("", "ALTER TYPE mood ADD VALUE 'b'; BEGIN; INSERT INTO orders VALUES (100, 1, 'eu', 'b'); COMMIT"),
        ..WELL
    },
    Breakage {
        name: "a column must have a value",
        first: "required_column",
        then: ("ALTER TABLE orders ADD checked int NOT NULL", ROW),
        ..WELL
    },
    Breakage {
        name: "there is no key",
        first: "no_identity",
        then: (
            "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
            "INSERT INTO orders VALUES (100, 1, 'eu'); UPDATE orders SET total = 2",
        ),
        ..WELL
    },
    Breakage {
        name: "the key is another one",
        first: "other_identity",
        then: (
            "ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders ADD PRIMARY KEY (id, region)",
            "INSERT INTO orders VALUES (100, 1, 'eu'); UPDATE orders SET total = 2",
        ),
        ..WELL
    },
    Breakage {
        name: "a table is missing",
        first: "missing_table",
        then: (
            "",
            "CREATE TABLE extra (id int PRIMARY KEY); ALTER PUBLICATION shop ADD TABLE extra; INSERT INTO extra VALUES (1)",
        ),
        ..WELL
    },
    Breakage {
        name: "a table is a view",
        first: "not_a_table",
        then: (
            "CREATE VIEW extra AS SELECT 1 AS id",
            "CREATE TABLE extra (id int PRIMARY KEY); ALTER PUBLICATION shop ADD TABLE extra; INSERT INTO extra VALUES (1)",
        ),
        ..WELL
    },
    Breakage {
        name: "a column is generated",
        first: "generated_column",
        then: (
            "ALTER TABLE orders DROP region; ALTER TABLE orders ADD region text GENERATED ALWAYS AS ('x') STORED",
            ROW,
        ),
        ..WELL
    },
    Breakage {
        name: "rows are there before the copy",
        first: "rows_before",
        before: ("INSERT INTO orders VALUES (1, 1, 'eu')", "INSERT INTO orders VALUES (1, 2, 'us')"),
        ..WELL
    },
    Breakage {
        name: "a row is there already",
        first: "duplicate_key",
        then: ("INSERT INTO orders VALUES (100, 2, 'us')", ROW),
        ..WELL
    },
    Breakage {
        name: "an index is unique on the subscriber",
        first: "extra_unique",
        then: (
            "CREATE UNIQUE INDEX once ON orders (region)",
            "INSERT INTO orders VALUES (100, 1, 'eu'), (101, 1, 'eu')",
        ),
        ..WELL
    },
    Breakage {
        name: "an index is unique before the copy",
        first: "extra_unique",
        before: (
            "INSERT INTO orders VALUES (100, 1, 'eu'), (101, 1, 'eu')",
            "CREATE UNIQUE INDEX once ON orders (region)",
        ),
        ..WELL
    },
    Breakage {
        name: "a check is stricter",
        first: "extra_check",
        then: (
            "ALTER TABLE orders ADD CONSTRAINT small CHECK (total < 10)",
            "INSERT INTO orders VALUES (100, 100, 'eu')",
        ),
        ..WELL
    },
    Breakage {
        name: "a check is stricter before the copy",
        first: "extra_check",
        before: (
            "INSERT INTO orders VALUES (100, 100, 'eu')",
            "ALTER TABLE orders ADD CONSTRAINT small CHECK (total < 10)",
        ),
        ..WELL
    },
    Breakage {
        name: "a trigger raises",
        first: "replica_trigger",
        then: (
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no''; END'; CREATE TRIGGER no BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION no(); ALTER TABLE orders ENABLE ALWAYS TRIGGER no",
            ROW,
        ),
        ..WELL
    },
    Breakage {
        name: "a function needs a search_path",
        first: "search_path",
        before: (FUNCTIONS, FUNCTIONS),
        then: ("", ROW),
        ..WELL
    },
    Breakage {
        name: "a function needs a search_path for the copy",
        first: "search_path",
        before: (FUNCTIONS_AND_ROW, FUNCTIONS),
        ..WELL
    },
    Breakage {
        name: "a foreign key keeps from truncating",
        first: "referenced_table",
        then: (
            "ALTER TABLE customers ADD bought int REFERENCES orders",
            "INSERT INTO orders VALUES (100, 1, 'eu'); TRUNCATE orders",
        ),
        ..WELL
    },
    Breakage {
        name: "a table that is not replicated keeps from truncating",
        first: "referenced_table",
        then: (
            "CREATE TABLE lines (id int PRIMARY KEY, bought int REFERENCES orders)",
            "INSERT INTO orders VALUES (100, 1, 'eu'); TRUNCATE orders",
        ),
        ..WELL
    },
    Breakage {
        name: "a table that is truncated too and not replicated",
        first: "referenced_table",
        before: (
            "CREATE TABLE lines (id int PRIMARY KEY, bought int REFERENCES orders)",
            "CREATE TABLE lines (id int PRIMARY KEY, bought int REFERENCES orders)",
        ),
        then: ("", "INSERT INTO orders VALUES (100, 1, 'eu'); TRUNCATE orders CASCADE"),
        ..WELL
    },
    Breakage {
        name: "the publication is dropped",
        first: "publication_missing",
        then: ("", "DROP PUBLICATION shop; INSERT INTO orders VALUES (100, 1, 'eu')"),
        ..WELL
    },
    Breakage {
        name: "the publication is renamed",
        first: "publication_missing",
        then: ("", "ALTER PUBLICATION shop RENAME TO other; INSERT INTO orders VALUES (100, 1, 'eu')"),
        ..WELL
    },
    Breakage {
        name: "the password is wrong",
        first: "login_refused",
        then: ("$sub CONNECTION 'host=127.0.0.1 port=$port dbname=$from user=postgres password=wrong'", ""),
        ..WELL
    },
    Breakage {
        name: "the port is wrong",
        first: "publisher_unreachable",
        then: ("$sub CONNECTION 'host=127.0.0.1 port=1 dbname=$from user=postgres password=$password'", ""),
        ..WELL
    },
    Breakage {
        name: "the database is not there",
        first: "no_database",
        then: ("$sub CONNECTION 'host=127.0.0.1 port=$port dbname=nowhere user=postgres password=$password'", ""),
        ..WELL
    },
    Breakage {
        name: "the database is another one",
        first: "slot_of_another_database",
        then: ("$sub CONNECTION 'host=127.0.0.1 port=$port dbname=postgres user=postgres password=$password'", ""),
        ..WELL
    },
    Breakage {
        name: "a column is missing before the copy",
        first: "missing_column",
        before: ("ALTER TABLE orders ADD note text; INSERT INTO orders VALUES (1, 1, 'eu', 'n')", ""),
        ..WELL
    },
    Breakage {
        name: "a value does not fit in the copy",
        first: "narrower_type",
        before: ("INSERT INTO orders VALUES (1, 1, 'eu')", "ALTER TABLE orders ALTER region TYPE int USING NULL"),
        ..WELL
    },
    Breakage {
        name: "an error has disabled it",
        first: "missing_column",
        since: 15,
        options: "WITH (disable_on_error = true)",
        then: ("", "ALTER TABLE orders ADD note text; INSERT INTO orders VALUES (100, 1, 'eu', 'n')"),
        ..WELL
    },
    Breakage {
        name: "types differ in binary form",
        first: "binary_type",
        since: 16,
        options: "WITH (binary = true)",
        before: ("INSERT INTO orders VALUES (1, 1, 'eu')", "ALTER TABLE orders ALTER id TYPE bigint"),
        ..WELL
    },
    Breakage {
        name: "publications send different columns",
        first: "different_columns",
        since: 15,
        then: ("$sub ADD PUBLICATION half", "INSERT INTO orders VALUES (100, 1, 'eu')"),
        before: ("CREATE PUBLICATION half FOR TABLE orders", ""),
        ..WELL
    },
];

impl Breakage {
    /// Its texts with the names of a pair in them.
    fn fill(text: &str, pair: &Pair) -> String {
        text.replace("$sub", &format!("ALTER SUBSCRIPTION {}", pair.subscriber.name))
            .replace("$port", &pair.publisher.port.to_string())
            .replace("$from", &pair.publisher.name)
            .replace("$password", SUPERUSER_PASSWORD)
    }

    async fn run(self, major: Major) -> Outcome {
        let pair = Pair::new(major, major, "broken").await;
        pair.publisher.sql(self.before.0).await;
        pair.subscriber.sql(self.before.1).await;
        subscribe(&pair, "TABLE orders, customers", self.options).await;
        let asked = Asked::of(&pair);
        if self.then != WELL.then {
            asked.wait(Until::Ready, 3 * DEADLINE).await.unwrap();
            pair.subscriber.sql(&Self::fill(self.then.0, &pair)).await;
            for statement in self.then.1.split("; ") {
                pair.publisher.sql(statement).await;
            }
            if self.first == "different_columns" {
                pair.publisher
                    .sql(
                        "ALTER PUBLICATION half SET TABLE orders (id, total); INSERT INTO orders VALUES (101, 1, 'eu')",
                    )
                    .await;
            }
        }
        let outcome = Outcome::of(self.name, major, self.first, &asked).await;
        unsubscribe(&pair).await;
        outcome
    }
}

/// The result of a status.
pub(crate) struct Outcome {
    name: String,
    is_right: bool,
    said: String,
}

impl Outcome {
    pub(crate) async fn of(name: &str, major: Major, first: &str, asked: &Asked) -> Self {
        let ill =
            wait_for(name, 3 * DEADLINE, async || Some(asked.status().await).filter(|status| !status.is_well())).await;
        let kinds: Vec<_> = ill.causes.iter().map(|cause| cause.kind).collect();
        let said = format!("{}: {name}: {first} expected, told {kinds:?}", major.number());
        for cause in &ill.causes {
            assert!(!cause.message.is_empty() && !cause.evidence.is_empty() && !cause.remedy.is_empty(), "{cause:?}");
            for text in [&cause.message, &cause.evidence, &cause.remedy] {
                assert!(!text.contains(SUPERUSER_PASSWORD) && !text.contains("password=wrong"), "{text}");
            }
        }
        Self { name: name.to_owned(), is_right: kinds.first() == Some(&first), said }
    }
}

/// Prints how many were right. Nine out of ten must be.
pub(crate) fn tell(outcomes: &[Outcome]) {
    let right = outcomes.iter().filter(|outcome| outcome.is_right).count();
    for outcome in outcomes {
        eprintln!("{} {}", if outcome.is_right { "right" } else { "WRONG" }, outcome.said);
    }
    eprintln!("causes: {right} of {} are named first", outcomes.len());
    let wrong: Vec<_> = outcomes.iter().filter(|one| !one.is_right).map(|one| (&one.name, &one.said)).collect();
    assert!(right * 10 >= outcomes.len() * 9, "{wrong:?}");
}

async fn break_all(major: Major) {
    let cases = BREAKAGES.iter().filter(|case| case.since <= major.number());
    let outcomes: Vec<_> = stream::iter(cases).map(|case| case.run(major)).buffer_unordered(AT_ONCE).collect().await;
    tell(&outcomes);
}

#[tokio::test]
async fn the_right_cause_is_named_first_on_14() {
    break_all(Major::V14).await;
}

#[tokio::test]
async fn the_right_cause_is_named_first_on_18() {
    break_all(Major::V18).await;
}

/// A subscription as a role of the publisher's, in a pair of databases of its own.
async fn subscribe_as(pair: &Pair, role: &Role, rest: &str) {
    let (name, port, from) = (&pair.subscriber.name, pair.publisher.port, &pair.publisher.name);
    pair.publisher.sql("CREATE PUBLICATION shop FOR TABLE orders").await;
    let connection = format!("host=127.0.0.1 port={port} dbname={from} user={} password={}", role.name, role.password);
    pair.subscriber.sql(&format!("CREATE SUBSCRIPTION {name} CONNECTION '{connection}' PUBLICATION shop {rest}")).await;
}

#[tokio::test]
async fn rights_that_are_missing_are_named_first() {
    let mut outcomes = Vec::new();
    for major in [Major::V14, Major::V18] {
        let server = crate::common::postgres::shared(major);
        let reader = server.role("reader", "REPLICATION").await;
        let pair = Pair::new(major, major, "unread").await;
        pair.publisher.sql(ROW).await;
        subscribe_as(&pair, &reader, "").await;
        outcomes.push(Outcome::of("no SELECT", major, "no_select", &Asked::of(&pair)).await);
        pair.publisher.sql(&format!("GRANT SELECT ON orders TO {}", quote(&reader.name))).await;
        Asked::of(&pair).wait(Until::Ready, 3 * DEADLINE).await.unwrap();

        pair.publisher.sql(&format!("ALTER ROLE {} NOREPLICATION", quote(&reader.name))).await;
        turn_off(&pair).await;
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {} ENABLE", pair.subscriber.name)).await;
        outcomes.push(Outcome::of("no REPLICATION", major, "no_replication", &Asked::of(&pair)).await);
        pair.publisher.sql(&format!("ALTER ROLE {} NOLOGIN", quote(&reader.name))).await;
        outcomes.push(Outcome::of("no LOGIN", major, "login_refused", &Asked::of(&pair)).await);
        unsubscribe(&pair).await;
        outcomes.extend(who_reads_the_slot(major).await);
        if major == Major::V18 {
            outcomes.extend(who_writes(major).await);
        }
    }
    tell(&outcomes);
}

/// Disables a subscription, and waits until its worker is gone.
async fn turn_off(pair: &Pair) {
    pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {} DISABLE", pair.subscriber.name)).await;
    let active = "SELECT active FROM pg_replication_slots WHERE database = current_database() AND active";
    wait_for("the worker to end", DEADLINE, async || pair.publisher.rows(active).await.is_empty().then_some(())).await;
}

/// Enables a subscription until its worker runs as this role. The launcher starts workers from a list one after the
/// other, so on a busy server it may start one for the previous owner.
async fn turn_on_as(pair: &Pair, owner: &Role) {
    let enable = format!("ALTER SUBSCRIPTION {} ENABLE", pair.subscriber.name);
    let runs_as = "SELECT usename::text FROM pg_stat_activity \
        WHERE datname = current_database() AND backend_type = 'logical replication apply worker' AND usename IS NOT NULL";
    wait_for("a worker of the owner", 3 * DEADLINE, async || {
        pair.subscriber.sql(&enable).await;
        let roles = wait_for("a worker", 3 * DEADLINE, async || {
            Some(pair.subscriber.rows(runs_as).await).filter(|roles| !roles.is_empty())
        })
        .await;
        let is_owner = roles == [owner.name.as_str()];
        if !is_owner {
            turn_off(pair).await;
        }
        is_owner.then_some(())
    })
    .await;
}

/// Roles of the subscriber's, from Postgres 16 on.
async fn who_writes(major: Major) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (name, first, rest) in [
        ("no SET ROLE", "no_set_role", ""),
        ("no INSERT", "no_write", "ALTER SUBSCRIPTION $sub SET (run_as_owner = true)"),
        (
            "row security",
            "row_security",
            "ALTER TABLE orders OWNER TO $role; ALTER TABLE orders ENABLE ROW LEVEL SECURITY; ALTER TABLE orders FORCE ROW LEVEL SECURITY",
        ),
    ] {
        let pair = Pair::new(major, major, "unwritten").await;
        let owner = pair.role_of_subscriber(major, "owner", "IN ROLE pg_create_subscription").await;
        let database = quote(&pair.subscriber.name);
        pair.subscriber.sql(&format!("GRANT CREATE ON DATABASE {database} TO {}", quote(&owner.name))).await;
        subscribe(&pair, "TABLE orders", "").await;
        let asked = Asked::of(&pair);
        asked.wait(Until::Ready, 3 * DEADLINE).await.unwrap();
        let sub = &pair.subscriber.name;
        let rest = rest.replace("$sub", sub).replace("$role", &quote(&owner.name));
        turn_off(&pair).await;
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {sub} OWNER TO {}; {rest}", quote(&owner.name))).await;
        turn_on_as(&pair, &owner).await;
        pair.publisher.sql(ROW).await;
        outcomes.push(Outcome::of(name, major, first, &asked).await);
        unsubscribe(&pair).await;
    }
    outcomes
}

/// Two subscriptions on one slot, and a slot that is gone.
async fn who_reads_the_slot(major: Major) -> Vec<Outcome> {
    let (first, mut second) = (Pair::new(major, major, "reads").await, Pair::new(major, major, "waits").await);
    subscribe(&first, "TABLE orders", "").await;
    Asked::of(&first).wait(Until::Ready, 3 * DEADLINE).await.unwrap();
    second.publisher = crate::common::postgres::shared(major).open(&first.publisher.name);
    let (name, slot, from) = (&second.subscriber.name, &first.subscriber.name, &first.publisher.name);
    let port = first.publisher.port;
    second
        .subscriber
        .sql(&format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port={port} dbname={from} user=postgres \
             password={SUPERUSER_PASSWORD}' PUBLICATION shop WITH (connect = false, slot_name = '{slot}')"
        ))
        .await;
    second.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} ENABLE")).await;
    let used = Outcome::of("the slot is in use", major, "slot_in_use", &Asked::of(&second)).await;
    for step in ["DISABLE", "SET (slot_name = NONE)"] {
        second.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} {step}")).await;
    }
    second.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
    first.subscriber.sql(&format!("ALTER SUBSCRIPTION {slot} DISABLE")).await;
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    wait_for("the slot to be let go", DEADLINE, async || first.publisher.try_sql(&drop).await.ok()).await;
    first.subscriber.sql(&format!("ALTER SUBSCRIPTION {slot} ENABLE")).await;
    let gone = Outcome::of("the slot is gone", major, "slot_missing", &Asked::of(&first)).await;
    unsubscribe(&first).await;
    vec![used, gone]
}

/// Checks that each look at a healthy replication finds no problem.
async fn is_well(name: &str, asked: &Asked) -> Status {
    let status = asked.status().await;
    assert!(status.is_well(), "{name}: {:?}", status.causes);
    status
}

#[tokio::test]
async fn what_is_well_is_never_called_ill() {
    for major in [Major::V14, Major::V18] {
        let mut publisher = Server::start(major, settings([("max_slot_wal_keep_size", "-1")]));
        let mut subscriber = Server::start(major, settings([("max_replication_slots", "100")]));
        let pair = Pair::on(&publisher, &subscriber, "well").await;
        let asked = Asked::of(&pair);
        let mut looks = 0;
        pair.publisher
            .sql("INSERT INTO orders SELECT i, i, repeat('eu', 20) FROM generate_series(1, 200000) i; INSERT INTO customers SELECT i FROM generate_series(1, 1000) i")
            .await;
        subscribe(&pair, "TABLE orders, customers, invoices", "").await;
        for _ in 0..3 {
            is_well("right after creation, and while it copies", &asked).await;
            looks += 1;
        }
        asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();
        is_well("idle", &asked).await;
        let load = async {
            for round in 0..40 {
                let rows =
                    format!("INSERT INTO customers SELECT i + 1000 * {round} FROM generate_series(10001, 11000) i");
                let update = format!("UPDATE orders SET total = total + 1 WHERE id % 40 = {round}");
                pair.publisher.sql(&format!("{rows}; {update}")).await;
            }
        };
        let watch = async {
            let mut looks = 0;
            for _ in 0..4 {
                is_well("under load", &asked).await;
                looks += 1;
            }
            looks
        };
        let ((), watched) = tokio::join!(load, watch);
        looks += watched + 1;
        let name = &pair.subscriber.name;
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} REFRESH PUBLICATION")).await;
        is_well("after a refresh", &asked).await;
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} SET (synchronous_commit = on)")).await;
        is_well("after a change that starts the worker again", &asked).await;
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} DISABLE")).await;
        let disabled = is_well("disabled on purpose", &asked).await;
        assert!(!disabled.enabled && !disabled.is_ready());
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} ENABLE")).await;
        is_well("enabled again", &asked).await;
        publisher.restart(settings([]));
        is_well("just after the publisher was restarted", &asked).await;
        subscriber.restart(settings([]));
        is_well("just after the subscriber was restarted", &asked).await;
        asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();
        for side in [&pair.publisher, &pair.subscriber] {
            let tables = (0..60).map(|at| format!("CREATE TABLE small{at} (id int PRIMARY KEY)"));
            side.sql(&tables.collect::<Vec<_>>().join("; ")).await;
        }
        let names: Vec<_> = (0..60).map(|at| format!("small{at}")).collect();
        pair.publisher.sql(&format!("ALTER PUBLICATION shop ADD TABLE {}", names.join(", "))).await;
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {name} REFRESH PUBLICATION")).await;
        for _ in 0..3 {
            is_well("while many small tables are copied", &asked).await;
        }
        asked.wait(Until::Ready, 3 * DEADLINE).await.unwrap();
        subscriber.restart(settings([("wal_retrieve_retry_interval", "15s")]));
        is_well("where a worker is started again late", &asked).await;
        publisher.restart(settings([]));
        is_well("while a worker waits for long to be started again", &asked).await;
        looks += 11;
        eprintln!("{}: {looks} looks at what is well", major.number());
        unsubscribe(&pair).await;
    }
}

/// Exhausted resources of servers.
#[tokio::test]
async fn what_has_run_out_is_named_first() {
    let mut outcomes = Vec::new();
    for major in [Major::V14, Major::V18] {
        let publisher = Server::start(
            major,
            settings([
                ("max_replication_slots", "1"),
                ("max_slot_wal_keep_size", "1MB"),
                ("min_wal_size", "2MB"),
                ("max_wal_size", "2MB"),
            ]),
        );
        let mut subscriber = Server::start(major, settings([("max_replication_slots", "10")]));
        let pair = Pair::on(&publisher, &subscriber, "short").await;
        pair.publisher.sql(ROW).await;
        subscribe(&pair, "TABLE orders", "").await;
        let asked = Asked::of(&pair);
        outcomes.push(Outcome::of("no slot for the copy", major, "no_free_slot", &asked).await);
        unsubscribe(&pair).await;

        pair.publisher.sql("DROP PUBLICATION shop").await;
        subscribe(&pair, "TABLE orders", "WITH (copy_data = false)").await;
        asked.wait(Until::Ready, 3 * DEADLINE).await.unwrap();
        subscriber.restart(settings([("max_logical_replication_workers", "0")]));
        outcomes.push(Outcome::of("no worker", major, "no_free_worker", &asked).await);

        for _ in 0..12 {
            pair.publisher.sql("SELECT pg_switch_wal(); INSERT INTO orders SELECT i FROM generate_series(1000, 2000) i; DELETE FROM orders; CHECKPOINT").await;
        }
        subscriber.restart(settings([("max_logical_replication_workers", "10")]));
        outcomes.push(Outcome::of("the WAL is gone", major, "slot_lost", &asked).await);
        unsubscribe(&pair).await;
    }
    tell(&outcomes);
}

/// A wait that cannot succeed ends early, with the reason.
#[tokio::test]
async fn a_wait_that_cannot_succeed_ends_with_the_cause() {
    for major in [Major::V14, Major::V18] {
        let pair = Pair::new(major, major, "vain").await;
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        pair.subscriber.sql("INSERT INTO orders VALUES (1, 2, 'us')").await;
        subscribe(&pair, "TABLE orders", "").await;
        let asked = Asked::of(&pair);
        let begun = std::time::Instant::now();
        let error = asked.wait(Until::Ready, Duration::from_secs(300)).await.unwrap_err().to_string();
        assert!(begun.elapsed() < Duration::from_secs(60), "{error}");
        for said in ["public.orders already held rows on the subscriber", "TRUNCATE \"public\".\"orders\""] {
            assert!(error.contains(said), "{error}");
        }
        pair.subscriber.sql("TRUNCATE orders").await;
        asked.wait(Until::CaughtUp, 3 * DEADLINE).await.unwrap();
        pair.subscriber.sql(&format!("ALTER SUBSCRIPTION {} DISABLE", pair.subscriber.name)).await;
        let error = asked.wait(Until::Ready, Duration::from_secs(300)).await.unwrap_err().to_string();
        assert!(error.contains("is disabled") && error.contains("ENABLE"), "{error}");
        unsubscribe(&pair).await;
    }
}
