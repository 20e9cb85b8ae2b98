//! Who is at the other end of a connection, before anything was asked: an address and perhaps a certificate, or a local user.

use crate::pki;
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use wavegate_common::id::NodeId;
use wavegate_proto::identity::{BadIdentity, Identity, Subject};

/// Who is at the other end.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Somebody over TCP.
    Remote {
        /// Their address.
        address: SocketAddr,
        /// What their certificate says, if they showed one; it was checked against the fleet's authority.
        shown: Option<Shown>,
        /// Why nothing is done for them on this connection, if there is no room for it.
        turned_away: Option<TurnedAway>,
    },
    /// A process on this machine.
    Local {
        /// Its user.
        uid: u32,
        /// The user's name, or the number if it has none.
        name: String,
        /// Whether the user may operate: root, or the coordinator's own.
        allowed: bool,
    },
}

/// What a certificate says. The certificate itself is TLS's to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Whose it is.
    pub identity: Result<Identity, BadIdentity>,
    /// SHA-256 of its DER, hexadecimal.
    pub fingerprint: String,
}

impl Shown {
    /// Reads a certificate.
    #[must_use]
    pub fn read(der: &CertificateDer<'_>) -> Self {
        Self { identity: Identity::of_certificate(der), fingerprint: pki::fingerprint(der) }
    }

    /// The node whose certificate it is, if it is a node's.
    #[must_use]
    pub const fn node(&self) -> Option<&NodeId> {
        match &self.identity {
            Ok(Identity { subject: Subject::Node(node), .. }) => Some(node),
            Ok(Identity { subject: Subject::Operator(_) | Subject::Coordinator, .. }) | Err(_) => None,
        }
    }
}

/// Why there is no room for an agent's connection now. The text is for the agent's log and status, so for the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// So many agents are connected as may be.
    #[error(
        "the coordinator is connected with as many agents as it takes (max_connections = {most}); this one tries again by itself; \
         if the fleet has grown, raise max_connections in the coordinator's configuration"
    )]
    Full {
        /// How many may be.
        most: usize,
    },
    /// The node connects again and again.
    #[error(
        "node {node} has connected more than {most} times within a minute; its agent tries again by itself; if it goes on, two \
         machines may use this node's certificate: enrol the one that is not {node} under a name of its own"
    )]
    TooOften {
        /// The node.
        node: NodeId,
        /// How often it may.
        most: u32,
    },
}
