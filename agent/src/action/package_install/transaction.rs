//! How package transactions are run to their end: locks waited for, interrupted ones found again and repaired, the
//! versions before written beside them, so that whoever finds one later can tell what it changed.

use crate::action::{Context, exit_failed, failed};
use crate::host::{Command, Exit, HostError};
use crate::os::packages::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;

/// Versions of packages; `None` for one that is not installed.
pub(super) type Snapshot = BTreeMap<String, Option<String>>;

/// Transactions that one step may have: named packages and the whole distribution, or updates and new packages.
const PARTS: usize = 2;

/// How long another package manager is waited for before it is looked for again.
const LOCK_PAUSE: Duration = Duration::from_secs(5);

fn part(cx: &Context<'_>, part: usize) -> String {
    format!("{}.{part}", cx.transaction)
}

/// What was noted when the step's transactions were first started; empty if none was.
pub(super) fn note_of(cx: &Context<'_>) -> Snapshot {
    let note = cx.host.note(&cx.transaction).ok().flatten();
    note.and_then(|note| serde_json::from_str(&note).ok()).unwrap_or_default()
}

/// Whether an agent before this one started a transaction of this step.
pub(super) fn begun(cx: &Context<'_>) -> bool {
    (0..PARTS).any(|number| cx.host.transaction_known(&part(cx, number)))
}

/// Waits for transactions that an agent before this one started, and tells their output. How they ended is not asked:
/// the package database is looked at next, and it knows better.
pub(super) fn wait_for_earlier(cx: &mut Context<'_>) -> String {
    let mut output = String::new();
    for number in 0..PARTS {
        let name = part(cx, number);
        if cx.host.transaction_known(&name) {
            (cx.output)("an earlier agent started this transaction: waiting for its end");
            let found = Command::new(["transaction"]).timeout(cx.timeout);
            match cx.host.transact(&name, &found, cx.output) {
                Ok(exit) => output += &exit.stdout,
                Err(error) => (cx.output)(&error.to_string()),
            }
        }
    }
    output
}

/// Forgets the step's transactions.
pub(super) fn forget(cx: &Context<'_>) -> Result<(), StepError> {
    let next = "remove that file or directory on the node, then retry";
    cx.host.set_note(&cx.transaction, None).map_err(|error| failed(&error, next))?;
    (0..PARTS).try_for_each(|number| {
        cx.host.forget_transaction(&part(cx, number)).map_err(|error| failed(&error, next))
    })
}

/// Finishes what an interrupted transaction left, be it ours or anybody's. What it can't finish is no reason to stop: a
/// package whose script fails is mended by a newer one, which the transaction that comes next may bring. It is returned as
/// the reason to give if that brings nothing.
pub(super) fn repair(cx: &mut Context<'_>) -> Result<Option<StepError>, StepError> {
    let unfinished = cx.os.unfinished(cx.host)?;
    if unfinished.is_empty() {
        return Ok(None);
    }
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    (cx.output)(&format!("finishing what an interrupted transaction left: {}", list(&unfinished)));
    let mut reason = None;
    for (number, command) in cx.os.repairs(cx.host).into_iter().enumerate() {
        let name = format!("{}.repair{number}", cx.transaction);
        if cx.host.transaction_known(&name) {
            // Of an agent before this one; what it did shows in the database.
            drop(cx.host.transact(&name, &command, cx.output));
            forget_one(cx, &name)?;
        }
        let exit = run_unlocked(cx, &name, &command, &Purpose::Repair)?;
        forget_one(cx, &name)?;
        if exit.code != 0 {
            let what = failure(&command.argv.join(" "), &exit);
            reason.get_or_insert(exit_failed(what, &exit, mend_by_hand(&list(&unfinished))));
        }
    }
    let left = cx.os.unfinished(cx.host)?;
    if left.is_empty() {
        return Ok(None);
    }
    Ok(Some(reason.unwrap_or_else(|| {
        let names = list(&left);
        let what =
            format!("an interrupted transaction left {names} unfinished, and the repair changed nothing");
        exit_failed(what, &Exit::default(), mend_by_hand(&names))
    })))
}

fn mend_by_hand(names: &str) -> String {
    format!(
        "mend {names} on the node by hand (dpkg --configure -a, or package-cleanup --cleandupes), then retry"
    )
}

