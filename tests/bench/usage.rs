//! What processes take, as the kernel counts it: the provider's memory and processor time, and the core's beside them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What ends between two looks keeps up to this much of its time to itself.
const SAMPLE: Duration = Duration::from_millis(25);

/// Ticks of `/proc/*/stat` in a second: `USER_HZ`, the same on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// What was taken in the time of a watch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The most memory that one process of the provider held, in MiB.
    pub(super) peak: f64,
    /// Processor time of all processes of the provider, in seconds.
    pub(super) provider: f64,
    /// Processor time of the core, without its providers, in seconds.
    pub(super) core: f64,
}

/// Looks at a workspace's processes until told to end.
pub(super) struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Usage>,
}

impl Watch {
    /// Begins to look: providers are programs below the directory, cores are at work in it.
    pub(super) fn begin(directory: PathBuf) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !flag.load(Ordering::Relaxed) {
                seen.look(&directory);
                std::thread::sleep(SAMPLE);
            }
            seen.usage()
        });
        Self { ended, thread }
    }

    /// Ends, and says what was taken.
    pub(super) fn end(self) -> Usage {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("watching processes")
    }
}

/// The last look at each process, by its id.
#[derive(Default)]
struct Seen {
    processes: HashMap<String, Process>,
}

#[derive(Clone, Copy, Default)]
struct Process {
    is_provider: bool,
    ticks: u64,
    peak_kib: u64,
}

impl Seen {
    fn look(&mut self, directory: &Path) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(|first: char| first.is_ascii_digit()) {
                continue;
            }
            let path = entry.path();
            let is_below = |link: &str| fs::read_link(path.join(link)).is_ok_and(|place| place.starts_with(directory));
            let is_provider = is_below("exe");
            if is_provider || is_below("cwd") {
                let process = self.processes.entry(name).or_default();
                process.is_provider = is_provider;
                process.ticks = process.ticks.max(ticks(&path).unwrap_or_default());
                process.peak_kib = process.peak_kib.max(high_water_mark(&path).unwrap_or_default());
            }
        }
    }

    fn usage(&self) -> Usage {
        let of = |is_provider: bool| self.processes.values().filter(move |process| process.is_provider == is_provider);
        let seconds = |is_provider| of(is_provider).map(|process| process.ticks).sum::<u64>() as f64 / TICKS;
        let peak = of(true).map(|process| process.peak_kib).max().unwrap_or_default();
        Usage { peak: peak as f64 / 1024.0, provider: seconds(true), core: seconds(false) }
    }
}

/// User and system time, in ticks. The name before them may hold anything but a further ")".
fn ticks(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The most memory that a process has held, in KiB.
fn high_water_mark(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
