// SPDX-License-Identifier: MPL-2.0

//! Real cores in working directories of their own, with the built provider installed from a filesystem mirror.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::aurora::{REGION, StandIn};
use super::postgres::encode;
use super::seen;
use super::tools;
use super::wait::wait_until;

/// How long one command of a core may take, unless told otherwise.
const DEADLINE: Duration = Duration::from_secs(300);

/// The provider's secret key for AWS.
const AWS_SECRET: &str = "sk-stand-in-3Rj8vQ";

/// A program that runs providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// HashiCorp's Terraform.
    Terraform,
    /// The OpenTofu project's tofu.
    OpenTofu,
}

impl Core {
    /// The cores to test with. A missing one is skipped with a printed line.
    ///
    /// # Panics
    /// When one is missing and `CI` is set: then nothing may be skipped.
    pub fn installed() -> Vec<Self> {
        [Self::Terraform, Self::OpenTofu].into_iter().filter(|core| core.is_installed()).collect()
    }

    /// The name of the command.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terraform => "terraform",
            Self::OpenTofu => "tofu",
        }
    }

    fn is_installed(self) -> bool {
        let installed = tools::core(self.name()).is_some();
        if !installed {
            let hint = "run `python3 tests/tools/install.py`";
            assert!(std::env::var_os("CI").is_none(), "{} is not installed: {hint}", self.name());
            eprintln!("skipped: {} is not installed: {hint}", self.name());
        }
        installed
    }

    fn command(self) -> PathBuf {
        tools::core(self.name()).unwrap_or_else(|| panic!("{} is not installed", self.name()))
    }
}

/// A working directory with a configuration and a state. When a test fails, it prints its core's whole output.
pub struct Workspace {
    core: Core,
    deadline: Duration,
    directory: TempDir,
    environment: BTreeMap<String, String>,
    secrets: Vec<String>,
    transcript: Mutex<String>,
}

