//! How package transactions are run to their end: locks waited for, interrupted ones found again and repaired.

use super::locks::Wait;
use super::repair::{Left, repair};
use super::undertaking::Undertaking;
use crate::action::{Context, exit_failed, failed};
use crate::host::{Command, Exit, HostError};
use crate::os::locks::Need;
use wavegate_common::outcome::StepError;

/// Transactions that one step may have: the whole distribution, new packages, and those that yum takes back.
const PARTS: usize = 3;

/// Programs that a repair may run, one after the other.
const REPAIRS: usize = 2;

fn part_names(transaction: &str) -> Vec<String> {
    (0..PARTS).map(|number| format!("{transaction}.{number}")).collect()
}

/// The names under which a step's repairs are run.
pub(super) fn repair_names(transaction: &str) -> Vec<String> {
    (0..REPAIRS).map(|number| format!("{transaction}.repair{number}")).collect()
}

/// The names of everything that a step runs.
pub(super) fn all_names(transaction: &str) -> Vec<String> {
    [part_names(transaction), repair_names(transaction)].concat()
}

/// Whether an agent before this one started a transaction of this step.
pub(super) fn begun(cx: &Context<'_>) -> bool {
    part_names(&cx.transaction).iter().any(|name| cx.host.transaction_known(name))
}

/// Waits for transactions of that name which an agent before this one started, and tells their output. How they ended is
/// not asked: the package database is looked at next, and it knows better.
pub(super) fn wait_for_earlier(transaction: &str, cx: &mut Context<'_>) -> String {
    let mut output = String::new();
    for name in all_names(transaction).iter().filter(|name| cx.host.transaction_known(name)) {
        (cx.output)("an earlier agent started this transaction: waiting for its end");
        let found = Command::new(["transaction"]).timeout(cx.timeout);
        let ended = cx.host.transact(name, &found, cx.output);
        cx.memory.changes();
        match ended {
            Ok(exit) => output += &exit.stdout,
            Err(error) => (cx.output)(&error.to_string()),
        }
    }
    output
}

/// Forgets what the step's transactions left.
///
/// # Errors
/// [`StepError`] if that can't be removed.
pub(super) fn forget(cx: &Context<'_>) -> Result<(), StepError> {
    all_names(&cx.transaction).iter().try_for_each(|name| forget_one(cx, name))
}

/// Runs the transactions, and tells their output.
///
/// # Errors
/// [`StepError`] with the program's last lines.
pub(super) fn bring_about(
    transactions: &[Command],
    undertaking: &Undertaking,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Result<String, StepError> {
    forget(cx)?;
    let mut output = String::new();
    for (name, command) in part_names(&cx.transaction).iter().zip(transactions) {
        let line = command.argv.join(" ");
        (cx.output)(&line);
        let exit = run(name, command, &Purpose::Install(undertaking), wait, cx)?;
        if exit.code != 0 {
            forget(cx)?;
            let next =
                "read the output above, mend what it names on the node or in the repository, then retry";
            return Err(failure(&line, &exit, next));
        }
        output += &exit.stdout;
    }
    Ok(output)
}

/// What a transaction is for.
pub(super) enum Purpose<'a> {
    /// To do the step's work.
    Install(&'a Undertaking),
    /// To finish what an interrupted one left.
    Repair,
}

/// Runs one transaction. Where another package manager holds the lock, it is waited for; where the transaction was
/// interrupted, what it left is repaired and it is run once more.
///
/// # Errors
/// [`StepError`] if it can't be run to its end; a bad exit code is not an error here.
pub(super) fn run(
    name: &str,
    command: &Command,
    purpose: &Purpose<'_>,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Result<Exit, StepError> {
    let command = command.clone().timeout(cx.timeout);
    let mut interrupted = false;
    loop {
        wait.until_free(Need::Packages, cx)?;
        let ended = cx.host.transact(name, &command, cx.output);
        cx.memory.changes();
        match ended {
            Ok(exit) => match wait.found_locked(&exit, Need::Packages, cx) {
                Ok(false) => return Ok(exit),
                Ok(true) => forget_one(cx, name)?,
                Err(error) => {
                    forget_one(cx, name)?;
                    return Err(error);
                }
            },
            Err(HostError::Interrupted { program }) if !interrupted => {
                (cx.output)(&format!("{program} was interrupted: once more"));
                interrupted = true;
                forget_one(cx, name)?;
                match purpose {
                    Purpose::Install(undertaking) => {
                        let left = Left::observe(Some(undertaking.began), cx)?;
                        repair(undertaking, &left, wait, cx)?;
                    }
                    // It is the repair that is run once more.
                    Purpose::Repair => {}
                }
            }
            Err(error) => {
                forget_one(cx, name)?;
                return Err(failed(&error, mend(&error)));
            }
        }
    }
}

/// What to do about a transaction that was not run to its end.
fn mend(error: &HostError) -> &'static str {
    match error {
        HostError::Timeout { .. } => {
            "see on the node why it did not end, raise the step's timeout if it was too short, then retry"
        }
        HostError::Interrupted { .. } => {
            "see on the node what ended it (journalctl -k: out of memory? journalctl: somebody?), then retry"
        }
        HostError::File { .. } | HostError::Run { .. } => {
            "see that the node's disk has room (df -h, df -i) and can be written, then retry"
        }
        HostError::Fetch { .. } | HostError::Signal { .. } => "see the agent's log on the node, then retry",
    }
}

/// That a program failed, with the reason that it gives itself, if it gives one, and its last lines.
pub(super) fn failure(line: &str, exit: &Exit, next: &str) -> StepError {
    let ended = match exit.code {
        code @ 129..=159 => format!("was ended by signal {}", code - 128),
        code => format!("failed with exit code {code}"),
    };
    let lines = || exit.stdout.lines().chain(exit.stderr.lines());
    if let Some(full) = lines().find(|line| FULL.iter().any(|text| line.contains(text))) {
        let next = "make room on the node: 'df -h' and 'df -i' show which disk is full; then retry";
        return exit_failed(format!("'{line}' {ended}: {}", full.trim()), exit, next);
    }
    let reasons = ["E: ", "Error: ", "dpkg: error"];
    let what = match lines().find(|line| reasons.iter().any(|start| line.starts_with(start))) {
        Some(reason) => format!("'{line}' {ended}: {}", reason.trim_end_matches([':', ' '])),
        None => format!("'{line}' {ended}"),
    };
    exit_failed(what, exit, next)
}

/// Texts of the C library, of apt (apt-get.cc) and of rpm (lib/rpmprob.c) for a disk that is full.
const FULL: [&str; 3] =
    ["No space left on device", "You don't have enough free space in ", " more space needed on the "];

/// Forgets one transaction.
///
/// # Errors
/// [`StepError`] if what it left can't be removed.
pub(super) fn forget_one(cx: &Context<'_>, name: &str) -> Result<(), StepError> {
    cx.host
        .forget_transaction(name)
        .map_err(|error| failed(&error, "remove that directory on the node, then retry"))
}
