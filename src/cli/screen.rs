// SPDX-License-Identifier: MPL-2.0

//! The output of a command, and what it may use there.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write};

use crate::report::{Mood, Style};

/// The width of a text without a terminal.
const WIDTH_ELSEWHERE: u16 = 100;

/// The output of a command. If nobody reads it any more, texts that cannot be written are dropped.
pub(super) struct Screen<'a> {
    /// For the answer.
    pub(super) out: &'a mut dyn Write,
    /// For errors.
    pub(super) errors: &'a mut dyn Write,
    /// The layout of the answer.
    pub(super) style: Style,
    /// Whether the answer goes to a terminal that can show it live.
    pub(super) is_live: bool,
    /// The width of the terminal for errors; none without a terminal that can show something live.
    pub(super) errors_width: Option<u16>,
}

impl Screen<'_> {
    /// Prints a text of the answer as it is.
    pub(super) fn print(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    /// Prints beside the answer, as it is.
    pub(super) fn note(&mut self, text: &str) {
        let _ = self.errors.write_all(text.as_bytes()).and_then(|()| self.errors.flush());
    }

    /// Prints an error.
    pub(super) fn complain(&mut self, error: &dyn std::fmt::Display) {
        self.remark(Mood::Bad, "error", error);
    }

    /// Prints a warning.
    pub(super) fn warn(&mut self, warning: &dyn std::fmt::Display) {
        self.remark(Mood::Doubtful, "warning", warning);
    }

    fn remark(&mut self, mood: Mood, word: &str, text: &dyn std::fmt::Display) {
        let word = self.style.paint(mood, word);
        let _ = writeln!(self.errors, "{word}: {text}");
    }
}

/// The style that suits the standard output of this process.
pub(super) fn style_of_stdout(environment: impl Fn(&str) -> Option<OsString>) -> (Style, bool) {
    let is_terminal = io::stdout().is_terminal();
    let width = size().filter(|_| is_terminal).map(|(_, columns)| columns);
    let is_dumb = environment("TERM").is_some_and(|term| term == "dumb");
    (style(is_terminal && !is_dumb, width, environment("NO_COLOR")), is_terminal && !is_dumb)
}

/// The width of the standard error's terminal, if it can redraw a line.
pub(super) fn width_of_stderr(environment: impl Fn(&str) -> Option<OsString>) -> Option<u16> {
    let is_dumb = environment("TERM").is_some_and(|term| term == "dumb");
    let is_live = io::stderr().is_terminal() && !is_dumb;
    let size = console::Term::stderr().size_checked().filter(|(_, columns)| *columns > 0);
    is_live.then(|| size.map_or(WIDTH_ELSEWHERE, |(_, columns)| columns))
}

/// The rows and columns of the standard output's terminal, if known.
pub(super) fn size() -> Option<(u16, u16)> {
    console::Term::stdout().size_checked().filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// Uses colours if a terminal shows them and `NO_COLOR` is not set; an empty value counts as not set.
fn style(is_terminal: bool, width: Option<u16>, no_color: Option<OsString>) -> Style {
    let is_refused = no_color.is_some_and(|value| !value.is_empty());
    Style { width: width.unwrap_or(WIDTH_ELSEWHERE), is_coloured: is_terminal && !is_refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let coloured = |is_terminal, no_color: Option<&str>| {
            style(is_terminal, Some(80), no_color.map(OsString::from)).is_coloured
        };
        assert!(coloured(true, None) && coloured(true, Some("")));
        assert!(!coloured(true, Some("1")) && !coloured(false, None));
        assert_eq!(style(true, Some(132), None).width, 132);
        assert_eq!(style(false, None, None).width, 100);
    }
}
