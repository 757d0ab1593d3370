// SPDX-License-Identifier: MPL-2.0

//! Plans that can be trusted: a plan finds everything that an apply would be refused, and changes nothing on either
//! server. Missing objects that the same apply may still create are a warning, and planned ones are not mentioned.

use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::{self as servers, Major, Role, SUPERUSER_PASSWORD, Server, Stop, quote, settings};
use crate::replication::Pair;

/// Checks a plan: its exit code (0 nothing to do, 1 refused, 2 changes) and its words.
fn check(title: &str, run: &Run, code: i32, says: &[&str]) {
    eprintln!("--- {title}\n{}", run.text());
    assert_eq!(run.code, Some(code), "{title}: {}", run.text());
    for words in says {
        assert!(run.flat().contains(words), "{title}: {words:?} is not in {}", run.text());
    }
    assert!(!run.flat().contains("os error"), "{title}: {}", run.text());
}

fn subscription(arguments: &str) -> String {
    format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name         = \"{{name}}\"\n  publications = [\"given\"]\n{arguments}\n}}\n"
    )
}

/// Servers, plain roles with all needed rights, and the objects of both sides.
struct Stage {
    pair: Pair,
    publisher: Role,
    subscriber: Role,
    name: String,
}

impl Stage {
    async fn new(from: Major, to: Major) -> Self {
        let pair = Pair::new(from, to, "plans").await;
        let publisher = servers::shared(from).role("plans from", "REPLICATION").await;
        let attributes = if to < Major::V16 { "SUPERUSER" } else { "" };
        let subscriber = pair.role_of_subscriber(to, "plans to", attributes).await;
        pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
        let (from, into) = (quote(&publisher.name), quote(&subscriber.name));
        pair.publisher
            .sql(&format!(
                "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {from}; GRANT CREATE ON DATABASE {} TO {from}",
                quote(&pair.publisher.name)
            ))
            .await;
        let create = format!("GRANT CREATE ON DATABASE {} TO {into}", quote(&pair.subscriber.name));
        pair.subscriber.sql(&create).await;
        for table in ["orders", "customers", "invoices"] {
            pair.subscriber.sql(&format!("ALTER TABLE {table} OWNER TO {into}")).await;
        }
        if to >= Major::V16 {
            pair.subscriber.sql(&format!("GRANT pg_create_subscription TO {into}")).await;
        }
        let name = pair.subscriber.name.clone();
        Self { pair, publisher, subscriber, name }
    }

    async fn workspace(&self, core: Core) -> Workspace {
        let urls = [self.pair.publisher.url_as(&self.publisher), self.pair.subscriber.url_as(&self.subscriber)];
        let mut workspace = self.pair.workspace_with(core, &urls[0], &urls[1]).await;
        workspace.secret(&self.publisher.password).secret(&self.subscriber.password);
        workspace
    }

    fn fill(&self, text: &str) -> String {
        text.replace("{name}", &self.name)
            .replace("{from}", &self.pair.publisher.name)
            .replace("{port}", &self.pair.publisher.port.to_string())
            .replace("{role}", &self.publisher.name)
    }

    /// Checks that a plan leaves nothing behind.
    async fn expect_nothing(&self) {
        assert_eq!(self.pair.slots().await, [""; 0]);
        let made = "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(self.pair.subscriber.rows(made).await, [""; 0]);
        assert_eq!(self.pair.publisher.rows("SELECT pubname FROM pg_publication").await, ["given"]);
    }
}

/// Refused plans of a new subscription: the statements before (`P:` on the publisher, `S:` on the subscriber) and
/// after, the configuration's further arguments, and the expected texts.
struct Refused {
    title: &'static str,
    before: &'static [&'static str],
    after: &'static [&'static str],
    arguments: &'static str,
    says: &'static [&'static str],
}

