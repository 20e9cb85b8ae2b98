//! The one thread that touches the machine: tasks, previews and observations, one after the other, so that none meets
//! another at the package manager's lock. A panic of an action ends at this thread's jobs. Decides nothing.

use crate::causes;
use crate::etcd::EtcdSettings;
use crate::facts;
use crate::host::Host;
use crate::journal::{AppendError, SharedJournal, Store};
use crate::os::Os;
use crate::output::Output;
use crate::policy::PolicyFile;
use crate::preview;
use crate::runner::{self, Machine, Progress};
use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use wavegate_common::facts::Facts;
use wavegate_common::id::{NodeId, StepId};
use wavegate_common::journal::Record;
use wavegate_common::order::{PlannedStep, TaskKey, Work};
use wavegate_common::outcome::{Outcome, Preview, StepError};
use wavegate_common::plan::StepPreview;
use wavegate_common::platform::{Role, Stage};

/// How long to wait before a record that did not get to disk is tried again.
const RETRY_APPEND: Duration = Duration::from_secs(5);

/// Something to do on the machine.
#[derive(Debug)]
pub enum Job {
    /// Run the open task of the journal to its end, if there is one, and observe the node after it.
    Advance,
    /// Observe the node.
    Observe,
    /// Say what steps would change.
    Preview(PreviewJob),
}

/// A preview that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewJob {
    /// The request's id.
    pub request: u64,
    /// The stage of the steps.
    pub stage: Stage,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

/// A preview that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewDone {
    /// The request's id.
    pub request: u64,
    /// The stage of the steps, as it was asked for.
    pub stage: String,
    /// What each would do.
    pub previews: Vec<StepPreview>,
}

/// What the worker tells.
#[derive(Debug)]
pub enum Told {
    /// The journal has something new about this task, which goes on.
    Recorded(TaskKey),
    /// This task has ended, and the journal has that.
    TaskEnded(TaskKey),
    /// The node was observed, or could not be: the reason.
    Observed(Result<Box<Facts>, String>),
    /// A preview is ready.
    Previewed(PreviewDone),
    /// The open task stands still for this reason, or goes on again.
    StandsStill(Option<String>),
    /// A record can't get to disk for good.
    JournalLost(AppendError),
    /// The worker has ended without being asked to.
    Ended,
}

/// What the worker works with.
pub struct Tools {
    /// The machine.
    pub host: Arc<dyn Host>,
    /// The conventions of its operating system.
    pub os: Os,
    /// What may be touched on it.
    pub policy: PolicyFile,
    /// The node, for its facts.
    pub node: NodeId,
    /// Roles that the configuration adds.
    pub extra_roles: BTreeSet<Role>,
    /// What the configuration says of access to etcd.
    pub etcd: EtcdSettings,
    /// The journal.
    pub journal: SharedJournal,
    /// Where output of steps goes.
    pub output: Arc<Output>,
}

impl Tools {
    fn machine(&self) -> Machine<'_> {
        Machine {
            host: &*self.host,
            os: &self.os,
            policy: &self.policy,
            extra_roles: &self.extra_roles,
            etcd: &self.etcd,
        }
    }
}

/// Starts the thread. It ends when the returned end of its queue is dropped or `tell` says `false`, after the job
/// that it is at.
///
/// # Errors
/// If the system has no thread left.
pub fn start(tools: Tools, tell: impl Fn(Told) -> bool + Send + 'static) -> std::io::Result<Sender<Job>> {
    let (queue, jobs) = channel();
    std::thread::Builder::new().name("worker".to_owned()).spawn(move || {
        let tell = Teller(tell);
        run(&tools, &jobs, &tell.0);
    })?;
    Ok(queue)
}

/// Says so when the thread ends, however it does.
struct Teller<F: Fn(Told) -> bool>(F);

impl<F: Fn(Told) -> bool> Drop for Teller<F> {
    fn drop(&mut self) {
        (self.0)(Told::Ended);
    }
}

fn run(tools: &Tools, jobs: &Receiver<Job>, tell: &dyn Fn(Told) -> bool) {
    while let Ok(job) = jobs.recv() {
        let mut doing = Doing::new(job);
        loop {
            match doing.go_on(tools, &mut |told| tell(told)) {
                Pace::GoesOn => {}
                Pace::Done => break,
                Pace::Ended => return,
            }
        }
    }
}

/// How a job stands after a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// There is more to do.
    GoesOn,
    /// The job is done.
    Done,
    /// The worker has ended: nobody listens any more, or the journal takes no more records.
    Ended,
}

/// A job that is being done, piece by piece on the caller's thread.
#[derive(Debug)]
pub struct Doing {
    left: VecDeque<Piece>,
    stood_still: bool,
}

#[derive(Debug)]
enum Piece {
    Task(runner::At),
    Observe,
    Preview(PreviewJob),
}

impl Doing {
    /// A job, not yet begun.
    #[must_use]
    pub fn new(job: Job) -> Self {
        let left = match job {
            Job::Advance => [Piece::Task(runner::At::default()), Piece::Observe].into(),
            Job::Observe => [Piece::Observe].into(),
            // What the node looks like goes along, so that a plan is never made from facts that are older than its previews.
            Job::Preview(job) => [Piece::Observe, Piece::Preview(job)].into(),
        };
        Self { left, stood_still: false }
    }

