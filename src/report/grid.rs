// SPDX-License-Identifier: MPL-2.0

//! Rows in columns that fit a width, with colours in the first column.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

use super::style::{Mood, Style};

/// The space between two columns.
const GAP: u16 = 2;

/// A table that is being filled.
pub(super) struct Grid<'a> {
    style: &'a Style,
    table: Table,
    /// The words of the first column, with their colours.
    moods: &'a [(&'a str, Mood)],
}

impl<'a> Grid<'a> {
    /// An empty grid. `moods` has the colours of the words in its first column.
    pub(super) fn new(style: &'a Style, moods: &'a [(&'a str, Mood)]) -> Self {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(style.columns() + GAP);
        Self { style, table, moods }
    }

    /// Names the columns.
    pub(super) fn header(&mut self, names: &[&str]) {
        self.table.set_header(names);
    }

    /// Adds a row. Text may have several lines.
    pub(super) fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        self.table.add_row(cells.iter().map(|cell| Cell::new(harmless(cell.as_ref()))));
    }

    /// Limits a column, counted from 0, to this percentage of the width.
    pub(super) fn at_most(&mut self, column: usize, percent: u16) {
        let most = self.style.columns() * percent / 100 + GAP;
        if let Some(column) = self.table.column_mut(column) {
            column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(most)));
        }
    }

    /// Aligns these columns to the right.
    pub(super) fn right(&mut self, columns: &[usize]) {
        for column in columns {
            if let Some(column) = self.table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }

    /// Its lines.
    pub(super) fn lines(mut self) -> Vec<String> {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        let Self { style, table, moods } = self;
        table.lines().map(|line| painted(style, moods, line.trim_end())).collect()
    }
}

/// A sentence in lines that fit, with the same indentation.
pub(super) fn wrapped(style: &Style, indentation: usize, text: &str) -> Vec<String> {
    let indented = u16::try_from(indentation).unwrap_or_default();
    let style = Style { width: style.columns().saturating_sub(indented), is_coloured: false };
    let mut grid = Grid::new(&style, &[]);
    grid.row(&[text]);
    grid.lines().into_iter().map(|line| " ".repeat(indentation) + &line).collect()
}

/// The line with its first word in colour, if that word has one.
fn painted(style: &Style, moods: &[(&str, Mood)], line: &str) -> String {
    let begins = |word: &str| line.strip_prefix(word).filter(|rest| rest.is_empty() || rest.starts_with("  "));
    let found = moods.iter().find_map(|(word, mood)| begins(word).map(|rest| (word, mood, rest)));
    match found {
        Some((word, mood, rest)) => format!("{}{rest}", style.paint(*mood, word)),
        None => line.to_owned(),
    }
}

/// Text that is safe for a terminal, even with hostile table names: control characters are escaped.
pub(super) fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { harmless.extend(c.escape_default()) } else { harmless.push(c) }
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_only_their_first_has_colours() {
        let style = Style { width: 40, is_coloured: true };
        let mut grid = Grid::new(&style, &[("bad", Mood::Bad)]);
        grid.row(&["bad", "bad", "a text that is too long for one line of it"]);
        grid.row(&["good", "", "one\ntwo"]);
        assert_eq!(
            grid.lines(),
            [
                "\u{1b}[31m\u{1b}[1mbad\u{1b}[0m   bad  a text that is too long for",
                "           one line of it",
                "good       one",
                "           two"
            ]
        );
    }

    #[test]
    fn a_name_does_nothing_to_a_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\tc\nd"), "a\\u{1b}[2Jb\\tc\nd");
    }
}
