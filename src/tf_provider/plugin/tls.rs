// SPDX-License-Identifier: MPL-2.0

//! AutoMTLS: our own certificate for this run, and the parent's certificate as the only accepted one.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

use super::Failure;

/// Parents request this name, whatever the address.
const SERVER_NAME: &str = "localhost";

/// The server side of AutoMTLS.
pub(super) struct ServerTls {
    /// For the listener.
    pub(super) config: Arc<ServerConfig>,
    /// For the handshake line: the parent trusts this certificate and no other.
    pub(super) certificate: CertificateDer<'static>,
}

/// Creates a key and a certificate for this process, and a configuration that only accepts `client`.
///
/// # Errors
/// When the system has no randomness; never because of the input.
pub(super) fn server(client: CertificateDer<'static>) -> Result<ServerTls, Failure> {
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new([SERVER_NAME.to_owned()])?;
    let certificate = params.self_signed(&key)?.der().clone();

    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = PinnedClient { certificate: client, provider: Arc::clone(&provider) };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![certificate.clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    // Go's gRPC client hangs up on a server that does not agree on HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec()];
    // One parent, one connection: nothing to resume.
    config.send_tls13_tickets = 0;
    Ok(ServerTls { config: Arc::new(config), certificate })
}

/// Accepts only the holder of one certificate.
///
/// The certificate is compared, not validated: parents mark theirs as a CA certificate, which a validator would refuse
/// for a client.
#[derive(Debug)]
struct PinnedClient {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for PinnedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;

    struct Identity {
        certificate: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
    }

    /// A certificate as Terraform makes it: P-521, and marked as a CA's.
    fn identity(algorithm: &'static rcgen::SignatureAlgorithm) -> Identity {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = rcgen::CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Identity {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    fn client(server: &ServerTls, identity: Option<Identity>) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots.add(server.certificate.clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key_provider = provider.key_provider;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(Identity { certificate, key }) => {
                // Unlike rustls's shorthand, this presents a certificate even with another's key.
                let key = key_provider.load_private_key(key).unwrap();
                let pair = CertifiedKey::new(vec![certificate], key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// Runs the handshake in memory, and returns the server's result.
    fn shake(server: &ServerTls, mut client: ClientConnection) -> Result<ServerConnection, rustls::Error> {
        let mut server = ServerConnection::new(Arc::clone(&server.config)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(server)
    }

    #[test]
    fn the_parents_certificate_is_let_in() {
        for algorithm in [&rcgen::PKCS_ECDSA_P521_SHA512, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
            let parent = identity(algorithm);
            let server = server(parent.certificate.clone()).unwrap();
            let client = client(&server, Some(parent));
            let connection = shake(&server, client).unwrap();
            assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
        }
    }

    #[test]
    fn any_other_certificate_is_refused() {
        let parent = identity(&rcgen::PKCS_ECDSA_P521_SHA512);
        let server = server(parent.certificate).unwrap();
        let client = client(&server, Some(identity(&rcgen::PKCS_ECDSA_P521_SHA512)));
        let error = shake(&server, client).unwrap_err();
        assert_eq!(error, CertificateError::ApplicationVerificationFailure.into());
    }

    #[test]
    fn the_parents_certificate_without_its_key_is_refused() {
        let parent = identity(&rcgen::PKCS_ECDSA_P521_SHA512);
        let server = server(parent.certificate.clone()).unwrap();
        let thief = Identity { certificate: parent.certificate, key: identity(&rcgen::PKCS_ECDSA_P521_SHA512).key };
        let client = client(&server, Some(thief));
        let error = shake(&server, client).unwrap_err();
        assert_eq!(error, CertificateError::BadSignature.into());
    }

    #[test]
    fn no_certificate_is_refused() {
        let parent = identity(&rcgen::PKCS_ECDSA_P521_SHA512);
        let server = server(parent.certificate).unwrap();
        let client = client(&server, None);
        let error = shake(&server, client).unwrap_err();
        assert_eq!(error, rustls::Error::NoCertificatesPresented);
    }
}
