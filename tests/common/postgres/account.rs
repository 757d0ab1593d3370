// SPDX-License-Identifier: MPL-2.0

//! The account that servers run under. Postgres refuses to run as root, so root's tests use `nobody`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A user and a group to run as; `None` is the user who runs the tests.
#[derive(Clone, Copy)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    pub(super) fn of_servers() -> Self {
        static ACCOUNT: OnceLock<Account> = OnceLock::new();
        *ACCOUNT.get_or_init(|| Self(is_root().then(nobody)))
    }

    /// Runs the command under this account.
    pub(super) fn run(self, command: &mut Command) -> &mut Command {
        match self.0 {
            Some((user, group)) => command.uid(user).gid(group),
            None => command,
        }
    }

    /// Gives a file to this account.
    pub(super) fn own(self, path: &Path) {
        if let Some((user, group)) = self.0 {
            std::os::unix::fs::chown(path, Some(user), Some(group)).expect("giving a file to the servers' account");
        }
    }

    /// Whether a program can be started under this account: its directories may only be open to root.
    pub(super) fn can_run(self, program: &Path) -> bool {
        let mut command = Command::new(program);
        command.arg("--version").current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        self.run(&mut command).status().is_ok_and(|status| status.success())
    }

    /// Whether this account can enter a directory.
    pub(super) fn can_enter(self, directory: &Path) -> bool {
        let mut command = Command::new("sh");
        command.args(["-c", "cd \"$1\"", "sh"]).arg(directory).current_dir("/").stderr(Stdio::null());
        self.run(&mut command).status().is_ok_and(|status| status.success())
    }
}

/// Whether this process runs as root: the owner of its own entry in /proc shows it without a system call.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The user and group ids of `nobody`.
fn nobody() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = users.lines().find_map(|line| {
        let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.unwrap_or((65534, 65534))
}
