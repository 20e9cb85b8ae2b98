//! Actions on a machine: check, apply, verify, one file an action. What an action is, is `wavegate_common::action`.

use crate::host::Host;
use crate::os::Os;
use std::collections::BTreeSet;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::{StepId, Timestamp};
use wavegate_common::outcome::{Change, StepError};

/// What an action may use while it looks at the machine and works on it.
pub struct Context<'a> {
    /// The machine.
    pub host: &'a dyn Host,
    /// Its command lines and their output.
    pub os: &'a Os,
    /// A name for this step's transaction: the same after a crash, different for every attempt and step.
    pub transaction: String,
    /// How long the step may take.
    pub timeout: Duration,
    /// Receives output for people.
    pub output: &'a mut dyn FnMut(&str),
    /// When the steps of this stage last changed something on this node, by the journal.
    pub changed_at: &'a dyn Fn(&StepId) -> Option<Timestamp>,
    /// What earlier steps of the same preview would change; empty when the step is really run.
    pub forecast: &'a Forecast,
}

/// What earlier steps of a preview would have changed by now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Packages that would have been installed, updated or removed.
    pub packages: BTreeSet<String>,
    /// Steps that would have changed something.
    pub steps: BTreeSet<StepId>,
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Nothing to do.
    AlreadySo {
        /// Evidence, in a line.
        evidence: String,
    },
    /// Applying would change these.
    WouldChange {
        /// What would change.
        changes: Vec<Change>,
    },
}

/// What applying and verifying did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What changed, read from the machine before and after.
    pub changes: Vec<Change>,
    /// Evidence that it took, in a line.
    pub evidence: String,
}
