// SPDX-License-Identifier: MPL-2.0

//! `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, as libpq means them, for rustls.
//!
//! Source: "SSL Support" in the documentation of libpq. One difference: host names are only checked against a
//! certificate's subject alternative names, never its common name.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    version,
};
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
    /// Always encrypt; verify the chain when `sslrootcert` is given, and nothing otherwise.
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

/// A version of TLS, oldest first. The first two are too old to be supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TlsVersion {
    V10,
    V11,
    V12,
    V13,
}

/// Options of TLS, in addition to `sslmode` and certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// Revocation lists: a path, or PEM text.
    pub(super) crl: Option<String>,
    pub(super) oldest: TlsVersion,
    pub(super) newest: TlsVersion,
    /// Whether to send the server's name (SNI).
    pub(super) sni: bool,
    /// Whether to begin TLS without asking the server first.
    pub(super) direct: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self { crl: None, oldest: TlsVersion::V12, newest: TlsVersion::V13, sni: true, direct: false }
    }
}

const VERSIONS: [(&str, TlsVersion); 4] = [
    ("TLSv1", TlsVersion::V10),
    ("TLSv1.1", TlsVersion::V11),
    ("TLSv1.2", TlsVersion::V12),
    ("TLSv1.3", TlsVersion::V13),
];

/// The version with this name in libpq.
pub(super) fn version(name: &str) -> Result<TlsVersion, &'static str> {
    let found = VERSIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, version)| *version).ok_or("is not one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3")
}

/// Refuses certificate authorities that do not match a mode.
///
/// # Errors
/// A sentence for people: if `verify-ca` has no authority, because any public one would vouch for any server; or if
/// the system's authorities are trusted without checking the host name, because any server may have their
/// certificate.
pub fn check_roots(mode: SslMode, root: Option<&str>) -> Result<(), &'static str> {
    match (mode, root) {
        (SslMode::VerifyCa, None) => {
            Err("sslmode = \"verify-ca\" needs sslrootcert: without it, any certificate of any public authority \
             would do. Give the authority's certificate, or use \"verify-full\", which also looks at the host name")
        }
        (mode, Some("system")) if mode != SslMode::VerifyFull => {
            Err("sslrootcert = \"system\" needs sslmode = \"verify-full\": \
             public authorities give certificates to everybody, so that the host name must be looked at")
        }
        _ => Ok(()),
    }
}

/// The sources of certificates. Each text is a path, or PEM itself; `root` may also be `system`.
#[derive(Clone, Default)]
pub(super) struct Certificates<'a> {
    pub(super) root: Option<&'a str>,
    pub(super) cert: Option<&'a str>,
    pub(super) key: Option<&'a str>,
}

/// Creates the connector. Fails with a sentence for people.
pub(super) fn connector(
    mode: SslMode,
    certificates: &Certificates<'_>,
    options: &TlsOptions,
) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let check = check_of(mode, certificates.root, options.crl.as_deref(), &provider)?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(spoken(options))
        .map_err(|error| error.to_string())?;
    let builder = match check {
        Check::ChainAndName(Verified { webpki, pinned }) if pinned.is_empty() => builder.with_webpki_verifier(webpki),
        check => {
            let verifier = Verifier { check, algorithms: provider };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match (certificates.cert, certificates.key) {
        (Some(cert), Some(key)) => builder
            .with_client_auth_cert(read_chain("sslcert", cert)?, read_key(key)?)
            .map_err(|error| format!("sslcert and sslkey: {error}"))?,
        (None, None) => builder.with_no_client_auth(),
        _ => return Err("sslcert and sslkey must be given together".to_owned()),
    };
    config.enable_sni = options.sni;
    if options.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(config))
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
const ONLY_12: &[&SupportedProtocolVersion] = &[&version::TLS12];
const ONLY_13: &[&SupportedProtocolVersion] = &[&version::TLS13];

fn spoken(options: &TlsOptions) -> &'static [&'static SupportedProtocolVersion] {
    match (options.oldest, options.newest) {
        (TlsVersion::V13, _) => ONLY_13,
        (_, TlsVersion::V12) => ONLY_12,
        _ => BOTH,
    }
}

/// The checks of the server's certificate.
#[derive(Debug)]
enum Check {
    Nothing,
    Chain(Verified),
    ChainAndName(Verified),
}

fn check_of(
    mode: SslMode,
    root: Option<&str>,
    crl: Option<&str>,
    provider: &Arc<CryptoProvider>,
) -> Result<Check, String> {
    check_roots(mode, root)?;
    match mode {
        SslMode::VerifyFull => Ok(Check::ChainAndName(Verified::read(root, crl, provider)?)),
        SslMode::VerifyCa => Ok(Check::Chain(Verified::read(root, crl, provider)?)),
        SslMode::Require if root.is_some() => Ok(Check::Chain(Verified::read(root, crl, provider)?)),
        _ => Ok(Check::Nothing),
    }
}

/// The verifier of certificate chains.
#[derive(Debug)]
struct Verified {
    webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of `sslrootcert`, to recognise a server that presents one of them as its own. Without the
    /// system's.
    pinned: Vec<CertificateDer<'static>>,
}

