//! Whether a task may be given out: the barrier, the waves, the limits. `apply` refuses what this refuses, and `decide`
//! offers nothing else.

use super::places::Place;
use super::tally::WaveTally;
use super::tasks::StageTasks;
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
        let tasks = self.stages.get(&stage).map(AsRef::as_ref);
        let known =
            tasks.and_then(|tasks| Some((self.plan().stage(stage)?, tasks, tasks.index().place(node)?)));
        let Some((planned, tasks, place)) = known else { return Err(Hold::NotScheduled { state }) };
        let wave = tasks.index().kind(place).wave;
        self.earlier_waves(planned, wave)?;
        self.may_begin(planned, wave, now)?;
        one_group(tasks, place)?;
        one_member(tasks, place)?;
        self.within_limits(planned)
    }

    /// I1: no task of a stage before every task of every earlier stage is finished or waived.
    fn barrier(&self, stage: Stage) -> Result<(), Hold> {
        for earlier in self.plan().body.stages.iter().filter(|earlier| earlier.stage < stage) {
            let unfinished = self.unsettled(earlier.stage) as usize;
            if unfinished > 0 {
                return Err(Hold::Barrier { stage: earlier.stage, unfinished });
            }
        }
        Ok(())
    }

    fn earlier_waves(&self, planned: &StagePlan, wave: usize) -> Result<(), Hold> {
        let Some(tasks) = self.stages.get(&planned.stage) else { return Ok(()) };
        let Some(open) = tasks.current_wave().filter(|open| *open < wave) else { return Ok(()) };
        let gone_wrong = tasks.tally().wave(open).is_some_and(WaveTally::gone_wrong);
        if gone_wrong && tasks.index().is_canary(open) {
            return Err(Hold::Canary);
        }
        Err(Hold::EarlierWave { wave: open })
    }

    /// Whether a wave may begin when those before it have ended: an operator's word goes before any soak time. A wave of
    /// which a node was tried already has begun.
    pub(super) fn may_begin(&self, planned: &StagePlan, wave: usize, now: Timestamp) -> Result<(), Hold> {
        let tally = self.stages.get(&planned.stage).and_then(|tasks| tasks.tally().wave(wave));
        if tally.is_some_and(WaveTally::begun) || self.is_released(planned.stage, wave) {
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

    /// Nodes that count against the limit: in stage etcd also waived ones that are back and at work.
    pub(super) fn unavailable(&self, planned: &StagePlan) -> u32 {
        let waived = self.stages.get(&planned.stage).map_or(0, |tasks| tasks.tally().waived_in_flight);
        let at_work = if planned.stage == Stage::Etcd { waived } else { 0 };
        self.counts(planned.stage).unavailable() + at_work
    }

    /// I2 and I3: how many nodes may be worked on, and how many may have gone wrong.
    fn within_limits(&self, planned: &StagePlan) -> Result<(), Hold> {
        let counts = self.counts(planned.stage);
        let overdue = self.stages.get(&planned.stage).map_or(0, |tasks| tasks.tally().overdue);
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
        let Some(tasks) = self.stages.get(&planned.stage) else { return most };
        let Some(wave) = tasks.current_wave() else { return most };
        let section = tasks.index().section(wave);
        if wave > tasks.index().canary_of(section) && !tasks.tally().any_finished_from(section) {
            return most.min(planned.limits.canary);
        }
        most
    }

    /// Whether failed nodes alone keep every node of a stage that was not tried from being begun: nothing more happens in it
    /// until an operator acts, or a lost node is back.
    #[must_use]
    pub fn is_held_by_failures(&self, stage: Stage, now: Timestamp) -> bool {
        let kinds = self.stages.get(&stage).map(|tasks| tasks.scheduled_kinds()).unwrap_or_default();
        let mut by_failures = false;
        for node in kinds.into_values() {
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

/// Nodes of two groups are never worked on at once, also when one of an earlier wave is tried again. Whether a lost node
/// is at work is not known, so it counts unless it is waived; one that is back and at work counts also then.
fn one_group(tasks: &StageTasks, place: Place) -> Result<(), Hold> {
    let index = tasks.index();
    let other = index.group(place).and_then(|group| tasks.tally().at_work_beside(group));
    match other.and_then(|(place, group)| Some((index.node(place)?, index.group_name(group)))) {
        Some((node, group)) => Err(Hold::OtherGroup { node: node.clone(), group: group.to_owned() }),
        None => Ok(()),
    }
}

/// I3: in stage etcd a member is worked on alone, and beside one that may be down nothing else is begun: it would take the
/// quorum, or the endpoints that the clients are left with.
fn one_member(tasks: &StageTasks, place: Place) -> Result<(), Hold> {
    let (index, tally) = (tasks.index(), tasks.tally());
    let named = |place: Option<Place>| index.node(place?).cloned();
    if let Some(member) = named(tally.first_away_alone()) {
        return Err(Hold::EtcdMember { member });
    }
    match named(tally.first_away()) {
        Some(other) if index.is_alone(place) => Err(Hold::NotAlone { node: other }),
        Some(_) | None => Ok(()),
    }
}
