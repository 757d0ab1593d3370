// SPDX-License-Identifier: MPL-2.0

//! The provider block through real cores: the sources of values, refusals, and plans that need no server.

use crate::common::cli::{Core, Workspace};
use crate::common::postgres::{Major, SUPERUSER, SUPERUSER_PASSWORD};
use crate::replication::Pair;

const PUBLICATION: &str =
    "resource \"neonrepl_publication\" \"shop\" {\n  name   = \"shop\"\n  tables = [\"orders\"]\n}\n";

async fn workspace(core: Core) -> Workspace {
    let mut workspace = Workspace::new(core);
    workspace.secret(SUPERUSER_PASSWORD);
    workspace.write("main.tf", PUBLICATION);
    workspace.init().await;
    workspace
}

/// A provider block with these lines in its publisher block.
fn publisher(lines: &str) -> String {
    format!("provider \"neonrepl\" {{\n  publisher {{\n{lines}\n  }}\n}}\n")
}

/// The errors of a plan, as one line.
async fn refusal(workspace: &Workspace, provider: &str) -> String {
    workspace.write("provider.tf", provider);
    let plan = workspace.plan().await;
    assert_eq!(plan.code, Some(1), "{}", plan.text());
    plan.flat()
}

fn check(text: &str, says: &[&str]) {
    for said in says {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
}

#[tokio::test]
async fn parts_win_over_a_url_and_a_url_over_the_environment() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V15, Major::V18, "parts").await;
        let mut workspace = workspace(core).await;
        workspace.env("NEONREPL_PUBLISHER_URL", "postgresql://nobody@127.0.0.1:1/nowhere");
        workspace.env("TF_VAR_password", SUPERUSER_PASSWORD);
        let variable = "variable \"password\" {\n  sensitive = true\n}\n";
        let url = format!("postgresql://{SUPERUSER}:wrong@127.0.0.1:{}/{}", pair.publisher.port, pair.publisher.name);
        let with_url = publisher(&format!("url = {url:?}\npassword = var.password"));
        workspace.write("provider.tf", &format!("{variable}{with_url}"));
        workspace.apply().await;
        let parts = format!(
            "host = \"127.0.0.1\"\nport = {}\ndatabase = {:?}\nusername = \"{SUPERUSER}\"\npassword = var.password\nsslmode = \"prefer\"",
            pair.publisher.port, pair.publisher.name
        );
        workspace.write(
            "provider.tf",
            &format!("{variable}{}", publisher(&format!("url = \"\"\n{parts}")).replace("url = \"\"\n", "")),
        );
        workspace.expect_empty_plan().await;
        workspace.env("NEONREPL_PUBLISHER_URL", &pair.publisher.url());
        workspace.write("provider.tf", variable);
        workspace.expect_empty_plan().await;
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn values_may_be_known_only_after_apply() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V18, Major::V15, "unknown").await;
        let name = &pair.subscriber.name;
        let mut workspace = workspace(core).await;
        workspace.env("TF_VAR_password", SUPERUSER_PASSWORD);
        let server = |side: &str, port: u16, database: &str| {
            format!(
                "  {side} {{\n    host = terraform_data.host.output\n    port = {port}\n    database = {database:?}\n    \
                 username = \"{SUPERUSER}\"\n    password = var.password\n  }}\n"
            )
        };
        let provider = format!(
            "variable \"password\" {{\n  sensitive = true\n}}\n\nresource \"terraform_data\" \"host\" {{\n  input = \"127.0.0.1\"\n}}\n\n\
             provider \"neonrepl\" {{\n{}{}}}\n",
            server("publisher", pair.publisher.port, &pair.publisher.name),
            server("subscriber", pair.subscriber.port, name),
        );
        let subscription = format!(
            "resource \"neonrepl_subscription\" \"shop\" {{\n  name = {name:?}\n  publications = [neonrepl_publication.shop.name]\n  \
             wait_for_initial_sync = true\n}}\n"
        );
        workspace.write("provider.tf", &provider);
        workspace.write("subscription.tf", &subscription);
        pair.publisher.sql("INSERT INTO orders VALUES (1, 1, 'eu')").await;
        workspace.apply().await;
        assert_eq!(pair.subscriber.rows("SELECT count(*) FROM orders").await, ["1"]);
        workspace.expect_empty_plan().await;
        let replaced = ["plan", "-no-color", "-replace=terraform_data.host"];
        let waiting = workspace.expect(&replaced, 1).await;
        check(&waiting.flat(), &["publisher.host is not known yet", "-target"]);
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn hosts_that_cannot_replicate_are_refused_with_the_one_that_can() {
    for core in Core::installed() {
        let workspace = workspace(core).await;
        let url = "    url = \"postgresql://o@ep-cool-1-pooler.us-east-2.aws.neon.tech/neondb\"";
        check(
            &refusal(&workspace, &publisher(url)).await,
            &["on provider.tf line 3", "connection pooler", "ep-cool-1.us-east-2.aws.neon.tech"],
        );
        let host = "    host     = \"shop.cluster-ro-abc.us-east-2.rds.amazonaws.com\"\n    username = \"o\"\n    database = \"shop\"";
        check(
            &refusal(&workspace, &publisher(host)).await,
            &["on provider.tf line 3", "Aurora reader endpoint", "shop.cluster-abc.us-east-2.rds.amazonaws.com"],
        );
        check(
            &refusal(&workspace, &publisher("    sslmode = \"always\"")).await,
            &["publisher.sslmode", "\"verify-full\""],
        );
        check(&refusal(&workspace, &publisher("    host = \"127.0.0.1\"")).await, &["Give the username"]);
        check(
            &refusal(&workspace, "").await,
            &["the provider has no publisher to connect to", "NEONREPL_PUBLISHER_URL"],
        );
        workspace.write(
            "main.tf",
            "resource \"neonrepl_subscription\" \"shop\" {\n  name = \"shop\"\n  publications = [\"shop\"]\n}\n",
        );
        let subscriber =
            "provider \"neonrepl\" {\n  subscriber {\n    url = \"postgresql://o@127.0.0.1:1/neondb\"\n  }\n}\n";
        check(&refusal(&workspace, subscriber).await, &["has no address of its publisher", "publisher block"]);
    }
}

