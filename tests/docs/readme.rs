// SPDX-License-Identifier: MPL-2.0

//! The README's tables of measured and tested facts, created from the records of bench and tests.
//!
//! `make bench` and `make testacc` record them below `target/`; `make figures` copies them into the two JSON files here
//! and into the README. The tests compare the README with the files, so that neither changes alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use neonrepl::provider::NeonRepl;
use neonrepl::tf_provider::provider::Provider;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::checkout;

/// Blocks besides the functions that ask no Postgres server, though tests use them beside blocks that do.
const ASK_NO_SERVER: [&str; 3] =
    ["data neonrepl_neon_nat_addresses", "ephemeral neonrepl_rds_auth_token", "action neonrepl_reboot_writer"];

/// The measurements of `make bench`.
#[derive(Default, Deserialize, Serialize)]
struct Figures {
    programs: Programs,
    lives: Vec<Life>,
    promises: Vec<Promise>,
}

#[derive(Default, Deserialize, Serialize)]
struct Programs {
    date: String,
    neonrepl: String,
    tofu: Option<String>,
    terraform: Option<String>,
    /// Each major's version.
    postgres: Vec<String>,
    processors: usize,
}

/// Seconds of plan, apply, plan again and destroy.
#[derive(Clone, Deserialize, Serialize)]
struct Life {
    date: String,
    what: String,
    count: usize,
    /// The round-trip time to the server, in milliseconds.
    round_trip: u64,
    seconds: [f64; 4],
    /// In MiB; 0 if no provider ran.
    memory: f64,
}

#[derive(Deserialize, Serialize)]
struct Promise {
    date: String,
    what: String,
    measured: f64,
    at_most: f64,
    unit: String,
}

/// The coverage of the acceptance tests.
#[derive(Default, Deserialize, Serialize)]
struct Covered {
    date: String,
    /// The version of each core.
    cores: BTreeMap<String, String>,
    postgres: BTreeSet<String>,
    /// By kind and name, such as `resource neonrepl_publication`.
    blocks: BTreeMap<String, By>,
}

/// The cores and commands that used a block.
#[derive(Default, Deserialize, Serialize)]
struct By {
    cores: BTreeSet<String>,
    majors: BTreeSet<u16>,
}

impl Figures {
    const FILE: &str = "tests/bench/figures.json";

    /// Adds new records: all promises, and the lives that were measured again. Others, for example of another provider
    /// that was not available, stay as they were, with their date.
    fn update(&mut self, noted: Vec<Value>) {
        self.promises.clear();
        for line in noted {
            let dated = |key: &str| {
                let mut value = line[key].clone();
                value.as_object_mut()?.insert("date".to_owned(), line["date"].clone());
                Some(value)
            };
            if let Some(value) = dated("programs") {
                self.programs = serde_json::from_value(value).expect("programs");
            } else if let Some(value) = dated("life") {
                let life: Life = serde_json::from_value(value).expect("a life");
                self.lives.retain(|old| {
                    (&old.what, old.round_trip) != (&life.what, life.round_trip) || old.count > life.count
                });
                let is_smaller = self.lives.iter().any(|other| other.count > life.count);
                self.lives.extend((!is_smaller).then_some(life));
            } else if let Some(value) = dated("promise") {
                let promise: Promise = serde_json::from_value(value).expect("a promise");
                self.promises.retain(|old| old.what != promise.what);
                self.promises.push(promise);
            }
        }
        let largest = self.lives.iter().map(|life| life.count).max();
        self.lives.retain(|life| Some(life.count) == largest);
        self.lives.sort_by_key(|life| (life.round_trip, Self::ORDER.iter().position(|what| *what == life.what)));
    }

    /// The order of the contenders in the table.
    const ORDER: [&str; 3] = ["terraform_data", "neonrepl", "cyrilgdn/postgresql"];

    fn render(&self) -> String {
        let programs = &self.programs;
        let count = self.lives.first().map_or(0, |life| life.count);
        let mut text = format!(
            "{count} publications of two tables with OpenTofu {}, in seconds, measured on {} with neonrepl {}\nand Postgres {} on {} \
            processors. A round trip to the server takes nothing, or as long as the row says.\n\n\
            | | plan | apply | plan again | destroy | memory |\n|---|---|---|---|---|---|\n",
            programs.tofu.as_deref().unwrap_or("(none)"),
            programs.date,
            programs.neonrepl,
            programs.postgres.last().map_or("(none)", String::as_str),
            programs.processors,
        );
        // The floor has no provider, and therefore no distance.
        for life in self.lives.iter().filter(|life| life.what != Self::ORDER[0] || life.round_trip == 0) {
            text.push_str(&self.row(life));
        }
        let kept = self.promises.iter().filter(|promise| promise.measured <= promise.at_most).count();
        text.push_str(&format!(
            "\n<details>\n<summary>{kept} of {} promises kept</summary>\n\n| promise | measured | at most | |\n|---|---|---|---|\n",
            self.promises.len()
        ));
        text.extend(self.promises.iter().map(Promise::row));
        text + "\n</details>\n"
    }

