//! What operators ask to be done. Each may be asked again: what is so already is said and not an error. Every one, done
//! or refused, is in the audit list.

use super::planning::under_way;
use super::record::RecordError;
use super::words::names;
use super::{Answer, Command, Engine, RequestError, told};
use crate::store::{AuditRecord, RolloutRecord, rollout_id, rollout_number};
use std::sync::Arc;
use wavegate_common::id::{Actor, NodeId, PlanId, RolloutId};
use wavegate_common::plan::{Plan, Problem, differences};
use wavegate_common::rollout::{Event, IllegalEvent, Mode, PauseReason, Rollout, Status, TaskRef, TaskState};

const PROBLEMS_SHOWN: usize = 10;

impl Engine {
    pub(super) fn command(&mut self, by: &Actor, command: &Command) -> Result<Answer, RequestError> {
        let what = describe(command);
        let done = self.audit_of(&by.0, &what, "done");
        let result = match command {
            Command::Start { plan, mode } => self.start(plan.as_ref(), *mode, by, &done),
            Command::Pause(id) => self.pause(id.as_ref(), by, &done),
            Command::Resume(id) => self.resume(id.as_ref(), by, &done),
            Command::Stop(id) => self.stop(id.as_ref(), by, &done),
            Command::NextWave(id) => self.next_wave(id.as_ref(), by, &done),
            Command::Retry { rollout, nodes, all_failed } => {
                self.retry(rollout.as_ref(), nodes, *all_failed, by, &done)
            }
        };
        match &result {
            Ok(answer) if answer.changed => {}
            Ok(_) => self.audit(&by.0, &what, "nothing to do"),
            Err(error) => self.audit(&by.0, &what, &told(error)),
        }
        result
    }

    fn start(
        &mut self,
        plan: Option<&PlanId>,
        mode: Mode,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let Some(plan) = self.store.plan(plan)? else {
            let which = plan.map_or_else(|| "no plan yet".to_owned(), |id| format!("no plan {id}"));
            return Err(RequestError::NotFound(format!("there is {which}; make one: wavegate plan")));
        };
        plan.verify()?;
        if let Some(answer) = self.started_before(&plan)? {
            return Ok(answer);
        }
        self.leads()?;
        self.check_plan(&plan)?;
        let approved_by = self.approved(&plan)?;
        let last = self.store.rollout(None)?.map_or(Ok(0), |last| rollout_number(&last.id))?;
        let id = rollout_id(last + 1);
        let record = RolloutRecord {
            id: id.clone(),
            plan: plan.id.clone(),
            created_at: self.clock.now(),
            created_by: by.clone(),
        };
        let text = format!(
            "rollout {id} of plan {} has begun on {} node(s), mode {mode}",
            plan.id,
            plan.body.nodes.len()
        );
        let rollout = Rollout::new(id.clone(), Arc::new(plan));
        let events = vec![Event::Started { mode, by: by.clone(), approved_by }];
        self.begin(rollout, &record, events, audit)
            .map_err(|error| refused("it cannot be started", error))?;
        self.steps.clear();
        self.complaints.clear();
        if let Some(planning) = self.planning.take() {
            planning.give_up(under_way(&id));
        }
        Ok(Answer { rollout: id, changed: true, text })
    }

    /// A rollout is one execution of one plan: a plan that has been started is not started again.
    fn started_before(&self, plan: &Plan) -> Result<Option<Answer>, RequestError> {
        if let Some(current) = self.rollout.as_ref().filter(|rollout| !rollout.ended()) {
            let (id, (status, _)) = (current.id(), current.status());
            if current.plan().id == plan.id {
                let text = format!("rollout {id} of this plan has been started already, it is {status}");
                return Ok(Some(unchanged(current, text)));
            }
            return Err(RequestError::NotNow(format!(
                "rollout {id} of plan {} is {status}, and there is one rollout at a time; let it end (wavegate watch), \
                 or end it: wavegate stop",
                current.plan().id
            )));
        }
        match self.store.rollout_of(&plan.id)? {
            None => Ok(None),
            Some(executed) => Err(RequestError::NotNow(format!(
                "plan {} was executed by rollout {}, and the nodes are no longer as it saw them; make a new plan: \
                 wavegate plan",
                plan.id, executed.id
            ))),
        }
    }