/// A new object for an unreachable server fails at apply; a plan for an existing one fails at once.
#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_told_clearly() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V15, Major::V18, "refused").await;
        let (port, database) = (pair.publisher.port, &pair.publisher.name);
        let mut workspace = workspace(core).await;
        workspace.secret("pw-wrong-8d");
        let url = |password: &str, port: u16, sslmode: &str| {
            format!("postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}?sslmode={sslmode}")
        };
        let cases = [
            (url("pw-wrong-8d", port, "disable"), ["password authentication failed", "Check password and username"]),
            (url(SUPERUSER_PASSWORD, 1, "disable"), ["127.0.0.1:1", "refused"]),
            (
                url(SUPERUSER_PASSWORD, port, "require"),
                [
                    "does not support TLS",
                    "Set sslmode in the URL of the variable NEONREPL_PUBLISHER_URL to \"disable\"",
                ],
            ),
        ];
        for (url, says) in cases {
            workspace.env("NEONREPL_PUBLISHER_URL", &url);
            let failed = workspace.apply_error().await;
            check(&failed.flat(), &says);
            check(&failed.flat(), &["cannot connect", "on main.tf line 1"]);
        }
    }
}

#[tokio::test]
async fn functions_and_tables_of_addresses_need_no_server() {
    let config = r#"
        data "neonrepl_neon_nat_addresses" "neon" {
          region = "aws-us-east-2"
        }
        output "data" {
          value = data.neonrepl_neon_nat_addresses.neon.cidrs
        }
        output "function" {
          value = provider::neonrepl::neon_nat_cidrs("aws-us-east-2")
        }
    "#;
    for core in Core::installed() {
        let workspace = workspace(core).await;
        workspace.write("main.tf", config);
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        let outputs = &workspace.show_json().await["values"]["outputs"];
        let cidrs = outputs["function"]["value"].as_array().cloned().unwrap_or_default();
        assert!(
            cidrs.len() > 1 && cidrs.iter().all(|cidr| cidr.as_str().is_some_and(|cidr| cidr.ends_with("/32"))),
            "{outputs}"
        );
        assert_eq!(outputs["data"]["value"], outputs["function"]["value"]);
        workspace.write("main.tf", &config.replace("cidrs(\"aws-us-east-2\")", "cidrs(\"us-east-2\")"));
        let failed = workspace.plan().await;
        assert_eq!(failed.code, Some(1));
        check(&failed.flat(), &["us-east-2", "aws-us-east-2", "on main.tf line 9"]);
    }
}

