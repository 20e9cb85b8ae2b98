//! Certificates for etcd: an authority, and what it signs for servers and clients, as PEM files.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
    name: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one; its files go to a directory.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{name} authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        std::fs::write(dir.join(format!("{name}-ca.pem")), params.self_signed(&key)?.pem())?;
        Ok(Self { dir: dir.to_owned(), name: name.to_owned(), issuer: Issuer::new(params, key) })
    }

    /// The file of its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join(format!("{}-ca.pem", self.name))
    }

    /// A certificate and its key for somebody who is reached at these addresses or names.
    ///
    /// # Errors
    ///
    /// When they can't be written.
    pub fn sign(&self, who: &str, addresses: &[String]) -> Result<(PathBuf, PathBuf)> {
        let mut params = CertificateParams::new(addresses.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, who);
        // etcd's own gateway is a client of the server it is in.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = |kind: &str| self.dir.join(format!("{}-{who}.{kind}", self.name));
        std::fs::write(path("pem"), certificate.pem())?;
        std::fs::write(path("key"), key.serialize_pem())?;
        Ok((path("pem"), path("key")))
    }
}
