// SPDX-License-Identifier: MPL-2.0

//! Shows the progress of a comparison on the standard error: a line that is redrawn, or lines from time to time.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::super::screen::Screen;
use crate::replication::comparison::{Progress, Step};
use crate::report::{self, units};
use crate::tf_provider::rfc3339;

/// How often a terminal's line is redrawn.
const TICK: Duration = Duration::from_millis(500);

/// Comparisons that take less time show nothing.
const QUIET: Duration = Duration::from_secs(2);

/// The time between lines without a terminal.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The progress, and what was shown of it.
pub(super) struct Showing {
    /// Whether the output is for programs: then nothing is shown.
    is_json: bool,
    began: Instant,
    /// The current step, and how many tables are done.
    now: Option<Now>,
    /// When a line was printed last.
    printed: Option<Instant>,
    /// Whether a line is visible on the terminal.
    is_drawn: bool,
}

struct Now {
    what: String,
    since: Instant,
    done: usize,
    all: usize,
}

impl Showing {
    /// A display that has shown nothing yet.
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json, began: Instant::now(), now: None, printed: None, is_drawn: false }
    }

    /// Records a step.
    pub(super) fn note(&mut self, progress: Progress<'_>) {
        let Progress { step, done, all } = progress;
        match (step, &mut self.now) {
            (Step::Begins(first, tables), now) => {
                *now = Some(Now { what: report::comparing(first, tables), since: Instant::now(), done, all });
            }
            (Step::Ended(_), Some(now)) => now.done = done,
            (Step::Ended(_), None) => {}
        }
    }

    /// Shows what is due.
    fn tick(&mut self, screen: &mut Screen<'_>) {
        let Some(now) = self.now.as_ref().filter(|_| self.began.elapsed() >= QUIET) else { return };
        let text = now.text();
        if let Some(width) = screen.errors_width {
            let text: String = text.chars().take(usize::from(width).saturating_sub(1)).collect();
            screen.note(&format!("\r{text}\u{1b}[K"));
            self.is_drawn = true;
        } else if !self.is_json && self.printed.is_none_or(|printed| printed.elapsed() >= HEARTBEAT) {
            screen.note(&format!("{} {text}\n", rfc3339::utc(SystemTime::now())));
            self.printed = Some(Instant::now());
        }
    }

    /// Erases the line on the terminal.
    pub(super) fn erase(&mut self, screen: &mut Screen<'_>) {
        if std::mem::take(&mut self.is_drawn) {
            screen.note("\r\u{1b}[K");
        }
    }
}

impl Now {
    fn text(&self) -> String {
        let (done, all) = (units::count(self.done as u64), units::counted(self.all, "table"));
        let time = units::duration(Duration::from_secs(self.since.elapsed().as_secs()).max(Duration::from_secs(1)));
        format!("{done} of {all} done, {} for {time}", self.what)
    }
}

/// Shows the progress repeatedly.
pub(super) async fn show(showing: &Mutex<Showing>, screen: &mut Screen<'_>) -> Infallible {
    loop {
        tokio::time::sleep(TICK).await;
        lock(showing).tick(screen);
    }
}

/// Locks the display for a moment.
pub(super) fn lock(showing: &Mutex<Showing>) -> MutexGuard<'_, Showing> {
    showing.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::QualifiedName;
    use crate::report::Style;

    /// The output during fifteen seconds of one table.
    async fn shown(is_json: bool, errors_width: Option<u16>) -> (String, String) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let style = Style::plain();
        let mut screen = Screen { out: &mut out, errors: &mut errors, style, is_live: false, errors_width };
        let table = QualifiedName::parse("orders").unwrap();
        let mut showing = Showing::new(is_json);
        showing.note(Progress { step: Step::Begins(&table, 1), done: 3, all: 12 });
        for _ in 0..15 {
            tokio::time::advance(Duration::from_secs(1)).await;
            showing.tick(&mut screen);
        }
        showing.erase(&mut screen);
        (String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_has_one_line_and_a_pipe_some() {
        let (out, live) = shown(true, Some(60)).await;
        assert!(out.is_empty() && live.ends_with("\r\u{1b}[K") && !live.contains('\n'), "{live:?}");
        assert!(live.contains("\r3 of 12 tables done, comparing public.orders for 2 s\u{1b}[K"), "{live:?}");
        let (_, narrow) = shown(false, Some(17)).await;
        assert!(narrow.contains("\r3 of 12 tables d\u{1b}[K"), "{narrow:?}");
        let (out, lines) = shown(false, None).await;
        assert_eq!((out.as_str(), lines.lines().count()), ("", 2), "{lines}");
        assert!(lines.ends_with("Z 3 of 12 tables done, comparing public.orders for 12 s\n"), "{lines}");
        assert_eq!(shown(true, None).await, (String::new(), String::new()));
    }
}
