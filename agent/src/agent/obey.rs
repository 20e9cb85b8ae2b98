//! What the agent does with what the coordinator says: whom it believes, and which orders go into the journal.

use super::AgentError;
use super::core::{Core, Effect};
use super::skew;
use crate::causes;
use crate::journal::{AppendError, Store};
use crate::link::{FromCoordinator, KeyAsGiven, UnreadablePreview, Welcome};
use crate::worker::{Job, PreviewDone, PreviewJob};
use std::time::Duration;
use wavegate_common::journal::{Journal, Record, Verdict};
use wavegate_common::leader::Leader;
use wavegate_common::order::{TaskKey, TaskOrder};
use wavegate_common::outcome::{Preview, StepError};
use wavegate_common::plan::StepPreview;

/// Heartbeats are sent this often if the coordinator does not say.
const DEFAULT_HEARTBEAT_S: u32 = 5;
/// Previews that may wait for the worker.
const PREVIEWS: usize = 16;

impl Core {
    /// Takes what the coordinator said.
    ///
    /// # Errors
    /// [`AgentError::Journal`] if what is on disk is not known any more: only a new start can go on.
    pub(super) fn on_said(&mut self, said: FromCoordinator) -> Result<(), AgentError> {
        let version = self.session.as_ref().and_then(|open| open.welcomed.clone());
        match said {
            FromCoordinator::Welcome(welcome) => return self.welcome(&welcome),
            _ if version.is_none() => {
                tracing::warn!(
                    "the coordinator gave an order before it said who it is; the session is given up"
                );
                self.connect_again("it gave an order before it said who it is");
            }
            FromCoordinator::Order(order) => return self.on_order(&order),
            FromCoordinator::UnreadableOrder { key, what } => {
                let StepError { what, next, .. } = skew::unreadable("the order", &what, version.as_deref());
                self.refuse(key, format!("{what}; {next}"));
            }
            FromCoordinator::Acknowledged(key) => return self.acknowledged(key),
            FromCoordinator::Preview(job) => self.preview(job),
            FromCoordinator::UnreadablePreview(asked) => self.unreadable_preview(asked, version.as_deref()),
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &Welcome) -> Result<(), AgentError> {
        let Welcome { fleet, leader, version, heartbeat_interval_s } = welcome;
        if *fleet != self.fleet {
            tracing::error!(ours = %self.fleet, theirs = %fleet, "the coordinator is of another fleet; its orders are not obeyed");
            self.connect_much_later(&format!("it is of fleet {fleet}, this node of {}", self.fleet));
            return Ok(());
        }
        if let Err(apart) = skew::judge(version) {
            tracing::error!(coordinator = %self.coordinator, "the session is ended: {apart}");
            self.connect_much_later(&apart.to_string());
            return Ok(());
        }
        if let Err(why) = self.believes(*leader)? {
            self.connect_again(&why);
            return Ok(());
        }
        tracing::info!(coordinator = %self.coordinator, %leader, version, "connected");
        self.want(Effect::Status(format!("connected to {}", self.coordinator)));
        self.backoff.reset();
        let every = if *heartbeat_interval_s == 0 { DEFAULT_HEARTBEAT_S } else { *heartbeat_interval_s };
        self.want(Effect::Heartbeat { every: Duration::from_secs(every.into()) });
        if let Some(open) = &mut self.session {
            open.welcomed = Some(version.clone());
            self.journal.read(|journal| open.outbox.welcomed(journal, &self.output));
        }
        Ok(())
    }

    /// Whether a coordinator of the fleet is to be obeyed, or why not; whom the node obeys is on disk before it does.
    fn believes(&self, leader: Leader) -> Result<Result<(), String>, AgentError> {
        let coordinator = &self.coordinator;
        match self.journal.read(|journal| journal.judge_leader(leader)) {
            Ok(false) => Ok(Ok(())),
            Ok(true) => {
                let record = Record::Generation { generation: leader.generation, leader: leader.id };
                let Err(error) = self.journal.append(&record) else { return Ok(Ok(())) };
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the coordinator's generation is not recorded; dialling again"
                );
                let why = format!("its generation is not recorded: {}", causes::told(&error));
                unless_lost(error).map(|()| Err(why))
            }
            Err(refusal) => {
                tracing::error!(%coordinator, "its orders are not obeyed: {refusal}");
                Ok(Err(format!("its orders are not obeyed: {refusal}")))
            }
        }
    }

    fn on_order(&mut self, order: &TaskOrder) -> Result<(), AgentError> {
        let key = order.key.clone();
        if key.node != self.node {
            self.refuse(key, format!("this is {}, not the order's node", self.node));
            return Ok(());
        }
        match self.journal.take(order, self.host.now()) {
            Ok(Verdict::Accept) => {
                tracing::info!(task = %key, steps = order.steps.len(), "task accepted");
                self.outbox(|outbox| outbox.report(key));
                self.want(Effect::Work(Job::Advance));
            }
            Ok(Verdict::Known) => self.outbox(|outbox| outbox.report(key)),
            Ok(Verdict::Refuse(refusal)) => self.refuse(key, refusal.to_string()),
            Err(error) => {
                self.refuse(key, causes::told(&error));
                return unless_lost(error);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, key: impl Into<KeyAsGiven>, reason: String) {
        let key = key.into();
        tracing::warn!(task = %key, reason, "order refused");
        self.outbox(|outbox| outbox.refuse(key, reason));
    }

    fn acknowledged(&mut self, key: TaskKey) -> Result<(), AgentError> {
        let ended =
            |journal: &Journal| journal.task(&key).map(|task| (task.result.is_some(), task.acknowledged));
        match self.journal.read(ended) {
            Some((true, false)) => {
                // If it does not get to disk, the task is reported, and acknowledged, once more in the next session.
                if let Err(error) = self.journal.append(&Record::Acknowledged { key }) {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "an acknowledgement is not recorded"
                    );
                    return unless_lost(error);
                }
            }
            Some((true, true)) => {}
            Some((false, _)) => {
                tracing::error!(task = %key, "the end of a task that has not ended was acknowledged")
            }
            None => {
                tracing::debug!(task = %key, "the end of a task that this node has forgotten was acknowledged")
            }
        }
        Ok(())
    }

    /// Answers for every step, so that whoever plans sees why there is no preview of this node.
    fn unreadable_preview(&mut self, asked: UnreadablePreview, version: Option<&str>) {
        let UnreadablePreview { request, stage, steps, what } = asked;
        let error = skew::unreadable(&format!("the steps of stage {stage}"), &what, version);
        tracing::warn!(request, error = error.what, "a preview is not made");
        let blocked = |step| StepPreview { step, preview: Preview::Blocked { error: error.clone() } };
        let previews = steps.into_iter().map(blocked).collect();
        self.outbox(|outbox| outbox.preview(PreviewDone { request, stage, previews }));
    }

    fn preview(&mut self, job: PreviewJob) {
        if self.previews >= PREVIEWS {
            tracing::warn!(request = job.request, "too many previews wait for this node; one is not made");
            return;
        }
        self.previews += 1;
        self.want(Effect::Work(Job::Preview(job)));
    }
}

/// A journal of which nobody knows what is on disk takes no record any more, however often it is asked: the agent ends, and the
/// next one reads it again.
fn unless_lost(error: AppendError) -> Result<(), AgentError> {
    if matches!(error, AppendError::Lost { .. }) { Err(AgentError::Journal(error)) } else { Ok(()) }
}
