// SPDX-License-Identifier: MPL-2.0

//! Panics, in the words that Terraform looks for on stderr: it then shows them to the user as a crash of this plugin.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};

/// Longer messages are truncated, because the parent splits lines of 64 KiB.
const LONGEST_MESSAGE: usize = 8 * 1024;

/// Writes every later panic to stderr, in one piece.
pub(super) fn install_hook() {
    panic::set_hook(Box::new(|info| {
        let report = report(info, &Backtrace::capture());
        // If stderr is gone, nobody can be told.
        let _ = std::io::stderr().write_all(report.as_bytes());
    }));
}

/// The message and the place, with a backtrace if RUST_BACKTRACE is set.
fn report(info: &PanicHookInfo<'_>, backtrace: &Backtrace) -> String {
    let message = info.payload_as_str().unwrap_or("(no message)");
    let message = &message[..message.floor_char_boundary(LONGEST_MESSAGE)];
    let place = info.location().map_or_else(String::new, |location| format!("\n\tat {location}"));
    let calls = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    format!("panic: {message}{place}{calls}\n")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_report_starts_as_terraform_expects() {
        let reports = Arc::new(Mutex::new(Vec::new()));
        let previous = panic::take_hook();
        panic::set_hook({
            let (reports, this) = (Arc::clone(&reports), std::thread::current().id());
            Box::new(move |info| {
                if std::thread::current().id() == this {
                    reports.lock().unwrap().push(report(info, &Backtrace::disabled()));
                } else {
                    previous(info);
                }
            })
        });
        let _ = panic::catch_unwind(|| panic!("no {}", "luck"));
        let _ = panic::catch_unwind(|| panic::panic_any(7));
        let _ = panic::take_hook();

        let reports = reports.lock().unwrap();
        let place = format!("\n\tat {}:", file!());
        assert!(reports[0].starts_with(&format!("panic: no luck{place}")), "{}", reports[0]);
        assert!(reports[1].starts_with(&format!("panic: (no message){place}")), "{}", reports[1]);
    }
}
