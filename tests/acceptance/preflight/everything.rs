// SPDX-License-Identifier: MPL-2.0

//! Findings that are not errors: warnings and objects that are not copied, on every version.

use std::collections::BTreeSet;

use neonrepl::replication::preflight::Question;

use super::looking::{Looking, publications, shown};
use crate::common::postgres::{self as servers, Major, Role, quote};
use crate::replication::Pair;

/// A database with something of everything.
const SOURCE: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE FUNCTION ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE TABLE many (id serial PRIMARY KEY, note text, amount numeric, much positive);
    INSERT INTO many (note) VALUES ('a'), ('b');
    SELECT setval('many_id_seq', 1);
    CREATE SEQUENCE short AS smallint;
    SELECT setval('short', 32000);
    CREATE TABLE numbered (id smallint PRIMARY KEY DEFAULT nextval('short'), other int);
    CREATE TABLE whole (id int, note text);
    ALTER TABLE whole REPLICA IDENTITY FULL;
    UPDATE pg_class SET reltuples = 2000000 WHERE oid = 'whole'::regclass;
    CREATE TABLE apart (id int);
    CREATE UNLOGGED TABLE quick (id int);
    CREATE VIEW seen AS SELECT 1 AS one;
    CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one;
    CREATE TRIGGER noted BEFORE INSERT ON many FOR EACH ROW EXECUTE FUNCTION noted();
    CREATE RULE quiet AS ON DELETE TO apart DO INSTEAD NOTHING;
    CREATE POLICY mine ON apart USING (true);
    CREATE EVENT TRIGGER ddl ON sql_drop EXECUTE FUNCTION ddl();
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC;
    SELECT lo_create(0);
    CREATE PUBLICATION most FOR TABLE many, numbered, whole WITH (publish = 'insert, update, delete');
    CREATE SUBSCRIPTION other CONNECTION 'host=127.0.0.1 password=x' PUBLICATION p WITH (connect = false, slot_name = NONE);";

