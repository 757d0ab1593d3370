// SPDX-License-Identifier: MPL-2.0

//! The process around the provider: how it starts, who may connect, how it ends.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::common::grpc::{Core, Identity, Launch, within_deadline};

/// How long a core waits for a plugin to shut down.
const CORES_PATIENCE: Duration = Duration::from_secs(2);

async fn check_healthy(channel: Channel) -> Result<(), tonic::Status> {
    let request = HealthCheckRequest { service: "plugin".to_owned() };
    let mut client = HealthClient::new(channel);
    let answer = within_deadline("health", client.check(request)).await?;
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    Ok(())
}

#[tokio::test]
async fn the_handshake_is_the_line_that_cores_read() {
    let core = Core::start().await;
    let parts: Vec<&str> = core.handshake.parts.iter().map(String::as_str).collect();
    let [go_plugin, provider, network, address, kind, certificate] = parts[..] else {
        panic!("not six parts: {parts:?}");
    };
    assert_eq!([go_plugin, provider, network, kind], ["1", "5", "unix", "grpc"]);
    assert!(Path::new(address).exists());
    assert!(!certificate.contains('='), "{certificate}");
}

#[tokio::test]
async fn stdout_holds_the_handshake_and_nothing_else() {
    let mut core = Core::start().await;
    check_healthy(core.connect_again().await).await.unwrap();
    core.shut_down().await;
    assert_eq!(core.process.rest_of_stdout().await, "");
}

#[tokio::test]
async fn a_quiet_environment_keeps_stderr_quiet() {
    let mut core = Core::start().await;
    core.shut_down().await;
    let (_, stderr) = core.process.exit().await;
    assert_eq!(stderr, "");
}

#[tokio::test]
async fn the_plugin_is_healthy() {
    let core = Core::start().await;
    check_healthy(core.connect_again().await).await.unwrap();
}

#[tokio::test]
async fn other_clients_are_refused() {
    let core = Core::start().await;
    for stranger in [Some(Identity::generate()), None] {
        // With TLS 1.3, a client learns about its refused certificate only after the handshake.
        let refused = match core.handshake.connect(stranger.as_ref()).await {
            Ok(channel) => check_healthy(channel).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "let in {}", if stranger.is_some() { "a stranger" } else { "anyone" });
    }
    check_healthy(core.connect_again().await).await.unwrap();
}

#[tokio::test]
async fn a_client_that_says_nothing_holds_up_no_other() {
    let core = Core::start().await;
    let _silent = UnixStream::connect(core.handshake.address()).await.unwrap();
    check_healthy(core.connect_again().await).await.unwrap();
}

#[tokio::test]
async fn without_the_cookie_it_explains_itself() {
    let mut process = Launch::by_hand(&[]).start();
    let (status, stderr) = process.exit().await;
    assert_eq!(status.code(), Some(1));
    assert!(stderr.starts_with("This binary is a plugin."), "{stderr}");
    for command in ["preflight", "status", "watch"] {
        assert!(stderr.contains(&format!("terraform-provider-neonrepl {command} ")), "no {command} in {stderr}");
    }
    assert_eq!(process.rest_of_stdout().await, "");
}

#[tokio::test]
async fn unknown_arguments_are_explained_too() {
    let mut process = Launch::by_hand(&["serve"]).start();
    let (status, stderr) = process.exit().await;
    assert_eq!(status.code(), Some(2));
    assert!(stderr.starts_with("error: unrecognized subcommand 'serve'") && stderr.contains("--help"), "{stderr}");
}

#[tokio::test]
async fn the_version_is_printed() {
    for argument in ["-version", "--version"] {
        let mut process = Launch::by_hand(&[argument]).start();
        let expected = concat!("terraform-provider-neonrepl ", env!("CARGO_PKG_VERSION"), " (protocol 5");
        let line = process.rest_of_stdout().await;
        assert!(line.starts_with(expected) && line.ends_with(")\n"), "{line}");
        assert_eq!(process.exit().await.0.code(), Some(0));
    }
}

#[tokio::test]
async fn a_core_with_other_protocols_learns_ours() {
    let mut process = Launch::by_core().variable("PLUGIN_PROTOCOL_VERSIONS", "7,6").start();
    assert_eq!(process.handshake().await.parts[1], "5");
    process.stderr_contains("speaks provider protocol 5; the program that started it offers 6, 7").await;
}

#[tokio::test]
async fn a_broken_variable_is_named() {
    let mut process = Launch::by_core().variable("PLUGIN_CLIENT_CERT", "no certificate").start();
    let (status, stderr) = process.exit().await;
    assert_eq!(status.code(), Some(1));
    let start = "reading environment variable PLUGIN_CLIENT_CERT: ";
    assert!(stderr.starts_with(start), "{stderr}");
}

#[tokio::test]
async fn the_socket_goes_where_the_core_says() {
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::by_core().variable("PLUGIN_UNIX_SOCKET_DIR", dir.path());
    let core = Core::launch(launch).await;
    assert_eq!(Path::new(core.handshake.address()).parent(), Some(dir.path()));
}

