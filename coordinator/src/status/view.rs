//! The documents behind `status`, `watch` and `nodes`: what the tables show and what `--output json` prints.

use super::brief::{self, Seen};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::etcd::EtcdFacts;
use wavegate_common::facts::{Component, DhcpAgent};
use wavegate_common::id::{Actor, Generation, NodeId, PlanId, RolloutId, StepId, Timestamp};
use wavegate_common::outcome::StepError;
use wavegate_common::plan::{Limits, StagePlan};
use wavegate_common::platform::{Platform, Release, Role, Stage};
use wavegate_common::rollout::{
    Counts, EndedStep, Link, Mode, Observed, PauseReason, Rollout, StageState, Status, Task, TaskState,
    WaitingOn, Waiver,
};

/// How much of a rollout is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What fits on a screen: of a stage of many nodes only those that somebody should see.
    Brief,
    /// Every node, and every step that it has ended.
    Full,
}

/// A rollout as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// Its id.
    pub rollout: RolloutId,
    /// Its plan.
    pub plan: PlanId,
    /// The plan's procedure.
    pub procedure: String,
    /// Where it is.
    pub status: Status,
    /// Since when.
    pub since: Timestamp,
    /// Why it is paused, if it is.
    pub pause: Option<PauseReason>,
    /// Who lets its waves begin.
    pub mode: Mode,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// Who had approved its plan when it was started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<Actor>,
    /// The ids of its plan's warnings that were acknowledged when it was started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledged: Vec<String>,
    /// When this was seen.
    pub now: Timestamp,
    /// The coordinator's generation.
    pub generation: Generation,
    /// Place of the last event in the log.
    pub last_seq: u64,
    /// Its stages, in order.
    pub stages: Vec<StageStatus>,
    /// Every waiver that there was, in the order in which they were given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// Nodes that are in the fleet and not in its plan: they enrolled after it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<NodeId>,
    /// What it waits for; empty when it has ended.
    pub waiting: Vec<WaitingOn>,
}

/// A stage as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Which.
    pub stage: Stage,
    /// Where it is.
    pub state: StageState,
    /// Its limits.
    pub limits: Limits,
    /// How many nodes are where.
    pub counts: Counts,
    /// When its first task was given out.
    pub began: Option<Timestamp>,
    /// When its last task finished, once all have.
    pub ended: Option<Timestamp>,
    /// Whether failed nodes keep every other that was not tried from being begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held_by_failures: bool,
    /// Number of waves.
    pub waves: usize,
    /// The wave being worked on, from 0.
    pub wave: Option<usize>,
    /// Its nodes, in the order of the waves; where some are left out, the most pressing first.
    pub tasks: Vec<TaskStatus>,
    /// How many nodes are left out of `tasks`, and where those are: none in a document that tells all.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: Counts,
}

const fn is_none(counts: &Counts) -> bool {
    counts.total() == 0
}

/// A node in a stage as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The node.
    pub node: NodeId,
    /// Its wave, from 0.
    pub wave: usize,
    /// Where its task is.
    pub state: TaskState,
    /// Where it is as far as its node goes, if it is waived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underneath: Option<TaskState>,
    /// The attempt; 0 before the first.
    pub attempt: u32,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// When the attempt was given out.
    pub started_at: Option<Timestamp>,
    /// Whether its agent is connected.
    pub link: Link,
    /// The step being worked on, as the agent last said.
    pub step: Option<StepId>,
    /// Steps of the task.
    pub steps_total: usize,
    /// Steps that ended in this attempt, in order.
    pub steps: Vec<EndedStep>,
    /// Whether any step changed the node.
    pub changed: bool,
    /// The step that failed and why, if one did.
    pub error: Option<FailedStep>,
}

/// The step that ended a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    /// The step.
    pub step: StepId,
    /// What happened and what to do next.
    #[serde(flatten)]
    pub error: StepError,
}

