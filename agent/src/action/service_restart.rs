//! `service.restart`: a service whose process is newer than everything it is made of.
//!
//! Two clocks meet here. rpm tells the second of an installation, `/proc` the tick of a start. A process that started
//! in the second in which a package was installed counts as new: installation times are taken before the package's
//! scripts run, so it is the one that these started. A process that started when a step ended, as far as can be told, counts
//! as old: it may have started just before. `apply` waits until what it starts is seen as newer, so that a second look finds it
//! new.
//!
//! What was just started is watched for a few seconds: here or, where one is to come that checks it, by a later step.

use super::service_control::{self, masked_word, unmask_by_hand, with_log};
use super::settling::{SETTLING, Young, left, watched_by};
use super::{Applied, Check, Context};
use crate::host::Process;
use crate::os::packages::Installed;
use crate::os::service::ServiceState;
use std::collections::BTreeMap;
use std::time::Duration;
use wavegate_common::action::ServiceRestart;
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::{Change, StepError};

/// Starts are told in ticks and counted back from a clock in milliseconds: the moment found may be a few too early.
const GRAIN_MS: u64 = 50;

/// A service manager may say that it has started a process which does not yet run its program. Whoever does not watch it for longer
/// waits so long for that, and looks so often.
const COMING_MS: u64 = 2_000;
const LOOK: Duration = Duration::from_millis(100);

/// Moments further ahead than this come from a clock that was set back, not from a clock's grain.
const AHEAD_MS: u64 = 5_000;

/// Looks whether the running process is newer than the packages and steps it must be newer than.
///
/// # Errors
/// [`StepError`] if the service is not there and nothing will bring it, or is masked.
pub fn check(action: &ServiceRestart, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let unit = &action.unit;
    let state = cx.os.service(cx.host, unit)?;
    let foreseen = foreseen(action, cx);
    if !state.installed && foreseen.is_none() && cx.forecast.steps.is_empty() {
        return Err(absent(unit));
    }
    refuse_kept_down(unit, &state, cx)?;
    let would = |what| Check::WouldChange { changes: vec![Change::Service { unit: unit.clone(), what }] };
    if !state.installed {
        return Ok(would("started, once earlier steps have brought it".to_owned()));
    }
    if let Some(why) = foreseen {
        return Ok(would(format!("restarted: {why}")));
    }
    match look_long_enough(action, cx, &state)? {
        Look::Old(why) => Ok(would(format!("restarted: {why}"))),
        Look::New(_) if action.enable && !state.starts_at_boot => {
            Ok(would("made to come up at boot".to_owned()))
        }
        Look::New(process) => Ok(Check::AlreadySo { evidence: evidence(unit, cx, &process) }),
    }
}

/// Restarts the service and watches it settle, unless a later step is to.
///
/// # Errors
/// [`StepError`] if it does not come up, does not stay up, or is still older than it must be.
pub fn apply(action: &ServiceRestart, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let unit = &action.unit;
    service_control::reload(cx, unit)?;
    let state = cx.os.service(cx.host, unit)?;
    if !state.installed {
        return Err(absent(unit));
    }
    refuse_kept_down(unit, &state, cx)?;
    let mut changes = Vec::new();
    if action.enable && !state.starts_at_boot {
        service_control::enable(cx, unit)?;
        changes.push(Change::Service { unit: unit.clone(), what: "made to come up at boot".to_owned() });
    }
    if let Look::New(process) = look_long_enough(action, cx, &state)? {
        return Ok(Applied { changes, evidence: evidence(unit, cx, &process) });
    }
    wait_to_be_newer(action, cx)?;
    let before = main_process(cx, &state);
    service_control::reset_failed(cx, unit)?;
    service_control::restart(cx, unit)?;
    let process = settled(action, cx, before.as_ref())?;
    let what = match &before {
        Some(before) => format!("restarted, process {} -> {}", before.pid, process.pid),
        None => format!("started, process {}", process.pid),
    };
    let evidence = format!("{what}, {}", evidence(unit, cx, &process));
    changes.push(Change::Service { unit: unit.clone(), what });
    Ok(Applied { changes, evidence })
}

/// What a look at a running service finds: its process, or why it must be restarted.
enum Look {
    New(Process),
    Old(String),
}

