//! Programs that change the machine and are no package manager, run so that they are neither ended with the agent nor started
//! beside themselves by the next one: as transactions, found again after a crash.

use super::{Context, failed};
use crate::host::{Command, Exit, HostError};
use wavegate_common::outcome::StepError;

/// Whether an agent before this one started a program for this step, which may still run.
pub fn begun(cx: &Context<'_>) -> bool {
    cx.host.transaction_known(&cx.transaction)
}

/// Waits for what an agent before this one started for this step. How it ended is not asked: the machine is looked at next.
///
/// # Errors
/// [`StepError`] if what is known of it can't be forgotten.
pub fn wait_for_earlier(cx: &mut Context<'_>) -> Result<(), StepError> {
    if !begun(cx) {
        return Ok(());
    }
    (cx.output)("an earlier agent started this program: waiting for its end");
    let found = Command::new(["program"]).timeout(cx.timeout);
    if let Err(error) = cx.host.transact(&cx.transaction, &found, cx.output) {
        (cx.output)(&error.to_string());
    }
    cx.memory.changes();
    forget(cx)
}

/// Runs a program to its end; an exit code of any kind is no error here.
///
/// # Errors
/// [`StepError`] with `next` if it can't be run, takes longer than the step may, or is killed.
pub fn run(cx: &mut Context<'_>, command: &Command, next: &str) -> Result<Exit, StepError> {
    let command = command.clone().timeout(cx.timeout);
    let ended = cx.host.transact(&cx.transaction, &command, cx.output);
    cx.memory.changes();
    forget(cx)?;
    ended.map_err(|error: HostError| failed(&error, next))
}

fn forget(cx: &Context<'_>) -> Result<(), StepError> {
    let next = "remove that directory on the node, then retry";
    cx.host.forget_transaction(&cx.transaction).map_err(|error| failed(&error, next))
}