const REFUSED: &[Refused] = &[
    Refused {
        title: "no REPLICATION for the login",
        before: &["P:ALTER ROLE {from_role} NOREPLICATION"],
        after: &["P:ALTER ROLE {from_role} REPLICATION"],
        arguments: "",
        says: &[
            "ALTER ROLE {from_role} REPLICATION; or, on Aurora and RDS, as the master user: GRANT rds_replication TO {from_role};",
        ],
    },
    Refused {
        title: "no CREATE on the subscriber's database",
        before: &["S:REVOKE CREATE ON DATABASE {to_database} FROM {to_role}; ALTER ROLE {to_role} NOSUPERUSER"],
        after: &["S:GRANT CREATE ON DATABASE {to_database} TO {to_role}; ALTER ROLE {to_role} {super}"],
        arguments: "",
        says: &["{no_create}"],
    },
    Refused {
        title: "a wrong password of the resource",
        before: &[],
        after: &[],
        arguments: "  publisher {\n    username = \"{role}\"\n    password = \"pw-other-6f\"\n  }",
        says: &[
            "password authentication failed",
            "on main.tf line 6",
            "Check password and username of the resource's publisher block",
        ],
    },
    Refused {
        title: "a database of the publisher that is not there",
        before: &[],
        after: &[],
        arguments: "  publisher {\n    database = \"nowhere\"\n  }",
        says: &[
            "database \"nowhere\" does not exist",
            "on main.tf line 5",
            "database of the resource's publisher block",
        ],
    },
    Refused {
        title: "a slot that is there already",
        before: &["P:SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"],
        after: &["P:SELECT pg_drop_replication_slot('{slot}')"],
        arguments: "",
        says: &["already exists", "create_slot = false", "SELECT pg_drop_replication_slot"],
    },
    Refused {
        title: "a slot of another plugin",
        before: &["P:SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')"],
        after: &["P:SELECT pg_drop_replication_slot('{slot}')"],
        arguments: "  create_slot = false",
        says: &["its plugin is \"test_decoding\""],
    },
    Refused {
        title: "an owner that the role may not become",
        before: &[],
        after: &[],
        arguments: "  owner = \"postgres\"",
        says: &["{no_owner}"],
    },
    Refused {
        title: "a column that is missing, where the copy is waited for",
        before: &["S:ALTER TABLE orders DROP COLUMN total"],
        after: &["S:ALTER TABLE orders ADD COLUMN total numeric"],
        arguments: "  wait_for_initial_sync = true",
        says: &["public.orders: it lacks published columns on the subscriber: total"],
    },
];

/// The same for objects that another resource may still create: a warning, and the plan succeeds.
const WARNED: &[Refused] = &[
    Refused {
        title: "no publication",
        before: &["P:DROP PUBLICATION given"],
        after: &["P:CREATE PUBLICATION given FOR TABLE orders"],
        arguments: "",
        says: &["there is no publication \"given\" in database", "Apply fails unless it exists by then."],
    },
    Refused {
        title: "no slot",
        before: &[],
        after: &[],
        arguments: "  create_slot = false",
        says: &["there is no replication slot", "create_slot = false", "neonrepl_replication_slot"],
    },
    Refused {
        title: "no destination table",
        before: &["S:ALTER TABLE orders RENAME TO elsewhere"],
        after: &["S:ALTER TABLE elsewhere RENAME TO orders"],
        arguments: "",
        says: &["public.orders: it is not a table on the subscriber", "Apply fails unless this has changed by then"],
    },
    Refused {
        title: "rows that are there already",
        before: &["S:INSERT INTO orders VALUES (1)"],
        after: &["S:TRUNCATE orders"],
        arguments: "",
        says: &["tables hold rows before they are copied: public.orders"],
    },
];

