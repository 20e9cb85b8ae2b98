//! What is put in place around a transaction and taken away again, each noted before: timers, services that are kept down,
//! services that ran.

use super::undertaking::{Snapshot, Undertaking};
use super::{bystanders, held_down, timers};
use crate::action::Context;
use wavegate_common::action::PackageInstall;
use wavegate_common::outcome::{Change, StepError};

/// Notes what is before anything is changed, and puts in place what must be there for the time of the transaction. What was
/// noted before a crash stays: what is now is not what was then.
///
/// # Errors
/// [`StepError`] if something can't be noted, or can't be put in place.
pub(super) fn begin(
    action: &PackageInstall,
    undertaking: &mut Undertaking,
    before: Snapshot,
    cx: &mut Context<'_>,
) -> Result<(), StepError> {
    if undertaking.transaction.is_empty() {
        undertaking.transaction.clone_from(&cx.transaction);
        undertaking.began = cx.host.now();
        undertaking.running.extend(cx.os.running_services(cx.host)?);
        undertaking.timers = timers::running(cx)?;
        held_down::observe(&action.keep_down, undertaking, cx)?;
    }
    for (name, version) in before {
        undertaking.before.entry(name).or_insert(version);
    }
    undertaking.note(cx)?;
    timers::stop(undertaking, cx)?;
    held_down::put(undertaking, cx)
}

/// What came of setting things right.
pub(super) struct Settled {
    /// Whether nothing is left of what was put in place for the time of the transaction.
    pub(super) nothing_in_place: bool,
    /// Whether everything runs that ran before.
    pub(super) all_run: bool,
    /// What it took, or why something could not be set right.
    pub(super) changes: Result<Vec<Change>, StepError>,
}

/// Sets everything around the transaction as it was before. All of it is tried, also when something fails. While something
/// that was put in place is still there, or something does not run, the note must stay: whoever comes next tries again.
pub(super) fn settle(undertaking: &Undertaking, cx: &mut Context<'_>) -> Settled {
    if *undertaking == Undertaking::default() {
        return Settled { nothing_in_place: true, all_run: true, changes: Ok(Vec::new()) };
    }
    let held = held_down::take_away(undertaking, cx);
    let timers = timers::start_again(undertaking, cx);
    let nothing_in_place = held.is_ok() && timers.is_ok();
    let brought_back = bystanders::bring_back(undertaking, cx);
    let all_run = brought_back.is_ok();
    let changes = held.and_then(|held| timers.and(brought_back).map(|back| [held, back].concat()));
    Settled { nothing_in_place, all_run, changes }
}