/// Options of a connection string that the provider would ignore are refused by name, before anything connects.
#[tokio::test]
async fn keywords_work_or_are_refused_by_name() {
    for core in Core::installed() {
        let mut workspace = workspace(core).await;
        workspace.secret("hunter2-keywords");
        let refused = [
            ("?sslmod=verify-full", "sslmod is not a keyword of libpq (did you mean sslmode?)"),
            ("?require_auth=scram-sha-256", "require_auth cannot be used here. The provider cannot choose the method."),
            ("?sslmode=verify-ca", "sslmode = \"verify-ca\" needs sslrootcert"),
            ("?sslmode=require&sslrootcert=system", "sslrootcert = \"system\" needs sslmode = \"verify-full\""),
            ("?sslmode=disable&channel_binding=require", "channel_binding = require needs TLS"),
            ("?application_name=a@b", "write %2F for \"/\", %3F for \"?\" and %40 for \"@\""),
        ];
        for (query, says) in refused {
            let url = format!("    url = \"postgresql://u:hunter2-keywords@127.0.0.1:1/d{query}\"");
            // A core shows the line of a value in the configuration, so this password is not a secret.
            let text = refusal(&workspace, &publisher(&url).replace("hunter2-keywords", "x")).await;
            check(&text, &["on provider.tf line 3", says]);
        }
        workspace.write("provider.tf", "");
        for url in [
            "postgresql://u:/hunter2-keywords@127.0.0.1:1/d",
            "postgresql://u:?hunter2-keywords@127.0.0.1:1/d",
            "postgresql://u:a@b/hunter2-keywords@127.0.0.1:1/d",
            "host=127.0.0.1 user=u dbname=d password=a hunter2-keywords=b",
            "jdbc:postgresql://u:hunter2-keywords@127.0.0.1:1/d?sslmode=require",
        ] {
            workspace.env("NEONREPL_PUBLISHER_URL", url);
            let text = refusal(&workspace, "").await;
            check(&text, &["invalid connection string", "NEONREPL_PUBLISHER_URL"]);
        }
        let host = "    host = \"postgresql://u:x@127.0.0.1/d\"";
        check(&refusal(&workspace, &publisher(host)).await, &["publisher: host is a URL; give that as url"]);
    }
}

/// `channel_binding` of a URL takes effect, and needs TLS.
#[tokio::test]
async fn channel_binding_is_not_dropped() {
    for core in Core::installed() {
        let pair = Pair::new(Major::V18, Major::V15, "binding").await;
        let mut workspace = workspace(core).await;
        let url = pair.publisher.url().replace("sslmode=disable", "sslmode=prefer&channel_binding=require");
        workspace.env("NEONREPL_PUBLISHER_URL", &url);
        let failed = workspace.apply_error().await;
        check(&failed.flat(), &["did not use channel binding", "channel_binding = require needs TLS"]);
        workspace.env(
            "NEONREPL_PUBLISHER_URL",
            &url.replace("=require", "=prefer").replace("prefer&", "prefer&connect_timeout=0&"),
        );
        workspace.apply().await;
        workspace.destroy().await;
    }
}

