// SPDX-License-Identifier: MPL-2.0

//! The servers that the examples are applied to: they have the databases, tables and roles that the examples name, and the
//! examples' addresses become theirs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::cli::{Core, VERSIONS, Workspace};
use crate::common::iam::{Front, Keys};
use crate::common::postgres::{Database, Major, Role, SUPERUSER, SUPERUSER_PASSWORD, Server, Settings, settings};
use crate::common::tools::checkout;
use crate::tls::issue;

/// The application of the examples, in each of its databases.
const TABLES: &str = "
    CREATE TABLE users (id bigint PRIMARY KEY, name text);
    CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric);
    CREATE INDEX orders_of_user ON orders (user_id);
    CREATE TABLE events (id bigint PRIMARY KEY, happened text);
    CREATE INDEX events_by_text ON events (happened);
    CREATE TABLE visits (token text NOT NULL CONSTRAINT visits_token_key UNIQUE, page text);
    CREATE TABLE countries (code text PRIMARY KEY, name text);
    CREATE INDEX countries_by_name ON countries (name);
    CREATE TABLE invoices (id bigint PRIMARY KEY, total numeric);
    CREATE TABLE clicks (id bigint PRIMARY KEY, page text);
    CREATE TABLE documents (id bigint PRIMARY KEY, body text);
    CREATE SEQUENCE ticket_numbers;
    CREATE SCHEMA billing;
    CREATE TABLE billing.invoices (id bigint PRIMARY KEY, customer_id bigint, total numeric, note text);
    CREATE SEQUENCE billing.invoice_numbers;";

const ROWS: &str = "
    INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 20) n;
    INSERT INTO orders SELECT n, 1 + n % 20, n FROM generate_series(1, 50) n;
    INSERT INTO events SELECT n, 'event ' || n FROM generate_series(1, 30) n;
    INSERT INTO visits SELECT 'token ' || n, '/' FROM generate_series(1, 30) n;
    INSERT INTO countries VALUES ('ch', 'Switzerland'), ('nz', 'New Zealand');
    INSERT INTO invoices SELECT n, n FROM generate_series(1, 10) n;
    INSERT INTO clicks SELECT n * 100000000, '/' FROM generate_series(0, 2) n;
    INSERT INTO documents VALUES (1, 'text');
    INSERT INTO billing.invoices VALUES (1, 1, 1), (100000, 1, 1);
    SELECT nextval('ticket_numbers'), nextval('billing.invoice_numbers');
    ANALYZE;";

/// The databases that examples name, and the role that subscriptions log in as.
const DATABASES: [&str; 7] = ["shop", "neondb", "mall", "billing", "search", "archive", "warehouse"];
const REPLICATOR: &str = "pw-replicator-of-examples-5Vt1";
const OWNERS: [&str; 2] = ["migrator", "neondb_owner"];
const OWNER: &str = "pw-owner-of-examples-8Bn3";

const KEYS: Keys = Keys { access_key: "AKIAIOSFODNN7EXAMPLE", secret_key: "sk/examples+Zk2w/Rds", region: "us-east-2" };

/// Only the front lets these roles through, which checks their tokens.
const BY_TOKEN: [&str; 2] = ["app", "terraform"];
const HBA: &str = "host all app,terraform 127.0.0.1/32 trust\n\
    host all all 127.0.0.1/32 scram-sha-256\n\
    host replication all 127.0.0.1/32 scram-sha-256\n";

/// Both servers, and the front that stands for RDS and its tokens.
pub(super) struct Stage {
    publisher: Server,
    subscriber: Server,
    front: Front,
    /// A file with the authorities of both the publisher and the front.
    authorities: tempfile::NamedTempFile,
}

/// One of the two servers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publisher,
    Subscriber,
}

