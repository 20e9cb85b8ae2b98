//! Why nothing (more) happens: one type, from which CLI, log and API all take their words.

use super::decide::{Hold, Link, Observed};
use super::{PauseReason, Rollout, Status, Task, TaskState};
use crate::id::{NodeId, Timestamp};
use crate::plan::StagePlan;
use crate::platform::Stage;
use serde::{Deserialize, Serialize};

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum Subject {
    /// The whole rollout.
    Rollout,
    /// A stage.
    Stage {
        /// Which.
        stage: Stage,
    },
    /// A node in a stage.
    Node {
        /// Its stage.
        stage: Stage,
        /// The node.
        node: NodeId,
    },
}

/// What a rollout, a stage or a node waits for, since when, and what would unblock it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingOn {
    /// What waits.
    pub subject: Subject,
    /// Why, in a sentence.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// The nodes that it waits for, if it waits for nodes.
    pub nodes: Vec<NodeId>,
    /// What would unblock it: a command, or what has to happen.
    pub unblock: String,
}

impl Rollout {
    /// Everything the rollout waits for now; never empty while it has not ended.
    #[must_use]
    pub fn waiting(&self, observed: Observed<'_>) -> Vec<WaitingOn> {
        if self.ended() {
            return Vec::new();
        }
        let mut reasons: Vec<WaitingOn> = self.waiting_on_status().into_iter().collect();
        let Some(current) = self.current_stage() else {
            reasons.push(WaitingOn {
                subject: Subject::Rollout,
                why: "every node of every stage is finished; the end is being recorded".to_owned(),
                since: self.status_since,
                nodes: Vec::new(),
                unblock: by_itself(),
            });
            return reasons;
        };
        let wave = self.current_wave(current);
        for (index, nodes) in current.waves.iter().enumerate() {
            for node in nodes {
                let Some(task) = self.task(current.stage, node) else { continue };
                let of_interest = match task.state {
                    TaskState::Scheduled => wave == Some(index) && !observed.link(node).is_online(),
                    TaskState::Finished | TaskState::Canceled => false,
                    TaskState::Preparing | TaskState::Applying | TaskState::Failed | TaskState::Unknown => {
                        true
                    }
                };
                if of_interest {
                    reasons.push(self.waiting_on_node(current, node, task, observed));
                }
            }
        }
        reasons.extend(self.waiting_on_release());
        if reasons.is_empty() {
            let next: Vec<NodeId> = wave.and_then(|w| current.waves.get(w)).cloned().unwrap_or_default();
            reasons.push(WaitingOn {
                subject: Subject::Stage { stage: current.stage },
                why: format!("stage {}: the next nodes are being given their orders", current.stage),
                since: self.status_since,
                nodes: next,
                unblock: by_itself(),
            });
        }
        let later = self.plan.body.stages.iter().filter(|s| s.stage > current.stage && !s.tasks.is_empty());
        reasons.extend(later.map(|stage| self.waiting_on_barrier(stage.stage, current)));
        reasons
    }

    /// What one node waits for: its first stage that is not finished. `None` if it has no task or all are finished.
    #[must_use]
    pub fn waiting_for_node(&self, node: &NodeId, observed: Observed<'_>) -> Option<WaitingOn> {
        if self.ended() {
            return None;
        }
        let open =
            |stage: &&StagePlan| self.task(stage.stage, node).is_some_and(|t| t.state != TaskState::Finished);
        let stage = self.plan.body.stages.iter().find(open)?;
        let task = self.task(stage.stage, node)?;
        Some(self.waiting_on_node(stage, node, task, observed))
    }

    fn waiting_on_status(&self) -> Option<WaitingOn> {
        let (why, unblock) = match (self.status, &self.pause) {
            (Status::Ready, _) => ("it has not been started".to_owned(), "wavegate start".to_owned()),
            (Status::Paused, Some(PauseReason::ErrorThreshold { stage, failed, allowed })) => (
                format!("halted: {failed} node(s) failed in stage {stage}, {allowed} allowed"),
                "mend the cause (wavegate logs NODE), then: wavegate retry --all-failed && wavegate resume"
                    .to_owned(),
            ),
            (Status::Paused, Some(PauseReason::Operator { by })) => {
                let why = format!("paused by {by}");
                if self.over_threshold().is_some() {
                    (why, "mend what failed, then: wavegate retry --all-failed && wavegate resume".to_owned())
                } else {
                    (why, "wavegate resume".to_owned())
                }
            }
            (Status::Paused, None) => ("paused".to_owned(), "wavegate resume".to_owned()),
            (Status::Stopping, _) => (
                "stopping: what runs may end, nothing new starts".to_owned(),
                "nothing to do: it stops when the running tasks have ended".to_owned(),
            ),
            (Status::Running | Status::Stopped | Status::Finished, _) => return None,
        };
        Some(WaitingOn {
            subject: Subject::Rollout,
            why,
            since: self.status_since,
            nodes: Vec::new(),
            unblock,
        })
    }

