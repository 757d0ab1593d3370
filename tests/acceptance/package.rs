// SPDX-License-Identifier: MPL-2.0

//! The packages from `make dist`, in the form of both registries, installed by both cores.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::common::cli::{Core, Workspace, platform};
use crate::common::tools::{self, checkout};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs one of the script's commands with its own directory, and any file as the binary.
async fn pack(command: &str, out: &Path, (binary, target): (&Path, &str)) {
    let mut script = Command::new("python3");
    script.arg(checkout().join(".dist/package.py")).arg(command);
    script.env("OUT", out).env("BINARY", binary).env("TARGET", target);
    let output = script.output().await.expect("running Python");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

fn package(out: &Path, platform: &str) -> PathBuf {
    out.join(format!("terraform-provider-neonrepl_{VERSION}_{platform}.zip"))
}

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("reading a directory").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn both_cores_install_the_package() {
    let out = tempfile::tempdir().expect("a directory");
    pack("zip", out.path(), (&tools::provider(), "")).await;
    let package = package(out.path(), &platform());
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        let mirror = workspace.path().join("packed");
        for host in ["registry.terraform.io", "registry.opentofu.org"] {
            let directory = mirror.join(host).join("neonrepl/neonrepl");
            fs::create_dir_all(&directory).expect("a directory");
            fs::copy(&package, directory.join(package.file_name().expect("a name"))).expect("a copy");
        }
        let configuration =
            format!("provider_installation {{\n  filesystem_mirror {{\n    path = {mirror:?}\n  }}\n}}\n");
        workspace.write("../cli.tfrc", &configuration);
        workspace.init().await;
        workspace.write(
            "main.tf",
            "output \"cidrs\" {\n  value = provider::neonrepl::neon_nat_cidrs(\"aws-us-east-2\")\n}\n",
        );
        let planned = workspace.expect(&["plan", "-no-color", "-detailed-exitcode"], 2).await;
        assert!(planned.flat().contains("/32"), "{}", planned.text());
    }
}

#[tokio::test]
async fn a_release_names_every_platform_and_is_the_same_each_time() {
    let (out, again) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let targets = [
        ("x86_64-unknown-linux-gnu", "linux_amd64"),
        ("aarch64-unknown-linux-gnu", "linux_arm64"),
        ("x86_64-apple-darwin", "darwin_amd64"),
        ("aarch64-apple-darwin", "darwin_arm64"),
        ("x86_64-pc-windows-msvc", "windows_amd64"),
    ];
    let binary = checkout().join("LICENSE");
    for (target, platform) in targets {
        for place in [out.path(), again.path()] {
            pack("zip", place, (&binary, target)).await;
        }
        let bytes = |place: &Path| fs::read(package(place, platform)).expect("a package");
        assert!(bytes(out.path()) == bytes(again.path()), "two packages of {target} differ");
    }
    pack("sums", out.path(), (&binary, "")).await;
    let start = format!("terraform-provider-neonrepl_{VERSION}_");
    let mut expected: Vec<_> = targets.iter().map(|(_, platform)| format!("{start}{platform}.zip")).collect();
    expected.extend([format!("{start}SHA256SUMS"), format!("{start}manifest.json")]);
    expected.sort();
    assert_eq!(names(out.path()), expected);
    let sums = fs::read_to_string(out.path().join(format!("{start}SHA256SUMS"))).expect("the checksums");
    let mut summed: Vec<_> = sums.lines().filter_map(|line| line.split_once("  ")).collect();
    summed.sort_by_key(|(_, name)| *name);
    assert!(summed.iter().all(|(sum, _)| sum.len() == 64), "{sums}");
    let summed: Vec<_> = summed.into_iter().map(|(_, name)| name.to_owned()).collect();
    let signed = expected.into_iter().filter(|name| !name.ends_with("SHA256SUMS")).collect::<Vec<_>>();
    assert_eq!(summed, signed, "the checksums are of every file but themselves");
}

/// Runs a checker, and returns its output if it failed.
async fn check(program: &Path, directory: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut process = Command::new(program);
    process.args(arguments).current_dir(directory);
    let output = process.output().await.expect("running a checker");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[tokio::test]
async fn the_workflows_are_valid() {
    let Some(actionlint) = tools::checker("actionlint") else { return };
    let workflows = checkout().join(".github/workflows");
    let files: Vec<_> = names(&workflows).into_iter().map(|name| workflows.join(name).display().to_string()).collect();
    let arguments: Vec<_> =
        ["-no-color", "-shellcheck=", "-pyflakes="].into_iter().map(str::to_owned).chain(files).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    check(&actionlint, checkout(), &arguments).await.expect("valid workflows");
}

/// The actions of a release are pinned, so that nobody else decides what runs with the secrets.
#[test]
fn actions_are_pinned_by_commit() {
    let workflows = checkout().join(".github/workflows");
    for name in names(&workflows) {
        let text = fs::read_to_string(workflows.join(&name)).expect("a workflow");
        for line in text.lines().filter(|line| line.trim_start().trim_start_matches("- ").starts_with("uses:")) {
            let commit =
                line.split_once('@').map(|(_, rest)| rest.split(' ').next().unwrap_or_default()).unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.chars().all(|digit| digit.is_ascii_hexdigit());
            assert!(is_commit && line.contains("# v"), "{name}: {line}");
        }
    }
}

/// Another compiler would give other bytes. A file `rust-toolchain.toml` would prevent building for people without a
/// network who have this version under another name, so the workflows name the version.
#[test]
fn every_job_builds_with_the_pinned_toolchain() {
    let workflows = checkout().join(".github/workflows");
    let pinned = names(&workflows).into_iter().map(|name| {
        let text = fs::read_to_string(workflows.join(&name)).expect("a workflow");
        let pinned: Vec<_> = text.lines().filter_map(|line| line.trim().strip_prefix("RUSTUP_TOOLCHAIN: ")).collect();
        let jobs_that_build = text.matches("}} dist").count() + text.matches("- run: make ").count();
        let installs = text.matches("rustup toolchain install \"$RUSTUP_TOOLCHAIN\"").count();
        assert!(jobs_that_build > 0 && installs >= jobs_that_build, "{name}: {installs} of {jobs_that_build}");
        assert_eq!(pinned.len(), 1, "{name}: the version is pinned once");
        pinned[0].trim_matches('"').to_owned()
    });
    let pinned: Vec<_> = pinned.collect();
    let begins = format!("{}.", env!("CARGO_PKG_RUST_VERSION"));
    assert!(pinned.iter().all(|version| *version == pinned[0] && version.starts_with(&begins)), "{pinned:?}, {begins}");
}

/// The registry's own check only accepts the provider under an address of HashiCorp's.
#[tokio::test]
async fn the_registry_takes_the_docs() {
    let Some(tfplugindocs) = tools::checker("tfplugindocs") else { return };
    let workspace = Workspace::new(Core::Terraform);
    workspace.init().await;
    let schema = workspace.expect(&["providers", "schema", "-json"], 0).await.stdout;
    let schema = schema.replace("registry.terraform.io/neonrepl/neonrepl", "registry.terraform.io/hashicorp/neonrepl");
    workspace.write("schema.json", &schema);
    for part in ["docs", "examples"] {
        workspace.write_all(&checkout().join(part), &Path::new("provider").join(part));
    }
    let arguments = ["validate", "--provider-dir", "provider", "--provider-name", "neonrepl", "--providers-schema"];
    let arguments = [&arguments[..], &["schema.json", "--tf-version", "1.15.0"]].concat();
    check(&tfplugindocs, &workspace.path(), &arguments).await.expect("docs that the registry takes");
}
