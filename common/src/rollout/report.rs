//! What an agent's report means to a rollout: which events it amounts to. Reports may come twice, late or out of order.

use super::{EndedStep, Event, Rollout, TaskRef, TaskResult, TaskState};
use crate::order::TaskKey;

/// All that an agent's journal has of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which attempt at which task.
    pub key: TaskKey,
    /// Steps that ended, in order.
    pub steps: Vec<EndedStep>,
    /// How the task ended, if it has.
    pub result: Option<TaskResult>,
}

/// What a report amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reported {
    /// What is new in it, in order; each is legal when the ones before it have been applied.
    pub events: Vec<Event>,
    /// Whether the agent may stop reporting once the events are stored.
    pub acknowledge: bool,
}

/// Why a report contradicts the rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// The plan has no such task.
    #[error("{key}: the plan has no such task")]
    NoSuchTask {
        /// The task reported.
        key: TaskKey,
    },
    /// The attempt was never given out.
    #[error("{key}: only attempt {given_out} was given out")]
    NeverGivenOut {
        /// The task reported.
        key: TaskKey,
        /// The last attempt that was; 0 if none.
        given_out: u32,
    },
    /// The steps are others than those known.
    #[error("{key}: its steps differ from those it reported before")]
    OtherSteps {
        /// The task reported.
        key: TaskKey,
    },
}

impl Rollout {
    /// What a report amounts to. A report that is old, or known already, amounts to nothing.
    ///
    /// # Errors
    /// [`Contradiction`] if it can't be true; nothing may be recorded of it then.
    pub fn reported(&self, report: &Report) -> Result<Reported, Contradiction> {
        let key = &report.key;
        let known = self.task(key.stage, &key.node).filter(|_| self.is_of(key));
        let task = known.ok_or_else(|| Contradiction::NoSuchTask { key: key.clone() })?;
        if key.attempt > task.attempt || key.attempt == 0 {
            return Err(Contradiction::NeverGivenOut { key: key.clone(), given_out: task.attempt });
        }
        let about = TaskRef { stage: key.stage, node: key.node.clone(), attempt: key.attempt };
        let mut events = Vec::new();
        match task.progress {
            TaskState::Preparing => events.push(Event::TaskAccepted { task: about.clone() }),
            TaskState::Unknown => events.push(Event::TaskReturned { task: about.clone() }),
            TaskState::Applying => {}
            TaskState::Scheduled
            | TaskState::Finished
            | TaskState::Failed
            | TaskState::Canceled
            | TaskState::Waived => {
                return Ok(Reported { events, acknowledge: report.result.is_some() });
            }
        }
        if key.attempt < task.attempt {
            return Ok(Reported { events: Vec::new(), acknowledge: report.result.is_some() });
        }
        let common = task.steps.len().min(report.steps.len());
        if task.steps[..common].iter().zip(&report.steps).any(|(ours, theirs)| ours.step != theirs.step) {
            return Err(Contradiction::OtherSteps { key: key.clone() });
        }
        // No step that failed succeeds in the same attempt, nor the other way round: the journal that said so is lost.
        let failed = |ended: &EndedStep| ended.outcome.error().is_some();
        let anew = task.steps.iter().zip(&report.steps).any(|(ours, theirs)| failed(ours) != failed(theirs));
        events.extend(anew.then(|| Event::TaskRestarted { task: about.clone() }));
        let known = if anew { 0 } else { common };
        events.extend(report.steps[known..].iter().map(|ended| Event::StepEnded {
            task: about.clone(),
            step: ended.step.clone(),
            ended_at: ended.ended_at,
            outcome: ended.outcome.clone(),
        }));
        // An old report of a task that has gone on since has fewer steps and no result.
        events.extend(report.result.map(|result| Event::TaskEnded { task: about, result }));
        Ok(Reported { events, acknowledge: report.result.is_some() })
    }
}
