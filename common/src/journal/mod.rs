//! The agent's journal as a value: its records, and what they add up to. Files are the agent's business.

mod resume;

pub use resume::{Next, Refusal, Verdict};

use crate::id::{Generation, LeaderId, PlanId, RolloutId, StepId, Timestamp};
use crate::leader::Leader;
use crate::order::{TaskKey, TaskOrder};
use crate::outcome::Outcome;
use crate::platform::Stage;
use crate::rollout::{EndedStep, TaskResult};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Ended tasks that a journal remembers, so that an old order that comes late is known as such.
pub const REMEMBERED_TASKS: usize = 32;

/// One record of the journal. Each is on disk before what it says is acted upon or told to anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A coordinator of this generation was seen; orders of lower ones are not obeyed.
    Generation {
        /// The generation.
        generation: Generation,
        /// Which start of which coordinator; `None` in records from before there were leader identities.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leader: Option<LeaderId>,
    },
    /// The order was taken.
    Accepted {
        /// The order, whole.
        order: TaskOrder,
        /// When.
        at: Timestamp,
    },
    /// A step is about to be looked at and worked on.
    StepStarted {
        /// The task.
        key: TaskKey,
        /// The step.
        step: StepId,
        /// When.
        at: Timestamp,
    },
    /// A step ended.
    StepEnded {
        /// The task.
        key: TaskKey,
        /// The step.
        step: StepId,
        /// When.
        at: Timestamp,
        /// What came of it.
        outcome: Outcome,
    },
    /// The task ended.
    TaskEnded {
        /// The task.
        key: TaskKey,
        /// How.
        result: TaskResult,
        /// When.
        at: Timestamp,
    },
    /// The coordinator has the end of the task in its log.
    Acknowledged {
        /// The task.
        key: TaskKey,
    },
    /// First record of a rewritten journal: what the records before it added up to.
    Compacted {
        /// See [`Journal::changed_at`].
        changed_at: Vec<ChangedAt>,
        /// See [`Journal::ended`].
        ended: Vec<TaskInJournal>,
    },
}

/// When a step last changed the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedAt {
    /// The step's stage.
    pub stage: Stage,
    /// The step.
    pub step: StepId,
    /// When it ended.
    pub at: Timestamp,
}

/// A task as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskInJournal {
    /// The order; a copy of the task shares it.
    pub order: Arc<TaskOrder>,
    /// Steps that ended, in order.
    pub steps: Vec<EndedStep>,
    /// The step that was started and has not ended.
    pub started: Option<StepId>,
    /// Whether any of its steps was ever started, so that the node may be otherwise than before through this task.
    #[serde(default, skip_serializing_if = "is_false")]
    pub begun: bool,
    /// How the task ended, if it has.
    pub result: Option<TaskResult>,
    /// Whether the coordinator has the end.
    pub acknowledged: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(begun: &bool) -> bool {
    !*begun
}

/// Why a record does not fit the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It is about a task that is not the current one.
    #[error("record about task {found}, but the current task is {current}")]
    OtherTask {
        /// The current task, or `none`.
        current: String,
        /// The one that the record is about.
        found: Box<TaskKey>,
    },
    /// A task was accepted before the one before it ended.
    #[error("task {found} accepted while {current} has not ended")]
    Busy {
        /// The task that has not ended.
        current: Box<TaskKey>,
        /// The one accepted.
        found: Box<TaskKey>,
    },
    /// A step out of order.
    #[error("step {found} of task {key}, expected {expected}")]
    OtherStep {
        /// The task.
        key: Box<TaskKey>,
        /// The step that was to come, or `none`.
        expected: String,
        /// The one that came.
        found: StepId,
    },
}

/// What a journal adds up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Journal {
    leader: Leader,
    current: Option<TaskInJournal>,
    ended: VecDeque<TaskInJournal>,
    changed_at: BTreeMap<(Stage, StepId), Timestamp>,
}