    fn row(&self, life: &Life) -> String {
        let what = if life.what == Self::ORDER[0] { "`terraform_data`, which no provider serves" } else { &life.what };
        let away = if life.round_trip > 0 { format!(", {} ms", life.round_trip) } else { String::new() };
        let date = if life.date == self.programs.date { String::new() } else { format!(" (on {})", life.date) };
        let seconds = life.seconds.map(|seconds| format!("{seconds:.1}")).join(" | ");
        let memory = if life.memory > 0.0 { format!("{:.0} MiB ", life.memory) } else { String::new() };
        format!("| {what}{away}{date} | {seconds} | {memory}|\n")
    }
}

impl Promise {
    fn row(&self) -> String {
        let Self { what, measured, at_most, unit, .. } = self;
        let verdict = if measured <= at_most { "kept" } else { "missed" };
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        format!("| {what} | {measured:.2}{unit} | {at_most:.2}{unit} | {verdict} |\n")
    }
}

impl Covered {
    const FILE: &str = "tests/acceptance/covered.json";

    /// Creates it only from new records.
    fn update(&mut self, noted: Vec<Value>) {
        *self = Self::default();
        for line in noted {
            let text = |key: &str| line[key].as_str().map(str::to_owned);
            let (core, block) = (text("core").expect("a core"), text("block").expect("a block"));
            self.date = text("date").expect("a date").max(std::mem::take(&mut self.date));
            self.cores.extend(text("version").map(|version| (core.clone(), version)));
            let by = self.blocks.entry(block).or_default();
            by.cores.insert(core);
            for version in line["postgres"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                self.postgres.insert(version.to_owned());
                by.majors.extend(version.split('.').next().and_then(|major| major.parse::<u16>().ok()));
            }
        }
        let known = Self::known();
        self.blocks.retain(|block, _| known.contains_key(block));
    }

    /// Every existing block and function, and whether OpenTofu has such blocks.
    fn known() -> BTreeMap<String, bool> {
        let both = |kind: &str, name: &str| (format!("{kind} {name}"), true);
        let resources = NeonRepl::resources().iter().map(|one| both("resource", one.type_name()));
        let data_sources = NeonRepl::data_sources().iter().map(|one| both("data", one.type_name()));
        let ephemeral = NeonRepl::ephemeral_resources().iter().map(|one| both("ephemeral", one.type_name()));
        let functions = NeonRepl::functions().iter().map(|one| both("function", one.name()));
        let lists = NeonRepl::list_resources().iter().map(|one| (format!("list {}", one.type_name()), false));
        let actions = NeonRepl::actions().iter().map(|one| (format!("action {}", one.type_name()), false));
        resources.chain(data_sources).chain(ephemeral).chain(functions).chain(lists).chain(actions).collect()
    }

    fn render(&self) -> String {
        let version = |core: &str| self.cores.get(core).map_or("(none)", String::as_str);
        let servers: Vec<_> = self.postgres.iter().map(String::as_str).collect();
        let mut text = format!(
            "Which core applied or read each block, and with which majors of Postgres, in the tests on\n{}; the servers were {}.\n\n\
            | block | Terraform {} | OpenTofu {} | Postgres |\n|---|---|---|---|\n",
            self.date,
            servers.join(", "),
            version("terraform"),
            version("tofu"),
        );
        let known = Self::known();
        for kind in ["resource", "data", "ephemeral", "list", "action", "function"] {
            for (block, by) in self.blocks.iter().filter(|(block, _)| block.split(' ').next() == Some(kind)) {
                let has = |core: &str| if by.cores.contains(core) { "yes" } else { "no" };
                let tofu = if known.get(block) == Some(&false) { "has none" } else { has("tofu") };
                let name = block.trim_start_matches(kind).trim();
                let majors = if kind == "function" || ASK_NO_SERVER.contains(&block.as_str()) {
                    "none needed".to_owned()
                } else {
                    by.majors()
                };
                text.push_str(&format!("| {kind} `{name}` | {} | {tofu} | {majors} |\n", has("terraform")));
            }
        }
        text
    }
}

