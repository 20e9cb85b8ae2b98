//! Join tokens: making them, and judging who may enrol with one. Their text is `wavegate_proto::token`'s.
//!
//! A token works once. The same node with the same key may ask again with it (an answer may have been lost on the way)
//! and gets the certificate it was given. A node that has enrolled may enrol anew, with a new key, only by a token that
//! was made for exactly that node; its former certificate is worth nothing from then on.

use crate::store::{NodeRecord, TokenRecord, TokenUse};
use sha2::{Digest, Sha256};
use wavegate_common::id::{Actor, NodeId, Timestamp};
use wavegate_proto::token::JoinToken;

/// The longest that a token may be valid, in seconds: 30 days.
pub const LONGEST_VALIDITY_S: u64 = 30 * 24 * 3600;

/// Why a node may not enrol. No more is said to somebody without a valid token than that it is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such token, or its secret is another.
    #[error("the join token is not valid here; make a new one on the coordinator: wavegate token create")]
    Unknown,
    /// It was used.
    #[error(
        "the join token has been used, it works once; make a new one on the coordinator: wavegate token create"
    )]
    Used,
    /// It is too late.
    #[error("the join token has expired; make a new one on the coordinator: wavegate token create")]
    Expired,
    /// It is for another node.
    #[error(
        "the join token is for another node than {asked}; make one for it: wavegate token create --node {asked}"
    )]
    OtherNode {
        /// The node that asked.
        asked: NodeId,
    },
    /// The name is taken.
    #[error(
        "a node {asked} has enrolled already; if this machine takes its place, make a token for exactly this node: \
         wavegate token create --node {asked}"
    )]
    Enrolled {
        /// The node that asked.
        asked: NodeId,
    },
}

/// Somebody who wants to enrol.
#[derive(Debug)]
pub struct Applicant<'a> {
    /// The secret they have.
    pub secret: &'a str,
    /// The name they want.
    pub node: &'a NodeId,
    /// SHA-256 of their public key, hexadecimal.
    pub public_key: &'a str,
}

/// What is to be done for somebody who may enrol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Give them a new certificate; this is the token after its use.
    Issue(TokenRecord),
    /// They have their certificate; give it to them again.
    Repeat,
}

/// Lower-case hexadecimal digits of some bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, hexadecimal.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Makes a token: what is kept, and what its bearer is given.
///
/// # Errors
/// If the system has no random numbers.
pub fn create(
    ca_sha256: [u8; 32],
    node: Option<NodeId>,
    expires_at: Timestamp,
    by: &Actor,
) -> Result<(TokenRecord, JoinToken), getrandom::Error> {
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut secret)?;
    let token = JoinToken { id: hex(&id), secret: hex(&secret), ca_sha256 };
    let record = TokenRecord {
        id: token.id.clone(),
        secret_sha256: sha256_hex(token.secret.as_bytes()),
        node,
        expires_at,
        created_by: by.clone(),
        used: None,
    };
    Ok((record, token))
}

/// Whether somebody may enrol.
///
/// # Errors
/// Why not.
pub fn judge(
    token: Option<TokenRecord>,
    known: Option<&NodeRecord>,
    applicant: &Applicant<'_>,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    let given = sha256_hex(applicant.secret.as_bytes());
    let token = token.filter(|token| same(&token.secret_sha256, &given)).ok_or(Refusal::Unknown)?;
    let asked = applicant.node.clone();
    if now >= token.expires_at {
        return Err(Refusal::Expired);
    }
    if let Some(used) = &token.used {
        let again = known.is_some_and(|known| known.public_key == applicant.public_key);
        return if used.node == asked && again { Ok(Verdict::Repeat) } else { Err(Refusal::Used) };
    }
    match &token.node {
        Some(only) if *only != asked => return Err(Refusal::OtherNode { asked }),
        None if known.is_some() => return Err(Refusal::Enrolled { asked }),
        _ => {}
    }
    Ok(Verdict::Issue(TokenRecord { used: Some(TokenUse { node: asked, at: now }), ..token }))
}

/// Compares in a time that does not depend on where the first difference is.
fn same(ours: &str, theirs: &str) -> bool {
    let differing = ours.bytes().zip(theirs.bytes()).fold(0, |found, (a, b)| found | (a ^ b));
    ours.len() == theirs.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).expect("name")
    }

    fn record(name: &str, public_key: &str) -> NodeRecord {
        NodeRecord {
            node: node(name),
            enrolled_at: Timestamp(1),
            certificate_pem: String::new(),
            fingerprint: String::new(),
            public_key: public_key.to_owned(),
            facts: None,
        }
    }

    fn token(only: Option<&str>) -> (TokenRecord, String) {
        let by = Actor("root".to_owned());
        let (record, token) = create([0; 32], only.map(node), Timestamp(1000), &by).expect("random");
        (record, token.secret)
    }

    fn ask(
        token: &TokenRecord,
        secret: &str,
        name: &str,
        known: Option<&NodeRecord>,
    ) -> Result<Verdict, Refusal> {
        let name = node(name);
        let applicant = Applicant { secret, node: &name, public_key: "key-a" };
        judge(Some(token.clone()), known, &applicant, Timestamp(10))
    }

    fn used(verdict: Result<Verdict, Refusal>) -> TokenRecord {
        match verdict.expect("allowed") {
            Verdict::Issue(token) => token,
            Verdict::Repeat => panic!("a new certificate was expected"),
        }
    }

    #[test]
    fn a_token_works_once_and_its_answer_may_be_asked_again() {
        let (fresh, secret) = token(None);
        let spent = used(ask(&fresh, &secret, "a", None));
        assert_eq!(ask(&spent, &secret, "a", Some(&record("a", "key-a"))), Ok(Verdict::Repeat));
        assert_eq!(ask(&spent, &secret, "a", Some(&record("a", "key-b"))), Err(Refusal::Used));
        assert_eq!(ask(&spent, &secret, "b", None), Err(Refusal::Used));
    }

    #[test]
    fn wrong_secrets_and_expiry() {
        let (fresh, secret) = token(None);
        assert_eq!(ask(&fresh, &"0".repeat(64), "a", None), Err(Refusal::Unknown));
        let name = node("a");
        let applicant = Applicant { secret: &secret, node: &name, public_key: "key-a" };
        assert_eq!(judge(None, None, &applicant, Timestamp(10)), Err(Refusal::Unknown));
        assert_eq!(judge(Some(fresh), None, &applicant, Timestamp(1000)), Err(Refusal::Expired));
    }

    #[test]
    fn a_name_is_taken_over_only_by_a_token_for_it() {
        let known = record("a", "key-z");
        let (any, secret) = token(None);
        assert_eq!(ask(&any, &secret, "a", Some(&known)), Err(Refusal::Enrolled { asked: node("a") }));
        let (bound, secret) = token(Some("a"));
        assert_eq!(ask(&bound, &secret, "b", None), Err(Refusal::OtherNode { asked: node("b") }));
        used(ask(&bound, &secret, "a", Some(&known)));
    }
}
