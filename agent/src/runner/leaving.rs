//! Whether a further step may be begun on a node whose agent is being taken off it. Who takes it off is `hand_back`'s business.

use crate::journal::Store;
use wavegate_common::order::TaskKey;
use wavegate_common::outcome::StepError;

/// Refuses to begin a step if the agent is leaving.
///
/// # Errors
/// [`StepError`] that says so, or that it can't be told.
pub(super) fn refuse(store: &impl Store, key: &TaskKey, title: &str) -> Result<(), StepError> {
    let node = &key.node;
    match store.is_leaving() {
        Ok(false) => Ok(()),
        Ok(true) => Err(StepError {
            what: format!(
                "the agent is being taken off this node (hand-back), so it does not begin '{title}'; the steps before it are \
                 done, nothing of this one is"
            ),
            output: Vec::new(),
            next: format!("install wavegate-agent on the node again, then: wavegate retry {node}"),
        }),
        Err(error) => Err(StepError {
            what: format!("whether the agent is being taken off this node can't be told: {error}"),
            output: Vec::new(),
            next: format!(
                "see why hand-back.lock in the agent's state directory can't be locked, then: wavegate retry {node}"
            ),
        }),
    }
}
