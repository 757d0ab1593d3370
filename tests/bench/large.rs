// SPDX-License-Identifier: MPL-2.0

//! One publication of very many tables: created, read, and extended by one table.

use std::time::{Duration, Instant};

use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Role};
use super::cycle::{Step, median};
use super::goals::Goals;
use super::statements;

const PLAN: [&str; 3] = ["plan", "-no-color", "-detailed-exitcode"];
const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];
const DESTROY: [&str; 3] = ["destroy", "-no-color", "-auto-approve"];

/// Ten thousand tables take a core six minutes for each command, most of it without the provider.
const DEADLINE: Duration = Duration::from_secs(3600);

/// A core compares each table of a set with each of the other, twice in an apply. That is nearly all of the floor, and
/// differs by a tenth between runs of the same configuration: more than a provider's whole work for it.
const SPREAD: f64 = 1.2;

const NAMES: [&str; 3] = ["apply", "plan again", "add a table"];

/// Measures with one core, prints a line for each step and adds the promises.
pub(super) async fn compare(core: Core, database: &Database, tables: usize, repeats: usize, goals: &mut Goals) {
    let workspace = || Workspace::new(core).within(DEADLINE);
    let ours = Life { workspace: workspace(), text: publication(database), tables };
    let floor = Life { workspace: workspace(), text: TERRAFORM_DATA.to_owned(), tables };
    let (mut alone, mut floors, mut lives) = (Vec::new(), Vec::new(), Vec::new());
    for life in [&ours, &floor] {
        life.workspace.write("main.tf", &life.text);
        life.workspace.write("tables.tf", TABLES);
        life.publish(tables);
        life.workspace.init().await;
    }
    for _ in 0..repeats {
        alone.push(statements_alone(database, tables).await);
        floors.push(floor.run().await);
        lives.push(ours.run().await);
    }
    for (at, name) in NAMES.into_iter().enumerate() {
        let step = |lives: &[[Step; 3]]| Step::median(&lives.iter().map(|life| life[at]).collect::<Vec<_>>());
        let (floor, ours) = (step(&floors), step(&lives));
        let alone = median(alone.iter().map(|run| run[at]).collect());
        println!("| {tables} tables | {name} | {alone:.2} | {:.2} | {:.2} |", floor.seconds, ours.seconds);
        let title = format!("one publication of {tables} tables: {name}");
        let limit = 2.0 * alone + SPREAD * floor.seconds;
        goals.at_most(&format!("{title}, twice the statements and 1.2 floors"), ours.seconds, limit, "s");
        let limit = ours.usage.core / 10.0;
        goals.at_most(&format!("{title}, a tenth of the core's processor time"), ours.usage.provider, limit, "s");
    }
}

/// The statements alone, with a new connection for each step, like separate processes.
async fn statements_alone(database: &Database, tables: usize) -> [f64; 3] {
    let list = (0..tables).map(|number| format!("ONLY public.a{number}")).collect::<Vec<_>>().join(", ");
    let create = timed(database, &format!("CREATE PUBLICATION large FOR TABLE {list}")).await;
    let read = timed(database, statements::READ).await;
    let add = timed(database, &format!("ALTER PUBLICATION large ADD TABLE ONLY public.a{tables}")).await;
    database.sql("DROP PUBLICATION large").await;
    [create, read, add]
}

async fn timed(database: &Database, statement: &str) -> f64 {
    let started = Instant::now();
    let client = statements::connect(database, database.port).await;
    client.simple_query(statement).await.expect("a statement");
    started.elapsed().as_secs_f64()
}

struct Life {
    workspace: Workspace,
    text: String,
    tables: usize,
}

impl Life {
    async fn run(&self) -> [Step; 3] {
        self.publish(self.tables);
        let apply = Step::run(&self.workspace, &APPLY, 0).await;
        let plan = Step::run(&self.workspace, &PLAN, 0).await;
        self.publish(self.tables + 1);
        let add = Step::run(&self.workspace, &APPLY, 0).await;
        self.workspace.expect(&DESTROY, 0).await;
        [apply, plan, add]
    }

    fn publish(&self, tables: usize) {
        self.workspace.write("terraform.tfvars", &format!("tables = {tables}\n"));
    }
}

/// A list of names, in pieces from `range`.
const TABLES: &str = r#"
variable "tables" {
  type = number
}

locals {
  tables = flatten([
    for piece in range(ceil(var.tables / 1000)) : [
      for number in range(piece * 1000, min(piece * 1000 + 1000, var.tables)) : "public.a${number}"
    ]
  ])
}
"#;

/// The core alone with the same list, and with a plugin that does almost nothing: the cost of any plugin is not part of
/// the cost of a publication.
const TERRAFORM_DATA: &str = r#"
resource "terraform_data" "large" {
  input = toset(local.tables)
}

data "neonrepl_neon_nat_addresses" "idle" {
  region = "aws-us-east-2"
}
"#;

fn publication(database: &Database) -> String {
    let url = database.url_as(&Role::superuser());
    format!(
        r#"
provider "neonrepl" {{
  publisher {{
    url = "{url}"
  }}
}}

resource "neonrepl_publication" "large" {{
  name   = "large"
  tables = local.tables
}}
"#
    )
}
