// SPDX-License-Identifier: MPL-2.0

//! IAM database authentication through real cores: a real Postgres behind a front that requires tokens like RDS.

use serde_json::Value;

use crate::common::cli::{Core, Workspace};
use crate::common::iam::{Front, Keys};
use crate::common::postgres::{Database, Major, Role, Server, Settings};
use crate::common::wait::wait_until;
use crate::replication::DEADLINE;

const KEYS: Keys =
    Keys { access_key: "AKIAIOSFODNN7EXAMPLE", secret_key: "sk/acceptance+Jx4e/Rds", region: "us-east-2" };

/// The session token of temporary credentials.
const SESSION_TOKEN: &str = "st/acceptance+7Tq9";

/// The role that only logs in with tokens is trusted, because only the front lets it through.
const HBA: &str = "host all app 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// A database, and the front of its server.
struct Rds {
    _server: Server,
    front: Front,
    database: Database,
    replicator: Role,
}

impl Rds {
    async fn start() -> Self {
        let mut server = Server::start(Major::V17, Settings::new());
        let database = server.database("iam").await;
        server.create_role(&Role { name: "app".to_owned(), password: "never used".to_owned() }, "SUPERUSER").await;
        let replicator = server.role("replicator", "REPLICATION").await;
        database.sql("CREATE TABLE orders (id int PRIMARY KEY)").await;
        database.sql(&format!("GRANT SELECT ON orders TO {}", replicator.name)).await;
        server.write("pg_hba.conf", HBA);
        server.reload(Settings::new());
        let front = Front::start(server.port(), KEYS).await;
        Self { _server: server, front, database, replicator }
    }

    /// A workspace whose provider logs in through the front; with these further lines in its publisher block.
    async fn workspace(&self, core: Core, secret_key: &str, publisher: &str) -> Workspace {
        let mut workspace = Workspace::new(core);
        workspace.secret(KEYS.secret_key).secret(SESSION_TOKEN).secret("X-Amz-Signature");
        workspace.env("AWS_SESSION_TOKEN", SESSION_TOKEN);
        workspace.env("AWS_ACCESS_KEY_ID", KEYS.access_key).env("AWS_SECRET_ACCESS_KEY", secret_key);
        workspace.env("TF_LOG_PROVIDER", "TRACE");
        let text = format!(
            "provider \"neonrepl\" {{
  publisher {{
    host         = \"127.0.0.1\"
    port         = {}
    database     = \"{}\"
    username     = \"app\"
    aws_iam_auth = true
{publisher}
  }}
  aws {{
    region = \"{}\"
  }}
}}
",
            self.front.port, self.database.name, KEYS.region
        );
        workspace.write("provider.tf", &text);
        workspace.write("main.tf", PUBLICATION);
        workspace.init().await;
        workspace
    }
}

const PUBLICATION: &str =
    "resource \"neonrepl_publication\" \"shop\" {\n  name   = \"shop\"\n  tables = [\"orders\"]\n}\n";

