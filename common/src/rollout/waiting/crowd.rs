//! Many nodes of which the same is to be said: one reason for all of them, which has all their names and shows a few.

use super::{Subject, WaitingOn, listed, mend, unblock_hold};
use crate::id::{NodeId, Timestamp};
use crate::plan::StagePlan;
use crate::platform::Stage;
use crate::rollout::{Link, Observed, Rollout, Status, Task, TaskState};
use std::collections::BTreeMap;

/// Of more nodes than this the same is said once.
const CROWD: usize = 20;

/// What is said of a node that others wait for, or that waits itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Plight {
    /// It failed at this step.
    Failed(Option<String>),
    /// It was lost.
    Lost,
    /// It was lost and is connected again.
    Back,
    /// It went offline at work.
    Left,
    /// It is offline, and was not tried.
    Away,
    /// It takes too long.
    Overdue,
    /// It has not confirmed an order that is held.
    Held,
    AtWork,
    /// Nothing holds it.
    Next,
    /// This holds it, and that would unblock it.
    Waits(String, String),
}

/// Nodes of a stage with the same plight.
struct Crowd<'r> {
    stage: Stage,
    members: Vec<(&'r NodeId, &'r Task)>,
    since: Timestamp,
}

impl Rollout {
    /// A reason for each of these nodes of a stage, in their order; of many with the same plight one for all, in the place of
    /// the first.
    pub(super) fn waiting_on_each<'r>(
        &'r self,
        stage: &StagePlan,
        nodes: Vec<(&'r NodeId, &'r Task)>,
        observed: Observed<'_>,
    ) -> Vec<WaitingOn> {
        let alone = |(node, task): &(&NodeId, &Task)| self.waiting_on_node(stage, node, task, observed);
        if nodes.len() <= CROWD {
            return nodes.iter().map(alone).collect();
        }
        let plights: Vec<Option<Plight>> =
            nodes.iter().map(|(node, task)| self.plight(stage.stage, node, task, observed)).collect();
        let mut crowds: BTreeMap<&Plight, Crowd<'r>> = BTreeMap::new();
        for ((node, task), plight) in nodes.iter().zip(&plights) {
            let Some(plight) = plight else { continue };
            let since = match (plight, observed.link(node)) {
                (Plight::Left | Plight::Away, Link::Offline { since }) => since,
                _ => task.since,
            };
            let fresh = || Crowd { stage: stage.stage, members: Vec::new(), since };
            let crowd = crowds.entry(plight).or_insert_with(fresh);
            crowd.members.push((node, task));
            crowd.since = crowd.since.min(since);
        }
        crowds.retain(|_, crowd| crowd.members.len() > CROWD);
        let mut reasons = Vec::new();
        for (node, plight) in nodes.iter().zip(&plights) {
            match plight.as_ref().and_then(|plight| Some((plight, crowds.get(plight)?))) {
                None => reasons.push(alone(node)),
                Some((plight, crowd)) if crowd.members.first() == Some(node) => {
                    reasons.push(crowd.waiting(plight));
                }
                Some(_) => {}
            }
        }
        reasons
    }

    /// What is said of a node; `None` if that is said of no other.
    fn plight(&self, stage: Stage, node: &NodeId, task: &Task, observed: Observed<'_>) -> Option<Plight> {
        let held = self.status == Status::Paused;
        if task.state() == TaskState::Waived {
            return None;
        }
        Some(match (task.progress, observed.link(node)) {
            (TaskState::Failed, _) => Plight::Failed(task.steps.last().map(|ended| ended.step.to_string())),
            (TaskState::Unknown, Link::Online { .. }) => Plight::Back,
            (TaskState::Unknown, Link::Offline { .. }) => Plight::Lost,
            (TaskState::Preparing | TaskState::Applying, Link::Offline { .. }) => Plight::Left,
            (TaskState::Scheduled, Link::Offline { .. }) => Plight::Away,
            (TaskState::Applying, Link::Online { .. }) if task.overdue => Plight::Overdue,
            (TaskState::Preparing, Link::Online { .. }) if held => Plight::Held,
            (TaskState::Preparing | TaskState::Applying, Link::Online { .. }) => Plight::AtWork,
            (TaskState::Scheduled, Link::Online { .. }) => match self.may_start(stage, node, observed.now) {
                Ok(()) => Plight::Next,
                Err(hold) => Plight::Waits(hold.to_string(), unblock_hold(&hold)),
            },
            (TaskState::Finished | TaskState::Canceled | TaskState::Waived, _) => return None,
        })
    }
}

