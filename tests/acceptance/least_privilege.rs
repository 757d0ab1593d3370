// SPDX-License-Identifier: MPL-2.0

//! Roles that are not superusers: everything works for owners of the tables, and each missing right is named with the
//! statement that grants it.

use neonrepl::postgres::Limits;
use neonrepl::replication::comparison::{self, Mode};
use neonrepl::replication::cutover::{self, Cutover, Desired, Terms, Unpublished};
use neonrepl::replication::{self, Operation, Place};

use crate::catalog::{connect, ident};
use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{self as servers, Database, Major, Role, quote};
use crate::cutover::Heard;
use crate::replication::{DEADLINE, Pair};

const ADDRESS: &str = "neonrepl_subscription.shop";

/// Two roles that own the tables of their databases, and nothing else.
struct Owners {
    pair: Pair,
    publisher: Role,
    subscriber: Role,
    name: String,
}

async fn own_tables(database: &Database, role: &Role) {
    for table in ["orders", "customers", "invoices"] {
        database.sql(&format!("ALTER TABLE {table} OWNER TO {}", quote(&role.name))).await;
    }
}

async fn grant_create(database: &Database, role: &Role) {
    database.sql(&format!("GRANT CREATE ON DATABASE {} TO {}", quote(&database.name), quote(&role.name))).await;
}

impl Owners {
    async fn new(from: Major, to: Major) -> Self {
        let pair = Pair::new(from, to, "owners").await;
        let publisher = servers::shared(from).role("pub owner", "").await;
        let subscriber = pair.role_of_subscriber(to, "sub owner", "").await;
        let name = pair.subscriber.name.clone();
        Self { pair, publisher, subscriber, name }
    }

    async fn workspace(&self, core: Core) -> Workspace {
        let urls = [self.pair.publisher.url_as(&self.publisher), self.pair.subscriber.url_as(&self.subscriber)];
        let mut workspace = self.pair.workspace_with(core, &urls[0], &urls[1]).await;
        workspace.secret(&self.publisher.password).secret(&self.subscriber.password);
        workspace
    }

    fn config(&self, tables: &str, arguments: &str) -> String {
        let name = &self.name;
        format!(
            "resource \"neonrepl_publication\" \"shop\" {{\n  name   = \"shop\"\n  tables = [{tables}]\n}}\n\n\
             resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n  \
             refresh_triggers = {{ shop = neonrepl_publication.shop.fingerprint }}\n  wait_for_initial_sync = true\n  {arguments}\n}}\n"
        )
    }

    /// Applies, expects the statement in the error, and runs it.
    async fn lacks(&self, workspace: &Workspace, database: &Database, says: &str, statement: &str) {
        let failed = workspace.apply_error().await;
        for said in [says, statement] {
            assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
        }
        database.sql(statement).await;
    }
}

async fn life(core: Core, from: Major, to: Major) {
    let owners = Owners::new(from, to).await;
    let (source, target) = (&owners.pair.publisher, &owners.pair.subscriber);
    let workspace = owners.workspace(core).await;
    rights_come_one_by_one(&owners, &workspace).await;

    source.sql("INSERT INTO customers VALUES (1, 'a')").await;
    workspace.write("main.tf", &owners.config("\"orders\", \"customers\"", "binary = true"));
    workspace.apply().await;
    assert_eq!(
        target.rows("SELECT name FROM customers").await,
        ["a"],
        "an added table is replicated when the apply ends"
    );
    workspace.expect_empty_plan().await;

    let forget = ["state", "rm", ADDRESS];
    workspace.expect(&forget, 0).await;
    workspace.import(ADDRESS, &format!("{}/{}", target.name, owners.name)).await;
    // Nobody can read the connection, and no catalog stores the triggers.
    workspace.apply().await;
    workspace.expect_empty_plan().await;

    workspace.write("main.tf", &owners.config("\"orders\", \"customers\"", "enabled = false"));
    workspace.apply().await;
    workspace.write("main.tf", &owners.config("\"orders\", \"customers\"", ""));
    workspace.apply().await;
    source.sql("INSERT INTO orders VALUES (2, 2, 'eu')").await;
    owners.pair.wait_for_rows("SELECT count(*) FROM orders", &["2"]).await;
    workspace.destroy().await;
    assert_eq!(owners.pair.slots().await, [""; 0]);
}

