//! Services that a transaction must not start: kept down for its time, and stopped if something started them all the same.
//! On Debian's family a policy-rc.d forbids it, on Red Hat's, whose scripts ask nobody, a mask that does not survive a
//! reboot. Masks that others made are theirs.

use super::policy_rc_d;
use super::undertaking::Undertaking;
use crate::action::{Context, service_control};
use crate::os::service::KeptDown;
use std::collections::BTreeSet;
use wavegate_common::outcome::{Change, StepError};
use wavegate_common::platform::OsFamily;

/// Finds out which of the services are down, and how these are to be kept so.
///
/// # Errors
/// [`StepError`] if the service manager can't be asked.
pub(super) fn observe(
    keep_down: &[String],
    undertaking: &mut Undertaking,
    cx: &Context<'_>,
) -> Result<(), StepError> {
    for unit in keep_down {
        undertaking.running.remove(unit);
        let state = cx.os.service(cx.host, unit)?;
        if !state.is_down() {
            continue;
        }
        undertaking.held.insert(unit.clone());
        match cx.os.platform.family {
            OsFamily::Debian => undertaking.policy = true,
            OsFamily::RedHat if !state.is_kept_down() => drop(undertaking.masked.insert(unit.clone())),
            OsFamily::RedHat => {}
        }
    }
    Ok(())
}

/// Puts in place what was noted; what is there already, after a crash, is left so.
///
/// # Errors
/// [`StepError`] if it can't be put there.
pub(super) fn put(undertaking: &Undertaking, cx: &mut Context<'_>) -> Result<(), StepError> {
    if undertaking.policy {
        policy_rc_d::put(&undertaking.held, cx)?;
    }
    for unit in &undertaking.masked {
        if !cx.os.service(cx.host, unit)?.is_kept_down() && !service_control::mask_for_now(cx, unit)? {
            (cx.output)(&format!("no mask holds {unit}: it is stopped afterwards if something starts it"));
        }
    }
    Ok(())
}

/// Stops what runs all the same, then takes away what was put in place. Everything is tried, also when something fails.
///
/// # Errors
/// [`StepError`] if something could not be done.
pub(super) fn take_away(undertaking: &Undertaking, cx: &mut Context<'_>) -> Result<Vec<Change>, StepError> {
    let mut changes = Vec::new();
    let mut result = stop(&undertaking.held, &mut changes, cx);
    if undertaking.policy {
        result = result.and(policy_rc_d::take_away(cx));
    }
    for unit in &undertaking.masked {
        result = result.and(unmask(unit, cx));
    }
    result.map(|()| changes)
}

/// Each is tried, also when one fails.
fn stop(held: &BTreeSet<String>, changes: &mut Vec<Change>, cx: &mut Context<'_>) -> Result<(), StepError> {
    let mut result = Ok(());
    for unit in held {
        match stopped(unit, cx) {
            Ok(true) => {
                let what = "was started by the transaction, and stopped again".to_owned();
                changes.push(Change::Service { unit: unit.clone(), what });
            }
            Ok(false) => {}
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

/// Whether it had to be stopped.
fn stopped(unit: &str, cx: &mut Context<'_>) -> Result<bool, StepError> {
    if cx.os.service(cx.host, unit)?.is_down() {
        return Ok(false);
    }
    service_control::stop(cx, unit).map(|()| true)
}

/// Of a mask for good, which somebody else made meanwhile, nothing is taken away by this; ours may be below it.
fn unmask(unit: &str, cx: &mut Context<'_>) -> Result<(), StepError> {
    match cx.os.service(cx.host, unit)?.kept_down {
        KeptDown::ForNow | KeptDown::ForGood => service_control::unmask_for_now(cx, unit),
        KeptDown::No => Ok(()),
    }
}