/// Reads the package lists again.
pub(super) fn refresh(cx: &mut Context<'_>) -> Result<(), StepError> {
    let command = cx.os.refresh();
    let line = command.argv.join(" ");
    let next = "see that every repository of the node answers, or disable the one that does not, then retry";
    (cx.output)(&line);
    let deadline = deadline(cx);
    let exit = loop {
        let exit = cx.host.run(&command).map_err(|error| failed(&error, next))?;
        if exit.code == 0 || !wait_for_lock(cx, &exit, deadline) {
            break exit;
        }
    };
    let unread = cx.os.failed_sources(&exit);
    if exit.code != 0 {
        return Err(exit_failed(failure(&line, &exit), &exit, next));
    }
    if let Some(first) = unread.first() {
        let what = format!("'{line}' left old package lists in place: {first}");
        return Err(exit_failed(what, &exit, next));
    }
    Ok(())
}

/// Runs the transactions, and tells their output.
pub(super) fn bring_about(
    wanted: &Wanted,
    before: &Snapshot,
    cx: &mut Context<'_>,
) -> Result<String, StepError> {
    forget(cx)?;
    let note = serde_json::to_string(before).unwrap_or_default();
    let next = "make room in the agent's state directory, then retry";
    cx.host.set_note(&cx.transaction, Some(&note)).map_err(|error| failed(&error, next))?;
    let purpose = Purpose::Install;
    let mut output = String::new();
    for (number, command) in cx.os.transactions(wanted).into_iter().enumerate() {
        let name = part(cx, number);
        let line = command.argv.join(" ");
        (cx.output)(&line);
        let exit = run_unlocked(cx, &name, &command, &purpose)?;
        if exit.code != 0 {
            forget(cx)?;
            let next =
                "read the output above, mend what it names on the node or in the repository, then retry";
            return Err(exit_failed(failure(&line, &exit), &exit, next));
        }
        output += &exit.stdout;
    }
    Ok(output)
}

/// What a transaction is for.
enum Purpose {
    /// To do the step's work.
    Install,
    /// To finish what an interrupted one left.
    Repair,
}

/// Runs one transaction. Where another package manager holds the lock, it is waited for; where the transaction was
/// interrupted, what it left is repaired and it is run once more.
fn run_unlocked(
    cx: &mut Context<'_>,
    name: &str,
    command: &Command,
    purpose: &Purpose,
) -> Result<Exit, StepError> {
    let command = command.clone().timeout(cx.timeout);
    let deadline = deadline(cx);
    let mut interrupted = false;
    loop {
        match cx.host.transact(name, &command, cx.output) {
            Ok(exit) if exit.code != 0 && wait_for_lock(cx, &exit, deadline) => forget_one(cx, name)?,
            Ok(exit) => return Ok(exit),
            Err(HostError::Interrupted { program }) if !interrupted => {
                (cx.output)(&format!("{program} was interrupted: once more"));
                interrupted = true;
                forget_one(cx, name)?;
                match purpose {
                    Purpose::Install => drop(repair(cx)?),
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

/// That a program failed, with the reason that it gives itself, if it gives one.
fn failure(line: &str, exit: &Exit) -> String {
    let ended = match exit.code {
        code @ 129..=159 => format!("was ended by signal {}", code - 128),
        code => format!("failed with exit code {code}"),
    };
    let reasons = ["E: ", "Error: ", "dpkg: error"];
    let gives = |line: &&str| reasons.iter().any(|start| line.starts_with(start));
    match exit.stdout.lines().chain(exit.stderr.lines()).find(gives) {
        Some(reason) => format!("'{line}' {ended}: {}", reason.trim_end_matches([':', ' '])),
        None => format!("'{line}' {ended}"),
    }
}

fn forget_one(cx: &Context<'_>, name: &str) -> Result<(), StepError> {
    cx.host
        .forget_transaction(name)
        .map_err(|error| failed(&error, "remove that directory on the node, then retry"))
}

fn deadline(cx: &Context<'_>) -> Timestamp {
    let timeout = u64::try_from(cx.timeout.as_millis()).unwrap_or(u64::MAX);
    Timestamp(cx.host.now().0.saturating_add(timeout))
}

/// Whether another package manager was at work and there is time to try again; waits a little then. Its lock is never
/// removed: it goes with the one who holds it.
fn wait_for_lock(cx: &mut Context<'_>, exit: &Exit, deadline: Timestamp) -> bool {
    let locked = cx.os.locked(&exit.stdout) || cx.os.locked(&exit.stderr);
    if !locked || cx.host.now() >= deadline {
        return false;
    }
    (cx.output)("another package manager is at work: waiting for it");
    cx.host.sleep(LOCK_PAUSE);
    true
}
