//! Whether a rollout has come to an end for somebody who looks on, and which. Not the rollout's own state: a halted
//! rollout has not ended, but nothing more will happen until an operator acts.

use super::exit::Exit;
use crate::status::view::{RolloutStatus, StageStatus};
use wavegate_common::rollout::{PauseReason, Status};

/// What there is no use in waiting after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every node is done.
    Finished,
    /// An operator stopped it.
    Stopped,
    /// Nodes failed; what ran has ended, and nothing starts before an operator acts.
    Failures,
}

impl Ending {
    /// The exit code.
    #[must_use]
    pub const fn exit(self) -> Exit {
        match self {
            Self::Finished => Exit::Ok,
            Self::Stopped => Exit::Stopped,
            Self::Failures => Exit::Failures,
        }
    }
}

/// The rollout's ending, if it has come to one.
#[must_use]
pub fn ending(rollout: &RolloutStatus) -> Option<Ending> {
    match rollout.status {
        Status::Finished => Some(Ending::Finished),
        Status::Stopped => Some(Ending::Stopped),
        Status::Paused => match rollout.pause {
            Some(PauseReason::ErrorThreshold { .. }) if quiet(rollout) => Some(Ending::Failures),
            _ => None,
        },
        Status::Running if quiet(rollout) => held_by_failures(rollout).then_some(Ending::Failures),
        Status::Ready | Status::Running | Status::Stopping => None,
    }
}

/// No node works, and none is expected back with news.
fn quiet(rollout: &RolloutStatus) -> bool {
    rollout.stages.iter().all(|stage| stage.counts.running + stage.counts.unknown == 0)
}

/// Failures within the threshold let later waves begin, but not the next stage; and a failed canary or etcd member, or as many
/// failures as nodes may be unavailable, let no wave begin.
fn held_by_failures(rollout: &RolloutStatus) -> bool {
    let open = |stage: &&StageStatus| stage.counts.finished + stage.counts.waived < stage.counts.total();
    let Some(stage) = rollout.stages.iter().find(open) else {
        return false;
    };
    stage.held_by_failures || (stage.counts.failed > 0 && stage.counts.not_tried == 0)
}

#[cfg(test)]
mod tests {
    use super::super::render::samples;
    use super::*;

    #[test]
    fn endings_are_told_from_states_that_go_on() {
        assert_eq!(ending(&samples::running().status(200)), None);
        assert_eq!(ending(&samples::halted().status(200)), Some(Ending::Failures));
        assert_eq!(ending(&samples::finished().status(200)), Some(Ending::Finished));
    }

    #[test]
    fn a_halt_is_no_ending_while_nodes_still_work() {
        let mut status = samples::halted().status(200);
        status.stages[1].counts.running = 1;
        assert_eq!(ending(&status), None);
    }

    #[test]
    fn a_waived_failure_holds_nothing() {
        let mut status = samples::waived().status(200);
        assert_eq!(ending(&status), Some(Ending::Failures), "it is to be resumed");
        (status.status, status.pause) = (Status::Running, None);
        assert_eq!(ending(&status), None, "the next wave may begin");
    }

    #[test]
    fn a_tolerated_failure_ends_it_when_nothing_else_can_begin() {
        let mut status = samples::halted().status(200);
        (status.status, status.pause) = (Status::Running, None);
        assert_eq!(ending(&status), None, "more may begin");
        status.stages[1].held_by_failures = true;
        assert_eq!(ending(&status), Some(Ending::Failures), "the canary failed");
        status.stages[1].held_by_failures = false;
        status.stages[1].counts.not_tried = 0;
        assert_eq!(ending(&status), Some(Ending::Failures), "every node was tried");
    }
}
