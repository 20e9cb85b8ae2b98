//! The log read by a second pair of eyes: what it must not say, found out without the code that wrote it.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::{NodeId, Timestamp};
use wavegate_common::plan::{Plan, StagePlan};
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Entry, Event, TaskRef, TaskResult};

type Task = (Stage, NodeId);

/// What the log said so far.
#[derive(Default)]
pub struct Read {
    finished: BTreeSet<Task>,
    at_work: BTreeSet<Task>,
    tried: BTreeSet<Task>,
    ended_at: BTreeMap<Task, Timestamp>,
    waived: BTreeSet<NodeId>,
    released: BTreeSet<(Stage, usize)>,
    stopping: bool,
    paused: bool,
}

impl Read {
    pub fn entry(&mut self, plan: &Plan, entry: &Entry) -> Result<(), TestCaseError> {
        match &entry.event {
            Event::TaskStarted { task } => self.start(plan, task, entry.at)?,
            Event::TaskEnded { task, result } => {
                if *result == TaskResult::Finished {
                    self.finished.insert(of(task));
                }
                self.at_work.remove(&of(task));
                self.ended_at.insert(of(task), entry.at);
            }
            Event::TaskRetried { task, .. } => drop(self.ended_at.insert(of(task), entry.at)),
            Event::NodeWaived { node, .. } => drop(self.waived.insert(node.clone())),
            Event::WaiverEnded { node, .. } => drop(self.waived.remove(node)),
            Event::WaveReleased { stage, wave, .. } => drop(self.released.insert((*stage, *wave))),
            Event::StopRequested { .. } => self.stopping = true,
            Event::Paused { .. } => self.paused = true,
            Event::Resumed { .. } => self.paused = false,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, plan: &Plan, task: &TaskRef, at: Timestamp) -> Result<(), TestCaseError> {
        prop_assert!(!self.stopping && !self.paused, "I5");
        prop_assert!(!self.waived.contains(&task.node), "{} is waived and was given out", task.node);
        for earlier in plan.body.stages.iter().filter(|stage| stage.stage < task.stage) {
            for node in earlier.tasks.keys() {
                let settled =
                    self.waived.contains(node) || self.finished.contains(&(earlier.stage, node.clone()));
                prop_assert!(settled, "I1");
            }
        }
        let planned = plan.stage(task.stage).expect("a stage");
        self.one_group(planned, task)?;
        self.rested(plan, planned, task, at)?;
        self.at_work.insert(of(task));
        self.tried.insert(of(task));
        Ok(())
    }

    fn one_group(&self, planned: &StagePlan, task: &TaskRef) -> Result<(), TestCaseError> {
        let group = planned.groups.get(&task.node);
        for (stage, other) in self.at_work.iter().filter(|(stage, _)| *stage == task.stage) {
            let same = planned.groups.get(other) == group || self.waived.contains(other);
            prop_assert!(same, "{} of {stage} is at work beside {}, of another group", other, task.node);
        }
        Ok(())
    }

    /// A wave begins no sooner than its soak time after the last end of what was tried before it, or when somebody says so.
    fn rested(
        &self,
        plan: &Plan,
        planned: &StagePlan,
        task: &TaskRef,
        at: Timestamp,
    ) -> Result<(), TestCaseError> {
        let wave = planned.waves.iter().position(|wave| wave.contains(&task.node)).expect("a wave");
        let begun = planned.waves[wave].iter().any(|node| self.tried.contains(&(task.stage, node.clone())));
        if begun || self.released.contains(&(task.stage, wave)) {
            return Ok(());
        }
        let (before, nodes): (&StagePlan, Vec<&NodeId>) = if wave > 0 {
            (planned, planned.waves[..wave].iter().flatten().collect())
        } else {
            let mut earlier = plan.body.stages.iter().filter(|stage| stage.stage < task.stage);
            let Some(last) = earlier.rfind(|stage| !stage.tasks.is_empty()) else {
                return Ok(());
            };
            (last, last.tasks.keys().collect())
        };
        let ended =
            nodes.into_iter().filter_map(|node| self.ended_at.get(&(before.stage, node.clone()))).max();
        if let Some(ended) = ended {
            let rested = at.millis_since(*ended);
            prop_assert!(
                rested >= before.limits.soak_s * 1000,
                "wave {wave} of {} rested {rested} ms",
                task.stage
            );
        }
        Ok(())
    }
}

fn of(task: &TaskRef) -> Task {
    (task.stage, task.node.clone())
}
