//! What agents say. An agent speaks for its node alone; what contradicts the log is noted and changes nothing.

use super::{Complaint, Connected, Engine, FromAgent, NotTaken, RequestError, ToAgent, cut};
use crate::skew;
use crate::store::{OutputPiece, Printed, StepPlace};
use std::sync::Arc;
use wavegate_common::facts::Facts;
use wavegate_common::id::{NodeId, StepId};
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::Report;

impl Engine {
    pub(super) fn connected(&mut self, connected: Connected) {
        let Connected { node, fingerprint, agent_version, seen, facts, not_understood, session, reply } =
            connected;
        let admitted = self.has_place(&node, &fingerprint).and_then(|()| self.in_step(&node, &agent_version));
        if let Err(error) = admitted {
            drop(reply.send(Err(error)));
            return;
        }
        let now = self.clock.now();
        let replaced = self.links.is_online(&node);
        let number = self.links.open(&node, session, now);
        self.links.heard(&node, number, self.clock.elapsed_ms());
        tracing::info!(%node, agent_version, replaced, "online");
        self.complaints.remove(&node);
        if let Some(what) = not_understood {
            self.not_understood(&node, &what);
        }
        self.heed(&node, seen);
        if reply.send(Ok(number)).is_err() {
            self.offline(&node);
            return;
        }
        if replaced {
            self.planning_lost(&node);
        }
        if let Some(facts) = facts {
            self.keep_facts(&node, facts);
        }
        let welcome = ToAgent::Welcome {
            fleet: self.authority.fleet().clone(),
            leader: self.leader(),
            heartbeat_interval_s: self.timing.heartbeat_interval_s,
        };
        if !self.send(&node, welcome) {
            return;
        }
        self.turn.orders.insert(node);
        self.turn.unsettled = true;
        self.changed();
    }

    /// Whether a node is in the fleet, and this certificate the one that it was given last.
    fn has_place(&mut self, node: &NodeId, fingerprint: &str) -> Result<(), RequestError> {
        let (what, error) = match self.nodes.get(node) {
            Some(record) if record.fingerprint == fingerprint => return Ok(()),
            Some(_) => (
                "a session with a certificate that is not its last one",
                RequestError::OldCertificate { node: node.clone() },
            ),
            None => (
                "a session, and it was removed or never enrolled",
                RequestError::NotEnrolled { node: node.clone() },
            ),
        };
        self.refused(format!("node {node}"), what.to_owned());
        Err(error)
    }

    /// Whether a node's agent is of a version that we work with. That it is not is told once a version, not at every try.
    fn in_step(&mut self, node: &NodeId, agent_version: &str) -> Result<(), RequestError> {
        let Err(skew) = skew::look(agent_version) else {
            self.not_taken.remove(node);
            return Ok(());
        };
        let error = RequestError::Skew { node: node.clone(), skew: skew.clone() };
        if self.not_taken.get(node).is_none_or(|known| known.skew != skew) {
            self.refused(format!("node {node}"), format!("a session: {error}"));
            let since = self.clock.now();
            self.not_taken.insert(node.clone(), NotTaken { skew, since });
            self.changed();
        }
        Err(error)
    }

    /// Notes that an agent said something in words that we don't have. It goes on; that message alone has no effect.
    fn not_understood(&mut self, node: &NodeId, what: &str) {
        let ours = skew::OURS;
        self.complain(
            node,
            format!(
                "it said what this coordinator ({ours}) does not understand, so that has no effect: {what}"
            ),
        );
    }

    pub(super) fn said(&mut self, node: &NodeId, session: u64, message: FromAgent) {
        if !self.links.heard(node, session, self.clock.elapsed_ms()) {
            return;
        }
        match message {
            FromAgent::Working(at, stands_still) => {
                self.working(node, at);
                self.stands_still(node, stands_still);
            }
            FromAgent::Report(report, step) => {
                if self.speaks_for_itself(node, &report.key) {
                    self.working(node, Some((report.key.clone(), step)));
                    self.report(node, report);
                }
            }
            FromAgent::OrderRefused { key, reason } => {
                if self.speaks_for_itself(node, &key) {
                    self.complain(node, format!("it does not obey its order ({key}): {reason}"));
                }
            }
            FromAgent::Output { key, step, offset, data } => {
                if self.speaks_for_itself(node, &key) {
                    self.keep_output(&key, &step, offset, data);
                }
            }
            FromAgent::NotUnderstood(what) => self.not_understood(node, &what),
            FromAgent::Preview { request, stage, previews } => self.previewed(node, request, stage, previews),
            FromAgent::Facts(facts) => self.keep_facts(node, *facts),
        }
    }

    fn speaks_for_itself(&mut self, node: &NodeId, key: &TaskKey) -> bool {
        if key.node == *node {
            return true;
        }
        self.complain(node, format!("it spoke for another node ({key})"));
        false
    }

