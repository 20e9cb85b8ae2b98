//! What is noted of a transaction before it begins, so that whoever comes after a crash can tell what it changed, take away
//! what was put in place for its time, and start again what must run. One note a node: a step that was given up is found
//! by the next one.

use crate::action::{Context, failed};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;

/// Versions of packages; `None` for one that is not installed.
pub(super) type Snapshot = BTreeMap<String, Option<String>>;

/// The note's name.
const NOTE: &str = "package.install";

/// A step's transactions and everything around them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Undertaking {
    /// The name of the step's transactions.
    pub(super) transaction: String,
    /// When it began.
    pub(super) began: Timestamp,
    /// Versions before.
    pub(super) before: Snapshot,
    /// Services that ran before, and are to run afterwards.
    pub(super) running: BTreeSet<String>,
    /// Services that were down before, and that the transaction must not start.
    pub(super) held: BTreeSet<String>,
    /// Those of them that are kept down by a mask of ours.
    pub(super) masked: BTreeSet<String>,
    /// Whether they are kept down by a policy-rc.d of ours.
    pub(super) policy: bool,
    /// Timers that are stopped for its time.
    pub(super) timers: BTreeSet<String>,
}

impl Undertaking {
    /// What was noted; `None` if nothing is under way.
    ///
    /// # Errors
    /// [`StepError`] if the note can't be read.
    pub(super) fn noted(cx: &Context<'_>) -> Result<Option<Self>, StepError> {
        let next = "see why the notes in the agent's state directory can't be read, then retry";
        let Some(note) = cx.host.note(NOTE).map_err(|error| failed(&error, next))? else { return Ok(None) };
        serde_json::from_str(&note).map(Some).map_err(|error| failed(&error, next))
    }

    /// Notes it.
    ///
    /// # Errors
    /// [`StepError`] if the note can't be written.
    pub(super) fn note(&self, cx: &Context<'_>) -> Result<(), StepError> {
        let next = "make room in the agent's state directory, then retry";
        let text = serde_json::to_string(self).map_err(|error| failed(&error, next))?;
        cx.host.set_note(NOTE, Some(&text)).map_err(|error| failed(&error, next))
    }

    /// Takes the note away: nothing is left to be done.
    ///
    /// # Errors
    /// [`StepError`] if it can't be removed.
    pub(super) fn forget(cx: &Context<'_>) -> Result<(), StepError> {
        let next = "see that the agent's state directory can be written, then retry";
        cx.host.set_note(NOTE, None).map_err(|error| failed(&error, next))
    }
}
