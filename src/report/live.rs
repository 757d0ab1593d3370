// SPDX-License-Identifier: MPL-2.0

//! The progress of a replication, live: a screen that is redrawn, or a line from time to time.

mod bars;

use std::collections::BTreeSet;
use std::time::Duration;

use self::bars::bars;
use super::grid::{harmless, wrapped};
use super::pace::Pace;
use super::status::reading_of;
use super::style::{Mood, Style};
use super::units::{bytes, count, counted, percent, remaining, seconds};
use crate::postgres::subscription::SyncState;
use crate::postgres::{Ident, QualifiedName};
use crate::replication::status::{Cause, Status, TableStatus};

/// How many tables are named, because there may be thousands.
const NAMED: usize = 3;
/// How many causes are shown at a time.
const CAUSES: usize = 3;
/// An unchanged line is repeated after this long, so that nobody thinks it hangs.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The characters for the lag, from none to its maximum.
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One screen: each subscription with a bar for every table that is being copied. Each line fits the width.
///
/// `rows` is the maximum number of lines; if there are too many, tables that are being copied are counted instead of
/// shown.
pub fn frame(statuses: &[Status], pace: &Pace, style: &Style, rows: usize) -> Vec<String> {
    let other_lines = |status: &Status| subscription(status, pace, style, 0).len();
    let others: usize = statuses.iter().map(other_lines).sum();
    let each = rows.saturating_sub(others) / statuses.len().max(1);
    let mut lines: Vec<_> = statuses.iter().flat_map(|status| subscription(status, pace, style, each)).collect();
    lines.truncate(rows);
    let width = usize::from(style.columns());
    lines.into_iter().map(|line| console::truncate_str(&line, width, "…").into_owned()).collect()
}

/// The lines of one subscription, with at most this many bars.
fn subscription(status: &Status, pace: &Pace, style: &Style, most: usize) -> Vec<String> {
    let (ready, all) = (status.tables_ready(), status.tables.len());
    let mut lines = vec![harmless(&format!("subscription {}{}", status.name, from(status)))];
    let copying: Vec<_> = status.tables.iter().filter(|table| table.is_copying).collect();
    let shown = copying.len().min(most);
    lines.extend(bars(&status.name, &copying[..shown], pace, style));
    let more = if shown == 0 { "tables" } else { "more tables" };
    lines.extend(
        named(&copying[shown..], &format!("{more} being copied"))
            .map(|text| entry(style, Mood::Busy, "copying", &text)),
    );
    lines.extend(waiting(status).into_iter().map(|text| entry(style, Mood::Quiet, "waiting", &text)));
    let mood = if status.is_ready() { Mood::Good } else { Mood::Busy };
    let tables = format!("{} of {}", count(ready as u64), counted(all, "table"));
    lines.push(entry(style, mood, "ready", &tables));
    lines.push(lag(status, pace, style));
    lines.extend(trouble(status, style));
    lines
}

fn from(status: &Status) -> String {
    status.publisher.as_ref().map(|publisher| format!(" from {publisher}")).unwrap_or_default()
}

/// A line that begins with a word, in a column of its own.
fn entry(style: &Style, mood: Mood, word: &str, text: &str) -> String {
    format!("  {}  {}", style.paint(mood, &format!("{word:<7}")), harmless(text))
}

/// The number of these tables, with the first names.
fn named(tables: &[&TableStatus], what: &str) -> Option<String> {
    let names: Vec<_> = tables.iter().take(NAMED).map(|table| table.name.to_text()).collect();
    let more = if tables.len() > NAMED { ", …" } else { "" };
    (!tables.is_empty()).then(|| format!("{} {what}: {}{more}", count(tables.len() as u64), names.join(", ")))
}

/// The tables that are neither ready nor being copied, by the reason.
fn waiting(status: &Status) -> Vec<String> {
    let left = |is_meant: &dyn Fn(SyncState) -> bool| -> Vec<_> {
        status.tables.iter().filter(|table| !table.is_copying && is_meant(table.state)).collect()
    };
    let before = left(&|state| state == SyncState::Initializing);
    let between = left(&|state| state == SyncState::Copying);
    let after = left(&|state| matches!(state, SyncState::Copied | SyncState::Synchronized));
    let all = [(before, "to be copied"), (between, "between two attempts"), (after, "copied, catching up")];
    all.iter().filter_map(|(tables, what)| named(tables, what)).collect()
}

