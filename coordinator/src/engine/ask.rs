//! How things are: status, what is waited for, the fleet. Changes nothing.

use super::commands::no_rollout;
use super::{Engine, LoadError, Question, RequestError, replay};
use crate::status::nodes::node_list;
use crate::status::view::{RolloutStatus, rollout_status};
use std::collections::BTreeMap;
use wavegate_common::id::{NodeId, RolloutId};
use wavegate_common::rollout::{Rollout, Subject, WaitingOn};

impl Engine {
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Status(id, reply) => drop(reply.send(self.status(id.as_ref()))),
            Question::Why(id, node, reply) => drop(reply.send(self.why(id.as_ref(), node.as_ref()))),
            Question::Nodes(reply) => {
                let inventory = self.inventory.as_ref().map(|record| &record.inventory);
                drop(reply.send(Ok(node_list(&self.nodes, self.links.all(), inventory))));
            }
        }
    }

    fn status(&self, id: Option<&RolloutId>) -> Result<RolloutStatus, RequestError> {
        if let Some(newest) = self.newest(id)? {
            let mut status = rollout_status(newest, self.observed(), self.generation, &self.steps);
            status.waiting.extend(self.own_reasons(newest, None));
            whole_rollout_first(&mut status.waiting);
            return Ok(status);
        }
        let earlier = self.earlier(id)?;
        Ok(rollout_status(&earlier, self.observed(), self.generation, &BTreeMap::new()))
    }

    fn why(&self, id: Option<&RolloutId>, node: Option<&NodeId>) -> Result<Vec<WaitingOn>, RequestError> {
        let earlier;
        let (rollout, own) = match self.newest(id)? {
            Some(newest) => (newest, self.own_reasons(newest, node)),
            None => {
                earlier = self.earlier(id)?;
                (&earlier, Vec::new())
            }
        };
        let mut reasons = match node {
            None => rollout.waiting(self.observed()),
            Some(node) if rollout.plan().body.nodes.contains_key(node) => {
                rollout.waiting_for_node(node, self.observed()).into_iter().collect()
            }
            Some(node) => {
                let id = rollout.id();
                return Err(RequestError::NotFound(format!(
                    "rollout {id} has no node {node}; its nodes: wavegate status"
                )));
            }
        };
        reasons.extend(own);
        whole_rollout_first(&mut reasons);
        Ok(reasons)
    }

    /// The newest rollout, if it is the one asked for.
    fn newest(&self, id: Option<&RolloutId>) -> Result<Option<&Rollout>, RequestError> {
        let newest = self.rollout.as_ref().ok_or_else(no_rollout)?;
        Ok((id.is_none() || id == Some(newest.id())).then_some(newest))
    }

    fn earlier(&self, id: Option<&RolloutId>) -> Result<Rollout, RequestError> {
        let Some(record) = self.store.rollout(id)? else {
            let id = id.map_or("that name", RolloutId::as_str);
            return Err(RequestError::NotFound(format!(
                "there is no rollout {id}; leave the name out for the newest one"
            )));
        };
        replay(&self.store, record).map_err(|error| match error {
            LoadError::Store(error) => RequestError::Store(error),
            LoadError::Plan(error) => RequestError::Plan(error),
            other @ (LoadError::NoPlan(_) | LoadError::Replay { .. }) => {
                RequestError::NotNow(super::told(&other))
            }
        })
    }

    /// What the rollout can't know of: another coordinator, a store that can't be written, what is wrong with agents.
    fn own_reasons(&self, rollout: &Rollout, node: Option<&NodeId>) -> Vec<WaitingOn> {
        if rollout.ended() {
            return Vec::new();
        }
        let trouble = self.trouble.iter().map(|trouble| WaitingOn {
            subject: Subject::Rollout,
            why: format!("the coordinator cannot store what happens: {}", trouble.what),
            since: trouble.since,
            nodes: Vec::new(),
            by: None,
            unblock: "make room on the coordinator's disk (df -h); it goes on by itself".to_owned(),
        });
        let stage = rollout.current_stage().map(|stage| stage.stage);
        let complaints = self.complaints.iter().filter(|(name, _)| node.is_none_or(|node| node == *name));
        let complaints = complaints.filter_map(|(node, complaint)| {
            Some(WaitingOn {
                subject: Subject::Node { stage: stage?, node: node.clone() },
                why: format!("{node}: {}", complaint.what),
                since: complaint.since,
                nodes: vec![node.clone()],
                by: None,
                unblock: format!("look at the agent's log there: journalctl -u wavegate-agent (on {node})"),
            })
        });
        self.superseded_reason().into_iter().chain(trouble).chain(complaints).collect()
    }
}

/// What holds everything stands before what it holds.
fn whole_rollout_first(reasons: &mut [WaitingOn]) {
    reasons.sort_by_key(|reason| reason.subject != Subject::Rollout);
}