async fn rights_come_one_by_one(owners: &Owners, workspace: &Workspace) {
    let (source, target) = (&owners.pair.publisher, &owners.pair.subscriber);
    let (publisher, subscriber) = (quote(&owners.publisher.name), quote(&owners.subscriber.name));
    source.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
    workspace.write("main.tf", &owners.config("\"orders\"", ""));
    // A plan names all missing rights on one server at once.
    let create = format!("GRANT CREATE ON DATABASE {} TO {publisher};", quote(&source.name));
    let own = format!("ALTER TABLE \"public\".\"orders\" OWNER TO {publisher};");
    let planned = workspace.plan().await;
    assert_eq!(planned.code, Some(1), "{}", planned.text());
    for said in ["permission denied for database", &create, "must own the tables", "public.orders", &own] {
        assert!(planned.flat().contains(said), "{said} is not in {}", planned.text());
    }
    owners.lacks(workspace, source, "permission denied for database", &create).await;
    owners.lacks(workspace, source, "must own the tables", &own).await;
    own_tables(source, &owners.publisher).await;

    own_tables(target, &owners.subscriber).await;
    let grant = format!("GRANT pg_create_subscription TO {subscriber};");
    owners.lacks(workspace, target, "permission denied to create subscription", &grant).await;
    let grant = format!("GRANT CREATE ON DATABASE {} TO {subscriber};", quote(&target.name));
    owners.lacks(workspace, target, "permission denied for database", &grant).await;
    let grant = format!("ALTER ROLE {publisher} REPLICATION;");
    owners
        .lacks(workspace, source, "or, on Aurora and RDS, as the master user: GRANT rds_replication TO", &grant)
        .await;
    workspace.apply().await;
    assert_eq!(target.rows("SELECT total FROM orders").await, ["1"]);
    workspace.expect_empty_plan().await;
}

#[tokio::test]
async fn owners_of_their_tables_replicate_to_16() {
    life(Core::OpenTofu, Major::V14, Major::V16).await;
}

#[tokio::test]
async fn owners_of_their_tables_replicate_to_17() {
    life(Core::Terraform, Major::V16, Major::V17).await;
}

#[tokio::test]
async fn owners_of_their_tables_replicate_to_18() {
    life(Core::OpenTofu, Major::V17, Major::V18).await;
}

/// The error for actions that need a superuser says what an owner can do instead.
#[tokio::test]
async fn what_needs_a_superuser_is_told() {
    let owners = Owners::new(Major::V15, Major::V15).await;
    own_tables(&owners.pair.publisher, &owners.publisher).await;
    grant_create(&owners.pair.publisher, &owners.publisher).await;
    let workspace = owners.workspace(Core::OpenTofu).await;
    for (body, says) in [
        ("all_tables = true", "only a superuser may create a publication with all_tables"),
        ("schemas = [\"public\"]", "only a superuser may create a publication with schemas"),
    ] {
        workspace.write(
            "main.tf",
            &format!("resource \"neonrepl_publication\" \"shop\" {{\n  name = \"shop\"\n  {body}\n}}\n"),
        );
        let failed = workspace.apply_error().await;
        for said in [says, "List the tables, which needs their ownership only"] {
            assert!(failed.flat().contains(said), "{said} is not in {}", failed.text());
        }
    }
    workspace.write("main.tf", &owners.config("\"orders\"", ""));
    let failed = workspace.apply_error().await;
    assert!(
        failed.flat().contains("Before Postgres 16 only a superuser may create subscriptions"),
        "{}",
        failed.text()
    );
    workspace.destroy().await;
}

/// The guide, whose statements are run here with other names.
const GUIDE: &str = include_str!("../../docs/guides/least-privilege.md");

impl Owners {
    /// Runs a statement of the guide on the subscriber, as a superuser.
    async fn given(&self, statement: &str) {
        assert!(GUIDE.contains(statement), "{statement} is not in the guide");
        let statement = statement.replace("TO owner;", &format!("TO {};", quote(&self.subscriber.name)));
        self.pair.subscriber.sql(&statement.replace("neondb", &quote(&self.pair.subscriber.name))).await;
    }

    fn destination(&self, indexes: bool) -> String {
        let name = &self.name;
        let schema = "resource \"neonrepl_destination_schema\" \"shop\" {\n  publications = [\"shop\"]\n}\n";
        let later = format!(
            "\nresource \"neonrepl_destination_indexes\" \"shop\" {{\n  publications  = [\"shop\"]\n  subscriptions = [\"{name}\"]\n  \
             depends_on    = [neonrepl_destination_schema.shop]\n}}\n"
        );
        format!("{schema}{}", if indexes { later } else { String::new() })
    }