    fn check_plan(&self, plan: &Plan) -> Result<(), RequestError> {
        if !plan.body.problems.is_empty() {
            return Err(RequestError::NotNow(problems(plan, "started")));
        }
        let again = "make a new plan: wavegate plan";
        let planned = &plan.body.nodes;
        let added = names(self.nodes.keys().filter(|node| !planned.contains_key(*node)));
        if !added.is_empty() {
            return Err(RequestError::NotNow(format!(
                "plan {} does not have {added}, enrolled since; {again}",
                plan.id
            )));
        }
        let gone = names(planned.keys().filter(|node| !self.nodes.contains_key(*node)));
        if !gone.is_empty() {
            return Err(RequestError::NotNow(format!(
                "plan {} has {gone}, no longer in the fleet; {again}",
                plan.id
            )));
        }
        self.as_declared(plan)?;
        let differs = |node: &NodeId| {
            let facts = self.nodes.get(node).and_then(|record| record.facts.as_ref());
            planned
                .get(node)
                .zip(facts)
                .is_none_or(|(planned, facts)| !differences(planned, facts, false).is_empty())
        };
        let changed = names(planned.keys().filter(|node| differs(node)));
        if !changed.is_empty() {
            return Err(RequestError::NotNow(format!(
                "roles or platform of {changed} are no longer what plan {} says; {again}",
                plan.id
            )));
        }
        Ok(())
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
        let running = running(rollout);
        let reason = PauseReason::Operator { by: by.clone() };
        let events = vec![Event::Paused { reason }];
        self.change("paused", events, audit, |id| {
            format!("rollout {id} is paused: nothing new starts; {running} node(s) that are being worked on go on to their end")
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
        let running = running(rollout);
        self.change("stopped", vec![Event::StopRequested { by: by.clone() }], audit, |id| {
            format!("rollout {id} stops: nothing new starts ever again; {running} node(s) that are being worked on go on to their end")
        })
    }

    fn next_wave(
        &mut self,
        id: Option<&RolloutId>,
        by: &Actor,
        audit: &AuditRecord,
    ) -> Result<Answer, RequestError> {
        let rollout = self.target(id)?;
        if !rollout.ended() && rollout.mode() == Mode::Auto {
            let id = rollout.id();
            return Err(RequestError::NotNow(format!(
                "the waves of rollout {id} begin by themselves, since it was started without --manual; to hold it: wavegate pause"
            )));
        }
        let Some((stage, wave)) = rollout.wave_to_release(self.clock.now()).filter(|_| !rollout.ended())
        else {
            let text = format!("no wave of rollout {} waits for an operator (wavegate why)", rollout.id());
            return if rollout.ended() {
                Err(RequestError::NotNow(text))
            } else {
                Ok(unchanged(rollout, text))
            };
        };
        let nodes = rollout.plan().stage(stage).and_then(|planned| planned.waves.get(wave)).map(names);
        let nodes = nodes.unwrap_or_default();
        self.change(
            "given its next wave",
            vec![Event::WaveReleased { stage, wave, by: by.clone() }],
            audit,
            |id| format!("wave {} of stage {stage} of rollout {id} may begin: {nodes}", wave + 1),
        )
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
        let unknown = names(nodes.iter().filter(|node| !rollout.plan().body.nodes.contains_key(*node)));
        if !unknown.is_empty() {
            let id = rollout.id();
            return Err(RequestError::NotFound(format!(
                "rollout {id} has no node {unknown}; its nodes: wavegate status"
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
    fn target(&self, id: Option<&RolloutId>) -> Result<&Rollout, RequestError> {
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

    fn change(
        &mut self,
        what: &str,
        events: Vec<Event>,
        audit: &AuditRecord,
        text: impl FnOnce(&RolloutId) -> String,
    ) -> Result<Answer, RequestError> {
        let id = self.rollout.as_ref().ok_or_else(no_rollout)?.id().clone();
        self.record(events, Some(audit))
            .map_err(|error| refused(&format!("rollout {id} cannot be {what}"), error))?;
        Ok(Answer { changed: true, text: text(&id), rollout: id })
    }
}

pub(super) fn no_rollout() -> RequestError {
    RequestError::NotFound(
        "there is no rollout yet; make a plan and start it: wavegate plan, wavegate start".to_owned(),
    )
}

fn unchanged(rollout: &Rollout, text: String) -> Answer {
    Answer { rollout: rollout.id().clone(), changed: false, text }
}

fn running(rollout: &Rollout) -> u32 {
    rollout.plan().body.stages.iter().map(|stage| rollout.counts(stage.stage).running).sum()
}

fn failed_tasks(rollout: &Rollout) -> impl Iterator<Item = TaskRef> {
    rollout.plan().body.stages.iter().flat_map(move |stage| {
        let failed = rollout.tasks(stage.stage).filter(|(_, task)| task.state() == TaskState::Failed);
        failed.map(|(node, task)| TaskRef { stage: stage.stage, node: node.clone(), attempt: task.attempt })
    })
}

fn refused(what: &str, error: RecordError) -> RequestError {
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
        Command::Start { plan, mode } => {
            let plan = plan.as_ref().map_or("newest", PlanId::as_str);
            format!("start plan {plan}, mode {mode}")
        }
        Command::Pause(id) => format!("pause {}", of(id)),
        Command::Resume(id) => format!("resume {}", of(id)),
        Command::Stop(id) => format!("stop {}", of(id)),
        Command::NextWave(id) => format!("next wave of {}", of(id)),
        Command::Retry { rollout, all_failed: true, .. } => {
            format!("retry all failed nodes of {}", of(rollout))
        }
        Command::Retry { rollout, nodes, all_failed: false } => {
            format!("retry {} of {}", names(nodes), of(rollout))
        }
    }
}

/// Why something can't be `done` with a plan, a problem a line.
pub(super) fn problems(plan: &Plan, done: &str) -> String {
    let all = &plan.body.problems;
    let mut lines =
        vec![format!("plan {} has {} problem(s) that keep it from being {done}:", plan.id, all.len())];
    lines.extend(all.iter().take(PROBLEMS_SHOWN).map(|problem| format!("  {}", problem_line(problem))));
    if let Some(more) = all.len().checked_sub(PROBLEMS_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more"));
    }
    lines.push(format!("mend them and make a new plan (all of them: wavegate plan show {})", plan.id));
    lines.join("\n")
}

fn problem_line(problem: &Problem) -> String {
    let place = [
        problem.node.as_ref().map(ToString::to_string),
        problem.stage.map(|stage| format!("stage {stage}")),
        problem.step.as_ref().map(|step| format!("step {step}")),
    ];
    let place = place.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let colon = if place.is_empty() { "" } else { ": " };
    format!("{place}{colon}{}; {}", problem.error.what, problem.error.next)
}
