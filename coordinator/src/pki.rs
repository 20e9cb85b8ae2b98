//! The fleet's certificate authority: making it, keeping it, and what it signs. Who may have a certificate is `token`'s
//! and `init`'s to say.
//!
//! Keys are ECDSA P-256. Lives: the authority 10 years, nodes 5, the coordinator and operators 1; nothing outlives the
//! authority.

use crate::files;
use crate::token::{hex, sha256_hex};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};
use wavegate_common::id::{FleetId, NodeId, Timestamp};
use wavegate_proto::identity::{COORDINATOR_NAME, Identity, Subject};
use wavegate_proto::tls::{self, Credentials, TlsError};
use x509_parser::extensions::GeneralName;

const AUTHORITY_LIFE: Duration = Duration::days(10 * 365);
const NODE_LIFE: Duration = Duration::days(5 * 365);
const COORDINATOR_LIFE: Duration = Duration::days(365);
const OPERATOR_LIFE: Duration = Duration::days(365);
/// Certificates are valid from so long before they are made: clocks differ.
const CLOCK_SLACK: Duration = Duration::days(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file can't be read or written.
    #[error("{} cannot be {done}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `written`.
        done: &'static str,
        /// The reason.
        source: std::io::Error,
    },
    /// There is no authority yet.
    #[error("there is no certificate authority in {}; run: wavegate init", folder.display())]
    NoAuthority {
        /// Where it would be.
        folder: PathBuf,
    },
    /// The authority's certificate is there and its key is not.
    #[error("the authority's key {} is missing, its certificate is there; restore it from a backup", path.display())]
    NoKey {
        /// The key's file.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{} is not usable: {what}; restore it from a backup", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The certificate signing request is not acceptable.
    #[error("the certificate signing request is not acceptable: {what}")]
    Request {
        /// What is wrong and what would be right.
        what: String,
    },
    /// A certificate can't be made.
    #[error("a certificate cannot be made")]
    Signing(#[from] rcgen::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[from] getrandom::Error),
    /// TLS refuses a certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The certificate authority of a fleet.
pub struct Authority {
    fleet: FleetId,
    pem: String,
    fingerprint: [u8; 32],
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for a node's own key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The certificate.
    pub pem: String,
    /// SHA-256 of its DER, hexadecimal.
    pub fingerprint: String,
}

/// A node's signing request that was found to be acceptable.
pub struct NodeRequest {
    request: CertificateSigningRequestParams,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), hexadecimal.
    pub public_key: String,
}

impl NodeRequest {
    /// Reads a request: its signature shows that the asker has the key, which must be of a kind that we sign. What it
    /// asks for besides is not looked at.
    ///
    /// # Errors
    /// [`PkiError::Request`].
    pub fn read(pem: &str) -> Result<Self, PkiError> {
        let refuse = |what: String| PkiError::Request { what };
        let request =
            CertificateSigningRequestParams::from_pem(pem).map_err(|error| refuse(error.to_string()))?;
        let kinds = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        if !kinds.contains(&request.public_key.algorithm()) {
            return Err(refuse("its key must be ECDSA P-256, ECDSA P-384 or Ed25519".to_owned()));
        }
        let public_key = sha256_hex(&request.public_key.subject_public_key_info());
        Ok(Self { request, public_key })
    }
}

impl Authority {
    /// Loads the authority from its folder.
    ///
    /// # Errors
    /// [`PkiError`] if it is not there or not usable.
    pub fn load(folder: &Path) -> Result<Self, PkiError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let Some(pem) = read_if_there(&certificate)? else {
            return Err(PkiError::NoAuthority { folder: folder.to_path_buf() });
        };
        let Some(key_pem) = read_if_there(&key)? else { return Err(PkiError::NoKey { path: key }) };
        let unusable = |path: &Path, what: String| PkiError::Unusable { path: path.to_path_buf(), what };
        let key_pair = KeyPair::from_pem(&key_pem).map_err(|error| unusable(&key, error.to_string()))?;
        let facts = AuthorityFacts::read(&pem).map_err(|what| unusable(&certificate, what))?;
        if facts.public_key != key_pair.subject_public_key_info() {
            return Err(unusable(&key, "it is not the key of ca.pem beside it".to_owned()));
        }
        let fingerprint = tls::fingerprint(&pem)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key_pair)?;
        Ok(Self { fleet: facts.fleet, pem, fingerprint, not_after: facts.not_after, issuer })
    }

    /// Makes the authority of a fleet in a folder. The key is written first: whoever is interrupted can go on.
    ///
    /// # Errors
    /// [`PkiError`]; an authority that is there is not touched, and is an error.
    pub fn create(folder: &Path, fleet: &FleetId, now: Timestamp) -> Result<Self, PkiError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if certificate.exists() {
            let what = "there is an authority already, and it is never overwritten".to_owned();
            return Err(PkiError::Unusable { path: certificate, what });
        }
        files::private_folder(folder).map_err(|source| written(folder, source))?;
        let key_pair = match read_if_there(&key)? {
            Some(pem) => KeyPair::from_pem(&pem)
                .map_err(|error| PkiError::Unusable { path: key.clone(), what: error.to_string() })?,
            None => KeyPair::generate()?,
        };
        files::write_whole(&key, &key_pair.serialize_pem(), 0o600).map_err(|source| written(&key, source))?;
        let mut params = parameters(&format!("wavegate fleet {fleet}"), now, AUTHORITY_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("spiffe://{fleet}"))?];
        let pem = params.self_signed(&key_pair)?.pem();
        files::write_whole(&certificate, &pem, 0o600).map_err(|source| written(&certificate, source))?;
        Self::load(folder)
    }

    /// The fleet.
    #[must_use]
    pub const fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// The authority's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the authority's certificate, as tokens carry it.
    #[must_use]
    pub const fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Signs a certificate for a node's key. What the request asks for is not looked at: the name is the one given
    /// here, and it can only be a client.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn sign_node(
        &self,
        request: NodeRequest,
        node: &NodeId,
        now: Timestamp,
    ) -> Result<NodeCertificate, PkiError> {
        let subject = Subject::Node(node.clone());
        let params =
            self.leaf(node.as_str(), subject, &[ExtendedKeyUsagePurpose::ClientAuth], now, NODE_LIFE)?;
        let NodeRequest { mut request, .. } = request;
        request.params = params;
        let certificate = request.signed_by(&self.issuer)?;
        Ok(NodeCertificate { pem: certificate.pem(), fingerprint: sha256_hex(certificate.der()) })
    }

    /// Makes a key and a certificate for an operator.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn operator(&self, name: &str, now: Timestamp) -> Result<Credentials, PkiError> {
        let subject = Subject::Operator(name.to_owned());
        let params = self.leaf(name, subject, &[ExtendedKeyUsagePurpose::ClientAuth], now, OPERATOR_LIFE)?;
        self.credentials(params)
    }

    /// Makes a key and a certificate for the coordinator.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn coordinator(&self, now: Timestamp) -> Result<Credentials, PkiError> {
        let uses = [ExtendedKeyUsagePurpose::ServerAuth];
        let mut params = self.leaf(COORDINATOR_NAME, Subject::Coordinator, &uses, now, COORDINATOR_LIFE)?;
        let name = COORDINATOR_NAME.try_into().map_err(PkiError::Signing)?;
        params.subject_alt_names.push(SanType::DnsName(name));
        self.credentials(params)
    }

    /// The coordinator's credentials from its file in this folder; made anew when they are not there, not of this
    /// authority, or less than a third of their life is left.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn current_coordinator(&self, folder: &Path, now: Timestamp) -> Result<Credentials, PkiError> {
        // Certificate and key are in one file, so that a crash can't leave one without the other.
        let file = folder.join("coordinator.pem");
        if let Some(both) = read_if_there(&file)? {
            let current =
                Credentials { certificate_pem: both.clone(), key_pem: both, ca_pem: self.pem.clone() };
            if tls::server(&current).is_ok() && !self.is_due(&current.certificate_pem, now) {
                return Ok(current);
            }
        }
        let made = self.coordinator(now)?;
        let both = format!("{}{}", made.certificate_pem, made.key_pem);
        files::write_whole(&file, &both, 0o600).map_err(|source| written(&file, source))?;
        Ok(made)
    }

    /// Whether a certificate is to be replaced: not readable, not of this authority, or less than a third of its life
    /// is left.
    #[must_use]
    pub fn is_due(&self, certificate_pem: &str, now: Timestamp) -> bool {
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()) else { return true };
        let Ok(certificate) = pem.parse_x509() else { return true };
        let Ok((_, own)) = x509_parser::pem::parse_x509_pem(self.pem.as_bytes()) else { return true };
        let Ok(own) = own.parse_x509() else { return true };
        if certificate.verify_signature(Some(own.public_key())).is_err() {
            return true;
        }
        let validity = certificate.validity();
        let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        to.saturating_sub(seconds(now)) < to.saturating_sub(from) / 3
    }

    fn leaf(
        &self,
        name: &str,
        subject: Subject,
        uses: &[ExtendedKeyUsagePurpose],
        now: Timestamp,
        life: Duration,
    ) -> Result<CertificateParams, PkiError> {
        let identity = Identity { fleet: self.fleet.clone(), subject };
        let mut params = parameters(name, now, life)?;
        params.not_after = params.not_after.min(self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = vec![uri(&identity.to_string())?];
        Ok(params)
    }

    fn credentials(&self, params: CertificateParams) -> Result<Credentials, PkiError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credentials {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.pem.clone(),
        })
    }
}

