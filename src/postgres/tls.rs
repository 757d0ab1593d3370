//! `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, as libpq means them, for rustls.
//!
//! Source: "SSL Support" in the documentation of libpq. One difference: a host name is looked for in a certificate's
//! subject alternative names only, never in its common name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Whether to encrypt, and what to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never encrypt.
    Disable,
    /// Encrypt only when the server insists.
    Allow,
    /// Encrypt when the server can.
    Prefer,
    /// Always encrypt; verify the chain only when `sslrootcert` is given.
    Require,
    /// Always encrypt, and verify the chain.
    VerifyCa,
    /// Always encrypt, verify the chain and the host name.
    VerifyFull,
}

impl SslMode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 6] =
        [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The name that libpq uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not one of disable, allow, prefer, require, verify-ca, verify-full"))
    }
}

/// Where certificates come from. Each text is a path, or PEM itself; `root` may also be `system`.
#[derive(Clone, Default)]
pub(super) struct Certificates<'a> {
    pub(super) root: Option<&'a str>,
    pub(super) cert: Option<&'a str>,
    pub(super) key: Option<&'a str>,
}

/// Makes the connector. Fails with a sentence for people.
pub(super) fn connector(mode: SslMode, certificates: &Certificates<'_>) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let check = check_of(mode, certificates.root)?;
    let verifier = Verifier { check, algorithms: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match (certificates.cert, certificates.key) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(read_chain("sslcert", cert)?, read_key(key)?)
            .map_err(|error| format!("sslcert and sslkey: {error}"))?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("sslcert and sslkey must be given together".to_owned()),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// What is verified about the server's certificate.
#[derive(Debug)]
enum Check {
    Nothing,
    Chain(Roots),
    ChainAndName(Roots),
}

fn check_of(mode: SslMode, root: Option<&str>) -> Result<Check, String> {
    match mode {
        SslMode::VerifyFull => Ok(Check::ChainAndName(Roots::read(root)?)),
        SslMode::VerifyCa => Ok(Check::Chain(Roots::read(root)?)),
        SslMode::Require if root.is_some() => Ok(Check::Chain(Roots::read(root)?)),
        _ => Ok(Check::Nothing),
    }
}

#[derive(Debug)]
struct Roots {
    store: RootCertStore,
    /// The same certificates as they came, to recognise a server that presents one of them as its own.
    own: Vec<CertificateDer<'static>>,
}

impl Roots {
    fn read(source: Option<&str>) -> Result<Self, String> {
        let own = match source {
            None | Some("system") => {
                let found = rustls_native_certs::load_native_certs();
                match (found.certs.is_empty(), found.errors.first()) {
                    (false, _) => found.certs,
                    (true, Some(error)) => {
                        return Err(format!("the system's root certificates cannot be read: {error}"));
                    }
                    (true, None) => {
                        return Err("the system has no root certificates; give sslrootcert".to_owned());
                    }
                }
            }
            Some(source) => read_chain("sslrootcert", source)?,
        };
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(own.iter().cloned());
        if added == 0 { Err("sslrootcert holds no usable certificate".to_owned()) } else { Ok(Self { store, own }) }
    }
}

fn read_pem(attribute: &str, source: &str) -> Result<Vec<u8>, String> {
    if source.contains("-----BEGIN ") {
        return Ok(source.as_bytes().to_vec());
    }
    std::fs::read(source).map_err(|error| format!("{attribute} {source:?} cannot be read: {error}"))
}

fn read_chain(attribute: &str, source: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read_pem(attribute, source)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(format!("{attribute} holds no certificate in PEM form")),
        Err(error) => Err(format!("{attribute} is not valid PEM: {error}")),
    }
}

fn read_key(source: &str) -> Result<PrivateKeyDer<'static>, String> {
    // What the parser says about a key is not passed on, as it could quote the key.
    let pem = read_pem("sslkey", source).map_err(|_| "sslkey cannot be read".to_owned())?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "sslkey holds no unencrypted private key in PEM form".to_owned())
}

/// Verifies what the mode asks for, and the handshake's signatures always.
#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify_chain(
        &self,
        roots: &Roots,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        // Self-signed server certificates that are given as sslrootcert, too: libpq accepts them, webpki as an issuer only.
        if roots.own.iter().any(|root| root == end_entity) {
            return Ok(());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots.store, intermediates, now, algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.check {
            Check::Nothing => {}
            Check::Chain(roots) => self.verify_chain(roots, end_entity, intermediates, now)?,
            Check::ChainAndName(roots) => {
                self.verify_chain(roots, end_entity, intermediates, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    fn error(mode: SslMode, certificates: &Certificates<'_>) -> String {
        connector(mode, certificates).err().unwrap()
    }

    #[test]
    fn modes_are_read_and_printed() {
        for mode in SslMode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("REQUIRE".parse::<SslMode>().is_err());
    }

    #[test]
    fn a_weak_mode_reads_no_roots() {
        assert!(matches!(check_of(SslMode::Prefer, Some("/nowhere")), Ok(Check::Nothing)));
        assert!(matches!(check_of(SslMode::Require, None), Ok(Check::Nothing)));
    }

    #[test]
    fn require_with_a_root_certificate_verifies_the_chain() {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let body = STANDARD.encode(certificate.cert.der());
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        assert!(matches!(check_of(SslMode::Require, Some(&pem)), Ok(Check::Chain(_))));
        assert!(matches!(check_of(SslMode::VerifyFull, Some(&pem)), Ok(Check::ChainAndName(_))));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let root = |root| Certificates { root: Some(root), ..Certificates::default() };
        assert!(
            error(SslMode::VerifyCa, &root("/nowhere.pem"))
                .starts_with("sslrootcert \"/nowhere.pem\" cannot be read: ")
        );
        let cert = Certificates { cert: Some("/nowhere.pem"), ..Certificates::default() };
        assert_eq!(error(SslMode::Require, &cert), "sslcert and sslkey must be given together");
        assert_eq!(
            error(SslMode::VerifyCa, &root("-----BEGIN X-----\n-----END X-----\n")),
            "sslrootcert holds no certificate in PEM form"
        );
    }
}
