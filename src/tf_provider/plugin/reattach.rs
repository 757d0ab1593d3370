// SPDX-License-Identifier: MPL-2.0

//! Attaching Terraform and OpenTofu to a process that a user started, in a debugger perhaps.

use serde_json::json;

use super::Plugin;
use super::handshake::{Endpoint, PROTOCOL};

/// The registries that a configuration may mean when it names the provider without a host: Terraform's, OpenTofu's.
const HOSTS: [&str; 2] = ["registry.terraform.io", "registry.opentofu.org"];

/// What to do to attach to the plugin at `endpoint`.
pub(super) fn instructions(plugin: &Plugin, endpoint: &Endpoint) -> String {
    let value = variable(plugin, endpoint, std::process::id());
    format!(
        "{} is listening. To use it, run this where Terraform or OpenTofu will run:\n\n\
         export TF_REATTACH_PROVIDERS='{value}'\n\n\
         Interrupt this process to end it.\n",
        plugin.name,
    )
}

/// The value of TF_REATTACH_PROVIDERS, for both programs at once.
fn variable(plugin: &Plugin, endpoint: &Endpoint, pid: u32) -> serde_json::Value {
    let process = json!({
        "Protocol": "grpc",
        "ProtocolVersion": PROTOCOL,
        "Pid": pid,
        "Test": true, // the process is not the parent's to end
        "Addr": { "Network": endpoint.network, "String": endpoint.address },
    });
    let entry = |host| (format!("{host}/{}", plugin.address), process.clone());
    serde_json::Map::from_iter(HOSTS.map(entry)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_programs_find_their_address() {
        let plugin = Plugin {
            name: "terraform-provider-spike",
            version: "0.1.0",
            commit: None,
            address: "acme/spike",
            by_hand: "",
        };
        let endpoint = Endpoint { network: "unix", address: "/tmp/s".to_owned() };
        let process = json!({
            "Protocol": "grpc", "ProtocolVersion": 5, "Pid": 7, "Test": true,
            "Addr": { "Network": "unix", "String": "/tmp/s" },
        });
        let expected = json!({
            "registry.terraform.io/acme/spike": process,
            "registry.opentofu.org/acme/spike": process,
        });
        assert_eq!(variable(&plugin, &endpoint, 7), expected);
    }
}
