// SPDX-License-Identifier: MPL-2.0

//! The status of replication, as text.

use super::grid::{Grid, harmless, wrapped};
use super::preflight::told;
use super::style::{Mood, Style};
use super::units::{bytes, count, counted, percent, seconds};
use crate::postgres::QualifiedName;
use crate::postgres::subscription::SyncState;
use crate::replication::status::{Cause, SlotStatus, Status, TableStatus};

/// How many unready tables are listed.
const LISTED: usize = 40;
/// The colours of the states, as they are printed.
const STATES: &[(&str, Mood)] = &[
    ("not begun", Mood::Quiet),
    ("copying", Mood::Busy),
    ("copied", Mood::Busy),
    ("caught up", Mood::Busy),
    ("ready", Mood::Good),
];
/// The colours of the lines below the tables.
const WORDS: &[(&str, Mood)] =
    &[("cause", Mood::Bad), ("drift", Mood::Bad), ("missing", Mood::Doubtful), ("missed", Mood::Doubtful)];

/// Each subscription with its tables and problems, and a summary line.
pub fn statuses(statuses: &[Status], style: &Style) -> String {
    let mut lines = Vec::new();
    for status in statuses {
        lines.extend(subscription(status, style));
        lines.push(String::new());
    }
    let (mood, verdict) = judged(statuses);
    lines.push(style.paint(mood, &harmless(&verdict)));
    lines.join("\n") + "\n"
}

/// The status of all of them in one line.
pub fn status_verdict(statuses: &[Status]) -> String {
    harmless(&judged(statuses).1)
}

fn judged(statuses: &[Status]) -> (Mood, String) {
    let all: usize = statuses.iter().map(|status| status.tables.len()).sum();
    let ready: usize = statuses.iter().map(Status::tables_ready).sum();
    let progress = format!("{} of {} ready", count(ready as u64), counted(all, "table"));
    let ill: Vec<_> = statuses.iter().filter(|status| !status.is_well()).collect();
    match ill[..] {
        _ if statuses.is_empty() => (Mood::Bad, "There is no subscription.".to_owned()),
        [] if statuses.iter().all(Status::is_ready) => {
            (Mood::Good, format!("Healthy: {progress}{}.", behind(statuses)))
        }
        [] => (Mood::Busy, format!("Healthy, and not ready yet: {progress}{}.", behind(statuses))),
        [one] => (Mood::Bad, format!("Not healthy: subscription {}, {progress}. {}", one.name, first_cause(one))),
        _ => {
            let names: Vec<_> = ill.iter().map(|status| status.name.to_string()).collect();
            (Mood::Bad, format!("Not healthy: subscriptions {}; {progress}.", names.join(", ")))
        }
    }
}

fn first_cause(status: &Status) -> String {
    status.causes.first().map(reading_of).unwrap_or_default()
}

/// A cause in one line.
pub(super) fn reading_of(cause: &Cause) -> String {
    cause.message.replace('\n', " ")
}

/// The largest lag, if any is known.
fn behind(statuses: &[Status]) -> String {
    match statuses.iter().filter_map(|status| status.lag_bytes).max() {
        None => String::new(),
        Some(0) => ", caught up".to_owned(),
        Some(lag) => format!(", {} behind", bytes(lag)),
    }
}

fn subscription(status: &Status, style: &Style) -> Vec<String> {
    let back = if status.is_way_back { ", which brings changes back to the publisher" } else { "" };
    let mut lines = wrapped(style, 0, &format!("Subscription {}{back}: {}", status.name, condition(status)));
    for sentence in [status.slot.as_ref().map(slot_line), errors(status)].into_iter().flatten() {
        lines.extend(wrapped(style, 2, &sentence));
    }
    lines.extend(tables(status, style));
    lines.extend(what_is_wrong(status, style));
    lines
}

/// Whether it runs, and how far behind it is.
fn condition(status: &Status) -> String {
    if status.is_stopped_by_cutover {
        return "stopped by a cutover, with all applied: the subscriber takes writes".to_owned();
    }
    let runs = match (status.enabled, status.worker_running) {
        (false, _) => "disabled",
        (true, false) => "its worker does not run",
        (true, true) => "running",
    };
    let lag = match (status.lag_bytes, status.lag_seconds) {
        (None, _) => "the lag is not known".to_owned(),
        (Some(0), _) => "caught up".to_owned(),
        (Some(lag), None) => format!("{} behind", bytes(lag)),
        (Some(lag), Some(time)) => format!("{}, {} behind", bytes(lag), seconds(time)),
    };
    format!("{runs}, {lag}")
}