impl Stage {
    fn statement(&self, text: &str, to: Major) -> String {
        let superuser = if to < Major::V16 { "SUPERUSER" } else { "NOSUPERUSER" };
        let into = quote(&self.subscriber.name);
        let no_create = if to < Major::V16 {
            format!("as a superuser: ALTER ROLE {into} SUPERUSER;")
        } else {
            format!("GRANT CREATE ON DATABASE {} TO {into};", quote(&self.pair.subscriber.name))
        };
        let no_owner = if to < Major::V16 { "No changes" } else { "GRANT \"postgres\" TO" };
        self.fill(text)
            .replace("{from_role}", &quote(&self.publisher.name))
            .replace("{to_role}", &into)
            .replace("{to_database}", &quote(&self.pair.subscriber.name))
            .replace("{slot}", &self.name)
            .replace("{super}", superuser)
            .replace("{no_create}", &no_create)
            .replace("{no_owner}", no_owner)
    }

    async fn run(&self, statements: &[&str], to: Major) {
        for statement in statements {
            let statement = self.statement(statement, to);
            match statement.split_once(':') {
                Some(("P", text)) => self.pair.publisher.sql(text).await,
                Some(("S", text)) => self.pair.subscriber.sql(text).await,
                _ => panic!("{statement} is on neither server"),
            }
        }
    }
}

async fn refusals(core: Core, from: Major, to: Major) -> usize {
    let stage = Stage::new(from, to).await;
    let mut workspace = stage.workspace(core).await;
    workspace.secret("pw-other-7f");
    let mut count = 0;
    for (cases, code) in [(REFUSED, 1), (WARNED, 2)] {
        for case in cases {
            // A superuser may make anybody the owner.
            if case.says == ["{no_owner}"] && to < Major::V16 {
                continue;
            }
            stage.run(case.before, to).await;
            workspace.write("main.tf", &stage.fill(&subscription(case.arguments)));
            let plan = workspace.plan().await;
            stage.run(case.after, to).await;
            let says: Vec<_> = case.says.iter().map(|text| stage.statement(text, to)).collect();
            check(case.title, &plan, code, &says.iter().map(String::as_str).collect::<Vec<_>>());
            count += 1;
        }
    }
    stage.expect_nothing().await;
    // Without obstacles, nothing is reported, and the apply succeeds.
    workspace.write("main.tf", &stage.fill(&subscription("  wait_for_initial_sync = true")));
    let plan = workspace.plan().await;
    check("nothing in the way", &plan, 2, &[]);
    assert!(!plan.text().contains("Warning"), "{}", plan.text());
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    workspace.destroy().await;
    stage.expect_nothing().await;
    count + 1
}

#[tokio::test]
async fn a_subscription_that_cannot_be_made_is_refused_by_its_plan() {
    let mut count = 0;
    for (core, from, to) in [(Core::Terraform, Major::V14, Major::V18), (Core::OpenTofu, Major::V18, Major::V14)] {
        count += refusals(core, from, to).await;
    }
    println!("{count} plans of subscriptions that told what the apply would meet");
}