    /// Notes what is wrong with an agent: in the log, in the audit list, and for `why`.
    pub(super) fn complain(&mut self, node: &NodeId, mut what: String) {
        cut(&mut what);
        self.refused(format!("node {node}"), what.clone());
        if self.complaints.get(node).is_some_and(|known| known.what == what) {
            return;
        }
        let since = self.clock.now();
        self.complaints.insert(node.clone(), Complaint { what, since });
        self.changed();
    }

    fn working(&mut self, node: &NodeId, at: Option<(TaskKey, Option<StepId>)>) {
        let step = at.and_then(|(key, step)| {
            let rollout = self.rollout.as_ref().filter(|rollout| rollout.is_of(&key))?;
            let task = rollout.task(key.stage, node)?;
            step.filter(|_| task.attempt == key.attempt)
        });
        let before = match &step {
            Some(step) => self.steps.insert(node.clone(), step.clone()),
            None => self.steps.remove(node),
        };
        if before != step {
            self.changed();
        }
    }

    /// Notes what a node's task stands still for, or that it goes on.
    fn stands_still(&mut self, node: &NodeId, why: Option<String>) {
        let Some(mut what) = why else {
            if self.stand_still.remove(node).is_some() {
                tracing::info!(%node, "its task goes on");
                self.changed();
            }
            return;
        };
        cut(&mut what);
        let since = self.stand_still.get(node).map_or_else(|| self.clock.now(), |known| known.since);
        tracing::warn!(%node, what, "its task stands still");
        self.stand_still.insert(node.clone(), Complaint { what, since });
        self.changed();
    }

    /// Takes what is new in a report into the turn. Once its end is in the log the agent is told so.
    fn report(&mut self, node: &NodeId, report: Report) {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.is_of(&report.key)) else {
            self.report_of_other(node, &report);
            return;
        };
        let reported = match rollout.reported(&report) {
            Ok(reported) => reported,
            Err(contradiction) => {
                self.complain(node, format!("its report contradicts the log: {contradiction}"));
                return;
            }
        };
        if !reported.events.is_empty() {
            if let Err(illegal) = self.collect(reported.events) {
                let key = &report.key;
                self.complain(node, format!("its report contradicts the log: {key}: {illegal}"));
                return;
            }
            self.turn.unsettled = true;
            self.complaints.remove(node);
            self.ordered.remove(node);
        }
        if reported.acknowledge {
            self.turn.acknowledgements.push(report.key.clone());
        }
        self.unstored.remove(&report.key);
        self.turn.reports.insert(report.key.clone(), report);
    }

    /// A report about a rollout that is not the newest: it has ended, and its log is closed.
    fn report_of_other(&mut self, node: &NodeId, report: &Report) {
        match self.store.rollout(Some(&report.key.rollout)) {
            Ok(Some(known)) if known.plan == report.key.plan => {
                tracing::info!(key = %report.key, result = ?report.result, "a report about an earlier rollout");
                if report.result.is_some() {
                    self.send(node, ToAgent::Acknowledge(report.key.clone()));
                }
            }
            Ok(Some(_) | None) | Err(crate::store::StoreError::NoRolloutId(_)) => {
                self.complain(
                    node,
                    format!("it reported a task of a rollout that is not known here ({})", report.key),
                );
            }
            Err(error) => self.note_trouble(&error),
        }
    }

    /// Takes reports again that could not be stored.
    pub(super) fn store_reports(&mut self) {
        for (key, report) in std::mem::take(&mut self.unstored) {
            self.report(&key.node, report);
        }
    }

    fn keep_facts(&mut self, node: &NodeId, facts: Facts) {
        if facts.node != *node {
            self.complain(node, format!("it sent the facts of another node ({})", facts.node));
            return;
        }
        let Some(known) = self.nodes.get(node) else { return };
        // Facts are what the agent sees, not what we decided: they count even if they can't be kept. What was only seen
        // again is not written again: an idle fleet writes nothing.
        let news = known.facts.as_ref().is_none_or(|known| facts.has_news(known));
        if news {
            self.turn.facts.insert(node.clone());
        }
        if let Some(known) = self.nodes.get_mut(node) {
            *known = Arc::new(known.with(facts));
        }
        self.changed();
    }

    fn keep_output(&mut self, key: &TaskKey, step: &StepId, offset: u64, data: Vec<u8>) {
        let Some(rollout) = self.rollout.as_ref().filter(|rollout| rollout.is_of(key)) else { return };
        let given_out =
            rollout.task(key.stage, &key.node).is_some_and(|task| (1..=task.attempt).contains(&key.attempt));
        let steps = rollout.plan().stage(key.stage).and_then(|stage| stage.tasks.get(&key.node));
        let index = steps.and_then(|steps| steps.iter().position(|planned| planned.id == *step));
        let index = index.and_then(|index| u32::try_from(index).ok()).filter(|_| given_out);
        let Some(index) = index else {
            tracing::debug!(%key, %step, "output of a step that is not in the plan is dropped");
            return;
        };
        let place = StepPlace { stage: key.stage, attempt: key.attempt, step: index };
        let (rollout, node) = (key.rollout.clone(), key.node.clone());
        self.turn.print(Printed { rollout, node, piece: OutputPiece { place, offset, data } });
    }
}
