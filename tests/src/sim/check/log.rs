//! A second reading of the event log, by the rules of the design's page and not by the production fold: who is where, and
//! whether what was started might be. It is kept as the log grows.

use super::{Invariant, Violation, must};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wavegate_common::id::{NodeId, PlanId};
use wavegate_common::order::TaskKey;
use wavegate_common::plan::Plan;
use wavegate_common::platform::Stage;
use wavegate_common::rollout::{Counts, Entry, Event, TaskRef, TaskResult};

/// Where a task is, by this reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    NotTried,
    InFlight,
    Finished,
    Failed,
    Unknown,
}

#[derive(Debug, Clone)]
struct Task {
    at: At,
    attempt: u32,
    accepted: bool,
}

/// A rollout's log, read so far.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The plan that is executed.
    pub plan: Arc<Plan>,
    entries: Vec<Entry>,
    tasks: BTreeMap<(Stage, NodeId), Task>,
    waived: BTreeSet<NodeId>,
    holding: bool,
    stopping: bool,
    ended: bool,
    /// The simulation's time at which each attempt was given out.
    started: BTreeMap<(Stage, NodeId, u32), u64>,
}

impl Reading {
    /// Of the log of a rollout of this plan, before its first event.
    #[must_use]
    pub fn new(plan: Arc<Plan>) -> Self {
        let nodes = plan
            .body
            .stages
            .iter()
            .flat_map(|stage| stage.tasks.keys().map(|node| (stage.stage, node.clone())));
        let tasks =
            nodes.map(|about| (about, Task { at: At::NotTried, attempt: 0, accepted: false })).collect();
        Self {
            plan,
            entries: Vec::new(),
            tasks,
            waived: BTreeSet::new(),
            holding: true,
            stopping: false,
            ended: false,
            started: BTreeMap::new(),
        }
    }

    /// What was read so far.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether nothing may come any more.
    #[must_use]
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// When an attempt was given out, if it was.
    #[must_use]
    pub fn started_at(&self, key: &TaskKey) -> Option<u64> {
        let ours = key.plan == self.plan.id;
        self.started.get(&(key.stage, key.node.clone(), key.attempt)).copied().filter(|_| ours)
    }

    /// Whether a node does not count now.
    #[must_use]
    pub fn is_waived(&self, node: &NodeId) -> bool {
        self.waived.contains(node)
    }

    /// How many nodes of a stage may be in flight, failed or unknown.
    #[must_use]
    pub fn may_be_unavailable(&self, stage: Stage) -> usize {
        let limit = self.plan.stage(stage).map_or(0, |stage| stage.limits.max_unavailable as usize);
        if stage == Stage::Etcd { limit.min(1) } else { limit }
    }

    /// Reads one entry, recorded at a time of the simulation.
    ///
    /// # Errors
    /// [`Violation`] if it must not be in the log.
    pub fn read(&mut self, entry: &Entry, at: u64) -> Result<(), Violation> {
        let expected = self.entries.len() as u64 + 1;
        must(Invariant::LogStays, entry.seq == expected, || {
            format!("event {} where {expected} was to come", entry.seq)
        })?;
        let late = matches!(
            entry.event,
            Event::TaskReturned { .. }
                | Event::TaskRestarted { .. }
                | Event::StepEnded { .. }
                | Event::TaskEnded { .. }
        );
        // What a node did that was lost when the rollout was stopped is still told when it is back.
        must(Invariant::NothingNew, !self.ended || late, || format!("after the end: {:?}", entry.event))?;
        match &entry.event {
            Event::Started { .. } | Event::Resumed { .. } => self.holding = false,
            Event::Paused { .. } => self.holding = true,
            Event::StopRequested { .. } => (self.holding, self.stopping) = (true, true),
            Event::Stopped | Event::Finished => self.ended = true,
            Event::TaskStarted { task } => self.start(task, at)?,
            Event::TaskAccepted { task } => self.task(task)?.accepted = true,
            Event::TaskReturned { task } => {
                let known = self.task(task)?;
                (known.at, known.accepted) = (At::InFlight, true);
            }
            Event::TaskLost { task } => self.task(task)?.at = At::Unknown,
            Event::TaskEnded { task, result } => {
                self.task(task)?.at = match result {
                    TaskResult::Finished => At::Finished,
                    TaskResult::Failed => At::Failed,
                };
            }
            Event::TaskRetried { task, .. } => self.task(task)?.at = At::NotTried,
            Event::NodeWaived { node, .. } => drop(self.waived.insert(node.clone())),
            Event::WaiverEnded { node, .. } => drop(self.waived.remove(node)),
            Event::StepEnded { .. }
            | Event::TaskOverdue { .. }
            | Event::TaskRestarted { .. }
            | Event::WaveReleased { .. } => {}
        }
        if entry.event == Event::Finished {
            let left = Stage::ALL.iter().find_map(|stage| self.first_unsettled(*stage));
            must(Invariant::Barrier, left.is_none(), || format!("finished, and {left:?} is not"))?;
        }
        self.entries.push(entry.clone());
        Ok(())
    }

