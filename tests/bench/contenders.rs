// SPDX-License-Identifier: MPL-2.0

//! The contenders: our publications, their floor, and another provider's.

use std::env;
use std::path::PathBuf;

use super::common::cli::{Core, Workspace};
use super::common::postgres::{Database, Role};

/// Publications of two tables.
pub(super) fn publications(core: Core, database: &Database, port: u16, count: usize) -> Workspace {
    let workspace = Workspace::new(core);
    let url = database.url_through(&Role::superuser(), port);
    let text = format!(
        r#"
provider "neonrepl" {{
  publisher {{
    url = "{url}"
  }}
}}

resource "neonrepl_publication" "p" {{
  count  = {count}
  name   = "p${{count.index}}"
  tables = ["public.a${{count.index}}", "public.b${{count.index}}"]
}}
"#
    );
    workspace.write("main.tf", &text);
    workspace
}

/// As many resources of the core's own, which no provider's process serves.
pub(super) fn terraform_data(core: Core, count: usize) -> Workspace {
    let workspace = Workspace::new(core);
    let text = format!(
        r#"
resource "terraform_data" "p" {{
  count = {count}
  input = {{
    name   = "p${{count.index}}"
    tables = ["public.a${{count.index}}", "public.b${{count.index}}"]
  }}
}}
"#
    );
    workspace.write("versions.tf", "");
    workspace.write("main.tf", &text);
    workspace
}

/// The same publications by cyrilgdn/postgresql, if `BENCH_PEER` names its binary.
pub(super) fn peer(core: Core, database: &Database, port: u16, count: usize) -> Option<Workspace> {
    let binary = PathBuf::from(env::var_os("BENCH_PEER")?);
    let workspace = Workspace::new(core);
    workspace.install("cyrilgdn/postgresql", "0.0.1", &binary);
    let (Role { name: user, password }, database) = (Role::superuser(), &database.name);
    let text = format!(
        r#"
terraform {{
  required_providers {{
    postgresql = {{
      source = "cyrilgdn/postgresql"
    }}
  }}
}}

provider "postgresql" {{
  host     = "127.0.0.1"
  port     = {port}
  database = "{database}"
  username = "{user}"
  password = "{password}"
  sslmode  = "disable"
}}

resource "postgresql_publication" "p" {{
  count  = {count}
  name   = "p${{count.index}}"
  tables = ["public.a${{count.index}}", "public.b${{count.index}}"]
}}
"#
    );
    workspace.write("versions.tf", "");
    workspace.write("main.tf", &text);
    Some(workspace)
}
