// SPDX-License-Identifier: MPL-2.0

//! Our protocol files are the same on the wire as the published ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use prost_types::{DescriptorProto, FileDescriptorProto};

/// The variable for a copy of the published protocol file, if the test tools are not available.
const OVERRIDE: &str = "NEONREPL_UPSTREAM_PROTO";

#[test]
fn the_provider_protocol_is_the_published_one() {
    let upstream = match std::env::var_os(OVERRIDE) {
        Some(path) => Some(path.into()),
        None => published("github.com/opentofu/opentofu", "docs/plugin-protocol/tfplugin5.10.proto"),
    };
    check_same("tfplugin5.proto", upstream);
}

#[test]
fn the_plugin_services_are_the_published_ones() {
    for name in ["grpc_controller.proto", "grpc_stdio.proto", "grpc_broker.proto"] {
        let path = format!("internal/plugin/{name}");
        check_same(name, published("github.com/hashicorp/go-plugin", &path));
    }
}

fn check_same(name: &str, upstream: Option<PathBuf>) {
    let Some(upstream) = upstream else {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(!ci, "no Go modules to find the published {name} in");
        eprintln!("skipped: no Go modules to find the published {name} in");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = compile(&root.join("proto").join(name));
    let theirs = compile(&upstream);
    // One by one first: a difference is then easy to find.
    for (ours, theirs) in ours.message_type.iter().zip(&theirs.message_type) {
        compare(ours, theirs);
    }
    assert_eq!(ours, theirs);
}

fn compare(ours: &DescriptorProto, theirs: &DescriptorProto) {
    for (ours, theirs) in ours.nested_type.iter().zip(&theirs.nested_type) {
        compare(ours, theirs);
    }
    assert_eq!(ours, theirs);
}

/// The declarations of `file`, without parts that are not on the wire: its name, its comments, its options
/// for generators.
fn compile(file: &Path) -> FileDescriptorProto {
    let (dir, name) = (file.parent().unwrap(), file.file_name().unwrap());
    let set = protox::compile([name], [dir]).unwrap();
    let mut descriptor = set.file.into_iter().next_back().unwrap();
    assert_eq!(Some(descriptor.name()), name.to_str());
    descriptor.name = None;
    descriptor.source_code_info = None;
    descriptor.options = None;
    descriptor
}

/// A file of a Go module that the test tools need, at the version that they need.
fn published(module: &str, path: &str) -> Option<PathBuf> {
    let listed = Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", module])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools"))
        .env("GOFLAGS", "-mod=mod")
        .output()
        .ok()?;
    let dir = String::from_utf8(listed.stdout).ok()?;
    let file = Path::new(dir.trim()).join(path);
    file.exists().then_some(file)
}
