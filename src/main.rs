//! The plugin's entry point.

use std::process::ExitCode;

use neonrepl::provider::NeonRepl;
use neonrepl::tf_provider::plugin::{self, Plugin};
use neonrepl::tf_provider::server;

const PLUGIN: Plugin =
    Plugin { name: "terraform-provider-neonrepl", version: env!("CARGO_PKG_VERSION"), address: "neonrepl/neonrepl" };

fn main() -> ExitCode {
    plugin::main(&PLUGIN, server::routes::<NeonRepl>)
}
