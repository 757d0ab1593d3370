// SPDX-License-Identifier: MPL-2.0

//! The fence around tables: writers wait while it is held, and are refused once it is armed.

use std::collections::BTreeSet;
use std::time::Duration;

use neonrepl::postgres::fence::{self, Around, Ending, Fence, Gate, Hold, Refusal, Standing};
use neonrepl::postgres::{Database, Limits, QualifiedName, Statement};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::catalog::connect;
use crate::common::postgres::{self as servers, Major, Role, quote};
use crate::common::wait::wait_until;
use crate::replication::DEADLINE;

/// The published tables: a table, one leaf of a tree, a child by inheritance, and tables that keys reach by cascades.
const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, note text);
    CREATE TABLE tree (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
    CREATE TABLE branch PARTITION OF tree FOR VALUES IN (1, 2) PARTITION BY LIST (part);
    CREATE TABLE leaf PARTITION OF branch FOR VALUES IN (1);
    CREATE TABLE beside PARTITION OF tree FOR VALUES IN (3);
    CREATE TABLE parent (id int); CREATE TABLE child () INHERITS (parent);
    CREATE TABLE owner_of (id int PRIMARY KEY);
    CREATE TABLE owned (id int PRIMARY KEY, of int REFERENCES owner_of ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE free (id int);
    INSERT INTO plain VALUES (1, 'a'); INSERT INTO tree VALUES (1, 1), (3, 3); INSERT INTO child VALUES (1);
    INSERT INTO owner_of VALUES (1), (2); INSERT INTO owned VALUES (1, 1);";

const PUBLISHED: [&str; 4] = ["plain", "leaf", "child", "owned"];

const ROWS: &str = "SELECT concat((SELECT string_agg(p::text, ',' ORDER BY id) FROM plain p), ' ', (SELECT count(*) FROM leaf), ' ', \
    (SELECT string_agg(c::text, ',') FROM child c), ' ', (SELECT string_agg(o::text, ',') FROM owned o))";

/// Statements that write to the published tables in every way.
const WRITES: [&str; 24] = [
    "INSERT INTO plain VALUES (2, 'b')",
    "INSERT INTO plain SELECT 2, 'b' WHERE false",
    "INSERT INTO plain VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET note = 'b'",
    "UPDATE plain SET note = 'b'",
    "DELETE FROM plain",
    "TRUNCATE plain",
    "WITH gone AS (DELETE FROM plain RETURNING id) SELECT count(*) FROM gone",
    "COPY plain FROM PROGRAM 'printf \"7\\tx\\n\"'",
    "DO $$ BEGIN UPDATE plain SET note = 'b'; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
    "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; UPDATE plain SET note = 'b'; COMMIT",
    "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; UPDATE plain SET note = 'b'; COMMIT",
    "BEGIN READ WRITE; UPDATE plain SET note = 'b'; COMMIT",
    "SET default_transaction_read_only = off; UPDATE plain SET note = 'b'",
    "DEALLOCATE ALL; PREPARE again AS UPDATE plain SET note = 'b'; EXECUTE again",
    "INSERT INTO tree VALUES (2, 1)",
    "INSERT INTO branch VALUES (2, 1)",
    "INSERT INTO leaf VALUES (2, 1)",
    "UPDATE tree SET part = 1 WHERE part = 3",
    "DELETE FROM tree WHERE part = 1",
    "UPDATE parent SET id = 2",
    "DELETE FROM child",
    "DELETE FROM owner_of WHERE id = 1",
    "UPDATE owner_of SET id = 9 WHERE id = 1",
    "TRUNCATE owner_of CASCADE",
];

/// One that Postgres has since 15.
const MERGE: &str =
    "MERGE INTO plain USING (VALUES (1)) v (id) ON plain.id = v.id WHEN MATCHED THEN UPDATE SET note = 'b'";

struct Fenced {
    test: servers::Database,
    db: Database,
    fence: Fence,
    tables: BTreeSet<QualifiedName>,
}

fn limits() -> Limits {
    Limits::within(3 * DEADLINE)
}

fn refusal() -> Refusal {
    Refusal { message: "writes have moved to 'neon'".to_owned(), hint: "Connect to db.example.".to_owned() }
}

impl Fenced {
    /// An open fence. Its role owns the tables, and has no other rights.
    async fn open(major: Major) -> Self {
        let test = servers::shared(major).database("fence").await;
        let owner = servers::shared(major).role("keeper", "").await;
        test.sql(&format!("GRANT CREATE ON DATABASE {} TO {}", quote(&test.name), quote(&owner.name))).await;
        test.sql(&format!("GRANT CREATE ON SCHEMA public TO {}", quote(&owner.name))).await;
        test.connect_as(&owner).await.unwrap().batch_execute(TABLES).await.unwrap();
        let db = connect(&test, &owner);
        let tables = PUBLISHED.iter().map(|table| QualifiedName::parse(table).unwrap()).collect();
        let fenced = Self { test, db, fence: Fence::new("shop").unwrap(), tables };
        let missing = fenced.standing().await;
        assert_eq!((missing.gate, missing.has_schema), (Gate::Missing, false));
        let making = missing.making(&fenced.fence, "made by a test");
        let covering = missing.uncovered().map(|relation| fenced.fence.covering(&relation.name));
        let making: Vec<_> = making.into_iter().chain(covering).collect();
        fenced.db.run_within("making a fence", &making, &limits()).await.unwrap();
        fenced
    }

    async fn standing(&self) -> Standing {
        fence::standing(&self.db, &self.fence, &self.tables).await.unwrap()
    }

    fn around<'a>(&'a self, relations: &'a [&'a QualifiedName], refusal: &'a Refusal) -> Around<'a> {
        Around { fence: &self.fence, tables: &self.tables, relations, covers: true, refusal }
    }

    async fn relations(&self) -> Vec<QualifiedName> {
        self.standing().await.relations.into_iter().map(|relation| relation.name).collect()
    }

    async fn writer(&self) -> Client {
        self.test.connect_as(&Role::superuser()).await.unwrap()
    }
}

/// The error of a writer, if it is refused.
async fn write(client: &Client, statement: &str) -> Option<(SqlState, String)> {
    let error = client.batch_execute(statement).await.err();
    let _ = client.batch_execute("ROLLBACK").await;
    error.and_then(|error| error.as_db_error().map(|error| (error.code().clone(), error.message().to_owned())))
}

fn is_ours(error: Option<&(SqlState, String)>) -> bool {
    error.is_some_and(|(code, message)| *code == SqlState::READ_ONLY_SQL_TRANSACTION && *message == refusal().message)
}

#[tokio::test]
async fn no_writer_gets_through_a_fence() {
    for major in [Major::V14, Major::V18] {
        let fenced = Fenced::open(major).await;
        let writes: Vec<&str> = WRITES.into_iter().chain((major != Major::V14).then_some(MERGE)).collect();
        let standing = fenced.standing().await;
        assert_eq!((standing.gate, standing.comment.as_deref()), (Gate::Open, Some("made by a test")));
        let names = standing.relations.iter().map(|one| one.name.to_text()).collect::<Vec<_>>().join(" ");
        assert_eq!(names, "public.branch public.child public.leaf public.owned public.parent public.plain public.tree");
        assert!(standing.uncovered().next().is_none() && !standing.is_shut());
        let before: String = fenced.test.value(ROWS).await;

        // An open writer prevents the hold, and the try does not harm it.
        let open = fenced.writer().await;
        open.batch_execute("BEGIN; INSERT INTO plain VALUES (5, 'open')").await.unwrap();
        let relations = fenced.relations().await;
        let relations: Vec<_> = relations.iter().collect();
        let refusal = refusal();
        let around = fenced.around(&relations, &refusal);
        let times = (Duration::from_millis(300), 3 * DEADLINE);
        let mut session = fenced.db.session("holding", &limits()).await.unwrap();
        let refused = Hold::take(&mut session, &around, times, &limits()).await;
        assert!(refused.err().is_some_and(|error| error.is_locked()));
        open.batch_execute("ROLLBACK").await.unwrap();

        // A dropped hold has no effect.
        let mut hold = Hold::take(&mut session, &around, times, &limits()).await.unwrap();
        hold.beat().await.unwrap();
        let undone = hold.number().to_owned();
        hold.let_go().await.unwrap();
        assert_eq!(fence::ending(&fenced.db, &undone, &limits()).await, Ending::Undone);
        assert_eq!(fenced.standing().await.gate, Gate::Open);

        // A partition that was created after the fence is covered under the lock.
        fenced.test.sql("DROP TRIGGER neonrepl_fence_shop ON leaf").await;
        let hold = Hold::take(&mut session, &around, times, &limits()).await.unwrap();
        let number = hold.number().to_owned();
        let clients = {
            let mut clients = Vec::new();
            for _ in &writes {
                clients.push(fenced.writer().await);
            }
            clients
        };
        let waiters = clients.iter().zip(&writes).map(|(client, statement)| write(client, statement));
        // One writer may wait for another's row, and that one for the table.
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let commit = async {
            let all = i64::try_from(writes.len()).unwrap();
            wait_until("every writer to wait", 3 * DEADLINE, async || fenced.test.value::<i64>(waiting).await == all)
                .await;
            hold.commit(&fenced.db).await.unwrap();
        };
        let (said, ()) = futures_util::future::join(futures_util::future::join_all(waiters), commit).await;
        for (statement, said) in writes.iter().zip(&said) {
            assert!(is_ours(said.as_ref()), "{statement} on {major:?}: {said:?}");
        }
        assert_eq!(fence::ending(&fenced.db, &number, &limits()).await, Ending::Committed);
        assert!(fenced.standing().await.is_shut());

        // So do later writers. Other tables accept writes.
        for (client, statement) in clients.iter().zip(&writes) {
            let said = write(client, statement).await;
            assert!(is_ours(said.as_ref()), "{statement} on {major:?} later: {said:?}");
        }
        assert_eq!(fenced.test.value::<String>(ROWS).await, before);
        fenced
            .test
            .sql("INSERT INTO beside VALUES (4, 3); INSERT INTO free VALUES (1); SELECT * FROM plain FOR UPDATE")
            .await;

        // Once it is open, refused sessions write at once.
        fenced.db.run_within("opening", &[fenced.fence.opening()], &limits()).await.unwrap();
        for (client, statement) in clients.iter().zip(&writes).take(2) {
            assert_eq!(write(client, statement).await, None, "{statement} on {major:?}");
        }
        let covered = fence::covered(&fenced.db, &fenced.fence).await.unwrap();
        assert_eq!(covered.len(), 7);
        let unmaking = covered.iter().map(|relation| fenced.fence.uncovering(relation)).chain(fenced.fence.dropping());
        fenced.db.run_within("taking a fence away", &unmaking.collect::<Vec<_>>(), &limits()).await.unwrap();
        let gone = fenced.standing().await;
        assert_eq!((gone.gate, gone.uncovered().count()), (Gate::Missing, 7));
        println!("{} ways to write on {major:?}, waiting and later", writes.len());
    }
}

/// A frozen provider does not make writers wait.
#[tokio::test]
async fn a_hold_that_nobody_is_heard_of_is_undone_by_the_server() {
    for major in [Major::V14, Major::V18] {
        let fenced = Fenced::open(major).await;
        let relations = fenced.relations().await;
        let relations: Vec<_> = relations.iter().collect();
        let times = (Duration::from_secs(3), Duration::from_millis(500));
        let mut session = fenced.db.session("holding", &limits()).await.unwrap();
        let refusal = refusal();
        let around = fenced.around(&relations, &refusal);
        let hold = Hold::take(&mut session, &around, times, &limits()).await.unwrap();
        let number = hold.number().to_owned();
        assert_eq!(write(&fenced.writer().await, "UPDATE plain SET note = 'b'").await, None);
        let (ending, error) = hold.commit(&fenced.db).await.unwrap_err();
        assert_eq!(ending, Ending::Undone);
        assert!(
            error.to_string().contains("writers go on")
                || error.hint().is_some_and(|hint| hint.contains("writers go on")),
            "{error:?}"
        );
        assert_eq!(fence::ending(&fenced.db, &number, &limits()).await, Ending::Undone);
        assert_eq!(fenced.standing().await.gate, Gate::Open);
    }
}

/// How many schemas of fences there are, and functions that have none.
const SCHEMAS: &str = "SELECT concat((SELECT count(*) FROM pg_namespace WHERE nspname = 'neonrepl'), ' and ', \
    (SELECT count(*) FROM pg_proc p WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = p.pronamespace)), ' lost')";

const WAITS: &str =
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";

/// A fence that is made while another one is dropped has its schema, whichever of the two comes first.
#[tokio::test]
async fn the_schema_goes_with_the_last_fence() {
    for major in [Major::V14, Major::V18] {
        let fenced = Fenced::open(major).await;
        let run = async |statements: &[Statement]| {
            fenced.db.run_within("one of two", statements, &limits()).await.unwrap();
        };
        let relations = fence::covered(&fenced.db, &fenced.fence).await.unwrap();
        run(&relations.iter().map(|relation| fenced.fence.uncovering(relation)).collect::<Vec<_>>()).await;
        let other = Fence::new("mall").unwrap();
        let made = fence::standing(&fenced.db, &other, &fenced.tables).await.unwrap().making(&other, "made by a test");
        let dropped = fenced.fence.dropping();
        let first_then = async |first: &[Statement], second: &[Statement], expected: &str| {
            let client = fenced.writer().await;
            client.batch_execute("BEGIN").await.unwrap();
            for statement in first {
                client.batch_execute(&statement.to_string()).await.unwrap();
            }
            let commit = async {
                wait_until("the second one to wait", DEADLINE, async || fenced.test.value(WAITS).await).await;
                client.batch_execute("COMMIT").await.unwrap();
            };
            futures_util::future::join(run(second), commit).await;
            assert_eq!(fenced.test.value::<String>(SCHEMAS).await, expected, "on {major:?}");
        };
        first_then(&made, &dropped, "1 and 0 lost").await;
        first_then(&other.dropping(), &made, "1 and 0 lost").await;
        run(&other.dropping()).await;
        assert_eq!(fenced.test.value::<String>(SCHEMAS).await, "0 and 0 lost", "on {major:?}");
    }
}

/// A schema that somebody else made, uses or gave rights on is left.
#[tokio::test]
async fn a_schema_that_others_need_is_left() {
    for major in [Major::V14, Major::V18] {
        let fenced = Fenced::open(major).await;
        let relations = fence::covered(&fenced.db, &fenced.fence).await.unwrap();
        let uncovering: Vec<_> = relations.iter().map(|relation| fenced.fence.uncovering(relation)).collect();
        fenced.db.run_within("uncovering", &uncovering, &limits()).await.unwrap();
        let making = fence::standing(&fenced.db, &Fence::new("new").unwrap(), &fenced.tables).await.unwrap();
        let making = making.making(&fenced.fence, "made by a test");
        for need in [
            "CREATE TABLE neonrepl.of_others ()",
            "GRANT USAGE ON SCHEMA neonrepl TO PUBLIC",
            "COMMENT ON SCHEMA neonrepl IS 'made by somebody else'",
        ] {
            fenced.test.sql(need).await;
            fenced.db.run_within("dropping", &fenced.fence.dropping(), &limits()).await.unwrap();
            assert_eq!(fenced.test.value::<String>(SCHEMAS).await, "1 and 0 lost", "{need} on {major:?}");
            fenced.test.sql("DROP SCHEMA neonrepl CASCADE").await;
            fenced.db.run_within("making", &making, &limits()).await.unwrap();
        }
    }
}
