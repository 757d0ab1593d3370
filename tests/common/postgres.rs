// SPDX-License-Identifier: MPL-2.0

//! Real Postgres servers on loopback.
//!
//! Every server has its own data directory below the system's temporary one, a port that the system chooses,
//! passwords with scram-sha-256, and a supervisor that ends it after the test process has ended in any way.

mod account;
mod cluster;
mod database;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::seen;
use super::wait::block_until;
use account::Account;
pub use database::{Database, Role, encode, quote};

/// The superuser of every server.
pub const SUPERUSER: &str = "postgres";
/// The superuser's password: a unique text, so that a leak is found.
pub const SUPERUSER_PASSWORD: &str = "pw-superuser-7Qx2";

/// How long a server may take to start or stop before a test gives up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the server, and follows the commands on its own stdin. The end of that input means the end of the test
/// process: then it removes the server and its directory, unless the last line was KEEP. In that case the server
/// keeps running, and its directory is removed when it ends.
const SUPERVISOR: &str = r#"
directory=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
echo $server >"$directory/pid"
{
    while read -r order <&3 && [ "$order" != KEEP ]; do kill -s "$order" $server; done
    trap '' TERM
    [ "$order" = KEEP ] || kill -s QUIT $server
    while kill -s 0 $server; do sleep 0.05; done
    rm -rf "$directory"
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
wait $server
kill -s TERM $watcher 2>/dev/null
"#;

/// A major version of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Major {
    V14,
    V15,
    V16,
    V17,
    V18,
}

impl Major {
    /// Every version that the tests can start, oldest first.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The version as `server_version` begins.
    pub const fn number(self) -> u16 {
        match self {
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }
}

/// Server settings by name, as in `postgresql.conf`, with unquoted values.
pub type Settings = BTreeMap<String, String>;

/// Settings from pairs: `settings([("wal_level", "replica")])`.
pub fn settings<const N: usize>(pairs: [(&str, &str); N]) -> Settings {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// How to stop a server, with the names of `pg_ctl stop -m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Waits for the clients to leave.
    Smart,
    /// Disconnects the clients and shuts down cleanly.
    Fast,
    /// Quits without a checkpoint; the next start recovers.
    Immediate,
}

impl Stop {
    const fn signal(self) -> &'static str {
        match self {
            Self::Smart => "TERM",
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// A Postgres server. Dropping it stops it and removes its data.
pub struct Server {
    major: Major,
    port: u16,
    directory: PathBuf,
    settings: Settings,
    process: Option<Process>,
    names: AtomicU32,
    starts: Arc<AtomicU32>,
}

/// The supervisor, and the pipe that keeps it and the server alive.
struct Process {
    supervisor: Child,
    lifeline: ChildStdin,
}

/// The server of one major that all tests of this process share. It has `wal_level = logical`.
pub fn shared(major: Major) -> &'static Server {
    static SERVERS: [OnceLock<Server>; Major::ALL.len()] = [const { OnceLock::new() }; Major::ALL.len()];
    SERVERS[major as usize].get_or_init(|| Server::start(major, Settings::new()))
}

impl Server {
    /// Starts a new server, with these settings in addition to the usual ones. Returns when it accepts connections.
    ///
    /// # Panics
    /// When it does not start; the message has its log.
    pub fn start(major: Major, settings: Settings) -> Self {
        let directory = cluster::create(major);
        let mut server = Self {
            major,
            port: 0,
            directory,
            settings,
            process: None,
            names: AtomicU32::new(0),
            starts: Arc::default(),
        };
        server.launch();
        server
    }

    /// Stops the server cleanly and starts it with the same port and data, and these settings in addition to the
    /// previous ones.
    pub fn restart(&mut self, settings: Settings) {
        self.stop(Stop::Fast);
        self.settings.extend(settings);
        self.launch();
    }

    /// Stops the server, keeping its data and port for `restart`. Does nothing if it is already stopped.
    pub fn stop(&mut self, how: Stop) {
        self.end(how.signal());
    }

    /// Kills the server's main process like `kill -9`; the others notice it and end. `restart` recovers it.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// Adds settings, and reloads the configuration files.
    pub fn reload(&mut self, settings: Settings) {
        self.settings.extend(settings);
        self.configure();
        self.signal("HUP");
    }

    /// Lets the server run on after this process ends. Returns its process id: from now on the user must end it.
    pub fn keep(mut self) -> u32 {
        self.signal("KEEP");
        let pid = self.pid();
        std::mem::forget(self);
        pid
    }

