//! Finishes what an interrupted transaction left, be it ours or anybody's.

use super::locks::Wait;
use super::transaction::{Purpose, failure, forget_one, repair_names, run};
use super::undertaking::Undertaking;
use crate::action::{Context, exit_failed};
use crate::host::Exit;
use std::collections::BTreeSet;
use std::path::Path;
use wavegate_common::id::Timestamp;
use wavegate_common::outcome::StepError;

/// What an interrupted transaction left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Packages that are not complete.
    pub(super) packages: BTreeSet<String>,
    /// Files by which the package manager knows that it was interrupted, and before which it does nothing else.
    pub(super) interrupted: Vec<String>,
    /// Files of yum that say what an interrupted transaction of this step was to do.
    of_yum: Vec<String>,
}

impl Left {
    /// Looks for it.
    ///
    /// # Errors
    /// [`StepError`] if the package database can't be asked.
    pub(super) fn observe(began: Option<Timestamp>, cx: &mut Context<'_>) -> Result<Self, StepError> {
        let since = |file: &String| {
            let changed = cx.host.changed_at(Path::new(file));
            began.is_some_and(|began| changed.is_some_and(|changed| changed >= began))
        };
        // One of somebody else's, perhaps years old, must not be finished: it would bring what is old by now.
        let (of_yum, of_others): (Vec<_>, Vec<_>) = cx.os.left_by_yum(cx.host).into_iter().partition(since);
        for file in of_others {
            let advice = "'yum-complete-transaction' shows and finishes it, '--cleanup-only' forgets it";
            (cx.output)(&format!(
                "a transaction of yum was interrupted some time and is left alone: {file} ({advice})"
            ));
        }
        let packages = cx.os.unfinished(cx.host)?;
        Ok(Self { packages, interrupted: cx.os.interrupted(cx.host), of_yum })
    }

    /// Whether that is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.interrupted.is_empty() && self.of_yum.is_empty()
    }

    fn names(&self) -> String {
        let all = self.packages.iter().chain(&self.interrupted).chain(&self.of_yum);
        all.map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// What came of a repair.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    /// What the programs printed.
    pub(super) output: String,
    /// What it could not finish. That is no reason to stop: a package whose script fails is mended by a newer one, which the
    /// transaction that comes next may bring. It is the reason to give if that brings nothing.
    pub(super) unmended: Option<StepError>,
}

/// Finishes what was left.
///
/// # Errors
/// [`StepError`] if a program can't be run, or a lock is held for too long.
pub(super) fn repair(
    undertaking: &Undertaking,
    left: &Left,
    wait: &mut Wait,
    cx: &mut Context<'_>,
) -> Result<Repaired, StepError> {
    let mut repaired = Repaired::default();
    if left.is_empty() {
        return Ok(repaired);
    }
    (cx.output)(&format!("finishing what an interrupted transaction left: {}", left.names()));
    let commands = cx.os.repairs(cx.host, &left.packages);
    for (name, command) in repair_names(&cx.transaction).iter().zip(commands) {
        if cx.host.transaction_known(name) {
            // Of an agent before this one; what it did shows in the database.
            if let Ok(exit) = cx.host.transact(name, &command, cx.output) {
                repaired.output += &exit.stdout;
            }
            forget_one(cx, name)?;
        }
        let brings = command.argv.iter().any(|word| word == "install");
        if brings && let Err(refused) = judge(left, cx) {
            repaired.unmended.get_or_insert(refused);
            break;
        }
        let exit = run(name, &command, &Purpose::Repair, wait, cx)?;
        forget_one(cx, name)?;
        if exit.code != 0 {
            let next = mend_by_hand(&left.names());
            repaired.unmended.get_or_insert(failure(&command.argv.join(" "), &exit, &next));
        }
        repaired.output += &exit.stdout;
    }
    let still = Left::observe(Some(undertaking.began), cx)?;
    if still.packages.is_empty() && still.interrupted.is_empty() {
        repaired.unmended = None;
    } else if repaired.unmended.is_none() {
        let names = still.names();
        let what =
            format!("an interrupted transaction left {names} unfinished, and the repair changed nothing");
        repaired.unmended = Some(exit_failed(what, &Exit::default(), mend_by_hand(&names)));
    }
    Ok(repaired)
}

/// A repair may bring packages that what is half installed needs. The node's policy has its say in that too.
fn judge(left: &Left, cx: &Context<'_>) -> Result<(), StepError> {
    let brings = cx.os.foresee_repair(cx.host)?;
    cx.policy.judge_transaction(brings.iter().filter(|name| !left.packages.contains(*name)))
}

fn mend_by_hand(names: &str) -> String {
    format!(
        "mend {names} on the node by hand (dpkg --configure -a, or package-cleanup --cleandupes), then retry"
    )
}
