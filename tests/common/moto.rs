// SPDX-License-Identifier: MPL-2.0

//! moto's server: an implementation of the RDS API that is independent of this project.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::tools;

/// A running, empty server. Dropping it ends it.
pub struct Moto {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub endpoint_url: String,
    server: Child,
}

impl Moto {
    /// Starts it on a port that the system chooses; none if it is not installed.
    ///
    /// # Panics
    /// When it is missing and `CI` is set, or does not start.
    pub fn start() -> Option<Self> {
        let Some(command) = tools::core("moto_server") else {
            let hint = "moto is not installed: run `python3 tests/tools/install.py`";
            assert!(std::env::var_os("CI").is_none(), "{hint}");
            eprintln!("skipped: {hint}");
            return None;
        };
        let mut server = Command::new(command)
            .args(["--host", "127.0.0.1", "--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starting moto");
        let mut lines = BufReader::new(server.stderr.take().expect("a pipe")).lines();
        let endpoint_url =
            lines.by_ref().map_while(Result::ok).find_map(|line| address(&line)).expect("moto's address");
        // It writes a line for each request, and would wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { endpoint_url, server })
    }
}

/// The URL in ` * Running on http://127.0.0.1:43219`.
fn address(line: &str) -> Option<String> {
    line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:")).map(str::to_owned)
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