fn look(action: &ServiceRestart, cx: &Context<'_>, state: &ServiceState) -> Result<Look, StepError> {
    if !state.is_active() {
        return Ok(Look::Old(format!("it is {}", state.words)));
    }
    let Some(process) = main_process(cx, state) else {
        return Ok(Look::Old("it has no main process".to_owned()));
    };
    if !process.exe_is_file_on_disk {
        let why =
            format!("process {} runs {}, which is not the file on disk", process.pid, process.exe.display());
        return Ok(Look::Old(why));
    }
    let installed = installed(action, cx)?;
    for package in &action.newer_than_packages {
        if installed.get(package).is_some_and(|installed| is_older_than(&process, installed)) {
            return Ok(Look::Old(format!("process {} is older than the installed {package}", process.pid)));
        }
    }
    for step in &action.newer_than_steps {
        if (cx.changed_at)(step).is_some_and(|changed| is_as_old_as(&process, changed)) {
            return Ok(Look::Old(format!(
                "process {} is older than what step '{step}' changed",
                process.pid
            )));
        }
    }
    Ok(Look::New(process))
}

/// Looks again at a process that its package's scripts have just started: it counts as up when it has stayed up. A preview
/// does not wait, nor does who leaves the watch to a later step.
fn look_long_enough(
    action: &ServiceRestart,
    cx: &Context<'_>,
    state: &ServiceState,
) -> Result<Look, StepError> {
    let young = match look(action, cx, state)? {
        Look::New(process) => process,
        old @ Look::Old(_) => return Ok(old),
    };
    let Some(left) = left(&young, cx) else { return Ok(Look::New(young)) };
    if cx.patience.is_zero() {
        return Ok(Look::New(young));
    }
    if watched_by(&action.unit, cx).is_some() {
        cx.memory.was_left_young(&action.unit, state.restarts);
        return Ok(Look::New(young));
    }
    cx.host.sleep(left);
    match look(action, cx, &cx.os.service(cx.host, &action.unit)?)? {
        Look::New(process) if !process.is(&young) => {
            Ok(Look::Old(format!("process {} did not stay up for {} s", young.pid, SETTLING.as_secs())))
        }
        look => Ok(look),
    }
}

fn main_process(cx: &Context<'_>, state: &ServiceState) -> Option<Process> {
    state.main_pid.and_then(|pid| cx.host.process(pid))
}

/// The packages that the process must be newer than, of those the installed ones.
fn installed(action: &ServiceRestart, cx: &Context<'_>) -> Result<BTreeMap<String, Installed>, StepError> {
    let names: Vec<&str> = action.newer_than_packages.iter().map(String::as_str).collect();
    cx.os.installed(cx.host, &names)
}

/// Whether a process started before a package came in the version that is installed.
pub(super) fn is_older_than(process: &Process, package: &Installed) -> bool {
    package.at.is_some_and(|installed| second(process.started_at) < second(installed))
}

/// Whether a process started before a step's change, or so soon after that it can't be told.
fn is_as_old_as(process: &Process, changed: Timestamp) -> bool {
    process.started_at.0 <= changed.0.saturating_add(GRAIN_MS)
}

/// Why it will have to be restarted, once the earlier steps of a preview are done.
fn foreseen(action: &ServiceRestart, cx: &Context<'_>) -> Option<String> {
    let packages = action.newer_than_packages.iter().filter(|name| cx.forecast.packages.contains(*name));
    let packages: Vec<&str> = packages.map(String::as_str).collect();
    if !packages.is_empty() {
        return Some(format!("{} will have changed", packages.join(", ")));
    }
    let step = action.newer_than_steps.iter().find(|step| cx.forecast.steps.contains(*step))?;
    Some(format!("step '{step}' will have changed the node"))
}

