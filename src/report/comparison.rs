// SPDX-License-Identifier: MPL-2.0

//! A comparison of tables, as text.

use super::grid::{Grid, wrapped};
use super::style::{Mood, Style};
use super::units::{count, counted};
use crate::postgres::{Ident, QualifiedName};
use crate::replication::comparison::{Compared, Difference, Kind, Outcome};

/// The colours of a table's results.
const MOODS: &[(&str, Mood)] = &[("equal", Mood::Good), ("differs", Mood::Bad), ("unknown", Mood::Bad)];

/// The tables with their numbers of rows, the rows that differ, and a summary line.
pub fn comparison(outcome: &Outcome, style: &Style) -> String {
    let mut lines = Vec::new();
    if !outcome.tables.is_empty() {
        lines.extend(tables(&outcome.tables, style));
        lines.push(String::new());
    }
    for table in outcome.tables.iter().filter(|table| !table.differences.is_empty()) {
        lines.extend(differences(table, style));
        lines.push(String::new());
    }
    let mood = match (outcome.is_equal(), outcome.is_exact()) {
        (false, _) => Mood::Bad,
        (true, true) => Mood::Good,
        (true, false) => Mood::Doubtful,
    };
    lines.push(style.paint(mood, &comparison_verdict(outcome)));
    lines.join("\n") + "\n"
}

/// The current comparison: one table, or several small ones of which this is the first.
pub fn comparing(first: &QualifiedName, tables: usize) -> String {
    match tables {
        0 | 1 => format!("comparing {}", first.to_text()),
        _ => format!("comparing {} and {} together", first.to_text(), counted(tables - 1, "other table")),
    }
}

/// Whether all are equal, in one line.
pub fn comparison_verdict(outcome: &Outcome) -> String {
    let number = |which: &dyn Fn(&Compared) -> bool| outcome.tables.iter().filter(|table| which(table)).count();
    let (unequal, loose) = (number(&|table| !table.equal), number(&|table| !table.exact));
    let all = counted(outcome.tables.len(), "table");
    let exactness = match loose {
        0 => String::new(),
        _ => format!(", {} of them not in the same state on both sides", count(loose as u64)),
    };
    match (outcome.tables.is_empty(), unequal) {
        (true, _) => "Nothing was compared: no table is published.".to_owned(),
        (false, 0) => format!("Equal: {all}{exactness}."),
        (false, _) => format!("Not equal: {} of {all}{exactness}.", count(unequal as u64)),
    }
}

/// The result of a table in one line, for a log.
pub fn compared(table: &Compared) -> String {
    let [publisher, subscriber] = [table.publisher_rows, table.subscriber_rows].map(rows);
    let note = if table.note.is_empty() { String::new() } else { format!(". {}", table.note) };
    format!(
        "{} {}: {publisher} rows on the publisher, {subscriber} on the subscriber{note}",
        table.name.to_text(),
        word(table)
    )
}

fn word(table: &Compared) -> &'static str {
    match (table.equal, table.publisher_rows.is_some() && table.subscriber_rows.is_some()) {
        (true, _) => "equal",
        (false, true) => "differs",
        (false, false) => "unknown",
    }
}

fn rows(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), count)
}

fn tables(tables: &[Compared], style: &Style) -> Vec<String> {
    let mut grid = Grid::new(style, MOODS);
    grid.header(&["", "table", "publisher", "subscriber", ""]);
    for table in tables {
        let [publisher, subscriber] = [table.publisher_rows, table.subscriber_rows].map(rows);
        grid.row(&[word(table).to_owned(), table.name.to_text(), publisher, subscriber, table.note.clone()]);
    }
    grid.right(&[2, 3]);
    grid.lines()
}

fn differences(table: &Compared, style: &Style) -> Vec<String> {
    let mut lines = vec![format!("{}:", table.name.to_text())];
    lines.extend(table.differences.iter().flat_map(|row| wrapped(style, 2, &difference(row))));
    if table.further_differences > 0 {
        lines.push(format!("  and at least {} more", count(table.further_differences)));
    }
    lines
}

/// A row that differs, in one line: `changed: id=5 (columns email, name)`.
pub fn difference(row: &Difference) -> String {
    let key = key(row);
    let columns: Vec<_> = row.columns.iter().map(Ident::as_str).collect();
    match row.kind {
        Kind::Missing => format!("missing on the subscriber: {key}"),
        Kind::Extra => format!("only on the subscriber: {key}"),
        Kind::Changed => {
            let noun = if columns.len() == 1 { "column" } else { "columns" };
            format!("changed: {key} ({noun} {})", columns.join(", "))
        }
    }
}

/// The key of a row: `id=5, region=eu`.
pub fn key(row: &Difference) -> String {
    let values =
        row.key.iter().map(|(name, value)| format!("{}={}", name.as_str(), value.as_deref().unwrap_or("null")));
    values.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::postgres::QualifiedName;

    fn table(name: &str, rows: [Option<u64>; 2], equal: bool, note: &str) -> Compared {
        Compared {
            name: QualifiedName::parse(name).unwrap(),
            publisher_rows: rows[0],
            subscriber_rows: rows[1],
            equal,
            exact: note.is_empty(),
            note: note.to_owned(),
            differences: Vec::new(),
            further_differences: 0,
        }
    }

    fn row(kind: Kind, key: &[(&str, Option<&str>)], columns: &[&str]) -> Difference {
        let ident = |name: &str| Ident::new(name).unwrap();
        let key = key.iter().map(|(name, value)| (ident(name), value.map(str::to_owned))).collect();
        Difference { key, kind, columns: columns.iter().map(|name| ident(name)).collect() }
    }

    #[test]
    fn what_differs_is_named() {
        let mut orders = table("orders", [Some(1_200_000), Some(1_199_999)], false, "");
        orders.differences = vec![
            row(Kind::Missing, &[("id", Some("7"))], &[]),
            row(Kind::Extra, &[("id", Some("8")), ("region", None)], &[]),
            row(Kind::Changed, &[("id", Some("9"))], &["email", "name"]),
        ];
        orders.further_differences = 12;
        let tables =
            vec![orders, table("users", [Some(3), Some(3)], true, ""), table("x", [None, None], false, "No right.")];
        let outcome = Outcome { tables, position: None };
        let expected = expect![[r#"
                     table          publisher  subscriber
            differs  public.orders  1,200,000   1,199,999
            equal    public.users           3           3
            unknown  public.x               ?           ?  No right.

            public.orders:
              missing on the subscriber: id=7
              only on the subscriber: id=8, region=null
              changed: id=9 (columns email, name)
              and at least 12 more

            Not equal: 2 of 3 tables, 1 of them not in the same state on both sides.
        "#]];
        expected.assert_eq(&comparison(&outcome, &Style { width: 80, is_coloured: false }));
    }

    #[test]
    fn what_is_equal_says_so() {
        let outcome = |tables| Outcome { tables, position: None };
        assert_eq!(comparison_verdict(&outcome(vec![table("a", [Some(1), Some(1)], true, "")])), "Equal: 1 table.");
        assert_eq!(comparison_verdict(&outcome(Vec::new())), "Nothing was compared: no table is published.");
        let line = compared(&table("a", [Some(1), Some(1)], true, "No subscription replicates the table."));
        assert_eq!(
            line,
            "public.a equal: 1 rows on the publisher, 1 on the subscriber. No subscription replicates the table."
        );
    }
}
