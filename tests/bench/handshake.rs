// SPDX-License-Identifier: MPL-2.0

//! The time from the start of the process to the line with its address.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::common::tools;
use super::cycle::median_of;
use super::goals::Goals;

const STARTS: usize = 31;

/// Measures and prints.
pub(super) fn report(goals: &mut Goals) {
    let client = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("making a certificate");
    let certificate = pem(client.cert.der());
    let start = |program: &Path| {
        let mut command = Command::new(program);
        command
            .env("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2")
            .env("PLUGIN_PROTOCOL_VERSIONS", "5,6")
            .env("PLUGIN_MIN_PORT", "10000")
            .env("PLUGIN_MAX_PORT", "25000")
            .env("PLUGIN_CLIENT_CERT", &certificate);
        command
    };
    let echo = || {
        let mut command = Command::new("echo");
        command.arg("ready");
        command
    };
    let (provider, go) = (tools::provider(), tools::go_provider());
    let (mut ours, mut floor, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        floor.push(until_first_line(echo()));
        ours.push(until_first_line(start(&provider)));
        theirs.extend(go.as_deref().map(|go| until_first_line(start(go))));
    }
    let (ours, floor) = (median_of(&ours) * 1e3, median_of(&floor) * 1e3);
    println!("start to handshake: {ours:.1} ms ({:.1} times the {floor:.1} ms of echo), {}", ours / floor, size());
    goals.at_most("start to handshake", ours, 4.0, "ms");
    if go.is_some() {
        let theirs = median_of(&theirs) * 1e3;
        println!("a provider in Go that does nothing: {theirs:.1} ms");
        goals.at_most("start to handshake, a quarter of a Go provider's", ours, theirs / 4.0, "ms");
    }
}

fn until_first_line(mut command: Command) -> Duration {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("starting a program");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("reading a line");
    let took = started.elapsed();
    assert!(line.ends_with('\n'), "a program ended without printing a line");
    let _ = child.kill();
    let _ = child.wait();
    took
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: String = text.as_bytes().chunks(64).map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

fn size() -> String {
    let bytes = Path::new(&tools::provider()).metadata().map_or(0, |metadata| metadata.len());
    format!("binary of {:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
