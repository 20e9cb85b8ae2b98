//! Join tokens: making them, and judging who may enrol with one. Their text is `wavegate_proto::token`'s.
//!
//! A token works once, or once for each of so many nodes. The same node with the same key may ask again with it (an answer may have
//! been lost on the way) and gets the certificate it was given. A node that has enrolled may enrol anew, with a new key, only by a
//! token that was made for exactly that node; its former certificate is worth nothing from then on.

use crate::store::{NodeRecord, ShownToken, TokenRecord, TokenUse};
use sha2::{Digest, Sha256};
use wavegate_common::id::{Actor, NodeId, Timestamp};
use wavegate_proto::token::JoinToken;

/// The longest that a token may be valid, in seconds: 30 days.
pub const LONGEST_VALIDITY_S: u64 = 30 * 24 * 3600;
/// The most nodes that one token may be for.
pub const MOST_USES: u32 = 100_000;

/// Why a node may not enrol. No more is said to somebody without a valid token than that it is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such token, or its secret is another.
    #[error("the join token is not valid here; make a new one on the coordinator: wavegate token create")]
    Unknown,
    /// Somebody has revoked it.
    #[error("the join token has been revoked; make a new one on the coordinator: wavegate token create")]
    Revoked,
    /// As many nodes have used it as may.
    #[error(
        "the join token has been used by {uses} nodes, as many as it was made for; make another one on the coordinator: \
         wavegate token create --uses N"
    )]
    UsedUp {
        /// How many may.
        uses: u32,
    },
    /// The node has used it, and is not in the fleet any more.
    #[error(
        "node {asked} has enrolled with this join token before and was removed from the fleet since; it works once for each \
         node, so make one for it: wavegate token create --node {asked}"
    )]
    UsedBefore {
        /// The node that asked.
        asked: NodeId,
    },
    /// It is for nodes of the inventory, and this is none.
    #[error(
        "the join token is for nodes of the inventory alone, and {asked} is not in it; declare it (wavegate inventory set \
         FILE), or make a token for it: wavegate token create --node {asked}"
    )]
    NotDeclared {
        /// The node that asked.
        asked: NodeId,
    },
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
    /// Whether the inventory has that name.
    pub declared: bool,
}

/// Whom a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The only node that may use it.
    pub node: Option<NodeId>,
    /// How many nodes may, each once.
    pub uses: u32,
    /// Whether only nodes of the inventory may.
    pub declared: bool,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
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
    wish: Wish,
    by: &Actor,
    now: Timestamp,
) -> Result<(TokenRecord, JoinToken), getrandom::Error> {
    let (mut id, mut secret) = ([0; 8], [0; 32]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut secret)?;
    let token = JoinToken { id: hex(&id), secret: hex(&secret), ca_sha256 };
    let record = TokenRecord {
        id: token.id.clone(),
        secret_sha256: sha256_hex(token.secret.as_bytes()),
        node: wish.node,
        expires_at: wish.expires_at,
        created_by: by.clone(),
        created_at: Some(now),
        uses: wish.uses,
        declared: wish.declared,
        times_used: 0,
        used: None,
        revoked: None,
    };
    Ok((record, token))
}

/// Whether somebody may enrol.
///
/// # Errors
/// Why not.
pub fn judge(
    shown: Option<ShownToken>,
    known: Option<&NodeRecord>,
    applicant: &Applicant<'_>,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    let given = sha256_hex(applicant.secret.as_bytes());
    let shown = shown.filter(|shown| same(&shown.record.secret_sha256, &given)).ok_or(Refusal::Unknown)?;
    let ShownToken { record: token, used_at } = shown;
    let asked = applicant.node.clone();
    if token.revoked.is_some() {
        return Err(Refusal::Revoked);
    }
    if now >= token.expires_at {
        return Err(Refusal::Expired);
    }
    if used_at.is_some() && known.is_some_and(|known| known.public_key == applicant.public_key) {
        return Ok(Verdict::Repeat);
    }
    let times_used = token.times_used();
    if token.uses <= 1 && times_used > 0 {
        return Err(Refusal::Used);
    }
    match &token.node {
        Some(only) if *only != asked => return Err(Refusal::OtherNode { asked }),
        None if known.is_some() => return Err(Refusal::Enrolled { asked }),
        _ if used_at.is_some() => return Err(Refusal::UsedBefore { asked }),
        _ if times_used >= token.uses => return Err(Refusal::UsedUp { uses: token.uses }),
        _ if token.declared && !applicant.declared => return Err(Refusal::NotDeclared { asked }),
        _ => {}
    }
    let used = Some(TokenUse { node: asked, at: now });
    Ok(Verdict::Issue(TokenRecord { times_used: times_used + 1, used, ..token }))
}

