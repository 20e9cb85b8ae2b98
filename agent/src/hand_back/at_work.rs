//! How far a hand-back is, by the journal alone, and what is still at work on the node.

use crate::journal::lines::Reading;
use crate::output;
use std::fmt;
use std::path::Path;
use wavegate_common::action::Action;
use wavegate_common::id::{StepId, Timestamp};
use wavegate_common::journal::{Journal, TaskInJournal};
use wavegate_common::order::{TaskKey, Work};

/// How the last task of a journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// There is none, or the coordinator has its end.
    Idle,
    /// It has ended, and the coordinator does not know that yet.
    Untold,
    /// It has not ended.
    Open,
}

impl Stand {
    pub(super) fn of(journal: &Journal) -> Self {
        match journal.current() {
            Some(task) if task.result.is_none() => Self::Open,
            Some(task) if !task.acknowledged => Self::Untold,
            Some(_) | None => Self::Idle,
        }
    }
}

/// What keeps an agent from being handed back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtWork {
    key: TaskKey,
    step: Option<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    id: StepId,
    title: String,
    action: &'static str,
    needs_packages: bool,
    since: Option<Timestamp>,
    /// The last that it printed.
    says: Option<String>,
}

impl AtWork {
    pub(super) fn of(task: &TaskInJournal, reading: &Reading, state_directory: &Path) -> Self {
        let key = task.order.key.clone();
        let begun = task.started.as_ref().and_then(|id| task.order.steps.iter().find(|step| step.id == *id));
        let step = begun.map(|step| Step {
            id: step.id.clone(),
            title: step.title.clone(),
            action: match &step.work {
                Work::Run { action, .. } => action.name(),
                Work::Skip { .. } => "skip",
            },
            needs_packages: matches!(
                step.work,
                Work::Run { action: Action::PackageInstall(_) | Action::EtcdInstallPackages(_), .. }
            ),
            since: reading.started_at,
            says: output::last_line(state_directory, &key, &step.id),
        });
        Self { key, step }
    }

    /// Whether a step is at work that can't end while somebody else has the package manager's lock.
    pub(super) fn needs_packages(&self) -> bool {
        self.step.as_ref().is_some_and(|step| step.needs_packages)
    }

    /// Whether it is the same work as before, whatever it printed since.
    pub(super) fn is_still(&self, before: &Self) -> bool {
        let id = |at_work: &Self| at_work.step.as_ref().map(|step| step.id.clone());
        self.key == before.key && id(self) == id(before)
    }
}

/// `step install (package.install, 'Install Calico's packages') of r1 compute n1 attempt 1, begun at 2026-11-22T20:00:00Z; its
/// last word: waiting for apt-get (pid 12), which holds /var/lib/dpkg/lock`.
impl fmt::Display for AtWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Step { id, title, action, since, says, .. }) = &self.step else {
            return write!(f, "{}, no step of which is begun at the moment", self.key);
        };
        write!(f, "step {id} ({action}, '{title}') of {}", self.key)?;
        if let Some(since) = since {
            write!(f, ", begun at {}", since.utc())?;
        }
        match says {
            Some(says) => write!(f, "; its last word: {says}"),
            None => Ok(()),
        }
    }
}
