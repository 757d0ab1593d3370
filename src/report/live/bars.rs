// SPDX-License-Identifier: MPL-2.0

//! A bar for each table that is being copied, with the numbers that fit beside it.

use super::super::grid::harmless;
use super::super::pace::{Pace, Speed};
use super::super::style::{Mood, Style};
use super::super::units::{bytes, count, percent, remaining, short};
use crate::postgres::Ident;
use crate::replication::status::TableStatus;

/// The shortest bar.
const SHORTEST: usize = 10;
const LONGEST: usize = 30;
/// Longer names are truncated.
const LONGEST_NAME: usize = 40;
/// The space before a line, and between two of its columns.
const INDENTATION: usize = 2;
const GAP: usize = 2;

/// The columns after the bar: what they show, and in which order they are dropped if not all fit.
const COLUMNS: [(Column, u8); 6] = [(done, 0), (rows, 3), (rows_rate, 2), (size, 5), (bytes_rate, 4), (left, 1)];
/// From this width on, counts are written in full.
const WIDE: usize = 100;

/// The text of a column for a table, with this format of counts.
type Column = fn(&TableStatus, &Speed, Count) -> String;
type Count = fn(u64) -> String;

/// The lines, one for each table.
pub(super) fn bars(subscription: &Ident, tables: &[&TableStatus], pace: &Pace, style: &Style) -> Vec<String> {
    let width = usize::from(style.columns());
    let count: Count = if width < WIDE { short } else { count };
    let cells: Vec<_> = tables.iter().map(|table| cells(table, &pace.speed(subscription, table), count)).collect();
    let names: Vec<_> = tables.iter().map(|table| harmless(&table.name.to_text()).replace('\n', " ")).collect();
    let name_width = widest(names.iter().map(String::as_str)).min(LONGEST_NAME).min(width / 3);
    let widths: Vec<_> = (0..COLUMNS.len()).map(|at| widest(cells.iter().map(|row| row[at].as_str()))).collect();
    let space = width.saturating_sub(INDENTATION + name_width + GAP);
    let shown = fitting(&widths, space.saturating_sub(SHORTEST));
    let bar_width = space.saturating_sub(needed(&widths, &shown)).clamp(SHORTEST, LONGEST);
    let rows = tables.iter().zip(&names).zip(&cells);
    rows.map(|((table, name), cells)| {
        let name = console::truncate_str(name, name_width, "…");
        let name = console::pad_str(&name, name_width, console::Alignment::Left, None).into_owned();
        let numbers: Vec<_> = shown
            .iter()
            .filter(|at| widths[**at] > 0)
            .map(|at| console::pad_str(&cells[*at], widths[*at], console::Alignment::Right, None).into_owned())
            .collect();
        let gap = " ".repeat(GAP);
        let bar = bar(part(table), bar_width, style);
        format!("{}{name}{gap}{bar}{gap}{}", " ".repeat(INDENTATION), numbers.join(&gap)).trim_end().to_owned()
    })
    .collect()
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(console::measure_text_width).max().unwrap_or_default()
}

/// The columns that fit, in order: the least important ones are dropped first.
fn fitting(widths: &[usize], space: usize) -> Vec<usize> {
    let mut shown: Vec<_> = (0..widths.len()).collect();
    while needed(widths, &shown) > space {
        let Some(least) = shown.iter().copied().max_by_key(|at| COLUMNS[*at].1) else { break };
        shown.retain(|at| *at != least);
    }
    shown
}

fn needed(widths: &[usize], shown: &[usize]) -> usize {
    shown.iter().map(|at| widths[*at]).filter(|width| *width > 0).map(|width| width + GAP).sum()
}

fn cells(table: &TableStatus, speed: &Speed, count: Count) -> Vec<String> {
    COLUMNS.iter().map(|(cell, _)| cell(table, speed, count)).collect()
}

fn done(table: &TableStatus, _: &Speed, _: Count) -> String {
    part(table).map(|(rows, all)| format!("{} %", percent(rows, all).min(99))).unwrap_or_default()
}

fn rows(table: &TableStatus, _: &Speed, count: Count) -> String {
    match (table.rows_copied, table.rows_estimate.filter(|all| *all > 0)) {
        (Some(rows), Some(all)) => {
            let (rows, all) = (count(rows), count(all));
            // With a constant width, so that the columns stay where they are.
            format!("{rows:>width$} of ~{all} rows", width = all.len())
        }
        (Some(rows), None) => format!("{} rows", count(rows)),
        (None, _) => String::new(),
    }
}

fn size(table: &TableStatus, _: &Speed, _: Count) -> String {
    table.bytes_copied.map(bytes).unwrap_or_default()
}

fn rows_rate(_: &TableStatus, speed: &Speed, count: Count) -> String {
    speed.rows.map(|rate| format!("{} rows/s", count(rate as u64))).unwrap_or_default()
}

fn bytes_rate(_: &TableStatus, speed: &Speed, _: Count) -> String {
    speed.bytes.map(|rate| format!("{}/s", bytes(rate as u64))).unwrap_or_default()
}

fn left(_: &TableStatus, speed: &Speed, _: Count) -> String {
    speed.left.map(|left| format!("{} left", remaining(left))).unwrap_or_default()
}

/// The copied rows, and all rows.
fn part(table: &TableStatus) -> Option<(u64, u64)> {
    Some((table.rows_copied?, table.rows_estimate.filter(|all| *all > 0)?))
}

/// A bar of this many columns; empty if the progress is unknown.
fn bar(part: Option<(u64, u64)>, width: usize, style: &Style) -> String {
    let halves = part.map_or(0, |(rows, all)| {
        usize::try_from(u128::from(rows.min(all)) * (2 * width as u128) / u128::from(all)).unwrap_or_default()
    });
    let (full, half) = (halves / 2, if halves % 2 == 1 { "╸" } else { "" });
    let rest = width - full - half.chars().count();
    let done = style.paint(Mood::Busy, &format!("{}{half}", "━".repeat(full)));
    format!("{done}{}", style.paint(Mood::Quiet, &"─".repeat(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_length_whatever_is_known() {
        let plain = Style::plain();
        let shown = [None, Some((0, 10)), Some((1, 20)), Some((5, 10)), Some((10, 10)), Some((99, 10))]
            .map(|part| bar(part, 10, &plain));
        assert_eq!(shown, ["──────────", "──────────", "╸─────────", "━━━━━─────", "━━━━━━━━━━", "━━━━━━━━━━"]);
    }

    #[test]
    fn what_matters_least_is_left_out_first() {
        let widths = [4, 20, 12, 8, 10, 9];
        assert_eq!(fitting(&widths, 200), [0, 1, 2, 3, 4, 5]);
        assert_eq!(fitting(&widths, 64), [0, 1, 2, 5]);
        assert_eq!(fitting(&widths, 20), [0, 5]);
        assert_eq!(fitting(&widths, 0), [0; 0]);
    }
}