const OFFLINE: &str = "name = \"shop\"\n  publications = [\"shop\"]\n  connect = false\n  enabled = false\n  create_slot = false\n  copy_data = false";

/// The options that a subscription may have in addition to its attributes: libpq's keywords, except secret ones.
#[tokio::test]
async fn options_of_a_subscription_hold_no_secret() {
    for core in Core::installed() {
        let workspace = workspace(core).await;
        for (option, says) in [
            ("sslpassword", "sslpassword cannot be given here. Give sslkey a key that is not encrypted."),
            (
                "passfile",
                "passfile cannot be given here. It holds a secret, or leads to one. Give the password in password_wo",
            ),
            ("service", "service cannot be given here."),
            (
                "oauth_client_secret",
                "oauth_client_secret cannot be given here. A subscription's worker cannot log in that way.",
            ),
            (
                "sslmod",
                "sslmod is not a keyword of libpq (did you mean sslmode?). A subscription takes keywords of libpq only.",
            ),
            ("user", "user has its own attribute in this block. Use username."),
        ] {
            workspace.write(
                "main.tf",
                &format!(
                    "resource \"neonrepl_subscription\" \"shop\" {{\n  {OFFLINE}\n  publisher {{\n    host = \"h\"\n    \
                     options = {{ {option} = \"x\" }}\n  }}\n}}\n"
                ),
            );
            let refused = workspace.expect(&["validate", "-no-color"], 1).await.flat();
            check(&refused, &[says, "publisher.options"]);
        }
    }
}

/// If the subscriber cannot verify what the provider verifies, the plan says so; if it can, its connection does.
#[tokio::test]
async fn a_weaker_connection_of_the_subscriber_is_said() {
    for (core, old) in Core::installed().into_iter().flat_map(|core| [(core, true), (core, false)]) {
        let pair = Pair::new(Major::V18, if old { Major::V15 } else { Major::V18 }, "weaker").await;
        let mut workspace = workspace(core).await;
        workspace.secret("hunter2-weaker");
        let publisher = "postgresql://u:hunter2-weaker@127.0.0.1:1/d?channel_binding=require&sslmode=verify-full";
        workspace.env("NEONREPL_PUBLISHER_URL", publisher).env("NEONREPL_SUBSCRIBER_URL", &pair.subscriber.url());
        let body = |block: &str| format!("resource \"neonrepl_subscription\" \"shop\" {{\n  {OFFLINE}\n{block}}}\n");
        let said = "verifies less of the publisher than the provider does";
        workspace.write("main.tf", &body(""));
        let planned = workspace.plan().await;
        assert_eq!((planned.code, planned.flat().contains(said)), (Some(2), old), "{}", planned.text());
        workspace.apply().await;
        let sent =
            pair.subscriber.value::<String>("SELECT subconninfo FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = current_database()").await;
        let expected = if old { "sslmode=require" } else { "sslmode=verify-full sslrootcert=system" };
        assert!(sent.contains(expected) && sent.contains("channel_binding=require"), "{expected}");
        assert_eq!(sent.contains("sslrootcert"), !old);
        workspace.expect_empty_plan().await;
        // An explicit choice gives no warning.
        workspace.write("main.tf", &body("  publisher {\n    sslmode = \"require\"\n  }\n"));
        let meant = workspace.apply().await;
        assert!(!meant.flat().contains(said), "{}", meant.text());
        workspace.write("main.tf", &body("  publisher {\n    options = { require_auth = \"scram-sha-256\" }\n  }\n"));
        let newer = workspace.plan().await;
        assert_eq!(newer.flat().contains("require_auth needs Postgres 16 or newer on the subscriber"), old);
        pair.subscriber.sql("ALTER SUBSCRIPTION shop SET (slot_name = NONE); DROP SUBSCRIPTION shop").await;
    }
}