/// The result of one command of a core.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Run {
    /// Both outputs, stdout first.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Both outputs as one line of single-spaced words, without the frame around errors, to find sentences that a
    /// core has wrapped.
    pub fn flat(&self) -> String {
        let text = self.text().replace(['│', '╷', '╵'], " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// Checks that a run's output contains all of these texts, however its lines are broken.
#[track_caller]
pub fn says(run: &Run, texts: &[&str]) {
    let printed = run.flat();
    for text in texts {
        assert!(printed.contains(text), "{text:?} is not in:\n{}", run.text());
    }
}

/// Checks that a run's output contains none of these texts.
#[track_caller]
pub fn does_not_say(run: &Run, texts: &[&str]) {
    let printed = run.flat();
    for text in texts {
        assert!(!printed.contains(text), "{text:?} is in:\n{}", run.text());
    }
}

impl Workspace {
    /// An empty workspace that requires the provider.
    pub fn new(core: Core) -> Self {
        let directory = tempfile::Builder::new().prefix("neonrepl-").tempdir().expect("making a directory");
        let workspace = Self {
            core,
            deadline: DEADLINE,
            directory,
            environment: BTreeMap::new(),
            secrets: Vec::new(),
            transcript: Mutex::default(),
        };
        fs::create_dir(workspace.path()).expect("making a directory");
        workspace.install("neonrepl/neonrepl", env!("CARGO_PKG_VERSION"), &tools::provider());
        let mirror = workspace.directory.path().join("mirror");
        let cli = format!("provider_installation {{\n  filesystem_mirror {{\n    path = {mirror:?}\n  }}\n}}\n");
        fs::write(workspace.directory.path().join("cli.tfrc"), cli).expect("writing the CLI configuration");
        workspace.write("versions.tf", VERSIONS);
        workspace
    }

    /// A workspace whose provider is configured for a stand-in of AWS, and polls it often.
    pub fn with_stand_in(core: Core, aws: &StandIn) -> Self {
        let mut workspace = Self::new(core);
        workspace
            .secret(AWS_SECRET)
            .env("NEONREPL_AWS_POLL_INTERVAL", "100ms")
            .env("AWS_ACCESS_KEY_ID", "AKIATEST")
            .env("AWS_SECRET_ACCESS_KEY", AWS_SECRET);
        let provider = format!(
            "provider \"neonrepl\" {{\n  aws {{\n    region = \"{REGION}\"\n    endpoint_url = \"{}\"\n  }}\n}}\n",
            aws.endpoint_url
        );
        workspace.write("provider.tf", &provider);
        workspace
    }

    /// Makes the built provider stand in for another one that must only exist: a core asks every provider in a state
    /// for its schemas.
    pub fn stand_in_for(&self, provider: &str, version: &str) {
        self.install(provider, version, &tools::provider());
    }

    /// Installs a provider's binary under this name, such as `hashicorp/aws`.
    pub fn install(&self, provider: &str, version: &str, binary: &Path) {
        install(&self.directory.path().join("mirror"), provider, version, binary);
    }

    /// Sets the deadline of each command.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The core that runs here.
    pub fn core(&self) -> Core {
        self.core
    }

    /// The working directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Writes a file of the configuration.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("making a directory");
        fs::write(path, text).expect("writing the configuration");
    }

    /// Writes all files of a directory, recursively, into this place of the working directory.
    pub fn write_all(&self, from: &Path, into: &Path) {
        for entry in fs::read_dir(from).expect("reading a directory").flatten() {
            let into = into.join(entry.file_name());
            if entry.path().is_dir() {
                self.write_all(&entry.path(), &into);
            } else {
                self.write(&into.to_string_lossy(), &fs::read_to_string(entry.path()).expect("reading a file"));
            }
        }
    }

    /// Removes a file of the configuration.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path().join(file)).expect("removing a file of the configuration");
    }

    /// Sets a variable for the core and the provider, which do not get the test's own environment.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) -> &mut Self {
        self.environment.remove(name);
        self
    }

    /// From now on no output and no state file may contain this text, nor its percent-encoded form.
    pub fn secret(&mut self, text: &str) -> &mut Self {
        self.secrets.extend([text.to_owned(), encode(text)]);
        self
    }

    /// Runs a command to its end, whatever that is.
    ///
    /// # Panics
    /// When an output or a state file contains a secret, or the deadline passes.
    pub async fn run(&self, arguments: &[&str]) -> Run {
        self.spawn(arguments).wait().await
    }

    /// Starts a command, for tests that interrupt it.
    pub fn spawn(&self, arguments: &[&str]) -> Running<'_> {
        let mut child = self.command(arguments).spawn().expect("starting a core");
        let stdout = Captured::new(child.stdout.take().expect("a pipe"));
        let stderr = Captured::new(child.stderr.take().expect("a pipe"));
        Running { workspace: self, title: arguments.join(" "), child, stdout, stderr }
    }

    /// `init`.
    pub async fn init(&self) -> Run {
        self.expect(&["init", "-no-color"], 0).await
    }

    /// `plan`; the exit code is 0 without changes, 2 with changes and 1 for an error.
    pub async fn plan(&self) -> Run {
        self.run(&["plan", "-no-color", "-detailed-exitcode"]).await
    }

    /// `plan`, which must find nothing to do.
    pub async fn expect_empty_plan(&self) {
        self.expect(&["plan", "-no-color", "-detailed-exitcode"], 0).await;
    }

    /// The plan as JSON.
    pub async fn plan_json(&self) -> Value {
        self.expect(&["plan", "-no-color", "-out=test.tfplan"], 0).await;
        self.json(&["show", "-json", "test.tfplan"]).await
    }

    /// `apply`, which must succeed.
    pub async fn apply(&self) -> Run {
        self.expect(&APPLY, 0).await
    }

    /// `apply`, which must fail.
    pub async fn apply_error(&self) -> Run {
        self.expect(&APPLY, 1).await
    }

    /// `destroy`, which must succeed.
    pub async fn destroy(&self) -> Run {
        self.expect(&["destroy", "-auto-approve", "-no-color"], 0).await
    }

    /// `import` on the command line, which must succeed.
    pub async fn import(&self, address: &str, id: &str) -> Run {
        self.expect(&["import", "-no-color", address, id], 0).await
    }

    /// The state as `show -json` prints it.
    pub async fn show_json(&self) -> Value {
        self.json(&["show", "-json"]).await
    }

    /// The attributes of one instance in the root module's state.
    ///
    /// # Panics
    /// When there is no such instance.
    pub async fn attributes(&self, address: &str) -> Value {
        let mut state = self.show_json().await;
        let resources = state["values"]["root_module"]["resources"].take();
        let mut resources = resources.as_array().cloned().unwrap_or_default();
        let found = resources.iter_mut().find(|resource| resource["address"] == address);
        found.unwrap_or_else(|| panic!("{address} is not in the state"))["values"].take()
    }

    /// The state file; empty if there is none.
    pub fn state(&self) -> String {
        fs::read_to_string(self.path().join("terraform.tfstate")).unwrap_or_default()
    }

    /// The core's output since the last call.
    pub fn take_transcript(&self) -> String {
        std::mem::take(&mut self.transcript.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Removes the lock that a killed core has left on its state, as a person would.
    pub fn unlock(&self) {
        let _ = fs::remove_file(self.path().join(".terraform.tfstate.lock.info"));
    }

    /// How many providers that were started from here run. Linux only.
    pub fn providers(&self) -> usize {
        self.provider_processes().len()
    }

    /// Sends a signal, such as `STOP`, to the providers that were started from here. Linux only.
    ///
    /// # Panics
    /// When there is none.
    pub async fn signal_providers(&self, signal: &str) {
        let processes = self.provider_processes();
        assert!(!processes.is_empty(), "no provider runs");
        let sent = Command::new("kill").args(["-s", signal]).args(processes).status().await;
        assert!(sent.is_ok_and(|status| status.success()), "sending {signal} to the providers");
    }

    fn provider_processes(&self) -> Vec<String> {
        let mirror = self.directory.path().join("mirror");
        let is_ours = |process: &fs::DirEntry| {
            fs::read_link(process.path().join("exe")).is_ok_and(|program| program.starts_with(&mirror))
        };
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten().filter(is_ours);
        processes.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Runs a command that must end with this exit code.
    pub async fn expect(&self, arguments: &[&str], code: i32) -> Run {
        let run = self.run(arguments).await;
        let title = arguments.join(" ");
        assert_eq!(run.code, Some(code), "{} {title} in its output:\n{}", self.core.name(), run.text());
        run
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let run = self.expect(arguments, 0).await;
        serde_json::from_str(&run.stdout).expect("JSON from the core")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.core.command());
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .env("TMPDIR", std::env::temp_dir())
            .env("TF_CLI_CONFIG_FILE", self.directory.path().join("cli.tfrc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            .env("CHECKPOINT_DISABLE", "1")
            .envs(&self.environment)
            .process_group(0)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Keeps a command's output, and searches it and the state for secrets.
    fn record(&self, title: &str, run: &Run) {
        let mut transcript = self.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        transcript.push_str(&format!("$ {} {title}\n{}", self.core.name(), run.text()));
        drop(transcript);
        // 2 is a plan with changes, with `-detailed-exitcode`.
        if matches!(run.code, Some(0 | 2)) {
            seen::command(self.core.name(), title, &self.path(), &self.environment);
        }
        self.search(&format!("the output of {title}"), &run.text());
        for file in fs::read_dir(self.path()).expect("reading the workspace").flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if name.contains(".tfstate") && file.path().is_file() {
                self.search(&name, &fs::read_to_string(file.path()).unwrap_or_default());
            }
        }
    }

    fn search(&self, place: &str, text: &str) {
        let found = self.secrets.iter().position(|secret| text.contains(secret.as_str()));
        assert!(found.is_none(), "secret number {} is in {place}", found.unwrap_or_default() / 2);
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.transcript.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

const APPLY: [&str; 3] = ["apply", "-auto-approve", "-no-color"];

/// A configuration that only requires the provider.
pub const VERSIONS: &str = r#"terraform {
  required_providers {
    neonrepl = {
      source = "neonrepl/neonrepl"
    }
  }
}
"#;

/// A command of a core that has not ended. Dropping it kills the core.
pub struct Running<'a> {
    workspace: &'a Workspace,
    title: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

impl Running<'_> {
    /// Waits until the output contains this text.
    pub async fn wait_for(&self, text: &str) {
        let what = format!("{text:?} in the output of {}", self.title);
        wait_until(&what, self.workspace.deadline, async || {
            self.stdout.text().contains(text) || self.stderr.text().contains(text)
        })
        .await;
    }

    /// Interrupts the core and its providers as Ctrl-C in a terminal does.
    pub async fn interrupt(&self) {
        self.signal("INT", true).await;
    }

    /// Kills the core alone, as the kernel does when memory runs out.
    pub async fn kill(&self) {
        self.signal("KILL", false).await;
    }

    /// Kills the core and its providers, as a machine that goes down does.
    pub async fn kill_all(&self) {
        self.signal("KILL", true).await;
    }

    /// Waits for the end like `wait`, and meanwhile passes on every line of stdout as it comes.
    pub async fn follow(mut self, mut on_line: impl FnMut(&str)) -> Run {
        let mut seen = 0;
        let mut lines = |text: &str| {
            let new = &text[seen..text.rfind('\n').map_or(seen, |end| end + 1)];
            new.lines().for_each(&mut on_line);
            seen += new.len();
        };
        wait_until(&self.title, self.workspace.deadline, async || {
            lines(&self.stdout.text());
            !matches!(self.child.try_wait(), Ok(None))
        })
        .await;
        let run = self.wait().await;
        lines(&run.stdout);
        run
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When an output or a state file contains a secret, or the deadline passes.
    pub async fn wait(mut self) -> Run {
        let deadline = self.workspace.deadline;
        let ended = tokio::time::timeout(deadline, self.child.wait()).await;
        let Ok(status) = ended else { panic!("{} has not ended in {deadline:?}", self.title) };
        let code = status.as_ref().ok().and_then(ExitStatus::code);
        let run = Run { code, stdout: self.stdout.rest().await, stderr: self.stderr.rest().await };
        self.workspace.record(&self.title, &run);
        run
    }

    async fn signal(&self, signal: &str, group: bool) {
        let Some(pid) = self.child.id() else { return };
        let whom = if group { format!("-{pid}") } else { pid.to_string() };
        let kill = Command::new("sh").args(["-c", "kill -s \"$1\" -- \"$2\"", "sh", signal, &whom]).status().await;
        assert!(kill.is_ok_and(|status| status.success()), "signalling {}", self.title);
    }
}

/// An output that is read while it is written.
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Captured {
    fn new(mut from: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// The whole output. A provider that outlives a killed core keeps the pipe open, so the wait for its end is short.
    async fn rest(mut self) -> String {
        let _ = tokio::time::timeout(Duration::from_secs(2), &mut self.reader).await;
        self.text()
    }
}

/// Installs the built provider in a filesystem mirror, for both cores' default registries.
fn install(mirror: &Path, provider: &str, version: &str, program: &Path) {
    let name = provider.rsplit('/').next().unwrap_or_default();
    for host in ["registry.terraform.io", "registry.opentofu.org"] {
        let directory = mirror.join(host).join(provider).join(version).join(platform());
        fs::create_dir_all(&directory).expect("making the mirror");
        let binary = directory.join(format!("terraform-provider-{name}_v{version}"));
        let linked = fs::hard_link(program, &binary);
        linked.or_else(|_| fs::copy(program, &binary).map(drop)).expect("installing the provider");
    }
}

/// The platform as registries name it: `linux_amd64`.
pub fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let system = if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS };
    format!("{system}_{architecture}")
}
