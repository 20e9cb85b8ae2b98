//! A look at the engine: all that questions are answered from, as it is at the end of a turn, shared and never changed. The
//! engine gives it away in no time; what is made of it (`ask`) is made on other threads.

use super::{Complaint, Engine, NotTaken, Trouble};
use crate::store::{InventoryRecord, KnownNode};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use wavegate_common::id::{Generation, NodeId, StepId, Timestamp};
use wavegate_common::rollout::{Link, Observed, Rollout, WaitingOn};

/// The engine as it was when somebody asked. Its rollout is as it is stored.
pub struct Look {
    pub(super) now: Timestamp,
    pub(super) lost_after_ms: u64,
    pub(super) generation: Generation,
    pub(super) rollout: Option<Rollout>,
    pub(super) nodes: BTreeMap<NodeId, Arc<KnownNode>>,
    pub(super) inventory: Option<Arc<InventoryRecord>>,
    pub(super) links: BTreeMap<NodeId, Link>,
    pub(super) steps: BTreeMap<NodeId, StepId>,
    pub(super) complaints: BTreeMap<NodeId, Complaint>,
    pub(super) not_taken: BTreeMap<NodeId, NotTaken>,
    pub(super) stand_still: BTreeMap<NodeId, Complaint>,
    pub(super) trouble: Option<Trouble>,
    /// The store takes long to write.
    pub(super) slow: Option<WaitingOn>,
    /// Another coordinator works with our nodes.
    pub(super) superseded: Option<WaitingOn>,
}

impl Look {
    pub(super) const fn observed(&self) -> Observed<'_> {
        Observed { now: self.now, links: &self.links, lost_after_ms: self.lost_after_ms }
    }
}

impl Engine {
    /// Looks at everything as it is now.
    #[must_use]
    pub fn look(&self) -> Look {
        Look {
            now: self.looked_at,
            lost_after_ms: self.timing.lost_after_ms,
            generation: self.generation,
            rollout: self.rollout.clone(),
            nodes: self.nodes.clone(),
            inventory: self.inventory.clone(),
            links: self.links.all().clone(),
            steps: self.steps.clone(),
            complaints: self.complaints.clone(),
            not_taken: self.not_taken.clone(),
            stand_still: self.stand_still.clone(),
            trouble: self.trouble.clone(),
            slow: self.pace.reason(&self.clock),
            superseded: self.superseded_reason(),
        }
    }

    /// Gives everybody who asks one look. Called between turns, when all that is in memory is stored.
    pub(super) fn show(&self) {
        let asking = self.audience.0.everybody();
        if asking.is_empty() {
            return;
        }
        let look = Arc::new(self.look());
        for reply in asking {
            drop(reply.send(look.clone()));
        }
    }
}

/// Who wants a look. It is no queue of inputs: nobody who asks waits behind what ten thousand agents have to say.
pub(super) struct Asking(Mutex<Option<Vec<Answer>>>);

type Answer = oneshot::Sender<Arc<Look>>;

impl Asking {
    /// Where the look will come; `None` if the engine has ended.
    pub(super) fn ask(&self) -> Option<oneshot::Receiver<Arc<Look>>> {
        let (reply, look) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?.push(reply);
        Some(look)
    }

    fn everybody(&self) -> Vec<Answer> {
        let mut asking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asking.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// The engine's end of [`Asking`]: when the engine has ended, nobody waits for a look any more.
pub(super) struct Audience(pub(super) Arc<Asking>);

impl Default for Audience {
    fn default() -> Self {
        Self(Arc::new(Asking(Mutex::new(Some(Vec::new())))))
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