impl Journal {
    /// The highest generation seen.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.leader.generation
    }

    /// The highest generation seen, and which start of which coordinator it was.
    #[must_use]
    pub const fn leader(&self) -> Leader {
        self.leader
    }

    /// The task that was accepted last, ended or not.
    #[must_use]
    pub const fn current(&self) -> Option<&TaskInJournal> {
        self.current.as_ref()
    }

    /// Earlier tasks, the oldest first, at most [`REMEMBERED_TASKS`].
    #[must_use]
    pub const fn ended(&self) -> &VecDeque<TaskInJournal> {
        &self.ended
    }

    /// When a step of a stage last changed this node, in whatever rollout.
    #[must_use]
    pub fn changed_at(&self, stage: Stage, step: &StepId) -> Option<Timestamp> {
        self.changed_at.get(&(stage, step.clone())).copied()
    }

    /// Whether any step of this rollout, executing this plan, was ever started on this node.
    #[must_use]
    pub fn has_begun(&self, rollout: &RolloutId, plan: &PlanId) -> bool {
        let of_it =
            |task: &&TaskInJournal| (&task.order.key.rollout, &task.order.key.plan) == (rollout, plan);
        self.current.iter().chain(&self.ended).filter(of_it).any(TaskInJournal::was_begun)
    }

    /// A task of this journal by its key.
    #[must_use]
    pub fn task(&self, key: &TaskKey) -> Option<&TaskInJournal> {
        self.current.iter().chain(self.ended.iter()).find(|task| task.order.key == *key)
    }

    /// Whether a record fits the ones before it.
    ///
    /// # Errors
    /// [`BadRecord`] if it does not.
    pub fn fits(&self, record: &Record) -> Result<(), BadRecord> {
        match record {
            Record::Accepted { order, .. } => match &self.current {
                Some(task) if task.result.is_none() => Err(BadRecord::Busy {
                    current: task.order.key.clone().into(),
                    found: order.key.clone().into(),
                }),
                _ => Ok(()),
            },
            Record::StepStarted { key, step, .. } | Record::StepEnded { key, step, .. } => {
                self.current_task(key)?.expect(step)
            }
            Record::TaskEnded { key, .. } => self.current_task(key).map(drop),
            Record::Generation { .. } | Record::Acknowledged { .. } | Record::Compacted { .. } => Ok(()),
        }
    }

    /// Adds one record.
    ///
    /// # Errors
    /// [`BadRecord`] if it does not fit; the journal is then as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), BadRecord> {
        self.fits(record)?;
        match record {
            Record::Generation { generation, leader } => self.saw(*generation, *leader),
            Record::Accepted { order, .. } => self.accept(order),
            Record::StepStarted { key, step, .. } => {
                let task = self.current_task_mut(key)?;
                task.started = Some(step.clone());
                task.begun = true;
            }
            Record::StepEnded { key, step, at, outcome } => {
                let task = self.current_task_mut(key)?;
                task.started = None;
                task.steps.push(EndedStep { step: step.clone(), ended_at: *at, outcome: outcome.clone() });
                if outcome.changed() {
                    self.changed_at.insert((key.stage, step.clone()), *at);
                }
            }
            Record::TaskEnded { key, result, .. } => self.current_task_mut(key)?.result = Some(*result),
            Record::Acknowledged { key } => {
                let all = self.current.iter_mut().chain(self.ended.iter_mut());
                for task in all.filter(|task| task.order.key == *key) {
                    task.acknowledged = true;
                }
            }
            Record::Compacted { changed_at, ended } => {
                self.changed_at = changed_at.iter().map(|c| ((c.stage, c.step.clone()), c.at)).collect();
                self.ended = ended.iter().cloned().collect();
            }
        }
        Ok(())
    }

    /// The shortest records that add up to this journal.
    #[must_use]
    pub fn compacted(&self) -> Vec<Record> {
        let changed_at = self.changed_at.iter();
        let changed_at =
            changed_at.map(|((stage, step), at)| ChangedAt { stage: *stage, step: step.clone(), at: *at });
        let mut ended: Vec<TaskInJournal> = self.ended.iter().cloned().collect();
        let Leader { generation, id } = self.leader;
        let mut records = vec![Record::Generation { generation, leader: id }];
        let mut open = Vec::new();
        match &self.current {
            Some(task) if task.result.is_some() => ended.push(task.clone()),
            Some(task) => open = task.records(),
            None => {}
        }
        records.push(Record::Compacted { changed_at: changed_at.collect(), ended });
        records.extend(open);
        records
    }

    fn saw(&mut self, generation: Generation, id: Option<LeaderId>) {
        let known = self.leader.generation;
        if generation > known || (generation == known && id.is_some()) {
            self.leader = Leader { generation, id };
        }
    }

    fn accept(&mut self, order: &TaskOrder) {
        if let Some(task) = self.current.take() {
            self.ended.push_back(task);
            while self.ended.len() > REMEMBERED_TASKS {
                self.ended.pop_front();
            }
        }
        self.saw(order.generation, None);
        self.current = Some(TaskInJournal {
            order: Arc::new(order.clone()),
            steps: Vec::new(),
            started: None,
            begun: false,
            result: None,
            acknowledged: false,
        });
    }

    fn current_task(&self, key: &TaskKey) -> Result<&TaskInJournal, BadRecord> {
        let task = self.current.as_ref();
        task.filter(|task| task.order.key == *key).ok_or_else(|| self.other_task(key))
    }

    fn current_task_mut(&mut self, key: &TaskKey) -> Result<&mut TaskInJournal, BadRecord> {
        self.current_task(key)?;
        self.current.as_mut().ok_or_else(|| unreachable!("it was just seen"))
    }

    fn other_task(&self, found: &TaskKey) -> BadRecord {
        let current = self.current.as_ref().map(|task| task.order.key.to_string());
        let current = current.unwrap_or_else(|| "none".to_owned());
        BadRecord::OtherTask { current, found: found.clone().into() }
    }
}