/// What the authority's own certificate says.
struct AuthorityFacts {
    fleet: FleetId,
    not_after: OffsetDateTime,
    public_key: Vec<u8>,
}

impl AuthorityFacts {
    fn read(pem: &str) -> Result<Self, String> {
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
        let certificate = pem.parse_x509().map_err(|error| error.to_string())?;
        let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let fleet = names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            GeneralName::URI(uri) => FleetId::new(uri.strip_prefix("spiffe://")?).ok(),
            _ => None,
        });
        let not_after = OffsetDateTime::from_unix_timestamp(certificate.validity().not_after.timestamp());
        Ok(Self {
            fleet: fleet.ok_or("it is not a wavegate authority: it names no fleet (a URI spiffe://FLEET)")?,
            not_after: not_after.map_err(|error| error.to_string())?,
            public_key: certificate.public_key().raw.to_vec(),
        })
    }
}

/// A file's text; `None` if there is no such file.
///
/// # Errors
/// [`PkiError::File`].
pub fn read_if_there(path: &Path) -> Result<Option<String>, PkiError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { path: path.to_path_buf(), done: "read", source }),
    }
}

fn written(path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { path: path.to_path_buf(), done: "written", source }
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    Ok(SanType::URI(text.try_into().map_err(PkiError::Signing)?))
}

