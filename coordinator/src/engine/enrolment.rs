//! How a machine becomes a node: a join token for a certificate, once.

use super::{CreatedToken, Done, Engine, Enrol, Enrolled, RequestError, TokenWish, told};
use crate::pki::NodeRequest;
use crate::store::{NodeRecord, Revocation, ShownToken, TokenRecord};
use crate::token::{self, Applicant, LONGEST_VALIDITY_S, MOST_USES, Verdict, Wish};
use std::sync::Arc;
use wavegate_common::id::{Actor, NodeId, Timestamp};

impl Engine {
    pub(super) fn create_token(&mut self, by: &Actor, wish: TokenWish) -> Result<CreatedToken, RequestError> {
        let TokenWish { valid_for_s, node, uses, declared } = wish;
        if !(1..=LONGEST_VALIDITY_S).contains(&valid_for_s) {
            return Err(RequestError::Invalid(format!(
                "a token can be valid for 1 to {LONGEST_VALIDITY_S} seconds, not {valid_for_s}"
            )));
        }
        if !(1..=MOST_USES).contains(&uses) {
            return Err(RequestError::Invalid(format!(
                "a token can be for 1 to {MOST_USES} nodes, not for {uses}"
            )));
        }
        if node.is_some() && (uses > 1 || declared) {
            return Err(RequestError::Invalid(
                "a token for one node is for that node alone, once: --node goes with neither --uses nor --declared".to_owned(),
            ));
        }
        let now = self.clock.now();
        let expires_at = Timestamp(now.0 + valid_for_s * 1000);
        let kind = if declared { "declared " } else { "" };
        let whom = match (&node, uses) {
            (Some(node), _) => node.to_string(),
            (None, 1) => format!("any {kind}node"),
            (None, uses) => format!("any {uses} {kind}nodes"),
        };
        let wish = Wish { node, uses, declared, expires_at };
        let (record, token) = token::create(self.authority.fingerprint(), wish, by, now)
            .map_err(crate::pki::PkiError::Random)?;
        let audit = self.audit_of(&by.0, &format!("create token {} for {whom}", record.id), "done");
        self.write(|store| store.put_token(&record, now, &audit))
            .inspect_err(|error| self.note_trouble(error))?;
        tracing::info!(%by, id = record.id, "join token for {whom}");
        Ok(CreatedToken { token: token.to_string(), expires_at_ms: expires_at.0 })
    }

    /// Makes a token worth nothing. Whoever has enrolled with it stays in the fleet.
    pub(super) fn revoke_token(&mut self, by: &Actor, id: &str) -> Result<Done, RequestError> {
        let Some(token) = self.store.token(id)? else {
            let what = format!(
                "there is no join token {}; those there are: wavegate token list",
                id.escape_default()
            );
            return Err(RequestError::NotFound(what));
        };
        if let Some(Revocation { by, .. }) = &token.revoked {
            let text = format!("join token {id} was revoked already, by {by}");
            return Ok(Done { changed: false, text });
        }
        let now = self.clock.now();
        let audit = self.audit_of(&by.0, &format!("revoke token {id}"), "done");
        let enrolled = match token.times_used() {
            0 => "nobody has enrolled with it".to_owned(),
            1 => format!("one node has enrolled with it and stays in the fleet: wavegate token show {id}"),
            count => {
                format!("{count} nodes have enrolled with it and stay in the fleet: wavegate token show {id}")
            }
        };
        let revoked = TokenRecord { revoked: Some(Revocation { by: by.clone(), at: now }), ..token };
        self.write(|store| store.put_token(&revoked, now, &audit))
            .inspect_err(|error| self.note_trouble(error))?;
        tracing::info!(%by, id, "join token revoked");
        Ok(Done { changed: true, text: format!("join token {id} is revoked; {enrolled}") })
    }

    pub(super) fn enrol(&mut self, enrol: &Enrol) -> Result<Enrolled, RequestError> {
        let enrolled = self.try_enrol(enrol);
        if let Err(error) = &enrolled {
            // The name is the applicant's own text.
            let name: String = enrol.node.chars().filter(|c| !c.is_control()).take(64).collect();
            self.refused(enrol.from.clone(), format!("to enrol as {name}: {}", told(error)));
        }
        enrolled
    }

    fn try_enrol(&mut self, enrol: &Enrol) -> Result<Enrolled, RequestError> {
        let node =
            NodeId::new(enrol.node.as_str()).map_err(|error| RequestError::Invalid(error.to_string()))?;
        let request = NodeRequest::read(&enrol.csr_pem)?;
        let now = self.clock.now();
        let what = format!("enrol as {node} with token {}", enrol.token_id);
        let audit = self.audit_of(&enrol.from, &what, "done");
        let authority = self.authority.clone();
        let inventory = self.inventory.as_ref().map(|record| &record.inventory);
        let declared = inventory.is_some_and(|inventory| inventory.nodes.contains_key(&node));
        let judge = |shown: Option<ShownToken>, known: Option<NodeRecord>| {
            let public_key = request.public_key.clone();
            let secret = enrol.token_secret.as_str();
            let applicant = Applicant { secret, node: &node, public_key: &public_key, declared };
            match (token::judge(shown.clone(), known.as_ref(), &applicant, now)?, shown, known) {
                (Verdict::Repeat, Some(shown), Some(known)) => Ok((shown.record, known)),
                (Verdict::Repeat, ..) => Err(token::Refusal::Used.into()),
                (Verdict::Issue(used), _, known) => {
                    let certificate = authority.sign_node(request, &node, self.clock.machine())?;
                    let record = NodeRecord {
                        node: node.clone(),
                        enrolled_at: now,
                        certificate_pem: certificate.pem,
                        fingerprint: certificate.fingerprint,
                        public_key,
                        facts: known.and_then(|known| known.facts),
                    };
                    Ok((used, record))
                }
            }
        };
        let judged: Result<Result<NodeRecord, RequestError>, _> =
            self.write(|store| store.enrol(&enrol.token_id, &node, &audit, judge));
        let record = judged.inspect_err(|error| self.note_trouble(error))??;
        tracing::info!(%node, from = enrol.from, "enrolled");
        let (certificate_pem, fingerprint) = (record.certificate_pem.clone(), record.fingerprint.clone());
        let replaced = self.nodes.insert(node.clone(), Arc::new(record.into()));
        self.links.know(&node, now);
        if replaced.is_some_and(|before| before.fingerprint != fingerprint) {
            self.offline(&node);
        }
        self.changed();
        let (fleet, ca_pem) = (self.authority.fleet().clone(), self.authority.pem().to_owned());
        Ok(Enrolled { fleet, certificate_pem, ca_pem })
    }
}
