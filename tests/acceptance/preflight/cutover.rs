// SPDX-License-Identifier: MPL-2.0

//! The rights that a cutover needs, compared with the cutover itself: roles without rights get what preflight requires,
//! and nothing else, and switch. Preflight and the plan of the cutover both report each right that is revoked again.

use std::collections::BTreeSet;

use neonrepl::postgres::catalog::{Unanalyzed, unanalyzed};
use neonrepl::postgres::{Conninfo, Limits, QualifiedName};
use neonrepl::replication::checks::Objection;
use neonrepl::replication::cutover::{self, Cutover, Desired, Found, Outcome, Terms, WayBack};
use neonrepl::replication::preflight::{Question, Report};
use neonrepl::replication::{self, Operation, Place};

use super::looking::{Looking, shown, tables};
use crate::catalog::{config, connect, ident};
use crate::common::postgres::{self as servers, Database, Major, Role, quote};
use crate::common::wait::wait_until;
use crate::cutover::Heard;
use crate::replication::{DEADLINE, Pair};

/// Tables of an application's role, with a sequence of another role.
const TABLES: &str = "
    ALTER TABLE orders SET (autovacuum_enabled = false);
    CREATE SEQUENCE numbers;
    ALTER TABLE orders ALTER total SET DEFAULT nextval('numbers');
    CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE part PARTITION OF parted DEFAULT";

/// The roles for each part, on both servers.
struct Parts {
    pair: Pair,
    /// The role of the provider on each side.
    own: [Role; 2],
    /// The role that a subscription logs in as on each side.
    login: [Role; 2],
    /// The owner of the tables of each side.
    owners: [Role; 2],
    reverse: bool,
}

impl Parts {
    async fn new(from: Major, to: Major, reverse: bool) -> Self {
        let pair = Pair::new(from, to, "cutover_rights").await;
        let publisher = servers::shared(from);
        let parts = Self {
            own: [publisher.role("switch pub", "").await, pair.role_of_subscriber(to, "switch sub", "").await],
            login: [publisher.role("switch login", "").await, pair.role_of_subscriber(to, "switch back", "").await],
            owners: [publisher.role("switch app", "").await, pair.role_of_subscriber(to, "switch app", "").await],
            pair,
            reverse,
        };
        for (database, owner) in [&parts.pair.publisher, &parts.pair.subscriber].into_iter().zip(&parts.owners) {
            let owner = quote(&owner.name);
            let owned =
                ["orders", "customers", "parted", "part"].map(|table| format!("ALTER TABLE {table} OWNER TO {owner}"));
            let schema = format!("GRANT CREATE, USAGE ON SCHEMA public TO {owner}");
            database
                .sql(&format!(
                    "{TABLES}; {}; {schema}; REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
                    owned.join("; "),
                    quote(&database.name)
                ))
                .await;
        }
        // A role that may not even connect cannot ask.
        for (database, own) in [&parts.pair.publisher, &parts.pair.subscriber].into_iter().zip(&parts.own) {
            database.sql(&format!("GRANT CONNECT ON DATABASE {} TO {}", quote(&database.name), quote(&own.name))).await;
        }
        parts
    }

    fn database(&self, place: Place) -> &Database {
        if place == Place::Subscriber { &self.pair.subscriber } else { &self.pair.publisher }
    }

