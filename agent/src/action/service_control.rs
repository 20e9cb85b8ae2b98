//! Tells the service manager to do something, for the actions about services, and shows every command line to people.
//! What the words mean is `os::systemd` and `os::upstart`; the state afterwards is asked by who wants to know it.

use super::{Context, exit_failed, failed};
use crate::host::Command;
use crate::os::upstart::StartCondition;
use crate::os::{systemd, upstart};
use wavegate_common::outcome::StepError;
use wavegate_common::platform::ServiceManager;

/// Makes the service manager read its files again. It is not asked whether it must: systemd goes by the time of the file that it
/// loaded, and sees neither an older one in its place nor a new one that is to be used instead.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn reload(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::daemon_reload()),
        ServiceManager::Upstart => control(cx, unit, &upstart::reload_configuration()),
    }
}

/// Starts a service; nothing happens to one that runs.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn start(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::start(unit)),
        ServiceManager::Upstart => control(cx, unit, &upstart::start(unit)),
    }
}

/// Stops a service; nothing happens to one that is down.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn stop(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::stop(unit)),
        ServiceManager::Upstart => control(cx, unit, &upstart::stop(unit)),
    }
}

/// Restarts a service, or starts it if it is down.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn restart(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::restart(unit)),
        // Not `initctl restart`: it fails for a job that is down, and goes on with the job's file as it was when the
        // job was started.
        ServiceManager::Upstart => {
            stop(cx, unit)?;
            start(cx, unit)
        }
    }
}

/// Makes a service come up at boot.
///
/// # Errors
/// [`StepError`] with what the service logged last; on upstart for a job that nothing starts.
pub fn enable(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::enable(unit)),
        ServiceManager::Upstart => Err(StepError {
            what: format!("no event starts {unit}, so that it would not come up at boot"),
            output: Vec::new(),
            next: format!(
                "write a 'start on' for it into {} on the node, 'initctl reload-configuration', then retry",
                upstart::override_file(unit).display()
            ),
        }),
    }
}

/// Makes a service not come up at boot. Nothing on upstart, where [`mask`] does that.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn disable(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::disable(unit)),
        ServiceManager::Upstart => Ok(()),
    }
}

/// Keeps a service from coming up, over reboots and over what packages' scripts do. To be called when it is down and not
/// enabled. On upstart `manual` in the job's override file: the job starts at no event, and `invoke-rc.d`, which is what
/// packages' scripts call, does not start it either (sysv-rc of Ubuntu 14.04, with upstart 0.9.7 and later); a person can.
///
/// # Errors
/// [`StepError`] with what the service logged last, or if the override file can't be written.
pub fn mask(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::mask(unit)),
        ServiceManager::Upstart => {
            set_manual(cx, unit)?;
            reload(cx, unit)
        }
    }
}

/// Keeps a service from being started until the next boot or [`unmask_for_now`]. `false` if the service manager has
/// nothing that holds: systemd where the unit file is in `/etc`, and upstart, which has no such thing.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn mask_for_now(cx: &mut Context<'_>, unit: &str) -> Result<bool, StepError> {
    match manager(cx) {
        ServiceManager::Systemd => {
            control(cx, unit, &systemd::mask_for_now(unit))?;
            Ok(cx.os.service(cx.host, unit)?.is_kept_down())
        }
        ServiceManager::Upstart => Ok(false),
    }
}

/// Takes [`mask_for_now`] back, and no mask that somebody else put.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn unmask_for_now(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => control(cx, unit, &systemd::unmask_for_now(unit)),
        ServiceManager::Upstart => Ok(()),
    }
}

/// Forgets how often a service was started lately and that it failed, or a start may be refused. Upstart forgets that
/// whenever a job is started.
///
/// # Errors
/// [`StepError`] if the service manager can't be asked at all; its exit code says nothing.
pub fn reset_failed(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    match manager(cx) {
        ServiceManager::Systemd => {
            let next = "see why this program can't be run on the node, then retry";
            cx.host.run(&systemd::reset_failed(unit)).map(drop).map_err(|error| failed(&error, next))
        }
        ServiceManager::Upstart => Ok(()),
    }
}