fn lag(status: &Status, pace: &Pace, style: &Style) -> String {
    let sparks = spark(&pace.lags(&status.name));
    let (mood, text) = match status.lag_bytes {
        None => (Mood::Doubtful, "not known: the publisher cannot be asked".to_owned()),
        Some(0) => (Mood::Good, format!("{sparks} none")),
        Some(lag) => (Mood::Busy, format!("{sparks} {}", behind(lag, status.lag_seconds))),
    };
    entry(style, mood, "lag", &text)
}

fn behind(lag: u64, time: Option<f64>) -> String {
    match time {
        Some(time) if time > 0.0 => format!("{}, {}", bytes(lag), seconds(time)),
        _ => bytes(lag),
    }
}

/// Numbers as a line of blocks; the largest number gets the highest block.
fn spark(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or_default();
    let height = |value: u64| match most {
        0 => 0,
        _ => usize::try_from(u128::from(value) * (SPARKS.len() as u128 - 1) / u128::from(most)).unwrap_or_default(),
    };
    values.iter().map(|value| SPARKS[height(*value)]).collect()
}

/// The problems.
fn trouble(status: &Status, style: &Style) -> Vec<String> {
    let mut lines = Vec::new();
    if status.is_stopped_by_cutover {
        lines.push(entry(style, Mood::Good, "stopped", "a cutover has moved the writes to the subscriber"));
    } else if !status.enabled {
        lines.push(entry(style, Mood::Bad, "stopped", "it is disabled"));
    } else if !status.worker_running {
        lines.push(entry(style, Mood::Bad, "stopped", "its worker does not run"));
    }
    let missing: Vec<_> = status.unsubscribed_tables.iter().collect();
    if !missing.is_empty() {
        lines.push(entry(style, Mood::Bad, "missing", &not_replicated(&missing)));
    }
    for Cause { message, remedy, .. } in status.causes.iter().take(CAUSES) {
        let text = if remedy.is_empty() { message.clone() } else { format!("{message}\n→ {remedy}") };
        let indented = wrapped(style, 11, &text);
        let word = format!("  {}  ", style.paint(Mood::Bad, "cause  "));
        lines.extend(indented.iter().enumerate().map(|(at, line)| match at {
            0 => line.replacen(&" ".repeat(11), &word, 1),
            _ => line.clone(),
        }));
    }
    lines
}

fn not_replicated(tables: &[&QualifiedName]) -> String {
    let names: Vec<_> = tables.iter().take(NAMED).map(|table| table.to_text()).collect();
    let more = if tables.len() > NAMED { ", …" } else { "" };
    let verb = if tables.len() == 1 { "is" } else { "are" };
    format!("{} {verb} published and not replicated: {}{more}", counted(tables.len(), "table"), names.join(", "))
}

/// The progress of a subscription in one line.
pub fn line(status: &Status, pace: &Pace) -> String {
    let (ready, all) = (status.tables_ready(), status.tables.len());
    let mut parts = vec![format!("{} of {} ready", count(ready as u64), counted(all, "table"))];
    parts.extend(copies(status, pace));
    parts.extend(waiting(status));
    parts.push(match status.lag_bytes {
        None => "lag not known".to_owned(),
        Some(0) => "caught up".to_owned(),
        Some(lag) => format!("{} behind", behind(lag, status.lag_seconds)),
    });
    match (status.enabled, status.worker_running) {
        (false, _) if status.is_stopped_by_cutover => parts.push("stopped by a cutover".to_owned()),
        (false, _) => parts.push("it is disabled".to_owned()),
        (true, false) => parts.push("its worker does not run".to_owned()),
        (true, true) => {}
    }
    if !status.unsubscribed_tables.is_empty() {
        parts.push(not_replicated(&status.unsubscribed_tables.iter().collect::<Vec<_>>()));
    }
    parts.extend(status.causes.first().map(reading_of));
    harmless(&format!("subscription {}: {}", status.name, parts.join("; "))).replace('\n', " ")
}

