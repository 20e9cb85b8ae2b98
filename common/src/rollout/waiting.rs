//! Why nothing (more) happens: one type, from which CLI, log and API all take their words.

mod crowd;

use super::{Hold, Link, Observed, PauseReason, Rollout, Status, Task, TaskState, Waiver};
use crate::id::{Actor, NodeId, Timestamp};
use crate::plan::StagePlan;
use crate::platform::Stage;
use serde::{Deserialize, Serialize};

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "scope", rename_all = "lowercase")]
pub enum Subject {
    /// The whole rollout.
    Rollout,
    /// A stage.
    Stage {
        /// Which.
        stage: Stage,
    },
    /// A wave of a stage.
    Wave {
        /// Its stage.
        stage: Stage,
        /// Which, from 0.
        wave: usize,
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
    /// Who made it wait, if somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Actor>,
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
            if self.status == Status::Running {
                let why =
                    "every node of every stage is finished or waived; the end is being recorded".to_owned();
                reasons.push(self.by_itself(Subject::Rollout, why, Vec::new()));
            }
            return reasons;
        };
        let before = reasons.len();
        reasons.extend(self.waiting_on_nodes(current, observed));
        reasons.extend(self.waiting_on_begin(current, observed.now));
        if reasons.len() == before && self.status == Status::Running {
            reasons.push(self.about_to_start(current, observed));
        }
        let later = self.plan.body.stages.iter().filter(|s| s.stage > current.stage && !s.tasks.is_empty());
        reasons.extend(later.map(|stage| self.waiting_on_barrier(stage.stage, current)));
        reasons
    }

    /// What the rollout, a stage, a wave or a node waits for; empty if that is over, or not in the plan. What is said of a
    /// node is said of the first of its stages that is not finished, whatever stage is asked for.
    #[must_use]
    pub fn waiting_for(&self, subject: &Subject, observed: Observed<'_>) -> Vec<WaitingOn> {
        if self.ended() {
            return Vec::new();
        }
        match subject {
            Subject::Rollout => self.waiting(observed),
            Subject::Stage { stage } => self.waiting_for_stage(*stage, observed),
            Subject::Wave { stage, wave } => self.waiting_for_wave(*stage, *wave, observed),
            Subject::Node { node, .. } => self.waiting_for_node(node, observed).into_iter().collect(),
        }
    }

    fn waiting_for_stage(&self, stage: Stage, observed: Observed<'_>) -> Vec<WaitingOn> {
        let open = self.unsettled(stage) > 0;
        let Some(current) = self.current_stage().filter(|_| open) else { return Vec::new() };
        let mut reasons: Vec<WaitingOn> = self.waiting_on_status().into_iter().collect();
        if current.stage != stage {
            reasons.push(self.waiting_on_barrier(stage, current));
            return reasons;
        }
        let before = reasons.len();
        reasons.extend(self.waiting_on_nodes(current, observed));
        reasons.extend(self.waiting_on_begin(current, observed.now));
        if reasons.len() == before {
            reasons.push(self.about_to_start(current, observed));
        }
        reasons
    }

    fn waiting_for_wave(&self, stage: Stage, wave: usize, observed: Observed<'_>) -> Vec<WaitingOn> {
        let Some(planned) = self.plan.stage(stage) else { return Vec::new() };
        let Some(nodes) = planned.waves.get(wave) else { return Vec::new() };
        let open = |node: &&NodeId| self.task(stage, node).is_some_and(|task| !task.settled());
        if !nodes.iter().any(|node| open(&node)) {
            return Vec::new();
        }
        let mut reasons: Vec<WaitingOn> = self.waiting_on_status().into_iter().collect();
        let Some(current) = self.current_stage() else { return reasons };
        if current.stage != stage {
            reasons.push(self.waiting_on_barrier(stage, current));
            return reasons;
        }
        match self.current_wave(planned) {
            Some(at) if at < wave => reasons.push(self.waiting_on_wave(planned, wave, at)),
            Some(_) | None => {
                let begins = self.waiting_on_begin(planned, observed.now);
                reasons.extend(begins.filter(|reason| reason.subject == Subject::Wave { stage, wave }));
                let own = nodes.iter().filter(open).filter_map(|node| Some((node, self.task(stage, node)?)));
                reasons.extend(self.waiting_on_each(planned, own.collect(), observed));
            }
        }
        reasons
    }

    /// What one node waits for: its first stage that is not finished. `None` if it has no task or all are finished.
    #[must_use]
    pub fn waiting_for_node(&self, node: &NodeId, observed: Observed<'_>) -> Option<WaitingOn> {
        if self.ended() {
            return None;
        }
        let open = |stage: &&StagePlan| {
            self.task(stage.stage, node).is_some_and(|task| task.progress != TaskState::Finished)
        };
        let stage = self.plan.body.stages.iter().find(open)?;
        let task = self.task(stage.stage, node)?;
        Some(self.waiting_on_node(stage, node, task, observed))
    }

    /// The nodes of a stage that others wait for, or that wait for somebody.
    fn waiting_on_nodes(&self, current: &StagePlan, observed: Observed<'_>) -> Vec<WaitingOn> {
        let wave = self.current_wave(current);
        let mut waiting = Vec::new();
        for (index, nodes) in current.waves.iter().enumerate() {
            for node in nodes {
                let Some(task) = self.task(current.stage, node) else { continue };
                let of_interest = match task.state() {
                    TaskState::Scheduled => wave == Some(index) && !observed.link(node).is_online(),
                    TaskState::Finished | TaskState::Canceled | TaskState::Waived => false,
                    TaskState::Preparing | TaskState::Applying | TaskState::Failed | TaskState::Unknown => {
                        true
                    }
                };
                if of_interest {
                    waiting.push((node, task));
                }
            }
        }
        self.waiting_on_each(current, waiting, observed)
    }

    /// What is left to say when no node of the stage is waited for: what holds the next one, if anything does.
    fn about_to_start(&self, current: &StagePlan, observed: Observed<'_>) -> WaitingOn {
        let nodes = self.current_wave(current).and_then(|wave| current.waves.get(wave));
        let held = nodes.into_iter().flatten().find_map(|node| {
            let task = self.task(current.stage, node).filter(|task| task.state() == TaskState::Scheduled)?;
            self.may_start(current.stage, node, observed.now).err()?;
            Some(self.waiting_on_node(current, node, task, observed))
        });
        if let Some(held) = held {
            return held;
        }
        let why = format!("stage {}: the next nodes are being given their orders", current.stage);
        self.by_itself(Subject::Stage { stage: current.stage }, why, nodes.cloned().unwrap_or_default())
    }

    fn by_itself(&self, subject: Subject, why: String, nodes: Vec<NodeId>) -> WaitingOn {
        let unblock = "nothing to do: it goes on by itself".to_owned();
        WaitingOn { subject, why, since: self.status_since, nodes, by: None, unblock }
    }

    fn waiting_on_status(&self) -> Option<WaitingOn> {
        let (why, unblock) = match (self.status, &self.pause) {
            (Status::Ready, _) => ("it has not been started".to_owned(), "wavegate start".to_owned()),
            (Status::Paused, Some(PauseReason::ErrorThreshold { stage, failed, allowed })) => (
                format!("halted: {failed} node(s) failed in stage {stage}, {allowed} allowed"),
                "mend the cause (wavegate logs NODE), then: wavegate retry --all-failed && wavegate resume. A node that \
                 can't be mended now: wavegate waive NODE"
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
        let by = match &self.pause {
            Some(PauseReason::Operator { by }) => Some(by.clone()),
            Some(PauseReason::ErrorThreshold { .. }) | None => None,
        };
        let (subject, since) = (Subject::Rollout, self.status_since);
        Some(WaitingOn { subject, why, since, nodes: Vec::new(), by, unblock })
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
        if let Some(waiver) = self.waiver(node).filter(|_| task.state() == TaskState::Waived) {
            return waiting_on_waiver(name, waiver);
        }
        let (why, unblock) = match (task.progress, link) {
            (TaskState::Preparing, Link::Online { .. }) if self.status == Status::Paused => (
                format!(
                    "{node} has not confirmed its order for stage {name}, which is held while the rollout is paused"
                ),
                "wavegate resume".to_owned(),
            ),
            (TaskState::Applying, Link::Online { .. }) if task.overdue => (
                format!(
                    "{node} is applying stage {name} for longer than its steps may take together ({} min)",
                    self.limit_ms(name, node) / 60_000
                ),
                format!(
                    "see what it is at: wavegate logs {node}; if it stands still, restart its agent there, which takes the \
                     task up again: systemctl restart wavegate-agent"
                ),
            ),
            (TaskState::Preparing | TaskState::Applying, Link::Online { .. }) => (
                format!("{node} is {} stage {name}", verb(task.progress)),
                format!("nothing to do: it goes on by itself (watch: wavegate logs {node} --follow)"),
            ),
            (TaskState::Preparing | TaskState::Applying, Link::Offline { since: left }) => {
                since = left;
                let why = format!("{node} went offline while {} stage {name}", verb(task.progress));
                (why, bring_back(node))
            }
            (TaskState::Unknown, link) => {
                let why = format!(
                    "{node} was lost while applying stage {name}; what it did is unknown until it returns"
                );
                let back = "nothing to do: it is back and is being asked what it did".to_owned();
                (why, if link.is_online() { back } else { bring_back(node) })
            }
            (TaskState::Failed, _) => {
                (format!("{node} failed in stage {name}{}", failed_step(task)), after_failure(node, task))
            }
            (TaskState::Scheduled, Link::Offline { since: left }) => {
                since = left;
                (format!("{node} is offline and has not done stage {name}"), bring_back(node))
            }
            (TaskState::Scheduled, Link::Online { .. }) => match self.may_start(name, node, observed.now) {
                Ok(()) => (
                    format!("{node} is next in stage {name}"),
                    "nothing to do: it starts by itself".to_owned(),
                ),
                Err(hold) => (format!("{node} waits in stage {name}: {hold}"), unblock_hold(&hold)),
            },
            (TaskState::Finished | TaskState::Canceled | TaskState::Waived, _) => {
                (format!("{node} is {} in stage {name}", task.progress), "nothing to do".to_owned())
            }
        };
        WaitingOn {
            subject: Subject::Node { stage: name, node: node.clone() },
            why,
            since,
            nodes: vec![node.clone()],
            by: None,
            unblock,
        }
    }

    /// What holds the next wave, as far as operators and soak times go.
    fn waiting_on_begin(&self, current: &StagePlan, now: Timestamp) -> impl Iterator<Item = WaitingOn> {
        let wave = self.current_wave(current).filter(|_| self.status != Status::Stopping);
        let held = wave.and_then(|wave| Some((wave, self.may_begin(current, wave, now).err()?)));
        let stage = current.stage;
        held.into_iter().map(move |(wave, hold)| {
            let nodes = current.waves.get(wave).cloned().unwrap_or_default();
            // Where nothing of this stage was done yet, it has waited since the earlier ones ended.
            let until = self.plan().body.stages.iter().filter(|planned| planned.stage <= stage);
            let ended = until.flat_map(|planned| self.tasks(planned.stage)).map(|(_, task)| task.since).max();
            let ended = ended.unwrap_or_default();
            let (why, unblock) = match hold {
                Hold::Soaking { left_s, .. } => (
                    format!(
                        "wave {} of stage {stage} rests for {left_s} s more, so that what was done before it proves itself",
                        wave + 1
                    ),
                    "nothing to do: it begins by itself; to let it begin now: wavegate wave next".to_owned(),
                ),
                _ => (
                    format!("wave {} of stage {stage} waits for an operator", wave + 1),
                    "wavegate wave next".to_owned(),
                ),
            };
            let subject = Subject::Wave { stage, wave };
            let since = ended.max(self.started_at.unwrap_or_default());
            WaitingOn { subject, why, since, nodes, by: None, unblock }
        })
    }

    fn waiting_on_wave(&self, planned: &StagePlan, wave: usize, at: usize) -> WaitingOn {
        let stage = planned.stage;
        let open = |node: &&NodeId| self.task(stage, node).is_some_and(|task| !task.settled());
        let all = planned.waves.get(at).map(Vec::as_slice).unwrap_or_default();
        let nodes: Vec<NodeId> = all.iter().filter(open).cloned().collect();
        let why = format!(
            "wave {} of stage {stage} waits for wave {}: {} of {} node(s) not finished: {}",
            wave + 1,
            at + 1,
            nodes.len(),
            all.len(),
            listed(&nodes)
        );
        let unblock =
            format!("every node of wave {} finishes: wavegate why --stage {stage} --wave {}", at + 1, at + 1);
        let since = self.tasks(stage).filter_map(|(_, task)| task.started_at).min();
        let since = since.or(self.started_at).unwrap_or_default();
        WaitingOn { subject: Subject::Wave { stage, wave }, why, since, nodes, by: None, unblock }
    }

    fn waiting_on_barrier(&self, stage: Stage, current: &StagePlan) -> WaitingOn {
        let open = self.tasks(current.stage).filter(|(_, task)| !task.settled());
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
            by: None,
            // A member of etcd that is not done is not waived.
            unblock: match current.stage {
                Stage::Etcd => "every node of stage etcd finishes".to_owned(),
                Stage::Compute | Stage::Control => {
                    format!("every node of stage {} finishes or is waived", current.stage)
                }
            },
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
        | TaskState::Canceled
        | TaskState::Waived => "applying",
    }
}

fn waiting_on_waiver(stage: Stage, waiver: &Waiver) -> WaitingOn {
    let Waiver { node, reason, by, at, until, .. } = waiver;
    WaitingOn {
        subject: Subject::Node { stage, node: node.clone() },
        why: format!(
            "{node} is waived by {by} until {} and not waited for in stage {stage}: {reason}",
            until.utc()
        ),
        since: *at,
        nodes: vec![node.clone()],
        by: Some(by.clone()),
        unblock: format!(
            "nothing to do: it counts again when the waiver ends; to end it now: wavegate waive {node} --withdraw"
        ),
    }
}

fn bring_back(node: &NodeId) -> String {
    format!(
        "switch {node} on, or start its agent there: systemctl start wavegate-agent; it goes on by itself when it is back. \
         To go on without it: wavegate waive {node}; if it is gone for good: wavegate stop, then wavegate node remove {node}"
    )
}

/// What the failed step itself says is to be done, as the beginning of a sentence.
fn mend(task: Option<&Task>) -> &str {
    let error = task.and_then(|task| task.steps.last()?.outcome.error());
    let said = error.map(|error| error.next.trim_end_matches('.'));
    said.filter(|next| !next.is_empty()).unwrap_or("mend the cause")
}

/// That, and the verbs that follow.
fn after_failure(node: &NodeId, task: &Task) -> String {
    let mend = mend(Some(task));
    format!(
        "{mend} (wavegate logs {node}). When it is mended: wavegate retry {node} && wavegate resume; to go on without it: \
         wavegate waive {node}"
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
        Hold::Soaking { .. } => "nothing to do: it begins by itself; now: wavegate wave next".to_owned(),
        Hold::OtherGroup { node, .. } => format!("{node} ends (wavegate why {node})"),
        Hold::EtcdMember { member } => format!("{member} finishes (wavegate why {member})"),
        Hold::NotAlone { node } => format!("{node} finishes, or is waived (wavegate why {node})"),
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
