//! The plugin's entry point.

use std::process::ExitCode;

use neonrepl::tf_provider::plugin::{self, Plugin};
use tonic::service::Routes;

const PLUGIN: Plugin = Plugin {
    name: "terraform-provider-neonrepl",
    version: env!("CARGO_PKG_VERSION"),
    address: "neonrepl/neonrepl",
};

fn main() -> ExitCode {
    plugin::main(&PLUGIN, |_lifecycle| Routes::default())
}