impl TaskInJournal {
    /// The step that has not ended; `None` after the last or a failed one.
    #[must_use]
    pub fn next_step(&self) -> Option<usize> {
        (!self.failed() && self.steps.len() < self.order.steps.len()).then_some(self.steps.len())
    }

    /// A journal that was rewritten by an agent from before `begun` was noted has the outcomes alone.
    fn was_begun(&self) -> bool {
        let worked =
            |outcome: &Outcome| matches!(outcome, Outcome::Changed { .. } | Outcome::AlreadySo { .. });
        self.begun || self.steps.iter().any(|step| worked(&step.outcome))
    }

    fn expect(&self, step: &StepId) -> Result<(), BadRecord> {
        let expected = self.next_step().map(|index| &self.order.steps[index].id);
        if expected == Some(step) && self.result.is_none() {
            return Ok(());
        }
        Err(BadRecord::OtherStep {
            key: self.order.key.clone().into(),
            expected: expected.map_or_else(|| "none".to_owned(), ToString::to_string),
            found: step.clone(),
        })
    }

    fn records(&self) -> Vec<Record> {
        let (key, at) = (&self.order.key, Timestamp::default());
        let mut records = vec![Record::Accepted { order: (*self.order).clone(), at }];
        let mut begun = self.begun;
        for ended in &self.steps {
            // Only that one was ever started matters here, and it was the first that there was something to do for.
            if begun && !matches!(ended.outcome, Outcome::Skipped { .. }) {
                records.push(Record::StepStarted { key: key.clone(), step: ended.step.clone(), at });
                begun = false;
            }
            let (step, at, outcome) = (ended.step.clone(), ended.ended_at, ended.outcome.clone());
            records.push(Record::StepEnded { key: key.clone(), step, at, outcome });
        }
        if let Some(step) = &self.started {
            records.push(Record::StepStarted { key: key.clone(), step: step.clone(), at });
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;
    use crate::order::{PlannedStep, Work};
    use crate::outcome::StepError;

    fn ids() -> (RolloutId, PlanId, StepId) {
        (
            RolloutId::new("r1").expect("an id"),
            PlanId::new("p1").expect("an id"),
            StepId::new("a").expect("an id"),
        )
    }

    /// A task whose only step failed, after it was started or before.
    fn failed(begun: bool) -> Journal {
        let ((rollout, plan, step), at) = (ids(), Timestamp(1));
        let node = NodeId::new("n1").expect("a name");
        let key = TaskKey { rollout, plan, stage: Stage::Compute, node, attempt: 1 };
        let work = Work::Skip { reason: "none".to_owned() };
        let steps = vec![PlannedStep { id: step.clone(), title: "A".to_owned(), work }];
        let order =
            TaskOrder { key: key.clone(), generation: Generation(1), planned: None, steps: steps.into() };
        let mut records = vec![Record::Accepted { order, at }];
        if begun {
            records.push(Record::StepStarted { key: key.clone(), step: step.clone(), at });
        }
        let error = StepError { what: "it broke".to_owned(), output: Vec::new(), next: "look".to_owned() };
        records.push(Record::StepEnded { key, step, at, outcome: Outcome::Failed { error } });
        fold(&records)
    }

    fn fold(records: &[Record]) -> Journal {
        let mut journal = Journal::default();
        records.iter().for_each(|record| journal.apply(record).expect("it fits"));
        journal
    }

    #[test]
    fn what_was_begun_is_known_also_when_the_journal_was_rewritten() {
        let (rollout, plan, _) = ids();
        for begun in [true, false] {
            let mut journal = failed(begun);
            assert_eq!(journal.has_begun(&rollout, &plan), begun);
            assert_eq!(fold(&journal.compacted()), journal, "while it is open");
            let key = journal.current().expect("a task").order.key.clone();
            let end = Record::TaskEnded { key, result: TaskResult::Failed, at: Timestamp(2) };
            journal.apply(&end).expect("it fits");
            assert_eq!(fold(&journal.compacted()).has_begun(&rollout, &plan), begun, "when it is over");
        }
        let other = PlanId::new("p2").expect("an id");
        assert!(!failed(true).has_begun(&rollout, &other));
    }
}
