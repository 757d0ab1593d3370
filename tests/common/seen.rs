// SPDX-License-Identifier: MPL-2.0

//! Records of the results of tests and bench: one JSON value on each line of a file in cargo's target directory. `make
//! figures` creates the README's tables from it.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::{Value, json};

use super::postgres::Major;
use super::tools;

/// The records of this test process, so that it adds nothing twice.
static NOTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The servers that this process has started, by port.
static SERVERS: Mutex<BTreeMap<u16, Major>> = Mutex::new(BTreeMap::new());

/// Adds a line to a file, such as `bench.jsonl`, unless this process has added it already.
pub fn note(file: &str, seen: &Value) {
    let line = format!("{seen}\n");
    if !NOTED.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
        return;
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::checkout().join("target"), PathBuf::from);
    let file = File::options().create(true).append(true).open(target.join(file));
    file.expect("opening what was seen").write_all(line.as_bytes()).expect("noting what was seen");
}

/// Today, as `2026-11-29`.
pub fn today() -> &'static str {
    static TODAY: OnceLock<String> = OnceLock::new();
    TODAY.get_or_init(|| said(Command::new("date").args(["-u", "+%F"])).trim().to_owned())
}

/// The version of an installed server, such as `18.4`.
pub fn version(major: Major) -> &'static str {
    static VERSIONS: [OnceLock<String>; Major::ALL.len()] = [const { OnceLock::new() }; Major::ALL.len()];
    VERSIONS[major as usize].get_or_init(|| {
        let printed = said(Command::new(tools::postgres(major).join("bin/postgres")).arg("--version"));
        printed.split_whitespace().last().unwrap_or_default().to_owned()
    })
}

/// The output of a program.
pub fn said(command: &mut Command) -> String {
    let output = command.output().expect("running a program");
    String::from_utf8(output.stdout).expect("text")
}

/// Records that a server listens here.
pub fn server(port: u16, major: Major) {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner).insert(port, major);
}

/// Records that a core's command succeeded: the blocks of its configuration, and its servers.
pub fn command(core: &str, command: &str, directory: &Path, environment: &BTreeMap<String, String>) {
    let verb = command.split(' ').next().unwrap_or_default();
    let texts = configuration(directory);
    let found: BTreeSet<_> = texts.iter().flat_map(|text| blocks(text, verb)).collect();
    let servers = servers(texts.iter().chain(environment.values()));
    let version = core_version(directory);
    for block in found {
        let seen = json!({ "date": today(), "core": core, "version": version, "block": block, "postgres": servers });
        note("covered.jsonl", &seen);
    }
}

/// The files of a configuration, and its variables.
fn configuration(directory: &Path) -> Vec<String> {
    let (mut open, mut texts) = (vec![directory.to_owned()], Vec::new());
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !name.starts_with('.') {
                open.push(path);
            } else if [".tf", ".tfvars", ".tfquery.hcl"].iter().any(|ending| name.ends_with(ending)) {
                texts.extend(fs::read_to_string(path));
            }
        }
    }
    texts
}

/// The blocks and functions of this provider in a configuration that a core's command uses: a plan creates no resource,
/// and only a query lists anything.
fn blocks(text: &str, verb: &str) -> BTreeSet<String> {
    let kinds: &[&str] = match verb {
        "apply" => &["resource", "data", "ephemeral", "action"],
        "plan" => &["data", "ephemeral"],
        "query" => &["list"],
        _ => return BTreeSet::new(),
    };
    let words = text.lines().map(|line| line.trim().split(' ').collect::<Vec<_>>());
    let block = |words: Vec<&str>| match words.as_slice() {
        [kind, name, ..] if kinds.contains(kind) && name.starts_with("\"neonrepl_") => {
            Some(format!("{kind} {}", name.trim_matches('"')))
        }
        _ => None,
    };
    let functions = text.split("provider::neonrepl::").skip(1).filter_map(|call| call.split_once('('));
    words.filter_map(block).chain(functions.map(|(name, _)| format!("function {name}"))).collect()
}

/// The versions of the servers whose ports are in any of the texts.
fn servers<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<&'static str> {
    let known = SERVERS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let numbers = texts.flat_map(|text| text.split(|c: char| !c.is_ascii_digit()));
    let ports = numbers.filter_map(|number| number.parse::<u16>().ok());
    ports.filter_map(|port| known.get(&port)).map(|major| version(*major)).collect()
}

/// The version of the core in the state, which every apply writes. None if nothing was applied.
fn core_version(directory: &Path) -> Option<String> {
    let state = fs::read_to_string(directory.join("terraform.tfstate")).ok()?;
    let state: Value = serde_json::from_str(&state).ok()?;
    state["terraform_version"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_makes_no_resource_and_only_a_query_lists() {
        let text = "resource \"neonrepl_publication\" \"p\" {\n}\ndata \"neonrepl_tables\" \"t\" {\n}\nlist \"neonrepl_x\" \"x\" {\n}\n\
            resource \"terraform_data\" \"d\" {\n  input = provider::neonrepl::conninfo({})\n}\n";
        let of = |verb| blocks(text, verb).into_iter().collect::<Vec<_>>().join(", ");
        assert_eq!(of("apply"), "data neonrepl_tables, function conninfo, resource neonrepl_publication");
        assert_eq!(of("plan"), "data neonrepl_tables, function conninfo");
        assert_eq!(of("query"), "function conninfo, list neonrepl_x");
        assert_eq!(of("init"), "");
    }
}