/// A server's answer to a login is an error of the plan, at the provider's attribute; one that does not answer is a warning.
#[tokio::test]
async fn an_answer_is_an_error_and_silence_a_warning() {
    let pair = Pair::new(Major::V16, Major::V17, "answers").await;
    pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
    let good = [pair.publisher.url(), pair.subscriber.url()];
    let wrong = |url: &str| url.replace(SUPERUSER_PASSWORD, "pw-wrong-3k");
    let nowhere = |url: &str, name: &str| url.replace(name, "nowhere");
    let away = |url: &str, port: u16| url.replace(&format!(":{port}/"), ":1/");
    let publication =
        "resource \"neonrepl_publication\" \"shop\" {\n  name   = \"shop\"\n  tables = [\"orders\"]\n}\n".to_owned();
    let slot = "resource \"neonrepl_replication_slot\" \"shop\" {\n  name = \"answers\"\n}\n".to_owned();
    let subscription = subscription("").replace("{name}", &pair.subscriber.name);
    let variable = |side: &str, what: &str| format!("{what} in the URL of the variable NEONREPL_{side}_URL");
    let mut count = 0;
    let (from, to) = (&pair.publisher, &pair.subscriber);
    for (kind, config, sides) in [
        ("a publication", &publication, &["PUBLISHER"][..]),
        ("a slot", &slot, &["PUBLISHER"]),
        ("a subscription", &subscription, &["PUBLISHER", "SUBSCRIBER"]),
    ] {
        for side in sides {
            let (at, database) = if *side == "PUBLISHER" { (0, from) } else { (1, to) };
            let cases = [
                (
                    "a wrong password",
                    wrong(&good[at]),
                    1,
                    ["28P01".to_owned(), format!("Check password and {}", variable(side, "username"))],
                ),
                (
                    "no such database",
                    nowhere(&good[at], &database.name),
                    1,
                    ["3D000".to_owned(), variable(side, "database")],
                ),
                (
                    "no answer",
                    away(&good[at], database.port),
                    2,
                    ["the connection was refused".to_owned(), variable(side, "port")],
                ),
            ];
            for (what, url, code, says) in cases {
                let mut urls = good.clone();
                urls[at] = url;
                let mut workspace = pair.workspace_with(Core::OpenTofu, &urls[0], &urls[1]).await;
                workspace.secret("pw-wrong-3k");
                workspace.write("main.tf", config);
                let plan = workspace.plan().await;
                check(&format!("{kind}, {side}, {what}"), &plan, code, &says.each_ref().map(String::as_str));
                count += 1;
            }
        }
    }
    assert_eq!(pair.slots().await, [""; 0]);
    println!("{count} answers and silences of servers, planned on");
}

/// Objects of the same configuration exist by the time they are needed: the plan does not mention them, however new
/// everything is.
#[tokio::test]
async fn what_this_configuration_makes_is_not_missed() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V17, Major::V16, "whole").await;
        let workspace = pair.workspace(core).await;
        let name = &pair.subscriber.name;
        let config = |columns: &str| {
            format!(
                "resource \"neonrepl_publication\" \"shop\" {{\n  name = \"shop\"\n  table {{\n    name = \"orders\"\n{columns}  }}\n}}\n\
                 resource \"neonrepl_replication_slot\" \"shop\" {{\n  name = \"{name}\"\n  depends_on = [neonrepl_publication.shop]\n}}\n\
                 resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"{name}\"\n  publications = [neonrepl_publication.shop.name]\n  \
                 slot_name = neonrepl_replication_slot.shop.name\n  create_slot = false\n}}\n"
            )
        };
        // The tables of a publication that does not exist yet are checked anyway.
        pair.subscriber.sql("ALTER TABLE orders DROP COLUMN total").await;
        workspace.write("main.tf", &config(""));
        let plan = workspace.plan().await;
        check(
            "a column that is missing",
            &plan,
            2,
            &["public.orders: it lacks published columns on the subscriber: total"],
        );
        workspace.write("main.tf", &config("    columns = [\"id\", \"region\"]\n"));
        let plan = workspace.plan().await;
        check("everything is new", &plan, 2, &[]);
        assert!(!plan.text().contains("Warning"), "{}", plan.text());
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