impl Stage {
    pub(super) async fn start() -> Self {
        let issued = issue("127.0.0.1");
        let servers = [Major::V17, Major::V18].map(|major| {
            let mut server = Server::start(major, Settings::new());
            server.write("server.crt", &issued.certificate);
            server.write("server.key", &issued.key);
            server.write("pg_hba.conf", HBA);
            server.restart(settings([("ssl", "on")]));
            server
        });
        for server in &servers {
            let role = |name: &str, password: &str| Role { name: name.to_owned(), password: password.to_owned() };
            for name in BY_TOKEN {
                server.create_role(&role(name, "never used"), "SUPERUSER").await;
            }
            server.create_role(&role("replicator", REPLICATOR), "REPLICATION IN ROLE pg_read_all_data").await;
            for owner in OWNERS {
                server.create_role(&role(owner, OWNER), "REPLICATION IN ROLE pg_create_subscription").await;
            }
            for (name, text) in [("with_rows", [TABLES, ROWS].concat()), ("with_tables", TABLES.to_owned())] {
                server.open(SUPERUSER).sql(&format!("CREATE DATABASE {name}")).await;
                server.open(name).sql(&text).await;
            }
        }
        let [publisher, subscriber] = servers;
        let front = Front::start(publisher.port(), KEYS).await;
        let authorities = tempfile::NamedTempFile::new().expect("making a file");
        fs::write(authorities.path(), issued.root + &front.certificate).expect("writing a file");
        Self { publisher, subscriber, front, authorities }
    }

    fn server(&self, side: Side) -> &Server {
        if side == Side::Publisher { &self.publisher } else { &self.subscriber }
    }

    pub(super) fn database(&self, side: Side, name: &str) -> Database {
        self.server(side).open(name)
    }

