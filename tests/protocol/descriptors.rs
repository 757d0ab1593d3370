//! Our protocol file says on the wire what the published one says.

use std::path::{Path, PathBuf};
use std::process::Command;

use prost_types::{DescriptorProto, FileDescriptorProto};

/// Names a copy of the published file, where the test tools are not at hand.
const OVERRIDE: &str = "NEONREPL_UPSTREAM_PROTO";

#[test]
fn the_wire_is_the_published_one() {
    let Some(upstream) = upstream() else {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !ci,
            "no Go to find the published protocol file with; {OVERRIDE} may name it"
        );
        eprintln!("skipped: no Go to find the published protocol file with, and no {OVERRIDE}");
        return;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = compile(&root.join("proto/tfplugin5.proto"));
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

/// What `file` declares, without what is not on the wire: its name, its comments, its options for generators.
fn compile(file: &Path) -> FileDescriptorProto {
    let (dir, name) = (file.parent().unwrap(), file.file_name().unwrap());
    let set = protox::compile([name], [dir]).unwrap();
    let mut descriptor = set.file.into_iter().next_back().unwrap();
    assert_eq!(descriptor.package(), "tfplugin5");
    descriptor.name = None;
    descriptor.source_code_info = None;
    descriptor.options = None;
    descriptor
}

/// The protocol's published definition, in the OpenTofu that the acceptance tests run.
fn upstream() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(OVERRIDE) {
        return Some(path.into());
    }
    let listed = Command::new("go")
        .args([
            "list",
            "-m",
            "-f",
            "{{.Dir}}",
            "github.com/opentofu/opentofu",
        ])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools"))
        .env("GOFLAGS", "-mod=mod")
        .output()
        .ok()?;
    let module = String::from_utf8(listed.stdout).ok()?;
    let file = Path::new(module.trim()).join("docs/plugin-protocol/tfplugin5.10.proto");
    file.exists().then_some(file)
}
