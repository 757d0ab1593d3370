// SPDX-License-Identifier: MPL-2.0

//! Checks the examples with real cores: they are formatted by `fmt`, and valid if they need no other provider.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::cli::{Core, VERSIONS, Workspace};
use common::tools::checkout;

/// The directories of `examples/` with a configuration.
fn directories() -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![checkout().join("examples")], Vec::new());
    while let Some(directory) = open.pop() {
        let entries = fs::read_dir(&directory).expect("reading examples").flatten();
        let paths: Vec<_> = entries.map(|entry| entry.path()).filter(|path| !path.ends_with(".terraform")).collect();
        if paths.iter().any(|path| is_configuration(&path.to_string_lossy())) {
            found.push(directory);
        }
        open.extend(paths.into_iter().filter(|path| path.is_dir()));
    }
    found.sort();
    found
}

fn is_configuration(name: &str) -> bool {
    name.ends_with(".tf") || name.ends_with(".tfquery.hcl")
}

/// The configuration files of a directory, as name and text.
fn configuration(directory: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(directory).expect("reading an example").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names = names.filter(|name| is_configuration(name));
    names.map(|name| (name.clone(), fs::read_to_string(directory.join(name)).expect("reading an example"))).collect()
}

/// The modules below a directory that it calls: their files as path and text.
fn modules(directory: &Path) -> Vec<(String, String)> {
    let below = directories().into_iter().filter(|other| other != directory && other.starts_with(directory));
    let files = below.flat_map(|module| {
        let place = module.strip_prefix(directory).expect("a directory below").to_owned();
        configuration(&module).into_iter().map(move |(name, text)| (place.join(name).display().to_string(), text))
    });
    files.collect()
}

/// The handwritten Markdown with configurations.
fn guides() -> Vec<PathBuf> {
    let guides = fs::read_dir(checkout().join("docs/guides")).expect("reading the guides").flatten();
    std::iter::once(checkout().join("README.md")).chain(guides.map(|entry| entry.path())).collect()
}

#[tokio::test]
async fn configurations_are_formatted() {
    for core in Core::installed() {
        let workspace = Workspace::new(core);
        for directory in directories() {
            let place = directory.strip_prefix(checkout()).expect("a path in the checkout");
            for (name, text) in configuration(&directory) {
                workspace.write(&place.join(name).to_string_lossy(), &text);
            }
        }
        for guide in guides() {
            let text = fs::read_to_string(&guide).expect("reading a guide");
            let name = guide.file_stem().expect("a name").to_string_lossy();
            // The CLI's own configuration, in hcl fences, has its own syntax.
            for (at, code) in text.split("```terraform\n").skip(1).enumerate() {
                let code = code.split("```").next().unwrap_or_default();
                workspace.write(&format!("{name}/{at}.tf"), code);
            }
        }
        workspace.expect(&["fmt", "-check", "-recursive", "-diff", "-no-color"], 0).await;
    }
}

#[tokio::test]
async fn configurations_of_this_provider_alone_are_valid() {
    for core in Core::installed() {
        // Most need the same providers and nothing else, so one `init` is enough for all of them.
        let common = Workspace::new(core);
        common.init().await;
        for directory in directories().into_iter().filter(|directory| understands(core, directory)) {
            let (files, modules) = (configuration(&directory), modules(&directory));
            if !is_alone(&files) {
                continue;
            }
            if modules.is_empty() && !files_require(&files, PEER) {
                check(&common, &directory, &files).await;
                continue;
            }
            let own = Workspace::new(core);
            own.stand_in_for(PEER, "1.26.0");
            files.iter().chain(&modules).for_each(|(name, text)| own.write(name, text));
            own.init().await;
            check(&own, &directory, &files).await;
        }
    }
}

/// Validates a directory's configuration in a workspace that is initialized for it, and removes it again.
async fn check(workspace: &Workspace, directory: &Path, files: &[(String, String)]) {
    let (imports, rest): (Vec<_>, Vec<_>) =
        files.iter().partition(|(name, _)| name.starts_with("import-") || name == "moved.tf");
    // Requirements in an example are not repeated.
    workspace.write("versions.tf", if files_require(files, "neonrepl/neonrepl") { "" } else { VERSIONS });
    rest.iter().for_each(|(name, text)| workspace.write(name, text));
    let validate: &[_] = match directory.starts_with(checkout().join("examples/list-resources")) {
        true => &["validate", "-no-color", "-query"],
        false => &["validate", "-no-color"],
    };
    workspace.expect(validate, 0).await;
    // An object is imported, or moved, in one way at a time.
    for (_, text) in imports {
        workspace.write("import.tf", text);
        workspace.expect(validate, 0).await;
        workspace.remove("import.tf");
    }
    rest.iter().for_each(|(name, _)| workspace.remove(name));
}

/// The provider that objects are moved from: a core requires it.
const PEER: &str = "cyrilgdn/postgresql";

fn files_require(files: &[(String, String)], provider: &str) -> bool {
    files.iter().any(|(_, text)| text.contains(&format!("source = \"{provider}\"")))
}

/// Whether the core has such blocks: only Terraform has actions and lists, and only OpenTofu has `for_each` of
/// providers.
fn understands(core: Core, directory: &Path) -> bool {
    let is_below = |kind: &str| directory.starts_with(checkout().join("examples").join(kind));
    match core {
        Core::Terraform => !is_below("several-pairs"),
        Core::OpenTofu => !is_below("actions") && !is_below("list-resources"),
    }
}

/// Whether a configuration needs no provider that must be downloaded.
fn is_alone(files: &[(String, String)]) -> bool {
    !files.iter().any(|(_, text)| text.contains("\"aws_") || text.contains("\"neon_"))
}