impl By {
    /// Consecutive majors as `14 to 18`.
    fn majors(&self) -> String {
        let (Some(first), Some(last)) = (self.majors.first(), self.majors.last()) else {
            return "none".to_owned();
        };
        if self.majors.len() > 2 && usize::from(last - first) + 1 == self.majors.len() {
            return format!("{first} to {last}");
        }
        self.majors.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Reads the committed file, after adding new records if requested.
fn current<T: Default + Serialize + for<'a> Deserialize<'a>>(
    file: &str,
    notes: &str,
    update: fn(&mut T, Vec<Value>),
) -> T {
    let path = checkout().join(file);
    let committed = fs::read_to_string(&path).unwrap_or_else(|_| "null".to_owned());
    let committed: Option<T> = serde_json::from_str(&committed).expect("what was seen");
    let mut current = committed.unwrap_or_default();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout().join("target"), PathBuf::from);
    let Ok(noted) = fs::read_to_string(target.join(notes)) else { return current };
    if std::env::var_os("UPDATE_FIGURES").is_some() {
        update(&mut current, noted.lines().map(|line| serde_json::from_str(line).expect("a note")).collect());
        let text = serde_json::to_string_pretty(&current).expect("JSON") + "\n";
        // Read back like all other readers: the last digit of a number may differ, so that it would be rounded
        // differently.
        current = serde_json::from_str(&text).expect("what was written");
        fs::write(path, text).expect("writing what was seen");
    }
    current
}

/// Replaces the text between two marks.
fn replaced(readme: &str, mark: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {mark}: made by `make figures` -->\n"), format!("<!-- end of {mark} -->\n"));
    let (before, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("README.md lacks {begin}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("README.md lacks {end}"));
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn tables_of_the_readme_are_what_was_seen() {
    let figures = current(Figures::FILE, "bench.jsonl", Figures::update);
    let covered = current(Covered::FILE, "covered.jsonl", Covered::update);
    let path = checkout().join("README.md");
    let readme = fs::read_to_string(&path).expect("reading the README");
    let rendered = replaced(&replaced(&readme, "speed", &figures.render()), "coverage", &covered.render());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &rendered).expect("writing the README");
    } else {
        assert!(readme == rendered, "README.md is not what was seen. Run `make figures`.");
    }
}

#[test]
fn the_tests_have_seen_every_block_with_every_core() {
    let covered: Covered = current(Covered::FILE, "", |_, _| {});
    for (block, in_both) in Covered::known() {
        let by = covered.blocks.get(&block);
        let cores = by.map(|by| by.cores.iter().map(String::as_str).collect::<Vec<_>>()).unwrap_or_default();
        let expected = if in_both { &["terraform", "tofu"][..] } else { &["terraform"] };
        assert_eq!(cores, expected, "{block}: run `make testacc` and `make figures`");
    }
    let majors: Vec<_> = covered.blocks["resource neonrepl_subscription"].majors.iter().copied().collect();
    assert_eq!(majors, [14, 15, 16, 17, 18]);
}

#[test]
fn what_was_not_measured_again_keeps_its_date() {
    let mut figures = Figures::default();
    let life = |date: &str, what: &str, apply: f64| {
        serde_json::json!({ "date": date, "life": {
            "what": what, "count": 1000, "round_trip": 0, "seconds": [1.0, apply, 1.0, 1.0], "memory": 18.2,
        } })
    };
    let programs = |date: &str| {
        serde_json::json!({ "date": date, "programs": {
        "neonrepl": "0.2.0", "tofu": "1.12.2", "terraform": "1.15.5", "postgres": ["17.10", "18.4"], "processors": 2,
    } })
    };
    let promise = |measured: f64| {
        serde_json::json!({ "date": "2026-11-29", "promise": {
        "what": "start", "measured": measured, "at_most": 4.0, "unit": "ms",
    } })
    };
    figures.update(vec![
        programs("2026-11-28"),
        life("2026-11-28", "cyrilgdn/postgresql", 14.0),
        life("2026-11-28", "neonrepl", 3.0),
    ]);
    figures.update(vec![programs("2026-11-29"), promise(5.0), life("2026-11-29", "neonrepl", 2.0), promise(2.0)]);
    let text = figures.render();
    assert!(text.contains("| neonrepl | 1.0 | 2.0 | 1.0 | 1.0 | 18 MiB |"), "{text}");
    assert!(text.contains("| cyrilgdn/postgresql (on 2026-11-28) | 1.0 | 14.0 | 1.0 | 1.0 | 18 MiB |"), "{text}");
    assert!(text.contains("1 of 1 promises kept") && text.contains("| start | 2.00 ms | 4.00 ms | kept |"), "{text}");
}
