// SPDX-License-Identifier: MPL-2.0

//! The release binary without anything else: no C library, no shell, no configuration of the machine.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use crate::common::postgres::{self, Database, Major};
use crate::common::tools::{self, checkout};
use crate::replication::DEADLINE;

/// The program header that names the loader of dynamic dependencies, `PT_INTERP` in the ELF specification.
const INTERPRETER: u32 = 3;

/// Whether the program needs a loader. 64-bit ELF: headers begin at `e_phoff`, and there are `e_phnum` of them.
fn has_interpreter(binary: &[u8]) -> bool {
    let number = |at: usize, length: usize| {
        binary[at..at + length].iter().rev().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
    };
    let (first, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|header| number(first + header * size, 4) == INTERPRETER as usize)
}

/// Makes a directory tree with the binary, and the machine's files that control name lookups.
fn tree(root: &Path, binary: &[u8], hosts: &str, services: &str) {
    fs::create_dir(root.join("etc")).expect("a directory");
    fs::write(root.join("etc/hosts"), hosts).expect("a file");
    fs::write(root.join("etc/nsswitch.conf"), services).expect("a file");
    fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n").expect("a file");
    fs::write(root.join("provider"), binary).expect("the binary");
    fs::set_permissions(root.join("provider"), fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// The network of a run.
enum Network {
    /// The network of the machine.
    Shared,
    /// A network of its own, where a DNS server knows every name, and nothing else listens.
    Dns,
}

/// Runs the binary with only the tree, and returns the exit status and the output.
async fn run(root: &Path, network: &Network, arguments: &[&str]) -> (Option<i32>, String) {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let dns = checkout().join("tests/acceptance/dns.py").display().to_string();
    let mut command = vec!["unshare"];
    command.extend((!is_root).then_some("--map-root-user"));
    if let Network::Dns = network {
        command.extend(["--net", "python3", &dns]);
    }
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).arg("chroot").arg(root).arg("/provider").args(arguments).env_clear();
    process.env("PATH", env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(DEADLINE, process.output()).await.expect("a command that ends").expect("running chroot");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).expect("text"))
}

/// The same sources give the same bytes elsewhere only if the binary contains no path of the machine.
fn names_no_place(binary: &[u8]) {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    let cargo = variable("CARGO_HOME").or_else(|| Some(variable("HOME")?.join(".cargo")));
    let text = String::from_utf8_lossy(binary);
    for place in [Some(checkout().to_owned()), variable("CARGO_TARGET_DIR"), cargo].into_iter().flatten() {
        let is_named = place.is_absolute() && text.contains(&format!("{}/", place.display()));
        assert!(!is_named, "the binary names {}: `make build` gives such paths other names", place.display());
    }
}

fn url_of(database: &Database, host: &str) -> String {
    database.url().replacen("127.0.0.1", host, 1)
}

#[tokio::test]
async fn the_binary_needs_nothing_of_the_machine() {
    let binary = fs::read(tools::provider()).expect("the provider");
    if has_interpreter(&binary) && env::var_os("CI").is_none() {
        println!("left out: this is no build of `make build`");
        return;
    }
    assert!(!has_interpreter(&binary), "the binary asks for a loader: `make build` makes one that does not");
    names_no_place(&binary);
    let root = tempfile::tempdir().expect("a directory");
    // A service that is missing here but asked anyway: the machine's own preference must not matter.
    tree(root.path(), &binary, "127.0.0.1 source.example\n", "hosts: dns\npasswd: sss\n");
    let (status, said) = run(root.path(), &Network::Shared, &["-version"]).await;
    assert!(status == Some(0) && said.starts_with("terraform-provider-neonrepl "), "{said}");
    let database = postgres::shared(Major::V17).database("alone").await;
    // In the machine's files; in neither; and, where there is a DNS server but no Postgres, by DNS alone.
    for (host, network, expected) in [
        ("source.example", Network::Shared, "There is no subscription."),
        ("nowhere.example", Network::Shared, "this host name has no address"),
        ("dns.example", Network::Dns, "the connection was refused"),
    ] {
        let url = url_of(&database, host);
        let arguments = ["status", "--publisher-url", &url, "--subscriber-url", &url];
        let (status, said) = run(root.path(), &network, &arguments).await;
        assert!(said.contains(expected), "{host}: {status:?} {said}");
    }
}