/// A node of the fleet as operators see it. What its record says is not copied: of ten thousand nodes that takes longer than
/// to write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus<'a> {
    /// The node.
    pub node: NodeId,
    /// Whether its agent is connected.
    pub link: Link,
    /// What it is for; empty if the agent found nothing that Calico's procedure is about.
    pub roles: Cow<'a, BTreeSet<Role>>,
    /// What it runs on; `None` if its agent has enrolled but never connected.
    pub platform: Option<Cow<'a, Platform>>,
    /// Installed versions.
    pub versions: Cow<'a, BTreeMap<Component, String>>,
    /// OpenStack release.
    pub release: Option<Release>,
    /// Which DHCP agent is active.
    pub dhcp_agent: Option<DhcpAgent>,
    /// etcd on it, and how Calico's software on it reaches one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Cow<'a, EtcdFacts>>,
    /// The agent's version.
    pub agent_version: Option<Cow<'a, str>>,
    /// What is wrong with its agent, and what to do: it is not taken, or what it says is not understood or can't be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Cow<'a, str>>,
    /// When its facts were observed.
    pub observed_at: Option<Timestamp>,
    /// When it enrolled; `None` if it is only declared.
    pub enrolled_at: Option<Timestamp>,
    /// Whether the inventory declares it; `None` if there is no inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<bool>,
    /// What the inventory sorts it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Cow<'a, BTreeMap<String, String>>,
}

/// A rollout as operators see it now. `steps` is what agents last said they work on.
#[must_use]
pub fn rollout_status(
    rollout: &Rollout,
    observed: Observed<'_>,
    generation: Generation,
    steps: &BTreeMap<NodeId, StepId>,
    detail: Detail,
) -> RolloutStatus {
    let (status, since) = rollout.status();
    let plan = rollout.plan();
    RolloutStatus {
        rollout: rollout.id().clone(),
        plan: plan.id.clone(),
        procedure: plan.body.procedure.clone(),
        status,
        since,
        pause: rollout.pause().cloned(),
        mode: rollout.mode(),
        started_at: rollout.started_at(),
        approved_by: rollout.approved_by().to_vec(),
        acknowledged: rollout.acknowledged().to_vec(),
        now: observed.now,
        generation,
        last_seq: rollout.last_seq(),
        stages: plan
            .body
            .stages
            .iter()
            .map(|stage| stage_status(rollout, stage, observed, steps, detail))
            .collect(),
        waivers: rollout.waivers().to_vec(),
        outside: Vec::new(),
        waiting: rollout.waiting(observed),
    }
}

fn stage_status(
    rollout: &Rollout,
    stage: &StagePlan,
    observed: Observed<'_>,
    steps: &BTreeMap<NodeId, StepId>,
    detail: Detail,
) -> StageStatus {
    let (began, ended) = rollout.stage_times(stage.stage);
    let nodes =
        stage.waves.iter().enumerate().flat_map(|(wave, nodes)| nodes.iter().map(move |node| (wave, node)));
    let all: Vec<(usize, &NodeId, &Task)> =
        nodes.filter_map(|(wave, node)| Some((wave, node, rollout.task(stage.stage, node)?))).collect();
    let tell = |(wave, node, task): &(usize, &NodeId, &Task)| {
        let step = if task.in_flight() { steps.get(*node).cloned() } else { None };
        let total = stage.tasks.get(*node).map_or(0, |steps| steps.len());
        task_status(node, *wave, task, observed.link(node), step, total)
    };
    let (tasks, left_out) = match detail {
        Detail::Full => (all.iter().map(tell).collect(), Counts::default()),
        Detail::Brief => {
            let seen = |(_, node, task): &(usize, &NodeId, &Task)| Seen {
                state: task.state(),
                stuck: task.in_flight() && (task.overdue || !observed.link(node).is_online()),
                since_ms: task.since.0,
            };
            let seen: Vec<Seen> = all.iter().map(seen).collect();
            let shown = brief::shown(&seen);
            let left_out = brief::left_out(&seen, &shown);
            (shown.into_iter().filter_map(|place| all.get(place)).map(tell).collect(), left_out)
        }
    };
    StageStatus {
        stage: stage.stage,
        state: rollout.stage_state(stage),
        limits: stage.limits,
        counts: rollout.counts(stage.stage),
        began,
        ended,
        held_by_failures: rollout.is_held_by_failures(stage.stage, observed.now),
        waves: stage.waves.len(),
        wave: rollout.current_wave(stage),
        tasks,
        left_out,
    }
}

fn task_status(
    node: &NodeId,
    wave: usize,
    task: &Task,
    link: Link,
    step: Option<StepId>,
    total: usize,
) -> TaskStatus {
    let error = task.steps.last().and_then(|ended| {
        Some(FailedStep { step: ended.step.clone(), error: ended.outcome.error()?.clone() })
    });
    TaskStatus {
        node: node.clone(),
        wave,
        state: task.state(),
        underneath: (task.state() == TaskState::Waived).then_some(task.progress),
        attempt: task.attempt,
        since: task.since,
        started_at: task.started_at,
        link,
        step,
        steps_total: total,
        steps: task.steps.clone(),
        changed: task.changed(),
        error,
    }
}