    /// Makes the databases again, full on the publisher. The tables are on the subscriber too, unless the example makes them.
    pub(super) async fn set(&self, makes_tables: bool) {
        for side in [Side::Publisher, Side::Subscriber] {
            let template = match side {
                Side::Publisher => "with_rows",
                Side::Subscriber if makes_tables => "template0",
                Side::Subscriber => "with_tables",
            };
            let server = self.server(side).open(SUPERUSER);
            for name in DATABASES {
                server.sql(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
                server.sql(&format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
            }
        }
    }

    /// The statement with `{publisher}` as a connection string of the role that subscriptions log in as.
    pub(super) fn fill(&self, statement: &str) -> String {
        let port = self.publisher.port();
        let connection =
            format!("host=127.0.0.1 port={port} user=replicator password={REPLICATOR} dbname=shop sslmode=require");
        statement.replace("{publisher}", &connection)
    }

    /// The publications, subscriptions and slots of both servers.
    pub(super) async fn objects(&self) -> Vec<String> {
        let mut found = Vec::new();
        for side in [Side::Publisher, Side::Subscriber] {
            let of_server = "SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE slot_name !~ '^pg_[0-9]+_sync_' \
                UNION ALL SELECT 'subscription ' || subname FROM pg_subscription";
            found.extend(self.server(side).open(SUPERUSER).rows(of_server).await);
            for name in DATABASES {
                let publications =
                    "SELECT format('publication %s of %s', pubname, current_database()) FROM pg_publication";
                found.extend(self.server(side).open(name).rows(publications).await);
            }
        }
        found
    }

    /// Drops what was there before the example.
    pub(super) async fn clear(&self) {
        for name in DATABASES {
            let database = self.subscriber.open(name);
            let here = "SELECT quote_ident(subname) FROM pg_subscription \
                WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
            for subscription in database.rows(here).await {
                database.sql(&format!("ALTER SUBSCRIPTION {subscription} DISABLE")).await;
                database.sql(&format!("ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)")).await;
                database.sql(&format!("DROP SUBSCRIPTION {subscription}")).await;
            }
        }
        let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
        for side in [Side::Publisher, Side::Subscriber] {
            let server = self.server(side).open(SUPERUSER);
            let is_free = "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE active)";
            let deadline = crate::replication::DEADLINE;
            crate::common::wait::wait_until("slots to be free", deadline, async || server.value(is_free).await).await;
            server.rows(slots).await;
        }
    }

    /// A workspace with a value for every variable that an example declares.
    pub(super) fn workspace(&self, core: Core) -> Workspace {
        let mut workspace = Workspace::new(core);
        for secret in [SUPERUSER_PASSWORD, REPLICATOR, OWNER, KEYS.secret_key, "X-Amz-Signature"] {
            workspace.secret(secret);
        }
        let url = |side: Side, name: &str| self.database(side, name).url();
        let passwords = format!("{{ publisher = \"{SUPERUSER_PASSWORD}\", subscriber = \"{SUPERUSER_PASSWORD}\" }}");
        let passwords = ["shop", "billing", "search"].map(|name| format!("{name} = {passwords}")).join(", ");
        for (name, value) in [
            ("NEONREPL_PUBLISHER_URL", url(Side::Publisher, "shop")),
            ("NEONREPL_SUBSCRIBER_URL", url(Side::Subscriber, "neondb")),
            ("AWS_ACCESS_KEY_ID", KEYS.access_key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", KEYS.secret_key.to_owned()),
            ("AWS_REGION", KEYS.region.to_owned()),
            ("TF_VAR_aurora_password", SUPERUSER_PASSWORD.to_owned()),
            ("TF_VAR_migrator_password", OWNER.to_owned()),
            ("TF_VAR_neon_password", OWNER.to_owned()),
            ("TF_VAR_neon_url", url(Side::Subscriber, "neondb")),
            ("TF_VAR_replicator_password", REPLICATOR.to_owned()),
            ("TF_VAR_shop_publisher_url", url(Side::Publisher, "shop")),
            ("TF_VAR_shop_subscriber_url", url(Side::Subscriber, "shop")),
            ("TF_VAR_billing_publisher_url", url(Side::Publisher, "billing")),
            ("TF_VAR_billing_subscriber_url", url(Side::Subscriber, "billing")),
            ("TF_VAR_passwords", format!("{{ {passwords} }}")),
            // What a function returns is in the state, as an output.
            ("TF_VAR_password", "of nobody".to_owned()),
            ("TF_VAR_uri", "postgresql://app:of-nobody@db.example/shop".to_owned()),
        ] {
            workspace.env(name, &value);
        }
        workspace
    }

    /// The text of an example with the addresses of the servers here, and its port after each.
    pub(super) fn addressed(&self, text: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let port = match (name.trim(), value.trim()) {
                ("host", host) if host.contains(".rds.amazonaws.com") && by_token(text) => self.front.port,
                ("host", host) if host.contains(".rds.amazonaws.com") => self.publisher.port(),
                ("host", host) if host.contains(".neon.tech") => self.subscriber.port(),
                // The port of a host that was replaced.
                ("port", "5432") if lines.last().is_some_and(|last| last.contains("port = ")) => continue,
                // One attribute has both sides' hosts of several pairs.
                ("host", "each.value.publisher") => self.publisher.port(),
                ("host", "each.value.subscriber") => self.subscriber.port(),
                _ => {
                    lines.push(line.to_owned());
                    continue;
                }
            };
            lines.push(format!("    host = \"127.0.0.1\"\n    port = {port}"));
        }
        let authorities = self.authorities.path().display().to_string();
        lines.join("\n").replace("/etc/ssl/rds-global-bundle.pem", &authorities) + "\n"
    }
}

/// Whether an example logs in to RDS with tokens.
pub(super) fn by_token(text: &str) -> bool {
    text.contains("aws_iam_auth = true") || text.contains("neonrepl_rds_auth_token")
}

/// A directory of `examples/`.
pub(super) fn place(directory: &str) -> PathBuf {
    checkout().join("examples").join(directory)
}

/// The files of a directory of `examples/`, as name and text.
pub(super) fn files(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).expect("reading an example").flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let read = |path: PathBuf| fs::read_to_string(path).expect("reading an example");
    let mut files: Vec<_> =
        files.map(|entry| (entry.file_name().to_string_lossy().into_owned(), read(entry.path()))).collect();
    files.sort();
    files
}

/// Writes the configuration of an example, which needs no `versions.tf` if it has none.
pub(super) fn write(workspace: &Workspace, files: &[(String, String)]) {
    let requires = files.iter().any(|(_, text)| text.contains("source = \"neonrepl/neonrepl\""));
    workspace.write("versions.tf", if requires { "" } else { VERSIONS });
    files.iter().for_each(|(name, text)| workspace.write(name, text));
}