const TARGET: &str = "
    CREATE FUNCTION helper(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true';
    CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS 'BEGIN RETURN NEW; END';
    CREATE TABLE elsewhere (id int PRIMARY KEY);
    CREATE TABLE many (id int PRIMARY KEY, note text NOT NULL CHECK (helper(note)), amount bigint, much int,
        CONSTRAINT lone FOREIGN KEY (id) REFERENCES elsewhere);
    CREATE TRIGGER noted BEFORE INSERT ON many FOR EACH ROW EXECUTE FUNCTION noted();
    ALTER TABLE many ENABLE ALWAYS TRIGGER noted;
    CREATE SEQUENCE short AS smallint MAXVALUE 1000;
    CREATE TABLE numbered (id smallint PRIMARY KEY DEFAULT nextval('short'), other int);
    CREATE UNLOGGED TABLE whole (id int, note text);";

/// The findings that the report must have, as severity, check and object.
const FOUND: &str = "
    warning column_types public.many
    warning foreign_keys public.many
    warning more_constraints public.many
    warning not_null public.many
    warning other_slots preflight_forgotten
    warning publish most
    warning replica_identity_full public.whole
    warning replica_triggers public.many
    warning search_path public.helper(text)
    warning sequence_behind public.many_id_seq
    warning sequence_missing public.many_id_seq
    warning sequence_narrower public.short
    warning sequence_used_up public.short
    warning subscriptions_into_publisher \"other\"
    warning unlogged_on_subscriber public.whole
    info not_published tables
    info not_replicated default privileges
    info not_replicated event triggers
    info not_replicated functions and procedures
    info not_replicated large objects
    info not_replicated materialized views
    info not_replicated row security policies
    info not_replicated rules
    info not_replicated sequences
    info not_replicated settings of the database
    info not_replicated triggers
    info not_replicated types and domains
    info not_replicated unlogged tables
    info not_replicated views";

async fn is_told(major: Major) {
    let pair = Pair::new(major, major, "preflight_all").await;
    pair.publisher.sql(SOURCE).await;
    let database = quote(&pair.publisher.name);
    let login = servers::shared(major).role("preflight_slow", "REPLICATION SUPERUSER").await;
    let role = quote(&login.name);
    let settings = format!(
        "ALTER DATABASE {database} SET work_mem = '1MB'; ALTER ROLE {role} IN DATABASE {database} SET statement_timeout = '1min'"
    );
    pair.publisher.sql(&settings).await;
    // Slot names are unique on a server.
    let slot = format!("preflight_forgotten_{}", pair.publisher.name);
    pair.publisher.sql(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    pair.subscriber.sql(TARGET).await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    let role = neonrepl::postgres::Ident::new(&login.name).unwrap();
    let report = looking.sound(&Question { subscription_role: Some(role), ..publications(&["most"]) }).await;
    let found: BTreeSet<_> = report
        .findings
        .iter()
        .map(|finding| {
            format!(
                "{} {} {}",
                finding.severity.as_str(),
                finding.check,
                finding.object.replace(&slot, "preflight_forgotten")
            )
        })
        .collect();
    let setting = format!("warning role_settings {}.statement_timeout", login.name);
    let expected = FOUND.lines().map(str::trim).filter(|line| !line.is_empty()).chain([setting.as_str()]);
    let missing: Vec<_> = expected.filter(|line| !found.contains(*line)).collect();
    assert!(missing.is_empty(), "{} lacks {missing:?}\n{}", major.number(), shown(&report));
    pair.publisher.sql(&format!("SELECT pg_drop_replication_slot('{slot}'); DROP SUBSCRIPTION other")).await;
}

#[tokio::test]
async fn warnings_and_what_stays_are_told_on_every_version() {
    for major in Major::ALL {
        is_told(major).await;
    }
}

/// A report on many tables takes as many queries as one on a few.
#[tokio::test]
async fn many_tables_take_no_more_queries() {
    // pg_stat_force_next_flush is there since 15.
    let pair = Pair::new(Major::V18, Major::V18, "preflight_many").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    let create = "DO $$ BEGIN FOR i IN 1..400 LOOP EXECUTE format('CREATE TABLE many_%s (id serial PRIMARY KEY)', i); END LOOP; END $$";
    pair.publisher.sql(create).await;
    pair.subscriber.sql(create).await;
    let transactions = async |database: &servers::Database| -> i64 {
        let sql =
            "SELECT pg_stat_force_next_flush(), xact_commit FROM pg_stat_database WHERE datname = current_database()";
        database.rows(sql).await[0].split('|').next_back().unwrap().parse().unwrap()
    };
    let mut counts = Vec::new();
    for question in [super::looking::tables(&["orders"]), super::looking::all_tables()] {
        let before = (transactions(&pair.publisher).await, transactions(&pair.subscriber).await);
        let report = looking.sound(&question).await;
        let after = (transactions(&pair.publisher).await, transactions(&pair.subscriber).await);
        counts.push((after.0 - before.0, after.1 - before.1, report.size.tables));
    }
    eprintln!("transactions of the publisher and the subscriber, and tables: {counts:?}");
    assert!(counts.iter().all(|(publisher, subscriber, _)| *publisher < 40 && *subscriber < 40), "{counts:?}");
    assert_eq!(counts.iter().map(|(.., tables)| *tables).collect::<Vec<_>>(), [1, 403]);
}

/// A locked table does not prevent other findings, and the report says that it was not checked.
#[tokio::test]
async fn a_locked_table_does_not_hide_the_rest() {
    let pair = Pair::new(Major::V18, Major::V18, "preflight_locked").await;
    let superuser = Role::superuser();
    let looking = Looking { publisher: (&pair.publisher, &superuser), subscriber: (&pair.subscriber, &superuser) };
    pair.subscriber.sql("DROP TABLE customers").await;
    let holder = pair.subscriber.connect_as(&superuser).await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE orders").await.unwrap();
    let report = looking.report(&super::looking::tables(&["orders", "customers"])).await;
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.check, finding.object.as_str())).collect();
    assert!(found.contains(&("table_on_subscriber", "public.customers")), "{}", shown(&report));
    assert!(found.contains(&("unchecked", "which tables hold rows")), "{}", shown(&report));
    assert_eq!(report.size.tables, 2);
    holder.batch_execute("ROLLBACK").await.unwrap();
    let free = looking.report(&super::looking::tables(&["orders"])).await;
    assert!(free.findings.iter().all(|finding| finding.check != "unchecked"), "{}", shown(&free));
}
