//! Certificates of a fleet for tests: an authority, and leaves with wavegate's identities.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, SanType,
};
use wavegate_proto::identity::COORDINATOR_NAME;
use wavegate_proto::tls::Credentials;

pub const FLEET: &str = "test";

pub struct Authority {
    pub ca_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { ca_pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// Credentials for `spiffe://test/WHO`, with the coordinator's DNS name if asked for.
    pub fn credentials(&self, who: &str, coordinator_name: bool) -> Credentials {
        let names: Vec<String> = coordinator_name.then(|| COORDINATOR_NAME.to_owned()).into_iter().collect();
        let key = KeyPair::generate().expect("a key");
        let params = identified(CertificateParams::new(names).expect("params"), who);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Credentials {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            ca_pem: self.ca_pem.clone(),
        }
    }

    /// The coordinator's credentials.
    pub fn coordinator(&self) -> Credentials {
        self.credentials("coordinator", true)
    }

    /// Signs a request, for `spiffe://test/WHO` whatever the request asks for.
    pub fn sign(&self, csr_pem: &str, who: &str) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).expect("a request");
        request.params = identified(request.params, who);
        request.signed_by(&self.issuer).expect("a certificate").pem()
    }
}

fn identified(mut params: CertificateParams, who: &str) -> CertificateParams {
    let uri = format!("spiffe://{FLEET}/{who}");
    params.subject_alt_names.push(SanType::URI(uri.try_into().expect("a URI")));
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}
