//! Who may call what. `services` asks here before anything is called; what gets through knows its [`Caller`].

use super::code;
use super::peer::{Peer, Shown, TurnedAway};
use crate::skew::Skew;
use std::net::SocketAddr;
use wavegate_common::id::{Actor, FleetId, NodeId};
use wavegate_proto::identity::{BadIdentity, Subject};

pub(super) const ENROLMENT: &str = "wavegate.v1.EnrolmentService";
pub(super) const AGENT: &str = "wavegate.v1.AgentService";
pub(super) const OPERATOR: &str = "wavegate.v1.OperatorService";

/// Who calls, as the gate knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody who wants to enrol.
    Applicant {
        /// Their address.
        address: SocketAddr,
    },
    /// A node's agent.
    Node {
        /// The node.
        node: NodeId,
        /// SHA-256 of its certificate, hexadecimal.
        fingerprint: String,
    },
    /// An operator.
    Operator(Actor),
    /// Anybody of the fleet, at a service that is open to all of it.
    Member,
}

/// Why somebody may not call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No certificate.
    #[error(
        "{service} asks for a certificate of this fleet, and none was shown; agents get one with `wavegate-agent enrol`, operators with `wavegate init`"
    )]
    NoCertificate {
        /// What was called.
        service: String,
    },
    /// A certificate that names nobody.
    #[error(transparent)]
    Identity(#[from] BadIdentity),
    /// A certificate of another fleet.
    #[error("the certificate is for fleet {found}, this is the coordinator of fleet {ours}")]
    OtherFleet {
        /// The certificate's.
        found: FleetId,
        /// Ours.
        ours: FleetId,
    },
    /// Not for such as they are.
    #[error("{who} may not call {service}: it is for {whom}")]
    NotFor {
        /// Who.
        who: String,
        /// What.
        service: String,
        /// For whom it is.
        whom: &'static str,
    },
    /// A local user that may not operate.
    #[error("user {name} (uid {uid}) may not operate; use sudo, or an operator's certificate")]
    LocalUser {
        /// The user's id.
        uid: u32,
        /// The user's name.
        name: String,
    },
    /// Not served here.
    #[error("{service} is not served on this socket")]
    NotHere {
        /// What.
        service: String,
    },
    /// Their command line is of a version that this coordinator does not work with.
    #[error("{}", .0.command_line())]
    Skew(Skew),
    /// There is no room for their connection now.
    #[error(transparent)]
    TurnedAway(TurnedAway),
    /// The connection tells nothing of its peer.
    #[error("nothing is known of who calls")]
    Nobody,
}

/// Whether somebody may call a service. One that is not named here is open to the fleet's members alone.
///
/// # Errors
/// Why not.
pub fn admit(peer: &Peer, fleet: &FleetId, service: &str) -> Result<Caller, Refusal> {
    match peer {
        Peer::Local { uid, name, allowed: false } => {
            Err(Refusal::LocalUser { uid: *uid, name: name.clone() })
        }
        Peer::Local { name, allowed: true, .. } => match service {
            OPERATOR => Ok(Caller::Operator(Actor(name.clone()))),
            AGENT | ENROLMENT => Err(Refusal::NotHere { service: service.to_owned() }),
            _ => Ok(Caller::Member),
        },
        Peer::Remote { turned_away: Some(why), .. } => Err(Refusal::TurnedAway(why.clone())),
        Peer::Remote { address, .. } if service == ENROLMENT => Ok(Caller::Applicant { address: *address }),
        Peer::Remote { shown: None, .. } => Err(Refusal::NoCertificate { service: service.to_owned() }),
        Peer::Remote { shown: Some(Shown { identity, fingerprint }), .. } => {
            let identity = identity.clone()?;
            if identity.fleet != *fleet {
                return Err(Refusal::OtherFleet { found: identity.fleet, ours: fleet.clone() });
            }
            let who = identity.to_string();
            let not_for = |whom| Err(Refusal::NotFor { who, service: service.to_owned(), whom });
            match (service, identity.subject) {
                (AGENT, Subject::Node(node)) => Ok(Caller::Node { node, fingerprint: fingerprint.clone() }),
                (AGENT, Subject::Operator(_) | Subject::Coordinator) => {
                    not_for("agents, with a node's certificate")
                }
                (OPERATOR, Subject::Operator(name)) => Ok(Caller::Operator(Actor(name))),
                (OPERATOR, Subject::Node(_) | Subject::Coordinator) => {
                    not_for("operators, with an operator's certificate")
                }
                (_, Subject::Node(_) | Subject::Operator(_) | Subject::Coordinator) => Ok(Caller::Member),
            }
        }
    }
}

/// Who calls.
///
/// # Errors
/// If the gate did not say; that would be a defect, and nothing is served.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, tonic::Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| code::of_refusal(&Refusal::Nobody))
}

/// The operator who calls.
///
/// # Errors
/// If it is none.
pub fn operator<T>(request: &tonic::Request<T>) -> Result<Actor, tonic::Status> {
    match caller(request)? {
        Caller::Operator(actor) => Ok(actor),
        Caller::Applicant { .. } | Caller::Node { .. } | Caller::Member => {
            Err(code::of_refusal(&Refusal::Nobody))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(allowed: bool) -> Peer {
        Peer::Local { uid: 1000, name: "bob".to_owned(), allowed }
    }

    fn stranger() -> Peer {
        Peer::Remote { address: SocketAddr::from(([127, 0, 0, 1], 1)), shown: None, turned_away: None }
    }

    fn fleet() -> FleetId {
        FleetId::new("prod").expect("name")
    }

    #[test]
    fn without_a_certificate_there_is_enrolment_and_nothing_else() {
        assert!(matches!(admit(&stranger(), &fleet(), ENROLMENT), Ok(Caller::Applicant { .. })));
        for service in
            [AGENT, OPERATOR, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "", "new"]
        {
            let refused = admit(&stranger(), &fleet(), service);
            assert!(matches!(refused, Err(Refusal::NoCertificate { .. })), "{service}: {refused:?}");
        }
    }

    #[test]
    fn local_users_are_root_or_refused() {
        assert_eq!(admit(&local(true), &fleet(), OPERATOR), Ok(Caller::Operator(Actor("bob".to_owned()))));
        for service in [OPERATOR, AGENT, ENROLMENT, "grpc.health.v1.Health"] {
            let refused = admit(&local(false), &fleet(), service);
            assert!(matches!(refused, Err(Refusal::LocalUser { .. })), "{service}");
        }
        assert!(matches!(admit(&local(true), &fleet(), AGENT), Err(Refusal::NotHere { .. })));
    }
}
