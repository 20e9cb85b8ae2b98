//! Tells the service manager to do something, for the actions about services, and shows every command line to people.
//! What the words mean is `os::systemd`; the state afterwards is asked by who wants to know it.

use super::{Context, exit_failed, failed};
use crate::host::Command;
use crate::os::systemd;
use wavegate_common::outcome::StepError;

/// Makes the service manager read its files again.
///
/// # Errors
/// [`StepError`] with what the service logged last; so for every function here.
pub fn reload(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::daemon_reload())
}

/// Starts a service; nothing happens to one that runs.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn start(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::start(unit))
}

/// Stops a service; nothing happens to one that is down.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn stop(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::stop(unit))
}

/// Restarts a service, or starts it if it is down.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn restart(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::restart(unit))
}

/// Makes a service come up at boot.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn enable(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::enable(unit))
}

/// Makes a service not come up at boot.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn disable(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::disable(unit))
}

/// Keeps a service from being started, over reboots and over what packages' scripts do. To be called when it is down
/// and not enabled.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn mask(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::mask(unit))
}

/// Keeps a service from being started until the next boot or [`unmask_for_now`]. `false` if the service manager has
/// nothing that holds: systemd, where the unit file is in `/etc`.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn mask_for_now(cx: &mut Context<'_>, unit: &str) -> Result<bool, StepError> {
    control(cx, unit, &systemd::mask_for_now(unit))?;
    Ok(cx.os.service(cx.host, unit)?.is_kept_down())
}

/// Takes [`mask_for_now`] back, and no mask that somebody else put.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn unmask_for_now(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    control(cx, unit, &systemd::unmask_for_now(unit))
}

/// Forgets how often a service was started lately and that it failed, or a start may be refused.
///
/// # Errors
/// [`StepError`] if the service manager can't be asked at all; its exit code says nothing.
pub fn reset_failed(cx: &mut Context<'_>, unit: &str) -> Result<(), StepError> {
    let next = "see why this program can't be run on the node, then retry";
    cx.host.run(&systemd::reset_failed(unit)).map(drop).map_err(|error| failed(&error, next))
}

fn control(cx: &mut Context<'_>, unit: &str, command: &Command) -> Result<(), StepError> {
    let line = command.argv.join(" ");
    (cx.output)(&line);
    let error = match cx.host.run(command) {
        Ok(exit) if exit.code == 0 => return Ok(()),
        Ok(exit) => exit_failed(format!("'{line}' failed with exit code {}", exit.code), &exit, ""),
        Err(error) => failed(&error, ""),
    };
    Err(with_log(cx, unit, error))
}

/// Adds the last lines that the service logged, and where to look further.
#[must_use]
pub fn with_log(cx: &Context<'_>, unit: &str, mut error: StepError) -> StepError {
    if let Ok(exit) = cx.host.run(&systemd::journal(unit)) {
        error.output.extend(exit.stdout.lines().map(str::to_owned));
    }
    error.next = format!(
        "read 'systemctl status {unit}' and 'journalctl -u {unit}' on the node, mend the service, then retry"
    );
    error
}

/// The command line by which a person keeps a service down for good.
#[must_use]
pub fn by_hand_mask(unit: &str) -> String {
    format!("'systemctl disable --now {unit}' and 'systemctl mask {unit}' on the node")
}

/// The command line by which a person lets a service start again that is kept down.
#[must_use]
pub fn by_hand_unmask(unit: &str) -> String {
    format!("'systemctl unmask {unit}' on the node")
}