/// What [`mask`] makes of a service, in a word for people.
#[must_use]
pub fn masked_word(cx: &Context<'_>) -> &'static str {
    match manager(cx) {
        ServiceManager::Systemd => "masked",
        ServiceManager::Upstart => "set to manual",
    }
}

/// How a person keeps a service down for good.
#[must_use]
pub fn mask_by_hand(cx: &Context<'_>, unit: &str) -> String {
    match manager(cx) {
        ServiceManager::Systemd => {
            format!("'systemctl disable --now {unit}' and 'systemctl mask {unit}' on the node")
        }
        ServiceManager::Upstart => format!(
            "'stop {unit}', a line 'manual' in {} and 'initctl reload-configuration' on the node",
            upstart::override_file(unit).display()
        ),
    }
}

/// How a person lets a service start again that is kept down.
#[must_use]
pub fn unmask_by_hand(cx: &Context<'_>, unit: &str) -> String {
    match manager(cx) {
        ServiceManager::Systemd => format!("'systemctl unmask {unit}' on the node"),
        ServiceManager::Upstart => format!(
            "take the line 'manual' out of {} (or {}), 'initctl reload-configuration' on the node",
            upstart::override_file(unit).display(),
            upstart::job_file(unit).display()
        ),
    }
}

/// Adds the last lines that the service logged, and where to look further.
#[must_use]
pub fn with_log(cx: &Context<'_>, unit: &str, mut error: StepError) -> StepError {
    let (log, look) = match manager(cx) {
        ServiceManager::Systemd => {
            (systemd::journal(unit), format!("'systemctl status {unit}' and 'journalctl -u {unit}'"))
        }
        ServiceManager::Upstart => {
            (upstart::log(unit), format!("'initctl status {unit}' and {}", upstart::log_file(unit)))
        }
    };
    if let Ok(exit) = cx.host.run(&log) {
        error.output.extend(exit.stdout.lines().map(str::to_owned));
    }
    error.next = format!("read {look} on the node, mend the service, then retry");
    error
}

fn manager(cx: &Context<'_>) -> ServiceManager {
    cx.os.platform.service_manager
}

fn control(cx: &mut Context<'_>, unit: &str, command: &Command) -> Result<(), StepError> {
    let line = command.argv.join(" ");
    (cx.output)(&line);
    let error = match cx.host.run(command) {
        Ok(exit) if exit.code == 0 => return Ok(()),
        Ok(exit) if manager(cx) == ServiceManager::Upstart && upstart::nothing_to_do(&exit.stderr) => {
            return Ok(());
        }
        Ok(exit) => exit_failed(format!("'{line}' failed with exit code {}", exit.code), &exit, ""),
        Err(error) => failed(&error, ""),
    };
    Err(with_log(cx, unit, error))
}

/// Writes `manual` into the job's override file, unless that, or the job's own file, says so already.
fn set_manual(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    let next = "see that the directory can be written on the node, then retry";
    let path = upstart::override_file(unit);
    let read = |path: &std::path::Path| {
        let content = cx.host.read(path).map_err(|error| failed(&error, next))?;
        Ok::<Vec<u8>, StepError>(content.unwrap_or_default())
    };
    let (job, before) = (read(&upstart::job_file(unit))?, read(&path)?);
    let text = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
    if upstart::start_condition(&text(&job), &text(&before)) == StartCondition::Manual {
        return Ok(());
    }
    (cx.output)(&format!("writing 'manual' into {}", path.display()));
    let written = cx.host.replace(&path, &upstart::with_manual(&before), None, false);
    written.map_err(|error| failed(&error, next))
}
