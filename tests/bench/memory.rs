//! The most memory that a provider's process has held, as the kernel counts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SAMPLE: Duration = Duration::from_millis(50);

/// Looks at every process of a program below some directory until told to end.
pub(super) struct Peak {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Peak {
    /// Begins to look.
    pub(super) fn watch(directory: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut peak = 0;
            while !flag.load(Ordering::Relaxed) {
                peak = peak.max(largest(&directory));
                std::thread::sleep(SAMPLE);
            }
            peak
        });
        Self { ended, thread }
    }

    /// Ends, and returns the peak in MiB.
    pub(super) fn end(self) -> f64 {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("watching memory") as f64 / 1024.0
    }
}

/// The largest high-water mark of the processes that run now, in KiB. What has just ended is passed over.
fn largest(directory: &Path) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours =
        processes.filter(|process| fs::read_link(process.join("exe")).is_ok_and(|exe| exe.starts_with(directory)));
    ours.filter_map(|process| high_water_mark(&process)).max().unwrap_or_default()
}

fn high_water_mark(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
