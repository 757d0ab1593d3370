// SPDX-License-Identifier: MPL-2.0

//! The preflight, as text.

use super::grid::{Grid, wrapped};
use super::style::{Mood, Style};
use super::units::{bytes, count, counted};
use crate::replication::preflight::{Report, Size};
use crate::replication::{Finding, Severity};

/// The colours of the severities.
const MOODS: &[(&str, Mood)] = &[("error", Mood::Bad), ("warning", Mood::Doubtful), ("info", Mood::Busy)];

/// The findings in a table, the size, and a summary line.
pub fn preflight(report: &Report, style: &Style) -> String {
    let mut lines = Vec::new();
    if !report.findings.is_empty() {
        lines.extend(findings(&report.findings, style));
        lines.push(String::new());
    }
    if report.size.tables > 0 {
        lines.extend(size(&report.size, style));
        lines.push(String::new());
    }
    let mood = match (report.is_ok(), report.count(Severity::Warning)) {
        (false, _) => Mood::Bad,
        (true, 0) => Mood::Good,
        (true, _) => Mood::Doubtful,
    };
    lines.push(style.paint(mood, &preflight_verdict(report)));
    lines.join("\n") + "\n"
}

/// Whether it will work, in one line.
pub fn preflight_verdict(report: &Report) -> String {
    let counts = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "note")];
    let found: Vec<_> = counts
        .into_iter()
        .map(|(severity, what)| (report.count(severity), what))
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| counted(number, what))
        .collect();
    match (report.is_ok(), found.is_empty()) {
        (true, true) => "Ready to replicate: nothing was found.".to_owned(),
        (true, false) => format!("Ready to replicate: no errors, {}.", found.join(", ")),
        (false, _) => format!("Not ready to replicate: {}.", found.join(", ")),
    }
}

/// Three columns: the severity, the check with its object, the message with the remedy.
fn findings(findings: &[Finding], style: &Style) -> Vec<String> {
    let mut grid = Grid::new(style, MOODS);
    for (at, finding) in findings.iter().enumerate() {
        if at > 0 {
            grid.row(&["", "", ""]);
        }
        grid.row(&[finding.severity.as_str(), &about(finding), &told(&finding.message, &finding.remedy)]);
    }
    grid.at_most(1, 30);
    grid.lines()
}

fn about(finding: &Finding) -> String {
    let (check, place) = (finding.check, finding.place.as_str());
    match finding.object.as_str() {
        "" => format!("{check}\n{place}"),
        object => format!("{check}\n{place}\n{object}"),
    }
}

/// The message, and below it the remedy.
pub(super) fn told(message: &str, remedy: &str) -> String {
    if remedy.is_empty() { message.to_owned() } else { format!("{message}\n→ {remedy}") }
}