#[tokio::test]
async fn a_token_is_the_password() {
    let rds = Rds::start().await;
    for core in Core::installed() {
        let workspace = rds.workspace(core, KEYS.secret_key, "").await;
        workspace.apply().await;
        assert_eq!(rds.database.rows("SELECT pubname FROM pg_publication").await, ["shop"]);
        workspace.expect_empty_plan().await;
        assert!(rds.front.taken().len() >= 2, "each run has a token of its own");
        workspace.destroy().await;
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_says_what_rds_looks_at() {
    let rds = Rds::start().await;
    let workspace = rds.workspace(Core::OpenTofu, "another secret key", "").await;
    let failed = workspace.apply_error().await.flat();
    assert!(failed.contains("PAM authentication failed for user \"app\" (28000)"), "{failed}");
    assert!(failed.contains("GRANT rds_iam TO \"app\";"), "{failed}");
    assert!(rds.front.taken().is_empty());
}

#[tokio::test]
async fn what_a_token_cannot_go_with_is_refused_at_its_attribute() {
    let rds = Rds::start().await;
    for (line, says) in [
        (
            "    sslmode = \"prefer\"",
            "publisher: aws_iam_auth needs TLS, and sslmode = \"prefer\" allows a connection without it",
        ),
        ("    password = \"hunter2\"", "publisher: a password and aws_iam_auth exclude each other"),
    ] {
        let workspace = rds.workspace(Core::OpenTofu, KEYS.secret_key, line).await;
        let refused = workspace.expect(&["validate", "-no-color"], 1).await.flat();
        assert!(refused.contains(says) && refused.contains("on provider.tf line 8"), "{refused}");
    }
    let workspace = rds.workspace(Core::OpenTofu, KEYS.secret_key, "").await;
    let provider = std::fs::read_to_string(workspace.path().join("provider.tf")).unwrap();
    workspace.write("provider.tf", &provider.replace("region", "# region"));
    let refused = workspace.apply_error().await.flat();
    assert!(refused.contains("making an RDS IAM token for \"app\" on 127.0.0.1"), "{refused}");
    assert!(refused.contains("Set region in the aws block"), "{refused}");
}

#[tokio::test]
async fn a_subscription_needs_a_login_that_lasts() {
    let rds = Rds::start().await;
    let subscriber = Server::start(Major::V17, Settings::new());
    let to = subscriber.database("iam_to").await;
    to.sql("CREATE TABLE orders (id int PRIMARY KEY)").await;
    let mut workspace = rds.workspace(Core::Terraform, KEYS.secret_key, "").await;
    workspace.env("NEONREPL_SUBSCRIBER_URL", &to.url()).secret(&rds.replicator.password);
    workspace.env("TF_VAR_password", &rds.replicator.password);
    let subscription = |publisher: &str| {
        format!(
            "variable \"password\" {{\n  sensitive = true\n  ephemeral = true\n}}\n\n{PUBLICATION}\nresource \"neonrepl_subscription\" \"shop\" \
             {{\n  name = \"shop\"\n  publications = [neonrepl_publication.shop.name]\n  publisher {{\n    \
             port = {}\n    sslmode = \"disable\"\n{publisher}  }}\n}}\n",
            rds.database.port
        )
    };
    workspace.write("main.tf", &subscription(""));
    let refused = workspace.plan().await;
    assert_eq!(refused.code, Some(1), "{}", refused.text());
    assert!(refused.flat().contains("the provider's publisher block uses aws_iam_auth"), "{}", refused.text());
    assert!(refused.flat().contains("give username and password"), "{}", refused.text());

    let login = format!("    username = \"{}\"\n    password_wo = var.password\n", rds.replicator.name);
    workspace.write("main.tf", &subscription(&login));
    workspace.apply().await;
    rds.database.sql("INSERT INTO orders VALUES (1)").await;
    wait_until("the row to arrive", DEADLINE, async || to.rows("SELECT id FROM orders").await == ["1"]).await;
    workspace.expect_empty_plan().await;
    let state: Value = workspace.attributes("neonrepl_subscription.shop").await;
    assert_eq!(state["publisher"]["username"], rds.replicator.name.as_str());
    workspace.destroy().await;
    assert_eq!(rds.database.rows("SELECT slot_name FROM pg_replication_slots").await, [""; 0]);
}

#[tokio::test]
async fn an_ephemeral_token_is_the_password_of_another_configuration() {
    let rds = Rds::start().await;
    for core in Core::installed() {
        let workspace = rds.workspace(core, KEYS.secret_key, "").await;
        let Keys { region, .. } = KEYS;
        let (port, database) = (rds.front.port, &rds.database.name);
        let provider = format!(
            "provider \"neonrepl\" {{
  aws {{
    region = \"{region}\"
  }}
}}

ephemeral \"neonrepl_rds_auth_token\" \"app\" {{
  host     = \"127.0.0.1\"
  port     = {port}
  username = \"app\"
}}

provider \"neonrepl\" {{
  alias = \"shop\"
  publisher {{
    host     = \"127.0.0.1\"
    port     = {port}
    database = \"{database}\"
    username = \"app\"
    password = ephemeral.neonrepl_rds_auth_token.app.token
    sslmode  = \"require\"
  }}
}}
"
        );
        workspace.write("provider.tf", &provider);
        workspace.write("main.tf", &PUBLICATION.replace("\n}", "\n  provider = neonrepl.shop\n}"));
        let before = rds.front.taken().len();
        workspace.apply().await;
        workspace.expect_empty_plan().await;
        assert!(rds.front.taken().len() > before, "no token was used");
        workspace.destroy().await;
    }
}
