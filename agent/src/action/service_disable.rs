//! `service.disable`: a service that is stopped and stays down, over a reboot and over package installs.
//!
//! The order is stop, disable, mask: a unit that is masked while it runs loses its settings at the next reload, its
//! `KillMode=process` among them, and its stop would then end processes that are to outlive it.

use super::systemctl::{control, with_journal};
use super::{Applied, Check, Context};
use crate::os::systemd::{self, UnitState};
use wavegate_common::action::ServiceDisable;
use wavegate_common::outcome::{Change, StepError};

/// Looks whether the service is down and masked, or not there at all.
///
/// # Errors
/// [`StepError`] if the service manager does not say.
pub fn check(action: &ServiceDisable, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let state = cx.os.service(cx.host, &action.unit)?;
    if let Some(evidence) = down_for_good(&state) {
        return Ok(Check::AlreadySo { evidence });
    }
    let what = if state.is_down() { "masked" } else { "stopped and masked" };
    Ok(Check::WouldChange { changes: vec![Change::Service { unit: action.unit.clone(), what: what.to_owned() }] })
}

/// Stops, disables and masks the service.
///
/// # Errors
/// [`StepError`] if it does not stop, can't be masked, or is up again afterwards.
pub fn apply(action: &ServiceDisable, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let unit = &action.unit;
    let before = cx.os.service(cx.host, unit)?;
    if let Some(evidence) = down_for_good(&before) {
        return Ok(Applied { changes: Vec::new(), evidence });
    }
    if !before.is_down() {
        control(cx, unit, &systemd::stop(unit))?;
    }
    if before.file.starts_with("enabled") {
        control(cx, unit, &systemd::disable(unit))?;
    }
    control(cx, unit, &systemd::mask(unit))?;
    if !cx.os.service(cx.host, unit)?.is_down() {
        // Something started it between the stop and the mask; nothing can any more.
        control(cx, unit, &systemd::stop(unit))?;
    }
    let after = cx.os.service(cx.host, unit)?;
    let Some(evidence) = down_for_good(&after) else {
        let what = format!("{unit} was stopped and masked, and is still {}, {}", after.words(), after.file);
        return Err(with_journal(cx, unit, StepError { what, output: Vec::new(), next: String::new() }));
    };
    let what = match before.main_pid {
        Some(pid) => format!("stopped and masked, process {pid} ended"),
        None => "masked".to_owned(),
    };
    Ok(Applied { changes: vec![Change::Service { unit: unit.clone(), what }], evidence })
}

/// The evidence that nothing of it runs and nothing will start it.
fn down_for_good(state: &UnitState) -> Option<String> {
    if !state.installed() {
        return Some("it is not installed".to_owned());
    }
    (state.is_down() && state.masked_for_good()).then(|| format!("it is {}, masked", state.words()))
}
