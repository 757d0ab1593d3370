// SPDX-License-Identifier: MPL-2.0

//! Errors as people read them in a terminal: each says what is wrong, where the value was given, and what to do. Every
//! case is a configuration that real cores run against real servers.

use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::{Major, SUPERUSER_PASSWORD};
use crate::replication::Pair;

/// Texts that no error may contain: numbers and names without use.
const NEVER: &[&str] = &["os error", "error connecting to server", "dispatch failure", "…"];

/// Checks the output for people, and prints it: `--nocapture` shows everything.
fn check(title: &str, run: &Run, says: &[&str]) {
    eprintln!("--- {title}\n{}", run.text());
    let flat = run.flat();
    for words in says {
        assert!(flat.contains(words), "{title}: {words:?} is not in {}", run.text());
    }
    for words in NEVER {
        assert!(!flat.contains(words), "{title}: {words:?} is in {}", run.text());
    }
}

fn provider(side: &str, attributes: &str) -> String {
    format!("provider \"neonrepl\" {{\n  {side} {{\n    {attributes}\n  }}\n}}\n")
}

const PUBLICATION: &str =
    "resource \"neonrepl_publication\" \"shop\" {\n  name = \"shop\"\n  tables = [\"orders\"]\n}\n";

/// Errors of connecting or logging in: the attributes of the provider's block, and the expected texts. `{port}` and
/// `{database}` are those of a real server.
const CONNECTIONS: &[(&str, &str, &[&str])] = &[
    (
        "nothing listens",
        "host = \"127.0.0.1\"\n    port = 1\n    database = \"d\"\n    username = \"u\"",
        &["the connection was refused", "publisher.host and publisher.port of the provider block"],
    ),
    (
        "an unknown host",
        "host = \"db.invalid\"\n    database = \"d\"\n    username = \"u\"",
        &["this host name has no address", "publisher.host of the provider block"],
    ),
    (
        "a port in the host",
        "host = \"127.0.0.1:{port}\"\n    database = \"d\"\n    username = \"u\"",
        &["Write host = \"127.0.0.1\" and port = {port}.", "on main.tf line 3"],
    ),
    (
        "a wrong password",
        "host = \"127.0.0.1\"\n    port = {port}\n    database = \"{database}\"\n    username = \"postgres\"\n    password = \"pw-wrong-8d\"",
        &["password authentication failed", "Check publisher.password and publisher.username of the provider block"],
    ),
    (
        "no password",
        "host = \"127.0.0.1\"\n    port = {port}\n    database = \"{database}\"\n    username = \"postgres\"",
        &["asks for a password, and none is given", "Set publisher.password of the provider block."],
    ),
    (
        "a database that is not there",
        "url = \"postgresql://postgres:{password}@127.0.0.1:{port}/nowhere\"",
        &["database \"nowhere\" does not exist", "Check database in the URL publisher.url of the provider block."],
    ),
    (
        "no TLS",
        "url = \"postgresql://postgres:{password}@127.0.0.1:{port}/{database}?sslmode=require\"",
        &["does not support TLS", "Set sslmode in the URL publisher.url of the provider block to \"disable\""],
    ),
    (
        "another scheme",
        "url = \"mysql://postgres:secret@127.0.0.1/{database}\"",
        &["mysql", "postgresql://", "on main.tf line 3"],
    ),
];

#[tokio::test]
async fn a_connection_that_fails_leads_to_its_attribute() {
    let pair = Pair::new(Major::V16, Major::V18, "unreached").await;
    let (port, database) = (pair.publisher.port.to_string(), pair.publisher.name.clone());
    for (core, cases) in [(Core::Terraform, &CONNECTIONS[..4]), (Core::OpenTofu, &CONNECTIONS[4..])] {
        let mut workspace = Workspace::new(core);
        workspace.secret(SUPERUSER_PASSWORD).secret("pw-wrong-8d");
        workspace.init().await;
        for (title, attributes, says) in cases {
            let attributes = attributes.replace("{port}", &port).replace("{database}", &database);
            // The core prints the line that an error is about, so the password is a variable.
            let attributes = attributes.replace("{password}", "${var.password}").replace("pw-wrong-8d", "${var.wrong}");
            let variables = format!(
                "variable \"password\" {{\n  default = \"{SUPERUSER_PASSWORD}\"\n  sensitive = true\n}}\nvariable \"wrong\" {{\n  \
                 default = \"pw-wrong-8d\"\n  sensitive = true\n}}\n"
            );
            workspace.write("variables.tf", &variables);
            workspace.write("main.tf", &format!("{}{PUBLICATION}", provider("publisher", &attributes)));
            let run = workspace.run(&["apply", "-auto-approve", "-no-color"]).await;
            assert_eq!(run.code, Some(1), "{title}: {}", run.text());
            let says: Vec<_> = says.iter().map(|words| words.replace("{port}", &port)).collect();
            check(title, &run, &says.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }
    println!("{} ways in which a connection fails, each led out of", CONNECTIONS.len());
}

fn subscription(arguments: &str) -> String {
    format!(
        "resource \"neonrepl_subscription\" \"shop\" {{\n  name = \"shop\"\n  publications = [\"given\"]\n  {arguments}\n}}\n"
    )
}

fn cluster(aws: &str) -> String {
    format!(
        "provider \"neonrepl\" {{\n  aws {{\n    region = \"us-east-2\"\n    endpoint_url = \"http://127.0.0.1:1\"\n    {aws}\n  }}\n}}\n\
         resource \"neonrepl_aurora_logical_replication\" \"shop\" {{\n  cluster_identifier = \"shop\"\n  verify = false\n}}\n"
    )
}

/// A configuration, a variable of the environment, and the expected texts.
type Case<'a> = (&'a str, String, Option<(&'a str, &'a str)>, &'a [&'a str]);

