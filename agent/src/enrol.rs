//! Enrolment: a join token for a certificate. The key is made here and never leaves the node.

use crate::config::Address;
use crate::credentials::{self, CredentialsError};
use crate::link::dial::{self, DialError};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use std::path::Path;
use std::time::Duration;
use wavegate_common::id::{FleetId, NodeId};
use wavegate_proto::identity::Subject;
use wavegate_proto::tls::{self, Credentials, TlsError};
use wavegate_proto::token::JoinToken;
use wavegate_proto::v1::EnrolRequest;
use wavegate_proto::v1::enrolment_service_client::EnrolmentServiceClient;

/// How long the coordinator may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Why a node did not get its certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// It has one.
    #[error(
        "this node is enrolled already, as {node} of fleet {fleet}; to replace its certificate, add --force"
    )]
    Enrolled {
        /// The node.
        node: NodeId,
        /// The fleet.
        fleet: FleetId,
    },
    /// The coordinator can't be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It is not the token's.
    #[error(
        "what answers at {address} is not the join token's coordinator, but one of another authority; the token was not shown to it \
         and works still: set the address of the token's coordinator, or use a token of that one"
    )]
    OtherCoordinator {
        /// What was dialled.
        address: Address,
    },
    /// TLS can't be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] TlsError),
    /// No key or signing request could be made.
    #[error("cannot make a key and a signing request")]
    Key(#[from] rcgen::Error),
    /// It does not answer.
    #[error(
        "the coordinator at {address} did not answer within {} s; try again with the same token",
        ANSWER_WITHIN.as_secs()
    )]
    Silent {
        /// The coordinator.
        address: Address,
    },
    /// Another process does the same.
    #[error(
        "another process is enrolling this node (its agent, if there is a join token in its file); wait until it has ended, \
         then try again"
    )]
    Busy,
    /// The coordinator refused, or the connection broke.
    #[error("the coordinator at {address} refused to enrol {node}: {reason}{next}")]
    Refused {
        /// The coordinator.
        address: Address,
        /// The node.
        node: NodeId,
        /// Its words.
        reason: String,
        /// What to do, unless its words say so already.
        next: &'static str,
        /// What that says of the token.
        token: TokenIs,
    },
    /// What it sent is not a certificate for this node.
    #[error(
        "the coordinator at {address} sent a certificate that this node cannot use: {reason}; nothing was changed, \
             report this with the coordinator's log"
    )]
    BadAnswer {
        /// The coordinator.
        address: Address,
        /// What is wrong with it.
        reason: String,
    },
    /// The credentials can't be kept.
    #[error("cannot keep the credentials: make room or repair, then enrol again with the same token")]
    Keep(#[source] CredentialsError),
}

/// What a coordinator's answer says of a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenIs {
    /// It will not do, however often it is asked with.
    Dead,
    /// It is good, but this node is not declared yet.
    NotYetFor,
    /// Nothing: the connection may have broken.
    NotTold,
}

impl TokenIs {
    fn told_by(status: &tonic::Status) -> Self {
        use tonic::Code;
        match status.code() {
            Code::NotFound
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::InvalidArgument => Self::Dead,
            // The coordinator's word for "not now".
            Code::ResourceExhausted => Self::NotYetFor,
            _ => Self::NotTold,
        }
    }
}

impl EnrolError {
    /// Whether the token is of no use for this node, so that it need not be tried again.
    #[must_use]
    pub fn token_is_refused(&self) -> bool {
        match self {
            Self::Refused { token, .. } => *token == TokenIs::Dead,
            Self::Enrolled { .. }
            | Self::Dial(_)
            | Self::OtherCoordinator { .. }
            | Self::Tls(_)
            | Self::Key(_)
            | Self::Silent { .. }
            | Self::Busy
            | Self::BadAnswer { .. }
            | Self::Keep(_) => false,
        }
    }

    /// Whether the same token may serve, once a person has done something elsewhere.
    #[must_use]
    pub const fn is_for_a_person(&self) -> bool {
        matches!(self, Self::OtherCoordinator { .. } | Self::Refused { token: TokenIs::NotYetFor, .. })
    }
}

