// SPDX-License-Identifier: MPL-2.0

//! A stand-in for Terraform's core: starts the built provider, shakes hands, and calls it over gRPC with mutual TLS.
//!
//! Every wait has a deadline, and every process is killed when its value is dropped.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hyper_util::rt::TokioIo;
use neonrepl::tf_provider::proto::plugin::Empty;
use neonrepl::tf_provider::proto::plugin::grpc_broker_client::GrpcBrokerClient;
use neonrepl::tf_provider::proto::plugin::grpc_controller_client::GrpcControllerClient;
use neonrepl::tf_provider::proto::plugin::grpc_stdio_client::GrpcStdioClient;
use neonrepl::tf_provider::proto::tfplugin5::provider_client::ProviderClient;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_health::pb::health_client::HealthClient;

/// The variable by which plugins recognize Terraform and OpenTofu.
pub const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");

/// Much longer than any single step takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for `work`, and fails the test if it takes too long.
pub async fn within_deadline<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(DEADLINE, work).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what} took longer than {DEADLINE:?}"),
    }
}

/// The provider under test: from cargo, or the one that NEONREPL_BINARY names.
pub fn binary() -> PathBuf {
    let built = || option_env!("CARGO_BIN_EXE_terraform-provider-neonrepl").map(Into::into);
    let binary = std::env::var_os("NEONREPL_BINARY").or_else(built);
    binary.expect("cargo tells tests the built binary, and examples not").into()
}

/// A certificate and its key, like those of a core for each plugin that it starts.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// P-521 and marked as a CA certificate, like go-plugin's.
    pub fn generate() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn pem(&self) -> String {
        let text = STANDARD.encode(&self.certificate);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }
}

/// How to start the provider.
pub struct Launch {
    arguments: Vec<&'static str>,
    variables: Vec<(&'static str, Option<OsString>)>,
    identity: Option<Identity>,
    /// For the socket, which a killed process leaves behind.
    temporary: TempDir,
}

impl Launch {
    /// As a core does.
    pub fn by_core() -> Self {
        let identity = Identity::generate();
        Self::by_hand(&[])
            .variable(COOKIE.0, COOKIE.1)
            .variable("PLUGIN_MIN_PORT", "10000")
            .variable("PLUGIN_MAX_PORT", "25000")
            .variable("PLUGIN_PROTOCOL_VERSIONS", "6,5")
            .variable("PLUGIN_CLIENT_CERT", identity.pem())
            .identity(identity)
    }

    /// As a user does in a terminal.
    pub fn by_hand(arguments: &[&'static str]) -> Self {
        let inherited = [
            COOKIE.0,
            "PLUGIN_CLIENT_CERT",
            "TF_LOG",
            "TF_LOG_PROVIDER",
            "NEONREPL_PLUGIN_TRANSPORT",
            "NEONREPL_PUBLISHER_URL",
            "NEONREPL_SUBSCRIBER_URL",
        ];
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().to_owned();
        let launch = Self {
            arguments: arguments.to_vec(),
            variables: inherited.map(|name| (name, None)).to_vec(),
            identity: None,
            temporary,
        };
        launch.variable("TMPDIR", path)
    }

    /// With one more environment variable.
    pub fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, Some(value.into())));
        self
    }

    fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Starts the process.
    pub fn start(self) -> Process {
        let mut command = Command::new(binary());
        command
            .args(self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = Collected::from(child.stderr.take().unwrap());
        Process { child, stdout, stderr, identity: self.identity, _temporary: self.temporary }
    }
}

/// A running provider.
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Collected,
    identity: Option<Identity>,
    _temporary: TempDir,
}

impl Process {
    /// The next line of stdout.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        within_deadline("reading a line of stdout", read).await.unwrap();
        line
    }

    /// The first line of stdout, parsed.
    pub async fn handshake(&mut self) -> Handshake {
        let line = self.line().await;
        assert!(!line.is_empty(), "no handshake; stderr: {}", self.stderr());
        Handshake::parse(&line)
    }

    /// The rest of stdout until the process closes it.
    pub async fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        let read = self.stdout.read_to_string(&mut rest);
        within_deadline("reading stdout", read).await.unwrap();
        rest
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until stderr contains `text`.
    pub async fn stderr_contains(&mut self, text: &str) {
        within_deadline(text, self.stderr.contains(text)).await;
    }

    /// Waits until the process has ended. Returns its status and stderr.
    pub async fn exit(&mut self) -> (ExitStatus, String) {
        let status = within_deadline("exiting", self.child.wait()).await.unwrap();
        within_deadline("closing stderr", self.stderr.complete()).await;
        (status, self.stderr())
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The id of the process, while it runs.
    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal: `INT`, `TERM`, …
    pub async fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{name}")).arg(self.id().to_string());
        let status = within_deadline("kill", kill.status()).await.unwrap();
        assert!(status.success(), "kill -{name}");
    }
}

