// SPDX-License-Identifier: MPL-2.0

//! The output for people.

use std::sync::OnceLock;
use std::time::Instant;

/// Prints a step in one line, with its start time.
pub(super) fn step(title: &str) {
    println!("\n[{:6.1} s] {title}", seconds());
}

/// Prints an event of a step, with its time.
pub(super) fn note(line: &str) {
    println!("[{:6.1} s] {line}", seconds());
}

fn seconds() -> f32 {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    STARTED.get_or_init(Instant::now).elapsed().as_secs_f32()
}

/// Prints a line of a step's result.
pub(super) fn say(line: &str) {
    if line.is_empty() { println!() } else { println!("           {line}") }
}

/// Rows under their column names, with columns of equal width; `|` separates the values of a row.
pub(super) fn table(columns: &[&str], rows: &[String]) {
    let rows: Vec<Vec<&str>> = rows.iter().map(|row| row.split('|').collect()).collect();
    let width = |column: usize| {
        let values = rows.iter().filter_map(|row| row.get(column)).map(|value| value.len());
        values.chain([columns[column].len()]).max().unwrap_or_default()
    };
    let line = |values: &[&str]| {
        let cells: Vec<_> =
            values.iter().enumerate().map(|(at, value)| format!("{value:width$}", width = width(at))).collect();
        say(cells.join("  ").trim_end());
    };
    line(columns);
    rows.iter().for_each(|row| line(row));
}
