//! What proves to etcd who asks, read from its files: for gRPC and for HTTP. The files are read for every call, so that a renewed
//! certificate is used.

use crate::host::etcd::{Access, Endpoint, EtcdError};
use etcd_client::TlsOptions;
use std::path::Path;
use std::sync::Arc;
use tonic::transport::{Certificate, Identity};
use ureq::tls::{ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};

/// The content of the files.
pub(super) struct Credentials<'a> {
    access: &'a Access,
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
    /// User and password.
    pub(super) user: Option<(String, String)>,
}

fn unusable(path: &Path, what: impl std::fmt::Display) -> EtcdError {
    EtcdError::Unusable { what: format!("{} can't be used to ask etcd: {what}", path.display()) }
}

fn read(path: &Path) -> Result<Vec<u8>, EtcdError> {
    std::fs::read(path).map_err(|error| unusable(path, error))
}

fn items(path: &Path, pem: &[u8]) -> Result<Vec<PemItem<'static>>, EtcdError> {
    ureq::tls::parse_pem(pem).collect::<Result<_, _>>().map_err(|error| unusable(path, error))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<ureq::tls::Certificate<'static>>, EtcdError> {
    let certificate = |item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    let all: Vec<_> = items(path, pem)?.into_iter().filter_map(certificate).collect();
    if all.is_empty() { Err(unusable(path, "it has no certificate as PEM")) } else { Ok(all) }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKey<'static>, EtcdError> {
    let key = |item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    };
    items(path, pem)?.into_iter().find_map(key).ok_or_else(|| unusable(path, "it has no private key as PEM"))
}

impl<'a> Credentials<'a> {
    /// Reads the files. Those of TLS are left alone where nothing is asked by TLS.
    pub(super) fn read(endpoint: &'a Endpoint) -> Result<Self, EtcdError> {
        let access = &endpoint.access;
        let tls = endpoint.url.starts_with("https://");
        let ca = access.ca.as_deref().filter(|_| tls).map(read).transpose()?;
        let files = access.certificate.as_ref().filter(|_| tls);
        let identity = files.map(|(certificate, key)| Ok((read(certificate)?, read(key)?))).transpose()?;
        let user = access.user.as_ref().map(|(name, file)| {
            let password = String::from_utf8(read(file)?).map_err(|_| unusable(file, "it is not UTF-8"))?;
            Ok((name.clone(), password.trim_end_matches(['\r', '\n']).to_owned()))
        });
        Ok(Self { access, ca, identity, user: user.transpose()? })
    }

    /// TLS of gRPC.
    pub(super) fn of_grpc(&self) -> Result<TlsOptions, EtcdError> {
        // What is wrong with a file is found here, where its name is known.
        self.roots()?;
        self.client()?;
        let options = match &self.ca {
            Some(pem) => TlsOptions::new().ca_certificate(Certificate::from_pem(pem)),
            None => TlsOptions::new().with_native_roots(),
        };
        Ok(match &self.identity {
            Some((certificate, key)) => options.identity(Identity::from_pem(certificate, key)),
            None => options,
        })
    }

    /// TLS of HTTP, with the one cryptography provider that the agent has.
    pub(super) fn of_http(&self) -> Result<TlsConfig, EtcdError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = TlsConfig::builder()
            .root_certs(self.roots()?)
            .client_cert(self.client()?)
            .unversioned_rustls_crypto_provider(provider);
        Ok(config.build())
    }

    fn roots(&self) -> Result<RootCerts, EtcdError> {
        let (Some(path), Some(pem)) = (&self.access.ca, &self.ca) else {
            return Ok(RootCerts::PlatformVerifier);
        };
        Ok(RootCerts::new_with_certs(&certificates(path, pem)?))
    }

    fn client(&self) -> Result<Option<ClientCert>, EtcdError> {
        let (Some((certificate, key)), Some((chain, secret))) = (&self.access.certificate, &self.identity)
        else {
            return Ok(None);
        };
        Ok(Some(ClientCert::new_with_certs(&certificates(certificate, chain)?, private_key(key, secret)?)))
    }
}

/// How it is told that the other side closed a connection without a word.
const CLOSED: [&str; 7] = [
    "connection closed",
    "broken pipe",
    "Broken pipe",
    "reset by peer",
    "close_notify",
    "end of file",
    "Peer disconnected",
];

/// How TLS tells that a client's certificate is missing or not taken.
const ALERTS: [&str; 5] =
    ["CertificateRequired", "BadCertificate", "HandshakeFailure", "UnknownCA", "AccessDenied"];

/// What a person can do about a failure of TLS, to be written behind it.
pub(super) fn advice(endpoint: &Endpoint, reason: &str) -> String {
    let access = &endpoint.access;
    let has = |texts: &[&str]| texts.iter().any(|text| reason.contains(text));
    if has(&["UnknownIssuer", "BadSignature"]) {
        let trusted = match &access.ca {
            None => "this system trusts".to_owned(),
            Some(ca) => format!("{} has", ca.display()),
        };
        return format!(
            "; no authority that {trusted} signed its certificate: name etcd's (agent.toml, [etcd] ca)"
        );
    }
    if !endpoint.url.starts_with("https://") {
        let advice = if has(&CLOSED) { "; if it speaks TLS, its address is https://" } else { "" };
        return advice.to_owned();
    }
    if has(&["InvalidContentType"]) {
        return "; it does not speak TLS there: is its address http://?".to_owned();
    }
    if !has(&ALERTS) && !has(&CLOSED) {
        return String::new();
    }
    // A server that misses a certificate may have closed the connection before its alert is read.
    let may = if has(&ALERTS) { "" } else { "it may be that " };
    let (what, which) = match &access.certificate {
        None => ("it asks who asks".to_owned(), "a certificate and its key"),
        Some((certificate, _)) => (
            format!("it does not take {}", certificate.display()),
            "one that etcd's authority signed for clients",
        ),
    };
    format!("; {may}{what}: name {which} (agent.toml, [etcd] certificate, key)")
}
