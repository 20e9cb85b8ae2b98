//! What `wavegate-agent hand-back` prints when it is done: JSON for programs, lines for people.

use serde::Serialize;
use std::path::{Path, PathBuf};
use wavegate_common::id::StepId;
use wavegate_common::journal::TaskInJournal;
use wavegate_common::order::TaskKey;
use wavegate_common::rollout::TaskResult;

/// An agent that was handed back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HandedBack {
    /// Where the agent's journal was looked for.
    state_directory: PathBuf,
    /// Whether there is a journal.
    journal: bool,
    /// The task that was waited for; `None` if there was none.
    task: Option<Ended>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Ended {
    key: TaskKey,
    result: TaskResult,
    /// The step that failed, or was not begun any more.
    failed_step: Option<FailedStep>,
    /// Whether the coordinator has the end in its log.
    acknowledged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FailedStep {
    id: StepId,
    what: String,
    next: String,
}

impl HandedBack {
    /// There was nothing to wait for.
    pub(super) fn nothing(state_directory: &Path, journal: bool) -> Self {
        Self { state_directory: state_directory.to_owned(), journal, task: None }
    }

    pub(super) fn of(state_directory: &Path, task: &TaskInJournal) -> Self {
        let failed = task.steps.last().and_then(|step| {
            let error = step.outcome.error()?;
            Some(FailedStep { id: step.step.clone(), what: error.what.clone(), next: error.next.clone() })
        });
        let ended = task.result.map(|result| Ended {
            key: task.order.key.clone(),
            result,
            failed_step: failed,
            acknowledged: task.acknowledged,
        });
        Self { state_directory: state_directory.to_owned(), journal: true, task: ended }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Some(Ended { key, result, failed_step, acknowledged }) = &self.task else {
            let directory = self.state_directory.display();
            return if self.journal {
                format!("No task is open on this node, by the journal in {directory}.\n")
            } else {
                format!("No task is open on this node: there is no journal in {directory}.\n")
            };
        };
        let ended = match (result, failed_step) {
            (TaskResult::Finished, _) => format!("{key} is finished."),
            (TaskResult::Failed, None) => format!("{key} has failed."),
            (TaskResult::Failed, Some(FailedStep { id, what, next })) => {
                format!("{key} has ended at step {id}: {what}\n  next: {next}")
            }
        };
        let told = if *acknowledged {
            "The coordinator has it in its log."
        } else {
            "The coordinator was not told: it takes this node for lost until an agent runs here again."
        };
        format!("Handed back: {ended}\n{told}\n")
    }
}
