// SPDX-License-Identifier: MPL-2.0

//! The README's comparison with other tools: what it claims of neonrepl is shown by tests, which `docs/contributing.md` lists.

use std::collections::BTreeMap;
use std::fs;

use super::checkout;

/// The rows that claim nothing of neonrepl that a test could show.
const NOTHING_CLAIMED: [&str; 3] = ["what is not Postgres", "beyond replication", "in use since"];

/// The cells of the rows of the first table after a heading, without its head.
fn rows(file: &str, heading: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(checkout().join(file)).expect("reading a page");
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("{file} lacks {heading:?}"));
    let table = section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    table.skip(2).map(cells).collect()
}

#[test]
fn each_row_of_the_comparison_is_shown_by_a_test() {
    let claimed: Vec<_> = rows("README.md", "## How it compares").into_iter().map(|row| row[0].clone()).collect();
    assert!(claimed.len() > 10, "{claimed:?}");
    let shown: BTreeMap<_, _> = rows("docs/contributing.md", "## What the README says")
        .into_iter()
        .map(|row| (row[0].clone(), [row[1].clone(), row[2].clone()]))
        .collect();
    let listed: Vec<_> = claimed.iter().filter(|row| !NOTHING_CLAIMED.contains(&row.as_str())).collect();
    for row in &listed {
        let [file, test] = shown.get(*row).unwrap_or_else(|| panic!("no test is named for {row:?}"));
        let path = checkout().join("tests/acceptance").join(file.trim_matches('`'));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.contains(&format!("fn {}(", test.trim_matches('`'))), "{file} has no test {test}, for {row:?}");
    }
    assert_eq!(shown.len(), listed.len(), "each test is for a row of the README");
}