impl Verified {
    fn read(source: Option<&str>, crl: Option<&str>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let (roots, pinned) = match source {
            None | Some("system") => (system_roots()?, Vec::new()),
            Some(source) => {
                let roots = read_chain("sslrootcert", source)?;
                (roots.clone(), roots)
            }
        };
        let mut store = RootCertStore::empty();
        if store.add_parsable_certificates(roots).0 == 0 {
            return Err("sslrootcert holds no usable certificate".to_owned());
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        let builder = builder.with_crls(crl.map(read_crls).transpose()?.unwrap_or_default());
        let webpki = builder.build().map_err(|error| format!("sslcrl cannot be used: {error}"))?;
        Ok(Self { webpki, pinned })
    }
}

/// The system's certificates, or those from `SSL_CERT_FILE` and `SSL_CERT_DIR` if one of them is set.
fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let found = rustls_native_certs::load_native_certs();
    let remedy = "install them (the package ca-certificates), correct SSL_CERT_FILE and SSL_CERT_DIR where they are set, or give \
                  sslrootcert";
    match (found.certs.is_empty(), found.errors.first()) {
        (false, _) => Ok(found.certs),
        (true, Some(error)) => Err(format!("the system's root certificates cannot be read: {error}; {remedy}")),
        (true, None) => Err(format!("the system has no root certificates; {remedy}")),
    }
}

fn read_crls(source: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let pem = read_pem("sslcrl", source)?;
    let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match lists {
        Ok(lists) if !lists.is_empty() => Ok(lists),
        Ok(_) => Err("sslcrl holds no revocation list in PEM form".to_owned()),
        Err(error) => Err(format!("sslcrl is not valid PEM: {error}")),
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
    // The parser's error about a key is not shown, because it could quote the key.
    let pem = read_pem("sslkey", source).map_err(|_| "sslkey cannot be read".to_owned())?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| "sslkey holds no unencrypted private key in PEM form".to_owned())
}

/// Verifies what the mode requires, and always the handshake's signatures.
#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: Arc<CryptoProvider>,
}

impl Verified {
    /// Verifies the chain, and the name if required. rustls checks the name last.
    fn verify(&self, presented: &Presented<'_>, with_name: bool) -> Result<(), rustls::Error> {
        match presented.verified_by(&self.webpki) {
            Err(error) if !with_name && is_about_name(&error) => Ok(()),
            // Also accept a server's self-signed certificate that is given as sslrootcert: webpki only accepts it as an
            // issuer.
            Err(error) if is_about_chain(&error) && self.pinned.iter().any(|own| own == presented.certificate) => {
                if with_name {
                    presented.verify_name()
                } else {
                    Ok(())
                }
            }
            result => result,
        }
    }
}

/// The certificates that a server has presented, and its requested name.
struct Presented<'a> {
    certificate: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    name: &'a ServerName<'a>,
    now: UnixTime,
}

impl Presented<'_> {
    fn verified_by(&self, webpki: &WebPkiServerVerifier) -> Result<(), rustls::Error> {
        webpki.verify_server_cert(self.certificate, self.intermediates, self.name, &[], self.now).map(drop)
    }

    fn verify_name(&self) -> Result<(), rustls::Error> {
        verify_server_name(&ParsedCertificate::try_from(self.certificate)?, self.name)
    }
}

fn is_about_name(error: &rustls::Error) -> bool {
    use CertificateError::{NotValidForName, NotValidForNameContext};
    matches!(error, rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }))
}

/// Whether no authority vouches for the certificate, or it is itself an authority's; not whether it has expired or was
/// revoked.
fn is_about_chain(error: &rustls::Error) -> bool {
    use CertificateError::{Other, UnknownIssuer};
    matches!(error, rustls::Error::InvalidCertificate(UnknownIssuer | Other(_)))
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
        let presented = Presented { certificate: end_entity, intermediates, name: server_name, now };
        match &self.check {
            Check::Nothing => {}
            Check::Chain(verified) => verified.verify(&presented, false)?,
            Check::ChainAndName(verified) => verified.verify(&presented, true)?,
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
        connector(mode, certificates, &TlsOptions::default()).err().unwrap()
    }

    fn check_of(mode: SslMode, root: Option<&str>) -> Result<Check, String> {
        super::check_of(mode, root, None, &Arc::new(aws_lc_rs::default_provider()))
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
    fn public_authorities_are_trusted_with_the_host_name_only() {
        assert!(
            check_of(SslMode::VerifyCa, None).unwrap_err().starts_with("sslmode = \"verify-ca\" needs sslrootcert")
        );
        for mode in SslMode::ALL.into_iter().filter(|mode| *mode != SslMode::VerifyFull) {
            let refused = check_of(mode, Some("system")).unwrap_err();
            assert!(refused.starts_with("sslrootcert = \"system\" needs sslmode = \"verify-full\""), "{refused}");
        }
        assert_eq!(check_roots(SslMode::VerifyFull, None), Ok(()));
    }

    #[test]
    fn versions_of_tls_are_chosen() {
        let spoken = |oldest, newest| spoken(&TlsOptions { oldest, newest, ..TlsOptions::default() }).len();
        assert_eq!(spoken(TlsVersion::V10, TlsVersion::V13), 2);
        assert_eq!(spoken(TlsVersion::V13, TlsVersion::V13), 1);
        assert_eq!(spoken(TlsVersion::V12, TlsVersion::V12), 1);
        assert_eq!(version("tlsv1.2"), Ok(TlsVersion::V12));
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