    fn waiting_on_node(
        &self,
        stage: &StagePlan,
        node: &NodeId,
        task: &Task,
        observed: Observed<'_>,
    ) -> WaitingOn {
        let name = stage.stage;
        let mut since = task.since;
        let link = observed.link(node);
        let (why, unblock) = match (task.state, link) {
            (TaskState::Preparing, Link::Online { .. }) if self.status == Status::Paused => (
                format!(
                    "{node} has not confirmed its order for stage {name}, which is held while the rollout is paused"
                ),
                "wavegate resume".to_owned(),
            ),
            (TaskState::Preparing | TaskState::Applying, Link::Online { .. }) => (
                format!("{node} is {} stage {name}", verb(task.state)),
                format!("nothing to do: it goes on by itself (watch: wavegate logs {node} --follow)"),
            ),
            (TaskState::Preparing | TaskState::Applying, Link::Offline { since: left }) => {
                since = left;
                let why = format!("{node} went offline while {} stage {name}", verb(task.state));
                (why, bring_back(node))
            }
            (TaskState::Unknown, link) => {
                let why = format!(
                    "{node} was lost while applying stage {name}; what it did is unknown until it returns"
                );
                let back = "nothing to do: it is back and is being asked what it did".to_owned();
                (why, if link.is_online() { back } else { bring_back(node) })
            }
            (TaskState::Failed, _) => (
                format!("{node} failed in stage {name}{}", failed_step(task)),
                format!(
                    "mend the cause (wavegate logs {node}), then: wavegate retry {node} && wavegate resume"
                ),
            ),
            (TaskState::Scheduled, Link::Offline { since: left }) => {
                since = left;
                (format!("{node} is offline and has not done stage {name}"), bring_back(node))
            }
            (TaskState::Scheduled, Link::Online { .. }) => match self.may_start(name, node) {
                Ok(()) => (
                    format!("{node} is next in stage {name}"),
                    "nothing to do: it starts by itself".to_owned(),
                ),
                Err(hold) => (format!("{node} waits in stage {name}: {hold}"), unblock_hold(&hold)),
            },
            (TaskState::Finished | TaskState::Canceled, _) => {
                (format!("{node} is {} in stage {name}", task.state), "nothing to do".to_owned())
            }
        };
        WaitingOn {
            subject: Subject::Node { stage: name, node: node.clone() },
            why,
            since,
            nodes: vec![node.clone()],
            unblock,
        }
    }

    fn waiting_on_release(&self) -> Option<WaitingOn> {
        let (stage, wave) = self.wave_to_release()?;
        let nodes =
            self.plan.stage(stage).and_then(|planned| planned.waves.get(wave)).cloned().unwrap_or_default();
        let since =
            self.tasks(stage).map(|(_, task)| task.since).max().unwrap_or_default().max(self.status_since);
        Some(WaitingOn {
            subject: Subject::Stage { stage },
            why: format!("wave {} of stage {stage} waits for an operator", wave + 1),
            since,
            nodes,
            unblock: "wavegate wave next".to_owned(),
        })
    }

    fn waiting_on_barrier(&self, stage: Stage, current: &StagePlan) -> WaitingOn {
        let open = self.tasks(current.stage).filter(|(_, task)| task.state != TaskState::Finished);
        let nodes: Vec<NodeId> = open.map(|(node, _)| node.clone()).collect();
        let total = self.counts(current.stage).total();
        WaitingOn {
            subject: Subject::Stage { stage },
            why: format!(
                "stage {stage} waits for stage {}: {} of {total} node(s) not finished: {}",
                current.stage,
                nodes.len(),
                listed(&nodes)
            ),
            since: self.started_at.unwrap_or_default(),
            nodes,
            unblock: format!("every node of stage {} finishes", current.stage),
        }
    }
}

const fn verb(state: TaskState) -> &'static str {
    match state {
        TaskState::Preparing => "being given its order for",
        TaskState::Scheduled
        | TaskState::Applying
        | TaskState::Finished
        | TaskState::Failed
        | TaskState::Unknown
        | TaskState::Canceled => "applying",
    }
}

fn by_itself() -> String {
    "nothing to do: it goes on by itself".to_owned()
}

fn bring_back(node: &NodeId) -> String {
    format!(
        "switch {node} on, or start its agent there: systemctl start wavegate-agent; it goes on by itself when it is back. \
         If it is gone for good: wavegate stop, then wavegate node remove {node}"
    )
}

fn failed_step(task: &Task) -> String {
    let failed = task.steps.last().and_then(|ended| Some((&ended.step, ended.outcome.error()?)));
    failed.map_or_else(String::new, |(step, error)| format!(" at step {step}: {error}"))
}

fn unblock_hold(hold: &Hold) -> String {
    match hold {
        Hold::NotRunning { status: Status::Paused } => "wavegate resume".to_owned(),
        Hold::NotRunning { status: Status::Ready } => "wavegate start".to_owned(),
        Hold::NotRunning { .. } => "nothing: the rollout has ended or is ending; start a new one".to_owned(),
        Hold::NotScheduled { .. } => "nothing to do".to_owned(),
        Hold::Barrier { stage, .. } => format!("every node of stage {stage} finishes (wavegate why)"),
        Hold::EarlierWave { .. } => "the nodes of that wave end (wavegate why)".to_owned(),
        Hold::Canary => "the canary finishes (wavegate why)".to_owned(),
        Hold::NotReleased { .. } => "wavegate wave next".to_owned(),
        Hold::Errors { .. } => {
            "lost nodes return, and failed ones are retried: wavegate retry --all-failed".to_owned()
        }
        Hold::MaxUnavailable { .. } => "a node in flight finishes, or a failed one is retried".to_owned(),
    }
}

/// At most five names, and how many more.
fn listed(nodes: &[NodeId]) -> String {
    let names: Vec<&str> = nodes.iter().take(5).map(NodeId::as_str).collect();
    match nodes.len().saturating_sub(5) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
