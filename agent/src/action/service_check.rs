//! `service.check`: evidence that services run, and that others do not. Changes nothing.

use super::Context;
use super::systemctl::with_journal;
use crate::os::systemd::UnitState;
use std::time::Duration;
use wavegate_common::action::ServiceCheck;
use wavegate_common::outcome::StepError;

/// How long a service may be on its way up or down before that counts as not being there.
const ON_ITS_WAY: Duration = Duration::from_secs(30);

/// Gathers the evidence.
///
/// # Errors
/// [`StepError`] naming the first service that is not as it must be.
pub fn verify(action: &ServiceCheck, cx: &mut Context<'_>) -> Result<String, StepError> {
    let mut evidence = Vec::new();
    for unit in &action.active {
        let state = at_rest(cx, unit)?;
        evidence.push(active(cx, unit, &state).map_err(|what| wrong(cx, unit, what))?);
    }
    for unit in &action.inactive {
        let state = at_rest(cx, unit)?;
        evidence.push(inactive(unit, &state).map_err(|what| StepError {
            what,
            output: Vec::new(),
            next: format!("'systemctl disable --now {unit}' and 'systemctl mask {unit}' on the node, then retry"),
        })?);
    }
    Ok(evidence.join(", "))
}

/// The state, once the service is no longer on its way up or down.
fn at_rest(cx: &Context<'_>, unit: &str) -> Result<UnitState, StepError> {
    let deadline = cx.host.now().0 + u64::try_from(ON_ITS_WAY.as_millis()).unwrap_or(u64::MAX);
    loop {
        let state = cx.os.service(cx.host, unit)?;
        if state.is_active() || state.is_down() || cx.host.now().0 >= deadline {
            return Ok(state);
        }
        cx.host.sleep(Duration::from_secs(1));
    }
}

fn active(cx: &Context<'_>, unit: &str, state: &UnitState) -> Result<String, String> {
    if !state.installed() {
        return Err(format!("there is no service {unit} on this node"));
    }
    if !state.is_active() {
        return Err(format!("{unit} is {}", state.words()));
    }
    let Some(process) = state.main_pid.and_then(|pid| cx.host.process(pid)) else {
        return Err(format!("{unit} is {} and has no main process", state.words()));
    };
    if !process.exe_is_file_on_disk {
        let exe = process.exe.display();
        return Err(format!("{unit}, process {}, runs {exe}, which is not the file on disk", process.pid));
    }
    Ok(format!("{unit} runs as process {}", process.pid))
}

fn inactive(unit: &str, state: &UnitState) -> Result<String, String> {
    if !state.installed() {
        return Ok(format!("{unit} is not installed"));
    }
    if !state.is_down() {
        return Err(format!("{unit} is {}, and must not run", state.words()));
    }
    if state.file.starts_with("enabled") {
        return Err(format!("{unit} is down, and would come up again at the next boot"));
    }
    Ok(format!("{unit} is {}, {}", state.words(), state.file))
}

fn wrong(cx: &Context<'_>, unit: &str, what: String) -> StepError {
    with_journal(cx, unit, StepError { what, output: Vec::new(), next: String::new() })
}