    /// Both sides: the publisher's as a superuser, the subscriber's as the role that owns its tables there.
    fn connected(&self) -> replication::Pair {
        let publisher = connect(&self.pair.publisher, &Role::superuser());
        replication::Pair { publisher, subscriber: connect(&self.pair.subscriber, &self.subscriber) }
    }

    fn cutover(&self, active: Place) -> Cutover {
        Cutover {
            subscriptions: [ident(&self.name)].into(),
            desired: Desired { active, reverse: false, guard: true },
            way_back: None,
            terms: Terms { unpublished_writes: Unpublished::Allow, ..Terms::default() },
        }
    }
}

/// Before Postgres 16 a superuser owns the subscription. A role that owns the tables does everything else on the
/// subscriber.
async fn beside_a_superusers_subscription(to: Major) {
    let owners = Owners::new(Major::V16, to).await;
    let (source, target) = (&owners.pair.publisher, &owners.pair.subscriber);
    source
        .sql(
            "ALTER TABLE orders ADD number serial; CREATE INDEX ON orders (region); INSERT INTO orders VALUES (1, 1, 'eu'); \
             CREATE PUBLICATION shop FOR TABLE orders, customers",
        )
        .await;
    // On 14 everybody may create tables in this schema, unless that right was revoked.
    target.sql("DROP TABLE orders, customers, invoices; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let urls = [source.url(), target.url_as(&owners.subscriber)];
    let workspace = owners.pair.workspace_with(Core::OpenTofu, &urls[0], &urls[1]).await;
    workspace.write("main.tf", &owners.destination(false));
    let failed = workspace.apply_error().await;
    assert!(failed.flat().contains("GRANT USAGE, CREATE ON SCHEMA"), "{}", failed.text());
    owners.given("GRANT USAGE, CREATE ON SCHEMA public TO owner;").await;
    workspace.apply().await;

    let login = Role::superuser();
    let connection = format!(
        "host=127.0.0.1 port={} dbname={} user={} password={}",
        source.port, source.name, login.name, login.password
    );
    target.sql(&format!("CREATE SUBSCRIPTION {} CONNECTION '{connection}' PUBLICATION shop", owners.name)).await;
    owners.pair.wait_for_rows("SELECT region FROM orders", &["eu"]).await;
    workspace.write("main.tf", &owners.destination(true));
    workspace.apply().await;
    let made = "SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass AND indisvalid";
    assert_eq!(target.value::<i64>(made).await, 2);

    let heard = Heard::default();
    let operation = Operation::new("comparing tables", Limits::within(3 * DEADLINE), &heard);
    let question = comparison::Question {
        publications: [ident("shop")].into(),
        mode: Mode::Rows,
        max_differences: 10,
        ..comparison::Question::default()
    };
    let compared = comparison::compare(&operation, &owners.connected(), &question, &mut |_| {}).await.unwrap();
    assert!(compared.is_equal() && compared.is_exact(), "{compared:#?}");

    // A role that may stop the subscription has the rights of its owner.
    cutover::run(&owners.connected(), &owners.cutover(Place::Publisher), &operation).await.unwrap_err();
    owners.given("GRANT CREATE ON DATABASE neondb TO owner;").await;
    cutover::run(&owners.connected(), &owners.cutover(Place::Publisher), &operation).await.unwrap();
    let refused = cutover::run(&owners.connected(), &owners.cutover(Place::Subscriber), &operation).await.unwrap_err();
    let grant = format!("GRANT \"postgres\" TO {};", quote(&owners.subscriber.name));
    assert!(refused.to_string().contains(&grant), "{refused}");
    target.sql(&grant).await;
    assert!(
        cutover::run(&owners.connected(), &owners.cutover(Place::Subscriber), &operation).await.unwrap().has_switched
    );
    let client = target.connect_as(&owners.subscriber).await.unwrap();
    client.batch_execute("INSERT INTO orders (id, total, region) VALUES (2, 2, 'us')").await.unwrap();
    assert_eq!(target.rows("SELECT number FROM orders ORDER BY id").await, ["1", "2"]);
    let drop = format!("ALTER SUBSCRIPTION {0} SET (slot_name = NONE); DROP SUBSCRIPTION {0}", owners.name);
    target.sql(&format!("{drop}; REVOKE postgres FROM {}", quote(&owners.subscriber.name))).await;
    workspace.destroy().await;
}

#[tokio::test]
async fn owners_of_their_tables_work_beside_a_superusers_subscription_on_14_and_15() {
    for to in [Major::V14, Major::V15] {
        Box::pin(beside_a_superusers_subscription(to)).await;
    }
}