    /// Does the next piece: of a task as much as [`runner::go_on`] does, otherwise one observation or one preview. A
    /// record that does not get to disk now is waited for, as a piece. `tell` says `false` if nobody listens any more.
    pub fn go_on(&mut self, tools: &Tools, tell: &mut dyn FnMut(Told) -> bool) -> Pace {
        let goes_on = match self.left.pop_front() {
            None => true,
            Some(Piece::Task(at)) => self.task(tools, at, tell),
            Some(Piece::Observe) => tell(observe(tools)),
            Some(Piece::Preview(job)) => tell(Told::Previewed(look(tools, job))),
        };
        match (goes_on, self.left.is_empty()) {
            (false, _) => Pace::Ended,
            (true, false) => Pace::GoesOn,
            (true, true) => Pace::Done,
        }
    }

    /// Goes on with the open task; `false` if the worker is to end.
    fn task(&mut self, tools: &Tools, at: runner::At, tell: &mut dyn FnMut(Told) -> bool) -> bool {
        let ran = caught(|| {
            let mut on_progress = |progress: Progress<'_>| match progress {
                Progress::Recorded(key) => drop(tell(Told::Recorded(key.clone()))),
                Progress::Ended(key) => drop(tell(Told::TaskEnded(key.clone()))),
                Progress::Step(key, step) => tools.output.begin(key, step),
                Progress::Line(line) => tools.output.line(line),
            };
            runner::go_on(&tools.journal, tools.machine(), at, &mut on_progress)
        });
        let ran = match ran {
            Ok(ran) => ran,
            Err(message) => match fail_step(tools, &message) {
                Some(recorded) => recorded.map(|()| Some(runner::At::default())),
                None => return false,
            },
        };
        if ran.is_ok() && std::mem::take(&mut self.stood_still) && !tell(Told::StandsStill(None)) {
            return false;
        }
        match ran {
            Ok(None) => true,
            Ok(Some(at)) => {
                self.left.push_front(Piece::Task(at));
                true
            }
            Err(AppendError::Closed) => false,
            Err(error) if error.can_be_tried_again() => {
                self.left.push_front(Piece::Task(runner::At::default()));
                self.stand_still(tools, &error, tell)
            }
            Err(error) => {
                tell(Told::JournalLost(error));
                false
            }
        }
    }

    /// Waits a while; `false` if nobody listens any more.
    fn stand_still(
        &mut self,
        tools: &Tools,
        error: &AppendError,
        tell: &mut dyn FnMut(Told) -> bool,
    ) -> bool {
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the task stands still until this is solved"
        );
        // For whoever reads along from afar, and for `wavegate why`.
        if !std::mem::replace(&mut self.stood_still, true) {
            let why = causes::told(error);
            tools.output.line(&format!("the task stands still, and goes on when this is solved: {why}"));
            if !tell(Told::StandsStill(Some(why))) {
                return false;
            }
        }
        tools.host.sleep(RETRY_APPEND);
        true
    }
}

/// A panic in the middle of a step is the failure of that step; `None` if there is no step that could fail.
fn fail_step(tools: &Tools, message: &str) -> Option<Result<(), AppendError>> {
    let current = tools.journal.read(|journal| {
        let task = journal.current()?;
        Some((task.order.key.clone(), task.started.clone()?))
    });
    let Some((key, step)) = current else {
        tracing::error!(
            message,
            "the runner panicked outside a step: a defect of wavegate, please report it"
        );
        return None;
    };
    tracing::error!(task = %key, %step, message, "the step panicked: a defect of wavegate, please report it");
    let outcome = Outcome::Failed { error: defect(message) };
    Some(tools.journal.append(&Record::StepEnded { key, step, at: tools.host.now(), outcome }))
}

fn observe(tools: &Tools) -> Told {
    let facts = caught(|| facts::observe(&*tools.host, tools.node.clone(), &tools.extra_roles, &tools.etcd));
    Told::Observed(match facts {
        Ok(Ok(facts)) => Ok(Box::new(facts)),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(message) => Err(defect(&message).what),
    })
}

fn look(tools: &Tools, job: PreviewJob) -> PreviewDone {
    let PreviewJob { request, stage, steps } = job;
    let changed_at = |step: &StepId| tools.journal.read(|journal| journal.changed_at(stage, step));
    let previews = caught(|| preview::preview(&steps, tools.machine(), &changed_at));
    let previews = previews.unwrap_or_else(|message| {
        let runs = steps.iter().filter(|step| matches!(step.work, Work::Run { .. }));
        let preview = Preview::Blocked { error: defect(&message) };
        runs.map(|step| StepPreview { step: step.id.clone(), preview: preview.clone() }).collect()
    });
    PreviewDone { request, stage: stage.to_string(), previews }
}

fn defect(message: &str) -> StepError {
    StepError {
        what: format!("the agent itself failed: {message}"),
        output: Vec::new(),
        next: "this is a defect of wavegate: report it with the agent's log of this node; look at the node before \
               you retry"
            .to_owned(),
    }
}

/// Runs something that may panic; the panic's message is the error. What unwinds without a message is no panic but
/// somebody ending this thread, and goes on.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What a panic can leave half-changed lives behind locks that are sound at every line: journal, output, host.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload: Box<dyn Any + Send>| {
        match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            (None, None) => resume_unwind(payload),
        }
    })
}

#[cfg(test)]
mod tests;
