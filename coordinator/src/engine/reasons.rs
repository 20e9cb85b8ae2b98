//! What is waited for beyond what the rollout itself can know: another coordinator, a store that can't be written, what is
//! wrong with agents, nodes outside the plan. And the log's part of it: each reason is there once, when it comes up.

use super::{Engine, Look, NotTaken, RequestError};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::NodeId;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Rollout, Subject, WaitingOn};

/// What a question is about; the whole rollout without any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// A node.
    pub node: Option<NodeId>,
    /// A stage.
    pub stage: Option<Stage>,
    /// A wave of that stage, from 0.
    pub wave: Option<usize>,
}

/// New reasons that the log is told at once; of more than that it is told how many.
const LOGGED_AT_ONCE: usize = 20;

/// Reasons that the log has.
#[derive(Default)]
pub(super) struct Logged {
    reasons: BTreeSet<(Subject, String)>,
    /// Which of the engine's changes was the last when it was looked for reasons.
    upto: Option<u64>,
}

impl Logged {
    /// The reasons that were not there before. Those that are gone are forgotten: they are news when they come back. A
    /// reason's words may count seconds or nodes, so it is the same one while what would unblock it is the same.
    fn news<'r>(&mut self, reasons: &'r [WaitingOn]) -> Vec<&'r WaitingOn> {
        let of = |reason: &WaitingOn| (reason.subject.clone(), reason.unblock.clone());
        let now: BTreeSet<_> = reasons.iter().map(of).collect();
        let news = reasons.iter().filter(|reason| !self.reasons.contains(&of(reason))).collect();
        self.reasons = now;
        news
    }
}

impl Engine {
    /// Writes into the log what the rollout waits for and did not before. Nodes that work are in the log already.
    pub(super) fn log_reasons(&mut self) {
        if self.rollout.as_ref().is_none_or(Rollout::ended) {
            self.logged = Logged::default();
            return;
        }
        let changes = *self.changes.borrow();
        if self.logged.upto == Some(changes) {
            return;
        }
        let look = self.look();
        let Some(rollout) = &look.rollout else { return };
        let id = rollout.id().clone();
        let mut reasons = rollout.waiting(look.observed());
        reasons.extend(look.own_reasons(rollout, &About::default()));
        reasons.extend(look.outside_reason(rollout));
        reasons.retain(|reason| !is_at_work(reason));
        self.logged.upto = Some(changes);
        let news = self.logged.news(&reasons);
        for reason in news.iter().take(LOGGED_AT_ONCE) {
            tracing::info!(rollout = %id, next = reason.unblock, "waits: {}", reason.why);
        }
        if let Some(more @ 1..) = news.len().checked_sub(LOGGED_AT_ONCE) {
            tracing::info!(rollout = %id, next = "wavegate why", "waits: and for {more} more reason(s)");
        }
    }

    /// Why nothing can be said or done about a node that is not in a rollout's plan.
    pub(super) fn not_in_plan(&self, rollout: &Rollout, node: &NodeId) -> RequestError {
        not_in_plan(&self.nodes, rollout, node)
    }
}

impl Look {
    /// What the rollout can't know of: another coordinator, a store that can't be written, what is wrong with agents.
    pub(super) fn own_reasons(&self, rollout: &Rollout, about: &About) -> Vec<WaitingOn> {
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
        let current = rollout.current_stage().map(|stage| stage.stage);
        let concerned = nodes_of(rollout, about);
        let concerns = |node: &NodeId| concerned.as_ref().is_none_or(|all| all.contains(node));
        let of_node = |node: &NodeId, since, why, unblock| {
            let subject = Subject::Node { stage: current?, node: node.clone() };
            Some(WaitingOn { subject, why, since, nodes: vec![node.clone()], by: None, unblock })
        };
        let complaints = self.complaints.iter().filter(|(node, _)| concerns(node));
        let complaints = complaints.filter_map(|(node, complaint)| {
            let look = format!("look at the agent's log there: journalctl -u wavegate-agent (on {node})");
            of_node(node, complaint.since, format!("{node}: {}", complaint.what), look)
        });
        let not_taken = self.not_taken.iter().filter(|(node, _)| concerns(node) && unsettled(rollout, node));
        let not_taken = not_taken.filter_map(|(node, NotTaken { skew, since })| {
            of_node(node, *since, format!("{node}: {}", skew.agent()), skew.agent_next(node.as_str()))
        });
        let still = self.stand_still.iter().filter(|(node, _)| concerns(node));
        let still = still.filter_map(|(node, stands)| {
            let mend = format!("mend that on {node}; its task goes on by itself then");
            of_node(node, stands.since, format!("{node} stands still: {}", stands.what), mend)
        });
        self.superseded
            .iter()
            .cloned()
            .chain(trouble)
            .chain(self.slow.iter().cloned())
            .chain(still)
            .chain(not_taken)
            .chain(complaints)
            .collect()
    }

