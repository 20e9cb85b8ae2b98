//! `process.kill_stale`: ends processes of one program whose executable was replaced under them, and no others.
//!
//! SIGTERM comes first, because dnsmasq then removes its pid file and writes its leases; SIGKILL, which is what Neutron
//! itself uses, comes after a bounded wait.

use super::pid_files::ours;
use super::{Applied, Check, Context, failed};
use crate::host::{Host, Process};
use std::time::Duration;
use wavegate_common::action::ProcessKillStale;
use wavegate_common::outcome::{Change, StepError};

/// How long a process may take to end after each of the two signals.
const TO_END: Duration = Duration::from_secs(5);

/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// A process that must go, and why.
struct Stale {
    process: Process,
    why: String,
}

/// Looks which of our processes are stale, or will be once the packages of a preview are installed.
///
/// # Errors
/// [`StepError`] if the service manager does not tell about the owner.
pub fn check(action: &ProcessKillStale, cx: &mut Context<'_>) -> Result<Check, StepError> {
    let all = ours(cx.host, &action.program, &action.pid_files);
    let (stale, current) = sort(action, cx, all)?;
    let mut changes = stale.iter().map(|stale| change(action, stale)).collect::<Vec<_>>();
    if let Some(package) = action.packages.iter().find(|name| cx.forecast.packages.contains(*name)) {
        let foreseen = current.iter().map(|process| Stale {
            process: process.clone(),
            why: format!("its executable {} will be replaced with {package}", process.exe.display()),
        });
        changes.extend(foreseen.map(|stale| change(action, &stale)));
    }
    if changes.is_empty() {
        return Ok(Check::AlreadySo { evidence: evidence(action, current.len()) });
    }
    Ok(Check::WouldChange { changes })
}

/// Ends the stale ones.
///
/// # Errors
/// [`StepError`] if one can't be ended, or if stale ones are there again afterwards.
pub fn apply(action: &ProcessKillStale, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    let all = ours(cx.host, &action.program, &action.pid_files);
    let (stale, _) = sort(action, cx, all)?;
    for stale in &stale {
        (cx.output)(&change(action, stale).to_string());
    }
    let processes: Vec<Process> = stale.iter().map(|stale| stale.process.clone()).collect();
    let stubborn = end(cx.host, &processes, false)?;
    let undead = end(cx.host, &stubborn, true)?;
    if let Some(process) = undead.first() {
        return Err(StepError {
            what: format!("{} (pid {}) did not end, not even by SIGKILL", action.program, process.pid),
            output: Vec::new(),
            next: "see what the kernel keeps it waiting for ('cat /proc/PID/stack' on the node), then retry"
                .to_owned(),
        });
    }
    let (left, current) = sort(action, cx, ours(cx.host, &action.program, &action.pid_files))?;
    if let Some(left) = left.first() {
        let pid = left.process.pid;
        return Err(StepError {
            what: format!(
                "{} (pid {pid}) came up after the stale ones were ended: {}",
                action.program, left.why
            ),
            output: Vec::new(),
            next: "stop the agent on the node that starts it (another DHCP agent?), then retry".to_owned(),
        });
    }
    let changes = stale.iter().map(|stale| change(action, stale)).collect();
    Ok(Applied { changes, evidence: evidence(action, current.len()) })
}

/// Splits our processes into those that must go and those that may stay.
fn sort(
    action: &ProcessKillStale,
    cx: &Context<'_>,
    processes: Vec<Process>,
) -> Result<(Vec<Stale>, Vec<Process>), StepError> {
    let without_owner = match &action.owner {
        Some(owner) if cx.os.service(cx.host, owner)?.is_down() => Some(owner),
        Some(_) | None => None,
    };
    let (mut stale, mut current) = (Vec::new(), Vec::new());
    for process in processes {
        let why = match without_owner {
            _ if !process.exe_is_file_on_disk => {
                format!("its executable was replaced: it runs {}", process.exe.display())
            }
            Some(owner) => format!("it is not {owner}'s, which is to start its own"),
            None => {
                current.push(process);
                continue;
            }
        };
        stale.push(Stale { process, why });
    }
    Ok((stale, current))
}

/// Signals all, waits for all, and returns those that still live. A pid that was reused meanwhile is somebody else's.
fn end(host: &dyn Host, processes: &[Process], kill: bool) -> Result<Vec<Process>, StepError> {
    let mut left = Vec::new();
    for process in processes {
        let next = "see that the agent runs as root on the node, then retry";
        if host.end_process(process, kill).map_err(|error| failed(&error, next))? {
            left.push(process.clone());
        }
    }
    let lives = |process: &Process| {
        let seen = host.process(process.pid);
        // One that ended and that nobody waited for yet still has its id, and no arguments any more.
        seen.is_some_and(|seen| seen.start_ticks == process.start_ticks && !seen.cmdline.is_empty())
    };
    for _ in 0..TO_END.as_millis() / LOOK.as_millis() {
        left.retain(lives);
        if left.is_empty() {
            break;
        }
        host.sleep(LOOK);
    }
    Ok(left)
}

fn change(action: &ProcessKillStale, stale: &Stale) -> Change {
    Change::Process { pid: stale.process.pid, program: action.program.clone(), why: stale.why.clone() }
}

fn evidence(action: &ProcessKillStale, current: usize) -> String {
    match current {
        0 => format!("no {} process of {}", action.program, action.pid_files),
        1 => format!("the one {} process of {} is current", action.program, action.pid_files),
        _ => format!("all {current} {} processes of {} are current", action.program, action.pid_files),
    }
}

#[cfg(test)]
mod tests;