/// Waits until a process that is started is seen as newer than all that it must be newer than.
fn wait_to_be_newer(action: &ServiceRestart, cx: &Context<'_>) -> Result<(), StepError> {
    let installed = installed(action, cx)?;
    let packages = installed.values().filter_map(|package| package.at).max();
    let steps = action.newer_than_steps.iter().filter_map(|step| (cx.changed_at)(step)).max();
    // Seen too early by the grain it is of the package's second still, and seen twice as much too early newer than the step.
    let from = packages.map(|at| second(at) * 1000 + GRAIN_MS);
    let from = from.max(steps.map(|at| at.0.saturating_add(3 * GRAIN_MS + 1)));
    let Some(from) = from.map(Timestamp) else { return Ok(()) };
    let now = cx.host.now();
    if from.millis_since(now) > AHEAD_MS {
        let ahead = from.millis_since(now) / 1000;
        return Err(StepError {
            what: format!(
                "the node's clock was set back: what {} depends on changed in {ahead} s from now",
                action.unit
            ),
            output: Vec::new(),
            next: "set the node's clock ('timedatectl' shows it), then retry".to_owned(),
        });
    }
    if now < from {
        cx.host.sleep(Duration::from_millis(from.millis_since(now)));
    }
    Ok(())
}

/// Looks at a service that was just started: its main process must be another than before, and newer than all that it must be
/// newer than; and, unless a later step watches it, the same at the end of the settling time as at its beginning.
fn settled(
    action: &ServiceRestart,
    cx: &Context<'_>,
    before: Option<&Process>,
) -> Result<Process, StepError> {
    let unit = &action.unit;
    let _verify = tracing::debug_span!("verify").entered();
    let error =
        |what: String| with_log(cx, unit, StepError { what, output: Vec::new(), next: String::new() });
    let first = cx.os.service(cx.host, unit)?;
    if watched_by(unit, cx).is_none() {
        let young = Young::new(unit, &first, main_process(cx, &first));
        cx.host.sleep(SETTLING);
        let state = young.stayed(cx)?.map_err(error)?;
        return current(action, cx, before, &state)?.map_err(error);
    }
    // A restart that somebody asks for begins the count anew.
    cx.memory.was_left_young(unit, first.restarts.map(|_| 0));
    let until = cx.host.now().0.saturating_add(COMING_MS);
    loop {
        let state = cx.os.service(cx.host, unit)?;
        match current(action, cx, before, &state)? {
            Err(_) if cx.host.now().0 < until => cx.host.sleep(LOOK),
            found => return found.map_err(error),
        }
    }
}

/// The process of a service that was restarted, or why it is none that counts.
fn current(
    action: &ServiceRestart,
    cx: &Context<'_>,
    before: Option<&Process>,
    state: &ServiceState,
) -> Result<Result<Process, String>, StepError> {
    let unit = &action.unit;
    Ok(match look(action, cx, state)? {
        Look::New(process) if before.is_some_and(|before| before.is(&process)) => {
            Err(format!("{unit} was restarted, and process {} is still the one it was", process.pid))
        }
        Look::New(process) => Ok(process),
        Look::Old(why) => Err(format!("{unit} was restarted and is still not current: {why}")),
    })
}

/// Refuses a service that somebody keeps down.
///
/// # Errors
/// [`StepError`] that says so.
pub(super) fn refuse_kept_down(unit: &str, state: &ServiceState, cx: &Context<'_>) -> Result<(), StepError> {
    if !state.is_kept_down() {
        return Ok(());
    }
    Err(StepError {
        what: format!("{unit} is {}: somebody decided that it must not run on this node", masked_word(cx)),
        output: Vec::new(),
        next: format!("if it is to run here, {} and retry", unmask_by_hand(cx, unit)),
    })
}

/// That there is no such service.
pub(super) fn absent(unit: &str) -> StepError {
    StepError {
        what: format!("there is no service {unit} on this node"),
        output: Vec::new(),
        next: format!(
            "install the package that brings {unit}, or take the node out of the stage, then plan again"
        ),
    }
}

fn evidence(unit: &str, cx: &Context<'_>, process: &Process) -> String {
    let seconds = cx.host.now().millis_since(process.started_at) / 1000;
    let runs = format!("process {} has run for {seconds} s from the file on disk", process.pid);
    // Nobody watches in a preview.
    match watched_by(unit, cx).filter(|_| left(process, cx).is_some() && !cx.patience.is_zero()) {
        Some(step) => format!("{runs}; step '{step}' watches whether it stays up"),
        None => runs,
    }
}

const fn second(moment: Timestamp) -> u64 {
    moment.0 / 1000
}

#[cfg(test)]
mod tests;
