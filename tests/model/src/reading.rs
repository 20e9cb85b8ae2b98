//! A reading of the log of its own: what was begun, ended, held, waived and released, without asking the rollout. Against it
//! is checked what the rollout lets be recorded.

use crate::invariant::{Broken, Invariant};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::platform::{Role, Stage};
use wavegate_common::rollout::{Entry, Event, Mode, TaskRef, TaskResult};

/// What the log says.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    mode: Option<Mode>,
    paused: bool,
    stopping: bool,
    waived: BTreeSet<NodeId>,
    once_waived: BTreeSet<NodeId>,
    /// Tasks that were given out and of which no end is recorded, and whether they are lost.
    open: BTreeMap<(Stage, NodeId), bool>,
    ended: BTreeMap<(Stage, NodeId), (TaskResult, Timestamp)>,
    begun: BTreeSet<(Stage, usize)>,
    released: BTreeSet<(Stage, usize)>,
}

impl Reading {
    /// Whether it is paused, being stopped or stopped.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.paused || self.stopping
    }

    /// Whether a node is waived.
    #[must_use]
    pub fn is_waived(&self, node: &NodeId) -> bool {
        self.waived.contains(node)
    }

    /// Whether a node is waived or was: when the waiver ends, what it let happen beside the node goes on.
    #[must_use]
    pub fn was_waived(&self, node: &NodeId) -> bool {
        self.once_waived.contains(node)
    }

    /// All that it says, without moments.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { mode, paused, stopping, waived, once_waived, open, ended, begun, released } = self;
        let ended: Vec<_> = ended.iter().map(|(task, (result, _))| (task, result)).collect();
        let held = format!("{mode:?} {paused} {stopping} {waived:?} {once_waived:?}");
        format!("{held} {open:?} {ended:?} {begun:?} {released:?}")
    }

    /// Reads one more entry; says what it breaks.
    pub fn read(&mut self, entry: &Entry, plan: &Plan) -> Broken {
        let mut broken = Broken::default();
        match &entry.event {
            Event::Started { mode, .. } => self.mode = Some(*mode),
            Event::TaskStarted { task } => {
                self.ended.remove(&(task.stage, task.node.clone()));
                self.open.insert((task.stage, task.node.clone()), false);
                broken.unless(!self.holds(), Invariant::I5);
                broken.unless(self.earlier_done(task.stage, plan), Invariant::I1);
                broken.unless(self.within_limits(task, plan), Invariant::I2);
                broken.unless(task.stage != Stage::Etcd || self.member_is_alone(plan), Invariant::I3);
                broken.unless(self.may_begin(task, entry.at, plan), Invariant::Waves);
                self.begun.extend(wave_of(task, plan).map(|(_, wave)| (task.stage, wave)));
            }
            Event::TaskEnded { task, result } => {
                self.open.remove(&(task.stage, task.node.clone()));
                self.ended.insert((task.stage, task.node.clone()), (*result, entry.at));
            }
            Event::TaskRetried { task, .. } => drop(self.ended.remove(&(task.stage, task.node.clone()))),
            Event::WaveReleased { stage, wave, .. } => drop(self.released.insert((*stage, *wave))),
            Event::NodeWaived { node, .. } => {
                broken
                    .unless(!self.open.iter().any(|((_, open), lost)| open == node && !lost), Invariant::I2);
                self.waived.insert(node.clone());
                self.once_waived.insert(node.clone());
            }
            Event::WaiverEnded { node, .. } => drop(self.waived.remove(node)),
            Event::Paused { .. } => self.paused = true,
            Event::Resumed { .. } => self.paused = false,
            Event::StopRequested { .. } => self.stopping = true,
            Event::TaskLost { task } => drop(self.open.insert((task.stage, task.node.clone()), true)),
            Event::TaskReturned { task } => drop(self.open.insert((task.stage, task.node.clone()), false)),
            Event::TaskAccepted { .. }
            | Event::StepEnded { .. }
            | Event::TaskOverdue { .. }
            | Event::TaskRestarted { .. }
            | Event::Stopped
            | Event::Finished => {}
        }
        broken
    }

    fn earlier_done(&self, stage: Stage, plan: &Plan) -> bool {
        let earlier = plan.body.stages.iter().filter(|earlier| earlier.stage < stage);
        let mut tasks =
            earlier.flat_map(|earlier| earlier.tasks.keys().map(|node| (earlier.stage, node.clone())));
        tasks.all(|task| {
            let finished = matches!(self.ended.get(&task), Some((TaskResult::Finished, _)));
            finished || self.is_waived(&task.1)
        })
    }

    /// Nodes of a stage that are not waived and that work on it, are lost or failed.
    fn unavailable(&self, stage: Stage) -> usize {
        let failed = self.ended.iter().filter(|(_, (result, _))| *result == TaskResult::Failed);
        let tasks = self.open.keys().chain(failed.map(|(task, _)| task));
        tasks.filter(|(of, node)| *of == stage && !self.is_waived(node)).count()
    }

    /// Whether no member of etcd works, is lost or failed beside another node of its stage that does; a waived one counts while
    /// it works.
    fn member_is_alone(&self, plan: &Plan) -> bool {
        let open = self.open.iter().filter(|((_, node), lost)| !**lost || !self.is_waived(node));
        let failed = self
            .ended
            .iter()
            .filter(|((_, node), (result, _))| *result == TaskResult::Failed && !self.is_waived(node));
        let away = open.map(|(task, _)| task).chain(failed.map(|(task, _)| task));
        let away: Vec<&NodeId> =
            away.filter(|(stage, _)| *stage == Stage::Etcd).map(|(_, node)| node).collect();
        away.len() <= 1 || !away.iter().any(|node| is_member(node, plan))
    }

    /// Whether a stage is within its limit, and at work on one group alone, with this task given out.
    fn within_limits(&self, task: &TaskRef, plan: &Plan) -> bool {
        let Some(planned) = plan.stage(task.stage) else { return false };
        let at_work = self.open.keys().filter(|(stage, node)| *stage == task.stage && !self.is_waived(node));
        let groups: BTreeSet<_> = at_work.filter_map(|(_, node)| planned.groups.get(node)).collect();
        self.unavailable(task.stage) <= planned.limits.max_unavailable as usize && groups.len() <= 1
    }

    /// Whether the waves before a task's are over and, if it is the first of its wave, an operator let that begin or what
    /// was done before it has rested.
    fn may_begin(&self, task: &TaskRef, now: Timestamp, plan: &Plan) -> bool {
        let Some((planned, wave)) = wave_of(task, plan) else { return false };
        let over = |at: usize, node: &NodeId| match self.ended.get(&(task.stage, node.clone())) {
            Some((TaskResult::Finished, _)) => true,
            Some((TaskResult::Failed, _)) => !is_canary(planned, at, plan) || self.is_waived(node),
            None => self.is_waived(node),
        };
        let mut before = planned.waves.iter().enumerate().take(wave);
        if !before.all(|(at, nodes)| nodes.iter().all(|node| over(at, node))) {
            return false;
        }
        if self.begun.contains(&(task.stage, wave)) || self.released.contains(&(task.stage, wave)) {
            return true;
        }
        let manual = self.mode == Some(Mode::Manual) || planned.limits.start == Mode::Manual;
        !manual && self.rested(planned, wave, now, plan)
    }

    fn rested(&self, planned: &StagePlan, wave: usize, now: Timestamp, plan: &Plan) -> bool {
        let earlier = plan
            .body
            .stages
            .iter()
            .rfind(|earlier| earlier.stage < planned.stage && !earlier.waves.is_empty());
        let (of, waves) = match (wave, earlier) {
            (0, None) => return true,
            (0, Some(earlier)) => (earlier, earlier.waves.len()),
            (wave, _) => (planned, wave),
        };
        let nodes = of.waves.iter().take(waves).flatten();
        let ends = nodes.filter_map(|node| self.ended.get(&(of.stage, node.clone())));
        ends.into_iter().all(|(_, at)| now.millis_since(*at) >= of.limits.soak_s * 1000)
    }
}

fn is_member(node: &NodeId, plan: &Plan) -> bool {
    plan.body.nodes.get(node).is_some_and(|planned| planned.roles.contains(&Role::EtcdMember))
}

/// The first wave of a stage, and in stage etcd the first without a member after one with.
fn is_canary(planned: &StagePlan, wave: usize, plan: &Plan) -> bool {
    let has_member = |wave: &Vec<NodeId>| wave.iter().any(|node| is_member(node, plan));
    let members: Vec<bool> = planned.waves.iter().map(has_member).collect();
    wave == 0 || (planned.stage == Stage::Etcd && members[wave - 1] && !members[wave])
}

fn wave_of<'a>(task: &TaskRef, plan: &'a Plan) -> Option<(&'a StagePlan, usize)> {
    let planned = plan.stage(task.stage)?;
    Some((planned, planned.waves.iter().position(|wave| wave.contains(&task.node))?))
}
