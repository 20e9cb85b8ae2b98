//! Which task the loop knows to have gone on: until it has said so, it need not be told again, and a task of many short steps does not
//! wake it for each of their records. How a task stands is in the journal, never here.

use crate::worker::Told;
use std::sync::{Mutex, PoisonError};
use wavegate_common::order::TaskKey;

/// The task that the worker has told to go on since the last message was made, if it has.
///
/// As long as one is kept, a report of it is still to be made from the journal: the event is on its way to the loop, or the report is
/// in the outbox, or there is no session, and the next one begins with a report of every open task.
#[derive(Debug, Default)]
pub(super) struct Announced(Mutex<Option<TaskKey>>);

impl Announced {
    /// Whether the loop knows this already. That a task has ended is always told: it does not wait as the rest does.
    pub(super) fn has(&self, told: &Told) -> bool {
        let Told::Recorded(key) = told else { return false };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.replace(key.clone()).is_some_and(|known| known == *key)
    }

    /// A message is about to be made. To be called before the journal is read for it: what is recorded later is told again.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wavegate_common::id::{NodeId, PlanId, RolloutId};
    use wavegate_common::platform::Stage;

    fn key(attempt: u32) -> TaskKey {
        let (rollout, plan) = (RolloutId::new("r1").expect("an id"), PlanId::new("p1").expect("an id"));
        let node = NodeId::new("n1").expect("a name");
        TaskKey { rollout, plan, stage: Stage::Compute, node, attempt }
    }

    #[test]
    fn a_task_that_goes_on_is_told_once_a_message_and_its_end_always() {
        let announced = Announced::default();
        let has = |attempt| announced.has(&Told::Recorded(key(attempt)));
        assert!(!has(1) && has(1) && has(1));
        assert!(!announced.has(&Told::TaskEnded(key(1))), "its end does not wait");
        assert!(!announced.has(&Told::StandsStill(None)));
        assert!(!has(2), "another task");
        assert!(has(2));
        announced.forget();
        assert!(!has(2), "the message before may have been made without it");
    }
}
