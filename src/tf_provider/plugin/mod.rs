// SPDX-License-Identifier: MPL-2.0

//! The go-plugin child process that Terraform and OpenTofu start, call over gRPC, and end.
//!
//! Nothing here depends on what the process provides: that comes as [`Routes`]. The life of the process:
//! 1. `handshake`: the parent's requirements are in the environment; the address goes to stdout.
//! 2. `listener`, `tls` and `connection`: the parent connects, over mutual TLS with certificates made for this run.
//! 3. `services` answers the parent's own calls, in addition to the provider's.
//! 4. It ends when the parent or the system asks for it, or when the parent is gone. [`Lifecycle`] lets work in flight
//!    finish before.
//!
//! With `-debug` a user starts the process by hand, and tells Terraform where it is.

mod connection;
mod handshake;
mod lifecycle;
mod listener;
mod panic;
mod reattach;
mod services;
mod signals;
mod tls;

use std::collections::BTreeSet;
use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tonic::transport::Server;

use self::connection::OpenConnections;
use self::handshake::{Settings, Transport};
pub use self::lifecycle::Lifecycle;
use self::listener::Listener;
use self::signals::{OnInterrupt, Signals};
use super::log;

/// Any reason why the process cannot serve; it is only shown.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long work in flight may take after Shutdown. The parent kills the process after two seconds.
const GRACE_WITH_PARENT: Duration = Duration::from_millis(1500);
/// How long work in flight may take when no parent is waiting.
const GRACE_ALONE: Duration = Duration::from_secs(10);

/// The facts about a plugin.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// The binary's name: `terraform-provider-` and the provider's.
    pub name: &'static str,
    /// The release, without a `v`.
    pub version: &'static str,
    /// The commit that it was built from, if known.
    pub commit: Option<&'static str>,
    /// The provider's source address without the registry's host: `namespace/type`.
    pub address: &'static str,
    /// The text for a person who starts it by hand; may be empty.
    pub by_hand: &'static str,
}

impl Plugin {
    /// An environment variable of this provider's own: its type in capitals, and `suffix`.
    fn variable(&self, suffix: &str) -> String {
        let kind = self.address.rsplit('/').next().unwrap_or_default();
        format!("{}_{suffix}", kind.to_uppercase().replace('-', "_"))
    }

    /// Its name and release, as a line for a person.
    fn release(&self) -> String {
        let commit = self.commit.map(|commit| format!(", commit {commit}")).unwrap_or_default();
        format!("{} {} (protocol {}{commit})\n", self.name, self.version, handshake::PROTOCOL)
    }

    /// Whether to use TCP: if there are no unix sockets, or if the environment requests it.
    fn wants_tcp(&self) -> bool {
        let variable = self.variable("PLUGIN_TRANSPORT");
        cfg!(not(unix)) || env::var(variable).is_ok_and(|transport| transport == "tcp")
    }
}

/// Runs the process from its arguments and environment to its end. `routes` makes the services to offer beside the
/// plugin's own; it is called once the parent knows where to connect.
///
/// `-version` prints name, release, protocol and commit, `-debug` serves until interrupted and prints how to attach
/// Terraform or OpenTofu. If neither of those two has started it, the process reports this and fails.
pub fn main(plugin: &Plugin, routes: impl FnOnce(Lifecycle) -> Routes) -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    // An argument that is not text is unknown, like any other.
    let arguments: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap_or_default()).collect();
    let outcome = match arguments[..] {
        [] => negotiate(plugin).and_then(|mode| serve(plugin, mode, routes)),
        ["-debug" | "--debug"] => serve(plugin, Mode::Debug, routes),
        ["-version" | "--version"] => print(&plugin.release()),
        _ => Err(handshake::Error::NoCookie.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            if error.downcast_ref() == Some(&handshake::Error::NoCookie) && !plugin.by_hand.is_empty() {
                complain(plugin.by_hand);
            }
            ExitCode::FAILURE
        }
    }
}

/// Who started the process.
enum Mode {
    /// Terraform or OpenTofu.
    Child(Settings),
    /// A user.
    Debug,
}

fn negotiate(plugin: &Plugin) -> Result<Mode, Failure> {
    let settings = Settings::negotiate(|name| env::var(name).ok(), plugin.wants_tcp())?;
    if let Some(offered) = &settings.incompatible {
        // The parent learns it from the handshake too, and its user from the parent.
        complain(&incompatible(plugin, offered));
    }
    Ok(Mode::Child(settings))
}

fn incompatible(plugin: &Plugin, offered: &BTreeSet<u32>) -> String {
    let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
    format!(
        "[ERROR] {} {} speaks provider protocol {}; the program that started it offers {}",
        plugin.name,
        plugin.version,
        handshake::PROTOCOL,
        offered.join(", "),
    )
}

fn serve(plugin: &Plugin, mode: Mode, routes: impl FnOnce(Lifecycle) -> Routes) -> Result<(), Failure> {
    panic::install_hook();
    log::install();
    // The process mostly waits: a second thread would only cost memory and processor time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match mode {
            Mode::Child(settings) => serve_parent(settings, routes).await,
            Mode::Debug => serve_by_hand(plugin, routes).await,
        }
    });
    // Work that still runs has had its time.
    runtime.shutdown_background();
    outcome
}