/// Compares in a time that does not depend on where the first difference is.
fn same(ours: &str, theirs: &str) -> bool {
    let differing = ours.bytes().zip(theirs.bytes()).fold(0, |found, (a, b)| found | (a ^ b));
    ours.len() == theirs.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revocation;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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

    fn wish(only: Option<&str>) -> Wish {
        Wish { node: only.map(node), uses: 1, declared: false, expires_at: Timestamp(1000) }
    }

    fn made(wish: Wish) -> (TokenRecord, String) {
        let by = Actor("root".to_owned());
        let (record, token) = create([0; 32], wish, &by, Timestamp(1)).expect("random");
        (record, token.secret)
    }

    fn token(only: Option<&str>) -> (TokenRecord, String) {
        made(wish(only))
    }

    /// As the store shows it, if this was its only use.
    fn shown(token: &TokenRecord, name: &NodeId) -> ShownToken {
        let used_at = token.used.as_ref().filter(|used| used.node == *name).map(|used| used.at);
        ShownToken { record: token.clone(), used_at }
    }

    fn ask(
        token: &TokenRecord,
        secret: &str,
        name: &str,
        known: Option<&NodeRecord>,
    ) -> Result<Verdict, Refusal> {
        let name = node(name);
        let applicant = Applicant { secret, node: &name, public_key: "key-a", declared: false };
        judge(Some(shown(token, &name)), known, &applicant, Timestamp(10))
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
    fn wrong_secrets_expiry_and_revocation() {
        let (fresh, secret) = token(None);
        assert_eq!(ask(&fresh, &"0".repeat(64), "a", None), Err(Refusal::Unknown));
        let name = node("a");
        let applicant = Applicant { secret: &secret, node: &name, public_key: "key-a", declared: false };
        assert_eq!(judge(None, None, &applicant, Timestamp(10)), Err(Refusal::Unknown));
        let late = judge(Some(shown(&fresh, &name)), None, &applicant, Timestamp(1000));
        assert_eq!(late, Err(Refusal::Expired));
        let spent = used(ask(&fresh, &secret, "a", None));
        let revoked = Some(Revocation { by: Actor("alice".to_owned()), at: Timestamp(5) });
        for token in [fresh, spent] {
            let revoked = TokenRecord { revoked: revoked.clone(), ..token };
            let known = record("a", "key-a");
            assert_eq!(ask(&revoked, &secret, "a", Some(&known)), Err(Refusal::Revoked));
            assert_eq!(ask(&revoked, &"0".repeat(64), "a", None), Err(Refusal::Unknown), "no more is said");
        }
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

    #[test]
    fn a_token_for_declared_nodes_is_for_no_other() {
        let (fresh, secret) = made(Wish { declared: true, uses: 5, ..wish(None) });
        assert_eq!(ask(&fresh, &secret, "a", None), Err(Refusal::NotDeclared { asked: node("a") }));
        let name = node("a");
        let applicant = Applicant { secret: &secret, node: &name, public_key: "key-a", declared: true };
        used(judge(Some(shown(&fresh, &name)), None, &applicant, Timestamp(10)));
    }

    #[test]
    fn refusals_say_what_to_do() {
        let asked = node("compute-7");
        insta::assert_snapshot!(Refusal::Revoked, @"the join token has been revoked; make a new one on the coordinator: wavegate token create");
        insta::assert_snapshot!(Refusal::UsedUp { uses: 40 }, @"the join token has been used by 40 nodes, as many as it was made for; make another one on the coordinator: wavegate token create --uses N");
        insta::assert_snapshot!(Refusal::UsedBefore { asked: asked.clone() }, @"node compute-7 has enrolled with this join token before and was removed from the fleet since; it works once for each node, so make one for it: wavegate token create --node compute-7");
        insta::assert_snapshot!(Refusal::NotDeclared { asked }, @"the join token is for nodes of the inventory alone, and compute-7 is not in it; declare it (wavegate inventory set FILE), or make a token for it: wavegate token create --node compute-7");
    }

    #[test]
    fn a_token_of_the_time_when_each_worked_once_is_read_and_judged_as_then() {
        let spent = r#"{"id":"0011223344556677","secret_sha256":"2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b","node":null,"expires_at":1000,"created_by":"root","used":{"node":"a","at":7}}"#;
        let fresh = spent.replace(r#"{"node":"a","at":7}"#, "null");
        let read = |text: &str| serde_json::from_str::<TokenRecord>(text).expect("readable");
        // The secret of its time, as its digest above says.
        let (spent, fresh, secret) = (read(spent), read(&fresh), "secret");
        assert_eq!((spent.uses, spent.times_used(), fresh.times_used()), (1, 1, 0));
        assert_eq!(ask(&spent, secret, "b", None), Err(Refusal::Used));
        assert_eq!(ask(&spent, secret, "a", Some(&record("a", "key-a"))), Ok(Verdict::Repeat));
        assert_eq!(used(ask(&fresh, secret, "a", None)).times_used(), 1);
    }

    /// What nodes do with a token for several: who asks, with which key, or is taken out of the fleet.
    #[derive(Debug, Clone)]
    enum Step {
        Ask { node: u8, key: u8 },
        Remove { node: u8 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let ask = (0u8..6, 0u8..2).prop_map(|(node, key)| Step::Ask { node, key });
        let remove = (0u8..6).prop_map(|node| Step::Remove { node });
        proptest::collection::vec(prop_oneof![4 => ask, 1 => remove], 1..60)
    }

    proptest! {
        #[test]
        fn a_token_for_several_nodes_is_used_once_by_each_and_by_no_more(uses in 1u32..6, steps in steps()) {
            let (mut token, secret) = made(Wish { uses, ..wish(None) });
            let mut used: BTreeMap<NodeId, Timestamp> = BTreeMap::new();
            let mut fleet: BTreeMap<NodeId, NodeRecord> = BTreeMap::new();
            for step in steps {
                let (name, key) = match step {
                    Step::Remove { node: number } => {
                        fleet.remove(&node(&format!("n{number}")));
                        continue;
                    }
                    Step::Ask { node: number, key } => (format!("n{number}"), format!("key-{key}")),
                };
                let name = node(&name);
                let applicant = Applicant { secret: &secret, node: &name, public_key: &key, declared: true };
                let shown = ShownToken { record: token.clone(), used_at: used.get(&name).copied() };
                let known = fleet.get(&name);
                let verdict = judge(Some(shown), known, &applicant, Timestamp(10));
                let may = known.is_none() && !used.contains_key(&name) && used.len() < uses as usize;
                let again = known.is_some_and(|known| known.public_key == key);
                match verdict {
                    Ok(Verdict::Issue(after)) => {
                        prop_assert!(may, "{name} was not to get one");
                        prop_assert_eq!(after.times_used(), token.times_used() + 1);
                        token = after;
                        used.insert(name.clone(), Timestamp(10));
                        fleet.insert(name.clone(), record(name.as_str(), &key));
                    }
                    Ok(Verdict::Repeat) => prop_assert!(again, "{name} has another key"),
                    Err(refused) => prop_assert!(!may && !again, "{name} was refused: {refused}"),
                }
                prop_assert!(used.len() <= uses as usize);
                prop_assert_eq!(token.times_used() as usize, used.len());
            }
        }
    }
}
