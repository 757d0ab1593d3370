// SPDX-License-Identifier: MPL-2.0

//! The arrows between the modules: the names that a module must not use. `docs/architecture.md` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// All modules of this provider; those that a module may use are removed below.
const OURS: [&str; 15] = [
    "tf_provider",
    "config",
    "provider",
    "resources",
    "data_sources",
    "ephemeral_resources",
    "list_resources",
    "actions",
    "functions",
    "cli",
    "report",
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
        ("report", &["replication", "postgres"]),
        ("rds", &[]),
        ("neon", &[]),
        ("functions", &["tf_provider", "postgres", "neon"]),
        ("ephemeral_resources", &["tf_provider", "config", "rds"]),
        ("list_resources", &["tf_provider", "config", "postgres"]),
        ("actions", &["tf_provider", "config", "report", "replication", "postgres", "rds"]),
        ("data_sources", &["tf_provider", "config", "report", "replication", "postgres", "rds", "neon"]),
        ("resources", &["tf_provider", "config", "replication", "postgres", "rds", "neon"]),
        ("cli", &["tf_provider", "config", "report", "replication", "postgres"]),
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

/// Submodules that use each other must be one module, or one of them belongs further down.
#[test]
fn no_module_uses_one_that_uses_it() {
    let modules = modules();
    let mut uses: BTreeMap<(ModulePath, String), BTreeSet<String>> = BTreeMap::new();
    for (module, code) in &modules {
        for other in named_modules(module, code, &modules) {
            let common = module.iter().zip(&other).take_while(|(one, other)| one == other).count();
            if let (Some(from), Some(to)) = (module.get(common), other.get(common)) {
                uses.entry((module[..common].to_vec(), from.clone())).or_default().insert(to.clone());
            }
        }
    }
    let circles: Vec<_> = uses
        .keys()
        .filter(|(parent, module)| reaches(&uses, parent, module, module, &mut BTreeSet::new()))
        .map(|(parent, module)| [parent.as_slice(), std::slice::from_ref(module)].concat().join("::"))
        .collect();
    assert!(modules.len() > 100, "{} modules", modules.len());
    assert_eq!(circles, Vec::<String>::new(), "these are on circles");
}

/// The names of the modules from the crate's root down.
type ModulePath = Vec<String>;

/// Whether `from` uses `to`, directly or not, among the modules right below `parent`.
fn reaches(
    uses: &BTreeMap<(ModulePath, String), BTreeSet<String>>,
    parent: &ModulePath,
    from: &str,
    to: &str,
    seen: &mut BTreeSet<String>,
) -> bool {
    let next = uses.get(&(parent.clone(), from.to_owned())).into_iter().flatten();
    next.into_iter().any(|next| next == to || seen.insert(next.clone()) && reaches(uses, parent, next, to, seen))
}

/// The modules with their code, without comments and tests.
fn modules() -> BTreeMap<ModulePath, String> {
    let module = |path: &str| -> ModulePath {
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').map(str::to_owned).collect()
    };
    let is_root = |path: &str| path == "lib.rs" || path == "main.rs";
    let sources = sources().into_iter().filter(|(path, _)| !is_root(path));
    sources.map(|(path, text)| (module(&path), code(&text))).collect()
}

fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that a module's code names, in `use` and elsewhere.
fn named_modules(module: &ModulePath, code: &str, modules: &BTreeMap<ModulePath, String>) -> BTreeSet<ModulePath> {
    let starts = ["crate::", "super::", "self::"].into_iter().flat_map(|start| code.match_indices(start));
    let whole =
        starts.filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let named = whole.flat_map(|(at, _)| expanded(&code[at..]));
    named.map(|path| resolved(module, &path, modules)).filter(|other| other != module).collect()
}

/// The paths of one that may end in a group, such as `a::{b, c::{d, e}}`.
fn expanded(text: &str) -> Vec<ModulePath> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = text.find(|c| !is_path(c)).unwrap_or(text.len());
    let path: ModulePath = text[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if !(text[..end].ends_with("::") && text[end..].starts_with('{')) {
        return vec![path];
    }
    let below = members(&text[end + 1..]).into_iter().flat_map(|member| expanded(member.trim_start()));
    below.map(|below| [path.clone(), below].concat()).collect()
}

/// The parts between commas, up to the brace that closes the group.
fn members(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// The deepest module that a path leads to, as seen from `module`.
fn resolved(module: &ModulePath, path: &ModulePath, modules: &BTreeMap<ModulePath, String>) -> ModulePath {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (mut found, rest) = match path.first().map(String::as_str) {
        Some("crate") => (Vec::new(), &path[1..]),
        Some("self") => (module.clone(), &path[1..]),
        _ => (module[..module.len().saturating_sub(ups)].to_vec(), &path[ups..]),
    };
    for part in rest {
        found.push(part.clone());
        if !modules.contains_key(&found) {
            found.pop();
            break;
        }
    }
    found
}

/// In `postgres`, only the kinds of objects name one.
#[test]
fn connections_know_no_kind_of_object() {
    let below =
        ["connection", "database", "limits", "link", "notice", "pool", "server", "session", "snapshot", "wait", "work"];
    let kinds = ["publication", "subscription", "slot", "relation", "table", "catalog"];
    let named: Vec<_> = kinds.iter().flat_map(|kind| [format!("super::{kind}"), format!("postgres::{kind}")]).collect();
    let named: Vec<_> = named.iter().map(String::as_str).collect();
    assert_absent(&named, |path| {
        let module = path.strip_prefix("postgres/").and_then(|rest| rest.split(['/', '.']).next());
        module.is_some_and(|module| below.contains(&module))
    });
}

#[test]
fn main_only_starts_the_plugin() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).expect("reading main.rs");
    assert!(main.lines().count() <= 40, "{} lines", main.lines().count());
}

/// Fails if the code of a file, without comments and tests, names something that it must not.
/// Whether a file is a source, by the ending of its name.
fn is_source(ending: &OsStr) -> bool {
    ["rs", "py", "proto", "c"].iter().any(|one| ending == *one)
}

/// Each source has its licence in its first lines, so that copies have it too.
#[test]
fn every_source_names_its_licence() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut directories: Vec<_> = ["src", "tests", "proto", ".dist"].iter().map(|name| root.join(name)).collect();
    let mut checked = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("reading sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(is_source) {
                let text = fs::read_to_string(&path).expect("reading a source");
                // A script's first line names its interpreter.
                let is_named = text.lines().take(2).any(|line| line.contains("SPDX-License-Identifier: MPL-2.0"));
                assert!(is_named, "{} lacks the line // SPDX-License-Identifier: MPL-2.0", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 500, "only {checked} sources were found");
}

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

/// `crate::neon_things` does not name `crate::neon`.
fn names_it(line: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let whole = name.starts_with("crate::");
    line.match_indices(name).any(|(at, _)| !whole || !line[at + name.len()..].starts_with(is_word))
}

/// The files of `src/` by relative path, without those that only have tests.
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
