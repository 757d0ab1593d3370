//! One publication of very many tables: made, read, and given one table more.

use std::time::{Duration, Instant};

use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Role};
use super::cycle::{Step, median};
use super::goals::Goals;
use super::statements;

const PLAN: [&str; 3] = ["plan", "-no-color", "-detailed-exitcode"];
const APPLY: [&str; 3] = ["apply", "-no-color", "-auto-approve"];
const DESTROY: [&str; 3] = ["destroy", "-no-color", "-auto-approve"];

/// Ten thousand tables take a core six minutes a command, most of them with nothing to do for a provider.
const DEADLINE: Duration = Duration::from_secs(3600);

const NAMES: [&str; 3] = ["apply", "plan again", "add a table"];

/// Measures with one core, prints a line for each step and adds the promises.
pub(super) async fn compare(core: Core, database: &Database, tables: usize, repeats: usize, goals: &mut Goals) {
    let workspace = || Workspace::new(core).within(DEADLINE);
    let ours = Life { workspace: workspace(), text: publication(database), tables };
    let floor = Life { workspace: workspace(), text: TERRAFORM_DATA.to_owned(), tables };
    let mut runs: [Vec<[f64; 3]>; 3] = Default::default();
    for life in [&ours, &floor] {
        life.workspace.write("main.tf", &life.text);
        life.workspace.write("tables.tf", TABLES);
        life.publish(tables);
        life.workspace.init().await;
    }
    for _ in 0..repeats {
        runs[0].push(alone(database, tables).await);
        runs[1].push(floor.run().await);
        runs[2].push(ours.run().await);
    }
    let [alone, floor, ours] = runs.map(|runs| [0, 1, 2].map(|at| median(runs.iter().map(|run| run[at]).collect())));
    for (at, name) in NAMES.into_iter().enumerate() {
        let [alone, floor, ours] = [alone[at], floor[at], ours[at]];
        println!("| {tables} tables | {name} | {alone:.2} | {floor:.2} | {ours:.2} |");
        let what = format!("one publication of {tables} tables: {name}, twice the statements and the floor");
        goals.at_most(&what, ours, 2.0 * alone + floor, "s");
    }
}

/// The statements alone, connecting for each step as a process of its own would.
async fn alone(database: &Database, tables: usize) -> [f64; 3] {
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
    async fn run(&self) -> [f64; 3] {
        self.publish(self.tables);
        let apply = Step::run(&self.workspace, &APPLY, 0).await;
        let plan = Step::run(&self.workspace, &PLAN, 0).await;
        self.publish(self.tables + 1);
        let add = Step::run(&self.workspace, &APPLY, 0).await;
        self.workspace.expect(&DESTROY, 0).await;
        [apply.seconds, plan.seconds, add.seconds]
    }

    fn publish(&self, tables: usize) {
        self.workspace.write("terraform.tfvars", &format!("tables = {tables}\n"));
    }
}

/// A list of names, in pieces that `range` makes.
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

/// The core alone with the same list, and with a plugin that it starts for next to nothing: what belongs to any plugin is no
/// part of what a publication costs.
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
