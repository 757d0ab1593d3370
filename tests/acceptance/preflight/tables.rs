// SPDX-License-Identifier: MPL-2.0

//! Errors about tables, publications and roles.

use neonrepl::postgres::subscription::{How, Subscription};
use neonrepl::postgres::{Conninfo, Ident, Limits};
use neonrepl::replication::preflight::Question;
use neonrepl::replication::{self, Operation, Place, initial_copy};

use super::looking::{Held, Looking, logged, publications, refused, subscribe, tables, unsubscribe};
use crate::catalog::{connect, ident};
use crate::common::postgres::{self as servers, Major, Role, quote};
use crate::common::wait::wait_until;
use crate::replication::{DEADLINE, Pair, subscribers};
use crate::status::Quiet;

const PUB: Place = Place::Publisher;
const SUB: Place = Place::Subscriber;

/// Tables that cannot be published as they are.
const UNPUBLISHABLE: &str = "CREATE VIEW seen AS SELECT 1 AS one; CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); \
    CREATE TABLE bare (id int, note text); INSERT INTO bare VALUES (1, 'a');";

async fn what_the_publisher_refuses(held: &mut Held, pair: &Pair, looking: &Looking<'_>) {
    let (source, superuser) = (&pair.publisher, Role::superuser());
    source.sql(UNPUBLISHABLE).await;
    let report = looking.report(&tables(&["nowhere", "seen", "quick", "bare"])).await;
    for (check, object, sql, words) in [
        ("table_missing", "nowhere", "CREATE PUBLICATION p FOR TABLE nowhere", "does not exist"),
        ("not_publishable", "seen", "CREATE PUBLICATION p FOR TABLE seen", "seen\""),
        ("not_publishable", "quick", "CREATE PUBLICATION p FOR TABLE quick", "quick\""),
    ] {
        held.called(&report, check, PUB, object);
        refused(source, &superuser, sql, words).await;
    }
    held.called(&report, "replica_identity", PUB, "bare");
    source.sql("CREATE PUBLICATION bare FOR TABLE bare").await;
    refused(source, &superuser, "UPDATE bare SET note = 'b'", "does not have a replica identity").await;
    held.called(&looking.report(&publications(&["bare"])).await, "replica_identity", PUB, "bare");
    source.sql("DROP PUBLICATION bare").await;
}

/// Column lists and row filters (Postgres 15).
async fn what_lists_break(held: &mut Held, pair: &Pair, looking: &Looking<'_>) {
    let (source, superuser) = (&pair.publisher, Role::superuser());
    for table in ["filtered", "listed", "clashing"] {
        let create = format!("CREATE TABLE {table} (id int PRIMARY KEY, note text)");
        source.sql(&format!("{create}; INSERT INTO {table} VALUES (1, 'a')")).await;
        pair.subscriber.sql(&create).await;
    }
    source
        .sql(
            "CREATE PUBLICATION filtered FOR TABLE filtered WHERE (note <> 'x'); CREATE PUBLICATION listed FOR TABLE listed (note); \
             CREATE PUBLICATION clash_a FOR TABLE clashing; CREATE PUBLICATION clash_b FOR TABLE clashing (id)",
        )
        .await;
    let report = looking.report(&publications(&["filtered", "listed", "clash_a", "clash_b"])).await;
    for (check, table) in [("row_filter", "filtered"), ("column_list", "listed")] {
        held.called(&report, check, PUB, table);
        refused(source, &superuser, &format!("UPDATE {table} SET note = 'b'"), "cannot update table").await;
    }
    held.called(&report, "column_clash", PUB, "clashing");
    let connection = looking.connection(&superuser);
    let create = format!("CREATE SUBSCRIPTION clash CONNECTION {connection} PUBLICATION clash_a, clash_b");
    refused(&pair.subscriber, &superuser, &create, "different column lists").await;
    source.sql("DROP PUBLICATION filtered, listed, clash_a, clash_b").await;
}

