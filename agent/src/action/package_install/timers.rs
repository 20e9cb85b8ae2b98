//! Timers that start package managers by themselves: stopped for the time of a transaction, and started again. What they
//! have started already is never stopped, which would break it in the middle: it is waited for by its lock. Only systemd
//! has timers; with upstart, cron starts these programs, and their lock is all there is.

use super::undertaking::Undertaking;
use crate::action::{Context, service_control};
use crate::os::service::ServiceState;
use std::collections::BTreeSet;
use wavegate_common::outcome::StepError;
use wavegate_common::platform::{OsFamily, ServiceManager};

/// Of apt and unattended-upgrades.
const DEBIAN: [&str; 2] = ["apt-daily.timer", "apt-daily-upgrade.timer"];

/// Of dnf and dnf-automatic (its timers are one a purpose).
const RED_HAT: [&str; 5] = [
    "dnf-makecache.timer",
    "dnf-automatic.timer",
    "dnf-automatic-download.timer",
    "dnf-automatic-install.timer",
    "dnf-automatic-notifyonly.timer",
];

/// Those that run.
///
/// # Errors
/// [`StepError`] if the service manager can't be asked.
pub(super) fn running(cx: &Context<'_>) -> Result<BTreeSet<String>, StepError> {
    let timers = match (cx.os.platform.service_manager, cx.os.platform.family) {
        (ServiceManager::Upstart, _) => [].as_slice(),
        (ServiceManager::Systemd, OsFamily::Debian) => &DEBIAN,
        (ServiceManager::Systemd, OsFamily::RedHat) => &RED_HAT,
    };
    let states = timers.iter().zip(cx.os.services(cx.host, timers)?);
    Ok(states.filter(|(_, state)| state.is_active()).map(|(timer, _)| (*timer).to_owned()).collect())
}

/// Stops those that were noted.
///
/// # Errors
/// [`StepError`] if one can't be stopped.
pub(super) fn stop(undertaking: &Undertaking, cx: &mut Context<'_>) -> Result<(), StepError> {
    let states = cx.os.services(cx.host, &names(undertaking))?;
    for (timer, state) in undertaking.timers.iter().zip(states) {
        if !state.is_down() {
            service_control::stop(cx, timer)?;
        }
    }
    Ok(())
}

/// Starts those that were noted, except where the package that brought one is gone or somebody masked it.
///
/// # Errors
/// [`StepError`] if one can't be started; the others are.
pub(super) fn start_again(undertaking: &Undertaking, cx: &mut Context<'_>) -> Result<(), StepError> {
    let mut result = Ok(());
    let together = cx.os.services(cx.host, &names(undertaking));
    for (at, timer) in undertaking.timers.iter().enumerate() {
        // Where they can't all be asked about, each is by itself.
        let state = match &together {
            Ok(states) => states.get(at).cloned().map_or_else(|| cx.os.service(cx.host, timer), Ok),
            Err(_) => cx.os.service(cx.host, timer),
        };
        result = result.and(state.and_then(|state| start(timer, &state, cx)));
    }
    result
}

fn names(undertaking: &Undertaking) -> Vec<&str> {
    undertaking.timers.iter().map(String::as_str).collect()
}

fn start(timer: &str, state: &ServiceState, cx: &mut Context<'_>) -> Result<(), StepError> {
    if state.installed && !state.is_active() && !state.is_kept_down() {
        service_control::start(cx, timer)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::bench::Bench;
    use crate::host::fake::{FakeMachine, FakeService};

    #[test]
    fn one_that_can_not_be_asked_about_does_not_keep_the_others_down() {
        let mut machine = FakeMachine::debian();
        machine.put_program("/usr/bin/timer", "1.0\n");
        for timer in DEBIAN {
            let argv = vec!["/usr/bin/timer".to_owned()];
            machine.services.insert(timer.to_owned(), FakeService { argv, ..FakeService::default() });
        }
        let bench = Bench::new(machine);
        // Asked about with the other, and by itself.
        bench.machine().faults.fail("apt-daily-upgrade.timer", 1, "Failed to connect to bus");
        bench.machine().faults.fail("apt-daily-upgrade.timer", 1, "Failed to connect to bus");
        let undertaking = Undertaking { timers: DEBIAN.map(str::to_owned).into(), ..Undertaking::default() };
        let error = bench.with(|cx| start_again(&undertaking, cx)).expect_err("one could not be asked about");
        assert!(error.what.contains("apt-daily-upgrade"), "{error}");
        assert!(bench.machine().services["apt-daily.timer"].active, "{}", bench.history());
    }
}
