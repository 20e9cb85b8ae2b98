//! Services that ran before a transaction run after it: one that it stopped and left down is started again, be it of a
//! package of the step or not.

use super::undertaking::Undertaking;
use crate::action::{Context, service_control};
use std::collections::BTreeSet;
use std::time::Duration;
use wavegate_common::outcome::{Change, StepError};

/// How often, and after which pause, a service that was started is looked at until it runs.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// Starts again what ran before, is still there, and does not run. Each is tried, also when one fails.
///
/// # Errors
/// [`StepError`] with the log of the first that does not come up.
pub(super) fn bring_back(undertaking: &Undertaking, cx: &mut Context<'_>) -> Result<Vec<Change>, StepError> {
    if undertaking.running.is_empty() {
        return Ok(Vec::new());
    }
    let running = cx.os.running_now(cx.host)?;
    let missing: BTreeSet<&String> = undertaking.running.difference(&running).collect();
    let mut changes = Vec::new();
    let mut result = Ok(());
    for unit in missing {
        let state = match cx.os.service(cx.host, unit) {
            Ok(state) => state,
            Err(error) => {
                result = result.and(Err(error));
                continue;
            }
        };
        // What the transaction removed is not there any more, and a mask is somebody's will.
        if state.installed && !state.is_active() && !state.is_kept_down() {
            let started = start(unit, cx);
            if started.is_ok() {
                let what = format!("was {} after the transaction, and started again", state.words);
                changes.push(Change::Service { unit: unit.clone(), what });
            }
            result = result.and(started);
        }
    }
    result.map(|()| changes)
}

fn start(unit: &str, cx: &mut Context<'_>) -> Result<(), StepError> {
    let not_up =
        |why: &str| format!("{unit} ran before the transaction, and does not come up after it: {why}");
    service_control::reset_failed(cx, unit)?;
    service_control::start(cx, unit).map_err(|error| StepError { what: not_up(&error.what), ..error })?;
    let mut words = String::new();
    for look in 0..LOOKS {
        if look > 0 {
            cx.host.sleep(PAUSE);
        }
        let state = cx.os.service(cx.host, unit)?;
        if state.is_active() {
            return Ok(());
        }
        words = state.words;
    }
    let what = not_up(&format!("it is {words}"));
    Err(service_control::with_log(cx, unit, StepError { what, output: Vec::new(), next: String::new() }))
}