fn size(size: &Size, style: &Style) -> Vec<String> {
    let tables = counted(usize::try_from(size.tables).unwrap_or(usize::MAX), "table");
    // Tables that were never analyzed have no estimate.
    let rows = match (size.rows, size.bytes) {
        (0, 1..) => "an unknown number of rows".to_owned(),
        (rows, _) => format!("about {} rows", count(rows)),
    };
    let whole = format!("To copy: {tables}, {rows}, {} without indexes.", bytes(size.bytes));
    let mut lines = wrapped(style, 0, &whole);
    if size.largest.len() > 1 {
        let mut grid = Grid::new(style, &[]);
        grid.header(&["largest tables", "rows", "size"]);
        for table in &size.largest {
            let rows = table.rows.map_or_else(|| "unknown".to_owned(), |rows| format!("~{}", count(rows)));
            grid.row(&[table.name.to_text(), rows, bytes(table.bytes)]);
        }
        grid.right(&[1, 2]);
        lines.extend(grid.lines());
    }
    lines
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::postgres::QualifiedName;
    use crate::replication::Place;
    use crate::replication::preflight::SizedTable;

    fn finding(severity: Severity, check: &'static str, object: &str, message: &str, remedy: &str) -> Finding {
        let place = if severity == Severity::Info { Place::Both } else { Place::Publisher };
        let [object, message, remedy] = [object, message, remedy].map(str::to_owned);
        Finding { severity, check, place, object, message, remedy }
    }

    fn found() -> Report {
        let table = |name: &str, rows, bytes| SizedTable { name: QualifiedName::parse(name).unwrap(), rows, bytes };
        let findings = vec![
            finding(
                Severity::Error,
                "wal_level",
                "",
                "wal_level is replica, and logical replication needs logical.",
                "On the publisher, as a superuser: ALTER SYSTEM SET wal_level = 'logical'; then restart the server.",
            ),
            finding(
                Severity::Error,
                "replica_identity",
                "public.a_table_with_a_rather_long_name",
                "The table has no primary key, so its updates and deletes would fail once it is published.",
                "ALTER TABLE public.a_table_with_a_rather_long_name REPLICA IDENTITY FULL;",
            ),
            finding(Severity::Warning, "old_transactions", "", "A transaction is open for 42 min.", ""),
            finding(Severity::Info, "not_moved", "views", "3 views are not replicated.", "Create them by hand."),
        ];
        let largest =
            vec![table("public.orders", Some(2_000_000), 536_870_912), table("public.\"Lines\"", None, 8_192)];
        Report { findings, size: Size { tables: 2, rows: 2_000_000, bytes: 536_879_104, largest } }
    }

    fn check(report: &Report, width: u16, expected: &Expect) {
        let text = preflight(report, &Style { width, is_coloured: false });
        let tables = text.lines().count() - 1;
        assert!(text.lines().take(tables).all(|line| line.chars().count() <= usize::from(width)), "{text}");
        expected.assert_eq(&text);
    }

    #[test]
    fn what_was_found_fits_a_terminal() {
        check(
            &found(),
            80,
            &expect![[r#"
            error    wal_level                 wal_level is replica, and logical replication
                     publisher                 needs logical.
                                               → On the publisher, as a superuser: ALTER
                                               SYSTEM SET wal_level = 'logical'; then
                                               restart the server.

            error    replica_identity          The table has no primary key, so its updates
                     publisher                 and deletes would fail once it is published.
                     public.a_table_with_a_ra  → ALTER TABLE
                     ther_long_name            public.a_table_with_a_rather_long_name
                                               REPLICA IDENTITY FULL;

            warning  old_transactions          A transaction is open for 42 min.
                     publisher

            info     not_moved                 3 views are not replicated.
                     both                      → Create them by hand.
                     views

            To copy: 2 tables, about 2,000,000 rows, 512 MiB without indexes.
            largest tables        rows     size
            public.orders   ~2,000,000  512 MiB
            public.Lines       unknown  8.0 KiB

            Not ready to replicate: 2 errors, 1 warning, 1 note.
        "#]],
        );
    }

    #[test]
    fn it_fits_a_narrow_one_too() {
        check(
            &found(),
            40,
            &expect![[r#"
            error    wal_level     wal_level is
                     publisher     replica, and
                                   logical
                                   replication needs
                                   logical.
                                   → On the
                                   publisher, as a
                                   superuser: ALTER
                                   SYSTEM SET
                                   wal_level =
                                   'logical'; then
                                   restart the
                                   server.

            error    replica_iden  The table has no
                     tity          primary key, so
                     publisher     its updates and
                     public.a_tab  deletes would
                     le_with_a_ra  fail once it is
                     ther_long_na  published.
                     me            → ALTER TABLE pub
                                   lic.a_table_with_
                                   a_rather_long_nam
                                   e REPLICA
                                   IDENTITY FULL;

            warning  old_transact  A transaction is
                     ions          open for 42 min.
                     publisher

            info     not_moved     3 views are not
                     both          replicated.
                     views         → Create them by
                                   hand.

            To copy: 2 tables, about 2,000,000 rows,
            512 MiB without indexes.
            largest tables        rows     size
            public.orders   ~2,000,000  512 MiB
            public.Lines       unknown  8.0 KiB

            Not ready to replicate: 2 errors, 1 warning, 1 note.
        "#]],
        );
    }

    #[test]
    fn nothing_is_one_line() {
        check(
            &Report::default(),
            80,
            &expect![[r#"
            Ready to replicate: nothing was found.
        "#]],
        );
    }

    #[test]
    fn a_warning_does_not_stand_in_the_way() {
        let mut report = found();
        report.findings.retain(|finding| finding.severity != Severity::Error);
        report.size = Size::default();
        check(
            &report,
            100,
            &expect![[r#"
            warning  old_transactions  A transaction is open for 42 min.
                     publisher

            info     not_moved         3 views are not replicated.
                     both              → Create them by hand.
                     views

            Ready to replicate: no errors, 1 warning, 1 note.
        "#]],
        );
    }

    #[test]
    fn colours_change_nothing_else() {
        let coloured = preflight(&found(), &Style { width: 80, is_coloured: true });
        let plain = preflight(&found(), &Style { width: 80, is_coloured: false });
        assert_ne!(coloured, plain);
        assert_eq!(console::strip_ansi_codes(&coloured), plain);
    }
}