/// A publication that does not exist, or cannot be subscribed to, and a table that is missing on the subscriber.
async fn what_no_subscription_is_made_of(held: &mut Held, pair: &Pair, looking: &Looking<'_>) {
    let superuser = Role::superuser();
    pair.publisher
        .sql("CREATE TABLE onlyhere (id int PRIMARY KEY); CREATE PUBLICATION onlyhere FOR TABLE onlyhere")
        .await;
    let report = looking.report(&publications(&["onlyhere", "absent"])).await;
    held.called(&report, "publication_missing", PUB, "absent");
    let desired = Subscription::new(ident("s"), Conninfo::new(), [ident("absent")]);
    let operation = Operation::new("creating", Limits::within(DEADLINE), &Quiet);
    let both = replication::Pair {
        publisher: connect(&pair.publisher, &superuser),
        subscriber: connect(&pair.subscriber, &superuser),
    };
    let error = initial_copy::check(&operation, &both, &desired, &How::default(), false).await.unwrap_err();
    assert!(error.to_string().contains("there is no publication \"absent\""), "{error}");
    held.called(&report, "table_on_subscriber", SUB, "onlyhere");
    let connection = looking.connection(&superuser);
    let create = format!("CREATE SUBSCRIPTION s CONNECTION {connection} PUBLICATION onlyhere");
    refused(&pair.subscriber, &superuser, &create, "relation \"public.onlyhere\" does not exist").await;
}

/// A publication whose name no subscription can request.
async fn what_no_name_reaches(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    pair.publisher
        .sql("CREATE TABLE slashed (id int PRIMARY KEY); INSERT INTO slashed VALUES (1); CREATE PUBLICATION \"back\\slash\" FOR TABLE slashed")
        .await;
    pair.subscriber.sql("CREATE TABLE slashed (id int PRIMARY KEY)").await;
    held.called(&looking.report(&publications(&["back\\slash"])).await, "publication_name", PUB, "back\\slash");
    let name = format!("{}_slash", pair.subscriber.name);
    subscribe(pair, looking, &Role::superuser(), &name, "back\\slash").await;
    let server = subscribers(major);
    logged(server, "could not start WAL streaming: ERROR:  syntax error").await;
    unsubscribe(&pair.subscriber).await;
}

/// Somebody else's publication, and generated columns that identify rows (Postgres 18).
async fn what_is_not_ones_own(held: &mut Held, pair: &Pair, major: Major) {
    let maker = servers::shared(major).role("preflight_adder", "").await;
    let (source, role) = (&pair.publisher, quote(&maker.name));
    source
        .sql(&format!(
            "CREATE PUBLICATION theirs_alone FOR TABLE orders; CREATE TABLE mine (id int PRIMARY KEY); ALTER TABLE mine OWNER TO {role}"
        ))
        .await;
    pair.subscriber.sql("CREATE TABLE mine (id int PRIMARY KEY)").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (source, &maker), subscriber: (&pair.subscriber, &superuser) };
    let question = Question { publications: publications(&["theirs_alone"]).publications, ..tables(&["mine"]) };
    held.called(&looking.report(&question).await, "publication_owner", PUB, "postgres");
    let add = "ALTER PUBLICATION theirs_alone ADD TABLE mine";
    refused(source, &maker, add, "must be owner of publication theirs_alone").await;
}

async fn what_generated_columns_break(held: &mut Held, pair: &Pair, looking: &Looking<'_>) {
    let (source, superuser) = (&pair.publisher, Role::superuser());
    source
        .sql(
            "CREATE TABLE reckoned (id int, twice int GENERATED ALWAYS AS (id * 2) STORED NOT NULL); INSERT INTO reckoned VALUES (1); \
             CREATE UNIQUE INDEX reckoned_twice ON reckoned (twice); ALTER TABLE reckoned REPLICA IDENTITY USING INDEX reckoned_twice; \
             CREATE PUBLICATION reckoned FOR TABLE reckoned",
        )
        .await;
    pair.subscriber.sql("CREATE TABLE reckoned (id int PRIMARY KEY)").await;
    let report = looking.report(&publications(&["reckoned"])).await;
    held.called(&report, "replica_identity", PUB, "reckoned");
    assert!(super::looking::shown(&report).contains("generated columns of the replica identity"), "{report:?}");
    refused(source, &superuser, "UPDATE reckoned SET id = 2", "cannot update table \"reckoned\"").await;
    source.sql("DROP PUBLICATION reckoned").await;
}