    fn start(&mut self, task: &TaskRef, at: u64) -> Result<(), Violation> {
        let TaskRef { stage, node, attempt } = task;
        must(Invariant::NothingNew, !self.holding && !self.stopping, || {
            format!("{node} was given stage {stage} while the rollout did not run")
        })?;
        for earlier in Stage::ALL.iter().filter(|earlier| *earlier < stage) {
            let open = self.first_unsettled(*earlier);
            must(Invariant::Barrier, open.is_none(), || {
                format!("{node} was given stage {stage} while {open:?} was not finished")
            })?;
        }
        let waived = self.waived.contains(node);
        let known = self.task(&TaskRef { attempt: attempt.saturating_sub(1), ..task.clone() })?;
        let fresh = known.at == At::NotTried && !waived;
        must(Invariant::NothingNew, fresh, || format!("{node} was given stage {stage} twice, or is waived"))?;
        *known = Task { at: At::InFlight, attempt: *attempt, accepted: false };
        self.started.insert((*stage, node.clone(), *attempt), at);
        let (unavailable, allowed) = (self.unavailable(*stage), self.may_be_unavailable(*stage));
        let invariant = if *stage == Stage::Etcd { Invariant::OneMember } else { Invariant::Unavailable };
        must(invariant, unavailable <= allowed, || {
            format!(
                "{unavailable} nodes of stage {stage} in flight, failed or unknown with {node}; {allowed} may be"
            )
        })
    }

    /// Whether an order may be sent now: its attempt is in the log, and a node that may not have had it gets it only while
    /// the rollout runs.
    ///
    /// # Errors
    /// [`Violation`] if not.
    pub fn sent(&self, key: &TaskKey) -> Result<(), Violation> {
        must(Invariant::NothingNew, self.started_at(key).is_some(), || {
            format!("{key} was sent and is not in the log")
        })?;
        let task = self.tasks.get(&(key.stage, key.node.clone()));
        let open = task.is_some_and(|task| {
            task.attempt == key.attempt && (task.accepted || !self.holding) && !self.ended
        });
        must(Invariant::NothingNew, open, || format!("{key} was sent while it might not be"))
    }

    /// Whether counts are those of this reading.
    ///
    /// # Errors
    /// [`Violation`] if not.
    pub fn counted(&self, stage: Stage, counts: Counts) -> Result<(), Violation> {
        let mut ours = Counts::default();
        for ((_, node), task) in self.of(stage) {
            let part = match task.at {
                At::Finished => &mut ours.finished,
                _ if self.waived.contains(node) => &mut ours.waived,
                At::NotTried => &mut ours.not_tried,
                At::InFlight => &mut ours.running,
                At::Failed => &mut ours.failed,
                At::Unknown => &mut ours.unknown,
            };
            *part += 1;
        }
        let nodes = self.of(stage).count();
        must(Invariant::Counts, ours == counts && counts.total() as usize == nodes, || {
            format!("stage {stage} of {nodes} nodes: {counts:?} is said, the log says {ours:?}")
        })
    }

    fn of(&self, stage: Stage) -> impl Iterator<Item = (&(Stage, NodeId), &Task)> {
        self.tasks.iter().filter(move |((of, _), _)| *of == stage)
    }

    fn unavailable(&self, stage: Stage) -> usize {
        let counts = |((_, node), task): &(&(Stage, NodeId), &Task)| {
            matches!(task.at, At::InFlight | At::Failed | At::Unknown) && !self.waived.contains(node)
        };
        self.of(stage).filter(counts).count()
    }

    fn first_unsettled(&self, stage: Stage) -> Option<(Stage, NodeId)> {
        let open = |((_, node), task): &(&(Stage, NodeId), &Task)| {
            task.at != At::Finished && !self.waived.contains(node)
        };
        self.of(stage).find(open).map(|(about, _)| about.clone())
    }

    fn task(&mut self, about: &TaskRef) -> Result<&mut Task, Violation> {
        let known = self.tasks.get_mut(&(about.stage, about.node.clone()));
        let known = known.filter(|task| task.attempt == about.attempt);
        known.ok_or_else(|| Violation {
            invariant: Invariant::LogStays,
            what: format!("an event about {about:?}, which the plan or the log before it does not have"),
        })
    }
}

/// The logs of every rollout that there was, by its plan.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    readings: BTreeMap<PlanId, Reading>,
}

impl Logs {
    /// The log of a plan's rollout, begun if it was not seen before.
    pub fn of_plan(&mut self, plan: &Arc<Plan>) -> &mut Reading {
        self.readings.entry(plan.id.clone()).or_insert_with(|| Reading::new(plan.clone()))
    }

    /// The log of a plan's rollout, if there is one.
    #[must_use]
    pub fn of(&self, plan: &PlanId) -> Option<&Reading> {
        self.readings.get(plan)
    }

    /// When an attempt was given out, if it was.
    #[must_use]
    pub fn started_at(&self, key: &TaskKey) -> Option<u64> {
        self.of(&key.plan)?.started_at(key)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<&[Entry]> {
        self.readings.values().map(Reading::entries).collect()
    }

    /// How many events they have.
    #[must_use]
    pub fn events(&self) -> usize {
        self.readings.values().map(|reading| reading.entries.len()).sum()
    }
}