/// Errors in a configuration or in the environment are reported before any server is asked.
#[tokio::test]
async fn a_configuration_that_cannot_work_leads_to_what_works() {
    let filtered =
        "resource \"neonrepl_publication\" \"shop\" {\n  name = \"shop\"\n  tables = [\"orders WHERE (id > 1)\"]\n}\n";
    let url = ("NEONREPL_PUBLISHER_URL", "mysql://u:hunter2-env@127.0.0.1/d");
    let cases: [Case<'_>; 6] = [
        ("a filter in tables", filtered.to_owned(), None, &["in a block: table { }", "on main.tf line 3"]),
        (
            "no slot",
            subscription("slot_name = \"none\""),
            None,
            &["reads it as NONE, which means no slot", "on main.tf line 4"],
        ),
        (
            "a slot that cannot be",
            subscription("slot_name = \"Shop\""),
            None,
            &["is not a valid slot name", "on main.tf line 4"],
        ),
        (
            "a variable of another scheme",
            PUBLICATION.to_owned(),
            Some(url),
            &["begins with postgresql:// or postgres://", "The URL is from the environment, NEONREPL_PUBLISHER_URL."],
        ),
        (
            "no credentials",
            cluster(""),
            None,
            &["Error: reading DB cluster", "no AWS credentials were found", "AWS_ACCESS_KEY_ID"],
        ),
        (
            "an unknown profile",
            cluster("profile = \"nowhere\""),
            None,
            &["no AWS credentials were found", "Check profile \"nowhere\" of the aws block"],
        ),
    ];
    for core in Core::installed() {
        let mut workspace = Workspace::new(core);
        workspace.secret("hunter2-env").env("AWS_EC2_METADATA_DISABLED", "true");
        workspace.init().await;
        for (title, config, variable, says) in &cases {
            let (name, value) = variable.unwrap_or(("NEONREPL_PUBLISHER_URL", ""));
            workspace.env(name, value);
            workspace.write("main.tf", config);
            let run = workspace.plan().await;
            assert_eq!(run.code, Some(1), "{title}: {}", run.text());
            check(title, &run, says);
        }
    }
    println!("{} configurations that cannot work, each led out of", cases.len());
}

/// The subscriber connects itself: the error names its connection, not the provider's.
#[tokio::test]
async fn the_address_that_the_subscriber_was_given_is_named() {
    for (from, to) in [(Major::V14, Major::V18), (Major::V18, Major::V14)] {
        let pair = Pair::new(from, to, "given").await;
        pair.publisher.sql("CREATE PUBLICATION given FOR TABLE orders").await;
        let workspace = pair.workspace(Core::OpenTofu).await;
        workspace.write("main.tf", &subscription("publisher {\n    host = \"127.0.0.1\"\n    port = 1\n  }"));
        let run = workspace.apply_error().await;
        check(
            "an address of its own",
            &run,
            &["connects to 127.0.0.1:1 from its own network", "neonrepl_neon_nat_addresses"],
        );
        assert_eq!(pair.slots().await, [""; 0]);
    }
}

/// The name is refused, because the server does not accept it for a slot in any spelling.
#[tokio::test]
async fn a_slot_named_none_is_no_slot() {
    for major in [Major::V14, Major::V18] {
        let pair = Pair::new(major, major, "none").await;
        let name = &pair.subscriber.name;
        let make = format!(
            "CREATE SUBSCRIPTION \"{name}\" CONNECTION 'host=127.0.0.1' PUBLICATION p WITH (connect = false, slot_name = 'none')"
        );
        pair.subscriber.sql(&make).await;
        let slot = format!("SELECT subslotname IS NULL FROM pg_subscription WHERE subname = '{name}'");
        assert!(pair.subscriber.value::<bool>(&slot).await);
        pair.subscriber.sql(&format!("DROP SUBSCRIPTION \"{name}\"")).await;
    }
}