#[tokio::test]
async fn a_long_path_for_temporary_files_does_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("deep/".repeat(30));
    std::fs::create_dir_all(&deep).unwrap();
    let mut core = Core::launch(Launch::by_core().variable("TMPDIR", &deep)).await;
    assert!(core.handshake.address().starts_with("/tmp/plugin"));
    check_healthy(core.connect_again().await).await.unwrap();
    // Removes the socket, which the test's cleanup does not cover.
    core.shut_down().await;
    core.process.exit().await;
}

#[tokio::test]
async fn tcp_stays_within_the_cores_ports() {
    let launch = Launch::by_core().variable("NEONREPL_PLUGIN_TRANSPORT", "tcp");
    let core = Core::launch(launch).await;
    assert_eq!(core.handshake.network(), "tcp");
    let port = core.handshake.address().strip_prefix("127.0.0.1:").unwrap();
    assert!((10_000..=25_000).contains(&port.parse().unwrap()), "{port}");
    check_healthy(core.connect_again().await).await.unwrap();
}

#[tokio::test]
async fn multiplexing_is_declined() {
    let launch = Launch::by_core().variable("PLUGIN_MULTIPLEX_GRPC", "true");
    let core = Core::launch(launch).await;
    assert_eq!(core.handshake.parts[6..], ["false"]);
}

#[tokio::test]
async fn a_core_without_certificates_is_served_in_the_clear() {
    let launch = Launch::by_core().variable("PLUGIN_CLIENT_CERT", "");
    let core = Core::launch(launch).await;
    assert_eq!(core.handshake.certificate(), None);
    check_healthy(core.connect_again().await).await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_the_process_in_time() {
    let mut core = Core::start().await;
    // Cores do this at the start, and keep it open until the end.
    let mut stdio = core.stdio().stream_stdio(()).await.unwrap().into_inner();
    let messages = tokio_stream::pending();
    let mut broker = core.broker().start_stream(messages).await.unwrap().into_inner();

    let start = Instant::now();
    core.shut_down().await;
    let (status, _) = core.process.exit().await;
    assert!(start.elapsed() < CORES_PATIENCE, "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(!Path::new(core.handshake.address()).exists());
    assert_eq!(stdio.message().await.unwrap(), None);
    assert_eq!(broker.message().await.unwrap(), None);
}

#[tokio::test]
async fn an_interrupt_is_left_to_the_core() {
    let mut core = Core::launch(Launch::by_core().variable("TF_LOG", "info")).await;
    core.process.signal("INT").await;
    core.process.stderr_contains("interrupted").await;
    check_healthy(core.connect_again().await).await.unwrap();
    assert!(core.process.is_running());
}

#[tokio::test]
async fn the_system_can_end_the_process() {
    for signal in ["TERM", "HUP"] {
        let mut core = Core::start().await;
        core.process.signal(signal).await;
        let (status, _) = core.process.exit().await;
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(!Path::new(core.handshake.address()).exists());
    }
}

#[tokio::test]
async fn the_process_follows_a_core_that_vanished() {
    let core = Core::start().await;
    let socket = core.handshake.address().to_owned();
    let mut process = core.vanish();
    let (status, _) = process.exit().await;
    assert_eq!(status.code(), Some(0));
    assert!(!Path::new(&socket).exists());
}

#[tokio::test]
async fn log_lines_are_terraforms_own() {
    let mut core = Core::launch(Launch::by_core().variable("TF_LOG", "TRACE")).await;
    check_healthy(core.connect_again().await).await.unwrap();
    core.shut_down().await;
    let (_, stderr) = core.process.exit().await;
    let mut messages = Vec::new();
    for line in stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect(line);
        for key in ["@level", "@message", "@module", "@timestamp"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
        messages.push(line["@message"].as_str().unwrap().to_owned());
    }
    assert!(messages.iter().any(|message| message == "told to shut down"), "{messages:?}");
}

/// The value to set, from the output of `-debug`.
async fn reattach(process: &mut crate::common::grpc::Process) -> serde_json::Value {
    loop {
        let line = process.line().await;
        assert!(!line.is_empty(), "stdout ended; stderr: {}", process.stderr());
        if let Some(value) = line.strip_prefix("export TF_REATTACH_PROVIDERS='") {
            return serde_json::from_str(value.strip_suffix("'\n").unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn debug_mode_serves_run_after_run() {
    let mut process = Launch::by_hand(&["-debug"]).start();
    let providers = reattach(&mut process).await;
    let provider = &providers["registry.terraform.io/neonrepl/neonrepl"];
    assert_eq!(*provider, providers["registry.opentofu.org/neonrepl/neonrepl"]);
    assert_eq!(provider["Protocol"], "grpc");
    assert_eq!(provider["ProtocolVersion"], 5);
    assert_eq!(provider["Pid"], process.id());
    assert_eq!(provider["Test"], true);
    assert_eq!(provider["Addr"]["Network"], "unix");

    let address = provider["Addr"]["String"].as_str().unwrap();
    let handshake =
        crate::common::grpc::Handshake { parts: ["1", "5", "unix", address, "grpc"].map(str::to_owned).to_vec() };
    for _run in 0..2 {
        check_healthy(handshake.connect(None).await.unwrap()).await.unwrap();
    }

    process.signal("INT").await;
    assert_eq!(process.exit().await.0.code(), Some(0));
    assert!(!Path::new(address).exists());
}
