// SPDX-License-Identifier: MPL-2.0

//! The output of a watch: a screen that is redrawn, lines, or lines of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use tokio::time::Instant;

use super::super::screen::{Screen, size};
use super::super::{Heard, json};
use crate::postgres::Ident;
use crate::replication::Error;
use crate::replication::status::Status;
use crate::report::{self, Lines, Mood, Pace, Style};
use crate::tf_provider::rfc3339;

/// The rows of a terminal whose height is unknown.
const ROWS: u16 = 24;

/// What has been shown so far.
pub(super) struct View {
    began: Instant,
    is_json: bool,
    pace: Pace,
    lines: BTreeMap<Ident, Lines>,
    /// How many lines of the terminal the last screen took.
    drawn: usize,
    /// The last reported outage.
    away: Option<String>,
}

impl View {
    /// A view that has shown nothing yet.
    pub(super) fn new(is_json: bool) -> Self {
        let (pace, lines) = (Pace::default(), BTreeMap::new());
        Self { began: Instant::now(), is_json, pace, lines, drawn: 0, away: None }
    }

    /// Shows a look.
    pub(super) fn show(&mut self, statuses: &[Status], screen: &mut Screen<'_>) {
        let at = self.began.elapsed();
        self.pace.note(at, statuses);
        self.away = None;
        if self.is_json {
            screen.print(&json::statuses_at(SystemTime::now(), statuses));
        } else if screen.is_live {
            let (style, rows) = room(screen);
            let frame = report::frame(statuses, &self.pace, &style, rows);
            self.draw(&frame, screen);
        } else {
            for status in statuses {
                if self.lines.entry(status.name.clone()).or_default().is_due(at, status) {
                    screen.print(&stamped(&report::line(status, &self.pace)));
                }
            }
        }
    }

    /// Reports that a server is unavailable, once for each reason.
    pub(super) fn away(&mut self, outage: &Error, screen: &mut Screen<'_>) {
        let summary = outage.summary().to_owned();
        if self.away.as_ref() != Some(&summary) {
            self.erase(screen);
            screen.warn(&format!("{summary}. The watch goes on."));
            self.away = Some(summary);
        }
    }

    /// Prints an operation's messages above the screen.
    pub(super) fn tell(&mut self, heard: &Heard, screen: &mut Screen<'_>) {
        if !heard.is_empty() {
            self.erase(screen);
            heard.tell(screen);
        }
    }

    /// Shows the last look, with a summary.
    pub(super) fn last(&mut self, statuses: &[Status], screen: &mut Screen<'_>) {
        let verdict = report::status_verdict(statuses);
        if self.is_json {
            return screen.print(&json::statuses_at(SystemTime::now(), statuses));
        }
        if !screen.is_live {
            return screen.print(&stamped(&verdict));
        }
        self.show(statuses, screen);
        let is_well = statuses.iter().all(Status::is_well) && !statuses.is_empty();
        let mood = if is_well { Mood::Good } else { Mood::Bad };
        screen.print(&format!("{}\n", screen.style.paint(mood, &verdict)));
    }

    fn draw(&mut self, lines: &[String], screen: &mut Screen<'_>) {
        screen.print(&over(self.drawn, lines));
        self.drawn = lines.len();
    }

    fn erase(&mut self, screen: &mut Screen<'_>) {
        self.draw(&[], screen);
    }
}

/// The current size of the terminal, without the last line, which the cursor needs.
fn room(screen: &Screen<'_>) -> (Style, usize) {
    let (rows, width) = size().unwrap_or((ROWS, screen.style.width));
    (Style { width, ..screen.style }, usize::from(rows).saturating_sub(1))
}

/// Lines that replace the drawn ones, in one text so that nothing flickers.
fn over(drawn: usize, lines: &[String]) -> String {
    let mut text = String::from("\r");
    if drawn > 0 {
        let _ = write!(text, "\u{1b}[{drawn}A");
    }
    for line in lines {
        // Clear to the end of the line, because the old one may have been longer.
        let _ = writeln!(text, "{line}\u{1b}[K");
    }
    // Clear everything below.
    text + "\u{1b}[J"
}

fn stamped(line: &str) -> String {
    format!("{} {line}\n", rfc3339::utc(SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screenful_takes_the_place_of_the_one_before() {
        assert_eq!(over(0, &["a".to_owned()]), "\ra\u{1b}[K\n\u{1b}[J");
        assert_eq!(over(3, &["b".to_owned()]), "\r\u{1b}[3Ab\u{1b}[K\n\u{1b}[J");
        assert_eq!(over(1, &[]), "\r\u{1b}[1A\u{1b}[J");
    }
}
