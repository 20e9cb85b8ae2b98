//! TLS configurations: who must show a certificate, who is trusted. One crypto provider, named here alone.

use crate::identity::COORDINATOR_NAME;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Why a TLS configuration can't be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or nothing of the kind in it.
    #[error("{what} is not valid PEM")]
    Pem {
        /// Which part, e.g. `the CA certificate`.
        what: &'static str,
        /// The reason.
        source: rustls_pki_types::pem::Error,
    },
    /// rustls refuses it.
    #[error("{what} cannot be used")]
    Unusable {
        /// Which part.
        what: &'static str,
        /// The reason.
        source: rustls::Error,
    },
    /// The verifier can't be built.
    #[error("the CA certificate cannot be used to check certificates")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// What an enrolling client says of a coordinator whose authority is not the one that the join token names.
const ANOTHER_AUTHORITY: &str = "the coordinator's authority is not the one that the join token names";

/// Whether a connection with [`enrolling_client`] did not come about because the other end's authority is not the one that the join
/// token names.
#[must_use]
pub fn is_another_authority(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::General(text)) if text == ANOTHER_AUTHORITY)
}

/// A certificate chain with its key, and the authority to check others by; all PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The own certificate, then those above it.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: String,
    /// The fleet's certificate authority.
    pub ca_pem: String,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(ca_pem: &str) -> Result<RootCertStore, TlsError> {
    let what = "the CA certificate";
    let ca =
        CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|source| TlsError::Pem { what, source })?;
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|source| TlsError::Unusable { what, source })?;
    Ok(roots)
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn chain_and_key(credentials: &Credentials) -> Result<ChainAndKey, TlsError> {
    let what = "the certificate";
    let chain = CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::Pem { what, source })?;
    let what = "the key";
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes())
        .map_err(|source| TlsError::Pem { what, source })?;
    Ok((chain, key))
}

/// The coordinator's side. A client without a certificate gets through the handshake, since an agent that enrols has
/// none yet: every service but enrolment must ask for the peer's identity. The CA is sent along, so that an enrolling agent can check it against
/// the fingerprint in its token.
///
/// # Errors
/// [`TlsError`] if a part of the credentials is not usable.
pub fn server(credentials: &Credentials) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&credentials.ca_pem)?), provider())
            .allow_unauthenticated()
            .build()?;
    let (mut chain, key) = chain_and_key(credentials)?;
    let what = "the CA certificate";
    let ca = CertificateDer::from_pem_slice(credentials.ca_pem.as_bytes());
    chain.push(ca.map_err(|source| TlsError::Pem { what, source })?);
    let what = "the coordinator's certificate";
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|source| TlsError::Unusable { what, source })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Nobody resumes a session: connections last for months, and after a restart nothing would be known of them.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A client (agent or operator) with a certificate.
///
/// # Errors
/// [`TlsError`] if a part of the credentials is not usable.
pub fn client(credentials: &Credentials) -> Result<Arc<ClientConfig>, TlsError> {
    let (chain, key) = chain_and_key(credentials)?;
    let what = "the certificate";
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_root_certificates(
                    roots(&credentials.ca_pem).map_err(|e| rustls::Error::General(e.to_string()))?,
                )
                .with_client_auth_cert(chain, key)
        })
        .map_err(|source| TlsError::Unusable { what, source })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// An agent that enrols: it has no certificate, and trusts the one authority whose certificate has this SHA-256.
///
/// # Errors
/// [`TlsError`] if the provider's protocol versions are not usable.
pub fn enrolling_client(ca_sha256: [u8; 32]) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = PinnedAuthority { ca_sha256, provider: provider() };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| TlsError::Unusable { what: "the TLS provider", source })?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The SHA-256 of a CA certificate in PEM, as tokens carry it.
///
/// # Errors
/// [`TlsError::Pem`].
pub fn fingerprint(ca_pem: &str) -> Result<[u8; 32], TlsError> {
    let what = "the CA certificate";
    let ca =
        CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(|source| TlsError::Pem { what, source })?;
    Ok(Sha256::digest(&ca).into())
}

/// The name that clients check in the coordinator's certificate.
///
/// # Panics
/// Never: the name is a constant.
#[must_use]
pub fn coordinator_name() -> ServerName<'static> {
    ServerName::try_from(COORDINATOR_NAME).unwrap_or_else(|_| unreachable!("a constant DNS name"))
}

/// Accepts a server whose chain holds the pinned authority and is valid under it.
#[derive(Debug)]
struct PinnedAuthority {
    ca_sha256: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|der| <[u8; 32]>::from(Sha256::digest(der)) == self.ca_sha256);
        let pinned = pinned.ok_or_else(|| rustls::Error::General(ANOTHER_AUTHORITY.to_owned()))?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
