//! Waivers: that a node does not count for a while, said by an operator, with a reason and an end.

use super::commands::{refused, unchanged};
use super::record::RecordError;
use super::{Answer, Engine, RequestError};
use crate::store::AuditRecord;
use wavegate_common::id::{Actor, NodeId, RolloutId, Timestamp};
use wavegate_common::rollout::{Event, IllegalEvent, Rollout, Status};

/// The longest that a waiver can last: 30 days. Longer is no exception any more.
const LONGEST_WAIVER_S: u64 = 30 * 24 * 3600;
/// Characters of a reason: it stands in every report.
const LONGEST_REASON: usize = 200;
/// A waiver that would end so little later than the one in force is the same one, asked for again.
const SAME_END_MS: u64 = 60_000;

/// What is asked for.
pub(super) struct Waive<'a> {
    pub(super) rollout: Option<&'a RolloutId>,
    pub(super) node: &'a NodeId,
    pub(super) reason: &'a str,
    pub(super) for_s: u64,
}

impl Engine {
    pub(super) fn waive(
        &mut self,
        asked: &Waive<'_>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target_with(asked.rollout, asked.node)?;
        let reason = checked_reason(asked.reason)?;
        if !(1..=LONGEST_WAIVER_S).contains(&asked.for_s) {
            return Err(RequestError::Invalid(format!(
                "a waiver lasts 1 second to 30 days ({LONGEST_WAIVER_S} s), not {} s; when it has ended, decide again",
                asked.for_s
            )));
        }
        let node = asked.node;
        let until = Timestamp(self.clock.now().0.saturating_add(asked.for_s * 1000));
        let known = rollout.waiver(node);
        if let Some(known) =
            known.filter(|known| known.reason == reason && known.until.0.abs_diff(until.0) < SAME_END_MS)
        {
            let text =
                format!("{node} is waived already by {} until {}: {reason}", known.by, known.until.utc());
            return Ok(unchanged(rollout, text));
        }
        if rollout.may_waive(node) == Err(IllegalEvent::NothingToWaive { node: node.clone() }) {
            return Ok(unchanged(
                rollout,
                format!("{node} has nothing left to do in rollout {}", rollout.id()),
            ));
        }
        let again = if known.is_some() { " anew" } else { "" };
        let next = match rollout.status().0 {
            Status::Running if only_this_is_left(rollout, node) => {
                ". Nothing else is left to do, so the rollout has ended without it; later: wavegate plan, which goes on from there"
            }
            Status::Paused => "; the rollout is paused, let it go on: wavegate resume",
            _ => "",
        };
        let event =
            Event::NodeWaived { node: node.clone(), reason: reason.to_owned(), until, by: by.clone() };
        let cannot = format!("{node} cannot be waived");
        let text = format!(
            "{node} is waived{again} until {}: {reason}. Nobody waits for it, and every report names it{next}",
            until.utc()
        );
        self.change_node(event, audit, text, |error| refusal(&cannot, node, error))
    }

    pub(super) fn withdraw_waiver(
        &mut self,
        id: Option<&RolloutId>,
        node: &NodeId,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target_with(id, node)?;
        if rollout.waiver(node).is_none() {
            let text = format!("{node} is not waived in rollout {}, nothing was withdrawn", rollout.id());
            return Ok(unchanged(rollout, text));
        }
        let event = Event::WaiverEnded { node: node.clone(), by: Some(by.clone()) };
        let text = format!("the waiver of {node} is withdrawn: it counts again, and is waited for");
        let cannot = format!("the waiver of {node} cannot be withdrawn");
        self.change_node(event, audit, text, |error| refused(&cannot, error))
    }

    /// The rollout that a command is about, if a node is in its plan.
    fn target_with(&self, id: Option<&RolloutId>, node: &NodeId) -> Result<&Rollout, RequestError> {
        let rollout = self.target(id)?;
        if rollout.plan().body.nodes.contains_key(node) {
            return Ok(rollout);
        }
        Err(self.not_in_plan(rollout, node))
    }

    fn change_node(
        &mut self,
        event: Event,
        audit: &AuditRecord,
        text: String,
        refused: impl FnOnce(RecordError) -> RequestError,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(None)?.id().clone();
        self.record(vec![event], audit).map_err(refused)?;
        Ok(Answer { rollout, changed: true, text })
    }
}

/// Whether every other node has settled all that it has to do.
fn only_this_is_left(rollout: &Rollout, node: &NodeId) -> bool {
    let stages = rollout.plan().body.stages.iter();
    stages
        .flat_map(|planned| rollout.tasks(planned.stage))
        .all(|(other, task)| other == node || task.settled())
}

fn checked_reason(reason: &str) -> Result<&str, RequestError> {
    let reason = reason.trim();
    let wrong = if reason.is_empty() {
        "is empty".to_owned()
    } else if reason.chars().any(char::is_control) {
        "has a line break or a control character".to_owned()
    } else if reason.chars().count() > LONGEST_REASON {
        format!("has {} characters", reason.chars().count())
    } else {
        return Ok(reason);
    };
    let rule = format!("say in one line of up to {LONGEST_REASON} characters why, it stands in every report");
    Err(RequestError::Invalid(format!("the reason of the waiver {wrong}; {rule}")))
}

/// Why a node can't be waived, with what to do instead.
fn refusal(cannot: &str, node: &NodeId, error: RecordError) -> RequestError {
    let next = match &error {
        RecordError::Illegal(IllegalEvent::AtWork { .. }) => format!(
            "wait until its task has ended (wavegate watch); if its agent stays away, it is unknown after a while and can be \
             waived then: wavegate why {node}"
        ),
        RecordError::Illegal(IllegalEvent::EtcdMember { .. }) => format!(
            "bring it back or mend it, then: wavegate retry {node}; or end the rollout: wavegate stop"
        ),
        RecordError::Illegal(_) | RecordError::Store(_) => return refused(cannot, error),
    };
    let RecordError::Illegal(why) = error else { return refused(cannot, error) };
    RequestError::Illegal { what: cannot.to_owned(), why: Box::new(why), next }
}
