//! How a machine becomes a node: a join token, once, for a certificate.

use super::{CreatedToken, Engine, Enrol, Enrolled, RequestError, told};
use crate::pki::NodeRequest;
use crate::store::{NodeRecord, TokenRecord};
use crate::token::{self, Applicant, LONGEST_VALIDITY_S, Verdict};
use wavegate_common::id::{Actor, NodeId, Timestamp};

impl Engine {
    pub(super) fn create_token(
        &mut self,
        by: &Actor,
        valid_for_s: u64,
        node: Option<NodeId>,
    ) -> Result<CreatedToken, RequestError> {
        if !(1..=LONGEST_VALIDITY_S).contains(&valid_for_s) {
            return Err(RequestError::Invalid(format!(
                "a token can be valid for 1 to {LONGEST_VALIDITY_S} seconds, not {valid_for_s}"
            )));
        }
        let now = self.clock.now();
        let expires_at = Timestamp(now.0 + valid_for_s * 1000);
        let whom = node.as_ref().map_or_else(|| "any node".to_owned(), ToString::to_string);
        let (record, token) = token::create(self.authority.fingerprint(), node, expires_at, by)
            .map_err(crate::pki::PkiError::Random)?;
        let audit = self.audit_of(&by.0, &format!("create token {} for {whom}", record.id), "done");
        self.store.put_token(&record, now, &audit).inspect_err(|error| self.note_trouble(error))?;
        tracing::info!(%by, id = record.id, "join token for {whom}");
        Ok(CreatedToken { token: token.to_string(), expires_at_ms: expires_at.0 })
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
        let judge = |token: Option<TokenRecord>, known: Option<NodeRecord>| {
            let public_key = request.public_key.clone();
            let applicant = Applicant { secret: &enrol.token_secret, node: &node, public_key: &public_key };
            match (token::judge(token.clone(), known.as_ref(), &applicant, now)?, token, known) {
                (Verdict::Repeat, Some(token), Some(known)) => Ok((token, known)),
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
            self.store.enrol(&enrol.token_id, &node, &audit, judge);
        let record = judged.inspect_err(|error| self.note_trouble(error))??;
        tracing::info!(%node, from = enrol.from, "enrolled");
        let certificate_pem = record.certificate_pem.clone();
        let replaced = self.nodes.insert(node.clone(), record);
        self.links.know(&node, now);
        if replaced.is_some_and(|before| before.certificate_pem != certificate_pem) {
            self.offline(&node);
        }
        self.changed();
        let (fleet, ca_pem) = (self.authority.fleet().clone(), self.authority.pem().to_owned());
        Ok(Enrolled { fleet, certificate_pem, ca_pem })
    }
}