/// The tables that are being copied, the first of them with numbers.
fn copies(status: &Status, pace: &Pace) -> Option<String> {
    let copying: Vec<_> = status.tables.iter().filter(|table| table.is_copying).collect();
    let shown: Vec<_> = copying.iter().take(NAMED).map(|table| copied(&status.name, table, pace)).collect();
    let more = match copying.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {} more", count(more as u64)),
    };
    (!shown.is_empty()).then(|| format!("copying {}{more}", shown.join(", ")))
}

fn copied(subscription: &Ident, table: &TableStatus, pace: &Pace) -> String {
    let speed = pace.speed(subscription, table);
    let Some(rows) = table.rows_copied else { return table.name.to_text() };
    let mut parts = vec![match table.rows_estimate {
        Some(all) if all > 0 => format!("{} of ~{} rows", count(rows), count(all)),
        _ => format!("{} rows", count(rows)),
    }];
    parts.extend(speed.rows.map(|rate| format!("{}/s", count(rate as u64))));
    parts.extend(speed.left.map(|left| format!("{} left", remaining(left))));
    let done = table.rows_estimate.filter(|all| *all > 0).map(|all| format!(" {} %", percent(rows, all).min(99)));
    format!("{}{} ({})", table.name.to_text(), done.unwrap_or_default(), parts.join(", "))
}

/// Decides when to print a line: at a change, and otherwise from time to time.
#[derive(Debug, Default)]
pub struct Lines {
    last: Option<(Standing, Duration)>,
}

/// The parts of a status that count as a change. Numbers that always grow do not.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    states: Vec<(SyncState, bool)>,
    runs: (bool, bool),
    is_behind: Option<bool>,
    missing: usize,
    causes: BTreeSet<String>,
}

impl Lines {
    /// Whether this look, at this time after the first one, is worth a line.
    pub fn is_due(&mut self, at: Duration, status: &Status) -> bool {
        let standing = Standing::of(status);
        let is_due =
            self.last.as_ref().is_none_or(|(last, when)| *last != standing || at.saturating_sub(*when) >= HEARTBEAT);
        if is_due {
            self.last = Some((standing, at));
        }
        is_due
    }
}

