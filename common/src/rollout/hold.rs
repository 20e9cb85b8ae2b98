//! Whether a task may be given out: the barrier, the waves, the limits. `apply` refuses what this refuses, and `decide`
//! offers nothing else.

use super::{Rollout, Status, Task, TaskState};
use crate::id::{NodeId, Timestamp};
use crate::plan::StagePlan;
use crate::platform::Stage;

/// What holds a start, apart from the node's link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    /// The rollout does not run.
    #[error("the rollout is {status}")]
    NotRunning {
        /// Its status.
        status: Status,
    },
    /// The task is not waiting to be started.
    #[error("it is {state}")]
    NotScheduled {
        /// Its state.
        state: TaskState,
    },
    /// The barrier: an earlier stage is not done.
    #[error("stage {stage} is not done: {unfinished} nodes are not finished")]
    Barrier {
        /// The stage that is not done.
        stage: Stage,
        /// Its unfinished nodes.
        unfinished: usize,
    },
    /// An earlier wave has not ended.
    #[error("wave {} has not ended", wave + 1)]
    EarlierWave {
        /// The wave, from 0.
        wave: usize,
    },
    /// The canary failed or is lost: it must finish before any other node starts.
    #[error("the canary has not finished")]
    Canary,
    /// What the wave before it did is left to prove itself for a while.
    #[error("wave {} rests for {left_s} s more after what was done before it", wave + 1)]
    Soaking {
        /// The wave, from 0.
        wave: usize,
        /// Seconds, rounded up.
        left_s: u64,
    },
    /// A node of another group is worked on, and two groups never are at once.
    #[error("{node} of group {group} is being worked on, and it is of another group")]
    OtherGroup {
        /// The node that is worked on.
        node: NodeId,
        /// Its group.
        group: String,
    },
    /// An operator has not let the wave begin.
    #[error("wave {} waits for an operator", wave + 1)]
    NotReleased {
        /// The wave, from 0.
        wave: usize,
    },
    /// More nodes went wrong than may.
    #[error("{errors} nodes failed, are unknown or overdue, {allowed} allowed")]
    Errors {
        /// Failed, unknown and overdue nodes.
        errors: u32,
        /// Allowed ones.
        allowed: u32,
    },
    /// An etcd member is not back: nothing else of its stage is touched beside it.
    #[error(
        "etcd member {member} is in flight, failed or unknown, and nothing of stage etcd is begun beside it"
    )]
    EtcdMember {
        /// The member.
        member: NodeId,
    },
    /// It is an etcd member, and is worked on alone.
    #[error("it is an etcd member, and none is taken down while {node} is in flight, failed or unknown")]
    NotAlone {
        /// Another node of the stage.
        node: NodeId,
    },
    /// As many nodes are in flight, failed or unknown as may be.
    #[error("{unavailable} nodes are in flight, failed or unknown, at most {allowed} may be")]
    MaxUnavailable {
        /// Such nodes.
        unavailable: u32,
        /// Allowed ones.
        allowed: u32,
    },
}

impl Rollout {
    /// Whether a task may be given out now, as far as the rollout's own state goes (the node's link is asked apart).
    ///
    /// # Errors
    /// What holds it.
    pub fn may_start(&self, stage: Stage, node: &NodeId, now: Timestamp) -> Result<(), Hold> {
        if self.status != Status::Running {
            return Err(Hold::NotRunning { status: self.status });
        }
        let state = self.task(stage, node).map_or(TaskState::Canceled, Task::state);
        if state != TaskState::Scheduled {
            return Err(Hold::NotScheduled { state });
        }
        self.barrier(stage)?;
        let Some(planned) = self.plan().stage(stage) else { return Err(Hold::NotScheduled { state }) };
        let wave = planned.waves.iter().position(|wave| wave.contains(node)).unwrap_or(planned.waves.len());
        self.earlier_waves(planned, wave)?;
        self.may_begin(planned, wave, now)?;
        self.one_group(planned, node)?;
        self.one_member(planned, node)?;
        self.within_limits(planned)
    }

