//! Tells the service manager to do something, for the actions about services. What the words mean is `os::systemd`.

use super::{Context, exit_failed, failed};
use crate::host::Command;
use crate::os::systemd;
use wavegate_common::outcome::StepError;

/// Runs a command of the service manager and shows it to people.
///
/// # Errors
/// [`StepError`] with what the service logged last.
pub fn control(cx: &mut Context<'_>, unit: &str, command: &Command) -> Result<(), StepError> {
    let line = command.argv.join(" ");
    (cx.output)(&line);
    let error = match cx.host.run(command) {
        Ok(exit) if exit.code == 0 => return Ok(()),
        Ok(exit) => exit_failed(format!("'{line}' failed with exit code {}", exit.code), &exit, ""),
        Err(error) => failed(&error, ""),
    };
    Err(with_journal(cx, unit, error))
}

/// Runs a command whose failure says nothing.
///
/// # Errors
/// [`StepError`] if it can't be run at all.
pub fn attempt(cx: &mut Context<'_>, command: &Command) -> Result<(), StepError> {
    let next = "see why this program can't be run on the node, then retry";
    cx.host.run(command).map(drop).map_err(|error| failed(&error, next))
}

/// Adds the last lines that the service logged, and where to look further.
#[must_use]
pub fn with_journal(cx: &Context<'_>, unit: &str, mut error: StepError) -> StepError {
    if let Ok(exit) = cx.host.run(&systemd::journal(unit)) {
        error.output.extend(exit.stdout.lines().map(str::to_owned));
    }
    error.next = format!(
        "read 'systemctl status {unit}' and 'journalctl -u {unit}' on the node, mend the service, then retry"
    );
    error
}