/// Enrols the node and keeps its credentials. Nothing is changed unless all is well.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol(
    state_directory: &Path,
    token: &JoinToken,
    address: &Address,
    node: &NodeId,
    force: bool,
) -> Result<FleetId, EnrolError> {
    let _alone = credentials::alone(state_directory).map_err(EnrolError::Keep)?.ok_or(EnrolError::Busy)?;
    if let (false, Ok(enrolled)) = (force, credentials::load(state_directory)) {
        return Err(EnrolError::Enrolled { node: enrolled.node, fleet: enrolled.fleet });
    }
    let made = KeyPair::generate()?;
    let key =
        credentials::enrolling_key(state_directory, || made.serialize_pem()).map_err(EnrolError::Keep)?;
    let key = KeyPair::from_pem(&key)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, node.as_str());
    let csr_pem = params.serialize_request(&key)?.pem()?;
    let connection =
        dial::connect(address, tls::enrolling_client(token.ca_sha256)?).await.map_err(not_ours)?;
    let channel = dial::channel(address, connection).await?;
    let request = EnrolRequest {
        token_id: token.id.clone(),
        token_secret: token.secret.clone(),
        node: node.to_string(),
        csr_pem,
    };
    let mut client = EnrolmentServiceClient::new(channel);
    let answer = match tokio::time::timeout(ANSWER_WITHIN, client.enrol(request)).await {
        Ok(Ok(answer)) => answer.into_inner(),
        Err(_) => return Err(EnrolError::Silent { address: address.clone() }),
        Ok(Err(status)) => {
            // The coordinator said no: nothing was signed for this key. Any other end may hide a yes that got lost.
            if TokenIs::told_by(&status) == TokenIs::Dead {
                credentials::forget_enrolling_key(state_directory).map_err(EnrolError::Keep)?;
            }
            return Err(refused(address, node, &status));
        }
    };
    let key_pem = key.serialize_pem();
    let credentials = Credentials { certificate_pem: answer.certificate_pem, key_pem, ca_pem: answer.ca_pem };
    let fleet = usable(&credentials, token, node, &answer.fleet)
        .map_err(|reason| EnrolError::BadAnswer { address: address.clone(), reason })?;
    credentials::keep(state_directory, &credentials).map_err(EnrolError::Keep)?;
    credentials::forget_enrolling_key(state_directory).map_err(EnrolError::Keep)?;
    Ok(fleet)
}

fn not_ours(error: DialError) -> EnrolError {
    match error {
        DialError::Trust { address, source } if tls::is_another_authority(&source) => {
            EnrolError::OtherCoordinator { address }
        }
        other => other.into(),
    }
}

/// The fleet of an answer that is what was asked for: our name, our key, the token's authority.
fn usable(
    credentials: &Credentials,
    token: &JoinToken,
    node: &NodeId,
    fleet: &str,
) -> Result<FleetId, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let ca = tls::fingerprint(&credentials.ca_pem).map_err(|error| text(&error))?;
    if ca != token.ca_sha256 {
        return Err("its authority is not the one that the token names".to_owned());
    }
    let identity = credentials::identity_of(&credentials.certificate_pem).map_err(|error| text(&error))?;
    let identity = identity.map_err(|error| text(&error))?;
    if identity.subject != Subject::Node(node.clone()) || identity.fleet.as_str() != fleet {
        return Err(format!("it is for {identity}, not for node {node} of fleet {fleet}"));
    }
    // rustls refuses a certificate that is not for the key.
    tls::client(credentials).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error} ({source})")
    })?;
    Ok(identity.fleet)
}

fn refused(address: &Address, node: &NodeId, status: &tonic::Status) -> EnrolError {
    use tonic::Code;
    let next = match status.code() {
        Code::NotFound
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::AlreadyExists => ". Make a new token with `wavegate token create` and enrol with it",
        Code::ResourceExhausted => ". The same token serves when that is done",
        Code::InvalidArgument => ". Give another name with --node, or a token for this name",
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            ". The connection may have broken: try again with the same token, it still works for this node"
        }
        _ => ". See the coordinator's log (`journalctl -u wavegate-coordinator`)",
    };
    let reason = status.message().to_owned();
    let token = TokenIs::told_by(status);
    let says_what_to_do = token == TokenIs::Dead && reason.contains("wavegate token create");
    let next = if says_what_to_do { "" } else { next };
    EnrolError::Refused { address: address.clone(), node: node.clone(), reason, next, token }
}
