// SPDX-License-Identifier: MPL-2.0

//! The resources of processes, as the kernel counts them: the provider's memory and processor time, and the core's
//! processor time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The interval of samples: up to this much time of a process that ends is not counted.
const SAMPLE: Duration = Duration::from_millis(25);

/// Ticks of `/proc/*/stat` in a second: `USER_HZ`, the same on every Linux that this runs on.
const TICKS: f64 = 100.0;

/// The usage during a watch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// The maximum memory of one process of the provider, in MiB.
    pub(super) peak: f64,
    /// Processor time of all processes of the provider, in seconds.
    pub(super) provider: f64,
    /// Processor time of the core, without its providers, in seconds.
    pub(super) core: f64,
}

/// Takes samples until it is stopped.
struct Sampling<T> {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Default + Send + 'static> Sampling<T> {
    fn begin(look: impl Fn(&mut T) + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let mut seen = T::default();
            while !flag.load(Ordering::Relaxed) {
                look(&mut seen);
                std::thread::sleep(SAMPLE);
            }
            seen
        });
        Self { ended, thread }
    }

    fn end(self) -> T {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking at processes")
    }
}

/// Samples a workspace's processes until it is stopped.
pub(super) struct Watch(Sampling<Seen>);

impl Watch {
    /// Starts sampling: providers are programs below the directory, cores work in it.
    pub(super) fn begin(directory: PathBuf) -> Self {
        Self(Sampling::begin(move |seen: &mut Seen| seen.look(&directory)))
    }

    /// Stops, and returns the usage.
    pub(super) fn end(self) -> Usage {
        self.0.end().usage()
    }
}

/// Samples the memory of one process until it is stopped.
pub(super) struct Peak(Sampling<u64>);

impl Peak {
    /// Starts sampling the process of this id.
    pub(super) fn begin(id: u32) -> Self {
        let process = PathBuf::from(format!("/proc/{id}"));
        Self(Sampling::begin(move |peak_kib: &mut u64| {
            *peak_kib = high_water_mark(&process).unwrap_or_default().max(*peak_kib);
        }))
    }

    /// Stops, and returns the maximum memory, in MiB.
    pub(super) fn end(self) -> f64 {
        self.0.end() as f64 / 1024.0
    }
}

/// The last sample of each process.
#[derive(Default)]
struct Seen {
    processes: HashMap<Run, Process>,
}

/// A process while it runs one program. A core that starts a provider is two processes of the core for a moment: the
/// usage of the second one until then is not the provider's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Run {
    id: String,
    /// When it began, in ticks since the machine's start: ids are reused.
    began: u64,
    is_provider: bool,
}

#[derive(Clone, Copy, Default)]
struct Process {
    ticks: u64,
    peak_kib: u64,
}

impl Seen {
    fn look(&mut self, directory: &Path) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if !id.starts_with(|first: char| first.is_ascii_digit()) {
                continue;
            }
            let path = entry.path();
            let is_below = |link: &str| fs::read_link(path.join(link)).is_ok_and(|place| place.starts_with(directory));
            let is_provider = is_below("exe");
            if !(is_provider || is_below("cwd")) {
                continue;
            }
            let Some((began, ticks)) = times(&path) else { continue };
            let peak_kib = high_water_mark(&path).unwrap_or_default();
            // It may have become a provider since the first read.
            if is_below("exe") == is_provider {
                self.note(Run { id, began, is_provider }, Process { ticks, peak_kib });
            }
        }
    }

    fn note(&mut self, run: Run, now: Process) {
        let process = self.processes.entry(run).or_default();
        process.ticks = process.ticks.max(now.ticks);
        process.peak_kib = process.peak_kib.max(now.peak_kib);
    }

    fn usage(&self) -> Usage {
        let of = |is_provider: bool| self.processes.iter().filter(move |(run, _)| run.is_provider == is_provider);
        let seconds =
            |is_provider| of(is_provider).map(|(run, process)| self.own(run, *process)).sum::<u64>() as f64 / TICKS;
        let peak = of(true).map(|(_, process)| process.peak_kib).max().unwrap_or_default();
        Usage { peak: peak as f64 / 1024.0, provider: seconds(true), core: seconds(false) }
    }

    /// The time that it took with this program: the kernel's counter continues from the previous program.
    fn own(&self, run: &Run, process: Process) -> u64 {
        let before = Run { is_provider: false, ..run.clone() };
        let before = self.processes.get(&before).filter(|_| run.is_provider).map_or(0, |process| process.ticks);
        process.ticks - before.min(process.ticks)
    }
}

/// When a process began, and its user and system time, in ticks. The name before them may contain anything except
/// another ")".
fn times(process: &Path) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((field(19)?, field(11)? + field(12)?))
}

/// The maximum memory of a process, in KiB.
fn high_water_mark(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_about_to_become_a_provider_is_a_core() {
        let mut seen = Seen::default();
        let run = |id: &str, is_provider| Run { id: id.to_owned(), began: 7, is_provider };
        seen.note(run("1", false), Process { ticks: 900, peak_kib: 213 * 1024 });
        seen.note(run("2", false), Process { ticks: 10, peak_kib: 213 * 1024 });
        seen.note(run("2", true), Process { ticks: 30, peak_kib: 19 * 1024 });
        let usage = seen.usage();
        assert_eq!((usage.peak, usage.provider, usage.core), (19.0, 0.2, 9.1));
    }

    #[test]
    fn this_process_has_begun_and_taken_memory() {
        let own = Path::new("/proc/self");
        assert!(times(own).is_some_and(|(began, _)| began > 0));
        assert!(high_water_mark(own).is_some_and(|kib| kib > 0));
    }
}