/// Serves the parent until that or the system asks it to end, or until the parent is gone.
async fn serve_parent(settings: Settings, routes: impl FnOnce(Lifecycle) -> Routes) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let tls = settings.client_certificate.map(tls::server).transpose()?;
    let listener = Listener::bind(&settings.transport).await?;
    let certificate = tls.as_ref().map(|tls| &tls.certificate);
    print(&handshake::line(&listener.endpoint()?, certificate, settings.asks_multiplex))?;

    let acceptor = tls.map(|tls| TlsAcceptor::from(tls.config));
    let lifecycle = Lifecycle::default();
    let open = OpenConnections::new();
    let end = async {
        tokio::select! {
            () = lifecycle.shutdown_token().cancelled_owned() => GRACE_WITH_PARENT,
            () = open.abandoned() => GRACE_ALONE,
            () = signals.ended(OnInterrupt::GoOn(lifecycle.reading_stop_token())) => GRACE_ALONE,
        }
    };
    run(listener, acceptor, &open, &lifecycle, routes, end).await
}

/// Serves whoever attaches until the user ends it.
async fn serve_by_hand(plugin: &Plugin, routes: impl FnOnce(Lifecycle) -> Routes) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let transport = if plugin.wants_tcp() { Transport::Tcp(0..=0) } else { Transport::Unix { dir: None, group: None } };
    let listener = Listener::bind(&transport).await?;
    print(&reattach::instructions(plugin, &listener.endpoint()?))?;

    let lifecycle = Lifecycle::default();
    let open = OpenConnections::new();
    tokio::spawn({
        let (open, lifecycle) = (open.clone(), lifecycle.clone());
        async move {
            let mut seen = 0;
            loop {
                open.opened_after(seen).await;
                seen = open.all_closed().await;
                lifecycle.renew();
            }
        }
    });
    let end = async {
        tokio::select! {
            () = lifecycle.shutdown_token().cancelled_owned() => GRACE_WITH_PARENT,
            () = signals.ended(OnInterrupt::End) => GRACE_ALONE,
        }
    };
    run(listener, None, &open, &lifecycle, routes, end).await
}

/// Serves until `end`, then lets work in flight finish within the grace that `end` gives.
async fn run(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    open: &OpenConnections,
    lifecycle: &Lifecycle,
    routes: impl FnOnce(Lifecycle) -> Routes,
    end: impl Future<Output = Duration>,
) -> Result<(), Failure> {
    let connections = connection::incoming(listener, tls, open, lifecycle);
    let routes = services::with_plugin_services(routes(lifecycle.clone()), lifecycle).await;
    let server = tokio::spawn(
        Server::builder()
            .add_routes(routes)
            .serve_with_incoming_shutdown(connections, lifecycle.shutdown_token().cancelled_owned()),
    );
    let grace = end.await;
    lifecycle.shut_down();
    let finished = timeout(grace, async {
        lifecycle.finished().await;
        server.await
    });
    match finished.await {
        Ok(served) => Ok(served??),
        Err(_) => {
            tracing::warn!("ending while calls are still running");
            Ok(())
        }
    }
}

/// Writes to stdout in one piece. The parent expects only the handshake there.
fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// Writes to stderr, where nobody may be listening any more.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::Instant;

    use super::*;

    const PLUGIN: Plugin = Plugin {
        name: "terraform-provider-two-words",
        version: "1.2.3",
        commit: None,
        address: "acme/two-words",
        by_hand: "",
    };

    async fn run_and_end(routes: impl FnOnce(Lifecycle) -> Routes) -> Result<(), Failure> {
        let listener = Listener::bind(&Transport::Tcp(0..=0)).await?;
        let (open, lifecycle) = (OpenConnections::new(), Lifecycle::default());
        let end = ready(GRACE_WITH_PARENT);
        run(listener, None, &open, &lifecycle, routes, end).await
    }

    #[tokio::test(start_paused = true)]
    async fn work_in_flight_may_finish() {
        let (finish, finished) = tokio::sync::oneshot::channel();
        let routes = |lifecycle: Lifecycle| {
            let stop = lifecycle.stop_token();
            lifecycle.spawn(async move {
                stop.cancelled().await;
                tokio::time::sleep(GRACE_WITH_PARENT / 2).await;
                finish.send("rolled back")
            });
            Routes::default()
        };
        run_and_end(routes).await.unwrap();
        assert_eq!(finished.await, Ok("rolled back"));
    }

    #[tokio::test(start_paused = true)]
    async fn stuck_work_does_not_hold_up_the_end() {
        let routes = |lifecycle: Lifecycle| {
            lifecycle.spawn(pending::<()>());
            Routes::default()
        };
        let start = Instant::now();
        run_and_end(routes).await.unwrap();
        assert_eq!(start.elapsed(), GRACE_WITH_PARENT);
    }

    #[test]
    fn variables_start_with_the_providers_type() {
        assert_eq!(PLUGIN.variable("PLUGIN_TRANSPORT"), "TWO_WORDS_PLUGIN_TRANSPORT");
    }

    #[test]
    fn a_parent_without_our_protocol_is_told_so() {
        assert_eq!(
            incompatible(&PLUGIN, &BTreeSet::from([6, 7])),
            "[ERROR] terraform-provider-two-words 1.2.3 speaks provider protocol 5; \
             the program that started it offers 6, 7"
        );
    }
}
