//! The arrows between the modules: what must not be named where. `docs/architecture.md` says why.

use std::fs;
use std::path::Path;

/// Everything of this provider; what a module may use of it is left out below.
const OURS: [&str; 13] = [
    "tf_provider",
    "config",
    "provider",
    "resources",
    "data_sources",
    "ephemeral_resources",
    "list_resources",
    "actions",
    "functions",
    "replication",
    "postgres",
    "rds",
    "neon",
];

#[test]
fn modules_use_only_what_is_below_them() {
    for (module, uses) in [
        ("tf_provider", &[][..]),
        ("postgres", &[]),
        ("replication", &["postgres"]),
        ("rds", &[]),
        ("neon", &[]),
        ("functions", &["tf_provider", "postgres", "neon"]),
        ("ephemeral_resources", &["tf_provider", "config", "rds"]),
        ("list_resources", &["tf_provider", "config", "postgres"]),
        ("actions", &["tf_provider", "config", "postgres", "rds"]),
        ("data_sources", &["tf_provider", "config", "replication", "postgres", "rds", "neon"]),
        ("resources", &["tf_provider", "config", "replication", "postgres", "rds", "neon"]),
        ("config", &["tf_provider", "replication", "postgres", "rds", "neon"]),
    ] {
        let forbidden = OURS.iter().filter(|other| **other != module && !uses.contains(other));
        let forbidden: Vec<_> = forbidden.map(|other| format!("crate::{other}")).collect();
        let forbidden: Vec<_> = forbidden.iter().map(String::as_str).collect();
        assert_absent(&forbidden, |path| path.starts_with(module));
    }
    assert_absent(&["neonrepl", "NEONREPL_P", "NEONREPL_S", "NEONREPL_A"], |path| path.starts_with("tf_provider"));
}

#[test]
fn each_outside_world_has_one_door() {
    assert_absent(&["tonic::", "prost::", "rmpv::", "tfplugin5"], |path| !path.starts_with("tf_provider"));
    assert_absent(&["tokio_postgres::", "rustls::"], |path| {
        !path.starts_with("postgres") && !path.starts_with("tf_provider/plugin")
    });
    assert_absent(&["aws_sdk_rds::", "aws_config::", "aws_smithy"], |path| !path.starts_with("rds"));
    let sql = ["\"SELECT ", "\"CREATE ", "\"ALTER ", "\"DROP ", "\"SHOW ", "\"SET ", "pg_catalog", "pg_stat_"];
    assert_absent(&sql, |path| !path.starts_with("postgres"));
}

#[test]
fn main_only_starts_the_plugin() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).expect("reading main.rs");
    assert!(main.lines().count() <= 40, "{} lines", main.lines().count());
}

/// Fails where the code of a file (its comments and tests aside) names what it must not.
fn assert_absent(names: &[&str], applies: impl Fn(&str) -> bool) {
    let mut files = 0;
    for (path, text) in sources() {
        if !applies(&path) {
            continue;
        }
        files += 1;
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (at, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let found = names.iter().find(|name| names_it(line, name));
            assert!(found.is_none(), "src/{path}:{} names {}: {}", at + 1, found.unwrap_or(&""), line.trim());
        }
    }
    assert!(files > 0, "a rule applies to no file");
}

/// `crate::neon` is not named by `crate::neon_things`.
fn names_it(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let whole = name.starts_with("crate::");
    line.match_indices(name).any(|(at, _)| !whole || !line[at + name.len()..].starts_with(is_word))
}

/// The files of `src/` but for those that are tests throughout, by their path below it.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut directories, mut found) = (vec![root.clone()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("reading src").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("a path in src").to_string_lossy().replace('\\', "/");
            if !name.ends_with("/tests.rs") && !name.ends_with("/fake.rs") {
                found.push((name, fs::read_to_string(path).expect("reading a source")));
            }
        }
    }
    found
}
