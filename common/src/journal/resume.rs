//! What the agent does next, by its journal alone: after an order, after a step, after a crash.

use super::Journal;
use crate::id::Generation;
use crate::order::{TaskKey, TaskOrder};
use crate::rollout::TaskResult;

/// What the agent does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// No task is open.
    Idle,
    /// Look at this step of the current task, and work on it if need be.
    Step {
        /// Its index in the order.
        index: usize,
        /// Whether it was started before and did not end: somebody was killed in the middle of it.
        interrupted: bool,
    },
    /// No step is left: the task has this result.
    End {
        /// The result.
        result: TaskResult,
    },
}

/// What an order means to this journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: record it, then begin.
    Accept,
    /// It is known: report what the journal has of it.
    Known,
    /// It is not obeyed.
    Refuse(Refusal),
}

/// Why an order is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It comes from a coordinator that has been replaced.
    #[error(
        "order of generation {order}, but generation {seen} was seen: it comes from a coordinator that has been replaced"
    )]
    OldGeneration {
        /// The order's.
        order: Generation,
        /// The highest seen.
        seen: Generation,
    },
    /// A later attempt at the same task is known.
    #[error("a later attempt is known ({known})")]
    OldAttempt {
        /// The later attempt.
        known: TaskKey,
    },
    /// Another task is open.
    #[error("this node is still busy with {current}")]
    Busy {
        /// The open task.
        current: TaskKey,
    },
}

impl Journal {
    /// What the agent does next.
    #[must_use]
    pub fn next(&self) -> Next {
        let Some(task) = self.current().filter(|task| task.result.is_none()) else { return Next::Idle };
        match task.next_step() {
            Some(index) => Next::Step { index, interrupted: task.started.is_some() },
            None if task.steps.len() == task.order.steps.len() && !task.failed() => {
                Next::End { result: TaskResult::Finished }
            }
            None => Next::End { result: TaskResult::Failed },
        }
    }

    /// What an order means to this journal. An order is never obeyed twice, nor out of its generation.
    #[must_use]
    pub fn judge(&self, order: &TaskOrder) -> Verdict {
        if order.generation < self.generation() {
            return Verdict::Refuse(Refusal::OldGeneration {
                order: order.generation,
                seen: self.generation(),
            });
        }
        if self.task(&order.key).is_some() {
            return Verdict::Known;
        }
        let same_task = |key: &TaskKey| {
            (&key.rollout, &key.plan, key.stage) == (&order.key.rollout, &order.key.plan, order.key.stage)
        };
        let keys = self.current().into_iter().chain(self.ended()).map(|task| &task.order.key);
        if let Some(known) = keys.filter(|key| same_task(key)).find(|key| key.attempt > order.key.attempt) {
            return Verdict::Refuse(Refusal::OldAttempt { known: known.clone() });
        }
        match self.current() {
            Some(task) if task.result.is_none() => {
                Verdict::Refuse(Refusal::Busy { current: task.order.key.clone() })
            }
            _ => Verdict::Accept,
        }
    }
}

impl super::TaskInJournal {
    pub(super) fn failed(&self) -> bool {
        self.steps.last().is_some_and(|step| step.outcome.error().is_some())
    }
}