fn slot_line(slot: &SlotStatus) -> String {
    let read = if slot.active { "is read from" } else { "is not read from" };
    let wal = slot.wal_status.as_deref().map(|status| format!(", its WAL is {status}")).unwrap_or_default();
    let left = match slot.safe_wal_size {
        Some(left) if left >= 0 => {
            format!(", {} can still be written before it may be lost", bytes(left.unsigned_abs()))
        }
        Some(_) => ", it may be lost at any moment".to_owned(),
        None => String::new(),
    };
    format!("Slot {} {read}{wal}{left}.", slot.name)
}

/// The number of failures so far, if any.
fn errors(status: &Status) -> Option<String> {
    let failed = |count: Option<u64>, what: &str| {
        count.filter(|count| *count > 0).map(|number| {
            let times = counted(usize::try_from(number).unwrap_or(usize::MAX), "time");
            format!("{what} has failed {times} so far")
        })
    };
    let said: Vec<_> = [failed(status.apply_error_count, "Applying"), failed(status.sync_error_count, "Copying")]
        .into_iter()
        .flatten()
        .collect();
    (!said.is_empty()).then(|| format!("{}.", said.join(", ")))
}

/// The unready tables in a table, and the others in one line.
fn tables(status: &Status, style: &Style) -> Vec<String> {
    let left: Vec<_> = status.tables.iter().filter(|table| table.state != SyncState::Ready).collect();
    let mut lines = Vec::new();
    if !left.is_empty() {
        lines.push(String::new());
        lines.extend(listed(&left, style));
    }
    if left.len() > LISTED {
        lines.push(format!("… and {} more that are not ready.", count((left.len() - LISTED) as u64)));
    }
    lines.push(match (status.tables.len(), status.tables_ready()) {
        (0, _) => "  It has no tables.".to_owned(),
        (1, 1) => "  Its table is ready.".to_owned(),
        (all, ready) if all == ready => format!("  All of its {} ready.", are(all)),
        (all, ready) => format!("  {} of {} ready.", count(ready as u64), are(all)),
    });
    lines
}

fn are(tables: usize) -> String {
    let verb = if tables == 1 { "is" } else { "are" };
    format!("{} {verb}", counted(tables, "table"))
}

fn listed(tables: &[&TableStatus], style: &Style) -> Vec<String> {
    let mut grid = Grid::new(style, STATES);
    grid.header(&["state", "table", "rows", "size", "done"]);
    for table in tables.iter().take(LISTED) {
        grid.row(&[
            state(table).to_owned(),
            table.name.to_text(),
            part_of(table.rows_copied.filter(|_| table.is_copying), table.rows_estimate, count),
            part_of(table.bytes_copied.filter(|_| table.is_copying), table.bytes, bytes),
            done(table).map(|percent| format!("{percent} %")).unwrap_or_default(),
        ]);
    }
    grid.right(&[2, 3, 4]);
    grid.lines()
}

/// The state in words.
fn state(table: &TableStatus) -> &'static str {
    match table.state {
        SyncState::Initializing => "not begun",
        SyncState::Copying => "copying",
        SyncState::Copied => "copied",
        SyncState::Synchronized => "caught up",
        SyncState::Ready => "ready",
    }
}

/// `1,200 of ~2,000`, or the known part of it.
fn part_of(part: Option<u64>, whole: Option<u64>, shown: impl Fn(u64) -> String) -> String {
    match (part, whole) {
        (Some(part), Some(whole)) => format!("{} of ~{}", shown(part), shown(whole)),
        (Some(part), None) => shown(part),
        (None, Some(whole)) => format!("~{}", shown(whole)),
        (None, None) => String::new(),
    }
}

/// The copied part of a table, in percent of its estimated rows.
fn done(table: &TableStatus) -> Option<u64> {
    let rows = table.rows_copied.filter(|_| table.is_copying)?;
    table.rows_estimate.filter(|estimate| *estimate > 0).map(|estimate| percent(rows, estimate).min(99))
}