    /// The server's major version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// Always an address, so that no test depends on name resolution.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The port on 127.0.0.1; it stays the same after restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id of the server's main process.
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(self.directory.join("pid")).expect("reading the server's process id");
        text.trim().parse().expect("a process id")
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Writes a file into the data directory, owned by the server, with mode 0600: `pg_hba.conf`, a TLS key.
    pub fn write(&self, name: &str, text: &str) {
        cluster::write(&self.data().join(name), text);
    }

    /// Everything the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// A number that no other caller got from this server, for names.
    fn next(&self) -> u32 {
        self.names.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts the process, and retries while another process has its port or its predecessor's memory.
    fn launch(&mut self) {
        let started = Instant::now();
        let fresh = self.port == 0;
        loop {
            if fresh {
                self.port = free_port();
            }
            self.configure();
            let logged = self.log().len();
            self.process = Some(self.spawn());
            self.starts.fetch_add(1, Ordering::Relaxed);
            let Err(()) = self.until_ready() else { return seen::server(self.port, self.major) };
            let log = self.log();
            let reason = &log[logged..];
            let transient = reason.contains("in use") || reason.contains("already exists");
            assert!(
                transient && started.elapsed() < DEADLINE,
                "Postgres {} did not start:\n{reason}",
                self.major.number()
            );
        }
    }

    fn spawn(&self) -> Process {
        let log = File::options().create(true).append(true).open(self.directory.join("log"));
        let log = log.expect("opening the server's log");
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&self.directory)
            .arg(cluster::binary(self.major, "postgres"))
            .arg("-D")
            .arg(self.data())
            .current_dir(&self.directory)
            // Where libpq looks for certificates when a subscription connects; that of root is out of the servers' reach.
            .env("HOME", &self.directory)
            .process_group(0) // Ctrl-C is for the tests
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("sharing the server's log"))
            .stderr(log);
        let _ = fs::remove_file(self.directory.join("pid"));
        let mut supervisor = Account::of_servers().run(&mut command).spawn().expect("starting Postgres");
        let lifeline = supervisor.stdin.take().expect("a pipe to the supervisor");
        Process { supervisor, lifeline }
    }

    /// Waits until the server accepts connections, or has ended.
    fn until_ready(&mut self) -> Result<(), ()> {
        let ready = block_until("Postgres to start", DEADLINE, || {
            let process = self.process.as_mut()?;
            if process.supervisor.try_wait().expect("watching Postgres").is_some() {
                return Some(false);
            }
            is_ready(&self.directory).then_some(true)
        });
        if !ready {
            self.process = None;
        }
        ready.then_some(()).ok_or(())
    }

    fn signal(&mut self, signal: &str) {
        if let Some(process) = &mut self.process {
            let _ = writeln!(process.lifeline, "{signal}");
        }
    }

    fn end(&mut self, signal: &str) {
        self.signal(signal);
        let Some(mut process) = self.process.take() else {
            return;
        };
        block_until("Postgres to stop", DEADLINE, || process.supervisor.try_wait().expect("watching Postgres"));
    }

    fn configure(&self) {
        let mut all = usual_settings(self.major);
        all.extend(self.settings.clone());
        all.insert("port".to_owned(), self.port.to_string());
        let lines = all.iter().map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")));
        self.write("postgresql.conf", &lines.collect::<String>());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Small, quick to start, without guaranteed durability, and with room for the slots and workers of many tests.
fn usual_settings(major: Major) -> Settings {
    let mut all = settings([
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("password_encryption", "scram-sha-256"),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("autovacuum", "off"),
        ("shared_buffers", "16MB"),
        ("max_connections", "200"),
        ("wal_level", "logical"),
        ("max_wal_senders", "100"),
        ("max_replication_slots", "100"),
        ("max_worker_processes", "120"),
        ("max_logical_replication_workers", "100"),
        ("wal_retrieve_retry_interval", "100ms"),
        ("lc_messages", "C"),
        ("log_timezone", "UTC"),
        ("timezone", "UTC"),
        ("log_line_prefix", "%m [%p] %d %a "),
    ]);
    if major >= Major::V18 {
        all.extend(settings([("max_active_replication_origins", "100"), ("io_method", "sync")]));
    }
    all
}

/// Whether `postmaster.pid` belongs to the last started process, and says that it accepts connections, even if
/// read-only.
fn is_ready(directory: &Path) -> bool {
    let pid = fs::read_to_string(directory.join("pid")).unwrap_or_default();
    let status = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap_or_default();
    let mut lines = status.lines();
    !pid.is_empty()
        && lines.next() == Some(pid.trim())
        && lines.nth(6).is_some_and(|status| matches!(status.trim(), "ready" | "standby"))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listening on loopback");
    listener.local_addr().expect("an address").port()
}
