// SPDX-License-Identifier: MPL-2.0

//! The entry point: the plugin's, and that of the commands for a person at a terminal.

use std::process::ExitCode;

use neonrepl::cli;
use neonrepl::provider::NeonRepl;
use neonrepl::tf_provider::plugin::{self, Plugin};
use neonrepl::tf_provider::server;

const PLUGIN: Plugin = Plugin {
    name: "terraform-provider-neonrepl",
    version: env!("CARGO_PKG_VERSION"),
    commit: option_env!("NEONREPL_COMMIT"),
    address: "neonrepl/neonrepl",
    by_hand: cli::USAGE,
};

fn main() -> ExitCode {
    if cli::is_meant(std::env::args_os().nth(1).as_ref()) {
        return cli::main();
    }
    plugin::main(&PLUGIN, server::routes::<NeonRepl>)
}
