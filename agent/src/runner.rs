//! Runs the open task of a journal to its end: record, check, apply, verify, record. What comes next is the journal's
//! decision alone, so a runner that was killed anywhere is taken up by the next one. Threads and panics are `worker`'s.

mod drift;
mod leaving;

use crate::action::{self, Check, Context, Forecast, Memory};
use crate::etcd::EtcdSettings;
use crate::host::Host;
use crate::journal::{AppendError, Store};
use crate::os::Os;
use crate::policy::{InForce, PolicyFile};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::StepId;
use wavegate_common::journal::{Journal, Next, Record, TaskInJournal};
use wavegate_common::order::{PlannedStep, TaskKey, TaskOrder, Work};
use wavegate_common::outcome::{Outcome, StepError};
use wavegate_common::platform::{Role, Stage};

/// How long a step waits for what passes by itself, such as a network that is down; at most half of the time it has.
const PATIENCE: Duration = Duration::from_secs(600);

/// What somebody who looks on may want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The journal has something new about this task, which goes on.
    Recorded(&'a TaskKey),
    /// This task has ended, and the journal has that.
    Ended(&'a TaskKey),
    /// A step begins.
    Step(&'a TaskKey, &'a StepId),
    /// A line of output of the step that began last.
    Line(&'a str),
}

/// The machine that a task runs on.
#[derive(Clone, Copy)]
pub struct Machine<'a> {
    /// The door to it.
    pub host: &'a dyn Host,
    /// The conventions of its operating system.
    pub os: &'a Os,
    /// What may be touched on it.
    pub policy: &'a PolicyFile,
    /// Roles that the agent's configuration adds to those that are found.
    pub extra_roles: &'a BTreeSet<Role>,
    /// What the agent's configuration says of access to etcd.
    pub etcd: &'a EtcdSettings,
}

/// Runs the open task to its end; does nothing if none is open.
///
/// # Errors
/// [`AppendError`] if a record can't get to disk. Nothing is done without its record, so the task stands still; called
/// again, it goes on as after a crash: the step in question is looked at again.
pub fn advance(
    store: &impl Store,
    machine: Machine<'_>,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<(), AppendError> {
    let mut at = At::default();
    while let Some(next) = go_on(store, machine, at, tell)? {
        at = next;
    }
    Ok(())
}

/// Where a runner is in the open task, beyond what the journal says. The default is the place after a start.
#[derive(Debug, Default)]
pub struct At {
    place: Place,
    memory: Box<Memory>,
}

#[derive(Debug, Default)]
enum Place {
    /// What comes next is in the journal.
    #[default]
    BetweenSteps,
    /// The start of a step is recorded, and nothing done yet.
    Begun(Box<Begun>),
    /// The step is done, and that is not recorded yet.
    Worked { key: TaskKey, step: StepId, outcome: Outcome },
}

#[derive(Debug)]
struct Begun {
    order: Arc<TaskOrder>,
    /// Of the step in the order.
    index: usize,
    policy: InForce,
    unsettled: Option<Unsettled>,
}

/// Does the next piece of the open task: adds one record to the journal, or does the work of one step on the machine, which
/// adds none. Says where the runner then is; `None` if no task is open.
///
/// # Errors
/// Those of [`advance`]; what follows is to begin at the default place again.
pub fn go_on(
    store: &impl Store,
    machine: Machine<'_>,
    at: At,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Option<At>, AppendError> {
    let At { place, memory } = at;
    let place = match place {
        Place::BetweenSteps => match store.read(open_task) {
            None => return Ok(None),
            Some((order, Next::Step { index, interrupted })) => {
                begin_step(store, machine, order, index, interrupted, tell)?
            }
            Some((order, Next::End { result })) => {
                let key = &order.key;
                let _report = tracing::debug_span!("report").entered();
                store.append(&Record::TaskEnded { key: key.clone(), result, at: machine.host.now() })?;
                tracing::info!(task = %key, ?result, "task ended");
                tell(Progress::Ended(key));
                Place::BetweenSteps
            }
            Some((_, Next::Idle)) => return Ok(None),
        },
        Place::Begun(begun) => work_on(store, machine, *begun, &memory, tell),
        Place::Worked { key, step, outcome } => end_step(store, machine, key, step, outcome, tell)?,
    };
    Ok(Some(At { place, memory }))
}

/// The name of a step's transaction: the same after a crash, different for every attempt and step. A `:` is in none
/// of its parts, and it is a file name.
#[must_use]
pub fn transaction_name(key: &TaskKey, step: &StepId) -> String {
    format!("{}:{}:{}:{step}", key.rollout, key.stage, key.attempt)
}

fn open_task(journal: &Journal) -> Option<(Arc<TaskOrder>, Next)> {
    match journal.next() {
        Next::Idle => None,
        next @ (Next::Step { .. } | Next::End { .. }) => Some((journal.current()?.order.clone(), next)),
    }
}

fn begin_step(
    store: &impl Store,
    machine: Machine<'_>,
    order: Arc<TaskOrder>,
    index: usize,
    interrupted: bool,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Place, AppendError> {
    let (key, step) = (order.key.clone(), &order.steps[index]);
    let id = step.id.clone();
    tell(Progress::Step(&key, &id));
    if let Work::Skip { reason } = &step.work {
        let outcome = Outcome::Skipped { reason: reason.clone() };
        return end_step(store, machine, key, id, outcome, tell);
    }
    let check = tracing::debug_span!("check", step = %id).entered();
    // One that an agent before this one was at is brought to its end.
    let stays = if interrupted { Ok(()) } else { leaving::refuse(store, &key, &step.title) };
    let policy = stays.and_then(|()| permitted(machine.policy, &order.steps[index..])).and_then(|policy| {
        drift::still_as_planned(store, machine, &order, index)?;
        Ok(policy)
    });
    drop(check);
    let policy = match policy {
        Ok(policy) => policy,
        // It was not begun, and no record says that it was.
        Err(error) => return end_step(store, machine, key, id, Outcome::Failed { error }, tell),
    };
    // Asked before this start is recorded, which would look like the one that was interrupted.
    let unsettled = store.read(|journal| unsettled(journal, key.stage, &id));
    let report = tracing::debug_span!("report", step = %id).entered();
    store.append(&Record::StepStarted { key: key.clone(), step: id.clone(), at: machine.host.now() })?;
    tell(Progress::Recorded(&key));
    drop(report);
    Ok(Place::Begun(Box::new(Begun { order, index, policy, unsettled })))
}

fn work_on(
    store: &impl Store,
    machine: Machine<'_>,
    begun: Begun,
    memory: &Memory,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Place {
    let Begun { order, index, policy, unsettled } = begun;
    let (key, step) = (&order.key, &order.steps[index]);
    let place = |outcome| Place::Worked { key: key.clone(), step: step.id.clone(), outcome };
    let (action, timeout_s) = match &step.work {
        Work::Run { action, timeout_s } => (action, *timeout_s),
        Work::Skip { reason } => return place(Outcome::Skipped { reason: reason.clone() }),
    };
    let changed_at = |step: &StepId| store.read(|journal| journal.changed_at(key.stage, step));
    let mut cx = Context {
        host: machine.host,
        os: machine.os,
        policy: &policy,
        node: Some(&key.node),
        planned: order.planned.as_ref(),
        etcd: machine.etcd,
        transaction: transaction_name(key, &step.id),
        timeout: Duration::from_secs(timeout_s),
        patience: PATIENCE.min(Duration::from_secs(timeout_s / 2)),
        output: &mut |line| tell(Progress::Line(line)),
        changed_at: &changed_at,
        forecast: &Forecast::default(),
        memory,
        earlier: &order.steps[..index],
        to_come: &order.steps[index + 1..],
    };
    place(work(action, &step.id, &mut cx, unsettled))
}

fn end_step(
    store: &impl Store,
    machine: Machine<'_>,
    key: TaskKey,
    step: StepId,
    outcome: Outcome,
    tell: &mut dyn FnMut(Progress<'_>),
) -> Result<Place, AppendError> {
    tracing::info!(task = %key, %step, %outcome, "step ended");
    // Among the step's output too: whoever reads that wants to see every step, also one that printed nothing.
    tell(Progress::Line(&outcome.to_string()));
    let _report = tracing::debug_span!("report", %step).entered();
    store.append(&Record::StepEnded { key: key.clone(), step, at: machine.host.now(), outcome })?;
    tell(Progress::Recorded(&key));
    Ok(Place::BetweenSteps)
}

/// The policy as it is now, if it permits every step that is to come: what the node's own root does not want done is not
/// half done either.
fn permitted(policy: &PolicyFile, to_come: &[PlannedStep]) -> Result<InForce, StepError> {
    let policy = policy.read_for_order()?;
    policy.judge_steps(to_come)?;
    Ok(policy)
}

/// Check, then apply, which verifies.
fn work(action: &Action, step: &StepId, cx: &mut Context<'_>, unsettled: Option<Unsettled>) -> Outcome {
    let began = cx.host.now();
    let limit = cx.timeout;
    let checked = if action.is_check() {
        tracing::debug_span!("verify", %step).in_scope(|| action::check(action, cx))
    } else {
        tracing::debug_span!("check", %step).in_scope(|| action::check(action, cx))
    };
    let outcome = match checked {
        Ok(Check::AlreadySo { evidence }) => already_so(action, evidence, unsettled),
        Ok(Check::WouldChange { .. }) => {
            let spent = Duration::from_millis(cx.host.now().millis_since(began));
            match limit.checked_sub(spent).filter(|left| !left.is_zero()) {
                None => Err(out_of_time(limit)),
                Some(left) => {
                    cx.timeout = left;
                    let apply = tracing::debug_span!("apply", %step);
                    apply.in_scope(|| action::apply(action, cx)).map(|applied| Outcome::Changed {
                        changes: applied.changes,
                        evidence: applied.evidence,
                    })
                }
            }
        }
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| Outcome::Failed { error })
}

/// A node that is so already, before this start of the step touched it.
///
/// If the step was begun before and its outcome never got known to be good, what made the node so may well have been
/// that beginning: killed after the work and before the record, or failed in its last look. To record `already so`
/// then would lose the change, and with it the restart of a service that must be newer than this step
/// (`service.restart`, `newer_than_steps`): it would go on with the old configuration and count as upgraded. So the
/// change is recorded, with the evidence and without a list of changes, since nobody saw it happen. Where the step had
/// not yet touched anything, this costs a restart that was not needed; the other way round nobody would notice.
fn already_so(action: &Action, evidence: String, unsettled: Option<Unsettled>) -> Result<Outcome, StepError> {
    let how = match unsettled {
        Some(_) if action.is_check() => None,
        Some(Unsettled::Interrupted) => Some("completed before the interruption"),
        Some(Unsettled::Failed) => Some("completed by an earlier attempt"),
        None => None,
    };
    Ok(match how {
        Some(how) => Outcome::Changed { changes: Vec::new(), evidence: format!("{how}: {evidence}") },
        None => Outcome::AlreadySo { evidence },
    })
}

/// Why it is not known whether an earlier start of a step changed the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsettled {
    /// It was started in this task and did not end.
    Interrupted,
    /// The last time that it ended on this node, it failed.
    Failed,
}

fn unsettled(journal: &Journal, stage: Stage, step: &StepId) -> Option<Unsettled> {
    let current = journal.current()?;
    if current.started.as_ref() == Some(step) {
        return Some(Unsettled::Interrupted);
    }
    let of_stage = |task: &&TaskInJournal| task.order.key.stage == stage;
    let mut ended = journal.ended().iter().rev().filter(of_stage).flat_map(|task| &task.steps);
    let last = ended.find(|ended| ended.step == *step)?;
    last.outcome.error().map(|_| Unsettled::Failed)
}

fn out_of_time(limit: Duration) -> StepError {
    StepError {
        what: format!(
            "looking at the node took longer than the {} s that the step may take",
            limit.as_secs()
        ),
        output: Vec::new(),
        next: "see in the agent's log what was slow on this node; then retry the task".to_owned(),
    }
}

#[cfg(test)]
mod tests;