impl Standing {
    fn of(status: &Status) -> Self {
        Self {
            states: status.tables.iter().map(|table| (table.state, table.is_copying)).collect(),
            runs: (status.enabled, status.worker_running),
            // Until it is ready, the lag changes all the time.
            is_behind: status.lag_bytes.map(|lag| lag > 0).filter(|_| status.is_ready()),
            missing: status.unsubscribed_tables.len(),
            causes: status.causes.iter().map(|cause| cause.message.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::report::samples::{busy, copying, ill, table, well};

    /// Two looks, a second apart.
    fn pace(status: &Status) -> Pace {
        let mut pace = Pace::default();
        let mut before = status.clone();
        for table in &mut before.tables {
            table.rows_copied = table.rows_copied.map(|rows| rows - 61_000);
            table.bytes_copied = table.bytes_copied.map(|bytes| bytes - 7_340_032);
        }
        before.lag_bytes = Some(5_242_880);
        pace.note(Duration::ZERO, &[before]);
        pace.note(Duration::from_secs(1), std::slice::from_ref(status));
        pace
    }

    fn check(status: &Status, width: u16, rows: usize, expected: &Expect) {
        let lines = frame(std::slice::from_ref(status), &pace(status), &Style { width, is_coloured: false }, rows);
        assert!(lines.len() <= rows, "{lines:#?}");
        for line in &lines {
            assert!(console::measure_text_width(line) <= usize::from(width), "{line}");
        }
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_copy_has_a_bar() {
        check(
            &busy("shop"),
            100,
            20,
            &expect![[r#"
                subscription "shop" from aurora:5432/shop
                  public.events  ━━━━━━────  60 %  1,200,000 of ~2,000,000 rows  61,000 rows/s  7.0 MiB/s  14 s left
                  waiting  1 to be copied: public.notes
                  ready    2 of 4 tables
                  lag      █▂ 1.2 MiB, 3 s"#]],
        );
        check(
            &busy("shop"),
            60,
            20,
            &expect![[r#"
                subscription "shop" from aurora:5432/shop
                  public.events  ━━━━━━━╸─────  60 %  61 k rows/s  14 s left
                  waiting  1 to be copied: public.notes
                  ready    2 of 4 tables
                  lag      █▂ 1.2 MiB, 3 s"#]],
        );
    }

    #[test]
    fn what_is_well_is_short() {
        check(
            &well("shop"),
            80,
            20,
            &expect![[r#"
            subscription "shop" from aurora:5432/shop
              ready    2 of 2 tables
              lag      █▁ none"#]],
        );
    }

    #[test]
    fn what_is_stuck_says_why() {
        check(
            &ill("shop"),
            80,
            20,
            &expect![[r#"
                subscription "shop" from aurora:5432/shop
                  public.events  ━━━━━━╸────  60 %  1.2 M of ~2.0 M rows  61 k rows/s  14 s left
                  waiting  1 to be copied: public.notes
                  ready    2 of 4 tables
                  lag      █▂ 1.2 MiB, 3 s
                  stopped  its worker does not run
                  missing  1 table is published and not replicated: public.new_one
                  cause    The worker cannot insert into public.events: column note is missing
                           on the subscriber.
                           → On the subscriber: ALTER TABLE public.events ADD COLUMN note text;"#]],
        );
    }

    #[test]
    fn many_tables_fit_a_low_screen() {
        let mut status = busy("shop");
        status.tables.extend((0..20).map(|at| copying(&format!("t{at}"), 70_000, 100_000, 8_000_000, 8_192)));
        status.tables.extend((0..20).map(|at| table(&format!("u{at}"), SyncState::Copied)));
        check(
            &status,
            80,
            9,
            &expect![[r#"
                subscription "shop" from aurora:5432/shop
                  public.events  ━━━━━━╸────  60 %  1.2 M of ~2.0 M rows  61 k rows/s  14 s left
                  public.t0      ━━━━━━━╸───  70 %   70 k of ~100 k rows  61 k rows/s   1 s left
                  public.t1      ━━━━━━━╸───  70 %   70 k of ~100 k rows  61 k rows/s   1 s left
                  copying  18 more tables being copied: public.t2, public.t3, public.t4, …
                  waiting  1 to be copied: public.notes
                  waiting  20 copied, catching up: public.u0, public.u1, public.u2, …
                  ready    2 of 44 tables
                  lag      █▂ 1.2 MiB, 3 s"#]],
        );
    }

    #[test]
    fn colours_change_nothing_else() {
        let status = ill("shop");
        let shown =
            |is_coloured| frame(std::slice::from_ref(&status), &pace(&status), &Style { width: 80, is_coloured }, 20);
        let plain: Vec<_> = shown(true).iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(plain, shown(false));
    }

    #[test]
    fn a_line_says_it_all() {
        let lines = [busy("shop"), ill("shop"), well("shop")].map(|status| line(&status, &pace(&status)));
        expect![[r#"
            subscription "shop": 2 of 4 tables ready; copying public.events 60 % (1,200,000 of ~2,000,000 rows, 61,000/s, 14 s left); 1 to be copied: public.notes; 1.2 MiB, 3 s behind
            subscription "shop": 2 of 4 tables ready; copying public.events 60 % (1,200,000 of ~2,000,000 rows, 61,000/s, 14 s left); 1 to be copied: public.notes; 1.2 MiB, 3 s behind; its worker does not run; 1 table is published and not replicated: public.new_one; The worker cannot insert into public.events: column note is missing on the subscriber.
            subscription "shop": 2 of 2 tables ready; caught up"#]].assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_line_comes_on_a_change_and_now_and_then() {
        let mut lines = Lines::default();
        let mut grown = busy("shop");
        grown.tables[2].rows_copied = Some(1_300_000);
        grown.lag_bytes = Some(7);
        let looks = [
            (0, busy("shop"), true),
            (1, grown.clone(), false),
            (2, ill("shop"), true),
            (3, ill("shop"), false),
            (12, ill("shop"), true),
            (13, well("shop"), true),
            (14, Status { lag_bytes: Some(9), ..well("shop") }, true),
        ];
        for (second, status, is_due) in looks {
            assert_eq!(lines.is_due(Duration::from_secs(second), &status), is_due, "at {second} s");
        }
    }

    #[test]
    fn sparks_reach_from_none_to_the_most() {
        assert_eq!(spark(&[0, 1, 4, 7, u64::MAX]), "▁▁▁▁█");
        assert_eq!(spark(&[0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
        assert_eq!(spark(&[0, 0]), "▁▁");
    }
}