fn seconds(at: Timestamp) -> i64 {
    i64::try_from(at.0 / 1000).unwrap_or(i64::MAX)
}

fn parameters(common_name: &str, now: Timestamp, life: Duration) -> Result<CertificateParams, PkiError> {
    let made = OffsetDateTime::from_unix_timestamp(seconds(now)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut serial = [0; 16];
    getrandom::fill(&mut serial)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Positive, and without leading zeros whatever comes.
    serial[0] = serial[0] & 0x3f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = made - CLOCK_SLACK;
    params.not_after = made + life;
    Ok(params)
}

/// SHA-256 of a certificate's DER, hexadecimal: how a node's certificate is known again.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    sha256_hex(der)
}

/// The authority's fingerprint as text.
#[must_use]
pub fn fingerprint_text(fingerprint: [u8; 32]) -> String {
    hex(&fingerprint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;
    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn fleet() -> FleetId {
        FleetId::new("prod").expect("name")
    }

    fn der(pem: &str) -> Vec<u8> {
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("pem").1.contents
    }

    #[test]
    fn an_authority_is_made_once() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(matches!(Authority::load(folder.path()), Err(PkiError::NoAuthority { .. })));
        let made = Authority::create(folder.path(), &fleet(), NOW).expect("made");
        let loaded = Authority::load(folder.path()).expect("loaded");
        assert_eq!((loaded.fleet(), loaded.pem()), (&fleet(), made.pem()));
        assert!(Authority::create(folder.path(), &fleet(), NOW).is_err(), "never overwritten");
        std::fs::remove_file(folder.path().join("ca.pem")).expect("interrupted before the certificate");
        let key = std::fs::read(folder.path().join("ca.key")).expect("key");
        Authority::create(folder.path(), &fleet(), NOW).expect("goes on");
        assert_eq!(std::fs::read(folder.path().join("ca.key")).expect("key"), key);
        std::fs::remove_file(folder.path().join("ca.key")).expect("lost");
        assert!(matches!(Authority::load(folder.path()), Err(PkiError::NoKey { .. })));
    }

    #[test]
    fn a_node_gets_the_name_it_was_given_and_no_other() {
        let folder = tempfile::tempdir().expect("folder");
        let authority = Authority::create(folder.path(), &fleet(), NOW).expect("made");
        let key = KeyPair::generate().expect("key");
        let mut wish = CertificateParams::new(vec![COORDINATOR_NAME.to_owned()]).expect("params");
        wish.subject_alt_names.push(uri("spiffe://prod/coordinator").expect("uri"));
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = wish.serialize_request(&key).expect("request").pem().expect("pem");
        let request = NodeRequest::read(&pem).expect("acceptable");
        let node = NodeId::new("compute-1").expect("name");
        let signed = authority.sign_node(request, &node, NOW).expect("signed");
        let identity = Identity::of_certificate(&der(&signed.pem)).expect("identity");
        assert_eq!(identity, Identity { fleet: fleet(), subject: Subject::Node(node) });
        let bytes = der(&signed.pem);
        let (_, certificate) = x509_parser::parse_x509_certificate(&bytes).expect("certificate");
        assert!(!certificate.is_ca());
        let uses = certificate.extended_key_usage().expect("uses").expect("some").value;
        assert!(uses.client_auth && !uses.server_auth && !uses.any);
        assert_eq!(signed.fingerprint, fingerprint(&bytes));
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        let key = KeyPair::generate().expect("key");
        let request =
            CertificateParams::default().serialize_request(&key).expect("request").pem().expect("pem");
        let mut broken: Vec<&str> = request.lines().collect();
        broken.remove(2);
        for bad in [String::new(), "-----BEGIN".to_owned(), broken.join("\n")] {
            assert!(matches!(NodeRequest::read(&bad), Err(PkiError::Request { .. })), "{bad}");
        }
    }

    #[test]
    fn the_coordinator_is_renewed_in_the_last_third() {
        let folder = tempfile::tempdir().expect("folder");
        let authority = Authority::create(folder.path(), &fleet(), NOW).expect("made");
        let at = |days: u64| {
            let now = Timestamp(NOW.0 + days * DAY_MS);
            authority.current_coordinator(folder.path(), now).expect("credentials").certificate_pem
        };
        let first = at(0);
        assert!(at(240).starts_with(&first), "kept");
        let second = at(250);
        assert!(!second.starts_with(&first), "renewed");
        let other = tempfile::tempdir().expect("folder");
        let other = Authority::create(other.path(), &fleet(), NOW).expect("made");
        assert!(other.is_due(&second, NOW), "of another authority");
    }
}