/// The plan explains changes that no value of the configuration shows, and reports obstacles to a change.
#[tokio::test]
async fn a_change_says_why_and_what_it_would_meet() {
    let pair = Pair::new(Major::V18, Major::V16, "reasons").await;
    pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
    let workspace = pair.workspace(Core::Terraform).await;
    let config = |arguments: &str| subscription(arguments).replace("{name}", &pair.subscriber.name);
    workspace.write("main.tf", &config("  wait_for_initial_sync = true"));
    workspace.apply().await;
    let mut count = 0;
    let more = config("").replace("[\"given\"]", "[\"given\", \"more\"]");
    for (title, config, code, says) in [
        (
            "triggers",
            config("  refresh_triggers = { a = 1 }"),
            2,
            &["looks for new tables, because refresh_triggers changes"][..],
        ),
        (
            "a version",
            config("  connection_version = 2"),
            2,
            &["is sent again, password included, because connection_version changes"],
        ),
        ("publications", more, 2, &["because its publications change", "there is no publication \"more\" in database"]),
        (
            "no owner",
            config("  owner = \"nobody there\""),
            2,
            &["role \"nobody there\" does not exist", "Create the role on"],
        ),
    ] {
        workspace.write("main.tf", &config);
        check(title, &workspace.plan().await, code, says);
        count += 1;
    }
    // Objects that are still missing by then are refused before anything is changed.
    for enabled in ["", "  enabled = false"] {
        workspace.write("main.tf", &config(enabled).replace("[\"given\"]", "[\"given\", \"more\"]"));
        let refused = workspace.apply_error().await;
        check(
            "a publication that nothing made",
            &refused,
            1,
            &["there is no publication \"more\"", "Nothing was changed."],
        );
        let has = "SELECT subenabled::text || subpublications::text FROM pg_subscription s \
            JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()";
        assert_eq!(pair.subscriber.rows(has).await, ["true{given}"]);
    }
    pair.publisher.sql("ALTER PUBLICATION given ADD TABLE customers").await;
    workspace.write("main.tf", &config("  wait_for_initial_sync = true"));
    let plan = workspace.plan().await;
    check("a new table", &plan, 2, &["subscribes to new tables: public.customers"]);
    workspace.apply().await;
    workspace.expect_empty_plan().await;
    pair.publisher.sql("INSERT INTO orders VALUES (1)").await;
    pair.wait_for_rows("SELECT id FROM orders", &["1"]).await;
    let replaced = workspace.run(&["plan", "-no-color", "-replace=neonrepl_subscription.shop"]).await;
    check("replaced", &replaced, 1, &["every row would be copied again", "Tables: 2, with about"]);
    workspace.destroy().await;
    println!("{} plans that say why something changes", count + 2);
}

/// Makes a server wait for another's WAL from now on.
fn make_standby(server: &mut Server) {
    server.stop(Stop::Fast);
    server.write("standby.signal", "");
    server.restart(settings([("hot_standby", "on")]));
}

/// Nothing can be created on a standby. Existing objects are read as usual.
#[tokio::test]
async fn a_standby_is_refused_while_planning() {
    let (mut publisher, mut subscriber) =
        (Server::start(Major::V14, settings([])), Server::start(Major::V18, settings([])));
    let pair = Pair::on(&publisher, &subscriber, "standby").await;
    pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
    let workspace = pair.workspace(Core::OpenTofu).await;
    let made = "resource \"neonrepl_publication\" \"there\" {\n  name = \"there\"\n  tables = [\"orders\"]\n}\n";
    workspace.write("main.tf", made);
    workspace.apply().await;
    make_standby(&mut publisher);
    workspace.expect_empty_plan().await;
    let new = [
        "resource \"neonrepl_publication\" \"new\" {\n  name = \"new\"\n  tables = [\"orders\"]\n}\n",
        "resource \"neonrepl_replication_slot\" \"new\" {\n  name = \"new\"\n}\n",
    ];
    let changed = made.replace("[\"orders\"]", "[\"orders\", \"customers\"]");
    for config in new.map(|new| format!("{made}{new}")).into_iter().chain([changed]) {
        workspace.write("main.tf", &config);
        let port = pair.publisher.port;
        let says = [&format!("127.0.0.1:{port} is read-only, as a standby or a reader is"), "onnect to the primary"];
        check("a standby publishes", &workspace.plan().await, 1, &says);
    }
    make_standby(&mut subscriber);
    workspace.write("main.tf", &format!("{made}{}", subscription("").replace("{name}", &pair.subscriber.name)));
    let port = pair.subscriber.port;
    let says = [&format!("127.0.0.1:{port}"), "is read-only, as a standby"];
    check("a standby subscribes", &workspace.plan().await, 1, &says);
}
