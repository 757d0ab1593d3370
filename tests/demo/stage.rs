// SPDX-License-Identifier: MPL-2.0

//! The servers, and the working directory of the core: everything that must exist before the story begins.

use std::fs;

use serde_json::json;

use super::Failure;
use super::common::aurora::{ClusterConfig, PostgresServers, REGION, StandIn, StandInConfig};
use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Major, Role, SUPERUSER, Server, Settings};
use super::common::tools;
use super::screen::{say, step};

/// The Aurora cluster, and the database in it.
pub(super) const CLUSTER: &str = "shop";
/// The cluster's writer.
pub(super) const WRITER: &str = "shop-1";
/// The applied example.
const EXAMPLE: &str = "examples/aurora-to-neon";
/// The server in the role of Aurora, and the version that it reports.
const AURORA: (Major, &str) = (Major::V16, "16.4");
/// The server in the role of Neon.
const NEON: Major = Major::V18;
/// The database on Neon.
const NEON_DATABASE: &str = "neondb";

/// Everything that runs. Dropping it ends all of it.
pub(super) struct Stage {
    /// The core, in a copy of the example.
    pub workspace: Workspace,
    /// The RDS API.
    pub aws: StandIn,
    /// The database on the writer of the Aurora cluster.
    pub source: Database,
    /// The database on Neon.
    pub destination: Database,
    /// The role on Neon that owns it. As on Neon, it is not a superuser.
    pub owner: Role,
    neon: Server,
}

impl Stage {
    /// Starts the servers and copies the example.
    pub(super) async fn set(core: Core) -> Result<Self, Failure> {
        let aws = start_aurora().await;
        aws.database(WRITER, SUPERUSER).sql(&format!("CREATE DATABASE {CLUSTER}")).await;
        let source = aws.database(WRITER, CLUSTER);

        step(&format!("Start \"Neon\": a Postgres {} with an empty database {NEON_DATABASE}", NEON.number()));
        let neon = Server::start(NEON, Settings::new());
        say(&format!("It listens on 127.0.0.1:{}.", neon.port()));
        let owner = Role { name: "neondb_owner".to_owned(), password: "pw-neondb-owner-h4Tz".to_owned() };
        let destination = create_database(&neon, &owner).await;

        let workspace = prepare(core, &aws, &source, &destination, &owner)?;
        Ok(Self { workspace, aws, source, destination, owner, neon })
    }

    /// What each server has logged, by its name here.
    pub(super) fn logs(&self) -> Vec<(&'static str, String)> {
        vec![("Aurora's writer", self.aws.log(WRITER)), ("Neon", self.neon.log())]
    }
}

async fn start_aurora() -> StandIn {
    let major = AURORA.0.number();
    step(&format!("Start \"Aurora\": DB cluster {CLUSTER} with a writer and a reader, each a Postgres {major}"));
    let cluster = ClusterConfig::new(CLUSTER, AURORA.1).readers(1);
    let aws = StandIn::start(StandInConfig::new(PostgresServers(AURORA.0), vec![cluster])).await;
    let (host, port) = aws.address(WRITER);
    say(&format!("The writer, {WRITER}, listens on {host}:{port}. The RDS API is {}.", aws.endpoint_url));
    aws
}

/// A database like Neon's: its owner may subscribe and replicate, but is not a superuser.
async fn create_database(neon: &Server, owner: &Role) -> Database {
    neon.create_role(owner, "REPLICATION IN ROLE pg_create_subscription").await;
    let postgres = neon.open(SUPERUSER);
    postgres.sql(&format!("CREATE DATABASE {NEON_DATABASE} OWNER {}", owner.name)).await;
    neon.open(NEON_DATABASE)
}

/// A working directory with a copy of the example and the variables that lead it to these servers.
fn prepare(
    core: Core,
    aws: &StandIn,
    source: &Database,
    destination: &Database,
    owner: &Role,
) -> Result<Workspace, Failure> {
    let mut workspace = Workspace::new(core);
    let example = tools::checkout().join(EXAMPLE);
    let failed = |error| format!("reading {}: {error}", example.display());
    for file in fs::read_dir(&example).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        workspace.write(&name, &fs::read_to_string(&path).map_err(failed)?);
    }
    let master = Role::superuser();
    let variables = json!({
        "cluster_identifier": CLUSTER,
        "publisher_host": "127.0.0.1",
        "publisher_port": source.port,
        "publisher_database": source.name,
        "publisher_username": master.name,
        "publisher_password": master.password,
        "subscriber_host": "127.0.0.1",
        "subscriber_port": destination.port,
        "subscriber_database": destination.name,
        "subscriber_username": owner.name,
        "subscriber_password": owner.password,
        "aws_region": REGION,
        "aws_endpoint_url": aws.endpoint_url,
        "aws_access_key": "demo",
        "aws_secret_key": "sk-of-the-demo-9wQe",
    });
    workspace.write("terraform.tfvars.json", &format!("{variables:#}\n"));
    workspace.secret(&master.password).secret(&owner.password).secret("sk-of-the-demo-9wQe");
    workspace.env("NEONREPL_AWS_POLL_INTERVAL", "200ms");
    Ok(workspace)
}