    /// Nodes of the fleet that a rollout's plan does not have: they enrolled after it was made.
    pub(super) fn outside(&self, rollout: &Rollout) -> Vec<NodeId> {
        let planned = &rollout.plan().body.nodes;
        self.nodes.keys().filter(|node| !planned.contains_key(*node)).cloned().collect()
    }

    pub(super) fn outside_reason(&self, rollout: &Rollout) -> Option<WaitingOn> {
        let nodes = if rollout.ended() { Vec::new() } else { self.outside(rollout) };
        let since = nodes.iter().filter_map(|node| Some(self.nodes.get(node)?.enrolled_at)).max()?;
        let (plan, names) = (&rollout.plan().id, super::words::names(&nodes));
        Some(WaitingOn {
            subject: Subject::Rollout,
            why: format!(
                "{names}: outside the plan, enrolled after plan {plan} was made; this rollout leaves it as it is"
            ),
            since,
            nodes,
            by: None,
            unblock: "nothing to do: nobody waits for it; when the rollout has ended: wavegate plan"
                .to_owned(),
        })
    }
}

/// Whether nodes work, one or a crowd of them, or are about to.
fn is_at_work(reason: &WaitingOn) -> bool {
    matches!(reason.subject, Subject::Node { .. } | Subject::Stage { .. })
        && reason.unblock.starts_with("nothing to do")
}

/// Why nothing can be said or done about a node that is not in a rollout's plan; `nodes` are those of the fleet.
pub(super) fn not_in_plan<R>(nodes: &BTreeMap<NodeId, R>, rollout: &Rollout, node: &NodeId) -> RequestError {
    let id = rollout.id();
    if nodes.contains_key(node) {
        return RequestError::NotFound(format!(
            "{node} is outside the plan of rollout {id}: it enrolled after that was made, and stays as it is; when the \
             rollout has ended, make a new plan: wavegate plan"
        ));
    }
    RequestError::NotFound(format!("rollout {id} has no node {node}; its nodes: wavegate status"))
}

/// Whether a node has something to do in the rollout yet.
fn unsettled(rollout: &Rollout, node: &NodeId) -> bool {
    let mut tasks = rollout.plan().body.stages.iter().filter_map(|stage| rollout.task(stage.stage, node));
    tasks.any(|task| !task.settled())
}

/// The nodes that a question is about; `None` for all.
fn nodes_of<'r>(rollout: &'r Rollout, about: &'r About) -> Option<BTreeSet<&'r NodeId>> {
    if let Some(node) = &about.node {
        return Some(BTreeSet::from([node]));
    }
    let stage = rollout.plan().stage(about.stage?)?;
    Some(match about.wave {
        Some(wave) => stage.waves.get(wave).into_iter().flatten().collect(),
        None => stage.tasks.keys().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_common::id::Timestamp;

    fn reason(why: &str, unblock: &str) -> WaitingOn {
        WaitingOn {
            subject: Subject::Rollout,
            why: why.to_owned(),
            since: Timestamp(1),
            nodes: Vec::new(),
            by: None,
            unblock: unblock.to_owned(),
        }
    }

    #[test]
    fn crowds_at_work_are_no_news_and_crowds_that_wait_are() {
        let stage = Stage::Compute;
        let of = |subject: Subject, unblock: &str| WaitingOn { subject, ..reason("200 nodes wait", unblock) };
        let work = "nothing to do: they go on by themselves";
        assert!(is_at_work(&of(Subject::Stage { stage }, work)));
        assert!(!is_at_work(&of(Subject::Stage { stage }, "switch them on")));
        assert!(!is_at_work(&of(Subject::Wave { stage, wave: 1 }, "nothing to do: it begins by itself")));
        assert!(!is_at_work(&of(
            Subject::Rollout,
            "nothing to do: it stops when the running tasks have ended"
        )));
    }

    #[test]
    fn a_reason_is_news_once_and_again_when_it_comes_back() {
        let mut logged = Logged::default();
        let (paused, soaking) = (reason("paused by alice", "wavegate resume"), reason("60 s left", "wait"));
        assert_eq!(logged.news(&[paused.clone(), soaking.clone()]), [&paused, &soaking]);
        let later = reason("59 s left", "wait");
        assert!(logged.news(&[paused.clone(), later]).is_empty(), "it only counts on");
        assert!(logged.news(std::slice::from_ref(&soaking)).is_empty(), "one is gone");
        assert_eq!(logged.news(&[paused.clone(), soaking]), [&paused]);
    }
}