impl Crowd<'_> {
    fn waiting(&self, plight: &Plight) -> WaitingOn {
        let Self { stage, members, since } = self;
        let nodes: Vec<NodeId> = members.iter().map(|(node, _)| (*node).clone()).collect();
        let who = format!("{} nodes ({})", nodes.len(), listed(&nodes));
        let (why, unblock) = match plight {
            Plight::Failed(step) => {
                let at = step.as_ref().map_or_else(String::new, |step| format!(" at step {step}"));
                (format!("{who} failed in stage {stage}{at}{}", self.error()), self.after_failure())
            }
            Plight::Lost => (
                format!("{who} were lost while applying stage {stage}; what they did is unknown until they return"),
                bring_back("they say what they did and go on from there"),
            ),
            Plight::Back => (
                format!("{who} were lost while applying stage {stage}"),
                "nothing to do: they are back and are being asked what they did".to_owned(),
            ),
            Plight::Left => (
                format!("{who} went offline while applying stage {stage}"),
                bring_back("they go on by themselves with what they were at"),
            ),
            Plight::Away => (
                format!("{who} are offline and have not done stage {stage}"),
                bring_back("their turn comes by itself"),
            ),
            Plight::Overdue => (
                format!("{who} are applying stage {stage} for longer than their steps may take together"),
                "see what one is at: wavegate logs NODE; if it stands still, restart its agent there, which takes the task up \
                 again: systemctl restart wavegate-agent"
                    .to_owned(),
            ),
            Plight::Held => (
                format!("{who} have not confirmed their orders for stage {stage}, which are held while the rollout is paused"),
                "wavegate resume".to_owned(),
            ),
            Plight::AtWork => (
                format!("{who} are applying stage {stage}, or being given their orders for it"),
                "nothing to do: they go on by themselves (watch one: wavegate logs NODE --follow)".to_owned(),
            ),
            Plight::Next => {
                (format!("{who} are next in stage {stage}"), "nothing to do: they start by themselves".to_owned())
            }
            Plight::Waits(hold, unblock) => (format!("{who} wait in stage {stage}: {hold}"), unblock.clone()),
        };
        WaitingOn { subject: Subject::Stage { stage: *stage }, why, since: *since, nodes, by: None, unblock }
    }

    /// How the first of them failed.
    fn error(&self) -> String {
        let first = self
            .members
            .first()
            .and_then(|(node, task)| Some(format!("; {node}: {}", task.steps.last()?.outcome.error()?)));
        first.unwrap_or_default()
    }

    fn after_failure(&self) -> String {
        let first = self.members.first();
        let mend = mend(first.map(|(_, task)| *task));
        let logs = first.map_or_else(String::new, |(node, _)| format!(" (wavegate logs {node})"));
        format!(
            "{mend}{logs}. When it is mended: wavegate retry --all-failed && wavegate resume; to go on without one of them: \
             wavegate waive NODE"
        )
    }
}

/// How nodes come back, and what happens then: another thing for each plight, so that one is not taken for another.
fn bring_back(then: &str) -> String {
    format!(
        "switch them on, or start their agents there: systemctl start wavegate-agent; when they are back, {then}. To go on \
         without one of them: wavegate waive NODE; if one is gone for good: wavegate stop, then wavegate node remove NODE"
    )
}
