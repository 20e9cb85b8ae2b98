//! What operators ask to be done. Each may be asked again: what is so already is said and not an error. Every one, done
//! or refused, is in the audit list.

use super::record::RecordError;
use super::start::Start;
use super::waiver::Waive;
use super::words::names;
use super::{Answer, Command, Engine, RequestError, told};
use crate::store::AuditRecord;
use wavegate_common::id::{Actor, NodeId, PlanId, RolloutId};
use wavegate_common::rollout::{Event, IllegalEvent, PauseReason, Rollout, Status, TaskRef, TaskState};

impl Engine {
    pub(super) fn command(&mut self, by: &Actor, command: &Command) -> Result<Answer, RequestError> {
        let what = describe(command);
        let done = self.audit_of(&by.0, &what, "done");
        let result = match command {
            Command::Start { plan, mode, acknowledge } => {
                self.start(&Start { plan: plan.as_ref(), mode: *mode, acknowledge }, by, &done)
            }
            Command::Pause(id) => self.pause(id.as_ref(), by, &done),
            Command::Resume(id) => self.resume(id.as_ref(), by, &done),
            Command::Stop(id) => self.stop(id.as_ref(), by, &done),
            Command::NextWave(id) => self.next_wave(id.as_ref(), by, &done),
            Command::ReleaseWave { rollout, stage, wave } => {
                self.release_wave(rollout.as_ref(), (*stage, *wave), by, &done)
            }
            Command::Retry { rollout, nodes, all_failed } => {
                self.retry(rollout.as_ref(), nodes, *all_failed, by, &done)
            }
            Command::Waive { rollout, node, reason, for_s } => {
                let rollout = rollout.as_ref();
                self.waive(&Waive { rollout, node, reason, for_s: *for_s }, by, &done)
            }
            Command::WithdrawWaiver { rollout, node } => {
                self.withdraw_waiver(rollout.as_ref(), node, by, &done)
            }
        };
        match &result {
            Ok(answer) if answer.changed => {}
            Ok(_) => self.audit(&by.0, &what, "nothing to do"),
            Err(error) => self.audit(&by.0, &what, &told(error)),
        }
        result
    }

    fn pause(
        &mut self,
        id: Option<&RolloutId>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        if rollout.status().0 == Status::Paused {
            let why = match rollout.pause() {
                Some(PauseReason::ErrorThreshold { .. }) => "halted",
                Some(PauseReason::Operator { .. }) | None => "paused",
            };
            return Ok(unchanged(rollout, format!("rollout {} is {why} already", rollout.id())));
        }
        let going_on = going_on(rollout);
        let reason = PauseReason::Operator { by: by.clone() };
        let events = vec![Event::Paused { reason }];
        self.change("paused", events, audit, |id| {
            format!("rollout {id} is paused: nothing new starts; {going_on}")
        })
    }

    fn resume(
        &mut self,
        id: Option<&RolloutId>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        if rollout.status().0 == Status::Running {
            return Ok(unchanged(rollout, format!("rollout {} is running already", rollout.id())));
        }
        self.change("resumed", vec![Event::Resumed { by: by.clone() }], audit, |id| {
            format!("rollout {id} goes on")
        })
    }

    fn stop(
        &mut self,
        id: Option<&RolloutId>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        if let (status @ (Status::Stopping | Status::Stopped), _) = rollout.status() {
            return Ok(unchanged(rollout, format!("rollout {} is {status} already", rollout.id())));
        }
        let going_on = going_on(rollout);
        self.change("stopped", vec![Event::StopRequested { by: by.clone() }], audit, |id| {
            format!("rollout {id} stops: nothing new starts ever again; {going_on}")
        })
    }

    fn retry(
        &mut self,
        id: Option<&RolloutId>,
        nodes: &[NodeId],
        all_failed: bool,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        if nodes.is_empty() && !all_failed {
            return Err(RequestError::Invalid("name the nodes to try again, or say --all-failed".to_owned()));
        }
        if let Some(unknown) = nodes.iter().find(|node| !rollout.plan().body.nodes.contains_key(*node)) {
            return Err(self.not_in_plan(rollout, unknown));
        }
        if let Some(waiver) = nodes.iter().find_map(|node| rollout.waiver(node)).filter(|_| !rollout.ended())
        {
            let (node, by) = (&waiver.node, &waiver.by);
            return Err(RequestError::NotNow(format!(
                "{node} is waived by {by}, and a waived node is given nothing to do; let it count again first: wavegate waive \
                 {node} --withdraw"
            )));
        }
        let failed: Vec<TaskRef> =
            failed_tasks(rollout).filter(|task| all_failed || nodes.contains(&task.node)).collect();
        if failed.is_empty() {
            let which = if all_failed { "no node".to_owned() } else { format!("none of {}", names(nodes)) };
            let id = rollout.id();
            let text = format!(
                "{which} has failed in rollout {id}; there is nothing to try again, see what it waits for: wavegate why"
            );
            return Ok(unchanged(rollout, text));
        }
        let paused = rollout.status().0 == Status::Paused;
        let next = if paused { "; the rollout is paused, let it go on: wavegate resume" } else { "" };
        let list = names(failed.iter().map(|task| &task.node));
        let events = failed.into_iter().map(|task| Event::TaskRetried { task, by: by.clone() }).collect();
        self.change("retried", events, audit, |_| format!("to be tried again: {list}{next}"))
    }

