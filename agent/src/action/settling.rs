//! Whether a service that was started a moment ago stays up: what dies within seconds has not come up. A step that restarts a service
//! leaves that to a later step of its task that checks the service, so that services which are restarted one after the other
//! settle at the same time.

use super::Context;
use crate::host::Process;
use crate::os::service::ServiceState;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::id::StepId;
use wavegate_common::order::{PlannedStep, Work};
use wavegate_common::outcome::StepError;

/// A service has come up when it has run so long as the same process. Felix waits 2 s before it gives up on a bad
/// configuration (`configRetry` in its daemon.go), so a shorter look would miss that.
pub const SETTLING: Duration = Duration::from_secs(3);

/// A service as it was at the beginning of a watch.
pub struct Young<'a> {
    unit: &'a str,
    process: Option<Process>,
    restarts: Option<u32>,
}

impl<'a> Young<'a> {
    /// A service with its main process, as seen now.
    pub const fn new(unit: &'a str, state: &ServiceState, process: Option<Process>) -> Self {
        Self { unit, process, restarts: state.restarts }
    }

    /// Its name.
    pub const fn unit(&self) -> &str {
        self.unit
    }

    /// Looks at it again; the state, if it is up as the process that it was.
    ///
    /// # Errors
    /// Why it has not settled, or that the service manager doesn't answer.
    pub fn stayed(&self, cx: &Context<'_>) -> Result<Result<ServiceState, String>, StepError> {
        let Self { unit, process, restarts } = self;
        let state = cx.os.service(cx.host, unit)?;
        let seconds = SETTLING.as_secs();
        if !state.is_active() {
            return Ok(Err(format!("{unit} did not stay up for {seconds} s: it is {}", state.words)));
        }
        let now = state.main_pid.and_then(|pid| cx.host.process(pid));
        let same = match (&now, process) {
            (Some(now), Some(process)) => now.is(process),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !same || state.restarts != *restarts {
            return Ok(Err(format!("{unit} died within {seconds} s and was started again")));
        }
        Ok(Ok(state))
    }
}

/// What a process that runs has left of the time in which it may die; `None` if that is over.
pub fn left(process: &Process, cx: &Context<'_>) -> Option<Duration> {
    let age = Duration::from_millis(cx.host.now().millis_since(process.started_at));
    SETTLING.checked_sub(age).filter(|left| !left.is_zero())
}

/// The later step of the task that checks this service, and with that watches it.
pub fn watched_by<'a>(unit: &str, cx: &Context<'a>) -> Option<&'a StepId> {
    let checks = |step: &&PlannedStep| match &step.work {
        Work::Run { action: Action::ServiceCheck(check), .. } => check.active.iter().any(|name| name == unit),
        Work::Run { .. } | Work::Skip { .. } => false,
    };
    cx.to_come.iter().find(checks).map(|step| &step.id)
}

/// Whether an earlier step of the task restarts this service.
pub fn is_restarted_earlier(unit: &str, cx: &Context<'_>) -> bool {
    cx.earlier.iter().any(|step| match &step.work {
        Work::Run { action: Action::ServiceRestart(restart), .. } => restart.unit == unit,
        Work::Run { .. } | Work::Skip { .. } => false,
    })
}

/// That a service was started again by its service manager since a step left it to be watched. upstart does not count that, and
/// nothing is remembered over a restart of the agent: then its age alone says whether it stays up.
pub fn died_since(unit: &str, state: &ServiceState, cx: &Context<'_>) -> Option<String> {
    let restarts = cx.memory.restarts_when_young(unit)?;
    let times = state.restarts?.checked_sub(restarts).filter(|times| *times > 0)?;
    let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
    Some(format!("{unit} died {times} since it was restarted, and was started again"))
}
