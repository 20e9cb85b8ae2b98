//! Whether a service that was started a moment ago stays up: what dies within seconds has not come up.

use super::Context;
use crate::host::Process;
use crate::os::service::ServiceState;
use std::time::Duration;
use wavegate_common::action::Action;
use wavegate_common::order::Work;
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

/// Whether a later step of the task watches this service, so that services that are restarted one after the other settle at the
/// same time.
pub fn is_watched_later(unit: &str, cx: &Context<'_>) -> bool {
    cx.to_come.iter().any(|step| match &step.work {
        Work::Run { action: Action::ServiceCheck(check), .. } => {
            check.settled && check.active.iter().any(|active| active == unit)
        }
        Work::Run { .. } | Work::Skip { .. } => false,
    })
}
