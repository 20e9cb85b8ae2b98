//! Who somebody is, by certificate: a URI `spiffe://FLEET/node/NAME`, `.../operator/NAME` or `.../coordinator`.

use std::fmt;
use wavegate_common::id::{FleetId, NodeId};
use x509_parser::extensions::GeneralName;

/// The DNS name in every coordinator's certificate: agents ask for it, whatever address they dial.
pub const COORDINATOR_NAME: &str = "coordinator.wavegate.internal";

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A node's agent; it speaks for this node alone.
    Node(NodeId),
    /// A person or program with the operator's rights.
    Operator(String),
    /// The coordinator.
    Coordinator,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The fleet whose certificate authority says so.
    pub fleet: FleetId,
    /// Who in it.
    pub subject: Subject,
}

/// Why a certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// It can't be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no wavegate URI, or more than one.
    #[error("the certificate has {found} wavegate identities (spiffe:// URIs), expected 1")]
    Count {
        /// How many.
        found: usize,
    },
    /// The URI is not one of ours.
    #[error("'{uri}' is not a wavegate identity: spiffe://FLEET/node/NAME, /operator/NAME or /coordinator")]
    Form {
        /// The URI.
        uri: String,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Node(node) => write!(f, "spiffe://{}/node/{node}", self.fleet),
            Subject::Operator(name) => write!(f, "spiffe://{}/operator/{name}", self.fleet),
            Subject::Coordinator => write!(f, "spiffe://{}/coordinator", self.fleet),
        }
    }
}

impl std::str::FromStr for Identity {
    type Err = BadIdentity;
    fn from_str(uri: &str) -> Result<Self, BadIdentity> {
        let bad = || BadIdentity::Form { uri: uri.to_owned() };
        let rest = uri.strip_prefix("spiffe://").ok_or_else(bad)?;
        let (fleet, path) = rest.split_once('/').ok_or_else(bad)?;
        let fleet = FleetId::new(fleet).map_err(|_| bad())?;
        let subject = match path.split_once('/') {
            None if path == "coordinator" => Subject::Coordinator,
            Some(("node", name)) => Subject::Node(NodeId::new(name).map_err(|_| bad())?),
            Some(("operator", name)) => {
                // An operator's name has the form of a node's: both stand in URIs and logs.
                Subject::Operator(NodeId::new(name).map_err(|_| bad())?.to_string())
            }
            _ => return Err(bad()),
        };
        Ok(Self { fleet, subject })
    }
}

impl Identity {
    /// The identity in a DER certificate.
    ///
    /// # Errors
    /// [`BadIdentity`] if there is none, or not exactly one.
    pub fn of_certificate(der: &[u8]) -> Result<Self, BadIdentity> {
        let (_, certificate) =
            x509_parser::parse_x509_certificate(der).map_err(|_| BadIdentity::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| BadIdentity::Unreadable)?;
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => uri.parse(),
            others => Err(BadIdentity::Count { found: others.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_uris() {
        for uri in
            ["spiffe://prod/node/compute-1", "spiffe://prod/operator/alice", "spiffe://prod/coordinator"]
        {
            assert_eq!(uri.parse::<Identity>().expect(uri).to_string(), uri);
        }
        for bad in [
            "",
            "spiffe://prod",
            "spiffe://prod/node",
            "spiffe://prod/node/a/b",
            "http://prod/coordinator",
            "spiffe://prod/coordinator/x",
            "spiffe:///node/a",
            "spiffe://prod/node/",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