/// The rights that the subscription's login role lacks.
async fn what_a_login_lacks(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    let (source, superuser) = (&pair.publisher, Role::superuser());
    let login = servers::shared(major).role("preflight_login", "").await;
    let role = quote(&login.name);
    source.sql(&format!("GRANT SELECT ON orders TO {role}; CREATE PUBLICATION logged FOR TABLE orders")).await;
    let connection = looking.connection(&login);
    let create = format!("CREATE SUBSCRIPTION s CONNECTION {connection} PUBLICATION logged");
    let as_login =
        |name: &str| Question { subscription_role: Some(Ident::new(name).unwrap()), ..publications(&["logged"]) };
    held.called(&looking.report(&as_login(&login.name)).await, "role_replication", PUB, &login.name);
    let words = if major < Major::V16 {
        "must be superuser or replication role"
    } else {
        "permission denied to start WAL sender"
    };
    refused(&pair.subscriber, &superuser, &create, words).await;
    source.sql(&format!("ALTER ROLE {role} REPLICATION NOLOGIN")).await;
    held.called(&looking.report(&as_login(&login.name)).await, "role_login", PUB, &login.name);
    refused(&pair.subscriber, &superuser, &create, "is not permitted to log in").await;
    let database = quote(&source.name);
    source.sql(&format!("ALTER ROLE {role} LOGIN; REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")).await;
    held.called(&looking.report(&as_login(&login.name)).await, "role_connect", PUB, &login.name);
    refused(&pair.subscriber, &superuser, &create, "permission denied for database").await;
    source.sql(&format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC")).await;
    held.called(&looking.report(&as_login("nobody at all")).await, "role_missing", PUB, "nobody at all");
    let nobody = Role { name: "nobody at all".to_owned(), ..login.clone() };
    let create = format!("CREATE SUBSCRIPTION s CONNECTION {} PUBLICATION logged", looking.connection(&nobody));
    refused(&pair.subscriber, &superuser, &create, "authentication failed").await;
}

/// The rights that the roles of the provider's own connections lack.
async fn what_a_maker_lacks(held: &mut Held, pair: &Pair, major: Major) {
    let maker = servers::shared(major).role("preflight_maker", "").await;
    let other = pair.role_of_subscriber(major, "preflight_other", "").await;
    let looking = Looking { publisher: (&pair.publisher, &maker), subscriber: (&pair.subscriber, &other) };
    let report = looking.report(&tables(&["orders"])).await;
    held.called(&report, "create_on_database", PUB, &maker.name);
    refused(&pair.publisher, &maker, "CREATE PUBLICATION p FOR TABLE orders", "permission denied for database").await;
    held.called(&report, "table_owner", PUB, "postgres");
    let (database, role) = (quote(&pair.publisher.name), quote(&maker.name));
    pair.publisher.sql(&format!("GRANT CREATE ON DATABASE {database} TO {role}")).await;
    refused(&pair.publisher, &maker, "CREATE PUBLICATION p FOR TABLE orders", "must be owner of table orders").await;
    let create = "CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 password=x' PUBLICATION p WITH (connect = false)";
    held.called(&report, "create_subscription", SUB, &other.name);
    if major < Major::V16 {
        return refused(&pair.subscriber, &other, create, "must be superuser to create subscriptions").await;
    }
    refused(&pair.subscriber, &other, create, "permission denied to create subscription").await;
    held.called(&report, "create_on_database", SUB, &other.name);
    pair.subscriber.sql(&format!("GRANT pg_create_subscription TO {}", quote(&other.name))).await;
    refused(&pair.subscriber, &other, create, "permission denied for database").await;
}

/// A table whose rows never arrive: the objects on both sides, and the subscriber's error.
struct Stuck {
    check: &'static str,
    place: Place,
    table: &'static str,
    source: &'static str,
    target: &'static str,
    /// The words that the subscriber logs.
    words: &'static str,
}

const STUCK: [Stuck; 5] = [
    Stuck {
        check: "columns_missing",
        place: SUB,
        table: "fewer",
        source: "CREATE TABLE fewer (id int PRIMARY KEY, extra text)",
        target: "CREATE TABLE fewer (id int PRIMARY KEY)",
        words: "\"public.fewer\" is missing replicated column: \"extra\"",
    },
    Stuck {
        check: "generated_columns",
        place: SUB,
        table: "computed",
        source: "CREATE TABLE computed (id int PRIMARY KEY, twice int)",
        target: "CREATE TABLE computed (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        words: "logical replication target relation \"public.computed\"",
    },
    Stuck {
        check: "required_columns",
        place: SUB,
        table: "demanding",
        source: "CREATE TABLE demanding (id int PRIMARY KEY)",
        target: "CREATE TABLE demanding (id int PRIMARY KEY, must int NOT NULL)",
        words: "null value in column \"must\" of relation \"demanding\" violates not-null constraint",
    },
    Stuck {
        check: "rows_on_subscriber",
        place: SUB,
        table: "held",
        source: "CREATE TABLE held (id int PRIMARY KEY)",
        target: "CREATE TABLE held (id int PRIMARY KEY); INSERT INTO held VALUES (1)",
        words: "duplicate key value violates unique constraint \"held_pkey\"",
    },
    Stuck {
        check: "select_denied",
        place: PUB,
        table: "secret",
        source: "CREATE TABLE secret (id int PRIMARY KEY)",
        target: "CREATE TABLE secret (id int PRIMARY KEY)",
        words: "permission denied for table secret",
    },
];

/// One subscription to all tables that are stuck, each in its own way, and one whose rows are hidden.
async fn what_never_arrives(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    let login = servers::shared(major).role("preflight_reader", "REPLICATION").await;
    let role = quote(&login.name);
    for Stuck { source, target, table, .. } in &STUCK {
        let grant = if *table == "secret" { String::new() } else { format!("GRANT SELECT ON {table} TO {role}") };
        let values = if source.contains(',') { "(1, NULL)" } else { "(1)" };
        pair.publisher.sql(&format!("{source}; INSERT INTO {table} VALUES {values}; {grant}")).await;
        pair.subscriber.sql(target).await;
    }
    let hidden = "CREATE TABLE hidden (id int PRIMARY KEY)";
    pair.publisher
        .sql(&format!(
            "{hidden}; INSERT INTO hidden VALUES (1); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO {role}; \
             CREATE PUBLICATION stuck FOR TABLE hidden, {}",
            STUCK.map(|stuck| stuck.table).join(", ")
        ))
        .await;
    pair.subscriber.sql(hidden).await;
    let question = Question { subscription_role: Some(ident(&login.name)), ..publications(&["stuck"]) };
    let report = looking.report(&question).await;
    subscribe(pair, looking, &login, &format!("{}_stuck", pair.subscriber.name), "stuck").await;
    for Stuck { check, place, table, words, .. } in STUCK {
        held.called(&report, check, place, table);
        logged(subscribers(major), words).await;
    }
    held.called(&report, "row_security", PUB, "hidden");
    let state = "SELECT srsubstate FROM pg_subscription_rel WHERE srrelid = 'hidden'::regclass";
    wait_until("the table to be ready", DEADLINE, async || pair.subscriber.rows(state).await == ["r"]).await;
    assert_eq!(pair.subscriber.rows("SELECT count(*) FROM hidden").await, ["0"]);
    unsubscribe(&pair.subscriber).await;
}

/// Changes that stop a running replication.
async fn what_stops_later(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    let superuser = Role::superuser();
    for (table, target, words) in [
        (
            "nokey",
            "CREATE TABLE nokey (id int, other int)",
            "\"public.nokey\" has neither REPLICA IDENTITY index nor PRIMARY KEY",
        ),
        (
            "otherkey",
            "CREATE TABLE otherkey (id int, other int PRIMARY KEY)",
            "publisher did not send replica identity column expected by the logical replication target relation \"public.otherkey\"",
        ),
    ] {
        pair.publisher
            .sql(&format!("CREATE TABLE {table} (id int PRIMARY KEY, other int); INSERT INTO {table} VALUES (1, 1); CREATE PUBLICATION {table} FOR TABLE {table}"))
            .await;
        pair.subscriber.sql(target).await;
        held.called(&looking.report(&publications(&[table])).await, "destination_key", SUB, table);
        subscribe(pair, looking, &superuser, &format!("{}_{table}", pair.subscriber.name), table).await;
        pair.wait_for_rows(&format!("SELECT other FROM {table}"), &["1"]).await;
        pair.publisher.sql(&format!("UPDATE {table} SET other = 2")).await;
        logged(subscribers(major), words).await;
    }
    unsubscribe(&pair.subscriber).await;
}

/// A row with a label that the subscriber's enum lacks.
async fn what_no_enum_takes(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    pair.publisher
        .sql(
            "CREATE TYPE mood AS ENUM ('sad', 'pf_angry'); CREATE TABLE moods (id int PRIMARY KEY, mood mood); \
             CREATE PUBLICATION moods FOR TABLE moods; INSERT INTO moods VALUES (1, 'sad')",
        )
        .await;
    pair.subscriber.sql("CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE moods (id int PRIMARY KEY, mood mood)").await;
    held.called(&looking.report(&publications(&["moods"])).await, "enum_labels", SUB, "public.mood");
    let superuser = Role::superuser();
    subscribe(pair, looking, &superuser, &format!("{}_moods", pair.subscriber.name), "moods").await;
    pair.wait_for_rows("SELECT mood FROM moods", &["sad"]).await;
    pair.publisher.sql("UPDATE moods SET mood = 'pf_angry'").await;
    logged(subscribers(major), "invalid input value for enum public.mood: \"pf_angry\"").await;
    // The remedy fixes it.
    pair.subscriber.sql("ALTER TYPE public.mood ADD VALUE 'pf_angry'").await;
    pair.wait_for_rows("SELECT mood FROM moods", &["pf_angry"]).await;
    unsubscribe(&pair.subscriber).await;
}

/// Rows that the owner of a table may not write, or the owner of a subscription not as that owner (Postgres 16).
async fn what_roles_may_not_write(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    let (owner, other) = (
        pair.role_of_subscriber(major, "preflight_owner", "").await,
        pair.role_of_subscriber(major, "preflight_applier", "IN ROLE pg_create_subscription").await,
    );
    let superuser = Role::superuser();
    for table in ["forced", "theirs"] {
        let create = format!("CREATE TABLE {table} (id int PRIMARY KEY)");
        pair.publisher
            .sql(&format!("{create}; INSERT INTO {table} VALUES (1); CREATE PUBLICATION {table} FOR TABLE {table}"))
            .await;
        pair.subscriber.sql(&create).await;
    }
    pair.subscriber
        .sql(&format!(
            "ALTER TABLE forced OWNER TO {}; ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; \
             GRANT CREATE ON DATABASE {} TO {}",
            quote(&owner.name),
            quote(&pair.subscriber.name),
            quote(&other.name)
        ))
        .await;
    held.called(&looking.report(&publications(&["forced"])).await, "row_security", SUB, "forced");
    subscribe(pair, looking, &superuser, &format!("{}_forced", pair.subscriber.name), "forced").await;
    logged(subscribers(major), "row-level security enabled: \"forced\"").await;
    let plain = Looking { subscriber: (&pair.subscriber, &other), ..*looking };
    held.called(&plain.report(&publications(&["theirs"])).await, "set_role_denied", SUB, "theirs");
    let client = pair.subscriber.connect_as(&other).await.unwrap();
    let (name, connection) = (quote(&format!("{}_theirs", pair.subscriber.name)), plain.connection(&superuser));
    client
        .batch_execute(&format!("CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION theirs"))
        .await
        .unwrap();
    logged(subscribers(major), &format!("role \"{}\" cannot SET ROLE to \"postgres\"", other.name)).await;
    unsubscribe(&pair.subscriber).await;
}

/// Obstacles to changes that flow back.
async fn what_does_not_flow_back(held: &mut Held, pair: &Pair, looking: &Looking<'_>, major: Major) {
    let superuser = Role::superuser();
    pair.publisher.sql("CREATE TABLE back (id int PRIMARY KEY)").await;
    pair.subscriber
        .sql("CREATE TABLE back (id int PRIMARY KEY, extra int); CREATE PUBLICATION back FOR TABLE back; INSERT INTO back VALUES (1, 1)")
        .await;
    let report = looking.report(&Question { reverse: true, ..tables(&["back"]) }).await;
    held.called(&report, "way_back", PUB, "back");
    let back = Looking { publisher: looking.subscriber, subscriber: looking.publisher };
    let (name, connection) = (quote(&format!("{}_back", pair.publisher.name)), back.connection(&superuser));
    pair.publisher.sql(&format!("CREATE SUBSCRIPTION {name} CONNECTION {connection} PUBLICATION back")).await;
    logged(servers::shared(major), "\"public.back\" is missing replicated column: \"extra\"").await;
    unsubscribe(&pair.publisher).await;
}

async fn errors_are_real(major: Major) {
    let pair = Pair::new(major, major, "preflight_errors").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    let mut held = Held::default();
    what_the_publisher_refuses(&mut held, &pair, &looking).await;
    if major > Major::V14 {
        what_lists_break(&mut held, &pair, &looking).await;
    }
    what_no_subscription_is_made_of(&mut held, &pair, &looking).await;
    what_a_login_lacks(&mut held, &pair, &looking, major).await;
    what_a_maker_lacks(&mut held, &pair, major).await;
    what_is_not_ones_own(&mut held, &pair, major).await;
    what_no_name_reaches(&mut held, &pair, &looking, major).await;
    if major > Major::V17 {
        what_generated_columns_break(&mut held, &pair, &looking).await;
    }
    what_never_arrives(&mut held, &pair, &looking, major).await;
    what_stops_later(&mut held, &pair, &looking, major).await;
    what_no_enum_takes(&mut held, &pair, &looking, major).await;
    if major > Major::V15 {
        what_roles_may_not_write(&mut held, &pair, &looking, major).await;
    }
    what_does_not_flow_back(&mut held, &pair, &looking, major).await;
    held.count(&format!("tables and roles on {}", major.number()));
}

#[tokio::test]
async fn errors_about_tables_and_roles_are_real_on_14() {
    errors_are_real(Major::V14).await;
}

#[tokio::test]
async fn errors_about_tables_and_roles_are_real_on_18() {
    errors_are_real(Major::V18).await;
}