/// The output of a process, read as it comes.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    grown: watch::Receiver<usize>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn from(mut source: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (grow, grown) = watch::channel(0);
        let reader = tokio::spawn({
            let bytes = Arc::clone(&bytes);
            async move {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = source.read(&mut buffer).await {
                    bytes.lock().unwrap().extend_from_slice(&buffer[..count]);
                    grow.send_modify(|length| *length += count);
                }
            }
        });
        Self { bytes, grown, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    async fn contains(&mut self, text: &str) {
        let bytes = Arc::clone(&self.bytes);
        let found = move |_: &usize| String::from_utf8_lossy(&bytes.lock().unwrap()).contains(text);
        if self.grown.wait_for(found).await.is_err() {
            panic!("stderr ended without {text:?}: {}", self.text());
        }
    }

    async fn complete(&mut self) {
        (&mut self.reader).await.unwrap();
    }
}

/// The line that a plugin prints for its parent.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Protocol of go-plugin, protocol of the provider, network, address, `grpc`, certificate.
    pub parts: Vec<String>,
}

impl Handshake {
    fn parse(line: &str) -> Self {
        let line = line.strip_suffix('\n').expect("a whole line");
        let parts = line.split('|').map(str::to_owned).collect();
        Self { parts }
    }

    /// `unix` or `tcp`.
    pub fn network(&self) -> &str {
        &self.parts[2]
    }

    /// The socket's path, or host and port.
    pub fn address(&self) -> &str {
        &self.parts[3]
    }

    /// The server's certificate, decoded as Go does: without padding.
    pub fn certificate(&self) -> Option<CertificateDer<'static>> {
        let text = self.parts.get(5).filter(|text| !text.is_empty())?;
        Some(STANDARD_NO_PAD.decode(text).expect("base64").into())
    }

    /// Connects as `identity`, over TLS if there is a certificate in the handshake.
    ///
    /// With TLS 1.3 a refused client may only notice it at its first call.
    pub async fn connect(&self, identity: Option<&Identity>) -> Result<Channel, tonic::transport::Error> {
        let handshake = self.clone();
        let tls = self.certificate().map(|server| TlsConnector::from(Arc::new(client_config(server, identity))));
        let connector = tower::service_fn(move |_: Uri| {
            let (handshake, tls) = (handshake.clone(), tls.clone());
            async move { handshake.dial(tls).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let connect = endpoint.connect_with_connector(connector);
        within_deadline("connecting", connect).await
    }

    async fn dial(&self, tls: Option<TlsConnector>) -> io::Result<Box<dyn Io>> {
        let plain: Box<dyn Io> = match self.network() {
            "unix" => Box::new(UnixStream::connect(self.address()).await?),
            _ => Box::new(TcpStream::connect(self.address()).await?),
        };
        let Some(tls) = tls else {
            return Ok(plain);
        };
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tls.connect(name, plain).await?;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Ok(Box::new(stream))
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Like a core's: trusts only the certificate of the handshake, and checks that it is for `localhost`.
fn client_config(server: CertificateDer<'static>, identity: Option<&Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(server).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// A provider that runs and is connected.
pub struct Core {
    /// The process.
    pub process: Process,
    /// Its handshake.
    pub handshake: Handshake,
    channel: Channel,
}

impl Core {
    /// Starts the provider as a core does, and connects.
    pub async fn start() -> Self {
        Self::launch(Launch::by_core()).await
    }

    /// Starts the provider as `launch` says, and connects.
    pub async fn launch(launch: Launch) -> Self {
        let mut process = launch.start();
        let handshake = process.handshake().await;
        let channel = handshake.connect(process.identity.as_ref()).await.unwrap();
        Self { process, handshake, channel }
    }

    /// Another connection to the same process, with the same identity.
    pub async fn connect_again(&self) -> Channel {
        let identity = self.process.identity.as_ref();
        self.handshake.connect(identity).await.unwrap()
    }

    /// The provider, without limits on the size of its answers.
    pub fn provider(&self) -> ProviderClient<Channel> {
        ProviderClient::new(self.channel.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// The service that ends the process.
    pub fn controller(&self) -> GrpcControllerClient<Channel> {
        GrpcControllerClient::new(self.channel.clone())
    }

    /// The output of the process.
    pub fn stdio(&self) -> GrpcStdioClient<Channel> {
        GrpcStdioClient::new(self.channel.clone())
    }

    /// Further connections.
    pub fn broker(&self) -> GrpcBrokerClient<Channel> {
        GrpcBrokerClient::new(self.channel.clone())
    }

    /// Health, as grpc checks it.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// Asks the process to end, like a core at the end of its run. The connection stays open.
    pub async fn shut_down(&self) {
        let mut controller = self.controller();
        let answer = controller.shutdown(Empty {});
        within_deadline("Shutdown", answer).await.unwrap();
    }

    /// Closes the connection without notice, like a killed core. The process is left behind.
    pub fn vanish(self) -> Process {
        self.process
    }
}
