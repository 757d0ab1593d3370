// SPDX-License-Identifier: MPL-2.0

//! The commands of the binary: for a person at a terminal and for pipelines, without any configuration.
//!
//! Starting the plugin never runs this code. A command prints its answer to the standard output and errors to the
//! standard error, and its exit status shows the result: see `Outcome`.

mod arguments;
mod compare;
mod json;
mod preflight;
mod screen;
mod servers;
mod status;
mod watch;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tokio_util::sync::CancellationToken;

use self::arguments::{Arguments, Command};
use self::screen::Screen;
use self::servers::Environment;
use crate::replication;
use crate::tf_provider::{diagnostics, log};

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// All is well, warnings included.
    Well,
    /// Something is wrong.
    Wrong,
    /// The servers could not be queried, or the command was not understood.
    NotAsked,
    /// A person has interrupted it.
    Interrupted,
}

impl Outcome {
    fn status(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Wrong => 1,
            Self::NotAsked => 2,
            // Like a process that SIGINT has ended.
            Self::Interrupted => 130,
        }
    }

    /// The outcome of an answer.
    fn of(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::Wrong }
    }
}

/// Whether these arguments, without the binary's name, are for a command: not if there are none, or if they begin with
/// one of the plugin's own.
pub fn is_meant(first: Option<&OsString>) -> bool {
    let plugins = ["-debug", "--debug", "-version", "--version"];
    first.is_some_and(|first| !plugins.iter().any(|plugin| first == plugin))
}

/// How to use the binary by hand, for people who start it without a command.
pub const USAGE: &str = "\nBy hand it looks at a replication, and changes nothing:\n  \
    terraform-provider-neonrepl preflight   whether replicating will work, and what stands in its way\n  \
    terraform-provider-neonrepl status      how far it is, whether it is well, and if not, why\n  \
    terraform-provider-neonrepl watch       the same live, with a bar for each table that is being copied\n  \
    terraform-provider-neonrepl compare     whether tables hold the same rows, and which differ\n  \
    terraform-provider-neonrepl help        more about them";

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    log::install();
    let (style, is_live) = screen::style_of_stdout(|name| std::env::var_os(name));
    let errors_width = screen::width_of_stderr(|name| std::env::var_os(name));
    let (mut out, mut errors) = (io::stdout(), io::stderr());
    let mut screen = Screen { out: &mut out, errors: &mut errors, style, is_live, errors_width };
    let arguments: Vec<_> = std::env::args_os().collect();
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(until_interrupted(&arguments, &mut screen)),
        Err(error) => {
            screen.complain(&error);
            Outcome::NotAsked
        }
    };
    ExitCode::from(outcome.status())
}

/// How long servers may take to end their work after Ctrl-C.
const GRACE: Duration = Duration::from_secs(3);

/// Runs a command. Ctrl-C asks it to end, and to end its work on the servers; a second one does not wait.
async fn until_interrupted(arguments: &[OsString], screen: &mut Screen<'_>) -> Outcome {
    let stop = CancellationToken::new();
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Without a handler the system ends the process.
            std::future::pending::<()>().await;
        }
        stop.cancel();
        let _ = tokio::time::timeout(GRACE, tokio::signal::ctrl_c()).await;
    };
    let environment = |name: &str| std::env::var(name).ok();
    tokio::select! {
        // Ctrl-C is handled before any server is asked.
        biased;
        () = interrupted => Outcome::Interrupted,
        outcome = run(arguments, &environment, screen, &stop) => outcome,
    }
}

async fn run(
    arguments: &[OsString],
    environment: &Environment<'_>,
    screen: &mut Screen<'_>,
    stop: &CancellationToken,
) -> Outcome {
    let command = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.command,
        Err(error) => return not_a_command(&error, arguments, screen),
    };
    let outcome = match &command {
        Command::Preflight(asked) => Box::pin(preflight::run(asked, environment, screen, stop)).await,
        Command::Status(asked) => Box::pin(status::run(asked, environment, screen, stop)).await,
        Command::Watch(asked) => Box::pin(watch::run(asked, environment, screen, stop)).await,
        Command::Compare(asked) => Box::pin(compare::run(asked, environment, screen, stop)).await,
    };
    outcome.unwrap_or_else(|failure| {
        if stop.is_cancelled() {
            return Outcome::Interrupted;
        }
        screen.complain(&failure.0);
        Outcome::NotAsked
    })
}

/// Requested help is an answer; any other output of clap is an error.
fn not_a_command(error: &clap::Error, arguments: &[OsString], screen: &mut Screen<'_>) -> Outcome {
    let text = arguments::said(error, arguments, screen.style.is_coloured);
    if error.use_stderr() {
        let _ = screen.errors.write_all(text.as_bytes());
        return Outcome::NotAsked;
    }
    screen.print(&text);
    Outcome::Well
}

/// Why a command has no answer.
struct Failure(String);

impl From<diagnostics::Error> for Failure {
    fn from(error: diagnostics::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<replication::Error> for Failure {
    fn from(error: replication::Error) -> Self {
        Self(error.to_string())
    }
}

/// Keeps an operation's messages until they can be printed.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<replication::Error>>);

impl replication::Listener for Heard {
    fn warn(&self, warning: replication::Error) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(warning);
    }
}

impl Heard {
    /// Whether there is nothing to print.
    fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
    }

    /// Prints the messages since the last call.
    fn tell(&self, screen: &mut Screen<'_>) {
        let heard = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        heard.iter().for_each(|warning| screen.warn(warning));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Style;

    /// Runs a command without any server: outcome, answer, errors.
    fn told(arguments: &[&str]) -> (Outcome, String, String) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let mut screen =
            Screen { out: &mut out, errors: &mut errors, style: Style::plain(), is_live: false, errors_width: None };
        let arguments: Vec<_> = ["neonrepl"].iter().chain(arguments).map(OsString::from).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(run(&arguments, &|_| None, &mut screen, &CancellationToken::new()));
        (outcome, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn only_commands_come_here() {
        let meant = |argument: &str| is_meant(Some(&OsString::from(argument)));
        assert!(!is_meant(None) && !meant("-debug") && !meant("--version"));
        assert!(meant("status") && meant("help") && meant("--help") && meant("serve"));
    }

    #[test]
    fn help_is_an_answer() {
        for arguments in [&["--help"][..], &["help"], &["help", "watch"], &["status", "--help"]] {
            let (outcome, out, errors) = told(arguments);
            assert_eq!((outcome, errors.as_str()), (Outcome::Well, ""), "{arguments:?}");
            assert!(out.contains("Usage: terraform-provider-neonrepl"), "{out}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_asked() {
        let wrong: [&[&str]; 7] = [
            &["stattus"],
            &["status", "--jsn"],
            &["watch", "--until", "never"],
            &["watch", "--timeout", "1m"],
            &["watch", "--interval", "soon"],
            &["preflight", "--publication", ""],
            &["compare"],
        ];
        for arguments in wrong {
            let (outcome, out, errors) = told(arguments);
            assert_eq!((outcome.status(), out.as_str()), (2, ""), "{arguments:?}");
            assert!(errors.starts_with("error: "), "{errors}");
        }
    }

    #[test]
    fn a_url_that_is_missing_is_named() {
        for command in ["preflight", "status", "watch"] {
            let (outcome, out, errors) = told(&[command]);
            assert_eq!((outcome.status(), out.as_str()), (2, ""));
            assert!(errors.contains("there is no URL of the ") && errors.contains("NEONREPL_"), "{errors}");
        }
    }
}