    /// The rollout that a command is about; only the newest one can still be changed.
    pub(super) fn target(&self, id: Option<&RolloutId>) -> Result<&Rollout, RequestError> {
        let newest = self.rollout.as_ref().ok_or_else(no_rollout)?;
        match id {
            Some(id) if id != newest.id() => match self.store.rollout(Some(id))? {
                Some(_) => Err(RequestError::NotNow(format!(
                    "rollout {id} has ended and is history; the newest one is {}",
                    newest.id()
                ))),
                None => Err(RequestError::NotFound(format!(
                    "there is no rollout {id}; the newest one is {}",
                    newest.id()
                ))),
            },
            _ => Ok(newest),
        }
    }

    pub(super) fn change(
        &mut self,
        what: &str,
        events: Vec<Event>,
        audit: &AuditRecord,
        text: impl FnOnce(&RolloutId) -> String,
    ) -> Result<Answer, RequestError> {
        let id = self.rollout.as_ref().ok_or_else(no_rollout)?.id().clone();
        self.record(events, audit)
            .map_err(|error| refused(&format!("rollout {id} cannot be {what}"), error))?;
        Ok(Answer { changed: true, text: text(&id), rollout: id })
    }
}

pub(super) fn no_rollout() -> RequestError {
    RequestError::NotFound(
        "there is no rollout yet; make a plan and start it: wavegate plan, wavegate start".to_owned(),
    )
}

pub(super) fn unchanged(rollout: &Rollout, text: String) -> Answer {
    Answer { rollout: rollout.id().clone(), changed: false, text }
}

/// What becomes of the tasks that run.
fn going_on(rollout: &Rollout) -> String {
    let stages = rollout.plan().body.stages.iter();
    match stages.map(|stage| rollout.counts(stage.stage).running).sum::<u32>() {
        0 => "no node is being worked on".to_owned(),
        running => format!("{running} node(s) that are being worked on go on to their end"),
    }
}

fn failed_tasks(rollout: &Rollout) -> impl Iterator<Item = TaskRef> {
    rollout.plan().body.stages.iter().flat_map(move |stage| {
        let failed = rollout.tasks(stage.stage).filter(|(_, task)| task.state() == TaskState::Failed);
        failed.map(|(node, task)| TaskRef { stage: stage.stage, node: node.clone(), attempt: task.attempt })
    })
}

pub(super) fn refused(what: &str, error: RecordError) -> RequestError {
    match error {
        RecordError::Store(error) => RequestError::Store(error),
        RecordError::Illegal(why) => {
            let next = match &why {
                IllegalEvent::OverThreshold { .. } => {
                    "try the failed nodes again first: wavegate retry --all-failed"
                }
                IllegalEvent::NotWhile { status: Status::Stopped | Status::Finished } => {
                    "it has ended; for another one: wavegate plan, wavegate start"
                }
                IllegalEvent::NotWhile { status: Status::Stopping } => {
                    "it is ending; when it has ended, start another one: wavegate plan, wavegate start"
                }
                IllegalEvent::NotWhile { status: Status::Ready | Status::Running | Status::Paused }
                | IllegalEvent::OutOfSequence { .. }
                | IllegalEvent::NoSuchTask { .. }
                | IllegalEvent::TaskIs { .. }
                | IllegalEvent::OtherAttempt { .. }
                | IllegalEvent::OtherStep { .. }
                | IllegalEvent::ResultContradictsSteps { .. }
                | IllegalEvent::Held { .. }
                | IllegalEvent::NothingToWaive { .. }
                | IllegalEvent::AtWork { .. }
                | IllegalEvent::EtcdMember { .. }
                | IllegalEvent::WaiverOver { .. }
                | IllegalEvent::NotWaived { .. }
                | IllegalEvent::WaiverNotOver { .. }
                | IllegalEvent::NotTheWave { .. } => "see what it waits for: wavegate why",
            };
            RequestError::Illegal { what: what.to_owned(), why: Box::new(why), next: next.to_owned() }
        }
    }
}

/// What is asked, for the audit list.
fn describe(command: &Command) -> String {
    let of =
        |id: &Option<RolloutId>| id.as_ref().map_or_else(|| "newest rollout".to_owned(), ToString::to_string);
    match command {
        Command::Start { plan, mode, acknowledge } => {
            let plan = plan.as_ref().map_or("newest", PlanId::as_str);
            let known = if acknowledge.is_empty() { "" } else { ", acknowledging " };
            format!("start plan {plan}, mode {mode}{known}{}", acknowledge.join(", "))
        }
        Command::Pause(id) => format!("pause {}", of(id)),
        Command::Resume(id) => format!("resume {}", of(id)),
        Command::Stop(id) => format!("stop {}", of(id)),
        Command::NextWave(id) => format!("next wave of {}", of(id)),
        Command::ReleaseWave { rollout, stage, wave } => {
            format!("let wave {} of stage {stage} of {} begin", wave + 1, of(rollout))
        }
        Command::Retry { rollout, all_failed: true, .. } => {
            format!("retry all failed nodes of {}", of(rollout))
        }
        Command::Retry { rollout, nodes, all_failed: false } => {
            format!("retry {} of {}", names(nodes), of(rollout))
        }
        Command::Waive { rollout, node, reason, for_s } => {
            format!("waive {node} of {} for {for_s} s: {reason}", of(rollout))
        }
        Command::WithdrawWaiver { rollout, node } => {
            format!("withdraw the waiver of {node} of {}", of(rollout))
        }
    }
}