/// The causes, the differences of tables, and the missing tables.
fn what_is_wrong(status: &Status, style: &Style) -> Vec<String> {
    let mut rows = Vec::new();
    for cause in &status.causes {
        let evidence = if cause.evidence.is_empty() { String::new() } else { format!("\nSeen: {}", cause.evidence) };
        rows.push(("cause", told(&format!("{}{evidence}", cause.message), &cause.remedy)));
    }
    for drift in &status.schema_drift {
        rows.push(("drift", told(&format!("{}: {}", drift.table.to_text(), drift.message), &drift.remedy)));
    }
    if !status.unsubscribed_tables.is_empty() {
        rows.push(("missing", counted_as(&status.unsubscribed_tables, "published and not replicated")));
    }
    if !status.unpublished_tables.is_empty() {
        rows.push((
            "missed",
            counted_as(&status.unpublished_tables, "not published any more, so that nothing arrives"),
        ));
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let mut grid = Grid::new(style, WORDS);
    for (at, (word, text)) in rows.iter().enumerate() {
        if at > 0 {
            grid.row(&["", ""]);
        }
        grid.row(&[*word, text]);
    }
    std::iter::once(String::new()).chain(grid.lines()).collect()
}

fn counted_as(tables: &[QualifiedName], what: &str) -> String {
    let names: Vec<_> = tables.iter().take(LISTED).map(QualifiedName::to_text).collect();
    let more = match tables.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {} more", count(more as u64)),
    };
    let verb = if tables.len() == 1 { "is" } else { "are" };
    format!("{} {verb} {what}: {}{more}", counted(tables.len(), "table"), names.join(", "))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::report::samples::{busy, ill, named, table, well};

    fn check(all: &[Status], width: u16, expected: &Expect) {
        let text = statuses(all, &Style { width, is_coloured: false });
        let most = usize::from(width);
        let verdict = text.lines().count() - 1;
        assert!(text.lines().take(verdict).all(|line| line.chars().count() <= most), "{text}");
        expected.assert_eq(&text);
    }

    #[test]
    fn one_that_is_well() {
        check(
            &[well("shop")],
            80,
            &expect![[r#"
            Subscription "shop": running, caught up
              Slot "shop" is read from, its WAL is reserved.
              All of its 2 tables are ready.

            Healthy: 2 of 2 tables ready, caught up.
        "#]],
        );
    }

    #[test]
    fn one_that_copies() {
        check(
            &[busy("shop")],
            80,
            &expect![[r#"
            Subscription "shop": running, 1.2 MiB, 3 s behind
              Slot "shop" is read from, its WAL is reserved.

            state      table                             rows                 size  done
            copying    public.events  1,200,000 of ~2,000,000  310 MiB of ~512 MiB  60 %
            not begun  public.notes                       ~12             ~8.0 KiB
              2 of 4 tables are ready.

            Healthy, and not ready yet: 2 of 4 tables ready, 1.2 MiB behind.
        "#]],
        );
    }

    #[test]
    fn one_that_is_stuck_says_why() {
        check(
            &[ill("shop")],
            80,
            &expect![[r#"
            Subscription "shop": its worker does not run, 1.2 MiB, 3 s behind
              Slot "shop" is not read from, its WAL is unreserved, it may be lost at any
              moment.
              Copying has failed 7 times so far.

            state      table                             rows                 size  done
            copying    public.events  1,200,000 of ~2,000,000  310 MiB of ~512 MiB  60 %
            not begun  public.notes                       ~12             ~8.0 KiB
              2 of 4 tables are ready.

            cause    The worker cannot insert into public.events: column note is missing on
                     the subscriber.
                     Seen: the publisher's public.events has note text; apply_error_count
                     grew from 3 to 7
                     → On the subscriber: ALTER TABLE public.events ADD COLUMN note text;

            drift    public.events: column note is missing on the subscriber

            missing  1 table is published and not replicated: public.new_one

            missed   1 table is not published any more, so that nothing arrives:
                     public.old_one

            Not healthy: subscription "shop", 2 of 4 tables ready. The worker cannot insert into public.events: column note is missing on the subscriber.
        "#]],
        );
    }

    #[test]
    fn several_are_summed_up() {
        let other = Status { name: named("Other"), ..ill("shop") };
        let verdicts = [
            status_verdict(&[]),
            status_verdict(&[well("shop"), busy("shop")]),
            status_verdict(&[well("shop"), ill("shop")]),
            status_verdict(&[ill("shop"), other]),
            status_verdict(&[Status { lag_bytes: None, ..well("shop") }]),
        ];
        expect![[r#"
            There is no subscription.
            Healthy, and not ready yet: 4 of 6 tables ready, 1.2 MiB behind.
            Not healthy: subscription "shop", 4 of 6 tables ready. The worker cannot insert into public.events: column note is missing on the subscriber.
            Not healthy: subscriptions "shop", "Other"; 4 of 8 tables ready.
            Healthy: 2 of 2 tables ready."#]].assert_eq(&verdicts.join("\n"));
    }

    #[test]
    fn ten_thousand_tables_do_not_fill_the_screen() {
        let tables = (0..10_000).map(|at| table(&format!("t{at:05}"), SyncState::Initializing)).collect();
        let text = statuses(&[Status { tables, ..well("shop") }], &Style::plain());
        assert_eq!(text.lines().count(), LISTED + 8, "{text}");
        assert!(text.contains("… and 9,960 more that are not ready.\n  0 of 10,000 tables are ready."), "{text}");
    }
}
