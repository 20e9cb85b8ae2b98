//! A transaction whose packages are fetched beforehand, for those who have something down while it runs: a repository that is
//! slow or absent then keeps nobody waiting.

use super::locks::Wait;
use super::repair::Left;
use super::transaction::{begun, failure};
use super::{Lists, carry_out, foresee, lists, wanted};
use crate::action::package_install::unreachable::waited_for;
use crate::action::{Applied, Context, failed};
use crate::host::Command;
use crate::os::locks::Need;
use crate::os::packages::Simulated;
use wavegate_common::action::PackageInstall;
use wavegate_common::outcome::StepError;

/// What a transaction will do, with everything that it needs on the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What it will do, as the package manager foresees it.
    pub simulated: Simulated,
    /// Whether an interrupted transaction has to be finished first.
    pub unfinished: bool,
}

/// Finds out what the transaction would do, refuses what is not allowed, and fetches its packages. Changes nothing that runs.
///
/// # Errors
/// [`StepError`] as of [`super::check`], and if a package can't be fetched.
pub fn prepare(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Prepared, StepError> {
    let mut wait = Wait::new(cx);
    let left = Left::observe(None, cx)?;
    waited_for(cx, |cx| {
        let to_read = lists::refresh(&mut wait, cx)?;
        let wanted = wanted(action, cx)?;
        let foreseen = foresee(action, &wanted, to_read, &mut wait, cx)?;
        let unfinished = !left.is_empty() || begun(cx);
        // While one is unfinished, package managers do nothing else.
        for transaction in foreseen.transactions.iter().filter(|_| !unfinished) {
            fetch(&cx.os.download(transaction), &mut wait, cx)?;
        }
        Ok(Prepared { simulated: foreseen.simulated, unfinished })
    })
}

/// Installs as [`super::apply`] does, and asks no repository for anything that [`prepare`] has fetched.
///
/// # Errors
/// Those of [`super::apply`].
pub fn apply_fetched(action: &PackageInstall, cx: &mut Context<'_>) -> Result<Applied, StepError> {
    carry_out(action, Lists::AsRead, cx)
}

fn fetch(command: &Command, wait: &mut Wait, cx: &mut Context<'_>) -> Result<(), StepError> {
    let command = command.clone().timeout(cx.timeout);
    let line = command.argv.join(" ");
    let next = "see that the repositories of the node answer and that its disk has room, then retry; nothing was stopped";
    (cx.output)(&line);
    loop {
        wait.until_free(Need::Packages, cx)?;
        let exit = cx.host.run(&command).map_err(|error| failed(&error, next))?;
        if wait.found_locked(&exit, Need::Packages, cx)? {
            continue;
        }
        if exit.code != 0 && exit.stderr.contains("no such option: --downloadonly") {
            (cx.output)(
                "this yum cannot fetch packages beforehand: they are fetched while the service is down",
            );
            return Ok(());
        }
        return if exit.code == 0 { Ok(()) } else { Err(failure(&line, &exit, next)) };
    }
}
