//! Errors as a person reads them in a terminal: each says what is wrong, where that was given, and what to do. Every case is a
//! configuration that real cores run against real servers.

use crate::common::cli::{Core, Run, Workspace};
use crate::common::postgres::{Major, SUPERUSER_PASSWORD};
use crate::replication::Pair;

/// What no error may say: numbers and names that lead nowhere.
const NEVER: &[&str] = &["os error", "error connecting to server", "dispatch failure", "…"];

/// Checks what a person reads, and prints it: `--nocapture` shows all of it.
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

/// A server that cannot be reached, or does not let us in, by what is wrong: the attributes of the provider's block, and what
/// is said. `{port}` and `{database}` are those of a real server.
const CONNECTIONS: &[(&str, &str, &[&str])] = &[
    (
        "nothing listens",
        "host = \"127.0.0.1\"\n    port = 1\n    database = \"d\"\n    username = \"u\"",
        &["the connection was refused", "publisher.host and publisher.port of the provider block"],
    ),
    (
        "an unknown host",
        "host = \"db.invalid\"\n    database = \"d\"\n    username = \"u\"",
        &["no address is known for this host name", "publisher.host of the provider block"],
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
            // The core prints the line that an error is about; the password is a variable, so that it is not on it.
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