    /// I1: no task of a stage before every task of every earlier stage is finished or waived.
    fn barrier(&self, stage: Stage) -> Result<(), Hold> {
        for earlier in self.plan().body.stages.iter().filter(|earlier| earlier.stage < stage) {
            let unfinished = self.tasks(earlier.stage).filter(|(_, task)| !task.settled()).count();
            if unfinished > 0 {
                return Err(Hold::Barrier { stage: earlier.stage, unfinished });
            }
        }
        Ok(())
    }

    fn earlier_waves(&self, planned: &StagePlan, wave: usize) -> Result<(), Hold> {
        for (index, earlier) in planned.waves.iter().enumerate().take(wave) {
            if self.wave_is_over(planned, index) {
                continue;
            }
            let canary = |node: &NodeId| self.task(planned.stage, node).map(Task::state);
            let gone_wrong = |state| matches!(state, Some(TaskState::Failed | TaskState::Unknown));
            if self.is_canary(planned, index) && earlier.iter().any(|node| gone_wrong(canary(node))) {
                return Err(Hold::Canary);
            }
            return Err(Hold::EarlierWave { wave: index });
        }
        Ok(())
    }

    /// Whether a wave may begin when those before it have ended: an operator's word goes before any soak time. A wave of
    /// which a node was tried already has begun.
    pub(super) fn may_begin(&self, planned: &StagePlan, wave: usize, now: Timestamp) -> Result<(), Hold> {
        let tried = |node: &NodeId| self.task(planned.stage, node).is_some_and(|task| task.attempt > 0);
        let begun = planned.waves.get(wave).is_some_and(|nodes| nodes.iter().any(tried));
        if begun || self.is_released(planned.stage, wave) {
            return Ok(());
        }
        if self.is_manual(planned) {
            return Err(Hold::NotReleased { wave });
        }
        match self.soaks_until(planned.stage, wave) {
            Some(until) if until > now => {
                Err(Hold::Soaking { wave, left_s: until.millis_since(now).div_ceil(1000) })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Nodes of two groups are never worked on at once, also when one of an earlier wave is tried again. Whether a lost node
    /// is at work is not known, so it counts unless it is waived; one that is back and at work counts also then.
    fn one_group(&self, planned: &StagePlan, node: &NodeId) -> Result<(), Hold> {
        let Some(group) = planned.groups.get(node) else { return Ok(()) };
        let at_work = |task: &Task| task.in_flight() || task.state() == TaskState::Unknown;
        let mut others =
            self.tasks(planned.stage).filter(|(_, task)| at_work(task)).filter_map(|(other, _)| {
                Some((other, planned.groups.get(other)?)).filter(|(_, other)| *other != group)
            });
        match others.next() {
            Some((node, group)) => Err(Hold::OtherGroup { node: node.clone(), group: group.clone() }),
            None => Ok(()),
        }
    }

    /// I3: in stage etcd a member is worked on alone, and beside one that may be down nothing else is begun: it would take the
    /// quorum, or the endpoints that the clients are left with.
    fn one_member(&self, planned: &StagePlan, node: &NodeId) -> Result<(), Hold> {
        let down =
            |task: &Task| task.in_flight() || matches!(task.state(), TaskState::Unknown | TaskState::Failed);
        let away = || self.tasks(planned.stage).filter(|(_, task)| down(task)).map(|(node, _)| node.clone());
        if let Some(member) = away().find(|node| self.is_alone(planned.stage, node)) {
            return Err(Hold::EtcdMember { member });
        }
        match away().next() {
            Some(other) if self.is_alone(planned.stage, node) => Err(Hold::NotAlone { node: other }),
            Some(_) | None => Ok(()),
        }
    }

    /// Nodes that count against the limit: in stage etcd also waived ones that are back and at work.
    pub(super) fn unavailable(&self, planned: &StagePlan) -> u32 {
        let waived = self.tasks(planned.stage).filter(|(_, task)| task.waived && task.in_flight()).count();
        let at_work =
            if planned.stage == Stage::Etcd { u32::try_from(waived).unwrap_or(u32::MAX) } else { 0 };
        self.counts(planned.stage).unavailable() + at_work
    }

    /// I2 and I3: how many nodes may be worked on, and how many may have gone wrong.
    fn within_limits(&self, planned: &StagePlan) -> Result<(), Hold> {
        let counts = self.counts(planned.stage);
        let overdue = self.tasks(planned.stage).filter(|(_, task)| task.is_overdue()).count();
        let overdue = u32::try_from(overdue).unwrap_or(u32::MAX);
        let (errors, allowed) = (counts.failed + counts.unknown + overdue, planned.limits.errors_allowed);
        if errors > allowed {
            return Err(Hold::Errors { errors, allowed });
        }
        let (unavailable, allowed) = (self.unavailable(planned), self.at_once(planned));
        if unavailable >= allowed {
            return Err(Hold::MaxUnavailable { unavailable, allowed });
        }
        Ok(())
    }

    /// How many nodes of a stage may be unavailable now. Where a canary was waived nothing has been tried yet: the nodes after
    /// it begin as few at a time as it was to, until one has finished.
    pub(super) fn at_once(&self, planned: &StagePlan) -> u32 {
        let most = planned.limits.max_unavailable;
        let Some(wave) = self.current_wave(planned) else { return most };
        let canary = (0..=wave).rfind(|wave| self.is_canary(planned, *wave)).unwrap_or(0);
        let finished = |node: &NodeId| {
            self.task(planned.stage, node).is_some_and(|task| task.progress == TaskState::Finished)
        };
        if wave > canary && !planned.waves.iter().skip(canary).flatten().any(finished) {
            return most.min(planned.limits.canary);
        }
        most
    }

    /// Whether a node of a stage is worked on alone: an etcd member, in stage etcd.
    pub(super) fn is_alone(&self, stage: Stage, node: &NodeId) -> bool {
        stage == Stage::Etcd && self.plan().is_etcd_member(node)
    }

    /// Whether a wave is tried before all that follows: the first of a stage, and in stage etcd also the first of those that
    /// are no members, after the members. It is over when all of it has finished, not when it has failed.
    pub(super) fn is_canary(&self, planned: &StagePlan, wave: usize) -> bool {
        let members = |wave: &Vec<NodeId>| wave.iter().any(|node| self.is_alone(planned.stage, node));
        match wave.checked_sub(1).map(|before| (planned.waves.get(before), planned.waves.get(wave))) {
            None => true,
            Some((Some(before), Some(own))) => members(before) && !members(own),
            Some(_) => false,
        }
    }

    /// Whether failed nodes alone keep every node of a stage that was not tried from being begun: nothing more happens in it
    /// until an operator acts, or a lost node is back.
    #[must_use]
    pub fn is_held_by_failures(&self, stage: Stage, now: Timestamp) -> bool {
        let scheduled = self.tasks(stage).filter(|(_, task)| task.state() == TaskState::Scheduled);
        let mut by_failures = false;
        for (node, _) in scheduled {
            match self.may_start(stage, node, now) {
                Ok(()) => return false,
                Err(
                    Hold::Canary
                    | Hold::EtcdMember { .. }
                    | Hold::NotAlone { .. }
                    | Hold::Errors { .. }
                    | Hold::MaxUnavailable { .. },
                ) => by_failures = true,
                Err(
                    Hold::NotRunning { .. }
                    | Hold::NotScheduled { .. }
                    | Hold::Barrier { .. }
                    | Hold::EarlierWave { .. }
                    | Hold::Soaking { .. }
                    | Hold::OtherGroup { .. }
                    | Hold::NotReleased { .. },
                ) => {}
            }
        }
        by_failures && self.counts(stage).failed > 0
    }
}
