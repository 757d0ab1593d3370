//! `sslmode` against servers with and without certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use neonrepl::postgres::{Secret, Server, ServerConfig, SslMode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::catalog::config;
use crate::common::postgres::{self as servers, Major, Role, Settings, settings};

fn pem(kind: &str, der: &[u8]) -> String {
    let lines = STANDARD.encode(der).into_bytes();
    let lines: Vec<_> = lines.chunks(64).map(String::from_utf8_lossy).collect();
    let body = lines.join("\n");
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

/// An authority, and a certificate with its key that it has signed for a name.
struct Issued {
    root: String,
    certificate: String,
    key: String,
}

fn issue(name: &str) -> Issued {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.signed_by(&key, &root).unwrap();
    Issued {
        root: pem("CERTIFICATE", root.der()),
        certificate: pem("CERTIFICATE", certificate.der()),
        key: pem("PRIVATE KEY", &key.serialize_der()),
    }
}

/// A server whose certificate is for this name, and how to reach its database.
async fn encrypted(certificate: &Issued, hba: &str) -> (servers::Server, ServerConfig) {
    let mut server = servers::Server::start(Major::V18, Settings::new());
    server.write("server.crt", &certificate.certificate);
    server.write("server.key", &certificate.key);
    server.write("clients.crt", &certificate.root);
    let database = server.database("tls").await;
    server.write("pg_hba.conf", hba);
    server.restart(settings([("ssl", "on"), ("ssl_ca_file", "clients.crt")]));
    let config = config(&database, &Role::superuser());
    (server, config)
}

const ANY: &str = "host all all 127.0.0.1/32 scram-sha-256\n";
const ENCRYPTED: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\n";
const PLAIN: &str = "hostnossl all all 127.0.0.1/32 scram-sha-256\n";
const CERTIFICATE: &str = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n";

/// What connecting ends with: nothing, or the text of the error after "cannot connect: ".
async fn connecting(config: &ServerConfig, change: impl FnOnce(&mut ServerConfig)) -> String {
    let mut config = config.clone();
    change(&mut config);
    match Server::new(config).database(None).version().await {
        Ok(_) => String::new(),
        Err(error) => error.to_string().split_once("cannot connect: ").unwrap().1.to_owned(),
    }
}

#[tokio::test]
async fn each_mode_verifies_what_it_says() {
    let (right, other) = (issue("127.0.0.1"), issue("127.0.0.1"));
    let (_server, config) = encrypted(&right, ANY).await;
    let mode = async |mode: SslMode, root: Option<&str>| {
        connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (mode, root.map(str::to_owned));
        })
        .await
    };
    for weak in [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require] {
        assert_eq!(mode(weak, None).await, "");
    }
    for strong in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        assert_eq!(mode(strong, Some(&right.root)).await, "");
        // A certificate given as its own authority, as for self-signed ones.
        assert_eq!(mode(strong, Some(&right.certificate)).await, "");
        let refused = mode(strong, Some(&other.root)).await;
        assert!(refused.contains("invalid peer certificate"), "{refused}");
    }
}

#[tokio::test]
async fn only_verify_full_looks_at_the_host_name() {
    let certificate = issue("db.example");
    let (_server, config) = encrypted(&certificate, ANY).await;
    let mode = async |mode: SslMode| {
        connecting(&config, |config| {
            (config.sslmode, config.sslrootcert) = (mode, Some(certificate.root.clone()));
        })
        .await
    };
    assert_eq!(mode(SslMode::VerifyCa).await, "");
    let refused = mode(SslMode::VerifyFull).await;
    assert!(refused.contains("certificate not valid for name \"127.0.0.1\""), "{refused}");
}

#[tokio::test]
async fn allow_and_prefer_try_the_other_way() {
    let certificate = issue("127.0.0.1");
    for (hba, refused) in [(ENCRYPTED, SslMode::Disable), (PLAIN, SslMode::Require)] {
        let (_server, config) = encrypted(&certificate, hba).await;
        for mode in [SslMode::Allow, SslMode::Prefer] {
            assert_eq!(connecting(&config, |config| config.sslmode = mode).await, "");
        }
        let error = connecting(&config, |config| config.sslmode = refused).await;
        assert!(error.starts_with("no pg_hba.conf entry for host"), "{error}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_presented() {
    let certificate = issue("127.0.0.1");
    let (_server, config) = encrypted(&certificate, CERTIFICATE).await;
    let error = connecting(&config, |config| config.sslmode = SslMode::Require).await;
    assert!(error.contains("requires a valid client certificate"), "{error}");
    let presented = connecting(&config, |config| {
        config.sslmode = SslMode::Require;
        config.sslcert = Some(certificate.certificate.clone());
        config.sslkey = Some(Secret::new(&certificate.key));
    });
    assert_eq!(presented.await, "");
}
