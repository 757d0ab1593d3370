// SPDX-License-Identifier: MPL-2.0

//! RDS's front of Postgres: it requires TLS and a password, and accepts an IAM token as the password.
//!
//! It computes the token's signature again from the secret key, from AWS's description ("Signature Version 4 for API
//! requests" in the IAM user guide, with the signature in the query) and not with AWS's own code.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The credentials whose tokens are accepted, and their region.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// The id of the access key.
    pub access_key: &'static str,
    /// The secret access key.
    pub secret_key: &'static str,
    /// The region.
    pub region: &'static str,
}

/// A front on loopback. Dropping it closes its port.
pub struct Front {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// Its certificate as PEM, which is its own authority.
    pub certificate: String,
    taken: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Front {
    /// Lets clients with a valid token through to the Postgres on this port of 127.0.0.1, which must trust them.
    pub async fn start(target: u16, keys: Keys) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("listening on loopback");
        let port = listener.local_addr().expect("an address").port();
        let ((tls, certificate), taken) = (acceptor(), Arc::default());
        let gate = Gate { port, target, keys, tls, taken: Arc::clone(&taken) };
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let gate = gate.clone();
                // The client will notice a broken connection.
                tokio::spawn(async move { gate.pass(client).await.ok() });
            }
        });
        Self { port, certificate, taken, server }
    }

    /// The tokens that were accepted so far.
    pub fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Gate {
    port: u16,
    target: u16,
    keys: Keys,
    tls: TlsAcceptor,
    taken: Arc<Mutex<Vec<String>>>,
}

/// `SSLRequest` of the Postgres protocol, without its length.
const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();
/// `CancelRequest`, which has no password.
const CANCEL_REQUEST: [u8; 4] = 80_877_102_u32.to_be_bytes();

impl Gate {
    async fn pass(&self, mut client: TcpStream) -> io::Result<()> {
        let first = message(&mut client).await?;
        if first != SSL_REQUEST {
            return refuse(&mut client, "no pg_hba.conf entry for host \"127.0.0.1\", no encryption").await;
        }
        client.write_all(b"S").await?;
        let mut client = self.tls.accept(client).await?;
        let startup = message(&mut client).await?;
        if !startup.starts_with(&CANCEL_REQUEST) {
            // AuthenticationCleartextPassword
            client.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).await?;
            let kind = client.read_u8().await?;
            let password = message(&mut client).await?;
            let password = String::from_utf8_lossy(password.strip_suffix(b"\0").unwrap_or_default()).into_owned();
            let user = user(&startup);
            if kind != b'p' || !self.is_valid(&password, &user) {
                return refuse(&mut client, &format!("PAM authentication failed for user \"{user}\"")).await;
            }
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(password);
        }
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target)).await?;
        let length = u32::try_from(startup.len() + 4).expect("a short message");
        server.write_all(&[&length.to_be_bytes(), startup.as_slice()].concat()).await?;
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    /// Whether the token is for this user at this address, and signed with the secret key.
    fn is_valid(&self, token: &str, user: &str) -> bool {
        let Some((address, query)) = token.split_once("/?") else { return false };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut parameters: BTreeMap<&str, &str> = pairs.collect();
        let Some(signature) = parameters.remove("X-Amz-Signature") else { return false };
        let get = |name: &str| parameters.get(name).copied().unwrap_or_default();
        let time = get("X-Amz-Date");
        let Some(date) = time.get(..8) else { return false };
        let scope = format!("{date}/{}/rds-db/aws4_request", self.keys.region);
        let credential = format!("{}/{scope}", self.keys.access_key).replace('/', "%2F");
        address == format!("127.0.0.1:{}", self.port)
            && (get("Action"), get("DBUser")) == ("connect", user)
            && (get("X-Amz-Expires"), get("X-Amz-Credential")) == ("900", credential.as_str())
            && signature == self.signature(address, &parameters, time, &scope)
    }

    fn signature(&self, host: &str, parameters: &BTreeMap<&str, &str>, time: &str, scope: &str) -> String {
        let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!("GET\n/\n{}\nhost:{host}\n\nhost\n{}", query.join("&"), sha256(""));
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(&request));
        let secret = format!("AWS4{}", self.keys.secret_key).into_bytes();
        let key = scope.split('/').fold(secret, |key, part| sign(&key, part));
        hex(&sign(&key, &to_sign))
    }
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A message without its length.
async fn message(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = usize::try_from(from.read_u32().await?).map_err(io::Error::other)?;
    let mut body = vec![0; length.saturating_sub(4)];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// The user of a `StartupMessage`.
fn user(startup: &[u8]) -> String {
    let words: Vec<_> = startup.get(4..).unwrap_or_default().split(|byte| *byte == 0).collect();
    let found = words.chunks(2).find(|pair| pair[0] == b"user").and_then(|pair| pair.get(1));
    String::from_utf8_lossy(found.copied().unwrap_or_default()).into_owned()
}

async fn refuse(client: &mut (impl AsyncWriteExt + Unpin), text: &str) -> io::Result<()> {
    let fields = format!("SFATAL\0VFATAL\0C28000\0M{text}\0\0");
    let length = u32::try_from(fields.len() + 4).expect("a short message");
    client.write_all(&[b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()).await?;
    client.shutdown().await
}

/// What answers a handshake, and its certificate as PEM.
fn acceptor() -> (TlsAcceptor, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let text = pem("CERTIFICATE", certificate.der());
    let certificate = CertificateDer::from(certificate);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).expect("a certificate");
    (TlsAcceptor::from(Arc::new(config)), text)
}

/// A certificate or a key as text.
pub fn pem(kind: &str, der: &[u8]) -> String {
    let lines = STANDARD.encode(der).into_bytes();
    let lines: Vec<_> = lines.chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}