    fn looking(&self) -> Looking<'_> {
        let [publisher, subscriber] = &self.own;
        Looking { publisher: (&self.pair.publisher, publisher), subscriber: (&self.pair.subscriber, subscriber) }
    }

    async fn report(&self) -> Report {
        let question = Question {
            cutover: true,
            reverse: self.reverse,
            subscription_role: Some(ident(&self.login[0].name)),
            reverse_role: self.reverse.then(|| ident(&self.login[1].name)),
            ..tables(&["orders", "customers", "parted"])
        };
        self.looking().report(&question).await
    }

    /// Grants everything that a report requires, like a superuser who reads it. Returns the checks.
    async fn give(&self) -> BTreeSet<String> {
        let mut checks = BTreeSet::new();
        for finding in self.report().await.findings.iter().filter(|finding| is_right(finding.check)) {
            checks.insert(format!("{} {}", finding.place.as_str(), finding.check));
            self.database(finding.place).sql(&statements(&finding.remedy).join(" ")).await;
        }
        checks
    }

    fn cutover(&self, active: Place) -> Cutover {
        let mut connection = Conninfo::new();
        for (keyword, value) in [
            ("host", "127.0.0.1"),
            ("port", &self.pair.subscriber.port.to_string()),
            ("dbname", &self.pair.subscriber.name),
            ("user", &self.login[1].name),
            ("password", &self.login[1].password),
        ] {
            connection.set(keyword, value);
        }
        Cutover {
            subscriptions: [ident(&self.pair.subscriber.name)].into(),
            desired: Desired { active, reverse: self.reverse, guard: true },
            way_back: self.reverse.then_some(WayBack { connection, resend: false }),
            terms: Terms::default(),
        }
    }

    fn connected(&self) -> replication::Pair {
        let [publisher, subscriber] = &self.own;
        replication::Pair {
            publisher: connect(&self.pair.publisher, publisher),
            subscriber: connect(&self.pair.subscriber, subscriber),
        }
    }

    async fn look(&self, active: Place) -> Found {
        let heard = Heard::default();
        let operation = Operation::new("planning", Limits::within(3 * DEADLINE), &heard);
        cutover::look(&self.connected(), &self.cutover(active), &operation)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    async fn run(&self, active: Place) -> Outcome {
        let heard = Heard::default();
        let operation = Operation::new("cutting over", Limits::within(5 * DEADLINE), &heard);
        cutover::run(&self.connected(), &self.cutover(active), &operation)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Replicates with the roles that have their rights now.
    async fn replicate(&self) {
        let run = async |place: usize, sql: &str| {
            let database = [&self.pair.publisher, &self.pair.subscriber][place];
            let client = database.connect_as(&self.own[place]).await.unwrap();
            client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        };
        let orders = "INSERT INTO orders SELECT i, i, 'eu' FROM generate_series(1, 500) i";
        self.pair.publisher.sql(&format!("{orders}; INSERT INTO parted VALUES (1)")).await;
        let publish = "CREATE PUBLICATION shop FOR TABLE orders, customers, parted";
        run(0, publish).await;
        let (name, connection) = (&self.pair.subscriber.name, self.looking().connection(&self.login[0]));
        run(1, &format!("CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION shop")).await;
        let ready = format!(
            "SELECT count(*) FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid WHERE s.subname = '{name}' \
             AND r.srsubstate = 'r'"
        );
        wait_until("the copy", 3 * DEADLINE, async || self.pair.subscriber.value::<i64>(&ready).await == 3).await;
    }

    /// Checks that a revoked right is reported: by preflight as this check with a statement, and by the plan of the
    /// cutover with the same one.
    async fn misses(&self, place: Place, take: &str, check: &str, give_back: &str) {
        let database = self.database(place);
        database.sql(take).await;
        let report = self.report().await;
        let finding = report.findings.iter().find(|finding| finding.check == check && finding.place == place);
        let finding = finding.unwrap_or_else(|| panic!("{take}: {check} is not in:\n{}", shown(&report)));
        let objections = self.look(Place::Publisher).await.objections;
        let said: Vec<_> = objections.iter().map(text).collect();
        for statement in statements(&finding.remedy) {
            let statement = statement.trim_end_matches(';');
            assert!(
                said.iter().any(|one| one.contains(statement)),
                "{take}: {statement} is not in:\n{}",
                said.join("\n")
            );
            database.sql(statement).await;
        }
        database.sql(give_back).await;
        let report = self.report().await;
        assert!(report.findings.iter().all(|finding| !is_right(finding.check)), "{take}:\n{}", shown(&report));
        let objections = self.look(Place::Publisher).await.objections;
        assert!(objections.is_empty(), "{take}: {objections:#?}");
    }
}

fn text(objection: &Objection) -> String {
    match objection {
        Objection::Refusal(error) | Objection::Warning(error) => error.to_string(),
    }
}

/// Whether a check is about a role's rights.
fn is_right(check: &str) -> bool {
    let rights = [
        "create_on_database",
        "create_subscription",
        "database_owner",
        "fence_owner",
        "fence_schema",
        "role_connect",
        "role_login",
        "role_replication",
        "select_denied",
        "sequence_rights",
        "set_role_denied",
        "slot_rights",
        "table_owner",
        "way_back",
    ];
    rights.contains(&check)
}

/// The statements of a remedy, without the text for people.
fn statements(remedy: &str) -> Vec<String> {
    let (_, text) = remedy.split_once(": ").expect("a server");
    let is_statement = |part: &&str| ["GRANT ", "ALTER ", "CREATE "].iter().any(|verb| part.starts_with(verb));
    text.split(';').map(str::trim).take_while(|part| is_statement(part)).map(|part| format!("{part};")).collect()
}

async fn rights(from: Major, to: Major, reverse: bool) {
    let parts = Parts::new(from, to, reverse).await;
    let given = parts.give().await;
    // Findings that could only be seen with the earlier rights.
    let later = parts.give().await;
    let report = parts.report().await;
    assert!(report.is_ok() && report.findings.iter().all(|finding| !is_right(finding.check)), "{}", shown(&report));
    eprintln!("{from:?} to {to:?}: {given:?}, then {later:?}");
    parts.replicate().await;
    let found = parts.look(Place::Publisher).await;
    assert!(found.objections.is_empty(), "{:#?}", found.objections);

    let names = [0, 1].map(|side| (quote(&parts.own[side].name), quote(&parts.owners[side].name)));
    let mut taken = 0;
    for (place, (own, owner), login) in
        [(Place::Publisher, &names[0], &parts.login[0]), (Place::Subscriber, &names[1], &parts.login[1])]
    {
        let database = quote(&parts.database(place).name);
        let mut cases = vec![
            (format!("REVOKE {owner} FROM {own}"), "fence_owner", String::new()),
            (format!("REVOKE CREATE ON DATABASE {database} FROM {own}"), "create_on_database", String::new()),
            (format!("REVOKE SELECT ON SEQUENCE numbers FROM {own}"), "sequence_rights", String::new()),
            ("CREATE SCHEMA neonrepl".to_owned(), "fence_schema", "DROP SCHEMA neonrepl".to_owned()),
        ];
        if place == Place::Publisher || reverse {
            cases.push((format!("ALTER ROLE {own} NOREPLICATION"), "slot_rights", String::new()));
            let owner_again = format!("GRANT CREATE, CONNECT ON DATABASE {database} TO {own}");
            cases.push((
                format!("ALTER DATABASE {database} OWNER TO postgres; {owner_again}"),
                "database_owner",
                owner_again,
            ));
        }
        if place == Place::Publisher && reverse {
            cases.push((format!("REVOKE pg_create_subscription FROM {own}"), "create_subscription", String::new()));
        }
        if place == Place::Subscriber && reverse {
            let login = quote(&login.name);
            cases.push((format!("ALTER ROLE {login} NOREPLICATION"), "role_replication", String::new()));
            cases.push((format!("ALTER ROLE {login} NOLOGIN"), "role_login", String::new()));
            cases.push((format!("REVOKE CONNECT ON DATABASE {database} FROM {login}"), "role_connect", String::new()));
        }
        taken += cases.len();
        for (take, check, give_back) in cases {
            parts.misses(place, &take, check, &give_back).await;
        }
    }
    eprintln!("{from:?} to {to:?}: {taken} rights taken away, each missed by preflight and by the plan");

    // Nothing has analyzed the rows that were just copied.
    parts.run(Place::Publisher).await;
    let said: Vec<_> = parts.look(Place::Subscriber).await.objections.iter().map(text).collect();
    let unknown = "the subscriber has no statistics of the rows of public.orders";
    assert!(said.iter().any(|one| one.contains(unknown) && one.contains("ANALYZE \"public\".\"orders\"")), "{said:#?}");
    let report = parts.report().await;
    assert!(report.findings.iter().any(|finding| finding.check == "statistics"), "{}", shown(&report));
    parts.pair.subscriber.sql("ANALYZE orders; ANALYZE parted").await;
    let objections = parts.look(Place::Subscriber).await.objections;
    assert!(objections.is_empty(), "{objections:#?}");

    assert!(parts.run(Place::Subscriber).await.has_switched);
    parts.pair.subscriber.sql("INSERT INTO orders VALUES (1000, 1, 'eu')").await;
    if reverse {
        let arrived = "SELECT count(*) FROM orders";
        wait_until("the row that flows back", DEADLINE, async || {
            parts.pair.publisher.value::<i64>(arrived).await == 501
        })
        .await;
        assert!(parts.run(Place::Publisher).await.has_switched);
    }
    parts.end().await;
}

impl Parts {
    /// Removes everything from both servers.
    async fn end(&self) {
        let heard = Heard::default();
        let operation = Operation::new("taking it away", Limits::within(3 * DEADLINE), &heard);
        cutover::take_away(&self.connected(), &self.cutover(Place::Publisher), true, &operation).await.unwrap();
        let name = &self.pair.subscriber.name;
        for step in ["DISABLE", "SET (slot_name = NONE)"] {
            let _ = self.pair.subscriber.try_sql(&format!("ALTER SUBSCRIPTION {name} {step}")).await;
        }
        self.pair.subscriber.sql(&format!("DROP SUBSCRIPTION {name}")).await;
        let gone = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}' AND NOT active"
        );
        let left = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}'");
        wait_until("the slot to go", DEADLINE, async || {
            let _ = self.pair.publisher.try_sql(&gone).await;
            self.pair.publisher.value::<i64>(&left).await == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_from_14_takes_what_preflight_asks_for() {
    rights(Major::V14, Major::V16, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_from_15_takes_what_preflight_asks_for() {
    rights(Major::V15, Major::V18, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_with_a_way_back_to_16_takes_what_preflight_asks_for() {
    rights(Major::V16, Major::V18, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_with_a_way_back_to_18_takes_what_preflight_asks_for() {
    rights(Major::V18, Major::V16, true).await;
}

/// Tables with statistics in every state.
const KNOWN: &str = "
    CREATE TABLE never (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE few (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE vacuumed (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE analyzed (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE grown (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE empty (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE emptied (id int) WITH (autovacuum_enabled = false);
    CREATE TABLE columnless () WITH (autovacuum_enabled = false);
    CREATE TABLE parted (id int) PARTITION BY RANGE (id);
    CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000) WITH (autovacuum_enabled = false);
    CREATE TABLE part_2 PARTITION OF parted DEFAULT WITH (autovacuum_enabled = false);
    CREATE TABLE rootless (id int) PARTITION BY RANGE (id);
    CREATE TABLE rootless_1 PARTITION OF rootless DEFAULT WITH (autovacuum_enabled = false);
    INSERT INTO never SELECT generate_series(1, 100);
    INSERT INTO vacuumed SELECT generate_series(1, 100);
    INSERT INTO analyzed SELECT generate_series(1, 10);
    INSERT INTO grown SELECT generate_series(1, 10);
    INSERT INTO emptied SELECT generate_series(1, 10);
    INSERT INTO columnless SELECT FROM generate_series(1, 10);
    INSERT INTO parted SELECT generate_series(1, 2000);
    INSERT INTO rootless SELECT generate_series(1, 100);
    INSERT INTO few SELECT generate_series(1, 10)";

/// What happens to them once the server has counted the rows that came.
const ANALYZED: &str =
    "DELETE FROM emptied; ANALYZE analyzed; ANALYZE grown; ANALYZE emptied; ANALYZE rootless_1; ANALYZE parted";
const GROWN: &str = "
    INSERT INTO grown SELECT generate_series(1, 5000);
    INSERT INTO analyzed SELECT generate_series(1, 900)";

#[tokio::test]
async fn tables_whose_rows_a_server_does_not_know_are_found() {
    for major in Major::ALL {
        let server = servers::shared(major);
        let database = server.database("statistics").await;
        database.sql(KNOWN).await;
        let counted = "SELECT coalesce(sum(n_tup_ins), 0)::bigint FROM pg_stat_user_tables";
        wait_until("the rows to be counted", DEADLINE, async || database.value::<i64>(counted).await == 2350).await;
        for step in [ANALYZED, "VACUUM vacuumed", GROWN] {
            database.sql(step).await;
        }
        let names = [
            "never",
            "few",
            "vacuumed",
            "analyzed",
            "grown",
            "empty",
            "emptied",
            "columnless",
            "parted",
            "rootless",
            "nowhere",
        ];
        let tables: BTreeSet<_> = names.iter().map(|name| QualifiedName::parse(name).unwrap()).collect();
        let found = async |role: &Role| -> BTreeSet<String> {
            let found = unanalyzed(&connect(&database, role), &tables).await.unwrap();
            let shown = found.iter().map(|(table, why)| {
                let why = if *why == Unanalyzed::Never { "never" } else { "since" };
                format!("{} {why}", table.name.as_str())
            });
            shown.collect()
        };
        let expected: BTreeSet<String> =
            ["grown since", "never never", "rootless never", "vacuumed never"].map(str::to_owned).into();
        // A session reports its counters a moment later, with a later statement.
        let is_found = async || {
            database.sql("SELECT").await;
            found(&Role::superuser()).await == expected
        };
        wait_until("what is not known", DEADLINE, is_found).await;
        // A role that may not read the rows does not see statistics of their values.
        let stranger = server.role("stranger", "").await;
        let expected: BTreeSet<String> = ["grown since", "never never", "rootless never"].map(str::to_owned).into();
        assert_eq!(found(&stranger).await, expected, "{major:?}");
        let holder = database.connect_as(&Role::superuser()).await.unwrap();
        holder.batch_execute("BEGIN; LOCK TABLE never, grown").await.unwrap();
        let mut waits = config(&database, &Role::superuser());
        waits.max_connections = 1;
        let db = neonrepl::postgres::Server::new(waits).database(None);
        assert!(unanalyzed(&db, &tables).await.is_ok(), "{major:?}: it waits for nobody");
        holder.batch_execute("ROLLBACK; ANALYZE").await.unwrap();
        wait_until("all to be known", DEADLINE, async || found(&Role::superuser()).await.is_empty()).await;
    }
    println!("statistics: 11 tables on each of {} versions", Major::ALL.len());
}

#[test]
fn a_remedy_is_read_as_a_person_reads_it() {
    let text =
        "On the publisher: ALTER DATABASE d OWNER TO r; or set unpublished_writes = \"allow\" of neonrepl_cutover.";
    assert_eq!(statements(text), ["ALTER DATABASE d OWNER TO r;"]);
    assert_eq!(
        statements("On the subscriber, as the owner: GRANT a TO b; GRANT c TO d;"),
        ["GRANT a TO b;", "GRANT c TO d;"]
    );
    assert!(is_right("role_login") && !is_right("role_settings") && !is_right("statistics"));
}
